/* mo_cl_loss_internal.h - what the losses over chunks of logits share; never part of the public
 * header. */
#ifndef MEMOPT_CL_LOSS_INTERNAL_H
#define MEMOPT_CL_LOSS_INTERNAL_H

/* A sweep over chunks of logits: rows turns those of rows row.., in the workspace, into losses and,
 * where there is a dx, into gradients, in place. */
typedef struct moi_cl_loss_sweep {
    const mo_cl_linear_ce_desc *desc;
    const mo_cl_linear_ce_tensors *tensors;
    mo_status (*rows)(const struct moi_cl_loss_sweep *sweep, size_t row, size_t rows);
    const void *self; /* what rows needs besides */
} moi_cl_loss_sweep;

/* Everything is checked before anything is enqueued. needed: bytes of workspace, 0 = they do not
 * fit. Targets and losses may be missing where the caller says so. */
static mo_status moi_cl_loss_check(const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t,
    size_t needed, int has_targets, int has_losses);
static mo_status moi_cl_loss_run(const moi_cl_loss_sweep *sweep);
/* The loss of a sweep that has run; NULL = not wanted. */
static mo_status moi_cl_loss_get(
    const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t, double *loss);

/* The arguments that the kernels of rows have in common. */
static void moi_cl_loss_args(
    moi_cl_call *call, const moi_cl_loss_sweep *sweep, size_t row, size_t rows);

static size_t moi_cl_loss_chunk(const mo_cl_linear_ce_desc *d);
/* Rows row.. of a matrix of columns. */
static mo_cl_mem moi_cl_rows_of(const mo_cl_mem *mem, size_t row, size_t rows, size_t columns);
/* n losses from row on to the host; MO_E_INVALID, said aloud, where one has no meaning. */
static mo_status moi_cl_loss_fetch(
    mo_cl *cl, const mo_cl_mem *losses, size_t row, size_t n, float *to);

#endif
