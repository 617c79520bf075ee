/* mo_snapshot.c - see mo_snapshot.h.
 *
 * The ring knows how a block ended, but not always how it began. So addresses are found from the
 * end to the beginning, as the viewer does it too: from the blocks live now, an end makes a block
 * live, and a begin takes it away.
 *
 * The pickle is protocol 2 with the few opcodes below, all of which the viewer reads. The names
 * that come again and again are memoized. A list is built by one APPEND per element: the viewer
 * spreads the elements of an APPENDS over the stack of JavaScript, which is small. */

enum { MOI_SNAPSHOT_GAP = 65536 }; /* between segments */
#define MOI_SNAPSHOT_NONE UINT64_MAX
#define MOI_SNAPSHOT_MAX  ((uint64_t)1 << 53) /* integers beyond it are not exact in JavaScript */

typedef enum moi_snapshot_word {
    MOI_SNAPSHOT_ACTION,
    MOI_SNAPSHOT_ADDR,
    MOI_SNAPSHOT_ADDRESS,
    MOI_SNAPSHOT_SIZE,
    MOI_SNAPSHOT_STREAM,
    MOI_SNAPSHOT_TIME,
    MOI_SNAPSHOT_CATEGORY,
    MOI_SNAPSHOT_FRAMES,
    MOI_SNAPSHOT_NAME,
    MOI_SNAPSHOT_FILENAME,
    MOI_SNAPSHOT_LINE,
    MOI_SNAPSHOT_REQUESTED,
    MOI_SNAPSHOT_STATE,
    MOI_SNAPSHOT_ALLOC,
    MOI_SNAPSHOT_FREE,
    MOI_SNAPSHOT_FREED,
    MOI_SNAPSHOT_ACTIVE,
    MOI_SNAPSHOT_INACTIVE,
    MOI_SNAPSHOT_UNKNOWN,
    MOI_SNAPSHOT_WORDS
} moi_snapshot_word;

static const char *const moi_snapshot_words[MOI_SNAPSHOT_WORDS] = {"action", "addr", "address",
    "size", "stream", "time_us", "category", "frames", "name", "filename", "line", "requested_size",
    "state", "alloc", "free_requested", "free_completed", "active_allocated", "inactive",
    "unknown"};

/* A block that is live at the moment that is looked at: as an event of it. */
typedef struct moi_snapshot_live {
    moi_track_entry entry;
    uint64_t address;
} moi_snapshot_live;

/* One that is live now, or a range of addresses. */
typedef struct moi_snapshot_range {
    uint64_t begin, end;
    const mo_track_block *block;
} moi_snapshot_range;

typedef struct moi_snapshot {
    const mo_track *track;
    const mo_allocator *allocator;
    moi_track_out out;
    size_t n_now, n_events, max_ranges, n_live, n_ranges;
    moi_snapshot_range *now;    /* [n_now] by address */
    moi_snapshot_live *live;    /* [n_live] of n_now + n_events, by address */
    moi_snapshot_range *ranges; /* [n_ranges] of n_now + n_events */
    uint64_t *addresses;        /* [n_events] NONE = not shown */
    int by_key;
    uint8_t is_known[MOI_SNAPSHOT_WORDS]; /* memoized */
} moi_snapshot;

/* ---- addresses ----------------------------------------------------------------------------- */

static int moi_snapshot_compare(const void *a, const void *b) {
    const moi_snapshot_range *x = (const moi_snapshot_range *)a, *y = (const moi_snapshot_range *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static const moi_track_entry *moi_snapshot_entry(const moi_snapshot *s, size_t i) {
    const mo_track *track = s->track;
    return &track->entries[(track->stats.n_events - s->n_events + i) % track->max_events];
}

static int moi_snapshot_fits(uint64_t address, uint64_t size) {
    return address < MOI_SNAPSHOT_MAX && size <= MOI_SNAPSHOT_MAX - address;
}

/* Where a block of that size goes into the live ones, and its address there: its key, or the first
 * gap. 0 when the keys are no addresses. */
static int moi_snapshot_place(
    const moi_snapshot *s, const void *key, uint64_t size, size_t *at, uint64_t *address) {
    uint64_t end = 0;
    *address = (uint64_t)(uintptr_t)key;
    for (*at = 0; *at < s->n_live; ++*at) {
        const moi_snapshot_live *next = &s->live[*at];
        if (s->by_key ? next->address >= *address : next->address - end >= size) break;
        end = next->address + next->entry.size;
    }
    if (!s->by_key) *address = end;
    return moi_snapshot_fits(*address, size) && *address >= end &&
        (*at == s->n_live || *address + size <= s->live[*at].address);
}

static int moi_snapshot_insert(moi_snapshot *s, const moi_track_entry *entry, uint64_t *address) {
    size_t at;
    if (!moi_snapshot_place(s, entry->key, entry->size, &at, address)) return 0;
    memmove(&s->live[at + 1], &s->live[at], (s->n_live - at) * sizeof *s->live);
    s->n_live++;
    s->live[at].entry = *entry;
    s->live[at].address = *address;
    return 1;
}

/* The address of the live block with that key, which is no longer live. */
static uint64_t moi_snapshot_take(moi_snapshot *s, const void *key) {
    size_t at = 0;
    while (at < s->n_live && s->live[at].entry.key != key) at++;
    if (at == s->n_live) return MOI_SNAPSHOT_NONE;
    uint64_t address = s->live[at].address;
    s->n_live--;
    memmove(&s->live[at], &s->live[at + 1], (s->n_live - at) * sizeof *s->live);
    return address;
}

static void moi_snapshot_add_range(moi_snapshot *s, uint64_t address, uint64_t size) {
    moi_snapshot_range *range = &s->ranges[s->n_ranges++];
    range->begin = address;
    range->end = address + size;
    range->block = NULL;
}

/* The blocks live now, sorted by key: each goes behind the one before. */
static int moi_snapshot_assign_now(moi_snapshot *s) {
    uint64_t end = 0;
    for (size_t i = 0; i < s->n_now; i++) {
        moi_snapshot_range *now = &s->now[i];
        moi_snapshot_live *live = &s->live[s->n_live++];
        const mo_track_block *block = now->block;
        memset(live, 0, sizeof *live);
        live->entry.key = block->key;
        live->entry.size = block->size;
        live->entry.name = block->name;
        live->entry.line = block->line;
        live->entry.category = (uint8_t)block->category;
        live->address = s->by_key ? (uint64_t)(uintptr_t)block->key : end;
        if (live->address < end || !moi_snapshot_fits(live->address, block->size)) return 0;
        now->begin = live->address;
        now->end = end = live->address + block->size;
        moi_snapshot_add_range(s, live->address, block->size);
    }
    return 1;
}

/* An address for every block in every event; 0 when there is none. */
static int moi_snapshot_assign(moi_snapshot *s, int by_key) {
    s->by_key = by_key;
    s->n_live = s->n_ranges = 0;
    if (!moi_snapshot_assign_now(s)) return 0;
    for (size_t i = s->n_events; i-- > 0;) {
        const moi_track_entry *entry = moi_snapshot_entry(s, i);
        s->addresses[i] = MOI_SNAPSHOT_NONE;
        if (!entry->key || entry->size == 0) continue;
        if (entry->kind == MO_TRACK_ALLOC) s->addresses[i] = moi_snapshot_take(s, entry->key);
        if (entry->kind != MO_TRACK_FREE) continue;
        if (!moi_snapshot_insert(s, entry, &s->addresses[i])) return 0;
        moi_snapshot_add_range(s, s->addresses[i], entry->size);
    }
    return 1;
}

/* Ranges that touch or nearly do become one segment. */
static void moi_snapshot_merge(moi_snapshot *s) {
    size_t n = 0;
    qsort(s->ranges, s->n_ranges, sizeof *s->ranges, moi_snapshot_compare);
    for (size_t i = 0; i < s->n_ranges; i++) {
        const moi_snapshot_range range = s->ranges[i];
        moi_snapshot_range *last = n ? &s->ranges[n - 1] : NULL;
        if (!last || (range.begin > last->end && range.begin - last->end > MOI_SNAPSHOT_GAP))
            s->ranges[n++] = range;
        else if (range.end > last->end) last->end = range.end;
    }
    s->n_ranges = n;
}

/* ---- pickle -------------------------------------------------------------------------------- */

static void moi_snapshot_op(moi_snapshot *s, char opcode) { moi_track_put(&s->out, &opcode, 1); }

static void moi_snapshot_little_endian(moi_snapshot *s, uint64_t value, size_t n) {
    char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(unsigned char)(value >> (8 * i));
    moi_track_put(&s->out, bytes, n);
}

/* BININT1, BININT or LONG1, whose number is signed. */
static void moi_snapshot_int(moi_snapshot *s, uint64_t value) {
    if (value > INT64_MAX) value = INT64_MAX;
    int is_long = value > INT32_MAX;
    if (is_long) moi_track_put(&s->out, "\x8a\x08", 2);
    else moi_snapshot_op(s, value < 256 ? 'K' : 'J');
    moi_snapshot_little_endian(s, value, is_long ? 8 : value < 256 ? 1 : 4);
}

/* BINUNICODE */
static void moi_snapshot_text(moi_snapshot *s, const char *text) {
    char part[64];
    size_t size = moi_min(strlen(text), 4096), n = 0;
    moi_snapshot_op(s, 'X');
    moi_snapshot_little_endian(s, size, 4);
    for (size_t i = 0; i < size; i++) {
        part[n++] = text[i] < 32 || text[i] > 126 ? '?' : text[i];
        if (n < sizeof part && i + 1 < size) continue;
        moi_track_put(&s->out, part, n);
        n = 0;
    }
}

/* BINGET, or for the first time BINUNICODE and BINPUT */
static void moi_snapshot_put_word(moi_snapshot *s, moi_snapshot_word word) {
    if (!s->is_known[word]) moi_snapshot_text(s, moi_snapshot_words[word]);
    moi_snapshot_op(s, s->is_known[word] ? 'h' : 'q');
    moi_snapshot_op(s, (char)word);
    s->is_known[word] = 1;
}

/* A dict is EMPTY_DICT MARK key value .. SETITEMS. */
static void moi_snapshot_begin_dict(moi_snapshot *s) { moi_track_put(&s->out, "}(", 2); }
static void moi_snapshot_end_dict(moi_snapshot *s) { moi_snapshot_op(s, 'u'); }
static void moi_snapshot_begin_list(moi_snapshot *s) { moi_snapshot_op(s, ']'); }
static void moi_snapshot_append(moi_snapshot *s) { moi_snapshot_op(s, 'a'); }

static void moi_snapshot_set_int(moi_snapshot *s, moi_snapshot_word key, uint64_t value) {
    moi_snapshot_put_word(s, key);
    moi_snapshot_int(s, value);
}

static void moi_snapshot_set_word(moi_snapshot *s, moi_snapshot_word key, moi_snapshot_word word) {
    moi_snapshot_put_word(s, key);
    moi_snapshot_put_word(s, word);
}

/* ---- contents ------------------------------------------------------------------------------ */

static void moi_snapshot_category(moi_snapshot *s, mo_category category) {
    if (category == MO_CATEGORY_OTHER) moi_snapshot_put_word(s, MOI_SNAPSHOT_UNKNOWN);
    else moi_snapshot_text(s, mo_category_name(category));
}

/* One frame: "file.c", the line and no function, or the category, 0 and the block's name. */
static void moi_snapshot_frames(moi_snapshot *s, const char *name, int line, mo_category category) {
    const char *text = name ? name : "(unnamed)";
    moi_snapshot_put_word(s, MOI_SNAPSHOT_FRAMES);
    moi_snapshot_begin_list(s);
    moi_snapshot_begin_dict(s);
    moi_snapshot_put_word(s, MOI_SNAPSHOT_NAME);
    moi_snapshot_text(s, line > 0 ? mo_category_name(category) : text);
    moi_snapshot_put_word(s, MOI_SNAPSHOT_FILENAME);
    moi_snapshot_text(s, line > 0 ? text : mo_category_name(category));
    moi_snapshot_set_int(s, MOI_SNAPSHOT_LINE, line > 0 ? (uint64_t)line : 0);
    moi_snapshot_end_dict(s);
    moi_snapshot_append(s);
}

/* The part of a segment that a live block takes, or that is free. */
static void moi_snapshot_block(
    moi_snapshot *s, uint64_t address, uint64_t size, const mo_track_block *block) {
    moi_snapshot_begin_dict(s);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_ADDRESS, address);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_SIZE, size);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_REQUESTED, block ? size : 0);
    moi_snapshot_set_word(
        s, MOI_SNAPSHOT_STATE, block ? MOI_SNAPSHOT_ACTIVE : MOI_SNAPSHOT_INACTIVE);
    if (block) moi_snapshot_frames(s, block->name, block->line, block->category);
    else {
        moi_snapshot_put_word(s, MOI_SNAPSHOT_FRAMES);
        moi_snapshot_begin_list(s);
    }
    moi_snapshot_end_dict(s);
    moi_snapshot_append(s);
}

/* Its blocks are the live ones from `first` on; returns the first one behind it. */
static size_t moi_snapshot_segment(moi_snapshot *s, const moi_snapshot_range *range, size_t first) {
    uint64_t used = 0, at = range->begin;
    size_t end = first;
    for (; end < s->n_now && s->now[end].begin < range->end; end++)
        used += s->now[end].end - s->now[end].begin;
    moi_snapshot_begin_dict(s);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_ADDRESS, range->begin);
    moi_snapshot_text(s, "total_size");
    moi_snapshot_int(s, range->end - range->begin);
    moi_snapshot_text(s, "allocated_size");
    moi_snapshot_int(s, used);
    moi_snapshot_text(s, "active_size");
    moi_snapshot_int(s, used);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_REQUESTED, used);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_STREAM, 0);
    moi_snapshot_text(s, "device");
    moi_snapshot_int(s, 0);
    moi_snapshot_text(s, "segment_type");
    moi_snapshot_text(s, "large");
    moi_snapshot_put_word(s, MOI_SNAPSHOT_FRAMES);
    moi_snapshot_begin_list(s);
    moi_snapshot_text(s, "blocks");
    moi_snapshot_begin_list(s);
    for (size_t i = first; i < end; i++) {
        const moi_snapshot_range *now = &s->now[i];
        if (now->begin > at) moi_snapshot_block(s, at, now->begin - at, NULL);
        moi_snapshot_block(s, now->begin, now->end - now->begin, now->block);
        at = now->end;
    }
    if (range->end > at) moi_snapshot_block(s, at, range->end - at, NULL);
    moi_snapshot_end_dict(s);
    moi_snapshot_append(s);
    return end;
}

static void moi_snapshot_begin_event(
    moi_snapshot *s, const moi_track_entry *entry, uint64_t address, uint64_t size) {
    moi_snapshot_set_int(s, MOI_SNAPSHOT_ADDR, address);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_SIZE, size);
    moi_snapshot_set_int(s, MOI_SNAPSHOT_STREAM, 0);
    moi_snapshot_set_int(
        s, MOI_SNAPSHOT_TIME, s->track->now_ns ? entry->time_ns / 1000 : entry->time_ns);
    moi_snapshot_put_word(s, MOI_SNAPSHOT_CATEGORY);
}

static void moi_snapshot_event(
    moi_snapshot *s, const moi_track_entry *entry, uint64_t address, moi_snapshot_word action) {
    moi_snapshot_begin_dict(s);
    moi_snapshot_set_word(s, MOI_SNAPSHOT_ACTION, action);
    moi_snapshot_begin_event(s, entry, address, entry->size);
    moi_snapshot_category(s, (mo_category)entry->category);
    moi_snapshot_frames(s, entry->name, entry->line, (mo_category)entry->category);
    moi_snapshot_end_dict(s);
    moi_snapshot_append(s);
}

static void moi_snapshot_oom(moi_snapshot *s, const moi_track_entry *entry) {
    const mo_track_stats *stats = &s->track->stats;
    uint64_t current = stats->total.current_bytes, budget = stats->budget_bytes;
    moi_snapshot_begin_dict(s);
    moi_snapshot_put_word(s, MOI_SNAPSHOT_ACTION);
    moi_snapshot_text(s, "oom");
    moi_snapshot_begin_event(s, entry, 0, entry->size);
    moi_snapshot_category(s, (mo_category)entry->category);
    moi_snapshot_text(s, "device_free");
    moi_snapshot_int(s, budget > current ? budget - current : 0);
    moi_snapshot_end_dict(s);
    moi_snapshot_append(s);
}

/* What was live before the events kept begins with the first of them: the viewer knows the category
 * of a block only from an event. */
static void moi_snapshot_events_before(moi_snapshot *s) {
    for (size_t i = 0; i < s->n_live; i++) {
        moi_track_entry entry = s->live[i].entry;
        entry.time_ns = s->n_events ? moi_snapshot_entry(s, 0)->time_ns : 0;
        moi_snapshot_event(s, &entry, s->live[i].address, MOI_SNAPSHOT_ALLOC);
    }
}

/* The viewer fails where it sees categories and "unknown" is none of them: one event has it. */
static void moi_snapshot_first_event(moi_snapshot *s) {
    moi_track_entry none;
    memset(&none, 0, sizeof none);
    moi_snapshot_begin_dict(s);
    moi_snapshot_put_word(s, MOI_SNAPSHOT_ACTION);
    moi_snapshot_text(s, "snapshot");
    moi_snapshot_begin_event(s, s->n_events ? moi_snapshot_entry(s, 0) : &none, 0, 0);
    moi_snapshot_put_word(s, MOI_SNAPSHOT_UNKNOWN);
    moi_snapshot_end_dict(s);
    moi_snapshot_append(s);
}

static void moi_snapshot_events(moi_snapshot *s) {
    moi_snapshot_first_event(s);
    moi_snapshot_events_before(s);
    for (size_t i = 0; i < s->n_events; i++) {
        const moi_track_entry *entry = moi_snapshot_entry(s, i);
        uint64_t address = s->addresses[i];
        if (entry->kind == MO_TRACK_OOM) moi_snapshot_oom(s, entry);
        if (address == MOI_SNAPSHOT_NONE) continue;
        if (entry->kind == MO_TRACK_ALLOC)
            moi_snapshot_event(s, entry, address, MOI_SNAPSHOT_ALLOC);
        if (entry->kind != MO_TRACK_FREE) continue;
        moi_snapshot_event(s, entry, address, MOI_SNAPSHOT_FREE);
        moi_snapshot_event(s, entry, address, MOI_SNAPSHOT_FREED);
    }
}

static mo_status moi_snapshot_put(moi_snapshot *s) {
    size_t at = 0;
    moi_track_put(&s->out, "\x80\x02", 2);
    moi_snapshot_begin_dict(s);
    moi_snapshot_text(s, "segments");
    moi_snapshot_begin_list(s);
    for (size_t i = 0; i < s->n_ranges; i++) at = moi_snapshot_segment(s, &s->ranges[i], at);
    moi_snapshot_text(s, "device_traces");
    moi_snapshot_begin_list(s);
    moi_snapshot_begin_list(s);
    moi_snapshot_events(s);
    moi_snapshot_append(s);
    moi_snapshot_end_dict(s);
    moi_snapshot_op(s, '.');
    return s->out.status;
}

/* ---- tables -------------------------------------------------------------------------------- */

static int moi_snapshot_is_shown(const mo_track_block *block) {
    return block->birth != 0 && block->size != 0;
}

static mo_status moi_snapshot_create(moi_snapshot *s) {
    const mo_track *track = s->track;
    size_t n = 0;
    for (size_t i = 0; i < track->max_blocks; i++)
        s->n_now += (size_t)moi_snapshot_is_shown(&track->records[i].block);
    s->n_events = (size_t)track->stats.n_events_kept;
    /* One more each, since no array may be empty. */
    if (!moi_add(s->n_now, s->n_events, &s->max_ranges) ||
        !moi_add(s->max_ranges, 1, &s->max_ranges))
        return MO_E_OVERFLOW;
    s->now = (moi_snapshot_range *)moi_alloc_array(s->allocator, s->n_now + 1, sizeof *s->now);
    s->live = (moi_snapshot_live *)moi_alloc_array(s->allocator, s->max_ranges, sizeof *s->live);
    s->ranges =
        (moi_snapshot_range *)moi_alloc_array(s->allocator, s->max_ranges, sizeof *s->ranges);
    s->addresses = (uint64_t *)moi_alloc_array(s->allocator, s->n_events + 1, sizeof *s->addresses);
    if (!s->now || !s->live || !s->ranges || !s->addresses) return MO_E_NO_MEMORY;
    for (size_t i = 0; i < track->max_blocks; i++) {
        const mo_track_block *block = &track->records[i].block;
        if (!moi_snapshot_is_shown(block)) continue;
        s->now[n].begin = (uint64_t)(uintptr_t)block->key;
        s->now[n].end = s->now[n].begin;
        s->now[n++].block = block;
    }
    qsort(s->now, n, sizeof *s->now, moi_snapshot_compare);
    return MO_OK;
}

static void moi_snapshot_destroy(moi_snapshot *s) {
    moi_free_array(s->allocator, s->now, s->n_now + 1, sizeof *s->now);
    moi_free_array(s->allocator, s->live, s->max_ranges, sizeof *s->live);
    moi_free_array(s->allocator, s->ranges, s->max_ranges, sizeof *s->ranges);
    moi_free_array(s->allocator, s->addresses, s->n_events + 1, sizeof *s->addresses);
}

mo_status mo_snapshot_write(
    const mo_track *track, const mo_allocator *allocator, const mo_writer *writer) {
    moi_snapshot s;
    memset(&s, 0, sizeof s);
    if (!track || !writer || !writer->write) return MO_E_INVALID;
    s.track = track;
    s.allocator = allocator;
    s.out.writer = writer;
    mo_status status = moi_snapshot_create(&s);
    if (status == MO_OK && !moi_snapshot_assign(&s, 1) && !moi_snapshot_assign(&s, 0))
        status = MO_E_OVERFLOW;
    if (status == MO_OK) {
        moi_snapshot_merge(&s);
        status = moi_snapshot_put(&s);
    }
    moi_snapshot_destroy(&s);
    return status;
}

#undef MOI_SNAPSHOT_NONE
#undef MOI_SNAPSHOT_MAX
