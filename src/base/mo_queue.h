/* mo_queue.h - work in the background: threads that run jobs in the order of their submission,
 * such as reads and writes of files, while the program computes.
 *
 *   mo_queue queue;
 *   mo_queue_desc desc = {0};
 *   if (mo_queue_init(&queue, &desc) != MO_OK) return 1;
 *   mo_queue_job job = {read_next_page, &page};
 *   mo_queue_submit(&queue, &job);
 *   ... other work ...
 *   status = mo_queue_wait(&queue, &job);
 *   mo_queue_free(&queue);
 *
 * Where no thread can be had (MEMOPT_NO_THREADS, or the system has none left) a job runs inside
 * mo_queue_submit: the same results, later. */
#ifndef MEMOPT_QUEUE_H
#define MEMOPT_QUEUE_H

#include "mo_base.h"

/* mo_queue_job - something to run. It belongs to the caller, and stays where it is from
 * mo_queue_submit to mo_queue_wait; then it can be submitted again.
 *
 * run   called on a thread of the queue, with self. It may use a mo_allocator or mo_log only if
 *       that is safe on any thread
 * self  the caller's */
typedef struct mo_queue_job {
    mo_status (*run)(void *self);
    void *self;
    /* private */
    mo_status status;
    int is_pending; /* submitted, and has not ended */
    struct mo_queue_job *next;
} mo_queue_job;

/* n_threads  jobs that run at the same time; 0 = 1, at most 64. One thread runs jobs one after
 *            the other: a later one sees all that an earlier one did
 * allocator  for the queue itself; zero = C heap */
typedef struct mo_queue_desc {
    mo_allocator allocator;
    size_t n_threads;
} mo_queue_desc;

/* mo_queue_stats - since mo_queue_init.
 *
 * n_jobs   jobs that have ended
 * n_stalls calls of mo_queue_wait that had to wait, and stall_s for how many seconds
 * busy_s   seconds inside of jobs, of all threads together */
typedef struct mo_queue_stats {
    uint64_t n_jobs, n_stalls;
    double stall_s, busy_s;
} mo_queue_stats;

/* mo_queue - owned by the caller; private. */
typedef struct mo_queue {
    struct moi_queue *impl;
} mo_queue;

/* mo_queue_init - start the threads. mo_queue_free - wait for all jobs, end the threads; a zeroed
 * or freed queue is left as it is.
 *
 * desc  NULL = all defaults; copied
 *
 * Memory:  1 KiB; the threads' stacks are the system's
 * Threads: safe for distinct queues
 * Errors:  MO_E_INVALID (NULL, n_threads), MO_E_NO_MEMORY; a thread that cannot be started is none
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_queue_init(mo_queue *queue, const mo_queue_desc *desc);
MEMOPT_API void mo_queue_free(mo_queue *queue);

/* mo_queue_submit - run a job when its turn comes. mo_queue_wait - until it has ended: what its run
 * returned; MO_OK for a job that was never submitted. mo_queue_is_done - 1 when it has ended, or
 * was never submitted.
 *
 * Threads: safe; of one job, one at a time
 * Errors:  wait: those of run
 * Since:   0.1 */
MEMOPT_API void mo_queue_submit(mo_queue *queue, mo_queue_job *job);
MEMOPT_API mo_status mo_queue_wait(mo_queue *queue, mo_queue_job *job);
MEMOPT_API int mo_queue_is_done(const mo_queue *queue, const mo_queue_job *job);

/* mo_queue_threads - how many there are; 0 = jobs run inside mo_queue_submit.
 * mo_queue_get_stats - what has been done so far.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_queue_threads(const mo_queue *queue);
MEMOPT_API mo_queue_stats mo_queue_get_stats(const mo_queue *queue);

#endif
