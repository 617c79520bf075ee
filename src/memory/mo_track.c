/* mo_track.c - see mo_track.h.
 *
 * The blocks live at the peak cost nothing to keep: a block was live then when it was born before
 * the peak and is live now, or when it died since. Only the latter are copied, at their death, and
 * they are forgotten as soon as a higher peak comes. */

#define MOI_TRACK_NONE 0xffffffffu
enum { MOI_TRACK_MAX_BLOCKS = 8192, MOI_TRACK_MAX_EVENTS = 16384 };
enum { MOI_TRACK_OOM_BLOCKS = 8, MOI_TRACK_LEAK_BLOCKS = 32 };

/* ---- text ---------------------------------------------------------------------------------- */

/* A writer that stops at its first error. Also used by mo_trace. */
typedef struct moi_track_out {
    const mo_writer *writer;
    mo_status status;
} moi_track_out;

static void moi_track_put(moi_track_out *out, const char *text, size_t size) {
    if (out->status != MO_OK || size == 0) return;
    if (out->writer->write(out->writer->self, text, size) != 0) out->status = MO_E_IO;
}

/* Up to 511 characters; the rest is cut. */
MOI_PRINTF(2) static void moi_track_print(moi_track_out *out, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0) moi_track_put(out, text, moi_min((size_t)n, sizeof text - 1));
}

typedef struct moi_track_text {
    char text[64];
} moi_track_text;

/* "1.5 MiB". Without %f, whose decimal point follows the locale. */
static moi_track_text moi_track_bytes(uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    moi_track_text out;
    double value = (double)bytes / 1024;
    size_t unit = 0;
    if (bytes < 1024) {
        snprintf(out.text, sizeof out.text, "%u B", (unsigned)bytes);
        return out;
    }
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) value /= 1024, unit++;
    unsigned tenths = (unsigned)(value * 10 + 0.5);
    snprintf(out.text, sizeof out.text, "%u.%u %s", tenths / 10, tenths % 10, units[unit]);
    return out;
}

/* "name" or "file.c:123"; of a path only the last part, of a long name the end. */
static moi_track_text moi_track_label(const char *name, int line) {
    moi_track_text out;
    const char *text = name ? name : "(unnamed)";
    for (const char *at = text; line > 0 && *at; at++)
        if (*at == '/' || *at == '\\') text = at + 1;
    size_t size = strlen(text), room = sizeof out.text - 16;
    if (size > room) text += size - room;
    if (line > 0) snprintf(out.text, sizeof out.text, "%.48s:%d", text, line);
    else snprintf(out.text, sizeof out.text, "%.48s", text);
    return out;
}

/* ---- start and end ------------------------------------------------------------------------- */

static size_t moi_track_pow2(size_t n) {
    size_t power = 1;
    while (power < n) power *= 2;
    return power;
}

static void moi_track_free_tables(mo_track *track) {
    const mo_allocator *from = &track->tables;
    moi_free_array(from, track->records, track->max_blocks, sizeof *track->records);
    moi_free_array(from, track->dead, track->max_blocks, sizeof *track->dead);
    moi_free_array(from, track->heads, track->n_heads, sizeof *track->heads);
    moi_free_array(from, track->entries, track->max_events, sizeof *track->entries);
}

static mo_status moi_track_alloc_tables(mo_track *t) {
    const mo_allocator *from = &t->tables;
    t->records = (moi_track_record *)moi_alloc_array(from, t->max_blocks, sizeof *t->records);
    t->dead = (mo_track_block *)moi_alloc_array(from, t->max_blocks, sizeof *t->dead);
    t->heads = (uint32_t *)moi_alloc_array(from, t->n_heads, sizeof *t->heads);
    t->entries = (moi_track_entry *)moi_alloc_array(from, t->max_events, sizeof *t->entries);
    if (t->records && t->dead && t->heads && t->entries) return MO_OK;
    moi_track_free_tables(t);
    return MO_E_NO_MEMORY;
}

static void moi_track_clear_tables(mo_track *track) {
    memset(track->records, 0, track->max_blocks * sizeof *track->records);
    memset(track->heads, 0xff, track->n_heads * sizeof *track->heads);
    for (size_t i = 0; i < track->max_blocks; i++) track->records[i].next = (uint32_t)i + 1;
    track->records[track->max_blocks - 1].next = MOI_TRACK_NONE;
}

mo_status mo_track_init(mo_track *track, const mo_track_desc *desc) {
    static const mo_track_desc defaults = {NULL, NULL, 0, 0, 0, NULL, NULL, NULL, NULL, 0};
    mo_track made;
    if (!desc) desc = &defaults;
    if (!track || desc->max_blocks > 0x7fffffffu) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    if (desc->allocator) made.allocator = *desc->allocator;
    made.tables = desc->tables ? *desc->tables : made.allocator;
    if (desc->log) made.log = *desc->log;
    made.now_ns = desc->now_ns;
    made.on_step = desc->on_step;
    made.on_step_self = desc->on_step_self;
    made.step_every = desc->step_every ? desc->step_every : 1;
    made.stats.budget_bytes = desc->budget_bytes;
    made.max_blocks = desc->max_blocks ? desc->max_blocks : (size_t)MOI_TRACK_MAX_BLOCKS;
    made.max_events = desc->max_events ? desc->max_events : (size_t)MOI_TRACK_MAX_EVENTS;
    made.n_heads = moi_track_pow2(made.max_blocks);
    mo_status status = moi_track_alloc_tables(&made);
    if (status != MO_OK) return status;
    moi_track_clear_tables(&made);
    *track = made;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) {
        track->views[i].track = track;
        track->views[i].category = (mo_category)i;
    }
    return MO_OK;
}

void mo_track_free(mo_track *track) {
    if (!track || !track->records) return;
    moi_track_free_tables(track);
    memset(track, 0, sizeof *track);
}

/* ---- the table of live blocks -------------------------------------------------------------- */

static uint32_t *moi_track_head(const mo_track *track, const void *key) {
    uint64_t hash = (uint64_t)(uintptr_t)key * 0x9e3779b97f4a7c15u;
    return &track->heads[(size_t)(hash >> 32) & (track->n_heads - 1)];
}

/* The link that leads to key's record; it holds MOI_TRACK_NONE when there is none. */
static uint32_t *moi_track_find(const mo_track *track, const void *key) {
    uint32_t *link = moi_track_head(track, key);
    while (*link != MOI_TRACK_NONE && track->records[*link].block.key != key)
        link = &track->records[*link].next;
    return link;
}

static int moi_track_insert(mo_track *track, const mo_track_block *block) {
    uint32_t i = track->free_record, *head = moi_track_head(track, block->key);
    if (i == MOI_TRACK_NONE) return 0;
    moi_track_record *record = &track->records[i];
    track->free_record = record->next;
    record->block = *block;
    record->next = *head;
    *head = i;
    return 1;
}

static mo_track_block moi_track_take(mo_track *track, uint32_t *link) {
    uint32_t i = *link;
    moi_track_record *record = &track->records[i];
    mo_track_block block = record->block;
    *link = record->next;
    memset(&record->block, 0, sizeof record->block);
    record->next = track->free_record;
    track->free_record = i;
    return block;
}

/* ---- events and counts --------------------------------------------------------------------- */

static void moi_track_apply(uint64_t bytes[], const moi_track_entry *entry) {
    if (entry->kind == MO_TRACK_ALLOC) bytes[entry->category] += entry->size;
    if (entry->kind == MO_TRACK_FREE) bytes[entry->category] -= entry->size;
}

/* key, size and name are the block's; time and kind come here. */
static uint64_t moi_track_record_event(
    mo_track *track, mo_track_event_kind kind, const mo_track_block *block) {
    mo_track_stats *stats = &track->stats;
    moi_track_entry *entry = &track->entries[stats->n_events % track->max_events];
    if (stats->n_events_kept == track->max_events) moi_track_apply(track->ring_bytes, entry);
    else stats->n_events_kept++;
    stats->n_events++;
    entry->time_ns = track->now_ns ? track->now_ns() : stats->n_events;
    entry->size = block->size;
    entry->key = block->key;
    entry->name = block->name;
    entry->line = block->line;
    entry->kind = (uint8_t)kind;
    entry->category = (uint8_t)block->category;
    return stats->n_events;
}

/* An event that is not about a block. */
static void moi_track_note(
    mo_track *track, mo_track_event_kind kind, const char *name, const void *what) {
    mo_track_block block;
    memset(&block, 0, sizeof block);
    block.name = name;
    block.key = what;
    moi_track_record_event(track, kind, &block);
}

/* Whether that was a new peak. */
static int moi_track_count_alloc(mo_track_counts *counts, uint64_t size) {
    counts->current_bytes += size;
    counts->allocated_bytes += size;
    counts->n_current++;
    counts->n_allocated++;
    if (counts->n_current > counts->n_peak) counts->n_peak = counts->n_current;
    if (counts->current_bytes <= counts->peak_bytes) return 0;
    counts->peak_bytes = counts->current_bytes;
    return 1;
}

static void moi_track_count_free(mo_track_counts *counts, uint64_t size) {
    counts->current_bytes -= size;
    counts->freed_bytes += size;
    counts->n_current--;
    counts->n_freed++;
}

static void moi_track_at_peak(mo_track *track) {
    mo_track_stats *stats = &track->stats;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        stats->at_peak_bytes[i] = stats->by_category[i].current_bytes;
    track->peak_event = stats->n_events;
    track->n_dead = 0;
}

static void moi_track_count_step(mo_track *track) {
    uint64_t total = track->stats.total.current_bytes;
    if (total <= track->steps.peak_bytes) return;
    track->steps.peak_bytes = total;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        track->steps.at_peak[i] = track->stats.by_category[i].current_bytes;
}

/* Counts a new block and returns whether the table had room for it. */
static int moi_track_born(mo_track *track, const void *key, uint64_t size, mo_category category,
    const char *name, int line) {
    mo_track_block block;
    block.key = key;
    block.size = size;
    block.name = name;
    block.line = line;
    block.category = category;
    block.birth = moi_track_record_event(track, MO_TRACK_ALLOC, &block);
    moi_track_count_alloc(&track->stats.by_category[category], size);
    if (moi_track_count_alloc(&track->stats.total, size)) moi_track_at_peak(track);
    moi_track_count_step(track);
    return moi_track_insert(track, &block);
}

static void moi_track_died(mo_track *track, const mo_track_block *block) {
    moi_track_record_event(track, MO_TRACK_FREE, block);
    moi_track_count_free(&track->stats.by_category[block->category], block->size);
    moi_track_count_free(&track->stats.total, block->size);
    if (block->birth != 0 && block->birth <= track->peak_event)
        track->dead[track->n_dead++] = *block;
}

static mo_category moi_track_category(mo_category category) {
    return (unsigned)category < MO_CATEGORY_COUNT ? category : MO_CATEGORY_OTHER;
}

static int moi_track_fits(const mo_track *track, uint64_t size) {
    uint64_t budget = track->stats.budget_bytes, current = track->stats.total.current_bytes;
    return budget == 0 || (current <= budget && size <= budget - current);
}

/* ---- allocation through the track ---------------------------------------------------------- */

void *mo_track_alloc(
    mo_track *track, size_t size, size_t align, mo_category category, const char *file, int line) {
    if (align == 0) align = MOI_CACHE_LINE;
    if (size == 0 || !moi_is_pow2(align)) return NULL;
    category = moi_track_category(category);
    void *ptr = moi_track_fits(track, size) ? mo_alloc(&track->allocator, size, align) : NULL;
    if (!ptr) {
        mo_track_oom(track, size, category);
        return NULL;
    }
    /* Is a block still live here? Then the allocator freed it silently, as an arena does. */
    mo_status known = mo_track_remove(track, ptr);
    (void)known;
    if (!moi_track_born(track, ptr, size, category, file, line)) track->stats.n_untracked++;
    return ptr;
}

void mo_track_dealloc(mo_track *track, void *ptr, size_t size, size_t align, mo_category category) {
    if (!ptr) return;
    if (mo_track_remove(track, ptr) != MO_OK && track->stats.n_untracked > 0) {
        mo_track_block block;
        memset(&block, 0, sizeof block);
        block.size = size;
        block.category = moi_track_category(category);
        track->stats.n_untracked--;
        moi_track_died(track, &block);
    }
    mo_free(&track->allocator, ptr, size, align ? align : (size_t)MOI_CACHE_LINE);
}

static void *moi_track_alloc_hook(void *self, size_t size, size_t align) {
    moi_track_view *view = (moi_track_view *)self;
    return mo_track_alloc(view->track, size, align, view->category, NULL, 0);
}

static void moi_track_free_hook(void *self, void *ptr, size_t size, size_t align) {
    moi_track_view *view = (moi_track_view *)self;
    mo_track_dealloc(view->track, ptr, size, align, view->category);
}

mo_allocator mo_track_allocator(mo_track *track, mo_category category) {
    mo_allocator allocator;
    allocator.alloc = moi_track_alloc_hook;
    allocator.free = moi_track_free_hook;
    allocator.self = &track->views[moi_track_category(category)];
    return allocator;
}

/* ---- memory of others ---------------------------------------------------------------------- */

mo_status mo_track_add(
    mo_track *track, const void *key, uint64_t size, mo_category category, const char *name) {
    if (!track || !key || *moi_track_find(track, key) != MOI_TRACK_NONE) return MO_E_INVALID;
    if (!moi_track_fits(track, size)) {
        mo_track_oom(track, size, category);
        return MO_E_NO_SPACE;
    }
    if (track->free_record == MOI_TRACK_NONE) {
        if (!track->was_full)
            moi_log(&track->log, MO_LOG_WARN, "track: more than max_blocks = %zu live blocks",
                track->max_blocks);
        track->was_full = 1;
        return MO_E_NO_SPACE;
    }
    int listed = moi_track_born(track, key, size, moi_track_category(category), name, 0);
    MEMOPT_ASSERT(listed);
    (void)listed;
    return MO_OK;
}

mo_status mo_track_remove(mo_track *track, const void *key) {
    uint32_t *link = moi_track_find(track, key);
    if (*link == MOI_TRACK_NONE) return MO_E_NOT_FOUND;
    mo_track_block block = moi_track_take(track, link);
    moi_track_died(track, &block);
    return MO_OK;
}

void mo_track_remove_range(mo_track *track, const void *begin, size_t size) {
    for (size_t i = 0; i < track->max_blocks; i++) {
        const mo_track_block *block = &track->records[i].block;
        if (block->birth == 0 || (uintptr_t)block->key - (uintptr_t)begin >= size) continue;
        mo_status status = mo_track_remove(track, block->key);
        MEMOPT_ASSERT(status == MO_OK);
        (void)status;
    }
}

void mo_track_mark(mo_track *track, const char *name) {
    moi_track_note(track, MO_TRACK_MARK, name, NULL);
}

void mo_track_begin(mo_track *track, const char *name, const char *what) {
    moi_track_note(track, MO_TRACK_BEGIN, name, what);
}

void mo_track_end(mo_track *track) { moi_track_note(track, MO_TRACK_END, NULL, NULL); }

static void moi_track_next_steps(mo_track *track) {
    mo_track_step_stats *steps = &track->steps;
    steps->n_steps = 0;
    steps->allocated_bytes = track->stats.total.allocated_bytes;
    steps->freed_bytes = track->stats.total.freed_bytes;
    steps->n_failed = track->stats.n_failed;
    steps->peak_bytes = 0;
    memset(steps->at_peak, 0, sizeof steps->at_peak);
    moi_track_count_step(track);
}

void mo_track_step(mo_track *track, const char *name) {
    const mo_track_stats *stats = &track->stats;
    mo_track_mark(track, name);
    track->steps.step++;
    if (++track->steps.n_steps < track->step_every) return;
    mo_track_step_stats report = track->steps;
    report.current_bytes = stats->total.current_bytes;
    report.allocated_bytes = stats->total.allocated_bytes - report.allocated_bytes;
    report.freed_bytes = stats->total.freed_bytes - report.freed_bytes;
    report.n_failed = stats->n_failed - report.n_failed;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        report.current[i] = stats->by_category[i].current_bytes;
    moi_track_next_steps(track);
    if (track->on_step) track->on_step(track->on_step_self, &report);
}

void mo_track_reset_peak(mo_track *track) {
    mo_track_stats *stats = &track->stats;
    for (int i = 0; i <= MO_CATEGORY_COUNT; i++) {
        mo_track_counts *row = i < MO_CATEGORY_COUNT ? &stats->by_category[i] : &stats->total;
        row->peak_bytes = row->current_bytes;
        row->n_peak = row->n_current;
    }
    moi_track_at_peak(track);
}

/* ---- reading ------------------------------------------------------------------------------- */

void mo_track_get_stats(const mo_track *track, mo_track_stats *stats) { *stats = track->stats; }

static int moi_track_larger(const mo_track_block *a, const mo_track_block *b) {
    return a->size != b->size ? a->size > b->size : a->birth < b->birth;
}

/* Inserts block into the n largest found so far, of which there is room for max. */
static size_t moi_track_rank(
    mo_track_block *blocks, size_t n, size_t max, const mo_track_block *block) {
    if (n == max && (max == 0 || !moi_track_larger(block, &blocks[n - 1]))) return n;
    size_t at = n < max ? n++ : n - 1;
    for (; at > 0 && moi_track_larger(block, &blocks[at - 1]); at--) blocks[at] = blocks[at - 1];
    blocks[at] = *block;
    return n;
}

/* The largest live blocks that were born up to that event. */
static size_t moi_track_top(
    const mo_track *track, uint64_t born_until, mo_track_block *blocks, size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < track->max_blocks; i++) {
        const mo_track_block *block = &track->records[i].block;
        if (block->birth != 0 && block->birth <= born_until)
            n = moi_track_rank(blocks, n, max, block);
    }
    return n;
}

size_t mo_track_top_live(const mo_track *track, mo_track_block *blocks, size_t n) {
    return moi_track_top(track, UINT64_MAX, blocks, n);
}

size_t mo_track_top_peak(const mo_track *track, mo_track_block *blocks, size_t n) {
    size_t found = moi_track_top(track, track->peak_event, blocks, n);
    for (size_t i = 0; i < track->n_dead; i++)
        found = moi_track_rank(blocks, found, n, &track->dead[i]);
    return found;
}

int mo_track_next(const mo_track *track, mo_track_cursor *cursor) {
    const mo_track_stats *stats = &track->stats;
    mo_track_event *event = &cursor->event;
    if (cursor->n_read >= stats->n_events_kept) return 0;
    uint64_t at = stats->n_events - stats->n_events_kept + cursor->n_read;
    const moi_track_entry *entry = &track->entries[at % track->max_events];
    if (cursor->n_read++ == 0) memcpy(event->bytes, track->ring_bytes, sizeof event->bytes);
    moi_track_apply(event->bytes, entry);
    event->number = at + 1;
    event->time_ns = entry->time_ns;
    event->size = entry->size;
    event->key = entry->kind == MO_TRACK_BEGIN ? NULL : entry->key;
    event->what = entry->kind == MO_TRACK_BEGIN ? (const char *)entry->key : NULL;
    event->name = entry->name;
    event->line = entry->line;
    event->kind = (mo_track_event_kind)entry->kind;
    event->category = (mo_category)entry->category;
    return 1;
}

/* ---- reports ------------------------------------------------------------------------------- */

static void moi_track_log_split(const mo_track *track) {
    char text[512];
    size_t size = 0;
    text[0] = 0;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) {
        uint64_t bytes = track->stats.by_category[i].current_bytes;
        if (bytes == 0) continue;
        int n = snprintf(text + size, sizeof text - size, "%s%s %s", size ? ", " : "",
            mo_category_name((mo_category)i), moi_track_bytes(bytes).text);
        if (n > 0) size = moi_min(size + (size_t)n, sizeof text - 1);
    }
    if (size) moi_log(&track->log, MO_LOG_ERROR, "  in use: %s", text);
}

void mo_track_oom(mo_track *track, uint64_t size, mo_category category) {
    mo_track_block blocks[MOI_TRACK_OOM_BLOCKS];
    const mo_track_stats *stats = &track->stats;
    mo_track_block wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.size = size;
    wanted.category = category = moi_track_category(category);
    track->stats.n_failed++;
    moi_track_record_event(track, MO_TRACK_OOM, &wanted);
    if (!track->log.write) return;
    moi_log(&track->log, MO_LOG_ERROR, "out of memory: %s (%s) requested, %s in use, budget %s",
        moi_track_bytes(size).text, mo_category_name(category),
        moi_track_bytes(stats->total.current_bytes).text,
        stats->budget_bytes ? moi_track_bytes(stats->budget_bytes).text : "none");
    moi_track_log_split(track);
    size_t n = mo_track_top_live(track, blocks, MOI_TRACK_OOM_BLOCKS);
    for (size_t i = 0; i < n; i++)
        moi_log(&track->log, MO_LOG_ERROR, "  %2zu. %10s  %-10s  %s", i + 1,
            moi_track_bytes(blocks[i].size).text, mo_category_name(blocks[i].category),
            moi_track_label(blocks[i].name, blocks[i].line).text);
}

size_t mo_track_status_line(const mo_track *track, char *text, size_t size) {
    const mo_track_stats *stats = &track->stats;
    char budget[96] = "", failed[48] = "";
    if (stats->budget_bytes)
        snprintf(budget, sizeof budget, ", budget %s", moi_track_bytes(stats->budget_bytes).text);
    if (stats->n_failed)
        snprintf(failed, sizeof failed, ", %llu failed", (unsigned long long)stats->n_failed);
    int n = snprintf(text, size, "memory %s, peak %s%s%s",
        moi_track_bytes(stats->total.current_bytes).text,
        moi_track_bytes(stats->total.peak_bytes).text, budget, failed);
    return n > 0 ? (size_t)n : 0;
}

static void moi_track_print_row(
    moi_track_out *out, const char *name, const mo_track_counts *row, uint64_t at_peak) {
    moi_track_print(out, "%-10s  %11s  %11s  %11s  %11s  %11s  %8llu\n", name,
        moi_track_bytes(row->current_bytes).text, moi_track_bytes(row->peak_bytes).text,
        moi_track_bytes(at_peak).text, moi_track_bytes(row->allocated_bytes).text,
        moi_track_bytes(row->freed_bytes).text, (unsigned long long)row->n_current);
}

static void moi_track_print_rule(moi_track_out *out) {
    char rule[86];
    memset(rule, '-', sizeof rule);
    rule[sizeof rule - 1] = '\n';
    moi_track_put(out, rule, sizeof rule);
}

/* ---- spaces -------------------------------------------------------------------------------- */

mo_track_space mo_track_space_arena(const char *name, const mo_arena *arena) {
    mo_track_space space;
    mo_arena_stats stats;
    mo_arena_get_stats(arena, &stats);
    space.name = name;
    space.reserved_bytes = stats.committed_bytes;
    space.used_bytes = stats.used_bytes;
    space.peak_bytes = stats.peak_bytes;
    /* An arena of tokens commits nothing. */
    if (space.reserved_bytes < space.used_bytes) space.reserved_bytes = space.used_bytes;
    space.free_bytes = space.largest_free_bytes = space.reserved_bytes - space.used_bytes;
    return space;
}

mo_track_space mo_track_space_suballoc(const char *name, const mo_suballoc *sub) {
    mo_track_space space;
    mo_suballoc_stats stats;
    mo_suballoc_get_stats(sub, &stats);
    space.name = name;
    space.reserved_bytes = stats.used_bytes + stats.free_bytes;
    space.used_bytes = stats.used_bytes;
    space.peak_bytes = stats.peak_bytes;
    space.free_bytes = stats.free_bytes;
    space.largest_free_bytes = stats.largest_free_bytes;
    return space;
}

double mo_track_fragmentation(const mo_track_space *space) {
    if (space->free_bytes == 0) return 0;
    return 1 - (double)space->largest_free_bytes / (double)space->free_bytes;
}

mo_status mo_track_write_spaces(const mo_track_space *spaces, size_t n, const mo_writer *writer) {
    moi_track_out out;
    if ((!spaces && n) || !writer || !writer->write) return MO_E_INVALID;
    out.writer = writer;
    out.status = MO_OK;
    moi_track_print(&out, "%-10s  %11s  %11s  %11s  %11s  %12s  %6s\n", "space", "reserved", "used",
        "peak", "free", "largest free", "frag.");
    moi_track_print_rule(&out);
    for (size_t i = 0; i < n; i++)
        moi_track_print(&out, "%-10s  %11s  %11s  %11s  %11s  %12s  %4u %%\n",
            moi_track_label(spaces[i].name, 0).text, moi_track_bytes(spaces[i].reserved_bytes).text,
            moi_track_bytes(spaces[i].used_bytes).text, moi_track_bytes(spaces[i].peak_bytes).text,
            moi_track_bytes(spaces[i].free_bytes).text,
            moi_track_bytes(spaces[i].largest_free_bytes).text,
            (unsigned)(100 * mo_track_fragmentation(&spaces[i]) + 0.5));
    return out.status;
}

/* ---- tables -------------------------------------------------------------------------------- */

static void moi_track_print_footer(moi_track_out *out, const mo_track_stats *stats) {
    if (stats->budget_bytes) {
        double used = 100 * (double)stats->total.peak_bytes / (double)stats->budget_bytes;
        moi_track_print(out, "budget %s, peak uses %u %% of it\n",
            moi_track_bytes(stats->budget_bytes).text, (unsigned)(used + 0.5));
    }
    if (stats->n_failed)
        moi_track_print(out, "failed allocations: %llu\n", (unsigned long long)stats->n_failed);
    if (stats->n_untracked)
        moi_track_print(out, "%llu live blocks are not listed: raise max_blocks\n",
            (unsigned long long)stats->n_untracked);
}

mo_status mo_track_write_summary(const mo_track *track, const mo_writer *writer) {
    moi_track_out out;
    if (!track || !writer || !writer->write) return MO_E_INVALID;
    const mo_track_stats *stats = &track->stats;
    out.writer = writer;
    out.status = MO_OK;
    moi_track_print(&out, "%-10s  %11s  %11s  %11s  %11s  %11s  %8s\n", "category", "current",
        "peak", "at peak", "allocated", "freed", "blocks");
    moi_track_print_rule(&out);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) {
        if (stats->by_category[i].n_allocated == 0) continue;
        moi_track_print_row(&out, mo_category_name((mo_category)i), &stats->by_category[i],
            stats->at_peak_bytes[i]);
    }
    moi_track_print_rule(&out);
    moi_track_print_row(&out, "total", &stats->total, stats->total.peak_bytes);
    moi_track_print_footer(&out, stats);
    return out.status;
}

mo_status mo_track_write_leaks(const mo_track *track, const mo_writer *writer) {
    mo_track_block blocks[MOI_TRACK_LEAK_BLOCKS];
    moi_track_out out;
    if (!track || !writer || !writer->write) return MO_E_INVALID;
    uint64_t rest_bytes = track->stats.total.current_bytes, rest = track->stats.total.n_current;
    size_t n = mo_track_top_live(track, blocks, MOI_TRACK_LEAK_BLOCKS);
    out.writer = writer;
    out.status = MO_OK;
    if (rest == 0) moi_track_print(&out, "no leaks\n");
    else
        moi_track_print(&out, "%llu blocks, %s leaked\n", (unsigned long long)rest,
            moi_track_bytes(rest_bytes).text);
    for (size_t i = 0; i < n; i++) {
        moi_track_print(&out, "  %11s  %-10s  %s\n", moi_track_bytes(blocks[i].size).text,
            mo_category_name(blocks[i].category),
            moi_track_label(blocks[i].name, blocks[i].line).text);
        rest_bytes -= blocks[i].size;
    }
    if (rest > n)
        moi_track_print(&out, "  %11s  in %llu smaller or unlisted blocks\n",
            moi_track_bytes(rest_bytes).text, (unsigned long long)(rest - n));
    return out.status;
}

#undef MOI_TRACK_NONE
