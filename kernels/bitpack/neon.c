/* Packing with NEON: comparisons of 4 numbers, their bits added up across the lanes; planes vectorize by themselves. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "plain.h"

IB_INLINE unsigned four(float32x4_t x, const float *threshold) {
    static const uint32_t PLACES[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_f32(x, vld1q_f32(threshold)), vld1q_u32(PLACES)));
}

static void floats(const float *x, const float *threshold, size_t count, uint8_t *bits) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        bits[i / 8] = (uint8_t)(four(vld1q_f32(x + i), threshold + i) | four(vld1q_f32(x + i + 4), threshold + i + 4) << 4);
    ib_row_plain(x + i, NULL, threshold + i, count - i, bits + i / 8);
}

static void int8s(const int8_t *x, const float *threshold, size_t count, uint8_t *bits) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const int16x8_t wide = vmovl_s8(vld1_s8(x + i));
        const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
        const float32x4_t high = vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide)));
        bits[i / 8] = (uint8_t)(four(low, threshold + i) | four(high, threshold + i + 4) << 4);
    }
    ib_row_plain(NULL, x + i, threshold + i, count - i, bits + i / 8);
}

static void float_planes(const float *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                         uint64_t *words) {
    ib_strip_plain(x, NULL, stride, threshold, channels, pixels, words);
}

static void int8_planes(const int8_t *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                        uint64_t *words) {
    ib_strip_plain(NULL, x, stride, threshold, channels, pixels, words);
}

const ib_bitpack ib_bitpack_neon = {
    .floats = floats, .int8s = int8s, .float_planes = float_planes, .int8_planes = int8_planes};

#else
typedef int ib_no_neon; /* an empty file is not C */
#endif
