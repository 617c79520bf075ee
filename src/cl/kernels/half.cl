/* half.cl - fp16, bf16 and fp8, see mo_half.h.
 *
 * groups  ceil(n / MO_TILE)
 *
 * MO_FORMAT      0 fp16, 1 bf16, 2 E4M3, 3 E5M2
 * MO_STOCHASTIC  0 to nearest, 1 at random; decoding: 0
 *
 * check: -DMO_FORMAT=0 -DMO_STOCHASTIC=0
 * check: -DMO_FORMAT=0 -DMO_STOCHASTIC=1
 * check: -DMO_FORMAT=1 -DMO_STOCHASTIC=0
 * check: -DMO_FORMAT=1 -DMO_STOCHASTIC=1
 * check: -DMO_FORMAT=2 -DMO_STOCHASTIC=0
 * check: -DMO_FORMAT=2 -DMO_STOCHASTIC=1
 * check: -DMO_FORMAT=3 -DMO_STOCHASTIC=0
 * check: -DMO_FORMAT=3 -DMO_STOCHASTIC=1 */

/* Width, mantissa, least exponent, NaN. */
#if MO_FORMAT == 0
#define MO_HALF_SHAPE 16u, 10u, -14, 0x7e00u
#elif MO_FORMAT == 2
#define MO_HALF_SHAPE 8u, 3u, -6, 0x7fu
#elif MO_FORMAT == 3
#define MO_HALF_SHAPE 8u, 2u, -14, 0x7eu
#endif

#if MO_FORMAT < 2
#define MO_HALF_CODE ushort
#else
#define MO_HALF_CODE uchar
#endif

static inline uint mo_half_code(float x, uint random) {
#if MO_FORMAT == 1
    return MO_STOCHASTIC ? mo_bf16_round_random(x, random) : mo_bf16_round(x);
#elif MO_FORMAT == 0
    return MO_STOCHASTIC ? mo_small_round_random(x, random, MO_HALF_SHAPE) : mo_f16_round(x);
#else
    return MO_STOCHASTIC ? mo_small_round_random(x, random, MO_HALF_SHAPE)
                         : mo_small_round(x, MO_HALF_SHAPE);
#endif
}

static inline float mo_half_value(uint code) {
#if MO_FORMAT == 0
    return mo_f16_value(code);
#elif MO_FORMAT == 1
    return mo_bf16_value(code);
#elif MO_FORMAT == 2
    return mo_e4m3_value(code);
#else
    return mo_e5m2_value(code);
#endif
}

/* y[i] = x[i] rounded; limit: the bits of the largest |x|, what is more becomes that; number i has
 * the random bits of index offset + i under seed. */
MO_KERNEL void mo_cl_half_encode(__global const float *restrict x, ulong x_off,
    __global MO_HALF_CODE *restrict y, ulong y_off, ulong n, uint limit, ulong seed,
    ulong offset) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const ulong index = offset + tile;
    const uint first = (uint)index, high = (uint)(index >> 32);
    const uint key = mo_random_key(seed, high), next = mo_random_key(seed, high + 1u);
    __global const float *from = x + x_off + tile;
    __global MO_HALF_CODE *to = y + y_off + tile;
    uint i = (uint)get_local_id(0);
#if MO_STREAMS && MO_FORMAT == 1 && !MO_STOCHASTIC /* the others cost more than a line read */
#define MO_CODE(k) (MO_HALF_CODE)mo_half_code(mo_clamp(v.s##k, limit), 0u)
    if (MO_STREAM_LARGE(MO_HALF_CODE, n)) {
        const uint head = min(size, MO_STREAM_HEAD(MO_HALF_CODE, to));
        for (; i < head; i++) to[i] = (MO_HALF_CODE)mo_half_code(mo_clamp(from[i], limit), 0u);
        for (; i + 8u <= size; i += 8u) {
            const float8 v = vload8(0, from + i);
            MO_PREFETCH(from + i, MO_AHEAD_BYTES);
            MO_STREAM_8(MO_HALF_CODE, MO_8_OF(MO_HALF_CODE, MO_CODE), to + i);
        }
        MO_STREAM_END();
    }
#endif
    for (; i < size; i += MEMOPT_WG) {
        const uint random = MO_STOCHASTIC ? mo_random_at(first, i, key, next) : 0u;
        to[i] = (MO_HALF_CODE)mo_half_code(mo_clamp(from[i], limit), random);
    }
}

/* y[i] = the number of x[i] */
MO_KERNEL void mo_cl_half_decode(__global const MO_HALF_CODE *restrict x, ulong x_off,
    __global float *restrict y, ulong y_off, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const MO_HALF_CODE *from = x + x_off + tile;
    __global float *to = y + y_off + tile;
    uint i = (uint)get_local_id(0);
#if MO_STREAMS
#define MO_VALUE(k) mo_half_value(v.s##k)
    if (MO_STREAM_LARGE(float, n)) {
        const uint head = min(size, MO_STREAM_HEAD(float, to));
        for (; i < head; i++) to[i] = mo_half_value(from[i]);
        for (; i + 8u <= size; i += 8u) {
            const MO_VECTOR_8(MO_HALF_CODE) v = vload8(0, from + i);
            MO_STREAM_8(float, MO_8_OF(float, MO_VALUE), to + i);
        }
        MO_STREAM_END();
    }
#endif
    for (; i < size; i += MEMOPT_WG) to[i] = mo_half_value(from[i]);
}
