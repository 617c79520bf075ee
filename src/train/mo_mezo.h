/* mo_mezo.h - training by forward passes alone: the gradient along one random direction, which is
 * made again from its seed whenever it is needed. No gradients, no states, no activations kept.
 *
 *     for t = 1, 2, ...:
 *         mo_mezo_perturb(&desc, t, 1, p, p, n)
 *         plus = forward()
 *         mo_mezo_perturb(&desc, t, -2, p, p, n)
 *         minus = forward()
 *         mo_mezo_perturb(&desc, t, 1, p, p, n)
 *         mo_mezo_step(&desc, t, mo_mezo_gradient(&desc, plus, minus), p, n) */
#ifndef MEMOPT_MEZO_H
#define MEMOPT_MEZO_H

#include "mo_base.h"

/* mo_mezo_desc - how parameters are perturbed and moved.
 *
 * lr            step size; 0 = parameters stay as they are
 * epsilon       size of the perturbation; 0 = 0.001
 * weight_decay  decoupled
 * grid          a power of two, or 0 = none: parameters and perturbations are multiples of it, so
 *               that all sums are exact and a perturbation that is taken back leaves the very bits.
 *               For parameters below 2^22 grid: 2^-20 for those up to 4
 * seed          of the directions
 * offset        index of the first number of this slice: of the tensor's first in the model, and of
 *               the slice's in the tensor. Every parameter has an index of its own
 * parallel      NULL = default
 * Since: 0.1 */
typedef struct mo_mezo_desc {
    double lr, epsilon, weight_decay, grid;
    uint64_t seed, offset;
    const mo_parallel *parallel;
} mo_mezo_desc;

/* mo_mezo_desc_defaults - the desc with every zero replaced. Threads: safe. Since: 0.1 */
MEMOPT_API mo_mezo_desc mo_mezo_desc_defaults(const mo_mezo_desc *desc);

/* mo_mezo_perturb - y[i] = x[i] + times epsilon z[i], z normal, the same for all calls of a step.
 *
 *   grid:  y[i] = grid (round(x[i] / grid) + times round(epsilon z[i] / grid))
 *
 * t      step number, from 1; each has a direction of its own
 * times  1, then -2 and 1 to have x again; whole where there is a grid. 0: rounds parameters to the
 *        grid, once at the start
 * x      in   [n] float
 * y      out  [n]; may be x. With another array x stays as it is: a layer may be perturbed into a
 *             window while it runs
 *
 * z is normal(0, 1) by Box and Muller from hashes of seed, t and index; |z| < 5.8. In place and
 * without a grid, +1, -2, +1 brings x back within 1.5 units in the last place of |x| + epsilon |z|.
 * Bit-identical on every CPU, for any number of threads and any slicing.
 *
 * Memory:  none
 * Threads: safe for distinct y
 * Errors:  MO_E_INVALID (NULL, t = 0, grid, a number in desc that is not finite)
 * Source:  Malladi et al. 2023, arXiv:2305.17333, algorithm 1
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_mezo_perturb(
    const mo_mezo_desc *desc, uint64_t t, double times, const float *x, float *y, size_t n);

/* mo_mezo_gradient - (plus - minus) / (2 epsilon), the derivative along z. Threads: safe. Since:
 * 0.1 */
MEMOPT_API double mo_mezo_gradient(const mo_mezo_desc *desc, double plus, double minus);

/* mo_mezo_step - x[i] = x[i] (1 - lr weight_decay) - lr gradient z[i], z that of mo_mezo_perturb.
 *
 * gradient  of mo_mezo_gradient; not finite: x stays as it is
 * x         in out  [n]; with a grid the change is rounded to it at random, so that it is right on
 *           average
 *
 * Memory, Threads, Errors, Source, Since: as mo_mezo_perturb */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_mezo_step(
    const mo_mezo_desc *desc, uint64_t t, double gradient, float *x, size_t n);

#endif
