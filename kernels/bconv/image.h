/* The image that a convolution reads: bits in whole words, with its border. */
#ifndef IB_BCONV_IMAGE_H
#define IB_BCONV_IMAGE_H

#include <stdbool.h>

#include "../sizes.h"
#include "../threads.h"
#include "shape.h"

/* A cell holds what one run of a filter's bits is compared with: the channels of a pixel, or, where these would leave
   much of a word empty, those of all pixels that a row of the kernel covers, side by side. */
typedef struct ib_image {
    size_t taps;          /* pixels of a cell: 1, or the kernel's width */
    size_t step;          /* pixels from one cell to the next */
    size_t lines, cells;  /* of a padded image, cells of a line */
    size_t words;         /* of one group of a cell */
    size_t cell_bytes;    /* of all groups */
    size_t bytes;         /* of a padded image */
    size_t height, width; /* of the image itself */
    size_t out_height, out_width;
} ib_image;

/* How many pixels a cell is to hold. */
size_t ib_cell_taps(const ib_bconv_shape *shape);

/* Runs of bits that a filter is cut into for such cells, and the bits of each. */
size_t ib_cell_runs(const ib_bconv_shape *shape, size_t taps);
size_t ib_cell_bits(const ib_bconv_shape *shape, size_t taps);

/* Sizes for an image; IB_BAD_SIZE where the kernel does not fit into it. */
int ib_image_plan(ib_image *image, const ib_bconv_shape *shape, size_t taps, size_t height, size_t width);

/* Whether the bits as they come serve as they are. */
bool ib_image_is_input(const ib_image *image, const ib_bconv_shape *shape);

/* Copy [batch][height][width][ceil(channels / 8)] to `to`, [batch][lines][cells][cell_bytes]. */
void ib_image_fill(const ib_image *image, const ib_bconv_shape *shape, size_t batch, const uint8_t *bits, uint8_t *to,
                   const ib_threads *threads);

#endif
