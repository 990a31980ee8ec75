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

static void subtract(int32_t *dot, const int32_t *sum) {
    for (int o = 0; o < IB_PANEL; o++) dot[o] -= sum[o];
}

/* Where the window of a pixel begins, and whether all of it lies inside. */
static bool is_inside(const ib_zeros *z, size_t pixel, int64_t *top, int64_t *left) {
    const ib_bconv_shape *s = z->shape;
    *top = (int64_t)(pixel / z->image->out_width) * s->strides[0] - s->pads[0];
    *left = (int64_t)(pixel % z->image->out_width) * s->strides[1] - s->pads[1];
    const int64_t bottom = *top + (s->kernel[0] - 1) * s->dilations[0];
    const int64_t right = *left + (s->kernel[1] - 1) * s->dilations[1];
    return *top >= 0 && *left >= 0 && bottom < (int64_t)z->image->height && right < (int64_t)z->image->width;
}

bool ib_reaches_zeros(const void *context, size_t first, size_t rows) {
    int64_t top, left;
    for (size_t r = 0; r < rows; r++)
        if (!is_inside(context, first + r, &top, &left)) return true;
    return false;
}

void ib_take_zeros_out(const void *context, size_t panel, size_t first, size_t rows, int32_t *dot) {
    const ib_zeros *z = context;
    const ib_bconv_shape *s = z->shape;
    const int64_t height = (int64_t)z->image->height, width = (int64_t)z->image->width;
    const int32_t *sums = z->sums + panel * (size_t)(s->kernel[0] * s->kernel[1]) * IB_PANEL;
    for (size_t r = 0; r < rows; r++, dot += IB_PANEL) {
        int64_t top, left;
        if (is_inside(z, first + r, &top, &left)) continue;
        for (int64_t i = 0; i < s->kernel[0]; i++) {
            const int64_t y = top + i * s->dilations[0];
            for (int64_t j = 0; j < s->kernel[1]; j++) {
                const int64_t x = left + j * s->dilations[1];
                if (y < 0 || x < 0 || y >= height || x >= width)
                    subtract(dot, sums + (i * s->kernel[1] + j) * IB_PANEL);
            }
        }
    }
}
