/* mo_layout_tables.c - what the search looks up: sections, and which blocks meet. */

/* What is known before sections and pairs are counted. */
static void moi_layout_carve_blocks(moi_layout_search_state *s) {
    moi_layout_memory *m = &s->memory;
    size_t n = s->layout->n, pieces = s->layout->n_pieces;
    s->size = (moi_layout_pos *)moi_layout_take(m, n, sizeof *s->size);
    s->align = (moi_layout_pos *)moi_layout_take(m, n, sizeof *s->align);
    s->low = (moi_layout_pos *)moi_layout_take(m, n, sizeof *s->low);
    s->highest = (moi_layout_pos *)moi_layout_take(m, n, sizeof *s->highest);
    s->offset = (moi_layout_pos *)moi_layout_take(m, n, sizeof *s->offset);
    s->rank = (uint32_t *)moi_layout_take(m, n, sizeof *s->rank);
    s->begin = (uint32_t *)moi_layout_take(m, n, sizeof *s->begin);
    s->end = (uint32_t *)moi_layout_take(m, n, sizeof *s->end);
    s->class_wa = (uint32_t *)moi_layout_take(m, n, sizeof *s->class_wa);
    s->class_aw = (uint32_t *)moi_layout_take(m, n, sizeof *s->class_aw);
    s->keys = (moi_layout_key *)moi_layout_take(m, n, sizeof *s->keys);
    s->ranges = (moi_layout_range *)moi_layout_take(m, pieces, sizeof *s->ranges);
    s->meets_begin = (size_t *)moi_layout_take(m, n + 1, sizeof *s->meets_begin);
    s->fill = (size_t *)moi_layout_take(m, n, sizeof *s->fill);
    s->members_begin = (size_t *)moi_layout_take(m, pieces + 1, sizeof *s->members_begin);
    s->witness = (uint32_t *)moi_layout_take(m, pieces, sizeof *s->witness);
    s->total = (moi_layout_pos *)moi_layout_take(m, pieces, sizeof *s->total);
    s->total_at_start = (moi_layout_pos *)moi_layout_take(m, pieces, sizeof *s->total);
    s->spanning = (uint32_t *)moi_layout_take(m, pieces, sizeof *s->spanning);
    s->spanning_at_start = (uint32_t *)moi_layout_take(m, pieces, sizeof *s->spanning);
    s->part_of = (uint32_t *)moi_layout_take(m, pieces, sizeof *s->part_of);
    s->stack = (moi_layout_frame *)moi_layout_take(m, 2 * n + 4, sizeof *s->stack);
    s->max_parts = pieces + 2 * n + 2;
    s->parts = (moi_layout_part *)moi_layout_take(m, s->max_parts, sizeof *s->parts);
    size_t resorted = moi_min(n, MOI_LAYOUT_RESORTED);
    s->max_lists = 20 * n + resorted * resorted / 2;
    s->lists = (uint32_t *)moi_layout_take(m, s->max_lists, sizeof *s->lists);
}

static void moi_layout_carve_lists(
    moi_layout_search_state *s, moi_layout_memory *m, size_t n_meets, size_t n_members) {
    size_t n_lags = s->has_lags ? n_meets : 0;
    s->meets = (uint32_t *)moi_layout_take(m, n_meets, sizeof *s->meets);
    s->trail = (moi_layout_change *)moi_layout_take(m, n_meets / 2 + s->n, sizeof *s->trail);
    s->members = (uint32_t *)moi_layout_take(m, n_members, sizeof *s->members);
    s->above = (moi_layout_pos *)moi_layout_take(m, n_lags, sizeof *s->above);
    s->below = (moi_layout_pos *)moi_layout_take(m, n_lags, sizeof *s->below);
    s->member_low =
        (moi_layout_pos *)moi_layout_take(m, n_lags ? n_members : 0, sizeof *s->member_low);
    if (!s->has_lags) s->above = s->below = s->member_low = NULL;
}

/* A section ends where a piece ends and others have begun since the section before. */
static void moi_layout_make_sections(moi_layout_search_state *s) {
    const moi_layout *layout = s->layout;
    size_t n = layout->n_pieces, begun = 0;
    int is_open = 0;
    for (size_t k = 0; k < n; k++) {
        for (; begun < n && layout->begins[begun].a <= layout->ends[k].a; begun++) {
            s->ranges[layout->begins[begun].index].begin = s->n_sections;
            is_open = 1;
        }
        s->n_sections += (uint32_t)is_open;
        is_open = 0;
        s->ranges[layout->ends[k].index].end = s->n_sections;
    }
}

static void moi_layout_make_blocks_searchable(moi_layout_search_state *s) {
    const moi_layout *layout = s->layout;
    for (uint32_t i = 0; i < s->n; i++) {
        const moi_layout_block *block = &layout->blocks[i];
        s->size[i] = (moi_layout_pos)block->size;
        s->align[i] = (moi_layout_pos)block->align;
        s->begin[i] = s->end[i] = 0;
        for (size_t k = block->piece; k < block->piece + block->n_piece; k++) {
            moi_layout_range *range = &s->ranges[k];
            range->low = (moi_layout_pos)layout->pieces[k].low;
            range->high = (moi_layout_pos)layout->pieces[k].high;
            if (k == block->piece) s->begin[i] = range->begin;
            s->end[i] = range->end;
            s->has_lags |= range->low != 0 || range->high != s->size[i] || block->n_piece != 1;
        }
    }
}

static void moi_layout_classify(moi_layout_search_state *s, int area_first, uint32_t *class_of) {
    uint32_t n_classes = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const moi_layout_block *block = &s->layout->blocks[i];
        uint64_t width = UINT64_MAX - moi_layout_value(block, MOI_LAYOUT_DURATION);
        uint64_t area = UINT64_MAX - moi_layout_value(block, MOI_LAYOUT_AREA);
        s->keys[i].a = area_first ? area : width;
        s->keys[i].b = area_first ? width : area;
        s->keys[i].index = i;
    }
    moi_layout_sort(s->keys, s->n);
    for (uint32_t k = 0; k < s->n; k++) {
        n_classes +=
            k > 0 && (s->keys[k].a != s->keys[k - 1].a || s->keys[k].b != s->keys[k - 1].b);
        class_of[s->keys[k].index] = n_classes;
    }
}

/* How much higher block j must lie when above i, and i when above j, in units. 0 when they never
 * use the same step. */
static int moi_layout_meet(const moi_layout_search_state *s, uint32_t i, uint32_t j,
    moi_layout_pos *up, moi_layout_pos *down) {
    const moi_layout_block *x = &s->layout->blocks[i], *y = &s->layout->blocks[j];
    size_t a = x->piece, b = y->piece;
    int they_meet = 0;
    *up = *down = 0;
    while (a < x->piece + x->n_piece && b < y->piece + y->n_piece) {
        const moi_layout_range *p = &s->ranges[a], *q = &s->ranges[b];
        if (p->begin < q->end && q->begin < p->end) {
            they_meet = 1;
            if (p->high > q->low && *up < p->high - q->low) *up = p->high - q->low;
            if (q->high > p->low && *down < q->high - p->low) *down = q->high - p->low;
        }
        if (p->end <= q->end) a++;
        else b++;
    }
    return they_meet;
}

/* Counts (meets NULL) or lists what meets what, of keys by first section. SIZE_MAX: too many. */
static size_t moi_layout_list_pairs(moi_layout_search_state *s, uint32_t *meets) {
    size_t n_pairs = 0, work = 0;
    moi_layout_pos up, down;
    for (uint32_t k = 0; k < s->n; k++) {
        uint32_t i = (uint32_t)s->keys[k].index;
        for (uint32_t l = k + 1; l < s->n; l++) {
            uint32_t j = (uint32_t)s->keys[l].index;
            if (s->begin[j] >= s->end[i]) break;
            work += 1 + (s->layout->blocks[i].n_piece + s->layout->blocks[j].n_piece) / 8;
            if (work > MOI_LAYOUT_MAX_LISTED / 2) return SIZE_MAX;
            if (!moi_layout_meet(s, i, j, &up, &down)) continue;
            n_pairs++;
            size_t at_i = s->meets_begin[i]++, at_j = s->meets_begin[j]++;
            if (!meets) continue;
            meets[at_i] = j;
            meets[at_j] = i;
            if (!s->above) continue;
            s->above[at_i] = s->below[at_j] = up;
            s->above[at_j] = s->below[at_i] = down;
        }
    }
    return n_pairs;
}

/* Counts to begins: [i] = where the list of i begins, which is where it ends after filling. */
static void moi_layout_sum_counts(size_t *counts, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        size_t count = counts[i];
        counts[i] = sum;
        sum += count;
    }
    counts[n] = sum;
}

static void moi_layout_shift_begins(size_t *begins, size_t n) {
    memmove(begins + 1, begins, n * sizeof *begins);
    begins[0] = 0;
}

/* Lists what meets what. Filled by ascending size, so that each list is; not so with lags, where
 * the size does not say how much a block raises. */
static void moi_layout_fill_meets(moi_layout_search_state *s) {
    uint32_t *raw = s->above ? s->meets : (uint32_t *)(void *)s->trail;
    moi_layout_list_pairs(s, raw);
    moi_layout_shift_begins(s->meets_begin, s->n);
    if (s->above) return;
    for (uint32_t i = 0; i < s->n; i++) {
        moi_layout_key key = {s->size[i], 0, i};
        s->keys[i] = key;
    }
    moi_layout_sort(s->keys, s->n);
    memcpy(s->fill, s->meets_begin, s->n * sizeof *s->fill);
    for (uint32_t k = 0; k < s->n; k++) {
        size_t i = s->keys[k].index;
        for (size_t e = s->meets_begin[i]; e < s->meets_begin[i + 1]; e++)
            s->meets[s->fill[raw[e]]++] = (uint32_t)i;
    }
}

static void moi_layout_fill_sections(moi_layout_search_state *s) {
    const moi_layout *layout = s->layout;
    for (size_t k = 0; k < layout->n_pieces; k++) {
        const moi_layout_range *range = &s->ranges[k];
        for (uint32_t c = range->begin; c < range->end; c++) {
            size_t at = s->members_begin[c]++;
            s->members[at] = (uint32_t)layout->pieces[k].block;
            if (s->member_low) s->member_low[at] = range->low;
            s->total_at_start[c] += range->high - range->low;
        }
    }
    moi_layout_shift_begins(s->members_begin, s->n_sections);
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t c = s->begin[i]; c + 1 < s->end[i]; c++) s->spanning_at_start[c]++;
}

/* Pairs and members of sections, counted; 0 when there are too many to list. */
static int moi_layout_count_lists(moi_layout_search_state *s, size_t *n_meets, size_t *n_members) {
    *n_members = 0;
    for (size_t k = 0; k < s->layout->n_pieces; k++) {
        const moi_layout_range *range = &s->ranges[k];
        *n_members += range->end - range->begin;
        for (uint32_t c = range->begin; *n_members <= MOI_LAYOUT_MAX_LISTED && c < range->end; c++)
            s->members_begin[c]++;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        moi_layout_key key = {s->begin[i], 0, i};
        s->keys[i] = key;
    }
    moi_layout_sort(s->keys, s->n);
    *n_meets = moi_layout_list_pairs(s, NULL);
    if (*n_meets > MOI_LAYOUT_MAX_LISTED / 2 || *n_members > MOI_LAYOUT_MAX_LISTED) return 0;
    *n_meets *= 2;
    return 1;
}

static mo_status moi_layout_make_lists(moi_layout_search_state *s, int *is_searchable) {
    size_t n_meets, n_members;
    *is_searchable = moi_layout_count_lists(s, &n_meets, &n_members);
    if (!*is_searchable) return MO_OK;
    moi_layout_carve_lists(s, &s->list_memory, n_meets, n_members);
    mo_status status = moi_layout_provide(&s->list_memory, s->layout->call->desc.allocator);
    if (status != MO_OK) return status;
    moi_layout_carve_lists(s, &s->list_memory, n_meets, n_members);
    moi_layout_sum_counts(s->meets_begin, s->n);
    moi_layout_sum_counts(s->members_begin, s->n_sections);
    moi_layout_fill_meets(s);
    moi_layout_fill_sections(s);
    moi_layout_classify(s, 0, s->class_wa);
    moi_layout_classify(s, 1, s->class_aw);
    return MO_OK;
}

static void moi_layout_destroy_search(moi_layout_search_state *s) {
    const mo_allocator *allocator = s->layout->call->desc.allocator;
    mo_free(allocator, s->list_memory.base, s->list_memory.size, MOI_CACHE_LINE);
    mo_free(allocator, s->memory.base, s->memory.size, MOI_CACHE_LINE);
}

static mo_status moi_layout_create_search(
    moi_layout_search_state *s, moi_layout *layout, int *is_searchable) {
    memset(s, 0, sizeof *s);
    s->layout = layout;
    s->n = (uint32_t)layout->n;
    moi_layout_carve_blocks(s);
    mo_status status = moi_layout_provide(&s->memory, layout->call->desc.allocator);
    if (status != MO_OK) return status;
    moi_layout_carve_blocks(s);
    memset(s->meets_begin, 0, (layout->n + 1) * sizeof *s->meets_begin);
    memset(s->members_begin, 0, (layout->n_pieces + 1) * sizeof *s->members_begin);
    memset(s->total_at_start, 0, layout->n_pieces * sizeof *s->total_at_start);
    memset(s->spanning_at_start, 0, layout->n_pieces * sizeof *s->spanning_at_start);
    moi_layout_make_sections(s);
    moi_layout_make_blocks_searchable(s);
    status = moi_layout_make_lists(s, is_searchable);
    if (status != MO_OK) moi_layout_destroy_search(s);
    return status;
}
