// interop.c - files for, and from, the Python packages safetensors and gguf.
//
//   interop write FOLDER   c.safetensors c.gguf c_big.gguf and c-0000N-of-0000M.safetensors
//   interop read FOLDER    py.safetensors, py.gguf and py_big.gguf, of which every tensor's bytes
//                          must be those of check.py's pattern; prints one line each
//
// Byte k of tensor i is (i * 31 + k * 7) % 251, but for quantized tensors, which are made of
// numbers: x[k] = sin(k + i).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memopt.h"

enum { N = 10000, LONG = 65536 };

static void stop(const char *what, const char *name) {
    fprintf(stderr, "interop: %s: %.60s\n", what, name);
    exit(1);
}

static void log_write(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    fprintf(stderr, "interop: %.300s\n", text);
}
static const mo_log logging = {log_write, NULL};

static char path[600], long_name[LONG + 1], names[N][24];

static const char *in(const char *folder, const char *file) {
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

static unsigned char pattern(size_t i, size_t k) { return (unsigned char)((i * 31 + k * 7) % 251); }

// Tensors 0..N-1 of 0, 1 or 2 elements, a scalar, and one with a name of 64 KiB.
static uint64_t shapes[N + 2][2];
static void make_safetensors(mo_safetensors_entry *e) {
    static const mo_dtype dtypes[] = {MO_DTYPE_F32, MO_DTYPE_F16, MO_DTYPE_BF16, MO_DTYPE_U8};
    for (size_t i = 0; i < N + 2; i++) {
        memset(&e[i], 0, sizeof e[i]);
        if (i < N) snprintf(names[i], sizeof names[i], "layer.%zu", i);
        e[i].name = i < N ? names[i] : i == N ? "scalar" : long_name;
        e[i].dtype = dtypes[i % 4];
        e[i].n_dims = i == N ? 0 : 2;
        shapes[i][0] = i % 3, shapes[i][1] = 2;
        e[i].shape = shapes[i];
    }
}

static size_t safetensors_bytes(const mo_safetensors_entry *e) {
    size_t n = mo_dtype_bits(e->dtype) / 8;
    for (size_t k = 0; k < e->n_dims; k++) n *= (size_t)e->shape[k];
    return n;
}

static void write_safetensors(const char *folder) {
    static mo_safetensors_entry e[N + 2];
    static const mo_safetensors_pair pairs[] = {{"format", "np"}, {"\xc3\xa9\"", "\xe2\x82\xac\n"}};
    const mo_safetensors_writer_desc desc = {.log = logging, .metadata = pairs, .n_metadata = 2};
    const mo_safetensors_shards_desc split = {.log = logging, .max_shard_bytes = 10000};
    mo_safetensors_writer w = {0};
    mo_safetensors_shards_writer s = {0};
    make_safetensors(e);
    mo_status status = mo_safetensors_create(&w, in(folder, "c.safetensors"), e, N + 2, &desc);
    if (status == MO_OK)
        status =
            mo_safetensors_shards_create(&s, in(folder, "shards.safetensors"), e, N + 2, &split);
    for (size_t i = 0; i < N + 2 && status == MO_OK; i++) {
        unsigned char bytes[32];
        const size_t n = safetensors_bytes(&e[i]);
        for (size_t k = 0; k < n; k++) bytes[k] = pattern(i, k);
        status = mo_safetensors_write(&w, bytes, n);
        if (status == MO_OK) status = mo_safetensors_shards_write(&s, bytes, n);
    }
    if (status == MO_OK) status = mo_safetensors_commit(&w);
    if (status == MO_OK) status = mo_safetensors_shards_commit(&s);
    if (status != MO_OK) stop("not written", "c.safetensors");
}

static const mo_gguf_type types[] = {
    MO_GGUF_F32, MO_GGUF_F16, MO_GGUF_BF16, MO_GGUF_Q8_0, MO_GGUF_Q4_0, MO_GGUF_I8};
enum { N_TYPES = sizeof types / sizeof *types, MOST = 4096 };

// Tensor i: of types[i % N_TYPES]; the first of each type large, the others small or empty.
static void make_gguf(mo_gguf_entry *e) {
    for (size_t i = 0; i < N + 2; i++) {
        memset(&e[i], 0, sizeof e[i]);
        if (i < N) snprintf(names[i], sizeof names[i], "blk.%zu.w", i);
        e[i].name = i < N ? names[i] : i == N ? "scalar" : long_name;
        e[i].type = i == N ? MO_GGUF_F32 : types[i % N_TYPES];
        e[i].n_dims = i == N ? 0 : 2;
        e[i].shape[0] = i < N_TYPES ? MOST / 2 : 32;
        e[i].shape[1] = i < N_TYPES ? 2 : i % 3;
    }
}

static size_t make_data(const mo_gguf_entry *e, size_t i, int big, unsigned char *bytes) {
    static float x[MOST];
    const size_t n = (size_t)mo_gguf_elements(e);
    const mo_gguf_code code = {e->type, big, NULL};
    for (size_t k = 0; k < n; k++) x[k] = (float)sin((double)(k + i));
    if (e->type == MO_GGUF_I8)
        for (size_t k = 0; k < n; k++) bytes[k] = pattern(i, k);
    else if (n > 0 && mo_gguf_encode(&code, x, n, bytes) != MO_OK) stop("not encoded", e->name);
    return n / mo_gguf_type_block(e->type) * mo_gguf_type_bytes(e->type);
}

static void write_gguf(const char *folder, int big) {
    static mo_gguf_entry e[N + 2];
    static unsigned char bytes[MOST * 4];
    static const float floats[] = {1.5f, -2};
    static const mo_gguf_text arch[] = {{"llama", 5}}, words[] = {{"a", 1}, {"\xc3\xa9", 2}};
    static const mo_gguf_pair pairs[] = {
        {.key = "general.architecture", .kind = MO_GGUF_KIND_STRING, .n = 1, .strings = arch},
        {.key = "a.u8", .kind = MO_GGUF_KIND_U8, .n = 1, .u64 = 200},
        {.key = "a.i64", .kind = MO_GGUF_KIND_I64, .n = 1, .i64 = -5},
        {.key = "a.f32", .kind = MO_GGUF_KIND_F32, .n = 1, .f64 = 0.25},
        {.key = "a.bool", .kind = MO_GGUF_KIND_BOOL, .n = 1, .u64 = 1},
        {.key = "a.floats", .kind = MO_GGUF_KIND_F32, .is_array = 1, .n = 2, .data = floats},
        {.key = "a.words", .kind = MO_GGUF_KIND_STRING, .is_array = 1, .n = 2, .strings = words},
    };
    const mo_gguf_writer_desc desc = {.log = logging,
        .metadata = pairs,
        .n_metadata = sizeof pairs / sizeof *pairs,
        .big_endian = big,
        .long_names = 1};
    mo_gguf_writer w = {0};
    make_gguf(e);
    mo_status status =
        mo_gguf_create(&w, in(folder, big ? "c_big.gguf" : "c.gguf"), e, N + 2, &desc);
    for (size_t i = 0; i < N + 2 && status == MO_OK; i++)
        status = mo_gguf_write(&w, bytes, make_data(&e[i], i, big, bytes));
    if (status == MO_OK) status = mo_gguf_commit(&w);
    if (status != MO_OK) stop("not written", "c.gguf");
}

static void read_safetensors(const char *folder) {
    static mo_safetensors_entry expected[N + 2];
    const mo_safetensors_desc desc = {.log = logging};
    mo_safetensors st = {0};
    make_safetensors(expected);
    if (mo_safetensors_open(&st, in(folder, "py.safetensors"), &desc) != MO_OK) exit(1);
    if (st.n != N + 2) stop("number of tensors", "py.safetensors");
    for (size_t i = 0; i < N + 2; i++) {
        unsigned char bytes[32];
        const mo_safetensors_entry *e = mo_safetensors_find(&st, expected[i].name);
        const size_t n = safetensors_bytes(&expected[i]);
        if (!e || e->dtype != expected[i].dtype || e->n_dims != expected[i].n_dims ||
            e->end - e->begin != n || mo_safetensors_read(&st, e, 0, bytes, n) != MO_OK)
            stop("tensor", expected[i].name);
        for (size_t k = 0; k < n; k++)
            if (bytes[k] != pattern(i, k)) stop("bytes differ", expected[i].name);
    }
    const char *text = mo_safetensors_metadata(&st, "\xc3\xa9\"");
    if (!text || strcmp(text, "\xe2\x82\xac\n") != 0) stop("metadata", "py.safetensors");
    mo_safetensors_close(&st);
    printf("memopt reads py.safetensors: %d tensors, bit for bit\n", N + 2);
}

static void read_gguf(const char *folder, const char *file, int big) {
    static mo_gguf_entry expected[N + 2];
    static unsigned char bytes[MOST * 4], theirs[MOST * 4];
    const mo_gguf_desc desc = {.log = logging, .long_names = 1};
    mo_gguf g = {0};
    uint64_t u8 = 0;
    make_gguf(expected);
    if (mo_gguf_open(&g, in(folder, file), &desc) != MO_OK) exit(1);
    if (g.n != N + 1 || g.big_endian != big) stop("number of tensors or byte order", file);
    for (size_t i = 0; i < N + 2; i++) {
        if (i == N) continue; // gguf cannot write a scalar
        const mo_gguf_entry *e = mo_gguf_find(&g, expected[i].name);
        const size_t n = make_data(&expected[i], i, big, bytes);
        if (!e || e->type != expected[i].type || e->end - e->begin != n ||
            mo_gguf_read(&g, e, 0, theirs, n) != MO_OK)
            stop("tensor", expected[i].name);
        if (memcmp(bytes, theirs, n) != 0) stop("bytes differ", expected[i].name);
    }
    if (mo_gguf_u64(&g, "a.u8", &u8) != MO_OK || u8 != 200) stop("metadata", file);
    const mo_gguf_pair *words = mo_gguf_find_key(&g, "a.words");
    if (!words || words->n != 2 || strcmp(words->strings[1].text, "\xc3\xa9") != 0)
        stop("metadata", file);
    mo_gguf_close(&g);
    printf("memopt reads %s: %d tensors, bit for bit\n", file, N + 1);
}

int main(int argc, char **argv) {
    if (argc != 3) stop("usage", "interop write|read FOLDER");
    memset(long_name, 'x', LONG);
    if (strcmp(argv[1], "write") == 0) {
        write_safetensors(argv[2]);
        for (int big = 0; big < 2; big++) write_gguf(argv[2], big);
    } else {
        read_safetensors(argv[2]);
        read_gguf(argv[2], "py.gguf", 0);
        read_gguf(argv[2], "py_big.gguf", 1);
    }
    return 0;
}
