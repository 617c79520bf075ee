/* mo_rope.h - rotary position embedding of queries and keys, in place in the rows of a fused
 * product; backward turns the gradients back, so that nothing is kept. */
#ifndef MEMOPT_ROPE_H
#define MEMOPT_ROPE_H

#include "mo_base.h"

/* mo_rope_table - cosines and sines of the angles, computed in double.
 *
 *   table[p][0][i] = cos(p base^(-2 i / head_size)),  table[p][1][i] = sin(the same)
 *
 * head_size  even
 * positions  0..positions-1
 * base       theta; 0 = 10000
 * table      out  [positions x 2 x head_size / 2] float
 *
 * mo_rope_table_size - bytes of the table; 0 where they do not fit a size_t.
 *
 * Memory:  none
 * Threads: safe for distinct tables
 * Errors:  MO_E_INVALID (NULL, head_size 0 or odd, base that is not a positive number),
 *          MO_E_OVERFLOW
 * Source:  Su et al. 2021, arXiv:2104.09864
 * Since:   0.1 */
MEMOPT_API size_t mo_rope_table_size(size_t head_size, size_t positions);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_rope_table(
    size_t head_size, size_t positions, double base, float *table);

/* mo_rope_desc - heads of batch x seq rows to turn.
 *
 * batch, seq   a row is at position first + row % seq
 * first        position of the first row of each sequence; 0
 * positions    of the table, first + seq or more; 0 = first + seq
 * heads        that follow each other in a row: those of q, or of q and k
 * head_size    even
 * stride       floats from a row to the next; 0 = heads head_size
 * interleaved  0: element i of a head is turned with element i + head_size / 2 (Hugging Face's
 *              Llama); not 0: 2 i with 2 i + 1 (the paper, Meta's Llama)
 * table        of mo_rope_table, for this head_size
 * parallel     NULL = default
 * Since: 0.1 */
typedef struct mo_rope_desc {
    size_t batch, seq, first, positions;
    size_t heads, head_size, stride;
    int interleaved;
    const float *table;
    const mo_parallel *parallel;
} mo_rope_desc;

/* mo_rope_forward - x (a, b) = (a cos - b sin, b cos + a sin) for each pair of each head.
 * mo_rope_backward - the same with -sin: gradients of what forward turned; its inverse, but for
 *                    roundings.
 *
 * x, dx  in out  [batch x seq] rows of heads x head_size
 *
 * The same bits on every CPU, and on a device: products and sums are rounded one by one.
 *
 * Memory:  none
 * Threads: safe for distinct rows
 * Errors:  MO_E_INVALID (NULL, head_size 0 or odd, heads or seq 0, stride below heads head_size,
 *          positions below first + seq), MO_E_OVERFLOW; batch may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_rope_forward(const mo_rope_desc *desc, float *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_rope_backward(const mo_rope_desc *desc, float *dx);

#endif
