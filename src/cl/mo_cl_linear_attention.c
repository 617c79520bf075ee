/* mo_cl_linear_attention.c - see mo_cl_linear_attention.h and linear_attention.cl, whose parts
 * these are. */

enum { moi_cl_linear_out = 0, moi_cl_linear_q, moi_cl_linear_k, moi_cl_linear_v };

typedef struct moi_cl_linear_job {
    mo_cl *cl;
    mo_cl_linear_attention_desc d; /* with its defaults */
    const mo_cl_linear_attention_tensors *t;
    uint64_t n_in, n_out, n_rows; /* elements of q, of out, of norm */
} moi_cl_linear_job;

size_t mo_cl_linear_attention_workspace_size(const mo_cl_linear_attention_desc *desc) {
    size_t n;
    if (!desc || !moi_mul(desc->batch, desc->heads, &n) || !moi_mul(n, desc->seq, &n)) return 0;
    return moi_mul(n, sizeof(float), &n) ? n : 0;
}

/* Defaults, and how many elements the tensors have. */
static mo_status moi_cl_linear_sizes(moi_cl_linear_job *job) {
    mo_cl_linear_attention_desc *d = &job->d;
    size_t channels, heads, rows, n;
    if (d->batch == 0 || d->seq == 0 || d->heads == 0 || d->head_size == 0) return MO_E_INVALID;
    if (!(d->epsilon >= 0.0f)) return MO_E_INVALID;
    if (d->epsilon == 0.0f) d->epsilon = 1e-6f;
    if (!moi_mul(d->heads, d->head_size, &channels)) return MO_E_OVERFLOW;
    if (d->stride == 0) d->stride = channels;
    if (d->stride < channels) return MO_E_INVALID;
    if (!moi_mul(d->batch, d->heads, &heads) || !moi_mul(d->batch, d->seq, &rows) ||
        !moi_mul(rows, d->stride, &n) || n > SIZE_MAX / 8 || heads > INT32_MAX / 32 ||
        d->seq > INT32_MAX)
        return MO_E_OVERFLOW;
    if (d->head_size > 256) return MO_E_UNSUPPORTED;
    job->n_in = (uint64_t)(rows - 1) * d->stride + channels; /* the last row may end there */
    job->n_out = (uint64_t)rows * channels;
    job->n_rows = (uint64_t)heads * d->seq;
    return MO_OK;
}

static mo_status moi_cl_linear_check(moi_cl_linear_job *job, int backward) {
    const mo_cl_linear_attention_tensors *t = job->t;
    if (!job->cl || !t) return MO_E_INVALID;
    mo_status status = moi_cl_linear_sizes(job);
    if (status != MO_OK) return status;
    if (!moi_cl_has_floats(&t->q, job->n_in) || !moi_cl_has_floats(&t->k, job->n_in) ||
        !moi_cl_has_floats(&t->v, job->n_in) || !moi_cl_has_floats(&t->out, job->n_out) ||
        !moi_cl_has_floats(&t->norm, job->n_rows))
        return MO_E_INVALID;
    if (!backward) return MO_OK;
    if (!moi_cl_has_floats(&t->dout, job->n_out) || !moi_cl_has_floats(&t->dq, job->n_in) ||
        !moi_cl_has_floats(&t->dk, job->n_in) || !moi_cl_has_floats(&t->dv, job->n_in))
        return MO_E_INVALID;
    return moi_cl_has_floats(&job->d.workspace, job->n_rows) ? MO_OK : MO_E_NO_SPACE;
}

/* The options of a part, and how many groups share the columns of a head: 80 of them at most where
 * an item has a group to itself, so that sums stay in registers. */
static uint64_t moi_cl_linear_options(
    const moi_cl_linear_job *job, int part, char *options, size_t size) {
    const size_t n = job->d.head_size, columns = n + (part == moi_cl_linear_out);
    const size_t head = n <= 64 ? 64 : n <= 128 ? 128 : 256;
    const size_t vectors = moi_ceil_div(columns, 16), tiles = moi_ceil_div(vectors, 5);
    const unsigned items = (unsigned)job->cl->work_group,
                   per = (unsigned)moi_ceil_div(vectors, tiles);
    snprintf(options, size, "-DMO_PART=%d -DMO_HEAD=%u -DMO_PER=%u", part, (unsigned)head,
        items == 1 ? per : 0);
    return items == 1 ? tiles : moi_ceil_div(columns, items);
}

/* One of the four sums, to result. */
static mo_status moi_cl_linear_sum(
    const moi_cl_linear_job *job, int part, const mo_cl_mem *result) {
    char options[96];
    const mo_cl_linear_attention_desc *d = &job->d;
    const mo_cl_linear_attention_tensors *t = job->t;
    const uint64_t tiles = moi_cl_linear_options(job, part, options, sizeof options);
    moi_cl_call call = moi_cl_begin(job->cl, MOI_CL_mo_cl_linear_attention_sum, options);
    moi_cl_mem_arg(&call, &t->q, sizeof(float), job->n_in);
    moi_cl_mem_arg(&call, &t->k, sizeof(float), job->n_in);
    moi_cl_mem_arg(&call, &t->v, sizeof(float), job->n_in);
    moi_cl_mem_arg(&call, &t->norm, sizeof(float), job->n_rows);
    if (part != moi_cl_linear_out) {
        moi_cl_mem_arg(&call, &t->dout, sizeof(float), job->n_out);
        moi_cl_mem_arg(&call, &d->workspace, sizeof(float), job->n_rows);
    }
    moi_cl_mem_arg(
        &call, result, sizeof(float), part == moi_cl_linear_out ? job->n_out : job->n_in);
    moi_cl_u32_arg(&call, (uint32_t)d->seq);
    moi_cl_u32_arg(&call, (uint32_t)d->heads);
    moi_cl_u32_arg(&call, (uint32_t)d->head_size);
    moi_cl_u64_arg(&call, d->stride);
    moi_cl_u32_arg(&call, d->full != 0);
    return moi_cl_run(&call, (uint64_t)d->batch * d->heads * tiles);
}

/* The kernels that walk over the rows of out. They are compiled with the sums of part 0. */
static moi_cl_call moi_cl_linear_rows_begin(const moi_cl_linear_job *job, moi_cl_kernel id) {
    char options[96];
    moi_cl_linear_options(job, moi_cl_linear_out, options, sizeof options);
    moi_cl_call call = moi_cl_begin(job->cl, id, options);
    moi_cl_mem_arg(&call, &job->t->out, sizeof(float), job->n_out);
    return call;
}
static mo_status moi_cl_linear_rows_end(const moi_cl_linear_job *job, moi_cl_call *call) {
    moi_cl_u64_arg(call, job->n_rows);
    moi_cl_u32_arg(call, (uint32_t)job->d.seq);
    moi_cl_u32_arg(call, (uint32_t)job->d.heads);
    moi_cl_u32_arg(call, (uint32_t)job->d.head_size);
    return moi_cl_run(call, moi_cl_row_groups(job->cl, job->n_rows));
}

static moi_cl_linear_job moi_cl_linear_job_of(mo_cl *cl, const mo_cl_linear_attention_desc *desc,
    const mo_cl_linear_attention_tensors *tensors) {
    moi_cl_linear_job job;
    memset(&job, 0, sizeof job); /* no desc: sizes of 0, which are refused */
    job.cl = cl;
    if (desc) job.d = *desc;
    job.t = tensors;
    return job;
}

mo_status mo_cl_linear_attention_forward(mo_cl *cl, const mo_cl_linear_attention_desc *desc,
    const mo_cl_linear_attention_tensors *tensors) {
    moi_cl_linear_job job = moi_cl_linear_job_of(cl, desc, tensors);
    mo_status status = moi_cl_linear_check(&job, 0);
    if (status == MO_OK) status = moi_cl_linear_sum(&job, moi_cl_linear_out, &tensors->out);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_linear_rows_begin(&job, MOI_CL_mo_cl_linear_attention_divide);
    moi_cl_mem_arg(&call, &tensors->norm, sizeof(float), job.n_rows);
    moi_cl_f32_arg(&call, job.d.epsilon);
    return moi_cl_linear_rows_end(&job, &call);
}

mo_status mo_cl_linear_attention_backward(mo_cl *cl, const mo_cl_linear_attention_desc *desc,
    const mo_cl_linear_attention_tensors *tensors) {
    moi_cl_linear_job job = moi_cl_linear_job_of(cl, desc, tensors);
    mo_status status = moi_cl_linear_check(&job, 1);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_linear_rows_begin(&job, MOI_CL_mo_cl_linear_attention_dot);
    moi_cl_mem_arg(&call, &tensors->dout, sizeof(float), job.n_out);
    moi_cl_mem_arg(&call, &tensors->norm, sizeof(float), job.n_rows);
    moi_cl_mem_arg(&call, &job.d.workspace, sizeof(float), job.n_rows);
    status = moi_cl_linear_rows_end(&job, &call);
    if (status == MO_OK) status = moi_cl_linear_sum(&job, moi_cl_linear_q, &tensors->dq);
    if (status == MO_OK) status = moi_cl_linear_sum(&job, moi_cl_linear_k, &tensors->dk);
    return status == MO_OK ? moi_cl_linear_sum(&job, moi_cl_linear_v, &tensors->dv) : status;
}
