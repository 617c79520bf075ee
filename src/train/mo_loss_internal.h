/* mo_loss_internal.h - what the losses over chunks of logits share; never part of the public
 * header. */
#ifndef MEMOPT_LOSS_INTERNAL_H
#define MEMOPT_LOSS_INTERNAL_H

/* Rows of a chunk of logits, turned into gradients in place. targets, weights and losses are those
 * of the chunk. */
typedef struct moi_loss_job {
    float *logits; /* [rows x vocab] */
    float *losses; /* [rows] */
    const int32_t *targets;
    const float *weights; /* NULL = 1 */
    size_t vocab;
    float scale, label_smoothing, z_loss;
    int gradient, ignore;
    int32_t ignore_index;
} moi_loss_job;

/* Cross-entropy of a row: the loss, and its gradient a e^(l[v] - most) - b, and c less at the
 * target. */
typedef struct moi_loss_row {
    float loss, a, b, c;
} moi_loss_row;

/* sum: of e^(l[v] - most). at_target, mean: of l[v] - most. */
static moi_loss_row moi_loss_row_of(
    const moi_loss_job *job, float scale, float most, float sum, float at_target, float mean);

/* Whether row i of the chunk counts. */
static int moi_loss_counts(const moi_loss_job *job, size_t i);
static float moi_loss_weight(const moi_loss_job *job, size_t i);

/* A sweep over chunks of logits: rows turns those of rows row.. into losses and, where there is a
 * dx, into gradients, in place. job is filled in for it, with this chunk's pointers. */
typedef struct moi_loss_sweep {
    const mo_linear_ce_desc *desc;
    const mo_linear_ce_tensors *tensors;
    mo_status (*rows)(struct moi_loss_sweep *sweep, size_t row, size_t rows);
    const void *self; /* what rows needs besides */
    moi_loss_job job;
} moi_loss_sweep;

/* Everything that is the caller's fault; needed: bytes of workspace, 0 = they do not fit. Targets
 * may be missing where the caller says so. */
static mo_status moi_loss_check(
    const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t, size_t needed, int has_targets);
static mo_status moi_loss_run(moi_loss_sweep *sweep, double *loss);
static size_t moi_loss_chunk(const mo_linear_ce_desc *d);

#endif
