/* prelude.cl - joined in front of every kernel file: what they all use.
 *
 * MEMOPT_WG  work-items of a group: 1 on CPUs, 64 or more on GPUs
 *
 * OpenCL C 1.2 without extensions: no half or double arithmetic, unless a file asks for it where
 * the device has it. Nothing is fused behind our back: results must be those of the CPU's kernels,
 * and what wants a fused multiply-add calls fma. Helpers are static inline and have no restrict,
 * which some compilers do not digest there.
 *
 * A group owns one contiguous tile of MO_TILE elements and its work-items walk over it side by
 * side: unit stride on a CPU, where MEMOPT_WG is 1, and coalesced on a GPU. */
#pragma OPENCL FP_CONTRACT OFF

#if MEMOPT_WG == 1
#define MO_TILE 16384u
#else
#define MO_TILE 4096u
#endif

#define MO_KERNEL __kernel __attribute__((reqd_work_group_size(MEMOPT_WG, 1, 1)))

/* What compilers of processors offer beyond OpenCL C. */
#if MEMOPT_WG == 1 && defined(__has_builtin) && !defined(__SPIR__) && !defined(__SPIRV__)
#define MO_HAS_BUILTIN(name) __has_builtin(name)
#else
#define MO_HAS_BUILTIN(name) 0
#endif

/* The cache line some bytes ahead of address p: processors stop at pages when they look ahead. */
#define MO_AHEAD_BYTES 2048u
#if MO_HAS_BUILTIN(__builtin_prefetch)
#define MO_PREFETCH(p, bytes) __builtin_prefetch((const void *)((uintptr_t)(p) + (bytes)))
#else
#define MO_PREFETCH(p, bytes)
#endif

/* at(0) .. at(7): an expression, as some compilers keep arrays in memory. */
#define MO_VECTOR_OF(type) type##8
#define MO_VECTOR_8(type)  MO_VECTOR_OF(type)
#define MO_8_OF(type, at)                                                                          \
    ((MO_VECTOR_8(type))(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)))

/* Large results go past the caches: such a store needs no line read before it. MO_STREAM_8 stores 8
 * numbers at an address that is a multiple of their bytes, from which the next one is
 * MO_STREAM_HEAD numbers away; MO_STREAM_END stands behind the last one. */
#if MO_HAS_BUILTIN(__builtin_nontemporal_store)
#define MO_STREAMS 1
#ifndef MO_STREAM_BYTES
#define MO_STREAM_BYTES (8u << 20) /* more would push all else out of the cache */
#endif
#define MO_STREAM_LARGE(type, n) ((n) >= MO_STREAM_BYTES / sizeof(type))
#define MO_STREAM_HEAD(type, to) ((0u - (uint)((uintptr_t)(to) / sizeof(type))) & 7u)
#define MO_STREAM_8(type, v, to) __builtin_nontemporal_store(v, (__global MO_VECTOR_8(type) *)(to))
#define MO_STREAM_END()          mem_fence(CLK_GLOBAL_MEM_FENCE)
#else
#define MO_STREAMS 0
#endif

/* 32 random bits of an index: moi_random_mix and moi_random_key of the CPU. */
static inline uint mo_random_mix(uint x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* The key of the indices whose upper half this is. */
static inline uint mo_random_key(ulong seed, uint high) {
    return mo_random_mix((uint)seed + mo_random_mix((uint)(seed >> 32) + mo_random_mix(high)));
}

/* The bits of an index by its lower half. */
static inline uint mo_random(uint low, uint key) { return mo_random_mix(low ^ key); }

/* The same of number i behind first: next is the key of the following upper half, for a tile that
 * reaches into it. */
static inline uint mo_random_at(uint first, uint i, uint key, uint next) {
    const uint low = first + i;
    return mo_random(low, low < first ? next : key);
}
