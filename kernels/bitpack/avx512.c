/* Packing with AVX-512: a comparison of 16 numbers is 16 bits already. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "plain.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* Up to 16 numbers; those past `kept` are not read. */
TARGET IB_INLINE __m512 load(const float *floats, const int8_t *int8s, __mmask16 kept) {
    if (floats) return _mm512_maskz_loadu_ps(kept, floats);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(kept, int8s)));
}

TARGET IB_INLINE void row(const float *floats, const int8_t *int8s, const float *threshold, size_t count,
                          uint8_t *bits) {
    for (size_t i = 0; i < count; i += 16) {
        const size_t left = count - i < 16 ? count - i : 16;
        const __mmask16 kept = (__mmask16)ib_low_bits(left);
        const __m512 x = load(floats ? floats + i : floats, int8s ? int8s + i : int8s, kept);
        const uint16_t below =
            (uint16_t)_mm512_mask_cmp_ps_mask(kept, x, _mm512_maskz_loadu_ps(kept, threshold + i), _CMP_LT_OQ);
        if (left > 8)
            memcpy(bits + i / 8, &below, 2);
        else
            bits[i / 8] = (uint8_t)below;
    }
}

TARGET static void floats(const float *x, const float *threshold, size_t count, uint8_t *bits) {
    row(x, NULL, threshold, count, bits);
}

TARGET static void int8s(const int8_t *x, const float *threshold, size_t count, uint8_t *bits) {
    row(NULL, x, threshold, count, bits);
}

/* 64 pixels in 4 registers: doubling, then adding 1 where the comparison holds, appends a bit. */
TARGET IB_INLINE void half_strip(const float *floats, const int8_t *int8s, size_t stride, const float *threshold,
                                 size_t channels, uint64_t pixels, __m512i bits[4]) {
    const __m512i one = _mm512_set1_epi32(1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) bits[i] = _mm512_setzero_si512();
    for (size_t c = channels; c-- > 0;) {
        const __m512 limit = _mm512_set1_ps(threshold[c]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m512 x = load(floats ? floats + c * stride + 16 * i : floats,
                                  int8s ? int8s + c * stride + 16 * i : int8s, (__mmask16)(pixels >> 16 * i));
            const __mmask16 below = _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ);
            bits[i] = _mm512_add_epi32(bits[i], bits[i]);
            bits[i] = _mm512_mask_add_epi32(bits[i], below, bits[i], one);
        }
    }
}

TARGET IB_INLINE void strip(const float *floats, const int8_t *int8s, size_t stride, const float *threshold,
                            size_t channels, size_t pixels, uint64_t *words) {
    __m512i low[4], high[4];
    const uint64_t kept = ib_low_bits(pixels);
    const size_t first = channels < 32 ? channels : 32;
    half_strip(floats, int8s, stride, threshold, first, kept, low);
    half_strip(floats ? floats + first * stride : floats, int8s ? int8s + first * stride : int8s, stride,
               threshold + first, channels - first, kept, high);
    const __m512i front = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i back = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __mmask16 here = (__mmask16)(kept >> 16 * i);
        _mm512_mask_storeu_epi64(words + 16 * i, (__mmask8)here, _mm512_permutex2var_epi32(low[i], front, high[i]));
        _mm512_mask_storeu_epi64(words + 16 * i + 8, (__mmask8)(here >> 8),
                                 _mm512_permutex2var_epi32(low[i], back, high[i]));
    }
}

TARGET static void float_planes(const float *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                                uint64_t *words) {
    strip(x, NULL, stride, threshold, channels, pixels, words);
}

TARGET static void int8_planes(const int8_t *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                               uint64_t *words) {
    strip(NULL, x, stride, threshold, channels, pixels, words);
}

const ib_bitpack ib_bitpack_avx512 = {
    .floats = floats, .int8s = int8s, .float_planes = float_planes, .int8_planes = int8_planes};

#else
typedef int ib_no_avx512; /* an empty file is not C */
#endif
