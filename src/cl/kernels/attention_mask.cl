/* attention_mask.cl - what both forms of attention.cl share: which head, who sees whom, what is
 * dropped. Behind math.cl.
 *
 * Query i sees key j where they are less than window apart and, unless full, j is not behind i;
 * with MO_BLOCKS also blocks[i / block][j / block] must not be 0. Blocks are multiples of what a
 * group does at a time, so that it skips whole tiles.
 *
 * MO_BLOCKS  1: there are blocks
 * MO_DROP    1: probabilities are dropped */

#if MO_BLOCKS
#define MO_BLOCK_ARGS        , __global const uchar *restrict blocks, ulong blocks_off, uint block
#define MO_HIDDEN(query, key)                                                                      \
    (blocks[blocks_off + (query) / block * ((seq + block - 1) / block) + (key) / block] == 0)
#define MO_ALIGN(at) ((at) / MO_OTHER * MO_OTHER)
#else
#define MO_BLOCK_ARGS
#define MO_HIDDEN(query, key) 0
#define MO_ALIGN(at)          (at)
#endif
#if MO_DROP
#define MO_DROP_ARGS , ulong seed, ulong offset, uint dropped, float kept
#else
#define MO_DROP_ARGS
#endif
#define MO_SHAPE_ARGS                                                                              \
    uint seq, uint heads, uint kv_heads, uint n, ulong stride, ulong kv_stride, float scale,       \
        uint full, uint window MO_BLOCK_ARGS MO_DROP_ARGS

/* Which head of which sequence, and its rows. */
typedef struct mo_attention_place {
    uint sequence, head, row, rows;
} mo_attention_place;

static inline mo_attention_place mo_attention_find(uint seq, uint heads, uint rows) {
    const uint tiles = (seq + rows - 1) / rows, id = (uint)get_group_id(0), at = id / tiles;
    mo_attention_place p;
    p.sequence = at / heads;
    p.head = at % heads;
    p.row = id % tiles * rows;
    p.rows = min(seq - p.row, rows);
    return p;
}

/* The first element of a head in rows of stride. */
static inline ulong mo_attention_head(
    mo_attention_place at, uint head, uint seq, ulong stride, uint n) {
    return (ulong)at.sequence * seq * stride + (ulong)head * n;
}

/* The first and the last position that are less than window away. */
static inline uint mo_attention_back(uint at, uint window) { return at - min(at, window - 1); }
static inline uint mo_attention_ahead(uint at, uint window, uint seq) {
    return at + min(seq - 1 - at, window - 1);
}
static inline int mo_attention_sees(uint query, uint key, uint full, uint window) {
    const int ahead = (int)key - (int)query;
    return ahead < (int)window && -ahead < (int)window && (full || ahead <= 0);
}
