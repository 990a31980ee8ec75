/* What an instruction set supplies to the products of 1-bit weights with real activations. */
#ifndef IB_WGEMV_VARIANT_H
#define IB_WGEMV_VARIANT_H

#include <stddef.h>
#include <stdint.h>

/* Weights lie in strips of 16 outputs. Within a strip, block and plane: words of 32 channels, 16 outputs each. */
enum { STRIP = 16, WORD = 32, TILE_STRIPS = 8, TILE_ROWS = 2, TILE = STRIP * TILE_STRIPS, LEVEL_BITS = 8 };

typedef struct ib_wgemv_variant {
    /* negative[row][strip * 16 + output] = sum of the x under a set bit, in order of the channels. `words` is the first
       of `strips` (at most TILE_STRIPS) strips that lie `stride` words apart; x holds `rows` (at most TILE_ROWS) rows of
       `channels` elements, `x_stride` apart; rows of `negative` are TILE apart. */
    void (*masked)(const uint32_t *words, size_t stride, size_t strips, const float *x, size_t x_stride, size_t rows,
                   size_t channels, float *negative);

    /* The same for levels: `count` words of `slices`, 8 numbers each, one for every bit of a level, rows `slice_stride`
       apart. The bits under a set bit are counted, and weigh 1, 2, ..., 64, -128. */
    void (*counted)(const uint32_t *words, size_t stride, size_t strips, const uint32_t *slices, size_t slice_stride,
                    size_t rows, size_t count, int32_t *negative);

    /* The largest |x|; NaN does not count. */
    float (*largest)(const float *x, size_t count);

    /* Bits of 32 levels round(x * factor), within -127 and 127, 0 for NaN: slices[i] holds bit i of each. Returns the sum
       of the levels. */
    int32_t (*slice)(const float *x, float factor, uint32_t *slices);
} ib_wgemv_variant;

#endif
