/* Packing with AVX2: comparisons of 8 numbers; rows take their signs as a byte, planes keep pixels in lanes. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "plain.h"

#define TARGET __attribute__((target("avx2")))

TARGET static void floats(const float *x, const float *threshold, size_t count, uint8_t *bits) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 below = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(threshold + i), _CMP_LT_OQ);
        bits[i / 8] = (uint8_t)_mm256_movemask_ps(below);
    }
    ib_row_plain(x + i, NULL, threshold + i, count - i, bits + i / 8);
}

TARGET IB_INLINE __m256 load_int8s(const int8_t *x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)x)));
}

TARGET static void int8s(const int8_t *x, const float *threshold, size_t count, uint8_t *bits) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 below = _mm256_cmp_ps(load_int8s(x + i), _mm256_loadu_ps(threshold + i), _CMP_LT_OQ);
        bits[i / 8] = (uint8_t)_mm256_movemask_ps(below);
    }
    ib_row_plain(NULL, x + i, threshold + i, count - i, bits + i / 8);
}

/* 32 pixels: a comparison leaves -1 where it holds, so doubling and subtracting appends a bit. */
TARGET IB_INLINE void half_strip(const float *floats, const int8_t *int8s, size_t stride, const float *threshold,
                                 size_t channels, uint32_t *half) {
    __m256i bits[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) bits[i] = _mm256_setzero_si256();
    for (size_t c = channels; c-- > 0;) {
        const __m256 limit = _mm256_set1_ps(threshold[c]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m256 x = floats ? _mm256_loadu_ps(floats + c * stride + 8 * i) : load_int8s(int8s + c * stride + 8 * i);
            const __m256i below = _mm256_castps_si256(_mm256_cmp_ps(x, limit, _CMP_LT_OQ));
            bits[i] = _mm256_sub_epi32(_mm256_add_epi32(bits[i], bits[i]), below);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) _mm256_storeu_si256((void *)(half + 8 * i), bits[i]);
}

TARGET IB_INLINE void strip(const float *floats, const int8_t *int8s, size_t stride, const float *threshold,
                            size_t channels, size_t pixels, uint64_t *words) {
    size_t p = 0;
    for (; p + 32 <= pixels; p += 32) {
        uint32_t low[32], high[32] = {0};
        half_strip(floats ? floats + p : floats, int8s ? int8s + p : int8s, stride, threshold, channels < 32 ? channels : 32,
                   low);
        if (channels > 32)
            half_strip(floats ? floats + 32 * stride + p : floats, int8s ? int8s + 32 * stride + p : int8s, stride,
                       threshold + 32, channels - 32, high);
        for (size_t i = 0; i < 32; i++) words[p + i] = low[i] | (uint64_t)high[i] << 32;
    }
    if (p < pixels)
        ib_strip_plain(floats ? floats + p : floats, int8s ? int8s + p : int8s, stride, threshold, channels, pixels - p,
                       words + p);
}

TARGET static void float_planes(const float *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                                uint64_t *words) {
    strip(x, NULL, stride, threshold, channels, pixels, words);
}

TARGET static void int8_planes(const int8_t *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                               uint64_t *words) {
    strip(NULL, x, stride, threshold, channels, pixels, words);
}

const ib_bitpack ib_bitpack_avx2 = {
    .floats = floats, .int8s = int8s, .float_planes = float_planes, .int8_planes = int8_planes};

#else
typedef int ib_no_avx2; /* an empty file is not C */
#endif
