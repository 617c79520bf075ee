/* loss.cl - rows of logits to losses and gradients, see mo_loss.h. Behind loss_row.cl.
 *
 * groups  rows; one for the count
 *
 * check: -DMO_GRADIENT=0
 * check: -DMO_GRADIENT=1 */

#if MO_GRADIENT
/* l[i] = a e^(l[i] - most) - b, less c at the target */
static inline void mo_loss_gradient(__global float *l, uint n, uint target, mo_loss_row r) {
    uint i = 0;
#if MEMOPT_WG == 1
    for (; i + 15 < n; i += 16)
        vstore16(mo_exp16(vload16(0, l + i) - r.most) * r.a - r.b, 0, l + i);
#endif
    for (i += (uint)get_local_id(0); i < n; i += MEMOPT_WG)
        l[i] = mo_exp(l[i] - r.most) * r.a - r.b;
    if ((uint)get_local_id(0) == target % MEMOPT_WG) l[target] -= r.c;
}
#endif

/* losses[row]: the loss times its weight; 0 where it does not count; MO_LOSS_OUTSIDE where the
 * target is outside the vocabulary. Neither of these rows has a gradient. */
MO_KERNEL void mo_cl_linear_ce_rows(__global float *restrict logits, ulong logits_off,
    __global const int *restrict targets, ulong targets_off, __global float *restrict losses,
    ulong losses_off, __global const float *restrict weights, ulong weights_off,
    __global const uint *restrict counted, ulong counted_off, uint vocab, float scale,
    float label_smoothing, float z_loss, int ignore_index, uint flags) {
    __local float scratch[MEMOPT_WG];
    const ulong row = get_group_id(0);
    const uint item = (uint)get_local_id(0);
    const uint target = (uint)targets[targets_off + row];
    __global float *l = logits + logits_off + row * vocab;
    if (flags & MO_LOSS_IGNORE && target == (uint)ignore_index) {
        mo_loss_none(l, vocab, losses + losses_off + row, 0.0f);
        return;
    }
    if (target >= vocab) {
        mo_loss_none(l, vocab, losses + losses_off + row, MO_LOSS_OUTSIDE);
        return;
    }
    const float weight = flags & MO_LOSS_WEIGHTS ? weights[weights_off + row] : 1.0f;
    const float factor = weight * mo_loss_scale(scale, counted + counted_off, flags);
    const mo_loss_row r = mo_loss_row_of(l, vocab, factor, label_smoothing, z_loss, scratch);
    if (item == target % MEMOPT_WG) /* whose element it is: the others may be ahead */
        losses[losses_off + row] =
            weight * (r.rest - (1.0f - label_smoothing) * (l[target] - r.most));
#if MO_GRADIENT
    mo_loss_gradient(l, vocab, target, r);
#endif
}

/* counted = rows; with MO_LOSS_IGNORE those whose target is another than ignore_index */
MO_KERNEL void mo_cl_linear_ce_count(__global const int *restrict targets, ulong targets_off,
    __global uint *restrict counted, ulong counted_off, uint rows, int ignore_index, uint flags) {
    __local uint scratch[MEMOPT_WG];
    uint n = 0;
    for (uint i = (uint)get_local_id(0); i < rows; i += MEMOPT_WG)
        n += !(flags & MO_LOSS_IGNORE) || targets[targets_off + i] != ignore_index;
    scratch[get_local_id(0)] = n;
#if MEMOPT_WG > 1
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    if (get_local_id(0) != 0) return;
    for (uint i = 1; i < MEMOPT_WG; i++) n += scratch[i];
    counted[counted_off] = n;
}
