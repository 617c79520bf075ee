/* mo_optim.h - optimizer steps whose states take half a byte to 4 bytes a number, on any slice of a
 * tensor. */
#ifndef MEMOPT_OPTIM_H
#define MEMOPT_OPTIM_H

#include "mo_base.h"

/* Numbers are stored in checkpoints and never change. "Whole" kinds need statistics of the whole
 * tensor and cannot work on slices. */
typedef enum mo_optim_kind {
    MO_OPTIM_ADAMW = 0,        /* m, v; decoupled weight decay */
    MO_OPTIM_SGD = 1,          /* m: momentum */
    MO_OPTIM_ADAM = 2,         /* m, v; weight decay added to the gradient */
    MO_OPTIM_LION = 3,         /* m */
    MO_OPTIM_RMSPROP = 4,      /* v */
    MO_OPTIM_ADAGRAD = 5,      /* v */
    MO_OPTIM_ADEMAMIX = 6,     /* m, slow, v */
    MO_OPTIM_LAMB = 7,         /* m, v; whole: one trust ratio per tensor */
    MO_OPTIM_LARS = 8,         /* m; whole */
    MO_OPTIM_ADAM_MINI = 9,    /* m, one second moment per row; whole */
    MO_OPTIM_ADAFACTOR = 10,   /* one number per row and per column, for a vector v; whole */
    MO_OPTIM_APOLLO = 11,      /* m, v of few random sums per row or column; whole */
    MO_OPTIM_APOLLO_MINI = 12, /* of one sum, and one factor per tensor; whole */
    MO_OPTIM_GALORE = 13,      /* m, v in the few directions that gradients have most of; whole */
    MO_OPTIM_KIND_COUNT
} mo_optim_kind;

/* How a state of n numbers is kept. Row and column statistics, and what low-rank kinds keep beside
 * m and v, are always fp32. */
typedef enum mo_optim_precision {
    MO_OPTIM_F32 = 0,  /* 4 bytes a number */
    MO_OPTIM_8BIT = 1, /* blockwise dynamic map: 1 byte, and 4 per block */
    MO_OPTIM_BF16 = 2, /* 2 bytes, rounded stochastically */
    MO_OPTIM_4BIT = 3, /* blockwise, two numbers in a byte, and 4 bytes per block */
    MO_OPTIM_PRECISION_COUNT
} mo_optim_precision;

/* mo_optim_desc - one optimizer, as it treats one tensor: copy it and change what a tensor needs to
 * have different, before its state is made (fp32 for an embedding, no decay for a bias). lr,
 * grad_scale and weight_decay may change from step to step, the rest may not.
 *
 * kind, precision  see above
 * lr               step size; 0 = parameters stay as they are, as a schedule may ask
 * beta1            of m; 0 = 0.9; SGD and LARS: momentum, 0 = none
 * beta2            of v, LION: of m; 0 = 0.999, LION and RMSPROP 0.99; ADAFACTOR 1 - t^-0.8
 * beta3, alpha     ADEMAMIX: of slow, and its weight; 0 = 0.9999 and 5. Low-rank kinds: alpha
 *                  multiplies the update; 0 = APOLLO 1, APOLLO_MINI sqrt(128), GALORE 0.25
 * warmup           ADEMAMIX: steps in which beta3 and alpha reach their values; 0 = at once
 * epsilon          0 = 1e-8, ADAGRAD 1e-10, ADAFACTOR 1e-30 (in g^2), LAMB 1e-6
 * weight_decay     decoupled; added to the gradient by SGD, ADAM, RMSPROP, ADAGRAD, LARS
 * trust            LARS: coefficient, 0 = 0.001; ADAFACTOR: largest root mean square of an update,
 *                  0 = 1; APOLLO kinds: how much an update's norm may grow in a step, 0 = 1.01
 * grad_scale       gradients are multiplied with it: clipping, or 1 / loss scale; 0 = 1
 * block            8-bit: numbers per scale, a power of two, 64..4096; 0 = 256. 4-bit: 0 = 128
 * columns          ADAFACTOR, ADAM_MINI, low-rank kinds: of the tensor as a matrix; 0 = a vector,
 *                  or one row, which low-rank kinds update as ADAMW
 * rank             low-rank kinds: numbers that stand for a row or column, 1..1024 and no more than
 *                  the shorter side; 0 = a power of two, a quarter of it, at most 256;
 *                  APOLLO_MINI 1. In 8 bits it is rounded down to a power of two
 * interval         low-rank kinds: steps from one projection to the next; 0 = 200
 * min_8bit_size    tensors with fewer numbers keep fp32 states; 0 = 4096, 1 = none do
 * plain_v          8-bit: keep v itself and let it become 0, as bitsandbytes does, so that states
 *                  can be exchanged. Unstable where gradients in a block differ by more than 100
 *                  times
 * master           bf16 parameters: keep them in fp32 too
 * seed             of the stochastic rounding and the random projections
 * parallel         NULL = default
 * Since: 0.1 */
typedef struct mo_optim_desc {
    mo_optim_kind kind;
    mo_optim_precision precision;
    double lr, beta1, beta2, beta3, alpha, epsilon, weight_decay, trust, grad_scale;
    uint64_t warmup;
    size_t block, columns, min_8bit_size, rank;
    int plain_v, master;
    uint64_t seed, interval;
    const mo_parallel *parallel;
} mo_optim_desc;

/* mo_optim_desc_defaults - the desc with every zero replaced. Threads: safe. Since: 0.1 */
MEMOPT_API mo_optim_desc mo_optim_desc_defaults(const mo_optim_desc *desc);

/* mo_optim_state - where the states of one tensor lie, in memory that the caller owns.
 *
 * n          numbers in the tensor, or in this slice of it
 * offset     index of the first of them in the tensor: slices round as the whole does
 * precision  of m, slow and v, decided once, at init, from the size of the whole tensor
 * block      numbers per scale
 * plain_v    as the desc's, decided at init
 * m, slow, v [n] float, uint16_t (bf16), uint8_t, or two to a byte (the first in the high half);
 *            NULL where the kind has none
 * m_absmax, slow_absmax, v_absmax  8 and 4 bits: [ceil(n / block)] scales. A negative v_absmax says
 *            that the codes of its block are square roots: chosen where v in the block differs by
 *            more than 1000 times, in 4 bits always. And no v > 0 gets the code of 0. With plain
 *            codes a small v next to a large one becomes 0, and the update m / epsilon.
 * row        [rows] ADAM_MINI, ADAFACTOR; column: [columns] ADAFACTOR
 * master     [n] desc.master: the parameters in fp32
 * rank       low-rank kinds, of a matrix: numbers that stand for a column of it, or for a row where
 *            those are not fewer; else 0
 * n_states   numbers in m, slow and v: n; where rank is not 0, rank for each of these rows or
 *            columns, of 16 neighbours side by side and filled up to 16
 * extra      [n_extra] where rank is not 0. APOLLO kinds: the norm of the last update, room for a
 *            step; GALORE: the directions, [shorter side][rank], room for finding them
 * Since: 0.1 */
typedef struct mo_optim_state {
    size_t n, offset;
    mo_optim_precision precision;
    size_t block;
    int plain_v;
    void *m, *slow, *v;
    float *m_absmax, *slow_absmax, *v_absmax;
    float *row, *column, *master, *extra;
    size_t rows, columns, rank, n_states, n_extra;
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
 * Errors:  MO_E_INVALID (NULL, kind, precision, block, n no multiple of columns), MO_E_UNSUPPORTED
 *          (4 bits for a kind other than ADAMW), MO_E_NO_SPACE (size), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_state_init(
    const mo_optim_desc *desc, size_t n, void *memory, size_t size, mo_optim_state *state);

/* mo_optim_state_attach - the same layout over memory that holds such a state already, or stands
 * for one elsewhere: it is neither read nor written.
 *
 * memory, size, Threads, Errors: as mo_optim_state_init
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_state_attach(
    const mo_optim_desc *desc, size_t n, void *memory, size_t size, mo_optim_state *state);

/* mo_optim_state_slice - the states of the numbers begin..begin + n - 1 of a tensor: to update it
 * piece by piece. The result is bit-identical to updating the whole.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, out of range; 8 and 4 bits: begin not at a block, or an end inside a
 *          block that is not the tensor's end), MO_E_UNSUPPORTED (row, column or extra)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_state_slice(
    const mo_optim_state *state, size_t begin, size_t n, mo_optim_state *slice);

/* mo_optim_state_copy - the contents of one state into another of the same kind and n: moved to
 * another precision or block size where they differ, else bit for bit.
 *
 * seed  of the stochastic rounding into bf16
 *
 * Memory:  none
 * Threads: safe for distinct states
 * Errors:  MO_E_INVALID (NULL, n, rows, columns or rank differ, a state that one of them has not)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_state_copy(
    mo_optim_state *to, const mo_optim_state *from, uint64_t seed);

/* mo_optim_step - one update.
 *
 *   g = grad_scale grad,  k1 = 1 - b1^t,  k2 = 1 - b2^t
 *   ADAMW     m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
 *             p = p (1 - lr wd) - lr (m / k1) / (sqrt(v / k2) + eps)
 *   ADAM      g = g + wd p, then as ADAMW without decay
 *   SGD       g = g + wd p,  m = g at t = 1, else b1 m + g,  p = p - lr m
 *   LION      p = p (1 - lr wd) - lr sign(b1 m + (1 - b1) g),  m = b2 m + (1 - b2) g
 *   RMSPROP   g = g + wd p,  v = b2 v + (1 - b2) g^2,  p = p - lr g / (sqrt(v) + eps)
 *   ADAGRAD   g = g + wd p,  v = v + g^2,  p = p - lr g / (sqrt(v) + eps)
 *   ADEMAMIX  as ADAMW with m / k1 + alpha slow,  slow = b3 slow + (1 - b3) g
 *   LAMB      u = (m / k1) / (sqrt(v / k2) + eps) + wd p,  p = p - lr u |p| / |u|
 *   LARS      m = b1 m + lr trust |p| / (|g| + wd |p|) (g + wd p),  p = p - m
 *   ADAM_MINI as ADAMW with one v per row, of the mean of g^2
 *   ADAFACTOR row and column means of g^2 + eps,  u = g / sqrt(row column / mean(row)),
 *             p = p (1 - lr wd) - lr u / max(1, rms(u) / trust)
 *   APOLLO    r = the sums of each row or column of g with random signs, / sqrt(rank), and u what
 *             ADAMW makes of them;  d = g |u| / |r| by row or column, APOLLO_MINI for the tensor,
 *             made shorter where |d| > trust |last d|;  p = p (1 - lr wd) - lr alpha d
 *   GALORE    r = g's components in its rank largest singular directions of an earlier step, u what
 *             ADAMW makes of them;  p = p (1 - lr wd) - lr alpha (u back in g's space)
 *
 * t      in      step number, from 1
 * param  in out  [state.n]
 * grad   in      [state.n]
 * state  in out
 *
 * The update uses the new states before they are rounded. A parameter whose gradient has always
 * been zero stays exactly as it is (without weight decay), and so does its state; GALORE moves it
 * along with the others of its row or column. Where the square
 * of a gradient is not finite, parameter and state of that number stay as they are; where one or
 * their sum is not, whole kinds leave the tensor as it is. LAMB and LARS: a ratio with a norm of 0
 * (LARS: times trust) is 1.
 * Bit-identical on every CPU, for any number of threads and any slicing.
 *
 * Memory:  none
 * Threads: safe for distinct params
 * Errors:  MO_E_INVALID (NULL, t = 0, a number in desc out of range, a state of another kind)
 * Cost:    ADAMW, bytes moved per number: 28 (fp32), 16.06 (8-bit). Low-rank kinds: 2 rank
 *          operations per number, GALORE twice that, and once in an interval 12 rank per number and
 *          12 rank^2 for each of the shorter side
 * Source:  Loshchilov and Hutter 2019, arXiv:1711.05101; Dettmers et al. 2022, arXiv:2110.02861;
 *          Chen et al. 2023, arXiv:2302.06675 (LION); Pagliardini et al. 2024, arXiv:2409.03137
 *          (ADEMAMIX); You et al. 2020, arXiv:1904.00962 (LAMB), 2017, arXiv:1708.03888 (LARS);
 *          Zhang et al. 2024, arXiv:2406.16793 (Adam-mini); Shazeer and Stern 2018,
 *          arXiv:1804.04235 (Adafactor); Li et al. 2023, arXiv:2309.01507 (4-bit states); Zhu et
 *          al. 2024, arXiv:2412.05270 (APOLLO), with the signs of Achlioptas 2003,
 *          doi:10.1016/S0022-0000(03)00025-4; Zhao et al. 2024, arXiv:2403.03507 (GaLore), by
 *          subspace iteration, Halko et al. 2011, arXiv:0909.4061
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_step(const mo_optim_desc *desc, uint64_t t,
    float *param, const float *grad, const mo_optim_state *state);

/* mo_optim_step_bf16 - the same for parameters in bf16. Without a master copy they are rounded
 * stochastically, so that small updates are not lost on average; with one (desc.master), nearest.
 *
 * param  in out  [state.n] bf16
 *
 * Threads, Errors: as mo_optim_step
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_step_bf16(const mo_optim_desc *desc, uint64_t t,
    uint16_t *param, const float *grad, const mo_optim_state *state);

/* mo_optim_master_init - the master copy from the parameters, once, after mo_optim_state_init.
 *
 * Threads: safe for distinct states
 * Errors:  MO_E_INVALID (NULL, no master)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_master_init(
    const mo_optim_state *state, const uint16_t *param);

#endif
