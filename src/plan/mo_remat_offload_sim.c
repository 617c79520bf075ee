/* mo_remat_offload_sim.c - a candidate of mo_remat_offload, simulated.
 *
 * Item j is what stage j leaves behind: what it keeps (x[j + 1] included), or its output alone, and
 * then it runs again before its backward. The items of the prefix, the first n stages, travel,
 * except the last one, which is needed first; or only those with many bytes for their cost do. The
 * stages behind take the schedule of the table for the bytes that are left. Such a schedule may
 * need all of them until its end, which lets nothing come back before; so candidates also have a
 * middle, whose items stay and whose stages run again one by one, and less behind it.
 *
 * Copies out start when an item is made, in order. Copies in start, in reverse order, as soon as no
 * op before the item's last reader needs its bytes, which does not depend on times: see
 * moi_offload_plan_in. Bytes are taken and freed between ops only, so that the list of ops says it
 * all. */

/* ---- the chain ----------------------------------------------------------------------------- */

/* Sums of sizes stay at the largest number: they are compared with a budget. */
static size_t moi_offload_add(size_t a, size_t b) { return a + b < a ? SIZE_MAX : a + b; }

static size_t moi_offload_x(const mo_flat_chain *chain, size_t i) {
    return i == 0 ? chain->input_size : chain->stages[i - 1].output_size;
}

/* The option that a prefix of this choice takes at a stage. */
static unsigned moi_offload_option(
    const moi_offload *o, const moi_offload_choice *choice, size_t i) {
    return (unsigned)moi_min(choice->option, o->chain->stages[i].n_options - 1);
}

static const mo_flat_option *moi_offload_kept(
    const moi_offload *o, const moi_offload_choice *choice, size_t i) {
    return &o->chain->stages[i].options[moi_offload_option(o, choice, i)];
}

/* ---- patterns ------------------------------------------------------------------------------ */

/* The many that begin with outputs alone are for the plain choices. */
static size_t moi_offload_n_patterns(const moi_offload_choice *choice) {
    if (choice->n < 2) return 1;
    if (choice->stay || choice->slack || choice->mid) return MOI_OFFLOAD_PARTS;
    return MOI_OFFLOAD_PARTS + choice->n - 2;
}

static int moi_offload_runs_again(
    const moi_offload *o, const moi_offload_choice *choice, size_t i) {
    return choice->again == MOI_OFFLOAD_ALL ||
        (choice->again == MOI_OFFLOAD_DENSE && o->is_dense[i]);
}

static int moi_offload_pattern_is_x(
    const moi_offload *o, const moi_offload_choice *choice, size_t i) {
    if (choice->pattern >= MOI_OFFLOAD_PARTS) return i <= choice->pattern - MOI_OFFLOAD_PARTS;
    return o->spread[choice->pattern * o->chain->n_stages + i];
}

static void moi_offload_set_pattern(moi_offload *o, const moi_offload_choice *choice) {
    for (size_t i = 0; i < choice->n + choice->mid; i++) {
        int travels = i + 1 < choice->n && (!choice->stay || o->is_dense[i]);
        int is_x = i >= choice->n ? moi_offload_runs_again(o, choice, i)
                                  : travels && moi_offload_pattern_is_x(o, choice, i);
        o->travels[i] = (unsigned char)travels;
        o->is_x[i] = (unsigned char)is_x;
    }
}

static void moi_offload_spread(moi_offload *o) {
    for (size_t k = 0; k < MOI_OFFLOAD_PARTS; k++)
        for (size_t i = 0; i < o->chain->n_stages; i++) {
            double part = moi_offload_parts[k] + 1e-9;
            o->spread[k * o->chain->n_stages + i] =
                floor((double)(i + 1) * part) == floor((double)i * part);
        }
}

/* Of item i, in the pattern that is set. */
static size_t moi_offload_bytes(const moi_offload *o, const moi_offload_choice *choice, size_t i) {
    return o->is_x[i] ? o->chain->stages[i].output_size : moi_offload_kept(o, choice, i)->kept;
}

/* What prefix and middle cost: every stage once forward and once backward, and once more forward
 * where its output alone is there. */
static double moi_offload_prefix_cost(const moi_offload *o, const moi_offload_choice *choice) {
    size_t end = choice->n + choice->mid;
    double cost = o->forward[end] + o->backward[end];
    for (size_t i = 0; i < end; i++) {
        const mo_flat_option *option = moi_offload_kept(o, choice, i);
        cost += option->extra_s;
        if (o->is_x[i]) cost += o->chain->stages[i].forward_s - option->unread_s;
    }
    return cost;
}

/* No faster than its copies: all go out, behind stage 0, before the first comes in. */
static double moi_offload_copy_bound(const moi_offload *o, const moi_offload_choice *choice) {
    double bytes = 0, n = 0;
    for (size_t i = 0; i + 1 < choice->n; i++) {
        if (!o->travels[i]) continue;
        bytes += (double)moi_offload_bytes(o, choice, i);
        n++;
    }
    if (n == 0) return 0;
    return o->forward[1] + o->backward[1] + 2 * n * o->link.latency_s +
        bytes / o->link.out_bytes_per_s + bytes / o->link.in_bytes_per_s;
}

/* ---- the stages behind the prefix ---------------------------------------------------------- */

/* In the pattern that is set, with x[end]; 0 when what stays is too much. */
static size_t moi_offload_suffix_budget(const moi_offload *o, const moi_offload_choice *choice) {
    size_t end = choice->n + choice->mid, held = o->chain->input_size, most = 0;
    if (end == 0) return o->budget;
    for (size_t i = 0; i < end; i++) {
        size_t bytes = moi_offload_bytes(o, choice, i);
        if (o->travels[i]) most = moi_max(most, moi_offload_kept(o, choice, i)->kept);
        else held = moi_offload_add(held, bytes);
    }
    for (size_t i = 0; i < choice->slack; i++) held = moi_offload_add(held, most);
    if (held > o->budget) return 0;
    return o->budget - held + moi_offload_x(o->chain, end);
}

static double moi_offload_op_cost(const mo_flat_chain *chain, const mo_flat_op *op) {
    const mo_flat_stage *stage = &chain->stages[op->stage];
    if (op->kind == MO_FLAT_LOSS) return stage->forward_s + stage->backward_s;
    if (op->kind != MO_FLAT_BACKWARD) return stage->forward_s;
    return stage->backward_s + stage->options[op->option].extra_s;
}

/* Costs of the ops of a schedule; a save whose output nobody reads leaves that part out. flags are
 * [n_stages]. */
static void moi_offload_op_costs(const mo_flat_chain *chain, const mo_flat_op *ops, size_t n_ops,
    unsigned char *flags, double *costs) {
    memset(flags, 0, chain->n_stages);
    for (size_t k = n_ops; k > 0; k--) {
        const mo_flat_op *op = &ops[k - 1];
        int saves = op->kind == MO_FLAT_SAVE || op->kind == MO_FLAT_SAVE_DROP;
        costs[k - 1] = moi_offload_op_cost(chain, op);
        if (saves && !flags[op->stage])
            costs[k - 1] -= chain->stages[op->stage].options[op->option].unread_s;
        if (op->kind != MO_FLAT_BACKWARD) flags[op->stage] = 0;
        if (op->stage > 0) flags[op->stage - 1] = 1;
    }
}

static void moi_offload_free_suffix(moi_offload *o) {
    moi_free_array(&o->allocator, o->suffix_costs, o->max_suffix, sizeof *o->suffix_costs);
    moi_free_array(&o->allocator, o->suffix_bytes, o->max_suffix, sizeof *o->suffix_bytes);
    moi_free_array(&o->allocator, o->runs, o->max_runs, sizeof *o->runs);
    o->suffix_costs = NULL;
    o->suffix_bytes = NULL;
    o->runs = NULL;
    o->max_suffix = o->max_runs = 0;
}

/* Arrays for a suffix of n_ops. */
static mo_status moi_offload_grow(moi_offload *o, size_t n_ops) {
    if (n_ops <= o->max_suffix) return MO_OK;
    moi_offload_free_suffix(o);
    size_t n = 2 * n_ops, n_runs = n + 3 * o->chain->n_stages;
    o->suffix_costs = (double *)moi_alloc_array(&o->allocator, n, sizeof *o->suffix_costs);
    o->suffix_bytes = (size_t *)moi_alloc_array(&o->allocator, n, sizeof *o->suffix_bytes);
    o->runs = (moi_offload_run *)moi_alloc_array(&o->allocator, n_runs, sizeof *o->runs);
    o->max_suffix = n;
    o->max_runs = n_runs;
    if (o->suffix_costs && o->suffix_bytes && o->runs) return MO_OK;
    moi_offload_free_suffix(o);
    return MO_E_NO_MEMORY;
}

static int moi_offload_has_suffix(const moi_offload *o, const moi_offload_choice *choice) {
    return o->suffix_of.n == choice->n && o->suffix_of.stay == choice->stay &&
        o->suffix_of.mid == choice->mid && o->suffix_of.again == choice->again &&
        o->suffix_of.option == choice->option && o->suffix_of.slack == choice->slack;
}

/* The suffix for a choice, unless it is there; its pattern does not matter. For the whole chain the
 * table may find a schedule at its floor even where it has no estimate. */
static mo_status moi_offload_solve_suffix(moi_offload *o, const moi_offload_choice *choice) {
    if (moi_offload_has_suffix(o, choice)) return MO_OK;
    mo_remat_solution_free(&o->suffix);
    memset(&o->suffix, 0, sizeof o->suffix);
    o->suffix_of = *choice;
    size_t budget = moi_offload_suffix_budget(o, choice), first = choice->n + choice->mid;
    double least = mo_remat_table_estimate(o->table, first, budget);
    if (budget == 0 || (first > 0 && !(least < HUGE_VAL))) return MO_OK;
    mo_status status = mo_remat_table_solve(o->table, first, budget, &o->suffix);
    if (status != MO_OK || !o->suffix.feasible) return status;
    status = moi_offload_grow(o, o->suffix.n_ops);
    if (status != MO_OK) return status;
    moi_offload_op_costs(o->chain, o->suffix.ops, o->suffix.n_ops, o->flags, o->suffix_costs);
    return mo_remat_flat_simulate(o->chain, first, o->suffix.ops, o->suffix.n_ops, &o->allocator,
        NULL, o->suffix_bytes, NULL);
}

/* ---- the ops of a candidate ---------------------------------------------------------------- */

static moi_offload_run *moi_offload_put(
    moi_offload *o, size_t *n, size_t stage, mo_flat_kind kind, unsigned option) {
    moi_offload_run *run = &o->runs[(*n)++];
    run->flat.stage = stage;
    run->flat.kind = kind;
    run->flat.option = option;
    run->cost = moi_offload_op_cost(o->chain, &run->flat);
    run->need = run->most = 0;
    return run;
}

/* held: x[0] and the items that stay. */
static void moi_offload_put_forward(moi_offload *o, const moi_offload_choice *choice, size_t *n) {
    o->held = o->chain->input_size;
    o->n_items = 0;
    for (size_t i = 0; i < choice->n + choice->mid; i++) {
        const mo_flat_option *kept = moi_offload_kept(o, choice, i);
        int is_x = o->is_x[i];
        size_t bytes = moi_offload_bytes(o, choice, i);
        moi_offload_run *run = moi_offload_put(o, n, i, is_x ? MO_FLAT_KEEP : MO_FLAT_SAVE,
            is_x ? 0 : moi_offload_option(o, choice, i));
        run->need = moi_offload_add(moi_offload_add(o->held, bytes),
            is_x ? o->chain->stages[i].forward_tmp : kept->forward_tmp);
        if (!o->travels[i]) {
            o->held = moi_offload_add(o->held, bytes);
            continue;
        }
        o->items[o->n_items].stage = i;
        o->items[o->n_items++].bytes = bytes;
    }
}

/* x[end] is counted by the suffix itself. */
static void moi_offload_put_suffix(moi_offload *o, const moi_offload_choice *choice, size_t *n) {
    size_t end = choice->n + choice->mid, held = end ? o->held - moi_offload_x(o->chain, end) : 0;
    for (size_t k = 0; k < o->suffix.n_ops; k++) {
        moi_offload_run *run = &o->runs[(*n)++];
        run->flat = o->suffix.ops[k];
        run->cost = o->suffix_costs[k];
        run->need = moi_offload_add(held, o->suffix_bytes[k]);
        run->most = 0;
    }
}

/* Backward of stage i reads item i - 1, as x[i], and item i, unless it runs again instead. back is
 * the last item that travels of those up to i. */
static void moi_offload_put_backward(moi_offload *o, const moi_offload_choice *choice, size_t *n) {
    size_t held = o->held, back = o->n_items;
    for (size_t i = choice->n + choice->mid; i-- > 0;) {
        const mo_flat_option *kept = moi_offload_kept(o, choice, i);
        size_t bytes = o->travels[i] ? 0 : moi_offload_bytes(o, choice, i);
        unsigned option = moi_offload_option(o, choice, i);
        if (o->is_x[i]) held -= bytes; /* x[i + 1] has been read */
        size_t there = moi_offload_add(held, o->chain->stages[i].output_size);
        moi_offload_item *own = o->travels[i] ? &o->items[--back] : NULL;
        moi_offload_item *input = i > 0 && o->travels[i - 1] ? &o->items[back - 1] : NULL;
        if (input) input->reader = *n;
        if (o->is_x[i]) {
            there = moi_offload_add(there, kept->kept);
            moi_offload_run *run = moi_offload_put(o, n, i, MO_FLAT_SAVE, option);
            run->need = moi_offload_add(there, kept->forward_tmp);
            run->cost -= kept->unread_s;
        }
        if (own && !o->is_x[i]) own->last = *n;
        if (input && o->is_x[i - 1]) input->last = *n;
        moi_offload_run *run = moi_offload_put(o, n, i, MO_FLAT_BACKWARD, option);
        run->need =
            moi_offload_add(moi_offload_add(there, moi_offload_x(o->chain, i)), kept->backward_tmp);
        if (!o->is_x[i]) held -= bytes;
    }
}

/* From which boundary each item may come in. most[k] is what op k needs at most, if every item came
 * in before it, or the highest of the ops behind: items before j are not there yet when j comes, so
 * it may if most <= budget + their bytes. Behind its last reader that holds anyway. As j falls, the
 * bound falls and the boundary rises. Returns 0 when an item has no room at its reader. */
static int moi_offload_plan_in(moi_offload *o, const moi_offload_choice *choice, size_t n_runs) {
    size_t n_items = o->n_items, there = 0, before = 0, most = 0;
    size_t ending = 0; /* items before it are read by op k or later */
    size_t first = choice->n + choice->mid;
    for (size_t k = n_runs; k-- > first;) {
        while (ending < n_items && o->items[ending].last >= k) {
            there = moi_offload_add(there, o->items[ending].bytes);
            ending++;
        }
        most = moi_max(most, moi_offload_add(o->runs[k].need, there));
        o->runs[k].most = most;
    }
    for (size_t j = 0; j < n_items; j++) before = moi_offload_add(before, o->items[j].bytes);
    size_t at = first;
    for (size_t j = n_items; j-- > 0;) {
        moi_offload_item *item = &o->items[j];
        before -= item->bytes;
        size_t bound = moi_offload_add(o->budget, before);
        while (at < n_runs && o->runs[at].most > bound) at++;
        if (at > item->reader) return 0;
        item->in_from = at;
    }
    return 1;
}

/* Its ops cost at least. */
static double moi_offload_prefix_hope(const moi_offload *o, const moi_offload_choice *choice) {
    double rest;
    if (moi_offload_has_suffix(o, choice)) rest = o->suffix.feasible ? o->suffix.cost_s : HUGE_VAL;
    else /* The estimate is rounded: the schedule may be better by this much. */
        rest = 0.998 *
            mo_remat_table_estimate(
                o->table, choice->n + choice->mid, moi_offload_suffix_budget(o, choice));
    return moi_offload_prefix_cost(o, choice) + rest;
}

/* ---- simulating ---------------------------------------------------------------------------- */

/* The state between two ops. Items [n_out, n_made) are still there, and on their way out or about
 * to be; items [n_in, n_back) have come in and are still needed, those from n_read on have been
 * read. */
typedef struct moi_offload_clock {
    double now, out_free, in_free;
    size_t n_items, n_made, n_out, n_in, n_read, n_back;
    size_t out_bytes, in_bytes;
} moi_offload_clock;

static void moi_offload_let_go(moi_offload *o, moi_offload_clock *clock, size_t k) {
    moi_offload_item *item = &o->items[clock->n_out++];
    item->out_wait = k;
    clock->out_bytes -= item->bytes;
}

/* Waits until op k has the bytes that it needs; 0 when it never will. The item of stage k - 1
 * is read by op k. */
static int moi_offload_wait_for_bytes(moi_offload *o, moi_offload_clock *clock, size_t k) {
    size_t n_read = clock->n_made;
    if (n_read > 0 && o->items[n_read - 1].stage + 1 == k) n_read--;
    while (clock->n_out < n_read && o->items[clock->n_out].out_end <= clock->now)
        moi_offload_let_go(o, clock, k);
    size_t need = moi_offload_add(o->runs[k].need, clock->in_bytes);
    while (moi_offload_add(need, clock->out_bytes) > o->budget) {
        if (clock->n_out == n_read) return 0;
        clock->now = fmax(clock->now, o->items[clock->n_out].out_end);
        moi_offload_let_go(o, clock, k);
    }
    return 1;
}

/* Starts what may come in before op k: nothing while items still go out, unless op k reads it. */
static void moi_offload_start_in(moi_offload *o, moi_offload_clock *clock, size_t k) {
    while (clock->n_in > 0 && o->items[clock->n_in - 1].in_from <= k) {
        moi_offload_item *item = &o->items[clock->n_in - 1];
        if (clock->n_out < clock->n_items && item->reader != k) return;
        while (clock->n_out < clock->n_items) {
            clock->now = fmax(clock->now, o->items[clock->n_out].out_end);
            moi_offload_let_go(o, clock, k);
        }
        item->in = k;
        clock->in_free = fmax(clock->in_free, clock->now) + o->link.latency_s +
            (double)item->bytes / o->link.in_bytes_per_s;
        item->in_end = clock->in_free;
        clock->in_bytes += item->bytes;
        clock->n_in--;
    }
}

/* Op k ends: what it made goes out, what it read last goes. */
static void moi_offload_end_op(moi_offload *o, moi_offload_clock *clock, size_t k) {
    if (clock->n_made < clock->n_items && o->items[clock->n_made].stage == k) {
        moi_offload_item *item = &o->items[clock->n_made];
        clock->out_free = fmax(clock->out_free, clock->now) + o->link.latency_s +
            (double)item->bytes / o->link.out_bytes_per_s;
        item->out_end = clock->out_free;
        clock->out_bytes += item->bytes;
        clock->n_made++;
    }
    while (clock->n_back > clock->n_in && o->items[clock->n_back - 1].last == k)
        clock->in_bytes -= o->items[--clock->n_back].bytes;
}

/* Returns 0 when it does not fit, or is known to take `limit` or longer. */
static int moi_offload_simulate(
    moi_offload *o, const moi_offload_choice *choice, double limit, moi_offload_times *times) {
    moi_offload_clock clock;
    size_t n_runs = 0, store = 0;
    double most_stall = limit - moi_offload_prefix_hope(o, choice) * (1 - 1e-9);
    memset(&clock, 0, sizeof clock);
    memset(times, 0, sizeof *times);
    moi_offload_put_forward(o, choice, &n_runs);
    moi_offload_put_suffix(o, choice, &n_runs);
    moi_offload_put_backward(o, choice, &n_runs);
    if (!moi_offload_plan_in(o, choice, n_runs)) return 0;
    clock.n_items = clock.n_in = clock.n_read = clock.n_back = o->n_items;
    for (size_t j = 0; j < clock.n_items; j++) store = moi_offload_add(store, o->items[j].bytes);
    if (store > o->store_bytes) return 0;
    for (size_t k = 0; k < n_runs; k++) {
        if (!moi_offload_wait_for_bytes(o, &clock, k)) return 0;
        moi_offload_start_in(o, &clock, k);
        times->peak = moi_max(times->peak, o->runs[k].need + clock.in_bytes + clock.out_bytes);
        for (; clock.n_read > 0 && o->items[clock.n_read - 1].reader == k; clock.n_read--)
            clock.now = fmax(clock.now, o->items[clock.n_read - 1].in_end);
        if (clock.now - times->cost >= most_stall) return 0;
        clock.now += o->runs[k].cost;
        times->cost += o->runs[k].cost;
        moi_offload_end_op(o, &clock, k);
    }
    times->makespan = clock.now;
    times->store = store;
    times->n_runs = n_runs;
    return 1;
}
