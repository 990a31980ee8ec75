/* Tiles with AVX-512 VPOPCNTDQ: 8 rows of 16 outputs in 16 accumulators, the word of activations broadcast. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "../bits.h"
#include "store.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")))

/* Rows is a constant where this is used, so the loops over rows unroll and the accumulators stay in registers. */
TARGET IB_INLINE void some_rows(const size_t rows, const int ternary, const uint8_t *const *row,
                                const ptrdiff_t *offset, size_t steps, const uint64_t *words, const int32_t *base,
                                int32_t *dot) {
    const uint8_t *at[IB_ROWS];
    __m512i low[IB_ROWS], high[IB_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
        at[r] = row[r];
        low[r] = high[r] = _mm512_setzero_si512();
    }
    for (const ptrdiff_t *const end = offset + steps; offset != end; offset++) {
        const __m512i w0 = _mm512_load_si512(words), w1 = _mm512_load_si512(words + 8);
        __m512i s0 = w0, s1 = w1;
        if (ternary) {
            s0 = _mm512_load_si512(words + 16);
            s1 = _mm512_load_si512(words + 24);
        }
        words += ternary ? 2 * IB_PANEL : IB_PANEL;
        const ptrdiff_t here = *offset;
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++) {
            uint64_t word;
            memcpy(&word, at[r] + here, sizeof word);
            const __m512i a = _mm512_set1_epi64((long long)word);
            const __m512i x0 = ternary ? _mm512_ternarylogic_epi64(a, s0, w0, (0xf0 ^ 0xcc) & 0xaa) : _mm512_xor_si512(a, w0);
            const __m512i x1 = ternary ? _mm512_ternarylogic_epi64(a, s1, w1, (0xf0 ^ 0xcc) & 0xaa) : _mm512_xor_si512(a, w1);
            low[r] = _mm512_add_epi64(low[r], _mm512_popcnt_epi64(x0));
            high[r] = _mm512_add_epi64(high[r], _mm512_popcnt_epi64(x1));
        }
    }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i start = _mm512_loadu_si512(base);
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
        const __m512i differ = _mm512_permutex2var_epi32(low[r], even, high[r]);
        _mm512_storeu_si512(dot + r * IB_PANEL, _mm512_sub_epi32(start, _mm512_slli_epi32(differ, 1)));
    }
}

#define CASES(ternary)                                                            \
    switch (rows) {                                                               \
    case 1: some_rows(1, ternary, row, offset, steps, words, base, dot); return;  \
    case 2: some_rows(2, ternary, row, offset, steps, words, base, dot); return;  \
    case 3: some_rows(3, ternary, row, offset, steps, words, base, dot); return;  \
    case 4: some_rows(4, ternary, row, offset, steps, words, base, dot); return;  \
    case 5: some_rows(5, ternary, row, offset, steps, words, base, dot); return;  \
    case 6: some_rows(6, ternary, row, offset, steps, words, base, dot); return;  \
    case 7: some_rows(7, ternary, row, offset, steps, words, base, dot); return;  \
    default: some_rows(8, ternary, row, offset, steps, words, base, dot); return; \
    }

TARGET static void binary(size_t rows, const uint8_t *const *row, const ptrdiff_t *offset, size_t steps,
                          const uint64_t *words, const int32_t *base, int32_t *dot) {
    CASES(0)
}

TARGET static void ternary(size_t rows, const uint8_t *const *row, const ptrdiff_t *offset, size_t steps,
                           const uint64_t *words, const int32_t *base, int32_t *dot) {
    CASES(1)
}

TARGET IB_INLINE __m512 row_of(size_t r, const int32_t *dot, __m512 scale, __m512 bias) {
    const __m512 value = _mm512_cvtepi32_ps(_mm512_loadu_si512(dot + r * IB_PANEL));
    return _mm512_add_ps(_mm512_mul_ps(value, scale), bias);
}

TARGET static void affine(size_t rows, size_t width, const int32_t *dot, const float *scale, const float *bias,
                          float *out, size_t stride) {
    const __m512 times = _mm512_loadu_ps(scale), plus = _mm512_loadu_ps(bias);
    const __mmask16 kept = (__mmask16)ib_low_bits(width);
    for (size_t r = 0; r < rows; r++)
        if (width == IB_PANEL)
            _mm512_storeu_ps(out + r * stride, row_of(r, dot, times, plus));
        else
            _mm512_mask_storeu_ps(out + r * stride, kept, row_of(r, dot, times, plus));
}

/* Transpose 16 x 16: pairs, then pairs of pairs within 128-bit lanes, then the lanes themselves. */
TARGET IB_INLINE void transpose(__m512 v[16]) {
    __m512 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        v[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        v[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        v[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

TARGET static void affine_transposed(size_t rows, size_t width, const int32_t *dot, const float *scale,
                                     const float *bias, float *out, size_t stride) {
    const __m512 times = _mm512_loadu_ps(scale), plus = _mm512_loadu_ps(bias);
    __m512 v[IB_BLOCK];
    if (rows == IB_BLOCK && width == IB_PANEL) {
#pragma GCC unroll 16
        for (size_t r = 0; r < IB_BLOCK; r++) v[r] = row_of(r, dot, times, plus);
        transpose(v);
#pragma GCC unroll 16
        for (size_t o = 0; o < IB_PANEL; o++) _mm512_storeu_ps(out + o * stride, v[o]);
        return;
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < IB_BLOCK; r++) v[r] = r < rows ? row_of(r, dot, times, plus) : _mm512_setzero_ps();
    transpose(v);
    const __mmask16 kept = (__mmask16)ib_low_bits(rows);
#pragma GCC unroll 16
    for (size_t o = 0; o < IB_PANEL; o++)
        if (o < width) _mm512_mask_storeu_ps(out + o * stride, kept, v[o]);
}

TARGET static void below(size_t rows, const int32_t *dot, const int32_t *threshold, uint16_t *mask) {
    const __m512i limit = _mm512_loadu_si512(threshold);
    for (size_t r = 0; r < rows; r++)
        mask[r] = (uint16_t)_mm512_cmplt_epi32_mask(_mm512_loadu_si512(dot + r * IB_PANEL), limit);
}

/* What no loop over memory can beat: the three instructions on registers, 16 sums that do not wait for each other. */
TARGET static double peak(size_t rounds) {
    __m512i sum[16], a = _mm512_set1_epi64((long long)rounds), w = _mm512_set1_epi64(77);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_si512();
    for (size_t n = 0; n < rounds; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __asm__ volatile("" : "+v"(a));
            sum[i] = _mm512_add_epi64(sum[i], _mm512_popcnt_epi64(_mm512_xor_si512(a, w)));
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) __asm__ volatile("" : : "v"(sum[i]));
    return (double)rounds * 16 * 512;
}

const ib_tile ib_tile_avx512 = {
    .binary = binary,
    .ternary = ternary,
    .affine = affine,
    .affine_transposed = affine_transposed,
    .below = below,
    .peak = peak,
};

#else
typedef int ib_no_avx512; /* an empty file is not C */
#endif
