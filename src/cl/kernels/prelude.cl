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
