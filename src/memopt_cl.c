/* memopt_cl.c - the implementation of memopt_cl.h, as one translation unit; it may be the one of
 * memopt.c too, which has defined what both use then. */
#ifndef MEMOPT_CL_IMPLEMENTATION
#define MEMOPT_CL_IMPLEMENTATION
#endif
#include "memopt_cl.h"
#include "mo_internal.h"

/* As in memopt.c: nothing is fused behind our back. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

#ifndef MEMOPT_FILE_H
#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#endif
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* not all of them are used here */
#endif
#include "mo_huge.h"
#include "mo_huge.c"
#include "mo_file.h"
#include "mo_file.c"
#include "mo_quant_coder.h"
#include "mo_quant_coder.c"
#include "mo_optim_rules.h"
#include "mo_optim_rules.c"
#include "mo_optim_pages.h"
#include "mo_optim_pages.c"
#include "mo_mezo_rules.h"
#include "mo_mezo_rules.c"
#include "mo_page_route.h"
#include "mo_page_route.c"
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

/* A program may ask the headers for a version in which calls of 1.2 are deprecated. */
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif

#include "mo_block_rules.h"
#include "mo_cl_internal.h"
#include "mo_cl_kernel.h"
#include "mo_cl_device.c"
#include "mo_cl.c"
#include "mo_cl_times.c"
#include "mo_cl_program.c"
#include "mo_cl_kernel.c"
#include "mo_cl_tables.c"
#include "mo_cl_heap_internal.h"
#include "mo_cl_heap_debug.c"
#include "mo_cl_heap.c"
#include "mo_cl_heap_defrag.c"
#include "mo_cl_transfer.c"
#include "mo_cl_wrap.c"
#include "mo_cl_arena.c"
#include "mo_cl_gemm_own.c"
#include "mo_cl_clblast.c"
#include "mo_cl_gemm.c"
#include "mo_cl_staging.c"
#include "mo_cl_store.c"
#include "mo_cl_page.c"
#include "mo_cl_half.c"
#include "mo_cl_quant.c"
#include "mo_cl_quant4.c"
#include "mo_cl_int8.c"
#include "mo_cl_weight.c"
#include "mo_cl_accum.c"
#include "mo_cl_optim.c"
#include "mo_cl_optim_low.c"
#include "mo_cl_page_optim.c"
#include "mo_cl_mezo.c"
#include "mo_cl_act.c"
#include "mo_cl_mask.c"
#include "mo_cl_compress.c"
#include "mo_cl_bias.c"
#include "mo_cl_norm.c"
#include "mo_cl_rope.c"
#include "mo_cl_embedding.c"
#include "mo_cl_attention.c"
#include "mo_cl_linear_attention.c"
#include "mo_cl_qkv.c"
#include "mo_cl_loss_internal.h"
#include "mo_cl_loss.c"
#include "mo_cl_distill.c"
#include "mo_cl_dpo.c"
#include "mo_cl_lora.c"
#include "mo_cl_training.c"

#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC pop_options
#elif defined(_MSC_VER)
#pragma fp_contract(on)
#endif
