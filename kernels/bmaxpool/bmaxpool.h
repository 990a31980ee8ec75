/* Maximum pooling of signs: +1 wherever the window holds a +1, which is the bitwise and of its bits. */
#ifndef IB_BMAXPOOL_H
#define IB_BMAXPOOL_H

#include <stdint.h>

#include "../status.h"
#include "../threads.h"

/* pads are top, left, bottom, right, each at least 0; what lies there is never the maximum. */
typedef struct ib_bmaxpool_shape {
    int64_t channels;
    int64_t kernel[2], strides[2], pads[4];
} ib_bmaxpool_shape;

/* Height and width of the result for an image of so many pixels. */
IB_API int ib_bmaxpool_size(const ib_bmaxpool_shape *shape, int64_t height, int64_t width, int64_t *out_height,
                            int64_t *out_width);

/* bits [batch][height][width][ceil(channels / 8)] -> out [batch][out_height][out_width][ceil(channels / 8)].
   IB_EMPTY_WINDOW where a window lies wholly in the padding. It is bound by memory, so plain C serves every processor. */
IB_API int ib_bmaxpool_run(const ib_bmaxpool_shape *shape, int64_t batch, int64_t height, int64_t width,
                           const uint8_t *bits, int64_t bits_bytes, uint8_t *out, int64_t out_bytes,
                           const ib_threads *threads);

#endif
