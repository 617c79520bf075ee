/* loss.cl - rows of logits to losses and gradients, see mo_loss.h. Behind math.cl.
 *
 * groups  rows
 *
 * check: -DMO_GRADIENT=0
 * check: -DMO_GRADIENT=1
 *
 * MO_GRADIENT  1: the logits become their gradients */
#ifndef MO_GRADIENT
#define MO_GRADIENT 0
#endif

/* This item's part of a row: the largest logit (x), and the sum of e^(logit - largest) (y), in one
 * sweep: the sum is scaled anew whenever a block has a larger one. */
static inline float2 mo_loss_part(__global const float *l, uint n) {
    float most = -FLT_MAX, sum = 0.0f;
    uint i = 0;
#if MEMOPT_WG == 1
    float16 mosts = -FLT_MAX, sums = 0.0f;
    for (; i + 63 < n; i += 64) {
        const float16 a = vload16(0, l + i), b = vload16(1, l + i), c = vload16(2, l + i),
                      d = vload16(3, l + i);
        float16 now = select(a, b, b > a);
        const float16 other = select(c, d, d > c);
        now = select(now, other, other > now);
        now = select(mosts, now, now > mosts);
        sums = sums * mo_exp16(mosts - now) + (mo_exp16(a - now) + mo_exp16(b - now)) +
               (mo_exp16(c - now) + mo_exp16(d - now));
        mosts = now;
    }
    most = mo_max16(mosts);
    sum = mo_sum16(sums * mo_exp16(mosts - most));
    for (; i < n; i++) {
        const float now = l[i] > most ? l[i] : most;
        sum = sum * mo_exp(most - now) + mo_exp(l[i] - now);
        most = now;
    }
#else
    for (; i < n; i += 8 * MEMOPT_WG) {
        float v[8], now = most;
        for (uint k = 0; k < 8; k++) {
            const uint at = i + k * MEMOPT_WG + (uint)get_local_id(0);
            v[k] = at < n ? l[at] : -INFINITY;
            now = v[k] > now ? v[k] : now;
        }
        sum *= mo_exp(most - now);
        for (uint k = 0; k < 8; k++) sum += mo_exp(v[k] - now);
        most = now;
    }
#endif
    return (float2)(most, sum);
}

#if MO_GRADIENT
/* l[i] = scale (e^(l[i] - most) / sum - (i == target)) */
static inline void mo_loss_gradient(
    __global float *l, uint n, uint target, float most, float sum, float scale) {
    const float factor = scale / sum;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    for (; i + 15 < n; i += 16) vstore16(mo_exp16(vload16(0, l + i) - most) * factor, 0, l + i);
    for (; i < n; i++) l[i] = mo_exp(l[i] - most) * factor;
    l[target] -= scale;
#else
    for (; i < n; i += MEMOPT_WG) {
        const float e = mo_exp(l[i] - most) * factor;
        l[i] = i == target ? e - scale : e;
    }
#endif
}
#endif

/* losses[row] = log(sum_v e^l[v]) - l[target], or -1, which no loss is, where the target is outside
 * the vocabulary; the row has no gradient then. */
MO_KERNEL void mo_cl_linear_ce_rows(__global float *restrict logits, ulong logits_off,
    __global const int *restrict targets, ulong targets_off, __global float *restrict losses,
    ulong losses_off, uint vocab, float scale) {
    __local float scratch[MEMOPT_WG];
    const ulong row = get_group_id(0);
    const uint item = (uint)get_local_id(0);
    const uint target = (uint)targets[targets_off + row];
    __global float *l = logits + logits_off + row * vocab;
    if (target >= vocab) {
        if (item == 0) losses[losses_off + row] = -1.0f;
#if MO_GRADIENT
        for (uint i = item; i < vocab; i += MEMOPT_WG) l[i] = 0.0f;
#endif
        return;
    }
    const float2 part = mo_loss_part(l, vocab);
    const float most = mo_group_max(part.x, scratch);
    const float sum = mo_group_sum(part.y * mo_exp(part.x - most), scratch);
    if (item == target % MEMOPT_WG) /* whose element it is: the others may be ahead */
        losses[losses_off + row] = log(sum) - (l[target] - most);
#if MO_GRADIENT
    mo_loss_gradient(l, vocab, target, most, sum, scale);
#else
    (void)scale;
#endif
}
