/* Tiles with AVX-512 VPOPCNTDQ: 8 rows of 16 outputs in 16 accumulators, the word of activations broadcast. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "../bits.h"
#include "store.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")))

/* Compile `call` for each number of rows: as a constant, so that loops over rows unroll and sums stay in registers. */
#define FOR_ROWS(call)         \
    switch (rows->count) {     \
    case 1: call(1); return;   \
    case 2: call(2); return;   \
    case 3: call(3); return;   \
    case 4: call(4); return;   \
    case 5: call(5); return;   \
    case 6: call(6); return;   \
    case 7: call(7); return;   \
    default: call(8); return;  \
    }

/* a ^ sign where the mask says that the weight is not 0: one instruction, by its table of truth. */
enum { XOR_THEN_AND = (0xf0 ^ 0xcc) & 0xaa };

/* The dot products of row r with all outputs of the panel, as 16 numbers. */
TARGET IB_INLINE void multiply(const size_t count, const int ternary, const ib_rows *rows, const ptrdiff_t *offset,
                               size_t steps, const uint64_t *words, __m512i *dot) {
    const uint8_t *at[IB_ROWS];
    __m512i low[IB_ROWS], high[IB_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < count; r++) {
        at[r] = rows->at[r];
        low[r] = high[r] = _mm512_setzero_si512();
    }
    for (const ptrdiff_t *const end = offset + steps; offset != end; offset++) {
        const __m512i w0 = _mm512_load_si512(words), w1 = _mm512_load_si512(words + 8);
        const __m512i s0 = ternary ? _mm512_load_si512(words + 16) : w0, s1 = ternary ? _mm512_load_si512(words + 24) : w1;
        words += ternary ? 2 * IB_PANEL : IB_PANEL;
        const ptrdiff_t here = *offset;
#pragma GCC unroll 8
        for (size_t r = 0; r < count; r++) {
            uint64_t word;
            memcpy(&word, at[r] + here, sizeof word);
            const __m512i a = _mm512_set1_epi64((long long)word);
            const __m512i x0 = ternary ? _mm512_ternarylogic_epi64(a, s0, w0, XOR_THEN_AND) : _mm512_xor_si512(a, w0);
            const __m512i x1 = ternary ? _mm512_ternarylogic_epi64(a, s1, w1, XOR_THEN_AND) : _mm512_xor_si512(a, w1);
            low[r] = _mm512_add_epi64(low[r], _mm512_popcnt_epi64(x0));
            high[r] = _mm512_add_epi64(high[r], _mm512_popcnt_epi64(x1));
        }
    }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#pragma GCC unroll 8
    for (size_t r = 0; r < count; r++) {
        const __m512i differ = _mm512_permutex2var_epi32(low[r], even, high[r]);
        dot[r] = _mm512_sub_epi32(_mm512_loadu_si512(rows->base[r]), _mm512_add_epi32(differ, differ));
    }
}

/* 4 rows of 16 to 4 registers: v[i] holds, in its lane j, the 4 numbers of output 4 * j + i. */
TARGET IB_INLINE void transpose_lanes(__m512 v[4]) {
    const __m512 t0 = _mm512_unpacklo_ps(v[0], v[1]), t1 = _mm512_unpackhi_ps(v[0], v[1]);
    const __m512 t2 = _mm512_unpacklo_ps(v[2], v[3]), t3 = _mm512_unpackhi_ps(v[2], v[3]);
    v[0] = _mm512_shuffle_ps(t0, t2, 0x44);
    v[1] = _mm512_shuffle_ps(t0, t2, 0xee);
    v[2] = _mm512_shuffle_ps(t1, t3, 0x44);
    v[3] = _mm512_shuffle_ps(t1, t3, 0xee);
}

TARGET IB_INLINE void store_output(size_t rows, size_t width, size_t o, __m256 value, float *out, size_t stride) {
    if (o >= width) return;
    if (rows == IB_ROWS)
        _mm256_storeu_ps(out + o * stride, value);
    else
        _mm256_mask_storeu_ps(out + o * stride, (__mmask8)ib_low_bits(rows), value);
}

/* Up to 8 rows of 16, stored as 16 times up to 8. */
TARGET IB_INLINE void store_transposed(const size_t rows, size_t width, __m512 v[IB_ROWS], float *out, size_t stride) {
#pragma GCC unroll 8
    for (size_t r = rows; r < IB_ROWS; r++) v[r] = _mm512_setzero_ps();
    transpose_lanes(v);
    transpose_lanes(v + 4);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(v[i]), b = _mm512_castps_pd(v[i + 4]);
        const __m512 lower = _mm512_castpd_ps(_mm512_permutex2var_pd(a, first, b));
        const __m512 upper = _mm512_castpd_ps(_mm512_permutex2var_pd(a, last, b));
        store_output(rows, width, i, _mm512_castps512_ps256(lower), out, stride);
        store_output(rows, width, 4 + i, _mm512_extractf32x8_ps(lower, 1), out, stride);
        store_output(rows, width, 8 + i, _mm512_castps512_ps256(upper), out, stride);
        store_output(rows, width, 12 + i, _mm512_extractf32x8_ps(upper, 1), out, stride);
    }
}

TARGET IB_INLINE void fused(const size_t count, const int ternary, const ib_rows *rows, const ptrdiff_t *offset,
                            size_t steps, const uint64_t *words, const ib_lanes *lanes, ib_store_as store, void *out,
                            size_t stride) {
    __m512i dot[IB_ROWS];
    multiply(count, ternary, rows, offset, steps, words, dot);
    if (store == IB_STORE_DOTS) {
#pragma GCC unroll 8
        for (size_t r = 0; r < count; r++) _mm512_storeu_si512((int32_t *)out + r * IB_PANEL, dot[r]);
        return;
    }
    if (store == IB_STORE_MASKS) {
        const __m512i limit = _mm512_loadu_si512(lanes->threshold);
#pragma GCC unroll 8
        for (size_t r = 0; r < count; r++) ((uint16_t *)out)[r] = (uint16_t)_mm512_cmplt_epi32_mask(dot[r], limit);
        return;
    }
    const __m512 scale = _mm512_loadu_ps(lanes->scale), bias = _mm512_loadu_ps(lanes->bias);
    __m512 v[IB_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < count; r++) v[r] = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dot[r]), scale), bias);
    if (store == IB_STORE_TRANSPOSED) {
        if (lanes->width == IB_PANEL)
            store_transposed(count, IB_PANEL, v, out, stride);
        else
            store_transposed(count, lanes->width, v, out, stride);
    } else if (lanes->width == IB_PANEL) {
#pragma GCC unroll 8
        for (size_t r = 0; r < count; r++) _mm512_storeu_ps((float *)out + r * stride, v[r]);
    } else {
        const __mmask16 kept = (__mmask16)ib_low_bits(lanes->width);
#pragma GCC unroll 8
        for (size_t r = 0; r < count; r++) _mm512_mask_storeu_ps((float *)out + r * stride, kept, v[r]);
    }
}

TARGET static void binary_fused(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words,
                                const ib_lanes *lanes, ib_store_as store, void *out, size_t stride) {
#define CALL(count) fused(count, 0, rows, offset, steps, words, lanes, store, out, stride)
    FOR_ROWS(CALL)
#undef CALL
}

TARGET static void ternary_fused(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words,
                                 const ib_lanes *lanes, ib_store_as store, void *out, size_t stride) {
#define CALL(count) fused(count, 1, rows, offset, steps, words, lanes, store, out, stride)
    FOR_ROWS(CALL)
#undef CALL
}

static void binary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    binary_fused(rows, offset, steps, words, NULL, IB_STORE_DOTS, dot, 0);
}

static void ternary(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot) {
    ternary_fused(rows, offset, steps, words, NULL, IB_STORE_DOTS, dot, 0);
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
    .binary_fused = binary_fused,
    .ternary_fused = ternary_fused,
    .affine = affine,
    .affine_transposed = affine_transposed,
    .below = below,
    .peak = peak,
};

#else
typedef int ib_no_avx512; /* an empty file is not C */
#endif
