/* mo_remat_optimal.h - the schedule of least time under a byte budget: which stages of a flat chain
 * to save at once, by which option, which inputs to keep, and what to run again.
 *
 *     mo_remat_table_desc desc = {0};
 *     desc.chain = &chain;
 *     desc.budget = 4u << 30;
 *     mo_remat_table *table;
 *     mo_remat_solution solution;
 *     if (mo_remat_table_create(&table, &desc) != MO_OK) ...
 *     if (mo_remat_table_solve(table, 0, desc.budget, &solution) != MO_OK) ...
 *     if (!solution.feasible) ...          solution.floor_bytes is the least that would do
 *     for (size_t i = 0; i < solution.n_ops; i++) run(&solution.ops[i]);
 *     mo_remat_solution_free(&solution);
 *     mo_remat_table_destroy(table);
 */
#ifndef MEMOPT_REMAT_OPTIMAL_H
#define MEMOPT_REMAT_OPTIMAL_H

#include "mo_base.h"
#include "mo_remat_flat.h"

/* Which schedules are looked at. */
typedef enum mo_remat_mode {
    MO_REMAT_MODE_ANY = 0,   /* also SAVE_DROP: keep what backward of a stage needs, run its input
                                again; by option 0 alone where some stage has more */
    MO_REMAT_MODE_KEEP_INPUT /* a saved stage keeps its input: rotor */
} mo_remat_mode;

/* mo_remat_table_desc - what is solved. The chain is copied; nothing needs to stay valid.
 *
 * chain      the network
 * budget     bytes, the largest that will be asked for
 * slots      in how many parts the budget is cut; sizes are rounded to the nearest part, and every
 *            schedule is simulated in bytes. A budget of fewer bytes is not rounded. 0 = 1000; for
 *            more than 128 stages 750, and at least 2 per stage; 500 for groups. At most 2^24
 * mode       0 = MO_REMAT_MODE_ANY
 * n_groups   the chain is solved as at most this many groups of stages, and the loss; n_stages or
 *            more = as it is; 0 = as it is, or 128 groups for more than 256 stages
 * tolerance  stages of equal sizes whose costs differ by less than this part count as equal, which
 *            makes chains of measured repeated blocks fast; 0 = only equal ones
 * allocator  NULL = heap
 * log        told what is wrong with the chain; NULL = silent */
typedef struct mo_remat_table_desc {
    const mo_flat_chain *chain;
    size_t budget;
    size_t slots;
    mo_remat_mode mode;
    size_t n_groups;
    double tolerance;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_remat_table_desc;

/* mo_remat_table - opaque: the least cost of every part of the chain at every number of slots. */
typedef struct mo_remat_table mo_remat_table;

/* mo_remat_table_info - about a table.
 *
 * n_columns  columns: a column is a number of slots
 * n_groups   groups that the chain was solved as, the loss included; n_stages = as it is
 * n_rows     different parts of the chain, with equal parts counted once
 * bytes      memory of the table
 * unit       bytes of a slot */
typedef struct mo_remat_table_info {
    size_t n_columns, n_groups, n_rows, bytes;
    double unit;
} mo_remat_table_info;

/* mo_remat_solution - a schedule with what it needs, by mo_remat_flat_simulate.
 *
 * feasible     0 = no schedule fits; ops is NULL then
 * ops          [n_ops], owned by the solution
 * peak_bytes   at most the budget
 * cost_s       ideal_s: see mo_flat_result
 * floor_bytes  the least budget with a schedule (of groups of stages, where the table has those);
 *              only when not feasible, else 0
 * column       of the table; SIZE_MAX = it is the schedule of the floor */
typedef struct mo_remat_solution {
    int feasible;
    mo_flat_op *ops;
    size_t n_ops;
    size_t peak_bytes;
    double cost_s, ideal_s;
    size_t floor_bytes;
    size_t column;
    size_t capacity;
    mo_allocator allocator;
} mo_remat_solution;

/* mo_remat_point - one point of the frontier: with fewer bytes the cost is higher. */
typedef struct mo_remat_point {
    size_t bytes;
    double cost_s;
    size_t column;
} mo_remat_point;

/* mo_remat_table_create - fill the table for all budgets up to desc->budget.
 * mo_remat_table_destroy - free it; NULL does nothing.
 *
 * table  out  owned by the caller
 *
 * Memory:  4 bytes per slot, row and table from desc->allocator; a row is a part of the chain:
 *          11 MB for 50 stages that all differ, 127 MB for 200, 35 MB for 128 groups; less where
 *          parts are equal. There are two tables, three where stages have up to two options, and
 *          one with MODE_KEEP_INPUT
 * Threads: safe for distinct tables
 * Errors:  MO_E_INVALID (NULL, chain, tolerance, mode; the log names stage and value),
 *          MO_E_OVERFLOW (a group's bytes, or more than 30000 stages in one), MO_E_NO_MEMORY
 * Cost:    O(slots * n_stages^3): 10 ms for 50 stages that all differ, 0.7 s for 200, 0.15 s for
 *          1000 in 128 groups
 * Source:  Beaumont, Eyraud-Dubois, Herrmann, Joly, Shilova 2019, Optimal checkpointing for
 *          heterogeneous chains (the interval recurrence); SAVE_DROP, options and rounding are ours
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_table_create(
    mo_remat_table **table, const mo_remat_table_desc *desc);
MEMOPT_API void mo_remat_table_destroy(mo_remat_table *table);

/* mo_remat_table_describe - its shape. Threads: safe. Since: 0.1 */
MEMOPT_API mo_remat_table_info mo_remat_table_describe(const mo_remat_table *table);

/* mo_remat_table_estimate - least cost of stages first.. under a budget, in O(1) and before
 * rounding is checked: what solve finds is a little higher or lower. The offload search and batch
 * searches ask this first.
 *
 * first   0 = the whole chain. x[first] counts within the budget. In a table of groups: a stage
 *         that begins a group
 * budget  bytes; more than the desc's counts as that
 *
 * Threads: safe
 * Errors:  INFINITY (no schedule fits, first does not begin a group or is past the end)
 * Since:   0.1 */
MEMOPT_API double mo_remat_table_estimate(const mo_remat_table *table, size_t first, size_t budget);

/* mo_remat_table_solve - the schedule of stages first.. with the least cost whose peak, simulated
 * to the byte, is at most the budget.
 *
 * first     see mo_remat_table_estimate
 * budget    bytes; more than the desc's counts as that
 * solution  out  owned by the caller until mo_remat_solution_free
 *
 * That nothing fits is an outcome, not an error. A schedule is found whenever the budget is at
 * least floor_bytes.
 *
 * Memory:  the ops, and as much during the call, from the table's allocator
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, first), MO_E_NO_MEMORY
 * Cost:    0.1 ms for 50 stages; where nothing fits, mo_remat_floor besides
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_table_solve(
    const mo_remat_table *table, size_t first, size_t budget, mo_remat_solution *solution);

/* mo_remat_table_schedule - the schedule of one column, whatever its peak: for a caller who checks
 * peaks by other means, such as a plan's layout, and walks the columns down.
 *
 * column    0..n_columns - 1: slots beside x[first]
 * solution  out  not feasible where the column has no schedule
 *
 * Memory, Threads, Errors: see mo_remat_table_solve
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_table_schedule(
    const mo_remat_table *table, size_t first, size_t column, mo_remat_solution *solution);

/* mo_remat_table_frontier - every trade of bytes for time: points by rising bytes and falling cost,
 * each that of a simulated schedule, none better in both.
 *
 * points    out  [capacity]; n_columns is always enough
 * n_points  out
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, first), MO_E_NO_SPACE (capacity), MO_E_NO_MEMORY; points are
 *          undefined then
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_table_frontier(const mo_remat_table *table,
    size_t first, mo_remat_point *points, size_t capacity, size_t *n_points);

/* mo_remat_floor - the least budget that has a schedule for stages first.., exact in bytes.
 *
 * bytes  out
 *
 * Memory:  at most 52 bytes per pair of stages from allocator during the call; NULL = heap
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, chain, first), MO_E_OVERFLOW (no schedule fits into size_t),
 *          MO_E_NO_MEMORY
 * Cost:    O(n_stages^3): 0.5 ms for 50 stages that all differ, 30 ms for 200
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_floor(const mo_flat_chain *chain, size_t first,
    mo_remat_mode mode, const mo_allocator *allocator, size_t *bytes);

/* mo_remat_solution_free - free the ops; of a solution of zeros it does nothing.
 *
 * Since: 0.1 */
MEMOPT_API void mo_remat_solution_free(mo_remat_solution *solution);

/* mo_remat_optimal - one budget in one call: create, solve, destroy.
 *
 * Memory, Threads, Errors, Cost: see mo_remat_table_create, mo_remat_table_solve
 * Since: 0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_optimal(
    const mo_remat_table_desc *desc, mo_remat_solution *solution);

#endif
