#include "bitpack.h"

#include "../bits.h"
#include "../sizes.h"

enum { STRIPS_PER_TASK = 4, NUMBERS_PER_TASK = 16384, NUMBERS_WORTH_THREADS = 1 << 20 };

typedef struct packing {
    const ib_bitpack *variant;
    int dtype;
    const uint8_t *x;
    const float *threshold; /* [channels] */
    size_t channels, pixels, rows, chunk, chunks;
    uint8_t *bits;
} packing;

static size_t size_of(int dtype) { return dtype == IB_FLOAT32 ? sizeof(float) : 1; }

static int check(const ib_numbers *x, size_t numbers, size_t channels, size_t bits_bytes, const uint8_t *bits,
                 int64_t given) {
    size_t bytes;
    if (!x || !x->threshold) return IB_NULL;
    if (x->dtype != IB_FLOAT32 && x->dtype != IB_INT8) return IB_BAD_VALUE;
    if (!IB_PRODUCT(&bytes, numbers, size_of(x->dtype))) return IB_TOO_LARGE;
    if (x->bytes < 0 || (size_t)x->bytes != bytes || given < 0 || (size_t)given != bits_bytes) return IB_BAD_LENGTH;
    if (x->thresholds != 1 && (x->thresholds < 1 || (size_t)x->thresholds != channels)) return IB_BAD_LENGTH;
    return numbers && (!x->data || !bits) ? IB_NULL : IB_OK;
}

/* A threshold for each channel: those given, or `own`, filled with the one that is given. Null where memory lacks. */
static const float *thresholds_of(const ib_numbers *x, size_t channels, float **own) {
    *own = NULL;
    if ((size_t)x->thresholds == channels) return x->threshold;
    if (!(*own = ib_allocate(channels * sizeof(float)))) return NULL;
    for (size_t c = 0; c < channels; c++) (*own)[c] = *x->threshold;
    return *own;
}

static void rows_task(void *work, size_t index) {
    const packing *p = work;
    const size_t bytes = ib_bytes_of(p->channels), end = ib_min((index + 1) * p->chunk, p->rows);
    for (size_t r = index * p->chunk; r < end; r++) {
        const uint8_t *x = p->x + r * p->channels * size_of(p->dtype);
        if (p->dtype == IB_FLOAT32)
            p->variant->floats((const float *)(const void *)x, p->threshold, p->channels, p->bits + r * bytes);
        else
            p->variant->int8s((const int8_t *)x, p->threshold, p->channels, p->bits + r * bytes);
    }
}

/* Words of up to 64 channels to the bytes of their pixels. */
static void spread(const uint64_t *words, size_t pixels, size_t bytes, uint8_t *to, size_t stride) {
    if (bytes == sizeof(uint64_t))
        for (size_t p = 0; p < pixels; p++) ib_store(to + p * stride, words[p]);
    else
        for (size_t p = 0; p < pixels; p++)
            for (size_t i = 0; i < bytes; i++) to[p * stride + i] = (uint8_t)(words[p] >> 8 * i);
}

static void strip(const packing *p, size_t image, size_t first, size_t pixels) {
    const size_t stride = ib_bytes_of(p->channels);
    uint8_t *to = p->bits + (image * p->pixels + first) * stride;
    for (size_t c = 0; c < p->channels; c += IB_STRIP) {
        uint64_t words[IB_STRIP];
        const size_t channels = ib_min(IB_STRIP, p->channels - c);
        const uint8_t *x = p->x + ((image * p->channels + c) * p->pixels + first) * size_of(p->dtype);
        if (p->dtype == IB_FLOAT32)
            p->variant->float_planes((const float *)(const void *)x, p->pixels, p->threshold + c, channels, pixels, words);
        else
            p->variant->int8_planes((const int8_t *)x, p->pixels, p->threshold + c, channels, pixels, words);
        spread(words, pixels, ib_bytes_of(channels), to + c / 8, stride);
    }
}

static void planes_task(void *work, size_t index) {
    const packing *p = work;
    const size_t begin = index % p->chunks * p->chunk, end = ib_min(begin + p->chunk, p->pixels);
    for (size_t first = begin; first < end; first += IB_STRIP)
        strip(p, index / p->chunks, first, ib_min(IB_STRIP, end - first));
}

int ib_bitpack_rows(int isa, int64_t rows, int64_t channels, const ib_numbers *x, uint8_t *bits, int64_t bits_bytes,
                    const ib_threads *threads) {
    if (rows < 0 || rows > IB_LARGEST || !ib_is_size(channels)) return IB_BAD_SIZE;
    size_t numbers, bytes;
    const size_t count = (size_t)rows, of_row = (size_t)channels;
    if (!IB_PRODUCT(&numbers, count, of_row) || !IB_PRODUCT(&bytes, count, ib_bytes_of(of_row))) return IB_TOO_LARGE;
    int status = check(x, numbers, of_row, bytes, bits, bits_bytes);
    if (!status) status = ib_isa_resolve(isa, &isa);
    if (status || !numbers) return status;
    float *own;
    packing p = {
        .variant = ib_bitpack_select(isa),
        .dtype = x->dtype,
        .x = x->data,
        .threshold = thresholds_of(x, of_row, &own),
        .channels = of_row,
        .rows = count,
        .chunk = NUMBERS_PER_TASK / of_row + 1,
        .bits = bits,
    };
    if (!p.threshold) return IB_NO_MEMORY;
    ib_parallel(ib_threads_worth(threads, numbers, NUMBERS_WORTH_THREADS), rows_task, &p, ib_ceil_div(count, p.chunk));
    free(own);
    return IB_OK;
}

int ib_bitpack_planes(int isa, int64_t images, int64_t channels, int64_t pixels, const ib_numbers *x, uint8_t *bits,
                      int64_t bits_bytes, const ib_threads *threads) {
    if (images < 0 || images > IB_LARGEST || pixels < 0 || !ib_is_size(channels)) return IB_BAD_SIZE;
    size_t numbers, bytes;
    const size_t count = (size_t)images, area = (size_t)pixels, depth = (size_t)channels;
    if (!IB_PRODUCT(&numbers, count, area, depth) || !IB_PRODUCT(&bytes, count, area, ib_bytes_of(depth)))
        return IB_TOO_LARGE;
    int status = check(x, numbers, depth, bytes, bits, bits_bytes);
    if (!status) status = ib_isa_resolve(isa, &isa);
    if (status || !numbers) return status;
    float *own;
    packing p = {
        .variant = ib_bitpack_select(isa),
        .dtype = x->dtype,
        .x = x->data,
        .threshold = thresholds_of(x, depth, &own),
        .channels = depth,
        .pixels = area,
        .chunk = IB_STRIP * STRIPS_PER_TASK,
        .chunks = ib_ceil_div(area, IB_STRIP * STRIPS_PER_TASK),
        .bits = bits,
    };
    if (!p.threshold) return IB_NO_MEMORY;
    ib_parallel(ib_threads_worth(threads, numbers, NUMBERS_WORTH_THREADS), planes_task, &p, count * p.chunks);
    free(own);
    return IB_OK;
}
