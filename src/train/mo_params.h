/* mo_params.h - the list of a model's parameters: where each one's numbers and gradient are, which
 * are trained, and which share one tensor. */
#ifndef MEMOPT_PARAMS_H
#define MEMOPT_PARAMS_H

#include "mo_base.h"

enum { MO_PARAM_MAX_DIMS = 4 };

/* mo_param - one parameter, fp32 or bf16, row-major; its gradient is always fp32.
 *
 * name       as in checkpoints; owned by the list
 * shape      [n_dims]
 * n          numbers: the product of shape
 * data, grad set by mo_params_bind; grad is NULL for frozen parameters
 * bf16       instead of data, when is_bf16
 * is_bf16    not 0: bf16; of tied parameters the owner's counts. Before mo_params_bind
 * frozen     not 0: no gradient, no optimizer state; of tied parameters the owner's counts
 * tied_to    index of the parameter whose data and gradient this one shares, or its own index
 * Since: 0.1 */
typedef struct mo_param {
    const char *name;
    size_t shape[MO_PARAM_MAX_DIMS];
    size_t n_dims, n;
    float *data, *grad;
    uint16_t *bf16;
    int is_bf16, frozen;
    size_t tied_to;
} mo_param;

/* mo_params - the list; items may be read, and shape-independent fields changed, by the caller.
 * Since: 0.1 */
typedef struct mo_params {
    mo_param *items;
    size_t n;
    size_t capacity;
    mo_allocator allocator;
} mo_params;

/* mo_params_init - an empty list. mo_params_free - give its memory back; data and gradients are the
 * caller's and stay.
 *
 * allocator  in  for the list and the names; NULL = heap. Copied.
 *
 * Threads: safe for distinct lists
 * Since:   0.1 */
MEMOPT_API void mo_params_init(mo_params *params, const mo_allocator *allocator);
MEMOPT_API void mo_params_free(mo_params *params);

/* mo_params_add - append a parameter.
 *
 * name    in   unique; copied
 * shape   in   [n_dims] none 0
 * n_dims  in   1..MO_PARAM_MAX_DIMS
 * index   out  its place in items; NULL = not wanted
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, dims, name taken), MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_params_add(
    mo_params *params, const char *name, const size_t *shape, size_t n_dims, size_t *index);

/* mo_params_tie - let parameter index share data and gradient of parameter with: counted once, both
 * uses add to one gradient. Before mo_params_bind.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (out of range, different n, with is itself tied to another)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_params_tie(mo_params *params, size_t index, size_t with);

/* mo_params_find - the parameter of that name, or NULL; valid until the next mo_params_add.
 * Threads: safe. Since: 0.1 */
MEMOPT_API mo_param *mo_params_find(const mo_params *params, const char *name);

/* What mo_params_count and mo_params_size add up. */
typedef enum mo_params_what {
    MO_PARAMS_ALL = 0, /* every tensor once */
    MO_PARAMS_TRAINED  /* those not frozen: what has gradients */
} mo_params_what;

/* mo_params_count - numbers. mo_params_size - bytes, every tensor rounded up to 64: of the numbers
 * themselves (ALL), of the gradients (TRAINED).
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_params_count(const mo_params *params, mo_params_what what);
MEMOPT_API size_t mo_params_size(const mo_params *params, mo_params_what what);

/* mo_param_data - where the numbers are, whatever their type; NULL before mo_params_bind.
 * mo_param_bytes - bytes of the numbers.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API void *mo_param_data(const mo_param *param);
MEMOPT_API size_t mo_param_bytes(const mo_param *param);

/* mo_params_bind - place all data in one block and all gradients in another, in order, each tensor
 * at a multiple of 64 bytes. Contents are not touched.
 *
 * data  in  mo_params_size(ALL) bytes, 64-byte aligned; the caller's, valid as long as it is used
 * grad  in  mo_params_size(TRAINED) bytes; NULL = no gradients (inference)
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_params_bind(mo_params *params, void *data, void *grad);

#endif
