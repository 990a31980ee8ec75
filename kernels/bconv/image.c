#include "image.h"

#include "../bits.h"

size_t ib_span_segments(const ib_bconv_shape *shape, ib_span span) {
    const size_t down = (size_t)shape->kernel[0], across = (size_t)shape->kernel[1];
    return span == IB_SPAN_PIXEL ? down * across : span == IB_SPAN_LINE ? down : 1;
}

size_t ib_span_length(const ib_bconv_shape *shape, ib_span span) {
    const size_t taps = (size_t)shape->kernel[0] * (size_t)shape->kernel[1];
    return taps / ib_span_segments(shape, span) * (size_t)(shape->channels / shape->groups);
}

static size_t words_for(const ib_bconv_shape *shape, ib_span span) {
    return ib_span_segments(shape, span) * ib_words_of(ib_span_length(shape, span));
}

/* The widest span that saves an eighth of the words: putting taps together costs time as well. */
ib_span ib_span_for(const ib_bconv_shape *shape) {
    ib_span best = IB_SPAN_PIXEL;
    for (ib_span span = IB_SPAN_LINE; span <= IB_SPAN_KERNEL; span++)
        if (words_for(shape, span) * 8 <= words_for(shape, best) * 7) best = span;
    return best;
}

int ib_image_plan(ib_image *image, const ib_bconv_shape *shape, ib_span span, size_t height, size_t width) {
    int64_t out[2];
    const int status = ib_bconv_size(shape, (int64_t)height, (int64_t)width, &out[0], &out[1]);
    if (status) return status;
    size_t reach[2];
    for (int axis = 0; axis < 2; axis++) {
        size_t steps, taps;
        if (!IB_PRODUCT(&steps, (size_t)(out[axis] - 1), (size_t)shape->strides[axis]) ||
            !IB_PRODUCT(&taps, (size_t)(shape->kernel[axis] - 1), (size_t)shape->dilations[axis]))
            return IB_TOO_LARGE;
        reach[axis] = steps + taps + 1;
    }
    const bool down = span == IB_SPAN_KERNEL, across = span != IB_SPAN_PIXEL;
    *image = (ib_image){
        .span = span,
        .taps = {down ? (size_t)shape->kernel[0] : 1, across ? (size_t)shape->kernel[1] : 1},
        .step = {down ? (size_t)shape->strides[0] : 1, across ? (size_t)shape->strides[1] : 1},
        .lines = down ? (size_t)out[0] : reach[0],
        .cells = across ? (size_t)out[1] : reach[1],
        .words = ib_words_of(ib_span_length(shape, span)),
        .out_height = (size_t)out[0],
        .out_width = (size_t)out[1],
        .height = height,
        .width = width,
    };
    const size_t groups = (size_t)shape->groups;
    if (!IB_PRODUCT(&image->cell_bytes, groups, image->words, sizeof(uint64_t)) ||
        !IB_PRODUCT(&image->bytes, image->lines, image->cells, image->cell_bytes))
        return IB_TOO_LARGE;
    return IB_OK;
}

bool ib_image_is_input(const ib_image *image, const ib_bconv_shape *shape) {
    const bool padded = shape->pads[0] || shape->pads[1] || shape->pads[2] || shape->pads[3];
    return image->span == IB_SPAN_PIXEL && !padded && shape->channels / shape->groups % 64 == 0;
}

typedef struct filling {
    const ib_image *image;
    const ib_bconv_shape *shape;
    const uint8_t *bits;
    uint8_t *to;
    size_t pixel_bytes;
} filling;

/* Append `count` bits of a row, or of a constant, to a cell that is zero from bit `at` on. */
static void append(uint8_t *cell, size_t at, const uint8_t *row, size_t first, size_t count, uint64_t constant) {
    for (size_t done = 0; done < count; done += 64) {
        const size_t now = ib_min(64, count - done);
        const uint64_t value = row ? ib_take(row, first + done, now) : constant & ib_low_bits(now);
        uint8_t *word = cell + (at + done) / 64 * 8;
        const unsigned shift = (at + done) % 64;
        ib_store(word, ib_load(word) | value << shift);
        if (shift && now + shift > 64) ib_store(word + 8, value >> (64 - shift));
    }
}

/* One cell at a line and a column of the image, either of which may lie outside. */
static void fill_cell(const filling *f, const uint8_t *image, int64_t top, int64_t left, uint8_t *cell) {
    const ib_bconv_shape *s = f->shape;
    const size_t channels = (size_t)(s->channels / s->groups);
    const uint64_t constant = s->pad_value < 0 ? ~UINT64_C(0) : 0;
    memset(cell, 0, f->image->cell_bytes);
    for (size_t i = 0, tap = 0; i < f->image->taps[0]; i++)
        for (size_t j = 0; j < f->image->taps[1]; j++, tap++) {
            const int64_t y = top + (int64_t)i * s->dilations[0], x = left + (int64_t)j * s->dilations[1];
            const bool inside = y >= 0 && x >= 0 && y < (int64_t)f->image->height && x < (int64_t)f->image->width;
            const uint8_t *row =
                inside ? image + ((size_t)y * f->image->width + (size_t)x) * f->pixel_bytes : NULL;
            if (!row && !constant) continue;
            for (size_t g = 0; g < (size_t)s->groups; g++)
                append(cell + g * f->image->words * 8, tap * channels, row, g * channels, channels, constant);
        }
}

/* The pixels of a line that need no shifting: a cell is the bytes of a pixel, filled up. */
static void fill_pixels(const filling *f, const uint8_t *from, size_t count, uint8_t *cell) {
    const size_t cell_bytes = f->image->cell_bytes, bytes = f->pixel_bytes, rest = (size_t)f->shape->channels % 8;
    if (bytes == cell_bytes) {
        memcpy(cell, from, count * bytes);
        return;
    }
    for (size_t i = 0; i < count; i++, cell += cell_bytes, from += bytes) {
        memset(cell + cell_bytes - 8, 0, 8);
        memcpy(cell, from, bytes);
        if (rest) cell[bytes - 1] &= (uint8_t)ib_low_bits(rest);
    }
}

static void fill_line(void *work, size_t index) {
    const filling *f = work;
    const ib_image *m = f->image;
    const ib_bconv_shape *s = f->shape;
    const size_t line = index % m->lines;
    const uint8_t *image = f->bits + index / m->lines * m->height * m->width * f->pixel_bytes;
    uint8_t *to = f->to + index * m->cells * m->cell_bytes;
    const int64_t top = (int64_t)(line * m->step[0]) - s->pads[0];
    const size_t channels = (size_t)(s->channels / s->groups);
    const bool plain = m->span == IB_SPAN_PIXEL && (s->groups == 1 || channels % 64 == 0);
    const bool inside = top >= 0 && top < (int64_t)m->height;
    size_t begin = m->cells, end = m->cells; /* cells that are pixels of the image, copied as they are */
    if (plain && inside) {
        begin = ib_min((size_t)s->pads[1], m->cells);
        end = ib_min((size_t)s->pads[1] + m->width, m->cells);
        fill_pixels(f, image + (size_t)top * m->width * f->pixel_bytes, end - begin, to + begin * m->cell_bytes);
    }
    for (size_t c = 0; c < m->cells; c++)
        if (c < begin || c >= end)
            fill_cell(f, image, top, (int64_t)(c * m->step[1]) - s->pads[1], to + c * m->cell_bytes);
}

void ib_image_fill(const ib_image *image, const ib_bconv_shape *shape, size_t batch, const uint8_t *bits, uint8_t *to,
                   const ib_threads *threads) {
    filling f = {
        .image = image,
        .shape = shape,
        .bits = bits,
        .to = to,
        .pixel_bytes = ib_bytes_of((size_t)shape->channels),
    };
    ib_parallel(threads, fill_line, &f, batch * image->lines);
}
