/* All rows against all panels: what a matrix product and a convolution have in common. */
#ifndef IB_SWEEP_H
#define IB_SWEEP_H

#include "../output.h"
#include "../threads.h"
#include "panels.h"

/* Where rows of activations lie. Strides are in bytes; row r of an image begins at
   bits + image * image_stride + group * group_stride + r / width * line_stride + r % width * row_stride. */
typedef struct ib_field {
    const uint8_t *bits;
    const ptrdiff_t *offset; /* [steps], added to where a row begins */
    size_t images, rows, width;
    ptrdiff_t image_stride, group_stride, line_stride, row_stride;
    /* Where rows of an image do not all start from the same dot products: of which kind each row is, [rows], and what
       rows of a kind start from, [kinds][panels][IB_PANEL]. Else null. */
    const uint32_t *kind;
    const int32_t *starts;
} ib_field;

/* Bytes of the result; false where they are too many to count. Outputs of all groups. */
bool ib_output_bytes(size_t *bytes, int kind, size_t rows, size_t outputs);

/* That the output is complete and exactly large enough for so many rows. */
int ib_output_check(const ib_output *output, size_t rows, size_t outputs);

/* Compute [images][rows][outputs], or, `transposed`, [images][outputs][rows]; bits are never transposed. */
void ib_sweep(const ib_panels *panels, const ib_field *field, const ib_output *output, bool transposed,
              const ib_threads *threads);

#endif
