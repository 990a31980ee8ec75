#include "sweep.h"

#include <string.h>

#include "../bits.h"
#include "../sizes.h"

enum { CACHED = 16384, LEAST_CHUNK = 64, TASKS_PER_THREAD = 2 }; /* bytes of activations that one task goes over */

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

/* What belongs to the outputs of one panel, filled up to the panel's width. */
typedef struct lanes {
    size_t panel, first, width;
    float scale[IB_PANEL], bias[IB_PANEL];
    int32_t threshold[IB_PANEL];
} lanes;

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

static lanes lanes_of(const sweep *s, size_t panel) {
    lanes l = {.panel = panel, .first = ib_panel_first(s->panels, panel), .width = ib_panel_width(s->panels, panel)};
    for (size_t o = 0; o < l.width; o++) {
        if (s->output->kind == IB_FLOAT) {
            l.scale[o] = s->output->scale[l.first + o];
            l.bias[o] = s->output->bias[l.first + o];
        } else if (s->output->kind == IB_BITS) {
            l.threshold[o] = s->output->threshold[l.first + o];
        }
    }
    return l;
}

static void compute(const sweep *s, size_t image, size_t first, size_t rows, size_t panel, int32_t *dot) {
    const ib_field *f = s->field;
    const ib_panels *p = s->panels;
    const uint8_t *start = f->bits + (ptrdiff_t)image * f->image_stride +
                           (ptrdiff_t)(panel / p->per_group) * f->group_stride;
    const uint8_t *row[IB_BLOCK];
    size_t line = first / f->width, column = first % f->width;
    for (size_t r = 0; r < rows; r++) {
        row[r] = start + (ptrdiff_t)line * f->line_stride + (ptrdiff_t)column * f->row_stride;
        if (++column == f->width) column = 0, line++;
    }
    ib_dot *const of = p->ternary ? p->tile->ternary : p->tile->binary;
    const uint64_t *words = ib_panel_words(p, panel);
    const int32_t *base = ib_panel_base(p, panel);
    const size_t half = rows <= IB_ROWS ? rows : (rows + 1) / 2;
    of(half, row, f->offset, p->steps, words, base, dot);
    if (half < rows) of(rows - half, row + half, f->offset, p->steps, words, base, dot + half * IB_PANEL);
    if (f->mend) f->mend(f->context, panel, first, rows, dot);
}

static void store_bits(const sweep *s, uint8_t *row, const lanes *l, uint16_t mask) {
    mask &= (uint16_t)ib_low_bits(l->width);
    uint8_t *to = row + l->first / 8;
    const size_t bytes = ib_bytes_of(l->first % 8 + l->width);
    const uint32_t bits = (uint32_t)mask << l->first % 8;
    if (s->bytes_are_shared)
        for (size_t i = 0; i < bytes; i++) to[i] |= (uint8_t)(bits >> 8 * i);
    else
        for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(bits >> 8 * i);
}

static void store_integers(const lanes *l, const int32_t *dot, size_t rows, int32_t *out, size_t row_stride,
                           size_t output_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < l->width; o++) out[r * row_stride + o * output_stride] = dot[r * IB_PANEL + o];
}

static void store(const sweep *s, size_t image, size_t first, size_t rows, const lanes *l, const int32_t *dot) {
    const ib_tile *tile = s->panels->tile;
    const size_t of_image = image * s->field->rows;
    if (s->output->kind == IB_BITS) {
        uint16_t mask[IB_BLOCK];
        const size_t row_bytes = ib_bytes_of(s->outputs);
        tile->below(rows, dot, l->threshold, mask);
        for (size_t r = 0; r < rows; r++)
            store_bits(s, (uint8_t *)s->output->data + (of_image + first + r) * row_bytes, l, mask[r]);
        return;
    }
    const size_t at = s->transposed ? of_image * s->outputs + l->first * s->field->rows + first
                                    : (of_image + first) * s->outputs + l->first;
    const size_t stride = s->transposed ? s->field->rows : s->outputs;
    if (s->output->kind == IB_INT32)
        store_integers(l, dot, rows, (int32_t *)s->output->data + at, s->transposed ? 1 : stride,
                       s->transposed ? stride : 1);
    else
        (s->transposed ? tile->affine_transposed : tile->affine)(rows, l->width, dot, l->scale, l->bias,
                                                                 (float *)s->output->data + at, stride);
}

/* How many rows to take at once, so that none are left over alone. */
static size_t block_of(size_t left) {
    if (left >= 2 * IB_BLOCK || left == IB_BLOCK) return IB_BLOCK;
    return left > IB_BLOCK ? (left + 1) / 2 : left;
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
        const lanes l = lanes_of(s, panel);
        for (size_t first = begin; first < end;) {
            int32_t dot[IB_BLOCK * IB_PANEL] __attribute__((aligned(64)));
            const size_t rows = block_of(end - first);
            compute(s, image, first, rows, panel, dot);
            store(s, image, first, rows, &l, dot);
            first += rows;
        }
    }
}

/* Cut rows into chunks whose activations stay in the nearest cache, and finer where threads would idle; then panels. */
static void cut(sweep *s, size_t threads) {
    const size_t row_bytes = s->field->row_stride > 0 ? (size_t)s->field->row_stride : 1;
    const size_t tasks = threads == 1 ? 1 : threads * TASKS_PER_THREAD;
    const size_t per_image = ib_ceil_div(tasks, s->field->images);
    size_t chunk = ib_min(CACHED / row_bytes, ib_ceil_div(s->field->rows, per_image));
    chunk = ib_ceil_div(chunk < LEAST_CHUNK ? LEAST_CHUNK : chunk, IB_BLOCK) * IB_BLOCK;
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
    ib_parallel(threads, sweep_task, &s, field->images * s.chunks * s.parts);
}
