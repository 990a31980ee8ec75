#include "sweep.h"

#include <string.h>

#include "../bits.h"
#include "../sizes.h"

enum {
    CACHED = 16384, /* bytes of activations that one task goes over */
    LEAST_CHUNK = 64,
    TASKS_PER_THREAD = 2,
    WORTH_THREADS = 65536, /* steps of all rows with all panels: some 50 microseconds with AVX-512 */
};

typedef struct sweep {
    const ib_panels *panels;
    const ib_field *field;
    const ib_output *output;
    bool transposed;
    size_t outputs;        /* of all groups */
    size_t chunk, chunks;  /* rows of a task; tasks that an image's rows make */
    size_t part, parts;    /* panels of a task; tasks that the panels make */
    bool bytes_are_shared; /* two panels write bits into one byte */
} sweep;

bool ib_output_bytes(size_t *bytes, int kind, size_t rows, size_t outputs) {
    if (kind == IB_BITS) return IB_PRODUCT(bytes, rows, ib_bytes_of(outputs));
    return IB_PRODUCT(bytes, rows, outputs, sizeof(float));
}

int ib_output_check(const ib_output *output, size_t rows, size_t outputs) {
    size_t bytes;
    if (!output) return IB_NULL;
    if (output->kind < IB_FLOAT || output->kind > IB_BITS) return IB_BAD_VALUE;
    if (output->kind == IB_FLOAT && (!output->scale || !output->bias)) return IB_NULL;
    if (output->kind == IB_BITS && !output->threshold) return IB_NULL;
    if (!ib_output_bytes(&bytes, output->kind, rows, outputs)) return IB_TOO_LARGE;
    if (output->bytes < 0 || (size_t)output->bytes != bytes) return IB_BAD_LENGTH;
    return bytes && !output->data ? IB_NULL : IB_OK;
}

static ib_lanes lanes_of(const sweep *s, size_t panel) {
    ib_lanes l = {.width = ib_panel_width(s->panels, panel)};
    const size_t first = ib_panel_first(s->panels, panel);
    for (size_t o = 0; o < l.width; o++) {
        if (s->output->kind == IB_FLOAT) {
            l.scale[o] = s->output->scale[first + o];
            l.bias[o] = s->output->bias[first + o];
        } else if (s->output->kind == IB_BITS) {
            l.threshold[o] = s->output->threshold[first + o];
        }
    }
    return l;
}

/* Up to IB_ROWS rows of an image, from `first` on, with one panel. */
typedef struct patch {
    size_t image, first, rows, panel;
} patch;

static void find_rows(const sweep *s, const patch *at, ib_rows *rows) {
    const ib_field *f = s->field;
    const ptrdiff_t group = (ptrdiff_t)(at->panel / s->panels->per_group);
    const ptrdiff_t above = (ptrdiff_t)(at->first / f->width);
    size_t column = at->first % f->width;
    const uint8_t *line = f->bits + (ptrdiff_t)at->image * f->image_stride + group * f->group_stride + above * f->line_stride;
    const uint8_t *here = line + (ptrdiff_t)column * f->row_stride;
    rows->count = at->rows;
    for (size_t r = 0; r < at->rows; r++) {
        rows->at[r] = here;
        here += f->row_stride;
        if (++column == f->width) {
            column = 0;
            here = line += f->line_stride;
        }
    }
}

/* What the rows' dot products start from. */
static void find_starts(const sweep *s, const patch *at, ib_rows *rows) {
    const ib_field *f = s->field;
    if (f->kind) {
        const int32_t *starts = f->starts + at->panel * IB_PANEL;
        const size_t stride = ib_panels_total(s->panels) * IB_PANEL;
        for (size_t r = 0; r < at->rows; r++) rows->base[r] = starts + f->kind[at->first + r] * stride;
    } else {
        const int32_t *base = ib_panel_base(s->panels, at->panel);
        for (size_t r = 0; r < at->rows; r++) rows->base[r] = base;
    }
}

/* Bits of up to 16 outputs to where the first of them belongs. */
static void store_bits(const sweep *s, uint8_t *row, size_t first, size_t width, uint16_t mask) {
    uint8_t *to = row + first / 8;
    const uint32_t bits = (mask & (uint32_t)ib_low_bits(width)) << first % 8;
    const size_t bytes = ib_bytes_of(first % 8 + width);
    if (s->bytes_are_shared)
        for (size_t i = 0; i < bytes; i++) to[i] |= (uint8_t)(bits >> 8 * i);
    else
        for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(bits >> 8 * i);
}

static void store_masks(const sweep *s, const patch *at, const ib_lanes *l, const uint16_t *mask) {
    const size_t row_bytes = ib_bytes_of(s->outputs), output = ib_panel_first(s->panels, at->panel);
    uint8_t *row = (uint8_t *)s->output->data + (at->image * s->field->rows + at->first) * row_bytes;
    if (l->width == IB_PANEL && !s->bytes_are_shared) {
        for (size_t r = 0; r < at->rows; r++) {
            row[r * row_bytes + output / 8] = (uint8_t)mask[r];
            row[r * row_bytes + output / 8 + 1] = (uint8_t)(mask[r] >> 8);
        }
        return;
    }
    for (size_t r = 0; r < at->rows; r++) store_bits(s, row + r * row_bytes, output, l->width, mask[r]);
}

/* Where the first number of a patch belongs in the result, and how far apart those of two rows, or of two outputs. */
static size_t place(const sweep *s, const patch *at, size_t *row_stride, size_t *output_stride) {
    const size_t of_image = at->image * s->field->rows, output = ib_panel_first(s->panels, at->panel);
    *row_stride = s->transposed ? 1 : s->outputs;
    *output_stride = s->transposed ? s->field->rows : 1;
    return of_image * s->outputs + at->first * *row_stride + output * *output_stride;
}

static void store(const sweep *s, const patch *at, const ib_lanes *l, const int32_t *dot) {
    const ib_tile *tile = s->panels->tile;
    if (s->output->kind == IB_BITS) {
        uint16_t mask[IB_ROWS];
        tile->below(at->rows, dot, l->threshold, mask);
        store_masks(s, at, l, mask);
        return;
    }
    size_t row_stride, output_stride;
    const size_t first = place(s, at, &row_stride, &output_stride);
    if (s->output->kind == IB_FLOAT) {
        float *out = (float *)s->output->data + first;
        if (s->transposed)
            tile->affine_transposed(at->rows, l->width, dot, l->scale, l->bias, out, output_stride);
        else
            tile->affine(at->rows, l->width, dot, l->scale, l->bias, out, row_stride);
        return;
    }
    int32_t *out = (int32_t *)s->output->data + first;
    for (size_t r = 0; r < at->rows; r++, dot += IB_PANEL, out += row_stride)
        if (s->transposed)
            for (size_t o = 0; o < l->width; o++) out[o * output_stride] = dot[o];
        else
            memcpy(out, dot, l->width * sizeof *dot);
}

static void fuse(const sweep *s, const patch *at, const ib_lanes *l, const ib_rows *rows) {
    const ib_panels *p = s->panels;
    ib_fused *const of = p->ternary ? p->tile->ternary_fused : p->tile->binary_fused;
    const uint64_t *words = ib_panel_words(p, at->panel);
    if (s->output->kind == IB_BITS) {
        uint16_t mask[IB_ROWS];
        of(rows, s->field->offset, p->steps, words, l, IB_STORE_MASKS, mask, 0);
        store_masks(s, at, l, mask);
        return;
    }
    size_t row_stride, output_stride;
    float *out = (float *)s->output->data + place(s, at, &row_stride, &output_stride);
    if (s->transposed)
        of(rows, s->field->offset, p->steps, words, l, IB_STORE_TRANSPOSED, out, output_stride);
    else
        of(rows, s->field->offset, p->steps, words, l, IB_STORE_ROWS, out, row_stride);
}

static void compute(const sweep *s, const patch *at, const ib_lanes *l) {
    const ib_panels *p = s->panels;
    ib_rows rows;
    find_rows(s, at, &rows);
    find_starts(s, at, &rows);
    if (p->tile->binary_fused && s->output->kind != IB_INT32) {
        fuse(s, at, l, &rows);
        return;
    }
    int32_t dot[IB_ROWS * IB_PANEL] __attribute__((aligned(64)));
    ib_dot *const of = p->ternary ? p->tile->ternary : p->tile->binary;
    of(&rows, s->field->offset, p->steps, ib_panel_words(p, at->panel), dot);
    store(s, at, l, dot);
}

/* How many rows to take at once, so that none is left over alone. */
static size_t rows_of(size_t left) {
    if (left >= 2 * IB_ROWS) return IB_ROWS;
    return left > IB_ROWS ? (left + 1) / 2 : left;
}

static void sweep_task(void *work, size_t index) {
    const sweep *s = work;
    const size_t part = index % s->parts, chunk = index / s->parts % s->chunks, image = index / s->parts / s->chunks;
    const size_t begin = chunk * s->chunk, end = ib_min(begin + s->chunk, s->field->rows);
    const size_t last = ib_min((part + 1) * s->part, ib_panels_total(s->panels));
    if (s->bytes_are_shared) {
        const size_t row_bytes = ib_bytes_of(s->outputs);
        memset((uint8_t *)s->output->data + (image * s->field->rows + begin) * row_bytes, 0, (end - begin) * row_bytes);
    }
    for (size_t panel = part * s->part; panel < last; panel++) {
        const ib_lanes l = lanes_of(s, panel);
        for (size_t first = begin; first < end;) {
            const patch at = {.image = image, .first = first, .rows = rows_of(end - first), .panel = panel};
            compute(s, &at, &l);
            first += at.rows;
        }
    }
}

/* Cut rows into chunks whose activations stay in the nearest cache, and finer where threads would idle; then panels. */
static void cut(sweep *s, size_t threads) {
    const size_t row_bytes = s->field->row_stride > 0 ? (size_t)s->field->row_stride : 1;
    const size_t tasks = threads == 1 ? 1 : threads * TASKS_PER_THREAD;
    const size_t per_image = ib_ceil_div(tasks, s->field->images);
    size_t chunk = ib_min(CACHED / row_bytes, ib_ceil_div(s->field->rows, per_image));
    chunk = ib_ceil_div(chunk < LEAST_CHUNK ? LEAST_CHUNK : chunk, IB_ROWS) * IB_ROWS;
    s->chunk = chunk;
    s->chunks = ib_ceil_div(s->field->rows, chunk);
    const size_t panels = ib_panels_total(s->panels);
    const size_t parts = s->bytes_are_shared ? 1 : ib_min(panels, ib_ceil_div(tasks, s->field->images * s->chunks));
    s->part = ib_ceil_div(panels, parts);
    s->parts = ib_ceil_div(panels, s->part);
}

void ib_sweep(const ib_panels *panels, const ib_field *field, const ib_output *output, bool transposed,
              const ib_threads *threads) {
    if (!field->images || !field->rows) return;
    sweep s = {
        .panels = panels,
        .field = field,
        .output = output,
        .transposed = transposed,
        .outputs = panels->groups * panels->outputs,
        .bytes_are_shared = output->kind == IB_BITS && panels->groups > 1 && panels->outputs % 8,
    };
    cut(&s, ib_thread_count(threads));
    const size_t steps = field->images * field->rows * ib_panels_total(panels) * panels->steps;
    ib_parallel(ib_threads_worth(threads, steps, WORTH_THREADS), sweep_task, &s, field->images * s.chunks * s.parts);
}
