/* Plain C: what every variant computes. */
#include <string.h>

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

/* Set bits of every byte, each in its byte. */
static inline uint32_t byte_counts(uint32_t x) {
    x -= (x >> 1) & 0x55555555;
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333);
    return (x + (x >> 4)) & 0x0f0f0f0f;
}

static inline uint32_t sum_of_bytes(uint32_t x) {
    x = (x & 0x00ff00ff) + ((x >> 8) & 0x00ff00ff);
    return (x + (x >> 16)) & 0xffff;
}

/* Bytes count up to 8 a word, so 31 words fit before they are added up. */
static void count_strip(const uint32_t *words, const uint32_t *slices, size_t count, uint32_t *sum) {
    memset(sum, 0, STRIP * sizeof *sum);
    while (count) {
        const size_t some = count < 31 ? count : 31;
        for (size_t bit = 0; bit < LEVEL_BITS; bit++) {
            uint32_t bytes[STRIP] = {0};
            for (size_t w = 0; w < some; w++)
                for (size_t n = 0; n < STRIP; n++)
                    bytes[n] += byte_counts(words[w * STRIP + n] & slices[w * LEVEL_BITS + bit]);
            for (size_t n = 0; n < STRIP; n++) {
                const uint32_t weighed = sum_of_bytes(bytes[n]) << bit;
                sum[n] += bit == LEVEL_BITS - 1 ? 0 - weighed : weighed;
            }
        }
        words += some * STRIP;
        slices += some * LEVEL_BITS;
        count -= some;
    }
}

static void counted(const uint32_t *words, size_t stride, size_t strips, const uint32_t *slices, size_t slice_stride,
                    size_t rows, size_t count, int32_t *negative) {
    for (size_t r = 0; r < rows; r++, slices += slice_stride, negative += TILE)
        for (size_t s = 0; s < strips; s++) {
            uint32_t sum[STRIP]; /* modulo 2^32, as int32_t */
            count_strip(words + s * stride, slices, count, sum);
            memcpy(negative + s * STRIP, sum, sizeof sum);
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
