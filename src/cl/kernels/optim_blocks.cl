/* optim_blocks.cl - optimizer steps with states in blocks of 8-bit and 4-bit codes, see mo_optim.h.
 *
 * groups  ceil(n / MO_TILE): a group has whole blocks, one after the other
 *
 * MO_BLOCK  numbers per scale
 *
 * A block is decoded and updated, then its largest magnitudes are known, then it is encoded. An
 * item keeps its numbers in between, or, where they are more than registers hold, updates them
 * again.
 *
 * check: -DMO_KIND=0 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_BLOCK=256
 * check: -DMO_KIND=0 -DMO_STATE=1 -DMO_PARAM=1 -DMO_PLAIN_V=1 -DMO_BLOCK=256
 * check: -DMO_KIND=0 -DMO_STATE=3 -DMO_PARAM=2 -DMO_PLAIN_V=0 -DMO_BLOCK=128
 * check: -DMO_KIND=1 -DMO_STATE=1 -DMO_PARAM=1 -DMO_PLAIN_V=0 -DMO_BLOCK=256
 * check: -DMO_KIND=2 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_BLOCK=2048
 * check: -DMO_KIND=3 -DMO_STATE=1 -DMO_PARAM=2 -DMO_PLAIN_V=0 -DMO_BLOCK=256
 * check: -DMO_KIND=4 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=1 -DMO_BLOCK=256
 * check: -DMO_KIND=5 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_BLOCK=64
 * check: -DMO_KIND=6 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_BLOCK=256
 * check: -DMO_KIND=6 -DMO_STATE=1 -DMO_PARAM=1 -DMO_PLAIN_V=0 -DMO_BLOCK=512
 * check: -DMO_KIND=6 -DMO_STATE=3 -DMO_PARAM=1 -DMO_PLAIN_V=0 -DMO_BLOCK=4096
 * check: -DMO_KIND=7 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_BLOCK=256
 * check: -DMO_KIND=8 -DMO_STATE=1 -DMO_PARAM=1 -DMO_PLAIN_V=0 -DMO_BLOCK=256
 * check: -DMO_KIND=9 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_BLOCK=256 */

/* An item has runs of numbers that lie beside each other: one, or the two of a byte. */
#define MO_RUN       (MO_STATE == 3 ? 2u : 1u)
#define MO_ITEM_RUNS ((MO_BLOCK / MO_RUN + MEMOPT_WG - 1u) / MEMOPT_WG)
#define MO_ITEM      (MO_ITEM_RUNS * MO_RUN)

/* The numbers that an item keeps: all of them, or those of the run at hand. */
#define MO_AGAIN  (MEMOPT_WG > 1 && MO_ITEM > 4)
#define MO_KEPT   (MO_AGAIN ? MO_RUN : MO_ITEM)
#define MO_PASSES (MO_AGAIN ? MO_ITEM_RUNS : 1)

/* Number k of an item is number MO_AT(k) of the block. */
#if MEMOPT_WG == 1
#define MO_AT(k)               (k)
#define MO_NUMBERS(size, most) (size)
#define MO_RUNS(size)          (((size) + MO_RUN - 1u) / MO_RUN)
#else
#define MO_AT(k)                                                                                   \
    (((uint)get_local_id(0) + (k) / MO_RUN * MEMOPT_WG) * MO_RUN + (k) % MO_RUN)
#define MO_NUMBERS(size, most) (most)
#define MO_RUNS(size)          (MO_KEPT / MO_RUN)
#endif

/* Number `at` of the block: what is decoded of it, and what is kept as number k. */
#if MO_HAS_M
#define MO_M_OLD(x, at) x.m = mo_decoded(m_map, m_codes, at, m_scale);
#define MO_M_KEEP(x, k) new_m[k] = x.m;
#else
#define MO_M_OLD(x, at)
#define MO_M_KEEP(x, k)
#endif
#if MO_HAS_SLOW
#define MO_SLOW_OLD(x, at) x.slow = mo_decoded(m_map, slow_codes, at, slow_scale);
#define MO_SLOW_KEEP(x, k) new_slow[k] = x.slow;
#else
#define MO_SLOW_OLD(x, at)
#define MO_SLOW_KEEP(x, k)
#endif
#if MO_HAS_V
#define MO_V_OLD(x, at) x.v = mo_decoded(v_map, v_codes, at, v_scale);
#define MO_V_KEEP(x, k) new_v[k] = x.v;
#else
#define MO_V_OLD(x, at)
#define MO_V_KEEP(x, k)
#endif
#if MO_KIND == MO_ADAM_MINI
#define MO_DIVISOR_OLD(x, at) x.divisor = MO_DIVISOR(begin + (at));
#else
#define MO_DIVISOR_OLD(x, at)
#endif
#define MO_UPDATE(x, at)                                                                           \
    x.p = MO_PARAM_LOAD(begin + (at));                                                             \
    MO_M_OLD(x, at)                                                                                \
    MO_SLOW_OLD(x, at)                                                                             \
    MO_V_OLD(x, at)                                                                                \
    MO_DIVISOR_OLD(x, at)                                                                          \
    mo_update(f, g_at[begin + (at)], &x)
#define MO_KEEP(x, at, k)                                                                          \
    MO_PARAM_STORE(begin + (at), &noise, x.p);                                                     \
    MO_M_KEEP(x, k)                                                                                \
    MO_SLOW_KEEP(x, k)                                                                             \
    MO_V_KEEP(x, k)

/* What is found of a block, by the bits, as integers are in the order of the numbers. */
#define MO_MOST_M    0
#define MO_MOST_SLOW 1
#define MO_MOST_V    2
#define MO_GAP_V     3 /* from the smallest v that is not 0 to infinity */

/* The largest of all items. Of three places one is filled, one was just read by all, and one is
 * set to 0 for the next turn, so that a turn needs a single barrier; it also lies between the
 * reading of the old scales and the writing of the new ones. */
#if MEMOPT_WG == 1
#define MO_MOST_USE(name)
#define mo_most_all(most, name, turn)
#else
#define MO_MOST_USE(name)                                                                          \
    __local uint name[3][4];                                                                       \
    if (get_local_id(0) == 0)                                                                      \
        for (uint i = 0; i < 12; i++) name[i / 4][i % 4] = 0;                                      \
    barrier(CLK_LOCAL_MEM_FENCE)
static inline void mo_most_all(uint *most, __local uint (*all)[4], uint turn) {
    __local uint *now = all[turn % 3], *later = all[(turn + 2) % 3];
    for (uint i = 0; i < 4; i++)
        if (most[i] != 0) atomic_max(now + i, most[i]);
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (uint i = 0; i < 4; i++) most[i] = now[i];
    if (get_local_id(0) == 0)
        for (uint i = 0; i < 4; i++) later[i] = 0;
}
#endif

/* A block's new scale; returns what its numbers are multiplied with. */
static inline float mo_scale_of(float most, int root, __global float *absmax) {
    const uint bits = min(mo_magnitude(most), MO_INFINITY);
    const uint limit = MO_STATE == 1 ? MO_INFINITY : as_uint(3.4e38f) - 1u;
    const int usable = bits >= MO_LEAST && bits <= limit;
    const float scale = usable ? as_float(bits) : 0.0f;
    if (get_local_id(0) == 0) *absmax = root && usable ? -scale : scale;
    return usable ? 1.0f / scale : 0.0f;
}

/* The codes of the numbers x that an item keeps, which begin with its run `first`. zero: the code
 * of 0. */
static inline void mo_encode(const MO_CELLS *cells, float low, uint zero, uint no_zero,
    const float *x, float inverse, __global uchar *codes, uint first, uint size) {
    (void)low, (void)no_zero; /* 8 bits */
    for (uint r = 0; r < MO_RUNS(size); r++) {
        const uint i = MO_AT((first + r) * MO_RUN);
        if (MEMOPT_WG > 1 && i >= size) break;
#if MO_STATE == 1
        codes[i] = (uchar)mo_q8_code(cells, mo_q8_scaled(x[r], inverse, low), zero, no_zero);
#else
        const uint first = mo_q4_place(cells, x[2 * r] * inverse);
        const uint second = i + 1 < size ? mo_q4_place(cells, x[2 * r + 1] * inverse) : zero;
        codes[i / 2] = (uchar)(first << 4 | second);
#endif
    }
}

#define MO_M_ZERO (MO_STATE == 1 ? 127u : 7u)
#define MO_V_ZERO (MO_STATE == 1 && MO_V_MAP == 0 ? 127u : 0u)

MO_KERNEL void mo_cl_optim_step_blocks(MO_STEP_ARGS, __global const uint *restrict tables) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE, block = tile / MO_BLOCK;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const mo_noise noise = mo_noise_of(seed, offset + tile);
    __global const float *const g_at = grad + grad_off + tile;
    MO_PARAM_USE(tile);
    MO_MOST_USE(all);
#if MO_KIND == MO_ADAM_MINI
    MO_ROW_USE(tile);
#endif
#if MO_HAS_M
    float new_m[MO_KEPT];
    __global uchar *m_at = m + m_off + tile * MO_BYTES / 2;
    __global float *m_scales = m_absmax + m_absmax_off + block;
    MO_MAP_USE(m, tables, 0u, 0u);
    MO_CELLS_USE(m, tables, 0u, 0u);
#endif
#if MO_HAS_SLOW
    float new_slow[MO_KEPT];
    __global uchar *slow_at = slow + slow_off + tile * MO_BYTES / 2;
    __global float *slow_scales = slow_absmax + slow_absmax_off + block;
#endif
#if MO_HAS_V
    float new_v[MO_KEPT];
    __global uchar *v_at = v + v_off + tile * MO_BYTES / 2;
    __global float *v_scales = v_absmax + v_absmax_off + block;
    MO_MAP_USE(v, tables, MO_V_MAP, MO_V_NO_ZERO);
    MO_CELLS_USE(v, tables, MO_V_MAP, MO_V_NO_ZERO);
#endif
    for (uint turn = 0; turn * MO_BLOCK < size; turn++) {
        const uint begin = turn * MO_BLOCK, count = min(size - begin, (uint)MO_BLOCK);
        uint most[4] = {0, 0, 0, 0};
#if MO_HAS_M
        const float m_scale = m_scales[turn];
        __global uchar *m_codes = m_at + begin * MO_BYTES / 2;
#endif
#if MO_HAS_SLOW
        const float slow_scale = slow_scales[turn];
        __global uchar *slow_codes = slow_at + begin * MO_BYTES / 2;
#endif
#if MO_HAS_V
        const float v_scale = v_scales[turn];
        __global uchar *v_codes = v_at + begin * MO_BYTES / 2;
#endif
        for (uint k = 0; k < MO_NUMBERS(count, MO_ITEM); k++) {
            const uint at = MO_AT(k);
            if (MEMOPT_WG > 1 && at >= count) break;
            mo_number x;
            MO_UPDATE(x, at);
#if !MO_AGAIN
            MO_KEEP(x, at, k)
#endif
#if MO_HAS_M
            most[MO_MOST_M] = max(most[MO_MOST_M], mo_magnitude(x.m));
#endif
#if MO_HAS_SLOW
            most[MO_MOST_SLOW] = max(most[MO_MOST_SLOW], mo_magnitude(x.slow));
#endif
#if MO_HAS_V
            const uint bits = mo_magnitude(x.v);
            most[MO_MOST_V] = max(most[MO_MOST_V], bits);
            most[MO_GAP_V] = max(most[MO_GAP_V], bits ? MO_INFINITY - bits : 0u);
#endif
        }
        mo_most_all(most, all, turn);
#if MO_HAS_M
        const float to_m = mo_scale_of(as_float(most[MO_MOST_M]), 0, m_scales + turn);
#endif
#if MO_HAS_SLOW
        const float to_slow = mo_scale_of(as_float(most[MO_MOST_SLOW]), 0, slow_scales + turn);
#endif
#if MO_HAS_V
        const float most_v = as_float(most[MO_MOST_V]);
        const float least = as_float(MO_INFINITY - most[MO_GAP_V]);
        const int root = MO_STATE == 3 || least < (MO_MAY_ROOT ? most_v * 1e-3f : 0.0f);
        const float to_v = mo_scale_of(root ? sqrt(most_v) : most_v, root, v_scales + turn);
#endif
        for (uint part = 0; part < MO_PASSES; part++) {
#if MO_AGAIN
            for (uint k = 0; k < MO_RUN; k++) {
                const uint at = MO_AT(part * MO_RUN + k);
                if (at >= count) break;
                mo_number x;
                MO_UPDATE(x, at);
                MO_KEEP(x, at, k)
            }
#endif
#if MO_HAS_M
            mo_encode(m_cells, mo_map_value(m_map, 0u), MO_M_ZERO, 0u, new_m, to_m, m_codes, part,
                count);
#endif
#if MO_HAS_SLOW
            mo_encode(m_cells, mo_map_value(m_map, 0u), MO_M_ZERO, 0u, new_slow, to_slow,
                slow_codes, part, count);
#endif
#if MO_HAS_V
            if (root)
                for (uint k = 0; k < MO_NUMBERS(count, MO_KEPT); k++)
                    if (MEMOPT_WG == 1 || MO_AT(part * MO_RUN + k) < count)
                        new_v[k] = sqrt(new_v[k]);
            mo_encode(v_cells, mo_map_value(v_map, 0u), MO_V_ZERO, MO_V_NO_ZERO, new_v, to_v,
                v_codes, part, count);
#endif
        }
    }
}
