/* mo_layout_internal.h - what the files of mo_layout share.
 *
 * A call (the caller's arrays) becomes a problem of blocks: a block is an item, or several items of
 * which each took over the bytes of the one before. The pieces of a block say which of its bytes
 * are in use when. Blocks and pieces are measured in units: offsets of every layout worth looking
 * at are multiples of the unit. */
#ifndef MEMOPT_LAYOUT_INTERNAL_H
#define MEMOPT_LAYOUT_INTERNAL_H

/* A place in a sorted list: ascending by a, then b, then index, so that no two are equal. */
typedef struct moi_layout_key {
    uint64_t a, b;
    size_t index;
} moi_layout_key;

/* Up to so many pieces, a block looks at all that are placed. */
enum { MOI_LAYOUT_SCANNED = 2048 };

/* Arrays carved from one piece of memory: counted while base is NULL, handed out afterwards. */
typedef struct moi_layout_memory {
    char *base;
    size_t size, used; /* used = SIZE_MAX: does not fit into size_t */
} moi_layout_memory;

/* What is left of the limits. */
typedef struct moi_layout_effort {
    uint64_t n_nodes, max_nodes;
    double end_s; /* by moi_os_now_s; 0 = none */
} moi_layout_effort;

/* One call: the full desc, and which of the items are looked at. */
typedef struct moi_layout_call {
    mo_layout_desc desc;
    const mo_layout_item *items;
    size_t n;
    moi_layout_key *gaps; /* [n_gaps] a = item, b = first step, index */
    const size_t *taken;  /* [n], or NULL: nothing is taken over */
    const size_t *group;  /* [n], or NULL: every item is looked at, else those with group == pick */
    size_t pick;
    int ignore_align; /* for a bound that holds in any number of spaces */
    moi_layout_effort *effort;
} moi_layout_call;

/* Bytes or units [low, high) of a block or item that are in use from step first to last. */
typedef struct moi_layout_piece {
    size_t first, last;
    size_t low, high;
    size_t block;
} moi_layout_piece;

typedef struct moi_layout_block {
    size_t size, align;    /* units */
    size_t fixed;          /* units; SIZE_MAX = anywhere */
    size_t bytes;          /* without rounding */
    size_t first, last;    /* steps */
    size_t piece, n_piece; /* its pieces, by step */
} moi_layout_block;

/* A piece that has its place. */
typedef struct moi_layout_span {
    size_t begin, end;
    size_t first, last;
} moi_layout_span;

/* A range in use, or a free one. */
typedef struct moi_layout_used {
    size_t begin, end;
} moi_layout_used;

typedef struct moi_layout {
    const moi_layout_call *call;
    size_t n, n_pieces; /* blocks, pieces */
    size_t unit;        /* bytes */
    size_t grain;       /* the smallest alignment of an item in bytes, divides unit */
    size_t max_rest;    /* most bytes by which rounding enlarged a block */
    int partial;        /* some piece has low > 0 */
    int has_fixed;
    int has_tree; /* placed pieces are found by tree, not by a scan */
    moi_layout_block *blocks;
    moi_layout_piece *pieces;
    size_t *block_of;        /* [call n] SIZE_MAX = no place is needed */
    moi_layout_key *begins;  /* [n_pieces] by first step */
    moi_layout_key *ends;    /* [n_pieces] by last step */
    moi_layout_key *keys;    /* [n] the order of placing */
    moi_layout_key *by_last; /* [n] blocks by last step, for a replay */
    moi_layout_span *placed; /* [n_pieces] */
    moi_layout_used *near;   /* [n_near] */
    moi_layout_used *sorted; /* [n_near] */
    size_t n_near;           /* n_pieces where blocks gather what they meet, else 0 */
    size_t *rank;            /* [n_pieces] of each piece in begins */
    size_t *tree;            /* [2 * leaves] */
    size_t leaves;           /* a power of two >= n_pieces */
    size_t *offsets;         /* [n] of the layout being tried, in units */
    size_t *best;            /* [n] of the best one */
    moi_layout_memory memory;
} moi_layout;

static void moi_layout_sort(moi_layout_key *keys, size_t n);
static void *moi_layout_take(moi_layout_memory *memory, size_t n, size_t size);
static mo_status moi_layout_provide(moi_layout_memory *memory, const mo_allocator *allocator);
static size_t moi_layout_first_gap(const moi_layout_call *call, size_t i);
static int moi_layout_overlap(size_t first, size_t last, size_t other_first, size_t other_last);
static size_t moi_layout_align(const mo_layout_desc *desc, const mo_layout_item *item);
/* The pieces of item i in bytes, n_gaps * 2 + 1 at most; returns their number. */
static size_t moi_layout_expand(const moi_layout_call *call, size_t i, moi_layout_piece *pieces);
static mo_status moi_layout_check_call(moi_layout_call *call);
static mo_status moi_layout_begin_call(
    moi_layout_call *call, const mo_layout_desc *desc, const mo_layout_item *items, size_t n);
static void moi_layout_end_call(moi_layout_call *call);

/* Whether the items lie apart; those at SIZE_MAX are left out. */
static mo_status moi_layout_check_overlaps(
    moi_layout_call *call, const size_t *offsets, const size_t *space);

static mo_status moi_layout_create(moi_layout *layout, const moi_layout_call *call);
static void moi_layout_destroy(moi_layout *layout);
/* Bytes of the best layout so far, or of the one being tried. */
static size_t moi_layout_peak(const moi_layout *layout, const size_t *offsets);

/* Fills best; result->peak and lower_bound in bytes. */
static mo_status moi_layout_portfolio(moi_layout *layout, mo_layout_result *result);
static mo_status moi_layout_search(moi_layout *layout, mo_layout_result *result);
/* The items that the call picks, in one space. */
static mo_status moi_layout_solve_call(
    const moi_layout_call *call, size_t *offsets, mo_layout_result *result);
static mo_status moi_layout_solve_aliases(
    moi_layout_call *call, size_t *offsets, mo_layout_result *result);
static mo_status moi_layout_solve_spaces(
    moi_layout_call *call, size_t *offsets, mo_layout_result *result);

#endif
