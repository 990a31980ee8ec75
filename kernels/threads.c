#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct crew {
    ib_task task;
    void *work;
    size_t tasks;
    atomic_size_t next;
} crew;

static void *take_tasks(void *argument) {
    crew *c = argument;
    for (size_t i; (i = atomic_fetch_add(&c->next, 1)) < c->tasks;) c->task(c->work, i);
    return NULL;
}

static void run_on_own(size_t count, ib_task task, void *work, size_t tasks) {
    pthread_t others[IB_MOST_THREADS];
    crew c = {.task = task, .work = work, .tasks = tasks};
    atomic_init(&c.next, 0);
    if (count > tasks) count = tasks;
    size_t started = 0;
    while (started + 1 < count && !pthread_create(&others[started], NULL, take_tasks, &c)) started++;
    take_tasks(&c);
    while (started) pthread_join(others[--started], NULL);
}

void ib_parallel(const ib_threads *threads, ib_task task, void *work, size_t tasks) {
    const size_t count = ib_thread_count(threads);
    if (count == 1 || tasks <= 1)
        for (size_t i = 0; i < tasks; i++) task(work, i);
    else if (threads->run)
        threads->run(threads->context, task, work, tasks);
    else
        run_on_own(count, task, work, tasks);
}
