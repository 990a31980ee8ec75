#include "zeros.h"

#include "../bits.h"

/* Sum of `count` signs from bit `first` on. */
static int32_t sum_of_signs(const uint8_t *row, size_t first, size_t count) {
    int32_t negative = 0;
    for (size_t done = 0; done < count; done += 64)
        negative += (int32_t)ib_count(ib_take(row, first + done, ib_min(64, count - done)));
    return (int32_t)count - 2 * negative;
}

int ib_tap_sums(int32_t **sums, const ib_bconv_shape *shape, const ib_panels *panels, const uint8_t *weights) {
    const size_t taps = (size_t)shape->kernel[0] * (size_t)shape->kernel[1];
    const size_t channels = (size_t)(shape->channels / shape->groups);
    const size_t row_bytes = ib_bytes_of(taps * channels), planes = (size_t)shape->planes;
    size_t bytes;
    if (!IB_PRODUCT(&bytes, ib_panels_total(panels), taps, IB_PANEL, sizeof **sums)) return IB_TOO_LARGE;
    if (!(*sums = ib_allocate(bytes))) return IB_NO_MEMORY;
    memset(*sums, 0, bytes);
    for (size_t panel = 0; panel < ib_panels_total(panels); panel++)
        for (size_t o = 0; o < ib_panel_width(panels, panel); o++)
            for (size_t tap = 0; tap < taps; tap++) {
                int32_t sum = 0;
                for (size_t plane = 0; plane < planes; plane++) {
                    const size_t row = plane * (size_t)shape->outputs + ib_panel_first(panels, panel) + o;
                    sum += sum_of_signs(weights + row * row_bytes, tap * channels, channels);
                }
                (*sums)[(panel * taps + tap) * IB_PANEL + o] = sum / (int32_t)planes; /* two signs sum to an even number */
            }
    return IB_OK;
}

/* The taps of a window that lie inside along one axis, [begin, end), and the kinds of windows that this makes. */
typedef struct span {
    int64_t begin, end;
} span;

typedef struct axis {
    size_t *kind; /* [positions of the window] */
    span *spans;  /* [kinds] */
    size_t kinds;
} axis;

static void forget_axis(axis *a) {
    free(a->kind);
    free(a->spans);
}

/* As the window moves on, both ends only ever fall, so windows of a kind are neighbours. */
static bool find_kinds(axis *a, const ib_bconv_shape *s, int which, size_t size, size_t positions) {
    *a = (axis){malloc(positions * sizeof *a->kind), malloc(positions * sizeof *a->spans), 0};
    if (!a->kind || !a->spans) return false;
    const int64_t dilation = s->dilations[which], taps = s->kernel[which];
    for (size_t i = 0; i < positions; i++) {
        const int64_t first = (int64_t)i * s->strides[which] - s->pads[which], left = (int64_t)size - first;
        const int64_t begin = first < 0 ? (-first + dilation - 1) / dilation : 0;
        const int64_t end = left > 0 ? (left + dilation - 1) / dilation : 0;
        const span now = {begin < taps ? begin : taps, end < taps ? end : taps};
        const span *last = a->kinds ? &a->spans[a->kinds - 1] : NULL;
        if (!last || last->begin != now.begin || last->end != now.end) a->spans[a->kinds++] = now;
        a->kind[i] = a->kinds - 1;
    }
    return true;
}

/* One panel: the base, less the taps outside. */
static void start_from(int32_t *start, const int32_t *base, const int32_t *sums, const ib_bconv_shape *s, span down,
                       span across) {
    memcpy(start, base, IB_PANEL * sizeof *start);
    for (int64_t i = 0; i < s->kernel[0]; i++)
        for (int64_t j = 0; j < s->kernel[1]; j++, sums += IB_PANEL) {
            if (i >= down.begin && i < down.end && j >= across.begin && j < across.end) continue;
            for (int o = 0; o < IB_PANEL; o++) start[o] -= sums[o];
        }
}

static int fill_starts(ib_starts *starts, const ib_bconv_shape *shape, const ib_image *image, const ib_panels *panels,
                       const int32_t *sums, const axis *down, const axis *across) {
    const size_t count = ib_panels_total(panels), taps = (size_t)(shape->kernel[0] * shape->kernel[1]);
    size_t kinds, bytes, pairs;
    if (!IB_PRODUCT(&kinds, image->out_height, image->out_width, sizeof *starts->kind) ||
        !IB_PRODUCT(&bytes, down->kinds, across->kinds, count, IB_PANEL, sizeof *starts->values) ||
        !IB_PRODUCT(&pairs, down->kinds, across->kinds) || pairs > UINT32_MAX)
        return IB_TOO_LARGE;
    starts->kind = ib_allocate(kinds);
    starts->values = ib_allocate(bytes);
    if (!starts->kind || !starts->values) return IB_NO_MEMORY;
    for (size_t y = 0; y < image->out_height; y++)
        for (size_t x = 0; x < image->out_width; x++)
            starts->kind[y * image->out_width + x] = (uint32_t)(down->kind[y] * across->kinds + across->kind[x]);
    int32_t *value = starts->values;
    for (size_t i = 0; i < down->kinds; i++)
        for (size_t j = 0; j < across->kinds; j++)
            for (size_t panel = 0; panel < count; panel++, value += IB_PANEL)
                start_from(value, ib_panel_base(panels, panel), sums + panel * taps * IB_PANEL, shape, down->spans[i],
                           across->spans[j]);
    return IB_OK;
}

int ib_starts_make(ib_starts *starts, const ib_bconv_shape *shape, const ib_image *image, const ib_panels *panels,
                   const int32_t *sums) {
    axis down = {0}, across = {0};
    *starts = (ib_starts){0};
    int status = IB_NO_MEMORY;
    if (find_kinds(&down, shape, 0, image->height, image->out_height) &&
        find_kinds(&across, shape, 1, image->width, image->out_width))
        status = fill_starts(starts, shape, image, panels, sums, &down, &across);
    if (status) ib_starts_free(starts);
    forget_axis(&down);
    forget_axis(&across);
    return status;
}

void ib_starts_free(ib_starts *starts) {
    free(starts->kind);
    free(starts->values);
    *starts = (ib_starts){0};
}
