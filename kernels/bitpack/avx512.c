/* Packing with AVX-512: a comparison of 16 numbers is 16 bits already. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "plain.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* Up to 16 numbers from number `i` on; those past `kept` are not read. */
TARGET IB_INLINE __m512 load(const int dtype, const void *x, size_t i, __mmask16 kept) {
    if (dtype == IB_FLOAT32) {
        const float *from = (const float *)x + i;
        return kept == 0xffff ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(kept, from);
    }
    const int8_t *from = (const int8_t *)x + i;
    const __m128i bytes = kept == 0xffff ? _mm_loadu_si128((const void *)from) : _mm_maskz_loadu_epi8(kept, from);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* Numbers that are not kept are 0 on both sides, so not below. */
TARGET IB_INLINE __mmask16 compare(const int dtype, const void *x, const float *threshold, size_t i, __mmask16 kept) {
    const __m512 limit = kept == 0xffff ? _mm512_loadu_ps(threshold + i) : _mm512_maskz_loadu_ps(kept, threshold + i);
    return _mm512_cmp_ps_mask(load(dtype, x, i, kept), limit, _CMP_LT_OQ);
}

TARGET IB_INLINE void row(const int dtype, const void *x, const float *threshold, size_t count, uint8_t *bits) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const uint16_t below = compare(dtype, x, threshold, i, 0xffff);
        memcpy(bits + i / 8, &below, 2);
    }
    if (i == count) return;
    const uint16_t below = compare(dtype, x, threshold, i, (__mmask16)ib_low_bits(count - i));
    memcpy(bits + i / 8, &below, ib_bytes_of(count - i));
}

TARGET static void floats(const float *x, const float *threshold, size_t count, uint8_t *bits) {
    row(IB_FLOAT32, x, threshold, count, bits);
}

TARGET static void int8s(const int8_t *x, const float *threshold, size_t count, uint8_t *bits) {
    row(IB_INT8, x, threshold, count, bits);
}

/* 64 pixels in 4 registers: doubling, then adding 1 where the comparison holds, appends a bit. */
TARGET IB_INLINE void half_strip(const int dtype, const void *x, size_t stride, const float *threshold, size_t first,
                                 size_t channels, uint64_t pixels, __m512i bits[4]) {
    const __m512i one = _mm512_set1_epi32(1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) bits[i] = _mm512_setzero_si512();
    for (size_t c = first + channels; c-- > first;) {
        const __m512 limit = _mm512_set1_ps(threshold[c]);
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            const __m512 here = load(dtype, x, c * stride + 16 * i, (__mmask16)(pixels >> 16 * i));
            const __mmask16 below = _mm512_cmp_ps_mask(here, limit, _CMP_LT_OQ);
            bits[i] = _mm512_add_epi32(bits[i], bits[i]);
            bits[i] = _mm512_mask_add_epi32(bits[i], below, bits[i], one);
        }
    }
}

/* `kept` has a bit for each pixel; a constant where the strip is full. */
TARGET IB_INLINE void strip(const int dtype, const void *x, size_t stride, const float *threshold, size_t channels,
                            const uint64_t kept, uint64_t *words) {
    __m512i low[4], high[4];
    const size_t half = channels < 32 ? channels : 32;
    half_strip(dtype, x, stride, threshold, 0, half, kept, low);
    half_strip(dtype, x, stride, threshold, half, channels - half, kept, high);
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
    if (pixels == IB_STRIP)
        strip(IB_FLOAT32, x, stride, threshold, channels, ~UINT64_C(0), words);
    else
        strip(IB_FLOAT32, x, stride, threshold, channels, ib_low_bits(pixels), words);
}

TARGET static void int8_planes(const int8_t *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                               uint64_t *words) {
    if (pixels == IB_STRIP)
        strip(IB_INT8, x, stride, threshold, channels, ~UINT64_C(0), words);
    else
        strip(IB_INT8, x, stride, threshold, channels, ib_low_bits(pixels), words);
}

const ib_bitpack ib_bitpack_avx512 = {
    .floats = floats, .int8s = int8s, .float_planes = float_planes, .int8_planes = int8_planes};

#else
typedef int ib_no_avx512; /* an empty file is not C */
#endif
