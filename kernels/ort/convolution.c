/* BConv and BConvBits: images of bits with filters of bits. */
#include "../bconv/bconv.h"
#include "../sizes.h"
#include "operators.h"
#include "product.h"

enum { LARGEST_WINDOW = UINT16_MAX };

typedef struct convolution {
    kernel base;
    ib_bconv_shape shape; /* planes and outputs: of constant weights, else 0 */
    ib_bconv *weights;    /* laid out once, where they are constant */
} convolution;

/* Completes the shape by what the weights tell. */
static ort_status *prepare(const kernel *k, const tensor *w, ib_bconv_shape *shape, ib_bconv **weights) {
    CHECK(ib_product_weights(k, w, shape->kernel[0] * shape->kernel[1] * (shape->channels / shape->groups)));
    shape->planes = w->shape[0];
    shape->outputs = w->shape[1];
    if (shape->outputs % shape->groups)
        return ib_node_error(k, "%lld filters do not divide into %lld groups", (long long)shape->outputs,
                             (long long)shape->groups);
    return ib_node_status(k, ib_bconv_prepare(IB_AUTO, shape, w->data, (int64_t)w->count, weights));
}

static ort_status *read_attributes(const kernel *k, const ort_info *info, ib_bconv_shape *s) {
    float pad_value;
    CHECK(ib_node_int(k, info, "channels", 1, IB_LARGEST, &s->channels));
    CHECK(ib_node_int(k, info, "group", 1, s->channels, &s->groups));
    CHECK(ib_node_ints(k, info, "kernel", 1, LARGEST_WINDOW, 2, s->kernel));
    CHECK(ib_node_ints(k, info, "strides", 1, IB_LARGEST, 2, s->strides));
    CHECK(ib_node_ints(k, info, "dilations", 1, IB_LARGEST, 2, s->dilations));
    CHECK(ib_node_ints(k, info, "pads", 0, IB_LARGEST, 4, s->pads));
    CHECK(ib_node_float(k, info, "pad_value", &pad_value));
    if (pad_value != -1 && pad_value != 0 && pad_value != 1)
        return ib_node_error(k, "attribute pad_value is %g; -1, 0 and 1 are known", (double)pad_value);
    s->pad_value = (int64_t)pad_value;
    if (s->channels % s->groups == 0) return NULL;
    return ib_node_error(k, "%lld channels do not divide into %lld groups", (long long)s->channels,
                         (long long)s->groups);
}

static ort_status *make(kernel *k, const ort_info *info) {
    convolution *c = (convolution *)k;
    tensor w;
    int is_constant;
    CHECK(read_attributes(k, info, &c->shape));
    CHECK(ib_node_constant(k, info, 1, &is_constant, &w));
    return is_constant ? prepare(k, &w, &c->shape, &c->weights) : NULL;
}

static void release(kernel *k) { ib_bconv_free(((convolution *)k)->weights); }

static ort_status *run_with(const kernel *k, const ib_bconv_shape *s, const ib_bconv *weights, const tensor *bits,
                            ort_context *context) {
    const int64_t *in = bits->shape;
    int64_t height, width;
    const int status = ib_bconv_size(s, in[1], in[2], &height, &width);
    if (status)
        return ib_node_error(k, "the filter does not fit into an image of %lld x %lld: %s", (long long)in[1],
                             (long long)in[2], ib_message(status));
    const int64_t images[4] = {in[0], s->outputs, height, width};
    const int64_t bytes[4] = {in[0], height, width, ib_product_row(k, s->outputs)};
    ib_output output;
    CHECK(ib_product_output(k, context, s->outputs, k->op->output == ORT_UINT8 ? bytes : images, 4, &output));
    node_threads pool;
    ib_node_threads(k, context, &pool);
    return ib_node_status(
        k, ib_bconv_run(weights, in[0], in[1], in[2], bits->data, (int64_t)bits->count, &output, &pool.threads));
}

static ort_status *run(const kernel *k, ort_context *context) {
    const convolution *c = (const convolution *)k;
    tensor bits, w;
    CHECK(ib_node_input_of(k, context, 0, 4, &bits));
    CHECK(ib_product_bits(k, &bits, c->shape.channels));
    if (c->weights) return run_with(k, &c->shape, c->weights, &bits, context);
    CHECK(ib_node_input(k, context, 1, &w));
    ib_bconv_shape shape = c->shape;
    ib_bconv *weights = NULL;
    CHECK(prepare(k, &w, &shape, &weights));
    ort_status *status = run_with(k, &shape, weights, &bits, context);
    ib_bconv_free(weights);
    return status;
}

const bit_operator ib_ort_bconv = {
    .name = "BConv",
    .inputs = 4,
    .input = {ORT_UINT8, ORT_UINT8, ORT_FLOAT, ORT_FLOAT},
    .output = ORT_FLOAT,
    .bytes = sizeof(convolution),
    .make = make,
    .run = run,
    .release = release,
};

const bit_operator ib_ort_bconv_bits = {
    .name = "BConvBits",
    .inputs = 3,
    .input = {ORT_UINT8, ORT_UINT8, ORT_INT32},
    .output = ORT_UINT8,
    .bytes = sizeof(convolution),
    .make = make,
    .run = run,
    .release = release,
};
