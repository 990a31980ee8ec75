/* What matrix products and convolutions of bits have in common as nodes. */
#ifndef IB_ORT_PRODUCT_H
#define IB_ORT_PRODUCT_H

#include "node.h"

/* W must be [planes][outputs][bytes of `length` bits], of one plane or two. */
ort_status *ib_product_weights(const kernel *k, const tensor *w, int64_t length);

/* B must have rows of the bytes that `channels` bits take. */
ort_status *ib_product_bits(const kernel *k, const tensor *bits, int64_t channels);

/* Makes the output, and reads what is needed for it, one number for each of `outputs`: scale and bias from inputs 2 and
   3, or thresholds from input 2 where the operator gives bits. */
ort_status *ib_product_output(const kernel *k, ort_context *context, int64_t outputs, const int64_t *shape, size_t rank,
                              ib_output *output);

/* The length of a row of results: numbers, or bytes where the operator gives bits. */
int64_t ib_product_row(const kernel *k, int64_t outputs);

#endif
