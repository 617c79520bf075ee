/* mo_machine.h - what this machine does in a second: products, attention, passes over memory,
 * optimizer steps, and a disk where one is named. Measured on the spot, in about a second, so that
 * the times of configurations can be told apart before any of them has run.
 *
 *     mo_machine machine;
 *     if (mo_machine_measure(&machine, NULL) != MO_OK) ...
 *     mo_machine_write_text(&machine, &writer);
 *     double s = mo_machine_product_s(&machine, 512, 384, 1536, 0);
 */
#ifndef MEMOPT_MACHINE_H
#define MEMOPT_MACHINE_H

#include "mo_base.h"
#include "mo_gemm.h"
#include "mo_remat_profile.h"

/* What is measured, and in what: the rate of each is so much in a second.
 *
 * Products are of fp32 matrices, rows x k times k x n:
 *   GEMM_WIDE      512 x 256 times 256 x 1024: into the hidden units    flop, 2 rows k n
 *   GEMM_NARROW    512 x 1024 times 1024 x 256: out of them             flop
 *   GEMM_GRADIENT  256 x 512 times 512 x 1024, the first transposed:
 *                  of a weight; added to what is there                  flop
 *   GEMM_FEW       16 x 512 times 512 x 512: as many rows as a chunk of logits, or a short
 *                  micro-batch, may have                                flop
 * Causal attention of 4 heads of 64, 256 positions:
 *   ATTENTION, ATTENTION_BACKWARD                                       seq^2 channels
 * Passes over more memory than caches near a core hold:
 *   COPY           read and written                                     bytes, counted once
 *   NORM, NORM_BACKWARD, GELU, GELU_BACKWARD                            numbers
 *   COMPRESS, EXPAND  8-bit codes of activations                        numbers
 * AdamW with states of each precision, fp32 parameters:
 *   UPDATE_F32, UPDATE_8BIT, UPDATE_BF16, UPDATE_4BIT                   numbers
 * A temporary file in desc.folder, in pages:
 *   DISK_WRITE, DISK_READ                                               bytes
 * The order never changes.
 * Since: 0.1 */
typedef enum mo_machine_item {
    MO_MACHINE_GEMM_WIDE = 0,
    MO_MACHINE_GEMM_NARROW,
    MO_MACHINE_GEMM_GRADIENT,
    MO_MACHINE_GEMM_FEW,
    MO_MACHINE_ATTENTION,
    MO_MACHINE_ATTENTION_BACKWARD,
    MO_MACHINE_COPY,
    MO_MACHINE_NORM,
    MO_MACHINE_NORM_BACKWARD,
    MO_MACHINE_GELU,
    MO_MACHINE_GELU_BACKWARD,
    MO_MACHINE_COMPRESS,
    MO_MACHINE_EXPAND,
    MO_MACHINE_UPDATE_F32,
    MO_MACHINE_UPDATE_8BIT,
    MO_MACHINE_UPDATE_BF16,
    MO_MACHINE_UPDATE_4BIT,
    MO_MACHINE_DISK_WRITE,
    MO_MACHINE_DISK_READ,
    MO_MACHINE_ITEM_COUNT
} mo_machine_item;

/* What a rate is worth.
 *
 * ABSENT    not asked for: the rate is a typical one
 * GOOD      three runs or more, and half of them within a quarter of the median
 * NOISY     three runs or more that differ by more: the machine does something else too
 * SHORT     fewer than three runs in the time there was
 * CACHED    of a disk: the file system does not let its cache be passed by, so this is the cache's
 * NO_CLOCK  the clock did not move: the rate is a typical one
 * FAILED    of a disk: the log says what could not be done; the rate is a typical one
 * Since: 0.1 */
typedef enum mo_machine_state {
    MO_MACHINE_ABSENT = 0,
    MO_MACHINE_GOOD,
    MO_MACHINE_NOISY,
    MO_MACHINE_SHORT,
    MO_MACHINE_CACHED,
    MO_MACHINE_NO_CLOCK,
    MO_MACHINE_FAILED,
    MO_MACHINE_STATE_COUNT
} mo_machine_state;

/* mo_machine_rate - one item.
 *
 * per_s   in a second, by the median of the runs; always above 0
 * spread  half the runs lie so far apart, over the median
 * n_runs  that were timed
 * Since: 0.1 */
typedef struct mo_machine_rate {
    double per_s, spread;
    size_t n_runs;
    mo_machine_state state;
} mo_machine_rate;

/* mo_machine - what was measured.
 *
 * items      [MO_MACHINE_ITEM_COUNT]
 * n_threads  that it ran on; 0 = nothing was measured
 * seconds    that it took
 * Since: 0.1 */
typedef struct mo_machine {
    mo_machine_rate items[MO_MACHINE_ITEM_COUNT];
    size_t n_threads;
    double seconds;
} mo_machine;

/* mo_machine_desc - how to measure.
 *
 * seconds    that it may take, about; every item has its share of what is left, and runs once more
 *            than it is timed. 0 = 1
 * parallel   threads; NULL = default
 * cblas      of products; NULL = the built-in kernel
 * memory     bytes to work on, at least 8 MiB; products have their workspace beside it. 0 = 64 MiB
 * folder     where a disk is measured, with a file that has no name; NULL = no disk
 * clock      NULL = the system's
 * allocator  NULL = heap
 * log        told what a disk refused; NULL = silent
 * Since: 0.1 */
typedef struct mo_machine_desc {
    double seconds;
    const mo_parallel *parallel;
    mo_cblas_sgemm *cblas;
    size_t memory;
    const char *folder;
    const mo_profile_clock *clock;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_machine_desc;

/* mo_machine_typical - a core with 100 GFLOP/s and 10 GB/s, where nobody has measured: what matters
 * is how costs compare.
 * mo_machine_measure - this one.
 *
 * desc     in   NULL = all defaults
 * machine  out
 *
 * Memory:  desc.memory and mo_gemm_workspace_size, during the call; a disk: 16 MiB there, and 4 MiB
 * Threads: one at a time, or one measures the other
 * Errors:  MO_E_INVALID (NULL, seconds, memory), MO_E_NO_MEMORY, MO_E_OVERFLOW. A disk that cannot
 *          be measured is no error, but a state
 * Since:   0.1 */
MEMOPT_API mo_machine mo_machine_typical(void);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_machine_measure(
    mo_machine *machine, const mo_machine_desc *desc);

/* mo_machine_product_s - seconds of a matrix product of fp32 matrices, m x k times k x n.
 *
 *   s = 2 m n k / F + 4 (m k + k n + w m n) / G,  w = 2 where C is added to, else 1
 *   1 / F and 1 / G solve that for GEMM_FEW and for the sum of the other three, neither below 0
 *
 * G is not the memory's rate alone, but also what packing costs: it makes products of few rows, or
 * of narrow matrices, as slow as they are.
 *
 * Threads: safe
 * Errors:  0 for NULL
 * Since:   0.1 */
MEMOPT_API double mo_machine_product_s(
    const mo_machine *machine, double m, double n, double k, int added);

/* mo_machine_item_name - "gemm.wide", "update.8bit"; "?" out of range.
 * mo_machine_item_unit - what the rate counts: "flop", "bytes", "numbers", "seq^2 channels".
 * mo_machine_state_name - "good", "noisy", ...; "?" out of range.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_machine_item_name(mo_machine_item item);
MEMOPT_API const char *mo_machine_item_unit(mo_machine_item item);
MEMOPT_API const char *mo_machine_state_name(mo_machine_state state);

/* mo_machine_write_text - a table: item, rate, unit, spread, runs, and what is wrong with it.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_machine_write_text(const mo_machine *machine, const mo_writer *writer);

#endif
