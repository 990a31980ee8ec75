/* Sizes that come from outside: multiplied and added only where the result fits. */
#ifndef IB_SIZES_H
#define IB_SIZES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define IB_LARGEST INT32_MAX /* of one dimension */

static inline bool ib_is_size(int64_t value) { return value >= 1 && value <= IB_LARGEST; }

static inline size_t ib_ceil_div(size_t value, size_t by) { return value / by + (value % by != 0); }

static inline size_t ib_min(size_t a, size_t b) { return a < b ? a : b; }

/* The product of sizes up to a zero that ends them: ib_product(&bytes, (size_t[]){n, h, w, c}, 4). */
static inline bool ib_product(size_t *result, const size_t *sizes, size_t count) {
    *result = 1;
    for (size_t i = 0; i < count; i++)
        if (__builtin_mul_overflow(*result, sizes[i], result)) return false;
    return *result <= PTRDIFF_MAX / 2;
}

#define IB_PRODUCT(result, ...)                         \
    ib_product((result), (const size_t[]){__VA_ARGS__}, \
               sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t))

/* Memory on a cache line of its own; null where there is none. Free with free(). */
static inline void *ib_allocate(size_t bytes) {
    if (bytes > PTRDIFF_MAX / 2) return NULL;
    return aligned_alloc(64, (bytes / 64 + (bytes % 64 != 0 || !bytes)) * 64);
}

#endif
