/* memopt.c - every implementation file in the order of the layers, as one translation unit. */
#ifndef MEMOPT_IMPLEMENTATION
#define MEMOPT_IMPLEMENTATION
#endif
#include "memopt.h"
#include "mo_internal.h"

/* Results are the same on every machine only when a * b + c is never fused behind our back; the
 * kernels that want a fused multiply-add ask for it by name. */
#ifdef __FAST_MATH__
#error "memopt keeps to IEEE arithmetic: compile its implementation without -ffast-math and -Ofast"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-math-errno", "no-trapping-math")
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized" /* false alarms from avx512fintrin.h */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

#include "mo_os.h"
#include "mo_huge.h"
#include "mo_thread.h"
#include "mo_base.c"
#include "mo_dtype.c"
#include "mo_os.c"
#include "mo_huge.c"
#include "mo_thread.c"
#include "mo_queue.c"
#include "mo_arena.c"
#include "mo_pool.c"
#include "mo_suballoc.c"
#include "mo_track.c"
#include "mo_svg.c"
#include "mo_trace.c"
#include "mo_chart.c"
#include "mo_snapshot.c"
#include "mo_report.c"

#include "mo_simd.h"
#include "mo_half.c"
#include "mo_math.c"
#include "mo_quant_coder.h"
#include "mo_quant_coder.c"
#include "mo_quant.c"
#include "mo_quant4.c"
#include "mo_int8.c"
#include "mo_gemm_internal.h"
#include "mo_gemm.c"
#include "mo_params.c"
#include "mo_accum.c"
#include "mo_optim_rules.h"
#include "mo_optim_rules.c"
#include "mo_optim.c"
#include "mo_release.c"
#include "mo_optim_pages.h"
#include "mo_optim_pages.c"
#include "mo_norm.c"
#include "mo_block_rules.h"
#include "mo_act.c"
#include "mo_rope.c"
#include "mo_mask.c"
#include "mo_compress.c"
#include "mo_attention.c"
#include "mo_linear_attention.c"
#include "mo_qkv.c"
#include "mo_loss.c"

#include "mo_layout_internal.h"
#include "mo_layout.c"
#include "mo_layout_greedy.c"
#include "mo_layout_search.c"
#include "mo_layout_tables.c"
#include "mo_layout_minimum.c"
#include "mo_layout_alias.c"
#include "mo_layout_spaces.c"
#include "mo_layout_check.c"
#include "mo_layout_svg.c"
#include "mo_graph_internal.h"
#include "mo_graph.c"
#include "mo_graph_pass.c"
#include "mo_graph_live.c"
#include "mo_graph_greedy.c"
#include "mo_graph_order.c"
#include "mo_graph_text.c"
#include "mo_graph_draw.c"
#include "mo_remat.c"
#include "mo_remat_flat.c"
#include "mo_remat_model.h"
#include "mo_remat_model.c"
#include "mo_remat_groups.c"
#include "mo_remat_table.c"
#include "mo_remat_solve.c"
#include "mo_remat_baseline.c"
#include "mo_remat_offload_internal.h"
#include "mo_remat_offload_sim.c"
#include "mo_remat_offload.c"
#include "mo_dtr_internal.h"
#include "mo_dtr_evict.c"
#include "mo_dtr.c"
#include "mo_plan_internal.h"
#include "mo_plan_make.c"
#include "mo_plan.c"
#include "mo_plan_check.c"
#include "mo_plan_write.c"
#include "mo_plan_build.c"
#include "mo_remat_profile.c"
#include "mo_replay.c"
#include "mo_place_internal.h"
#include "mo_place.c"
#include "mo_place_greedy.c"
#include "mo_place_search.c"
#include "mo_place_stream.c"
#include "mo_place_write.c"

#include "mo_json.h"
#include "mo_file.h"
#include "mo_file_log.h"
#include "mo_names.h"
#include "mo_input.h"
#include "mo_output.h"
#include "mo_json.c"
#include "mo_file.c"
#include "mo_file_log.c"
#include "mo_names.c"
#include "mo_input.c"
#include "mo_output.c"
#include "mo_safetensors.c"
#include "mo_safetensors_writer.c"
#include "mo_safetensors_shards.c"
#include "mo_optim_file.c"
#include "mo_checkpoint_internal.h"
#include "mo_checkpoint_sum.c"
#include "mo_checkpoint_files.c"
#include "mo_checkpoint.c"
#include "mo_gguf_type.c"
#include "mo_gguf.c"
#include "mo_gguf_writer.c"
#include "mo_page_route.h"
#include "mo_page_route.c"
#include "mo_page.c"
#include "mo_page_optim.c"
#include "mo_stream.c"
#include "mo_tokens_internal.h"
#include "mo_tokens.c"
#include "mo_loader.c"

#if defined(__clang__)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC diagnostic pop
#pragma GCC pop_options
#elif defined(_MSC_VER)
#pragma fp_contract(on)
#endif
