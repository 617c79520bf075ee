/* memopt_cl - the strategies of memopt.h on OpenCL devices, in a second C header.
 *
 *     #define MEMOPT_IMPLEMENTATION
 *     #define MEMOPT_CL_IMPLEMENTATION
 *     #include "memopt_cl.h"             // includes memopt.h, which lies beside it
 *
 *     mo_cl cl;
 *     if (mo_cl_init(&cl, NULL) != MO_OK) ...     // no device: use the CPU
 *
 * WHAT IS IN IT
 *
 * Every section below starts with its own manual page.
 *
 *   cl_device    the devices of this machine: listed, chosen by a string, described
 *   cl           a device in use: its context and queues, made here or attached to; waiting
 *   cl_times     how long kernels and transfers ran, and how much of it at the same time
 *   cl_program   programs compiled once, kept in memory and in a folder of files
 *   cl_heap      device memory: blocks in large buffers, under a budget that holds; copies and
 *                mappings
 *   cl_wrap      host memory as device memory without a copy, where the device shares it
 *   cl_arena     the memory of a plan: an arena whose addresses stand for bytes of the device
 *   cl_gemm      the matrix product, also of stored 16-, 8- and 4-bit matrices
 *   cl_staging   host memory that transfers run fast from
 *   cl_store     a store in host memory for offloaded activations: copies beside the kernels
 *   cl_page      arrays larger than the device: pages in host memory, a few on the device
 *   cl_half      numbers of two bytes and of one: fp16, bf16, fp8
 *   cl_quant     8-bit codes with one scale per block
 *   cl_quant4    4-bit codes, NF4 and FP4, and 8-bit codes for their scales
 *   cl_int8      8-bit integers with one scale per row, and their outliers
 *   cl_weight    a frozen matrix in 32, 16, 8 or 4 bits a number, read by products as it is stored
 *   cl_accum     gradients: sums over micro-batches, norms, clipping
 *   cl_optim     optimizer steps whose states take half a byte to 4 bytes a number
 *   cl_page_optim  the same with the states in host memory, a page at a time on the device
 *   cl_act       GELU and SwiGLU, backward from the input alone
 *   cl_mask      ReLU and dropout, backward from a bit a number or from the output
 *   cl_compress  saved activations in 8 or 4 bits a number
 *   cl_bias      biases of linear layers: into the rows of a product, sums of columns
 *   cl_norm      LayerNorm and RMSNorm whose output need not be kept
 *   cl_rope      rotary position embedding, in place
 *   cl_embedding  embeddings of tokens and positions
 *   cl_attention  exact attention without the seq x seq matrix: windows, shared heads, blocks
 *   cl_linear_attention  attention in time and memory of the sequence's length
 *   cl_qkv       the projection to queries, keys and values as one product, and its gradients
 *   cl_loss      cross-entropy fused with the output projection, in chunks of rows; cl_distill: a
 *                teacher, or its largest log-probabilities; cl_dpo: preferences between answers
 *   cl_lora      low-rank adapters on frozen weights of any format; merged into them
 *   cl_training  a device as the place of a planned training run
 *
 * HOW TO USE IT
 *
 * - As memopt.h: MEMOPT_CL_IMPLEMENTATION in exactly one file, which may be the one with
 *   MEMOPT_IMPLEMENTATION or another; or add memopt_cl.c beside memopt.c to the build. With
 *   MEMOPT_STATIC both implementations go into the same file.
 * - Needs the headers of OpenCL (CL/cl.h) and its loader: -lOpenCL -lm. OpenCL 1.2 is enough, of
 *   the host's calls and of the kernels' language; no extension is required.
 * - Defined with it, MEMOPT_CL_CLBLAST lets CLBlast compute products where it is the faster one:
 *   -lclblast.
 * - With -std=c99 or c11, the file with MEMOPT_CL_IMPLEMENTATION includes this header before any
 *   system header.
 *
 * ENVIRONMENT
 *
 *   MEMOPT_CL_DEVICE  the device to take when the program leaves it open: cl:P.D
 *   MEMOPT_CL_CACHE   the folder of compiled programs; empty = none
 *   MEMOPT_CL_MEM     the budget of a heap whose program leaves it open: 512M, 3G
 *   MEMOPT_CL_DEBUG   1 = a buffer for each block, with checked zones around it
 *
 * RULES
 *
 * Those of memopt.h. What OpenCL answers comes back as a mo_status; the mo_log hook hears the name
 * of the call, the name of the code, and the compiler's messages.
 *
 * Licence: see the LICENSE file; changes: CHANGELOG.md.
 */
#ifndef MEMOPT_CL_H
#define MEMOPT_CL_H

/* As in memopt.h: asked for before the first system header. */
#if defined(MEMOPT_CL_IMPLEMENTATION) && !defined(_WIN32)
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#endif

#include "memopt.h"

/* Nothing newer than 1.2 is called, whatever the program itself asks the headers for. */
#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#ifndef CL_USE_DEPRECATED_OPENCL_1_2_APIS
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#endif
#ifdef __APPLE__
#include <OpenCL/opencl.h>
#else
#include <CL/cl.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#include "mo_cl_device.h"
#include "mo_cl.h"
#include "mo_cl_times.h"
#include "mo_cl_program.h"
#include "mo_cl_heap.h"
#include "mo_cl_wrap.h"
#include "mo_cl_arena.h"
#include "mo_cl_gemm.h"
#include "mo_cl_staging.h"
#include "mo_cl_store.h"
#include "mo_cl_page.h"
#include "mo_cl_half.h"
#include "mo_cl_quant.h"
#include "mo_cl_quant4.h"
#include "mo_cl_int8.h"
#include "mo_cl_weight.h"
#include "mo_cl_accum.h"
#include "mo_cl_optim.h"
#include "mo_cl_page_optim.h"
#include "mo_cl_mezo.h"
#include "mo_cl_act.h"
#include "mo_cl_mask.h"
#include "mo_cl_compress.h"
#include "mo_cl_bias.h"
#include "mo_cl_norm.h"
#include "mo_cl_rope.h"
#include "mo_cl_embedding.h"
#include "mo_cl_attention.h"
#include "mo_cl_linear_attention.h"
#include "mo_cl_qkv.h"
#include "mo_cl_loss.h"
#include "mo_cl_distill.h"
#include "mo_cl_dpo.h"
#include "mo_cl_lora.h"
#include "mo_cl_training.h"

#ifdef __cplusplus
}
#endif

#endif
