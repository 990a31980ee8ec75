#include "image.h"

#include "../bits.h"

enum { BYTES_WORTH_THREADS = 1 << 20 };

size_t ib_cell_runs(const ib_bconv_shape *shape, size_t taps) {
    return (size_t)shape->kernel[0] * (size_t)shape->kernel[1] / taps;
}

size_t ib_cell_bits(const ib_bconv_shape *shape, size_t taps) {
    return taps * (size_t)(shape->channels / shape->groups);
}

static size_t words_for(const ib_bconv_shape *shape, size_t taps) {
    return ib_cell_runs(shape, taps) * ib_words_of(ib_cell_bits(shape, taps));
}

/* Pixels are put side by side where that saves an eighth of the words: it takes time as well. */
size_t ib_cell_taps(const ib_bconv_shape *shape) {
    const size_t across = (size_t)shape->kernel[1];
    return words_for(shape, across) * 8 <= words_for(shape, 1) * 7 ? across : 1;
}

int ib_image_plan(ib_image *image, const ib_bconv_shape *shape, size_t taps, size_t height, size_t width) {
    int64_t out[2];
    const int status = ib_bconv_size(shape, (int64_t)height, (int64_t)width, &out[0], &out[1]);
    if (status) return status;
    size_t reach[2]; /* pixels of the padded image that take part */
    for (int axis = 0; axis < 2; axis++)
        reach[axis] = (size_t)((out[axis] - 1) * shape->strides[axis] +
                               (shape->kernel[axis] - 1) * shape->dilations[axis] + 1);
    *image = (ib_image){
        .taps = taps,
        .step = taps == 1 ? 1 : (size_t)shape->strides[1],
        .lines = reach[0],
        .cells = taps == 1 ? reach[1] : (size_t)out[1],
        .words = ib_words_of(ib_cell_bits(shape, taps)),
        .height = height,
        .width = width,
        .out_height = (size_t)out[0],
        .out_width = (size_t)out[1],
    };
    if (!IB_PRODUCT(&image->cell_bytes, (size_t)shape->groups, image->words, sizeof(uint64_t)) ||
        !IB_PRODUCT(&image->bytes, image->lines, image->cells, image->cell_bytes))
        return IB_TOO_LARGE;
    return IB_OK;
}

bool ib_image_is_input(const ib_image *image, const ib_bconv_shape *shape) {
    return image->taps == 1 && !ib_pads(shape) && shape->channels / shape->groups % 64 == 0;
}

typedef struct filling {
    const ib_image *image;
    const ib_bconv_shape *shape;
    const uint8_t *bits, *end;
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

/* One cell whose first pixel is at column `left` of a line, either of which may lie outside (null). */
static void fill_cell(const filling *f, const uint8_t *line, int64_t left, uint8_t *cell) {
    const ib_bconv_shape *s = f->shape;
    const size_t channels = (size_t)(s->channels / s->groups);
    const uint64_t constant = s->pad_value < 0 ? ~UINT64_C(0) : 0;
    memset(cell, 0, f->image->cell_bytes);
    for (size_t tap = 0; tap < f->image->taps; tap++) {
        const int64_t x = left + (int64_t)tap * s->dilations[1];
        const bool inside = line && x >= 0 && x < (int64_t)f->image->width;
        const uint8_t *pixel = inside ? line + (size_t)x * f->pixel_bytes : NULL;
        if (!pixel && !constant) continue;
        for (size_t g = 0; g < (size_t)s->groups; g++)
            append(cell + g * f->image->words * 8, tap * channels, pixel, g * channels, channels, constant);
    }
}

/* Cells that are bytes of the image as they lie there, filled up to whole words: `count` of them, `step` bytes apart. */
static void copy_cells(const filling *f, const uint8_t *from, size_t step, size_t count, uint8_t *cell) {
    const size_t bits = f->image->taps * (size_t)f->shape->channels, whole = bits / 64, rest = bits % 64;
    if (!rest && step == whole * 8) {
        memcpy(cell, from, count * step);
        return;
    }
    for (size_t i = 0; i < count; i++, from += step, cell += f->image->cell_bytes) {
        for (size_t w = 0; w < whole; w++) ib_store(cell + w * 8, ib_load(from + w * 8));
        if (!rest) continue;
        const uint8_t *last = from + whole * 8;
        const bool room = f->end - last >= 8; /* to read a whole word, and keep a part */
        ib_store(cell + whole * 8, room ? ib_load(last) & ib_low_bits(rest) : ib_take(last, 0, rest));
    }
}

/* Which cells of a line `copy_cells` can do: [*begin, *end). */
static void find_copied(const filling *f, size_t *begin, size_t *end) {
    const ib_image *m = f->image;
    const ib_bconv_shape *s = f->shape;
    const bool one_run = m->taps == 1 || (s->channels % 8 == 0 && s->dilations[1] == 1);
    const bool one_group = s->groups == 1 || (m->taps == 1 && s->channels / s->groups % 64 == 0);
    *begin = *end = m->cells;
    if (!one_run || !one_group || m->taps > m->width) return;
    const size_t left = (size_t)s->pads[1], last = left + m->width - m->taps; /* columns of the first and last such cell */
    *begin = ib_min(ib_ceil_div(left, m->step), m->cells);
    *end = ib_min(last / m->step + 1, m->cells);
    if (*begin > *end) *begin = *end;
}

static void fill_line(void *work, size_t index) {
    const filling *f = work;
    const ib_image *m = f->image;
    const int64_t y = (int64_t)(index % m->lines) - f->shape->pads[0], left = f->shape->pads[1];
    const uint8_t *image = f->bits + index / m->lines * m->height * m->width * f->pixel_bytes;
    const uint8_t *line = y >= 0 && y < (int64_t)m->height ? image + (size_t)y * m->width * f->pixel_bytes : NULL;
    uint8_t *to = f->to + index * m->cells * m->cell_bytes;
    size_t begin = m->cells, end = m->cells;
    if (line) find_copied(f, &begin, &end);
    if (begin < end)
        copy_cells(f, line + (begin * m->step - (size_t)left) * f->pixel_bytes, m->step * f->pixel_bytes, end - begin,
                   to + begin * m->cell_bytes);
    for (size_t c = 0; c < begin; c++) fill_cell(f, line, (int64_t)(c * m->step) - left, to + c * m->cell_bytes);
    for (size_t c = end; c < m->cells; c++) fill_cell(f, line, (int64_t)(c * m->step) - left, to + c * m->cell_bytes);
}

void ib_image_fill(const ib_image *image, const ib_bconv_shape *shape, size_t batch, const uint8_t *bits, uint8_t *to,
                   const ib_threads *threads) {
    const size_t pixel_bytes = ib_bytes_of((size_t)shape->channels);
    filling f = {
        .image = image,
        .shape = shape,
        .bits = bits,
        .end = bits + batch * image->height * image->width * pixel_bytes,
        .to = to,
        .pixel_bytes = pixel_bytes,
    };
    threads = ib_threads_worth(threads, batch * image->bytes, BYTES_WORTH_THREADS);
    ib_parallel(threads, fill_line, &f, batch * image->lines);
}
