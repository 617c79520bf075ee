/* mo_cl_kernel.h - every kernel, and how one is called; never part of the public header.
 *
 *     moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_fill_u32, NULL);
 *     moi_cl_mem_arg(&call, &x, 4, n);
 *     moi_cl_u32_arg(&call, value);
 *     moi_cl_u64_arg(&call, n);
 *     return moi_cl_end(&call, MO_CL_COMPUTE, moi_cl_tiles(cl, n), NULL, NULL);
 *
 * What fails is kept in the call and comes out of moi_cl_end; nothing is enqueued then. */
#ifndef MEMOPT_CL_KERNEL_H
#define MEMOPT_CL_KERNEL_H

/* Kernel files: X(name, shared): name.cl behind prelude.cl and shared.cl; prelude = none. A shared
 * file that stands here too has its own shared file in front. */
#define MOI_CL_FILES(X)                                                                            \
    X(memory, prelude)                                                                             \
    X(accum, codec)                                                                                \
    X(act, math)                                                                                   \
    X(mask, codec)                                                                                 \
    X(compress, codec)                                                                             \
    X(columns, math)                                                                               \
    X(norm, math)                                                                                  \
    X(rmsnorm, math)                                                                               \
    X(rope, prelude)                                                                               \
    X(embedding, prelude)                                                                          \
    X(gemm, codec)                                                                                 \
    X(attention_mask, math)                                                                        \
    X(attention_lanes, attention_mask)                                                             \
    X(attention_tile, attention_lanes)                                                             \
    X(attention, attention_tile)                                                                   \
    X(linear_attention, math)                                                                      \
    X(loss_row, math)                                                                              \
    X(loss, loss_row)                                                                              \
    X(distill, loss_row)                                                                           \
    X(half, codec)                                                                                 \
    X(mezo, codec)                                                                                 \
    X(optim_low, codec)                                                                            \
    X(double, codec)                                                                               \
    X(accum_square, double)                                                                        \
    X(quant8, codec)                                                                               \
    X(quant4, codec)                                                                               \
    X(int8, codec)                                                                                 \
    X(lora, codec)                                                                                 \
    X(optim_update, double)                                                                        \
    X(optim, optim_update)                                                                         \
    X(optim_blocks, optim_update)                                                                  \
    X(optim_norms, optim_update)                                                                   \
    X(optim_factored, optim_update)                                                                \
    X(optim_low_step, optim_update)                                                                \
    X(optim_rows, double)

/* Kernels: X(file, name). */
#define MOI_CL_KERNELS(X)                                                                          \
    X(memory, mo_cl_fill_u32)                                                                      \
    X(memory, mo_cl_copy_u32)                                                                      \
    X(accum, mo_cl_accum_add)                                                                      \
    X(act, mo_cl_gelu_forward)                                                                     \
    X(act, mo_cl_gelu_backward)                                                                    \
    X(act, mo_cl_swiglu_forward)                                                                   \
    X(act, mo_cl_swiglu_backward)                                                                  \
    X(mask, mo_cl_mask_run)                                                                        \
    X(compress, mo_cl_compress_encode)                                                             \
    X(compress, mo_cl_compress_decode)                                                             \
    X(columns, mo_cl_columns_sum)                                                                  \
    X(columns, mo_cl_columns_norm)                                                                 \
    X(columns, mo_cl_columns_rmsnorm)                                                              \
    X(columns, mo_cl_bias_forward)                                                                 \
    X(norm, mo_cl_layernorm_forward)                                                               \
    X(norm, mo_cl_layernorm_dx)                                                                    \
    X(rmsnorm, mo_cl_rmsnorm_forward)                                                              \
    X(rmsnorm, mo_cl_rmsnorm_dx)                                                                   \
    X(rope, mo_cl_rope_turn)                                                                       \
    X(norm, mo_cl_layernorm_restore)                                                               \
    X(embedding, mo_cl_embedding_forward)                                                          \
    X(embedding, mo_cl_embedding_dwte)                                                             \
    X(embedding, mo_cl_embedding_dwpe)                                                             \
    X(gemm, mo_cl_gemm)                                                                            \
    X(attention, mo_cl_attention_forward)                                                          \
    X(attention, mo_cl_attention_dq)                                                               \
    X(attention, mo_cl_attention_dkv)                                                              \
    X(linear_attention, mo_cl_linear_attention_sum)                                                \
    X(linear_attention, mo_cl_linear_attention_divide)                                             \
    X(linear_attention, mo_cl_linear_attention_dot)                                                \
    X(loss, mo_cl_linear_ce_rows)                                                                  \
    X(loss, mo_cl_linear_ce_count)                                                                 \
    X(distill, mo_cl_linear_kd_rows)                                                               \
    X(distill, mo_cl_linear_kd_topk_rows)                                                          \
    X(distill, mo_cl_linear_kd_topk)                                                               \
    X(accum, mo_cl_accum_add_bf16_stochastic)                                                      \
    X(accum, mo_cl_accum_add_bf16_kahan)                                                           \
    X(accum, mo_cl_accum_scale)                                                                    \
    X(accum, mo_cl_accum_unscale)                                                                  \
    X(accum_square, mo_cl_accum_square_parts)                                                      \
    X(optim, mo_cl_optim_step)                                                                     \
    X(optim_blocks, mo_cl_optim_step_blocks)                                                       \
    X(optim_norms, mo_cl_optim_norms)                                                              \
    X(optim_rows, mo_cl_optim_rows)                                                                \
    X(optim_rows, mo_cl_optim_columns)                                                             \
    X(optim_rows, mo_cl_optim_row_sum)                                                             \
    X(optim_factored, mo_cl_optim_factored_norms)                                                  \
    X(optim_factored, mo_cl_optim_factored_step)                                                   \
    X(mezo, mo_cl_mezo_move)                                                                       \
    X(optim_low, mo_cl_low_project)                                                                \
    X(optim_low, mo_cl_low_lengths)                                                                \
    X(optim_low, mo_cl_low_signs)                                                                  \
    X(optim_low, mo_cl_low_multiply)                                                               \
    X(optim_low, mo_cl_low_orthonormal)                                                            \
    X(optim_low_step, mo_cl_low_scaled)                                                            \
    X(optim_low_step, mo_cl_low_back)                                                              \
    X(lora, mo_cl_lora_drop)                                                                       \
    X(lora, mo_cl_lora_init)                                                                       \
    X(half, mo_cl_half_encode)                                                                     \
    X(half, mo_cl_half_decode)                                                                     \
    X(quant8, mo_cl_quant8_encode)                                                                 \
    X(quant8, mo_cl_quant8_decode)                                                                 \
    X(quant4, mo_cl_quant4_encode)                                                                 \
    X(quant4, mo_cl_quant4_decode)                                                                 \
    X(int8, mo_cl_int8_count)                                                                      \
    X(int8, mo_cl_int8_collect)                                                                    \
    X(int8, mo_cl_int8_encode)                                                                     \
    X(int8, mo_cl_int8_decode)                                                                     \
    X(int8, mo_cl_int8_scatter)

#define MOI_CL_FILE_ID(name, shared) MOI_CL_FILE_##name,
typedef enum moi_cl_file { MOI_CL_FILES(MOI_CL_FILE_ID) MOI_CL_FILE_COUNT } moi_cl_file;
#undef MOI_CL_FILE_ID

#define MOI_CL_KERNEL_ID(file, name) MOI_CL_##name,
typedef enum moi_cl_kernel { MOI_CL_KERNELS(MOI_CL_KERNEL_ID) MOI_CL_KERNEL_COUNT } moi_cl_kernel;
#undef MOI_CL_KERNEL_ID

typedef struct moi_cl_call {
    mo_cl *cl;
    moi_cl_kernel id;
    cl_kernel kernel;
    cl_uint n_args;
    mo_status status;
} moi_cl_call;

/* options: -D of the variant that is wanted, such as "-DMO_KIND=1"; NULL = none. Compiled at the
 * first call with them. */
static moi_cl_call moi_cl_begin(mo_cl *cl, moi_cl_kernel id, const char *options);

/* Two arguments: the buffer, and the offset of mem in elements of size bytes (ulong). n elements
 * from there on must be inside mem, else the call is MO_E_INVALID. */
static void moi_cl_mem_arg(moi_cl_call *call, const mo_cl_mem *mem, size_t size, uint64_t n);
static void moi_cl_u32_arg(moi_cl_call *call, uint32_t value);
static void moi_cl_u64_arg(moi_cl_call *call, uint64_t value);
static void moi_cl_f32_arg(moi_cl_call *call, float value);
/* Any other type, by its bytes. */
static void moi_cl_raw_arg(moi_cl_call *call, const void *value, size_t size);

/* One argument: the buffer of tables that codec.cl describes, made at the first use. */
static void moi_cl_tables_arg(moi_cl_call *call);

/* Enqueues n_groups groups of cl->work_group items; 0 groups: nothing to do, and no event. */
static mo_status moi_cl_end(moi_cl_call *call, mo_cl_queue queue, uint64_t n_groups,
    const mo_cl_wait_list *after, cl_event *event);
/* The same on the compute queue, with no event. */
static mo_status moi_cl_run(moi_cl_call *call, uint64_t n_groups);

/* Whether n floats are inside mem, at a place that a float can have. */
static int moi_cl_has_floats(const mo_cl_mem *mem, uint64_t n);

/* Groups that n elements make in tiles of the prelude's MO_TILE. */
static uint64_t moi_cl_tiles(const mo_cl *cl, uint64_t n);

static void moi_cl_kernels_clear(mo_cl *cl);

#endif
