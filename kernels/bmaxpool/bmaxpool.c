#include "bmaxpool.h"

#include "../bits.h"
#include "../sizes.h"

enum { BYTES_WORTH_THREADS = 1 << 20 };

typedef struct pooling {
    const ib_bmaxpool_shape *shape;
    size_t size[2], out[2], pixel_bytes;
    const uint8_t *bits;
    uint8_t *to;
} pooling;

static int size_of_axis(const ib_bmaxpool_shape *s, int axis, int64_t size, int64_t *out) {
    const int64_t before = s->pads[axis], after = s->pads[axis + 2];
    if (!ib_is_size(size) || !ib_is_size(s->kernel[axis]) || !ib_is_size(s->strides[axis])) return IB_BAD_SIZE;
    if (before < 0 || before > IB_LARGEST || after < 0 || after > IB_LARGEST) return IB_BAD_SIZE;
    const int64_t room = size + before + after - s->kernel[axis];
    if (room < 0) return IB_BAD_SIZE;
    *out = room / s->strides[axis] + 1;
    const int64_t last = (*out - 1) * s->strides[axis] - before; /* where the last window begins */
    return before >= s->kernel[axis] || last >= size ? IB_EMPTY_WINDOW : IB_OK;
}

int ib_bmaxpool_size(const ib_bmaxpool_shape *shape, int64_t height, int64_t width, int64_t *out_height,
                     int64_t *out_width) {
    if (!shape || !out_height || !out_width) return IB_NULL;
    if (!ib_is_size(shape->channels)) return IB_BAD_SIZE;
    const int status = size_of_axis(shape, 0, height, out_height);
    return status ? status : size_of_axis(shape, 1, width, out_width);
}

/* The part of a window that lies in the image: [*begin, *end). */
static void clip(const pooling *p, int axis, size_t index, size_t *begin, size_t *end) {
    const int64_t first = (int64_t)index * p->shape->strides[axis] - p->shape->pads[axis];
    *begin = first > 0 ? (size_t)first : 0;
    *end = ib_min((size_t)(first + p->shape->kernel[axis]), p->size[axis]);
}

static void and_bytes(uint8_t *to, const uint8_t *from, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] &= from[i];
}

static void pool_line(void *work, size_t index) {
    const pooling *p = work;
    const uint8_t *image = p->bits + index / p->out[0] * p->size[0] * p->size[1] * p->pixel_bytes;
    uint8_t *to = p->to + index * p->out[1] * p->pixel_bytes;
    size_t top, bottom, left, right;
    clip(p, 0, index % p->out[0], &top, &bottom);
    for (size_t x = 0; x < p->out[1]; x++, to += p->pixel_bytes) {
        clip(p, 1, x, &left, &right);
        memcpy(to, image + (top * p->size[1] + left) * p->pixel_bytes, p->pixel_bytes);
        for (size_t i = top; i < bottom; i++)
            for (size_t j = left; j < right; j++)
                and_bytes(to, image + (i * p->size[1] + j) * p->pixel_bytes, p->pixel_bytes);
    }
}

int ib_bmaxpool_run(const ib_bmaxpool_shape *shape, int64_t batch, int64_t height, int64_t width, const uint8_t *bits,
                    int64_t bits_bytes, uint8_t *out, int64_t out_bytes, const ib_threads *threads) {
    int64_t out_height, out_width;
    const int status = ib_bmaxpool_size(shape, height, width, &out_height, &out_width);
    if (status) return status;
    if (batch < 0 || batch > IB_LARGEST) return IB_BAD_SIZE;
    pooling p = {
        .shape = shape,
        .size = {(size_t)height, (size_t)width},
        .out = {(size_t)out_height, (size_t)out_width},
        .pixel_bytes = ib_bytes_of((size_t)shape->channels),
        .bits = bits,
        .to = out,
    };
    size_t taken, made;
    if (!IB_PRODUCT(&taken, (size_t)batch, p.size[0], p.size[1], p.pixel_bytes) ||
        !IB_PRODUCT(&made, (size_t)batch, p.out[0], p.out[1], p.pixel_bytes))
        return IB_TOO_LARGE;
    if (bits_bytes < 0 || (size_t)bits_bytes != taken || out_bytes < 0 || (size_t)out_bytes != made) return IB_BAD_LENGTH;
    if (batch && (!bits || !out)) return IB_NULL;
    threads = ib_threads_worth(threads, taken, BYTES_WORTH_THREADS);
    ib_parallel(threads, pool_line, &p, (size_t)batch * p.out[0]);
    return IB_OK;
}
