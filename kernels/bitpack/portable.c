/* Packing in C alone. */
#include "plain.h"

static void floats(const float *x, const float *threshold, size_t count, uint8_t *bits) {
    ib_row_plain(x, NULL, threshold, count, bits);
}

static void int8s(const int8_t *x, const float *threshold, size_t count, uint8_t *bits) {
    ib_row_plain(NULL, x, threshold, count, bits);
}

static void float_planes(const float *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                         uint64_t *words) {
    ib_strip_plain(x, NULL, stride, threshold, channels, pixels, words);
}

static void int8_planes(const int8_t *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                        uint64_t *words) {
    ib_strip_plain(NULL, x, stride, threshold, channels, pixels, words);
}

const ib_bitpack ib_bitpack_portable = {
    .floats = floats, .int8s = int8s, .float_planes = float_planes, .int8_planes = int8_planes};
