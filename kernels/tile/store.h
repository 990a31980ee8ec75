/* Storing what a tile computed, in plain C for the compiler to vectorize: each variant compiles it for its own
   instruction set. */
#ifndef IB_TILE_STORE_H
#define IB_TILE_STORE_H

#include "tile.h"

#define IB_INLINE static inline __attribute__((always_inline))

IB_INLINE void ib_affine_plain(size_t rows, size_t width, const int32_t *dot, const float *scale, const float *bias,
                               float *restrict out, size_t stride) {
    if (width == IB_PANEL) {
        for (size_t r = 0; r < rows; r++)
            for (size_t o = 0; o < IB_PANEL; o++)
                out[r * stride + o] = (float)dot[r * IB_PANEL + o] * scale[o] + bias[o];
        return;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < width; o++) out[r * stride + o] = (float)dot[r * IB_PANEL + o] * scale[o] + bias[o];
}

IB_INLINE void ib_affine_transposed_plain(size_t rows, size_t width, const int32_t *dot, const float *scale,
                                          const float *bias, float *restrict out, size_t stride) {
    for (size_t o = 0; o < width; o++)
        for (size_t r = 0; r < rows; r++) out[o * stride + r] = (float)dot[r * IB_PANEL + o] * scale[o] + bias[o];
}

IB_INLINE void ib_below_plain(size_t rows, const int32_t *dot, const int32_t *threshold, uint16_t *mask) {
    for (size_t r = 0; r < rows; r++) {
        unsigned bits = 0;
        for (unsigned o = 0; o < IB_PANEL; o++) bits |= (unsigned)(dot[r * IB_PANEL + o] < threshold[o]) << o;
        mask[r] = (uint16_t)bits;
    }
}

#endif
