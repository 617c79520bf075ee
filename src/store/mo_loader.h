/* mo_loader.h - batches of training sequences, prepared in the background: in the order of the text
 * or shuffled, for one machine or many, from any position on.
 *
 *   mo_loader_desc desc = {0};
 *   desc.tokens = &tokens;
 *   desc.batch = 8;
 *   desc.seq = 1024;
 *   desc.shuffle = 1;
 *   mo_loader loader;
 *   mo_loader_batch batch;
 *   status = mo_loader_init(&loader, &desc);
 *   while (training && (status = mo_loader_next(&loader, &batch)) == MO_OK)
 *       train(batch.inputs, batch.targets);
 *   mo_loader_free(&loader);
 *
 * The text is cut into sequences of seq tokens, sequence s from token s * seq on; the targets are
 * the same tokens one further. An epoch goes through all sequences once, and the next one follows
 * without end. Batches depend on nothing but the desc, the state and the text: not on the number of
 * threads, nor on how far ahead they are prepared. */
#ifndef MEMOPT_LOADER_H
#define MEMOPT_LOADER_H

#include "mo_queue.h"
#include "mo_tokens.h"

/* mo_loader_desc
 *
 * tokens         the text; the caller's, open until mo_loader_free
 * batch, seq     sequences in a batch, tokens in a sequence
 * group          batches that are used together, as by gradient accumulation: without carry an
 *                epoch ends before a group that it cannot fill; 0 = 1
 * rank, n_ranks  of n_ranks machines this is number rank: of every n_ranks batches of the order it
 *                gets that one; 0 = 1 machine
 * apart          not 0: no sequence begins in one file and ends in the next; 0 = the files are one
 *                text
 * shuffle, seed  not 0: each epoch in another order, which depends on the seed
 * carry          what of an epoch fills no whole group: 0 = is left out (shuffled: other sequences
 *                in each epoch); not 0 = goes into a batch with the first of the next, so that each
 *                sequence comes exactly once in an epoch
 * vocab          a token that is not below it is an error; 0 = is not checked
 * depth          batches that are prepared ahead; 0 = 2
 * queue          whose threads do that; NULL = its own, of n_threads threads, 0 = 1
 * allocator      zero = C heap
 * memory         where the batches lie, such as pinned memory of a device; zero = allocator
 * log            one line for each failure; zero = none */
typedef struct mo_loader_desc {
    mo_allocator allocator, memory;
    mo_log log;
    const mo_tokens *tokens;
    size_t batch, seq, group, rank, n_ranks;
    int apart, shuffle, carry;
    uint64_t seed;
    uint32_t vocab;
    size_t depth;
    mo_queue *queue;
    size_t n_threads;
} mo_loader_desc;

/* mo_loader_batch - inputs [batch * seq] with targets [batch * seq] right behind them, aligned to
 * 64 bytes. Number i of sequence b is at b * seq + i.
 *
 * epoch  of its first sequence */
typedef struct mo_loader_batch {
    const int32_t *inputs, *targets;
    uint64_t epoch;
} mo_loader_batch;

/* mo_loader_state - a position: with it and the same desc and text, another loader goes on with the
 * same batches. The same on all ranks.
 *
 * epoch     from 0
 * position  tokens of the epoch that all ranks together have taken, in its order; without shuffle
 *           the place in the text. Not a multiple of another seq: rounded up to one
 * seed, shuffle  of the desc; mo_loader_set_state takes them over */
typedef struct mo_loader_state {
    uint64_t epoch, position, seed;
    int shuffle;
} mo_loader_state;

/* mo_loader_stats - since mo_loader_init.
 *
 * n_sequences     in an epoch; epoch_batches of this rank in one, rounded down
 * n_batches       that mo_loader_next gave; n_stalls of them had to be waited for, stall_s seconds
 *                 in all
 * read_s          that their preparation took, of all threads together */
typedef struct mo_loader_stats {
    uint64_t n_sequences, epoch_batches, n_batches, n_stalls;
    double stall_s, read_s;
} mo_loader_stats;

/* mo_loader - owned by the caller; private. */
typedef struct mo_loader {
    struct moi_loader *impl;
} mo_loader;

/* mo_loader_init - make room for the batches; nothing is read yet. mo_loader_free - wait for what
 * is being prepared, and give back all of it; a zeroed or freed loader is left as it is.
 *
 * loader  out  untouched on failure
 *
 * Memory:  (1 + depth) batches of 8 batch * seq bytes, 4 seq beside each; 8 bytes a file
 * Threads: safe for distinct loaders
 * Errors:  MO_E_INVALID (NULL; batch or seq is 0; rank; the text has not as many sequences as one
 *          group of all ranks takes, or with carry not one), MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_loader_init(mo_loader *loader, const mo_loader_desc *desc);
MEMOPT_API void mo_loader_free(mo_loader *loader);

/* mo_loader_next - the next batch, when it is there.
 *
 * batch  out  valid until the next call; untouched on failure
 *
 * After a failure the same batch is next: a further call reads it again.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_IO (a file cannot be read, or is shorter than it was), MO_E_FORMAT (a token is
 *          outside the vocabulary, or 2^31 or more)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_loader_next(mo_loader *loader, mo_loader_batch *batch);

/* mo_loader_get_state - the position of the batch that is next.
 * mo_loader_set_state - go on from there; a position beyond the text is the next epoch's begin.
 * mo_loader_get_stats - what has been done so far.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API mo_loader_state mo_loader_get_state(const mo_loader *loader);
MEMOPT_API void mo_loader_set_state(mo_loader *loader, const mo_loader_state *state);
MEMOPT_API mo_loader_stats mo_loader_get_stats(const mo_loader *loader);

/* mo_loader_format - the state as a text of at most 99 characters, for a checkpoint.
 * mo_loader_parse - and back.
 *
 *   "epoch=2 position=30720 seed=1337 shuffle=1"
 *
 * text   out [size], terminated
 * state  out, untouched on failure
 *
 * Threads: safe
 * Errors:  MO_E_NO_SPACE (size), MO_E_FORMAT (another text), MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_loader_format(
    const mo_loader_state *state, char *text, size_t size);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_loader_parse(const char *text, mo_loader_state *state);

/* mo_loader_permute - number index of the order of 0 .. n-1 that belongs to a seed and an epoch.
 *
 *   2 h = the least even number of bits that hold n - 1; x = index
 *   repeat  (l, r) = the halves of x, of h bits each
 *           for k = 1 .. 8:  (l, r) = (r, l ^ mix(r ^ key_k) mod 2^h)
 *           x = (l, r)
 *   until x < n
 *   key_k = mix(key + 0x9e3779b9 k),  key = mix(seed_low + mix(seed_high + mix(epoch mod 2^32)))
 *   mix   as in mo_half.h
 *
 * A Feistel network permutes all numbers of 2 h bits, at most 4 n of them; walking on from those
 * that are too large leaves a permutation of the others. So an order takes no memory.
 *
 * index  below n
 *
 * Threads: safe
 * Cost:    at most 4 walks on average, 8 multiplications each
 * Source:  Black and Rogaway 2002, Ciphers with arbitrary finite domains
 * Since:   0.1 */
MEMOPT_API uint64_t mo_loader_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index);

#endif
