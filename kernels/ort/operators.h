/* The operators of domain `intaglio` that have kernels. A new one is a file beside this one and a line here. */
#ifndef IB_ORT_OPERATORS_H
#define IB_ORT_OPERATORS_H

#include "node.h"

#define IB_OPERATORS(EACH)    \
    EACH(bitpack)             \
    EACH(bitpack_int8)        \
    EACH(bconv)               \
    EACH(bconv_bits)          \
    EACH(bgemm)               \
    EACH(bgemm_bits)          \
    EACH(bmaxpool)            \
    EACH(matmul)              \
    EACH(matmul_int8)

#define IB_DECLARE(name) extern const bit_operator ib_ort_##name;
IB_OPERATORS(IB_DECLARE)
#undef IB_DECLARE

#endif
