/* Padding with 0, which bits cannot say: padding stands there as +1, and what it added is taken out again. */
#ifndef IB_BCONV_ZEROS_H
#define IB_BCONV_ZEROS_H

#include "../tile/panels.h"
#include "image.h"

typedef struct ib_zeros {
    const ib_bconv_shape *shape;
    const ib_image *image;
    const int32_t *sums;
} ib_zeros;

/* The sum of the weights of each tap: [panels][taps][IB_PANEL], allocated. */
int ib_tap_sums(int32_t **sums, const ib_bconv_shape *shape, const ib_panels *panels, const uint8_t *weights);

/* Whether any of pixels `first`, ... reaches outside the image. Context: ib_zeros. */
bool ib_reaches_zeros(const void *context, size_t first, size_t rows);

/* Subtract from dot [rows][IB_PANEL] the taps of pixels `first`, ... that lie outside the image. Context: ib_zeros. */
void ib_take_zeros_out(const void *context, size_t panel, size_t first, size_t rows, int32_t *dot);

#endif
