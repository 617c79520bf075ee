/* mezo.cl - numbers moved along a normal direction, see mo_mezo.h; the bits of mo_mezo.inc.
 *
 * groups  ceil(n / MO_TILE)
 *
 * The factors are those of moi_mezo_factors, in their order. */

/* -2 ln u, 2^-24 <= u <= 1 */
static inline float mo_minus_2_log(float u) {
    const int power = as_int(as_uint(u) - 0x3f3504f3u) >> 23;
    const float e = (float)power, f = as_float(as_uint(u) - ((uint)power << 23)) - 1.0f;
    const float square = f * f;
    float y = 7.0376836292e-2f;
    y = y * f + -1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f + -1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f + -1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f + -2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * (f * square);
    y = y + e * -2.12194440e-4f;
    y = (y - square * 0.5f) + f;
    return (y + e * 0.693359375f) * -2.0f;
}

/* cos(pi/2 t), 0 <= t < 4 */
static inline float mo_quarter_cos(float t) {
    const float whole = rint(t), x = (t - whole) * 1.57079633f, z = x * x;
    const uint quarter = (uint)whole;
    float c = z * 2.443315711e-5f + -1.388731625e-3f;
    c = c * z + 4.166664568e-2f;
    c = c * (z * z) - z * 0.5f + 1.0f;
    float s = z * -1.9515295891e-4f + 8.3321608736e-3f;
    s = s * z + -1.6666654611e-1f;
    s = s * z * x + x;
    return as_float(as_uint(quarter & 1u ? s : c) ^ ((quarter + 1u) & 2u) << 30);
}

static inline float mo_24_bits(uint random) { return (float)(random >> 8); }

/* Large numbers stay as they are. */
static inline float mo_whole(float x) { return fabs(x) < 4194304.0f ? rint(x) : x; }

MO_KERNEL void mo_cl_mezo_move(__global const float *x, ulong x_off, __global float *y, ulong y_off,
    float8 f, ulong seed, ulong offset, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const uint first = (uint)(offset + tile), high = (uint)((offset + tile) >> 32);
    __global const float *from = x + x_off + tile;
    __global float *to = y + y_off + tile;
    uint key[3], next[3];
    for (uint k = 0; k < 3; k++) {
        key[k] = mo_random_key(seed + k, high);
        next[k] = mo_random_key(seed + k, high + 1u);
    }
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float u = (mo_24_bits(mo_random_at(first, i, key[0], next[0])) + 1.0f) * 0x1p-24f;
        const float t = mo_24_bits(mo_random_at(first, i, key[1], next[1])) * 0x1p-22f;
        const float by = f.s2 * (sqrt(mo_minus_2_log(u)) * mo_quarter_cos(t));
        const float at = from[i];
        const float random = mo_24_bits(mo_random_at(first, i, key[2], next[2])) * 0x1p-24f;
        const float exact = (at * f.s1 + by) * f.s5;
        const float units = f.s6 != 0.0f ? exact + (random - 0.5f) : exact;
        const float on_grid = (mo_whole(at * f.s5) + mo_whole(units) * f.s3) * f.s4;
        to[i] = f.s4 == 0.0f ? at * f.s0 + by : on_grid;
    }
}
