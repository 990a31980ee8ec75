#include "bgemm.h"

#include "../bits.h"
#include "../sizes.h"
#include "../tile/sweep.h"

enum { BYTES_WORTH_THREADS = 1 << 20 };

struct ib_bgemm {
    ib_panels panels;
    size_t length;
    ptrdiff_t *offset; /* [steps] */
};

int ib_bgemm_prepare(int isa, int64_t planes, int64_t outputs, int64_t length, const uint8_t *weights,
                     int64_t weights_bytes, ib_bgemm **handle) {
    if (!weights || !handle) return IB_NULL;
    *handle = NULL;
    if (planes != 1 && planes != 2) return IB_BAD_VALUE;
    if (!ib_is_size(outputs) || !ib_is_size(length)) return IB_BAD_SIZE;
    size_t bytes;
    if (!IB_PRODUCT(&bytes, (size_t)planes, (size_t)outputs, ib_bytes_of((size_t)length))) return IB_TOO_LARGE;
    if (weights_bytes < 0 || (size_t)weights_bytes != bytes) return IB_BAD_LENGTH;
    int status = ib_isa_resolve(isa, &isa);
    if (status) return status;

    ib_bgemm *made = calloc(1, sizeof *made);
    if (!made) return IB_NO_MEMORY;
    const ib_rows_of_bits shape = {
        .planes = (size_t)planes, .groups = 1, .outputs = (size_t)outputs, .segments = 1, .length = (size_t)length};
    made->length = (size_t)length;
    status = ib_panels_make(&made->panels, ib_tile_select(isa), &shape, weights);
    if (!status && !(made->offset = malloc(made->panels.steps * sizeof *made->offset))) status = IB_NO_MEMORY;
    if (status) {
        ib_bgemm_free(made);
        return status;
    }
    for (size_t s = 0; s < made->panels.steps; s++) made->offset[s] = (ptrdiff_t)(s * sizeof(uint64_t));
    *handle = made;
    return IB_OK;
}

typedef struct copy {
    const uint8_t *bits;
    uint8_t *rows;
    size_t count, length, chunk;
} copy;

/* Rows whose bytes do not make whole words, copied to where they do. */
static void copy_task(void *work, size_t index) {
    const copy *c = work;
    const size_t from = ib_bytes_of(c->length), to = ib_words_of(c->length) * sizeof(uint64_t);
    const size_t end = ib_min((index + 1) * c->chunk, c->count);
    for (size_t r = index * c->chunk; r < end; r++) {
        uint8_t *row = c->rows + r * to;
        memset(row + to - sizeof(uint64_t), 0, sizeof(uint64_t));
        memcpy(row, c->bits + r * from, from);
        if (c->length % 8) row[from - 1] &= (uint8_t)ib_low_bits(c->length % 8);
    }
}

static void run(const ib_bgemm *handle, size_t rows, const uint8_t *bits, const ib_output *output,
                const ib_threads *threads) {
    const ptrdiff_t stride = (ptrdiff_t)(handle->panels.steps * sizeof(uint64_t));
    const ib_field field = {
        .bits = bits,
        .offset = handle->offset,
        .images = 1,
        .rows = rows,
        .width = rows,
        .row_stride = stride,
    };
    ib_sweep(&handle->panels, &field, output, false, threads);
}

int ib_bgemm_run(const ib_bgemm *handle, int64_t rows, const uint8_t *bits, int64_t bits_bytes, const ib_output *output,
                 const ib_threads *threads) {
    if (!handle || (!bits && rows)) return IB_NULL;
    if (rows < 0 || rows > IB_LARGEST) return IB_BAD_SIZE;
    size_t bytes, copied;
    if (!IB_PRODUCT(&bytes, (size_t)rows, ib_bytes_of(handle->length)) ||
        !IB_PRODUCT(&copied, (size_t)rows, handle->panels.steps, sizeof(uint64_t)))
        return IB_TOO_LARGE;
    if (bits_bytes < 0 || (size_t)bits_bytes != bytes) return IB_BAD_LENGTH;
    const int status = ib_output_check(output, (size_t)rows, handle->panels.outputs);
    if (status || !rows) return status;
    if (handle->length % 64 == 0) {
        run(handle, (size_t)rows, bits, output, threads);
        return IB_OK;
    }
    copy c = {.bits = bits, .rows = ib_allocate(copied), .count = (size_t)rows, .length = handle->length};
    if (!c.rows) return IB_NO_MEMORY;
    c.chunk = ib_ceil_div(c.count, ib_thread_count(threads));
    ib_parallel(ib_threads_worth(threads, copied, BYTES_WORTH_THREADS), copy_task, &c, ib_ceil_div(c.count, c.chunk));
    run(handle, (size_t)rows, c.rows, output, threads);
    free(c.rows);
    return IB_OK;
}

void ib_bgemm_free(ib_bgemm *handle) {
    if (!handle) return;
    ib_panels_free(&handle->panels);
    free(handle->offset);
    free(handle);
}
