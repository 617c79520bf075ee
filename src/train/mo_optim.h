/* mo_optim.h - optimizer steps whose states take 1 or 4 bytes a number, on any slice of a
 * tensor. */
#ifndef MEMOPT_OPTIM_H
#define MEMOPT_OPTIM_H

#include "mo_base.h"

typedef enum mo_optim_kind {
    MO_OPTIM_ADAMW = 0, /* two states */
    MO_OPTIM_SGD,       /* momentum: one state */
    MO_OPTIM_KIND_COUNT
} mo_optim_kind;

typedef enum mo_optim_precision {
    MO_OPTIM_F32 = 0, /* 4 bytes a number and state */
    MO_OPTIM_8BIT,    /* blockwise dynamic map: 1 byte, and 4 per block */
    MO_OPTIM_PRECISION_COUNT
} mo_optim_precision;

/* mo_optim_desc - one optimizer. lr and grad_scale may change from step to step, the rest may not.
 *
 * kind, precision  see above
 * lr               step size; 0 = parameters stay as they are, as a schedule may ask
 * beta1            AdamW: of the first moment, 0 = 0.9; SGD: momentum, 0 = none
 * beta2            AdamW: of the second moment. 0 = 0.999
 * epsilon          AdamW; 0 = 1e-8
 * weight_decay     decoupled (AdamW), added to the gradient (SGD)
 * grad_scale       gradients are multiplied with it: clipping, or 1 / loss scale; 0 = 1
 * block            8-bit: numbers per scale, a power of two, 64..4096; 0 = 256
 * min_8bit_size    tensors with fewer numbers keep fp32 states; 0 = 4096, 1 = none do
 * parallel         NULL = default
 * Since: 0.1 */
typedef struct mo_optim_desc {
    mo_optim_kind kind;
    mo_optim_precision precision;
    double lr, beta1, beta2, epsilon, weight_decay, grad_scale;
    size_t block, min_8bit_size;
    const mo_parallel *parallel;
} mo_optim_desc;

/* mo_optim_desc_defaults - the desc with every zero replaced. Threads: safe. Since: 0.1 */
MEMOPT_API mo_optim_desc mo_optim_desc_defaults(const mo_optim_desc *desc);

/* mo_optim_state - where the states of one tensor lie, in memory that the caller owns.
 *
 * n          numbers in the tensor
 * precision  decided once, at init, from the size of the whole tensor
 * block      numbers per scale
 * m, v       [n] float or uint8_t: first moment or momentum; AdamW only: second moment. 8-bit v
 *            holds the square root of the second moment, never rounded to zero: with codes of v
 *            itself, a small v next to a large one becomes 0 and the update m / epsilon.
 * m_absmax, v_absmax  8-bit: [ceil(n / block)] scales
 * Since: 0.1 */
typedef struct mo_optim_state {
    size_t n;
    mo_optim_precision precision;
    size_t block;
    void *m, *v;
    float *m_absmax, *v_absmax;
} mo_optim_state;

/* mo_optim_state_size - bytes that the states of a tensor of n numbers take; 0 when that does not
 * fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_optim_state_size(const mo_optim_desc *desc, size_t n);

/* mo_optim_state_init - lay the states out in memory and set them to zero.
 *
 * memory  out  size bytes, 64-byte aligned; must stay valid as long as the state is used
 * state   out
 *
 * Threads: safe for distinct memory
 * Errors:  MO_E_INVALID (NULL, kind, precision, block), MO_E_NO_SPACE (size), MO_E_OVERFLOW (n)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_state_init(
    const mo_optim_desc *desc, size_t n, void *memory, size_t size, mo_optim_state *state);

/* mo_optim_state_slice - the states of the numbers begin..begin + n - 1 of a tensor: to update it
 * piece by piece. The result is bit-identical to updating the whole.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, out of range; 8-bit: begin not at a block, or an end inside a block
 *          that is not the tensor's end)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_state_slice(
    const mo_optim_state *state, size_t begin, size_t n, mo_optim_state *slice);

/* mo_optim_step - one update.
 *
 *   g = grad_scale grad
 *   AdamW:  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
 *           p = p (1 - lr wd) - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
 *   SGD:    g = g + wd p,  m = g at t = 1, else b1 m + g,  p = p - lr m
 *
 * t      in      step number, from 1
 * param  in out  [state.n]
 * grad   in      [state.n]
 * state  in out
 *
 * The update uses the new m and v before they are rounded to 8 bits. A parameter whose gradient has
 * always been zero stays exactly as it is (without weight decay), and so does its state.
 * Bit-identical on every CPU, for any number of threads and any slicing.
 *
 * Memory:  none
 * Threads: safe for distinct params
 * Errors:  MO_E_INVALID (NULL, t = 0, desc)
 * Cost:    AdamW, bytes moved per number: 28 (fp32), 16.06 (8-bit)
 * Source:  Loshchilov and Hutter 2019, arXiv:1711.05101; Dettmers et al. 2022, arXiv:2110.02861
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_step(const mo_optim_desc *desc, uint64_t t,
    float *param, const float *grad, const mo_optim_state *state);

#endif
