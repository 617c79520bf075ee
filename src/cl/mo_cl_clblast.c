/* mo_cl_clblast.c - products by CLBlast, where the implementation is compiled with
 * MEMOPT_CL_CLBLAST. */

#ifdef MEMOPT_CL_CLBLAST

#include <clblast_c.h>
#ifndef _WIN32
#include <pthread.h>
#endif

/* ---- one caller at a time ------------------------------------------------------------------- */

/* Two threads in CLBlast before 1.6.1 disturb each other, whatever their contexts are. */
#ifdef _WIN32
static SRWLOCK moi_cl_clblast_mutex = SRWLOCK_INIT;
static void moi_cl_clblast_lock(void) { AcquireSRWLockExclusive(&moi_cl_clblast_mutex); }
static void moi_cl_clblast_unlock(void) { ReleaseSRWLockExclusive(&moi_cl_clblast_mutex); }
#else
static pthread_mutex_t moi_cl_clblast_mutex = PTHREAD_MUTEX_INITIALIZER;
static void moi_cl_clblast_lock(void) { (void)pthread_mutex_lock(&moi_cl_clblast_mutex); }
static void moi_cl_clblast_unlock(void) { (void)pthread_mutex_unlock(&moi_cl_clblast_mutex); }
#endif

/* ---- one product ---------------------------------------------------------------------------- */

static CLBlastTranspose moi_cl_clblast_transpose(int trans) {
    return trans ? CLBlastTransposeYes : CLBlastTransposeNo;
}
static size_t moi_cl_clblast_offset(const mo_cl_mem *mem) {
    return (size_t)(mem->off / sizeof(float));
}

/* Its codes below -1024 are its own; the rest are those of OpenCL. */
static mo_status moi_cl_clblast_status(const mo_cl *cl, const char *call, CLBlastStatusCode code) {
    if (code == CLBlastSuccess) return MO_OK;
    return moi_cl_fail(&cl->log, call, (cl_int)code, "CLBlast");
}

/* Bytes of scratch. */
static mo_status moi_cl_clblast_scratch(mo_cl *cl, const moi_cl_gemm_job *job, size_t *size) {
    const mo_gemm_desc *d = &job->d;
    moi_cl_clblast_lock();
    const CLBlastStatusCode code = CLBlastSGemmTempBufferSize(CLBlastLayoutRowMajor,
        moi_cl_clblast_transpose(d->trans_a), moi_cl_clblast_transpose(d->trans_b), d->m, d->n,
        d->k, moi_cl_clblast_offset(&job->a.data), d->lda, moi_cl_clblast_offset(&job->b.data),
        d->ldb, moi_cl_clblast_offset(&job->c), d->ldc, &cl->queues[MO_CL_COMPUTE], size);
    moi_cl_clblast_unlock();
    return moi_cl_clblast_status(cl, "CLBlastSGemmTempBufferSize", code);
}

/* Without scratch of its own CLBlast would allocate it, and end the process when that fails. */
static mo_status moi_cl_clblast_enqueue(
    mo_cl *cl, const moi_cl_gemm_job *job, cl_mem scratch, cl_event *event) {
    const mo_gemm_desc *d = &job->d;
    moi_cl_clblast_lock();
    const CLBlastStatusCode code = CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor,
        moi_cl_clblast_transpose(d->trans_a), moi_cl_clblast_transpose(d->trans_b), d->m, d->n,
        d->k, d->alpha, job->a.data.buffer, moi_cl_clblast_offset(&job->a.data), d->lda,
        job->b.data.buffer, moi_cl_clblast_offset(&job->b.data), d->ldb, d->beta, job->c.buffer,
        moi_cl_clblast_offset(&job->c), d->ldc, &cl->queues[MO_CL_COMPUTE], event, scratch);
    moi_cl_clblast_unlock();
    return moi_cl_clblast_status(cl, "CLBlastSgemmWithTempBuffer", code);
}

/* ---- the test ------------------------------------------------------------------------------- */

/* Small integers, so that every sum is exact whatever its order is. */
static float moi_cl_clblast_number(size_t i) {
    const uint32_t x = (uint32_t)i * 2654435761u;
    return (float)((int)((x ^ x >> 15) * 2246822519u >> 13 & 7u) - 3);
}
static double moi_cl_clblast_weight(size_t j) { return (double)(j * 7919 % 1009 + 1); }

/* Whether C times the weights is alpha op(A) (op(B) weights) + beta times what C was. work: one
 * number for each row of op(B). */
static int moi_cl_clblast_right(const moi_cl_gemm_job *job, const float *c, double *work) {
    const mo_gemm_desc *d = &job->d;
    for (size_t l = 0; l < d->k; l++) {
        work[l] = 0;
        for (size_t j = 0; j < d->n; j++)
            work[l] += (double)moi_cl_clblast_number(d->trans_b ? j * d->ldb + l : l * d->ldb + j) *
                moi_cl_clblast_weight(j);
    }
    for (size_t i = 0; i < d->m; i++) {
        double want = 0, got = 0, was = 0;
        for (size_t l = 0; l < d->k; l++)
            want += work[l] *
                (double)moi_cl_clblast_number(d->trans_a ? l * d->lda + i : i * d->lda + l);
        for (size_t j = 0; j < d->n; j++) {
            got += (double)c[i * d->ldc + j] * moi_cl_clblast_weight(j);
            was += (double)moi_cl_clblast_number(i * d->ldc + j) * moi_cl_clblast_weight(j);
        }
        want = (double)d->alpha * want + (d->beta == 0.0f ? 0 : (double)d->beta * was);
        if (!(got == want)) return 0;
    }
    return 1;
}

/* Buffers of one test, of numbers 0 up to n of each. */
typedef struct moi_cl_clblast_trial {
    moi_cl_gemm_job job;
    cl_mem buffers[3], scratch;
    float *numbers;
    double *work;
    size_t n;
} moi_cl_clblast_trial;

static mo_status moi_cl_clblast_buffer(mo_cl *cl, size_t size, float *numbers, cl_mem *out) {
    cl_int code = CL_SUCCESS;
    const cl_mem_flags flags = CL_MEM_READ_WRITE | (numbers ? CL_MEM_COPY_HOST_PTR : 0);
    *out = clCreateBuffer(cl->context, flags, size, numbers, &code);
    if (*out && code == CL_SUCCESS) return MO_OK;
    *out = NULL;
    return moi_cl_fail(&cl->log, "clCreateBuffer", code, "%zu bytes to test CLBlast", size);
}

static mo_status moi_cl_clblast_trial_begin(mo_cl *cl, moi_cl_clblast_trial *t) {
    const mo_gemm_desc *d = &t->job.d;
    size_t size = 0;
    t->n = d->lda * d->lda; /* the three matrices are nearly square */
    t->numbers = (float *)moi_cl_new(&cl->allocator, t->n, sizeof *t->numbers);
    t->work = (double *)moi_cl_new(&cl->allocator, d->k, sizeof *t->work);
    if (!t->numbers || !t->work) return MO_E_NO_MEMORY;
    for (size_t i = 0; i < t->n; i++) t->numbers[i] = moi_cl_clblast_number(i);
    mo_status status = MO_OK;
    for (int i = 0; i < 3 && status == MO_OK; i++)
        status = moi_cl_clblast_buffer(cl, t->n * sizeof(float), t->numbers, &t->buffers[i]);
    t->job.a.data.buffer = t->buffers[0];
    t->job.b.data.buffer = t->buffers[1];
    t->job.c.buffer = t->buffers[2];
    if (status == MO_OK) status = moi_cl_clblast_scratch(cl, &t->job, &size);
    if (status == MO_OK && size != 0) status = moi_cl_clblast_buffer(cl, size, NULL, &t->scratch);
    return status;
}

static void moi_cl_clblast_trial_end(mo_cl *cl, moi_cl_clblast_trial *t) {
    for (int i = 0; i < 3; i++)
        if (t->buffers[i]) clReleaseMemObject(t->buffers[i]);
    if (t->scratch) clReleaseMemObject(t->scratch);
    moi_cl_delete(&cl->allocator, t->numbers, t->n, sizeof *t->numbers);
    moi_cl_delete(&cl->allocator, t->work, t->job.d.k, sizeof *t->work);
}

/* Nearly square, and no multiple of any tile. */
static mo_gemm_desc moi_cl_clblast_square(
    const mo_gemm_desc *like, size_t size, float alpha, float beta) {
    mo_gemm_desc d;
    memset(&d, 0, sizeof d);
    d.m = size - 1;
    d.n = size + 1;
    d.k = size;
    d.trans_a = like->trans_a;
    d.trans_b = like->trans_b;
    d.lda = d.ldb = d.ldc = size + 3;
    d.alpha = alpha;
    d.beta = beta;
    return d;
}

static mo_status moi_cl_clblast_try(mo_cl *cl, mo_gemm_desc d, int *right) {
    moi_cl_clblast_trial t;
    memset(&t, 0, sizeof t);
    t.job.d = d;
    mo_status status = moi_cl_clblast_trial_begin(cl, &t);
    if (status == MO_OK) status = moi_cl_clblast_enqueue(cl, &t.job, t.scratch, NULL);
    if (status == MO_OK) {
        cl_int code = clEnqueueReadBuffer(cl->queues[MO_CL_COMPUTE], t.buffers[2], CL_TRUE, 0,
            t.n * sizeof(float), t.numbers, 0, NULL, NULL);
        if (code != CL_SUCCESS)
            status = moi_cl_fail(&cl->log, "clEnqueueReadBuffer", code, "the test of CLBlast");
    }
    if (status == MO_OK) *right = moi_cl_clblast_right(&t.job, t.numbers, t.work);
    moi_cl_clblast_trial_end(cl, &t);
    return status;
}

/* A small product, by one kernel, and one that is large enough to be padded and turned first, which
 * is from a size on that depends on the device. */
static mo_status moi_cl_clblast_test(mo_cl *cl, const mo_gemm_desc *like, int *right) {
    moi_cl_gemm_job job;
    size_t size = 193, scratch = 0;
    int small = 0, large = 0;
    memset(&job, 0, sizeof job);
    mo_status status = moi_cl_clblast_try(cl, moi_cl_clblast_square(like, 37, 2, -1), &small);
    for (; status == MO_OK; size = 2 * size + 63) {
        job.d = moi_cl_clblast_square(like, size, 1, 0);
        status = moi_cl_clblast_scratch(cl, &job, &scratch);
        if (scratch != 0 || size > 1024) break;
    }
    if (status == MO_OK) status = moi_cl_clblast_try(cl, job.d, &large);
    *right = small && large;
    return status;
}

/* Tuning entries and compilers are wrong for some devices: each pair of transposes is tested
 * once. */
static int moi_cl_clblast_works(mo_cl *cl, const mo_gemm_desc *d) {
    const unsigned pair = (d->trans_a ? 1u : 0u) | (d->trans_b ? 2u : 0u);
    const unsigned passed = 1u << pair, failed = 16u << pair;
    int right = 0;
    if (cl->clblast & (passed | failed)) return (cl->clblast & passed) != 0;
    const mo_status status = moi_cl_clblast_test(cl, d, &right);
    cl->clblast |= status == MO_OK && right ? passed : failed;
    if (cl->clblast & passed) return 1;
    moi_cl_say(&cl->log, MO_LOG_WARN,
        "cl: CLBlast does not work on '%s' with transposes %d and %d (%s): own kernels from now on",
        cl->info.name, d->trans_a != 0, d->trans_b != 0,
        status == MO_OK ? "wrong results" : mo_status_name(status));
    return 0;
}

/* ---- what mo_cl_gemm asks for ---------------------------------------------------------------- */

/* Its kernels count elements in int. */
static int moi_cl_clblast_in_range(const mo_cl_mem *mem, size_t n) {
    return mem->off % sizeof(float) == 0 && n <= mem->size / sizeof(float) &&
        mem->off / sizeof(float) + n < 0x80000000u;
}

static int moi_cl_clblast_fits(const moi_cl_gemm_job *job) {
    const mo_gemm_desc *d = &job->d;
    return job->a.type == MO_GEMM_F32 && job->b.type == MO_GEMM_F32 && d->k != 0 &&
        moi_cl_clblast_in_range(&job->a.data, job->n_a) &&
        moi_cl_clblast_in_range(&job->b.data, job->n_b) &&
        moi_cl_clblast_in_range(&job->c, job->n_c);
}

/* The workspace as a buffer of its own, which CLBlast wants; *out = NULL: it is too small, or the
 * scratch too large for an int to count. */
static mo_status moi_cl_clblast_part(
    mo_cl *cl, const mo_cl_mem *workspace, size_t size, cl_mem *out) {
    cl_int code = CL_SUCCESS;
    const uint64_t align = cl->info.base_align_bytes ? cl->info.base_align_bytes : 1;
    const uint64_t skip = (align - workspace->off % align) % align;
    *out = NULL;
    if (!workspace->buffer || size / sizeof(float) > 0x7fffffff) return MO_OK;
    if (workspace->size < skip || workspace->size - skip < size) return MO_OK;
    cl_buffer_region region;
    region.origin = (size_t)(workspace->off + skip);
    region.size = size;
    *out = clCreateSubBuffer(
        workspace->buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
    if (*out && code == CL_SUCCESS) return MO_OK;
    *out = NULL;
    return moi_cl_fail(&cl->log, "clCreateSubBuffer", code, "the workspace of products");
}

/* *done = 0: nothing was enqueued, the own kernel is to run. */
static mo_status moi_cl_clblast_run(
    const mo_cl_gemm_env *env, const moi_cl_gemm_job *job, int *done) {
    mo_cl *cl = env->cl;
    cl_mem scratch = NULL;
    cl_event event = NULL;
    size_t size = 0;
    *done = 0;
    if (!moi_cl_clblast_fits(job) || !moi_cl_clblast_works(cl, &job->d)) return MO_OK;
    mo_status status = moi_cl_clblast_scratch(cl, job, &size);
    if (status == MO_OK && size != 0) {
        status = moi_cl_clblast_part(cl, &env->workspace, size, &scratch);
        if (status == MO_OK && !scratch) return MO_OK;
    }
    if (status == MO_OK)
        status = moi_cl_clblast_enqueue(cl, job, scratch, moi_cl_recording(cl) ? &event : NULL);
    if (scratch) clReleaseMemObject(scratch); /* when the product is complete */
    if (event) {
        moi_cl_record_command(cl, MOI_CL_RAN_KERNEL, 0, event);
        clReleaseEvent(event);
    }
    *done = status == MO_OK;
    return status;
}

/* What the largest product needs when all three matrices are copied, padded to tiles of up to 128;
 * the tiles are those of the device, and a product that fits no tile asks for the most. */
static size_t moi_cl_clblast_most(mo_cl *cl, const mo_gemm_desc *largest) {
    const size_t pad = 128, align = (size_t)cl->info.base_align_bytes, most = (size_t)1 << 31;
    if (largest->m >= most || largest->n >= most || largest->k >= most) return 0;
    const size_t m = (largest->m + pad) / pad * pad, n = (largest->n + pad) / pad * pad;
    const size_t k = (largest->k + pad) / pad * pad;
    const double floats = (double)m * (double)k + (double)k * (double)n + (double)m * (double)n;
    return floats < 2147483648.0 ? (size_t)floats * sizeof(float) + align : 0;
}

static int moi_cl_clblast_built(void) { return 1; }

#else

static int moi_cl_clblast_built(void) { return 0; }
static mo_status moi_cl_clblast_run(
    const mo_cl_gemm_env *env, const moi_cl_gemm_job *job, int *done) {
    (void)env;
    (void)job;
    *done = 0;
    return MO_OK;
}
static size_t moi_cl_clblast_most(mo_cl *cl, const mo_gemm_desc *largest) {
    (void)cl;
    (void)largest;
    return 0;
}

#endif
