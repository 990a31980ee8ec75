/* Tiles with NEON: counts of bytes, added up as bytes and widened before they overflow. 2 rows of 16 outputs, two to a
   register, in 16 of the 32 registers. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "../bits.h"
#include "store.h"

enum { BYTES_HOLD = 31, ROWS = 2, PAIRS = IB_PANEL / 2 }; /* words whose counts, at most 8 a byte, fit a byte; the tile */

/* `count` rows from `first` on; the count is a constant where this is used. */
IB_INLINE void some_rows(const size_t count, const int ternary, const ib_rows *rows, size_t first,
                         const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    int32_t differ[ROWS][IB_PANEL] = {{0}};
    while (steps) {
        const size_t now = steps < BYTES_HOLD ? steps : BYTES_HOLD;
        uint8x16_t bytes[ROWS][PAIRS];
#pragma GCC unroll 2
        for (size_t r = 0; r < count; r++)
#pragma GCC unroll 8
            for (int i = 0; i < PAIRS; i++) bytes[r][i] = vdupq_n_u8(0);
        for (size_t s = 0; s < now; s++, words += ternary ? 2 * IB_PANEL : IB_PANEL) {
            uint8x16_t a[ROWS];
#pragma GCC unroll 2
            for (size_t r = 0; r < count; r++) {
                const uint8x8_t word = vld1_u8(rows->at[first + r] + offset[s]);
                a[r] = vcombine_u8(word, word);
            }
#pragma GCC unroll 8
            for (int i = 0; i < PAIRS; i++) {
                const uint8x16_t w = vreinterpretq_u8_u64(vld1q_u64(words + 2 * i));
                const uint8x16_t sign = ternary ? vreinterpretq_u8_u64(vld1q_u64(words + IB_PANEL + 2 * i)) : w;
#pragma GCC unroll 2
                for (size_t r = 0; r < count; r++) {
                    const uint8x16_t x = ternary ? vandq_u8(veorq_u8(a[r], sign), w) : veorq_u8(a[r], w);
                    bytes[r][i] = vaddq_u8(bytes[r][i], vcntq_u8(x));
                }
            }
        }
        for (size_t r = 0; r < count; r++)
#pragma GCC unroll 8
            for (int i = 0; i < PAIRS; i++) {
                const uint64x2_t sums = vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes[r][i])));
                differ[r][2 * i] += (int32_t)vgetq_lane_u64(sums, 0);
                differ[r][2 * i + 1] += (int32_t)vgetq_lane_u64(sums, 1);
            }
        offset += now;
        steps -= now;
    }
    for (size_t r = 0; r < count; r++)
        for (int o = 0; o < IB_PANEL; o++) dot[(first + r) * IB_PANEL + o] = rows->base[first + r][o] - 2 * differ[r][o];
}

IB_INLINE void all_rows(const int ternary, const ib_rows *rows, const ptrdiff_t *offset, size_t steps,
                        const uint64_t *words, int32_t *dot) {
    size_t r = 0;
    for (; r + ROWS <= rows->count; r += ROWS) some_rows(ROWS, ternary, rows, r, offset, steps, words, dot);
    if (r < rows->count) some_rows(1, ternary, rows, r, offset, steps, words, dot);
}

static void binary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    all_rows(0, rows, offset, steps, words, dot);
}

static void ternary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    all_rows(1, rows, offset, steps, words, dot);
}

static void affine(size_t rows, size_t width, const int32_t *dot, const float *scale, const float *bias, float *out,
                   size_t stride) {
    ib_affine_plain(rows, width, dot, scale, bias, out, stride);
}

static void affine_transposed(size_t rows, size_t width, const int32_t *dot, const float *scale, const float *bias,
                              float *out, size_t stride) {
    ib_affine_transposed_plain(rows, width, dot, scale, bias, out, stride);
}

static void below(size_t rows, const int32_t *dot, const int32_t *threshold, uint16_t *mask) {
    ib_below_plain(rows, dot, threshold, mask);
}

static double peak(size_t rounds) {
    uint8x16_t sum[16], a = vdupq_n_u8((uint8_t)rounds), w = vdupq_n_u8(77);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) sum[i] = vdupq_n_u8(0);
    for (size_t n = 0; n < rounds; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __asm__ volatile("" : "+w"(a));
            sum[i] = vaddq_u8(sum[i], vcntq_u8(veorq_u8(a, w)));
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) __asm__ volatile("" : : "w"(sum[i]));
    return (double)rounds * 16 * 128;
}

const ib_tile ib_tile_neon = {
    .binary = binary,
    .ternary = ternary,
    .affine = affine,
    .affine_transposed = affine_transposed,
    .below = below,
    .peak = peak,
};

#else
typedef int ib_no_neon; /* an empty file is not C */
#endif
