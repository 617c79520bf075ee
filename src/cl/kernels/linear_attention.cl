/* linear_attention.cl - linear attention, see mo_linear_attention.h: four sums of one form, and
 * what stands around them. Behind math.cl.
 *
 *   y[t] = sum over j of (a[t] b[j]) x[j] = a[t] S[t],  S[t] = sum of b[j]^T x[j]
 *
 *   MO_PART  a         b         x         y                           t sees
 *   0        f(q)      f(k)      v and 1   out norm, and norm behind   those in front
 *   1        u         v and 1   f(k)      gradient of f(q)            those in front
 *   2        v and 1   u         f(q)      gradient of f(k)            those behind
 *   3        f(k)      f(q)      u         dv                          those behind
 *
 * u is dout / norm, and behind it -dout out / norm. A group has MO_COLUMNS columns of the state S
 * of one head, an item some of them, and takes one position after the other.
 *
 * groups  batch * heads * ceil(columns / MO_COLUMNS), columns n + 1 where MO_PART is 0, else n
 *
 * MO_HEAD  most elements of a head, at least n, a multiple of 16
 * MO_PER   where MEMOPT_WG is 1: columns of an item / 16
 *
 * check: -DMO_PART=0 -DMO_HEAD=64 -DMO_PER=5
 * check: -DMO_PART=1 -DMO_HEAD=64 -DMO_PER=4
 * check: -DMO_PART=2 -DMO_HEAD=64 -DMO_PER=4
 * check: -DMO_PART=3 -DMO_HEAD=64 -DMO_PER=4 */

#define MO_WIDE (MO_HEAD + 1)
#if MEMOPT_WG == 1
#define MO_ROWS    16u
#define MO_STEP    1u
#define MO_COLUMNS (16u * MO_PER)
#define MO_PITCH   (MO_HEAD + 96) /* zeros behind the last column */
#define MO_LOCAL
#define MO_BARRIER()
#define MO_BARRIER_GLOBAL()
#define MO_UNROLL
#else
#define MO_ROWS      1u
#define MO_STEP      4u /* positions that are loaded at once */
#define MO_COLUMNS   (uint)MEMOPT_WG
#define MO_PITCH     MO_WIDE
#define MO_LOCAL     __local
#define MO_BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define MO_BARRIER_GLOBAL() barrier(CLK_GLOBAL_MEM_FENCE) /* all have read norm */
#if MEMOPT_WG >= 32
#define MO_UNROLL _Pragma("unroll")
#else
#define MO_UNROLL
#endif
#endif

/* y = elu(x) + 1 of n numbers, and zeros behind */
static inline void mo_linear_features(__global const float *x, uint n, MO_LOCAL float *y) {
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    for (; i + 15 < n; i += 16) {
        const float16 v = vload16(0, x + i);
        vstore16(select(mo_exp16(v), v + 1.0f, v > 0.0f), 0, y + i);
    }
#endif
    for (; i < n; i += MEMOPT_WG) y[i] = x[i] > 0.0f ? x[i] + 1.0f : mo_exp(x[i]);
    for (; i < MO_PITCH; i += MEMOPT_WG) y[i] = 0.0f;
}

/* y = n numbers times scale, then last, and zeros behind */
static inline void mo_linear_wide(
    __global const float *x, float scale, float last, uint n, MO_LOCAL float *y) {
    uint i = (uint)get_local_id(0);
    for (; i < n; i += MEMOPT_WG) y[i] = x[i] * scale;
    for (; i < MO_PITCH; i += MEMOPT_WG) y[i] = i == n ? last : 0.0f;
}

/* S += b^T x, and y = a S, of the item's columns; rows of b and a count. */
#if MEMOPT_WG == 1
#define MO_STATE float16 s[MO_WIDE * MO_PER]
static inline void mo_linear_add(float16 *s, const float *b, const float *x, uint rows) {
    float16 xs[MO_PER];
    for (uint j = 0; j < MO_PER; j++) xs[j] = vload16(j, x);
    for (uint r = 0; r < rows; r++)
        for (uint j = 0; j < MO_PER; j++)
            s[r * MO_PER + j] = mo_mad16(xs[j], b[r], s[r * MO_PER + j]);
}
static inline void mo_linear_result(const float16 *s, const float *a, uint rows, float *y) {
    float16 ys[MO_PER];
    for (uint j = 0; j < MO_PER; j++) ys[j] = 0.0f;
    for (uint r = 0; r < rows; r++)
        for (uint j = 0; j < MO_PER; j++) ys[j] = mo_mad16(s[r * MO_PER + j], a[r], ys[j]);
    for (uint j = 0; j < MO_PER; j++) vstore16(ys[j], j, y);
}
#else
#define MO_STATE float s[MO_WIDE]
static inline __attribute__((always_inline)) void mo_linear_add(
    float *s, __local const float *b, __local const float *x, uint rows) {
    const float own = x[get_local_id(0)];
    (void)rows; /* b is 0 behind them */
    MO_UNROLL for (uint r = 0; r < MO_WIDE; r++) s[r] = mo_mad(own, b[r], s[r]);
}
static inline __attribute__((always_inline)) void mo_linear_result(
    const float *s, __local const float *a, uint rows, float *y) {
    float sum = 0.0f;
    (void)rows;
    MO_UNROLL for (uint r = 0; r < MO_WIDE; r++) sum = mo_mad(s[r], a[r], sum);
    *y = sum;
}
#endif

/* at, to, stat: the position's first element in q, in out, and its number in norm */
#define MO_FQ(y) mo_linear_features(q + q_off + at, n, y)
#define MO_FK(y) mo_linear_features(k + k_off + at, n, y)
#define MO_V1(y) mo_linear_wide(v + v_off + at, 1.0f, 1.0f, n, y)
#define MO_U(y)                                                                                    \
    mo_linear_wide(                                                                                \
        dout + dout_off + to, 1.0f / norm[norm_off + stat], dot[dot_off + stat], n, y)
#if MO_PART == 0 || MO_PART == 3
#define MO_BEHIND 0u /* elements of a and b behind n */
#else
#define MO_BEHIND 1u
#endif
#if MO_PART == 0
#define MO_A MO_FQ
#define MO_B MO_FK
#define MO_X MO_V1
#elif MO_PART == 1
#define MO_A MO_U
#define MO_B MO_V1
#define MO_X MO_FK
#define MO_D MO_FQ
#elif MO_PART == 2
#define MO_A MO_V1
#define MO_B MO_U
#define MO_X MO_FQ
#define MO_D MO_FK
#else
#define MO_A MO_FK
#define MO_B MO_FQ
#define MO_X MO_U
#endif

MO_KERNEL void mo_cl_linear_attention_sum(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
#if MO_PART == 0
    __global float *restrict norm, ulong norm_off,
#else
    __global const float *restrict norm, ulong norm_off, __global const float *restrict dout,
    ulong dout_off, __global const float *restrict dot, ulong dot_off,
#endif
    __global float *restrict result, ulong result_off, uint seq, uint heads, uint n, ulong stride,
    uint full) {
    const uint columns = n + (MO_PART == 0), tiles = (columns + MO_COLUMNS - 1) / MO_COLUMNS;
    const uint id = (uint)get_group_id(0), head = id / tiles % heads, sequence = id / tiles / heads;
    const uint first = id % tiles * MO_COLUMNS, last = min(columns, first + MO_COLUMNS);
    const uint rows = n + MO_BEHIND;
    const ulong all = (ulong)sequence * seq, stats = ((ulong)sequence * heads + head) * seq;
    MO_LOCAL float a[MO_STEP * MO_PITCH], b[MO_STEP * MO_PITCH];
    MO_LOCAL float x[MO_STEP * MO_PITCH + MO_COLUMNS]; /* an item may have no column there */
#ifdef MO_D
    MO_LOCAL float d[MO_STEP * MO_PITCH]; /* 1, or the derivative of f below it */
#endif
    float y[MO_COLUMNS / MEMOPT_WG];
    MO_STATE;
    MO_UNROLL for (uint r = 0; r < sizeof s / sizeof *s; r++) s[r] = 0.0f;
    /* full: S is the sum of all positions before the first result */
    for (uint pass = full ? 0 : 1; pass < 2; pass++)
        for (uint begin = 0; begin < seq; begin += MO_STEP) {
            const uint steps = min(seq - begin, MO_STEP);
            MO_BARRIER();
            for (uint i = 0; i < steps; i++) {
                const uint t = MO_PART >= 2 ? seq - 1 - begin - i : begin + i;
                const ulong at = (all + t) * stride + head * n, stat = stats + t;
                const ulong to = ((all + t) * heads + head) * n;
                (void)to, (void)stat;
                MO_A(a + i * MO_PITCH);
                MO_B(b + i * MO_PITCH);
                MO_X(x + i * MO_PITCH);
#ifdef MO_D
                MO_D(d + i * MO_PITCH);
#endif
            }
            MO_BARRIER();
            for (uint i = 0; i < steps; i++) {
                const uint t = MO_PART >= 2 ? seq - 1 - begin - i : begin + i;
                if (!full || pass == 0)
                    mo_linear_add(s, b + i * MO_PITCH, x + i * MO_PITCH + first, rows);
                if (pass == 0) continue;
                mo_linear_result(s, a + i * MO_PITCH, rows, y);
                for (uint c = first + (uint)get_local_id(0); c < last; c += MEMOPT_WG) {
                    const float value = y[(c - first) / MEMOPT_WG];
#if MO_PART == 0
                    if (c < n) result[result_off + ((all + t) * heads + head) * n + c] = value;
                    else norm[norm_off + stats + t] = value;
#else
                    const ulong place = result_off + (all + t) * stride + head * n + c;
#ifdef MO_D
                    result[place] = value * min(d[i * MO_PITCH + c], 1.0f);
#else
                    result[place] = value;
#endif
#endif
                }
            }
        }
}

/* The rows of a head in out and norm; row r of out is head r % heads of a position. */
static inline ulong mo_linear_stat(ulong row, uint seq, uint heads) {
    const ulong position = row / heads;
    return (position / seq * heads + row % heads) * seq + position % seq;
}

/* norm += epsilon, out /= norm; groups: ceil(rows / MO_ROWS) */
MO_KERNEL void mo_cl_linear_attention_divide(__global float *restrict out, ulong out_off,
    __global float *restrict norm, ulong norm_off, float epsilon, ulong rows, uint seq, uint heads,
    uint n) {
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    for (ulong row = begin; row < min(rows, begin + MO_ROWS); row++) {
        const ulong stat = norm_off + mo_linear_stat(row, seq, heads);
        const float sum = norm[stat] + epsilon;
        __global float *to = out + out_off + row * n;
        MO_BARRIER_GLOBAL();
        for (uint i = (uint)get_local_id(0); i < n; i += MEMOPT_WG) to[i] /= sum;
        if (get_local_id(0) == 0) norm[stat] = sum;
    }
}

/* dot = -dout out / norm; groups: ceil(rows / MO_ROWS) */
MO_KERNEL void mo_cl_linear_attention_dot(__global const float *restrict out, ulong out_off,
    __global const float *restrict dout, ulong dout_off, __global const float *restrict norm,
    ulong norm_off, __global float *restrict dot, ulong dot_off, ulong rows, uint seq, uint heads,
    uint n) {
    __local float scratch[MEMOPT_WG];
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    for (ulong row = begin; row < min(rows, begin + MO_ROWS); row++) {
        const ulong stat = mo_linear_stat(row, seq, heads);
        float sum = 0.0f;
        for (uint i = (uint)get_local_id(0); i < n; i += MEMOPT_WG)
            sum = mo_mad(dout[dout_off + row * n + i], out[out_off + row * n + i], sum);
        sum = mo_group_sum(sum, scratch);
        if (get_local_id(0) == 0) dot[dot_off + stat] = -sum / norm[norm_off + stat];
    }
}
