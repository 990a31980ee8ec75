/* Tiles in C alone. Bytes of counts are added up to the point where they would overflow; compilers vectorize that. */
#include "../bits.h"
#include "store.h"

enum { BYTES_HOLD = 31 }; /* words whose counts, at most 8 a byte, fit a byte */

static inline uint64_t byte_counts(uint64_t x) {
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    return (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
}

static inline int32_t sum_of_bytes(uint64_t x) {
    x = (x & UINT64_C(0x00ff00ff00ff00ff)) + ((x >> 8) & UINT64_C(0x00ff00ff00ff00ff));
    return (int32_t)((x * UINT64_C(0x0001000100010001)) >> 48);
}

IB_INLINE void one_row(int ternary, const uint8_t *row, const ptrdiff_t *offset, size_t steps, const uint64_t *words,
                       const int32_t *base, int32_t *dot) {
    int32_t differ[IB_PANEL] = {0};
    for (size_t first = 0; first < steps; first += BYTES_HOLD) {
        const size_t end = steps - first < BYTES_HOLD ? steps : first + BYTES_HOLD;
        uint64_t bytes[IB_PANEL] = {0};
        for (size_t s = first; s < end; s++) {
            uint64_t a;
            memcpy(&a, row + offset[s], sizeof a);
            for (int o = 0; o < IB_PANEL; o++)
                bytes[o] += byte_counts(ternary ? (a ^ words[IB_PANEL + o]) & words[o] : a ^ words[o]);
            words += ternary ? 2 * IB_PANEL : IB_PANEL;
        }
        for (int o = 0; o < IB_PANEL; o++) differ[o] += sum_of_bytes(bytes[o]);
    }
    for (int o = 0; o < IB_PANEL; o++) dot[o] = base[o] - 2 * differ[o];
}

static void binary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    for (size_t r = 0; r < rows->count; r++)
        one_row(0, rows->at[r], offset, steps, words, rows->base[r], dot + r * IB_PANEL);
}

static void ternary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    for (size_t r = 0; r < rows->count; r++)
        one_row(1, rows->at[r], offset, steps, words, rows->base[r], dot + r * IB_PANEL);
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
    volatile uint64_t kept;
    uint64_t a = rounds, bytes[IB_PANEL] = {0};
    for (size_t i = 0; i < rounds; i++, a++)
        for (uint64_t o = 0; o < IB_PANEL; o++) bytes[o] += byte_counts(a ^ o);
    uint64_t all = 0;
    for (int o = 0; o < IB_PANEL; o++) all += bytes[o];
    kept = all;
    (void)kept;
    return (double)rounds * IB_PANEL * 64;
}

const ib_tile ib_tile_portable = {
    .binary = binary,
    .ternary = ternary,
    .affine = affine,
    .affine_transposed = affine_transposed,
    .below = below,
    .peak = peak,
};
