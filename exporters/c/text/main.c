/* Runs the model on made-up numbers, compares with what ONNX Runtime gave for them, and tells the time of a run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "$name.h"
#include "test_vector.h"

$buffers

/* Numbers in [low, high] that are the same everywhere: the upper bits of a linear congruential generator. */
static uint32_t state = 1;

static double drawn(double low, double high) {
    state = state * 1664525u + 1013904223u;
    return low + (high - low) * ((state >> 8) / 16777216.0);
}

static double worst, largest;

static void compare(double found, double expected) {
    if (fabs(expected) > largest) largest = fabs(expected);
    if (!(fabs(found - expected) <= worst)) worst = fabs(found - expected);
}

int main(int count, char **words) {
    const int runs = count > 1 ? atoi(words[1]) : 10;
    clock_t start;
    $draws
    $call
    $compares
    printf("largest difference %g, largest value %g\n", worst, largest);
    start = clock();
    for (int i = 0; i < runs; i++) $call
    if (runs > 0) printf("%.4f ms a run\n", 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC / runs);
    if (!(worst <= TEST_TOLERANCE * largest)) {
        printf("failed: the difference should be at most %g\n", TEST_TOLERANCE * largest);
        return 1;
    }
    printf("passed\n");
    return 0;
}
