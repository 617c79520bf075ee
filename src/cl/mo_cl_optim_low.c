/* mo_cl_optim_low.c - the low-rank kinds of mo_cl_optim.h, with the bits of mo_optim_low.c: strips
 * of tiles go through scratch that the mo_cl keeps, one after the other. */

/* Numbers of r and of u in the scratch: whole chunks of any rank and block. */
enum { moi_cl_low_numbers = 65536 };

/* numbers: the states by themselves, of AdamW; r, u: scratch. */
typedef struct moi_cl_low_job {
    const moi_cl_optim_job *optim;
    mo_optim_desc adam;
    mo_cl_optim_state numbers;
    moi_low_shape shape;
    mo_cl_mem r, u;
    uint64_t t, seed;
    float scale, keep;
} moi_cl_low_job;

static mo_status moi_cl_low_scratch(mo_cl *cl, mo_cl_mem *r, mo_cl_mem *u) {
    const size_t bytes = moi_cl_low_numbers * sizeof(float);
    cl_int code = CL_SUCCESS;
    if (!cl->low) cl->low = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, 2 * bytes, NULL, &code);
    if (!cl->low) return moi_cl_fail(&cl->log, "clCreateBuffer", code, "%zu bytes", 2 * bytes);
    mo_cl_mem both;
    memset(&both, 0, sizeof both);
    both.buffer = cl->low;
    both.size = 2 * bytes;
    *r = mo_cl_part(&both, 0, bytes);
    *u = mo_cl_part(&both, bytes, bytes);
    return MO_OK;
}

static mo_cl_mem moi_cl_low_part(const moi_cl_low_job *job, size_t begin, size_t n) {
    return mo_cl_part(
        &job->optim->state->extra, (uint64_t)begin * sizeof(float), (uint64_t)n * sizeof(float));
}

static mo_cl_mem moi_cl_low_basis(const moi_cl_low_job *job) {
    return moi_cl_low_part(job, 0, job->shape.small * job->shape.rank);
}

static void moi_cl_low_shape_args(moi_cl_call *call, const moi_low_shape *s) {
    moi_cl_u64_arg(call, s->small);
    moi_cl_u64_arg(call, s->large);
    moi_cl_u64_arg(call, s->channel_step);
    moi_cl_u64_arg(call, s->number_step);
    moi_cl_u32_arg(call, (uint32_t)s->rank);
}

static moi_cl_call moi_cl_low_begin(const moi_cl_low_job *job, moi_cl_kernel kernel, int signs) {
    return moi_cl_begin(job->optim->cl, kernel, signs ? "-DMO_SIGNS=1" : "-DMO_SIGNS=0");
}

/* The states do not matter there. */
static moi_cl_call moi_cl_low_begin_step(const moi_cl_optim_job *optim, moi_cl_kernel kernel) {
    char options[64];
    snprintf(options, sizeof options, "-DMO_KIND=%d -DMO_STATE=0 -DMO_PARAM=%d", (int)optim->d.kind,
        optim->type);
    return moi_cl_begin(optim->cl, kernel, options);
}

/* ---- strips ---------------------------------------------------------------------------------- */

/* r of n tiles from first on, and u = 0 */
static mo_status moi_cl_low_project(const moi_cl_low_job *job, size_t first, size_t n) {
    const moi_low_shape *s = &job->shape;
    const size_t numbers = n * moi_low_lanes * s->rank;
    const int signs = job->optim->d.kind != MO_OPTIM_GALORE;
    moi_cl_call call = moi_cl_low_begin(job, MOI_CL_mo_cl_low_project, signs);
    moi_cl_mem_arg(&call, &job->optim->grad, sizeof(float), job->optim->state->n);
    if (!signs) {
        const mo_cl_mem basis = moi_cl_low_basis(job);
        moi_cl_mem_arg(&call, &basis, sizeof(float), s->small * s->rank);
    }
    moi_cl_mem_arg(&call, &job->r, sizeof(float), numbers);
    moi_cl_mem_arg(&call, &job->u, sizeof(float), numbers);
    moi_cl_u64_arg(&call, first * moi_low_lanes * s->rank);
    moi_cl_u64_arg(&call, numbers);
    moi_cl_low_shape_args(&call, s);
    moi_cl_f32_arg(&call, job->scale);
    moi_cl_u64_arg(&call, job->seed);
    return moi_cl_run(&call, moi_cl_tiles(job->optim->cl, numbers));
}

/* AdamW makes u of r. */
static mo_status moi_cl_low_adam(const moi_cl_low_job *job, size_t first, size_t n) {
    const size_t tile = moi_low_lanes * job->shape.rank;
    mo_cl_optim_state part;
    const mo_status status = mo_cl_optim_state_slice(&job->numbers, first * tile, n * tile, &part);
    if (status != MO_OK) return status;
    return mo_cl_optim_step(job->optim->cl, &job->adam, job->t, job->u, job->r, &part);
}

static mo_status moi_cl_low_measure(const moi_cl_low_job *job, size_t first, size_t n) {
    const moi_low_shape *s = &job->shape;
    const size_t all = s->tiles * moi_low_lanes, numbers = n * moi_low_lanes * s->rank;
    const mo_cl_mem to = moi_cl_low_part(job, moi_low_factors, all);
    const mo_cl_mem length = moi_cl_low_part(job, moi_low_lengths(s), all);
    moi_cl_call call = moi_cl_low_begin(job, MOI_CL_mo_cl_low_lengths, 1);
    moi_cl_mem_arg(&call, &job->optim->grad, sizeof(float), job->optim->state->n);
    moi_cl_mem_arg(&call, &job->r, sizeof(float), numbers);
    moi_cl_mem_arg(&call, &job->u, sizeof(float), numbers);
    moi_cl_mem_arg(&call, &to, sizeof(float), all);
    moi_cl_mem_arg(&call, &length, sizeof(float), all);
    moi_cl_u64_arg(&call, first * moi_low_lanes);
    moi_cl_u64_arg(&call, n * moi_low_lanes);
    moi_cl_low_shape_args(&call, s);
    moi_cl_f32_arg(&call, (float)fabs(job->optim->d.grad_scale));
    moi_cl_u32_arg(&call, job->optim->d.kind == MO_OPTIM_APOLLO_MINI);
    return moi_cl_run(&call, moi_cl_tiles(job->optim->cl, n * moi_low_lanes));
}

static mo_status moi_cl_low_back(const moi_cl_low_job *job, size_t first, size_t n) {
    const moi_low_shape *s = &job->shape;
    const moi_cl_optim_job *optim = job->optim;
    const mo_cl_mem basis = moi_cl_low_basis(job);
    moi_cl_call call = moi_cl_low_begin_step(optim, MOI_CL_mo_cl_low_back);
    moi_cl_optim_param_args(&call, optim);
    moi_cl_mem_arg(&call, &basis, sizeof(float), s->small * s->rank);
    moi_cl_mem_arg(&call, &job->u, sizeof(float), n * moi_low_lanes * s->rank);
    moi_cl_u64_arg(&call, first);
    moi_cl_u64_arg(&call, n * moi_low_lanes * s->small);
    moi_cl_low_shape_args(&call, s);
    moi_cl_f32_arg(&call, job->keep);
    moi_cl_f32_arg(&call, (float)(optim->d.lr * optim->d.alpha));
    moi_cl_u64_arg(&call, optim->seed);
    moi_cl_u64_arg(&call, optim->state->offset);
    return moi_cl_run(&call, moi_cl_tiles(optim->cl, n * moi_low_lanes * s->small));
}

static mo_status moi_cl_low_strips(const moi_cl_low_job *job) {
    const moi_low_shape *s = &job->shape;
    const mo_cl_optim_state *state = job->optim->state;
    const size_t chunk = moi_low_chunk_tiles(s, state->precision, state->block);
    const size_t chunks = moi_cl_low_numbers / (chunk * moi_low_lanes * s->rank);
    mo_status status = MO_OK;
    for (size_t first = 0; first < s->tiles && status == MO_OK; first += chunk * chunks) {
        const size_t n = moi_min(chunk * chunks, s->tiles - first);
        status = moi_cl_low_project(job, first, n);
        if (status == MO_OK) status = moi_cl_low_adam(job, first, n);
        if (status != MO_OK) return status;
        status = job->optim->d.kind == MO_OPTIM_GALORE ? moi_cl_low_back(job, first, n)
                                                       : moi_cl_low_measure(job, first, n);
    }
    return status;
}

/* ---- APOLLO ---------------------------------------------------------------------------------- */

static mo_status moi_cl_low_scaled(const moi_cl_low_job *job, float step) {
    const moi_low_shape *s = &job->shape;
    const moi_cl_optim_job *optim = job->optim;
    const size_t all = s->tiles * moi_low_lanes;
    const mo_cl_mem factors = moi_cl_low_part(job, moi_low_factors, all);
    moi_cl_call call = moi_cl_low_begin_step(optim, MOI_CL_mo_cl_low_scaled);
    moi_cl_optim_param_args(&call, optim);
    moi_cl_mem_arg(&call, &optim->grad, sizeof(float), optim->state->n);
    moi_cl_mem_arg(&call, &factors, sizeof(float), all);
    moi_cl_u64_arg(&call, optim->state->columns);
    moi_cl_u32_arg(&call, s->channel_step == 1);
    moi_cl_f32_arg(&call, job->keep);
    moi_cl_f32_arg(&call, step);
    moi_cl_u64_arg(&call, optim->seed);
    moi_cl_u64_arg(&call, optim->state->offset);
    moi_cl_u64_arg(&call, optim->state->n);
    return moi_cl_run(&call, moi_cl_tiles(optim->cl, optim->state->n));
}

static mo_status moi_cl_low_apollo(const moi_cl_low_job *job, double squares) {
    const moi_cl_optim_job *optim = job->optim;
    mo_cl *cl = optim->cl;
    const size_t all = job->shape.tiles * moi_low_lanes;
    const mo_cl_mem norm = moi_cl_low_part(job, 0, 1);
    double first = 0, second = 0;
    float last = 0;
    mo_status status =
        mo_cl_accum_square_sum(cl, moi_cl_low_part(job, moi_low_factors, all), all, &first);
    if (status == MO_OK)
        status = mo_cl_accum_square_sum(
            cl, moi_cl_low_part(job, moi_low_lengths(&job->shape), all), all, &second);
    if (status == MO_OK) status = moi_cl_read(cl, &norm, &last, sizeof last);
    if (status != MO_OK) return status;
    const float step = moi_low_step_of(&optim->d, first, second, squares, &last);
    status = moi_cl_write(cl, &norm, &last, sizeof last);
    return status == MO_OK ? moi_cl_low_scaled(job, step) : status;
}

/* ---- GALORE's directions --------------------------------------------------------------------- */

/* to [n_out][to_ld] = scale times the gradient, or its transpose, times from; width columns. */
typedef struct moi_cl_low_product {
    mo_cl_mem from, to;
    size_t out_step, in_step, n_out, n_in, from_ld, to_ld, width;
    float scale;
} moi_cl_low_product;

static mo_status moi_cl_low_multiply(const moi_cl_low_job *job, const moi_cl_low_product *x) {
    mo_cl *cl = job->optim->cl;
    const size_t side = cl->work_group == 1 ? 16 : cl->work_group;
    moi_cl_call call = moi_cl_low_begin(job, MOI_CL_mo_cl_low_multiply, 0);
    moi_cl_mem_arg(&call, &job->optim->grad, sizeof(float), job->optim->state->n);
    moi_cl_mem_arg(&call, &x->from, sizeof(float), (x->n_in - 1) * x->from_ld + x->width);
    moi_cl_mem_arg(&call, &x->to, sizeof(float), (x->n_out - 1) * x->to_ld + x->width);
    moi_cl_u64_arg(&call, x->out_step);
    moi_cl_u64_arg(&call, x->in_step);
    moi_cl_u64_arg(&call, x->n_out);
    moi_cl_u64_arg(&call, x->n_in);
    moi_cl_u64_arg(&call, x->from_ld);
    moi_cl_u64_arg(&call, x->to_ld);
    moi_cl_u32_arg(&call, (uint32_t)x->width);
    moi_cl_f32_arg(&call, x->scale);
    return moi_cl_run(&call, moi_ceil_div(x->n_out, side));
}

/* width columns of the directions, from k on, become G G^T times them. */
static mo_status moi_cl_low_power_columns(
    const moi_cl_low_job *job, size_t k, size_t width, float scale) {
    const moi_low_shape *s = &job->shape;
    moi_cl_low_product x;
    x.scale = scale;
    x.width = width;
    x.from = moi_cl_low_part(job, k, s->small * s->rank - k);
    x.from_ld = s->rank;
    x.to = moi_cl_low_part(job, moi_low_channels(s), s->large * moi_low_width(s));
    x.to_ld = moi_low_width(s);
    x.out_step = s->channel_step;
    x.in_step = s->number_step;
    x.n_out = s->large;
    x.n_in = s->small;
    const mo_status status = moi_cl_low_multiply(job, &x);
    if (status != MO_OK) return status;
    const moi_cl_low_product first = x;
    x.from = first.to;
    x.from_ld = first.to_ld;
    x.to = first.from;
    x.to_ld = first.from_ld;
    x.out_step = first.in_step;
    x.in_step = first.out_step;
    x.n_out = first.n_in;
    x.n_in = first.n_out;
    return moi_cl_low_multiply(job, &x);
}

static mo_status moi_cl_low_signs(const moi_cl_low_job *job) {
    const size_t n = job->shape.small * job->shape.rank;
    const mo_cl_mem basis = moi_cl_low_basis(job);
    moi_cl_call call = moi_cl_low_begin(job, MOI_CL_mo_cl_low_signs, 1);
    moi_cl_mem_arg(&call, &basis, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, (uint32_t)job->shape.rank);
    moi_cl_u64_arg(&call, job->seed);
    return moi_cl_run(&call, moi_cl_tiles(job->optim->cl, n));
}

static mo_status moi_cl_low_orthonormal(const moi_cl_low_job *job) {
    const moi_low_shape *s = &job->shape;
    const mo_cl_mem basis = moi_cl_low_basis(job);
    moi_cl_call call = moi_cl_low_begin(job, MOI_CL_mo_cl_low_orthonormal, 0);
    moi_cl_mem_arg(&call, &basis, sizeof(float), s->small * s->rank);
    moi_cl_u64_arg(&call, s->small);
    moi_cl_u32_arg(&call, (uint32_t)s->rank);
    return moi_cl_run(&call, 1);
}

static mo_status moi_cl_low_find_directions(const moi_cl_low_job *job, double squares) {
    const size_t rank = job->shape.rank;
    const float scale = moi_low_power_scale(squares);
    mo_status status = moi_cl_low_signs(job);
    for (int round = 0; round < moi_low_rounds && status == MO_OK; round++) {
        for (size_t k = 0; k < rank && status == MO_OK; k += moi_low_wide)
            status = moi_cl_low_power_columns(job, k, moi_min(moi_low_wide, rank - k), scale);
        for (int i = 0; i < 2 && status == MO_OK; i++) status = moi_cl_low_orthonormal(job);
    }
    return status;
}

/* ---- the step -------------------------------------------------------------------------------- */

static mo_status moi_cl_low_run(const moi_cl_optim_job *optim, uint64_t t, double squares) {
    const mo_cl_optim_state *s = optim->state;
    const mo_optim_desc *d = &optim->d;
    moi_cl_low_job job;
    memset(&job, 0, sizeof job);
    job.optim = optim;
    job.adam = moi_low_adam(d, s->precision, s->block);
    job.numbers = *s;
    job.numbers.n = s->n_states;
    memset(&job.numbers.extra, 0, sizeof job.numbers.extra);
    memset(&job.numbers.master, 0, sizeof job.numbers.master);
    job.numbers.rank = job.numbers.n_extra = 0;
    job.shape = moi_low_shape_of(s->n, s->columns, s->rank);
    job.t = t;
    job.seed = moi_low_seed(d, t);
    job.scale = moi_low_scale(d, s->rank);
    job.keep = (float)(1 - d->lr * d->weight_decay);
    mo_status status = moi_cl_low_scratch(optim->cl, &job.r, &job.u);
    if (status == MO_OK && d->kind == MO_OPTIM_GALORE && moi_low_is_due(d, t))
        status = moi_cl_low_find_directions(&job, squares);
    if (status == MO_OK) status = moi_cl_low_strips(&job);
    if (status != MO_OK || d->kind == MO_OPTIM_GALORE) return status;
    return moi_cl_low_apollo(&job, squares);
}
