/* A neural network in C99 that needs the C library only. Written by intaglio $version; not to be edited. */
#include "$name.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Steps share memory, in which numbers of several types follow each other: compilers are to look at each on its own.
   GCC 12 left out calls whose results were read by the next step only, where it looked at all of them together. */
#if defined(__clang__)
#define NET_STEP static __attribute__((noinline))
#define NET_ALIGNED __attribute__((aligned(64)))
#elif defined(__GNUC__)
#define NET_STEP static __attribute__((noipa))
#define NET_ALIGNED __attribute__((aligned(64)))
#else
#define NET_STEP static
#define NET_ALIGNED
#endif

$memory

$helpers
$tables
$steps
void ${name}_run($parameters) {
    $calls
}
