/* mo_track.h - who holds how much memory, now and at the peak: counts by category, the largest
 * blocks with their names or call sites, leaks, a report when memory runs out, figures of each
 * step, and a ring of events.
 *
 * It wraps an allocator and is one itself, and it keeps the books of memory that it did not
 * allocate (planned tensors, device buffers). The tables are allocated once at init; an event
 * allocates nothing.
 *
 *     mo_track track;
 *     mo_track_desc desc = {0};
 *     if (mo_track_init(&track, &desc) != MO_OK) ...
 *     void *x = MEMOPT_TRACK_ALLOC(&track, size, 0, MO_CATEGORY_ACTIVATION);
 *     mo_track_write_summary(&track, &writer);
 */
#ifndef MEMOPT_TRACK_H
#define MEMOPT_TRACK_H

#include "mo_arena.h"
#include "mo_base.h"
#include "mo_suballoc.h"

/* mo_track_step_stats - what happened since the last report of mo_track_step.
 *
 * step             number of the step that has just ended, from 1
 * n_steps          of them in this report
 * current_bytes    at its end; of them by category: current
 * peak_bytes       highest total in these steps, of which at_peak was in each category
 * allocated_bytes  in these steps; freed_bytes, n_failed: the same */
typedef struct mo_track_step_stats {
    uint64_t step, n_steps;
    uint64_t current_bytes, peak_bytes, allocated_bytes, freed_bytes, n_failed;
    uint64_t current[MO_CATEGORY_COUNT], at_peak[MO_CATEGORY_COUNT];
} mo_track_step_stats;

/* mo_track_desc - what is wrapped, and how much is remembered.
 *
 * allocator     wrapped; copied; NULL = heap
 * tables        gives the tables their memory; copied; NULL = allocator. Set it where the wrapped
 *               one is an arena that is reset, or a pool
 * max_blocks    live blocks known by name; 0 = 8192. Blocks past it are counted in bytes only
 * max_events    events remembered, the oldest are forgotten first; 0 = 16384
 * budget_bytes  an allocation that would pass it fails; 0 = none
 * now_ns        time of the events in ns from any origin; NULL = the event's number
 * log           told about failed allocations (the out-of-memory report); copied; NULL = silent
 * on_step       told what the steps did, by mo_track_step; must not change the track. NULL = nobody
 * on_step_self  its first argument
 * step_every    steps in one report; 0 = 1 */
typedef struct mo_track_desc {
    const mo_allocator *allocator;
    const mo_allocator *tables;
    size_t max_blocks;
    size_t max_events;
    uint64_t budget_bytes;
    uint64_t (*now_ns)(void);
    const mo_log *log;
    void (*on_step)(void *self, const mo_track_step_stats *stats);
    void *on_step_self;
    uint64_t step_every;
} mo_track_desc;

/* mo_track_counts - one row of the books. n_ counts blocks; allocated, freed: sums since init. */
typedef struct mo_track_counts {
    uint64_t current_bytes, peak_bytes, allocated_bytes, freed_bytes;
    uint64_t n_current, n_peak, n_allocated, n_freed;
} mo_track_counts;

/* mo_track_stats - the books.
 *
 * by_category    each with its own peak; these peaks need not be at the same time
 * at_peak_bytes  the split at the moment of total.peak_bytes, to which it adds up
 * n_untracked    live blocks that found the table full
 * n_failed       allocations refused: no memory, or past the budget
 * n_events       recorded so far; the ring still holds the last n_events_kept of them */
typedef struct mo_track_stats {
    mo_track_counts total;
    mo_track_counts by_category[MO_CATEGORY_COUNT];
    uint64_t at_peak_bytes[MO_CATEGORY_COUNT];
    uint64_t budget_bytes;
    uint64_t n_untracked, n_failed, n_events, n_events_kept;
} mo_track_stats;

/* mo_track_block - one live block. line = 0: name is the block's name (or NULL); else name is the
 * file in which it was allocated. birth is the number of the event that made it. */
typedef struct mo_track_block {
    const void *key;
    uint64_t size;
    const char *name;
    int line;
    mo_category category;
    uint64_t birth;
} mo_track_block;

typedef enum mo_track_event_kind {
    MO_TRACK_ALLOC = 0,
    MO_TRACK_FREE,
    MO_TRACK_OOM,   /* size is what was asked for */
    MO_TRACK_MARK,  /* name is the mark's */
    MO_TRACK_BEGIN, /* of a stage: name, and what it works on */
    MO_TRACK_END    /* of the stage begun last */
} mo_track_event_kind;

/* mo_track_event - one event; bytes are the current bytes by category after it.
 *
 * key   of the block in ALLOC and FREE; NULL for a block that found the table full
 * what  of BEGIN, or NULL */
typedef struct mo_track_event {
    uint64_t number;
    uint64_t time_ns;
    uint64_t size;
    const void *key;
    const char *name, *what;
    int line;
    mo_track_event_kind kind;
    mo_category category;
    uint64_t bytes[MO_CATEGORY_COUNT];
} mo_track_event;

/* mo_track_cursor - position in the events; {0} is before the oldest one kept. */
typedef struct mo_track_cursor {
    mo_track_event event;
    uint64_t n_read; /* private */
} mo_track_cursor;

/* Private: a block, an event and a view as the tables keep them. */
typedef struct moi_track_record {
    mo_track_block block;
    uint32_t next;
} moi_track_record;
typedef struct moi_track_entry {
    uint64_t time_ns, size;
    const void *key; /* or what */
    const char *name;
    int line;
    uint8_t kind, category;
} moi_track_entry;
typedef struct moi_track_view {
    struct mo_track *track;
    mo_category category;
} moi_track_view;

/* mo_track - owned by the caller, must not move; every field is private. */
typedef struct mo_track {
    mo_allocator allocator, tables;
    mo_log log;
    uint64_t (*now_ns)(void);
    void (*on_step)(void *self, const mo_track_step_stats *stats);
    void *on_step_self;
    uint64_t step_every;
    mo_track_stats stats;
    mo_track_step_stats steps; /* since the last report; sums are what they were at its time */
    moi_track_record *records; /* [max_blocks] live and free ones */
    mo_track_block *dead;      /* [max_blocks] live at the peak, freed since */
    uint32_t *heads;           /* [n_heads] hash chains of records */
    moi_track_entry *entries;  /* [max_events] ring */
    uint64_t ring_bytes[MO_CATEGORY_COUNT]; /* current bytes before the oldest entry */
    moi_track_view views[MO_CATEGORY_COUNT];
    size_t max_blocks, max_events, n_heads, n_dead;
    uint32_t free_record;
    int was_full; /* said once */
    uint64_t peak_event;
} mo_track;

/* mo_track_init - empty books. mo_track_free - give the tables back; blocks still live are not
 * freed.
 *
 * desc  NULL = all defaults
 *
 * Memory:  120 bytes per block and 40 per event, about 1.6 MiB by default
 * Threads: one at a time, as everything here; use one track per thread or lock around it
 * Errors:  MO_E_INVALID (NULL track, max_blocks >= 2^31), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_track_init(mo_track *track, const mo_track_desc *desc);
MEMOPT_API void mo_track_free(mo_track *track);

/* mo_track_alloc - allocate through the wrapped allocator and record it. mo_track_dealloc - free
 * it. MEMOPT_TRACK_ALLOC - allocate with the caller's file and line.
 *
 * align     power of two; 0 = 64
 * file      name of the block (line 0) or of the file (line > 0); kept as a pointer, so it must be
 *           valid as long as the track; may be NULL
 * category  of dealloc: used only for blocks that found the table full
 *
 * Memory:  the wrapped allocator's
 * Threads: one at a time
 * Errors:  NULL when the wrapped allocator is full or the budget would be passed; the log then gets
 *          the out-of-memory report. An unknown category counts as MO_CATEGORY_OTHER
 * Since:   0.1 */
MEMOPT_API void *mo_track_alloc(
    mo_track *track, size_t size, size_t align, mo_category category, const char *file, int line);
MEMOPT_API void mo_track_dealloc(
    mo_track *track, void *ptr, size_t size, size_t align, mo_category category);
#define MEMOPT_TRACK_ALLOC(track, size, align, category)                                           \
    mo_track_alloc((track), (size), (align), (category), __FILE__, __LINE__)

/* mo_track_allocator - the track as a mo_allocator whose blocks belong to one category. Valid while
 * the track is. Threads: one at a time. Since: 0.1 */
MEMOPT_API mo_allocator mo_track_allocator(mo_track *track, mo_category category);

/* mo_track_add - record memory that somebody else allocates. mo_track_remove - it is freed.
 * mo_track_remove_range - all recorded keys in [begin, begin + size) are freed, as when an arena is
 * rewound. Call add before allocating and remove when that fails, so that the budget holds.
 *
 * key   any address that is unique among live blocks: the memory itself, or the tensor's struct
 * name  kept as a pointer, valid as long as the track; may be NULL
 *
 * Threads: one at a time
 * Errors:  add: MO_E_INVALID (NULL, key already live), MO_E_NO_SPACE (past the budget, with the
 *          out-of-memory report; or the table is full); nothing is recorded then.
 *          remove: MO_E_NOT_FOUND
 * Cost:    10 to 20 ns; remove_range looks at every block
 * Since:   0.1 */
MEMOPT_API mo_status mo_track_add(
    mo_track *track, const void *key, uint64_t size, mo_category category, const char *name);
MEMOPT_API mo_status mo_track_remove(mo_track *track, const void *key);
MEMOPT_API void mo_track_remove_range(mo_track *track, const void *begin, size_t size);

/* mo_track_mark - put a named event into the ring, such as the begin of a phase. name is kept as a
 * pointer. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_track_mark(mo_track *track, const char *name);

/* mo_track_begin, mo_track_end - a stage begins, and the one begun last ends: a slice in the trace.
 * Stages nest. mo_plan does this for its steps.
 *
 * name  kept as a pointer, as what
 * what  it works on, such as a layer's name; may be NULL
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_track_begin(mo_track *track, const char *name, const char *what);
MEMOPT_API void mo_track_end(mo_track *track);

/* mo_track_step - a training step has ended: a mark, and after every step_every steps a report to
 * on_step. The next report begins with the bytes of now. name is kept as a pointer.
 *
 * Threads: one at a time
 * Cost:    that of a mark
 * Since:   0.1 */
MEMOPT_API void mo_track_step(mo_track *track, const char *name);

/* mo_track_status_line - one line about now, without a newline, to be shown while a program runs:
 * "memory 123.4 MiB, peak 200.0 MiB, budget 256.0 MiB, 1 failed".
 *
 * text  out  [size] terminated, cut where it does not fit; may be NULL when size is 0
 *
 * returns the length of the whole line
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API size_t mo_track_status_line(const mo_track *track, char *text, size_t size);

/* mo_track_oom - record that an allocation of size bytes failed elsewhere (device memory), and log
 * the out-of-memory report: requested, current, budget, the split, the largest live blocks.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_track_oom(mo_track *track, uint64_t size, mo_category category);

/* mo_track_reset_peak - all peaks become the current bytes, as if measuring began now.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_track_reset_peak(mo_track *track);

/* mo_track_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_track_get_stats(const mo_track *track, mo_track_stats *stats);

/* mo_track_top_live - the largest blocks live now.
 * mo_track_top_peak - the largest blocks that were live when the total peaked.
 *
 * blocks  out  [n] largest first, of equal size the older one first
 *
 * returns how many were written: n, or fewer when there are no more
 *
 * Both are exact: a block that was live at the peak is remembered when it is freed, until a higher
 * peak comes, and there are never more of those than max_blocks.
 *
 * Threads: one at a time
 * Cost:    max_blocks * n in the worst case
 * Since:   0.1 */
MEMOPT_API size_t mo_track_top_live(const mo_track *track, mo_track_block *blocks, size_t n);
MEMOPT_API size_t mo_track_top_peak(const mo_track *track, mo_track_block *blocks, size_t n);

/* mo_track_next - step to the next event kept, oldest first; 0 after the last.
 *
 *     mo_track_cursor cursor = {0};
 *     while (mo_track_next(track, &cursor)) use(&cursor.event);
 *
 * Threads: one at a time; the track must not change meanwhile
 * Since:   0.1 */
MEMOPT_API int mo_track_next(const mo_track *track, mo_track_cursor *cursor);

/* mo_track_space - a range out of which blocks are handed out, for the table of
 * mo_track_write_spaces.
 *
 * name                of the row; valid during the call
 * reserved_bytes      what it took from the system or the device
 * used_bytes          handed out now; peak_bytes: the most
 * free_bytes          in it, not handed out
 * largest_free_bytes  the largest block that it still has */
typedef struct mo_track_space {
    const char *name;
    uint64_t reserved_bytes, used_bytes, peak_bytes, free_bytes, largest_free_bytes;
} mo_track_space;

/* mo_track_space_arena, mo_track_space_suballoc - of an arena: of its committed bytes, so a mapping
 * that has not grown is not free space; of a sub-allocator: of its range. mo_cl_heap_space does it
 * for a heap. Threads: one at a time. Since: 0.1 */
MEMOPT_API mo_track_space mo_track_space_arena(const char *name, const mo_arena *arena);
MEMOPT_API mo_track_space mo_track_space_suballoc(const char *name, const mo_suballoc *sub);

/* mo_track_fragmentation - 1 - largest_free_bytes / free_bytes, the part of the free bytes that the
 * largest block cannot use; 0 when nothing is free. Threads: safe. Since: 0.1 */
MEMOPT_API double mo_track_fragmentation(const mo_track_space *space);

/* mo_track_write_spaces - a text table, one row per space: reserved, used, peak, free, largest free
 * block, fragmentation in percent.
 *
 * spaces  in  [n]
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_track_write_spaces(
    const mo_track_space *spaces, size_t n, const mo_writer *writer);

/* mo_track_write_summary - the books as a text table: one row per category that was used and the
 * total, with the columns current, peak, allocated and freed, and the split at the peak.
 * mo_track_write_leaks - the 32 largest live blocks, one per line, and the sum of the rest;
 * "no leaks" when there are none.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_track_write_summary(const mo_track *track, const mo_writer *writer);
MEMOPT_API mo_status mo_track_write_leaks(const mo_track *track, const mo_writer *writer);

#endif
