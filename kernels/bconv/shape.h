/* What a convolution of signs is: its sizes, where they are allowed, and the size of what it makes. */
#ifndef IB_BCONV_SHAPE_H
#define IB_BCONV_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "../status.h"

/* pads are top, left, bottom, right, each at least 0; pad_value is what stands in the padding: -1, 0 or +1. */
typedef struct ib_bconv_shape {
    int64_t planes, channels, outputs, groups;
    int64_t kernel[2], strides[2], dilations[2], pads[4];
    int64_t pad_value;
} ib_bconv_shape;

/* IB_OK for a shape that means something. */
int ib_bconv_check(const ib_bconv_shape *shape);

/* Height and width of the result for an image of so many pixels. */
IB_API int ib_bconv_size(const ib_bconv_shape *shape, int64_t height, int64_t width, int64_t *out_height,
                         int64_t *out_width);

/* Whether there is any padding. */
bool ib_pads(const ib_bconv_shape *shape);

#endif
