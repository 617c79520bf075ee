/* mo_remat_model.c - see mo_remat_model.h. */

/* ---- making it ----------------------------------------------------------------------------- */

static size_t moi_rm_add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

static size_t moi_rm_pair(size_t first, size_t last) { return last * (last + 1) / 2 + first; }

static size_t moi_rm_row(const moi_rm_model *model, size_t first, size_t last) {
    return model->row[moi_rm_pair(first, last)];
}

/* Elements of the three blocks. */
static size_t moi_rm_n_sizes(const moi_rm_model *m) { return 3 * m->n + 2 + 3 * m->n_options; }
static size_t moi_rm_n_costs(const moi_rm_model *m) { return 2 * m->n + 1 + 2 * m->n_options; }
static size_t moi_rm_n_pairs(const moi_rm_model *m) { return m->n * (m->n + 1) / 2; }
static size_t moi_rm_n_row_words(const moi_rm_model *m) { return 3 * moi_rm_n_pairs(m) + m->n; }

static void moi_rm_free(moi_rm_model *m) {
    moi_free_array(&m->allocator, m->sizes, moi_rm_n_sizes(m), sizeof *m->sizes);
    moi_free_array(&m->allocator, m->costs, moi_rm_n_costs(m), sizeof *m->costs);
    moi_free_array(&m->allocator, m->rows, moi_rm_n_row_words(m), sizeof *m->rows);
    m->sizes = NULL;
    m->costs = NULL;
    m->rows = NULL;
}

/* The whole triangle is addressed by 32 bits, and its size must not overflow. */
enum { MOI_RM_MOST_STAGES = 30000 };

static mo_status moi_rm_alloc(moi_rm_model *m) {
    if (m->n > MOI_RM_MOST_STAGES || m->n_options > SIZE_MAX / 64) return MO_E_OVERFLOW;
    m->sizes = (size_t *)moi_alloc_array(&m->allocator, moi_rm_n_sizes(m), sizeof *m->sizes);
    m->costs = (double *)moi_alloc_array(&m->allocator, moi_rm_n_costs(m), sizeof *m->costs);
    m->rows = (uint32_t *)moi_alloc_array(&m->allocator, moi_rm_n_row_words(m), sizeof *m->rows);
    if (!m->sizes || !m->costs || !m->rows) {
        moi_rm_free(m);
        return MO_E_NO_MEMORY;
    }
    m->x = m->sizes;
    m->tmp = m->x + m->n + 1;
    m->first_option = m->tmp + m->n;
    m->kept = m->first_option + m->n + 1;
    m->forward_tmp = m->kept + m->n_options;
    m->backward_tmp = m->forward_tmp + m->n_options;
    m->forward = m->costs;
    m->backward = m->forward + m->n + 1;
    m->extra = m->backward + m->n;
    m->unread = m->extra + m->n_options;
    m->row = m->rows;
    m->type = m->row + moi_rm_n_pairs(m);
    m->firsts = m->type + m->n;
    m->lasts = m->firsts + moi_rm_n_pairs(m);
    return MO_OK;
}

/* To the nearest unit; what is larger than most never fits. unit 1: as it is. */
static size_t moi_rm_units(size_t bytes, double unit, size_t most) {
    if (unit > 1) {
        double units = floor((double)bytes / unit + 0.5);
        return units < (double)most ? (size_t)units : most;
    }
    return moi_min(bytes, most);
}

static void moi_rm_fill_sizes(
    moi_rm_model *m, const mo_flat_chain *chain, double unit, size_t most) {
    size_t at = 0;
    m->x[0] = moi_rm_units(chain->input_size, unit, most);
    for (size_t i = 0; i < m->n; i++) {
        const mo_flat_stage *stage = &chain->stages[i];
        int is_loss = i + 1 == m->n;
        m->x[i + 1] = is_loss ? 0 : moi_rm_units(stage->output_size, unit, most);
        m->tmp[i] = moi_rm_units(stage->forward_tmp, unit, most);
        m->first_option[i] = at;
        for (size_t k = 0; !is_loss && k < stage->n_options; k++, at++) {
            m->kept[at] = moi_rm_units(stage->options[k].kept, unit, most);
            m->forward_tmp[at] = moi_rm_units(stage->options[k].forward_tmp, unit, most);
            m->backward_tmp[at] = moi_rm_units(stage->options[k].backward_tmp, unit, most);
        }
    }
    m->first_option[m->n] = at;
}

/* The power of two that brings the largest sum of costs below 1. Each term is scaled down first, so
 * that the sum does not overflow. */
static double moi_rm_scale(const mo_flat_chain *chain) {
    double sum = 0;
    int exponent;
    for (size_t i = 0; i < chain->n_stages; i++) {
        const mo_flat_stage *stage = &chain->stages[i];
        size_t n_options = i + 1 < chain->n_stages ? stage->n_options : 0;
        sum += ldexp(stage->forward_s, -64) + ldexp(stage->backward_s, -64);
        for (size_t k = 0; k < n_options; k++) sum += ldexp(stage->options[k].extra_s, -64);
    }
    if (sum == 0) return 1;
    (void)frexp(sum, &exponent);
    return ldexp(1, exponent > 900 ? 964 : exponent + 64);
}

static void moi_rm_fill_costs(moi_rm_model *m, const mo_flat_chain *chain) {
    m->scale = moi_rm_scale(chain);
    m->forward[0] = 0;
    for (size_t i = 0; i < m->n; i++) {
        const mo_flat_stage *stage = &chain->stages[i];
        m->forward[i + 1] = m->forward[i] + stage->forward_s / m->scale;
        m->backward[i] = stage->backward_s / m->scale;
        for (size_t at = m->first_option[i]; at < m->first_option[i + 1]; at++) {
            const mo_flat_option *option = &stage->options[at - m->first_option[i]];
            m->extra[at] = option->extra_s / m->scale;
            m->unread[at] = option->unread_s / m->scale;
        }
    }
}

/* ---- equal parts --------------------------------------------------------------------------- */

static int moi_rm_same_cost(double a, double b, double tolerance) {
    return fabs(a - b) <= tolerance * fmax(a, b);
}

static int moi_rm_same_option(const moi_rm_model *m, size_t a, size_t b, double tolerance) {
    return m->kept[a] == m->kept[b] && m->forward_tmp[a] == m->forward_tmp[b] &&
        m->backward_tmp[a] == m->backward_tmp[b] &&
        moi_rm_same_cost(m->extra[a], m->extra[b], tolerance) &&
        moi_rm_same_cost(m->unread[a], m->unread[b], tolerance);
}

static int moi_rm_same_stage(
    const moi_rm_model *m, const mo_flat_chain *chain, size_t i, size_t j, double tolerance) {
    const mo_flat_stage *p = &chain->stages[i], *q = &chain->stages[j];
    size_t a = m->first_option[i], b = m->first_option[j];
    if (m->x[i] != m->x[j] || m->x[i + 1] != m->x[j + 1] || m->tmp[i] != m->tmp[j]) return 0;
    if (p->n_options != q->n_options || !moi_rm_same_cost(p->forward_s, q->forward_s, tolerance) ||
        !moi_rm_same_cost(p->backward_s, q->backward_s, tolerance))
        return 0;
    for (size_t k = 0; k < p->n_options; k++)
        if (!moi_rm_same_option(m, a + k, b + k, tolerance)) return 0;
    return 1;
}

/* type: the first stage that is the same; the loss is like no other. */
static void moi_rm_fill_types(moi_rm_model *m, const mo_flat_chain *chain, double tolerance) {
    for (size_t i = 0; i < m->n; i++) {
        size_t j = i + 1 < m->n ? 0 : i;
        while (j < i && (m->type[j] != j || !moi_rm_same_stage(m, chain, i, j, tolerance))) j++;
        m->type[i] = (uint32_t)j;
    }
}

/* A part is known by the row of all but its last stage, and the type of that. */
static int moi_rm_same_part(const moi_rm_model *m, uint32_t row, size_t first, size_t last) {
    size_t f = m->firsts[row], l = m->lasts[row];
    if (l - f != last - first || m->type[l] != m->type[last]) return 0;
    return first == last || moi_rm_row(m, f, l - 1) == moi_rm_row(m, first, last - 1);
}

static size_t moi_rm_hash(const moi_rm_model *m, size_t first, size_t last) {
    uint64_t a = first == last ? UINT32_MAX : moi_rm_row(m, first, last - 1);
    uint64_t h = (a << 32 | m->type[last]) * 0x9e3779b97f4a7c15u;
    return (size_t)(h >> 32);
}

/* Parts in an order in which each comes after those within it, and those with the same end follow
 * each other, which is kind to caches. Open addressing; row + 1, 0 = free. */
static void moi_rm_fill_rows(moi_rm_model *m, uint32_t *table, size_t n_table) {
    m->n_rows = 0;
    for (size_t last = 0; last < m->n; last++) {
        for (size_t first = last + 1; first-- > 0;) {
            size_t at = moi_rm_hash(m, first, last) & (n_table - 1);
            while (table[at] && !moi_rm_same_part(m, table[at] - 1, first, last))
                at = (at + 1) & (n_table - 1);
            if (!table[at]) {
                m->firsts[m->n_rows] = (uint32_t)first;
                m->lasts[m->n_rows] = (uint32_t)last;
                table[at] = (uint32_t)++m->n_rows;
            }
            m->row[moi_rm_pair(first, last)] = table[at] - 1;
        }
    }
}

static mo_status moi_rm_find_rows(moi_rm_model *m, const mo_flat_chain *chain, double tolerance) {
    size_t n_table = 16;
    while (n_table < 2 * moi_rm_n_pairs(m)) n_table *= 2;
    uint32_t *table = (uint32_t *)moi_alloc_array(&m->allocator, n_table, sizeof *table);
    if (!table) return MO_E_NO_MEMORY;
    memset(table, 0, n_table * sizeof *table);
    moi_rm_fill_types(m, chain, tolerance);
    moi_rm_fill_rows(m, table, n_table);
    moi_free_array(&m->allocator, table, n_table, sizeof *table);
    return MO_OK;
}

/* With two options a stage may wait by either; with more, by the first alone: a table for each
 * would cost more than it gains. */
static size_t moi_rm_count_pending(const mo_flat_chain *chain, mo_remat_mode mode) {
    size_t most = 1;
    for (size_t i = 0; i + 1 < chain->n_stages; i++)
        most = moi_max(most, chain->stages[i].n_options);
    return mode == MO_REMAT_MODE_KEEP_INPUT ? 0 : most == 2 ? 2 : 1;
}

/* chain: checked, not needed after. most: what never fits, in units. */
static mo_status moi_rm_make(moi_rm_model *m, const mo_flat_chain *chain, mo_remat_mode mode,
    double unit, size_t most, double tolerance, const mo_allocator *allocator) {
    memset(m, 0, sizeof *m);
    if (allocator) m->allocator = *allocator;
    m->n = chain->n_stages;
    m->n_pending = moi_rm_count_pending(chain, mode);
    for (size_t i = 0; i + 1 < m->n; i++)
        m->n_options = moi_rm_add(m->n_options, chain->stages[i].n_options);
    mo_status status = moi_rm_alloc(m);
    if (status != MO_OK) return status;
    moi_rm_fill_sizes(m, chain, unit, most);
    moi_rm_fill_costs(m, chain);
    status = moi_rm_find_rows(m, chain, tolerance);
    if (status != MO_OK) moi_rm_free(m);
    return status;
}

/* ---- the recurrence ------------------------------------------------------------------------ */

static double moi_rm_forward_cost(const moi_rm_model *m, size_t first, size_t end) {
    return m->forward[end] - m->forward[first];
}

/* Whether there is a cell: stage last has the option that it waits by. */
static int moi_rm_is_cell(const moi_rm_model *m, size_t last, size_t pending) {
    if (pending == 0) return 1;
    return last + 1 < m->n && pending <= m->first_option[last + 1] - m->first_option[last];
}

static moi_rm_scan moi_rm_begin(const moi_rm_model *m, moi_rm_cell cell) {
    moi_rm_scan scan = {m, cell, m->x[cell.last + 1], 0, cell.first, 0};
    if (cell.pending) {
        size_t option = m->first_option[cell.last] + cell.pending - 1;
        scan.held = moi_rm_add(scan.held, m->kept[option]);
    }
    return scan;
}

static void moi_rm_sub(moi_rm_candidate *candidate, size_t first, size_t last, size_t pending) {
    moi_rm_cell *sub = &candidate->sub[candidate->n_subs++];
    sub->first = first;
    sub->last = last;
    sub->pending = pending;
}

/* Save stage k by the option: what it and backward need. */
static size_t moi_rm_save_need(const moi_rm_scan *scan, size_t option) {
    const moi_rm_model *m = scan->model;
    size_t i = scan->cell.first;
    size_t backward = moi_rm_add(moi_rm_add(m->x[i], m->x[i + 1]), m->backward_tmp[option]);
    return moi_rm_add(
        m->kept[option], moi_max(moi_rm_add(m->forward_tmp[option], scan->held), backward));
}

static int moi_rm_next_base(moi_rm_scan *scan, moi_rm_candidate *out) {
    const moi_rm_model *m = scan->model;
    size_t i = scan->cell.first, option = m->first_option[i] + scan->option;
    out->choice = MOI_RM_BASE;
    out->cost = m->backward[i];
    if (i + 1 == m->n) {
        out->need = moi_rm_add(m->x[i], m->tmp[i]);
        out->cost += moi_rm_forward_cost(m, i, i + 1);
        return scan->option++ == 0;
    }
    if (scan->cell.pending) {
        option += scan->cell.pending - 1;
        out->option = scan->cell.pending - 1;
        out->need = moi_rm_add(moi_rm_add(scan->held, m->x[i]), m->backward_tmp[option]);
        out->cost += m->extra[option];
        return scan->option++ == 0;
    }
    if (option == m->first_option[i + 1]) return 0;
    out->option = scan->option++;
    out->need = moi_rm_save_need(scan, option);
    out->cost += moi_rm_forward_cost(m, i, i + 1) - m->unread[option] + m->extra[option];
    return 1;
}

static int moi_rm_next_save(moi_rm_scan *scan, moi_rm_candidate *out) {
    const moi_rm_model *m = scan->model;
    size_t i = scan->cell.first, option = m->first_option[i] + scan->option;
    if (option == m->first_option[i + 1]) return 0;
    out->choice = MOI_RM_SAVE;
    out->option = scan->option++;
    out->need = moi_rm_save_need(scan, option);
    out->shift = m->kept[option];
    out->cost = moi_rm_forward_cost(m, i, i + 1) + m->backward[i] + m->extra[option];
    moi_rm_sub(out, i + 1, scan->cell.last, scan->cell.pending);
    return 1;
}

/* The next k: forward from first to x[k] passes x[k - 1] and x[k]. */
static void moi_rm_step_k(moi_rm_scan *scan) {
    const moi_rm_model *m = scan->model;
    size_t j = scan->k++, from = j > scan->cell.first ? m->x[j] : 0;
    scan->option = 0;
    scan->highest = moi_max(scan->highest, moi_rm_add(moi_rm_add(from, m->x[j + 1]), m->tmp[j]));
}

static void moi_rm_keep(moi_rm_scan *scan, moi_rm_candidate *out) {
    const moi_rm_model *m = scan->model;
    size_t i = scan->cell.first, k = scan->k;
    out->choice = MOI_RM_KEEP;
    out->k = k;
    out->need = moi_rm_add(scan->held, scan->highest);
    out->shift = m->x[k];
    out->cost = moi_rm_forward_cost(m, i, k);
    moi_rm_sub(out, k, scan->cell.last, scan->cell.pending);
    moi_rm_sub(out, i, k - 1, 0);
}

static void moi_rm_save_drop(moi_rm_scan *scan, moi_rm_candidate *out) {
    const moi_rm_model *m = scan->model;
    size_t i = scan->cell.first, k = scan->k, option = m->first_option[k] + scan->option;
    size_t save = moi_rm_add(m->x[k], moi_rm_add(m->kept[option], m->forward_tmp[option]));
    out->choice = MOI_RM_SAVE_DROP;
    out->k = k;
    out->option = scan->option;
    out->need = moi_rm_add(scan->held, moi_max(scan->highest, save));
    out->shift = m->kept[option];
    out->cost = moi_rm_forward_cost(m, i, k + 1);
    moi_rm_sub(out, k + 1, scan->cell.last, scan->cell.pending);
    moi_rm_sub(out, i, k, 1 + scan->option);
}

/* The next candidate: 1, or 0 when there is none. */
static int moi_rm_next(moi_rm_scan *scan, moi_rm_candidate *out) {
    const moi_rm_model *m = scan->model;
    out->n_subs = out->k = out->option = out->shift = 0;
    if (scan->cell.first == scan->cell.last) return moi_rm_next_base(scan, out);
    if (scan->k == scan->cell.first) {
        if (moi_rm_next_save(scan, out)) return 1;
        moi_rm_step_k(scan);
    } else {
        if (scan->k == scan->cell.last) return 0;
        if (scan->option < m->n_pending && moi_rm_is_cell(m, scan->k, 1 + scan->option)) {
            moi_rm_save_drop(scan, out);
            scan->option++;
            return 1;
        }
        moi_rm_step_k(scan);
    }
    moi_rm_keep(scan, out);
    return 1;
}
