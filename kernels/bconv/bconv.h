/* Convolution of signs: images of bits with filters of one bit (or ternary ones of two). */
#ifndef IB_BCONV_H
#define IB_BCONV_H

#include "../cpu.h"
#include "../output.h"
#include "../threads.h"
#include "shape.h"

typedef struct ib_bconv ib_bconv;

/* Read weights [planes][outputs][ceil(K / 8)], K = kernel height * kernel width * channels / groups bits in that order,
   into the order of the kernel. planes is 1, or 2 for ternary weights, each the mean of two signs. The handle never
   changes: any number of threads may run it at once, on images of any size. */
IB_API int ib_bconv_prepare(int isa, const ib_bconv_shape *shape, const uint8_t *weights, int64_t weights_bytes,
                            ib_bconv **handle);

/* bits [batch][height][width][ceil(channels / 8)] -> output [batch][outputs][out_height][out_width], or, for bits,
   [batch][out_height][out_width][ceil(outputs / 8)]. An empty batch is nothing to compute, not an error. */
IB_API int ib_bconv_run(const ib_bconv *handle, int64_t batch, int64_t height, int64_t width, const uint8_t *bits,
                        int64_t bits_bytes, const ib_output *output, const ib_threads *threads);

/* Null is allowed. */
IB_API void ib_bconv_free(ib_bconv *handle);

#endif
