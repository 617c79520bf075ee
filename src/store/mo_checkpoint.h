/* mo_checkpoint.h - a whole training run in one safetensors file, so that it can be killed at any
 * moment and goes on as if it had not been.
 *
 *   mo_checkpoint run = {0};
 *   run.params = &params;
 *   run.states = states, run.n_states = n;                 optimizer states, in their own precision
 *   run.values = values, run.n_values = 2;                 where the data is read, random state
 *   mo_checkpoint_desc desc = {0};
 *   desc.keep = 3;
 *
 *   char file[4096];                                       at the start: the newest one, if any
 *   if (mo_checkpoint_latest("run.safetensors", &desc, file, sizeof file) == MO_OK)
 *       status = mo_checkpoint_load(file, &run, &desc);    now run.step is what it was
 *   ...
 *   run.step = step;                                       every so many steps
 *   status = mo_checkpoint_save("run.safetensors", &run, &desc);
 *
 * What a path means. keep = 0: there is one file, PATH, which each save replaces. keep = N: each
 * save makes a new file, PATH with the step before its extension (run-00000100.safetensors), and
 * then removes all but the N that were saved last (kills leave up to two more for a while). Either
 * way a file gets its name only when it is complete and on disk, and an older one is removed only
 * when the name of the newer one is on disk too: whenever the program or the machine stops, at
 * least one complete file is there.
 *
 * What is in a file. Parameters and arrays under their names; "optimizer.NAME.PART" as in
 * mo_optim_file.h; "memopt.checksum", 8 bytes over everything else. Metadata: "memopt.step";
 * "memopt.save", the number of the save, by which the newest is found, not by clocks; "memopt.KEY"
 * for each value. Other programs read the parameters as from any safetensors file. */
#ifndef MEMOPT_CHECKPOINT_H
#define MEMOPT_CHECKPOINT_H

#include "mo_accum.h"
#include "mo_optim_file.h"
#include "mo_params.h"

/* mo_checkpoint_array - any array that belongs to a run: a mo_percentile_clip or the state of a
 * random generator as bytes.
 *
 * name   in the file; none may begin with "memopt."
 * dtype  of whole bytes
 * shape  [n_dims]
 * data   saved from, loaded into
 * Since: 0.1 */
typedef struct mo_checkpoint_array {
    const char *name;
    mo_dtype dtype;
    size_t n_dims;
    const uint64_t *shape;
    void *data;
} mo_checkpoint_array;

/* mo_checkpoint_state - the optimizer state of a tensor, or of a slice of one.
 *
 * name   of the tensor
 * desc   the one that it was made with
 * state  saved from, loaded into: bit for bit, or requantized where the file has another precision
 * of     numbers in the whole tensor; 0 = state->n
 * Since: 0.1 */
typedef struct mo_checkpoint_state {
    const char *name;
    const mo_optim_desc *desc;
    mo_optim_state *state;
    size_t of;
} mo_checkpoint_state;

/* mo_checkpoint_value - a number or a text: a seed, an epoch, the position in the data.
 *
 * key     metadata "memopt.KEY"
 * number  where text is NULL
 * text    [text_size] UTF-8 with its NUL
 * Since: 0.1 */
typedef struct mo_checkpoint_value {
    const char *key;
    uint64_t number;
    char *text;
    size_t text_size;
} mo_checkpoint_value;

/* mo_checkpoint - a run: where everything is that a file holds. All zero is an empty one.
 *
 * step      taken so far
 * params    every tensor once, frozen ones too; NULL = none
 * scaler    its scale and counts; its desc is not saved. NULL = none
 * metadata  [n_metadata] free text for people and other programs; saved, not loaded. Keys must not
 *           begin with "memopt."; {"format", "pt"} is always there
 * Since: 0.1 */
typedef struct mo_checkpoint {
    uint64_t step;
    const mo_params *params;
    const mo_checkpoint_array *arrays;
    size_t n_arrays;
    const mo_checkpoint_state *states;
    size_t n_states;
    mo_loss_scaler *scaler;
    mo_checkpoint_value *values;
    size_t n_values;
    const mo_safetensors_pair *metadata;
    size_t n_metadata;
} mo_checkpoint;

/* mo_checkpoint_access - for data that is not host memory: on a device, in pages.
 *
 * begin  in *host, size bytes that stand for those at address; with their contents when read is not
 *        0
 * end    they are not used any more; when write is not 0 they go back to address. Called for each
 *        begin that succeeded
 *
 * Addresses are those of the arrays, parameters and parts of states, always as a whole.
 * Since: 0.1 */
typedef struct mo_checkpoint_access {
    mo_status (*begin)(void *self, void *address, size_t size, int read, void **host);
    mo_status (*end)(void *self, void *address, void *host, size_t size, int write);
    void *self;
} mo_checkpoint_access;

/* mo_checkpoint_desc
 *
 * allocator  zero = C heap
 * log        one line for each failure, each file that is passed over; zero = none
 * access     zero = everything is host memory
 * keep       files that remain, see above; 0 = one, PATH itself; SIZE_MAX = all
 * trusted    load: not 0 = the file has just been verified, as mo_checkpoint_latest does: do not
 *            read it twice
 * Since: 0.1 */
typedef struct mo_checkpoint_desc {
    mo_allocator allocator;
    mo_log log;
    mo_checkpoint_access access;
    size_t keep;
    int trusted;
} mo_checkpoint_desc;

/* mo_checkpoint_save - write a run, all of it or nothing; then remove what is too much.
 *
 * path  in  see above; its folder must exist
 * run   in
 * desc  in  NULL = all defaults
 *
 * MO_OK: the new file is in place and durable (where the folder cannot be made durable, the log
 * says so and no older file is removed). Any other status: no file has changed. Before it writes,
 * it removes temporary files that killed runs have left beside path: those named after this path,
 * whose process does not run on this machine or which are older than the newest checkpoint. An
 * older file that cannot be read is not counted, nor removed.
 *
 * Memory:  O(tensors) for names; no copy of the data
 * Threads: one at a time for a path
 * Errors:  MO_E_INVALID (NULL, names used twice, a dtype without whole bytes), MO_E_NO_SPACE (path
 *          too long), MO_E_NOT_FOUND (no such folder), MO_E_IO, MO_E_NO_MEMORY, what access returns
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_checkpoint_save(
    const char *path, const mo_checkpoint *run, const mo_checkpoint_desc *desc);

/* mo_checkpoint_load - a file back into a run.
 *
 * file  in      this one, whatever desc->keep is
 * run   in out  what it points to is written, and step; the file must hold exactly its tensors,
 *               in their shapes and types, and all its values
 *
 * Everything is checked, and the file read once to its end for the checksum (where it has one),
 * before anything is written: after a failure the run is as it was. The exception is a disk or an
 * access that fails in the second reading, after it worked in the first: the log says that the run
 * is partly overwritten. Load another file then.
 *
 * Memory:  the largest state that has to be requantized or that access stands between
 * Threads: safe for distinct runs
 * Errors:  MO_E_NOT_FOUND (no such file), MO_E_FORMAT (damaged; a tensor, value or state that is
 *          missing, different or too much), MO_E_NO_SPACE (a text), MO_E_IO, MO_E_NO_MEMORY,
 *          MO_E_INVALID (NULL), what access returns
 * Cost:    reads the file twice, unless desc->trusted
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_checkpoint_load(
    const char *file, mo_checkpoint *run, const mo_checkpoint_desc *desc);

/* mo_checkpoint_verify - whether a file is complete and undamaged: all of it is read.
 *
 * step  out  NULL = not wanted
 *
 * Threads: safe
 * Errors:  MO_E_NOT_FOUND (no such file), MO_E_FORMAT (damaged, or no checkpoint), MO_E_IO,
 *          MO_E_NO_MEMORY, MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_checkpoint_verify(
    const char *file, const mo_checkpoint_desc *desc, uint64_t *step);

/* mo_checkpoint_latest - the newest file of a run that verifies; newer ones that do not are passed
 * over with a line in the log.
 *
 * path  in   as for mo_checkpoint_save: PATH and the files with a step in their name. Or a folder:
 *            its *.safetensors files, which must be of one run
 * file  out  [size] its name; 4096 bytes are enough
 *
 * Newest is what was saved last, also where a run went back to an older step. Nothing is changed.
 *
 * Threads: safe
 * Errors:  MO_E_NOT_FOUND (none), MO_E_INVALID (NULL; a folder with several runs), MO_E_NO_SPACE
 *          (size), MO_E_IO (folder), MO_E_NO_MEMORY
 * Cost:    reads one file, and the headers of the others
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_checkpoint_latest(
    const char *path, const mo_checkpoint_desc *desc, char *file, size_t size);

/* mo_checkpoint_name - the file that mo_checkpoint_save writes with this path and desc->keep at
 * this step.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_NO_SPACE (size), MO_E_IO (path cannot be a file)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_checkpoint_name(
    const char *path, const mo_checkpoint_desc *desc, uint64_t step, char *file, size_t size);

#endif
