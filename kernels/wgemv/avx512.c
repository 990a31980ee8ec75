/* 16 outputs to a register; a channel's 16 bits become a mask for the addition, and 8 slices are counted at once. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "variant.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* Weights that come from far away are what the product of a single row waits for, so they are fetched ahead. Strips
   follow each other in memory, and so do the blocks of a strip: from a long block on it is the same place of the next
   strips that is needed later, within a short one the blocks behind it. */
INLINE size_t words_ahead(size_t words, int strips, size_t stride) {
    return words < 32 ? 32 * STRIP : (size_t)strips * stride;
}

INLINE __m512i load(const uint32_t *words, size_t ahead) {
    _mm_prefetch((const char *)(words + ahead), _MM_HINT_T0);
    return _mm512_loadu_si512(words);
}

INLINE void masked_tile(const uint32_t *words, size_t stride, const float *x, size_t x_stride, size_t channels,
                        float *negative, const int strips, const int rows) {
    const size_t ahead = words_ahead(channels / WORD, strips, stride);
    __m512 sum[TILE_ROWS][TILE_STRIPS];
    for (int r = 0; r < rows; r++)
        for (int s = 0; s < strips; s++) sum[r][s] = _mm512_setzero_ps();
    for (size_t first = 0; first < channels; first += WORD, words += STRIP) {
        const size_t count = channels - first < WORD ? channels - first : WORD;
        __m512i word[TILE_STRIPS];
        for (int s = 0; s < strips; s++) word[s] = load(words + (size_t)s * stride, ahead);
        __m512i bit = _mm512_set1_epi32(1);
        for (size_t k = 0; k < count; k++, bit = _mm512_add_epi32(bit, bit))
            for (int s = 0; s < strips; s++) {
                const __mmask16 set = _mm512_test_epi32_mask(word[s], bit);
                for (int r = 0; r < rows; r++) {
                    const __m512 value = _mm512_set1_ps(x[first + k + (size_t)r * x_stride]);
                    sum[r][s] = _mm512_mask_add_ps(sum[r][s], set, sum[r][s], value);
                }
            }
    }
    for (int r = 0; r < rows; r++)
        for (int s = 0; s < strips; s++) _mm512_storeu_ps(negative + r * TILE + s * STRIP, sum[r][s]);
}

TARGET static void masked(const uint32_t *words, size_t stride, size_t strips, const float *x, size_t x_stride,
                          size_t rows, size_t channels, float *negative) {
    if (strips == TILE_STRIPS && rows == TILE_ROWS) {
        masked_tile(words, stride, x, x_stride, channels, negative, TILE_STRIPS, TILE_ROWS);
    } else if (strips == TILE_STRIPS) {
        masked_tile(words, stride, x, x_stride, channels, negative, TILE_STRIPS, 1);
    } else {
        for (size_t r = 0; r < rows; r++, x += x_stride, negative += TILE) {
            size_t s = 0;
            for (; s + 4 <= strips; s += 4)
                masked_tile(words + s * stride, stride, x, x_stride, channels, negative + s * STRIP, 4, 1);
            for (; s < strips; s++)
                masked_tile(words + s * stride, stride, x, x_stride, channels, negative + s * STRIP, 1, 1);
        }
    }
}

INLINE void counted_tile(const uint32_t *words, size_t stride, const uint32_t *slices, size_t slice_stride, size_t count,
                         int32_t *sums, const int strips, const int rows) {
    const size_t ahead = words_ahead(count, strips, stride);
    __m512i bits[2][LEVEL_BITS]; /* of two strips or of two rows */
    for (int u = 0; u < strips * rows; u++)
        for (int i = 0; i < LEVEL_BITS; i++) bits[u][i] = _mm512_setzero_si512();
    for (size_t w = 0; w < count; w++, words += STRIP, slices += LEVEL_BITS)
        for (int s = 0; s < strips; s++) {
            const __m512i word = load(words + (size_t)s * stride, ahead);
            for (int r = 0; r < rows; r++)
                for (int i = 0; i < LEVEL_BITS; i++) {
                    const __m512i slice = _mm512_set1_epi32((int)slices[(size_t)r * slice_stride + (size_t)i]);
                    const __m512i ones = _mm512_popcnt_epi32(_mm512_and_si512(word, slice));
                    bits[s + r][i] = _mm512_add_epi32(bits[s + r][i], ones);
                }
        }
    for (int s = 0; s < strips; s++)
        for (int r = 0; r < rows; r++) {
            __m512i sum = _mm512_sub_epi32(_mm512_setzero_si512(), bits[s + r][LEVEL_BITS - 1]);
            for (int i = LEVEL_BITS - 2; i >= 0; i--) sum = _mm512_add_epi32(_mm512_add_epi32(sum, sum), bits[s + r][i]);
            _mm512_storeu_si512(sums + r * TILE + s * STRIP, sum);
        }
}

TARGET static void counted(const uint32_t *words, size_t stride, size_t strips, const uint32_t *slices,
                           size_t slice_stride, size_t rows, size_t count, int32_t *sums) {
    if (rows == 2) {
        for (size_t s = 0; s < strips; s++)
            counted_tile(words + s * stride, stride, slices, slice_stride, count, sums + s * STRIP, 1, 2);
        return;
    }
    size_t s = 0;
    for (; s + 2 <= strips; s += 2)
        counted_tile(words + s * stride, stride, slices, slice_stride, count, sums + s * STRIP, 2, 1);
    if (s < strips) counted_tile(words + s * stride, stride, slices, slice_stride, count, sums + s * STRIP, 1, 1);
}

TARGET static float largest(const float *x, size_t count) {
    __m512 most[4];
    for (int i = 0; i < 4; i++) most[i] = _mm512_setzero_ps();
    size_t k = 0;
    for (; k + 64 <= count; k += 64) /* of a NaN and a number, max gives the second */
        for (int i = 0; i < 4; i++) most[i] = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + k + 16 * i)), most[i]);
    for (; k < count; k += 16) {
        const __mmask16 rest = count - k >= 16 ? 0xffff : (__mmask16)((1u << (count - k)) - 1);
        most[0] = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(rest, x + k)), most[0]);
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
}

INLINE __m512i levels(const float *x, __m512 factor) {
    const __m512 stretched = _mm512_mul_ps(_mm512_loadu_ps(x), factor);
    const __mmask16 number = _mm512_cmp_ps_mask(stretched, stretched, _CMP_ORD_Q);
    const __m512 near = _mm512_max_ps(_mm512_min_ps(stretched, _mm512_set1_ps(127)), _mm512_set1_ps(-127));
    return _mm512_maskz_cvt_roundps_epi32(number, near, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

TARGET static int32_t slice(const float *x, float factor, uint32_t *slices) {
    const __m512 by = _mm512_set1_ps(factor);
    const __m512i low = levels(x, by), high = levels(x + 16, by);
    __m256i all = _mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
    for (int i = LEVEL_BITS - 1; i >= 0; i--, all = _mm256_add_epi8(all, all))
        slices[i] = (uint32_t)_mm256_movemask_epi8(all);
    return _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
}

const ib_wgemv_variant ib_wgemv_avx512 = {masked, counted, largest, slice};
#endif
