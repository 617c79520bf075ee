/* mo_remat_solve.c - see mo_remat_optimal.h: from a table back to schedules, and the floor. */

/* ---- a schedule that grows ----------------------------------------------------------------- */

static int moi_rs_emit(moi_rm_list *list, mo_flat_kind kind, size_t stage, size_t option) {
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 256;
        mo_flat_op *ops = (mo_flat_op *)moi_alloc_array(&list->allocator, capacity, sizeof *ops);
        if (!ops) return 0;
        if (list->n) memcpy(ops, list->ops, list->n * sizeof *ops);
        moi_free_array(&list->allocator, list->ops, list->capacity, sizeof *ops);
        list->ops = ops;
        list->capacity = capacity;
    }
    mo_flat_op *op = &list->ops[list->n++];
    op->stage = stage;
    op->kind = kind;
    op->option = (unsigned)option;
    return 1;
}

static void moi_rs_free_list(moi_rm_list *list) {
    moi_free_array(&list->allocator, list->ops, list->capacity, sizeof *list->ops);
    list->ops = NULL;
    list->n = list->capacity = 0;
}

/* ---- ops of groups ------------------------------------------------------------------------- */

/* What is left to do: a cell with its column, or, for a task that is_backward, backward of first by
 * the option. */
typedef struct moi_rs_task {
    moi_rm_cell cell;
    size_t column, option;
    int is_backward;
} moi_rs_task;

/* A way back that is being walked. groups: NULL = ops are those of the chain itself. */
typedef struct moi_rs_walk {
    const moi_rm_model *model;
    const moi_rg_groups *groups;
    const mo_remat_table *table; /* what chooses: costs at columns; NULL = peaks */
    const size_t *peaks;         /* of the floor's cells */
    moi_rm_list list;
    moi_rs_task *tasks;
    size_t n_tasks;
} moi_rs_walk;

/* Forward of a group that keeps nothing within it. */
static int moi_rs_pass_group(moi_rs_walk *walk, size_t g, mo_flat_kind kind) {
    const size_t *begins = walk->groups->begins;
    int ok = moi_rs_emit(&walk->list, kind, begins[g], 0);
    for (size_t i = begins[g] + 1; ok && i < begins[g + 1]; i++)
        ok = moi_rs_emit(&walk->list, MO_FLAT_DROP, i, 0);
    return ok;
}

/* unread: nobody reads the group's output, so a last stage that is not saved need not run. */
static int moi_rs_save_group(
    moi_rs_walk *walk, size_t g, mo_flat_kind kind, size_t option, int unread) {
    const size_t *begins = walk->groups->begins;
    int ok = 1;
    for (size_t i = begins[g]; ok && i < begins[g + 1]; i++) {
        uint32_t level = *moi_rg_level(walk->groups, option, i);
        int drops = kind == MO_FLAT_SAVE_DROP && i == begins[g];
        if (level != MOI_RG_NOT)
            ok = moi_rs_emit(&walk->list, drops ? MO_FLAT_SAVE_DROP : MO_FLAT_SAVE, i, level);
        else if (!unread || i + 1 < begins[g + 1])
            ok = moi_rs_emit(&walk->list, drops ? MO_FLAT_DROP : MO_FLAT_KEEP, i, 0);
    }
    return ok;
}

static int moi_rs_backward_group(moi_rs_walk *walk, size_t g, size_t option) {
    const size_t *begins = walk->groups->begins;
    int ok = 1;
    for (size_t i = begins[g + 1]; ok && i > begins[g]; i--) {
        uint32_t level = *moi_rg_level(walk->groups, option, i - 1);
        if (level == MOI_RG_NOT) {
            level = moi_rg_fastest(&walk->groups->fine->stages[i - 1]);
            ok = moi_rs_emit(&walk->list, MO_FLAT_SAVE, i - 1, level);
        }
        ok = ok && moi_rs_emit(&walk->list, MO_FLAT_BACKWARD, i - 1, level);
    }
    return ok;
}

static int moi_rs_emit_op(
    moi_rs_walk *walk, mo_flat_kind kind, size_t stage, size_t option, int unread) {
    if (!walk->groups) return moi_rs_emit(&walk->list, kind, stage, option);
    switch (kind) {
    case MO_FLAT_KEEP:
    case MO_FLAT_DROP: return moi_rs_pass_group(walk, stage, kind);
    case MO_FLAT_SAVE:
    case MO_FLAT_SAVE_DROP: return moi_rs_save_group(walk, stage, kind, option, unread);
    case MO_FLAT_BACKWARD: return moi_rs_backward_group(walk, stage, option);
    case MO_FLAT_LOSS: break;
    }
    return moi_rs_emit(&walk->list, kind, walk->groups->begins[stage], 0);
}

/* ---- the way back -------------------------------------------------------------------------- */

/* A cell that is taken leaves one task below its longest part, which is shorter than the cell. */
static size_t moi_rs_n_tasks(const moi_rm_model *model) { return model->n + 2; }

static void moi_rs_push_cell(moi_rs_walk *walk, moi_rm_cell cell, size_t column) {
    moi_rs_task task = {cell, column, 0, 0};
    walk->tasks[walk->n_tasks++] = task;
}

static void moi_rs_push_backward(moi_rs_walk *walk, size_t stage, size_t option) {
    moi_rs_task task = {{stage, stage, 0}, 0, option, 1};
    walk->tasks[walk->n_tasks++] = task;
}

/* In floats and in the order of the table, so that it meets the row's cost exactly. */
static float moi_rs_table_value(
    const mo_remat_table *table, const moi_rm_candidate *candidate, size_t column) {
    float value = (float)candidate->cost;
    if (candidate->need > column || candidate->shift > column) return HUGE_VALF;
    if (candidate->n_subs > 0)
        value += moi_rt_costs(table, candidate->sub[0])[column - candidate->shift];
    if (candidate->n_subs > 1) value += moi_rt_costs(table, candidate->sub[1])[column];
    return value;
}

static size_t moi_rs_peak_of(const moi_rm_model *model, const size_t *peaks, moi_rm_cell cell) {
    size_t row = moi_rm_row(model, cell.first, cell.last);
    return peaks[row * (1 + model->n_pending) + cell.pending];
}

static size_t moi_rs_floor_value(
    const moi_rm_model *model, const size_t *peaks, const moi_rm_candidate *candidate) {
    size_t value = candidate->need;
    for (size_t i = 0; i < candidate->n_subs; i++)
        value = moi_max(value,
            moi_rm_add(
                i == 0 ? candidate->shift : 0, moi_rs_peak_of(model, peaks, candidate->sub[i])));
    return value;
}

/* The first candidate with the row's cost. Where stages that are not quite equal share a row, there
 * may be none: then the one with the least cost. */
static moi_rm_candidate moi_rs_choose_cost(const moi_rs_walk *walk, const moi_rs_task *task) {
    moi_rm_scan scan = moi_rm_begin(walk->model, task->cell);
    float least = HUGE_VALF, wanted = moi_rt_costs(walk->table, task->cell)[task->column];
    moi_rm_candidate candidate, best;
    memset(&best, 0, sizeof best);
    while (least > wanted && moi_rm_next(&scan, &candidate)) {
        float value = moi_rs_table_value(walk->table, &candidate, task->column);
        if (value >= least) continue;
        least = value;
        best = candidate;
    }
    return best;
}

/* The first candidate with the lowest peak. */
static moi_rm_candidate moi_rs_choose_floor(const moi_rs_walk *walk, const moi_rs_task *task) {
    moi_rm_scan scan = moi_rm_begin(walk->model, task->cell);
    size_t least = SIZE_MAX;
    moi_rm_candidate candidate, best;
    memset(&best, 0, sizeof best);
    while (moi_rm_next(&scan, &candidate)) {
        size_t value = moi_rs_floor_value(walk->model, walk->peaks, &candidate);
        if (value >= least) continue;
        least = value;
        best = candidate;
    }
    return best;
}

/* The lowest column with the same cost: what fits there needs fewer bytes. */
static size_t moi_rs_lowest(const mo_remat_table *table, moi_rm_cell cell, size_t column) {
    const float *row = moi_rt_costs(table, cell);
    while (column > 0 && row[column - 1] == row[column]) column--;
    return column;
}

static int moi_rs_forward_to(moi_rs_walk *walk, size_t first, size_t k) {
    int ok = moi_rs_emit_op(walk, MO_FLAT_KEEP, first, 0, 0);
    for (size_t i = first + 1; ok && i < k; i++) ok = moi_rs_emit_op(walk, MO_FLAT_DROP, i, 0, 0);
    return ok;
}

static int moi_rs_base(moi_rs_walk *walk, const moi_rm_cell *cell, const moi_rm_candidate *choice) {
    size_t i = cell->first;
    if (i + 1 == walk->model->n) return moi_rs_emit_op(walk, MO_FLAT_LOSS, i, 0, 0);
    if (!cell->pending && !moi_rs_emit_op(walk, MO_FLAT_SAVE, i, choice->option, 1)) return 0;
    return moi_rs_emit_op(walk, MO_FLAT_BACKWARD, i, choice->option, 0);
}

/* Emits what a cell does first, and leaves the rest as tasks, the next one on top. */
static int moi_rs_take(moi_rs_walk *walk, moi_rs_task task) {
    size_t i = task.cell.first;
    if (task.is_backward) return moi_rs_emit_op(walk, MO_FLAT_BACKWARD, i, task.option, 0);
    if (walk->table) task.column = moi_rs_lowest(walk->table, task.cell, task.column);
    moi_rm_candidate choice =
        walk->table ? moi_rs_choose_cost(walk, &task) : moi_rs_choose_floor(walk, &task);
    int ok = 1;
    switch (choice.choice) {
    case MOI_RM_BASE: return moi_rs_base(walk, &task.cell, &choice);
    case MOI_RM_SAVE:
        ok = moi_rs_emit_op(walk, MO_FLAT_SAVE, i, choice.option, 0);
        moi_rs_push_backward(walk, i, choice.option);
        break;
    case MOI_RM_KEEP:
        ok = moi_rs_forward_to(walk, i, choice.k);
        moi_rs_push_cell(walk, choice.sub[1], task.column);
        break;
    case MOI_RM_SAVE_DROP:
        ok = moi_rs_forward_to(walk, i, choice.k) &&
            moi_rs_emit_op(walk, MO_FLAT_SAVE_DROP, choice.k, choice.option, 0);
        moi_rs_push_cell(walk, choice.sub[1], task.column);
        break;
    }
    moi_rs_push_cell(walk, choice.sub[0], task.column - choice.shift);
    return ok;
}

/* The schedule of a cell that has one. The list is the walk's; freed on failure. */
static mo_status moi_rs_walk_back(moi_rs_walk *walk, moi_rm_cell cell, size_t column) {
    size_t n_tasks = moi_rs_n_tasks(walk->model);
    int ok = 1;
    walk->list.n = walk->n_tasks = 0;
    walk->tasks =
        (moi_rs_task *)moi_alloc_array(&walk->list.allocator, n_tasks, sizeof *walk->tasks);
    if (!walk->tasks) return MO_E_NO_MEMORY;
    moi_rs_push_cell(walk, cell, column);
    while (ok && walk->n_tasks > 0) ok = moi_rs_take(walk, walk->tasks[--walk->n_tasks]);
    moi_free_array(&walk->list.allocator, walk->tasks, n_tasks, sizeof *walk->tasks);
    walk->tasks = NULL;
    return ok ? MO_OK : MO_E_NO_MEMORY;
}

/* ---- the floor ----------------------------------------------------------------------------- */

/* The same recurrence in bytes: what must fit, instead of what it costs. */
static void moi_rs_fill_floor(const moi_rm_model *model, size_t *peaks) {
    for (size_t row = 0; row < model->n_rows; row++)
        for (size_t pending = 0; pending <= model->n_pending; pending++) {
            moi_rm_cell cell = {model->firsts[row], model->lasts[row], pending};
            moi_rm_scan scan = moi_rm_begin(model, cell);
            moi_rm_candidate candidate;
            size_t least = SIZE_MAX;
            if (moi_rm_is_cell(model, cell.last, pending))
                while (moi_rm_next(&scan, &candidate))
                    least = moi_min(least, moi_rs_floor_value(model, peaks, &candidate));
            peaks[row * (1 + model->n_pending) + pending] = least;
        }
}

/* The floor of stages first.. of a chain; walk, if not NULL, gets the schedule when that is within
 * the budget. The walk's model is gone after the call. */
static mo_status moi_rs_floor(const mo_flat_chain *chain, size_t first, mo_remat_mode mode,
    const mo_allocator *allocator, size_t *bytes, size_t budget, moi_rs_walk *walk) {
    moi_rm_model model;
    mo_status status = moi_rm_make(&model, chain, mode, 1, SIZE_MAX, 0, allocator);
    if (status != MO_OK) return status;
    size_t n_cells = model.n_rows * (1 + model.n_pending);
    size_t *peaks = (size_t *)moi_alloc_array(&model.allocator, n_cells, sizeof *peaks);
    moi_rm_cell cell = {first, model.n - 1, 0};
    status = peaks ? MO_OK : MO_E_NO_MEMORY;
    if (status == MO_OK) {
        moi_rs_fill_floor(&model, peaks);
        *bytes = moi_rm_add(moi_flat_x(chain, first), moi_rs_peak_of(&model, peaks, cell));
    }
    if (status == MO_OK && walk && *bytes <= budget) {
        walk->model = &model;
        walk->table = NULL;
        walk->peaks = peaks;
        status = moi_rs_walk_back(walk, cell, 0);
    }
    moi_free_array(&model.allocator, peaks, n_cells, sizeof *peaks);
    moi_rm_free(&model);
    return status;
}

mo_status mo_remat_floor(const mo_flat_chain *chain, size_t first, mo_remat_mode mode,
    const mo_allocator *allocator, size_t *bytes) {
    size_t found = 0;
    mo_status status = bytes ? mo_remat_flat_check(chain, NULL) : MO_E_INVALID;
    if (status == MO_OK && (first >= chain->n_stages || (unsigned)mode > MO_REMAT_MODE_KEEP_INPUT))
        status = MO_E_INVALID;
    if (status == MO_OK) status = moi_rs_floor(chain, first, mode, allocator, &found, 0, NULL);
    if (status == MO_OK && found == SIZE_MAX) status = MO_E_OVERFLOW;
    if (status == MO_OK) *bytes = found;
    return status;
}

/* ---- solutions ----------------------------------------------------------------------------- */

static moi_rs_walk moi_rs_begin(const mo_remat_table *table) {
    moi_rs_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.model = &table->model;
    walk.groups = table->groups;
    walk.table = table;
    walk.list.allocator = table->allocator;
    return walk;
}

/* The column's schedule, simulated. Bytes that overflow are SIZE_MAX. */
static mo_status moi_rs_try(
    moi_rs_walk *walk, size_t first, size_t at, size_t column, mo_flat_result *result) {
    const mo_remat_table *table = walk->table;
    moi_rm_cell cell = {at, table->model.n - 1, 0};
    mo_status status = moi_rs_walk_back(walk, cell, column);
    if (status != MO_OK) return status;
    status = mo_remat_flat_simulate(
        &table->chain, first, walk->list.ops, walk->list.n, &table->allocator, NULL, NULL, result);
    if (status != MO_E_OVERFLOW) return status;
    result->peak_bytes = SIZE_MAX;
    return MO_OK;
}

/* The list becomes the solution's, in place of what it had. */
static void moi_rs_accept_list(
    moi_rm_list *list, const mo_flat_result *result, size_t column, mo_remat_solution *solution) {
    mo_remat_solution_free(solution);
    solution->allocator = list->allocator;
    solution->feasible = 1;
    solution->ops = list->ops;
    solution->n_ops = list->n;
    solution->capacity = list->capacity;
    solution->peak_bytes = result->peak_bytes;
    solution->cost_s = result->cost_s;
    solution->ideal_s = result->ideal_s;
    solution->column = column;
    list->ops = NULL;
    list->n = list->capacity = 0;
}

static void moi_rs_accept(
    moi_rs_walk *walk, const mo_flat_result *result, size_t column, mo_remat_solution *solution) {
    moi_rs_accept_list(&walk->list, result, column, solution);
}

/* How many columns lower to try next: half of what the peak has too much, since the columns between
 * cost less. */
static size_t moi_rs_stride(const mo_remat_table *table, size_t peak, size_t budget) {
    double columns = (double)(peak - budget) / table->unit / 2;
    return columns < (double)table->n_columns ? (size_t)columns + 1 : table->n_columns;
}

/* A walk over the columns of a suffix. fits: a column whose schedule fits; fails: one above it
 * whose schedule does not, or the end. */
typedef struct moi_rs_search {
    size_t first, at, budget;
    size_t fits, fails;
} moi_rs_search;

/* Down until a schedule fits; the solution stays as it is when none does. */
static mo_status moi_rs_go_down(
    moi_rs_walk *walk, moi_rs_search *search, mo_remat_solution *solution) {
    const mo_remat_table *table = walk->table;
    moi_rm_cell cell = {search->at, table->model.n - 1, 0};
    size_t lowest = moi_rt_ends_of(table, cell)->finite, column = search->fails - 1;
    while (column >= lowest) {
        mo_flat_result result;
        column = moi_rs_lowest(table, cell, column);
        mo_status status = moi_rs_try(walk, search->first, search->at, column, &result);
        if (status != MO_OK) return status;
        if (result.peak_bytes <= search->budget) {
            moi_rs_accept(walk, &result, column, solution);
            search->fits = column;
            return MO_OK;
        }
        if (column == lowest) break;
        search->fails = column;
        size_t stride = moi_rs_stride(table, result.peak_bytes, search->budget);
        column = column - lowest > stride ? column - stride : lowest;
    }
    return MO_OK;
}

/* Up again by halves, over the columns that strides have passed over. */
static mo_status moi_rs_go_up(
    moi_rs_walk *walk, moi_rs_search *search, mo_remat_solution *solution) {
    const mo_remat_table *table = walk->table;
    moi_rm_cell cell = {search->at, table->model.n - 1, 0};
    while (search->fails - search->fits > 1) {
        mo_flat_result result;
        size_t middle = search->fits + (search->fails - search->fits) / 2;
        size_t column = moi_rs_lowest(table, cell, middle);
        if (column <= search->fits) {
            search->fits = middle;
            continue;
        }
        mo_status status = moi_rs_try(walk, search->first, search->at, column, &result);
        if (status != MO_OK) return status;
        if (result.peak_bytes > search->budget) search->fails = column;
        else search->fits = middle;
        if (result.peak_bytes <= search->budget && result.cost_s < solution->cost_s)
            moi_rs_accept(walk, &result, column, solution);
    }
    return MO_OK;
}

/* Rounding hides schedules within a few slots of the floor: the floor's own is exact. */
static mo_status moi_rs_try_floor(
    moi_rs_walk *walk, size_t first, size_t at, size_t budget, mo_remat_solution *solution) {
    const mo_remat_table *table = walk->table;
    const mo_flat_chain *chain = walk->groups ? &walk->groups->chain : &table->chain;
    mo_flat_result result;
    size_t floor_bytes = 0;
    mo_status status =
        moi_rs_floor(chain, at, table->mode, &table->allocator, &floor_bytes, budget, walk);
    if (status != MO_OK) return status;
    solution->floor_bytes = floor_bytes;
    if (floor_bytes > budget) return MO_OK;
    status = mo_remat_flat_simulate(
        &table->chain, first, walk->list.ops, walk->list.n, &table->allocator, NULL, NULL, &result);
    if (status != MO_OK) return status;
    MEMOPT_ASSERT(result.peak_bytes <= budget);
    solution->floor_bytes = 0;
    moi_rs_accept(walk, &result, SIZE_MAX, solution);
    return MO_OK;
}

static mo_remat_solution moi_rs_nothing(const mo_remat_table *table) {
    mo_remat_solution solution;
    memset(&solution, 0, sizeof solution);
    solution.allocator = table->allocator;
    return solution;
}

mo_status mo_remat_table_solve(
    const mo_remat_table *table, size_t first, size_t budget, mo_remat_solution *solution) {
    if (!table || !solution) return MO_E_INVALID;
    size_t at = moi_rt_first(table, first);
    if (at == SIZE_MAX) return MO_E_INVALID;
    mo_remat_solution found = moi_rs_nothing(table);
    moi_rs_walk walk = moi_rs_begin(table);
    mo_status status = MO_OK;
    budget =
        moi_min(moi_min(budget, table->budget), SIZE_MAX - 1); /* SIZE_MAX: too many to count */
    if (budget >= moi_flat_x(&table->chain, first)) {
        size_t column = moi_rt_column(table, first, budget);
        size_t more = table->n_columns - table->n_exact; /* where rounding made sizes larger */
        moi_rs_search search = {first, at, budget, 0, moi_min(column + more + 1, table->n_columns)};
        status = moi_rs_go_down(&walk, &search, &found);
        if (status == MO_OK && found.feasible) status = moi_rs_go_up(&walk, &search, &found);
    }
    if (status == MO_OK && !found.feasible)
        status = moi_rs_try_floor(&walk, first, at, budget, &found);
    moi_rs_free_list(&walk.list);
    if (status == MO_OK) *solution = found;
    else mo_remat_solution_free(&found);
    return status;
}

mo_status mo_remat_table_schedule(
    const mo_remat_table *table, size_t first, size_t column, mo_remat_solution *solution) {
    if (!table || !solution || column >= table->n_columns) return MO_E_INVALID;
    size_t at = moi_rt_first(table, first);
    if (at == SIZE_MAX) return MO_E_INVALID;
    mo_remat_solution found = moi_rs_nothing(table);
    moi_rs_walk walk = moi_rs_begin(table);
    mo_flat_result result;
    mo_status status = MO_OK;
    if (moi_rt_suffix(table, at)[column] != HUGE_VALF) {
        status = moi_rs_try(&walk, first, at, column, &result);
        if (status == MO_OK) moi_rs_accept(&walk, &result, column, &found);
    }
    moi_rs_free_list(&walk.list);
    if (status == MO_OK) *solution = found;
    return status;
}

void mo_remat_solution_free(mo_remat_solution *solution) {
    if (!solution) return;
    moi_free_array(&solution->allocator, solution->ops, solution->capacity, sizeof *solution->ops);
    memset(solution, 0, sizeof *solution);
}

mo_status mo_remat_optimal(const mo_remat_table_desc *desc, mo_remat_solution *solution) {
    mo_remat_table *table = NULL;
    if (!solution) return MO_E_INVALID;
    mo_status status = mo_remat_table_create(&table, desc);
    if (status != MO_OK) return status;
    status = mo_remat_table_solve(table, 0, desc->budget, solution);
    mo_remat_table_destroy(table);
    return status;
}

/* ---- the frontier -------------------------------------------------------------------------- */

/* Keep the points that rise in bytes and fall in cost. From low columns to high ones costs fall,
 * but for what rounding and floats do. */
static size_t moi_rs_add_point(mo_remat_point *points, size_t n, const mo_remat_point *point) {
    if (n > 0 && points[n - 1].bytes <= point->bytes && points[n - 1].cost_s <= point->cost_s)
        return n;
    while (n > 0 && points[n - 1].bytes >= point->bytes && points[n - 1].cost_s >= point->cost_s)
        n--;
    points[n] = *point;
    return n + 1;
}

static int moi_rs_is_frontier(const mo_remat_point *points, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (points[i].bytes <= points[i - 1].bytes || points[i].cost_s >= points[i - 1].cost_s)
            return 0;
    return 1;
}

/* The few that are out of order: insertion by bytes, then one pass. */
static size_t moi_rs_sort_points(mo_remat_point *points, size_t n) {
    size_t kept = 0;
    for (size_t i = 1; i < n; i++) {
        mo_remat_point point = points[i];
        size_t j = i;
        for (; j > 0 && points[j - 1].bytes > point.bytes; j--) points[j] = points[j - 1];
        points[j] = point;
    }
    for (size_t i = 0; i < n; i++) kept = moi_rs_add_point(points, kept, &points[i]);
    return kept;
}

mo_status mo_remat_table_frontier(const mo_remat_table *table, size_t first, mo_remat_point *points,
    size_t capacity, size_t *n_points) {
    if (!table || (!points && capacity) || !n_points) return MO_E_INVALID;
    size_t at = moi_rt_first(table, first), n = 0;
    if (at == SIZE_MAX) return MO_E_INVALID;
    moi_rs_walk walk = moi_rs_begin(table);
    const float *row = moi_rt_suffix(table, at);
    mo_status status = MO_OK;
    for (size_t column = 0; status == MO_OK && column < table->n_columns; column++) {
        mo_flat_result result;
        if (row[column] == HUGE_VALF || (column > 0 && row[column - 1] == row[column])) continue;
        status = moi_rs_try(&walk, first, at, column, &result);
        if (status != MO_OK || result.peak_bytes > table->budget) continue;
        if (n == capacity) status = MO_E_NO_SPACE;
        if (status != MO_OK) continue;
        mo_remat_point point = {result.peak_bytes, result.cost_s, column};
        n = moi_rs_add_point(points, n, &point);
    }
    moi_rs_free_list(&walk.list);
    if (status != MO_OK) return status;
    if (!moi_rs_is_frontier(points, n)) n = moi_rs_sort_points(points, n);
    *n_points = n;
    return MO_OK;
}
