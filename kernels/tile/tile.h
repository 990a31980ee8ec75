/* The heart of all 1-bit products: dot products of a few rows of activations with a panel of 16 outputs' weights.

   Lanes of a vector are outputs, and a word of activations is broadcast to them, so nothing is summed across lanes and
   nothing is wasted where rows are short. Rows lie anywhere: a step of the sum reads the word at row[r] + offset[s].
   That makes a matrix product (offsets 0, 8, 16, ...) and a direct convolution (one run of offsets for each tap) the
   same loop. */
#ifndef IB_TILE_H
#define IB_TILE_H

#include <stddef.h>
#include <stdint.h>

#include "../cpu.h"

enum {
    IB_PANEL = 16, /* outputs of a panel */
    IB_ROWS = 8,   /* most rows of one call */
};

/* Rows of activations: where each begins, and its dot products [IB_PANEL] where no bit differs. */
typedef struct ib_rows {
    size_t count;
    const uint8_t *at[IB_ROWS];
    const int32_t *base[IB_ROWS];
} ib_rows;

/* dot[r][o] = base[r][o] - 2 * (bits that differ between row r and output o).
   Shapes: offset [steps] in bytes, words [steps][IB_PANEL] on a cache line, dot [rows][IB_PANEL]. Ternary weights have
   words [steps][2][IB_PANEL]: which weights are not 0, then which are negative. */
typedef void ib_dot(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words, int32_t *dot);

/* out = dot * scale + bias, rounded twice. Shapes: dot [rows][IB_PANEL], scale and bias [IB_PANEL], rows <= IB_ROWS.
   `width` outputs of the panel are stored: output o of row r at out[r * stride + o], or, transposed, at
   out[o * stride + r]. */
typedef void ib_affine(size_t rows, size_t width, const int32_t *dot, const float *scale, const float *bias, float *out,
                       size_t stride);

/* Bit o of mask[r] = dot[r][o] < threshold[o]. */
typedef void ib_below(size_t rows, const int32_t *dot, const int32_t *threshold, uint16_t *mask);

/* What belongs to the outputs of one panel, filled up to the panel's width. */
typedef struct ib_lanes {
    size_t width;
    float scale[IB_PANEL], bias[IB_PANEL];
    int32_t threshold[IB_PANEL];
} ib_lanes;

typedef enum ib_store_as { IB_STORE_DOTS, IB_STORE_ROWS, IB_STORE_TRANSPOSED, IB_STORE_MASKS } ib_store_as;

/* `dot` and then nothing, or one of the three above without a detour through memory: to an int32_t *, a float *, or a
   uint16_t * for masks. `lanes` may be null for dots. */
typedef void ib_fused(const ib_rows *rows, const ptrdiff_t *offset, size_t steps, const uint64_t *words,
                      const ib_lanes *lanes, ib_store_as store, void *out, size_t stride);

/* Xor, count and add on registers alone, `rounds` times; the number of 1-bit multiplications that this stands for. */
typedef double ib_peak_loop(size_t rounds);

typedef struct ib_tile {
    ib_dot *binary, *ternary;
    ib_fused *binary_fused, *ternary_fused; /* null where it would gain nothing */
    ib_affine *affine, *affine_transposed;
    ib_below *below;
    ib_peak_loop *peak;
} ib_tile;

#define IB_TILE(isa) extern const ib_tile ib_tile_##isa;
#include "../variants.def"

/* The variant for an instruction set; null where this build has none. */
const ib_tile *ib_tile_select(int isa);

/* Run the peak loop of an instruction set; its 1-bit multiplications go to *macs. For benchmarks. */
IB_API int ib_peak(int isa, int64_t rounds, double *macs);

#endif
