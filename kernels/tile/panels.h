/* Weights, once read, in the order in which tiles take them. */
#ifndef IB_PANELS_H
#define IB_PANELS_H

#include <stdbool.h>

#include "tile.h"

/* How the bits of a weight row lie: `segments` runs of `length` bits, each filled up to whole words by itself. */
typedef struct ib_rows_of_bits {
    size_t planes; /* 1: binary; 2: ternary, the weight is the mean of two signs */
    size_t groups, outputs; /* `outputs` of each group */
    size_t segments, length;
} ib_rows_of_bits;

typedef struct ib_panels {
    const ib_tile *tile;
    size_t groups, outputs, steps; /* `outputs` of each group */
    size_t per_group;              /* panels of a group; the last one may be part empty */
    size_t stride;                 /* words of a panel */
    bool ternary;
    uint64_t *words; /* [groups][per_group][steps][1 or 2][IB_PANEL] */
    int32_t *base;   /* [groups][per_group][IB_PANEL]: the dot product where no bit differs */
} ib_panels;

/* Read weights [planes][groups * outputs][ceil(segments * length / 8)]. Sizes are checked, bits past a row's end are
   ignored. On failure `panels` holds nothing. */
int ib_panels_make(ib_panels *panels, const ib_tile *tile, const ib_rows_of_bits *shape, const uint8_t *weights);

void ib_panels_free(ib_panels *panels);

static inline size_t ib_panels_total(const ib_panels *p) { return p->groups * p->per_group; }

/* Words and start of panel number `index`, counted through all groups. */
static inline const uint64_t *ib_panel_words(const ib_panels *p, size_t index) { return p->words + index * p->stride; }

static inline const int32_t *ib_panel_base(const ib_panels *p, size_t index) { return p->base + index * IB_PANEL; }

/* Outputs that the panel really has, and the number of its first one among all outputs. */
size_t ib_panel_width(const ib_panels *p, size_t index);
size_t ib_panel_first(const ib_panels *p, size_t index);

#endif
