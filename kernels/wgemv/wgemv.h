/* Products of 1-bit weights with real activations: one row (GEMV) or a few.

   y[n] = sum over blocks g of channels, then over planes p, of scale[p][n][g] * inner(p, n, g), one multiplication and
   one addition each, where inner is the sum over the block's channels of sign * x. Two ways to get it:
   - float: total - 2 * negative; total adds up x, negative adds up the x under a set bit, both one by one in order of
     the channels, from 0. Every variant does the same additions, so that all agree bit for bit.
   - int8: x of a row becomes round(x * (127 / r)), r the largest |x|; inner is then an exact integer, and the sum over
     blocks and planes is multiplied by r / 127. */
#ifndef IB_WGEMV_H
#define IB_WGEMV_H

#include <stddef.h>
#include <stdint.h>

#include "../cpu.h"
#include "../threads.h"

typedef struct ib_wgemv ib_wgemv;

typedef enum ib_activation { IB_ACTIVATION_FLOAT = 0, IB_ACTIVATION_INT8 = 1 } ib_activation;

/* Read weights [planes][outputs][ceil(channels / 8)] and scale [planes][outputs][ceil(channels / block)] into the order
   of the kernel. `bits_bytes` and `scale_count` are the sizes of the two, which are not needed afterwards. The handle
   never changes: any number of threads may run it at once. */
IB_API int ib_wgemv_prepare(int isa, int64_t planes, int64_t outputs, int64_t channels, int64_t block,
                            const uint8_t *bits, int64_t bits_bytes, const float *scale, int64_t scale_count,
                            ib_wgemv **handle);

/* x [rows][channels] -> y [rows][outputs]. No rows are none to compute, not an error. */
IB_API int ib_wgemv_run(const ib_wgemv *handle, int activation, int64_t rows, const float *x, int64_t x_count, float *y,
                        int64_t y_count, const ib_threads *threads);

/* Null is allowed. */
IB_API void ib_wgemv_free(ib_wgemv *handle);

#endif
