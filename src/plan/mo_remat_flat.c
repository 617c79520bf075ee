/* mo_remat_flat.c - see mo_remat_flat.h. */

static const char *moi_flat_name(const mo_flat_stage *stage) {
    return stage->name ? stage->name : "stage";
}

/* Bytes of x[i], and of dx[i]. */
static size_t moi_flat_x(const mo_flat_chain *chain, size_t i) {
    return i == 0 ? chain->input_size : chain->stages[i - 1].output_size;
}

/* ---- checking ------------------------------------------------------------------------------ */

static int moi_flat_is_cost(double cost) { return cost >= 0 && cost < HUGE_VAL; }

static mo_status moi_flat_check_option(
    const mo_flat_stage *stage, size_t i, size_t k, const mo_log *log) {
    const mo_flat_option *option = &stage->options[k];
    if (option->kept < stage->output_size) {
        moi_log(log, MO_LOG_ERROR, "flat chain: stage %zu (%s): option %zu keeps %zu of %zu bytes",
            i, moi_flat_name(stage), k, option->kept, stage->output_size);
        return MO_E_INVALID;
    }
    if (!moi_flat_is_cost(option->extra_s) || !moi_flat_is_cost(option->unread_s) ||
        option->unread_s > stage->forward_s) {
        moi_log(log, MO_LOG_ERROR, "flat chain: stage %zu (%s): option %zu: extra %g, unread %g", i,
            moi_flat_name(stage), k, option->extra_s, option->unread_s);
        return MO_E_INVALID;
    }
    return MO_OK;
}

static mo_status moi_flat_check_stage(
    const mo_flat_stage *stage, size_t i, int is_loss, const mo_log *log) {
    mo_status status = MO_OK;
    if (!moi_flat_is_cost(stage->forward_s) || !moi_flat_is_cost(stage->backward_s)) {
        moi_log(log, MO_LOG_ERROR, "flat chain: stage %zu (%s): costs %g, %g", i,
            moi_flat_name(stage), stage->forward_s, stage->backward_s);
        return MO_E_INVALID;
    }
    if (is_loss) return MO_OK;
    if (!stage->options || stage->n_options == 0 ||
        (unsigned)stage->n_options != stage->n_options) {
        moi_log(log, MO_LOG_ERROR, "flat chain: stage %zu (%s): %zu options", i,
            moi_flat_name(stage), stage->options ? stage->n_options : 0);
        return MO_E_INVALID;
    }
    for (size_t k = 0; status == MO_OK && k < stage->n_options; k++)
        status = moi_flat_check_option(stage, i, k, log);
    return status;
}

mo_status mo_remat_flat_check(const mo_flat_chain *chain, const mo_log *log) {
    mo_status status = MO_OK;
    if (!chain || !chain->stages || chain->n_stages == 0) {
        moi_log(log, MO_LOG_ERROR, "flat chain: no stages");
        return MO_E_INVALID;
    }
    for (size_t i = 0; status == MO_OK && i < chain->n_stages; i++)
        status = moi_flat_check_stage(&chain->stages[i], i, i + 1 == chain->n_stages, log);
    return status;
}

/* ---- simulation ---------------------------------------------------------------------------- */

/* What is there of x[i], kept[i] and dx[i]. */
enum { MOI_FLAT_X = 1, MOI_FLAT_KEPT = 2, MOI_FLAT_DX = 4 };

typedef struct moi_flat_run {
    const mo_flat_chain *chain;
    size_t first;
    unsigned char *items; /* [n_stages] */
    unsigned *options;    /* [n_stages] by which kept[i] was saved */
    size_t live, used;    /* bytes before the op, and at its peak */
} moi_flat_run;

static int moi_flat_has_x(const moi_flat_run *run, size_t i) {
    return (run->items[i] & MOI_FLAT_X) || (i > run->first && (run->items[i - 1] & MOI_FLAT_KEPT));
}

static void moi_flat_drop_x(moi_flat_run *run, size_t i) {
    if (run->items[i] & MOI_FLAT_X) run->live -= moi_flat_x(run->chain, i);
    run->items[i] &= (unsigned char)~MOI_FLAT_X;
}

/* The op's item, and what it needs beside that. */
static int moi_flat_create(moi_flat_run *run, size_t size, size_t tmp) {
    return moi_add(run->live, size, &run->live) && moi_add(run->live, tmp, &run->used);
}

/* What is wrong, or NULL; overflow is "". */
static const char *moi_flat_forward(moi_flat_run *run, const mo_flat_op *op) {
    const mo_flat_stage *stage = &run->chain->stages[op->stage];
    if (op->stage + 1 == run->chain->n_stages) return "the last stage is the loss";
    if (!moi_flat_has_x(run, op->stage)) return "its input is not there";
    if (op->kind == MO_FLAT_KEEP || op->kind == MO_FLAT_DROP) {
        if (moi_flat_has_x(run, op->stage + 1)) return "its output is there already";
        if (!moi_flat_create(run, stage->output_size, stage->forward_tmp)) return "";
        run->items[op->stage + 1] |= MOI_FLAT_X;
    } else {
        if (op->option >= stage->n_options) return "it has no such option";
        const mo_flat_option *option = &stage->options[op->option];
        if (run->items[op->stage] & MOI_FLAT_KEPT) return "it is saved already";
        if (!moi_flat_create(run, option->kept, option->forward_tmp)) return "";
        run->items[op->stage] |= MOI_FLAT_KEPT;
        run->options[op->stage] = op->option;
    }
    if (op->kind == MO_FLAT_DROP || op->kind == MO_FLAT_SAVE_DROP) moi_flat_drop_x(run, op->stage);
    return NULL;
}

static const char *moi_flat_loss(moi_flat_run *run, const mo_flat_op *op) {
    size_t n = run->chain->n_stages;
    if (op->stage + 1 != n) return "only the last stage is the loss";
    if (!moi_flat_has_x(run, n - 1)) return "its input is not there";
    for (size_t i = run->first; i < n; i++)
        if (run->items[i] & MOI_FLAT_DX) return "it has run";
    if (!moi_flat_create(run, moi_flat_x(run->chain, n - 1), run->chain->stages[n - 1].forward_tmp))
        return "";
    moi_flat_drop_x(run, n - 1);
    run->items[n - 1] |= MOI_FLAT_DX;
    return NULL;
}

static const char *moi_flat_backward(moi_flat_run *run, const mo_flat_op *op) {
    size_t i = op->stage;
    const mo_flat_stage *stage = &run->chain->stages[i];
    if (i + 1 == run->chain->n_stages || !(run->items[i + 1] & MOI_FLAT_DX))
        return "the gradient of its output is not there";
    if (!(run->items[i] & MOI_FLAT_KEPT)) return "it is not saved";
    if (run->options[i] != op->option) return "it is saved by another option";
    if (!moi_flat_has_x(run, i)) return "its input is not there";
    const mo_flat_option *option = &stage->options[op->option];
    if (!moi_flat_create(run, moi_flat_x(run->chain, i), option->backward_tmp)) return "";
    run->live -= stage->output_size + option->kept;
    run->items[i + 1] &= (unsigned char)~MOI_FLAT_DX;
    run->items[i] &= (unsigned char)~MOI_FLAT_KEPT;
    moi_flat_drop_x(run, i);
    run->items[i] |= MOI_FLAT_DX;
    return NULL;
}

static const char *moi_flat_step(moi_flat_run *run, const mo_flat_op *op) {
    if (op->stage < run->first || op->stage >= run->chain->n_stages) return "no such stage";
    switch (op->kind) {
    case MO_FLAT_KEEP:
    case MO_FLAT_DROP:
    case MO_FLAT_SAVE:
    case MO_FLAT_SAVE_DROP: return moi_flat_forward(run, op);
    case MO_FLAT_LOSS: return moi_flat_loss(run, op);
    case MO_FLAT_BACKWARD: return moi_flat_backward(run, op);
    }
    return "unknown op";
}

static const char *moi_flat_end(const moi_flat_run *run) {
    for (size_t i = run->first; i < run->chain->n_stages; i++)
        if (run->items[i] != (i == run->first ? MOI_FLAT_DX : 0))
            return i == run->first ? "the backward of the first stage has not run"
                                   : "something is left over";
    return NULL;
}

static mo_status moi_flat_wrong(
    const char *wrong, const mo_flat_op *op, size_t at, const mo_log *log) {
    if (!*wrong) return MO_E_OVERFLOW;
    if (op)
        moi_log(log, MO_LOG_ERROR, "flat schedule: op %zu (kind %d of stage %zu): %s", at,
            (int)op->kind, op->stage, wrong);
    else moi_log(log, MO_LOG_ERROR, "flat schedule: after op %zu: %s", at, wrong);
    return MO_E_INVALID;
}

static double moi_flat_op_cost(const mo_flat_chain *chain, const mo_flat_op *op) {
    const mo_flat_stage *stage = &chain->stages[op->stage];
    if (op->kind == MO_FLAT_LOSS) return stage->forward_s + stage->backward_s;
    if (op->kind != MO_FLAT_BACKWARD) return stage->forward_s;
    return stage->backward_s + stage->options[op->option].extra_s;
}

/* From the last op to the first: whether the next op that has to do with x[i + 1] reads it. What
 * saves that run again leave out. flags are 0 before. */
static double moi_flat_unread(
    const mo_flat_chain *chain, const mo_flat_op *ops, size_t n_ops, unsigned char *is_read) {
    double unread = 0;
    for (size_t k = n_ops; k > 0; k--) {
        const mo_flat_op *op = &ops[k - 1];
        if (op->kind == MO_FLAT_SAVE || op->kind == MO_FLAT_SAVE_DROP)
            unread +=
                is_read[op->stage] ? 0 : chain->stages[op->stage].options[op->option].unread_s;
        if (op->kind != MO_FLAT_BACKWARD) is_read[op->stage] = 0;
        if (op->stage > 0) is_read[op->stage - 1] = 1;
    }
    return unread;
}

/* result may be NULL; items and options are 0 before and undefined after. */
static mo_status moi_flat_run_ops(moi_flat_run *run, const mo_flat_op *ops, size_t n_ops,
    const mo_log *log, size_t *bytes, mo_flat_result *result) {
    mo_flat_result found = {0, 0, 0, 0};
    run->items[run->first] = MOI_FLAT_X;
    run->live = found.peak_bytes = moi_flat_x(run->chain, run->first);
    for (size_t k = 0; k < n_ops; k++) {
        const char *wrong = moi_flat_step(run, &ops[k]);
        if (wrong) return moi_flat_wrong(wrong, &ops[k], k, log);
        if (bytes) bytes[k] = run->used;
        if (run->used > found.peak_bytes) {
            found.peak_bytes = run->used;
            found.peak_op = k;
        }
        found.cost_s += moi_flat_op_cost(run->chain, &ops[k]);
    }
    const char *wrong = moi_flat_end(run);
    if (wrong) return moi_flat_wrong(wrong, NULL, n_ops, log);
    memset(run->items, 0, run->chain->n_stages);
    found.cost_s -= moi_flat_unread(run->chain, ops, n_ops, run->items);
    found.ideal_s = mo_remat_flat_ideal(run->chain, run->first);
    if (result) *result = found;
    return MO_OK;
}

mo_status mo_remat_flat_simulate(const mo_flat_chain *chain, size_t first, const mo_flat_op *ops,
    size_t n_ops, const mo_allocator *allocator, const mo_log *log, size_t *bytes,
    mo_flat_result *result) {
    mo_status status = MO_E_NO_MEMORY;
    if (!chain || first >= chain->n_stages || (!ops && n_ops)) return MO_E_INVALID;
    size_t n = chain->n_stages;
    moi_flat_run run = {chain, first, NULL, NULL, 0, 0};
    run.items = (unsigned char *)moi_alloc_array(allocator, n, 1);
    run.options = (unsigned *)moi_alloc_array(allocator, n, sizeof *run.options);
    if (run.items && run.options) {
        memset(run.items, 0, n);
        status = moi_flat_run_ops(&run, ops, n_ops, log, bytes, result);
    }
    moi_free_array(allocator, run.items, n, 1);
    moi_free_array(allocator, run.options, n, sizeof *run.options);
    return status;
}

double mo_remat_flat_ideal(const mo_flat_chain *chain, size_t first) {
    double ideal = 0;
    for (size_t i = first; i < chain->n_stages; i++) {
        const mo_flat_stage *stage = &chain->stages[i];
        double least = i + 1 < chain->n_stages ? stage->options[0].extra_s : 0;
        for (size_t k = 1; i + 1 < chain->n_stages && k < stage->n_options; k++)
            least = fmin(least, stage->options[k].extra_s);
        ideal += stage->forward_s + stage->backward_s + least;
    }
    return ideal;
}

/* ---- from the detailed chain --------------------------------------------------------------- */

typedef enum moi_flat_phase {
    MOI_FLAT_RUN, /* forward that saves nothing, or the loss */
    MOI_FLAT_SAVE,
    MOI_FLAT_BACKWARD
} moi_flat_phase;

/* A stage of the detailed chain in one of its ops. */
typedef struct moi_flat_view {
    const mo_stage *stage;
    moi_flat_phase phase;
    int is_loss, light;
    size_t input_size;
} moi_flat_view;

static int moi_flat_is_live(
    const moi_flat_view *view, const mo_stage_tensor *tensor, unsigned step) {
    int kept = moi_remat_kept(tensor, view->light), is_backward = view->phase == MOI_FLAT_BACKWARD;
    if (!moi_remat_has(tensor, is_backward, view->phase == MOI_FLAT_SAVE, view->light)) return 0;
    if (is_backward)
        return step <= tensor->backward_last && (kept || tensor->backward_first <= step);
    if (step < tensor->forward_first) return 0;
    return (kept && view->phase == MOI_FLAT_SAVE) || step <= tensor->forward_last;
}

/* Bytes at a sub-step, without the input and the gradient of the output. */
static int moi_flat_bytes_at(const moi_flat_view *view, unsigned step, size_t *bytes) {
    const mo_stage *stage = view->stage;
    int is_backward = view->phase == MOI_FLAT_BACKWARD;
    size_t sum = !is_backward && step >= stage->output_first ? stage->output_size : 0;
    if ((is_backward || view->is_loss) && step >= stage->gradient_first &&
        !moi_add(sum, view->input_size, &sum))
        return 0;
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (moi_flat_is_live(view, &stage->tensors[i], step) &&
            !moi_add(sum, stage->tensors[i].size, &sum))
            return 0;
    *bytes = moi_max(*bytes, sum);
    return 1;
}

/* The most bytes at a sub-step: they only grow where something begins. */
static int moi_flat_most_bytes(const moi_flat_view *view, size_t *bytes) {
    const mo_stage *stage = view->stage;
    int is_backward = view->phase == MOI_FLAT_BACKWARD;
    *bytes = 0;
    int fits = moi_flat_bytes_at(view, 0, bytes);
    if (fits && !is_backward) fits = moi_flat_bytes_at(view, stage->output_first, bytes);
    if (fits && (is_backward || view->is_loss))
        fits = moi_flat_bytes_at(view, stage->gradient_first, bytes);
    for (size_t i = 0; fits && i < stage->n_tensors; i++) {
        const mo_stage_tensor *tensor = &stage->tensors[i];
        if (tensor->role == (is_backward ? MO_TENSOR_FORWARD : MO_TENSOR_BACKWARD)) continue;
        fits = moi_flat_bytes_at(
            view, is_backward ? tensor->backward_first : tensor->forward_first, bytes);
    }
    return fits;
}

/* Bytes beyond those that the flat chain counts anyway. */
static size_t moi_flat_beyond(size_t most, size_t counted) {
    return most > counted ? most - counted : 0;
}

enum { MOI_FLAT_OPTIONS = 3 }; /* of a stage, at most */

static int moi_flat_make_option(moi_flat_view *view, int light, mo_flat_option *option) {
    const mo_stage *stage = view->stage;
    size_t most, counted;
    view->light = light;
    option->kept = stage->output_size;
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (moi_remat_kept(&stage->tensors[i], light) &&
            !moi_add(option->kept, stage->tensors[i].size, &option->kept))
            return 0;
    option->extra_s = moi_remat_level_cost(stage, light);
    option->unread_s =
        moi_remat_keeps(stage, light) ? fmin(stage->output_s, stage->forward_s) : stage->forward_s;
    view->phase = MOI_FLAT_SAVE;
    if (!moi_flat_most_bytes(view, &most)) return 0;
    option->forward_tmp = moi_flat_beyond(most, option->kept);
    view->phase = MOI_FLAT_BACKWARD;
    if (!moi_flat_most_bytes(view, &most)) return 0;
    if (!moi_add(option->kept, view->input_size, &counted)) return 0;
    option->backward_tmp = moi_flat_beyond(most, counted);
    return 1;
}

static int moi_flat_has(const mo_stage *stage, mo_tensor_role role) {
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (stage->tensors[i].role == role && stage->tensors[i].size) return 1;
    return 0;
}

/* The levels that differ for a stage, by option; how many. */
static unsigned moi_flat_levels(const mo_stage *stage, int *levels) {
    unsigned n = 0;
    levels[n++] = MO_LEVEL_FULL;
    if (moi_flat_has(stage, MO_TENSOR_CHEAP)) levels[n++] = MO_LEVEL_LIGHT;
    if (moi_flat_has(stage, MO_TENSOR_CODES)) levels[n++] = MO_LEVEL_COMPRESSED;
    return n;
}

/* The level of an option; light for one that the stage does not have. */
static int moi_flat_level(const mo_stage *stage, size_t option) {
    int levels[MOI_FLAT_OPTIONS];
    if (option == 0) return MO_LEVEL_FULL;
    return option < moi_flat_levels(stage, levels) ? levels[option] : MO_LEVEL_LIGHT;
}

static int moi_flat_make_stage(
    const mo_chain *chain, size_t i, mo_flat_stage *to, mo_flat_option *options) {
    const mo_stage *from = &chain->stages[i];
    int is_loss = i + 1 == chain->n_stages;
    moi_flat_view view = {from, MOI_FLAT_RUN, is_loss, 0, moi_remat_x_size(chain, i)};
    int levels[MOI_FLAT_OPTIONS];
    size_t most;
    memset(to, 0, sizeof *to);
    to->name = from->name;
    to->forward_s = from->forward_s;
    to->backward_s = from->backward_s;
    to->output_size = is_loss ? 0 : from->output_size;
    if (!moi_flat_most_bytes(&view, &most)) return 0;
    to->forward_tmp = moi_flat_beyond(most, is_loss ? view.input_size : from->output_size);
    if (is_loss) return 1;
    to->options = options;
    to->n_options = moi_flat_levels(from, levels);
    for (unsigned k = 0; k < to->n_options; k++)
        if (!moi_flat_make_option(&view, levels[k], &options[k])) return 0;
    return 1;
}

enum { MOI_FLAT_STAGE_BYTES = sizeof(mo_flat_stage) + MOI_FLAT_OPTIONS * sizeof(mo_flat_option) };

mo_status mo_remat_flatten(
    const mo_chain *chain, const mo_allocator *allocator, const mo_log *log, mo_flat_chain *flat) {
    if (!flat) return MO_E_INVALID;
    mo_status status = mo_chain_check(chain, log);
    if (status != MO_OK) return status;
    size_t n = chain->n_stages;
    mo_flat_stage *stages = (mo_flat_stage *)moi_alloc_array(allocator, n, MOI_FLAT_STAGE_BYTES);
    if (!stages) return MO_E_NO_MEMORY;
    mo_flat_option *options = (mo_flat_option *)(void *)(stages + n);
    for (size_t i = 0; i < n; i++) {
        if (moi_flat_make_stage(chain, i, &stages[i], options + MOI_FLAT_OPTIONS * i)) continue;
        moi_log(log, MO_LOG_ERROR, "flat chain: stage %zu (%s) has more bytes than size_t counts",
            i, moi_remat_stage_name(&chain->stages[i]));
        moi_free_array(allocator, stages, n, MOI_FLAT_STAGE_BYTES);
        return MO_E_OVERFLOW;
    }
    flat->input_size = chain->input_size;
    flat->stages = stages;
    flat->n_stages = n;
    return MO_OK;
}

void mo_remat_flat_free(mo_flat_chain *flat, const mo_allocator *allocator) {
    if (!flat || !flat->stages) return;
    mo_free(allocator, (void *)(uintptr_t)flat->stages, flat->n_stages * MOI_FLAT_STAGE_BYTES,
        MOI_CACHE_LINE);
    flat->stages = NULL;
    flat->n_stages = 0;
}

/* ---- back to it ---------------------------------------------------------------------------- */

static mo_remat_op moi_flat_detailed_op(
    const mo_chain *chain, const mo_flat_op *op, unsigned char *has_run) {
    mo_remat_op out;
    out.stage = op->stage;
    out.save = op->kind == MO_FLAT_SAVE || op->kind == MO_FLAT_SAVE_DROP;
    out.light = moi_flat_level(&chain->stages[op->stage], op->option);
    if (op->kind == MO_FLAT_LOSS) out.op = MO_STEP_LOSS;
    else if (op->kind == MO_FLAT_BACKWARD) out.op = MO_STEP_BACKWARD;
    else {
        out.op = has_run[op->stage] ? MO_STEP_RECOMPUTE : MO_STEP_FORWARD;
        has_run[op->stage] = 1;
    }
    return out;
}

/* Saves of nothing, whose output nobody reads, go; the rest moves up. */
static size_t moi_flat_leave_out(
    const mo_chain *chain, mo_remat_op *out, size_t n_ops, unsigned char *is_read) {
    size_t n = 0;
    for (size_t k = n_ops; k > 0; k--) {
        mo_remat_op *op = &out[k - 1];
        int was_read = is_read[op->stage];
        if (op->op != MO_STEP_BACKWARD) is_read[op->stage] = 0;
        if (op->op == MO_STEP_RECOMPUTE && op->save && !was_read &&
            !moi_remat_keeps(&chain->stages[op->stage], op->light))
            op->stage = chain->n_stages;
        else if (op->stage > 0) is_read[op->stage - 1] = 1;
    }
    for (size_t k = 0; k < n_ops; k++)
        if (out[k].stage < chain->n_stages) out[n++] = out[k];
    return n;
}

mo_status mo_remat_unflatten(const mo_chain *chain, const mo_flat_op *ops, size_t n_ops,
    const mo_allocator *allocator, mo_remat_op *out, size_t *n_out) {
    if (!n_out || ((!ops || !out) && n_ops)) return MO_E_INVALID;
    mo_status status = mo_chain_check(chain, NULL);
    if (status != MO_OK) return status;
    for (size_t k = 0; k < n_ops; k++)
        if (ops[k].stage >= chain->n_stages) return MO_E_INVALID;
    unsigned char *flags = (unsigned char *)moi_alloc_array(allocator, chain->n_stages, 1);
    if (!flags) return MO_E_NO_MEMORY;
    memset(flags, 0, chain->n_stages);
    for (size_t k = 0; k < n_ops; k++) out[k] = moi_flat_detailed_op(chain, &ops[k], flags);
    memset(flags, 0, chain->n_stages);
    *n_out = moi_flat_leave_out(chain, out, n_ops, flags);
    moi_free_array(allocator, flags, chain->n_stages, 1);
    return MO_OK;
}
