// transfer.c - copies between the planned memory and the host store, on a thread of their own.
#include "app.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    void *to;
    const void *from;
    size_t size;
} job;

struct transfer {
    char *store;
    size_t *ends; // [2 n_stages] of each stage's x and saved tensors: jobs done when it is there
    job *jobs;    // [capacity] a ring
    size_t capacity, n_queued, n_done;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
};

static void *run_jobs(void *context) {
    transfer *t = context;
    pthread_mutex_lock(&t->mutex);
    for (;;) {
        while (t->n_done == t->n_queued && !t->stop) pthread_cond_wait(&t->changed, &t->mutex);
        if (t->n_done == t->n_queued) break;
        const job j = t->jobs[t->n_done % t->capacity];
        pthread_mutex_unlock(&t->mutex);
        memcpy(j.to, j.from, j.size);
        pthread_mutex_lock(&t->mutex);
        t->n_done++;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

transfer *transfer_open(size_t store_bytes, size_t n_stages) {
    transfer *t = allocate(sizeof *t);
    t->capacity = 64;
    t->store = allocate(store_bytes);
    t->ends = allocate(2 * n_stages * sizeof *t->ends);
    t->jobs = allocate(t->capacity * sizeof *t->jobs);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->changed, NULL);
    if (pthread_create(&t->thread, NULL, run_jobs, t) != 0)
        fail(EXIT_BAD, "no thread for the copies of offload");
    return t;
}

void transfer_close(transfer *t) {
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t->jobs);
    free(t->ends);
    free(t->store);
    free(t);
}

static void wait_for(transfer *t, size_t n_done) {
    while (t->n_done < n_done) pthread_cond_wait(&t->changed, &t->mutex);
}

static void start(transfer *t, const mo_step *step, bool out) {
    for (size_t i = 0; i < step->n_copies; i++) {
        const mo_plan_copy *c = &step->copies[i];
        char *stored = t->store + c->store_off;
        wait_for(t, t->n_queued + 1 > t->capacity ? t->n_queued + 1 - t->capacity : 0);
        t->jobs[t->n_queued++ % t->capacity] =
            out ? (job){stored, c->address, c->size} : (job){c->address, stored, c->size};
        pthread_cond_broadcast(&t->changed);
    }
}

void transfer_step(transfer *t, const mo_step *step) {
    size_t *end = &t->ends[2 * step->stage + (step->save != 0)];
    const bool out = step->op == MO_STEP_OFFLOAD;
    pthread_mutex_lock(&t->mutex);
    if (out || step->op == MO_STEP_PREFETCH) {
        start(t, step, out);
        *end = t->n_queued;
    } else wait_for(t, *end);
    pthread_mutex_unlock(&t->mutex);
}
