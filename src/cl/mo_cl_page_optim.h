/* mo_cl_page_optim.h - optimizer states in host memory, for parameters and gradients on the device:
 * a step walks over the states page by page, and a page comes and goes while the next one works.
 *
 *     mo_optim_desc adam[N_TENSORS];                 one for each tensor, as for mo_optim_step
 *     size_t n[N_TENSORS];
 *     mo_cl_page_optim states;
 *     mo_cl_page_optim_desc desc = {0};
 *     desc.tensors = adam, desc.n = n, desc.n_tensors = N_TENSORS;
 *     if (mo_cl_page_optim_init(&states, &heap, &desc) != MO_OK) ...
 *     for t = 1, 2, ...: for each tensor i
 *         mo_cl_page_optim_step(&states, i, NULL, t, param[i], grad[i])
 *
 * Of the states of the whole model two pages are on the device. */
#ifndef MEMOPT_CL_PAGE_OPTIM_H
#define MEMOPT_CL_PAGE_OPTIM_H

#include "mo_cl_optim.h"
#include "mo_cl_page.h"

/* mo_cl_page_optim_desc - whose states, in what pages.
 *
 * tensors     [n_tensors] copied
 * n           [n_tensors] numbers of each; copied
 * page_bytes  0 = 16 MiB, or all states where that is less; rounded up to 4096. A page holds slices
 *             of one tensor or of several; a tensor of a whole kind (LAMB, LARS, ADAM_MINI,
 *             ADAFACTOR) must fit one
 * n_slots     pages on the device; 0 = 2
 * slots       memory for them, as of mo_cl_page_desc; NULL = from the heap
 * name        of the slots in the track, kept as a pointer; NULL = "states" */
typedef struct mo_cl_page_optim_desc {
    const mo_optim_desc *tensors;
    const size_t *n;
    size_t n_tensors;
    size_t page_bytes, n_slots;
    const mo_cl_mem *slots;
    const char *name;
} mo_cl_page_optim_desc;

/* mo_cl_page_optim - owned by the caller, must not move; pages.stats may be read, the rest is
 * private. */
typedef struct mo_cl_page_optim {
    mo_cl_page pages;
    mo_cl_heap *heap;
    struct moi_optim_tensor *tensors; /* [n_tensors] */
    struct moi_optim_slice *slices;   /* [n_slices] those of a tensor in their order */
    size_t n_tensors, n_slices;
    int is_walking;
} mo_cl_page_optim;

/* mo_cl_page_optim_init - states of zero for every tensor. mo_cl_page_optim_free - give everything
 * back, after waiting for the transfers.
 *
 * heap  valid as long as the states
 *
 * Memory:  n_slots pages of the heap; the states of all tensors in staging; 150 bytes per tensor
 *          and 40 per slice
 * Threads: one at a time, as everything here, and not beside other calls on the same mo_cl
 * Errors:  MO_E_INVALID (NULL, no tensors, n 0), MO_E_UNSUPPORTED (a page is too small for a tensor
 *          of a whole kind, or for 4096 numbers of another; the log says which), MO_E_OVERFLOW,
 *          those of mo_optim_state_init and mo_cl_page_init
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_init(
    mo_cl_page_optim *optim, mo_cl_heap *heap, const mo_cl_page_optim_desc *desc);
MEMOPT_API void mo_cl_page_optim_free(mo_cl_page_optim *optim);

/* mo_cl_page_optim_walk - the order in which tensors are going to be stepped; without it, the order
 * of the desc. Any other order is right too, but pages come later.
 *
 * order  in  [n] tensors; copied
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, n 0, no such tensor), MO_E_NO_MEMORY, what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_walk(
    mo_cl_page_optim *optim, const size_t *order, size_t n);

/* mo_cl_page_optim_step - one update of a tensor, bit for bit that of mo_cl_optim_step and of
 * mo_optim_step. mo_cl_page_optim_step_bf16 - of parameters in bf16. mo_cl_page_optim_master_init -
 * their master copy, once, before the first step.
 *
 * tensor  its number in the desc
 * desc    NULL = as it was; else another lr, weight_decay or grad_scale
 * t       step number, from 1
 * param   in out  [n] float or bf16
 * grad    in      [n] float
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, tensor, sizes), those of mo_cl_optim_step and mo_cl_page_acquire:
 *          some slices of the tensor may be updated then, and others not
 * Cost:    twice the bytes of the tensor's states over the bus, beside the kernels of other pages
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_step(mo_cl_page_optim *optim, size_t tensor,
    const mo_optim_desc *desc, uint64_t t, mo_cl_mem param, mo_cl_mem grad);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_step_bf16(mo_cl_page_optim *optim,
    size_t tensor, const mo_optim_desc *desc, uint64_t t, mo_cl_mem param, mo_cl_mem grad);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_master_init(
    mo_cl_page_optim *optim, size_t tensor, mo_cl_mem param);

/* mo_cl_page_optim_read - the states of a tensor as one of the host, for a checkpoint or for the
 * CPU. mo_cl_page_optim_write - from one of the host.
 *
 * state  of mo_optim_state_init with the tensor's desc and n; read overwrites what it points to
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, tensor, a state of another shape), those of mo_cl_page_sync
 * Cost:    both wait until everything is written back
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_read(
    mo_cl_page_optim *optim, size_t tensor, const mo_optim_state *state);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_optim_write(
    mo_cl_page_optim *optim, size_t tensor, const mo_optim_state *state);

#endif
