#include "product.h"

#include "../bits.h"

static int gives_bits(const kernel *k) { return k->op->output == ORT_UINT8; }

int64_t ib_product_row(const kernel *k, int64_t outputs) {
    return gives_bits(k) ? (int64_t)ib_bytes_of((size_t)outputs) : outputs;
}

static ort_status *check_row(const kernel *k, const char *what, const tensor *bits, int64_t length) {
    const int64_t have = bits->shape[bits->rank - 1], want = (int64_t)ib_bytes_of((size_t)length);
    if (have == want) return NULL;
    return ib_node_error(k, "%s has rows of %lld bytes, but %lld bits take %lld", what, (long long)have,
                         (long long)length, (long long)want);
}

ort_status *ib_product_weights(const kernel *k, const tensor *w, int64_t length) {
    if (w->rank != 3) return ib_node_error(k, "W has %zu dimensions, not 3", w->rank);
    if (w->shape[0] != 1 && w->shape[0] != 2)
        return ib_node_error(k, "W has %lld planes; one and two are known", (long long)w->shape[0]);
    return check_row(k, "W", w, length);
}

ort_status *ib_product_bits(const kernel *k, const tensor *bits, int64_t channels) {
    return check_row(k, "B", bits, channels);
}

static ort_status *each(const kernel *k, ort_context *context, size_t index, int64_t outputs, void **data) {
    tensor numbers;
    CHECK(ib_node_input_of(k, context, index, 1, &numbers));
    if (numbers.shape[0] != outputs)
        return ib_node_error(k, "input %zu has %lld numbers for %lld outputs", index, (long long)numbers.shape[0],
                             (long long)outputs);
    *data = numbers.data;
    return NULL;
}

ort_status *ib_product_output(const kernel *k, ort_context *context, int64_t outputs, const int64_t *shape, size_t rank,
                              ib_output *output) {
    void *scale = NULL, *bias = NULL, *threshold = NULL;
    if (gives_bits(k)) {
        CHECK(each(k, context, 2, outputs, &threshold));
    } else {
        CHECK(each(k, context, 2, outputs, &scale));
        CHECK(each(k, context, 3, outputs, &bias));
    }
    int64_t bytes = gives_bits(k) ? 1 : (int64_t)sizeof(float);
    for (size_t i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, shape[i], &bytes)) return ib_node_status(k, IB_TOO_LARGE);
    *output = (ib_output){.kind = gives_bits(k) ? IB_BITS : IB_FLOAT,
                          .bytes = bytes,
                          .scale = scale,
                          .bias = bias,
                          .threshold = threshold};
    return ib_node_output(k, context, shape, rank, &output->data);
}
