/* test_queue.c - mo_queue */
#include "test_util.h"
#include <stdatomic.h>
#include <unistd.h>

typedef struct task {
    mo_queue_job job;
    int *order, *at, number; /* order[(*at)++] = number, by one thread at a time */
    mo_status result;
    atomic_int *gate, *running, *most; /* runs until *gate != 0; how many run at a time */
} task;

static mo_status run_task(void *self) {
    task *t = self;
    if (t->running) {
        const int now = atomic_fetch_add(t->running, 1) + 1;
        int most = atomic_load(t->most);
        while (now > most && !atomic_compare_exchange_weak(t->most, &most, now)) {
        }
    }
    while (t->gate && !atomic_load(t->gate)) usleep(200);
    if (t->running) atomic_fetch_sub(t->running, 1);
    if (t->order) t->order[(*t->at)++] = t->number;
    return t->result;
}

static mo_queue queue_of(size_t n_threads) {
    mo_queue queue = {0};
    const mo_queue_desc desc = {.n_threads = n_threads};
    test_ok(mo_queue_init(&queue, &desc));
    return queue;
}

static void submit(mo_queue *queue, task *t) {
    t->job = (mo_queue_job){.run = run_task, .self = t};
    mo_queue_submit(queue, &t->job);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void one_thread_runs_jobs_in_their_order(void **state) {
    (void)state;
    enum { N = 100 };
    mo_queue queue = queue_of(0);
    task tasks[N];
    int order[N], at = 0;
    for (int i = 0; i < N; i++) {
        tasks[i] = (task){.order = order, .at = &at, .number = i};
        submit(&queue, &tasks[i]);
    }
    for (int i = N - 1; i >= 0; i--) test_ok(mo_queue_wait(&queue, &tasks[i].job));
    for (int i = 0; i < N; i++) assert_int_equal(order[i], i);
    assert_int_equal(mo_queue_get_stats(&queue).n_jobs, N);
    mo_queue_free(&queue);
}

static void wait_says_what_the_job_returned(void **state) {
    (void)state;
    mo_queue queue = queue_of(1);
    task good = {0}, bad = {.result = MO_E_IO};
    submit(&queue, &bad);
    submit(&queue, &good);
    test_ok(mo_queue_wait(&queue, &good.job));
    assert_int_equal(mo_queue_wait(&queue, &bad.job), MO_E_IO);
    assert_int_equal(mo_queue_wait(&queue, &bad.job), MO_E_IO);
    bad.result = MO_OK;
    submit(&queue, &bad);
    test_ok(mo_queue_wait(&queue, &bad.job));
    mo_queue_free(&queue);
}

static void a_job_that_was_never_submitted_is_done(void **state) {
    (void)state;
    mo_queue queue = queue_of(1);
    mo_queue_job job = {.run = run_task};
    assert_true(mo_queue_is_done(&queue, &job));
    test_ok(mo_queue_wait(&queue, &job));
    mo_queue_free(&queue);
}

static void the_caller_goes_on_while_a_job_runs(void **state) {
    (void)state;
    mo_queue queue = queue_of(1);
    if (mo_queue_threads(&queue) == 0) skip();
    atomic_int gate = 0;
    task t = {.gate = &gate};
    submit(&queue, &t);
    assert_false(mo_queue_is_done(&queue, &t.job));
    atomic_store(&gate, 1);
    test_ok(mo_queue_wait(&queue, &t.job));
    assert_true(mo_queue_is_done(&queue, &t.job));
    mo_queue_free(&queue);
}

static void as_many_jobs_run_at_a_time_as_there_are_threads(void **state) {
    (void)state;
    enum { N = 12 };
    mo_queue queue = queue_of(3);
    atomic_int gate = 0, running = 0, most = 0;
    task tasks[N];
    for (int i = 0; i < N; i++) {
        tasks[i] = (task){.gate = &gate, .running = &running, .most = &most};
        submit(&queue, &tasks[i]);
    }
    while (atomic_load(&running) < (int)mo_queue_threads(&queue)) usleep(200);
    atomic_store(&gate, 1);
    for (int i = 0; i < N; i++) test_ok(mo_queue_wait(&queue, &tasks[i].job));
    assert_int_equal(atomic_load(&most), mo_queue_threads(&queue));
    mo_queue_free(&queue);
}

static void waiting_is_counted(void **state) {
    (void)state;
    mo_queue queue = queue_of(1);
    task t = {0};
    submit(&queue, &t);
    while (!mo_queue_is_done(&queue, &t.job)) usleep(200);
    test_ok(mo_queue_wait(&queue, &t.job));
    assert_int_equal(mo_queue_get_stats(&queue).n_stalls, 0);
    assert_true(mo_queue_get_stats(&queue).stall_s == 0);
    mo_queue_free(&queue);
}

static void free_waits_for_what_was_submitted(void **state) {
    (void)state;
    enum { N = 20 };
    mo_queue queue = queue_of(1);
    task tasks[N];
    int order[N], at = 0;
    for (int i = 0; i < N; i++) {
        tasks[i] = (task){.order = order, .at = &at, .number = i};
        submit(&queue, &tasks[i]);
    }
    mo_queue_free(&queue);
    assert_int_equal(at, N);
    assert_null(queue.impl);
    mo_queue_free(&queue);
    mo_queue_free(NULL);
}

/* ---- properties ---------------------------------------------------------------------------- */

static mo_status count(void *self) {
    atomic_fetch_add((atomic_int *)self, 1);
    return MO_OK;
}

/* Jobs are used again and again, and all threads take part. */
static void every_job_runs_exactly_once(void **state) {
    (void)state;
    enum { N = 16, ROUNDS = 300 };
    mo_queue queue = queue_of(4);
    atomic_int n = 0;
    mo_queue_job jobs[N] = {0};
    for (int i = 0; i < N; i++) jobs[i].run = count, jobs[i].self = &n;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < N; i++) {
            test_ok(mo_queue_wait(&queue, &jobs[i]));
            mo_queue_submit(&queue, &jobs[i]);
        }
    for (int i = 0; i < N; i++) test_ok(mo_queue_wait(&queue, &jobs[i]));
    assert_int_equal(atomic_load(&n), N * ROUNDS);
    assert_int_equal(mo_queue_get_stats(&queue).n_jobs, N * ROUNDS);
    mo_queue_free(&queue);
}

/* ---- failures ------------------------------------------------------------------------------ */

static void nonsense_is_refused(void **state) {
    (void)state;
    mo_queue queue = {0};
    const mo_queue_desc many = {.n_threads = 65};
    assert_int_equal(mo_queue_init(NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_queue_init(&queue, &many), MO_E_INVALID);
    assert_null(queue.impl);
}

static void an_allocation_that_fails_is_a_status(void **state) {
    (void)state;
    test_heap heap;
    mo_queue queue = {0};
    const mo_queue_desc desc = {.allocator = test_heap_begin(&heap, 0)};
    assert_int_equal(mo_queue_init(&queue, &desc), MO_E_NO_MEMORY);
    assert_null(queue.impl);
    test_ok(mo_queue_init(&queue, &desc));
    mo_queue_free(&queue);
    assert_int_equal(heap.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_runs_jobs_in_their_order),
        cmocka_unit_test(wait_says_what_the_job_returned),
        cmocka_unit_test(a_job_that_was_never_submitted_is_done),
        cmocka_unit_test(the_caller_goes_on_while_a_job_runs),
        cmocka_unit_test(as_many_jobs_run_at_a_time_as_there_are_threads),
        cmocka_unit_test(waiting_is_counted),
        cmocka_unit_test(free_waits_for_what_was_submitted),
        cmocka_unit_test(every_job_runs_exactly_once),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(an_allocation_that_fails_is_a_status),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
