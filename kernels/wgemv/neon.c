/* 4 outputs to a register: a bit test makes the mask, and cnt counts the bits of bytes. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "variant.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 4, REGISTERS = STRIP / LANES };

INLINE void masked_strip(const uint32_t *words, const float *x, size_t channels, float *negative) {
    float32x4_t sum[REGISTERS];
    for (int i = 0; i < REGISTERS; i++) sum[i] = vdupq_n_f32(0);
    for (size_t first = 0; first < channels; first += WORD, words += STRIP) {
        const size_t count = channels - first < WORD ? channels - first : WORD;
        uint32x4_t word[REGISTERS];
        for (int i = 0; i < REGISTERS; i++) word[i] = vld1q_u32(words + i * LANES);
        uint32x4_t bit = vdupq_n_u32(1);
        for (size_t k = 0; k < count; k++, bit = vaddq_u32(bit, bit)) {
            const uint32x4_t value = vreinterpretq_u32_f32(vdupq_n_f32(x[first + k]));
            for (int i = 0; i < REGISTERS; i++) {
                const uint32x4_t kept = vandq_u32(vtstq_u32(word[i], bit), value);
                sum[i] = vaddq_f32(sum[i], vreinterpretq_f32_u32(kept));
            }
        }
    }
    for (int i = 0; i < REGISTERS; i++) vst1q_f32(negative + i * LANES, sum[i]);
}

static void masked(const uint32_t *words, size_t stride, size_t strips, const float *x, size_t x_stride, size_t rows,
                   size_t channels, float *negative) {
    for (size_t s = 0; s < strips; s++)
        for (size_t r = 0; r < rows; r++)
            masked_strip(words + s * stride, x + r * x_stride, channels, negative + r * TILE + s * STRIP);
}

/* One register of outputs. Bytes count up to 8 a word, so 31 words fit before they are added up. */
INLINE void counted_lanes(const uint32_t *words, const uint32_t *slices, size_t count, int32_t *sums) {
    uint32x4_t total[LEVEL_BITS];
    for (int i = 0; i < LEVEL_BITS; i++) total[i] = vdupq_n_u32(0);
    while (count) {
        const size_t some = count < 31 ? count : 31;
        uint8x16_t bytes[LEVEL_BITS];
        for (int i = 0; i < LEVEL_BITS; i++) bytes[i] = vdupq_n_u8(0);
        for (size_t w = 0; w < some; w++, words += STRIP, slices += LEVEL_BITS) {
            const uint32x4_t word = vld1q_u32(words);
            for (int i = 0; i < LEVEL_BITS; i++) {
                const uint32x4_t under = vandq_u32(word, vdupq_n_u32(slices[i]));
                bytes[i] = vaddq_u8(bytes[i], vcntq_u8(vreinterpretq_u8_u32(under)));
            }
        }
        for (int i = 0; i < LEVEL_BITS; i++) total[i] = vpadalq_u16(total[i], vpaddlq_u8(bytes[i]));
        count -= some;
    }
    int32x4_t sum = vnegq_s32(vreinterpretq_s32_u32(total[LEVEL_BITS - 1]));
    for (int i = LEVEL_BITS - 2; i >= 0; i--) sum = vaddq_s32(vaddq_s32(sum, sum), vreinterpretq_s32_u32(total[i]));
    vst1q_s32(sums, sum);
}

static void counted(const uint32_t *words, size_t stride, size_t strips, const uint32_t *slices, size_t slice_stride,
                    size_t rows, size_t count, int32_t *sums) {
    for (size_t s = 0; s < strips; s++)
        for (size_t r = 0; r < rows; r++)
            for (size_t part = 0; part < STRIP; part += LANES)
                counted_lanes(words + s * stride + part, slices + r * slice_stride, count,
                              sums + r * TILE + s * STRIP + part);
}

static float largest(const float *x, size_t count) {
    float32x4_t most = vdupq_n_f32(0);
    size_t k = 0;
    for (; k + LANES <= count; k += LANES) most = vmaxnmq_f32(most, vabsq_f32(vld1q_f32(x + k)));
    float result = vmaxnmvq_f32(most);
    for (; k < count; k++) {
        const float value = x[k] < 0 ? -x[k] : x[k];
        result = value > result ? value : result;
    }
    return result;
}

/* Conversion rounds to the nearest, ties to even, and gives 0 for NaN. */
INLINE int16x4_t levels(const float *x, float factor) {
    const float32x4_t stretched = vmulq_n_f32(vld1q_f32(x), factor);
    const float32x4_t near = vmaxq_f32(vminq_f32(stretched, vdupq_n_f32(127)), vdupq_n_f32(-127));
    return vmovn_s32(vcvtnq_s32_f32(near));
}

static int32_t slice(const float *x, float factor, uint32_t *slices) {
    static const uint8_t PLACES[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t place = vld1q_u8(PLACES);
    int32_t sum = 0;
    for (int i = 0; i < LEVEL_BITS; i++) slices[i] = 0;
    for (int half = 0; half < 2; half++, x += 16) {
        const int8x8_t low = vmovn_s16(vcombine_s16(levels(x, factor), levels(x + 4, factor)));
        const int8x8_t high = vmovn_s16(vcombine_s16(levels(x + 8, factor), levels(x + 12, factor)));
        sum += vaddlv_s8(low) + vaddlv_s8(high);
        const uint8x16_t all = vreinterpretq_u8_s8(vcombine_s8(low, high));
        for (int i = 0; i < LEVEL_BITS; i++) {
            const uint8x16_t set = vandq_u8(vtstq_u8(all, vdupq_n_u8((uint8_t)(1u << i))), place);
            const uint32_t bits = vaddv_u8(vget_low_u8(set)) | (uint32_t)vaddv_u8(vget_high_u8(set)) << 8;
            slices[i] |= bits << (16 * half);
        }
    }
    return sum;
}

const ib_wgemv_variant ib_wgemv_neon = {masked, counted, largest, slice};
#endif
