#include "tile.h"

static const ib_tile *const VARIANTS[IB_ISA_COUNT] = {
#define IB_TILE(isa) [IB_ISA_##isa] = &ib_tile_##isa,
#include "../variants.def"
};

const ib_tile *ib_tile_select(int isa) { return isa >= 0 && isa < IB_ISA_COUNT ? VARIANTS[isa] : NULL; }

int ib_peak(int isa, int64_t rounds, double *macs) {
    if (!macs) return IB_NULL;
    if (rounds < 1) return IB_BAD_SIZE;
    const int status = ib_isa_resolve(isa, &isa);
    if (status) return status;
    const ib_tile *tile = ib_tile_select(isa);
    if (!tile) return IB_MISSING_ISA;
    *macs = tile->peak((size_t)rounds);
    return IB_OK;
}
