/* loss_row.cl - a row of logits: its largest, its sums, its cross-entropy; joined in front of the
 * losses. Behind math.cl.
 *
 * MO_GRADIENT  1: the logits become their gradients */
#ifndef MO_GRADIENT
#define MO_GRADIENT 0
#endif

/* What of the optional arguments is there. */
#define MO_LOSS_IGNORE  1u
#define MO_LOSS_WEIGHTS 2u
#define MO_LOSS_COUNTED 4u
#define MO_LOSS_TARGETS 8u

#define MO_LOSS_OUTSIDE (-FLT_MAX) /* for a loss: it has no meaning */

/* Between accesses to the same element of a row by other items. */
static inline void mo_row_barrier(void) {
#if MEMOPT_WG > 1
    barrier(CLK_GLOBAL_MEM_FENCE);
#endif
}

/* This item's part of a row: the largest logit (x), and the sum of e^((logit - largest) factor)
 * (y), in one sweep: the sum is scaled anew whenever a block has a larger one. */
static inline float2 mo_loss_part(__global const float *l, uint n, float factor) {
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
        sums = sums * mo_exp16((mosts - now) * factor) +
               (mo_exp16((a - now) * factor) + mo_exp16((b - now) * factor)) +
               (mo_exp16((c - now) * factor) + mo_exp16((d - now) * factor));
        mosts = now;
    }
    most = mo_max16(mosts);
    sum = mo_sum16(sums * mo_exp16((mosts - most) * factor));
    for (; i < n; i++) {
        const float now = l[i] > most ? l[i] : most;
        sum = sum * mo_exp((most - now) * factor) + mo_exp((l[i] - now) * factor);
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
        sum *= mo_exp((most - now) * factor);
        for (uint k = 0; k < 8; k++) sum += mo_exp((v[k] - now) * factor);
        most = now;
    }
#endif
    return (float2)(most, sum);
}

/* The same of the whole row: every item gets it. */
static inline float2 mo_loss_whole(
    __global const float *l, uint n, float factor, __local float *scratch) {
    const float2 part = mo_loss_part(l, n, factor);
    const float most = mo_group_max(part.x, scratch);
    return (float2)(most, mo_group_sum(part.y * mo_exp((part.x - most) * factor), scratch));
}

/* mean of l[i] - most, in blocks: their sum may be large */
static inline float mo_loss_mean(
    __global const float *l, uint n, float most, __local float *scratch) {
    float sum = 0.0f;
    for (uint begin = (uint)get_local_id(0); begin < n; begin += 64 * MEMOPT_WG) {
        float part = 0.0f;
        for (uint k = 0; k < 64; k++)
            if (begin + k * MEMOPT_WG < n) part += l[begin + k * MEMOPT_WG] - most;
        sum += part;
    }
    return mo_group_sum(sum, scratch) / (float)n;
}

/* Cross-entropy: all of the loss but the target's part, and the gradient a e^(l[v] - most) - b, and
 * c less at the target. */
typedef struct mo_loss_row {
    float most, rest, a, b, c;
} mo_loss_row;

static inline mo_loss_row mo_loss_row_of(__global const float *l, uint n, float scale, float s,
    float z_loss, __local float *scratch) {
    mo_loss_row r;
    const float2 whole = mo_loss_whole(l, n, 1.0f, scratch);
    const float mean = s == 0.0f ? 0.0f : mo_loss_mean(l, n, whole.x, scratch);
    const float log_sum = log(whole.y), z = log_sum + whole.x;
    r.most = whole.x;
    r.rest = log_sum - s * mean + z_loss * z * z;
    r.a = scale * (1.0f + 2.0f * z_loss * z) / whole.y;
    r.b = scale * s / (float)n;
    r.c = scale * (1.0f - s);
    return r;
}

static inline float mo_loss_scale(float scale, __global const uint *counted, uint flags) {
    if (!(flags & MO_LOSS_COUNTED)) return scale;
    return *counted ? 1.0f / (float)*counted : 0.0f;
}

/* A row that has no gradient. */
static inline void mo_loss_none(
    __global float *l, uint n, __global float *loss, float value) {
    if (get_local_id(0) == 0) *loss = value;
#if MO_GRADIENT
    for (uint i = (uint)get_local_id(0); i < n; i += MEMOPT_WG) l[i] = 0.0f;
#else
    (void)l, (void)n;
#endif
}
