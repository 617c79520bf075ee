/* mo_plan_build.h - the plan of least time within a byte budget, in one call: what to keep, what to
 * run again, what to move to another memory, and where everything lies.
 *
 *     mo_plan_build_desc desc = {0};
 *     desc.plan.chain = &chain;
 *     desc.budget = 200u << 20;
 *     mo_plan *plan;
 *     mo_plan_build_result result;
 *     if (mo_plan_build(&plan, &desc, &result) != MO_OK) ...
 *     if (!result.fits) ...                  result.least_bytes would do
 *     if (mo_plan_bind(plan, &arena, NULL) != MO_OK) ...
 */
#ifndef MEMOPT_PLAN_BUILD_H
#define MEMOPT_PLAN_BUILD_H

#include "mo_base.h"
#include "mo_plan.h"
#include "mo_remat_offload.h"

/* mo_plan_build_desc - what is wanted.
 *
 * plan         what is planned; its remat and ops are not used
 * budget       bytes that peak_bytes of the plan may reach, fixed blocks included; 0 = no limit
 * link         to the store, costs being in seconds; 0 = nothing is moved
 * store_bytes  of the store at most; 0 = no limit
 * slots        see mo_remat_table_desc */
typedef struct mo_plan_build_desc {
    mo_plan_desc plan;
    size_t budget;
    mo_offload_link link;
    size_t store_bytes;
    size_t slots;
} mo_plan_build_desc;

/* mo_plan_build_result - what was found.
 *
 * fits         peak_bytes of the plan is at most the budget
 * least_bytes  the smallest peak_bytes of all plans that were looked at
 * cost_s       as the plan's, and what waiting for copies adds
 * n_plans      that were laid out */
typedef struct mo_plan_build_result {
    int fits;
    size_t least_bytes;
    double cost_s;
    size_t n_plans;
} mo_plan_build_result;

/* mo_plan_build - make the plan.
 *
 * plan    out  owned by the caller, see mo_plan_destroy. That nothing fits is an outcome, not an
 *              error: it is the plan with the smallest peak then
 * result  out  may be NULL
 *
 * Schedules come from the simple policies of mo_remat, from mo_remat_table in rising order of time,
 * and with a link from mo_remat_offload. Each is laid out, and the fastest that fits to the byte is
 * the answer: never slower than a simple policy that fits. Without a link the smallest plan does
 * not depend on budget and costs, so that least_bytes of a refusal always fits, and no less.
 *
 * Memory:  from plan.allocator: some plans at once, and the table
 * Threads: safe for distinct plans
 * Errors:  those of mo_plan_create and mo_remat_table_create
 * Cost:    10 ms for 14 stages of 8 tensors; see mo_remat_table_create
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_plan_build(
    mo_plan **plan, const mo_plan_build_desc *desc, mo_plan_build_result *result);

#endif
