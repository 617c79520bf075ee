/* fuzz_graph.c - any bytes as the text of a graph: rejected, or every pass keeps its promises;
 * never a crash.
 *
 *   make fuzz
 *   build/fuzz/fuzz_graph NEW_FOLDER fuzz/corpus/graph
 *
 * Compiled without libFuzzer and FUZZ_NO_MAIN it replays the files it is given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memopt.h"

static void fuzz_check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "fuzz_graph: %s\n", what);
    abort();
}

/* Text that grows. */
typedef struct fuzz_text {
    char *at;
    size_t size, max;
} fuzz_text;
static int fuzz_write(void *self, const char *from, size_t size) {
    fuzz_text *t = (fuzz_text *)self;
    if (t->size + size > t->max) {
        t->max = 2 * (t->size + size);
        t->at = (char *)realloc(t->at, t->max);
        fuzz_check(t->at != NULL, "out of memory");
    }
    memcpy(t->at + t->size, from, size);
    t->size += size;
    return 0;
}

/* Written and parsed again, a graph writes the same. */
static void fuzz_round_trip(const mo_graph *graph) {
    fuzz_text first = {0}, second = {0};
    mo_writer to_first = {fuzz_write, &first}, to_second = {fuzz_write, &second};
    mo_graph *again = NULL;
    fuzz_check(mo_graph_write(graph, &to_first) == MO_OK, "not written");
    fuzz_check(mo_graph_parse(NULL, first.at, first.size, &again) == MO_OK, "not parsed again");
    fuzz_check(mo_graph_write(again, &to_second) == MO_OK, "not written again");
    fuzz_check(first.size == second.size &&
            (first.size == 0 || memcmp(first.at, second.at, first.size) == 0),
        "the round trip changes it");
    mo_graph_destroy(again);
    free(first.at);
    free(second.at);
}

/* The peak of the order that is found; the order as given where there is little time. */
static size_t fuzz_peak(const mo_graph *graph) {
    size_t n_ops = mo_graph_n_ops(graph), n = mo_graph_n_tensors(graph);
    size_t *order = (size_t *)calloc(n_ops + 1, sizeof *order);
    size_t *takes_over = (size_t *)calloc(n + 1, sizeof *takes_over);
    mo_layout_item *items = (mo_layout_item *)calloc(n + 1, sizeof *items);
    mo_graph_order_desc desc = {0, 0, 2000};
    mo_graph_order_result result;
    mo_graph_live live;
    fuzz_check(order && takes_over && items, "out of memory");
    fuzz_check(mo_graph_order(graph, &desc, order, &result) == MO_OK, "not ordered");
    fuzz_check(
        mo_graph_lifetimes(graph, order, items, takes_over, NULL, &live) == MO_OK, "bad order");
    fuzz_check(live.peak_bytes == result.peak_bytes, "two peaks");
    fuzz_check(result.lower_bound_bytes <= result.peak_bytes, "below the bound");
    fuzz_check(result.peak_bytes <= result.given_peak_bytes, "worse than given");
    for (size_t i = 0; i < n; i++) {
        size_t over = takes_over[i];
        fuzz_check(items[i].first <= items[i].last, "backwards");
        if (over == SIZE_MAX) continue;
        fuzz_check(over < n && items[over].last == items[i].first, "taken over too early");
        fuzz_check(items[i].size <= items[over].size, "taken over too large");
    }
    free(order);
    free(takes_over);
    free(items);
    return result.peak_bytes;
}

static void fuzz_graph_use(mo_graph *graph) {
    fuzz_text picture = {0};
    mo_writer writer = {fuzz_write, &picture};
    fuzz_round_trip(graph);
    fuzz_check(mo_graph_write_dot(graph, &writer) == MO_OK, "no DOT");
    if (mo_graph_check(graph) == MO_OK) {
        size_t n_tensors = mo_graph_n_tensors(graph);
        (void)fuzz_peak(graph);
        fuzz_check(mo_graph_write_svg(graph, NULL, NULL, &writer) == MO_OK, "no SVG");
        fuzz_check(mo_graph_merge(graph, NULL, NULL) == MO_OK, "not merged");
        fuzz_check(mo_graph_prune(graph, NULL, NULL) == MO_OK, "not pruned");
        fuzz_check(mo_graph_n_tensors(graph) <= n_tensors, "more tensors than before");
        (void)fuzz_peak(graph);
        fuzz_round_trip(graph);
    } else fuzz_check(mo_graph_prune(graph, NULL, NULL) == MO_E_INVALID, "pruned, not whole");
    free(picture.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_graph *graph = NULL;
    mo_status status = mo_graph_parse(NULL, (const char *)data, size, &graph);
    if (status == MO_OK) fuzz_graph_use(graph);
    else
        fuzz_check(!graph &&
                (status == MO_E_FORMAT || status == MO_E_OVERFLOW || status == MO_E_NO_MEMORY),
            "unexpected status");
    mo_graph_destroy(graph);
    return 0;
}

#include "fuzz_replay.h"
