/* mo_optim_file.h - optimizer states in safetensors files, in their own precision: what a
 * checkpoint needs to be continued, whole or in parts, at the same precision or another.
 *
 * The states of a tensor NAME are tensors "optimizer.NAME.PART"; how to read them is in the
 * metadata under "memopt.optimizer.NAME":
 *
 *   kind=0 precision=1 block=256 plain_v=0 n=1000 begin=0 of=1000 columns=0 t=17
 *
 * and behind it rank=64 where there is one. n numbers from begin on of a tensor of so many: a file
 * may hold a part, as one rank of several does. The choice of precision and rank is stored, never
 * derived again from a size. */
#ifndef MEMOPT_OPTIM_FILE_H
#define MEMOPT_OPTIM_FILE_H

#include "mo_optim.h"
#include "mo_safetensors.h"

/* mo_optim_part - one array of a state.
 *
 * suffix  "m", "m_absmax", ...: the last part of its name in a file
 * dtype   F32, BF16 or U8 (8-bit codes, or two 4-bit codes to a byte)
 * n       elements of that type */
typedef struct mo_optim_part {
    const char *suffix;
    mo_dtype dtype;
    uint64_t n;
    void *data;
} mo_optim_part;

enum { MO_OPTIM_MAX_PARTS = 10 };

/* mo_optim_state_parts - the arrays of a state, fp32 ones first.
 *
 * parts  out  [MO_OPTIM_MAX_PARTS]
 *
 * returns how many there are. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_optim_state_parts(const mo_optim_state *state, mo_optim_part *parts);

/* mo_optim_format - the metadata text of a state.
 *
 * desc  in   the one it was made with
 * of    in   numbers in the whole tensor; the state holds those from state->offset on
 * t     in   steps taken
 * text  out  [size] 160 bytes are enough
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_NO_SPACE (size)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_format(const mo_optim_desc *desc,
    const mo_optim_state *state, size_t of, uint64_t t, char *text, size_t size);

/* mo_optim_load - read what a file has of a tensor's states into a state, or into a slice of one.
 *
 * desc  in   the one that to was made with; the kind must be the file's
 * name  in   of the tensor
 * of    in   numbers in the whole tensor
 * to    out  its numbers to->offset .. to->offset + to->n - 1: those that the file has are written,
 *            requantized where precision, block or plain_v differ, else bit for bit
 * n     out  how many that were: call it for every part of a split checkpoint until all are there
 * t     out  steps taken; NULL = not wanted
 *
 * Memory:  where the codings differ, the file's part of the states, from the file's allocator
 * Threads: safe for distinct states
 * Errors:  MO_E_NOT_FOUND (no states of that name), MO_E_FORMAT (other kind, shape or type, broken
 *          metadata), MO_E_INVALID (NULL; parts that meet inside a block of to; a part of row or
 *          column statistics), MO_E_NO_MEMORY, MO_E_IO; the file's log names tensor and value
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_optim_load(const mo_safetensors *st,
    const mo_optim_desc *desc, const char *name, size_t of, mo_optim_state *to, size_t *n,
    uint64_t *t);

#endif
