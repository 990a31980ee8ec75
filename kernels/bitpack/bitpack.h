/* Numbers to bits: a set bit where a number lies below its threshold. NaN never does. */
#ifndef IB_BITPACK_H
#define IB_BITPACK_H

#include <stdint.h>

#include "../cpu.h"
#include "../threads.h"

typedef enum ib_dtype { IB_FLOAT32 = 0, IB_INT8 = 1 } ib_dtype;

typedef struct ib_numbers {
    int32_t dtype;
    const void *data;
    int64_t bytes;          /* of data */
    const float *threshold; /* one for all, or one for each channel */
    int64_t thresholds;
} ib_numbers;

/* x [rows][channels] -> bits [rows][ceil(channels / 8)]: matrices, images whose channels come last. */
IB_API int ib_bitpack_rows(int isa, int64_t rows, int64_t channels, const ib_numbers *x, uint8_t *bits,
                           int64_t bits_bytes, const ib_threads *threads);

/* x [images][channels][pixels] -> bits [images][pixels][ceil(channels / 8)]: images whose channels come first. */
IB_API int ib_bitpack_planes(int isa, int64_t images, int64_t channels, int64_t pixels, const ib_numbers *x,
                             uint8_t *bits, int64_t bits_bytes, const ib_threads *threads);

enum { IB_STRIP = 64 }; /* pixels that one call of `floats_of_planes` takes, and channels */

/* One row: `count` numbers to ceil(count / 8) bytes. */
typedef void ib_pack_floats(const float *x, const float *threshold, size_t count, uint8_t *bits);
typedef void ib_pack_int8s(const int8_t *x, const float *threshold, size_t count, uint8_t *bits);

/* Bit c of words[p] for x[c * stride + p]; channels <= IB_STRIP, pixels <= IB_STRIP. */
typedef void ib_pack_float_planes(const float *x, size_t stride, const float *threshold, size_t channels, size_t pixels,
                                  uint64_t *words);
typedef void ib_pack_int8_planes(const int8_t *x, size_t stride, const float *threshold, size_t channels,
                                 size_t pixels, uint64_t *words);

typedef struct ib_bitpack {
    ib_pack_floats *floats;
    ib_pack_int8s *int8s;
    ib_pack_float_planes *float_planes;
    ib_pack_int8_planes *int8_planes;
} ib_bitpack;

#define IB_BITPACK(isa) extern const ib_bitpack ib_bitpack_##isa;
#include "../variants.def"

/* The variant for an instruction set; null where this build has none. */
const ib_bitpack *ib_bitpack_select(int isa);

#endif
