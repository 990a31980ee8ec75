#include "variants.h"

static const ib_variant VARIANTS[] = {
#define IB_EVERY(operation, isa) {#operation, IB_ISA_##isa},
#include "variants.def"
};

const ib_variant *ib_variant_at(size_t index) {
    return index < sizeof VARIANTS / sizeof *VARIANTS ? &VARIANTS[index] : NULL;
}
