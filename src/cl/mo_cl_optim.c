/* mo_cl_optim.c - see mo_cl_optim.h. */

/* ---- states --------------------------------------------------------------------------------- */

static mo_cl_mem *moi_cl_optim_array(mo_cl_optim_state *s, int array) {
    switch (array) {
    case moi_optim_m: return &s->m;
    case moi_optim_m_absmax: return &s->m_absmax;
    case moi_optim_slow: return &s->slow;
    case moi_optim_slow_absmax: return &s->slow_absmax;
    case moi_optim_v: return &s->v;
    case moi_optim_v_absmax: return &s->v_absmax;
    case moi_optim_row: return &s->row;
    case moi_optim_column: return &s->column;
    case moi_optim_extra: return &s->extra;
    default: return &s->master;
    }
}

/* Every byte of mem, whose offset is a multiple of 4 and whose size becomes one. */
static mo_status moi_cl_optim_set(mo_cl *cl, mo_cl_mem mem, uint64_t size, int byte) {
    const uint64_t words = size / 4 + (size % 4 != 0);
    if (words == 0) return MO_OK;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_fill_u32, NULL);
    moi_cl_mem_arg(&call, &mem, 4, words);
    moi_cl_u32_arg(&call, (uint32_t)byte * 0x01010101u);
    moi_cl_u64_arg(&call, words);
    return moi_cl_run(&call, moi_cl_tiles(cl, words));
}

/* The codes of zero: what lies behind an array up to its line stays 0, as on the host. */
static mo_status moi_cl_optim_zero(
    mo_cl *cl, const moi_optim_layout *layout, int plain_v, const mo_cl_mem *memory) {
    mo_status status = moi_cl_optim_set(cl, *memory, layout->size, 0);
    for (int i = 0; i < moi_optim_n_arrays && status == MO_OK; i++) {
        const int first = moi_optim_first_byte(layout, plain_v, i);
        size_t bytes = 0;
        if (first == 0 || !(layout->has >> i & 1)) continue;
        if (!moi_optim_array_bytes(layout, i, &bytes)) return MO_E_OVERFLOW;
        mo_cl_mem part = mo_cl_part(memory, layout->at[i], bytes / 4 * 4);
        status = moi_cl_optim_set(cl, part, bytes / 4 * 4, first);
        if (status != MO_OK || bytes % 4 == 0) continue;
        const uint32_t last = (uint32_t)first * 0x01010101u >> 8 * (4 - bytes % 4);
        part = mo_cl_part(memory, layout->at[i] + bytes / 4 * 4, 4);
        moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_fill_u32, NULL);
        moi_cl_mem_arg(&call, &part, 4, 1);
        moi_cl_u32_arg(&call, last);
        moi_cl_u64_arg(&call, 1);
        status = moi_cl_run(&call, 1);
    }
    return status;
}

/* Where everything lies; nothing is written. */
static mo_status moi_cl_optim_attach(const mo_optim_desc *desc, size_t n, const mo_cl_mem *memory,
    moi_optim_layout *layout, mo_cl_optim_state *state) {
    mo_cl_optim_state s;
    if (!desc || !memory->buffer || memory->off % 4 != 0 || !state) return MO_E_INVALID;
    const mo_optim_desc d = mo_optim_desc_defaults(desc);
    mo_status status = moi_optim_layout_check(&d, n);
    if (status != MO_OK) return status;
    if (!moi_optim_lay_out(&d, n, layout)) return MO_E_OVERFLOW;
    if (memory->size < layout->size) return MO_E_NO_SPACE;
    memset(&s, 0, sizeof s);
    s.n = n;
    s.precision = layout->precision;
    s.block = layout->block;
    s.plain_v = d.plain_v;
    s.rows = layout->rows;
    s.columns = layout->columns;
    s.rank = layout->rank;
    s.n_states = layout->n_states;
    s.n_extra = layout->n_extra;
    for (int i = 0; i < moi_optim_n_arrays; i++) {
        size_t bytes = 0;
        if (layout->has >> i & 1 && moi_optim_array_bytes(layout, i, &bytes))
            *moi_cl_optim_array(&s, i) = mo_cl_part(memory, layout->at[i], bytes);
    }
    *state = s;
    return MO_OK;
}

mo_status mo_cl_optim_state_init(
    mo_cl *cl, const mo_optim_desc *desc, size_t n, mo_cl_mem memory, mo_cl_optim_state *state) {
    moi_optim_layout layout;
    mo_cl_optim_state s;
    if (!cl || !cl->context || !state) return MO_E_INVALID;
    mo_status status = moi_cl_optim_attach(desc, n, &memory, &layout, &s);
    if (status == MO_OK) status = moi_cl_optim_zero(cl, &layout, s.plain_v, &memory);
    if (status == MO_OK) *state = s;
    return status;
}

mo_status mo_cl_optim_state_attach(
    const mo_optim_desc *desc, size_t n, mo_cl_mem memory, mo_cl_optim_state *state) {
    moi_optim_layout layout;
    return moi_cl_optim_attach(desc, n, &memory, &layout, state);
}

static void moi_cl_optim_cut(mo_cl_mem *mem, uint64_t off, uint64_t size) {
    if (mem->buffer) *mem = mo_cl_part(mem, off, size);
}

mo_status mo_cl_optim_state_slice(
    const mo_cl_optim_state *state, size_t begin, size_t n, mo_cl_optim_state *slice) {
    size_t from = 0, bytes = 0;
    if (!state || !slice || begin > state->n || n > state->n - begin) return MO_E_INVALID;
    if ((state->row.buffer || state->extra.buffer) && (begin != 0 || n != state->n))
        return MO_E_UNSUPPORTED;
    const mo_status status =
        moi_optim_slice_check(state->precision, state->block, state->n, begin, n);
    if (status != MO_OK) return status;
    if (!moi_optim_bytes(state->precision, begin, &from) ||
        !moi_optim_bytes(state->precision, n, &bytes))
        return MO_E_INVALID;
    const size_t at = begin / state->block * sizeof(float);
    const size_t scales = moi_ceil_div(n, state->block) * sizeof(float);
    mo_cl_optim_state s = *state;
    if (s.extra.buffer) {
        *slice = s; /* the whole */
        return MO_OK;
    }
    s.n = s.n_states = n;
    s.offset += begin;
    moi_cl_optim_cut(&s.m, from, bytes);
    moi_cl_optim_cut(&s.slow, from, bytes);
    moi_cl_optim_cut(&s.v, from, bytes);
    moi_cl_optim_cut(&s.m_absmax, at, scales);
    moi_cl_optim_cut(&s.slow_absmax, at, scales);
    moi_cl_optim_cut(&s.v_absmax, at, scales);
    moi_cl_optim_cut(&s.master, (uint64_t)begin * sizeof(float), (uint64_t)n * sizeof(float));
    *slice = s;
    return MO_OK;
}

/* The arrays that both have, with what their bytes follow from; 0 when the states differ. */
static int moi_cl_optim_same(
    const mo_optim_state *host, mo_cl_optim_state *device, moi_optim_layout *layout) {
    memset(layout, 0, sizeof *layout);
    layout->n = host->n;
    layout->precision = host->precision;
    layout->block = host->block;
    layout->rows = host->rows;
    layout->columns = host->columns;
    layout->n_states = host->n_states;
    layout->n_extra = host->n_extra;
    for (int i = 0; i < moi_optim_n_arrays; i++) {
        const mo_cl_mem *mem = moi_cl_optim_array(device, i);
        size_t bytes = 0;
        if (!moi_optim_state_array(host, i) != !mem->buffer) return 0;
        if (!mem->buffer) continue;
        if (!moi_optim_array_bytes(layout, i, &bytes) || bytes > mem->size) return 0;
        layout->has |= 1u << i;
    }
    return host->n == device->n && host->precision == device->precision &&
        host->block == device->block && host->plain_v == device->plain_v &&
        host->rows == device->rows && host->columns == device->columns &&
        host->rank == device->rank && host->n_states == device->n_states;
}

static mo_status moi_cl_optim_move(
    mo_cl *cl, const mo_optim_state *host, const mo_cl_optim_state *device, int write) {
    moi_optim_layout layout;
    mo_status status = MO_OK;
    if (!cl || !cl->context || !host || !device) return MO_E_INVALID;
    mo_cl_optim_state s = *device;
    if (!moi_cl_optim_same(host, &s, &layout)) return MO_E_INVALID;
    for (int i = 0; i < moi_optim_n_arrays && status == MO_OK; i++) {
        const mo_cl_mem *mem = moi_cl_optim_array(&s, i);
        void *data = moi_optim_state_array(host, i);
        size_t bytes = 0;
        if (!(layout.has >> i & 1) || !moi_optim_array_bytes(&layout, i, &bytes) || bytes == 0)
            continue;
        status = write ? moi_cl_write(cl, mem, data, bytes) : moi_cl_read(cl, mem, data, bytes);
    }
    return status;
}

mo_status mo_cl_optim_state_write(
    mo_cl *cl, const mo_optim_state *from, const mo_cl_optim_state *to) {
    return moi_cl_optim_move(cl, from, to, 1);
}

mo_status mo_cl_optim_state_read(
    mo_cl *cl, const mo_cl_optim_state *from, const mo_optim_state *to) {
    return moi_cl_optim_move(cl, to, from, 0);
}

mo_status mo_cl_optim_master_init(mo_cl *cl, const mo_cl_optim_state *state, mo_cl_mem param) {
    if (!state || !state->master.buffer) return MO_E_INVALID;
    return mo_cl_bf16_to_f32(cl, param, state->master, state->n);
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* How parameters are kept: MO_PARAM of optim_update.cl. */
enum { moi_cl_param_f32 = 0, moi_cl_param_bf16 = 1, moi_cl_param_master = 2 };

typedef struct moi_cl_optim_job {
    mo_cl *cl;
    mo_optim_desc d;
    moi_optim_factors factors;
    const mo_cl_optim_state *state;
    int type;
    mo_cl_mem param, rounded, grad;
    uint64_t seed;
} moi_cl_optim_job;

/* -D of the programs in optim*.cl. ADAGRAD is RMSPROP with other factors. */
static moi_cl_call moi_cl_optim_begin(
    const moi_cl_optim_job *job, moi_cl_kernel kernel, const char *more, size_t number) {
    const mo_cl_optim_state *s = job->state;
    const mo_optim_kind kind = job->d.kind == MO_OPTIM_ADAGRAD ? MO_OPTIM_RMSPROP : job->d.kind;
    const int plain = s->precision == MO_OPTIM_8BIT && s->v.buffer && s->plain_v;
    char options[128];
    snprintf(options, sizeof options, "-DMO_KIND=%d -DMO_STATE=%d -DMO_PARAM=%d -DMO_PLAIN_V=%d",
        (int)kind, (int)s->precision, job->type, plain);
    const size_t length = strlen(options);
    if (more) snprintf(options + length, sizeof options - length, " %s%d", more, (int)number);
    return moi_cl_begin(job->cl, kernel, options);
}

static void moi_cl_optim_param_args(moi_cl_call *call, const moi_cl_optim_job *job) {
    const size_t width = job->type == moi_cl_param_bf16 ? sizeof(uint16_t) : sizeof(float);
    moi_cl_mem_arg(call, &job->param, width, job->state->n);
    if (job->type == moi_cl_param_master)
        moi_cl_mem_arg(call, &job->rounded, sizeof(uint16_t), job->state->n);
}

static void moi_cl_optim_state_args(
    moi_cl_call *call, const mo_cl_optim_state *s, const mo_cl_mem *data, const mo_cl_mem *absmax) {
    size_t number = 1, bytes = 0;
    if (!data->buffer || !moi_optim_bytes(s->precision, s->n, &bytes)) return;
    if (!moi_optim_is_blockwise(s->precision)) {
        (void)moi_optim_bytes(s->precision, 1, &number);
        moi_cl_mem_arg(call, data, number, s->n);
        return;
    }
    moi_cl_mem_arg(call, data, 1, bytes);
    moi_cl_mem_arg(call, absmax, sizeof(float), moi_ceil_div(s->n, s->block));
}

/* MO_STEP_ARGS of optim_update.cl */
static void moi_cl_optim_step_args(
    moi_cl_call *call, const moi_cl_optim_job *job, const moi_optim_factors *factors) {
    const mo_cl_optim_state *s = job->state;
    float vector[16] = {0};
    memcpy(vector, factors, sizeof *factors);
    moi_cl_optim_param_args(call, job);
    moi_cl_mem_arg(call, &job->grad, sizeof(float), s->n);
    moi_cl_optim_state_args(call, s, &s->m, &s->m_absmax);
    moi_cl_optim_state_args(call, s, &s->slow, &s->slow_absmax);
    moi_cl_optim_state_args(call, s, &s->v, &s->v_absmax);
    if (job->d.kind == MO_OPTIM_ADAM_MINI) {
        moi_cl_mem_arg(call, &s->row, sizeof(float), s->rows);
        moi_cl_u64_arg(call, s->columns);
    }
    moi_cl_raw_arg(call, vector, sizeof vector);
    moi_cl_u64_arg(call, job->seed);
    moi_cl_u64_arg(call, s->offset);
    moi_cl_u64_arg(call, s->n);
}

static mo_status moi_cl_optim_update(const moi_cl_optim_job *job) {
    const mo_cl_optim_state *s = job->state;
    const int blocks = moi_optim_is_blockwise(s->precision);
    moi_cl_call call = blocks
        ? moi_cl_optim_begin(job, MOI_CL_mo_cl_optim_step_blocks, "-DMO_BLOCK=", s->block)
        : moi_cl_optim_begin(job, MOI_CL_mo_cl_optim_step, NULL, 0);
    moi_cl_optim_step_args(&call, job, &job->factors);
    if (blocks) moi_cl_tables_arg(&call);
    return moi_cl_run(&call, moi_cl_tiles(job->cl, s->n));
}

/* ---- whole kinds ---------------------------------------------------------------------------- */

/* Enqueue the sum of squares of the gradients, to the start of sums. */
static mo_status moi_cl_optim_squares(const moi_cl_optim_job *job, mo_cl_mem *sums) {
    const mo_status status = moi_cl_sums(job->cl, sums);
    if (status != MO_OK) return status;
    return mo_cl_accum_square_parts(job->cl, job->grad, job->state->n, *sums);
}

/* LAMB and LARS: the step of this tensor; *usable = 0: nothing must change. */
static mo_status moi_cl_optim_trust(moi_cl_optim_job *job, int *usable) {
    const mo_cl_optim_state *s = job->state;
    const int blocks = moi_optim_is_blockwise(s->precision);
    const moi_optim_factors still = moi_optim_still(&job->d, &job->factors);
    double read[3 * moi_cl_parts];
    char more[32];
    mo_cl_mem sums;
    mo_status status = moi_cl_optim_squares(job, &sums);
    if (status != MO_OK) return status;
    snprintf(more, sizeof more, "%s -DMO_CHUNK=", moi_cl_double_option(job->cl));
    moi_cl_call call =
        moi_cl_optim_begin(job, MOI_CL_mo_cl_optim_norms, more, blocks ? s->block : (size_t)1024);
    moi_cl_optim_step_args(&call, job, &still);
    if (blocks) moi_cl_tables_arg(&call);
    const mo_cl_mem norms = mo_cl_part(&sums, MO_CL_ACCUM_PARTS_BYTES, 2 * MO_CL_ACCUM_PARTS_BYTES);
    moi_cl_mem_arg(&call, &norms, sizeof(double), 2 * moi_cl_parts);
    status = moi_cl_run(&call, moi_cl_parts);
    if (status == MO_OK) status = moi_cl_read(job->cl, &sums, read, sizeof read);
    if (status != MO_OK) return status;
    *usable = moi_optim_sum_usable(&job->d, moi_cl_total(read, moi_cl_parts, 1)) &&
        moi_optim_trust_step(&job->d, moi_cl_total(read + moi_cl_parts, moi_cl_parts, 2),
            moi_cl_total(read + moi_cl_parts + 1, moi_cl_parts, 2), &job->factors.step);
    return MO_OK;
}

/* And the sum of squares of the gradient. */
static mo_status moi_cl_optim_whole_usable(
    const moi_cl_optim_job *job, int *usable, double *squares) {
    const mo_status status = mo_cl_accum_square_sum(job->cl, job->grad, job->state->n, squares);
    *usable = moi_optim_sum_usable(&job->d, *squares);
    return status;
}

static mo_status moi_cl_optim_rows(const moi_cl_optim_job *job, float beta2, float one_minus) {
    const mo_cl_optim_state *s = job->state;
    const size_t each = moi_min(moi_max(16384 / s->columns, 1), 64);
    moi_cl_call call =
        moi_cl_begin(job->cl, MOI_CL_mo_cl_optim_rows, moi_cl_double_option(job->cl));
    moi_cl_mem_arg(&call, &job->grad, sizeof(float), s->n);
    moi_cl_mem_arg(&call, &s->row, sizeof(float), s->rows);
    moi_cl_u64_arg(&call, s->rows);
    moi_cl_u64_arg(&call, s->columns);
    moi_cl_u32_arg(&call, (uint32_t)each);
    moi_cl_f32_arg(&call, job->factors.grad_scale);
    moi_cl_f32_arg(&call, beta2);
    moi_cl_f32_arg(&call, one_minus);
    return moi_cl_run(&call, moi_cl_teams(job->cl, moi_ceil_div(s->rows, each)));
}

static mo_status moi_cl_optim_columns(const moi_cl_optim_job *job, float beta2, float one_minus) {
    const mo_cl_optim_state *s = job->state;
    const size_t wide = job->cl->work_group == 1 ? 64 : job->cl->work_group;
    moi_cl_call call =
        moi_cl_begin(job->cl, MOI_CL_mo_cl_optim_columns, moi_cl_double_option(job->cl));
    moi_cl_mem_arg(&call, &job->grad, sizeof(float), s->n);
    moi_cl_mem_arg(&call, &s->column, sizeof(float), s->columns);
    moi_cl_u64_arg(&call, s->rows);
    moi_cl_u64_arg(&call, s->columns);
    moi_cl_f32_arg(&call, job->factors.grad_scale);
    moi_cl_f32_arg(&call, beta2);
    moi_cl_f32_arg(&call, one_minus);
    return moi_cl_run(&call, moi_ceil_div(s->columns, wide));
}

/* The sum of all rows. */
static mo_status moi_cl_optim_row_sum(const moi_cl_optim_job *job, double *sum) {
    mo_cl_mem sums;
    mo_status status = moi_cl_sums(job->cl, &sums);
    if (status != MO_OK) return status;
    moi_cl_call call =
        moi_cl_begin(job->cl, MOI_CL_mo_cl_optim_row_sum, moi_cl_double_option(job->cl));
    moi_cl_mem_arg(&call, &job->state->row, sizeof(float), job->state->rows);
    moi_cl_u64_arg(&call, job->state->rows);
    moi_cl_mem_arg(&call, &sums, sizeof(double), 1);
    status = moi_cl_run(&call, 1);
    return status == MO_OK ? moi_cl_read(job->cl, &sums, sum, sizeof *sum) : status;
}

static moi_cl_call moi_cl_optim_factored_begin(const moi_cl_optim_job *job, moi_cl_kernel kernel) {
    char more[32];
    snprintf(more, sizeof more, "%s -DMO_COLUMN=", moi_cl_double_option(job->cl));
    return moi_cl_optim_begin(job, kernel, more, job->state->column.buffer ? 1 : 0);
}

/* MO_FACTORED_ARGS of optim_factored.cl */
static void moi_cl_optim_factored_args(
    moi_cl_call *call, const moi_cl_optim_job *job, float mean_row) {
    const mo_cl_optim_state *s = job->state;
    moi_cl_mem_arg(call, &job->grad, sizeof(float), s->n);
    moi_cl_mem_arg(call, &s->row, sizeof(float), s->rows);
    if (s->column.buffer) moi_cl_mem_arg(call, &s->column, sizeof(float), s->columns);
    moi_cl_u64_arg(call, s->rows);
    moi_cl_u64_arg(call, s->columns);
    moi_cl_f32_arg(call, job->factors.grad_scale);
    moi_cl_f32_arg(call, job->factors.epsilon);
    moi_cl_f32_arg(call, mean_row);
}

static mo_status moi_cl_optim_factored_sum(
    const moi_cl_optim_job *job, float mean_row, double *sum) {
    double read[moi_cl_parts];
    mo_cl_mem sums;
    mo_status status = moi_cl_sums(job->cl, &sums);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_optim_factored_begin(job, MOI_CL_mo_cl_optim_factored_norms);
    moi_cl_optim_factored_args(&call, job, mean_row);
    moi_cl_mem_arg(&call, &sums, sizeof(double), moi_cl_parts);
    status = moi_cl_run(&call, moi_cl_parts);
    if (status == MO_OK) status = moi_cl_read(job->cl, &sums, read, sizeof read);
    if (status == MO_OK) *sum = moi_cl_total(read, moi_cl_parts, 1);
    return status;
}

static mo_status moi_cl_optim_factored_move(
    const moi_cl_optim_job *job, float mean_row, float step) {
    const mo_optim_desc *d = &job->d;
    moi_cl_call call = moi_cl_optim_factored_begin(job, MOI_CL_mo_cl_optim_factored_step);
    moi_cl_optim_param_args(&call, job);
    moi_cl_optim_factored_args(&call, job, mean_row);
    moi_cl_f32_arg(&call, (float)(1 - d->lr * d->weight_decay));
    moi_cl_f32_arg(&call, step);
    moi_cl_u64_arg(&call, job->seed);
    moi_cl_u64_arg(&call, job->state->offset);
    moi_cl_u64_arg(&call, job->state->n);
    return moi_cl_run(&call, moi_cl_tiles(job->cl, job->state->n));
}

static mo_status moi_cl_optim_adafactor(const moi_cl_optim_job *job, uint64_t t) {
    const mo_cl_optim_state *s = job->state;
    float beta2, one_minus;
    double sum = 0;
    moi_optim_factored_decay(t, &beta2, &one_minus);
    mo_status status = moi_cl_optim_rows(job, beta2, one_minus);
    if (status == MO_OK && s->column.buffer) status = moi_cl_optim_columns(job, beta2, one_minus);
    if (status == MO_OK) status = moi_cl_optim_row_sum(job, &sum);
    if (status != MO_OK) return status;
    const float mean_row = moi_optim_mean_row(&job->d, sum, s->rows);
    status = moi_cl_optim_factored_sum(job, mean_row, &sum);
    if (status != MO_OK) return status;
    const float step = moi_optim_factored_step(&job->d, sum, s->n);
    if (step != 0.0f) return moi_cl_optim_factored_move(job, mean_row, step);
    if (job->type != moi_cl_param_master) return MO_OK;
    return mo_cl_f32_to_bf16(job->cl, job->param, job->rounded, s->n);
}

/* ---- the step ------------------------------------------------------------------------------- */

static int moi_cl_optim_fits(const mo_optim_desc *d, const mo_cl_optim_state *s) {
    const unsigned traits = moi_optim_traits(d->kind, s->column.buffer ? s->columns : 0);
    return !s->m.buffer == !(traits & MOI_HAS_M) && !s->slow.buffer == !(traits & MOI_HAS_SLOW) &&
        !s->v.buffer == !(traits & MOI_HAS_V) && !s->row.buffer == !(traits & MOI_HAS_ROW) &&
        !s->column.buffer == !(traits & MOI_HAS_COLUMN) &&
        (s->precision != MO_OPTIM_4BIT || d->kind == MO_OPTIM_ADAMW) &&
        (!s->row.buffer || s->columns != 0 || s->n == 0) &&
        moi_low_extra(d, s->n, s->columns, s->rank) == s->n_extra;
}

/* Low-rank kinds on a matrix, see mo_cl_optim_low.c. */
static mo_status moi_cl_low_run(const moi_cl_optim_job *job, uint64_t t, double squares);

static mo_status moi_cl_optim_whole(moi_cl_optim_job *job, uint64_t t) {
    const mo_optim_kind kind = job->d.kind;
    const int trust = kind == MO_OPTIM_LAMB || kind == MO_OPTIM_LARS;
    int usable = 0;
    double squares = 0;
    mo_status status = trust ? moi_cl_optim_trust(job, &usable)
                             : moi_cl_optim_whole_usable(job, &usable, &squares);
    if (status != MO_OK || !usable) return status;
    if (job->state->rank) return moi_cl_low_run(job, t, squares);
    if (moi_optim_is_low(kind)) job->d.kind = MO_OPTIM_ADAMW;
    if (kind == MO_OPTIM_ADAFACTOR) return moi_cl_optim_adafactor(job, t);
    if (kind == MO_OPTIM_ADAM_MINI)
        status = moi_cl_optim_rows(job, job->factors.beta2, job->factors.one_minus_beta2);
    return status == MO_OK ? moi_cl_optim_update(job) : status;
}

static mo_status moi_cl_optim_run(moi_cl_optim_job *job, const mo_optim_desc *desc, uint64_t t) {
    const mo_cl_optim_state *s = job->state;
    if (!job->cl || !job->cl->context || !desc || !job->grad.buffer || !job->param.buffer || t == 0)
        return MO_E_INVALID;
    job->d = mo_optim_desc_defaults(desc);
    job->d.block = s->block; /* chosen at init */
    if (!moi_optim_valid(&job->d) || !moi_cl_optim_fits(&job->d, s)) return MO_E_INVALID;
    if (s->n == 0) return MO_OK;
    job->factors = moi_optim_factors_of(&job->d, t);
    job->seed = moi_optim_seed(&job->d, t);
    if (moi_optim_traits(job->d.kind, 0) & MOI_WHOLE) return moi_cl_optim_whole(job, t);
    return moi_cl_optim_update(job);
}

mo_status mo_cl_optim_step(mo_cl *cl, const mo_optim_desc *desc, uint64_t t, mo_cl_mem param,
    mo_cl_mem grad, const mo_cl_optim_state *state) {
    moi_cl_optim_job job;
    if (!state) return MO_E_INVALID;
    memset(&job, 0, sizeof job);
    job.cl = cl;
    job.state = state;
    job.type = moi_cl_param_f32;
    job.param = param;
    job.grad = grad;
    return moi_cl_optim_run(&job, desc, t);
}

mo_status mo_cl_optim_step_bf16(mo_cl *cl, const mo_optim_desc *desc, uint64_t t, mo_cl_mem param,
    mo_cl_mem grad, const mo_cl_optim_state *state) {
    moi_cl_optim_job job;
    if (!state || !param.buffer) return MO_E_INVALID;
    memset(&job, 0, sizeof job);
    job.cl = cl;
    job.state = state;
    job.type = state->master.buffer ? moi_cl_param_master : moi_cl_param_bf16;
    job.param = state->master.buffer ? state->master : param;
    job.rounded = param;
    job.grad = grad;
    return moi_cl_optim_run(&job, desc, t);
}
