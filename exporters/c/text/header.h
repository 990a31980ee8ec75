/* A neural network in C99 that needs the C library only. Written by intaglio $version; not to be edited. */
#ifndef ${upper}_H
#define ${upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of static memory beside the weights. */
#define ${upper}_ARENA_BYTES $arena

/* How many numbers each input and output has. */
$sizes

/* One run; numbers in the order of the model's axes, the last the fastest. Not for two threads at once. */
void ${name}_run($parameters);

#ifdef __cplusplus
}
#endif

#endif
