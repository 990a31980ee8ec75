/* Every operation at odd sizes, on every instruction set of the processor, against loops over single bits.

   Buffers are exactly as large as they must be, so that a sanitizer sees every byte read or written past an end. Prints
   what it compared and returns 0, or the first difference and 1. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/bconv/bconv.h"
#include "../../kernels/bgemm/bgemm.h"
#include "../../kernels/bitpack/bitpack.h"
#include "../../kernels/bmaxpool/bmaxpool.h"
#include "../../kernels/wgemv/wgemv.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint64_t state = 88172645463325252u;
static size_t compared;
static int isa;

static uint64_t random64(void) { /* xorshift: G. Marsaglia, "Xorshift RNGs", 2003 */
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static int64_t below(int64_t limit) { return (int64_t)(random64() % (uint64_t)limit); }

static void *room(int64_t bytes) {
    void *memory = malloc(bytes ? (size_t)bytes : 1);
    if (!memory) exit(2);
    return memory;
}

static void expect(bool holds, const char *what) {
    compared++;
    if (holds) return;
    printf("%s: %s differs\n", ib_isa_name(isa), what);
    exit(1);
}

static void must(int status) {
    if (!status) return;
    printf("%s: %s\n", ib_isa_name(isa), ib_message(status));
    exit(1);
}

/* Threads of a program around the library: each task on a thread of its own, the last first. */
static void run_each(void *context, ib_task task, void *work, size_t tasks);

static ib_threads many(size_t count) { return (ib_threads){.count = count, .run = run_each}; }

static int64_t bytes_of(int64_t bits) { return (bits + 7) / 8; }

static int bit(const uint8_t *row, int64_t i) { return row[i / 8] >> i % 8 & 1; }

/* Random rows of bits, the rest of each last byte 0. */
static uint8_t *rows_of_bits(int64_t rows, int64_t length) {
    const int64_t bytes = bytes_of(length);
    uint8_t *bits = room(rows * bytes);
    for (int64_t i = 0; i < rows * bytes; i++) bits[i] = (uint8_t)random64();
    for (int64_t r = 0; length % 8 && r < rows; r++) bits[(r + 1) * bytes - 1] &= (uint8_t)((1 << length % 8) - 1);
    return bits;
}

/* Twice a weight: -2, 0 or 2. */
static int twice(const uint8_t *weights, int64_t planes, int64_t outputs, int64_t length, int64_t o, int64_t k) {
    const int64_t bytes = bytes_of(length);
    const int one = 1 - 2 * bit(weights + o * bytes, k);
    return planes == 1 ? 2 * one : one + 1 - 2 * bit(weights + (outputs + o) * bytes, k);
}

typedef struct expected {
    int64_t rows, outputs; /* dot [rows][outputs] */
    int32_t *dot;
    float *scale, *bias;
    int32_t *threshold;
} expected;

static expected expect_rows(int64_t rows, int64_t outputs) {
    expected e = {rows, outputs, room(rows * outputs * 4), room(outputs * 4), room(outputs * 4), room(outputs * 4)};
    for (int64_t o = 0; o < outputs; o++) {
        e.scale[o] = (float)(below(2001) - 1000) / 64;
        e.bias[o] = (float)(below(2001) - 1000) / 3;
        e.threshold[o] = (int32_t)below(9) - 4;
    }
    return e;
}

static void forget(expected *e) {
    free(e->dot);
    free(e->scale);
    free(e->bias);
    free(e->threshold);
}

/* Compare one kind of result; the rows of an image of `area` pixels are transposed unless they are bits. */
static void compare(const expected *e, int kind, const void *data, int64_t area) {
    for (int64_t r = 0; r < e->rows; r++)
        for (int64_t o = 0; o < e->outputs; o++) {
            const int32_t dot = e->dot[r * e->outputs + o];
            const int64_t at = area ? (r / area * e->outputs + o) * area + r % area : r * e->outputs + o;
            if (kind == IB_INT32) expect(((const int32_t *)data)[at] == dot, "an integer");
            if (kind == IB_BITS)
                expect(bit((const uint8_t *)data + r * bytes_of(e->outputs), o) == (dot < e->threshold[o]), "a bit");
            if (kind == IB_FLOAT) {
                const float product = (float)dot * e->scale[o], sum = product + e->bias[o];
                expect(!memcmp((const float *)data + at, &sum, sizeof sum), "a number");
            }
        }
}

static ib_output output_for(const expected *e, int kind) {
    const int64_t bytes = kind == IB_BITS ? e->rows * bytes_of(e->outputs) : e->rows * e->outputs * 4;
    return (ib_output){kind, room(bytes), bytes, e->scale, e->bias, e->threshold};
}

static void check_product(int64_t planes, int64_t rows, int64_t length, int64_t outputs) {
    uint8_t *weights = rows_of_bits(planes * outputs, length), *bits = rows_of_bits(rows, length);
    expected e = expect_rows(rows, outputs);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outputs; o++) {
            int32_t sum = 0;
            for (int64_t k = 0; k < length; k++)
                sum += (1 - 2 * bit(bits + r * bytes_of(length), k)) * twice(weights, planes, outputs, length, o, k);
            e.dot[r * outputs + o] = sum / 2;
        }
    ib_bgemm *handle;
    must(ib_bgemm_prepare(isa, planes, outputs, length, weights, planes * outputs * bytes_of(length), &handle));
    for (int kind = IB_FLOAT; kind <= IB_BITS; kind++) {
        const ib_threads threads = many((size_t)kind + 1);
        ib_output out = output_for(&e, kind);
        must(ib_bgemm_run(handle, rows, bits, rows * bytes_of(length), &out, &threads));
        compare(&e, kind, out.data, 0);
        free(out.data);
    }
    ib_bgemm_free(handle);
    forget(&e);
    free(bits);
    free(weights);
}

/* The sum over one window, by its definition. */
static int32_t window_sum(const ib_bconv_shape *s, const uint8_t *image, int64_t height, int64_t width,
                          const uint8_t *weights, int64_t top, int64_t left, int64_t o) {
    const int64_t depth = s->channels / s->groups, first = o / (s->outputs / s->groups) * depth;
    int32_t sum = 0;
    for (int64_t i = 0; i < s->kernel[0]; i++)
        for (int64_t j = 0; j < s->kernel[1]; j++)
            for (int64_t c = 0; c < depth; c++) {
                const int64_t y = top + i * s->dilations[0], x = left + j * s->dilations[1];
                const bool inside = y >= 0 && x >= 0 && y < height && x < width;
                const uint8_t *pixel = image + (y * width + x) * bytes_of(s->channels);
                const int value = inside ? 1 - 2 * bit(pixel, first + c) : (int)s->pad_value;
                const int64_t k = (i * s->kernel[1] + j) * depth + c;
                sum += value * twice(weights, s->planes, s->outputs, s->kernel[0] * s->kernel[1] * depth, o, k);
            }
    return sum / 2;
}

static void check_convolution(const ib_bconv_shape *s, int64_t batch, int64_t height, int64_t width) {
    const int64_t length = s->kernel[0] * s->kernel[1] * (s->channels / s->groups);
    const int64_t image_bytes = height * width * bytes_of(s->channels);
    int64_t out_height, out_width;
    if (ib_bconv_size(s, height, width, &out_height, &out_width)) return;
    uint8_t *weights = rows_of_bits(s->planes * s->outputs, length);
    uint8_t *bits = rows_of_bits(batch * height * width, s->channels);
    expected e = expect_rows(batch * out_height * out_width, s->outputs);
    for (int64_t r = 0; r < e.rows; r++)
        for (int64_t o = 0; o < s->outputs; o++) {
            const int64_t y = r / out_width % out_height, x = r % out_width;
            e.dot[r * s->outputs + o] = window_sum(s, bits + r / out_width / out_height * image_bytes, height, width, weights,
                                                   y * s->strides[0] - s->pads[0], x * s->strides[1] - s->pads[1], o);
        }
    ib_bconv *handle;
    must(ib_bconv_prepare(isa, s, weights, s->planes * s->outputs * bytes_of(length), &handle));
    for (int kind = IB_FLOAT; kind <= IB_BITS; kind++) {
        const ib_threads threads = many((size_t)kind + 1);
        ib_output out = output_for(&e, kind);
        must(ib_bconv_run(handle, batch, height, width, bits, batch * image_bytes, &out, &threads));
        compare(&e, kind, out.data, out_height * out_width);
        free(out.data);
    }
    ib_bconv_free(handle);
    forget(&e);
    free(bits);
    free(weights);
}

static void check_packing(int dtype, int64_t images, int64_t channels, int64_t pixels, bool one_threshold) {
    const int64_t numbers = images * channels * pixels, bytes = numbers * (dtype == IB_FLOAT32 ? 4 : 1);
    void *x = room(bytes);
    float *threshold = room(one_threshold ? 4 : channels * 4);
    for (int64_t i = 0; i < numbers; i++) {
        const int8_t value = (int8_t)(below(7) - 3);
        if (dtype == IB_FLOAT32)
            ((float *)x)[i] = value;
        else
            ((int8_t *)x)[i] = value;
    }
    for (int64_t c = 0; c < (one_threshold ? 1 : channels); c++) threshold[c] = (float)(below(7) - 3);
    const ib_numbers given = {dtype, x, bytes, threshold, one_threshold ? 1 : channels};
    const int64_t packed = images * pixels * bytes_of(channels);
    uint8_t *planes = room(packed), *rows = room(packed);
    const ib_threads threads = many(2);
    must(ib_bitpack_planes(isa, images, channels, pixels, &given, planes, packed, &threads));
    must(ib_bitpack_rows(isa, images * pixels, channels, &given, rows, packed, &threads));
    for (int64_t r = 0; r < images * pixels; r++)
        for (int64_t c = 0; c < bytes_of(channels) * 8; c++) {
            const int64_t plane = (r / pixels * channels + c) * pixels + r % pixels, row = r * channels + c;
            for (int last = 0; last < 2; last++) {
                int wanted = 0;
                if (c < channels) {
                    const int64_t at = last ? row : plane;
                    const float value = dtype == IB_FLOAT32 ? ((float *)x)[at] : ((int8_t *)x)[at];
                    wanted = value < threshold[one_threshold ? 0 : c];
                }
                expect(bit((last ? rows : planes) + r * bytes_of(channels), c) == wanted, "a packed bit");
            }
        }
    free(x);
    free(threshold);
    free(planes);
    free(rows);
}

static void check_pooling(const ib_bmaxpool_shape *s, int64_t height, int64_t width) {
    int64_t out_height, out_width;
    if (ib_bmaxpool_size(s, height, width, &out_height, &out_width)) return;
    const int64_t bytes = bytes_of(s->channels), made = 2 * out_height * out_width * bytes;
    uint8_t *bits = rows_of_bits(2 * height * width, s->channels), *out = room(made);
    const ib_threads threads = many(2);
    must(ib_bmaxpool_run(s, 2, height, width, bits, 2 * height * width * bytes, out, made, &threads));
    for (int64_t r = 0; r < 2 * out_height * out_width; r++)
        for (int64_t c = 0; c < s->channels; c++) {
            const int64_t top = r / out_width % out_height * s->strides[0] - s->pads[0];
            const int64_t left = r % out_width * s->strides[1] - s->pads[1];
            int all = 1;
            for (int64_t y = top; y < top + s->kernel[0]; y++)
                for (int64_t x = left; x < left + s->kernel[1]; x++)
                    if (y >= 0 && x >= 0 && y < height && x < width)
                        all &= bit(bits + ((r / out_width / out_height * height + y) * width + x) * bytes, c);
            expect(bit(out + r * bytes, c) == all, "a pooled bit");
        }
    free(bits);
    free(out);
}

/* Rounded to the nearest level, halves to the even one. */
static int32_t level(float x, float largest) {
    const float stretched = x * (127.0f / largest), away = stretched < 0 ? -stretched : stretched;
    const int32_t whole = (int32_t)away;
    const float rest = away - (float)whole;
    const int32_t size = whole + (rest > 0.5f || (rest == 0.5f && whole % 2));
    return stretched < 0 ? -size : size;
}

typedef struct one_bit {
    int64_t planes, outputs, channels, block, blocks;
    uint8_t *bits;
    float *scale;
} one_bit;

/* One number of the result, by its definition. */
static float real_product(const one_bit *w, const float *x, int64_t n, int activation) {
    float largest = 0, y = 0;
    for (int64_t k = 0; k < w->channels; k++) largest = x[k] > largest ? x[k] : -x[k] > largest ? -x[k] : largest;
    for (int64_t g = 0; g < w->blocks; g++)
        for (int64_t p = 0; p < w->planes; p++) {
            const uint8_t *row = w->bits + (p * w->outputs + n) * bytes_of(w->channels);
            float total = 0, negative = 0;
            int32_t sum = 0;
            for (int64_t k = g * w->block; k < w->channels && k < (g + 1) * w->block; k++) {
                total += x[k];
                if (bit(row, k)) negative += x[k];
                if (largest > 0) sum += (1 - 2 * bit(row, k)) * level(x[k], largest);
            }
            const float inner = activation == IB_ACTIVATION_INT8 ? (float)sum : total - 2 * negative;
            const float product = w->scale[(p * w->outputs + n) * w->blocks + g] * inner;
            y += product;
        }
    return activation == IB_ACTIVATION_INT8 ? y * (largest / 127.0f) : y;
}

static void check_real_product(int64_t planes, int64_t rows, int64_t outputs, int64_t channels, int64_t block) {
    one_bit w = {planes, outputs, channels, block, (channels + block - 1) / block, NULL, NULL};
    const int64_t scales = planes * outputs * w.blocks, weights_bytes = planes * outputs * bytes_of(channels);
    w.bits = rows_of_bits(planes * outputs, channels);
    w.scale = room(scales * 4);
    float *x = room(rows * channels * 4), *y = room(rows * outputs * 4);
    for (int64_t i = 0; i < scales; i++) w.scale[i] = (float)(below(2001) - 1000) / 64;
    for (int64_t i = 0; i < rows * channels; i++) x[i] = below(9) ? (float)(below(2001) - 1000) / 3 : -0.0f;
    ib_wgemv *handle;
    must(ib_wgemv_prepare(isa, planes, outputs, channels, block, w.bits, weights_bytes, w.scale, scales, &handle));
    for (int activation = IB_ACTIVATION_FLOAT; activation <= IB_ACTIVATION_INT8; activation++) {
        const ib_threads threads = {.count = (size_t)activation + 1};
        must(ib_wgemv_run(handle, activation, rows, x, rows * channels, y, rows * outputs, &threads));
        for (int64_t i = 0; i < rows * outputs; i++) {
            const float wanted = real_product(&w, x + i / outputs * channels, i % outputs, activation);
            expect(!memcmp(y + i, &wanted, sizeof wanted), "a product with real numbers");
        }
    }
    ib_wgemv_free(handle);
    free(w.bits);
    free(w.scale);
    free(x);
    free(y);
}

typedef struct one_task {
    ib_task task;
    void *work;
    size_t index;
} one_task;

static void *run_one(void *argument) {
    const one_task *one = argument;
    one->task(one->work, one->index);
    return NULL;
}

static void run_each(void *context, ib_task task, void *work, size_t tasks) {
    (void)context;
    one_task *ones = room((int64_t)(tasks * sizeof *ones));
    pthread_t *threads = room((int64_t)(tasks * sizeof *threads));
    for (size_t i = tasks; i-- > 0;) {
        ones[i] = (one_task){task, work, i};
        if (pthread_create(&threads[i], NULL, run_one, &ones[i])) exit(2);
    }
    for (size_t i = 0; i < tasks; i++) pthread_join(threads[i], NULL);
    free(ones);
    free(threads);
}

static const int64_t WIDTHS[] = {1, 7, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129}, OUTPUTS[] = {1, 7, 15, 16, 17, 33};

static void check_random_convolution(void) {
    const int64_t groups = below(3) ? 1 : 1 + below(3);
    const ib_bconv_shape shape = {
        .planes = 1 + below(2),
        .channels = WIDTHS[below(COUNT(WIDTHS))] * groups,
        .outputs = OUTPUTS[below(COUNT(OUTPUTS))] * groups,
        .groups = groups,
        .kernel = {1 + below(4), 1 + below(4)},
        .strides = {1 + below(3), 1 + below(3)},
        .dilations = {1 + below(2), 1 + below(2)},
        .pads = {below(5), below(5), below(5), below(5)},
        .pad_value = below(3) - 1,
    };
    check_convolution(&shape, 1 + below(2), 1 + below(7), 1 + below(7));
}

static void check_all(int convolutions) {
    for (size_t i = 0; i < COUNT(WIDTHS); i++) {
        check_product(1 + below(2), 1 + below(20), WIDTHS[i], OUTPUTS[i % COUNT(OUTPUTS)]);
        check_product(1 + below(2), 1 + below(20), WIDTHS[i] + 2000, OUTPUTS[(i + 3) % COUNT(OUTPUTS)]);
        check_real_product(1 + below(3), 1 + below(4), OUTPUTS[i % COUNT(OUTPUTS)] + 128 * (int64_t)(i % 2), WIDTHS[i],
                           1 + below(140));
        check_packing(i % 2 ? IB_INT8 : IB_FLOAT32, 2, WIDTHS[i], 1 + below(140), i % 3 == 0);
        check_packing(i % 2 ? IB_FLOAT32 : IB_INT8, 1, WIDTHS[i], WIDTHS[COUNT(WIDTHS) - 1 - i], i % 3 == 1);
        const ib_bmaxpool_shape pool = {
            WIDTHS[i], {1 + below(3), 1 + below(3)}, {1 + below(3), 1 + below(3)}, {below(2), below(2), below(2), below(2)}};
        check_pooling(&pool, 1 + below(6), 1 + below(6));
    }
    while (convolutions--) check_random_convolution();
}

int main(void) {
    for (isa = 0; isa < IB_ISA_COUNT; isa++) {
        if (!ib_isa_present(isa)) continue;
        compared = 0;
        check_all(60);
        printf("%s: %zu values agree\n", ib_isa_name(isa), compared);
    }
    return 0;
}
