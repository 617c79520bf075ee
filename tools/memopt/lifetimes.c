// lifetimes.c - see lifetimes.h.
//
// The columns are MiniMalloc's: id (also buffer, buffer_id), lower (start, begin), upper, size, and
// where wanted alignment, gaps, offset. upper is the step behind the last one. A column end stands
// for upper and names the last step itself, also in gaps; so files of MiniMalloc's older format
// mean what they mean there. Other columns are passed through.
#include "lifetimes.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct lifetime_columns {
    int lower, upper, size, align, gaps;
    size_t inclusive; // 1 = upper is a column end
} lifetime_columns;

// The one column of several possible names.
static bool lifetimes_find_column(csv *c, const char *const *names, int *column) {
    *column = CSV_NONE;
    for (int i = 0; names[i]; i++) {
        const int at = csv_find(c, names[i]);
        if (at != CSV_NONE && *column != CSV_NONE)
            return csv_fail_file(c, "columns '%s' and another name for it", names[i]);
        if (at != CSV_NONE) *column = at;
    }
    return *column != CSV_NONE || csv_fail_file(c, "no column '%s'", names[0]);
}

static bool lifetimes_find_columns(lifetimes *l, lifetime_columns *at) {
    static const char *const ids[] = {"id", "buffer", "buffer_id", NULL};
    static const char *const lowers[] = {"lower", "start", "begin", NULL};
    static const char *const uppers[] = {"upper", "end", NULL};
    static const char *const sizes[] = {"size", NULL};
    csv *c = &l->table;
    at->align = csv_find(c, "alignment");
    at->gaps = csv_find(c, "gaps");
    l->offset = csv_find(c, "offset");
    if (!lifetimes_find_column(c, ids, &l->id) || !lifetimes_find_column(c, lowers, &at->lower) ||
        !lifetimes_find_column(c, uppers, &at->upper) ||
        !lifetimes_find_column(c, sizes, &at->size))
        return false;
    at->inclusive = csv_find(c, "end") == at->upper;
    return true;
}

// ---- gaps -------------------------------------------------------------------------------------

// LOWER-UPPER or LOWER-UPPER@LOW:HIGH; *upper is the step behind it.
static bool lifetimes_scan_gap(const char **text, mo_layout_gap *g, size_t *upper) {
    if (!csv_scan_size(text, SIZE_MAX - 1, &g->first) || **text != '-') return false;
    ++*text;
    if (!csv_scan_size(text, SIZE_MAX - 1, upper)) return false;
    g->low = g->high = 0;
    if (**text != '@') return true;
    ++*text;
    if (!csv_scan_size(text, SIZE_MAX, &g->low) || **text != ':') return false;
    ++*text;
    return csv_scan_size(text, SIZE_MAX, &g->high);
}

static bool lifetimes_add_gap(lifetimes *l, const mo_layout_gap *g) {
    if ((l->n_gaps & (l->n_gaps - 1)) == 0) { // full at every power of two
        const size_t room = l->n_gaps ? 2 * l->n_gaps : 1;
        mo_layout_gap *gaps = realloc(l->gaps, room * sizeof *gaps);
        if (!gaps) return csv_fail_file(&l->table, "out of memory");
        l->gaps = gaps;
    }
    l->gaps[l->n_gaps++] = *g;
    return true;
}

static bool lifetimes_read_gaps(lifetimes *l, const lifetime_columns *at, size_t i) {
    const mo_layout_item *item = &l->items[i];
    csv *c = &l->table;
    const char *text = csv_cell(c, i, at->gaps);
    size_t least = item->first; // where the next gap may lifetimes_begin
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        mo_layout_gap g = {.item = i};
        size_t upper;
        if (!lifetimes_scan_gap(&text, &g, &upper) || (*text && *text != ' '))
            return csv_fail(c, i, at->gaps, "not LOWER-UPPER or LOWER-UPPER@LOW:HIGH");
        upper += at->inclusive;
        if (upper <= g.first) return csv_fail(c, i, at->gaps, "a gap of no steps");
        g.last = upper - 1;
        if (g.first < least || g.last > item->last)
            return csv_fail(c, i, at->gaps, "gaps overlap, fall, or leave the lifetime");
        if (g.low > g.high || g.high > item->size)
            return csv_fail(c, i, at->gaps, "bytes outside of the size %zu", item->size);
        least = upper;
        if (!lifetimes_add_gap(l, &g)) return false;
    }
    return true;
}

// ---- rows -------------------------------------------------------------------------------------

static bool lifetimes_read_offset(lifetimes *l, size_t i) {
    csv *c = &l->table;
    size_t offset;
    if (!*csv_cell(c, i, l->offset)) return true;
    if (!csv_size(c, i, l->offset, SIZE_MAX - 1, &offset)) return false;
    if (offset > SIZE_MAX - l->items[i].size)
        return csv_fail(c, i, l->offset, "it ends past %zu", SIZE_MAX);
    if (l->items[i].align && offset % l->items[i].align)
        return csv_fail(c, i, l->offset, "not a multiple of the alignment %zu", l->items[i].align);
    if (!l->fixed) {
        l->fixed = malloc(l->n * sizeof *l->fixed);
        if (!l->fixed) return csv_fail_file(c, "out of memory");
        for (size_t k = 0; k < l->n; k++) l->fixed[k] = SIZE_MAX;
    }
    l->fixed[i] = offset;
    return true;
}

static bool lifetimes_read_row(lifetimes *l, const lifetime_columns *at, size_t i) {
    csv *c = &l->table;
    mo_layout_item *item = &l->items[i];
    size_t upper;
    item->align = 1;
    if (!*csv_cell(c, i, l->id)) return csv_fail(c, i, l->id, "a buffer without a name");
    if (!csv_size(c, i, at->lower, SIZE_MAX - 1, &item->first) ||
        !csv_size(c, i, at->upper, SIZE_MAX - 1, &upper) ||
        !csv_size(c, i, at->size, SIZE_MAX, &item->size))
        return false;
    upper += at->inclusive;
    if (upper <= item->first)
        return csv_fail(c, i, at->upper, "%s the first step, %zu",
            at->inclusive ? "before" : "not above", item->first);
    item->last = upper - 1;
    if (at->align != CSV_NONE) {
        if (!csv_size(c, i, at->align, SIZE_MAX, &item->align)) return false;
        if (item->align == 0 || (item->align & (item->align - 1)) != 0)
            return csv_fail(c, i, at->align, "not a power of two");
    }
    if (l->offset != CSV_NONE && !lifetimes_read_offset(l, i)) return false;
    return at->gaps == CSV_NONE || lifetimes_read_gaps(l, at, i);
}

static bool lifetimes_read_table(lifetimes *l) {
    csv *c = &l->table;
    lifetime_columns at;
    if (!lifetimes_find_columns(l, &at)) return false;
    l->n = c->n_rows;
    l->items = calloc(l->n ? l->n : 1, sizeof *l->items);
    if (!l->items) return csv_fail_file(c, "out of memory");
    for (size_t i = 0; i < l->n; i++)
        if (!lifetimes_read_row(l, &at, i)) return false;
    return csv_unique(c, l->id);
}

static void lifetimes_begin(lifetimes *l) {
    l->items = NULL, l->fixed = NULL, l->gaps = NULL;
    l->n = l->n_gaps = 0;
    l->offset = CSV_NONE;
}

bool lifetimes_read(lifetimes *l, const char *path) {
    lifetimes_begin(l);
    return csv_read(&l->table, path, false) && lifetimes_read_table(l);
}

bool lifetimes_parse(lifetimes *l, const char *path, char *text, size_t size) {
    lifetimes_begin(l);
    return csv_parse(&l->table, path, text, size, false) && lifetimes_read_table(l);
}

void lifetimes_close(lifetimes *l) {
    csv_close(&l->table);
    free(l->items);
    free(l->fixed);
    free(l->gaps);
}

const char *lifetimes_name(const lifetimes *l, size_t i) { return csv_cell(&l->table, i, l->id); }

// ---- writing ----------------------------------------------------------------------------------

static void write_cell(const char *cell, FILE *out) {
    const size_t n = strlen(cell);
    const bool is_plain = cell[strcspn(cell, ",\"\r\n\xef")] == 0 &&
        (n == 0 || (!strchr(" \t", cell[0]) && !strchr(" \t", cell[n - 1])));
    if (is_plain) {
        fputs(cell, out);
        return;
    }
    fputc('"', out);
    for (; *cell; cell++) {
        if (*cell == '"') fputc('"', out);
        fputc(*cell, out);
    }
    fputc('"', out);
}

void lifetimes_write(const lifetimes *l, const size_t *offsets, FILE *out) {
    const csv *c = &l->table;
    for (size_t k = 0; k < c->n_columns; k++) {
        if (k) fputc(',', out);
        write_cell(c->names[k], out);
    }
    fputs(l->offset == CSV_NONE ? ",offset\n" : "\n", out);
    for (size_t i = 0; i < l->n; i++) {
        for (size_t k = 0; k < c->n_columns; k++) {
            if (k) fputc(',', out);
            if ((int)k == l->offset) fprintf(out, "%zu", offsets[i]);
            else write_cell(csv_cell(c, i, (int)k), out);
        }
        if (l->offset == CSV_NONE) fprintf(out, ",%zu", offsets[i]);
        fputc('\n', out);
    }
}
