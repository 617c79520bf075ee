// merge.c - memopt merge: shards with an index become one file.
#include "model_file.h"

#include <stdlib.h>

typedef struct merge {
    model_file in;
    const char *out;
    bool json;
} merge;

static int compare_tensors(const void *left, const void *right) {
    const model_tensor *const *a = left, *const *b = right;
    const int order = model_compare_types(&(*a)->type, &(*b)->type);
    return order ? order : (*a > *b) - (*a < *b);
}

static void write_tensors(const merge *m) {
    const model_tensor **from = allocate(m->in.n, sizeof *from);
    model_tensor *tensors = allocate(m->in.n, sizeof *tensors);
    pair_list pairs = model_pairs(&m->in, 0);
    void *raw = allocate(MODEL_PIECE, 8);
    model_writer w;
    model_check_layout(&m->in);
    for (size_t i = 0; i < m->in.n; i++) from[i] = &m->in.tensors[i];
    qsort(from, m->in.n, sizeof *from, compare_tensors);
    for (size_t i = 0; i < m->in.n; i++) tensors[i] = *from[i];
    model_create(&w, m->out, MODEL_SAFETENSORS, tensors, m->in.n, &pairs);
    for (size_t i = 0; i < m->in.n; i++) model_copy(&w, &m->in, from[i], raw);
    model_commit(&w);
    free(raw);
    free(pairs.items);
    free(tensors);
    free(from);
}

static void print_answer(const merge *m) {
    const size_t n_files = m->in.format == MODEL_SHARDS ? m->in.shards.n_shards : 1;
    if (m->json) {
        json_after("{\"out\":", m->out);
        printf(",\"shards\":%zu,\"tensors\":%zu,\"bytes\":%llu}\n", n_files, m->in.n,
            (unsigned long long)m->in.bytes);
        return;
    }
    print_name(stdout, m->out, 0);
    printf(": %zu tensor%s of %zu file%s, %s\n", m->in.n, plural(m->in.n), n_files, plural(n_files),
        text_size(m->in.bytes).text);
}

static int run(const command *self, int argc, const char *const *argv) {
    merge m = {0};
    const char *files[2];
    const flag flags[] = {{"--json", FLAG_SWITCH, &m.json}};
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    m.out = files[1];
    model_open(&m.in, files[0]);
    write_tensors(&m);
    print_answer(&m);
    flush_stdout();
    model_close(&m.in);
    return 0;
}

const command merge_command = {
    "merge",
    "shards with an index become one file",
    "  memopt merge INDEX OUT [flags]\n"
    "\n"
    "  --json   one object on standard output\n"
    "\n"
    "INDEX is model.safetensors.index.json, or the folder that holds it; its shards lie beside "
    "it.\n"
    "Every tensor must be where the index says, and there must be no others. The metadata is that "
    "of\n"
    "the first shard. OUT appears whole or not at all.\n"
    "\n"
    "  memopt merge shards model.safetensors\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
