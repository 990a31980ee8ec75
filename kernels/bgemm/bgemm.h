/* Matrix product of signs: rows of bits with weights of one bit (or ternary ones of two). */
#ifndef IB_BGEMM_H
#define IB_BGEMM_H

#include "../cpu.h"
#include "../output.h"
#include "../threads.h"

typedef struct ib_bgemm ib_bgemm;

/* Read weights [planes][outputs][ceil(length / 8)] into the order of the kernel. planes is 1, or 2 for ternary weights,
   each the mean of two signs. `weights_bytes` is the size of `weights`, which is not needed afterwards. The handle never
   changes: any number of threads may run it at once. */
IB_API int ib_bgemm_prepare(int isa, int64_t planes, int64_t outputs, int64_t length, const uint8_t *weights,
                            int64_t weights_bytes, ib_bgemm **handle);

/* bits [rows][ceil(length / 8)] -> output [rows][outputs]. No rows are none to compute, not an error. */
IB_API int ib_bgemm_run(const ib_bgemm *handle, int64_t rows, const uint8_t *bits, int64_t bits_bytes,
                        const ib_output *output, const ib_threads *threads);

/* Null is allowed. */
IB_API void ib_bgemm_free(ib_bgemm *handle);

#endif
