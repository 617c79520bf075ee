/* double.cl - numbers of double precision that are not negative, with the bits that the CPU gets:
 * its own arithmetic where the device has it, integers where it has not.
 *
 * MO_DOUBLE  1 = the device has double
 *
 * Squares of floats, their sums and what becomes of them here are far inside the range of normal
 * doubles. Sums have the CPU's order: number i of a run goes to lane i % 16, and the lanes are
 * added one after the other. A lane belongs to one work-item; a team is the 16 lanes of a run. */

#if MO_DOUBLE
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
typedef double mo_double;

static inline mo_double mo_double_of(float x) { return (double)x; }
static inline mo_double mo_double_count(ulong n) { return (double)n; }
static inline mo_double mo_double_square(float x) { return (double)x * (double)x; }
static inline mo_double mo_double_add(mo_double a, mo_double b) { return a + b; }
static inline mo_double mo_double_mul(mo_double a, mo_double b) { return a * b; }
static inline mo_double mo_double_div(mo_double a, mo_double b) { return a / b; }
static inline float mo_double_float(mo_double a) { return (float)a; }
static inline ulong mo_double_bits(mo_double a) { return as_ulong(a); }

#else
typedef ulong mo_double; /* its bits */

#define MO_DOUBLE_INF 0x7ff0000000000000ul
#define MO_DOUBLE_ONE (1ul << 52) /* of the mantissa */

/* v * 2^(e - 1085), rounded; v in 2^62 .. 2^63 - 1, its last bit set when anything was cut off. */
static inline mo_double mo_double_round(ulong e, ulong v) {
    const ulong low = v & 0x3ff, kept = v >> 10;
    const ulong up = low > 0x200 || (low == 0x200 && (kept & 1)) ? 1 : 0;
    return ((e - 1) << 52) + kept + up; /* carries into the exponent by itself */
}
static inline ulong mo_double_mantissa(mo_double a) {
    return (a & (MO_DOUBLE_ONE - 1)) | MO_DOUBLE_ONE;
}

/* A float without its sign: exponent as in *e, and 24 bits with the first one set; 0 for zero. */
static inline uint mo_double_open(float x, int *e) {
    const uint bits = as_uint(x) & 0x7fffffff, field = bits >> 23, m = bits & 0x7fffff;
    const int shift = (int)clz(m) - 8;
    *e = field ? (int)field : 1 - shift;
    if (field) return m | 0x800000;
    return m ? m << shift : 0;
}
static inline mo_double mo_double_odd(float x) { /* infinity, NaN */
    return (as_uint(x) & 0x7fffff) ? MO_DOUBLE_INF | (MO_DOUBLE_ONE >> 1) : MO_DOUBLE_INF;
}
static inline mo_double mo_double_of(float x) {
    int e;
    const uint m = mo_double_open(x, &e);
    if (e == 255) return mo_double_odd(x);
    return m ? ((ulong)(e + 895) << 52) + ((ulong)m << 29) : 0;
}
static inline mo_double mo_double_square(float x) {
    int e;
    const uint m = mo_double_open(x, &e);
    const ulong square = (ulong)m * m;
    const uint top = (uint)(square >> 47); /* 0 or 1 */
    if (e == 255) return mo_double_odd(x);
    return m ? ((ulong)(2 * e + 768 + (int)top) << 52) + (square << (6 - top)) : 0;
}
static inline mo_double mo_double_count(ulong n) { /* below 2^53 */
    const uint high = (uint)(n >> 32);
    const uint zeros = high ? clz(high) : 32 + clz((uint)n);
    return n ? ((ulong)(1085 - zeros) << 52) + (n << zeros >> 11) : 0;
}

static inline mo_double mo_double_add(mo_double a, mo_double b) {
    const mo_double x = max(a, b), y = min(a, b);
    const ulong e = x >> 52, distance = e - (y >> 52);
    if (y == 0 || x >= MO_DOUBLE_INF) return x;
    const ulong small = mo_double_mantissa(y) << 10;
    ulong part = distance < 64 ? small >> (distance & 63) : 0;
    part |= distance >= 64 || part << (distance & 63) != small ? 1 : 0;
    const ulong sum = (mo_double_mantissa(x) << 10) + part;
    return sum >> 63 ? mo_double_round(e + 1, sum >> 1 | (sum & 1)) : mo_double_round(e, sum);
}
static inline mo_double mo_double_mul(mo_double a, mo_double b) {
    const ulong x = mo_double_mantissa(a) << 11, y = mo_double_mantissa(b) << 10;
    const ulong high = mul_hi(x, y), rest = x * y != 0 ? 1 : 0; /* high from 2^61 on */
    const ulong e = (a >> 52) + (b >> 52) - 1023;
    if (a >= MO_DOUBLE_INF || b >= MO_DOUBLE_INF) return max(a, b);
    if (a == 0 || b == 0) return 0;
    return high >> 62 ? mo_double_round(e + 1, high | rest)
                      : mo_double_round(e, high << 1 | rest);
}
static inline mo_double mo_double_div(mo_double a, mo_double b) { /* b: finite, not 0 */
    const ulong y = mo_double_mantissa(b);
    ulong rest = mo_double_mantissa(a), quotient = 0, e = (a >> 52) - (b >> 52) + 1023;
    if (a == 0 || a >= MO_DOUBLE_INF) return a;
    if (rest < y) rest <<= 1, e--;
    for (uint i = 0; i < 63; i++) {
        const ulong bit = rest >= y ? 1 : 0;
        quotient = quotient << 1 | bit;
        rest = (rest - bit * y) << 1;
    }
    return mo_double_round(e, quotient | (rest ? 1 : 0));
}
static inline float mo_double_float(mo_double a) {
    const int e = (int)(a >> 52) - 896; /* the float's exponent */
    const uint shift = e > 0 ? 29u : (uint)(30 - e);
    if (a >= MO_DOUBLE_INF) return as_float(a > MO_DOUBLE_INF ? 0x7fc00000u : 0x7f800000u);
    if (a == 0 || shift > 54) return 0.0f;
    const ulong m = mo_double_mantissa(a), half_way = 1ul << (shift - 1);
    const ulong low = m & (2 * half_way - 1);
    const uint kept = (uint)(m >> shift);
    const uint bits = kept + (low > half_way || (low == half_way && (kept & 1)) ? 1 : 0);
    return as_float(min(bits + (e > 0 ? (uint)(e - 1) << 23 : 0), 0x7f800000u));
}
static inline ulong mo_double_bits(mo_double a) { return a; }
#endif

/* ---- lanes ---------------------------------------------------------------------------------- */

#if MEMOPT_WG < 16
#define MO_TEAMS 1u
#define MO_EACH (16u / MEMOPT_WG) /* lanes of an item */
#else
#define MO_TEAMS (MEMOPT_WG / 16u)
#define MO_EACH 1u
#endif
#define MO_TEAM ((uint)get_local_id(0) / 16u)
#define MO_LANE(k) ((uint)get_local_id(0) % 16u + (k)*MEMOPT_WG) /* of an item, k < MO_EACH */

static inline void mo_lanes_clear(mo_double *lanes) {
    for (uint k = 0; k < MO_EACH; k++) lanes[k] = mo_double_of(0.0f);
}

/* The squares of x[0..n-1] into the lanes. */
static inline void mo_lanes_squares(mo_double *lanes, __global const float *x, ulong n) {
    const ulong body = n & ~15ul;
#if MO_DOUBLE && MEMOPT_WG == 1
    double16 sums = vload16(0, lanes);
    for (ulong i = 0; i < body; i += 16) {
        MO_PREFETCH(x + i, MO_AHEAD_BYTES);
        const double16 numbers = convert_double16(vload16(0, x + i));
        sums += numbers * numbers;
    }
    vstore16(sums, 0, lanes);
#else
    for (ulong i = 0; i < body; i += 16)
        for (uint k = 0; k < MO_EACH; k++)
            lanes[k] = mo_double_add(lanes[k], mo_double_square(x[i + MO_LANE(k)]));
#endif
    for (uint k = 0; k < MO_EACH; k++)
        if (body + MO_LANE(k) < n)
            lanes[k] = mo_double_add(lanes[k], mo_double_square(x[body + MO_LANE(k)]));
}

/* The sum of a team's lanes, for each of its items. all: room for 16 lanes of each team. */
#if MEMOPT_WG == 1
#define MO_LOCAL_LANES(all)
#define mo_lanes_total(lanes, all) mo_lanes_sum(lanes)
static inline mo_double mo_lanes_sum(const mo_double *lanes) {
    mo_double total = mo_double_of(0.0f);
    for (uint k = 0; k < 16; k++) total = mo_double_add(total, lanes[k]);
    return total;
}
#else
#define MO_LOCAL_LANES(all) __local mo_double all[16 * MO_TEAMS];
static inline mo_double mo_lanes_total(const mo_double *lanes, __local mo_double *all) {
    __local mo_double *team = all + 16 * MO_TEAM;
    mo_double total = mo_double_of(0.0f);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint k = 0; k < MO_EACH; k++) team[MO_LANE(k)] = lanes[k];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint k = 0; k < 16; k++) total = mo_double_add(total, team[k]);
    return total;
}
#endif

/* ---- parts ---------------------------------------------------------------------------------- */

#define MO_PARTS 64u

/* The first number of a part: runs of grain numbers, as many in each part as in the others, or one
 * more. */
static inline ulong mo_part_begin(ulong n, ulong grain, uint part) {
    const ulong grains = n / grain + (n % grain != 0 ? 1 : 0);
    return min((grains / MO_PARTS * part + min((ulong)part, grains % MO_PARTS)) * grain, n);
}

/* sum and the totals of the teams in their order. all: room for one of each team. */
#if MEMOPT_WG == 1
#define MO_LOCAL_TEAMS(all)
#define mo_teams_add(sum, total, all) mo_double_add(sum, total)
#else
#define MO_LOCAL_TEAMS(all) __local mo_double all[MO_TEAMS];
static inline mo_double mo_teams_add(mo_double sum, mo_double total, __local mo_double *all) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (MO_LANE(0) == 0) all[MO_TEAM] = total;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < MO_TEAMS; i++) sum = mo_double_add(sum, all[i]);
    return sum;
}
#endif
