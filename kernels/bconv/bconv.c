#include "bconv.h"

#include "../bits.h"
#include "../tile/sweep.h"
#include "image.h"
#include "zeros.h"

struct ib_bconv {
    ib_bconv_shape shape;
    size_t taps; /* pixels of a cell: see image.h */
    ib_panels panels;
    int32_t *tap_sums; /* see zeros.h; null where nothing is padded with 0 */
};

int ib_bconv_prepare(int isa, const ib_bconv_shape *shape, const uint8_t *weights, int64_t weights_bytes,
                     ib_bconv **handle) {
    if (!shape || !weights || !handle) return IB_NULL;
    *handle = NULL;
    int status = ib_bconv_check(shape);
    if (status) return status;
    size_t length, bytes;
    if (!IB_PRODUCT(&length, (size_t)shape->kernel[0], (size_t)shape->kernel[1],
                    (size_t)(shape->channels / shape->groups)) ||
        !IB_PRODUCT(&bytes, (size_t)shape->planes, (size_t)shape->outputs, ib_bytes_of(length)))
        return IB_TOO_LARGE;
    if (weights_bytes < 0 || (size_t)weights_bytes != bytes) return IB_BAD_LENGTH;
    status = ib_isa_resolve(isa, &isa);
    if (status) return status;

    ib_bconv *made = calloc(1, sizeof *made);
    if (!made) return IB_NO_MEMORY;
    made->shape = *shape;
    made->taps = ib_cell_taps(shape);
    const ib_rows_of_bits rows = {
        .planes = (size_t)shape->planes,
        .groups = (size_t)shape->groups,
        .outputs = (size_t)(shape->outputs / shape->groups),
        .segments = ib_cell_runs(shape, made->taps),
        .length = ib_cell_bits(shape, made->taps),
    };
    status = ib_panels_make(&made->panels, ib_tile_select(isa), &rows, weights);
    if (!status && ib_pads(shape) && shape->pad_value == 0)
        status = ib_tap_sums(&made->tap_sums, shape, &made->panels, weights);
    if (status) {
        ib_bconv_free(made);
        return status;
    }
    *handle = made;
    return IB_OK;
}

/* Where each step of the sum reads, from where a pixel's cell begins. */
static void find_offsets(ptrdiff_t *offset, const ib_bconv *handle, const ib_image *image) {
    const ib_bconv_shape *s = &handle->shape;
    const size_t down = (size_t)s->kernel[0], across = (size_t)s->kernel[1] / image->taps;
    for (size_t i = 0; i < down; i++)
        for (size_t j = 0; j < across; j++) {
            const size_t cell = i * (size_t)s->dilations[0] * image->cells + j * (size_t)s->dilations[1];
            for (size_t w = 0; w < image->words; w++)
                *offset++ = (ptrdiff_t)(cell * image->cell_bytes + w * sizeof(uint64_t));
        }
}

static void run(const ib_bconv *handle, const ib_image *image, size_t batch, const uint8_t *cells,
                const ptrdiff_t *offset, const ib_starts *starts, const ib_output *output, const ib_threads *threads) {
    const ib_bconv_shape *s = &handle->shape;
    const size_t down = (size_t)s->strides[0], across = (size_t)s->strides[1] / image->step;
    const ib_field field = {
        .bits = cells,
        .offset = offset,
        .images = batch,
        .rows = image->out_height * image->out_width,
        .width = image->out_width,
        .image_stride = (ptrdiff_t)image->bytes,
        .group_stride = (ptrdiff_t)(image->words * sizeof(uint64_t)),
        .line_stride = (ptrdiff_t)(down * image->cells * image->cell_bytes),
        .row_stride = (ptrdiff_t)(across * image->cell_bytes),
        .kind = starts->kind,
        .starts = starts->values,
    };
    ib_sweep(&handle->panels, &field, output, true, threads);
}

static int check_run(const ib_bconv *handle, size_t batch, const ib_image *image, int64_t bits_bytes,
                     const ib_output *output, size_t *filled) {
    size_t bytes, rows;
    if (!IB_PRODUCT(&bytes, batch, image->height, image->width, ib_bytes_of((size_t)handle->shape.channels)) ||
        !IB_PRODUCT(&rows, batch, image->out_height, image->out_width) || !IB_PRODUCT(filled, batch, image->bytes))
        return IB_TOO_LARGE;
    if (bits_bytes < 0 || (size_t)bits_bytes != bytes) return IB_BAD_LENGTH;
    return ib_output_check(output, rows, (size_t)handle->shape.outputs);
}

int ib_bconv_run(const ib_bconv *handle, int64_t batch, int64_t height, int64_t width, const uint8_t *bits,
                 int64_t bits_bytes, const ib_output *output, const ib_threads *threads) {
    if (!handle || (!bits && batch)) return IB_NULL;
    if (batch < 0 || batch > IB_LARGEST || !ib_is_size(height) || !ib_is_size(width)) return IB_BAD_SIZE;
    ib_image image;
    size_t filled;
    int status = ib_image_plan(&image, &handle->shape, handle->taps, (size_t)height, (size_t)width);
    const bool as_it_is = !status && ib_image_is_input(&image, &handle->shape);
    if (as_it_is) {
        image.lines = image.height;
        image.cells = image.width;
        image.bytes = image.lines * image.cells * image.cell_bytes;
    }
    if (!status) status = check_run(handle, (size_t)batch, &image, bits_bytes, output, &filled);
    if (status || !batch) return status;

    ib_starts starts = {0};
    if (handle->tap_sums) status = ib_starts_make(&starts, &handle->shape, &image, &handle->panels, handle->tap_sums);
    ptrdiff_t *offset = malloc(handle->panels.steps * sizeof *offset);
    uint8_t *cells = as_it_is ? NULL : ib_allocate(filled);
    if (!status && (!offset || (!as_it_is && !cells))) status = IB_NO_MEMORY;
    if (!status) {
        find_offsets(offset, handle, &image);
        if (!as_it_is) ib_image_fill(&image, &handle->shape, (size_t)batch, bits, cells, threads);
        run(handle, &image, (size_t)batch, as_it_is ? bits : cells, offset, &starts, output, threads);
    }
    ib_starts_free(&starts);
    free(offset);
    free(cells);
    return status;
}

void ib_bconv_free(ib_bconv *handle) {
    if (!handle) return;
    ib_panels_free(&handle->panels);
    free(handle->tap_sums);
    free(handle);
}
