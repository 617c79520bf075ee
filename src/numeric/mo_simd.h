/* mo_simd.h - one vector of floats under one name for every instruction set.
 *
 * A kernel is written once, in a .inc file, against the MOI_V names at the end of this file, and
 * included once for each instruction set with MOI_ISA defined as scalar, avx2, avx512 or neon. The
 * scalar instance (one lane) is the specification that the others must match. MOI_DISPATCH calls
 * the instance for the CPU. */
#ifndef MEMOPT_SIMD_H
#define MEMOPT_SIMD_H

#define MOI_CAT_(a, b) a##_##b
#define MOI_CAT(a, b)  MOI_CAT_(a, b)
#define MOI_TARGET_scalar
#define MOI_TARGET_neon
#define MOI_TARGET_avx2   MOI_TARGET_("avx2,fma,f16c")
#define MOI_TARGET_avx512 MOI_TARGET_("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#define MOI_INLINE_scalar MOI_ALWAYS_INLINE
#define MOI_INLINE_neon   MOI_ALWAYS_INLINE
#define MOI_INLINE_avx2   MOI_TARGET_avx2 MOI_ALWAYS_INLINE
#define MOI_INLINE_avx512 MOI_TARGET_avx512 MOI_ALWAYS_INLINE

/* ---- scalar: one lane ---------------------------------------------------------------------- */

typedef float moi_v_scalar;
typedef uint32_t moi_vi_scalar;
typedef int moi_vm_scalar;
enum { moi_lanes_scalar = 1 };

MOI_ALWAYS_INLINE float moi_load_scalar(const float *p) { return *p; }
MOI_ALWAYS_INLINE void moi_store_scalar(float *p, float v) { *p = v; }
MOI_ALWAYS_INLINE void moi_stream_scalar(float *p, float v) { *p = v; }
MOI_ALWAYS_INLINE void moi_prefetch_scalar(const void *p, size_t bytes) { (void)p, (void)bytes; }
MOI_ALWAYS_INLINE float moi_set1_scalar(float x) { return x; }
MOI_ALWAYS_INLINE float moi_vadd_scalar(float a, float b) { return a + b; }
MOI_ALWAYS_INLINE float moi_vsub_scalar(float a, float b) { return a - b; }
MOI_ALWAYS_INLINE float moi_vmul_scalar(float a, float b) { return a * b; }
MOI_ALWAYS_INLINE float moi_vdiv_scalar(float a, float b) { return a / b; }
MOI_ALWAYS_INLINE float moi_vsqrt_scalar(float a) { return sqrtf(a); }
MOI_ALWAYS_INLINE float moi_vfma_scalar(float a, float b, float c) { return a * b + c; }
MOI_ALWAYS_INLINE float moi_vmax_scalar(float a, float b) { return a > b ? a : b; }
MOI_ALWAYS_INLINE float moi_vmin_scalar(float a, float b) { return a < b ? a : b; }
MOI_ALWAYS_INLINE int moi_vlt_scalar(float a, float b) { return a < b; }
MOI_ALWAYS_INLINE int moi_visnan_scalar(float a) { return a != a; }
MOI_ALWAYS_INLINE float moi_vselect_scalar(int m, float a, float b) { return m ? a : b; }
MOI_ALWAYS_INLINE uint32_t moi_vmbits_scalar(int m) { return m != 0; }
MOI_ALWAYS_INLINE float moi_vsum_scalar(float a) { return a; }
MOI_ALWAYS_INLINE float moi_vmaxall_scalar(float a) { return a; }
MOI_ALWAYS_INLINE uint32_t moi_bits_scalar(float a) { return moi_float_bits(a); }
MOI_ALWAYS_INLINE float moi_from_bits_scalar(uint32_t a) { return moi_bits_float(a); }
MOI_ALWAYS_INLINE uint32_t moi_iset1_scalar(uint32_t x) { return x; }
MOI_ALWAYS_INLINE uint32_t moi_iadd_scalar(uint32_t a, uint32_t b) { return a + b; }
MOI_ALWAYS_INLINE uint32_t moi_isub_scalar(uint32_t a, uint32_t b) { return a - b; }
MOI_ALWAYS_INLINE uint32_t moi_iand_scalar(uint32_t a, uint32_t b) { return a & b; }
MOI_ALWAYS_INLINE uint32_t moi_ior_scalar(uint32_t a, uint32_t b) { return a | b; }
MOI_ALWAYS_INLINE uint32_t moi_ixor_scalar(uint32_t a, uint32_t b) { return a ^ b; }
MOI_ALWAYS_INLINE uint32_t moi_imul_scalar(uint32_t a, uint32_t b) { return a * b; }
MOI_ALWAYS_INLINE uint32_t moi_imax_scalar(uint32_t a, uint32_t b) {
    return (int32_t)a > (int32_t)b ? a : b;
}
MOI_ALWAYS_INLINE int moi_igt_scalar(uint32_t a, uint32_t b) { return (int32_t)a > (int32_t)b; }
MOI_ALWAYS_INLINE uint32_t moi_iselect_scalar(int m, uint32_t a, uint32_t b) { return m ? a : b; }
#define moi_isll_scalar(a, n) ((uint32_t)(a) << (n))
#define moi_isrl_scalar(a, n) ((uint32_t)(a) >> (n))
#define moi_isra_scalar(a, n) ((uint32_t)((int32_t)(a) >> (n)))
MOI_ALWAYS_INLINE uint32_t moi_islln_scalar(uint32_t a, int n) { return a << n; }
MOI_ALWAYS_INLINE uint32_t moi_isrln_scalar(uint32_t a, int n) { return a >> n; }
/* nearest integer, ties to even, for |a| < 2^22 */
MOI_ALWAYS_INLINE uint32_t moi_to_int_scalar(float a) {
    return moi_float_bits(a + 12582912.0f) - moi_float_bits(12582912.0f);
}
MOI_ALWAYS_INLINE float moi_to_float_scalar(uint32_t a) { return (float)(int32_t)a; }
/* toward zero */
MOI_ALWAYS_INLINE uint32_t moi_truncate_scalar(float a) { return (uint32_t)(int32_t)a; }
MOI_ALWAYS_INLINE uint32_t moi_load_u8_scalar(const uint8_t *p) { return *p; }
MOI_ALWAYS_INLINE void moi_store_u8_scalar(uint8_t *p, uint32_t v) { *p = (uint8_t)v; }
/* sixteen sums in double; adding squares of floats, which are exact, so that fusing is harmless */
typedef struct moi_d16_scalar {
    double v[16];
} moi_d16_scalar;
MOI_ALWAYS_INLINE void moi_d16_squares_scalar(moi_d16_scalar *sums, const float *p) {
    for (int i = 0; i < 16; i++) sums->v[i] += (double)p[i] * (double)p[i];
}
MOI_ALWAYS_INLINE void moi_stream_u8_scalar(uint8_t *p, uint32_t v) { *p = (uint8_t)v; }
MOI_ALWAYS_INLINE uint32_t moi_load_u16_scalar(const uint16_t *p) { return *p; }
MOI_ALWAYS_INLINE void moi_store_u16_scalar(uint16_t *p, uint32_t v) { *p = (uint16_t)v; }
MOI_ALWAYS_INLINE void moi_stream_u16_scalar(uint16_t *p, uint32_t v) { *p = (uint16_t)v; }
MOI_ALWAYS_INLINE void moi_store2_u16_scalar(uint16_t *p, uint32_t a, uint32_t b, int stream) {
    (void)stream;
    p[0] = (uint16_t)a;
    p[1] = (uint16_t)b;
}
MOI_ALWAYS_INLINE float moi_gather_scalar(const float *table, uint32_t i) { return table[i]; }
MOI_ALWAYS_INLINE uint32_t moi_igather_scalar(const uint32_t *table, uint32_t i) {
    return table[i];
}
MOI_ALWAYS_INLINE float moi_load_f16_scalar(const uint16_t *p) {
    uint32_t sign = (uint32_t)(*p & 0x8000u) << 16, magnitude = *p & 0x7fffu;
    if (magnitude > 0x7c00u) return moi_bits_float(sign | 0x7fc00000u | (magnitude & 0x3ffu) << 13);
    if (magnitude == 0x7c00u) return moi_bits_float(sign | 0x7f800000u);
    if (magnitude >= 0x400u) return moi_bits_float(sign | ((magnitude << 13) + 0x38000000u));
    return moi_bits_float(
        sign | moi_float_bits((float)magnitude * 5.9604644775390625e-8f)); /* 2^-24 */
}
MOI_ALWAYS_INLINE void moi_store_f16_scalar(uint16_t *p, float x) {
    uint32_t bits = moi_float_bits(x), sign = (bits >> 16) & 0x8000u,
             magnitude = bits & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    else if (magnitude >= 0x477ff000u) half = 0x7c00u; /* 65520 and above round to infinity */
    else if (magnitude >= 0x38800000u)
        half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
    else /* subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits */
        half = moi_float_bits(moi_bits_float(magnitude) + 0.5f) - 0x3f000000u;
    *p = (uint16_t)(sign | half);
}
MOI_ALWAYS_INLINE void moi_stream_f16_scalar(uint16_t *p, float x) { moi_store_f16_scalar(p, x); }
MOI_ALWAYS_INLINE void moi_stream_end_scalar(void) {}
/* A table of 16 floats that stays in registers, and pairs of nibbles: see the names below. */
typedef const float *moi_t16_scalar;
MOI_ALWAYS_INLINE const float *moi_table16_scalar(const float *p) { return p; }
MOI_ALWAYS_INLINE float moi_lookup16_scalar(const float *t, uint32_t i) { return t[i & 15]; }
MOI_ALWAYS_INLINE uint32_t moi_load_nibbles_scalar(const uint8_t *p, int second) {
    return (uint32_t)*p >> (second ? 0 : 4);
}
MOI_ALWAYS_INLINE void moi_store_nibbles_scalar(uint8_t *p, uint32_t a, uint32_t b) {
    *p = (uint8_t)(a << 4 | b);
}

#if MOI_X86
/* ---- AVX2: eight lanes --------------------------------------------------------------------- */

typedef __m256 moi_v_avx2;
typedef __m256i moi_vi_avx2;
typedef __m256 moi_vm_avx2;
enum { moi_lanes_avx2 = 8 };

MOI_INLINE_avx2 __m256 moi_load_avx2(const float *p) { return _mm256_loadu_ps(p); }
MOI_INLINE_avx2 void moi_store_avx2(float *p, __m256 v) { _mm256_storeu_ps(p, v); }
MOI_INLINE_avx2 void moi_stream_avx2(float *p, __m256 v) { _mm256_stream_ps(p, v); }
MOI_INLINE_avx2 void moi_prefetch_avx2(const void *p, size_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + bytes), _MM_HINT_T0);
}
MOI_INLINE_avx2 __m256 moi_set1_avx2(float x) { return _mm256_set1_ps(x); }
MOI_INLINE_avx2 __m256 moi_vadd_avx2(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
MOI_INLINE_avx2 __m256 moi_vsub_avx2(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
MOI_INLINE_avx2 __m256 moi_vmul_avx2(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
MOI_INLINE_avx2 __m256 moi_vdiv_avx2(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }
MOI_INLINE_avx2 __m256 moi_vsqrt_avx2(__m256 a) { return _mm256_sqrt_ps(a); }
MOI_INLINE_avx2 __m256 moi_vfma_avx2(__m256 a, __m256 b, __m256 c) {
    return _mm256_fmadd_ps(a, b, c);
}
MOI_INLINE_avx2 __m256 moi_vmax_avx2(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
MOI_INLINE_avx2 __m256 moi_vmin_avx2(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
MOI_INLINE_avx2 __m256 moi_vlt_avx2(__m256 a, __m256 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
MOI_INLINE_avx2 __m256 moi_visnan_avx2(__m256 a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
MOI_INLINE_avx2 __m256 moi_vselect_avx2(__m256 m, __m256 a, __m256 b) {
    return _mm256_blendv_ps(b, a, m);
}
MOI_INLINE_avx2 uint32_t moi_vmbits_avx2(__m256 m) { return (uint32_t)_mm256_movemask_ps(m); }
MOI_INLINE_avx2 float moi_vsum_avx2(__m256 a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
MOI_INLINE_avx2 float moi_vmaxall_avx2(__m256 a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
MOI_INLINE_avx2 __m256i moi_bits_avx2(__m256 a) { return _mm256_castps_si256(a); }
MOI_INLINE_avx2 __m256 moi_from_bits_avx2(__m256i a) { return _mm256_castsi256_ps(a); }
MOI_INLINE_avx2 __m256i moi_iset1_avx2(uint32_t x) { return _mm256_set1_epi32((int)x); }
MOI_INLINE_avx2 __m256i moi_iadd_avx2(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
MOI_INLINE_avx2 __m256i moi_isub_avx2(__m256i a, __m256i b) { return _mm256_sub_epi32(a, b); }
MOI_INLINE_avx2 __m256i moi_iand_avx2(__m256i a, __m256i b) { return _mm256_and_si256(a, b); }
MOI_INLINE_avx2 __m256i moi_ior_avx2(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }
MOI_INLINE_avx2 __m256i moi_ixor_avx2(__m256i a, __m256i b) { return _mm256_xor_si256(a, b); }
MOI_INLINE_avx2 __m256i moi_imul_avx2(__m256i a, __m256i b) { return _mm256_mullo_epi32(a, b); }
MOI_INLINE_avx2 __m256i moi_imax_avx2(__m256i a, __m256i b) { return _mm256_max_epi32(a, b); }
MOI_INLINE_avx2 __m256 moi_igt_avx2(__m256i a, __m256i b) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b));
}
MOI_INLINE_avx2 __m256i moi_iselect_avx2(__m256 m, __m256i a, __m256i b) {
    return _mm256_blendv_epi8(b, a, _mm256_castps_si256(m));
}
#define moi_isll_avx2(a, n) _mm256_slli_epi32(a, n)
#define moi_isrl_avx2(a, n) _mm256_srli_epi32(a, n)
#define moi_isra_avx2(a, n) _mm256_srai_epi32(a, n)
MOI_INLINE_avx2 __m256i moi_islln_avx2(__m256i a, int n) {
    return _mm256_sllv_epi32(a, _mm256_set1_epi32(n));
}
MOI_INLINE_avx2 __m256i moi_isrln_avx2(__m256i a, int n) {
    return _mm256_srlv_epi32(a, _mm256_set1_epi32(n));
}
MOI_INLINE_avx2 __m256i moi_to_int_avx2(__m256 a) { return _mm256_cvtps_epi32(a); }
MOI_INLINE_avx2 __m256 moi_to_float_avx2(__m256i a) { return _mm256_cvtepi32_ps(a); }
MOI_INLINE_avx2 __m256i moi_truncate_avx2(__m256 a) { return _mm256_cvttps_epi32(a); }
MOI_INLINE_avx2 __m256i moi_load_u8_avx2(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
MOI_INLINE_avx2 void moi_store_u16_avx2(uint16_t *p, __m256i v) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(words));
}
MOI_INLINE_avx2 void moi_store_u8_avx2(uint8_t *p, __m256i v) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0xd8);
    __m128i low = _mm256_castsi256_si128(words);
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(low, low));
}
typedef struct moi_d16_avx2 {
    __m256d v[4];
} moi_d16_avx2;
MOI_INLINE_avx2 void moi_d16_squares_avx2(moi_d16_avx2 *sums, const float *p) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(p));
    const __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(p + 4));
    const __m256d c = _mm256_cvtps_pd(_mm_loadu_ps(p + 8));
    const __m256d d = _mm256_cvtps_pd(_mm_loadu_ps(p + 12));
    sums->v[0] = _mm256_fmadd_pd(a, a, sums->v[0]);
    sums->v[1] = _mm256_fmadd_pd(b, b, sums->v[1]);
    sums->v[2] = _mm256_fmadd_pd(c, c, sums->v[2]);
    sums->v[3] = _mm256_fmadd_pd(d, d, sums->v[3]);
}
MOI_INLINE_avx2 __m256i moi_load_u16_avx2(const uint16_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
MOI_INLINE_avx2 __m256 moi_gather_avx2(const float *table, __m256i i) {
    return _mm256_i32gather_ps(table, i, 4);
}
MOI_INLINE_avx2 __m256i moi_igather_avx2(const uint32_t *table, __m256i i) {
    return _mm256_i32gather_epi32((const int *)(const void *)table, i, 4);
}
MOI_INLINE_avx2 __m256 moi_load_f16_avx2(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
MOI_INLINE_avx2 void moi_store_f16_avx2(uint16_t *p, __m256 v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
MOI_INLINE_avx2 void moi_stream_u8_avx2(uint8_t *p, __m256i v) {
    uint64_t eight;
    moi_store_u8_avx2((uint8_t *)&eight, v);
    _mm_stream_si64((long long *)(void *)p, (long long)eight);
}
MOI_INLINE_avx2 void moi_stream_u16_avx2(uint16_t *p, __m256i v) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0xd8);
    _mm_stream_si128((__m128i *)(void *)p, _mm256_castsi256_si128(words));
}
MOI_INLINE_avx2 void moi_store2_u16_avx2(uint16_t *p, __m256i a, __m256i b, int stream) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    if (stream) _mm256_stream_si256((__m256i *)(void *)p, words);
    else _mm256_storeu_si256((__m256i *)(void *)p, words);
}
MOI_INLINE_avx2 void moi_stream_f16_avx2(uint16_t *p, __m256 v) {
    _mm_stream_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
MOI_INLINE_avx2 void moi_stream_end_avx2(void) { _mm_sfence(); }
typedef struct moi_t16_avx2 {
    __m256 low, high;
} moi_t16_avx2;
MOI_INLINE_avx2 moi_t16_avx2 moi_table16_avx2(const float *p) {
    moi_t16_avx2 t;
    t.low = _mm256_loadu_ps(p);
    t.high = _mm256_loadu_ps(p + 8);
    return t;
}
MOI_INLINE_avx2 __m256 moi_lookup16_avx2(moi_t16_avx2 t, __m256i i) {
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)); /* bit 3 to the sign */
    return _mm256_blendv_ps(
        _mm256_permutevar8x32_ps(t.low, i), _mm256_permutevar8x32_ps(t.high, i), upper);
}
MOI_INLINE_avx2 __m256i moi_load_nibbles_avx2(const uint8_t *p, int second) {
    int32_t four;
    memcpy(&four, p + (second ? 4 : 0), sizeof four);
    const __m256i bytes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
    return _mm256_or_si256(_mm256_srli_epi64(bytes, 4), _mm256_slli_epi64(bytes, 32));
}
MOI_INLINE_avx2 void moi_store_nibbles_avx2(uint8_t *p, __m256i a, __m256i b) {
    const __m256i words = _mm256_packus_epi32(a, b), weights = _mm256_set1_epi32(0x00010010);
    const __m256i byte =
        _mm256_shuffle_epi8(_mm256_madd_epi16(words, weights), _mm256_set1_epi32(0x0c080400));
    _mm_storel_epi64((__m128i *)(void *)p,
        _mm_unpacklo_epi16(_mm256_castsi256_si128(byte), _mm256_extracti128_si256(byte, 1)));
}

/* ---- AVX-512: sixteen lanes ---------------------------------------------------------------- */

typedef __m512 moi_v_avx512;
typedef __m512i moi_vi_avx512;
typedef __mmask16 moi_vm_avx512;
enum { moi_lanes_avx512 = 16 };

MOI_INLINE_avx512 __m512 moi_load_avx512(const float *p) { return _mm512_loadu_ps(p); }
MOI_INLINE_avx512 void moi_store_avx512(float *p, __m512 v) { _mm512_storeu_ps(p, v); }
MOI_INLINE_avx512 void moi_stream_avx512(float *p, __m512 v) { _mm512_stream_ps(p, v); }
MOI_INLINE_avx512 void moi_prefetch_avx512(const void *p, size_t bytes) {
    moi_prefetch_avx2(p, bytes);
}
MOI_INLINE_avx512 __m512 moi_set1_avx512(float x) { return _mm512_set1_ps(x); }
MOI_INLINE_avx512 __m512 moi_vadd_avx512(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
MOI_INLINE_avx512 __m512 moi_vsub_avx512(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
MOI_INLINE_avx512 __m512 moi_vmul_avx512(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
MOI_INLINE_avx512 __m512 moi_vdiv_avx512(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }
MOI_INLINE_avx512 __m512 moi_vsqrt_avx512(__m512 a) { return _mm512_sqrt_ps(a); }
MOI_INLINE_avx512 __m512 moi_vfma_avx512(__m512 a, __m512 b, __m512 c) {
    return _mm512_fmadd_ps(a, b, c);
}
MOI_INLINE_avx512 __m512 moi_vmax_avx512(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
MOI_INLINE_avx512 __m512 moi_vmin_avx512(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
MOI_INLINE_avx512 __mmask16 moi_vlt_avx512(__m512 a, __m512 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
MOI_INLINE_avx512 __mmask16 moi_visnan_avx512(__m512 a) {
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
MOI_INLINE_avx512 uint32_t moi_vmbits_avx512(__mmask16 m) { return (uint32_t)m; }
MOI_INLINE_avx512 __m512 moi_vselect_avx512(__mmask16 m, __m512 a, __m512 b) {
    return _mm512_mask_blend_ps(m, b, a);
}
MOI_INLINE_avx512 float moi_vsum_avx512(__m512 a) {
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
    return moi_vsum_avx2(_mm256_add_ps(_mm512_castps512_ps256(a), high));
}
MOI_INLINE_avx512 float moi_vmaxall_avx512(__m512 a) {
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
    return moi_vmaxall_avx2(_mm256_max_ps(_mm512_castps512_ps256(a), high));
}
MOI_INLINE_avx512 __m512i moi_bits_avx512(__m512 a) { return _mm512_castps_si512(a); }
MOI_INLINE_avx512 __m512 moi_from_bits_avx512(__m512i a) { return _mm512_castsi512_ps(a); }
MOI_INLINE_avx512 __m512i moi_iset1_avx512(uint32_t x) { return _mm512_set1_epi32((int)x); }
MOI_INLINE_avx512 __m512i moi_iadd_avx512(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
MOI_INLINE_avx512 __m512i moi_isub_avx512(__m512i a, __m512i b) { return _mm512_sub_epi32(a, b); }
MOI_INLINE_avx512 __m512i moi_iand_avx512(__m512i a, __m512i b) { return _mm512_and_si512(a, b); }
MOI_INLINE_avx512 __m512i moi_ior_avx512(__m512i a, __m512i b) { return _mm512_or_si512(a, b); }
MOI_INLINE_avx512 __m512i moi_ixor_avx512(__m512i a, __m512i b) { return _mm512_xor_si512(a, b); }
MOI_INLINE_avx512 __m512i moi_imul_avx512(__m512i a, __m512i b) { return _mm512_mullo_epi32(a, b); }
MOI_INLINE_avx512 __m512i moi_imax_avx512(__m512i a, __m512i b) { return _mm512_max_epi32(a, b); }
MOI_INLINE_avx512 __mmask16 moi_igt_avx512(__m512i a, __m512i b) {
    return _mm512_cmpgt_epi32_mask(a, b);
}
MOI_INLINE_avx512 __m512i moi_iselect_avx512(__mmask16 m, __m512i a, __m512i b) {
    return _mm512_mask_blend_epi32(m, b, a);
}
#define moi_isll_avx512(a, n) _mm512_slli_epi32(a, n)
#define moi_isrl_avx512(a, n) _mm512_srli_epi32(a, n)
#define moi_isra_avx512(a, n) _mm512_srai_epi32(a, n)
MOI_INLINE_avx512 __m512i moi_islln_avx512(__m512i a, int n) {
    return _mm512_sllv_epi32(a, _mm512_set1_epi32(n));
}
MOI_INLINE_avx512 __m512i moi_isrln_avx512(__m512i a, int n) {
    return _mm512_srlv_epi32(a, _mm512_set1_epi32(n));
}
MOI_INLINE_avx512 __m512i moi_to_int_avx512(__m512 a) { return _mm512_cvtps_epi32(a); }
MOI_INLINE_avx512 __m512 moi_to_float_avx512(__m512i a) { return _mm512_cvtepi32_ps(a); }
MOI_INLINE_avx512 __m512i moi_truncate_avx512(__m512 a) { return _mm512_cvttps_epi32(a); }
MOI_INLINE_avx512 __m512i moi_load_u8_avx512(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
MOI_INLINE_avx512 void moi_store_u8_avx512(uint8_t *p, __m512i v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v));
}
typedef struct moi_d16_avx512 {
    __m512d v[2];
} moi_d16_avx512;
MOI_INLINE_avx512 void moi_d16_squares_avx512(moi_d16_avx512 *sums, const float *p) {
    const __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(p));
    const __m512d b = _mm512_cvtps_pd(_mm256_loadu_ps(p + 8));
    sums->v[0] = _mm512_fmadd_pd(a, a, sums->v[0]);
    sums->v[1] = _mm512_fmadd_pd(b, b, sums->v[1]);
}
MOI_INLINE_avx512 __m512i moi_load_u16_avx512(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
MOI_INLINE_avx512 void moi_store_u16_avx512(uint16_t *p, __m512i v) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(v));
}
MOI_INLINE_avx512 __m512 moi_gather_avx512(const float *table, __m512i i) {
    return _mm512_i32gather_ps(i, table, 4);
}
MOI_INLINE_avx512 __m512i moi_igather_avx512(const uint32_t *table, __m512i i) {
    return _mm512_i32gather_epi32(i, (const int *)(const void *)table, 4);
}
MOI_INLINE_avx512 __m512 moi_load_f16_avx512(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
MOI_INLINE_avx512 void moi_store_f16_avx512(uint16_t *p, __m512 v) {
    __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)(void *)p, half);
}
MOI_INLINE_avx512 void moi_stream_u8_avx512(uint8_t *p, __m512i v) {
    _mm_stream_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v));
}
MOI_INLINE_avx512 void moi_stream_u16_avx512(uint16_t *p, __m512i v) {
    _mm256_stream_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(v));
}
MOI_INLINE_avx512 void moi_store2_u16_avx512(uint16_t *p, __m512i a, __m512i b, int stream) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i words = _mm512_permutexvar_epi64(order, _mm512_packus_epi32(a, b));
    if (stream) _mm512_stream_si512((__m512i *)(void *)p, words);
    else _mm512_storeu_si512((void *)p, words);
}
MOI_INLINE_avx512 void moi_stream_f16_avx512(uint16_t *p, __m512 v) {
    __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_stream_si256((__m256i *)(void *)p, half);
}
MOI_INLINE_avx512 void moi_stream_end_avx512(void) { _mm_sfence(); }
typedef __m512 moi_t16_avx512;
MOI_INLINE_avx512 __m512 moi_table16_avx512(const float *p) { return _mm512_loadu_ps(p); }
MOI_INLINE_avx512 __m512 moi_lookup16_avx512(__m512 t, __m512i i) {
    return _mm512_permutexvar_ps(i, t);
}
MOI_INLINE_avx512 __m512i moi_load_nibbles_avx512(const uint8_t *p, int second) {
    const __m512i bytes = _mm512_cvtepu8_epi64(
        _mm_loadl_epi64((const __m128i *)(const void *)(p + (second ? 8 : 0))));
    return _mm512_or_si512(_mm512_srli_epi64(bytes, 4), _mm512_slli_epi64(bytes, 32));
}
MOI_INLINE_avx512 void moi_store_nibbles_avx512(uint8_t *p, __m512i a, __m512i b) {
    const __m512i words = _mm512_packus_epi32(a, b), weights = _mm512_set1_epi32(0x00010010);
    const __m128i order = _mm_set_epi8(15, 14, 11, 10, 7, 6, 3, 2, 13, 12, 9, 8, 5, 4, 1, 0);
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_madd_epi16(words, weights));
    _mm_storeu_si128((__m128i *)(void *)p, _mm_shuffle_epi8(bytes, order));
}
#endif

#if MOI_NEON
/* ---- NEON: four lanes ---------------------------------------------------------------------- */

typedef float32x4_t moi_v_neon;
typedef uint32x4_t moi_vi_neon;
typedef uint32x4_t moi_vm_neon;
enum { moi_lanes_neon = 4 };

MOI_ALWAYS_INLINE float32x4_t moi_load_neon(const float *p) { return vld1q_f32(p); }
MOI_ALWAYS_INLINE void moi_store_neon(float *p, float32x4_t v) { vst1q_f32(p, v); }
MOI_ALWAYS_INLINE void moi_stream_neon(float *p, float32x4_t v) { vst1q_f32(p, v); }
MOI_ALWAYS_INLINE void moi_prefetch_neon(const void *p, size_t bytes) { (void)p, (void)bytes; }
MOI_ALWAYS_INLINE float32x4_t moi_set1_neon(float x) { return vdupq_n_f32(x); }
MOI_ALWAYS_INLINE float32x4_t moi_vadd_neon(float32x4_t a, float32x4_t b) {
    return vaddq_f32(a, b);
}
MOI_ALWAYS_INLINE float32x4_t moi_vsub_neon(float32x4_t a, float32x4_t b) {
    return vsubq_f32(a, b);
}
MOI_ALWAYS_INLINE float32x4_t moi_vmul_neon(float32x4_t a, float32x4_t b) {
    return vmulq_f32(a, b);
}
MOI_ALWAYS_INLINE float32x4_t moi_vdiv_neon(float32x4_t a, float32x4_t b) {
    return vdivq_f32(a, b);
}
MOI_ALWAYS_INLINE float32x4_t moi_vsqrt_neon(float32x4_t a) { return vsqrtq_f32(a); }
MOI_ALWAYS_INLINE float32x4_t moi_vfma_neon(float32x4_t a, float32x4_t b, float32x4_t c) {
    return vfmaq_f32(c, a, b);
}
/* a > b ? a : b, as on x86 also for NaN (vmaxq_f32 would return the NaN) */
MOI_ALWAYS_INLINE float32x4_t moi_vmax_neon(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
MOI_ALWAYS_INLINE float32x4_t moi_vmin_neon(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
MOI_ALWAYS_INLINE uint32x4_t moi_vlt_neon(float32x4_t a, float32x4_t b) { return vcltq_f32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_visnan_neon(float32x4_t a) { return vmvnq_u32(vceqq_f32(a, a)); }
MOI_ALWAYS_INLINE uint32_t moi_vmbits_neon(uint32x4_t m) {
    static const uint32_t lane[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(lane)));
}
MOI_ALWAYS_INLINE float32x4_t moi_vselect_neon(uint32x4_t m, float32x4_t a, float32x4_t b) {
    return vbslq_f32(m, a, b);
}
MOI_ALWAYS_INLINE float moi_vsum_neon(float32x4_t a) {
    float32x2_t x = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
}
MOI_ALWAYS_INLINE float moi_vmaxall_neon(float32x4_t a) { return vmaxvq_f32(a); }
MOI_ALWAYS_INLINE uint32x4_t moi_bits_neon(float32x4_t a) { return vreinterpretq_u32_f32(a); }
MOI_ALWAYS_INLINE float32x4_t moi_from_bits_neon(uint32x4_t a) { return vreinterpretq_f32_u32(a); }
MOI_ALWAYS_INLINE uint32x4_t moi_iset1_neon(uint32_t x) { return vdupq_n_u32(x); }
MOI_ALWAYS_INLINE uint32x4_t moi_iadd_neon(uint32x4_t a, uint32x4_t b) { return vaddq_u32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_isub_neon(uint32x4_t a, uint32x4_t b) { return vsubq_u32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_iand_neon(uint32x4_t a, uint32x4_t b) { return vandq_u32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_ior_neon(uint32x4_t a, uint32x4_t b) { return vorrq_u32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_ixor_neon(uint32x4_t a, uint32x4_t b) { return veorq_u32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_imul_neon(uint32x4_t a, uint32x4_t b) { return vmulq_u32(a, b); }
MOI_ALWAYS_INLINE uint32x4_t moi_imax_neon(uint32x4_t a, uint32x4_t b) {
    return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
}
MOI_ALWAYS_INLINE uint32x4_t moi_igt_neon(uint32x4_t a, uint32x4_t b) {
    return vcgtq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b));
}
MOI_ALWAYS_INLINE uint32x4_t moi_iselect_neon(uint32x4_t m, uint32x4_t a, uint32x4_t b) {
    return vbslq_u32(m, a, b);
}
#define moi_isll_neon(a, n) vshlq_n_u32(a, n)
#define moi_isrl_neon(a, n) vshrq_n_u32(a, n)
#define moi_isra_neon(a, n) vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n))
MOI_ALWAYS_INLINE uint32x4_t moi_islln_neon(uint32x4_t a, int n) {
    return vshlq_u32(a, vdupq_n_s32(n));
}
MOI_ALWAYS_INLINE uint32x4_t moi_isrln_neon(uint32x4_t a, int n) {
    return vshlq_u32(a, vdupq_n_s32(-n));
}
MOI_ALWAYS_INLINE uint32x4_t moi_to_int_neon(float32x4_t a) {
    return vreinterpretq_u32_s32(vcvtnq_s32_f32(a));
}
MOI_ALWAYS_INLINE float32x4_t moi_to_float_neon(uint32x4_t a) {
    return vcvtq_f32_s32(vreinterpretq_s32_u32(a));
}
MOI_ALWAYS_INLINE uint32x4_t moi_truncate_neon(float32x4_t a) {
    return vreinterpretq_u32_s32(vcvtq_s32_f32(a));
}
MOI_ALWAYS_INLINE uint32x4_t moi_load_u8_neon(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
}
MOI_ALWAYS_INLINE void moi_store_u8_neon(uint8_t *p, uint32x4_t v) {
    uint16x4_t words = vmovn_u32(v);
    uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
    memcpy(p, &four, sizeof four);
}
typedef struct moi_d16_neon {
    float64x2_t v[8];
} moi_d16_neon;
MOI_ALWAYS_INLINE void moi_d16_squares_neon(moi_d16_neon *sums, const float *p) {
    for (int i = 0; i < 8; i++) {
        const float64x2_t a = vcvt_f64_f32(vld1_f32(p + 2 * i));
        sums->v[i] = vfmaq_f64(sums->v[i], a, a);
    }
}
MOI_ALWAYS_INLINE uint32x4_t moi_load_u16_neon(const uint16_t *p) { return vmovl_u16(vld1_u16(p)); }
MOI_ALWAYS_INLINE void moi_store_u16_neon(uint16_t *p, uint32x4_t v) { vst1_u16(p, vmovn_u32(v)); }
MOI_ALWAYS_INLINE float32x4_t moi_gather_neon(const float *table, uint32x4_t i) {
    float x[4] = {table[vgetq_lane_u32(i, 0)], table[vgetq_lane_u32(i, 1)],
        table[vgetq_lane_u32(i, 2)], table[vgetq_lane_u32(i, 3)]};
    return vld1q_f32(x);
}
MOI_ALWAYS_INLINE uint32x4_t moi_igather_neon(const uint32_t *table, uint32x4_t i) {
    uint32_t x[4] = {table[vgetq_lane_u32(i, 0)], table[vgetq_lane_u32(i, 1)],
        table[vgetq_lane_u32(i, 2)], table[vgetq_lane_u32(i, 3)]};
    return vld1q_u32(x);
}
MOI_ALWAYS_INLINE float32x4_t moi_load_f16_neon(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
MOI_ALWAYS_INLINE void moi_store_f16_neon(uint16_t *p, float32x4_t v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
MOI_ALWAYS_INLINE void moi_stream_u8_neon(uint8_t *p, uint32x4_t v) { moi_store_u8_neon(p, v); }
MOI_ALWAYS_INLINE void moi_stream_u16_neon(uint16_t *p, uint32x4_t v) { moi_store_u16_neon(p, v); }
MOI_ALWAYS_INLINE void moi_store2_u16_neon(uint16_t *p, uint32x4_t a, uint32x4_t b, int stream) {
    (void)stream;
    vst1q_u16(p, vcombine_u16(vmovn_u32(a), vmovn_u32(b)));
}
MOI_ALWAYS_INLINE void moi_stream_f16_neon(uint16_t *p, float32x4_t v) { moi_store_f16_neon(p, v); }
MOI_ALWAYS_INLINE void moi_stream_end_neon(void) {}
typedef uint8x16x4_t moi_t16_neon;
MOI_ALWAYS_INLINE uint8x16x4_t moi_table16_neon(const float *p) {
    uint8x16x4_t t;
    t.val[0] = vreinterpretq_u8_f32(vld1q_f32(p));
    t.val[1] = vreinterpretq_u8_f32(vld1q_f32(p + 4));
    t.val[2] = vreinterpretq_u8_f32(vld1q_f32(p + 8));
    t.val[3] = vreinterpretq_u8_f32(vld1q_f32(p + 12));
    return t;
}
MOI_ALWAYS_INLINE float32x4_t moi_lookup16_neon(uint8x16x4_t t, uint32x4_t i) {
    /* bytes 4 i .. 4 i + 3 of the table */
    i = vmulq_u32(vandq_u32(i, vdupq_n_u32(15)), vdupq_n_u32(0x04040404));
    i = vaddq_u32(i, vdupq_n_u32(0x03020100));
    return vreinterpretq_f32_u8(vqtbl4q_u8(t, vreinterpretq_u8_u32(i)));
}
MOI_ALWAYS_INLINE uint32x4_t moi_load_nibbles_neon(const uint8_t *p, int second) {
    if (second) p += 2;
    const uint64x2_t bytes = vcombine_u64(vcreate_u64(p[0]), vcreate_u64(p[1]));
    return vreinterpretq_u32_u64(vorrq_u64(vshrq_n_u64(bytes, 4), vshlq_n_u64(bytes, 32)));
}
MOI_ALWAYS_INLINE void moi_store_nibbles_neon(uint8_t *p, uint32x4_t a, uint32x4_t b) {
    const uint64x2_t x = vreinterpretq_u64_u32(a), y = vreinterpretq_u64_u32(b);
    const uint64x2_t u = vorrq_u64(vshlq_n_u64(x, 4), vshrq_n_u64(x, 32));
    const uint64x2_t v = vorrq_u64(vshlq_n_u64(y, 4), vshrq_n_u64(y, 32));
    p[0] = (uint8_t)vgetq_lane_u64(u, 0);
    p[1] = (uint8_t)vgetq_lane_u64(u, 1);
    p[2] = (uint8_t)vgetq_lane_u64(v, 0);
    p[3] = (uint8_t)vgetq_lane_u64(v, 1);
}
#endif

/* ---- the names that kernels use ------------------------------------------------------------ */

#define MOI_FN(name)          MOI_CAT(name, MOI_ISA)
#define MOI_TARGET            MOI_CAT(MOI_TARGET, MOI_ISA)
#define MOI_INLINE            MOI_CAT(MOI_INLINE, MOI_ISA)
#define MOI_LANES             ((size_t)MOI_CAT(moi_lanes, MOI_ISA))
#define MOI_V                 MOI_CAT(moi_v, MOI_ISA)
#define MOI_VI                MOI_CAT(moi_vi, MOI_ISA)
#define MOI_VM                MOI_CAT(moi_vm, MOI_ISA)
#define MOI_LOAD(p)           MOI_CAT(moi_load, MOI_ISA)(p)
#define MOI_STORE(p, v)       MOI_CAT(moi_store, MOI_ISA)(p, v)
#define MOI_STREAM(p, v)      MOI_CAT(moi_stream, MOI_ISA)(p, v)   /* past the caches; p aligned */
#define MOI_PREFETCH(p, b)    MOI_CAT(moi_prefetch, MOI_ISA)(p, b) /* b bytes after p */
#define MOI_SET1(x)           MOI_CAT(moi_set1, MOI_ISA)(x)
#define MOI_ADD(a, b)         MOI_CAT(moi_vadd, MOI_ISA)(a, b)
#define MOI_SUB(a, b)         MOI_CAT(moi_vsub, MOI_ISA)(a, b)
#define MOI_MUL(a, b)         MOI_CAT(moi_vmul, MOI_ISA)(a, b)
#define MOI_DIV(a, b)         MOI_CAT(moi_vdiv, MOI_ISA)(a, b)
#define MOI_SQRT(a)           MOI_CAT(moi_vsqrt, MOI_ISA)(a)
#define MOI_FMA(a, b, c)      MOI_CAT(moi_vfma, MOI_ISA)(a, b, c) /* a * b + c; scalar: not fused */
#define MOI_MAX(a, b)         MOI_CAT(moi_vmax, MOI_ISA)(a, b)    /* a > b ? a : b */
#define MOI_MIN(a, b)         MOI_CAT(moi_vmin, MOI_ISA)(a, b)    /* a < b ? a : b */
#define MOI_LT(a, b)          MOI_CAT(moi_vlt, MOI_ISA)(a, b)
#define MOI_ISNAN(a)          MOI_CAT(moi_visnan, MOI_ISA)(a)
#define MOI_SELECT(m, a, b)   MOI_CAT(moi_vselect, MOI_ISA)(m, a, b) /* m ? a : b */
#define MOI_MASK_BITS(m)      MOI_CAT(moi_vmbits, MOI_ISA)(m)        /* bit i: lane i */
#define MOI_SUM(a)            MOI_CAT(moi_vsum, MOI_ISA)(a)
#define MOI_D16               MOI_CAT(moi_d16, MOI_ISA) /* like double[16] in memory */
#define MOI_D16_SQUARES(s, p) MOI_CAT(moi_d16_squares, MOI_ISA)(s, p) /* s[i] += p[i]^2 */
#define MOI_MAXALL(a)         MOI_CAT(moi_vmaxall, MOI_ISA)(a)
#define MOI_BITS(a)           MOI_CAT(moi_bits, MOI_ISA)(a)
#define MOI_FROM_BITS(a)      MOI_CAT(moi_from_bits, MOI_ISA)(a)
#define MOI_ISET1(x)          MOI_CAT(moi_iset1, MOI_ISA)(x)
#define MOI_IADD(a, b)        MOI_CAT(moi_iadd, MOI_ISA)(a, b)
#define MOI_ISUB(a, b)        MOI_CAT(moi_isub, MOI_ISA)(a, b)
#define MOI_IAND(a, b)        MOI_CAT(moi_iand, MOI_ISA)(a, b)
#define MOI_IOR(a, b)         MOI_CAT(moi_ior, MOI_ISA)(a, b)
#define MOI_IXOR(a, b)        MOI_CAT(moi_ixor, MOI_ISA)(a, b)
#define MOI_IMUL(a, b)        MOI_CAT(moi_imul, MOI_ISA)(a, b) /* low 32 bits */
#define MOI_INOT(a)           MOI_IXOR(a, MOI_ISET1(0xffffffffu))
#define MOI_IMAX(a, b)        MOI_CAT(moi_imax, MOI_ISA)(a, b) /* signed */
#define MOI_IGT(a, b)         MOI_CAT(moi_igt, MOI_ISA)(a, b)  /* signed */
#define MOI_ISELECT(m, a, b)  MOI_CAT(moi_iselect, MOI_ISA)(m, a, b)
#define MOI_ISLL(a, n)        MOI_CAT(moi_isll, MOI_ISA)(a, n)
#define MOI_ISRL(a, n)        MOI_CAT(moi_isrl, MOI_ISA)(a, n)
#define MOI_ISRA(a, n)        MOI_CAT(moi_isra, MOI_ISA)(a, n)  /* signed */
#define MOI_ISLLN(a, n)       MOI_CAT(moi_islln, MOI_ISA)(a, n) /* n need not be a constant */
#define MOI_ISRLN(a, n)       MOI_CAT(moi_isrln, MOI_ISA)(a, n)
#define MOI_TO_INT(a)         MOI_CAT(moi_to_int, MOI_ISA)(a)   /* nearest even, |a| < 2^22 */
#define MOI_TO_FLOAT(a)       MOI_CAT(moi_to_float, MOI_ISA)(a) /* signed */
#define MOI_TRUNCATE(a)       MOI_CAT(moi_truncate, MOI_ISA)(a)
#define MOI_LOAD_U8(p)        MOI_CAT(moi_load_u8, MOI_ISA)(p)
#define MOI_STORE_U8(p, v)    MOI_CAT(moi_store_u8, MOI_ISA)(p, v)
#define MOI_LOAD_U16(p)       MOI_CAT(moi_load_u16, MOI_ISA)(p)
#define MOI_STORE_U16(p, v)   MOI_CAT(moi_store_u16, MOI_ISA)(p, v)
#define MOI_GATHER(table, i)  MOI_CAT(moi_gather, MOI_ISA)(table, i)
#define MOI_IGATHER(table, i) MOI_CAT(moi_igather, MOI_ISA)(table, i)
#define MOI_LOAD_F16(p)       MOI_CAT(moi_load_f16, MOI_ISA)(p)
#define MOI_STORE_F16(p, v)   MOI_CAT(moi_store_f16, MOI_ISA)(p, v)
#define MOI_STREAM_U8(p, v)   MOI_CAT(moi_stream_u8, MOI_ISA)(p, v) /* as MOI_STREAM */
#define MOI_STREAM_U16(p, v)  MOI_CAT(moi_stream_u16, MOI_ISA)(p, v)
#define MOI_STREAM_F16(p, v)  MOI_CAT(moi_stream_f16, MOI_ISA)(p, v)
#define MOI_STREAM_END()      MOI_CAT(moi_stream_end, MOI_ISA)() /* makes it visible */

/* MOI_T16 holds 16 floats; MOI_LOOKUP16 takes the low four bits of i.
 * Nibbles: 2 * MOI_LANES codes in MOI_LANES bytes, the first of two in the high half of its byte.
 * MOI_LOAD_NIBBLES gives the first or the second half of the codes in the low four bits, with
 * anything above; MOI_STORE_NIBBLES takes both halves, each number below 16. */
#define MOI_T16                    MOI_CAT(moi_t16, MOI_ISA)
#define MOI_TABLE16(p)             MOI_CAT(moi_table16, MOI_ISA)(p)
#define MOI_LOOKUP16(table, i)     MOI_CAT(moi_lookup16, MOI_ISA)(table, i)
#define MOI_LOAD_NIBBLES(p, half)  MOI_CAT(moi_load_nibbles, MOI_ISA)(p, half)
#define MOI_STORE_NIBBLES(p, a, b) MOI_CAT(moi_store_nibbles, MOI_ISA)(p, a, b)

/* two vectors, one after the other; stream: as MOI_STREAM, p aligned to both */
#define MOI_STORE2_U16(p, a, b, stream) MOI_CAT(moi_store2_u16, MOI_ISA)(p, a, b, stream)

/* moi_random_mix of every lane: the random bits of indices, which are xored with the key first. */
#define MOI_RANDOM(index, key) MOI_FN(moi_random)(MOI_IXOR(index, key))

/* Call the instance of kernel for the CPU in use; arguments in their own parentheses. */
#if MOI_X86
#define MOI_DISPATCH(kernel, arguments)                                                            \
    do {                                                                                           \
        switch (mo_cpu_current()) {                                                                \
        case MO_CPU_AVX512: kernel##_avx512 arguments; break;                                      \
        case MO_CPU_AVX2: kernel##_avx2 arguments; break;                                          \
        default: kernel##_scalar arguments; break;                                                 \
        }                                                                                          \
    } while (0)
#elif MOI_NEON
#define MOI_DISPATCH(kernel, arguments)                                                            \
    do {                                                                                           \
        if (mo_cpu_current() == MO_CPU_NEON) kernel##_neon arguments;                              \
        else kernel##_scalar arguments;                                                            \
    } while (0)
#else
#define MOI_DISPATCH(kernel, arguments) kernel##_scalar arguments
#endif

#endif
