/* Plain C: what every variant computes. */
#include "../bits.h"
#include "variant.h"

static void masked(const uint32_t *words, size_t stride, size_t strips, const float *x, size_t x_stride, size_t rows,
                   size_t channels, float *negative) {
    for (size_t r = 0; r < rows; r++, x += x_stride, negative += TILE)
        for (size_t s = 0; s < strips; s++) {
            float *sum = negative + s * STRIP;
            memset(sum, 0, STRIP * sizeof *sum);
            for (size_t k = 0; k < channels; k++) {
                const uint32_t *word = words + s * stride + k / WORD * STRIP;
                uint32_t value;
                memcpy(&value, x + k, sizeof value);
                for (size_t n = 0; n < STRIP; n++) {
                    const uint32_t kept = value & (0u - (word[n] >> k % WORD & 1)); /* x, or 0.0 */
                    float term;
                    memcpy(&term, &kept, sizeof term);
                    sum[n] += term;
                }
            }
        }
}

static void counted(const uint32_t *words, size_t stride, size_t strips, const uint32_t *slices, size_t slice_stride,
                    size_t rows, size_t count, int32_t *negative) {
    for (size_t r = 0; r < rows; r++, slices += slice_stride, negative += TILE)
        for (size_t s = 0; s < strips; s++) {
            int32_t *sum = negative + s * STRIP;
            memset(sum, 0, STRIP * sizeof *sum);
            for (size_t i = 0; i < count * STRIP; i++) {
                const uint32_t word = words[s * stride + i];
                const uint32_t *slice = slices + i / STRIP * LEVEL_BITS;
                int32_t value = 0;
                for (size_t bit = 0; bit < LEVEL_BITS - 1; bit++)
                    value += (int32_t)(ib_count(word & slice[bit]) << bit);
                sum[i % STRIP] += value - ((int32_t)ib_count(word & slice[LEVEL_BITS - 1]) << (LEVEL_BITS - 1));
            }
        }
}

static float largest(const float *x, size_t count) {
    float most = 0;
    for (size_t k = 0; k < count; k++) {
        const float size = x[k] < 0 ? -x[k] : x[k];
        if (size > most) most = size;
    }
    return most;
}

static int level(float x, float factor) {
    const float nearest_even = 12582912.0f; /* 3 * 2^22: adding it leaves no place for a fraction */
    const float stretched = x * factor;
    if (stretched != stretched) return 0;
    if (stretched >= 127) return 127;
    if (stretched <= -127) return -127;
    const float rounded = stretched + nearest_even;
    return (int)(rounded - nearest_even);
}

static int32_t slice(const float *x, float factor, uint32_t *slices) {
    int32_t sum = 0;
    memset(slices, 0, LEVEL_BITS * sizeof *slices);
    for (size_t k = 0; k < WORD; k++) {
        const int value = level(x[k], factor);
        const uint32_t bits = (uint32_t)value;
        sum += value;
        for (size_t bit = 0; bit < LEVEL_BITS; bit++) slices[bit] |= (bits >> bit & 1) << k;
    }
    return sum;
}

const ib_wgemv_variant ib_wgemv_portable = {masked, counted, largest, slice};
