/* mo_internal.h - helpers that every implementation file uses; never part of the public header. */
#ifndef MEMOPT_INTERNAL_H
#define MEMOPT_INTERNAL_H

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#ifndef MEMOPT_ASSERT
#include <assert.h>
#define MEMOPT_ASSERT(condition) assert(condition)
#endif

/* ---- the compiler -------------------------------------------------------------------------- */

#if defined(__GNUC__) || defined(__clang__)
#define MOI_ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#ifdef __MINGW32__
#define MOI_PRINTF(at) __attribute__((format(gnu_printf, at, at + 1)))
#else
#define MOI_PRINTF(at) __attribute__((format(printf, at, at + 1)))
#endif
#define MOI_LIKELY(x)      __builtin_expect(!!(x), 1)
#define MOI_TARGET_(set)   __attribute__((target(set)))
#define MOI_ALIGNED(bytes) __attribute__((aligned(bytes)))
#else
#define MOI_ALWAYS_INLINE static inline
#define MOI_PRINTF(at)
#define MOI_LIKELY(x) (x)
#define MOI_TARGET_(set)
#define MOI_ALIGNED(bytes) __declspec(align(bytes))
#endif

/* For functions of which a loop of about 120 bytes of code is the whole time. Measured on a shared
 * Zen 3: builds where it lies across three lines of the cache, not two, take 7 % longer. */
#if defined(__GNUC__) && !defined(__clang__)
#define MOI_ALIGN_LOOPS __attribute__((optimize("align-loops=64")))
#else
#define MOI_ALIGN_LOOPS
#endif

#if defined(__GNUC__) || defined(_MSC_VER)
#define MOI_RESTRICT __restrict
#elif defined(__cplusplus)
#define MOI_RESTRICT
#else
#define MOI_RESTRICT restrict
#endif

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(MEMOPT_NO_SIMD)
#define MOI_X86 1
#include <immintrin.h>
#else
#define MOI_X86 0
#endif
#if (defined(__aarch64__) || defined(_M_ARM64)) && !defined(MEMOPT_NO_SIMD)
#define MOI_NEON 1
#include <arm_neon.h>
#else
#define MOI_NEON 0
#endif

/* AddressSanitizer: memory that an allocator holds but has not handed out is poisoned. */
#if defined(__SANITIZE_ADDRESS__)
#define MOI_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOI_ASAN 1
#endif
#endif
#ifndef MOI_ASAN
#define MOI_ASAN 0
#endif
#if MOI_ASAN
#ifdef __cplusplus
extern "C" {
#endif
void __asan_poison_memory_region(void const volatile *addr, size_t size);
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#ifdef __cplusplus
}
#endif
#define MOI_POISON(ptr, size)   __asan_poison_memory_region((ptr), (size))
#define MOI_UNPOISON(ptr, size) __asan_unpoison_memory_region((ptr), (size))
#else
#define MOI_POISON(ptr, size)   ((void)(ptr), (void)(size))
#define MOI_UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

/* ---- sizes: every size computed from arguments goes through these --------------------------- */

MOI_ALWAYS_INLINE int moi_is_pow2(size_t x) { return x != 0 && (x & (x - 1)) == 0; }

MOI_ALWAYS_INLINE size_t moi_min(size_t a, size_t b) { return a < b ? a : b; }
MOI_ALWAYS_INLINE size_t moi_max(size_t a, size_t b) { return a > b ? a : b; }
MOI_ALWAYS_INLINE size_t moi_ceil_div(size_t a, size_t b) { return a / b + (a % b != 0); }

/* The first part of n when parts of at most so many are as equal as whole grains allow. */
MOI_ALWAYS_INLINE size_t moi_equal_part(size_t n, size_t most, size_t grain) {
    const size_t parts = moi_max(moi_ceil_div(n, most), 1);
    return moi_min(moi_min(n, most), moi_ceil_div(moi_ceil_div(n, parts), grain) * grain);
}

/* *out = a + b; 0 and *out untouched when it does not fit. */
MOI_ALWAYS_INLINE int moi_add(size_t a, size_t b, size_t *out) {
    if (b > SIZE_MAX - a) return 0;
    *out = a + b;
    return 1;
}

/* *out = a * b; 0 and *out untouched when it does not fit. */
MOI_ALWAYS_INLINE int moi_mul(size_t a, size_t b, size_t *out) {
    if (a != 0 && b > SIZE_MAX / a) return 0;
    *out = a * b;
    return 1;
}

/* *out = size rounded up to align (a power of two); 0 when it does not fit. */
MOI_ALWAYS_INLINE int moi_align_up(size_t size, size_t align, size_t *out) {
    if (size > SIZE_MAX - (align - 1)) return 0;
    *out = (size + align - 1) & ~(align - 1);
    return 1;
}

/* ---- bits ----------------------------------------------------------------------------------- */

MOI_ALWAYS_INLINE uint32_t moi_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
MOI_ALWAYS_INLINE float moi_bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 32 random bits of number index under a seed: a hash, so that any part of a sequence can be had
 * again. key = moi_random_key(seed, index >> 32); moi_random_mix of the low half
 * ^ key are the bits. */
MOI_ALWAYS_INLINE uint32_t moi_random_mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}
MOI_ALWAYS_INLINE uint32_t moi_random_key(uint64_t seed, uint64_t high) {
    return moi_random_mix(
        (uint32_t)seed + moi_random_mix((uint32_t)(seed >> 32) + moi_random_mix((uint32_t)high)));
}

/* Largest alignment that the library asks for: a cache line and an AVX-512 vector. */
enum { MOI_CACHE_LINE = 64 };

#endif
