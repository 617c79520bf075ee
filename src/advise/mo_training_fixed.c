/* mo_training_fixed.c - see mo_training.h: what lives during the whole run. */

/* ---- workspace ------------------------------------------------------------------------------ */

/* Products and attention never run at the same time, so they share one workspace. */
static size_t moi_training_cpu_workspace(
    const mo_training_target *target, const mo_training_sizes *sizes) {
    const mo_model *m = sizes->model;
    mo_gemm_desc largest;
    mo_attention_desc d;
    memset(&largest, 0, sizeof largest);
    memset(&d, 0, sizeof d);
    size_t side = moi_max(moi_max(sizes->rows, m->hidden), moi_max(m->channels, m->vocab));
    side = moi_max(side, mo_model_size(m, MO_MODEL_WIDTH_QUERY));
    largest.m = largest.n = largest.k = side;
    d.batch = sizes->rows / sizes->seq;
    d.seq = sizes->seq;
    d.heads = m->heads;
    d.head_size = m->head_size;
    d.parallel = target->parallel;
    d.kv_heads = m->kv_heads;
    const size_t product =
        (target->has_blas && !sizes->mixed ? 0
                                           : mo_gemm_workspace_size(target->parallel, &largest)) +
        sizes->lora;
    return moi_max(product, mo_attention_workspace_size(&d));
}

static size_t moi_training_workspace(
    const mo_training *t, const mo_model *model, size_t n_params, size_t lora) {
    mo_training_sizes sizes;
    memset(&sizes, 0, sizeof sizes);
    sizes.rows = mo_training_rows(t);
    sizes.seq = t->seq;
    sizes.lora = lora;
    sizes.n_params = n_params;
    sizes.mixed = t->strategy.bf16 || t->strategy.base != MO_GEMM_F32;
    sizes.model = model;
    if (t->target.workspace_size) return t->target.workspace_size(t->target.self, &sizes);
    return moi_training_cpu_workspace(&t->target, &sizes);
}

/* ---- the teacher ---------------------------------------------------------------------------- */

static size_t moi_training_behind(const mo_training *t, size_t *at, size_t n_floats) {
    const size_t align = moi_training_align(t), begin = *at;
    *at += moi_ceil_div(n_floats * sizeof(float), align) * align;
    return begin;
}

/* Halves of a block run one after the other, so that their tensors may be in the same place. */
mo_training_teacher mo_training_teacher_space(const mo_training *t) {
    const mo_model *m = t->teacher;
    const size_t rows = t->seq, width = m->channels;
    size_t attention, mlp, half = 0;
    mo_training_teacher at;
    memset(&at, 0, sizeof at);
    at.ln = moi_training_behind(t, &half, rows * width);
    at.stats = moi_training_behind(t, &half, 2 * rows);
    attention = mlp = half;
    at.qkv = moi_training_behind(t, &attention, rows * mo_model_size(m, MO_MODEL_WIDTH_QKV));
    at.lse = moi_training_behind(t, &attention, rows * m->heads);
    at.att = moi_training_behind(t, &attention, rows * mo_model_size(m, MO_MODEL_WIDTH_QUERY));
    at.wide = moi_training_behind(t, &mlp, rows * mo_model_size(m, MO_MODEL_WIDTH_WIDE));
    at.activation = moi_training_behind(t, &mlp, rows * m->hidden);
    half = moi_max(attention, mlp);
    at.x = moi_training_behind(t, &at.end, rows * width);
    at.y = moi_training_behind(t, &at.end, rows * width);
    at.half = moi_training_behind(t, &at.end, half / sizeof(float));
    at.rope = at.end;
    if (m->arch == MO_MODEL_LLAMA)
        moi_training_behind(t, &at.end, mo_rope_table_size(m->head_size, rows) / sizeof(float));
    at.hidden = moi_training_behind(t, &at.end, mo_training_rows(t) * width);
    return at;
}

/* ---- the layout ----------------------------------------------------------------------------- */

/* What a layout is made with. */
typedef struct moi_training_layout {
    const moi_training_job *job;
    mo_training_fixed *f;
    size_t begin; /* the first block of the kind that is placed */
} moi_training_layout;

static size_t moi_training_tensor_bytes(const moi_training_job *job, int kind, size_t i) {
    const mo_training *t = job->t;
    const mo_param *p =
        kind == MO_TRAINING_TEACHER ? &job->teacher->items[i] : &job->params->items[i];
    if (kind == MO_TRAINING_TEACHER) return p->tied_to == i ? p->n * sizeof(float) : 0;
    if (kind == MO_TRAINING_PARAM) return mo_training_param_bytes(t, job->params, i);
    if (!mo_training_trains(t, job->params, i)) return 0;
    if (kind == MO_TRAINING_GRAD)
        return mo_training_releases(t, job->params, i) ? 0 : p->n * sizeof(float);
    const mo_optim_desc optim = moi_training_optim(t, p);
    return mo_optim_state_size(&optim, p->n);
}

/* *size rounded up so that the next tensor is aligned. */
static mo_status moi_training_tensor_size(
    const moi_training_job *job, int kind, size_t i, size_t *size) {
    const size_t bytes = moi_training_tensor_bytes(job, kind, i);
    return moi_align_up(bytes, moi_training_align(job->t), size) ? MO_OK : MO_E_OVERFLOW;
}

/* Behind the tensor before, in the last block where that stays within a piece. */
static mo_status moi_training_place(
    const moi_training_layout *l, size_t size, const mo_plan_fixed *like, mo_training_place *at) {
    const mo_training *t = l->job->t;
    const size_t piece = t->target.piece;
    const size_t most = piece ? piece - moi_training_align(t) : SIZE_MAX;
    mo_training_fixed *f = l->f;
    at->block = at->off = at->size = 0;
    if (size == 0) return MO_OK;
    if (f->n_blocks == l->begin || size > most || f->blocks[f->n_blocks - 1].size > most - size)
        f->blocks[f->n_blocks++] = *like;
    mo_plan_fixed *last = &f->blocks[f->n_blocks - 1];
    at->block = f->n_blocks - 1;
    at->off = last->size;
    at->size = size;
    return moi_add(last->size, size, &last->size) ? MO_OK : MO_E_OVERFLOW;
}

static mo_status moi_training_add_places(mo_training_fixed *f, int kind, size_t n) {
    f->places[kind] = (mo_training_place *)moi_alloc_array(&f->allocator, n, sizeof **f->places);
    f->n_places[kind] = f->places[kind] ? n : 0;
    return f->places[kind] ? MO_OK : MO_E_NO_MEMORY;
}

static const mo_plan_fixed moi_training_kinds[MO_TRAINING_KIND_COUNT] = {
    {"parameters", 0, MO_CATEGORY_PARAM}, {"gradients", 0, MO_CATEGORY_GRAD},
    {"optimizer", 0, MO_CATEGORY_OPTIMIZER}, {"teacher", 0, MO_CATEGORY_PARAM}};

static mo_status moi_training_place_kind(
    const moi_training_job *job, mo_training_fixed *f, int kind) {
    const moi_training_layout l = {job, f, f->n_blocks};
    const size_t n = kind == MO_TRAINING_TEACHER ? job->teacher->n : job->params->n;
    mo_status status = moi_training_add_places(f, kind, n);
    for (size_t i = 0; i < n && status == MO_OK; i++) {
        size_t size;
        status = moi_training_tensor_size(job, kind, i, &size);
        if (status == MO_OK)
            status = moi_training_place(&l, size, &moi_training_kinds[kind], &f->places[kind][i]);
    }
    return status;
}

static mo_status moi_training_place_slots(
    const moi_training_job *job, mo_training_fixed *f, size_t page_bytes) {
    const moi_training_layout l = {job, f, f->n_blocks};
    mo_status status = moi_training_add_places(f, MO_TRAINING_STATE, f->n_slots);
    for (size_t i = 0; i < f->n_slots && status == MO_OK; i++)
        status = moi_training_place(&l, page_bytes, &moi_training_kinds[MO_TRAINING_STATE],
            &f->places[MO_TRAINING_STATE][i]);
    return status;
}

/* A block of its own; its number. */
static size_t moi_training_block(
    mo_training_fixed *f, const char *name, size_t size, mo_category category) {
    mo_plan_fixed *block = &f->blocks[f->n_blocks];
    block->name = name;
    block->size = size;
    block->category = category;
    return f->n_blocks++;
}

/* Products of both sides run one after the other. */
static size_t moi_training_all_workspace(const moi_training_job *job) {
    const mo_training *t = job->t;
    const size_t lora = mo_training_lora_size(t, job->params);
    const size_t own = moi_training_workspace(t, &t->model, job->params->n, lora);
    if (!t->teacher) return own;
    return moi_max(own, moi_training_workspace(t, t->teacher, job->teacher->n, 0));
}

static mo_status moi_training_place_rest(const moi_training_job *job, mo_training_fixed *f) {
    const mo_training *t = job->t;
    const size_t row = 2 * sizeof(int32_t) + (t->target.keeps_losses ? sizeof(float) : 0);
    f->tokens = moi_training_block(f, "tokens", row * mo_training_rows(t), MO_CATEGORY_INPUT);
    f->workspace =
        moi_training_block(f, "workspace", moi_training_all_workspace(job), MO_CATEGORY_WORKSPACE);
    if (t->teacher) {
        const mo_status status = moi_training_place_kind(job, f, MO_TRAINING_TEACHER);
        if (status != MO_OK) return status;
        f->teacher = moi_training_block(
            f, "teacher's activations", mo_training_teacher_space(t).end, MO_CATEGORY_WORKSPACE);
    }
    if (t->model.arch == MO_MODEL_LLAMA)
        f->rope = moi_training_block(f, "rotary embedding",
            mo_rope_table_size(t->model.head_size, t->seq), MO_CATEGORY_INPUT);
    return MO_OK;
}

/* Pages come first: they are aligned to the system's. */
static mo_status moi_training_place_all(const moi_training_job *job, mo_training_fixed *f) {
    const mo_training *t = job->t;
    mo_training_states states;
    mo_page_desc pages;
    mo_status status = MO_OK;
    memset(f, 0, sizeof *f);
    f->allocator = t->allocator ? *t->allocator : mo_allocator_heap();
    if (t->strategy.paged) {
        status = mo_training_states_init(&states, t, job->params);
        if (status != MO_OK) return status;
        status = mo_training_pages(&states, t, &pages);
        mo_training_states_free(&states);
        if (status != MO_OK) return status;
        f->n_slots = pages.resident_bytes / pages.page_bytes;
    }
    f->n_room = 3 * job->params->n + (job->teacher ? job->teacher->n : 0) + f->n_slots + 4;
    f->blocks = (mo_plan_fixed *)moi_alloc_array(&f->allocator, f->n_room, sizeof *f->blocks);
    if (!f->blocks) status = MO_E_NO_MEMORY;
    if (status == MO_OK && t->strategy.paged)
        status = moi_training_place_slots(job, f, pages.page_bytes);
    if (status == MO_OK) status = moi_training_place_kind(job, f, MO_TRAINING_PARAM);
    if (status == MO_OK) status = moi_training_place_kind(job, f, MO_TRAINING_GRAD);
    if (status == MO_OK && !t->strategy.paged)
        status = moi_training_place_kind(job, f, MO_TRAINING_STATE);
    if (status == MO_OK) status = moi_training_place_rest(job, f);
    if (status != MO_OK) mo_training_fixed_free(f);
    return status;
}

mo_status mo_training_fixed_init(mo_training_fixed *fixed, const mo_training *t) {
    moi_training_job job;
    if (!fixed) return MO_E_INVALID;
    mo_training_fixed f;
    mo_status status = moi_training_open(&job, t);
    if (status != MO_OK) return status;
    status = moi_training_place_all(&job, &f);
    moi_training_close(&job);
    if (status == MO_OK) *fixed = f;
    return status;
}

void mo_training_fixed_free(mo_training_fixed *f) {
    if (!f) return;
    for (int kind = 0; kind < MO_TRAINING_KIND_COUNT; kind++)
        moi_free_array(&f->allocator, f->places[kind], f->n_places[kind], sizeof **f->places);
    moi_free_array(&f->allocator, f->blocks, f->n_room, sizeof *f->blocks);
    memset(f, 0, sizeof *f);
}
