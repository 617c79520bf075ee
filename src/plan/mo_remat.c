/* mo_remat.c - see mo_remat.h. */

/* ---- stages -------------------------------------------------------------------------------- */

static unsigned moi_remat_forward_steps(const mo_stage *stage) {
    return stage->forward_steps ? stage->forward_steps : 1;
}

static unsigned moi_remat_backward_steps(const mo_stage *stage) {
    return stage->backward_steps ? stage->backward_steps : 1;
}

/* Bytes of x[i]. */
static size_t moi_remat_x_size(const mo_chain *chain, size_t i) {
    return i == 0 ? chain->input_size : chain->stages[i - 1].output_size;
}

/* Whether saving at this level keeps the tensor until backward. */
static int moi_remat_kept(const mo_stage_tensor *tensor, int light) {
    if (tensor->size == 0) return 0;
    return tensor->role == MO_TENSOR_SAVED || (tensor->role == MO_TENSOR_CHEAP && !light);
}

/* Whether saving at this level keeps anything. */
static int moi_remat_keeps(const mo_stage *stage, int light) {
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (moi_remat_kept(&stage->tensors[i], light)) return 1;
    return 0;
}

static const char *moi_remat_stage_name(const mo_stage *stage) {
    return stage->name ? stage->name : "stage";
}

static const char *moi_remat_tensor_name(const mo_stage_tensor *tensor) {
    return tensor->name ? tensor->name : "tensor";
}

static mo_status moi_remat_check_range(const mo_log *log, const mo_stage *stage,
    const mo_stage_tensor *tensor, const char *what, unsigned first, unsigned last,
    unsigned steps) {
    if (first <= last && last < steps) return MO_OK;
    moi_log(log, MO_LOG_ERROR, "chain: %s.%s: %s sub-steps %u..%u are not within 0..%u",
        moi_remat_stage_name(stage), moi_remat_tensor_name(tensor), what, first, last, steps - 1);
    return MO_E_INVALID;
}

static mo_status moi_remat_check_tensor(
    const mo_log *log, const mo_stage *stage, const mo_stage_tensor *tensor, int is_loss) {
    mo_status status = MO_OK;
    if ((unsigned)tensor->role > MO_TENSOR_BACKWARD ||
        (unsigned)tensor->category >= MO_CATEGORY_COUNT ||
        (is_loss && tensor->role == MO_TENSOR_BACKWARD)) {
        moi_log(log, MO_LOG_ERROR, "chain: %s.%s: role %d or category %d is not allowed here",
            moi_remat_stage_name(stage), moi_remat_tensor_name(tensor), (int)tensor->role,
            (int)tensor->category);
        return MO_E_INVALID;
    }
    if (tensor->role != MO_TENSOR_BACKWARD)
        status = moi_remat_check_range(log, stage, tensor, "forward", tensor->forward_first,
            tensor->forward_last, moi_remat_forward_steps(stage));
    if (status == MO_OK && tensor->role != MO_TENSOR_FORWARD && !is_loss)
        status = moi_remat_check_range(log, stage, tensor, "backward", tensor->backward_first,
            tensor->backward_last, moi_remat_backward_steps(stage));
    return status;
}

static mo_status moi_remat_check_stage(const mo_log *log, const mo_stage *stage, int is_loss) {
    unsigned steps = is_loss ? moi_remat_forward_steps(stage) : moi_remat_backward_steps(stage);
    mo_status status = MO_OK;
    if (stage->n_tensors != 0 && !stage->tensors) {
        moi_log(log, MO_LOG_ERROR, "chain: %s: %zu tensors at NULL", moi_remat_stage_name(stage),
            stage->n_tensors);
        return MO_E_INVALID;
    }
    if (stage->output_first >= moi_remat_forward_steps(stage) || stage->gradient_first >= steps) {
        moi_log(log, MO_LOG_ERROR,
            "chain: %s: output_first %u or gradient_first %u is past the end",
            moi_remat_stage_name(stage), stage->output_first, stage->gradient_first);
        return MO_E_INVALID;
    }
    if (!(stage->forward_s >= 0 && stage->backward_s >= 0 && stage->light_s >= 0 &&
            stage->output_s >= 0)) {
        moi_log(log, MO_LOG_ERROR, "chain: %s: a cost is negative", moi_remat_stage_name(stage));
        return MO_E_INVALID;
    }
    for (size_t i = 0; status == MO_OK && i < stage->n_tensors; i++)
        status = moi_remat_check_tensor(log, stage, &stage->tensors[i], is_loss);
    return status;
}

mo_status mo_chain_check(const mo_chain *chain, const mo_log *log) {
    mo_status status = MO_OK;
    if (!chain || !chain->stages || chain->n_stages == 0) {
        moi_log(log, MO_LOG_ERROR, "chain: no stages");
        return MO_E_INVALID;
    }
    for (size_t i = 0; status == MO_OK && i < chain->n_stages; i++)
        status = moi_remat_check_stage(log, &chain->stages[i], i + 1 == chain->n_stages);
    return status;
}

/* ---- the number of segments ---------------------------------------------------------------- */

/* The estimate adds what each op has live, in doubles: it compares, and must not overflow. */

/* Segment i of n over the stages before the loss: [begin(i), begin(i + 1)). */
static size_t moi_remat_segment(size_t n_stages, size_t n_segments, size_t i) {
    return n_stages / n_segments * i + moi_min(i, n_stages % n_segments);
}

typedef enum moi_remat_phase {
    MOI_REMAT_FORWARD,
    MOI_REMAT_BACKWARD,
    MOI_REMAT_LOSS
} moi_remat_phase;

/* Which tensors come and go within one op, while those of their stage that are kept stay. */
static int moi_remat_is_transient(const mo_stage_tensor *tensor, moi_remat_phase phase, int light) {
    if (phase == MOI_REMAT_LOSS) return 1;
    if (tensor->role == MO_TENSOR_CHEAP) return light;
    return tensor->role == (phase == MOI_REMAT_BACKWARD ? MO_TENSOR_BACKWARD : MO_TENSOR_FORWARD);
}

static int moi_remat_is_live(const mo_stage_tensor *tensor, moi_remat_phase phase, unsigned step) {
    if (phase == MOI_REMAT_BACKWARD)
        return tensor->backward_first <= step && step <= tensor->backward_last;
    return tensor->forward_first <= step && step <= tensor->forward_last;
}

/* The most bytes of transient tensors at one sub-step; they only grow where one begins. */
static double moi_remat_transient(const mo_stage *stage, moi_remat_phase phase, int light) {
    double worst = 0;
    for (size_t i = 0; i < stage->n_tensors; i++) {
        const mo_stage_tensor *tensor = &stage->tensors[i];
        unsigned step =
            phase == MOI_REMAT_BACKWARD ? tensor->backward_first : tensor->forward_first;
        double live = 0;
        for (size_t j = 0; j < stage->n_tensors; j++)
            if (moi_remat_is_transient(&stage->tensors[j], phase, light) &&
                moi_remat_is_live(&stage->tensors[j], phase, step))
                live += (double)stage->tensors[j].size;
        worst = fmax(worst, live);
    }
    return worst;
}

static double moi_remat_kept_bytes(const mo_stage *stage, int light) {
    double bytes = 0;
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (moi_remat_kept(&stage->tensors[i], light)) bytes += (double)stage->tensors[i].size;
    return bytes;
}

/* Peak while stages [begin, end) are run with saving and then backward, without x[begin]; behind
 * the last stage comes the loss. */
static double moi_remat_segment_peak(const mo_chain *chain, size_t begin, size_t end, int light) {
    double inside = 0, peak = 0, end_x = (double)moi_remat_x_size(chain, end);
    for (size_t i = begin; i < end; i++) {
        const mo_stage *stage = &chain->stages[i];
        double x = (double)moi_remat_x_size(chain, i), y = (double)stage->output_size;
        inside += moi_remat_kept_bytes(stage, light);
        peak =
            fmax(peak, inside + moi_remat_transient(stage, MOI_REMAT_FORWARD, light) + y + end_x);
        peak = fmax(peak, inside + moi_remat_transient(stage, MOI_REMAT_BACKWARD, light) + y + x);
        inside += i + 1 < end ? y : 0;
    }
    if (end + 1 < chain->n_stages) return peak;
    return fmax(
        peak, inside + moi_remat_transient(&chain->stages[end], MOI_REMAT_LOSS, light) + 2 * end_x);
}

static double moi_remat_sqrt_peak(const mo_chain *chain, size_t n_segments, int light) {
    size_t n = chain->n_stages - 1;
    double inputs = 0, peak = 0;
    for (size_t i = 0; i < n_segments; i++) {
        size_t begin = moi_remat_segment(n, n_segments, i);
        size_t end = moi_remat_segment(n, n_segments, i + 1);
        inputs += (double)moi_remat_x_size(chain, begin);
        peak = fmax(peak, inputs + moi_remat_segment_peak(chain, begin, end, light));
    }
    return peak;
}

/* Only the fewest segments of each length are tried: more of the same length keep more inputs. */
static size_t moi_remat_best_segments(const mo_chain *chain, int light) {
    size_t n = chain->n_stages - 1, best = 1;
    double best_peak = moi_remat_sqrt_peak(chain, 1, light);
    for (size_t length = n; length > 1; length--) {
        size_t n_segments = moi_ceil_div(n, length - 1);
        if (n_segments == moi_ceil_div(n, length)) continue;
        double peak = moi_remat_sqrt_peak(chain, n_segments, light);
        if (peak >= best_peak) continue;
        best = n_segments;
        best_peak = peak;
    }
    return best;
}

mo_remat_desc mo_remat_desc_defaults(const mo_remat_desc *desc, const mo_chain *chain) {
    mo_remat_desc full = {MO_REMAT_NONE, 0, 0};
    if (desc) full = *desc;
    if (full.policy != MO_REMAT_SQRT || mo_chain_check(chain, NULL) != MO_OK) return full;
    if (full.n_segments == 0) full.n_segments = moi_remat_best_segments(chain, !full.keep_cheap);
    full.n_segments = moi_max(1, moi_min(full.n_segments, chain->n_stages - 1));
    return full;
}

/* ---- schedules ----------------------------------------------------------------------------- */

/* A schedule being written; n counts on past capacity. */
typedef struct moi_remat_writer {
    const mo_chain *chain;
    mo_remat_op *ops;
    size_t n, capacity;
    int light;
} moi_remat_writer;

static void moi_remat_emit(moi_remat_writer *w, mo_step_op op, size_t stage, int save) {
    mo_remat_op entry;
    entry.op = op;
    entry.stage = stage;
    entry.save = save;
    entry.light = (save || op == MO_STEP_BACKWARD) && w->light;
    if (w->n < w->capacity) w->ops[w->n] = entry;
    w->n++;
}

static void moi_remat_emit_forward(moi_remat_writer *w, size_t begin, size_t end, int save) {
    for (size_t i = begin; i < end; i++) moi_remat_emit(w, MO_STEP_FORWARD, i, save);
}

static void moi_remat_emit_backward(moi_remat_writer *w, size_t begin, size_t end) {
    for (size_t i = end; i > begin; i--) moi_remat_emit(w, MO_STEP_BACKWARD, i - 1, 0);
}

/* Forward again over [begin, end), then backward. Nobody needs the last stage's forward when it
 * keeps nothing: its output is not read again. */
static void moi_remat_emit_again(moi_remat_writer *w, size_t begin, size_t end) {
    size_t stop = moi_remat_keeps(&w->chain->stages[end - 1], w->light) ? end : end - 1;
    for (size_t i = begin; i < stop; i++) moi_remat_emit(w, MO_STEP_RECOMPUTE, i, 1);
    moi_remat_emit_backward(w, begin, end);
}

static void moi_remat_emit_sqrt(moi_remat_writer *w, size_t n_segments) {
    size_t n = w->chain->n_stages - 1, last = moi_remat_segment(n, n_segments, n_segments - 1);
    moi_remat_emit_forward(w, 0, last, 0);
    moi_remat_emit_forward(w, last, n, 1);
    moi_remat_emit(w, MO_STEP_LOSS, n, 0);
    moi_remat_emit_backward(w, last, n);
    for (size_t i = n_segments - 1; i > 0; i--)
        moi_remat_emit_again(
            w, moi_remat_segment(n, n_segments, i - 1), moi_remat_segment(n, n_segments, i));
}

static void moi_remat_emit_block(moi_remat_writer *w) {
    size_t n = w->chain->n_stages - 1;
    moi_remat_emit_forward(w, 0, n, 0);
    moi_remat_emit(w, MO_STEP_LOSS, n, 0);
    for (size_t i = n; i > 0; i--) moi_remat_emit_again(w, i - 1, i);
}

static void moi_remat_emit_all(moi_remat_writer *w) {
    size_t n = w->chain->n_stages - 1;
    moi_remat_emit_forward(w, 0, n, 1);
    moi_remat_emit(w, MO_STEP_LOSS, n, 0);
    moi_remat_emit_backward(w, 0, n);
}

size_t mo_remat_schedule_capacity(const mo_chain *chain, const mo_remat_desc *desc) {
    mo_remat_policy policy = desc ? desc->policy : MO_REMAT_NONE;
    size_t n_runs = policy == MO_REMAT_BLOCK || policy == MO_REMAT_SQRT ? 3 : 2;
    if (!chain || chain->n_stages == 0) return 0;
    return policy == MO_REMAT_INFERENCE ? chain->n_stages : n_runs * (chain->n_stages - 1) + 1;
}

mo_status mo_remat_schedule(const mo_chain *chain, const mo_remat_desc *desc, mo_remat_op *ops,
    size_t capacity, size_t *n_ops) {
    moi_remat_writer w = {chain, ops, 0, capacity, 0};
    if (!n_ops || (!ops && capacity) || mo_chain_check(chain, NULL) != MO_OK) return MO_E_INVALID;
    mo_remat_desc full = mo_remat_desc_defaults(desc, chain);
    w.light = full.policy == MO_REMAT_NONE ? 0 : full.policy == MO_REMAT_LIGHT || !full.keep_cheap;
    switch (full.policy) {
    case MO_REMAT_NONE:
    case MO_REMAT_LIGHT: moi_remat_emit_all(&w); break;
    case MO_REMAT_BLOCK: moi_remat_emit_block(&w); break;
    case MO_REMAT_SQRT: moi_remat_emit_sqrt(&w, full.n_segments); break;
    case MO_REMAT_INFERENCE: moi_remat_emit_forward(&w, 0, chain->n_stages, 0); break;
    default: return MO_E_INVALID;
    }
    if (w.n > capacity) return MO_E_NO_SPACE;
    *n_ops = w.n;
    return MO_OK;
}

/* ---- checking ------------------------------------------------------------------------------ */

/* How far a schedule has come: forward of stages [0, n_forward) has run, and backward of stages
 * [n_backward, last); n_backward is n_stages before the loss. */
typedef struct moi_remat_progress {
    const mo_chain *chain;
    const mo_remat_op *ops;
    size_t n_forward, n_backward;
} moi_remat_progress;

static const char *moi_remat_op_name(mo_step_op op) {
    static const char *const names[] = {"forward", "recompute", "loss", "backward"};
    return (unsigned)op < sizeof names / sizeof *names ? names[op] : "?";
}

static const char *moi_remat_check_forward(moi_remat_progress *p, const mo_remat_op *op) {
    if (op->op == MO_STEP_FORWARD && op->stage != p->n_forward)
        return "forward must run once per stage, in order";
    if (op->op == MO_STEP_RECOMPUTE && op->stage >= p->n_forward)
        return "recompute of a stage whose forward has not run";
    if (op->op == MO_STEP_RECOMPUTE && op->stage + 1 == p->chain->n_stages)
        return "the last stage never runs again";
    if (op->save && op->stage >= p->n_backward) return "saves for a backward that has run";
    p->n_forward += op->op == MO_STEP_FORWARD;
    return NULL;
}

static const char *moi_remat_check_loss(moi_remat_progress *p, const mo_remat_op *op) {
    if (op->stage + 1 != p->chain->n_stages) return "only the last stage is the loss";
    if (p->n_forward != op->stage) return "the stages before the loss have not all run";
    p->n_forward++;
    p->n_backward = op->stage;
    return NULL;
}

/* The tensors must be there: saved once, at the level that backward expects. */
static const char *moi_remat_check_backward(moi_remat_progress *p, const mo_remat_op *op) {
    int n_saves = 0, light = op->light != 0;
    if (op->stage + 1 != p->n_backward || p->n_backward == p->chain->n_stages)
        return "backward must follow the loss, once per stage, in reverse order";
    for (const mo_remat_op *before = p->ops; before < op; before++) {
        if (before->op > MO_STEP_RECOMPUTE || before->stage != op->stage || !before->save) continue;
        if ((before->light != 0) != light) return "saved at another level than backward expects";
        n_saves++;
    }
    if (n_saves > 1) return "saved more than once";
    if (n_saves == 0 && moi_remat_keeps(&p->chain->stages[op->stage], light))
        return "backward without saved tensors";
    p->n_backward--;
    return NULL;
}

static const char *moi_remat_check_op(moi_remat_progress *p, const mo_remat_op *op) {
    if (op->stage >= p->chain->n_stages) return "no such stage";
    switch (op->op) {
    case MO_STEP_FORWARD:
    case MO_STEP_RECOMPUTE: return moi_remat_check_forward(p, op);
    case MO_STEP_LOSS: return moi_remat_check_loss(p, op);
    case MO_STEP_BACKWARD: return moi_remat_check_backward(p, op);
    }
    return "unknown op";
}

/* What is missing at the end. Inference has no loss op: n_backward still stands at n_stages. */
static const char *moi_remat_check_end(const moi_remat_progress *p, size_t n_ops) {
    if (p->n_forward < p->chain->n_stages) return "not every stage has run";
    if (p->n_backward == 0) return NULL;
    if (p->n_backward < p->chain->n_stages) return "not every stage has run backward";
    for (size_t i = 0; i < n_ops; i++)
        if (p->ops[i].save) return "saves without a backward";
    return NULL;
}

mo_status mo_remat_check(
    const mo_chain *chain, const mo_remat_op *ops, size_t n_ops, const mo_log *log) {
    mo_status status = mo_chain_check(chain, log);
    if (status != MO_OK) return status;
    if (!ops && n_ops) return MO_E_INVALID;
    moi_remat_progress progress = {chain, ops, 0, chain->n_stages};
    for (size_t i = 0; i < n_ops; i++) {
        const char *wrong = moi_remat_check_op(&progress, &ops[i]);
        if (!wrong) continue;
        moi_log(log, MO_LOG_ERROR, "schedule: op %zu (%s of stage %zu): %s", i,
            moi_remat_op_name(ops[i].op), ops[i].stage, wrong);
        return MO_E_INVALID;
    }
    const char *wrong = moi_remat_check_end(&progress, n_ops);
    if (!wrong) return MO_OK;
    moi_log(log, MO_LOG_ERROR, "schedule: after op %zu: %s", n_ops, wrong);
    return MO_E_INVALID;
}

/* ---- costs --------------------------------------------------------------------------------- */

/* Whether somebody reads x[stage + 1] of op k before it is computed again. */
static int moi_remat_output_is_read(const mo_remat_op *ops, size_t n_ops, size_t k) {
    for (size_t i = k + 1; i < n_ops; i++) {
        if (ops[i].stage == ops[k].stage + 1) return 1;
        if (ops[i].stage == ops[k].stage && ops[i].op != MO_STEP_BACKWARD) return 0;
    }
    return 0;
}

double mo_remat_cost(const mo_chain *chain, const mo_remat_op *ops, size_t n_ops) {
    double cost = 0;
    for (size_t i = 0; i < n_ops; i++) {
        const mo_stage *stage = &chain->stages[ops[i].stage];
        switch (ops[i].op) {
        case MO_STEP_FORWARD: cost += stage->forward_s; break;
        case MO_STEP_RECOMPUTE:
            cost += stage->forward_s;
            if (!moi_remat_output_is_read(ops, n_ops, i)) cost -= stage->output_s;
            break;
        case MO_STEP_LOSS: cost += stage->forward_s + stage->backward_s; break;
        case MO_STEP_BACKWARD:
            cost += stage->backward_s + (ops[i].light ? stage->light_s : 0);
            break;
        }
    }
    return cost;
}

double mo_remat_ideal_cost(const mo_chain *chain) {
    double cost = 0;
    for (size_t i = 0; i < chain->n_stages; i++)
        cost += chain->stages[i].forward_s + chain->stages[i].backward_s;
    return cost;
}

double mo_remat_forward_cost(const mo_chain *chain) {
    double cost = 0;
    for (size_t i = 0; i < chain->n_stages; i++) cost += chain->stages[i].forward_s;
    return cost;
}
