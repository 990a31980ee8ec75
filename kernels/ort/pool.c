/* BMaxPool: maximum pooling of signs. */
#include "../bits.h"
#include "../bmaxpool/bmaxpool.h"
#include "../sizes.h"
#include "operators.h"

typedef struct pooling {
    kernel base;
    ib_bmaxpool_shape shape;
} pooling;

static ort_status *make(kernel *k, const ort_info *info) {
    ib_bmaxpool_shape *s = &((pooling *)k)->shape;
    CHECK(ib_node_int(k, info, "channels", 1, IB_LARGEST, &s->channels));
    CHECK(ib_node_ints(k, info, "kernel", 1, IB_LARGEST, 2, s->kernel));
    CHECK(ib_node_ints(k, info, "strides", 1, IB_LARGEST, 2, s->strides));
    return ib_node_ints(k, info, "pads", 0, IB_LARGEST, 4, s->pads);
}

static ort_status *run(const kernel *k, ort_context *context) {
    const ib_bmaxpool_shape *s = &((const pooling *)k)->shape;
    tensor bits;
    CHECK(ib_node_input_of(k, context, 0, 4, &bits));
    const int64_t *in = bits.shape, row = (int64_t)ib_bytes_of((size_t)s->channels);
    if (in[3] != row)
        return ib_node_error(k, "B has rows of %lld bytes, but %lld bits take %lld", (long long)in[3],
                             (long long)s->channels, (long long)row);
    int64_t shape[4] = {in[0], 0, 0, row};
    const int status = ib_bmaxpool_size(s, in[1], in[2], &shape[1], &shape[2]);
    if (status)
        return ib_node_error(k, "the window does not fit into an image of %lld x %lld: %s", (long long)in[1],
                             (long long)in[2], ib_message(status));
    size_t bytes;
    if (!IB_PRODUCT(&bytes, (size_t)in[0], (size_t)shape[1], (size_t)shape[2], (size_t)row))
        return ib_node_status(k, IB_TOO_LARGE);
    void *out;
    CHECK(ib_node_output(k, context, shape, 4, &out));
    if (in[0] == 0) return NULL;
    node_threads pool;
    ib_node_threads(k, context, &pool);
    return ib_node_status(k, ib_bmaxpool_run(s, in[0], in[1], in[2], bits.data, (int64_t)bits.count, out,
                                             (int64_t)bytes, &pool.threads));
}

const bit_operator ib_ort_bmaxpool = {
    .name = "BMaxPool",
    .inputs = 1,
    .input = {ORT_UINT8},
    .output = ORT_UINT8,
    .bytes = sizeof(pooling),
    .make = make,
    .run = run,
};
