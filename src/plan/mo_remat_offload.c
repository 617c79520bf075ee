/* mo_remat_offload.c - see mo_remat_offload.h: the search, and the schedule that it writes. What is
 * searched stands in mo_remat_offload_sim.c. */

/* ---- the search ---------------------------------------------------------------------------- */

/* What a choice costs at least: its ops, and its copies. */
static double moi_offload_bound(const moi_offload *o, const moi_offload_choice *choice) {
    return fmax(moi_offload_copy_bound(o, choice), moi_offload_prefix_hope(o, choice));
}

/* All patterns of one choice; the best so far is in *found. */
static mo_status moi_offload_search_patterns(moi_offload *o, const moi_offload_choice *choice,
    moi_offload_choice *found, moi_offload_times *best) {
    moi_offload_choice tried = *choice;
    moi_offload_times times;
    for (; tried.pattern < moi_offload_n_patterns(&tried); tried.pattern++) {
        moi_offload_set_pattern(o, &tried);
        if (best->makespan < HUGE_VAL && moi_offload_prefix_hope(o, &tried) >= best->makespan) {
            if (tried.pattern >= MOI_OFFLOAD_PARTS) break; /* from here on each costs more */
            continue;
        }
        if (moi_offload_copy_bound(o, &tried) >= best->makespan) continue;
        mo_status status = moi_offload_solve_suffix(o, &tried);
        if (status != MO_OK) return status;
        if (moi_offload_bound(o, &tried) >= best->makespan) continue;
        if (!moi_offload_simulate(o, &tried, best->makespan, &times)) continue;
        if (times.makespan >= best->makespan) continue;
        *best = times;
        *found = tried;
    }
    return MO_OK;
}

/* The middle with the least cost; of equal ones the longest, since least is run again behind it.
 * The pattern is that of no middle. */
static size_t moi_offload_best_mid(const moi_offload *o, const moi_offload_choice *prefix) {
    double cost = 0, least = HUGE_VAL;
    size_t best = 0, n = prefix->n, budget = moi_offload_suffix_budget(o, prefix);
    if (budget == 0) return 0;
    budget -= moi_offload_x(o->chain, n);
    for (size_t i = n; i < o->n_last; i++) {
        const mo_flat_stage *stage = &o->chain->stages[i];
        const mo_flat_option *kept = moi_offload_kept(o, prefix, i);
        int is_x = moi_offload_runs_again(o, prefix, i);
        size_t bytes = is_x ? stage->output_size : kept->kept;
        if (bytes > budget) break;
        budget -= bytes;
        cost += stage->forward_s + stage->backward_s + kept->extra_s;
        if (is_x) cost += stage->forward_s - kept->unread_s;
        double all = cost + mo_remat_table_estimate(o->table, i + 1, budget + stage->output_size);
        if (!(all < HUGE_VAL) || all > least * (1 + 1e-6)) continue;
        least = fmin(least, all);
        best = i + 1 - n;
    }
    return best;
}

/* Whether a choice, without regard to its pattern, could still win. */
static int moi_offload_has_hope(
    moi_offload *o, const moi_offload_choice *choice, const moi_offload_times *best) {
    moi_offload_set_pattern(o, choice);
    return moi_offload_prefix_hope(o, choice) < best->makespan;
}

/* One prefix without a middle, then with each kind of it. */
static mo_status moi_offload_search_mids(
    moi_offload *o, moi_offload_choice choice, moi_offload_choice *found, moi_offload_times *best) {
    mo_status status = moi_offload_search_patterns(o, &choice, found, best);
    for (int again = 0; status == MO_OK && again < MOI_OFFLOAD_N_AGAIN; again++) {
        choice.mid = 0;
        if (!moi_offload_has_hope(o, &choice, best)) return MO_OK;
        choice.again = (moi_offload_again)again;
        choice.mid = moi_offload_best_mid(o, &choice);
        if (choice.mid) status = moi_offload_search_patterns(o, &choice, found, best);
    }
    return status;
}

/* Every further way makes the rest of the schedule slower, so it is tried only where the ways
 * before it had to wait. */
static mo_status moi_offload_search_prefix(moi_offload *o, const moi_offload_choice *prefix,
    moi_offload_choice *found, moi_offload_times *best) {
    moi_offload_choice choice = *prefix;
    mo_status status = MO_OK;
    for (choice.stay = 0; choice.stay < 2; choice.stay++)
        for (choice.slack = 0; choice.slack < MOI_OFFLOAD_SLACKS; choice.slack++) {
            if (status != MO_OK || !moi_offload_has_hope(o, &choice, best)) break;
            status = moi_offload_search_mids(o, choice, found, best);
        }
    return status;
}

/* All prefixes, the most promising first, so that the others are seldom looked at. */
static size_t moi_offload_list(moi_offload *o, moi_offload_choice *list) {
    size_t n_listed = 0;
    for (size_t option = 0; option < o->n_options; option++)
        for (size_t n = 2; n <= o->n_last; n++) {
            moi_offload_choice c = moi_offload_no_choice;
            size_t at = n_listed++;
            c.n = n;
            c.option = option;
            moi_offload_set_pattern(o, &c);
            c.hope = moi_offload_bound(o, &c);
            for (; at > 0 && list[at - 1].hope > c.hope; at--) list[at] = list[at - 1];
            list[at] = c;
        }
    return n_listed;
}

/* Recomputation alone first: what follows must be faster. */
static mo_status moi_offload_search(moi_offload *o, moi_offload_choice *choice,
    moi_offload_times *best, mo_offload_solution *found) {
    *choice = moi_offload_no_choice;
    best->makespan = HUGE_VAL;
    mo_status status = moi_offload_search_patterns(o, &moi_offload_no_choice, choice, best);
    found->recompute_s = best->makespan;
    if (status != MO_OK || !(o->link.out_bytes_per_s > 0) || o->n_last < 2) return status;
    size_t capacity = o->n_options * (o->n_last - 1);
    moi_offload_choice *list =
        (moi_offload_choice *)moi_alloc_array(&o->allocator, capacity, sizeof *list);
    if (!list) return MO_E_NO_MEMORY;
    size_t n_listed = moi_offload_list(o, list);
    for (size_t i = 0; status == MO_OK && i < n_listed; i++)
        status = moi_offload_search_prefix(o, &list[i], choice, best);
    moi_free_array(&o->allocator, list, capacity, sizeof *list);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------- */

static void moi_offload_emit(
    mo_offload_solution *s, mo_offload_kind kind, const moi_offload_run *made, size_t bytes) {
    mo_offload_op *op = &s->ops[s->n_ops++];
    op->kind = kind;
    op->flat = made->flat;
    op->bytes = kind == MO_OFFLOAD_RUN ? 0 : bytes;
}

static void moi_offload_emit_move(const moi_offload *o, mo_offload_solution *s,
    mo_offload_kind kind, const moi_offload_item *item) {
    moi_offload_emit(s, kind, &o->runs[item->stage], item->bytes);
}

/* Before op k: bytes go, bytes come, and what it reads arrives. */
static void moi_offload_emit_moves(const moi_offload *o, mo_offload_solution *s, size_t k) {
    for (size_t j = 0; j < o->n_items; j++)
        if (o->items[j].out_wait == k)
            moi_offload_emit_move(o, s, MO_OFFLOAD_OUT_WAIT, &o->items[j]);
    for (size_t j = o->n_items; j-- > 0;)
        if (o->items[j].in == k) moi_offload_emit_move(o, s, MO_OFFLOAD_IN, &o->items[j]);
    for (size_t j = o->n_items; j-- > 0;)
        if (o->items[j].reader == k) moi_offload_emit_move(o, s, MO_OFFLOAD_IN_WAIT, &o->items[j]);
}

/* The best choice once more, now written down. */
static mo_status moi_offload_write(
    moi_offload *o, const moi_offload_choice *choice, mo_offload_solution *found) {
    moi_offload_times times;
    size_t n_out = 0;
    moi_offload_set_pattern(o, choice);
    mo_status status = moi_offload_solve_suffix(o, choice);
    if (status != MO_OK) return status;
    int fits = moi_offload_simulate(o, choice, HUGE_VAL, &times);
    MEMOPT_ASSERT(fits);
    (void)fits;
    size_t capacity = times.n_runs + 4 * o->n_items;
    found->ops = (mo_offload_op *)moi_alloc_array(&o->allocator, capacity, sizeof *found->ops);
    if (!found->ops) return MO_E_NO_MEMORY;
    found->allocator = o->allocator;
    found->capacity = capacity;
    found->feasible = 1;
    found->n_items = o->n_items;
    found->peak_bytes = times.peak;
    found->store_bytes = times.store;
    found->makespan_s = times.makespan;
    found->cost_s = times.cost;
    found->stall_s = fmax(0, times.makespan - times.cost);
    for (size_t k = 0; k < times.n_runs; k++) {
        moi_offload_emit_moves(o, found, k);
        moi_offload_emit(found, MO_OFFLOAD_RUN, &o->runs[k], 0);
        if (n_out < o->n_items && o->items[n_out].stage == k)
            moi_offload_emit_move(o, found, MO_OFFLOAD_OUT, &o->items[n_out++]);
    }
    return MO_OK;
}

/* ---- the calls ----------------------------------------------------------------------------- */

static void moi_offload_end(moi_offload *o) {
    size_t n = o->chain ? o->chain->n_stages : 0;
    mo_remat_solution_free(&o->suffix);
    moi_offload_free_suffix(o);
    moi_free_array(&o->allocator, o->forward, 2 * (n + 1), sizeof *o->forward);
    moi_free_array(&o->allocator, o->is_x, MOI_OFFLOAD_FLAGS * n, 1);
    moi_free_array(&o->allocator, o->items, n, sizeof *o->items);
}

static double moi_offload_saving(const mo_flat_stage *stage) {
    return (double)(stage->options[0].kept - stage->output_size);
}

static void moi_offload_find_dense(moi_offload *o) {
    double bytes = 0;
    for (size_t i = 0; i < o->n_last; i++) bytes += moi_offload_saving(&o->chain->stages[i]);
    for (size_t i = 0; i < o->n_last; i++) {
        const mo_flat_stage *stage = &o->chain->stages[i];
        o->is_dense[i] =
            moi_offload_saving(stage) * o->forward[o->n_last] > bytes * stage->forward_s;
    }
}

static mo_status moi_offload_begin(moi_offload *o, const mo_offload_desc *desc) {
    const mo_flat_chain *chain = desc->chain;
    size_t n = chain->n_stages;
    memset(o, 0, sizeof *o);
    if (desc->allocator) o->allocator = *desc->allocator;
    o->chain = chain;
    o->table = desc->table;
    o->budget = desc->budget;
    o->store_bytes = desc->store_bytes ? desc->store_bytes : SIZE_MAX;
    o->link = desc->link;
    if (!(o->link.in_bytes_per_s > 0)) o->link.in_bytes_per_s = o->link.out_bytes_per_s;
    o->n_last = n - 1;
    o->n_options = 1;
    for (size_t i = 0; i + 1 < n; i++)
        o->n_options = moi_max(o->n_options, chain->stages[i].n_options);
    o->suffix_of.n = SIZE_MAX;
    o->forward = (double *)moi_alloc_array(&o->allocator, 2 * (n + 1), sizeof *o->forward);
    o->is_x = (unsigned char *)moi_alloc_array(&o->allocator, MOI_OFFLOAD_FLAGS * n, 1);
    o->items = (moi_offload_item *)moi_alloc_array(&o->allocator, n, sizeof *o->items);
    if (!o->forward || !o->is_x || !o->items) return MO_E_NO_MEMORY;
    memset(o->items, 0, n * sizeof *o->items);
    o->is_dense = o->is_x + n;
    o->flags = o->is_dense + n;
    o->travels = o->flags + n;
    o->spread = o->travels + n;
    moi_offload_spread(o);
    o->backward = o->forward + n + 1;

    o->forward[0] = o->backward[0] = 0;
    for (size_t i = 0; i < n; i++) {
        o->forward[i + 1] = o->forward[i] + chain->stages[i].forward_s;
        o->backward[i + 1] = o->backward[i] + chain->stages[i].backward_s;
    }
    moi_offload_find_dense(o);
    return MO_OK;
}

static mo_status moi_offload_run_search(moi_offload *o, mo_offload_solution *found) {
    moi_offload_choice choice;
    moi_offload_times best;
    memset(&best, 0, sizeof best);
    mo_status status = moi_offload_search(o, &choice, &best, found);
    if (status != MO_OK || !(best.makespan < HUGE_VAL)) return status;
    return moi_offload_write(o, &choice, found);
}

static int moi_offload_link_is_valid(const mo_offload_link *link) {
    return link->out_bytes_per_s >= 0 && link->out_bytes_per_s < HUGE_VAL &&
        link->in_bytes_per_s >= 0 && link->in_bytes_per_s < HUGE_VAL && link->latency_s >= 0 &&
        link->latency_s < HUGE_VAL;
}

mo_status mo_remat_offload(const mo_offload_desc *desc, mo_offload_solution *solution) {
    moi_offload o;
    mo_offload_solution found;
    mo_remat_table *table = NULL;
    if (!desc || !solution || !moi_offload_link_is_valid(&desc->link)) return MO_E_INVALID;
    mo_status status = mo_remat_flat_check(desc->chain, desc->log);
    if (status != MO_OK) return status;
    memset(&found, 0, sizeof found);
    found.ideal_s = mo_remat_flat_ideal(desc->chain, 0);
    status = moi_offload_begin(&o, desc);
    if (status == MO_OK && !o.table) {
        mo_remat_table_desc table_desc;
        memset(&table_desc, 0, sizeof table_desc);
        table_desc.chain = desc->chain;
        table_desc.budget = desc->budget;
        table_desc.allocator = desc->allocator;
        table_desc.log = desc->log;
        status = mo_remat_table_create(&table, &table_desc);
        o.table = table;
    }
    if (status == MO_OK) status = moi_offload_run_search(&o, &found);
    moi_offload_end(&o);
    mo_remat_table_destroy(table);
    if (status == MO_OK) *solution = found;
    return status;
}

void mo_offload_solution_free(mo_offload_solution *solution) {
    if (!solution || !solution->ops) return;
    moi_free_array(&solution->allocator, solution->ops, solution->capacity, sizeof *solution->ops);
    memset(solution, 0, sizeof *solution);
}

/* ---- for the detailed chain ---------------------------------------------------------------- */

/* What the stage keeps, and its output: two ops, or fewer where one is empty. */
static size_t moi_offload_detailed_move(
    const mo_chain *chain, const mo_offload_op *move, mo_remat_op *out) {
    const mo_step_op kinds[] = {
        MO_STEP_OFFLOAD, MO_STEP_OFFLOAD_WAIT, MO_STEP_PREFETCH, MO_STEP_PREFETCH_WAIT};
    mo_remat_op op;
    size_t n = 0;
    op.op = kinds[move->kind - MO_OFFLOAD_OUT];
    op.stage = move->flat.stage;
    op.save = 1;
    op.light = moi_flat_level(&chain->stages[op.stage], move->flat.option);
    if (move->flat.kind == MO_FLAT_SAVE && moi_remat_keeps(&chain->stages[op.stage], op.light))
        out[n++] = op;
    if (chain->stages[op.stage].output_size == 0) return n;
    op.stage++;
    op.save = op.light = 0;
    out[n++] = op;
    return n;
}

/* Saves of nothing, whose output nobody reads, go; the rest moves up. */
static size_t moi_offload_leave_out(
    const mo_chain *chain, mo_remat_op *out, size_t n_out, unsigned char *is_read) {
    size_t n = 0;
    for (size_t k = n_out; k > 0; k--) {
        mo_remat_op *op = &out[k - 1];
        int was_read = is_read[op->stage];
        if (op->op > MO_STEP_BACKWARD) {
            if (!op->save) is_read[op->stage - 1] = op->op == MO_STEP_OFFLOAD;
            continue;
        }
        if (op->op != MO_STEP_BACKWARD) is_read[op->stage] = 0;
        if (op->op == MO_STEP_RECOMPUTE && op->save && !was_read &&
            !moi_remat_keeps(&chain->stages[op->stage], op->light))
            op->stage = chain->n_stages;
        else if (op->stage > 0) is_read[op->stage - 1] = 1;
    }
    for (size_t k = 0; k < n_out; k++)
        if (out[k].stage < chain->n_stages) out[n++] = out[k];
    return n;
}

mo_status mo_remat_offload_unflatten(const mo_chain *chain, const mo_offload_op *ops, size_t n_ops,
    const mo_allocator *allocator, mo_remat_op *out, size_t *n_out) {
    size_t n = 0;
    if (!n_out || ((!ops || !out) && n_ops)) return MO_E_INVALID;
    mo_status status = mo_chain_check(chain, NULL);
    if (status != MO_OK) return status;
    for (size_t k = 0; k < n_ops; k++) {
        size_t most = chain->n_stages - (ops[k].kind == MO_OFFLOAD_RUN ? 0 : 1);
        if (ops[k].flat.stage >= most || (unsigned)ops[k].kind > MO_OFFLOAD_IN_WAIT)
            return MO_E_INVALID;
    }
    unsigned char *flags = (unsigned char *)moi_alloc_array(allocator, chain->n_stages, 1);
    if (!flags) return MO_E_NO_MEMORY;
    memset(flags, 0, chain->n_stages);
    for (size_t k = 0; k < n_ops; k++)
        if (ops[k].kind == MO_OFFLOAD_RUN)
            out[n++] = moi_flat_detailed_op(chain, &ops[k].flat, flags);
        else n += moi_offload_detailed_move(chain, &ops[k], out + n);
    memset(flags, 0, chain->n_stages);
    *n_out = moi_offload_leave_out(chain, out, n, flags);
    moi_free_array(allocator, flags, chain->n_stages, 1);
    return MO_OK;
}
