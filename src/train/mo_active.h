/* mo_active.h - training a few blocks of a model at a time: which of them move in a step, and where
 * their states lie, in memory for the largest only. BAdam: one block after the other; LISA: blocks
 * at random, embedding and head always.
 *
 *     size = mo_active_state_size(&desc)
 *     for t = 1, 2, ...:
 *         turn = mo_active_at(&desc, t)
 *         mo_active_offsets(&desc, t, offsets)
 *         for each tensor i with offsets[i] != SIZE_MAX:
 *             if turn.t == 1 and desc.block[i] != SIZE_MAX, or t == 1:
 *                 mo_optim_state_init(&desc.optim[i], n[i], memory + offsets[i], ..., &states[i])
 *             mo_optim_step(&desc.optim[i], desc.block[i] == SIZE_MAX ? t : turn.t, ...)
 *
 * All of it follows from the desc and t: a run is continued at any step, and the states in the
 * memory then are those of the tensors that mo_active_offsets names. */
#ifndef MEMOPT_ACTIVE_H
#define MEMOPT_ACTIVE_H

#include "mo_optim.h"

/* Which blocks follow each other. */
typedef enum mo_active_order {
    MO_ACTIVE_CYCLE = 0,   /* in their order */
    MO_ACTIVE_SHUFFLE = 1, /* each once in a round, every round in another order */
    MO_ACTIVE_DRAW = 2,    /* drawn anew each time */
    MO_ACTIVE_ORDER_COUNT
} mo_active_order;

/* mo_active_desc - blocks, tensors in them, and their turns.
 *
 * order      see above
 * n_blocks   blocks that take turns, 1 or more
 * n_active   of them at a time; 0 = 1
 * period     steps of a turn; 0 = 100
 * seed       of SHUFFLE and DRAW
 * n_tensors  0 = none: only mo_active_at and mo_active_has are of use
 * optim, n   [n_tensors] how each tensor is optimized, and its numbers
 * block      [n_tensors] the block it is in; SIZE_MAX: it always trains
 *
 * The arrays are the caller's and read during calls only.
 * Since: 0.1 */
typedef struct mo_active_desc {
    mo_active_order order;
    size_t n_blocks, n_active;
    uint64_t period, seed;
    size_t n_tensors;
    const mo_optim_desc *optim;
    const size_t *n, *block;
} mo_active_desc;

/* mo_active_turn - number: of turns before, from 0; t: the step in it, from 1, for mo_optim_step:
 * the states of its blocks are new at 1. Since: 0.1 */
typedef struct mo_active_turn {
    uint64_t number, t;
} mo_active_turn;

/* mo_active_desc_defaults - the desc with every zero replaced. Threads: safe. Since: 0.1 */
MEMOPT_API mo_active_desc mo_active_desc_defaults(const mo_active_desc *desc);

/* mo_active_at - the turn that a step is in; t from 1. Threads: safe. Since: 0.1 */
MEMOPT_API mo_active_turn mo_active_at(const mo_active_desc *desc, uint64_t t);

/* mo_active_has - whether a block trains in a step; block: below n_blocks, or SIZE_MAX. A
 * backward pass may stop behind the last one that does.
 *
 * Threads: safe
 * Cost:    n_blocks hashes, times n_active with CYCLE none
 * Source:  Luo et al. 2024, arXiv:2404.02827 (BAdam); Pan et al. 2024, arXiv:2403.17919 (LISA)
 * Since:   0.1 */
MEMOPT_API int mo_active_has(const mo_active_desc *desc, uint64_t t, size_t block);

/* mo_active_state_size - bytes for the states of any turn: those of the tensors that always train,
 * and of the n_active largest blocks; 0 when the desc makes no sense or that does not fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_active_state_size(const mo_active_desc *desc);

/* mo_active_offsets - where the states of each tensor lie in a step.
 *
 * offsets  out  [n_tensors] bytes from the start of the memory, multiples of 64, with
 *               mo_optim_state_size behind; SIZE_MAX: it does not train. Tensors
 *               that always train lie in front, at the same place in every step
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, t = 0, order, n_blocks, n_active, block, a desc that
 *          mo_optim_state_size refuses), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_active_offsets(
    const mo_active_desc *desc, uint64_t t, size_t *offsets);

#endif
