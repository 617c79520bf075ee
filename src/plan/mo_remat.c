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

static int moi_remat_level(int light) {
    if (light == MO_LEVEL_COMPRESSED) return MO_LEVEL_COMPRESSED;
    return light ? MO_LEVEL_LIGHT : MO_LEVEL_FULL;
}

/* Whether saving at this level keeps the tensor until backward. */
static int moi_remat_kept(const mo_stage_tensor *tensor, int light) {
    const int level = moi_remat_level(light);
    if (tensor->size == 0) return 0;
    switch (tensor->role) {
    case MO_TENSOR_SAVED: return 1;
    case MO_TENSOR_CHEAP: return level == MO_LEVEL_FULL;
    case MO_TENSOR_WIDE: return level != MO_LEVEL_COMPRESSED;
    case MO_TENSOR_CODES: return level == MO_LEVEL_COMPRESSED;
    case MO_TENSOR_FORWARD:
    case MO_TENSOR_BACKWARD: break;
    }
    return 0;
}

/* Whether the tensor is there in an op: codes are where they are saved, and where they are read. */
static int moi_remat_has(const mo_stage_tensor *tensor, int is_backward, int save, int light) {
    if (tensor->role == (is_backward ? MO_TENSOR_FORWARD : MO_TENSOR_BACKWARD)) return 0;
    if (tensor->role != MO_TENSOR_CODES) return 1;
    return (is_backward || save) && moi_remat_level(light) == MO_LEVEL_COMPRESSED;
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
    if ((unsigned)tensor->role > MO_TENSOR_CODES ||
        (unsigned)tensor->category >= MO_CATEGORY_COUNT ||
        (is_loss && (tensor->role == MO_TENSOR_BACKWARD || tensor->role == MO_TENSOR_CODES))) {
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
            stage->output_s >= 0 && stage->compress_s >= 0)) {
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
    if (tensor->role == MO_TENSOR_CHEAP || tensor->role == MO_TENSOR_WIDE)
        return !moi_remat_kept(tensor, light);
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

/* What the estimate needs of a stage; it is the same for every number of segments. */
typedef struct moi_remat_sizes {
    double x, y, kept, forward, backward;
} moi_remat_sizes;

static moi_remat_sizes moi_remat_sizes_of(const mo_chain *chain, size_t i, int light) {
    const mo_stage *stage = &chain->stages[i];
    moi_remat_sizes sizes;
    sizes.x = (double)moi_remat_x_size(chain, i);
    sizes.y = (double)stage->output_size;
    sizes.kept = moi_remat_kept_bytes(stage, light);
    sizes.forward = moi_remat_transient(stage, MOI_REMAT_FORWARD, light);
    sizes.backward = moi_remat_transient(stage, MOI_REMAT_BACKWARD, light);
    return sizes;
}

/* A number of segments being tried: the segment reached and its end, the inputs of all segments so
 * far, what is kept inside the last one, and the peak. */
typedef struct moi_remat_trial {
    size_t n_segments, segment, end;
    double inputs, inside, peak;
} moi_remat_trial;
enum { MOI_REMAT_TRIALS = 64 };

/* Stage i is run with saving, and backward, while the segments before hold their inputs. */
static void moi_remat_try_stage(
    moi_remat_trial *trial, const mo_chain *chain, size_t i, const moi_remat_sizes *stage) {
    size_t n = chain->n_stages - 1;
    if (i == trial->end) {
        trial->inputs += stage->x;
        trial->inside = 0;
        trial->end = moi_remat_segment(n, trial->n_segments, ++trial->segment);
    }
    double end_x = (double)moi_remat_x_size(chain, trial->end);
    trial->inside += stage->kept;
    double live = trial->inputs + trial->inside + stage->y;
    trial->peak = fmax(trial->peak, live + stage->forward + end_x);
    trial->peak = fmax(trial->peak, live + stage->backward + stage->x);
    trial->inside += i + 1 < trial->end ? stage->y : 0;
}

/* All trials go through the chain together; behind its last stage comes the loss. The first of the
 * best ones. */
static const moi_remat_trial *moi_remat_try(
    moi_remat_trial *trials, size_t n_trials, const mo_chain *chain, int light) {
    size_t n = chain->n_stages - 1;
    const moi_remat_trial *best = trials;
    double loss = moi_remat_transient(&chain->stages[n], MOI_REMAT_LOSS, light) +
        2 * (double)moi_remat_x_size(chain, n);
    for (size_t i = 0; i < n; i++) {
        moi_remat_sizes stage = moi_remat_sizes_of(chain, i, light);
        for (size_t k = 0; k < n_trials; k++) moi_remat_try_stage(&trials[k], chain, i, &stage);
    }
    for (size_t k = 0; k < n_trials; k++) {
        trials[k].peak = fmax(trials[k].peak, trials[k].inputs + trials[k].inside + loss);
        if (trials[k].peak < best->peak) best = &trials[k];
    }
    return best;
}

/* Only the fewest segments of each length are tried: more of the same length keep more inputs. */
static size_t moi_remat_best_segments(const mo_chain *chain, int light) {
    moi_remat_trial trials[MOI_REMAT_TRIALS], best = {1, 0, 0, 0, 0, HUGE_VAL};
    size_t n = chain->n_stages - 1, n_trials = 0, before = 0;
    for (size_t length = n; length > 0; length--) {
        size_t n_segments = moi_ceil_div(n, length);
        if (n_segments != before) {
            memset(&trials[n_trials], 0, sizeof *trials);
            trials[n_trials++].n_segments = before = n_segments;
        }
        if (n_trials < MOI_REMAT_TRIALS && length > 1) continue;
        const moi_remat_trial *found = moi_remat_try(trials, n_trials, chain, light);
        if (n_trials > 0 && found->peak < best.peak) best = *found;
        n_trials = 0;
    }
    return best.n_segments;
}

static int moi_remat_desc_level(const mo_remat_desc *desc) {
    if (desc->compress) return MO_LEVEL_COMPRESSED;
    if (desc->policy == MO_REMAT_NONE) return MO_LEVEL_FULL;
    return desc->policy == MO_REMAT_LIGHT || !desc->keep_cheap ? MO_LEVEL_LIGHT : MO_LEVEL_FULL;
}

mo_remat_desc mo_remat_desc_defaults(const mo_remat_desc *desc, const mo_chain *chain) {
    mo_remat_desc full = {MO_REMAT_NONE, 0, 0, 0};
    if (desc) full = *desc;
    if (full.policy != MO_REMAT_SQRT || mo_chain_check(chain, NULL) != MO_OK) return full;
    if (full.n_segments == 0)
        full.n_segments = moi_remat_best_segments(chain, moi_remat_desc_level(&full));
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
    entry.light = save || op == MO_STEP_BACKWARD ? w->light : MO_LEVEL_FULL;
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
    moi_remat_writer w = {chain, ops, 0, capacity, MO_LEVEL_FULL};
    if (!n_ops || (!ops && capacity) || mo_chain_check(chain, NULL) != MO_OK) return MO_E_INVALID;
    mo_remat_desc full = mo_remat_desc_defaults(desc, chain);
    w.light = moi_remat_desc_level(&full);
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

/* Where a thing is that is moved to the store and back. */
typedef enum moi_remat_place {
    MOI_REMAT_HERE, /* never moved */
    MOI_REMAT_LEAVING,
    MOI_REMAT_AWAY,
    MOI_REMAT_COMING,
    MOI_REMAT_BACK
} moi_remat_place;

/* What is known of a stage. x_is_new: x was computed, or computed again, since its last OFFLOAD. */
typedef struct moi_remat_state {
    unsigned char is_saved, light;
    unsigned char x_is_here, x_is_new;
    unsigned char places[2]; /* moi_remat_place of x, and of what the stage saved */
} moi_remat_state;

/* The stages that one pass over the ops looks at: so checking needs no memory from anywhere. */
enum { MOI_REMAT_STAGES = 256 };

/* How far a schedule has come: forward of stages [0, n_forward) has run, and backward of stages
 * [n_backward, last); n_backward is n_stages before the loss. The states are those of the stages
 * from begin on. */
typedef struct moi_remat_progress {
    const mo_chain *chain;
    size_t n_forward, n_backward;
    size_t begin;
    moi_remat_state states[MOI_REMAT_STAGES];
} moi_remat_progress;

static const char *moi_remat_op_name(mo_step_op op) {
    static const char *const names[] = {"forward", "recompute", "loss", "backward", "offload",
        "offload_wait", "prefetch", "prefetch_wait"};
    return (unsigned)op < sizeof names / sizeof *names ? names[op] : "?";
}

/* NULL for the stages of other passes. */
static moi_remat_state *moi_remat_state_of(moi_remat_progress *p, size_t stage) {
    size_t i = stage - p->begin;
    return i < MOI_REMAT_STAGES && stage < p->chain->n_stages ? &p->states[i] : NULL;
}

static const char *moi_remat_check_reads_x(moi_remat_progress *p, size_t stage) {
    const moi_remat_state *state = moi_remat_state_of(p, stage);
    return state && !state->x_is_here ? "its x is in the store" : NULL;
}

static const char *moi_remat_check_save(moi_remat_progress *p, const mo_remat_op *op) {
    moi_remat_state *state = moi_remat_state_of(p, op->stage);
    if (!op->save) return NULL;
    if (op->stage >= p->n_backward) return "saves for a backward that has run";
    if (!state) return NULL;
    if (state->is_saved) return "saved more than once";
    state->is_saved = 1;
    state->light = (unsigned char)moi_remat_level(op->light);
    return NULL;
}

static const char *moi_remat_check_forward(moi_remat_progress *p, const mo_remat_op *op) {
    moi_remat_state *next = moi_remat_state_of(p, op->stage + 1);
    if (op->op == MO_STEP_FORWARD && op->stage != p->n_forward)
        return "forward must run once per stage, in order";
    if (op->op == MO_STEP_RECOMPUTE && op->stage >= p->n_forward)
        return "recompute of a stage whose forward has not run";
    if (op->op == MO_STEP_RECOMPUTE && op->stage + 1 == p->chain->n_stages)
        return "the last stage never runs again";
    if (next && next->places[0] == MOI_REMAT_COMING) return "its output is on the way back";
    if (next) next->x_is_here = next->x_is_new = 1;
    p->n_forward += op->op == MO_STEP_FORWARD;
    const char *wrong = moi_remat_check_reads_x(p, op->stage);
    return wrong ? wrong : moi_remat_check_save(p, op);
}

static const char *moi_remat_check_loss(moi_remat_progress *p, const mo_remat_op *op) {
    if (op->stage + 1 != p->chain->n_stages) return "only the last stage is the loss";
    if (p->n_forward != op->stage) return "the stages before the loss have not all run";
    p->n_forward++;
    p->n_backward = op->stage;
    return moi_remat_check_reads_x(p, op->stage);
}

/* The tensors must be there: saved at the level that backward expects, and not in the store. */
static const char *moi_remat_check_backward(moi_remat_progress *p, const mo_remat_op *op) {
    const moi_remat_state *state = moi_remat_state_of(p, op->stage);
    int light = moi_remat_level(op->light);
    if (op->stage + 1 != p->n_backward || p->n_backward == p->chain->n_stages)
        return "backward must follow the loss, once per stage, in reverse order";
    p->n_backward--;
    if (!state) return NULL;
    if (state->is_saved && state->light != light)
        return "saved at another level than backward expects";
    if (!state->is_saved && moi_remat_keeps(&p->chain->stages[op->stage], light))
        return "backward without saved tensors";
    if (state->places[1] != MOI_REMAT_HERE && state->places[1] != MOI_REMAT_BACK)
        return "what it saved is in the store";
    return moi_remat_check_reads_x(p, op->stage);
}

/* Whether there is anything to move. */
static const char *moi_remat_check_moved(
    const moi_remat_progress *p, const mo_remat_op *op, const moi_remat_state *state) {
    if (!op->save) return p->n_forward < moi_max(op->stage, 1) ? "its x is not there yet" : NULL;
    if (op->stage >= p->n_backward) return "moves for a backward that has run";
    if (!state->is_saved) return "moves what is not saved";
    return state->light != moi_remat_level(op->light) ? "saved at another level than it says"
                                                      : NULL;
}

static const char *moi_remat_check_move(moi_remat_progress *p, const mo_remat_op *op) {
    moi_remat_state *state = moi_remat_state_of(p, op->stage);
    if (!state) return NULL;
    const char *wrong = moi_remat_check_moved(p, op, state);
    unsigned char *place = &state->places[op->save != 0];
    if (wrong) return wrong;
    switch (op->op) {
    case MO_STEP_OFFLOAD:
        if (*place != MOI_REMAT_HERE) return "moved out more than once";
        *place = MOI_REMAT_LEAVING;
        if (!op->save) state->x_is_new = 0;
        return NULL;
    case MO_STEP_OFFLOAD_WAIT:
        if (*place != MOI_REMAT_LEAVING) return "nothing is on the way out";
        *place = MOI_REMAT_AWAY;
        if (!op->save) state->x_is_here = state->x_is_new;
        return NULL;
    case MO_STEP_PREFETCH:
        if (*place != MOI_REMAT_AWAY && (op->save || *place != MOI_REMAT_BACK))
            return "nothing is in the store";
        *place = MOI_REMAT_COMING;
        if (!op->save) state->x_is_here = 0;
        return NULL;
    default:
        if (*place != MOI_REMAT_COMING) return "nothing is on the way back";
        *place = MOI_REMAT_BACK;
        if (!op->save) state->x_is_here = 1;
        return NULL;
    }
}

static const char *moi_remat_check_op(moi_remat_progress *p, const mo_remat_op *op) {
    if (op->stage >= p->chain->n_stages) return "no such stage";
    switch (op->op) {
    case MO_STEP_FORWARD:
    case MO_STEP_RECOMPUTE: return moi_remat_check_forward(p, op);
    case MO_STEP_LOSS: return moi_remat_check_loss(p, op);
    case MO_STEP_BACKWARD: return moi_remat_check_backward(p, op);
    case MO_STEP_OFFLOAD:
    case MO_STEP_OFFLOAD_WAIT:
    case MO_STEP_PREFETCH:
    case MO_STEP_PREFETCH_WAIT: return moi_remat_check_move(p, op);
    }
    return "unknown op";
}

/* What is missing at the end. Inference has no loss op: n_backward still stands at n_stages. */
static const char *moi_remat_check_end(const moi_remat_progress *p) {
    if (p->n_forward < p->chain->n_stages) return "not every stage has run";
    if (p->n_backward > 0 && p->n_backward < p->chain->n_stages)
        return "not every stage has run backward";
    for (size_t i = 0; i < MOI_REMAT_STAGES; i++) {
        const moi_remat_state *state = &p->states[i];
        if (p->n_backward > 0 && state->is_saved) return "saves without a backward";
        for (int k = 0; k < 2; k++)
            if (state->places[k] != MOI_REMAT_HERE && state->places[k] != MOI_REMAT_BACK)
                return "not everything that was moved out is back";
    }
    return NULL;
}

/* One pass over ops [0, *n). When an op is wrong, *n is its index. */
static const char *moi_remat_check_pass(
    const mo_chain *chain, size_t begin, const mo_remat_op *ops, size_t *n) {
    moi_remat_progress p;
    memset(&p, 0, sizeof p);
    p.chain = chain;
    p.n_backward = chain->n_stages;
    p.begin = begin;
    p.states[0].x_is_here = begin == 0; /* x[0] is the caller's */
    for (size_t i = 0; i < *n; i++) {
        const char *wrong = moi_remat_check_op(&p, &ops[i]);
        if (!wrong) continue;
        *n = i;
        return wrong;
    }
    return moi_remat_check_end(&p);
}

/* The passes meet different errors; the first one in the schedule is told. */
mo_status mo_remat_check(
    const mo_chain *chain, const mo_remat_op *ops, size_t n_ops, const mo_log *log) {
    mo_status status = mo_chain_check(chain, log);
    const char *wrong = NULL;
    size_t n = n_ops;
    if (status != MO_OK) return status;
    if (!ops && n_ops) return MO_E_INVALID;
    for (size_t begin = 0; begin < chain->n_stages; begin += MOI_REMAT_STAGES) {
        size_t at = n;
        const char *found = moi_remat_check_pass(chain, begin, ops, &at);
        if (found && (at < n || !wrong)) wrong = found;
        n = at;
    }
    if (!wrong) return MO_OK;
    if (n == n_ops) moi_log(log, MO_LOG_ERROR, "schedule: after op %zu: %s", n, wrong);
    else
        moi_log(log, MO_LOG_ERROR, "schedule: op %zu (%s of stage %zu): %s", n,
            moi_remat_op_name(ops[n].op), ops[n].stage, wrong);
    return MO_E_INVALID;
}

/* ---- costs --------------------------------------------------------------------------------- */

size_t mo_remat_copy_bytes(const mo_chain *chain, const mo_remat_op *op) {
    const mo_stage *stage = &chain->stages[op->stage];
    size_t bytes = 0;
    if (op->op != MO_STEP_OFFLOAD && op->op != MO_STEP_PREFETCH) return 0;
    if (!op->save) return moi_remat_x_size(chain, op->stage);
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (moi_remat_kept(&stage->tensors[i], op->light) &&
            !moi_add(bytes, stage->tensors[i].size, &bytes))
            return SIZE_MAX;
    return bytes;
}

/* What recomputes of the stages from begin on leave out, because nobody reads their output before
 * it is there again. Backwards in time, so that one flag for each x is enough. */
static double moi_remat_unread(
    const mo_chain *chain, const mo_remat_op *ops, size_t n_ops, size_t begin) {
    unsigned char is_read[MOI_REMAT_STAGES] = {0}; /* of x[begin + 1 + i] */
    double cost = 0;
    for (size_t k = n_ops; k > 0; k--) {
        const mo_remat_op *op = &ops[k - 1];
        size_t x = op->stage - 1 - begin, y = op->stage - begin;
        int is_move = op->op >= MO_STEP_OFFLOAD;
        if (op->op <= MO_STEP_RECOMPUTE && y < MOI_REMAT_STAGES) {
            if (op->op == MO_STEP_RECOMPUTE && !is_read[y])
                cost += chain->stages[op->stage].output_s;
            is_read[y] = 0;
        }
        if (x >= MOI_REMAT_STAGES || (is_move && op->save)) continue;
        if (!is_move || op->op == MO_STEP_OFFLOAD) is_read[x] = 1;
        if (op->op == MO_STEP_PREFETCH) is_read[x] = 0;
    }
    return cost;
}

/* What backward, and the forward that saved for it, take more at a level. */
static double moi_remat_level_cost(const mo_stage *stage, int light) {
    const int level = moi_remat_level(light);
    if (level == MO_LEVEL_FULL) return 0;
    return stage->light_s + (level == MO_LEVEL_COMPRESSED ? stage->compress_s : 0);
}

double mo_remat_cost(const mo_chain *chain, const mo_remat_op *ops, size_t n_ops) {
    double cost = 0;
    for (size_t i = 0; i < n_ops; i++) {
        const mo_stage *stage = &chain->stages[ops[i].stage];
        switch (ops[i].op) {
        case MO_STEP_FORWARD:
        case MO_STEP_RECOMPUTE: cost += stage->forward_s; break;
        case MO_STEP_LOSS: cost += stage->forward_s + stage->backward_s; break;
        case MO_STEP_BACKWARD:
            cost += stage->backward_s + moi_remat_level_cost(stage, ops[i].light);
            break;
        case MO_STEP_OFFLOAD:
        case MO_STEP_OFFLOAD_WAIT:
        case MO_STEP_PREFETCH:
        case MO_STEP_PREFETCH_WAIT: break;
        }
    }
    for (size_t begin = 0; begin < chain->n_stages; begin += MOI_REMAT_STAGES)
        cost -= moi_remat_unread(chain, ops, n_ops, begin);
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
