/* What becomes of the dot products of a 1-bit product. */
#ifndef IB_OUTPUT_H
#define IB_OUTPUT_H

#include <stdint.h>

/* IB_FLOAT: dot * scale + bias as float32, one rounded multiplication, then one rounded addition.
   IB_INT32: dot itself.
   IB_BITS: bit o of a row is dot < threshold[o]; rows are filled up with 0 bits to whole bytes. */
typedef enum ib_kind { IB_FLOAT = 0, IB_INT32 = 1, IB_BITS = 2 } ib_kind;

/* `bytes` is the size of `data`, and must be exactly what the result takes. scale, bias and threshold hold a number for
   each output; those that the kind does not use may be null. */
typedef struct ib_output {
    int32_t kind;
    void *data;
    int64_t bytes;
    const float *scale, *bias;
    const int32_t *threshold;
} ib_output;

#endif
