#include "panels.h"

#include "../bits.h"
#include "../sizes.h"

size_t ib_panel_width(const ib_panels *p, size_t index) {
    return ib_min(p->outputs - index % p->per_group * IB_PANEL, IB_PANEL);
}

size_t ib_panel_first(const ib_panels *p, size_t index) {
    return index / p->per_group * p->outputs + index % p->per_group * IB_PANEL;
}

static void read_binary(uint64_t *to, const uint8_t *row, size_t first, size_t count) {
    ib_store((uint8_t *)to, ib_take(row, first, count));
}

static int32_t read_ternary(uint64_t *to, const uint8_t *row, const uint8_t *other, size_t first, size_t count) {
    const uint64_t one = ib_take(row, first, count), two = ib_take(other, first, count);
    const uint64_t mask = ~(one ^ two) & ib_low_bits(count);
    ib_store((uint8_t *)to, mask);
    ib_store((uint8_t *)(to + IB_PANEL), one);
    return (int32_t)ib_count(mask);
}

/* One output: its words at lane `lane` of a panel. Returns the dot product where no bit differs. */
static int32_t read_row(uint64_t *lane, const ib_rows_of_bits *shape, const uint8_t *row, const uint8_t *other) {
    int32_t nonzero = 0;
    for (size_t segment = 0; segment < shape->segments; segment++)
        for (size_t done = 0; done < shape->length; done += 64) {
            const size_t first = segment * shape->length + done, count = ib_min(64, shape->length - done);
            if (other) {
                nonzero += read_ternary(lane, row, other, first, count);
                lane += 2 * IB_PANEL;
            } else {
                read_binary(lane, row, first, count);
                lane += IB_PANEL;
            }
        }
    return other ? nonzero : (int32_t)(shape->segments * shape->length);
}

static void read_all(ib_panels *p, const ib_rows_of_bits *shape, const uint8_t *weights) {
    const size_t row_bytes = ib_bytes_of(shape->segments * shape->length);
    const size_t plane_bytes = row_bytes * shape->groups * shape->outputs;
    for (size_t index = 0; index < ib_panels_total(p); index++)
        for (size_t o = 0; o < ib_panel_width(p, index); o++) {
            const uint8_t *row = weights + (ib_panel_first(p, index) + o) * row_bytes;
            uint64_t *lane = p->words + index * p->stride + o;
            p->base[index * IB_PANEL + o] = read_row(lane, shape, row, p->ternary ? row + plane_bytes : NULL);
        }
}

int ib_panels_make(ib_panels *panels, const ib_tile *tile, const ib_rows_of_bits *shape, const uint8_t *weights) {
    ib_panels p = {
        .tile = tile,
        .groups = shape->groups,
        .outputs = shape->outputs,
        .per_group = ib_ceil_div(shape->outputs, IB_PANEL),
        .ternary = shape->planes == 2,
    };
    *panels = (ib_panels){0};
    size_t length, words, bases;
    if (!IB_PRODUCT(&length, shape->segments, shape->length) || length > IB_LARGEST / 2) return IB_TOO_LARGE;
    p.steps = shape->segments * ib_words_of(shape->length);
    p.stride = p.steps * IB_PANEL * shape->planes;
    if (!IB_PRODUCT(&words, p.groups, p.per_group, p.steps, IB_PANEL, shape->planes, sizeof(uint64_t)) ||
        !IB_PRODUCT(&bases, p.groups, p.per_group, IB_PANEL, sizeof(int32_t)))
        return IB_TOO_LARGE;
    p.words = ib_allocate(words);
    p.base = ib_allocate(bases);
    if (!p.words || !p.base) {
        ib_panels_free(&p);
        return IB_NO_MEMORY;
    }
    memset(p.words, 0, words);
    memset(p.base, 0, bases);
    read_all(&p, shape, weights);
    *panels = p;
    return IB_OK;
}

void ib_panels_free(ib_panels *panels) {
    free(panels->words);
    free(panels->base);
    *panels = (ib_panels){0};
}
