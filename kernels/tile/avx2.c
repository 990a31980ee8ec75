/* Tiles with AVX2: counts of nibbles by table (W. Mula, N. Kurz, D. Lemire, "Faster Population Counts Using AVX2
   Instructions", 2018, arXiv:1611.07612), added up as bytes and widened before they overflow. 4 rows of 8 outputs at a
   time. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "../bits.h"
#include "store.h"

#define TARGET __attribute__((target("avx2")))

enum { BYTES_HOLD = 31, ROWS = 4, LANES = 8 }; /* words whose counts, at most 8 a byte, fit a byte; the tile */

TARGET IB_INLINE __m256i byte_counts(__m256i x) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
    const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi64(x, 4), nibble));
    return _mm256_add_epi8(low, high);
}

TARGET IB_INLINE __m256i differing(int ternary, __m256i a, __m256i w, __m256i sign) {
    return ternary ? _mm256_and_si256(_mm256_xor_si256(a, sign), w) : _mm256_xor_si256(a, w);
}

/* `count` rows from `first` on with 8 outputs from `lane` on; the count is a constant where this is used. */
TARGET IB_INLINE void some_rows(const size_t count, const int ternary, const ib_rows *rows, size_t first, size_t lane,
                                const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    const size_t stride = ternary ? 2 * IB_PANEL : IB_PANEL;
    const uint8_t *at[ROWS];
    __m256i total[ROWS][2];
#pragma GCC unroll 4
    for (size_t r = 0; r < count; r++) {
        at[r] = rows->at[first + r];
        total[r][0] = total[r][1] = _mm256_setzero_si256();
    }
    words += lane;
    while (steps) {
        const size_t now = steps < BYTES_HOLD ? steps : BYTES_HOLD;
        __m256i low[ROWS], high[ROWS];
#pragma GCC unroll 4
        for (size_t r = 0; r < count; r++) low[r] = high[r] = _mm256_setzero_si256();
        for (size_t s = 0; s < now; s++, words += stride) {
            const __m256i w0 = _mm256_load_si256((const void *)words), w1 = _mm256_load_si256((const void *)(words + 4));
            __m256i s0 = w0, s1 = w1;
            if (ternary) {
                s0 = _mm256_load_si256((const void *)(words + IB_PANEL));
                s1 = _mm256_load_si256((const void *)(words + IB_PANEL + 4));
            }
#pragma GCC unroll 4
            for (size_t r = 0; r < count; r++) {
                uint64_t word;
                memcpy(&word, at[r] + offset[s], sizeof word);
                const __m256i a = _mm256_set1_epi64x((long long)word);
                low[r] = _mm256_add_epi8(low[r], byte_counts(differing(ternary, a, w0, s0)));
                high[r] = _mm256_add_epi8(high[r], byte_counts(differing(ternary, a, w1, s1)));
            }
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < count; r++) {
            total[r][0] = _mm256_add_epi64(total[r][0], _mm256_sad_epu8(low[r], _mm256_setzero_si256()));
            total[r][1] = _mm256_add_epi64(total[r][1], _mm256_sad_epu8(high[r], _mm256_setzero_si256()));
        }
        offset += now;
        steps -= now;
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < count; r++) {
        /* Even words of both, 0 1 4 5 | 2 3 6 7, then in order. */
        const __m256 both = _mm256_shuffle_ps(_mm256_castsi256_ps(total[r][0]), _mm256_castsi256_ps(total[r][1]), 0x88);
        const __m256i differ = _mm256_permute4x64_epi64(_mm256_castps_si256(both), 0xd8);
        const __m256i start = _mm256_loadu_si256((const void *)(rows->base[first + r] + lane));
        _mm256_storeu_si256((void *)(dot + (first + r) * IB_PANEL + lane),
                            _mm256_sub_epi32(start, _mm256_slli_epi32(differ, 1)));
    }
}

TARGET IB_INLINE void all_rows(const int ternary, const ib_rows *rows, const ptrdiff_t *offset, size_t steps,
                               const uint64_t *words, int32_t *dot) {
    for (size_t lane = 0; lane < IB_PANEL; lane += LANES) {
        size_t r = 0;
        for (; r + ROWS <= rows->count; r += ROWS) some_rows(ROWS, ternary, rows, r, lane, offset, steps, words, dot);
        for (; r + 2 <= rows->count; r += 2) some_rows(2, ternary, rows, r, lane, offset, steps, words, dot);
        if (r < rows->count) some_rows(1, ternary, rows, r, lane, offset, steps, words, dot);
    }
}

TARGET static void binary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words,
                          int32_t *dot) {
    all_rows(0, rows, offset, steps, words, dot);
}

TARGET static void ternary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words,
                           int32_t *dot) {
    all_rows(1, rows, offset, steps, words, dot);
}

TARGET static void affine(size_t rows, size_t width, const int32_t *dot, const float *scale, const float *bias,
                          float *out, size_t stride) {
    ib_affine_plain(rows, width, dot, scale, bias, out, stride);
}

TARGET static void affine_transposed(size_t rows, size_t width, const int32_t *dot, const float *scale,
                                     const float *bias, float *out, size_t stride) {
    ib_affine_transposed_plain(rows, width, dot, scale, bias, out, stride);
}

TARGET static void below(size_t rows, const int32_t *dot, const int32_t *threshold, uint16_t *mask) {
    const __m256i t0 = _mm256_loadu_si256((const void *)threshold), t1 = _mm256_loadu_si256((const void *)(threshold + 8));
    for (size_t r = 0; r < rows; r++) {
        const __m256i d0 = _mm256_loadu_si256((const void *)(dot + r * IB_PANEL));
        const __m256i d1 = _mm256_loadu_si256((const void *)(dot + r * IB_PANEL + LANES));
        const int low = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(t0, d0)));
        const int high = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(t1, d1)));
        mask[r] = (uint16_t)(low | high << LANES);
    }
}

TARGET static double peak(size_t rounds) {
    __m256i sum[8], a = _mm256_set1_epi64x((long long)rounds), w = _mm256_set1_epi64x(77);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) sum[i] = _mm256_setzero_si256();
    for (size_t n = 0; n < rounds; n++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            __asm__ volatile("" : "+x"(a));
            sum[i] = _mm256_add_epi8(sum[i], byte_counts(_mm256_xor_si256(a, w)));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) __asm__ volatile("" : : "x"(sum[i]));
    return (double)rounds * 8 * 256;
}

const ib_tile ib_tile_avx2 = {
    .binary = binary,
    .ternary = ternary,
    .affine = affine,
    .affine_transposed = affine_transposed,
    .below = below,
    .peak = peak,
};

#else
typedef int ib_no_avx2; /* an empty file is not C */
#endif
