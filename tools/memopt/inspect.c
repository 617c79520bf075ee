// inspect.c - memopt inspect: what a file holds, from its header.
#include "model_file.h"

#include <stdlib.h>
#include <string.h>

#include "names.h"

typedef struct total {
    const char *type;
    size_t tensors;
    uint64_t elements, bytes;
} total;

enum { N_TOTALS = 64 };

typedef struct inspect {
    word_list only;
    bool json;
} inspect;

static size_t add_up(const model_file *m, const word_list *only, total totals[N_TOTALS]) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const model_tensor *t = &m->tensors[i];
        size_t k = 0;
        if (only->n && !name_is_any(t->name, only)) continue;
        while (k < n && strcmp(totals[k].type, t->type.name) != 0) k++;
        if (k == N_TOTALS) continue;
        if (k == n) totals[n++] = (total){.type = t->type.name};
        totals[k].tensors++;
        totals[k].elements += t->n;
        totals[k].bytes += t->bytes;
    }
    return n;
}

// ---- as text ----------------------------------------------------------------------------------

static int widest_name(const model_file *m, const word_list *only) {
    size_t widest = 4;
    for (size_t i = 0; i < m->n; i++) {
        const size_t n = strlen(m->tensors[i].name);
        if (n > widest && n <= 60 && (!only->n || name_is_any(m->tensors[i].name, only)))
            widest = n;
    }
    return (int)widest;
}

static void print_tensor(const model_tensor *t, int width) {
    print_name(stdout, t->name, width);
    printf("  %-8s %14llu  ", t->type.name, (unsigned long long)t->bytes);
    print_shape(stdout, t);
    putchar('\n');
}

static void print_text(const inspect *s, const model_file *m) {
    total totals[N_TOTALS];
    const size_t n = add_up(m, &s->only, totals);
    const int width = widest_name(m, &s->only);
    print_name(stdout, m->path, 0);
    printf(": ");
    print_kind(m);
    putchar('\n');
    print_shards(m);
    for (size_t i = 0; i < m->n_metadata; i++) {
        printf("  ");
        print_name(stdout, m->metadata[i].key, 0);
        printf(" = ");
        print_name(stdout, m->metadata[i].value, 0);
        putchar('\n');
    }
    printf("\n%-*s  %-8s %14s  %s\n", width, "name", "type", "bytes", "shape");
    for (size_t i = 0; i < m->n; i++)
        if (!s->only.n || name_is_any(m->tensors[i].name, &s->only))
            print_tensor(&m->tensors[i], width);
    putchar('\n');
    for (size_t i = 0; i < n; i++)
        printf("%-8s %6zu tensor%s %14llu elements %14llu bytes  %s\n", totals[i].type,
            totals[i].tensors, totals[i].tensors == 1 ? " " : "s",
            (unsigned long long)totals[i].elements, (unsigned long long)totals[i].bytes,
            text_bytes(totals[i].bytes).text);
}

// ---- as JSON ----------------------------------------------------------------------------------

static void json_tensor(const model_tensor *t) {
    json_after("{\"name\":", t->name);
    printf(",\"dtype\":\"%s\",\"shape\":", t->type.name);
    print_shape(stdout, t);
    printf(",\"bytes\":%llu", (unsigned long long)t->bytes);
    if (t->shard) json_after(",\"shard\":", t->shard);
    putchar('}');
}

static void print_json(const inspect *s, const model_file *m) {
    total totals[N_TOTALS];
    const size_t n = add_up(m, &s->only, totals);
    const char *comma = "";
    json_after("{\"file\":", m->path);
    printf(",\"format\":\"%s\"", model_format_name(m->format));
    json_shards(m);
    printf(",\"metadata\":{");
    for (size_t i = 0; i < m->n_metadata; i++) {
        json_after(i ? "," : "", m->metadata[i].key);
        json_after(":", m->metadata[i].value);
    }
    printf("},\"tensors\":[");
    for (size_t i = 0; i < m->n; i++) {
        if (s->only.n && !name_is_any(m->tensors[i].name, &s->only)) continue;
        printf("%s", comma);
        json_tensor(&m->tensors[i]);
        comma = ",";
    }
    printf("],\"totals\":[");
    for (size_t i = 0; i < n; i++)
        printf("%s{\"dtype\":\"%s\",\"tensors\":%zu,\"elements\":%llu,\"bytes\":%llu}",
            i ? "," : "", totals[i].type, totals[i].tensors, (unsigned long long)totals[i].elements,
            (unsigned long long)totals[i].bytes);
    printf("]}");
}

// ---- the command ------------------------------------------------------------------------------

static int run(const command *self, int argc, const char *const *argv) {
    inspect s = {0};
    const flag flags[] = {
        {"--only", FLAG_WORDS, &s.only},
        {"--json", FLAG_SWITCH, &s.json},
    };
    const char **files = allocate((size_t)argc, sizeof *files);
    const size_t n = flags_parse_many(self, argc, argv, flags, sizeof flags / sizeof *flags, files);
    model_file *models = allocate(n, sizeof *models);
    for (size_t i = 0; i < n; i++) model_open(&models[i], files[i]);
    if (s.json) printf("{\"files\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) putchar(s.json ? ',' : '\n');
        if (s.json) print_json(&s, &models[i]);
        else print_text(&s, &models[i]);
        model_close(&models[i]);
    }
    if (s.json) printf("]}\n");
    flush_stdout();
    free(models);
    free(files);
    free(s.only.items);
    return 0;
}

const command inspect_command = {
    "inspect",
    "what a file of tensors holds: names, types, shapes, metadata",
    "  memopt inspect FILE... [flags]\n"
    "\n"
    "  --only PATTERN   only tensors whose name fits, with * and ? as in a shell; may be repeated\n"
    "  --json           one object on standard output\n"
    "\n"
    "FILE is a safetensors file, an index of shards (model.safetensors.index.json), a folder with "
    "one\n"
    "of them, a GGUF file or a checkpoint of llm.c. Only headers are read. All commands on files "
    "of\n"
    "tensors read all of these.\n"
    "\n"
    "  memopt inspect model.safetensors --only '*.attn.*'\n"
    "  memopt inspect *.safetensors --json\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, a file that is not whole.\n",
    run,
};
