/* Packing in plain C, for the compiler to vectorize: each variant compiles it for its own instruction set. */
#ifndef IB_BITPACK_PLAIN_H
#define IB_BITPACK_PLAIN_H

#include "../bits.h"
#include "bitpack.h"

#define IB_INLINE static inline __attribute__((always_inline))

/* Exactly one of the two pointers is given; which one is a constant where this is used. */
IB_INLINE uint32_t ib_below(const float *floats, const int8_t *int8s, size_t i, float threshold) {
    return (floats ? floats[i] : (float)int8s[i]) < threshold;
}

IB_INLINE void ib_row_plain(const float *floats, const int8_t *int8s, const float *threshold, size_t count,
                            uint8_t *bits) {
    for (size_t i = 0; i < count; i += 8) {
        uint32_t byte = 0;
        const size_t end = count - i < 8 ? count - i : 8;
        for (size_t j = 0; j < end; j++) byte |= ib_below(floats, int8s, i + j, threshold[i + j]) << j;
        bits[i / 8] = (uint8_t)byte;
    }
}

/* Channels come in from the last to the first, each moving the others up by one bit. `pixels` is a constant where the
   strip is full. */
IB_INLINE void ib_half_strip_plain(const float *floats, const int8_t *int8s, size_t stride, const float *threshold,
                                   size_t channels, size_t pixels, uint32_t *half) {
    for (size_t p = 0; p < pixels; p++) half[p] = 0;
    for (size_t c = channels; c-- > 0;)
        for (size_t p = 0; p < pixels; p++)
            half[p] = half[p] * 2 + ib_below(floats ? floats + c * stride : floats, int8s ? int8s + c * stride : int8s, p,
                                             threshold[c]);
}

IB_INLINE void ib_strip_plain(const float *floats, const int8_t *int8s, size_t stride, const float *threshold,
                              size_t channels, size_t pixels, uint64_t *words) {
    uint32_t low[IB_STRIP], high[IB_STRIP] = {0};
    const size_t first = channels < 32 ? channels : 32;
    if (pixels == IB_STRIP)
        ib_half_strip_plain(floats, int8s, stride, threshold, first, IB_STRIP, low);
    else
        ib_half_strip_plain(floats, int8s, stride, threshold, first, pixels, low);
    if (channels > 32) {
        if (floats) floats += 32 * stride;
        if (int8s) int8s += 32 * stride;
        ib_half_strip_plain(floats, int8s, stride, threshold + 32, channels - 32, pixels, high);
    }
    for (size_t p = 0; p < pixels; p++) words[p] = low[p] | (uint64_t)high[p] << 32;
}

#endif
