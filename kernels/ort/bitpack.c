/* BitPack: numbers to bits along the axis that a permutation moves last. */
#include "../bitpack/bitpack.h"

#include <string.h>

#include "../bits.h"
#include "../sizes.h"
#include "operators.h"

typedef struct packer {
    kernel base;
    size_t rank;
    int64_t perm[MOST_DIMENSIONS];
} packer;

static ort_status *make(kernel *k, const ort_info *info) {
    packer *p = (packer *)k;
    CHECK(ib_node_list(k, info, "perm", MOST_DIMENSIONS, p->perm, &p->rank));
    if (p->rank == 0) return ib_node_error(k, "attribute perm is empty");
    unsigned seen = 0;
    for (size_t i = 0; i < p->rank; i++)
        if (p->perm[i] >= 0 && p->perm[i] < (int64_t)p->rank) seen |= 1u << p->perm[i];
    if (seen != (1u << p->rank) - 1) return ib_node_error(k, "attribute perm is not a permutation");
    return NULL;
}

/* True where the permutation takes one axis to the end and leaves the order of the others alone. */
static bool moves_one_axis(const packer *p) {
    for (size_t i = 0, axis = 0; i + 1 < p->rank; i++, axis++) {
        if ((int64_t)axis == p->perm[p->rank - 1]) axis++;
        if (p->perm[i] != (int64_t)axis) return false;
    }
    return true;
}

/* Any other permutation: element by element into rows. */
static void permute(const packer *p, const tensor *x, size_t element, char *rows) {
    size_t stride[MOST_DIMENSIONS], index[MOST_DIMENSIONS] = {0};
    for (size_t i = p->rank, each = element; i-- > 0; each *= (size_t)x->shape[i]) stride[i] = each;
    for (size_t done = 0; done < x->count; done++, rows += element) {
        size_t from = 0;
        for (size_t i = 0; i < p->rank; i++) from += index[i] * stride[p->perm[i]];
        memcpy(rows, (const char *)x->data + from, element);
        for (size_t i = p->rank; i-- > 0 && ++index[i] == (size_t)x->shape[p->perm[i]];) index[i] = 0;
    }
}

static int pack(const packer *p, const tensor *x, ib_numbers *numbers, int64_t channels, uint8_t *bits,
                int64_t bits_bytes, const ib_threads *threads) {
    if (moves_one_axis(p)) {
        int64_t images = 1, pixels = 1;
        for (size_t i = 0; i < p->rank; i++)
            if ((int64_t)i != p->perm[p->rank - 1]) *((int64_t)i < p->perm[p->rank - 1] ? &images : &pixels) *= x->shape[i];
        if (p->perm[p->rank - 1] == (int64_t)p->rank - 1)
            return ib_bitpack_rows(IB_AUTO, images, channels, numbers, bits, bits_bytes, threads);
        return ib_bitpack_planes(IB_AUTO, images, channels, pixels, numbers, bits, bits_bytes, threads);
    }
    void *rows = ib_allocate((size_t)numbers->bytes);
    if (!rows) return IB_NO_MEMORY;
    permute(p, x, (size_t)numbers->bytes / x->count, rows);
    numbers->data = rows;
    const int status =
        ib_bitpack_rows(IB_AUTO, (int64_t)x->count / channels, channels, numbers, bits, bits_bytes, threads);
    free(rows);
    return status;
}

static ort_status *run(const kernel *k, ort_context *context) {
    const packer *p = (const packer *)k;
    tensor x, threshold;
    CHECK(ib_node_input_of(k, context, 0, p->rank, &x));
    CHECK(ib_node_input_of(k, context, 1, 1, &threshold));
    const int64_t channels = x.shape[p->perm[p->rank - 1]];
    if (threshold.shape[0] != 1 && threshold.shape[0] != channels)
        return ib_node_error(k, "threshold has %lld numbers for %lld channels", (long long)threshold.shape[0],
                             (long long)channels);
    int64_t shape[MOST_DIMENSIONS], bytes = 1, numbers;
    for (size_t i = 0; i < p->rank; i++) {
        shape[i] = i + 1 < p->rank ? x.shape[p->perm[i]] : (int64_t)ib_bytes_of((size_t)channels);
        bytes *= shape[i];
    }
    if (__builtin_mul_overflow((int64_t)x.count, x.type == ORT_FLOAT ? 4 : 1, &numbers))
        return ib_node_status(k, IB_TOO_LARGE);
    void *bits;
    CHECK(ib_node_output(k, context, shape, p->rank, &bits));
    if (x.count == 0) return NULL;
    ib_numbers in = {.dtype = x.type == ORT_FLOAT ? IB_FLOAT32 : IB_INT8,
                     .data = x.data,
                     .bytes = numbers,
                     .threshold = threshold.data,
                     .thresholds = threshold.shape[0]};
    node_threads pool;
    ib_node_threads(k, context, &pool);
    return ib_node_status(k, pack(p, &x, &in, channels, bits, bytes, &pool.threads));
}

#define BITPACK(type) \
    {                                     \
        .name = "BitPack",                \
        .inputs = 2,                      \
        .input = {type, ORT_FLOAT},       \
        .output = ORT_UINT8,              \
        .bytes = sizeof(packer),          \
        .make = make,                     \
        .run = run,                       \
    }

const bit_operator ib_ort_bitpack = BITPACK(ORT_FLOAT);
const bit_operator ib_ort_bitpack_int8 = BITPACK(ORT_INT8);
