/* mo_remat_baseline.h - the schedules that others use, on the flat chain: to compare with, and for
 * programs that cannot run another. */
#ifndef MEMOPT_REMAT_BASELINE_H
#define MEMOPT_REMAT_BASELINE_H

#include "mo_base.h"
#include "mo_remat_flat.h"
#include "mo_remat_optimal.h"

/* Which schedules of L stages before the loss are tried.
 *
 * NONE      every stage is saved by its option 0
 * LIGHT     every stage is saved by the option that keeps least
 * BLOCK     every stage keeps its input alone and runs again before its backward
 * SEGMENTS  as torch's checkpoint_sequential: k segments of L / k stages keep their inputs alone,
 *           but the last one, with the rest, is saved; the k that costs least
 * FIRST_N   the first n stages as BLOCK, the others as NONE; the least n
 * GREEDY    single stages as BLOCK, those first that free most bytes per second; the fewest
 *
 * What runs again is saved by option 0. */
typedef enum mo_remat_baseline {
    MO_BASELINE_NONE = 0,
    MO_BASELINE_LIGHT,
    MO_BASELINE_BLOCK,
    MO_BASELINE_SEGMENTS,
    MO_BASELINE_FIRST_N,
    MO_BASELINE_GREEDY,
    MO_BASELINE_COUNT
} mo_remat_baseline;

/* mo_remat_baseline_name - "none", "light", ...; "?" out of range. Threads: safe. Since: 0.1 */
MEMOPT_API const char *mo_remat_baseline_name(mo_remat_baseline baseline);

/* mo_remat_baseline_solve - the cheapest schedule of this kind whose peak is within the budget.
 *
 * solution  out  as of mo_remat_table_solve; floor_bytes is the lowest peak of this kind. column is
 *                k of SEGMENTS, n of FIRST_N and GREEDY, else 0
 *
 * Memory:  the ops, and 10 bytes per stage during the call, from allocator; NULL = heap
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, chain, baseline), MO_E_NO_MEMORY
 * Cost:    O(n_stages), for the last three O(n_stages^2)
 * Source:  Chen et al. 2016, arXiv:1604.06174 (segments)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_baseline_solve(const mo_flat_chain *chain,
    mo_remat_baseline baseline, size_t budget, const mo_allocator *allocator, const mo_log *log,
    mo_remat_solution *solution);

/* mo_remat_revolve_extra - forward runs beyond one per step that n equal steps need with s slots
 * for inputs, x[0] in one of them, and room for one saved step:
 *
 *   E(n, s) = r n - C(s + r, s + 1)   with r the least number for which C(s + r, s) >= n
 *
 * extra  out
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (n or s is 0, NULL), MO_E_OVERFLOW (n >= 2^32)
 * Source:  Griewank & Walther 2000, Algorithm 799: Revolve
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_revolve_extra(size_t n, size_t s, uint64_t *extra);

/* mo_remat_revolve_advance - how many steps to go before the next input is kept: a split that
 * reaches E(n, s). 1 when n is less than 3, n - 1 when s is 1.
 *
 * Threads: safe
 * Errors:  0 (n or s is 0, n is 1, n >= 2^32)
 * Source:  as above
 * Since:   0.1 */
MEMOPT_API size_t mo_remat_revolve_advance(size_t n, size_t s);

/* mo_remat_revolve_solve - that schedule for a chain, as if its stages were equal. Its peak is what
 * it is: the solution is always feasible.
 *
 * s  slots, x[0] in one of them; at least 1
 *
 * Memory, Threads: see mo_remat_baseline_solve
 * Errors:  MO_E_INVALID (NULL, chain, s), MO_E_OVERFLOW (the bytes), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_revolve_solve(const mo_flat_chain *chain, size_t s,
    const mo_allocator *allocator, const mo_log *log, mo_remat_solution *solution);

#endif
