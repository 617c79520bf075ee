// split.c - memopt split: one file becomes shards with an index, as Hugging Face has them.
#include "model_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct shard {
    char *name, *path;
    size_t first, n; // tensors
    uint64_t bytes;
} shard;

typedef struct split {
    model_file in;
    const char *folder;
    char *index; // its path
    size_t most; // bytes of a shard
    bool json;
    shard *shards;
    size_t n;
    void *raw;
} split;

// What has been written, for whoever ends before the index is there.
static struct {
    const split *of;
    size_t n;
    bool is_new_folder;
} written;

static void remove_shards(void) {
    if (!written.of) return;
    for (size_t i = 0; i < written.n; i++) unlink(written.of->shards[i].path);
    if (written.is_new_folder) rmdir(written.of->folder);
}

// ---- which tensors go where -------------------------------------------------------------------

static char *path_in(const char *folder, const char *name) {
    char *path = allocate(strlen(folder) + strlen(name) + 2, 1);
    sprintf(path, "%s/%s", folder, name);
    return path;
}

// In the order of the file; what is larger than a shard gets one of its own.
static void plan_shards(split *s) {
    s->shards = allocate(s->in.n + 1, sizeof *s->shards);
    s->n = 1;
    for (size_t i = 0; i < s->in.n; i++) {
        shard *last = &s->shards[s->n - 1];
        const uint64_t bytes = s->in.tensors[i].bytes;
        if (last->n != 0 && bytes > s->most - (last->bytes < s->most ? last->bytes : s->most)) {
            last = &s->shards[s->n++];
            last->first = i;
        }
        last->bytes += bytes;
        last->n++;
    }
    for (size_t i = 0; i < s->n; i++) {
        s->shards[i].name = allocate(64, 1);
        snprintf(s->shards[i].name, 64, "model-%05zu-of-%05zu.safetensors", i + 1, s->n);
        s->shards[i].path = path_in(s->folder, s->shards[i].name);
    }
    s->index = path_in(s->folder, "model.safetensors.index.json");
}

// A set of shards is never half replaced: there must be none.
static void check_folder(const split *s) {
    struct stat info;
    if (mkdir(s->folder, 0777) == 0) written.is_new_folder = true;
    else if (errno != EEXIST) fail(EXIT_NO, "%s: %s", s->folder, strerror(errno));
    else if (stat(s->folder, &info) != 0 || !S_ISDIR(info.st_mode))
        fail(EXIT_NO, "%s: not a folder", s->folder);
    if (lstat(s->index, &info) == 0) fail(EXIT_USAGE, "%s: is there already", s->index);
    for (size_t i = 0; i < s->n; i++)
        if (lstat(s->shards[i].path, &info) == 0)
            fail(EXIT_USAGE, "%s: is there already", s->shards[i].path);
}

// ---- writing ------------------------------------------------------------------------------------

static void write_shard(split *s, const shard *to, const pair_list *pairs) {
    model_writer w;
    const model_tensor *tensors = s->in.tensors + to->first;
    model_create(&w, to->path, MODEL_SAFETENSORS, tensors, to->n, pairs);
    for (size_t i = 0; i < to->n; i++)
        for (uint64_t at = 0; at < tensors[i].n; at += MODEL_PIECE) {
            const uint64_t left = tensors[i].n - at;
            const size_t n = left < MODEL_PIECE ? (size_t)left : MODEL_PIECE;
            model_read(&s->in, &tensors[i], at, n, s->raw);
            model_write(&w, s->raw, n);
        }
    model_commit(&w);
    written.n++;
}

static void write_index(const split *s) {
    output o;
    const char *comma = "";
    output_open(&o, s->index);
    fprintf(o.file, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
        (unsigned long long)s->in.bytes);
    for (size_t k = 0; k < s->n; k++)
        for (size_t i = 0; i < s->shards[k].n; i++) {
            fprintf(o.file, "%s\n    ", comma);
            json_string(o.file, s->in.tensors[s->shards[k].first + i].name);
            fprintf(o.file, ": \"%s\"", s->shards[k].name);
            comma = ",";
        }
    fprintf(o.file, "\n  }\n}\n");
    output_close(&o);
}

static void write_all_shards(split *s) {
    pair_list pairs = model_pairs(&s->in, 0);
    written.of = s;
    if (atexit(remove_shards) != 0) fail(EXIT_NO, "out of memory");
    check_folder(s);
    s->raw = allocate(MODEL_PIECE, 8);
    for (size_t i = 0; i < s->n; i++) write_shard(s, &s->shards[i], &pairs);
    write_index(s);
    written.of = NULL;
    free(s->raw);
    free(pairs.items);
}

// ---- the command ------------------------------------------------------------------------------

static void print_answer(const split *s) {
    if (s->json) {
        printf("{\"index\":");
        json_string(stdout, s->index);
        printf(",\"bytes\":%llu,\"shards\":[", (unsigned long long)s->in.bytes);
    }
    for (size_t i = 0; i < s->n; i++) {
        const shard *k = &s->shards[i];
        if (s->json)
            printf("%s{\"file\":\"%s\",\"tensors\":%zu,\"bytes\":%llu}", i ? "," : "", k->name,
                k->n, (unsigned long long)k->bytes);
        else
            printf("%s  %zu tensor%s, %llu bytes (%s)\n", k->name, k->n, plural(k->n),
                (unsigned long long)k->bytes, text_bytes(k->bytes).text);
    }
    if (s->json) printf("]}\n");
    else print_name(stdout, s->index, 0), putchar('\n');
}

static int run(const command *self, int argc, const char *const *argv) {
    split s = {.most = (size_t)5 << 30};
    const char *files[2];
    const flag flags[] = {
        {"--max-bytes", FLAG_BYTES, &s.most},
        {"--json", FLAG_SWITCH, &s.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    s.folder = files[1];
    model_open(&s.in, files[0]);
    plan_shards(&s);
    write_all_shards(&s);
    print_answer(&s);
    flush_stdout();
    for (size_t i = 0; i < s.n; i++) free(s.shards[i].name), free(s.shards[i].path);
    free(s.shards);
    free(s.index);
    model_close(&s.in);
    return 0;
}

const command split_command = {
    "split",
    "one file becomes shards with an index",
    "  memopt split IN FOLDER [flags]\n"
    "\n"
    "  --max-bytes SIZE   of the tensors of a shard: 500M, 2G (5G); a larger tensor gets a shard "
    "of\n"
    "                     its own\n"
    "  --json             one object on standard output\n"
    "\n"
    "FOLDER, which is made when it is not there, gets model-00001-of-0000N.safetensors and so on, "
    "and\n"
    "model.safetensors.index.json when all of them are whole. Nothing is replaced: it must not "
    "have\n"
    "them yet. Tensors keep their order. memopt merge is the way back.\n"
    "\n"
    "  memopt split model.safetensors shards --max-bytes 2G\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
