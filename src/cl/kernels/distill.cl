/* distill.cl - rows of a student's logits beside a teacher's, see mo_distill.h. Behind loss_row.cl.
 *
 * groups  rows
 *
 * check: -DMO_GRADIENT=0 -DMO_WIDE=0
 * check: -DMO_GRADIENT=1 -DMO_WIDE=0
 * check: -DMO_GRADIENT=1 -DMO_WIDE=1
 *
 * MO_WIDE  1: indices are uint, else ushort */
#ifndef MO_WIDE
#define MO_WIDE 0
#endif
#if MO_WIDE
#define MO_INDEX uint
#else
#define MO_INDEX ushort
#endif

/* Sum of e^(teacher's exponent) times how much more it is than the student's. */
static inline float mo_kd_dot(__global const float *q, float most_q, __global const float *l,
    float most, uint n, float factor, __local float *scratch) {
    float sum = 0.0f;
    uint i = 0;
#if MEMOPT_WG == 1
    float16 sums = 0.0f;
    for (; i + 15 < n; i += 16) {
        const float16 x = (vload16(0, q + i) - most_q) * factor;
        sums += mo_exp16(x) * (x - (vload16(0, l + i) - most) * factor);
    }
    sum = mo_sum16(sums);
#endif
    for (i += (uint)get_local_id(0); i < n; i += MEMOPT_WG) {
        const float x = (q[i] - most_q) * factor;
        sum += mo_exp(x) * (x - (l[i] - most) * factor);
    }
    return mo_group_sum(sum, scratch);
}

#if MO_GRADIENT
/* l[i] = a e^x - b + c e^(x factor),  x = l[i] - most */
static inline void mo_kd_gradient(
    __global float *l, uint n, mo_loss_row r, float factor, float c) {
    uint i = 0;
#if MEMOPT_WG == 1
    for (; i + 15 < n; i += 16) {
        const float16 x = vload16(0, l + i) - r.most;
        vstore16(mo_exp16(x) * r.a - r.b + mo_exp16(x * factor) * c, 0, l + i);
    }
#endif
    for (i += (uint)get_local_id(0); i < n; i += MEMOPT_WG) {
        const float x = l[i] - r.most;
        l[i] = mo_exp(x) * r.a - r.b + mo_exp(x * factor) * c;
    }
}

/* l[i] -= d e^((q[i] - most_q) factor) */
static inline void mo_kd_less(
    __global float *l, __global const float *q, uint n, float most_q, float factor, float d) {
    uint i = 0;
#if MEMOPT_WG == 1
    for (; i + 15 < n; i += 16)
        vstore16(vload16(0, l + i) - mo_exp16((vload16(0, q + i) - most_q) * factor) * d, 0, l + i);
#endif
    for (i += (uint)get_local_id(0); i < n; i += MEMOPT_WG)
        l[i] -= mo_exp((q[i] - most_q) * factor) * d;
}
#endif

/* What both kernels have in common: a row, its target, the factors of both parts. */
typedef struct mo_kd_row {
    __global float *l, *loss;
    uint target, outside, ignored;
    float weight, ce, kd; /* what gradients are multiplied with */
} mo_kd_row;

#define MO_KD_ROW_ARGUMENTS(R) /* R: restrict, which helpers do not have */                        \
    __global float *R logits, ulong logits_off, __global const int *R targets, ulong targets_off,  \
        __global float *R losses, ulong losses_off, __global const float *R weights,               \
        ulong weights_off, __global const uint *R counted, ulong counted_off, uint vocab,          \
        float scale, float label_smoothing, float z_loss, int ignore_index, uint flags,            \
        float temperature, float kd_weight

static inline mo_kd_row mo_kd_row_of(MO_KD_ROW_ARGUMENTS()) {
    const ulong row = get_group_id(0);
    mo_kd_row r;
    (void)label_smoothing, (void)z_loss;
    r.l = logits + logits_off + row * vocab;
    r.loss = losses + losses_off + row;
    r.target = flags & MO_LOSS_TARGETS ? (uint)targets[targets_off + row] : 0u;
    r.ignored = (flags & MO_LOSS_TARGETS) && (flags & MO_LOSS_IGNORE) &&
                r.target == (uint)ignore_index;
    r.outside = !r.ignored && r.target >= vocab;
    r.weight = flags & MO_LOSS_WEIGHTS ? weights[weights_off + row] : 1.0f;
    const float factor = r.weight * mo_loss_scale(scale, counted + counted_off, flags);
    r.ce = factor * (1.0f - kd_weight);
    r.kd = factor * kd_weight * temperature;
    return r;
}
#define MO_KD_ROW                                                                                  \
    mo_kd_row_of(logits, logits_off, targets, targets_off, losses, losses_off, weights,            \
        weights_off, counted, counted_off, vocab, scale, label_smoothing, z_loss, ignore_index,    \
        flags, temperature, kd_weight)

/* The loss of the mixture, less the target's part of it, which its item adds. */
static inline float mo_kd_mix(float rest, float kl, float temperature, float kd_weight) {
    const float ce = kd_weight == 1.0f ? 0.0f : (1.0f - kd_weight) * rest;
    return ce + kd_weight * temperature * temperature * kl;
}

/* A teacher's rows beside the student's. */
MO_KERNEL void mo_cl_linear_kd_rows(
    MO_KD_ROW_ARGUMENTS(restrict), __global const float *restrict teacher, ulong teacher_off) {
    __local float scratch[MEMOPT_WG];
    const mo_kd_row k = MO_KD_ROW;
    __global const float *q = teacher + teacher_off + get_group_id(0) * vocab;
    if (k.ignored || k.outside) {
        mo_loss_none(k.l, vocab, k.loss, k.outside ? MO_LOSS_OUTSIDE : 0.0f);
        return;
    }
    const float factor = 1.0f / temperature, s = label_smoothing;
    const mo_loss_row r = mo_loss_row_of(k.l, vocab, k.ce, s, z_loss, scratch);
    const float sum = mo_loss_whole(k.l, vocab, factor, scratch).y;
    const float2 whole_q = mo_loss_whole(q, vocab, factor, scratch);
    const float dot = mo_kd_dot(q, whole_q.x, k.l, r.most, vocab, factor, scratch);
    const float kl = dot / whole_q.y - log(whole_q.y) + log(sum);
    const float mix = mo_kd_mix(r.rest, kl, temperature, kd_weight);
    const uint owner = get_local_id(0) == k.target % MEMOPT_WG;
    const float of_target = (1.0f - kd_weight) * (1.0f - s);
    const float at_target = owner ? of_target * (k.l[k.target] - r.most) : 0.0f;
    if (owner) *k.loss = k.weight * (mix - at_target);
#if MO_GRADIENT
    mo_kd_gradient(k.l, vocab, r, factor, k.kd / sum);
    mo_kd_less(k.l, q, vocab, whole_q.x, factor, k.kd / whole_q.y);
    if (owner) k.l[k.target] -= r.c;
#endif
}

static inline float mo_kd_prob(__global const ushort *log_probs, ulong i, float norm) {
    return exp(vload_half(i, (__global const half *)log_probs)) / norm;
}

/* The teacher's k largest. The sum over the others is taken without the k, which are -INFINITY
 * then, as it may be next to nothing beside them. */
MO_KERNEL void mo_cl_linear_kd_topk_rows(MO_KD_ROW_ARGUMENTS(restrict),
    __global float *restrict kept_logits, ulong kept_off,
    __global const MO_INDEX *restrict all_indices, ulong indices_off,
    __global const ushort *restrict all_log_probs, ulong log_probs_off, uint n) {
    __local float scratch[MEMOPT_WG];
    const mo_kd_row k = MO_KD_ROW;
    const uint item = (uint)get_local_id(0);
    __global float *kept = kept_logits + kept_off + get_group_id(0) * n;
    __global const MO_INDEX *indices = all_indices + indices_off + get_group_id(0) * n;
    __global const ushort *log_probs = all_log_probs + log_probs_off + get_group_id(0) * n;
    float bad = 0.0f, own = 0.0f, total = 0.0f, kl = 0.0f;
    for (uint j = item; j < n; j += MEMOPT_WG) bad = indices[j] >= vocab ? 1.0f : bad;
    bad = mo_group_max(bad, scratch);
    if (k.ignored || k.outside || bad > 0.0f) {
        mo_loss_none(k.l, vocab, k.loss, k.ignored ? 0.0f : MO_LOSS_OUTSIDE);
        return;
    }
    const float factor = 1.0f / temperature, s = label_smoothing;
    const mo_loss_row r = mo_loss_row_of(k.l, vocab, k.ce, s, z_loss, scratch);
    const uint owner = item == k.target % MEMOPT_WG;
    const float of_target = (1.0f - kd_weight) * (1.0f - s);
    const float at_target = owner ? of_target * (k.l[k.target] - r.most) : 0.0f;
    mo_row_barrier();
    for (uint j = item; j < n; j += MEMOPT_WG) kept[j] = k.l[indices[j]];
    mo_row_barrier();
    for (uint j = item; j < n; j += MEMOPT_WG) k.l[indices[j]] = -INFINITY;
    mo_row_barrier();
    const float2 others = mo_loss_whole(k.l, vocab, factor, scratch);
    const float rest = fmax(others.y * mo_exp((others.x - r.most) * factor), 8.7e-27f);
    for (uint j = item; j < n; j += MEMOPT_WG) {
        own += exp((kept[j] - r.most) * factor);
        total += mo_kd_prob(log_probs, j, 1.0f);
    }
    total = mo_group_sum(total, scratch);
    const float sum = mo_group_sum(own, scratch) + (n == vocab ? 0.0f : rest), log_sum = log(sum);
    const float left = n == vocab || total >= 1.0f ? 0.0f : 1.0f - total;
    const float norm = left > 0.0f ? 1.0f : total;
    for (uint j = item; j < n; j += MEMOPT_WG) {
        const float p = mo_kd_prob(log_probs, j, norm);
        if (p > 0.0f) kl += p * (log(p) - (kept[j] - r.most) * factor + log_sum);
    }
    kl = mo_group_sum(kl, scratch);
    if (left > 0.0f) kl += left * (log(left) - log(rest) + log_sum);
    if (owner) *k.loss = k.weight * (mo_kd_mix(r.rest, kl, temperature, kd_weight) - at_target);
#if MO_GRADIENT
    mo_kd_gradient(k.l, vocab, r, factor, k.kd * (1.0f - left * sum / rest) / sum);
    mo_row_barrier();
    for (uint j = item; j < n; j += MEMOPT_WG) {
        const float x = kept[j] - r.most;
        k.l[indices[j]] = exp(x) * r.a - r.b +
                          k.kd * (exp(x * factor) / sum - mo_kd_prob(log_probs, j, norm));
    }
    mo_row_barrier();
    if (owner) k.l[k.target] -= r.c;
#endif
}

/* Least of one index from each item. */
static inline uint mo_topk_least(uint x, __local uint *scratch) {
#if MEMOPT_WG > 1
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[get_local_id(0)] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < MEMOPT_WG; i++) x = scratch[i] < x ? scratch[i] : x;
#else
    (void)scratch;
#endif
    return x;
}

/* The n largest of each row, one sweep for each: the first of the largest below the one before. */
MO_KERNEL void mo_cl_linear_kd_topk(__global const float *restrict logits, ulong logits_off,
    __global MO_INDEX *restrict indices, ulong indices_off, __global ushort *restrict log_probs,
    ulong log_probs_off, uint vocab, uint n, float temperature) {
    __local float scratch[MEMOPT_WG];
    __local uint places[MEMOPT_WG];
    const ulong to = get_group_id(0) * n;
    __global const float *l = logits + logits_off + get_group_id(0) * vocab;
    const float2 whole = mo_loss_whole(l, vocab, 1.0f / temperature, scratch);
    float last = INFINITY;
    uint last_at = 0;
    for (uint j = 0; j < n; j++) {
        float most = -INFINITY;
        uint at = vocab;
        for (uint i = (uint)get_local_id(0); i < vocab; i += MEMOPT_WG) {
            const bool left = l[i] < last || (l[i] == last && i > last_at);
            if (left && (at == vocab || l[i] > most)) most = l[i], at = i;
        }
        last = mo_group_max(most, scratch);
        last_at = mo_topk_least(most == last ? at : vocab, places);
        if (get_local_id(0) != 0) continue;
        indices[indices_off + to + j] = (MO_INDEX)(last_at < vocab ? last_at : 0u); /* NaN */
        vstore_half_rte((last - whole.x) / temperature - log(whole.y), to + j,
            (__global half *)(log_probs + log_probs_off));
    }
}
