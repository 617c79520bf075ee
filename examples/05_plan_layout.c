// 05_plan_layout.c - lifetimes to offsets: one block for buffers that live at different times.
//     cc -I. examples/05_plan_layout.c memopt.c -o plan_layout -lm
#include "memopt.h"
#include <stdio.h>

// A convolution network's forward pass: each buffer from the step that writes it to the last
// reader.
static const struct {
    const char *name;
    mo_layout_item item; // size, alignment (0 = 64), first step, last step
} buffers[] = {
    {"image", {602112, 0, 0, 1}},
    {"conv1", {3211264, 0, 1, 2}},
    {"pool1", {802816, 0, 2, 5}}, // read again by the skip connection
    {"conv2", {802816, 0, 3, 4}},
    {"scratch", {1806336, 0, 3, 4}},
    {"conv3", {802816, 0, 4, 5}},
    {"sum", {802816, 0, 5, 6}},
    {"logits", {4000, 0, 6, 7}},
};
enum { N = sizeof buffers / sizeof *buffers };

// The sum may be written over what the third convolution made: it is read for the last time there.
static const mo_layout_alias aliases[] = {{6, 5}};

int main(void) {
    mo_layout_item items[N];
    mo_layout_result result;
    size_t offsets[N], taken[N], total = 0;
    mo_layout_desc desc = {.aliases = aliases, .n_aliases = 1, .taken = taken};
    for (int i = 0; i < N; i++) items[i] = buffers[i].item;
    if (mo_layout_solve(&desc, items, N, offsets, &result) != MO_OK) return 1;
    if (mo_layout_check(&desc, items, N, offsets, result.peak) != MO_OK) return 1;

    printf("buffer       bytes  steps    offset\n");
    for (int i = 0; i < N; i++) {
        printf("%-8s %9zu  %zu..%zu %9zu", buffers[i].name, items[i].size, items[i].first,
            items[i].last, offsets[i]);
        if (taken[i] != SIZE_MAX) printf(" over %s", buffers[taken[i]].name);
        printf("\n");
        total += items[i].size;
    }
    printf("one block of %zu bytes instead of %zu; no layout can take less than %zu%s\n",
        result.peak, total, result.lower_bound, result.proved ? ": proved best" : "");

    // What stands in the way of a smaller block?
    size_t live[N];
    mo_layout_reason reason;
    if (mo_layout_explain(&desc, items, N, live, NULL, &reason) != MO_OK) return 1;
    printf("at step %zu:", reason.peak_step);
    for (size_t k = 0; k < reason.n_live; k++) printf(" %s", buffers[live[k]].name);
    printf(" are needed at once\n");
    return 0;
}
