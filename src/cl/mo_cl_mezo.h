/* mo_cl_mezo.h - mo_mezo.h on a device. desc.parallel is ignored. */
#ifndef MEMOPT_CL_MEZO_H
#define MEMOPT_CL_MEZO_H

#include "mo_cl_heap.h"

/* mo_cl_mezo_perturb, mo_cl_mezo_step - bit for bit mo_mezo_perturb and mo_mezo_step on devices
 * that round square roots correctly (mo_cl_info).
 *
 * x, y  [n] float; y may be x
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  as mo_mezo_perturb; MO_E_INVALID (sizes), MO_E_UNSUPPORTED (does not build), what OpenCL
 *          says
 * Cost:    enqueued, not waited for
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_mezo_perturb(mo_cl *cl, const mo_mezo_desc *desc,
    uint64_t t, double times, mo_cl_mem x, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_mezo_step(
    mo_cl *cl, const mo_mezo_desc *desc, uint64_t t, double gradient, mo_cl_mem x, size_t n);

#endif
