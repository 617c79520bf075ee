// diff.c - memopt diff: where two files of tensors differ, and by how much.
#include "model_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "elements.h"
#include "names.h"

// One tensor that both files have.
typedef struct difference {
    double max_abs, max_rel, sum_squares; // NaN against a number: infinity
    uint64_t n_different, n_numbers;
    const char *why; // what else is different, NULL = nothing
} difference;

typedef struct diff {
    model_file a, b;
    double tolerance;
    bool has_tolerance, json, all;
    word_list only;
    void *raw[2];
    double *numbers[2]; // [2 * PIECE], for complex numbers
    const char *comma;
    size_t n_same, n_other, n_missing, n_extra;
} diff;

enum { PIECE = 1 << 16 };

static bool is_chosen(const diff *d, const char *name) {
    return d->only.n == 0 || name_is_any(name, &d->only);
}

// ---- one tensor -------------------------------------------------------------------------------

static bool same_shape(const model_tensor *a, const model_tensor *b) {
    return a->n_dims == b->n_dims &&
        (a->n_dims == 0 || memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape) == 0);
}

static void compare_numbers(difference *r, const double *a, const double *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (a[i] == b[i] || (isnan(a[i]) && isnan(b[i]))) continue;
        const double d = fabs(a[i] - b[i]);
        const double size = fmax(fabs(a[i]), fabs(b[i]));
        const double abs = isnan(d) ? INFINITY : d;
        const double rel = isfinite(abs) ? abs / size : INFINITY;
        r->n_different++;
        r->sum_squares += abs * abs;
        if (abs > r->max_abs) r->max_abs = abs;
        if (rel > r->max_rel) r->max_rel = rel;
    }
}

// Not every integer of 64 bits is a double.
static void compare_integers(
    difference *r, const uint64_t *a, const uint64_t *b, size_t n, bool is_signed) {
    const uint64_t bias = is_signed ? (uint64_t)1 << 63 : 0; // to the order of unsigned ones
    for (size_t i = 0; i < n; i++) {
        const uint64_t x = a[i] ^ bias, y = b[i] ^ bias;
        if (x == y) continue;
        const double abs = (double)(x > y ? x - y : y - x);
        const double p = is_signed ? (double)(int64_t)a[i] : (double)a[i];
        const double q = is_signed ? (double)(int64_t)b[i] : (double)b[i];
        r->n_different++;
        r->sum_squares += abs * abs;
        r->max_abs = fmax(r->max_abs, abs);
        r->max_rel = fmax(r->max_rel, abs / fmax(fabs(p), fabs(q)));
    }
}

// Bytes that stand for no numbers: equal or not.
static void compare_bytes(difference *r, const unsigned char *a, const unsigned char *b, size_t n) {
    for (size_t i = 0; i < n; i++) r->n_different += a[i] != b[i];
    if (r->n_different) r->max_abs = r->max_rel = r->sum_squares = INFINITY;
}

static bool are_numbers(const model_tensor *t) {
    return elements_are_numbers(t->type.dtype) || model_is_float(&t->type);
}

// What has been read into raw.
static void to_numbers(const diff *d, int which, const model_tensor *t, uint64_t at, size_t n) {
    if (t->type.dtype != MO_DTYPE_COUNT) {
        elements_to_f64(t->type.dtype, d->raw[which], n, d->numbers[which]);
        return;
    }
    float *blocks = d->raw[which];
    model_read_f32(which ? &d->b : &d->a, t, at, n, NULL, blocks);
    for (size_t i = 0; i < n; i++) d->numbers[which][i] = blocks[i];
}

static void compare_piece(const diff *d, difference *r, const model_tensor *a,
    const model_tensor *b, uint64_t at, size_t n) {
    const size_t size = (size_t)model_bytes_of(&a->type, n);
    const size_t count = n * elements_per_entry(a->type.dtype);
    const bool is_same_type = strcmp(a->type.name, b->type.name) == 0;
    model_read(&d->a, a, at, n, d->raw[0]);
    model_read(&d->b, b, at, n, d->raw[1]);
    if (is_same_type && memcmp(d->raw[0], d->raw[1], size) == 0) return;
    if (!are_numbers(a)) {
        compare_bytes(r, d->raw[0], d->raw[1], size);
        return;
    }
    if (is_same_type && (a->type.dtype == MO_DTYPE_I64 || a->type.dtype == MO_DTYPE_U64)) {
        compare_integers(r, d->raw[0], d->raw[1], n, a->type.dtype == MO_DTYPE_I64);
        return;
    }
    to_numbers(d, 0, a, at, n);
    to_numbers(d, 1, b, at, n);
    compare_numbers(r, d->numbers[0], d->numbers[1], count);
}

static difference compare(const diff *d, const model_tensor *a, const model_tensor *b) {
    difference r = {.n_numbers = a->n * elements_per_entry(a->type.dtype)};
    if (!same_shape(a, b)) {
        r.why = "shape";
        return r;
    }
    if (strcmp(a->type.name, b->type.name) != 0) {
        const bool can = are_numbers(a) && are_numbers(b) &&
            elements_per_entry(a->type.dtype) == elements_per_entry(b->type.dtype);
        if (!d->has_tolerance || !can) r.why = "dtype";
        if (!can) return r;
    }
    for (uint64_t at = 0; at < a->n; at += PIECE)
        compare_piece(d, &r, a, b, at, a->n - at < PIECE ? (size_t)(a->n - at) : PIECE);
    return r;
}

static bool is_equal(const diff *d, const difference *r) {
    return !r->why && r->max_abs <= d->tolerance && (d->has_tolerance || r->n_different == 0);
}

static double rms(const difference *r) {
    return r->n_numbers ? sqrt(r->sum_squares / (double)r->n_numbers) : 0;
}

// ---- the answer -------------------------------------------------------------------------------

// JSON has no infinity.
static void json_real(const char *name, double x) {
    if (isfinite(x)) printf(",\"%s\":%.9g", name, x);
    else printf(",\"%s\":null", name);
}

static void json_form(const char *name, const model_tensor *t) {
    printf(",\"%s\":{\"dtype\":\"%s\",\"shape\":", name, t->type.name);
    print_shape(stdout, t);
    putchar('}');
}

static void print_json(diff *d, const model_tensor *a, const model_tensor *b, const difference *r) {
    printf("%s{", d->comma);
    json_after("\"name\":", a ? a->name : b->name);
    if (!a || !b) printf(",\"equal\":false,\"difference\":\"%s\"", a ? "missing" : "extra");
    else
        printf(",\"equal\":%s,\"difference\":\"%s\"", is_equal(d, r) ? "true" : "false",
            r->why                    ? r->why
                : r->n_different != 0 ? "values"
                                      : "none");
    if (a) json_form("a", a);
    if (b) json_form("b", b);
    if (a && b && (!r->why || strcmp(r->why, "shape") != 0)) {
        printf(",\"different\":%llu", (unsigned long long)r->n_different);
        json_real("max_abs", r->max_abs);
        json_real("max_rel", r->max_rel);
        json_real("rms", rms(r));
    }
    putchar('}');
    d->comma = ",";
}

static void print_form(const model_tensor *t) {
    printf(" %s ", t->type.name);
    print_shape(stdout, t);
}

static void print_text(
    const diff *d, const model_tensor *a, const model_tensor *b, const difference *r) {
    if (a && b && !d->all && is_equal(d, r)) return;
    print_name(stdout, a ? a->name : b->name, 40);
    if (!b) printf(" missing in "), print_name(stdout, d->b.path, 0);
    if (!a) printf(" only in "), print_name(stdout, d->b.path, 0);
    if (a && b && r->why) {
        printf(" %s:", r->why);
        print_form(a);
        printf(" and");
        print_form(b);
    }
    if (a && b && (!r->why || r->n_different))
        printf(" max abs %.6g, max rel %.6g, rms %.6g, %llu of %llu differ", r->max_abs, r->max_rel,
            rms(r), (unsigned long long)r->n_different, (unsigned long long)r->n_numbers);
    putchar('\n');
}

static void report(diff *d, const model_tensor *a, const model_tensor *b) {
    difference r = {0};
    if (a && b) r = compare(d, a, b);
    if (!b) d->n_missing++;
    else if (!a) d->n_extra++;
    else if (is_equal(d, &r)) d->n_same++;
    else d->n_other++;
    if (d->json) print_json(d, a, b, &r);
    else print_text(d, a, b, &r);
}

// In any order.
static bool metadata_is_equal(const model_file *a, const model_file *b) {
    if (a->n_metadata != b->n_metadata) return false;
    for (size_t i = 0; i < a->n_metadata; i++) {
        const char *text = pairs_find(b->metadata, b->n_metadata, a->metadata[i].key);
        if (!text || strcmp(text, a->metadata[i].value) != 0) return false;
    }
    return true;
}

static void compare_files(diff *d) {
    const bool has_same_metadata = metadata_is_equal(&d->a, &d->b);
    if (d->json) printf("{\"tensors\":[");
    for (size_t i = 0; i < d->a.n; i++)
        if (is_chosen(d, d->a.tensors[i].name))
            report(d, &d->a.tensors[i], model_find(&d->b, d->a.tensors[i].name));
    for (size_t i = 0; i < d->b.n; i++)
        if (is_chosen(d, d->b.tensors[i].name) && !model_find(&d->a, d->b.tensors[i].name))
            report(d, NULL, &d->b.tensors[i]);
    if (d->json)
        printf("],\"equal\":%zu,\"different\":%zu,\"missing\":%zu,\"extra\":%zu,"
               "\"metadata_equal\":%s}\n",
            d->n_same, d->n_other, d->n_missing, d->n_extra, has_same_metadata ? "true" : "false");
    else
        printf("%zu equal, %zu different, %zu missing, %zu extra%s\n", d->n_same, d->n_other,
            d->n_missing, d->n_extra, has_same_metadata ? "" : "; the metadata differs");
    flush_stdout();
}

static int run(const command *self, int argc, const char *const *argv) {
    diff d = {.tolerance = -1, .comma = ""};
    const char *files[2];
    const flag flags[] = {
        {"--tolerance", FLAG_LEAST, &d.tolerance},
        {"--only", FLAG_WORDS, &d.only},
        {"--all", FLAG_SWITCH, &d.all},
        {"--json", FLAG_SWITCH, &d.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    d.has_tolerance = d.tolerance >= 0;
    if (!d.has_tolerance) d.tolerance = INFINITY;
    model_open(&d.a, files[0]);
    model_open(&d.b, files[1]);
    for (int i = 0; i < 2; i++) {
        d.raw[i] = allocate(PIECE, 8);
        d.numbers[i] = allocate(2 * PIECE, sizeof *d.numbers[i]);
    }
    compare_files(&d);
    for (int i = 0; i < 2; i++) free(d.raw[i]), free(d.numbers[i]);
    model_close(&d.a);
    model_close(&d.b);
    free(d.only.items);
    return d.n_other + d.n_missing + d.n_extra ? EXIT_NO : 0;
}

const command diff_command = {
    "diff",
    "where two files of tensors differ, and by how much",
    "  memopt diff A B [flags]\n"
    "\n"
    "  --tolerance X    equal where |a - b| <= X; types may then differ, such as F32 and BF16\n"
    "  --only PATTERN   only tensors whose name fits, with * and ? as in a shell; may be repeated\n"
    "  --all            also print the tensors that are equal\n"
    "  --json           one object on standard output, with all tensors\n"
    "\n"
    "For each tensor: the largest |a - b|, the largest |a - b| / max(|a|, |b|), and the root of "
    "the\n"
    "mean square of a - b. NaN equals NaN, and differs from any number by infinity (JSON: null).\n"
    "Metadata is compared and reported, but does not count.\n"
    "\n"
    "  memopt diff model.safetensors copy.safetensors\n"
    "  memopt diff model.safetensors model-bf16.safetensors --tolerance 0.01\n"
    "\n"
    "Exit status: 0 equal; 1 different, or the machine does not allow it; 2 usage, input.\n",
    run,
};
