/* The image that a convolution reads: bits in whole words, with its border. */
#ifndef IB_BCONV_IMAGE_H
#define IB_BCONV_IMAGE_H

#include <stdbool.h>

#include "../sizes.h"
#include "../threads.h"
#include "bconv.h"

/* What one cell of the image holds: the channels of one pixel; those of a row of the kernel's taps, side by side; or
   those of all taps. Few channels would leave most of a word empty, so taps are put together until it pays no more. */
typedef enum ib_span { IB_SPAN_PIXEL, IB_SPAN_LINE, IB_SPAN_KERNEL } ib_span;

typedef struct ib_image {
    ib_span span;
    size_t taps[2];           /* that a cell holds: down, across */
    size_t step[2];           /* pixels from one cell to the next: down, across */
    size_t lines, cells;      /* of a padded image, cells of a line */
    size_t words;             /* of one group of a cell */
    size_t cell_bytes;        /* of all groups */
    size_t bytes;             /* of a padded image */
    size_t out_height, out_width;
    size_t height, width;     /* of the image itself */
} ib_image;

ib_span ib_span_for(const ib_bconv_shape *shape);

/* Runs of bits that a filter is cut into for a span, and the bits of each. */
size_t ib_span_segments(const ib_bconv_shape *shape, ib_span span);
size_t ib_span_length(const ib_bconv_shape *shape, ib_span span);

/* Sizes for an image; IB_BAD_SIZE where the kernel does not fit into it. */
int ib_image_plan(ib_image *image, const ib_bconv_shape *shape, ib_span span, size_t height, size_t width);

/* Whether the bits as they come serve as they are. */
bool ib_image_is_input(const ib_image *image, const ib_bconv_shape *shape);

/* Copy [batch][height][width][ceil(channels / 8)] to `to`, [batch][lines][cells][cell_bytes]. */
void ib_image_fill(const ib_image *image, const ib_bconv_shape *shape, size_t batch, const uint8_t *bits, uint8_t *to,
                   const ib_threads *threads);

#endif
