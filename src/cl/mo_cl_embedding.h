/* mo_cl_embedding.h - embeddings of tokens and of positions on a device.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_EMBEDDING_H
#define MEMOPT_CL_EMBEDDING_H

#include "mo_cl_heap.h"

/* mo_cl_embedding_desc - rows tokens, in sequences of seq positions.
 *
 * rows      of tokens and y, below 2^32
 * seq       positions; row r is at position r % seq
 * channels  floats of a row of y, wte and wpe
 * vocab     tokens are 0..vocab-1
 * Since: 0.1 */
typedef struct mo_cl_embedding_desc {
    size_t rows, seq, channels, vocab;
} mo_cl_embedding_desc;

/* mo_cl_embedding_forward - y[row] = wte[tokens[row]] + wpe[row % seq]
 *
 * tokens  in   [rows] int32_t; one outside the vocabulary stands for a row of zeros: nothing is
 *              read or written outside, and nobody is told (mo_cl_linear_ce checks its targets)
 * wte     in   [vocab x channels] float
 * wpe     in   [seq x channels] float; {0} = positions have no embedding
 * y       out  [rows x channels] float
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a size of 0, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says; rows may be 0
 * Cost:    bytes moved: 12 rows channels
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_embedding_forward(mo_cl *cl,
    const mo_cl_embedding_desc *desc, mo_cl_mem tokens, mo_cl_mem wte, mo_cl_mem wpe, mo_cl_mem y);

/* mo_cl_embedding_backward - dwte[tokens[row]] += dy[row], dwpe[row % seq] += dy[row]
 *
 * tokens  in      [rows] int32_t; as in forward: one outside the vocabulary has no row of dwte
 * dy      in      [rows x channels] float
 * dwte    in out  [vocab x channels] float; {0} = frozen
 * dwpe    in out  [seq x channels] float; {0} = frozen
 *
 * Rows are added one by one in their order, so that the sums are the same on every run and device:
 * those of a loop over the rows.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  as mo_cl_embedding_forward
 * Cost:    bytes moved: 12 rows channels for each of the two; and rows^2 tokens looked at, at most
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_embedding_backward(mo_cl *cl,
    const mo_cl_embedding_desc *desc, mo_cl_mem tokens, mo_cl_mem dy, mo_cl_mem dwte,
    mo_cl_mem dwpe);

#endif
