/* mo_cl_optim.h - mo_optim.h on a device: steps with the bits of mo_optim_step, on states that lie
 * as the CPU's do.
 *
 *     mo_optim_desc desc = {0};
 *     desc.precision = MO_OPTIM_8BIT;
 *     desc.lr = 1e-3;
 *     mo_cl_heap_alloc(&heap, mo_optim_state_size(&desc, n), MO_CATEGORY_OPTIMIZER, "wte", &block)
 *     mo_cl_optim_state_init(&cl, &desc, n, block, &state)
 *     for t = 1, 2, ...: mo_cl_optim_step(&cl, &desc, t, param, grad, &state)
 *
 * Commands go to the compute queue in their order and are not waited for, but for whole kinds.
 * desc.parallel is ignored. */
#ifndef MEMOPT_CL_OPTIM_H
#define MEMOPT_CL_OPTIM_H

#include "mo_cl_heap.h"

/* mo_cl_optim_state - where the states of one tensor lie on the device; the fields are those of
 * mo_optim_state, {0} where that has NULL. Since: 0.1 */
typedef struct mo_cl_optim_state {
    size_t n, offset;
    mo_optim_precision precision;
    size_t block;
    int plain_v;
    mo_cl_mem m, slow, v;
    mo_cl_mem m_absmax, slow_absmax, v_absmax;
    mo_cl_mem row, column, master, extra;
    size_t rows, columns, rank, n_states, n_extra;
} mo_cl_optim_state;

/* mo_cl_optim_state_init - lay the states out in memory and set them to zero.
 *
 * memory  [mo_optim_state_size(desc, n)], 4-byte aligned; byte for byte what mo_optim_state_init
 *         makes of memory on the host, now and after every step: one copy of the block moves a
 *         state between host and device
 * state   out
 *
 * Threads: one at a time
 * Errors:  as mo_optim_state_init; MO_E_INVALID (alignment), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_state_init(
    mo_cl *cl, const mo_optim_desc *desc, size_t n, mo_cl_mem memory, mo_cl_optim_state *state);

/* mo_cl_optim_state_attach - the same layout over memory that holds such a state already, as
 * mo_optim_state_attach; nothing is written.
 *
 * memory, state, Errors: as mo_cl_optim_state_init
 * Threads: safe
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_state_attach(
    const mo_optim_desc *desc, size_t n, mo_cl_mem memory, mo_cl_optim_state *state);

/* mo_cl_optim_state_slice - as mo_optim_state_slice.
 *
 * Threads: safe
 * Errors:  as mo_optim_state_slice
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_state_slice(
    const mo_cl_optim_state *state, size_t begin, size_t n, mo_cl_optim_state *slice);

/* mo_cl_optim_state_write - a state of the host to the device. mo_cl_optim_state_read - back. Both
 * may be slices.
 *
 * to  its content is overwritten; precision, block and n are those of from
 *
 * Both return when the copies are complete.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, states that differ in shape), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_state_write(
    mo_cl *cl, const mo_optim_state *from, const mo_cl_optim_state *to);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_state_read(
    mo_cl *cl, const mo_cl_optim_state *from, const mo_optim_state *to);

/* mo_cl_optim_step - one update, bit for bit mo_optim_step's on devices that round division and
 * square root correctly (mo_cl_info). The sums of whole kinds are added as the CPU does, in double,
 * on devices that have none by integers.
 *
 * t      in      step number, from 1
 * param  in out  [state->n] float
 * grad   in      [state->n] float
 * state  in out
 *
 * Memory:  none, but 2 KiB of the device that the mo_cl keeps, for low-rank kinds 512 KiB
 * Threads: one at a time
 * Errors:  as mo_optim_step; MO_E_INVALID (sizes), MO_E_UNSUPPORTED (does not build), what OpenCL
 *          says
 * Cost:    ADAMW, bytes moved per number: 28 (fp32), 16.06 (8-bit). Whole kinds wait for a sum of
 *          squares once, ADAFACTOR and APOLLO kinds three times; their sums have at most 1024
 *          work-items. A kind, precision and type of parameters is compiled at its first step
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_step(mo_cl *cl, const mo_optim_desc *desc,
    uint64_t t, mo_cl_mem param, mo_cl_mem grad, const mo_cl_optim_state *state);

/* mo_cl_optim_step_bf16 - the same for parameters in bf16, as mo_optim_step_bf16.
 *
 * param  in out  [state->n] bf16
 *
 * Threads, Errors: as mo_cl_optim_step
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_step_bf16(mo_cl *cl, const mo_optim_desc *desc,
    uint64_t t, mo_cl_mem param, mo_cl_mem grad, const mo_cl_optim_state *state);

/* mo_cl_optim_master_init - the master copy from the parameters, once, after
 * mo_cl_optim_state_init.
 *
 * param  in  [state->n] bf16
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, no master, sizes), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_optim_master_init(
    mo_cl *cl, const mo_cl_optim_state *state, mo_cl_mem param);

#endif
