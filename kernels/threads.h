/* Work on several threads: the library's own, or those of the program around it. */
#ifndef IB_THREADS_H
#define IB_THREADS_H

#include <stddef.h>

typedef void (*ib_task)(void *work, size_t index);

/* How work is spread. A null pointer to this means: on the calling thread alone.
   `run` calls task(work, i) once for every i below `tasks`, in any order, on any threads, and returns when all are done;
   null means threads that the library starts for the call. `count` tells how finely to cut the work. */
typedef struct ib_threads {
    size_t count;
    void (*run)(void *context, ib_task task, void *work, size_t tasks);
    void *context;
} ib_threads;

enum { IB_MOST_THREADS = 256 };

static inline size_t ib_thread_count(const ib_threads *threads) {
    if (!threads || !threads->count) return 1;
    return threads->count < IB_MOST_THREADS ? threads->count : IB_MOST_THREADS;
}

/* Threads for so much work, in whatever unit `least` is in. Starting threads takes some 20 microseconds, so work below
   `least` gets none of the library's own; those of the program around it are there already. */
static inline const ib_threads *ib_threads_worth(const ib_threads *threads, size_t amount, size_t least) {
    return amount < least && threads && !threads->run ? NULL : threads;
}

/* Call task(work, i) for every i below `tasks`. Cannot fail: threads that do not start leave their work to the others. */
void ib_parallel(const ib_threads *threads, ib_task task, void *work, size_t tasks);

#endif
