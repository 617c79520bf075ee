// verify.c - memopt verify: is a file whole, and are its numbers finite?
#include "model_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "elements.h"
#include "sha256.h"

typedef struct verify {
    bool json, sha256, is_finite; // is_finite: NaN and infinity make a file broken
    void *raw;
    float *numbers; // of blocks
    size_t n_broken;
} verify;

// What the library has said about a file, or about each of its shards.
typedef struct reason {
    const char *path;
    text_stream said;
} reason;

// Without the file's name, which stands in front of it.
static void keep_reason(void *self, mo_log_level level, const char *text) {
    reason *r = self;
    const size_t n = strlen(r->path);
    const bool has_name = strncmp(text, r->path, n) == 0 && strncmp(text + n, ": ", 2) == 0;
    (void)level;
    fprintf(r->said.file, "%s%s", ftello(r->said.file) ? "; " : "", has_name ? text + n + 2 : text);
}

static mo_status count_tensor(
    const verify *v, const model_file *m, const model_tensor *t, not_finite *count) {
    for (uint64_t at = 0; at < t->n; at += MODEL_PIECE) {
        const size_t n = model_piece(t->n, at);
        const mo_status status = model_try_read(m, t, at, n, v->raw);
        if (status != MO_OK) return status;
        if (model_is_float(&t->type) && t->type.block >= 32) {
            model_read_f32(m, t, at, n, NULL, v->numbers);
            elements_count(MO_DTYPE_F32, v->numbers, n, count);
        } else elements_count(t->type.dtype, v->raw, n, count);
    }
    return MO_OK;
}

typedef struct hash {
    char text[65];
} hash;

// Of the whole file. Returns 0, or the system's error.
static int hash_file(const verify *v, const char *path, hash *h) {
    enum { SIZE = 1 << 20 };
    FILE *file = fopen(path, "rb");
    sha256 s;
    if (!file) return errno;
    sha256_begin(&s);
    for (size_t n; (n = fread(v->raw, 1, SIZE, file)) != 0;) sha256_add(&s, v->raw, n);
    const int error = ferror(file) ? errno : 0;
    fclose(file);
    sha256_end(&s, h->text);
    return error;
}

// The file or the index, then its shards.
static mo_status hash_files(const verify *v, const model_file *m, hash *hashes, const mo_log *log) {
    const size_t n_folder = folder_size(m->path);
    for (size_t k = 0; k <= m->shards.n_shards; k++) {
        char *path = k ? path_in(m->path, n_folder, m->shards.files[k - 1]) : NULL;
        const int error = hash_file(v, path ? path : m->path, &hashes[k]);
        if (error) {
            char text[512];
            snprintf(text, sizeof text, "%.400s: %s", path ? path : m->path, strerror(error));
            log->write(log->self, MO_LOG_ERROR, text);
        }
        free(path);
        if (error) return MO_E_IO;
    }
    return MO_OK;
}

// ---- the answer -------------------------------------------------------------------------------

static void print_broken(const verify *v, const char *path, const char *why) {
    if (v->json) {
        json_after("{\"file\":", path);
        json_after(",\"ok\":false,\"error\":", why);
        putchar('}');
    } else {
        print_name(stdout, path, 0);
        printf(": BROKEN: ");
        print_name(stdout, why, 0);
        putchar('\n');
    }
}

static void print_odd(const verify *v, const model_tensor *t, not_finite count, const char *comma) {
    if (v->json) {
        printf("%s{", comma);
        json_after("\"name\":", t->name);
        printf(",\"nan\":%llu,\"inf\":%llu}", (unsigned long long)count.nan,
            (unsigned long long)count.inf);
        return;
    }
    printf("  ");
    print_name(stdout, t->name, 40);
    printf(" %llu NaN, %llu Inf of %llu\n", (unsigned long long)count.nan,
        (unsigned long long)count.inf, (unsigned long long)t->n);
}

static void json_hashes(const model_file *m, const hash *hashes) {
    printf(",\"sha256\":\"%s\"", hashes->text);
    if (m->format != MODEL_SHARDS) return;
    printf(",\"shards_sha256\":{");
    for (size_t k = 0; k < m->shards.n_shards; k++) {
        json_after(k ? "," : "", m->shards.files[k]);
        printf(":\"%s\"", hashes[k + 1].text);
    }
    putchar('}');
}

static void print_hashes(const model_file *m, const hash *hashes) {
    printf("  sha256 %s\n", hashes->text);
    for (size_t k = 0; k < m->shards.n_shards; k++) {
        printf("  sha256 %s  ", hashes[k + 1].text);
        print_name(stdout, m->shards.files[k], 0);
        putchar('\n');
    }
}

static void print_whole(
    const verify *v, const model_file *m, const not_finite *counts, const hash *hashes) {
    not_finite sum = {0};
    const char *comma = "";
    for (size_t i = 0; i < m->n; i++) sum.nan += counts[i].nan, sum.inf += counts[i].inf;
    const bool is_good = !v->is_finite || (sum.nan == 0 && sum.inf == 0);
    if (v->json) {
        json_after("{\"file\":", m->path);
        printf(",\"ok\":%s,\"format\":\"%s\",\"tensors\":%zu,\"bytes\":%llu,\"nan\":%llu,"
               "\"inf\":%llu",
            is_good ? "true" : "false", model_format_name(m->format), m->n,
            (unsigned long long)m->bytes, (unsigned long long)sum.nan, (unsigned long long)sum.inf);
        json_shards(m);
        if (v->sha256) json_hashes(m, hashes);
        printf(",\"not_finite\":[");
    } else {
        print_name(stdout, m->path, 0);
        printf(": %s: ", is_good ? "ok" : "BROKEN");
        print_kind(m);
        printf(", %llu NaN, %llu Inf\n", (unsigned long long)sum.nan, (unsigned long long)sum.inf);
        if (v->sha256) print_hashes(m, hashes);
    }
    for (size_t i = 0; i < m->n; i++)
        if (counts[i].nan || counts[i].inf) {
            print_odd(v, &m->tensors[i], counts[i], comma);
            comma = ",";
        }
    if (v->json) printf("]}");
}

static bool is_all_finite(const not_finite *counts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (counts[i].nan || counts[i].inf) return false;
    return true;
}

static void verify_file(verify *v, const char *path) {
    reason r = {.path = path};
    model_file m;
    text_begin(&r.said);
    const mo_log log = {keep_reason, &r};
    mo_status status = model_try_open(&m, path, &log);
    not_finite *counts = allocate(status == MO_OK ? m.n : 1, sizeof *counts);
    hash *hashes = allocate(m.shards.n_shards + 1, sizeof *hashes);
    for (size_t i = 0; status == MO_OK && i < m.n; i++)
        status = count_tensor(v, &m, &m.tensors[i], &counts[i]);
    if (status == MO_OK && v->sha256) status = hash_files(v, &m, hashes, &log);
    char *why = text_end(&r.said);
    if (status == MO_E_NO_MEMORY) fail(EXIT_NO, "%s", why);
    if (status != MO_OK) print_broken(v, path, why);
    else print_whole(v, &m, counts, hashes);
    if (status != MO_OK || (v->is_finite && !is_all_finite(counts, m.n))) v->n_broken++;
    free(why);
    free(hashes);
    free(counts);
    model_close(&m);
}

static int run(const command *self, int argc, const char *const *argv) {
    verify v = {0};
    const flag flags[] = {
        {"--finite", FLAG_SWITCH, &v.is_finite},
        {"--sha256", FLAG_SWITCH, &v.sha256},
        {"--json", FLAG_SWITCH, &v.json},
    };
    const char **files = allocate((size_t)argc, sizeof *files);
    const size_t n = flags_parse_many(self, argc, argv, flags, sizeof flags / sizeof *flags, files);
    v.raw = allocate(MODEL_PIECE, 8);
    v.numbers = allocate(MODEL_PIECE, sizeof *v.numbers);
    if (v.json) printf("{\"files\":[");
    for (size_t i = 0; i < n; i++) {
        if (v.json && i) putchar(',');
        verify_file(&v, files[i]);
    }
    if (v.json) printf("],\"broken\":%zu}\n", v.n_broken);
    flush_stdout();
    free(v.raw);
    free(v.numbers);
    free(files);
    return v.n_broken ? EXIT_NO : 0;
}

const command verify_command = {
    "verify",
    "is a file of tensors whole, and are its numbers finite?",
    "  memopt verify FILE... [flags]\n"
    "\n"
    "  --finite   a file with NaN or infinity counts as broken\n"
    "  --sha256   the hash of each file, as sha256sum prints it\n"
    "  --json     one object on standard output\n"
    "\n"
    "Every check of the format: header, names, shapes, offsets without holes or overlaps, the "
    "size\n"
    "of the file. Then all of the data is read, and NaN and infinities are counted in each "
    "tensor.\n"
    "A file that does not exist or cannot be read counts as broken. Of an index, each shard that "
    "is\n"
    "broken is named, and --sha256 hashes each of them.\n"
    "\n"
    "  memopt verify model.safetensors --sha256\n"
    "  memopt verify *.safetensors --finite || echo 'do not use these'\n"
    "\n"
    "Exit status: 0 all are whole; 1 one is broken, or the machine does not allow it; 2 usage.\n",
    run,
};
