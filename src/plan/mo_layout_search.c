/* mo_layout_search.c - a search through the layouts in which no block can move down.
 *
 * Each such layout is built in one order only: by offset, of equal ones by rank. So a block goes
 * exactly to its minimal offset, the lowest one above all placed blocks that it meets, and later
 * blocks go no lower. A block that is passed over can only return when one below it raises it. What
 * cannot end below the capacity is cut off as early as it shows:
 *
 * - a section is a step at which most is live; what is still to be placed there must fit between
 *   the current offset, or the lowest offset that any of it can take, and the capacity
 * - a block is not placed where a hole would stay below it that holds another one
 * - where no unplaced block spans two sections, the sides are solved on their own
 *
 * The rules are those of google/minimalloc. New here: no floors are stored (the minimal offsets of
 * the unplaced say it), a section remembers the block that passed its test last, and a passed-over
 * block counts with the lowest offset to which others can still raise it. */

typedef uint32_t moi_layout_pos;

/* Of a block that is placed: above every capacity, and adding a size to it does not overflow. */
#define MOI_LAYOUT_PLACED ((moi_layout_pos)0x7fffffff)

enum {
    MOI_LAYOUT_MAX_UNITS = 1 << 30,
    MOI_LAYOUT_MAX_LISTED = 1 << 25, /* entries of a list: 128 MB */
    MOI_LAYOUT_N_ORDERS = 3,
    MOI_LAYOUT_RESORTED = 1024, /* larger parts keep the order of the whole */
    MOI_LAYOUT_CLOCK_EVERY = 256
};

typedef enum moi_layout_verdict {
    MOI_LAYOUT_FOUND,
    MOI_LAYOUT_NONE, /* there is no layout */
    MOI_LAYOUT_LIMIT
} moi_layout_verdict;

/* Sections [begin, end) and the blocks that live in them, by rank. */
typedef struct moi_layout_part {
    uint32_t list, n; /* in lists */
    uint32_t begin, end;
} moi_layout_part;

/* One level of the search. A node places one block after the other; a fork solves parts, of which
 * each must be solved. */
typedef struct moi_layout_frame {
    moi_layout_part part;
    moi_layout_pos limit;         /* node: blocks at or above it cannot go next */
    moi_layout_pos offset;        /* node: of the block placed last */
    uint32_t at;                  /* node: its place in the list; UINT32_MAX = none yet */
    uint32_t block;               /* node: what is placed now; UINT32_MAX = nothing */
    uint32_t trail;               /* node: undone down to here */
    uint32_t next, n_parts;       /* fork: parts [next, n_parts) are to be solved */
    uint32_t first_part, n_lists; /* fork: given back at its end */
    int is_fork;
    int is_hatless; /* node: nothing is left above the block */
} moi_layout_frame;

typedef struct moi_layout_change {
    uint32_t block;
    moi_layout_pos offset;
} moi_layout_change;

/* A piece in the sections [begin, end). */
typedef struct moi_layout_range {
    uint32_t begin, end;
    moi_layout_pos low, high;
} moi_layout_range;

typedef struct moi_layout_search_state {
    moi_layout *layout;
    uint32_t n, n_sections;
    /* blocks */
    moi_layout_pos *size, *align;
    moi_layout_pos *low;     /* minimal offsets; PLACED */
    moi_layout_pos *highest; /* offsets that the capacity allows */
    moi_layout_pos *offset;  /* where they were placed */
    uint32_t *rank;
    uint32_t *begin, *end;         /* sections in which any piece lies */
    uint32_t *class_wa, *class_aw; /* rank by duration and area, by area and duration */
    moi_layout_range *ranges;      /* of the pieces */
    /* meets[meets_begin[i]..meets_begin[i + 1]): blocks that meet i, ascending by size */
    size_t *meets_begin, *fill;
    uint32_t *meets;
    moi_layout_pos *above; /* by how much a block above i must lie higher; NULL = the size of i */
    moi_layout_pos *below; /* by how much i must lie higher when above; NULL = the other's size */
    /* sections */
    size_t *members_begin;
    uint32_t *members;
    moi_layout_pos *member_low; /* NULL = 0 */
    uint32_t *witness;
    moi_layout_pos *total, *total_at_start; /* unplaced */
    uint32_t *spanning, *spanning_at_start; /* unplaced blocks in this section and the next */
    uint32_t *part_of;                      /* scratch */
    /* the search */
    moi_layout_change *trail;
    moi_layout_frame *stack;
    moi_layout_part *parts;
    uint32_t *lists;
    uint32_t n_trail, n_stack, n_parts, n_lists;
    size_t max_trail, max_parts, max_lists;
    moi_layout_key *keys;
    moi_layout_pos capacity;
    uint64_t n_nodes, max_nodes; /* of the attempt */
    int order;
    int has_lags; /* some block is not wholly in use from its first step to its last */
    moi_layout_memory memory, list_memory;
} moi_layout_search_state;

/* ---- placing and undoing ------------------------------------------------------------------- */

static void moi_layout_set_low(moi_layout_search_state *s, uint32_t i, moi_layout_pos low) {
    moi_layout_change *change = &s->trail[s->n_trail++];
    change->block = i;
    change->offset = s->low[i];
    s->low[i] = low;
}

/* Takes block i out of its sections, or puts it back. Returns whether it was the last one that
 * spans some two sections. */
static int moi_layout_count(moi_layout_search_state *s, uint32_t i, int sign) {
    const moi_layout_block *block = &s->layout->blocks[i];
    int is_last = 0;
    for (size_t k = 0; k < block->n_piece; k++) {
        const moi_layout_range *range = &s->ranges[block->piece + k];
        moi_layout_pos size = range->high - range->low;
        if (sign < 0)
            for (uint32_t c = range->begin; c < range->end; c++) s->total[c] -= size;
        else
            for (uint32_t c = range->begin; c < range->end; c++) s->total[c] += size;
    }
    for (uint32_t c = s->begin[i]; c + 1 < s->end[i]; c++) {
        s->spanning[c] += (uint32_t)sign;
        is_last |= s->spanning[c] == 0;
    }
    return is_last;
}

static void moi_layout_undo(moi_layout_search_state *s, moi_layout_frame *node) {
    while (s->n_trail > node->trail) {
        const moi_layout_change *change = &s->trail[--s->n_trail];
        if (s->low[change->block] == MOI_LAYOUT_PLACED) moi_layout_count(s, change->block, 1);
        s->low[change->block] = change->offset;
    }
    node->block = UINT32_MAX;
}

/* Whether block i, which was passed over, can still come to lie at or below limit: on top of an
 * unplaced one. Those are sorted by size, where pieces do not matter. */
static int moi_layout_can_return(
    const moi_layout_search_state *s, uint32_t i, moi_layout_pos offset, moi_layout_pos limit) {
    moi_layout_pos align = s->align[i];
    if (limit > s->highest[i]) limit = s->highest[i];
    for (size_t e = s->meets_begin[i]; e < s->meets_begin[i + 1]; e++) {
        uint32_t other = s->meets[e];
        moi_layout_pos size = s->below ? s->below[e] : s->size[other], top = s->low[other];
        if (!s->below && size + offset > limit) return 0;
        if (top == MOI_LAYOUT_PLACED) continue;
        if (top < offset) top = offset;
        top = (top + size + align - 1) & ~(align - 1);
        if (top <= limit) return 1;
    }
    return 0;
}

/* Whether some unplaced block of the section can lie low enough for the rest to fit above it. */
static int moi_layout_section_fits(
    moi_layout_search_state *s, uint32_t section, moi_layout_pos offset, uint32_t rank) {
    moi_layout_pos limit = s->capacity - s->total[section];
    size_t begin = s->members_begin[section], end = s->members_begin[section + 1];
    uint32_t witness = s->witness[section];
    moi_layout_pos low = s->low[witness];
    if (!s->member_low && low > offset && low <= limit) return 1;
    for (size_t e = begin; e < end; e++) {
        uint32_t i = s->members[e];
        moi_layout_pos in_use = s->member_low ? s->member_low[e] : 0;
        low = s->low[i];
        if (low + in_use > limit) continue;
        if (low < offset || (low == offset && s->rank[i] < rank)) continue;
        s->witness[section] = i;
        return 1;
    }
    for (size_t e = begin; e < end; e++) {
        uint32_t i = s->members[e];
        moi_layout_pos in_use = s->member_low ? s->member_low[e] : 0;
        low = s->low[i];
        if (low > offset || (low == offset && s->rank[i] >= rank) || in_use > limit) continue;
        if (moi_layout_can_return(s, i, offset, limit - in_use)) return 1;
    }
    return 0;
}

/* Raises what meets block i at this offset. 0 when one of them rises too high. */
static int moi_layout_raise(moi_layout_search_state *s, uint32_t i, moi_layout_pos offset,
    moi_layout_pos *highest, uint32_t *begin, uint32_t *end, int *is_hatless) {
    moi_layout_pos top = offset + s->size[i];
    for (size_t e = s->meets_begin[i]; e < s->meets_begin[i + 1]; e++) {
        uint32_t j = s->meets[e];
        moi_layout_pos low = s->low[j], raised = s->above ? offset + s->above[e] : top;
        if (low == MOI_LAYOUT_PLACED) continue;
        *is_hatless = 0;
        if (low >= raised) continue;
        raised = (raised + s->align[j] - 1) & ~(s->align[j] - 1);
        if (raised > s->highest[j]) return 0;
        moi_layout_set_low(s, j, raised);
        if (*highest < raised) *highest = raised;
        if (*begin > s->begin[j]) *begin = s->begin[j];
        if (*end < s->end[j]) *end = s->end[j];
    }
    return 1;
}

/* Places the node's block. Returns 0 when it cannot lie there, 2 when it parts the sections. */
static int moi_layout_put_block(moi_layout_search_state *s, moi_layout_frame *node) {
    uint32_t i = node->block, begin = s->begin[i], end = s->end[i];
    moi_layout_pos offset = node->offset, highest = offset + s->size[i];
    int is_last = moi_layout_count(s, i, -1);
    node->is_hatless = 1;
    s->offset[i] = offset;
    moi_layout_set_low(s, i, MOI_LAYOUT_PLACED);
    if (!moi_layout_raise(s, i, offset, &highest, &begin, &end, &node->is_hatless)) return 0;
    /* What was raised ends no higher than this where less than that is missing. */
    moi_layout_pos enough = s->member_low || highest > s->capacity ? 0 : s->capacity - highest;
    for (uint32_t c = begin; c < end; c++) {
        if (s->total[c] <= enough || s->total[c] == 0) continue;
        if (!moi_layout_section_fits(s, c, offset, s->rank[i])) return 0;
    }
    return is_last ? 2 : 1;
}

/* ---- parts --------------------------------------------------------------------------------- */

/* By what the order looks at: T the most unplaced bytes in a section, W duration, A area; the
 * orders are TWA, TAW, WAT. */
static void moi_layout_sort_part(moi_layout_search_state *s, const moi_layout_part *part) {
    uint32_t *list = s->lists + part->list;
    for (uint32_t k = 0; k < part->n; k++) {
        uint32_t i = list[k], total = 0, class_of = s->order == 1 ? s->class_aw[i] : s->class_wa[i];
        for (uint32_t c = s->begin[i]; c < s->end[i]; c++)
            if (total < s->total[c]) total = s->total[c];
        s->keys[k].a = s->order == 2 ? class_of : UINT32_MAX - total;
        s->keys[k].b = s->order == 2 ? UINT32_MAX - total : class_of;
        s->keys[k].index = i;
    }
    moi_layout_sort(s->keys, part->n);
    for (uint32_t k = 0; k < part->n; k++) list[k] = (uint32_t)s->keys[k].index;
}

static void moi_layout_rank_part(moi_layout_search_state *s, const moi_layout_part *part) {
    for (uint32_t k = 0; k < part->n; k++) s->rank[s->lists[part->list + k]] = k;
}

/* Numbers the parts into which the sections fall; returns how many. */
static uint32_t moi_layout_number_parts(moi_layout_search_state *s, const moi_layout_part *whole) {
    uint32_t n = 0;
    for (uint32_t c = whole->begin; c < whole->end; c++) {
        s->part_of[c] = n;
        n += c + 1 == whole->end || s->spanning[c] == 0;
    }
    return n;
}

/* Fills in where each of the n parts lies; returns how many hold blocks. A part that is too large
 * to be sorted again keeps the list of the whole: it is moved behind the others, and once they are
 * solved, nothing else in that list is unplaced. */
static uint32_t moi_layout_size_parts(
    moi_layout_search_state *s, const moi_layout_part *whole, moi_layout_part *parts, uint32_t n) {
    uint32_t n_kept = 0, largest = 0;
    memset(parts, 0, n * sizeof *parts);
    for (uint32_t k = 0; k < whole->n; k++) {
        uint32_t i = s->lists[whole->list + k];
        if (s->low[i] != MOI_LAYOUT_PLACED) parts[s->part_of[s->begin[i]]].n++;
    }
    for (uint32_t p = 0, c = whole->begin; p < n; p++) {
        parts[p].begin = c;
        while (c < whole->end && s->part_of[c] == p) c++;
        parts[p].end = c;
        n_kept += parts[p].n != 0;
        if (parts[p].n > parts[largest].n) largest = p;
    }
    uint32_t n_lists = s->n_lists;
    for (uint32_t p = 0; p < n; p++) {
        int is_shared = s->n_stack > 0 && p == largest && parts[p].n > MOI_LAYOUT_RESORTED &&
            parts[p].n > whole->n / 2;
        parts[p].list = is_shared ? UINT32_MAX : n_lists;
        if (!is_shared) n_lists += parts[p].n;
    }
    if (n_kept < 2 || n_lists > s->max_lists) return 0;
    s->n_lists = n_lists;
    return n_kept;
}

/* Splits a part where no unplaced block spans two sections. Returns the number of parts with
 * blocks, which lie behind s->n_parts; 0 when there is one at most, or no room: then the whole goes
 * on. */
static uint32_t moi_layout_split(moi_layout_search_state *s, const moi_layout_part *whole) {
    uint32_t n = moi_layout_number_parts(s, whole), n_kept = 0;
    moi_layout_part *parts = s->parts + s->n_parts, shared = {0, 0, 0, 0};
    if (n > s->max_parts - s->n_parts || !moi_layout_size_parts(s, whole, parts, n)) return 0;
    for (uint32_t k = 0; k < whole->n; k++) {
        uint32_t i = s->lists[whole->list + k];
        if (s->low[i] == MOI_LAYOUT_PLACED) continue;
        moi_layout_part *part = &parts[s->part_of[s->begin[i]]];
        if (part->list != UINT32_MAX) s->lists[part->list++] = i;
    }
    for (uint32_t p = 0; p < n; p++) {
        moi_layout_part *part = &parts[p];
        if (part->n == 0) continue;
        if (part->list == UINT32_MAX) {
            shared = *part;
            shared.list = whole->list;
            shared.n = whole->n;
            continue;
        }
        part->list -= part->n;
        if (part->n <= MOI_LAYOUT_RESORTED || s->n_stack == 0) moi_layout_sort_part(s, part);
        moi_layout_rank_part(s, part);
        parts[n_kept++] = *part;
    }
    if (shared.n) parts[n_kept++] = shared;
    return n_kept;
}

/* ---- the walk ------------------------------------------------------------------------------ */

/* The next block of a node: the lowest (minimal offset, rank) behind the one before. */
static int moi_layout_next_block(moi_layout_search_state *s, moi_layout_frame *node) {
    const uint32_t *list = s->lists + node->part.list;
    moi_layout_pos best = node->limit, from = node->offset;
    uint32_t best_at = UINT32_MAX, begin = node->at + 1;
    for (uint32_t k = 0; k < node->part.n; k++) {
        moi_layout_pos low = s->low[list[k]];
        if (low >= best || low < from || (low == from && k < begin)) continue;
        best = low;
        best_at = k;
    }
    if (best_at == UINT32_MAX) return 0;
    node->at = best_at;
    node->offset = best;
    node->block = list[best_at];
    node->trail = s->n_trail;
    return 1;
}

/* A node behind the block at place at: blocks go at its offset or higher, but not so high that a
 * section overflows, nor so that another block would fit below them. Returns 0 when none is
 * left. */
static int moi_layout_push_node(
    moi_layout_search_state *s, const moi_layout_part *part, moi_layout_pos offset, uint32_t at) {
    moi_layout_frame *node = &s->stack[s->n_stack];
    moi_layout_pos lowest_top = UINT32_MAX, total = 0;
    for (uint32_t k = 0; k < part->n; k++) {
        uint32_t i = s->lists[part->list + k];
        moi_layout_pos top = s->low[i] + s->size[i];
        if (s->low[i] != MOI_LAYOUT_PLACED && top < lowest_top) lowest_top = top;
    }
    if (lowest_top == UINT32_MAX) return 0;
    for (uint32_t c = part->begin; c < part->end; c++)
        if (total < s->total[c]) total = s->total[c];
    memset(node, 0, sizeof *node);
    node->part = *part;
    node->limit = s->capacity - total + 1;
    if (node->limit > lowest_top) node->limit = lowest_top;
    node->offset = offset;
    node->at = at;
    node->block = UINT32_MAX;
    s->n_stack++;
    s->n_nodes++;
    return 1;
}

static void moi_layout_push_fork(
    moi_layout_search_state *s, uint32_t n_parts, uint32_t n_lists, moi_layout_pos offset) {
    moi_layout_frame *fork = &s->stack[s->n_stack++];
    memset(fork, 0, sizeof *fork);
    fork->is_fork = 1;
    fork->offset = offset;
    fork->n_lists = n_lists;
    fork->first_part = fork->next = s->n_parts;
    s->n_parts += n_parts;
    fork->n_parts = s->n_parts;
}

/* Everything up to the fork below is placed. */
static void moi_layout_pop_solved(moi_layout_search_state *s) {
    while (!s->stack[s->n_stack - 1].is_fork) s->n_stack--;
}

/* A node has no block left to try: this part cannot be solved, nor can what needs it. */
static void moi_layout_pop_failed(moi_layout_search_state *s) {
    s->n_stack--;
    if (s->n_stack > 0 && s->stack[s->n_stack - 1].is_fork) {
        const moi_layout_frame *fork = &s->stack[--s->n_stack];
        s->n_parts = fork->first_part;
        s->n_lists = fork->n_lists;
        if (s->n_stack > 0) moi_layout_rank_part(s, &s->stack[s->n_stack - 1].part);
    }
}

/* Goes one block further in the node on top. */
static void moi_layout_step_node(moi_layout_search_state *s) {
    moi_layout_frame *node = &s->stack[s->n_stack - 1];
    int placed = 0;
    if (node->block != UINT32_MAX) {
        moi_layout_undo(s, node);
        if (node->is_hatless) {
            moi_layout_pop_failed(s);
            return;
        }
    }
    while (!placed && moi_layout_next_block(s, node)) {
        placed = moi_layout_put_block(s, node);
        if (!placed) moi_layout_undo(s, node);
    }
    if (!placed) {
        moi_layout_pop_failed(s);
        return;
    }
    uint32_t n_lists = s->n_lists;
    uint32_t n_parts = placed == 2 ? moi_layout_split(s, &node->part) : 0;
    if (n_parts) moi_layout_push_fork(s, n_parts, n_lists, node->offset);
    else if (!moi_layout_push_node(s, &node->part, node->offset, node->at))
        moi_layout_pop_solved(s);
}

/* Goes on from the fork on top: 0 when it was the last one, and all is placed. */
static int moi_layout_step_fork(moi_layout_search_state *s) {
    moi_layout_frame *fork = &s->stack[s->n_stack - 1];
    if (fork->next < fork->n_parts) {
        const moi_layout_part *part = &s->parts[fork->next++];
        moi_layout_push_node(s, part, fork->offset, UINT32_MAX);
        return 1;
    }
    if (s->n_stack == 1) return 0;
    s->n_parts = fork->first_part;
    s->n_lists = fork->n_lists;
    s->n_stack--;
    moi_layout_pop_solved(s);
    return 1;
}

static int moi_layout_is_over(const moi_layout_search_state *s) {
    const moi_layout_effort *effort = s->layout->call->effort;
    if (s->n_nodes >= s->max_nodes) return 1;
    return effort->end_s > 0 && s->n_nodes % MOI_LAYOUT_CLOCK_EVERY == 0 &&
        moi_os_now_s() >= effort->end_s;
}

static moi_layout_verdict moi_layout_walk(moi_layout_search_state *s) {
    while (s->n_stack > 0) {
        if (!s->stack[s->n_stack - 1].is_fork) {
            if (moi_layout_is_over(s)) return MOI_LAYOUT_LIMIT;
            moi_layout_step_node(s);
        } else if (!moi_layout_step_fork(s)) {
            return MOI_LAYOUT_FOUND;
        }
    }
    return MOI_LAYOUT_NONE;
}

/* ---- one attempt --------------------------------------------------------------------------- */

/* Blocks as high as a capacity in bytes allows. 0 when one of them does not fit at all. */
static int moi_layout_set_capacity(moi_layout_search_state *s, size_t bytes) {
    const moi_layout *layout = s->layout;
    s->capacity = (moi_layout_pos)((bytes + layout->max_rest) / layout->unit);
    for (uint32_t i = 0; i < s->n; i++) {
        const moi_layout_block *block = &layout->blocks[i];
        if (block->bytes > bytes) return 0;
        size_t highest = (bytes - block->bytes) / layout->unit;
        if (block->fixed != SIZE_MAX && block->fixed > highest) return 0;
        if (block->fixed != SIZE_MAX) highest = block->fixed;
        s->highest[i] = (moi_layout_pos)highest;
        s->low[i] = block->fixed != SIZE_MAX ? (moi_layout_pos)block->fixed : 0;
        s->offset[i] = s->low[i];
        if (block->n_piece == 0) s->low[i] = MOI_LAYOUT_PLACED;
    }
    for (uint32_t c = 0; c < s->n_sections; c++)
        if (s->total_at_start[c] > s->capacity) return 0;
    return 1;
}

/* The parts of the whole that the best layout so far does not keep below the capacity. */
static void moi_layout_push_root(moi_layout_search_state *s, size_t bytes) {
    moi_layout *layout = s->layout;
    moi_layout_part whole = {0, s->n, 0, s->n_sections};
    uint32_t n_parts, n_kept = 0;
    for (uint32_t i = 0; i < s->n; i++) s->lists[i] = i;
    s->n_lists = s->n;
    n_parts = moi_layout_split(s, &whole);
    if (n_parts == 0) {
        moi_layout_sort_part(s, &whole);
        moi_layout_rank_part(s, &whole);
        s->parts[0] = whole;
        n_parts = 1;
    }
    for (uint32_t p = 0; p < n_parts; p++) {
        const moi_layout_part *part = &s->parts[p];
        size_t peak = 0;
        for (uint32_t k = 0; k < part->n; k++) {
            uint32_t i = s->lists[part->list + k];
            if (s->low[i] == MOI_LAYOUT_PLACED) continue;
            peak = moi_max(peak, layout->best[i] * layout->unit + layout->blocks[i].bytes);
        }
        if (peak > bytes) s->parts[n_kept++] = *part;
    }
    moi_layout_push_fork(s, n_kept, 0, 0);
}

/* Takes over the parts that are solved, also where others are not. */
static void moi_layout_accept(moi_layout_search_state *s, moi_layout_verdict verdict) {
    const moi_layout_frame *root = &s->stack[0];
    uint32_t n_solved = verdict == MOI_LAYOUT_FOUND ? root->n_parts : root->next - 1;
    for (uint32_t p = 0; p < n_solved; p++)
        for (uint32_t k = 0; k < s->parts[p].n; k++) {
            uint32_t i = s->lists[s->parts[p].list + k];
            s->layout->best[i] = s->offset[i];
        }
}

static moi_layout_verdict moi_layout_attempt(
    moi_layout_search_state *s, size_t bytes, int order, uint64_t max_nodes) {
    moi_layout_effort *effort = s->layout->call->effort;
    if (!moi_layout_set_capacity(s, bytes)) return MOI_LAYOUT_NONE;
    memcpy(s->total, s->total_at_start, s->n_sections * sizeof *s->total);
    memcpy(s->spanning, s->spanning_at_start, s->n_sections * sizeof *s->spanning);
    for (uint32_t c = 0; c < s->n_sections; c++) s->witness[c] = s->members[s->members_begin[c]];
    s->n_trail = s->n_stack = s->n_parts = s->n_lists = 0;
    s->order = order;
    s->n_nodes = 0;
    s->max_nodes = effort->max_nodes - effort->n_nodes;
    if (s->max_nodes > max_nodes) s->max_nodes = max_nodes;
    moi_layout_push_root(s, bytes);
    moi_layout_verdict verdict = moi_layout_walk(s);
    effort->n_nodes += s->n_nodes;
    moi_layout_accept(s, verdict);
    return verdict;
}
#undef MOI_LAYOUT_PLACED
