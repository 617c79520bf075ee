/* attention_lanes.cl - what attention.cl takes where MEMOPT_WG is 1: 16 rows of a head in the lanes
 * of vectors, against blocks of MO_OTHER rows of the other side. Behind attention_mask.cl.
 *
 * With rows in lanes a score is a sum of vectors times numbers, the running softmax of the papers
 * works lane by lane, and nothing is summed across lanes. Lanes behind the last row repeat it. */

#if MEMOPT_WG == 1
#define MO_OTHER 32u
#define MO_LANES ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))

/* tile[c] = element c of 16 rows, and back. */
static inline void mo_lanes_load(
    __global const float *x, ulong stride, uint rows, uint n, float16 *tile) {
    float *t = (float *)tile;
    for (uint r = 0; r < 16; r++) {
        __global const float *from = x + min(r, rows - 1) * stride;
        for (uint c = 0; c < n; c++) t[c * 16 + r] = from[c];
    }
}
static inline void mo_lanes_store(
    const float16 *tile, uint rows, uint n, __global float *x, ulong stride) {
    const float *t = (const float *)tile;
    for (uint r = 0; r < rows; r++)
        for (uint c = 0; c < n; c++) x[r * stride + c] = t[c * 16 + r];
}
static inline float16 mo_lanes_row(__global const float *x, uint rows) {
    float v[16];
    for (uint r = 0; r < 16; r++) v[r] = x[min(r, rows - 1)];
    return vload16(0, v);
}
static inline void mo_lanes_zero(float16 *tile, uint n) {
    for (uint c = 0; c < n; c++) tile[c] = 0.0f;
}

/* s[k] = the lanes' rows times row k of y, MO_OTHER times; those from rows on repeat the last. */
static inline void mo_lanes_product(const float16 *tile, __global const float *y, ulong stride,
    uint rows, uint n, float16 *s) {
    for (uint k = 0; k < MO_OTHER; k += 8) {
        __global const float *y0 = y + min(k, rows - 1) * stride;
        __global const float *y1 = y + min(k + 1, rows - 1) * stride;
        __global const float *y2 = y + min(k + 2, rows - 1) * stride;
        __global const float *y3 = y + min(k + 3, rows - 1) * stride;
        __global const float *y4 = y + min(k + 4, rows - 1) * stride;
        __global const float *y5 = y + min(k + 5, rows - 1) * stride;
        __global const float *y6 = y + min(k + 6, rows - 1) * stride;
        __global const float *y7 = y + min(k + 7, rows - 1) * stride;
        float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
        float16 s4 = 0.0f, s5 = 0.0f, s6 = 0.0f, s7 = 0.0f;
        for (uint c = 0; c < n; c++) {
            const float16 t = tile[c];
            s0 = mo_mad16(t, y0[c], s0);
            s1 = mo_mad16(t, y1[c], s1);
            s2 = mo_mad16(t, y2[c], s2);
            s3 = mo_mad16(t, y3[c], s3);
            s4 = mo_mad16(t, y4[c], s4);
            s5 = mo_mad16(t, y5[c], s5);
            s6 = mo_mad16(t, y6[c], s6);
            s7 = mo_mad16(t, y7[c], s7);
        }
        s[k] = s0;
        s[k + 1] = s1;
        s[k + 2] = s2;
        s[k + 3] = s3;
        s[k + 4] = s4;
        s[k + 5] = s5;
        s[k + 6] = s6;
        s[k + 7] = s7;
    }
}

/* sum[c] = sum[c] shrink + the sum over k of p[k] times row k of y */
static inline void mo_lanes_accumulate(const float16 *p, __global const float *y, ulong stride,
    uint rows, uint n, float16 shrink, float16 *sum) {
    uint c = 0;
    for (; c + 7 < n; c += 8) {
        float16 s0 = sum[c] * shrink, s1 = sum[c + 1] * shrink;
        float16 s2 = sum[c + 2] * shrink, s3 = sum[c + 3] * shrink;
        float16 s4 = sum[c + 4] * shrink, s5 = sum[c + 5] * shrink;
        float16 s6 = sum[c + 6] * shrink, s7 = sum[c + 7] * shrink;
        for (uint k = 0; k < rows; k++) {
            __global const float *at = y + k * stride + c;
            const float16 t = p[k];
            s0 = mo_mad16(t, at[0], s0);
            s1 = mo_mad16(t, at[1], s1);
            s2 = mo_mad16(t, at[2], s2);
            s3 = mo_mad16(t, at[3], s3);
            s4 = mo_mad16(t, at[4], s4);
            s5 = mo_mad16(t, at[5], s5);
            s6 = mo_mad16(t, at[6], s6);
            s7 = mo_mad16(t, at[7], s7);
        }
        sum[c] = s0;
        sum[c + 1] = s1;
        sum[c + 2] = s2;
        sum[c + 3] = s3;
        sum[c + 4] = s4;
        sum[c + 5] = s5;
        sum[c + 6] = s6;
        sum[c + 7] = s7;
    }
    for (; c < n; c++) {
        float16 s = sum[c] * shrink;
        for (uint k = 0; k < rows; k++) s = mo_mad16(p[k], y[k * stride + c], s);
        sum[c] = s;
    }
}

/* The lanes' rows with the first and the last position that are less than window away. */
static inline int16 mo_lanes_back(int16 row, uint window) {
    return row - min(row, (int16)((int)window - 1));
}
static inline int16 mo_lanes_ahead(int16 row, uint window, uint seq) {
    return row + min((int16)((int)seq - 1) - row, (int16)((int)window - 1));
}

#if MO_DROP
/* The keys of the random bits of 16 rows. */
static inline uint16 mo_lanes_random_keys(ulong seed, ulong row) {
    uint keys[16];
    for (uint r = 0; r < 16; r++) keys[r] = mo_random_key(seed, (uint)(row + r));
    return vload16(0, keys);
}

/* What probabilities are multiplied with: 0, or kept; either the rows' key or the index is the same
 * for all lanes. */
static inline float16 mo_lanes_keep(uint16 key, uint16 index, uint dropped, float kept) {
    uint16 x = key ^ index;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x ^= x >> 16;
    return select((float16)kept, (float16)0.0f, x < dropped);
}
#endif
#endif
