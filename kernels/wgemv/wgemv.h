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

#include "../status.h"
#include "../threads.h"

typedef struct ib_wgemv ib_wgemv;

enum { IB_ACTIVATION_FLOAT = 0, IB_ACTIVATION_INT8 = 1 };

/* Lay weights out for the kernels of an instruction set (an ib_isa). `bits` is planes x outputs x ceil(channels / 8),
   `scale` planes x outputs x ceil(channels / block); the lengths are those of the buffers, and must be right. */
IB_API int ib_wgemv_pack(const uint8_t *bits, size_t bits_bytes, const float *scale, size_t scale_count, int64_t planes,
                         int64_t outputs, int64_t channels, int64_t block, int isa, ib_wgemv **result);

/* y (rows x outputs) from x (rows x channels). `activation` is one of the two above. */
IB_API int ib_wgemv_run(const ib_wgemv *weights, const float *x, size_t x_count, int64_t rows, int activation, float *y,
                        size_t y_count, const ib_threads *threads);

IB_API void ib_wgemv_free(ib_wgemv *weights);

#endif
