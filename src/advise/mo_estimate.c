/* mo_estimate.c - see mo_estimate.h. */

/* Tensors of one name and size that are live at the peak. */
typedef struct moi_estimate_group {
    const char *name;
    size_t size, n;
} moi_estimate_group;

/* Lines that live tensors of a plan belong to. */
typedef enum moi_estimate_kind {
    MOI_ESTIMATE_ACTIVATIONS,
    MOI_ESTIMATE_BACKWARD,
    MOI_ESTIMATE_RELEASED,
    MOI_ESTIMATE_LOGITS,
    MOI_ESTIMATE_KINDS
} moi_estimate_kind;

enum { MOI_ESTIMATE_GROUPS = 48 };

/* Groups of a line; others: bytes of those for which there is no room. */
typedef struct moi_estimate_tally {
    moi_estimate_group groups[MOI_ESTIMATE_GROUPS];
    size_t n;
    uint64_t bytes, others;
} moi_estimate_tally;

/* One estimate while it is made. */
typedef struct moi_estimate {
    moi_training_job job;
    mo_training t; /* with the job's lists */
    mo_training_fixed fixed;
    mo_plan *plan;
    mo_estimate e;
    moi_estimate_tally tallies[MOI_ESTIMATE_KINDS];
} moi_estimate;

MOI_PRINTF(4)
static mo_footprint_line *moi_estimate_put(
    moi_estimate *x, const char *name, uint64_t bytes, const char *format, ...) {
    va_list args;
    va_start(args, format);
    mo_footprint_line *line = moi_footprint_line(&x->e.sum, name, bytes, format, args);
    va_end(args);
    return line;
}

/* ---- what stays ----------------------------------------------------------------------------- */

/* Bytes of the list's parameters first..end-1 of a kind, without alignment; *n: their numbers. */
static uint64_t moi_estimate_sum(
    const moi_estimate *x, int kind, size_t first, size_t end, uint64_t *n) {
    uint64_t bytes = 0;
    *n = 0;
    for (size_t i = first; i < end; i++) {
        const size_t size = moi_training_tensor_bytes(&x->job, kind, i);
        const mo_params *list = kind == MO_TRAINING_TEACHER ? x->job.teacher : x->job.params;
        bytes += size;
        if (size != 0) *n += list->items[i].n;
    }
    return bytes;
}

/* In letters and numbers, such as "V h + ... = 256 x 384 + ...". */
static void moi_estimate_count_formula(const mo_model *m, char *text, size_t size) {
    const moi_footprint_n h = m->channels, blocks = m->layers / m->share;
    const moi_footprint_n q = mo_model_size(m, MO_MODEL_WIDTH_QUERY), f = m->hidden;
    const moi_footprint_n qkv = mo_model_size(m, MO_MODEL_WIDTH_QKV), words = m->vocab;
    const char *twice = m->untied_head ? "2 " : "";
    if (m->arch == MO_MODEL_LLAMA) {
        const moi_footprint_n block = h * qkv + q * h + 3 * h * f + 2 * h + (m->qkv_bias ? qkv : 0);
        snprintf(text, size,
            "%sV h + L (h (q + 2 k) + q h + 3 h f + 2 h%s) + h = %s%s%llu x %llu + %llu x %llu + "
            "%llu",
            twice, m->qkv_bias ? " + q + 2 k" : "", twice, m->untied_head ? "x " : "", words, h,
            blocks, block, h);
        return;
    }
    const moi_footprint_n block = h * qkv + q * h + 2 * h * f + qkv + f + 6 * h;
    snprintf(text, size,
        "%sV h + P h + L (%s) + 2 h = %s%s%llu x %llu + %llu x %llu + %llu x %llu + 2 x %llu",
        twice,
        f == 4 * h && q == h && qkv == 3 * h ? "12 h^2 + 13 h"
                                             : "h (q + 2 k) + q h + 2 h f + q + 2 k + f + 6 h",
        twice, m->untied_head ? "x " : "", words, h, (moi_footprint_n)m->positions, h, blocks,
        block, h);
}

/* What the numbers of the model's list are stored in. */
static void moi_estimate_put_weights(moi_estimate *x) {
    const mo_training *t = &x->t;
    const size_t n_params = mo_model_n_params(&t->model);
    uint64_t n, n_adapters, n_matrices = 0, matrix_bytes = 0;
    char count[200];
    const uint64_t bytes = moi_estimate_sum(x, MO_TRAINING_PARAM, 0, n_params, &n);
    const uint64_t adapters =
        moi_estimate_sum(x, MO_TRAINING_PARAM, n_params, x->job.params->n, &n_adapters);
    for (size_t i = 0; i < n_params; i++)
        if (mo_model_is_block_matrix(&t->model, i) && x->job.params->items[i].tied_to == i) {
            n_matrices += x->job.params->items[i].n;
            matrix_bytes += moi_training_tensor_bytes(&x->job, MO_TRAINING_PARAM, i);
        }
    moi_estimate_count_formula(&t->model, count, sizeof count);
    if (matrix_bytes == 4 * n_matrices)
        (void)moi_estimate_put(x, "weights", bytes, "4 (%s)", count);
    else
        (void)moi_estimate_put(x, "weights", bytes,
            "4 (N - N_m) + %s matrices = 4 x (%llu - %llu) + %llu",
            t->strategy.bf16 ? "bf16" : mo_strategy_base_name(t->strategy.base), (moi_footprint_n)n,
            (moi_footprint_n)n_matrices, (moi_footprint_n)matrix_bytes);
    if (adapters != 0)
        (void)moi_estimate_put(x, "adapters", adapters,
            "4 sum of r (in + out) over the blocks' matrices = 4 x %llu (r = %llu)",
            (moi_footprint_n)n_adapters, (moi_footprint_n)t->strategy.lora);
    if (!t->teacher) return;
    const uint64_t taught = moi_estimate_sum(x, MO_TRAINING_TEACHER, 0, x->job.teacher->n, &n);
    (void)moi_estimate_put(
        x, "teacher", taught, "4 N of the teacher = 4 x %llu", (moi_footprint_n)n);
}

static void moi_estimate_put_states(moi_estimate *x, const mo_page_desc *pages) {
    uint64_t n;
    const uint64_t bytes = moi_estimate_sum(x, MO_TRAINING_STATE, 0, x->job.params->n, &n);
    if (x->fixed.n_slots != 0) {
        const uint64_t resident = (uint64_t)x->fixed.n_slots * pages->page_bytes;
        (void)moi_estimate_put(x, "optimizer", resident,
            "resident pages = %llu x %llu of %llu bytes of states",
            (moi_footprint_n)x->fixed.n_slots, (moi_footprint_n)pages->page_bytes,
            (moi_footprint_n)bytes);
        x->e.paged_bytes = pages->size > resident ? pages->size - resident : 0;
    } else if (bytes == 8 * n)
        (void)moi_estimate_put(
            x, "optimizer", bytes, "8 N_t = 8 x %llu (m and v)", (moi_footprint_n)n);
    else if (bytes != 0)
        (void)moi_estimate_put(x, "optimizer", bytes,
            "states in %s of N_t = %llu, %.4f bytes a number",
            mo_strategy_optim_name(x->t.strategy.optim), (moi_footprint_n)n,
            (double)bytes / (double)n);
}

static void moi_estimate_put_kept(moi_estimate *x, const mo_page_desc *pages) {
    const uint64_t trained = moi_training_n_trained(&x->t, x->job.params);
    uint64_t n;
    const uint64_t gradients = moi_estimate_sum(x, MO_TRAINING_GRAD, 0, x->job.params->n, &n);
    x->e.sum.count = mo_model_count(&x->t.model);
    x->e.sum.trained = trained;
    moi_estimate_put_weights(x);
    if (n == trained)
        (void)moi_estimate_put(x, "gradients", gradients, "4 N_t = 4 x %llu", (moi_footprint_n)n);
    else if (n != 0)
        (void)moi_estimate_put(x, "gradients", gradients, "4 (N_t - released) = 4 x (%llu - %llu)",
            (moi_footprint_n)trained, (moi_footprint_n)(trained - n));
    moi_estimate_put_states(x, pages);
}

/* ---- what comes and goes -------------------------------------------------------------------- */

static void moi_estimate_add(moi_estimate_tally *t, const char *name, size_t size) {
    size_t i = 0;
    t->bytes += size;
    while (i < t->n && (t->groups[i].size != size || strcmp(t->groups[i].name, name) != 0)) i++;
    if (i == MOI_ESTIMATE_GROUPS) {
        t->others += size;
        return;
    }
    if (i == t->n) {
        t->groups[t->n].name = name;
        t->groups[t->n].size = size;
        t->groups[t->n++].n = 0;
    }
    t->groups[i].n++;
}

/* The moment within the peak's step with the most live bytes: the first of them. */
static size_t moi_estimate_moment(const mo_plan *plan) {
    const moi_plan_op *span = &plan->spans[plan->info.peak_step];
    size_t best = span->begin, most = 0;
    for (size_t when = span->begin; when <= span->end; when++) {
        size_t live = 0;
        for (size_t i = 1; i < plan->n_lives; i++)
            if (plan->lives[i].first <= when && when <= plan->lives[i].last)
                live += plan->lives[i].size;
        if (live > most) most = live, best = when;
    }
    return best;
}

static moi_estimate_kind moi_estimate_kind_of(
    const mo_plan *plan, size_t stage, size_t slot, mo_category category) {
    const size_t tensor = slot - plan->stage_slots[stage].slot;
    if (tensor == 0) return MOI_ESTIMATE_ACTIVATIONS;
    if (tensor == 1) return MOI_ESTIMATE_BACKWARD;
    if (category == MO_CATEGORY_GRAD) return MOI_ESTIMATE_RELEASED;
    if (stage + 1 == plan->chain.n_stages && tensor - 2 == MO_TRAINING_LOGITS)
        return MOI_ESTIMATE_LOGITS;
    if (stage + 1 == plan->chain.n_stages && tensor - 2 == MO_TRAINING_DLNF)
        return MOI_ESTIMATE_BACKWARD;
    return plan->stages[stage].tensors[tensor - 2].role == MO_TENSOR_BACKWARD
        ? MOI_ESTIMATE_BACKWARD
        : MOI_ESTIMATE_ACTIVATIONS;
}

/* Names are in the order of slots, one behind the other, so the place of one tells whose it is. */
static size_t moi_estimate_stage_of(const mo_plan *plan, const char *name, size_t *slot) {
    size_t low = 0, high = plan->chain.n_stages - 1;
    while (low < high) {
        const size_t middle = high - (high - low) / 2;
        if (plan->stages[middle].name > name) high = middle - 1;
        else low = middle;
    }
    *slot = plan->stage_slots[low].slot;
    while (plan->slots[*slot].name != name) ++*slot;
    return low;
}

static mo_status moi_estimate_live(moi_estimate *x) {
    const mo_plan *plan = x->plan;
    const size_t when = moi_estimate_moment(plan), n = plan->chain.n_stages;
    x->e.stages = (mo_estimate_stage *)moi_alloc_array(&x->e.allocator, n, sizeof *x->e.stages);
    if (!x->e.stages) return MO_E_NO_MEMORY;
    x->e.n_stages = n;
    for (size_t i = 0; i < n; i++) {
        snprintf(x->e.stages[i].name, sizeof x->e.stages[i].name, "%s", plan->stages[i].name);
        x->e.stages[i].bytes = 0;
    }
    for (size_t i = 1; i < plan->n_lives; i++) {
        const moi_plan_life *life = &plan->lives[i];
        size_t slot;
        if (life->first > when || when > life->last || life->size == 0) continue;
        const size_t stage = moi_estimate_stage_of(plan, life->name, &slot);
        const moi_estimate_kind kind = moi_estimate_kind_of(plan, stage, slot, life->category);
        x->e.stages[stage].bytes += life->size;
        moi_estimate_add(
            &x->tallies[kind], life->name + strlen(plan->stages[stage].name) + 1, life->size);
    }
    return MO_OK;
}

/* The group with the most bytes of those that no line names yet; n = 0: it is named. */
static moi_estimate_group moi_estimate_largest(moi_estimate_tally *t) {
    moi_estimate_group *best = NULL;
    for (size_t i = 0; i < t->n; i++) {
        moi_estimate_group *g = &t->groups[i];
        if (g->n != 0 && (!best || g->n * g->size > best->n * best->size)) best = g;
    }
    const moi_estimate_group none = {NULL, 0, 0}, found = best ? *best : none;
    if (best) best->n = 0;
    return found;
}

/* "4 T n w, 4 T = 4096: 6 x 1152 qkv + ... + 2 x 320 bytes stats + 32 bytes of others": as many as
 * there is room for. */
static void moi_estimate_put_live(moi_estimate *x, moi_estimate_kind kind, const char *name) {
    moi_estimate_tally *t = &x->tallies[kind];
    const size_t width = sizeof(float) * mo_training_rows(&x->t);
    char item[128];
    uint64_t left = t->bytes;
    if (t->bytes == 0) return;
    mo_footprint_line *line =
        moi_estimate_put(x, name, t->bytes, "4 T n w, 4 T = %llu:", (moi_footprint_n)width);
    char *text = line->formula;
    size_t at = strlen(text);
    for (;;) {
        const moi_estimate_group g = moi_estimate_largest(t);
        const int whole = g.size % width == 0;
        if (g.n == 0) break;
        snprintf(item, sizeof item, "%s %llu x %llu%s %.40s", left == t->bytes ? "" : " +",
            (moi_footprint_n)g.n, (moi_footprint_n)(whole ? g.size / width : g.size),
            whole ? "" : " bytes", g.name);
        if (at + strlen(item) + 40 > sizeof line->formula) break;
        at += (size_t)snprintf(text + at, sizeof line->formula - at, "%s", item);
        left -= (uint64_t)g.n * g.size;
    }
    if (left != 0)
        snprintf(text + at, sizeof line->formula - at, "%s %llu bytes of others",
            left == t->bytes ? "" : " +", (moi_footprint_n)left);
}

/* Logits are a tensor of the head, at the peak or at another time. */
static void moi_estimate_put_logits(moi_estimate *x) {
    const mo_plan *plan = x->plan;
    const mo_stage *head = &plan->stages[plan->chain.n_stages - 1];
    const size_t all = mo_training_rows(&x->t), chunk = x->t.strategy.loss_rows;
    const size_t rows = chunk == 0 ? all : moi_min(chunk, all);
    const size_t size = head->tensors[MO_TRAINING_LOGITS].size;
    mo_footprint_line *line = x->t.teacher || x->t.target.ce_size
        ? moi_estimate_put(x, "logits", size, "%s of %llu rows, %llu words = %llu",
              x->t.teacher ? "of both models, with targets," : "as the device's loss needs them,",
              (moi_footprint_n)rows, (moi_footprint_n)x->t.model.vocab, (moi_footprint_n)size)
        : moi_estimate_put(x, "logits", size, "4 R (V + 1) = 4 x %llu x (%llu + 1), in whole %d",
              (moi_footprint_n)rows, (moi_footprint_n)x->t.model.vocab, MOI_CACHE_LINE);
    line->apart = x->tallies[MOI_ESTIMATE_LOGITS].bytes == 0;
}

static void moi_estimate_put_rest(moi_estimate *x) {
    const mo_training *t = &x->t;
    const mo_training_fixed *f = &x->fixed;
    const moi_footprint_n rows = mo_training_rows(t);
    uint64_t sum = 0;
    (void)moi_estimate_put(x, "workspace", f->blocks[f->workspace].size,
        "the most that products, attention, adapters need, one after the other = %llu",
        (moi_footprint_n)f->blocks[f->workspace].size);
    if (t->teacher)
        (void)moi_estimate_put(x, "teaching", f->blocks[f->teacher].size,
            "the teacher's activations of one sequence and half a block = %llu",
            (moi_footprint_n)f->blocks[f->teacher].size);
    (void)moi_estimate_put(x, "tokens", f->blocks[f->tokens].size, "%d T = %d x %llu",
        (int)(f->blocks[f->tokens].size / rows), (int)(f->blocks[f->tokens].size / rows), rows);
    if (f->rope != 0)
        (void)moi_estimate_put(x, "rotary", f->blocks[f->rope].size, "4 s d = 4 x %llu x %llu",
            (moi_footprint_n)t->seq, (moi_footprint_n)t->model.head_size);
    for (size_t i = 0; i < x->e.sum.n; i++)
        if (!x->e.sum.lines[i].apart) sum += x->e.sum.lines[i].bytes;
    x->e.sum.total = x->e.plan.peak_bytes;
    if (x->e.sum.total != sum)
        (void)moi_estimate_put(x, "slack", x->e.sum.total - sum,
            "alignment to %llu, holes = %llu - %llu", (moi_footprint_n)moi_training_align(t),
            (moi_footprint_n)x->e.sum.total, (moi_footprint_n)sum);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static mo_status moi_estimate_pages(const moi_estimate *x, mo_page_desc *pages) {
    mo_training_states states;
    if (!x->t.strategy.paged) return MO_OK;
    mo_status status = mo_training_states_init(&states, &x->t, x->job.params);
    if (status != MO_OK) return status;
    status = mo_training_pages(&states, &x->t, pages);
    mo_training_states_free(&states);
    return status;
}

/* Where everything is kept, other costs change nothing. */
static uint64_t moi_estimate_most(const moi_estimate *x, uint64_t budget) {
    const mo_plan_info *info = &x->e.plan;
    const int by_costs = x->t.strategy.offload && !x->e.measured &&
        (info->store_bytes != 0 || info->cost_s > info->ideal_s * (1 + 1e-9));
    return by_costs && budget > info->peak_bytes ? budget : info->peak_bytes;
}

static mo_status moi_estimate_make(moi_estimate *x, uint64_t budget) {
    mo_page_desc pages;
    double micro_s = 0;
    memset(&pages, 0, sizeof pages);
    mo_status status = moi_training_place_all(&x->job, &x->fixed);
    if (status == MO_OK) status = mo_training_plan(&x->plan, &x->t, budget, &micro_s);
    if (status == MO_OK) status = moi_estimate_pages(x, &pages);
    if (status == MO_OK) status = mo_training_update_s(&x->t, micro_s, &x->e.seconds);
    if (status == MO_OK) status = moi_estimate_live(x);
    if (status != MO_OK) return status;
    x->e.measured = x->t.costs.rows > 0;
    x->e.plan = mo_plan_describe(x->plan);
    x->e.most_bytes = moi_estimate_most(x, budget);
    x->e.store_bytes = x->e.plan.store_bytes;
    moi_estimate_put_kept(x, &pages);
    moi_estimate_put_live(x, MOI_ESTIMATE_ACTIVATIONS, "activations");
    moi_estimate_put_live(x, MOI_ESTIMATE_BACKWARD, "backward");
    moi_estimate_put_live(x, MOI_ESTIMATE_RELEASED, "released");
    moi_estimate_put_logits(x);
    moi_estimate_put_rest(x);
    return MO_OK;
}

mo_status mo_estimate_training(mo_estimate *e, const mo_training *t, uint64_t budget) {
    moi_estimate x;
    if (!e || !t) return MO_E_INVALID;
    memset(&x, 0, sizeof x);
    mo_status status = moi_training_open(&x.job, t);
    if (status != MO_OK) return status;
    x.t = *t;
    x.t.params = x.job.params;
    x.t.teacher_params = x.job.teacher;
    x.job.t = &x.t;
    x.e.allocator = t->allocator ? *t->allocator : mo_allocator_heap();
    status = moi_estimate_make(&x, budget);
    mo_plan_destroy(x.plan);
    mo_training_fixed_free(&x.fixed);
    moi_training_close(&x.job);
    if (status == MO_OK) *e = x.e;
    else mo_estimate_free(&x.e);
    return status;
}

void mo_estimate_free(mo_estimate *e) {
    if (!e) return;
    moi_free_array(&e->allocator, e->stages, e->n_stages, sizeof *e->stages);
    memset(e, 0, sizeof *e);
}
