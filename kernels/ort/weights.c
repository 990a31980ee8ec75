/* MatMul1Bit and MatMul1BitInt8: real activations times a matrix of bits. */
#include "../bits.h"
#include "../sizes.h"
#include "../wgemv/wgemv.h"
#include "operators.h"

typedef struct product {
    kernel base;
    int64_t channels, block;
    int64_t outputs;   /* of constant weights */
    ib_wgemv *weights; /* laid out once, where they and their scales are constant */
} product;

static ort_status *prepare(const product *p, const tensor *w, const tensor *scale, ib_wgemv **weights) {
    const kernel *k = &p->base;
    if (w->rank != 3 || scale->rank != 3)
        return ib_node_error(k, "W and scale have %zu and %zu dimensions, not 3", w->rank, scale->rank);
    const long long bytes = (long long)ib_bytes_of((size_t)p->channels);
    const long long blocks = (long long)ib_ceil_div((size_t)p->channels, (size_t)p->block);
    if (w->shape[2] != bytes)
        return ib_node_error(k, "W has rows of %lld bytes, but %lld bits take %lld", (long long)w->shape[2],
                             (long long)p->channels, bytes);
    if (scale->shape[0] != w->shape[0] || scale->shape[1] != w->shape[1] || scale->shape[2] != blocks)
        return ib_node_error(k, "scale is %lld x %lld x %lld, but W and the blocks need %lld x %lld x %lld",
                             (long long)scale->shape[0], (long long)scale->shape[1], (long long)scale->shape[2],
                             (long long)w->shape[0], (long long)w->shape[1], blocks);
    return ib_node_status(k, ib_wgemv_prepare(IB_AUTO, w->shape[0], w->shape[1], p->channels, p->block, w->data,
                                              (int64_t)w->count, scale->data, (int64_t)scale->count, weights));
}

static ort_status *make(kernel *k, const ort_info *info) {
    product *p = (product *)k;
    tensor w, scale;
    int w_is_constant, scale_is_constant;
    CHECK(ib_node_int(k, info, "channels", 1, IB_LARGEST, &p->channels));
    CHECK(ib_node_int(k, info, "block", 1, IB_LARGEST, &p->block));
    CHECK(ib_node_constant(k, info, 1, &w_is_constant, &w));
    CHECK(ib_node_constant(k, info, 2, &scale_is_constant, &scale));
    if (!w_is_constant || !scale_is_constant) return NULL;
    CHECK(prepare(p, &w, &scale, &p->weights));
    p->outputs = w.shape[1];
    return NULL;
}

static void release(kernel *k) { ib_wgemv_free(((product *)k)->weights); }

static ort_status *run_with(const product *p, const ib_wgemv *weights, int64_t outputs, int activation, const tensor *x,
                            ort_context *context) {
    const kernel *k = &p->base;
    int64_t shape[MOST_DIMENSIONS];
    int64_t rows = 1, numbers;
    for (size_t i = 0; i + 1 < x->rank; i++) rows *= shape[i] = x->shape[i];
    shape[x->rank - 1] = outputs;
    if (__builtin_mul_overflow(rows, outputs, &numbers)) return ib_node_status(k, IB_TOO_LARGE);
    void *y;
    CHECK(ib_node_output(k, context, shape, x->rank, &y));
    node_threads pool;
    ib_node_threads(k, context, &pool);
    return ib_node_status(
        k, ib_wgemv_run(weights, activation, rows, x->data, (int64_t)x->count, y, numbers, &pool.threads));
}

static ort_status *run_as(const kernel *k, ort_context *context, int activation) {
    const product *p = (const product *)k;
    tensor x, w, scale;
    CHECK(ib_node_input(k, context, 0, &x));
    if (x.rank == 0) return ib_node_error(k, "X has no dimension");
    if (x.shape[x.rank - 1] != p->channels)
        return ib_node_error(k, "X has rows of %lld numbers, not %lld", (long long)x.shape[x.rank - 1],
                             (long long)p->channels);
    if (p->weights) return run_with(p, p->weights, p->outputs, activation, &x, context);
    CHECK(ib_node_input(k, context, 1, &w));
    CHECK(ib_node_input(k, context, 2, &scale));
    ib_wgemv *weights = NULL;
    CHECK(prepare(p, &w, &scale, &weights));
    ort_status *status = run_with(p, weights, w.shape[1], activation, &x, context);
    ib_wgemv_free(weights);
    return status;
}

static ort_status *run_float(const kernel *k, ort_context *context) { return run_as(k, context, IB_ACTIVATION_FLOAT); }

static ort_status *run_int8(const kernel *k, ort_context *context) { return run_as(k, context, IB_ACTIVATION_INT8); }

const bit_operator ib_ort_matmul = {
    .name = "MatMul1Bit",
    .inputs = 3,
    .input = {ORT_FLOAT, ORT_UINT8, ORT_FLOAT},
    .output = ORT_FLOAT,
    .bytes = sizeof(product),
    .make = make,
    .run = run_float,
    .release = release,
};

const bit_operator ib_ort_matmul_int8 = {
    .name = "MatMul1BitInt8",
    .inputs = 3,
    .input = {ORT_FLOAT, ORT_UINT8, ORT_FLOAT},
    .output = ORT_FLOAT,
    .bytes = sizeof(product),
    .make = make,
    .run = run_int8,
    .release = release,
};
