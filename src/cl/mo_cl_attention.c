/* mo_cl_attention.c - see mo_cl_attention.h. A device with one item to a group has kernels of its
 * own (attention_lanes.cl); the others get the shape of their tile from here. */

enum { moi_cl_attention_out = 0, moi_cl_attention_q, moi_cl_attention_kv };

typedef struct moi_cl_attention_job {
    mo_cl *cl;
    mo_cl_attention_desc d; /* with its defaults */
    const mo_cl_attention_tensors *t;
    uint64_t n_in, n_kv, n_out, n_rows; /* elements of q, of k, of out, of lse */
    uint64_t n_blocks;
} moi_cl_attention_job;

size_t mo_cl_attention_workspace_size(const mo_cl_attention_desc *desc) {
    size_t n;
    if (!desc || !moi_mul(desc->batch, desc->heads, &n) || !moi_mul(n, desc->seq, &n)) return 0;
    return moi_mul(n, sizeof(float), &n) ? n : 0;
}

/* Strides, and how many elements the tensors have. */
static mo_status moi_cl_attention_strides(moi_cl_attention_job *job) {
    mo_cl_attention_desc *d = &job->d;
    size_t channels, heads, rows, n;
    if (!moi_mul(d->heads, d->head_size, &channels)) return MO_E_OVERFLOW;
    const size_t kv_channels = d->kv_heads * d->head_size;
    if (d->kv_stride == 0) d->kv_stride = d->stride == 0 ? kv_channels : d->stride;
    if (d->stride == 0) d->stride = channels;
    if (d->stride < channels || d->kv_stride < kv_channels) return MO_E_INVALID;
    if (!moi_mul(d->batch, d->heads, &heads) || !moi_mul(d->batch, d->seq, &rows) ||
        !moi_mul(rows, moi_max(d->stride, d->kv_stride), &n) || n > SIZE_MAX / 8 ||
        heads > INT32_MAX || d->seq > INT32_MAX - 1024)
        return MO_E_OVERFLOW;
    job->n_in = (uint64_t)(rows - 1) * d->stride + channels; /* the last row may end there */
    job->n_kv = (uint64_t)(rows - 1) * d->kv_stride + kv_channels;
    job->n_out = (uint64_t)rows * channels;
    job->n_rows = (uint64_t)heads * d->seq;
    return MO_OK;
}

/* Defaults, and sizes that go together. */
static mo_status moi_cl_attention_sizes(moi_cl_attention_job *job) {
    mo_cl_attention_desc *d = &job->d;
    if (d->batch == 0 || d->seq == 0 || d->heads == 0 || d->head_size == 0) return MO_E_INVALID;
    if (d->kv_heads == 0) d->kv_heads = d->heads;
    if (d->heads % d->kv_heads != 0 || d->block % 64 != 0) return MO_E_INVALID;
    if (!(d->dropout >= 0.0f && d->dropout < 1.0f)) return MO_E_INVALID;
    const mo_status status = moi_cl_attention_strides(job);
    if (status != MO_OK) return status;
    if (d->head_size > 256) return MO_E_UNSUPPORTED;
    if (d->scale == 0.0f) d->scale = 1.0f / sqrtf((float)d->head_size);
    if (d->window == 0 || d->window > d->seq) d->window = d->seq;
    if (d->block == 0) d->block = 64;
    d->block = moi_min(d->block, moi_ceil_div(d->seq, 64) * 64);
    job->n_blocks = (uint64_t)moi_ceil_div(d->seq, d->block) * moi_ceil_div(d->seq, d->block);
    return MO_OK;
}

static mo_status moi_cl_attention_check(moi_cl_attention_job *job, int backward) {
    const mo_cl_attention_tensors *t = job->t;
    if (!job->cl || !t) return MO_E_INVALID;
    mo_status status = moi_cl_attention_sizes(job);
    if (status != MO_OK) return status;
    if (!moi_cl_has_floats(&t->q, job->n_in) || !moi_cl_has_floats(&t->k, job->n_kv) ||
        !moi_cl_has_floats(&t->v, job->n_kv) || !moi_cl_has_floats(&t->out, job->n_out) ||
        !moi_cl_has_floats(&t->lse, job->n_rows))
        return MO_E_INVALID;
    if (job->d.blocks.buffer && job->d.blocks.size < job->n_blocks) return MO_E_INVALID;
    if (!backward) return MO_OK;
    if (!moi_cl_has_floats(&t->dout, job->n_out) || !moi_cl_has_floats(&t->dq, job->n_in) ||
        !moi_cl_has_floats(&t->dk, job->n_kv) || !moi_cl_has_floats(&t->dv, job->n_kv))
        return MO_E_INVALID;
    return moi_cl_has_floats(&job->d.workspace, job->n_rows) ? MO_OK : MO_E_NO_SPACE;
}

static uint32_t moi_cl_least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The options of a part of the work, and how many rows a group has. Few enough numbers for an item
 * that registers hold them: up to 32 sums and as many scores. */
static uint32_t moi_cl_attention_options(
    const moi_cl_attention_job *job, int part, char *options, size_t size) {
    const uint32_t items = (uint32_t)job->cl->work_group, n = (uint32_t)job->d.head_size;
    const uint32_t head = n <= 64 ? 64 : n <= 128 ? 128 : 256;
    const int blocks = job->d.blocks.buffer != NULL, drop = job->d.dropout > 0.0f;
    if (items == 1) {
        snprintf(options, size, "-DMO_BLOCKS=%d -DMO_DROP=%d -DMO_HEAD=%u", blocks, drop,
            (unsigned)head);
        return 16;
    }
    const uint32_t columns = items >= 256 ? 16 : items >= 64 ? 8 : items >= 8 ? 4 : 2;
    const uint32_t sums = (part == moi_cl_attention_kv ? 2 : 1) * head / columns;
    const uint32_t most = part == moi_cl_attention_out && items <= 128 ? 4 : 2;
    const uint32_t rows = moi_cl_least(most, 32 / moi_cl_least(sums, 32));
    snprintf(options, size,
        "-DMO_BLOCKS=%d -DMO_DROP=%d -DMO_PART=%d -DMO_HEAD=%u -DMO_TC=%u -DMO_MR=%u", blocks, drop,
        part, (unsigned)head, (unsigned)columns, (unsigned)rows);
    return items / columns * rows;
}

static moi_cl_call moi_cl_attention_begin(
    const moi_cl_attention_job *job, int part, moi_cl_kernel id, uint64_t *n_groups) {
    char options[128];
    const uint32_t rows = moi_cl_attention_options(job, part, options, sizeof options);
    const mo_cl_attention_tensors *t = job->t;
    const size_t heads = part == moi_cl_attention_kv ? job->d.kv_heads : job->d.heads;
    moi_cl_call call = moi_cl_begin(job->cl, id, options);
    *n_groups = (uint64_t)job->d.batch * heads * ((job->d.seq + rows - 1) / rows);
    if (*n_groups > UINT32_MAX && call.status == MO_OK) call.status = MO_E_OVERFLOW;
    if (job->d.blocks.buffer && job->d.block % rows != 0 && call.status == MO_OK)
        call.status = MO_E_UNSUPPORTED;
    moi_cl_mem_arg(&call, &t->q, sizeof(float), job->n_in);
    moi_cl_mem_arg(&call, &t->k, sizeof(float), job->n_kv);
    moi_cl_mem_arg(&call, &t->v, sizeof(float), job->n_kv);
    return call;
}

static mo_status moi_cl_attention_end(
    const moi_cl_attention_job *job, moi_cl_call *call, uint64_t n_groups) {
    const mo_cl_attention_desc *d = &job->d;
    moi_cl_u32_arg(call, (uint32_t)d->seq);
    moi_cl_u32_arg(call, (uint32_t)d->heads);
    moi_cl_u32_arg(call, (uint32_t)d->kv_heads);
    moi_cl_u32_arg(call, (uint32_t)d->head_size);
    moi_cl_u64_arg(call, d->stride);
    moi_cl_u64_arg(call, d->kv_stride);
    moi_cl_f32_arg(call, d->scale);
    moi_cl_u32_arg(call, d->full != 0);
    moi_cl_u32_arg(call, (uint32_t)d->window);
    if (d->blocks.buffer) {
        moi_cl_mem_arg(call, &d->blocks, 1, job->n_blocks);
        moi_cl_u32_arg(call, (uint32_t)d->block);
    }
    if (d->dropout > 0.0f) {
        moi_cl_u64_arg(call, d->seed);
        moi_cl_u64_arg(call, d->offset);
        moi_cl_u32_arg(call, (uint32_t)((double)d->dropout * 4294967296.0));
        moi_cl_f32_arg(call, 1.0f / (1.0f - d->dropout));
    }
    return moi_cl_run(call, n_groups);
}

static mo_status moi_cl_attention_run_dq(const moi_cl_attention_job *job) {
    const mo_cl_attention_tensors *t = job->t;
    uint64_t n_groups;
    moi_cl_call call =
        moi_cl_attention_begin(job, moi_cl_attention_q, MOI_CL_mo_cl_attention_dq, &n_groups);
    moi_cl_mem_arg(&call, &t->out, sizeof(float), job->n_out);
    moi_cl_mem_arg(&call, &t->lse, sizeof(float), job->n_rows);
    moi_cl_mem_arg(&call, &t->dout, sizeof(float), job->n_out);
    moi_cl_mem_arg(&call, &job->d.workspace, sizeof(float), job->n_rows);
    moi_cl_mem_arg(&call, &t->dq, sizeof(float), job->n_in);
    return moi_cl_attention_end(job, &call, n_groups);
}

static mo_status moi_cl_attention_run_dkv(const moi_cl_attention_job *job) {
    const mo_cl_attention_tensors *t = job->t;
    uint64_t n_groups;
    moi_cl_call call =
        moi_cl_attention_begin(job, moi_cl_attention_kv, MOI_CL_mo_cl_attention_dkv, &n_groups);
    moi_cl_mem_arg(&call, &t->lse, sizeof(float), job->n_rows);
    moi_cl_mem_arg(&call, &t->dout, sizeof(float), job->n_out);
    moi_cl_mem_arg(&call, &job->d.workspace, sizeof(float), job->n_rows);
    moi_cl_mem_arg(&call, &t->dk, sizeof(float), job->n_kv);
    moi_cl_mem_arg(&call, &t->dv, sizeof(float), job->n_kv);
    return moi_cl_attention_end(job, &call, n_groups);
}

static moi_cl_attention_job moi_cl_attention_job_of(
    mo_cl *cl, const mo_cl_attention_desc *desc, const mo_cl_attention_tensors *tensors) {
    moi_cl_attention_job job;
    memset(&job, 0, sizeof job); /* no desc: sizes of 0, which are refused */
    job.cl = cl;
    if (desc) job.d = *desc;
    job.t = tensors;
    return job;
}

mo_status mo_cl_attention_forward(
    mo_cl *cl, const mo_cl_attention_desc *desc, const mo_cl_attention_tensors *tensors) {
    moi_cl_attention_job job = moi_cl_attention_job_of(cl, desc, tensors);
    uint64_t n_groups;
    mo_status status = moi_cl_attention_check(&job, 0);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_attention_begin(
        &job, moi_cl_attention_out, MOI_CL_mo_cl_attention_forward, &n_groups);
    moi_cl_mem_arg(&call, &tensors->out, sizeof(float), job.n_out);
    moi_cl_mem_arg(&call, &tensors->lse, sizeof(float), job.n_rows);
    return moi_cl_attention_end(&job, &call, n_groups);
}

mo_status mo_cl_attention_backward(
    mo_cl *cl, const mo_cl_attention_desc *desc, const mo_cl_attention_tensors *tensors) {
    moi_cl_attention_job job = moi_cl_attention_job_of(cl, desc, tensors);
    mo_status status = moi_cl_attention_check(&job, 1);
    if (status == MO_OK) status = moi_cl_attention_run_dq(&job);
    return status == MO_OK ? moi_cl_attention_run_dkv(&job) : status;
}
