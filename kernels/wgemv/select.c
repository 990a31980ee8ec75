/* Layout of the weights, the order of the additions, and the work of each thread; variants do the inner loops. */
#include "wgemv.h"

#include <stdlib.h>
#include <string.h>

#include "../bits.h"
#include "../cpu.h"
#include "../sizes.h"
#include "variant.h"

enum {
    MOST_CHANNELS = 1 << 24,  /* 128 times this fits 32 bits, and float counts exactly up to here */
    ROWS_A_TASK = 16,         /* rows that one task takes against the same weights while they lie in a near cache */
    SMALL_WORK = 1 << 17,     /* products below this are not worth a second thread */
};

struct ib_wgemv {
    const ib_wgemv_variant *variant;
    size_t planes, outputs, channels, block;
    size_t blocks, strips;
    size_t block_words; /* of a block that is not the last */
    size_t all_words;   /* of all blocks of one plane */
    uint32_t *words;    /* [strip][block][plane][word][16] */
    float *scale;       /* [strip][block][plane][16] */
};

#define IB_WGEMV(isa) extern const ib_wgemv_variant ib_wgemv_##isa;
#include "../variants.def"

static const ib_wgemv_variant *const VARIANTS[IB_ISA_COUNT] = {
#define IB_WGEMV(isa) [IB_ISA_##isa] = &ib_wgemv_##isa,
#include "../variants.def"
};

static size_t block_channels(const ib_wgemv *w, size_t block) { return ib_min(w->block, w->channels - block * w->block); }

static size_t block_length(const ib_wgemv *w, size_t block) { return ib_ceil_div(block_channels(w, block), WORD); }

static const uint32_t *block_of(const ib_wgemv *w, size_t strip, size_t block, size_t plane) {
    const size_t before = block * w->block_words * w->planes + plane * block_length(w, block);
    return w->words + (strip * w->planes * w->all_words + before) * STRIP;
}

/* ------------------------------------------------------------------------------------------------ weights */

static void pack_output(ib_wgemv *w, const uint8_t *bits, const float *scale, size_t plane, size_t output) {
    const size_t strip = output / STRIP, lane = output % STRIP;
    const uint8_t *row = bits + (plane * w->outputs + output) * ib_bytes_of(w->channels);
    for (size_t g = 0; g < w->blocks; g++) {
        uint32_t *to = (uint32_t *)block_of(w, strip, g, plane) + lane;
        const size_t first = g * w->block, count = block_channels(w, g);
        const size_t cell = ((strip * w->blocks + g) * w->planes + plane) * STRIP + lane;
        for (size_t k = 0; k < count; k += WORD, to += STRIP)
            *to = (uint32_t)ib_take(row, first + k, ib_min(WORD, count - k));
        w->scale[cell] = scale[(plane * w->outputs + output) * w->blocks + g];
    }
}

static int allocate(ib_wgemv *w) {
    size_t words, cells;
    if (!IB_PRODUCT(&words, w->strips, w->planes, w->all_words, STRIP, sizeof(uint32_t)) ||
        !IB_PRODUCT(&cells, w->strips, w->planes, w->blocks, STRIP, sizeof(float)))
        return IB_TOO_LARGE;
    w->words = ib_allocate(words);
    w->scale = ib_allocate(cells);
    if (!w->words || !w->scale) return IB_NO_MEMORY;
    memset(w->words, 0, words); /* outputs that fill up the last strip are zero */
    memset(w->scale, 0, cells);
    return IB_OK;
}

static int check_weights(int64_t planes, int64_t outputs, int64_t channels, int64_t block, int64_t bits_bytes,
                         int64_t scale_count) {
    if (!ib_is_size(planes) || !ib_is_size(outputs) || !ib_is_size(channels) || !ib_is_size(block)) return IB_BAD_SIZE;
    if (channels > MOST_CHANNELS) return IB_TOO_LARGE;
    size_t bytes, scales;
    if (!IB_PRODUCT(&bytes, (size_t)planes, (size_t)outputs, ib_bytes_of((size_t)channels)) ||
        !IB_PRODUCT(&scales, (size_t)planes, (size_t)outputs, ib_ceil_div((size_t)channels, (size_t)block)))
        return IB_TOO_LARGE;
    return (int64_t)bytes == bits_bytes && (int64_t)scales == scale_count ? IB_OK : IB_BAD_LENGTH;
}

int ib_wgemv_prepare(int isa, int64_t planes, int64_t outputs, int64_t channels, int64_t block, const uint8_t *bits,
                     int64_t bits_bytes, const float *scale, int64_t scale_count, ib_wgemv **handle) {
    if (!bits || !scale || !handle) return IB_NULL;
    *handle = NULL;
    int status = check_weights(planes, outputs, channels, block, bits_bytes, scale_count);
    if (status == IB_OK) status = ib_isa_resolve(isa, &isa);
    if (status == IB_OK && !VARIANTS[isa]) status = IB_MISSING_ISA;
    if (status != IB_OK) return status;
    ib_wgemv *w = calloc(1, sizeof *w);
    if (!w) return IB_NO_MEMORY;
    w->variant = VARIANTS[isa];
    w->planes = (size_t)planes;
    w->outputs = (size_t)outputs;
    w->channels = (size_t)channels;
    w->block = ib_min((size_t)block, w->channels);
    w->blocks = ib_ceil_div(w->channels, w->block);
    w->strips = ib_ceil_div(w->outputs, STRIP);
    w->block_words = ib_ceil_div(w->block, WORD);
    w->all_words = (w->blocks - 1) * w->block_words + block_length(w, w->blocks - 1);
    status = allocate(w);
    if (status != IB_OK) {
        ib_wgemv_free(w);
        return status;
    }
    for (size_t p = 0; p < w->planes; p++)
        for (size_t n = 0; n < w->outputs; n++) pack_output(w, bits, scale, p, n);
    *handle = w;
    return IB_OK;
}

void ib_wgemv_free(ib_wgemv *w) {
    if (!w) return;
    free(w->words);
    free(w->scale);
    free(w);
}

/* ------------------------------------------------------------------------------------------------ one call */

typedef struct call {
    const ib_wgemv *weights;
    const float *x;
    float *y;
    size_t rows, tiles;
    float *totals;         /* float: [row][block] */
    int32_t *level_totals; /* int8: the same */
    uint32_t *slices;      /* int8: [row][word][8] */
    float *steps;          /* int8: [row], r / 127 */
} call;

static void total_row(const call *c, size_t row) {
    const ib_wgemv *w = c->weights;
    const float *x = c->x + row * w->channels;
    for (size_t g = 0; g < w->blocks; g++) {
        float total = 0;
        for (size_t k = 0; k < block_channels(w, g); k++) total += x[g * w->block + k];
        c->totals[row * w->blocks + g] = total;
    }
}

static void slice_row(const call *c, size_t row) {
    const ib_wgemv *w = c->weights;
    const float *x = c->x + row * w->channels;
    uint32_t *to = c->slices + row * w->all_words * LEVEL_BITS;
    const float largest = w->variant->largest(x, w->channels);
    const float factor = largest == 0 ? 0 : 127.0f / largest;
    for (size_t g = 0; g < w->blocks; g++) {
        const size_t first = g * w->block, count = block_channels(w, g);
        int32_t total = 0;
        for (size_t k = 0; k < count; k += WORD, to += LEVEL_BITS) {
            float rest[WORD] = {0};
            const float *from = x + first + k;
            if (count - k < WORD) from = memcpy(rest, from, (count - k) * sizeof *rest);
            total += w->variant->slice(from, factor, to);
        }
        c->level_totals[row * w->blocks + g] = total;
    }
    c->steps[row] = largest / 127.0f;
}

/* Of a tile of outputs and up to TILE_ROWS rows: add scale * inner of one block and plane to y. */
static void add_float(const call *c, size_t strip, size_t strips, size_t row, size_t rows, size_t g, size_t p, float *y) {
    const ib_wgemv *w = c->weights;
    float negative[TILE_ROWS * TILE];
    w->variant->masked(block_of(w, strip, g, p), w->planes * w->all_words * STRIP, strips,
                       c->x + row * w->channels + g * w->block, w->channels, rows, block_channels(w, g), negative);
    for (size_t r = 0; r < rows; r++) {
        const float total = c->totals[(row + r) * w->blocks + g];
        for (size_t s = 0; s < strips; s++) {
            const float *scale = w->scale + (((strip + s) * w->blocks + g) * w->planes + p) * STRIP;
            const float *from = negative + r * TILE + s * STRIP;
            float *to = y + r * TILE + s * STRIP;
            for (size_t n = 0; n < STRIP; n++) to[n] += scale[n] * (total - 2 * from[n]);
        }
    }
}

static void add_int8(const call *c, size_t strip, size_t strips, size_t row, size_t rows, size_t g, size_t p, float *y) {
    const ib_wgemv *w = c->weights;
    const size_t row_slices = w->all_words * LEVEL_BITS;
    int32_t negative[TILE_ROWS * TILE];
    w->variant->counted(block_of(w, strip, g, p), w->planes * w->all_words * STRIP, strips,
                        c->slices + row * row_slices + g * w->block_words * LEVEL_BITS, row_slices, rows,
                        block_length(w, g), negative);
    for (size_t r = 0; r < rows; r++) {
        const int32_t total = c->level_totals[(row + r) * w->blocks + g];
        for (size_t s = 0; s < strips; s++) {
            const float *scale = w->scale + (((strip + s) * w->blocks + g) * w->planes + p) * STRIP;
            const int32_t *from = negative + r * TILE + s * STRIP;
            float *to = y + r * TILE + s * STRIP;
            for (size_t n = 0; n < STRIP; n++) to[n] += scale[n] * (float)(total - 2 * from[n]);
        }
    }
}

static void store(const call *c, size_t strip, size_t strips, size_t row, size_t rows, const float *y) {
    const ib_wgemv *w = c->weights;
    const size_t first = strip * STRIP, count = ib_min(strips * STRIP, w->outputs - first);
    for (size_t r = 0; r < rows; r++) {
        float *to = c->y + (row + r) * w->outputs + first;
        for (size_t n = 0; n < count; n++) to[n] = c->steps ? y[r * TILE + n] * c->steps[row + r] : y[r * TILE + n];
    }
}

static void run_tile(void *work, size_t index) {
    const call *c = work;
    const ib_wgemv *w = c->weights;
    const size_t strip = index % c->tiles * TILE_STRIPS, strips = ib_min(TILE_STRIPS, w->strips - strip);
    const size_t first = index / c->tiles * ROWS_A_TASK, last = ib_min(c->rows, first + ROWS_A_TASK);
    for (size_t row = first; row < last; row += TILE_ROWS) {
        const size_t rows = ib_min(TILE_ROWS, last - row);
        float y[TILE_ROWS * TILE] = {0};
        for (size_t g = 0; g < w->blocks; g++)
            for (size_t p = 0; p < w->planes; p++) (c->steps ? add_int8 : add_float)(c, strip, strips, row, rows, g, p, y);
        store(c, strip, strips, row, rows, y);
    }
}

static void prepare_row(void *work, size_t row) {
    const call *c = work;
    (c->steps ? slice_row : total_row)(c, row);
}

static int scratch(call *c, int activation) {
    const ib_wgemv *w = c->weights;
    size_t totals, slices;
    if (!IB_PRODUCT(&totals, c->rows, w->blocks, sizeof(float)) ||
        !IB_PRODUCT(&slices, c->rows, w->all_words, LEVEL_BITS, sizeof(uint32_t)))
        return IB_TOO_LARGE;
    if (activation == IB_ACTIVATION_FLOAT) {
        c->totals = ib_allocate(totals);
        return c->totals ? IB_OK : IB_NO_MEMORY;
    }
    c->level_totals = ib_allocate(totals);
    c->slices = ib_allocate(slices);
    c->steps = ib_allocate(c->rows * sizeof(float));
    return c->level_totals && c->slices && c->steps ? IB_OK : IB_NO_MEMORY;
}

int ib_wgemv_run(const ib_wgemv *w, int activation, int64_t rows, const float *x, int64_t x_count, float *y,
                 int64_t y_count, const ib_threads *threads) {
    if (!w || (rows && (!x || !y))) return IB_NULL;
    if (activation != IB_ACTIVATION_FLOAT && activation != IB_ACTIVATION_INT8) return IB_BAD_VALUE;
    if (rows < 0 || rows > IB_LARGEST) return IB_BAD_SIZE;
    size_t in, out;
    if (!IB_PRODUCT(&in, (size_t)rows, w->channels) || !IB_PRODUCT(&out, (size_t)rows, w->outputs)) return IB_TOO_LARGE;
    if ((int64_t)in != x_count || (int64_t)out != y_count) return IB_BAD_LENGTH;
    if (!rows) return IB_OK;
    call c = {.weights = w, .x = x, .y = y, .rows = (size_t)rows, .tiles = ib_ceil_div(w->strips, TILE_STRIPS)};
    const int status = scratch(&c, activation);
    if (status == IB_OK) {
        const double work = (double)in * (double)w->outputs * (double)w->planes;
        if (work < SMALL_WORK) threads = NULL;
        ib_parallel(threads, prepare_row, &c, c.rows);
        ib_parallel(threads, run_tile, &c, c.tiles * ib_ceil_div(c.rows, ROWS_A_TASK));
    }
    free(c.totals);
    free(c.level_totals);
    free(c.slices);
    free(c.steps);
    return status;
}
