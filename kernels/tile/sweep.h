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
    /* Mend the dot products [rows][IB_PANEL] of rows `first`, ... of an image with a panel; null where none need it. */
    void (*mend)(const void *context, size_t panel, size_t first, size_t rows, int32_t *dot);
    bool (*needs_mending)(const void *context, size_t first, size_t rows); /* false where it would change nothing */
    const void *context;
} ib_field;

/* Bytes of the result; false where they are too many to count. Outputs of all groups. */
bool ib_output_bytes(size_t *bytes, int kind, size_t rows, size_t outputs);

/* That the output is complete and exactly large enough for so many rows. */
int ib_output_check(const ib_output *output, size_t rows, size_t outputs);

/* Compute [images][rows][outputs], or, `transposed`, [images][outputs][rows]; bits are never transposed. */
void ib_sweep(const ib_panels *panels, const ib_field *field, const ib_output *output, bool transposed,
              const ib_threads *threads);

#endif
