// split.c - memopt split: one file becomes shards with an index, as Hugging Face has them.
#include "model_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "names.h"

typedef struct split {
    model_file in;
    const char *folder;
    char *path;  // of the only file; what others are called begins so
    size_t most; // bytes of a shard
    bool json;
} split;

static const char *new_folder; // to be removed when nothing comes into it

static void remove_folder(void) {
    if (new_folder) rmdir(new_folder);
}

// A model is never half replaced: there must be none.
static void check_folder(const split *s) {
    static const char *names[] = {
        "model.safetensors", "model.safetensors.index.json", "model-[0-9]*-of-[0-9]*.safetensors"};
    const word_list taken = {names, sizeof names / sizeof *names};
    DIR *folder = opendir(s->folder);
    if (!folder) fail(EXIT_NO, "%s: %s", s->folder, strerror(errno));
    for (struct dirent *e; (e = readdir(folder));)
        if (name_is_any(e->d_name, &taken))
            fail(EXIT_USAGE, "%s/%s: is there already", s->folder, e->d_name);
    closedir(folder);
}

static void make_folder(const split *s) {
    if (atexit(remove_folder) != 0) fail(EXIT_NO, "out of memory");
    if (mkdir(s->folder, 0777) == 0) new_folder = s->folder;
    else if (errno != EEXIST) fail(EXIT_NO, "%s: %s", s->folder, strerror(errno));
    else check_folder(s);
}

static void write_shards(split *s) {
    model_writer w;
    pair_list pairs = model_pairs(&s->in, 0);
    void *raw = allocate(MODEL_PIECE, 8);
    model_check_layout(&s->in);
    make_folder(s);
    model_create_shards(&w, s->path, s->most, s->in.tensors, s->in.n, &pairs);
    for (size_t i = 0; i < s->in.n; i++) model_copy(&w, &s->in, &s->in.tensors[i], raw);
    model_commit(&w);
    new_folder = NULL;
    free(raw);
    free(pairs.items);
}

// What is there now: the index with its shards, or the only file.
static void print_answer(const split *s) {
    model_file out;
    model_open(&out, s->folder);
    if (s->json) {
        json_after(out.format == MODEL_SHARDS ? "{\"index\":" : "{\"file\":", out.path);
        printf(",\"tensors\":%zu,\"bytes\":%llu", out.n, (unsigned long long)out.bytes);
        json_shards(&out);
        printf("}\n");
    } else {
        print_shards(&out);
        print_name(stdout, out.path, 0);
        printf(": ");
        print_kind(&out);
        putchar('\n');
    }
    model_close(&out);
}

static int run(const command *self, int argc, const char *const *argv) {
    split s = {0};
    const char *files[2];
    const flag flags[] = {
        {"--max-bytes", FLAG_BYTES, &s.most},
        {"--json", FLAG_SWITCH, &s.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    s.folder = files[1];
    s.path = path_in(s.folder, strlen(s.folder), "model.safetensors");
    model_open(&s.in, files[0]);
    write_shards(&s);
    print_answer(&s);
    flush_stdout();
    free(s.path);
    model_close(&s.in);
    return 0;
}

const command split_command = {
    "split",
    "one file becomes shards with an index",
    "  memopt split IN FOLDER [flags]\n"
    "\n"
    "  --max-bytes SIZE   of the tensors of a shard: 500M, 2G (5,000,000,000 bytes); a larger "
    "tensor\n"
    "                     gets a shard of its own\n"
    "  --json             one object on standard output\n"
    "\n"
    "FOLDER, which is made when it is not there, gets model-00001-of-0000N.safetensors and so on, "
    "and\n"
    "model.safetensors.index.json when all of them are whole; or model.safetensors alone when one "
    "is\n"
    "enough. Nothing is replaced: FOLDER must not have a model yet. Tensors keep their order. IN "
    "may\n"
    "be sharded already. memopt merge is the way back.\n"
    "\n"
    "  memopt split model.safetensors shards --max-bytes 2G\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
