/* 8 outputs to a register. A lane's bit picks 0.0 or x from a pair by vpermilps; slices are counted by nibbles. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "variant.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { LANES = 8, MOST = 4 }; /* registers of sums kept at a time: two strips */

INLINE __m256i load(const uint32_t *words) { return _mm256_loadu_si256((const __m256i *)words); }

INLINE void masked_tile(const uint32_t *words, size_t stride, const float *x, size_t channels, float *negative,
                        const int strips) {
    __m256 sum[MOST];
    const int registers = 2 * strips;
    for (int i = 0; i < registers; i++) sum[i] = _mm256_setzero_ps();
    for (size_t first = 0; first < channels; first += WORD, words += STRIP) {
        const size_t count = channels - first < WORD ? channels - first : WORD;
        __m256i word[MOST];
        for (int i = 0; i < registers; i++) word[i] = load(words + (size_t)(i / 2) * stride + (size_t)(i % 2) * LANES);
        for (size_t k = 0; k < count; k++) {
            const __m256 pair = _mm256_blend_ps(_mm256_setzero_ps(), _mm256_broadcast_ss(x + first + k), 0xaa);
            for (int i = 0; i < registers; i++) { /* only the lowest two bits choose, and the pair stands there twice */
                sum[i] = _mm256_add_ps(sum[i], _mm256_permutevar_ps(pair, word[i]));
                word[i] = _mm256_srli_epi32(word[i], 1);
            }
        }
    }
    for (int i = 0; i < registers; i++) _mm256_storeu_ps(negative + i * LANES, sum[i]);
}

TARGET static void masked(const uint32_t *words, size_t stride, size_t strips, const float *x, size_t x_stride,
                          size_t rows, size_t channels, float *negative) {
    for (size_t s = 0; s < strips; s += 2)
        for (size_t r = 0; r < rows; r++) {
            float *to = negative + r * TILE + s * STRIP;
            if (s + 1 < strips)
                masked_tile(words + s * stride, stride, x + r * x_stride, channels, to, 2);
            else
                masked_tile(words + s * stride, stride, x + r * x_stride, channels, to, 1);
        }
}

/* Set bits of every byte: two looks at a table of nibbles (Muła, Kurz, Lemire, 2018, arXiv:1611.07612). */
INLINE __m256i byte_counts(__m256i word) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(word, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(word, 4), low)));
}

INLINE __m256i lane_sums(__m256i bytes) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

/* One register of outputs. Bytes count up to 8 a word, so 31 words fit before they are added up. */
INLINE void counted_lanes(const uint32_t *words, const uint32_t *slices, size_t count, int32_t *sums) {
    __m256i total[LEVEL_BITS];
    for (int i = 0; i < LEVEL_BITS; i++) total[i] = _mm256_setzero_si256();
    while (count) {
        const size_t some = count < 31 ? count : 31;
        __m256i bytes[LEVEL_BITS];
        for (int i = 0; i < LEVEL_BITS; i++) bytes[i] = _mm256_setzero_si256();
        for (size_t w = 0; w < some; w++, words += STRIP, slices += LEVEL_BITS) {
            const __m256i word = load(words);
            for (int i = 0; i < LEVEL_BITS; i++) {
                const __m256i under = _mm256_and_si256(word, _mm256_set1_epi32((int)slices[i]));
                bytes[i] = _mm256_add_epi8(bytes[i], byte_counts(under));
            }
        }
        for (int i = 0; i < LEVEL_BITS; i++) total[i] = _mm256_add_epi32(total[i], lane_sums(bytes[i]));
        count -= some;
    }
    __m256i sum = _mm256_sub_epi32(_mm256_setzero_si256(), total[LEVEL_BITS - 1]);
    for (int i = LEVEL_BITS - 2; i >= 0; i--) sum = _mm256_add_epi32(_mm256_add_epi32(sum, sum), total[i]);
    _mm256_storeu_si256((__m256i *)sums, sum);
}

TARGET static void counted(const uint32_t *words, size_t stride, size_t strips, const uint32_t *slices,
                           size_t slice_stride, size_t rows, size_t count, int32_t *sums) {
    for (size_t s = 0; s < strips; s++)
        for (size_t r = 0; r < rows; r++)
            for (size_t half = 0; half < STRIP; half += LANES)
                counted_lanes(words + s * stride + half, slices + r * slice_stride, count,
                              sums + r * TILE + s * STRIP + half);
}

TARGET static float largest(const float *x, size_t count) {
    const __m256 size = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 most[4];
    for (int i = 0; i < 4; i++) most[i] = _mm256_setzero_ps();
    size_t k = 0;
    for (; k + 32 <= count; k += 32) /* of a NaN and a number, max gives the second */
        for (int i = 0; i < 4; i++)
            most[i] = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + k + LANES * i), size), most[i]);
    float each[LANES], result = 0;
    _mm256_storeu_ps(each, _mm256_max_ps(_mm256_max_ps(most[0], most[1]), _mm256_max_ps(most[2], most[3])));
    for (int i = 0; i < LANES; i++) result = each[i] > result ? each[i] : result;
    for (; k < count; k++) {
        const float value = x[k] < 0 ? -x[k] : x[k];
        result = value > result ? value : result;
    }
    return result;
}

INLINE __m256i levels(const float *x, __m256 factor) {
    const __m256 stretched = _mm256_mul_ps(_mm256_loadu_ps(x), factor);
    const __m256 number = _mm256_cmp_ps(stretched, stretched, _CMP_ORD_Q);
    const __m256 near = _mm256_max_ps(_mm256_min_ps(stretched, _mm256_set1_ps(127)), _mm256_set1_ps(-127));
    const __m256 rounded = _mm256_round_ps(near, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_cvttps_epi32(_mm256_and_ps(rounded, number));
}

TARGET static int32_t slice(const float *x, float factor, uint32_t *slices) {
    const __m256 by = _mm256_set1_ps(factor);
    const __m256i a = levels(x, by), b = levels(x + 8, by), c = levels(x + 16, by), d = levels(x + 24, by);
    const __m256i low = _mm256_packs_epi32(a, b), high = _mm256_packs_epi32(c, d);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packing works within halves */
    __m256i all = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    for (int i = LEVEL_BITS - 1; i >= 0; i--, all = _mm256_add_epi8(all, all))
        slices[i] = (uint32_t)_mm256_movemask_epi8(all);
    int32_t each[LANES], sum = 0;
    _mm256_storeu_si256((__m256i *)each, _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
    for (int i = 0; i < LANES; i++) sum += each[i];
    return sum;
}

const ib_wgemv_variant ib_wgemv_avx2 = {masked, counted, largest, slice};
#endif
