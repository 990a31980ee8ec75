/* Padding with 0, which bits cannot say: padding stands there as +1, and its part is left out from the start. */
#ifndef IB_BCONV_ZEROS_H
#define IB_BCONV_ZEROS_H

#include "../tile/panels.h"
#include "image.h"

/* The sum of the weights of each tap: [panels][taps][IB_PANEL], allocated. */
int ib_tap_sums(int32_t **sums, const ib_bconv_shape *shape, const ib_panels *panels, const uint8_t *weights);

/* What the dot products of a pixel start from: pixels whose windows lack the same taps are of one kind. */
typedef struct ib_starts {
    uint32_t *kind;  /* [pixels of the result] */
    int32_t *values; /* [kinds][panels][IB_PANEL] */
} ib_starts;

/* Work it out for an image. On failure `starts` holds nothing. */
int ib_starts_make(ib_starts *starts, const ib_bconv_shape *shape, const ib_image *image, const ib_panels *panels,
                   const int32_t *sums);

void ib_starts_free(ib_starts *starts);

#endif
