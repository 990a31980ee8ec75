/* The list of variants, for those who want to walk through it. */
#ifndef IB_VARIANTS_H
#define IB_VARIANTS_H

#include "cpu.h"

typedef struct ib_variant {
    const char *operation;
    int isa;
} ib_variant;

/* Variant number `index` of this build, present in the processor or not; null past the last. */
IB_API const ib_variant *ib_variant_at(size_t index);

#endif
