/* mo_page_optim.h - optimizer states in pages (see mo_page.h): a step walks over the states of the
 * whole model page by page, and pages are read and written while others are worked on. Every kind
 * and precision of mo_optim.h, with the same bits. mo_cl_page_optim.h is the same for devices.
 *
 *     mo_optim_desc adam[N_TENSORS];                 one for each tensor, as for mo_optim_step
 *     size_t n[N_TENSORS];
 *     mo_page_optim states;
 *     mo_page_optim_desc desc = {0};
 *     desc.tensors = adam, desc.n = n, desc.n_tensors = N_TENSORS;
 *     desc.pages.resident_bytes = 16 << 20;
 *     if (mo_page_optim_init(&states, &desc) != MO_OK) ...
 *     for t = 1, 2, ...: for each tensor i
 *         mo_page_optim_step(&states, i, NULL, t, param[i], grad[i])
 */
#ifndef MEMOPT_PAGE_OPTIM_H
#define MEMOPT_PAGE_OPTIM_H

#include "mo_optim.h"
#include "mo_page.h"

/* mo_page_optim_desc - whose states, in what pages.
 *
 * tensors  [n_tensors] copied
 * n        [n_tensors] numbers of each; copied
 * pages    as of mo_page_init, with these differences. size: is found. page_bytes: 0 = 2 MiB, or a
 *          third of resident_bytes where that is less; rounded up to 4096. A page holds slices of
 *          one tensor or of several; a tensor of a whole kind (LAMB, LARS, ADAM_MINI, ADAFACTOR)
 *          must fit one, and does by default. host, path: overwritten by states of zero */
typedef struct mo_page_optim_desc {
    const mo_optim_desc *tensors;
    const size_t *n;
    size_t n_tensors;
    mo_page_desc pages;
} mo_page_optim_desc;

/* mo_page_optim - owned by the caller; pages.stats may be read, the rest is private. */
typedef struct mo_page_optim {
    mo_page pages;
    mo_allocator allocator;
    struct moi_optim_tensor *tensors; /* [n_tensors] */
    struct moi_optim_slice *slices;   /* [n_slices] those of a tensor in their order */
    size_t n_tensors, n_slices;
    int is_walking;
} mo_page_optim;

/* mo_page_optim_pages - what mo_page_optim_init will make of a desc.
 *
 * pages  out  desc->pages with size, page_bytes and resident_bytes as they will be
 *
 * Memory:  none
 * Threads: safe
 * Errors:  those of mo_page_optim_init that follow from the desc
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_pages(
    const mo_page_optim_desc *desc, mo_page_desc *pages);

/* mo_page_optim_init - states of zero for every tensor. mo_page_optim_free - give everything back.
 *
 * Memory:  that of mo_page_init; 150 bytes per tensor and 40 per slice
 * Threads: one at a time, as everything here
 * Errors:  MO_E_INVALID (NULL, no tensors, n 0), MO_E_UNSUPPORTED (a page is too small for a tensor
 *          of a whole kind, or for 4096 numbers of another; the log says which), MO_E_OVERFLOW,
 *          those of mo_optim_state_init, mo_page_init and mo_page_acquire
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_init(
    mo_page_optim *optim, const mo_page_optim_desc *desc);
MEMOPT_API void mo_page_optim_free(mo_page_optim *optim);

/* mo_page_optim_walk - the order in which tensors are going to be stepped; without it, the order of
 * the desc. Any other order is right too, but pages come later.
 *
 * order  in  [n] tensors; copied
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, n 0, no such tensor), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_walk(
    mo_page_optim *optim, const size_t *order, size_t n);

/* mo_page_optim_step - one update of a tensor, bit for bit that of mo_optim_step.
 * mo_page_optim_step_bf16 - of parameters in bf16. mo_page_optim_master_init - their master copy,
 * once, before the first step.
 *
 * tensor  its number in the desc
 * desc    NULL = as it was; else another lr, weight_decay or grad_scale
 * t       step number, from 1
 * param   in out  [n] float or bf16
 * grad    in      [n] float
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, tensor), those of mo_optim_step and mo_page_acquire: some slices of
 *          the tensor may be updated then, and others not
 * Cost:    the tensor's states are read and written once, beside the work on other pages
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_step(mo_page_optim *optim, size_t tensor,
    const mo_optim_desc *desc, uint64_t t, float *param, const float *grad);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_step_bf16(mo_page_optim *optim, size_t tensor,
    const mo_optim_desc *desc, uint64_t t, uint16_t *param, const float *grad);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_master_init(
    mo_page_optim *optim, size_t tensor, const uint16_t *param);

/* mo_page_optim_read - the states of a tensor as one state in memory, for a checkpoint (see
 * mo_optim_file.h). mo_page_optim_write - from one.
 *
 * state  of mo_optim_state_init with the tensor's desc and n; read overwrites what it points to
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, tensor, a state of another shape), those of mo_page_acquire
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_read(
    mo_page_optim *optim, size_t tensor, const mo_optim_state *state);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_optim_write(
    mo_page_optim *optim, size_t tensor, const mo_optim_state *state);

#endif
