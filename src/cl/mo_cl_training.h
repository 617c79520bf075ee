/* mo_cl_training.h - a device as the place of a training run that is planned: see mo_training.h. */
#ifndef MEMOPT_CL_TRAINING_H
#define MEMOPT_CL_TRAINING_H

#include "mo_cl_distill.h"
#include "mo_cl_loss.h"

/* mo_cl_training_target - what the plan of a run on this device needs to know: alignment and pieces
 * of its memory, and the workspace of its kernels.
 *
 * The device is used while the target is. No memory of it is taken.
 *
 * Threads: one at a time per device
 * Since:   0.1 */
MEMOPT_API mo_training_target mo_cl_training_target(mo_cl *cl);

/* mo_cl_training_ce_size - bytes of the loss, as its ce_size. mo_cl_training_kd_size - with a
 * teacher.
 *
 * desc  in  the CPU's, of which the sizes count
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_training_ce_size(const mo_linear_ce_desc *desc);
MEMOPT_API size_t mo_cl_training_kd_size(const mo_linear_kd_desc *desc);

#endif
