/* memopt - memory strategies for training and running neural networks, in one C header.
 *
 * QUICK START
 *
@embed-text examples/01_quickstart.c
 *
 * WHAT IS IN IT
 *
 * Every section below starts with its own manual page.
 *
 *   base         status codes, allocator, log and parallel hooks, CPU level, version
 *   dtype        element types of stored tensors
 *   queue        jobs for threads in the background
 *   arena        bump allocation over a block, or over address space that is committed as it grows
 *   pool         blocks of one size in O(1)
 *   suballoc     offsets in a range: a host block, a device buffer, a file
 *   track        who holds how much memory, now and at the peak; leaks; out-of-memory reports
 *   trace        what track saw, as SVG timeline and Chrome trace
 *   chart        strategies compared: a waterfall of what each saves, memory over time
 *   snapshot     what track saw, as a memory snapshot for PyTorch's viewer
 *   report       what track saw, as one HTML page
 *   half         fp16, bf16 and fp8, to nearest or stochastically
 *   quant        8-bit codes with one scale per block
 *   quant4       4-bit codes, NF4 and FP4, with one scale per block; 8-bit codes for the scales
 *   int8         8-bit integers with one scale per row, outliers kept apart
 *   gemm         the one matrix product that the rest uses, also on 16-, 8- and 4-bit matrices; a
 *                hook for your BLAS
 *   weight       a frozen matrix in 32, 16, 8 or 4 bits a number, read by products as it is stored
 *   params       the list of parameters: name, shape, data, gradient, ties
 *   norm, act    LayerNorm, RMSNorm, GELU and SwiGLU whose output need not be kept
 *   rope         rotary position embedding, in place
 *   mask         ReLU and dropout whose backward needs a bit a number, or the output alone
 *   compress     compressed activations: what backward needs, in 8 or 4 bits a number
 *   attention    exact attention without the seq x seq matrix: windows, shared heads, blocks
 *   linear_attention  attention in time and memory of the sequence's length
 *   qkv          the projection to queries, keys and values as one product, and its gradients
 *   loss         cross-entropy without the logits of the whole batch; distill: a teacher, or its
 *                largest log-probabilities; dpo: preferences between answers
 *   lora         low-rank adapters on frozen weights of any format; merged into them
 *   accum        gradient accumulation, clipping, loss scaling
 *   optim        fourteen optimizers over fp32, bf16, 8-bit or (AdamW) 4-bit states
 *   release      updates inside backward, and clipping there
 *   active       some blocks of a model at a time, and states for those only
 *   mezo         training by forward passes alone
 *   layout       lifetimes to offsets: buffers that are needed at different times share bytes, as
 *                few as can be; layout_svg draws it
 *   graph        ops and tensors: dropped, merged, computed in place, ordered for a low peak
 *   remat        schedules of a chain of stages: what to keep, what to compute again
 *   remat_flat, remat_optimal, remat_baseline, remat_offload, remat_profile
 *                the fastest schedule within a budget; what others do; activations in another
 *                memory; what the stages cost on this machine
 *   plan         a training step planned to the byte: the schedule, every address, every copy
 *   plan_build, plan_check, plan_write
 *                the fastest plan within a budget, in one call; a proof that its addresses are
 *                right; as text, JSON and picture
 *   dtr          evict and compute again on the fly, where no chain is known
 *   replay       an allocator that records a step, plans it, and serves the next ones from the plan
 *   place, place_write
 *                weights over devices, host memory and disk, with the least travel in a step; by
 *                hand; the order of what is streamed
 *   safetensors  read and write safetensors files; safetensors_shards: split over several
 *   gguf         read and write GGUF files; gguf_type: their element types, to and from floats
 *   lora_file    adapters in the files of PEFT
 *   optim_file   optimizer states in them: split, merged, requantized
 *   checkpoint   a whole run in one of them: saved, kept by count, resumed after a kill
 *   page         an array of which a few pages are in memory, the rest in a file
 *   page_optim   optimizer states in such pages
 *   stream       layers of a model larger than memory through a small window, read ahead
 *   tokens       the tokens of a training text, in files of llm.c or as bytes
 *   loader       batches of them, shuffled or not, prepared ahead; restartable anywhere
 *   model        sizes of a transformer, and how many numbers that makes
 *   model_params  its tensors: names, shapes, which are one
 *   model_file   these sizes from a config.json, safetensors or GGUF
 *   footprint    what a model takes by formulas alone: any precision, devices, adapters, inference
 *   strategy     what a training run trades for memory, as a value and as a line of text
 *   training     the plan of a training run by a strategy: bytes, places and seconds
 *   estimate     the same line by line with formulas, without running it
 *   machine      what the machine does in a second, measured in one
 *   machine_costs  what the stages of a training run cost there
 *   pareto       which configurations are worth having: none is better in both time and memory
 *   suggest      the fastest strategy within a budget, and why; the largest batch or sequence
 *   recover      when memory runs out: the next cheaper config, and the same step again
 *
 * It is not a tensor library and has no automatic differentiation: it works on the arrays that a
 * program already has. It does not touch a GPU.
 *
 * HOW TO USE IT
 *
 * - C or C++, one file: define MEMOPT_IMPLEMENTATION before the include, as above. Libraries to
 *   link: -lm, and -lpthread where the C library has it apart (none on Windows).
 * - Several files: define it in exactly one of them; the others include the header alone. The one
 *   may be C and the others C++.
 * - As a .c file: add memopt.c, which is these two lines, to the build.
 * - Private to one file: define MEMOPT_STATIC too; every function is static then, and another file
 *   can hold another version.
 *
 * CONFIGURATION: macros, defined before the include
 *
 *   MEMOPT_IMPLEMENTATION  compiles the implementation here; default: off
 *   MEMOPT_STATIC          makes every function static; default: off
 *   MEMOPT_API             stands before every declaration; default: extern
 *   MEMOPT_ASSERT(x)       catches bugs; default: assert(x), a few checks a call, none with NDEBUG
 *   MEMOPT_NO_THREADS      nothing runs in the background, for systems without threads; default:
 *                          POSIX or Windows threads
 *   MEMOPT_NO_SIMD         leaves only the scalar kernels, which are slower; default: off. Most of
 *                          them the compiler makes vectors of by itself; gcc needs
 *                          -fno-math-errno to do so with square roots (AdamW: 3 times faster)
 *   -fopenmp               runs loops on threads by OpenMP; default: one thread, or mo_parallel
 *
 * The kernels for AVX2, AVX-512 and NEON are always compiled in and chosen when the program runs;
 * -march flags are not needed. The environment variable MEMOPT_CPU=scalar|avx2|avx512|neon, or
 * mo_cpu_select, forces one.
 *
 * RULES
 *
 * - Memory: the library allocates only through the mo_allocator of a desc, and not inside a step.
 *   Every comment says who owns a pointer and how long it is valid. NULL allocator = the C heap.
 * - Descs: mo_x_desc d = {0} is valid (C++: d = {}); zero means the default that the comment of
 *   the field states.
 * - Errors: what can fail returns a mo_status, and leaves its outputs untouched when it fails.
 *   malloc-shaped functions return NULL. The library never prints, exits or aborts; a mo_log hook
 *   hears the details.
 * - Threads: each comment has a Threads line. Results do not depend on the number of threads.
 * - Exactness: results are the same on every CPU where a comment says so; -ffast-math and -Ofast
 *   break that, and compiling the implementation with them is not supported.
 * - With -std=c99 or c11, the file with MEMOPT_IMPLEMENTATION includes this header before any
 *   system header, since it asks them for mmap and the like.
 *
 * STATUS CODES
 *
@embed-text src/base/mo_status.inc
 *
 * PORTABILITY
 *
 * C99 and later, C++11 and later. gcc and clang are tested; the code keeps to what MSVC has.
 * x86-64 (AVX2, AVX-512), AArch64 (NEON); scalar kernels elsewhere. Linux is tested; the code for
 * macOS and Windows is there.
 *
 * Licence: see the LICENSE file; changes: CHANGELOG.md.
 */
#ifndef MEMOPT_H
#define MEMOPT_H

/* mmap, fsync and the like are not in ISO C; they are asked for before the first system header. */
#if defined(MEMOPT_IMPLEMENTATION) && !defined(_WIN32)
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#endif

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "mo_base.h"
#include "mo_dtype.h"
#include "mo_queue.h"
#include "mo_arena.h"
#include "mo_pool.h"
#include "mo_suballoc.h"
#include "mo_track.h"
#include "mo_trace.h"
#include "mo_chart.h"
#include "mo_snapshot.h"
#include "mo_report.h"

#include "mo_half.h"
#include "mo_quant.h"
#include "mo_quant4.h"
#include "mo_int8.h"
#include "mo_gemm.h"
#include "mo_weight.h"
#include "mo_params.h"
#include "mo_accum.h"
#include "mo_optim.h"
#include "mo_release.h"
#include "mo_active.h"
#include "mo_mezo.h"
#include "mo_norm.h"
#include "mo_act.h"
#include "mo_rope.h"
#include "mo_mask.h"
#include "mo_compress.h"
#include "mo_attention.h"
#include "mo_linear_attention.h"
#include "mo_qkv.h"
#include "mo_loss.h"
#include "mo_distill.h"
#include "mo_dpo.h"
#include "mo_lora.h"

#include "mo_layout.h"
#include "mo_layout_svg.h"
#include "mo_graph.h"
#include "mo_remat.h"
#include "mo_remat_flat.h"
#include "mo_remat_optimal.h"
#include "mo_remat_baseline.h"
#include "mo_remat_offload.h"
#include "mo_dtr.h"
#include "mo_plan.h"
#include "mo_plan_check.h"
#include "mo_plan_write.h"
#include "mo_plan_build.h"
#include "mo_remat_profile.h"
#include "mo_replay.h"
#include "mo_place.h"
#include "mo_place_write.h"

#include "mo_store_parts.h"
#include "mo_safetensors.h"
#include "mo_safetensors_writer.h"
#include "mo_safetensors_shards.h"
#include "mo_lora_file.h"
#include "mo_optim_file.h"
#include "mo_checkpoint.h"
#include "mo_gguf_type.h"
#include "mo_gguf.h"
#include "mo_gguf_writer.h"
#include "mo_page.h"
#include "mo_page_optim.h"
#include "mo_stream.h"
#include "mo_tokens.h"
#include "mo_loader.h"

#include "mo_model.h"
#include "mo_model_params.h"
#include "mo_model_file.h"
#include "mo_footprint.h"
#include "mo_strategy.h"
#include "mo_training.h"
#include "mo_estimate.h"
#include "mo_machine.h"
#include "mo_machine_costs.h"
#include "mo_pareto.h"
#include "mo_suggest.h"
#include "mo_recover.h"

#ifdef __cplusplus
}
#endif

#endif
