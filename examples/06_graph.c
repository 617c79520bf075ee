// 06_graph.c - a computation as text: dropped, merged, ordered, computed in place, laid out.
//     cc -I. examples/06_graph.c memopt.c -o graph -lm
#include "memopt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Two branches of a network, with one op written twice, and one that nobody needs. `y=x` behind the
// arrow: y may take over the bytes of x.
static const char text[] = "tensor image 588KiB input reuse\n"
                           "tensor wide1 6MiB\n"
                           "tensor wide2 6MiB\n"
                           "tensor relu1 6MiB\n"
                           "tensor relu2 6MiB\n"
                           "tensor small1 768KiB\n"
                           "tensor small2 768KiB\n"
                           "tensor norm1 588KiB\n"
                           "tensor norm2 588KiB\n"
                           "tensor debug 6MiB\n"
                           "tensor sum 768KiB output\n"
                           "op normalize1 norm : image -> norm1=image\n"
                           "op normalize2 norm : image -> norm2=image\n"
                           "op convolve1 conv attrs=\"3x3\" : norm1 -> wide1\n"
                           "op convolve2 conv attrs=\"5x5\" : norm2 -> wide2\n"
                           "op histogram bins : wide1 -> debug\n"
                           "op activate1 relu : wide1 -> relu1=wide1\n"
                           "op activate2 relu : wide2 -> relu2=wide2\n"
                           "op shrink1 pool : relu1 -> small1\n"
                           "op shrink2 pool : relu2 -> small2\n"
                           "op add add : small1 small2 -> sum=small1=small2\n";
enum { MAX = 32 };

static int to_file(void *file, const char *from, size_t size) {
    return fwrite(from, 1, size, (FILE *)file) != size;
}

static int failed(mo_status status, const char *what) {
    if (status != MO_OK) fprintf(stderr, "%s: %s\n", what, mo_status_text(status));
    return status != MO_OK;
}

// What may be written over what, as the layout wants it.
static size_t list_aliases(const size_t *takes_over, size_t n, mo_layout_alias *aliases) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (takes_over[i] != SIZE_MAX) aliases[count++] = (mo_layout_alias){i, takes_over[i]};
    return count;
}

int main(int argc, char **argv) {
    mo_graph *graph;
    mo_graph_order_result found;
    mo_graph_live live;
    mo_layout_item items[MAX];
    mo_layout_alias aliases[MAX];
    mo_layout_result layout;
    size_t order[MAX], takes_over[MAX], taken[MAX], offsets[MAX];
    if (failed(mo_graph_parse(NULL, text, strlen(text), &graph), "parse")) return 1;
    printf("%zu ops, %zu tensors\n", mo_graph_n_ops(graph), mo_graph_n_tensors(graph));
    if (failed(mo_graph_merge(graph, NULL, NULL), "merge")) return 1;
    if (failed(mo_graph_prune(graph, NULL, NULL), "prune")) return 1;
    printf("%zu ops, %zu tensors when merged and pruned\n", mo_graph_n_ops(graph),
        mo_graph_n_tensors(graph));
    if (mo_graph_n_ops(graph) > MAX || mo_graph_n_tensors(graph) > MAX) return 1;

    if (failed(mo_graph_order(graph, NULL, order, &found), "order")) return 1;
    printf("peak %.2f MiB as given, %.2f MiB in this order%s:\n",
        (double)found.given_peak_bytes / 1048576, (double)found.peak_bytes / 1048576,
        found.proved ? " (no order has less)" : "");
    for (size_t i = 0; i < mo_graph_n_ops(graph); i++) {
        mo_graph_op op;
        if (failed(mo_graph_get_op(graph, order[i], &op), "get")) return 1;
        printf(" %s", op.name);
    }
    printf("\n");

    if (failed(mo_graph_lifetimes(graph, order, items, takes_over, NULL, &live), "lifetimes"))
        return 1;
    size_t n = mo_graph_n_tensors(graph);
    mo_layout_desc desc = {
        .aliases = aliases, .n_aliases = list_aliases(takes_over, n, aliases), .taken = taken};
    if (failed(mo_layout_solve(&desc, items, n, offsets, &layout), "layout")) return 1;
    for (size_t i = 0; i < n; i++) {
        mo_graph_tensor tensor;
        if (failed(mo_graph_get_tensor(graph, i, &tensor), "get")) return 1;
        printf("  %-7s %8zu bytes, steps %zu..%zu, at %7zu%s\n", tensor.name, tensor.size,
            items[i].first, items[i].last, offsets[i], taken[i] == SIZE_MAX ? "" : ", in place");
    }
    printf("one block of %.2f MiB\n", (double)layout.peak / 1048576);

    if (argc > 1) { // graph PICTURE.svg
        FILE *file = fopen(argv[1], "wb");
        mo_writer writer = {to_file, file};
        if (!file || failed(mo_graph_write_svg(graph, order, NULL, &writer), argv[1])) return 1;
        if (fclose(file) != 0) return 1;
    }
    mo_graph_destroy(graph);
    return layout.peak != found.peak_bytes;
}
