/* mo_optim_low.h - the low-rank kinds of mo_optim on the CPU; never part of the public header. */
#ifndef MEMOPT_OPTIM_LOW_H
#define MEMOPT_OPTIM_LOW_H

struct moi_optim_job;

/* One step on a matrix whose gradients have a finite sum of squares, which is given. */
static void moi_low_run(
    const struct moi_optim_job *job, const mo_optim_desc *d, uint64_t t, double squares);

#endif
