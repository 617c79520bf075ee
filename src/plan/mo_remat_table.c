/* mo_remat_table.c - see mo_remat_optimal.h: the table of costs.
 *
 * A cell's row holds its least cost for every number of slots: infinite below the first number that
 * suffices, and never rising, as no candidate's cost rises. Costs are floats: a row is read and
 * written as one stream, four candidates at a time, in loops that a compiler makes vectors of. */

/* A row in short: its first finite column, and its cost in the last one. */
typedef struct moi_rt_ends {
    uint32_t finite;
    float least;
} moi_rt_ends;

struct mo_remat_table {
    mo_allocator allocator;
    mo_flat_chain chain;   /* a copy, by mo_remat_flat_free's rules; names are not kept */
    moi_rg_groups *groups; /* NULL = the chain is solved as it is */
    moi_rm_model model;
    mo_remat_mode mode;
    size_t budget, n_columns;
    size_t n_exact; /* the first columns, which are the budget's slots without room for rounding */
    double unit;
    float *costs;      /* [n_rows][1 + n_pending][n_columns] */
    moi_rt_ends *ends; /* [n_rows][1 + n_pending] */
};

/* A column is found from bytes in doubles, and a table of more is useless. */
enum { MOI_RT_MOST_SLOTS = 1 << 24 };

/* ---- candidates over a row ----------------------------------------------------------------- */

/* A candidate: cost + a[m - shift] + b[m], for columns from safe on; finite from low on. */
typedef struct moi_rt_stream {
    float cost, least; /* least: not above any of its values */
    const float *a, *b;
    size_t shift, safe, low;
} moi_rt_stream;

MOI_ALWAYS_INLINE float moi_rt_min(float a, float b) { return a < b ? a : b; }

static void moi_rt_one(float *MOI_RESTRICT row, size_t n, float cost, const float *a) {
    for (size_t m = 0; m < n; m++) row[m] = moi_rt_min(row[m], cost + a[m]);
}

static void moi_rt_two(
    float *MOI_RESTRICT row, size_t n, float cost, const float *a, const float *b) {
    for (size_t m = 0; m < n; m++) row[m] = moi_rt_min(row[m], cost + a[m] + b[m]);
}

enum { MOI_RT_BATCH = 4 };

static void moi_rt_four(
    float *MOI_RESTRICT row, size_t from, size_t to, const moi_rt_stream *streams) {
    const moi_rt_stream *s = streams;
    const float *a0 = s[0].a + (from - s[0].shift), *b0 = s[0].b + from;
    const float *a1 = s[1].a + (from - s[1].shift), *b1 = s[1].b + from;
    const float *a2 = s[2].a + (from - s[2].shift), *b2 = s[2].b + from;
    const float *a3 = s[3].a + (from - s[3].shift), *b3 = s[3].b + from;
    const float c0 = s[0].cost, c1 = s[1].cost, c2 = s[2].cost, c3 = s[3].cost;
    size_t n = to - from;
    row += from;
    for (size_t m = 0; m < n; m++) {
        float left = moi_rt_min(c0 + a0[m] + b0[m], c1 + a1[m] + b1[m]);
        float right = moi_rt_min(c2 + a2[m] + b2[m], c3 + a3[m] + b3[m]);
        row[m] = moi_rt_min(row[m], moi_rt_min(left, right));
    }
}

static void moi_rt_part(float *row, size_t from, size_t to, const moi_rt_stream *s) {
    if (from < to)
        moi_rt_two(row + from, to - from, s->cost, s->a + (from - s->shift), s->b + from);
}

/* Below the column from which all four are safe they go one by one. */
static void moi_rt_batch(float *row, size_t to, const moi_rt_stream *streams, size_t n) {
    size_t from = SIZE_MAX, safe = 0;
    for (size_t i = 0; i < n; i++) {
        from = moi_min(from, streams[i].low);
        safe = moi_max(safe, streams[i].safe);
    }
    from = n == MOI_RT_BATCH ? moi_max(from, safe) : to;
    for (size_t i = 0; i < n; i++) moi_rt_part(row, streams[i].low, moi_min(from, to), &streams[i]);
    if (from < to) moi_rt_four(row, from, to, streams);
}

/* ---- one row ------------------------------------------------------------------------------- */

static size_t moi_rt_index(const mo_remat_table *table, moi_rm_cell cell) {
    size_t row = moi_rm_row(&table->model, cell.first, cell.last);
    return row * (1 + table->model.n_pending) + cell.pending;
}

static float *moi_rt_costs(const mo_remat_table *table, moi_rm_cell cell) {
    return table->costs + moi_rt_index(table, cell) * table->n_columns;
}

static const moi_rt_ends *moi_rt_ends_of(const mo_remat_table *table, moi_rm_cell cell) {
    return &table->ends[moi_rt_index(table, cell)];
}

/* A candidate with one sub, or none. */
static void moi_rt_apply(mo_remat_table *table, float *row, const moi_rm_candidate *candidate) {
    size_t from = candidate->need, n = table->n_columns;
    float cost = (float)candidate->cost;
    if (candidate->n_subs == 0) {
        for (size_t m = from; m < n; m++) row[m] = moi_rt_min(row[m], cost);
        return;
    }
    from = moi_max(from, candidate->shift + moi_rt_ends_of(table, candidate->sub[0])->finite);
    if (from >= n) return;
    moi_rt_one(row + from, n - from, cost,
        moi_rt_costs(table, candidate->sub[0]) + (from - candidate->shift));
}

static moi_rt_stream moi_rt_stream_of(
    const mo_remat_table *table, const moi_rm_candidate *candidate) {
    const moi_rt_ends *a = moi_rt_ends_of(table, candidate->sub[0]);
    const moi_rt_ends *b = moi_rt_ends_of(table, candidate->sub[1]);
    moi_rt_stream stream;
    stream.cost = (float)candidate->cost;
    stream.a = moi_rt_costs(table, candidate->sub[0]);
    stream.b = moi_rt_costs(table, candidate->sub[1]);
    stream.shift = candidate->shift;
    stream.safe = moi_max(candidate->need, candidate->shift);
    stream.low = moi_max(stream.safe, moi_max(candidate->shift + a->finite, b->finite));
    stream.least = stream.cost + a->least + b->least;
    return stream;
}

/* The streams that wait for a full batch.
 *
 * least  of the batch, at any column: the value at the last one
 * to     from there on no row value is above bound, so a batch with least >= bound ends there */
typedef struct moi_rt_queue {
    moi_rt_stream streams[MOI_RT_BATCH];
    size_t n, to;
    float least, bound;
} moi_rt_queue;

static void moi_rt_flush(const mo_remat_table *table, float *row, moi_rt_queue *queue) {
    if (queue->n == 0) return;
    if (queue->least < queue->bound) queue->to = table->n_columns;
    queue->bound = queue->least;
    while (queue->to > 0 && row[queue->to - 1] <= queue->bound) queue->to--;
    moi_rt_batch(row, queue->to, queue->streams, queue->n);
    queue->n = 0;
}

static void moi_rt_push(
    const mo_remat_table *table, float *row, moi_rt_queue *queue, const moi_rt_stream *stream) {
    /* Where it begins the row is highest. */
    if (stream->low >= table->n_columns || row[stream->low] <= stream->least) return;
    queue->least = queue->n == 0 ? stream->least : moi_rt_min(queue->least, stream->least);
    queue->streams[queue->n++] = *stream;
    if (queue->n == MOI_RT_BATCH) moi_rt_flush(table, row, queue);
}

static moi_rt_ends moi_rt_find_ends(const float *row, size_t n) {
    moi_rt_ends ends = {0, row[n - 1]};
    while (ends.finite < n && row[ends.finite] == HUGE_VALF) ends.finite++;
    return ends;
}

static void moi_rt_fill_cell(mo_remat_table *table, moi_rm_cell cell) {
    float *row = moi_rt_costs(table, cell);
    moi_rt_queue queue;
    moi_rm_candidate candidate;
    queue.n = 0;
    queue.bound = HUGE_VALF;
    queue.to = table->n_columns;
    for (size_t m = 0; m < table->n_columns; m++) row[m] = HUGE_VALF;
    if (moi_rm_is_cell(&table->model, cell.last, cell.pending)) {
        moi_rm_scan scan = moi_rm_begin(&table->model, cell);
        while (moi_rm_next(&scan, &candidate)) {
            if (candidate.need >= table->n_columns || candidate.shift >= table->n_columns) continue;
            if (candidate.n_subs < 2) moi_rt_apply(table, row, &candidate);
            else {
                moi_rt_stream stream = moi_rt_stream_of(table, &candidate);
                moi_rt_push(table, row, &queue, &stream);
            }
        }
        moi_rt_flush(table, row, &queue);
    }
    table->ends[moi_rt_index(table, cell)] = moi_rt_find_ends(row, table->n_columns);
}

/* Equal parts share a row; the parts within a part come first. */
static void moi_rt_fill(mo_remat_table *table) {
    moi_rm_model *model = &table->model;
    for (size_t row = 0; row < model->n_rows; row++)
        for (size_t pending = 0; pending <= model->n_pending; pending++) {
            moi_rm_cell cell = {model->firsts[row], model->lasts[row], pending};
            moi_rt_fill_cell(table, cell);
        }
}

/* ---- create -------------------------------------------------------------------------------- */

static void moi_rt_choose_columns(mo_remat_table *table, size_t slots) {
    table->unit = 1;
    table->n_exact = table->n_columns = table->budget + 1;
    if (table->budget <= slots) return;
    table->unit = (double)table->budget / (double)slots;
    table->n_exact = slots + 1;
    table->n_columns = slots + 1 + slots / 25;
}

/* As many as take less than a second; a slot is less than half of what a stage keeps. */
static size_t moi_rt_default_slots(size_t n_stages, int are_groups) {
    if (are_groups) return 500;
    return n_stages <= 128 ? 1000 : moi_max(750, 2 * n_stages);
}

/* The chain as it is, unless that takes too long or the caller wants groups. */
enum { MOI_RT_MOST_STAGES = 256, MOI_RT_GROUPS = 128 };

static mo_status moi_rt_make_model(mo_remat_table *table, const mo_remat_table_desc *desc) {
    const mo_flat_chain *solved = &table->chain;
    size_t n_groups = desc->n_groups;
    if (n_groups == 0 && solved->n_stages > MOI_RT_MOST_STAGES) n_groups = MOI_RT_GROUPS;
    if (n_groups != 0 && n_groups < solved->n_stages) {
        mo_status status = moi_rg_create(&table->groups, solved, n_groups, &table->allocator);
        if (status != MO_OK) return status;
        solved = &table->groups->chain;
    }
    moi_rt_choose_columns(table,
        desc->slots ? desc->slots : moi_rt_default_slots(solved->n_stages, table->groups != NULL));
    return moi_rm_make(&table->model, solved, table->mode, table->unit, table->n_columns,
        desc->tolerance, &table->allocator);
}

static size_t moi_rt_n_cells(const mo_remat_table *table) {
    return table->model.n_rows * (1 + table->model.n_pending);
}

static mo_status moi_rt_make(mo_remat_table *table, const mo_remat_table_desc *desc) {
    size_t n_costs;
    mo_status status = moi_rg_copy(&table->chain, desc->chain, &table->allocator);
    if (status != MO_OK) return status;
    status = moi_rt_make_model(table, desc);
    if (status != MO_OK) return status;
    if (!moi_mul(moi_rt_n_cells(table), table->n_columns, &n_costs)) return MO_E_OVERFLOW;
    table->costs = (float *)moi_alloc_array(&table->allocator, n_costs, sizeof *table->costs);
    table->ends = (moi_rt_ends *)moi_alloc_array(
        &table->allocator, moi_rt_n_cells(table), sizeof *table->ends);
    if (!table->costs || !table->ends) return MO_E_NO_MEMORY;
    moi_rt_fill(table);
    return MO_OK;
}

static mo_status moi_rt_check_desc(const mo_remat_table_desc *desc) {
    if (!desc) return MO_E_INVALID;
    mo_status status = mo_remat_flat_check(desc->chain, desc->log);
    if (status != MO_OK) return status;
    if (!(desc->tolerance >= 0 && desc->tolerance < 1) ||
        (unsigned)desc->mode > MO_REMAT_MODE_KEEP_INPUT || desc->slots > MOI_RT_MOST_SLOTS) {
        moi_log(desc->log, MO_LOG_ERROR, "remat table: tolerance %g, mode %d or %zu slots",
            desc->tolerance, (int)desc->mode, desc->slots);
        return MO_E_INVALID;
    }
    return MO_OK;
}

mo_status mo_remat_table_create(mo_remat_table **table, const mo_remat_table_desc *desc) {
    if (!table) return MO_E_INVALID;
    mo_status status = moi_rt_check_desc(desc);
    if (status != MO_OK) return status;
    mo_remat_table *made =
        (mo_remat_table *)mo_alloc(desc->allocator, sizeof *made, MOI_CACHE_LINE);
    if (!made) return MO_E_NO_MEMORY;
    memset(made, 0, sizeof *made);
    if (desc->allocator) made->allocator = *desc->allocator;
    made->budget = desc->budget;
    made->mode = desc->mode;
    status = moi_rt_make(made, desc);
    if (status == MO_OK) *table = made;
    else mo_remat_table_destroy(made);
    return status;
}

void mo_remat_table_destroy(mo_remat_table *table) {
    if (!table) return;
    mo_allocator from = table->allocator;
    moi_free_array(
        &from, table->costs, moi_rt_n_cells(table) * table->n_columns, sizeof *table->costs);
    moi_free_array(&from, table->ends, moi_rt_n_cells(table), sizeof *table->ends);
    moi_rm_free(&table->model);
    moi_rg_destroy(table->groups, &from);
    moi_rg_free(&table->chain, &from);
    mo_free(&from, table, sizeof *table, MOI_CACHE_LINE);
}

mo_remat_table_info mo_remat_table_describe(const mo_remat_table *table) {
    mo_remat_table_info info;
    info.n_columns = table->n_columns;
    info.n_groups = table->model.n;
    info.n_rows = table->model.n_rows;
    info.bytes =
        moi_rt_n_cells(table) * (table->n_columns * sizeof *table->costs + sizeof *table->ends);
    info.unit = table->unit;
    return info;
}

/* ---- looking up ---------------------------------------------------------------------------- */

/* Where the stage begins in the solved chain; SIZE_MAX = within a group, or past the end. */
static size_t moi_rt_first(const mo_remat_table *table, size_t first) {
    if (table->groups) return moi_rg_find(table->groups, first);
    return first < table->chain.n_stages ? first : SIZE_MAX;
}

/* The column of a budget, which must hold x[first]. */
static size_t moi_rt_column(const mo_remat_table *table, size_t first, size_t budget) {
    size_t rest = moi_min(budget, table->budget) - moi_flat_x(&table->chain, first);
    double column = floor((double)rest / table->unit);
    return column < (double)table->n_exact ? (size_t)column : table->n_exact - 1;
}

static float *moi_rt_suffix(const mo_remat_table *table, size_t at) {
    moi_rm_cell cell = {at, table->model.n - 1, 0};
    return moi_rt_costs(table, cell);
}

double mo_remat_table_estimate(const mo_remat_table *table, size_t first, size_t budget) {
    size_t at = moi_rt_first(table, first);
    if (at == SIZE_MAX) return HUGE_VAL;
    if (moi_min(budget, table->budget) < moi_flat_x(&table->chain, first)) return HUGE_VAL;
    return (double)moi_rt_suffix(table, at)[moi_rt_column(table, first, budget)] *
        table->model.scale;
}
