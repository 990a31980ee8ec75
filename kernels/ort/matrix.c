/* BGemm and BGemmBits: rows of bits times a matrix of bits. */
#include "../bgemm/bgemm.h"
#include "../sizes.h"
#include "operators.h"
#include "product.h"

typedef struct matrix {
    kernel base;
    int64_t channels;
    int64_t outputs;   /* of constant weights */
    ib_bgemm *weights; /* laid out once, where they are constant */
} matrix;

static ort_status *prepare(const matrix *m, const tensor *w, ib_bgemm **weights) {
    const kernel *k = &m->base;
    CHECK(ib_product_weights(k, w, m->channels));
    return ib_node_status(
        k, ib_bgemm_prepare(IB_AUTO, w->shape[0], w->shape[1], m->channels, w->data, (int64_t)w->count, weights));
}

static ort_status *make(kernel *k, const ort_info *info) {
    matrix *m = (matrix *)k;
    tensor w;
    int is_constant;
    CHECK(ib_node_int(k, info, "channels", 1, IB_LARGEST, &m->channels));
    CHECK(ib_node_constant(k, info, 1, &is_constant, &w));
    if (!is_constant) return NULL;
    CHECK(prepare(m, &w, &m->weights));
    m->outputs = w.shape[1];
    return NULL;
}

static void release(kernel *k) { ib_bgemm_free(((matrix *)k)->weights); }

static ort_status *run_with(const matrix *m, const ib_bgemm *weights, int64_t outputs, const tensor *bits,
                            ort_context *context) {
    const kernel *k = &m->base;
    int64_t shape[MOST_DIMENSIONS];
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < bits->rank; i++) rows *= shape[i] = bits->shape[i];
    shape[bits->rank - 1] = ib_product_row(k, outputs);
    ib_output output;
    CHECK(ib_product_output(k, context, outputs, shape, bits->rank, &output));
    node_threads pool;
    ib_node_threads(k, context, &pool);
    return ib_node_status(k, ib_bgemm_run(weights, rows, bits->data, (int64_t)bits->count, &output, &pool.threads));
}

static ort_status *run(const kernel *k, ort_context *context) {
    const matrix *m = (const matrix *)k;
    tensor bits, w;
    CHECK(ib_node_input(k, context, 0, &bits));
    if (bits.rank == 0) return ib_node_error(k, "B has no dimension");
    CHECK(ib_product_bits(k, &bits, m->channels));
    if (m->weights) return run_with(m, m->weights, m->outputs, &bits, context);
    CHECK(ib_node_input(k, context, 1, &w));
    ib_bgemm *weights = NULL;
    CHECK(prepare(m, &w, &weights));
    ort_status *status = run_with(m, weights, w.shape[1], &bits, context);
    ib_bgemm_free(weights);
    return status;
}

const bit_operator ib_ort_bgemm = {
    .name = "BGemm",
    .inputs = 4,
    .input = {ORT_UINT8, ORT_UINT8, ORT_FLOAT, ORT_FLOAT},
    .output = ORT_FLOAT,
    .bytes = sizeof(matrix),
    .make = make,
    .run = run,
    .release = release,
};

const bit_operator ib_ort_bgemm_bits = {
    .name = "BGemmBits",
    .inputs = 3,
    .input = {ORT_UINT8, ORT_UINT8, ORT_INT32},
    .output = ORT_UINT8,
    .bytes = sizeof(matrix),
    .make = make,
    .run = run,
    .release = release,
};
