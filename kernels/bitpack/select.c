#include "bitpack.h"

static const ib_bitpack *const VARIANTS[IB_ISA_COUNT] = {
#define IB_BITPACK(isa) [IB_ISA_##isa] = &ib_bitpack_##isa,
#include "../variants.def"
};

const ib_bitpack *ib_bitpack_select(int isa) { return isa >= 0 && isa < IB_ISA_COUNT ? VARIANTS[isa] : NULL; }
