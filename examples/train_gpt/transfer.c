// transfer.c - copies between the planned memory and the host store, in the background.
#include "app.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 64 };

typedef struct copy {
    mo_queue_job job;
    void *to;
    const void *from;
    size_t size;
} copy;

struct transfer {
    mo_queue queue; // of one thread: when a copy is there, so are those before it
    char *store;
    size_t *ends; // [2 n_stages] of each stage's x and saved tensors: copies done when it is there
    copy copies[CAPACITY]; // a ring
    size_t n_submitted;
};

static mo_status run_copy(void *self) {
    const copy *c = self;
    memcpy(c->to, c->from, c->size);
    return MO_OK;
}

transfer *transfer_open(size_t store_bytes, size_t n_stages) {
    transfer *t = allocate(sizeof *t);
    t->store = allocate(store_bytes);
    t->ends = allocate(2 * n_stages * sizeof *t->ends);
    check(mo_queue_init(&t->queue, NULL), "a thread for the copies of offload");
    return t;
}

void transfer_close(transfer *t) {
    if (!t) return;
    mo_queue_free(&t->queue);
    free(t->ends);
    free(t->store);
    free(t);
}

// Until so many copies are done. One whose place in the ring was taken again is.
static void wait_for(transfer *t, size_t n_done) {
    if (n_done == 0 || n_done + CAPACITY <= t->n_submitted) return;
    check(mo_queue_wait(&t->queue, &t->copies[(n_done - 1) % CAPACITY].job), "a copy of offload");
}

static void start(transfer *t, const mo_step *step, bool out) {
    for (size_t i = 0; i < step->n_copies; i++) {
        const mo_plan_copy *c = &step->copies[i];
        char *stored = t->store + c->store_off;
        copy *next = &t->copies[t->n_submitted % CAPACITY];
        check(mo_queue_wait(&t->queue, &next->job), "a copy of offload");
        next->to = out ? stored : (char *)c->address;
        next->from = out ? (char *)c->address : stored;
        next->size = c->size;
        next->job.run = run_copy;
        next->job.self = next;
        mo_queue_submit(&t->queue, &next->job);
        t->n_submitted++;
    }
}

void transfer_step(transfer *t, const mo_step *step) {
    size_t *end = &t->ends[2 * step->stage + (step->save != 0)];
    if (step->op == MO_STEP_OFFLOAD || step->op == MO_STEP_PREFETCH) {
        start(t, step, step->op == MO_STEP_OFFLOAD);
        *end = t->n_submitted;
    } else wait_for(t, *end);
}
