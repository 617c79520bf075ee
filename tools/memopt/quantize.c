// quantize.c - memopt quantize: matrices of a model as 4-bit or 8-bit codes.
#include "model_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "elements.h"
#include "names.h"

typedef enum method { NF4, FP4, Q8, INT8, N_METHODS } method;
static const char *const method_names[N_METHODS] = {"nf4", "fp4", "q8", "int8"};

// What a tensor of the new file is; those of one old tensor are written in this order.
typedef enum role {
    ROLE_COPY,
    ROLE_ABSMAX,
    ROLE_ABSMAX2, // scales of the scales
    ROLE_TABLE,
    ROLE_TABLE2,
    ROLE_ABSMAX_CODES,
    ROLE_CODES,
    ROLE_STATE, // JSON
    ROLE_FORMAT
} role;

typedef struct part {
    model_tensor tensor; // its shape is that of an old tensor, or NULL
    uint64_t shape[2];   // where it is NULL
    size_t source;       // among the old tensors
    role role;
} part;

// What has become of an old tensor.
typedef struct result {
    bool is_quantized;
    float offset;                     // of nested scales
    double max_abs, sum_error, sum_x; // sums of squares
    uint64_t bytes;
} result;

typedef struct quantize {
    model_file in;
    const char *out, *to;
    method method;
    size_t block;
    bool nested, json;
    word_list only, skip;
    result *results; // [in.n]
    part *parts;
    size_t n;
    model_writer writer;
    void *raw;
    float *numbers, *decoded, *scales; // [piece]
    uint8_t *codes;                    // [piece]
    size_t piece;
    // the scales of one tensor, as they are decoded, and their codes
    const model_tensor *scaled;
    float *absmax, *absmax2;
    uint8_t *absmax_codes;
    size_t n_absmax;
    uint64_t bytes;
} quantize;

static bool is_4bit(const quantize *q) { return q->method == NF4 || q->method == FP4; }
static mo_quant4_desc desc4(const quantize *q) {
    return (mo_quant4_desc){
        .map = q->method == NF4 ? MO_QUANT_NF4 : MO_QUANT_FP4, .block = q->block};
}
static mo_quant8_desc desc8(const quantize *q) { return (mo_quant8_desc){.block = q->block}; }

// ---- which ------------------------------------------------------------------------------------

// What the layers that bitsandbytes replaces do not hold.
static bool is_kept(const char *name) {
    static const char *kept[] = {
        "*embed*", "*wte*", "*wpe*", "*lm_head*", "*norm*", "*ln_*", "*bias*"};
    return name_is_any(name, &(word_list){kept, sizeof kept / sizeof *kept});
}

static bool is_chosen(const quantize *q, const model_tensor *t) {
    if (!elements_are_float(t->type.dtype) || t->n == 0 || name_is_any(t->name, &q->skip))
        return false;
    return q->only.n ? name_is_any(t->name, &q->only) : t->n_dims == 2 && !is_kept(t->name);
}

static size_t count_scales(const quantize *q, const model_tensor *t) {
    if (q->method == INT8) return (size_t)t->shape[0];
    return (size_t)(t->n / q->block + (t->n % q->block != 0));
}

// ---- the state, as bitsandbytes writes it -----------------------------------------------------

static const char *torch_type(mo_dtype type) {
    return type == MO_DTYPE_F16 ? "float16" : type == MO_DTYPE_BF16 ? "bfloat16" : "float32";
}

// Its size does not depend on the offset. To be freed.
static char *state_text(const quantize *q, const model_tensor *t, float offset, size_t *size) {
    text_stream out;
    text_begin(&out);
    fprintf(out.file, "{\"quant_type\": \"%s\", \"blocksize\": %zu, \"dtype\": \"%s\", \"shape\": ",
        method_names[q->method], q->block, torch_type(t->type.dtype));
    print_shape(out.file, t);
    if (q->nested)
        fprintf(out.file,
            ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", "
            "\"nested_offset\": %24.17g",
            (double)offset);
    fputc('}', out.file);
    text_end(&out);
    *size = out.size;
    return out.data;
}

// ---- the parts of the new file ----------------------------------------------------------------

// The name, cut before end where it ends so, and suffix.
static char *join(const char *name, const char *end, const char *suffix) {
    const size_t n = strlen(name), n_end = strlen(end);
    const size_t kept = n > n_end && strcmp(name + n - n_end, end) == 0 ? n - n_end : n;
    char *text = allocate(kept + strlen(suffix) + 1, 1);
    memcpy(text, name, kept);
    return strcpy(text + kept, suffix) - kept;
}

static void add_part(quantize *q, size_t source, role r, const char *suffix, mo_dtype type,
    size_t n_dims, uint64_t rows, uint64_t columns) {
    part *p = &q->parts[q->n++];
    const bool is_beside = *suffix && q->method == INT8;
    *p = (part){.source = source, .role = r, .shape = {rows, columns}};
    p->tensor =
        (model_tensor){.name = join(q->in.tensors[source].name, is_beside ? ".weight" : "", suffix),
            .type = model_type_of(type),
            .n_dims = n_dims,
            .n = (n_dims > 0 ? rows : 1) * (n_dims > 1 ? columns : 1)};
    p->tensor.bytes = model_bytes_of(&p->tensor.type, p->tensor.n);
}

// With the shape of the old one.
static void add_like(quantize *q, size_t source, role r, model_type type) {
    const model_tensor *t = &q->in.tensors[source];
    add_part(q, source, r, "", t->type.dtype, 0, 0, 0);
    model_tensor *to = &q->parts[q->n - 1].tensor;
    to->type = type;
    to->n_dims = t->n_dims;
    to->shape = t->shape;
    to->n = t->n;
    to->bytes = model_bytes_of(&type, t->n);
}

static void add_blockwise(quantize *q, size_t i, const model_tensor *t) {
    static const char *const states[] = {".quant_state.bitsandbytes__nf4",
        ".quant_state.bitsandbytes__fp4", ".quant_state.memopt__q8"};
    const size_t n = count_scales(q, t);
    size_t size;
    free(state_text(q, t, 0, &size));
    if (is_4bit(q)) add_part(q, i, ROLE_CODES, "", MO_DTYPE_U8, 2, (t->n + 1) / 2, 1);
    else add_like(q, i, ROLE_CODES, model_type_of(MO_DTYPE_U8));
    add_part(q, i, ROLE_TABLE, ".quant_map", MO_DTYPE_F32, 1, is_4bit(q) ? 16 : 256, 0);
    add_part(q, i, ROLE_STATE, states[q->method], MO_DTYPE_U8, 1, size, 0);
    if (!q->nested) {
        add_part(q, i, ROLE_ABSMAX, ".absmax", MO_DTYPE_F32, 1, n, 0);
        return;
    }
    add_part(q, i, ROLE_ABSMAX_CODES, ".absmax", MO_DTYPE_U8, 1, n, 0);
    add_part(q, i, ROLE_ABSMAX2, ".nested_absmax", MO_DTYPE_F32, 1, (n + 255) / 256, 0);
    add_part(q, i, ROLE_TABLE2, ".nested_quant_map", MO_DTYPE_F32, 1, 256, 0);
}

static void add_rows(quantize *q, size_t i, const model_tensor *t) {
    if (t->n_dims != 2)
        fail(EXIT_USAGE, "%s: '%s' has %zu dimension%s: int8 is for matrices", q->in.path, t->name,
            t->n_dims, plural(t->n_dims));
    if (t->shape[0] > UINT32_MAX || t->shape[1] > UINT32_MAX)
        fail(EXIT_USAGE, "%s: '%s' is too large for int8", q->in.path, t->name);
    add_like(q, i, ROLE_CODES, model_type_of(MO_DTYPE_I8));
    add_part(q, i, ROLE_ABSMAX, ".SCB", MO_DTYPE_F32, 1, t->shape[0], 0);
    add_part(q, i, ROLE_FORMAT, ".weight_format", MO_DTYPE_U8, 0, 0, 0);
}

// Larger elements first, so that all are aligned; the parts of one tensor stay together.
static int compare_parts(const void *left, const void *right) {
    const part *a = left, *b = right;
    const int order = model_compare_types(&a->tensor.type, &b->tensor.type);
    if (order) return order;
    if (a->source != b->source) return a->source < b->source ? -1 : 1;
    return (int)a->role - (int)b->role;
}

static void list_parts(quantize *q) {
    enum { MOST = 6 };
    bool is_any = false;
    q->parts = allocate(q->in.n, MOST * sizeof *q->parts);
    q->results = allocate(q->in.n, sizeof *q->results);
    for (size_t i = 0; i < q->in.n; i++) {
        const model_tensor *t = &q->in.tensors[i];
        const bool is_quantized = q->results[i].is_quantized = is_chosen(q, t);
        is_any |= is_quantized;
        if (!is_quantized) add_like(q, i, ROLE_COPY, t->type);
        else if (q->method == INT8) add_rows(q, i, t);
        else add_blockwise(q, i, t);
        if (is_quantized && q->method == INT8 && t->shape[1] > q->piece)
            q->piece = (size_t)t->shape[1];
    }
    if (!is_any) fail(EXIT_USAGE, "%s: no tensor is to be quantized (--only)", q->in.path);
    qsort(q->parts, q->n, sizeof *q->parts, compare_parts);
}

static model_tensor *describe_parts(quantize *q) {
    model_tensor *tensors = allocate(q->n, sizeof *tensors);
    for (size_t i = 0; i < q->n; i++) {
        tensors[i] = q->parts[i].tensor;
        if (!tensors[i].shape) tensors[i].shape = q->parts[i].shape;
        q->bytes += tensors[i].bytes;
        q->results[q->parts[i].source].bytes += tensors[i].bytes;
    }
    return tensors;
}

// ---- codes ------------------------------------------------------------------------------------

// Elements from at on that are encoded at once: whole blocks, whole rows.
static size_t next_piece(const quantize *q, const model_tensor *t, uint64_t at) {
    size_t n = q->piece;
    if (q->method == INT8) n -= n % (size_t)t->shape[1];
    return t->n - at < n ? (size_t)(t->n - at) : n;
}

static size_t scale_at(const quantize *q, const model_tensor *t, uint64_t at) {
    return (size_t)(at / (q->method == INT8 ? t->shape[1] : q->block));
}

static void encode(const quantize *q, const model_tensor *t, size_t n, float *absmax) {
    const mo_quant4_desc four = desc4(q);
    const mo_quant8_desc eight = desc8(q);
    const size_t columns = q->method == INT8 ? (size_t)t->shape[1] : 1;
    const mo_int8_desc rows = {.rows = n / columns, .columns = columns};
    mo_status status;
    if (q->method == INT8) {
        status = mo_int8_encode(&rows, q->numbers, (int8_t *)q->codes, absmax, NULL);
    } else if (is_4bit(q)) status = mo_quant4_encode(&four, q->numbers, n, q->codes, absmax);
    else status = mo_quant8_encode(&eight, q->numbers, n, q->codes, absmax);
    check(status, t->name);
    for (size_t i = 0; i < scale_at(q, t, n + q->block - 1); i++)
        if (!isfinite(absmax[i]))
            fail(EXIT_USAGE, "%s: '%s' holds NaN or infinity (--skip)", q->in.path, t->name);
}

static void decode(const quantize *q, const model_tensor *t, size_t n, const float *absmax) {
    const mo_quant4_desc four = desc4(q);
    const mo_quant8_desc eight = desc8(q);
    const size_t columns = q->method == INT8 ? (size_t)t->shape[1] : 1;
    const mo_int8_desc rows = {.rows = n / columns, .columns = columns};
    mo_status status;
    if (q->method == INT8) {
        status = mo_int8_decode(&rows, (const int8_t *)q->codes, absmax, NULL, q->decoded);
    } else if (is_4bit(q)) status = mo_quant4_decode(&four, q->codes, absmax, 0, n, q->decoded);
    else status = mo_quant8_decode(&eight, q->codes, absmax, n, q->decoded);
    check(status, t->name);
}

static void nest_scales(quantize *q, const model_tensor *t) {
    result *r = &q->results[t - q->in.tensors];
    q->absmax_codes = realloc(q->absmax_codes, q->n_absmax);
    q->absmax2 = realloc(q->absmax2, (q->n_absmax + 255) / 256 * sizeof *q->absmax2);
    if (!q->absmax_codes || !q->absmax2) fail(EXIT_NO, "out of memory");
    check(mo_quant_nested_encode(q->absmax, q->n_absmax, q->absmax_codes, q->absmax2, &r->offset),
        t->name);
    check(mo_quant_nested_decode(q->absmax_codes, q->absmax2, r->offset, q->n_absmax, q->absmax),
        t->name);
}

// All scales of a tensor, which takes a pass over it; those of the last one are still there.
static void find_scales(quantize *q, const model_tensor *t) {
    if (q->scaled == t) return;
    q->n_absmax = count_scales(q, t);
    q->absmax = realloc(q->absmax, q->n_absmax * sizeof *q->absmax);
    if (!q->absmax) fail(EXIT_NO, "out of memory");
    for (uint64_t at = 0; at < t->n;) {
        const size_t n = next_piece(q, t, at);
        model_read_f32(&q->in, t, at, n, q->raw, q->numbers);
        encode(q, t, n, q->absmax + scale_at(q, t, at));
        at += n;
    }
    if (q->nested) nest_scales(q, t);
    q->scaled = t;
}

static void add_error(const quantize *q, result *r, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const double x = q->numbers[i], d = fabs(x - (double)q->decoded[i]);
        if (d > r->max_abs) r->max_abs = d;
        r->sum_error += d * d;
        r->sum_x += x * x;
    }
}

static void write_codes(quantize *q, const model_tensor *t) {
    if (q->nested) find_scales(q, t);
    for (uint64_t at = 0; at < t->n;) {
        const size_t n = next_piece(q, t, at);
        model_read_f32(&q->in, t, at, n, q->raw, q->numbers);
        encode(q, t, n, q->scales);
        decode(q, t, n, q->nested ? q->absmax + scale_at(q, t, at) : q->scales);
        add_error(q, &q->results[t - q->in.tensors], n);
        model_write(&q->writer, q->codes, is_4bit(q) ? (n + 1) / 2 : n);
        at += n;
    }
}

// ---- the new file -----------------------------------------------------------------------------

// The writer may swap bytes in place, so tables are copied.
static void write_floats(quantize *q, const float *x, size_t n) {
    for (size_t at = 0; at < n; at += MODEL_PIECE) {
        const size_t count = model_piece(n, at);
        memcpy(q->raw, x + at, count * sizeof *x);
        model_write(&q->writer, q->raw, count);
    }
}

static void write_state(quantize *q, const model_tensor *t) {
    size_t size;
    char *text = state_text(q, t, q->results[t - q->in.tensors].offset, &size);
    model_write(&q->writer, text, size);
    free(text);
}

static void write_part(quantize *q, const part *p) {
    const model_tensor *t = &q->in.tensors[p->source];
    const float *table =
        is_4bit(q) ? mo_quant4_table(desc4(q).map) : mo_quant8_table(MO_QUANT_SIGNED);
    const bool is_scale =
        p->role == ROLE_ABSMAX || p->role == ROLE_ABSMAX2 || p->role == ROLE_ABSMAX_CODES;
    if (is_scale) find_scales(q, t);
    switch (p->role) {
    case ROLE_COPY: model_copy(&q->writer, &q->in, t, q->raw); break;
    case ROLE_ABSMAX: write_floats(q, q->absmax, q->n_absmax); break;
    case ROLE_ABSMAX2: write_floats(q, q->absmax2, (q->n_absmax + 255) / 256); break;
    case ROLE_TABLE: write_floats(q, table, is_4bit(q) ? 16 : 256); break;
    case ROLE_TABLE2: write_floats(q, mo_quant8_table(MO_QUANT_SIGNED), 256); break;
    case ROLE_ABSMAX_CODES: model_write(&q->writer, q->absmax_codes, q->n_absmax); break;
    case ROLE_CODES: write_codes(q, t); break;
    case ROLE_STATE: write_state(q, t); break;
    case ROLE_FORMAT: model_write(&q->writer, &(uint8_t){0}, 1); break; // rows
    }
}

static void write_parts(quantize *q) {
    model_tensor *tensors = describe_parts(q);
    pair_list pairs = model_pairs(&q->in, 0);
    q->raw = allocate(MODEL_PIECE, 8);
    q->numbers = allocate(q->piece, sizeof *q->numbers);
    q->decoded = allocate(q->piece, sizeof *q->decoded);
    q->scales = allocate(q->piece, sizeof *q->scales);
    q->codes = allocate(q->piece, 1);
    model_create(&q->writer, q->out, MODEL_SAFETENSORS, tensors, q->n, &pairs);
    for (size_t i = 0; i < q->n; i++) write_part(q, &q->parts[i]);
    model_commit(&q->writer);
    free(pairs.items);
    free(tensors);
}

// ---- the answer -------------------------------------------------------------------------------

static double relative_rms(const result *r) {
    return r->sum_x > 0 ? sqrt(r->sum_error / r->sum_x) : 0;
}

// Elements of quantized tensors, and the bytes that they were and are.
static void add_up(const quantize *q, uint64_t *n, uint64_t *before, uint64_t *after) {
    *n = *before = *after = 0;
    for (size_t i = 0; i < q->in.n; i++) {
        if (!q->results[i].is_quantized) continue;
        *n += q->in.tensors[i].n;
        *before += q->in.tensors[i].bytes;
        *after += q->results[i].bytes;
    }
}

static void print_text(const quantize *q) {
    uint64_t n, before, after;
    add_up(q, &n, &before, &after);
    printf("%-40s %14s %14s %12s %12s\n", "name", "bytes", "before", "max error", "rel. RMS");
    for (size_t i = 0; i < q->in.n; i++) {
        const result *r = &q->results[i];
        if (!r->is_quantized) continue;
        print_name(stdout, q->in.tensors[i].name, 40);
        printf(" %14llu %14llu %12.6g %12.6g\n", (unsigned long long)r->bytes,
            (unsigned long long)q->in.tensors[i].bytes, r->max_abs, relative_rms(r));
    }
    printf("%s: ", method_names[q->method]);
    print_name(stdout, q->out, 0);
    printf(" has %s, was %s; %.3f bits a number where quantized\n", text_size(q->bytes).text,
        text_size(q->in.bytes).text, 8.0 * (double)after / (double)n);
}

static void print_json(const quantize *q) {
    const char *between = "{\"name\":";
    uint64_t n, before, after;
    add_up(q, &n, &before, &after);
    json_after("{\"in\":", q->in.path);
    json_after(",\"out\":", q->out);
    printf(",\"method\":\"%s\",\"block\":%zu,\"nested\":%s,\"tensors\":[", method_names[q->method],
        q->method == INT8 ? 0 : q->block, q->nested ? "true" : "false");
    for (size_t i = 0; i < q->in.n; i++) {
        const result *r = &q->results[i];
        if (!r->is_quantized) continue;
        json_after(between, q->in.tensors[i].name);
        printf(",\"bytes\":%llu,\"bytes_before\":%llu,\"max_abs\":%.9g,\"relative_rms\":%.9g}",
            (unsigned long long)r->bytes, (unsigned long long)q->in.tensors[i].bytes, r->max_abs,
            relative_rms(r));
        between = ",{\"name\":";
    }
    printf("],\"bytes_before\":%llu,\"bytes_after\":%llu,\"quantized_bytes_before\":%llu,"
           "\"quantized_bytes_after\":%llu,\"quantized_numbers\":%llu}\n",
        (unsigned long long)q->in.bytes, (unsigned long long)q->bytes, (unsigned long long)before,
        (unsigned long long)after, (unsigned long long)n);
}

// ---- the command ------------------------------------------------------------------------------

static void check_flags(quantize *q) {
    size_t i = 0;
    if (!q->to) fail(EXIT_USAGE, "--to missing: nf4, fp4, q8 or int8");
    while (i < N_METHODS && strcmp(q->to, method_names[i]) != 0) i++;
    if (i == N_METHODS) fail(EXIT_USAGE, "--to: '%s' is not nf4, fp4, q8 or int8", q->to);
    q->method = (method)i;
    const size_t least = is_4bit(q) ? 32 : 64;
    if (q->method == INT8 && q->block) fail(EXIT_USAGE, "--block: int8 has a scale for each row");
    if (q->nested && !is_4bit(q)) fail(EXIT_USAGE, "--nested goes with nf4 and fp4, not %s", q->to);
    if (q->block && (q->block < least || q->block > 4096 || (q->block & (q->block - 1)) != 0))
        fail(EXIT_USAGE, "--block: %zu is not a power of two from %zu to 4096", q->block, least);
    if (!q->block) q->block = q->method == INT8 ? 1 : is_4bit(q) ? 64 : 256;
}

static void close_all(quantize *q) {
    void *const blocks[] = {q->results, q->raw, q->numbers, q->decoded, q->scales, q->codes,
        q->absmax, q->absmax2, q->absmax_codes, q->only.items, q->skip.items};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    for (size_t i = 0; i < q->n; i++) free((char *)(uintptr_t)q->parts[i].tensor.name);
    free(q->parts);
    model_close(&q->in);
}

static int run(const command *self, int argc, const char *const *argv) {
    quantize q = {.piece = MODEL_PIECE};
    const char *files[2];
    const flag flags[] = {
        {"--to", FLAG_TEXT, &q.to},
        {"--block", FLAG_BYTES, &q.block},
        {"--nested", FLAG_SWITCH, &q.nested},
        {"--only", FLAG_WORDS, &q.only},
        {"--skip", FLAG_WORDS, &q.skip},
        {"--json", FLAG_SWITCH, &q.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    check_flags(&q);
    q.out = files[1];
    model_open(&q.in, files[0]);
    list_parts(&q);
    write_parts(&q);
    if (q.json) print_json(&q);
    else print_text(&q);
    flush_stdout();
    close_all(&q);
    return 0;
}

const command quantize_command = {
    "quantize",
    "matrices as 4-bit or 8-bit codes, in files that bitsandbytes reads",
    "  memopt quantize IN OUT --to nf4|fp4|int8|q8 [flags]\n"
    "\n"
    "  --to nf4|fp4     4-bit codes with a scale for each block\n"
    "  --to int8        8-bit integers with a scale for each row, as LLM.int8()\n"
    "  --to q8          8-bit dynamic codes with a scale for each block\n"
    "  --block N        numbers per scale, a power of two: 32 to 4096, by default 64, for nf4 and\n"
    "                   fp4; 64 to 4096, by default 256, for q8\n"
    "  --nested         the scales of nf4 and fp4 as 8-bit codes too (double quantization)\n"
    "  --only PATTERN   these tensors, with * and ? as in a shell\n"
    "  --skip PATTERN   not these\n"
    "  --json           one object on standard output\n"
    "\n"
    "--only and --skip may be repeated. Without --only: every matrix but *embed*, *wte*, *wpe*,\n"
    "*lm_head*, *norm*, *ln_* and *bias*. All else is copied. Each quantized tensor is printed "
    "with\n"
    "its largest error and the root of the mean square of the errors, relative to that of the "
    "tensor.\n"
    "\n"
    "Names are those of bitsandbytes, which reads the file. For nf4 and fp4: X with the codes,\n"
    "X.absmax, X.quant_map, with --nested X.nested_absmax and X.nested_quant_map, and\n"
    "X.quant_state.bitsandbytes__nf4 with JSON. For int8, where X is Y.weight: X, Y.SCB and\n"
    "Y.weight_format. q8, which bitsandbytes has no layer for: as nf4, with "
    "X.quant_state.memopt__q8.\n"
    "transformers also wants \"quantization_config\" in config.json: {\"quant_method\":\n"
    "\"bitsandbytes\", \"load_in_4bit\": true, \"bnb_4bit_quant_type\": \"nf4\",\n"
    "\"bnb_4bit_use_double_quant\": true} with --nested, or {\"quant_method\": \"bitsandbytes\",\n"
    "\"load_in_8bit\": true} for int8. Turn the matrices of GPT-2 first: convert --transpose.\n"
    "\n"
    "  memopt quantize model.safetensors nf4.safetensors --to nf4 --nested\n"
    "  memopt quantize model.safetensors int8.safetensors --to int8 --skip '*.down_proj.*'\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
