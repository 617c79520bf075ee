// chain.c - see chain.h.
//
// One row for each stage, the loss last, with the columns index, name, fw, bw (times in any unit),
// x_in, x_out (bytes of the stage's input and output), xbar (bytes that it saves for its backward,
// its output included, its input not), fwd_tmp, bwd_tmp (bytes more while it runs).
#include "chain.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct chain_columns {
    int index, name, fw, bw, x_in, x_out, xbar, fwd_tmp, bwd_tmp;
} chain_columns;

static bool chain_find_column(csv *c, const char *name, int *column) {
    *column = csv_find(c, name);
    return *column != CSV_NONE || csv_fail_file(c, "no column '%s'", name);
}

static bool chain_find_columns(csv *c, chain_columns *at) {
    return chain_find_column(c, "index", &at->index) && chain_find_column(c, "name", &at->name) &&
        chain_find_column(c, "fw", &at->fw) && chain_find_column(c, "bw", &at->bw) &&
        chain_find_column(c, "x_in", &at->x_in) && chain_find_column(c, "x_out", &at->x_out) &&
        chain_find_column(c, "xbar", &at->xbar) && chain_find_column(c, "fwd_tmp", &at->fwd_tmp) &&
        chain_find_column(c, "bwd_tmp", &at->bwd_tmp);
}

// Sizes are limited so that no schedule has more bytes than a size_t counts.
static bool chain_add_size(csv *t, size_t row, int column, size_t *value, size_t *total) {
    const size_t most = SIZE_MAX / 4;
    if (!csv_size(t, row, column, SIZE_MAX, value)) return false;
    if (*value > most - *total)
        return csv_fail(t, row, column, "the sizes up to here add up to more than %zu", most);
    *total += *value;
    return true;
}

static bool chain_read_row(chain *c, const chain_columns *at, size_t i, size_t *total) {
    csv *t = &c->table;
    mo_flat_stage *stage = &c->stages[i];
    mo_flat_option *option = &c->options[i];
    const bool is_loss = i + 1 == t->n_rows;
    size_t index, input;
    stage->name = csv_cell(t, i, at->name);
    stage->options = option;
    stage->n_options = 1;
    if (!csv_size(t, i, at->index, SIZE_MAX, &index)) return false;
    if (index != i) return csv_fail(t, i, at->index, "not %zu: rows go from 0 up", i);
    if (!csv_real(t, i, at->fw, &stage->forward_s) || !csv_real(t, i, at->bw, &stage->backward_s) ||
        !chain_add_size(t, i, at->x_in, &input, total) ||
        !chain_add_size(t, i, at->x_out, &stage->output_size, total) ||
        !chain_add_size(t, i, at->xbar, &option->kept, total) ||
        !chain_add_size(t, i, at->fwd_tmp, &option->forward_tmp, total) ||
        !chain_add_size(t, i, at->bwd_tmp, &option->backward_tmp, total))
        return false;
    if (stage->forward_s > 1e100) return csv_fail(t, i, at->fw, "more than 1e100");
    if (stage->backward_s > 1e100) return csv_fail(t, i, at->bw, "more than 1e100");
    stage->forward_tmp = is_loss ? option->backward_tmp : option->forward_tmp;
    if (!is_loss && option->kept < stage->output_size)
        return csv_fail(
            t, i, at->xbar, "less than x_out, %zu, which is part of it", stage->output_size);
    if (i == 0) c->flat.input_size = input;
    else if (input != c->stages[i - 1].output_size)
        return csv_fail(
            t, i, at->x_in, "not the x_out of the row before, %zu", c->stages[i - 1].output_size);
    return true;
}

static bool chain_read_table(chain *c) {
    csv *t = &c->table;
    chain_columns at;
    if (!chain_find_columns(t, &at)) return false;
    if (t->n_rows == 0) return csv_fail_file(t, "no rows; the last one is the loss");
    c->stages = calloc(t->n_rows, sizeof *c->stages);
    c->options = calloc(t->n_rows, sizeof *c->options);
    if (!c->stages || !c->options) return csv_fail_file(t, "out of memory");
    c->flat.stages = c->stages;
    c->flat.n_stages = t->n_rows;
    size_t total = 0;
    for (size_t i = 0; i < t->n_rows; i++)
        if (!chain_read_row(c, &at, i, &total)) return false;
    return true;
}

bool chain_read(chain *c, const char *path) {
    c->stages = NULL, c->options = NULL;
    return csv_read(&c->table, path, true) && chain_read_table(c);
}

bool chain_parse(chain *c, const char *path, char *text, size_t size) {
    c->stages = NULL, c->options = NULL;
    return csv_parse(&c->table, path, text, size, true) && chain_read_table(c);
}

void chain_close(chain *c) {
    csv_close(&c->table);
    free(c->stages);
    free(c->options);
}
