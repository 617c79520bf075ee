/* mo_training.c - see mo_training.h: the parameters of a run, and what they take. */

/* ---- the run -------------------------------------------------------------------------------- */

static size_t moi_training_align(const mo_training *t) {
    return t->target.align ? t->target.align : (size_t)MOI_CACHE_LINE;
}

static size_t moi_training_batch(const mo_training *t) {
    return t->batch / moi_max(t->strategy.accum, 1);
}

size_t mo_training_rows(const mo_training *t) { return moi_training_batch(t) * t->seq; }

static mo_status moi_training_check_model(const mo_training *t, const mo_model *m, const char *of) {
    size_t n;
    if (!mo_model_layout_of(m) || m->layers == 0 || m->share == 0 || m->head_size == 0 ||
        m->heads == 0 || m->kv_heads == 0 || m->hidden == 0 || mo_model_count(m) == 0)
        moi_log(t->log, MO_LOG_ERROR, "training: the %s is not complete", of);
    else if (m->arch == MO_MODEL_GPT2 && t->seq > m->positions)
        moi_log(t->log, MO_LOG_ERROR, "training: seq is %zu, but the %s has %zu positions", t->seq,
            of, m->positions);
    else if (!moi_mul(mo_training_rows(t), m->vocab, &n) || !moi_mul(n, sizeof(double), &n) ||
        !moi_mul(mo_training_rows(t), mo_model_size(m, MO_MODEL_WIDTH_WIDE), &n) ||
        !moi_mul(n, 4 * sizeof(double), &n) ||
        !moi_mul(mo_training_rows(t), mo_model_size(m, MO_MODEL_WIDTH_QKV), &n) ||
        !moi_mul(n, 4 * sizeof(double), &n))
        moi_log(
            t->log, MO_LOG_ERROR, "training: a batch of %zu of the %s is too large", t->batch, of);
    else return MO_OK;
    return MO_E_INVALID;
}

mo_status mo_training_check(const mo_training *t) {
    size_t rows;
    if (!t) return MO_E_INVALID;
    const size_t accum = moi_max(t->strategy.accum, 1);
    mo_status status = mo_strategy_check(&t->strategy, t->log);
    if (status != MO_OK) return status;
    if (t->batch == 0 || t->seq == 0 || !moi_mul(t->batch, t->seq, &rows)) {
        moi_log(t->log, MO_LOG_ERROR, "training: batch is %zu, seq %zu", t->batch, t->seq);
        return MO_E_INVALID;
    }
    if (t->batch % accum != 0) {
        moi_log(
            t->log, MO_LOG_ERROR, "accum=%zu does not divide the batch of %zu", accum, t->batch);
        return MO_E_INVALID;
    }
    status = moi_training_check_model(t, &t->model, "model");
    return status == MO_OK && t->teacher ? moi_training_check_model(t, t->teacher, "teacher")
                                         : status;
}

static void moi_training_close(moi_training_job *job) {
    mo_params_free(&job->own);
    mo_params_free(&job->own_teacher);
}

static mo_status moi_training_open(moi_training_job *job, const mo_training *t) {
    mo_status status = mo_training_check(t);
    if (status != MO_OK) return status;
    mo_params_init(&job->own, t->allocator);
    mo_params_init(&job->own_teacher, t->allocator);
    job->t = t;
    job->params = t->params ? t->params : &job->own;
    job->teacher = NULL;
    if (!t->params) status = mo_training_add_params(t, &job->own);
    if (t->teacher) job->teacher = t->teacher_params ? t->teacher_params : &job->own_teacher;
    if (status == MO_OK && t->teacher && !t->teacher_params)
        status = mo_model_add_params(t->teacher, &job->own_teacher);
    if (status != MO_OK) moi_training_close(job);
    return status;
}

/* ---- parameters ----------------------------------------------------------------------------- */

/* Of the parameters of a block, those before the given one that are matrices. */
static size_t moi_training_n_matrices(const mo_model_layout *layout, size_t end) {
    size_t n = 0;
    for (size_t i = 0; i < end; i++)
        if (layout->params[i].columns != MO_MODEL_WIDTH_NONE) n++;
    return n;
}

size_t mo_training_adapter(const mo_model *model, size_t i) {
    const mo_model_layout *layout = mo_model_layout_of(model);
    const size_t n = layout->n_params, front = mo_model_front(layout);
    const size_t at = i < front ? 0 : moi_min(i - front, mo_model_n_block_params(model));
    return mo_model_n_params(model) +
        2 * (at / n * moi_training_n_matrices(layout, n) + moi_training_n_matrices(layout, at % n));
}

/* Under PEFT's name; a matrix that is another one's has its adapter too. first: of the model's
 * parameters in the list. */
static mo_status moi_training_add_adapter(const mo_training *t, mo_params *params, size_t first,
    size_t weight, char which, size_t rows, size_t columns) {
    const size_t shape[2] = {rows, columns}, owner = params->items[weight].tied_to;
    const char *prefix = t->model.arch == MO_MODEL_LLAMA ? "" : "transformer.";
    char from[160], name[200];
    snprintf(from, sizeof from, "%s%s", prefix, params->items[owner].name);
    mo_status status = mo_lora_name(from, which, name, sizeof name);
    const size_t at = params->n, end = status == MO_OK ? strlen(name) : 0;
    if (owner != weight) snprintf(name + end, sizeof name - end, "@%zu", weight);
    if (status == MO_OK) status = mo_params_add(params, name, shape, 2, NULL);
    if (status != MO_OK || owner == weight) return status;
    const size_t with = mo_training_adapter(&t->model, owner - first) + (which == 'B' ? 1 : 0);
    return mo_params_tie(params, at, first + with);
}

mo_status mo_training_add_params(const mo_training *t, mo_params *params) {
    if (!t || !params) return MO_E_INVALID;
    const size_t first = params->n, rank = t->strategy.lora;
    mo_status status = mo_model_add_params(&t->model, params);
    if (status != MO_OK || rank == 0) return status;
    const size_t n = params->n - first;
    const int in_out = t->model.arch != MO_MODEL_LLAMA;
    for (size_t i = 0; i < n && status == MO_OK; i++) {
        if (!mo_model_is_block_matrix(&t->model, i)) continue;
        const size_t rows = params->items[first + i].shape[0];
        const size_t columns = params->items[first + i].shape[1];
        status = moi_training_add_adapter(
            t, params, first, first + i, 'A', rank, in_out ? rows : columns);
        if (status == MO_OK)
            status = moi_training_add_adapter(
                t, params, first, first + i, 'B', in_out ? columns : rows, rank);
    }
    return status;
}

int mo_training_trains(const mo_training *t, const mo_params *params, size_t i) {
    const mo_param *p = &params->items[i];
    const int is_adapter = i >= mo_model_n_params(&t->model);
    return p->tied_to == i && !p->frozen && (t->strategy.lora != 0) == is_adapter;
}

int mo_training_is_bf16(const mo_training *t, size_t i) {
    return t->strategy.bf16 && mo_model_is_block_matrix(&t->model, i);
}

int mo_training_weight(const mo_training *t, const mo_params *params, size_t i, mo_weight *w) {
    const mo_param *p = &params->items[i];
    if (t->strategy.lora == 0 || p->tied_to != i || !mo_model_is_block_matrix(&t->model, i))
        return 0;
    if (!w) return 1;
    memset(w, 0, sizeof *w);
    w->type = t->strategy.base;
    w->rows = p->shape[0];
    w->columns = p->shape[1];
    w->nested = t->strategy.base >= MO_GEMM_NF4;
    return 1;
}

size_t mo_training_param_bytes(const mo_training *t, const mo_params *params, size_t i) {
    const mo_param *p = &params->items[i];
    mo_weight w;
    if (p->tied_to != i || (t->strategy.lora == 0 && i >= mo_model_n_params(&t->model))) return 0;
    if (mo_training_weight(t, params, i, &w)) return mo_weight_size(&w);
    return p->n * (mo_training_is_bf16(t, i) ? sizeof(uint16_t) : sizeof(float));
}

int mo_training_releases(const mo_training *t, const mo_params *params, size_t i) {
    return t->strategy.release && mo_training_trains(t, params, i) &&
        mo_model_gradient_is_local(params, i);
}

/* Of its own one; with lora those of its adapters, each aligned. */
static size_t moi_training_released(const mo_training *t, const mo_params *params, size_t i) {
    const size_t align = moi_training_align(t);
    size_t size = 0;
    if (t->strategy.lora == 0)
        return mo_training_releases(t, params, i) ? params->items[i].n * sizeof(float) : 0;
    const size_t end = mo_training_adapter(&t->model, i + 1);
    for (size_t k = mo_training_adapter(&t->model, i); k < end; k++)
        if (mo_training_releases(t, params, k))
            size += moi_ceil_div(params->items[k].n * sizeof(float), align) * align;
    return size;
}

static size_t moi_training_n_trained(const mo_training *t, const mo_params *params) {
    size_t n = 0;
    for (size_t i = 0; i < params->n; i++)
        if (mo_training_trains(t, params, i)) n += params->items[i].n;
    return n;
}

mo_lora_desc mo_training_lora(const mo_model *model, size_t rank, size_t rows) {
    mo_lora_desc d;
    memset(&d, 0, sizeof d);
    d.rows = rows;
    d.rank = rank;
    d.alpha = 2 * (float)rank;
    d.in_out = model->arch != MO_MODEL_LLAMA;
    return d;
}

size_t mo_training_lora_size(const mo_training *t, const mo_params *params) {
    const mo_lora_desc d = mo_training_lora(&t->model, t->strategy.lora, mo_training_rows(t));
    const size_t n = mo_model_n_params(&t->model);
    size_t most = 0;
    mo_weight w;
    for (size_t i = 0; t->strategy.lora && i < n; i++)
        if (mo_training_weight(t, params, i, &w))
            most = moi_max(most, mo_lora_workspace_size(&d, &w));
    return most;
}

/* ---- states --------------------------------------------------------------------------------- */

/* Kinds that keep numbers for rows or columns see the matrix. */
static mo_optim_desc moi_training_optim(const mo_training *t, const mo_param *p) {
    mo_optim_desc d = t->optim;
    d.precision = t->strategy.optim;
    if (p->n_dims == 2 && d.kind != MO_OPTIM_ADAMW) d.columns = p->shape[1];
    return d;
}

mo_status mo_training_states_init(
    mo_training_states *states, const mo_training *t, const mo_params *params) {
    mo_training_states x;
    memset(&x, 0, sizeof x);
    if (!states || !t || !params || params->n == 0) return MO_E_INVALID;
    const size_t n = params->n;
    x.n_params = n;
    x.allocator = t->allocator ? *t->allocator : mo_allocator_heap();
    x.descs = (mo_optim_desc *)moi_alloc_array(&x.allocator, n, sizeof *x.descs);
    x.n = (size_t *)moi_alloc_array(&x.allocator, n, sizeof *x.n);
    x.param_of = (size_t *)moi_alloc_array(&x.allocator, n, sizeof *x.param_of);
    x.tensor_of = (size_t *)moi_alloc_array(&x.allocator, n, sizeof *x.tensor_of);
    if (!x.descs || !x.n || !x.param_of || !x.tensor_of) {
        mo_training_states_free(&x);
        return MO_E_NO_MEMORY;
    }
    memset(x.tensor_of, 0, n * sizeof *x.tensor_of);
    for (size_t k = 0; k < n; k++) {
        const size_t i = t->strategy.release ? n - 1 - k : k;
        if (!mo_training_trains(t, params, i)) continue;
        x.tensor_of[i] = x.n_tensors;
        x.param_of[x.n_tensors] = i;
        x.descs[x.n_tensors] = moi_training_optim(t, &params->items[i]);
        x.n[x.n_tensors++] = params->items[i].n;
    }
    *states = x;
    return MO_OK;
}

void mo_training_states_free(mo_training_states *x) {
    if (!x) return;
    moi_free_array(&x->allocator, x->descs, x->n_params, sizeof *x->descs);
    moi_free_array(&x->allocator, x->n, x->n_params, sizeof *x->n);
    moi_free_array(&x->allocator, x->param_of, x->n_params, sizeof *x->param_of);
    moi_free_array(&x->allocator, x->tensor_of, x->n_params, sizeof *x->tensor_of);
    memset(x, 0, sizeof *x);
}

/* An eighth of the states, or what two pages need where that is more. */
static mo_status moi_training_eighth(mo_page_optim_desc *desc, mo_page_desc *found) {
    size_t bytes = 0;
    for (size_t i = 0; i < desc->n_tensors; i++)
        bytes += mo_optim_state_size(&desc->tensors[i], desc->n[i]);
    mo_status status = MO_E_NO_SPACE;
    for (size_t limit = bytes / 8; status == MO_E_NO_SPACE && limit <= 2 * bytes;
         limit += limit / 8 + 1) {
        desc->pages.resident_bytes = limit;
        status = mo_page_optim_pages(desc, found);
    }
    return status;
}

mo_status mo_training_pages(
    const mo_training_states *states, const mo_training *t, mo_page_desc *pages) {
    mo_page_optim_desc desc;
    memset(&desc, 0, sizeof desc);
    if (!states || !t || !pages) return MO_E_INVALID;
    desc.tensors = states->descs;
    desc.n = states->n;
    desc.n_tensors = states->n_tensors;
    desc.pages.resident_bytes = (size_t)t->strategy.resident;
    const mo_status status = t->strategy.resident ? mo_page_optim_pages(&desc, pages)
                                                  : moi_training_eighth(&desc, pages);
    if (status == MO_E_NO_SPACE)
        moi_log(t->log, MO_LOG_ERROR, "paged=%llu: no two pages of states fit",
            (unsigned long long)t->strategy.resident);
    return status;
}
