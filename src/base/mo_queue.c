/* mo_queue.c - see mo_queue.h. */

enum { moi_queue_max_threads = 64 };

struct moi_queue {
    mo_allocator allocator;
    moi_mutex mutex;
    moi_condition work, done; /* a job is there, or is_ending; a job has ended */
    mo_queue_job *first, *last;
    int is_ending;
    mo_queue_stats stats;
    moi_thread_body body;
    size_t n_threads;
    moi_thread threads[moi_queue_max_threads];
};

static mo_queue_job *moi_queue_take(struct moi_queue *q) {
    mo_queue_job *job = q->first;
    if (!job) return NULL;
    q->first = job->next;
    if (!q->first) q->last = NULL;
    return job;
}

/* With the mutex, which it gives up meanwhile. */
static void moi_queue_run(struct moi_queue *q, mo_queue_job *job) {
    moi_mutex_unlock(&q->mutex);
    const double begin_s = moi_os_now_s();
    const mo_status status = job->run(job->self);
    const double busy_s = moi_os_now_s() - begin_s;
    moi_mutex_lock(&q->mutex);
    q->stats.n_jobs++;
    q->stats.busy_s += busy_s;
    job->status = status;
    job->is_pending = 0; /* from here on it is the caller's */
    moi_condition_wake_all(&q->done);
}

static void moi_queue_loop(void *self) {
    struct moi_queue *q = (struct moi_queue *)self;
    moi_mutex_lock(&q->mutex);
    for (;;) {
        mo_queue_job *job = moi_queue_take(q);
        if (job) moi_queue_run(q, job);
        else if (q->is_ending) break;
        else moi_condition_wait(&q->work, &q->mutex);
    }
    moi_mutex_unlock(&q->mutex);
}

static int moi_queue_init_locks(struct moi_queue *q) {
    if (!moi_mutex_init(&q->mutex)) return 0;
    if (moi_condition_init(&q->work)) {
        if (moi_condition_init(&q->done)) return 1;
        moi_condition_free(&q->work);
    }
    moi_mutex_free(&q->mutex);
    return 0;
}

mo_status mo_queue_init(mo_queue *queue, const mo_queue_desc *desc) {
    const size_t wanted = desc && desc->n_threads ? desc->n_threads : 1;
    if (!queue || wanted > moi_queue_max_threads) return MO_E_INVALID;
    const mo_allocator *allocator = desc ? &desc->allocator : NULL;
    struct moi_queue *q = (struct moi_queue *)mo_alloc(allocator, sizeof *q, MOI_CACHE_LINE);
    if (!q) return MO_E_NO_MEMORY;
    memset(q, 0, sizeof *q);
    if (!moi_queue_init_locks(q)) {
        mo_free(allocator, q, sizeof *q, MOI_CACHE_LINE);
        return MO_E_NO_MEMORY;
    }
    if (allocator) q->allocator = *allocator;
    q->body.run = moi_queue_loop;
    q->body.self = q;
    while (q->n_threads < wanted && moi_thread_start(&q->threads[q->n_threads], &q->body))
        q->n_threads++;
    queue->impl = q;
    return MO_OK;
}

void mo_queue_free(mo_queue *queue) {
    struct moi_queue *q = queue ? queue->impl : NULL;
    if (!q) return;
    moi_mutex_lock(&q->mutex);
    q->is_ending = 1;
    moi_condition_wake_all(&q->work);
    moi_mutex_unlock(&q->mutex);
    for (size_t i = 0; i < q->n_threads; i++) moi_thread_join(q->threads[i]);
    moi_condition_free(&q->done);
    moi_condition_free(&q->work);
    moi_mutex_free(&q->mutex);
    const mo_allocator allocator = q->allocator;
    mo_free(&allocator, q, sizeof *q, MOI_CACHE_LINE);
    queue->impl = NULL;
}

void mo_queue_submit(mo_queue *queue, mo_queue_job *job) {
    struct moi_queue *q = queue->impl;
    moi_mutex_lock(&q->mutex);
    MEMOPT_ASSERT(!job->is_pending);
    job->is_pending = 1;
    job->next = NULL;
    if (q->n_threads == 0) moi_queue_run(q, job);
    else {
        if (q->last) q->last->next = job;
        else q->first = job;
        q->last = job;
        moi_condition_wake_one(&q->work);
    }
    moi_mutex_unlock(&q->mutex);
}

mo_status mo_queue_wait(mo_queue *queue, mo_queue_job *job) {
    struct moi_queue *q = queue->impl;
    moi_mutex_lock(&q->mutex);
    if (job->is_pending) {
        const double begin_s = moi_os_now_s();
        while (job->is_pending) moi_condition_wait(&q->done, &q->mutex);
        q->stats.n_stalls++;
        q->stats.stall_s += moi_os_now_s() - begin_s;
    }
    const mo_status status = job->status;
    moi_mutex_unlock(&q->mutex);
    return status;
}

int mo_queue_is_done(const mo_queue *queue, const mo_queue_job *job) {
    moi_mutex_lock(&queue->impl->mutex);
    const int is_done = !job->is_pending;
    moi_mutex_unlock(&queue->impl->mutex);
    return is_done;
}

size_t mo_queue_threads(const mo_queue *queue) { return queue->impl->n_threads; }

mo_queue_stats mo_queue_get_stats(const mo_queue *queue) {
    moi_mutex_lock(&queue->impl->mutex);
    const mo_queue_stats stats = queue->impl->stats;
    moi_mutex_unlock(&queue->impl->mutex);
    return stats;
}
