/* mo_machine_costs.h - what the stages of a training run cost on a machine that was measured: a
 * formula for each, so that strategies can be told apart before any of them has run. */
#ifndef MEMOPT_MACHINE_COSTS_H
#define MEMOPT_MACHINE_COSTS_H

#include "mo_base.h"
#include "mo_machine.h"
#include "mo_training.h"

/* mo_machine_costs - seconds of the stages of the run's micro-batch, and of its update.
 *
 * With R rows (tokens), h channels, q = heads head_size, w = q + 2 kv_heads head_size, f hidden,
 * g = f or, for gate and up, 2 f, T tokens in a sequence, V words, c rows of logits at a time,
 * P(m, n, k) = mo_machine_product_s, P+ the same added to what is there, and item(x) = x / rate of
 * that item:
 *
 *   embedding  forward   copy(4 R h)                 backward  copy(8 R h)
 *   attention  forward   norm(R h) + P(R, w, h) + attention(R T q) + output
 *              output    P+(R, h, q) + copy(4 R h)
 *              backward  P(R, q, h) + P(R, h, w) + W(q, h) + W(h, w) + attention.backward(R T q)
 *                        + norm.backward(R h)
 *              light     norm(R h)                   compress  codes(R (w + q))
 *   mlp        forward   norm(R h) + P(R, g, h) + gelu(R g) + output
 *              output    P+(R, h, f) + copy(4 R h)
 *              backward  P(R, f, h) + P(R, h, g) + W(f, h) + W(h, g) + gelu.backward(R g)
 *                        + norm.backward(R h)
 *              light     norm(R h) + gelu(R g)       compress  codes(R g)
 *   head       forward   norm(R h) + R/c P(c, V, h) + gelu(R V), for the exponentials
 *              backward  R/c (P(c, h, V) + P+(V, h, c)) + norm.backward(R h)
 *   update     update(n) of the states' precision + copy(8 n), n numbers that are trained
 *
 * W(a, b) = P+(a, b, R) is a weight's gradient; with biases, each product's output is copied once
 * more. codes(x) = compress(x) + expand(x). With adapters of rank r there are no gradients of the
 * weights: W(a, b) = P(R, r, b) + P+(r, b, R) + P+(a, r, R) + P+(R, a, r), forward has P(R, r, a) +
 * P+(R, b, r) more, and a weight that is stored in few bits is expanded once for each product.
 * Paged states that are not resident are read and written in each update, beside it: it is as long
 * as the longer of the two.
 *
 * t      in   model, strategy, sizes; its costs are not read
 * costs  out  of its rows; with a teacher, its forward by the size of its matrices
 *
 * Memory:  the list of parameters, where t has none, during the call
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), those of mo_training_check, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_machine_costs(
    const mo_machine *machine, const mo_training *t, mo_training_costs *costs);

#endif
