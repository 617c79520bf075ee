// convert.c - memopt convert: other types, names, shapes, formats.
#include "model_file.h"

#include <stdlib.h>
#include <string.h>

#include "elements.h"
#include "llmc.h"
#include "names.h"

// One tensor of the new file and where it comes from.
typedef struct converted {
    const model_tensor *from;
    bool is_transposed, is_padded;
    model_type type; // in the new file
    size_t order;    // there, of llm.c's
    char *name;
    uint64_t shape[2]; // where is_transposed
} converted;

typedef struct convert {
    model_file in;
    const char *out;
    model_format format;
    const char *dtype;
    model_type to; // with dtype
    bool json, is_saturated;
    word_list only, keep, drop, rename, transpose, metadata;
    converted *list;
    model_tensor *tensors; // as list
    size_t n;
    pair_list pairs;
    model_writer writer;
    unsigned char *raw;  // [MODEL_PIECE * 8]
    unsigned char *band; // for transposes
    float *numbers;      // [MODEL_PIECE]
    uint64_t bytes, n_changed, n_transposed, n_overflowed;
} convert;

// ---- what to do -------------------------------------------------------------------------------

static model_type find_type(const char *text) {
    static const mo_dtype known[] = {MO_DTYPE_F32, MO_DTYPE_F16, MO_DTYPE_BF16, MO_DTYPE_F8_E4M3,
        MO_DTYPE_F8_E5M2, MO_DTYPE_F64};
    static const char *const names[] = {"f32", "f16", "bf16", "f8_e4m3", "f8_e5m2", "f64"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(text, names[i]) == 0) return model_type_of(known[i]);
    if (strcmp(text, "q8_0") == 0) return model_type_of_gguf(MO_GGUF_Q8_0);
    if (strcmp(text, "q4_0") == 0) return model_type_of_gguf(MO_GGUF_Q4_0);
    fail(EXIT_USAGE, "--dtype: '%s' is not f32, f16, bf16, f8_e4m3, f8_e5m2, f64, q8_0 or q4_0",
        text);
}

static bool changes_type(const convert *c, const model_tensor *t) {
    const bool is_chosen = c->dtype && model_is_float(&t->type) &&
        (c->only.n == 0 || name_is_any(t->name, &c->only)) && !name_is_any(t->name, &c->keep);
    return is_chosen && (c->to.block == 1 || t->n_dims >= 2);
}

// Between llm.c and the others some matrices always change their sides.
static bool is_transposed(const convert *c, const model_tensor *t, const char *name) {
    const bool is_asked = name_is_any(t->name, &c->transpose);
    const bool from_llmc = t->is_transposed;
    const bool to_llmc = c->format == MODEL_LLMC && llmc_is_transposed(name);
    if (is_asked && t->n_dims != 2)
        fail(EXIT_USAGE, "%s: --transpose: '%s' has %zu dimension%s, not 2", c->in.path, t->name,
            t->n_dims, plural(t->n_dims));
    if (is_asked && t->type.block != 1)
        fail(EXIT_USAGE, "%s: --transpose: '%s' is %s", c->in.path, t->name, t->type.name);
    return t->n_dims == 2 && (is_asked ^ from_llmc ^ to_llmc);
}

// llm.c has an order of its own.
static size_t find_order(const convert *c, const char *name) {
    size_t array, layer;
    if (c->format != MODEL_LLMC) return 0;
    return llmc_place(name, &array, &layer) ? array << 32 | layer : SIZE_MAX;
}

static model_type new_type(const convert *c, const model_tensor *t) {
    return changes_type(c, t) ? c->to : t->type;
}

// GGUF pads.
static int compare_order(const void *left, const void *right) {
    const converted *a = left, *b = right;
    const int types = a->is_padded ? 0 : model_compare_types(&a->type, &b->type);
    if (a->order != b->order) return a->order < b->order ? -1 : 1;
    if (types) return types;
    return a->from < b->from ? -1 : a->from > b->from;
}

static void list_tensors(convert *c) {
    renames *r = renames_create(&c->rename);
    c->list = allocate(c->in.n, sizeof *c->list);
    for (size_t i = 0; i < c->in.n; i++) {
        const model_tensor *t = &c->in.tensors[i];
        if (name_is_any(t->name, &c->drop)) continue;
        converted *to = &c->list[c->n++];
        *to = (converted){.from = t, .type = new_type(c, t), .name = renames_apply(r, t->name)};
        to->is_padded = c->format == MODEL_GGUF;
        to->is_transposed = is_transposed(c, t, to->name);
        to->order = find_order(c, to->name);
        if (to->is_transposed) to->shape[0] = t->shape[1], to->shape[1] = t->shape[0];
    }
    qsort(c->list, c->n, sizeof *c->list, compare_order);
    renames_destroy(r);
}

// Of GGUF's blocks.
static void check_rows(const convert *c, const model_tensor *t) {
    const uint64_t row = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    if (t->type.block >= 32 && row % t->type.block != 0)
        fail(EXIT_USAGE, "%s: '%s' has rows of %llu, %s has blocks of %u (--keep)", c->out, t->name,
            (unsigned long long)row, t->type.name, t->type.block);
}

static void describe_tensors(convert *c) {
    c->tensors = allocate(c->n, sizeof *c->tensors);
    for (size_t i = 0; i < c->n; i++) {
        const converted *from = &c->list[i];
        model_tensor *t = &c->tensors[i];
        *t = *from->from;
        t->name = from->name;
        t->type = from->type;
        t->bytes = model_bytes_of(&t->type, t->n);
        if (from->is_transposed) t->shape = from->shape;
        check_rows(c, t);
        c->bytes += t->bytes;
        c->n_changed += strcmp(t->type.name, from->from->type.name) != 0;
        c->n_transposed += from->is_transposed;
    }
}

// Keys of the command line are cut out of copies.
static void list_metadata(convert *c, char **copies) {
    c->pairs = model_pairs(&c->in, c->metadata.n);
    for (size_t i = 0; i < c->metadata.n; i++) {
        const char *text = c->metadata.items[i], *equals = strchr(text, '=');
        if (!equals || equals == text) fail(EXIT_USAGE, "--metadata: '%s' is not KEY=VALUE", text);
        copies[i] = allocate(strlen(text) + 1, 1);
        memcpy(copies[i], text, (size_t)(equals - text));
        pairs_set(&c->pairs, copies[i], equals + 1);
    }
}

// ---- tensors as they lie ------------------------------------------------------------------------

// Infinities that were none. from and to are of the same n elements.
static void count_overflow(
    convert *c, const model_tensor *to, const float *from, const void *data, size_t n) {
    not_finite before = {0}, after = {0};
    if (to->type.dtype == MO_DTYPE_COUNT) return;
    elements_count(MO_DTYPE_F32, from, n, &before);
    elements_count(to->type.dtype, data, n, &after);
    c->n_overflowed += after.inf - before.inf + after.nan - before.nan;
}

static bool is_changed(const model_tensor *from, const model_tensor *to) {
    return strcmp(from->type.name, to->type.name) != 0;
}

// From numbers to raw.
static void encode(convert *c, const model_tensor *to, size_t n) {
    model_encode(&to->type, c->numbers, n, c->is_saturated, c->raw);
    count_overflow(c, to, c->numbers, c->raw, n);
}

static void copy_tensor(convert *c, const model_tensor *from, const model_tensor *to) {
    if (!is_changed(from, to)) {
        model_copy(&c->writer, &c->in, from, c->raw);
        return;
    }
    for (uint64_t at = 0; at < from->n; at += MODEL_PIECE) {
        const size_t n = model_piece(from->n, at);
        model_read_f32(&c->in, from, at, n, c->raw, c->numbers);
        encode(c, to, n);
        model_write(&c->writer, c->raw, n);
    }
}

// ---- transposed ---------------------------------------------------------------------------------

enum { BAND = 32 << 20, TILE = 32 };

#define TRANSPOSE(type)                                                                            \
    for (size_t r = row; r < row_end; r++)                                                         \
        for (size_t k = column; k < column_end; k++)                                               \
            ((type *)to)[k * rows + r] = ((const type *)from)[r * columns + k];                    \
    break

static void transpose_tile(const void *from, void *to, size_t rows, size_t columns, size_t row,
    size_t column, size_t size) {
    const size_t row_end = row + TILE < rows ? row + TILE : rows;
    const size_t column_end = column + TILE < columns ? column + TILE : columns;
    switch (size) {
    case 1: TRANSPOSE(uint8_t);
    case 2: TRANSPOSE(uint16_t);
    case 4: TRANSPOSE(uint32_t);
    default: TRANSPOSE(uint64_t);
    }
}
#undef TRANSPOSE

// from [rows][columns], to [columns][rows].
static void transpose(const void *from, void *to, size_t rows, size_t columns, size_t size) {
    for (size_t row = 0; row < rows; row += TILE)
        for (size_t column = 0; column < columns; column += TILE)
            transpose_tile(from, to, rows, columns, row, column, size);
}

// columns of the old matrix, from first on, side by side in the first half of band: in one read
// where they are whole rows.
static void read_columns(convert *c, const model_tensor *from, uint64_t first, uint64_t columns) {
    const size_t size = from->type.block_bytes;
    const bool is_whole = columns == from->shape[1];
    const uint64_t step = is_whole ? from->n : columns;
    for (uint64_t row = 0; row < (is_whole ? 1 : from->shape[0]); row++)
        model_read(&c->in, from, row * from->shape[1] + first, (size_t)step,
            c->band + row * columns * size);
}

// Elements that lie in memory, as the new type.
static void write_elements(convert *c, const model_tensor *from, const model_tensor *to,
    const unsigned char *data, uint64_t n) {
    const size_t size = from->type.block_bytes;
    for (uint64_t at = 0; at < n; at += MODEL_PIECE) {
        const size_t count = model_piece(n, at);
        memcpy(c->raw, data + at * size, count * size);
        if (is_changed(from, to)) {
            elements_to_f32(from->type.dtype, c->raw, count, c->numbers);
            encode(c, to, count);
        }
        model_write(&c->writer, c->raw, count);
    }
}

// One column after the other, where not even one fits into half of the band: each from a pass over
// all rows, which are few bytes each.
static void transpose_tall(convert *c, const model_tensor *from, const model_tensor *to) {
    const uint64_t rows = from->shape[0], columns = from->shape[1];
    const size_t size = from->type.block_bytes;
    uint64_t step = BAND / 2 / (columns * size);
    if (step == 0) step = 1;
    const size_t half = (size_t)(step * columns * size);
    c->band = allocate(2, half);
    for (uint64_t column = 0; column < columns; column++)
        for (uint64_t row = 0; row < rows; row += step) {
            const size_t n = rows - row < step ? (size_t)(rows - row) : (size_t)step;
            unsigned char *const to_write = c->band + half;
            model_read(&c->in, from, row * columns, n * (size_t)columns, c->band);
            for (size_t i = 0; i < n; i++)
                memcpy(to_write + i * size, c->band + (i * columns + column) * size, size);
            write_elements(c, from, to, to_write, n);
        }
    free(c->band);
}

// As many columns at a time as half of the band holds.
static void transpose_tensor(convert *c, const model_tensor *from, const model_tensor *to) {
    const uint64_t rows = from->shape[0], columns = from->shape[1];
    const size_t size = from->type.block_bytes;
    if (from->n == 0) return;
    uint64_t step = BAND / 2 / (rows * size);
    if (step == 0) {
        transpose_tall(c, from, to);
        return;
    }
    if (step > columns) step = columns;
    const size_t half = (size_t)(rows * step * size);
    c->band = allocate(2, half);
    for (uint64_t first = 0; first < columns; first += step) {
        const uint64_t count = columns - first < step ? columns - first : step;
        read_columns(c, from, first, count);
        transpose(c->band, c->band + half, (size_t)rows, (size_t)count, size);
        write_elements(c, from, to, c->band + half, rows * count);
    }
    free(c->band);
}

// ---- the command ------------------------------------------------------------------------------

static void print_answer(const convert *c) {
    if (c->json) {
        json_after("{\"in\":", c->in.path);
        json_after(",\"out\":", c->out);
        printf(",\"format\":\"%s\",\"tensors\":%zu,\"bytes_before\":%llu,\"bytes_after\":%llu,"
               "\"changed\":%llu,\"transposed\":%llu,\"overflowed\":%llu}\n",
            model_format_name(c->format), c->n, (unsigned long long)c->in.bytes,
            (unsigned long long)c->bytes, (unsigned long long)c->n_changed,
            (unsigned long long)c->n_transposed, (unsigned long long)c->n_overflowed);
        return;
    }
    print_name(stdout, c->out, 0);
    printf(": %s, %zu of %zu tensors, %s, was %s", model_format_name(c->format), c->n, c->in.n,
        text_bytes(c->bytes).text, text_bytes(c->in.bytes).text);
    printf("; %llu with another type, %llu transposed\n", (unsigned long long)c->n_changed,
        (unsigned long long)c->n_transposed);
    if (c->n_overflowed)
        printf("%llu numbers are too large for the new type: %s\n",
            (unsigned long long)c->n_overflowed, "infinity, or NaN where it has none (--saturate)");
}

static void write_tensors(convert *c) {
    char **copies = allocate(c->metadata.n, sizeof *copies);
    list_metadata(c, copies);
    c->raw = allocate(MODEL_PIECE, 8);
    c->numbers = allocate(MODEL_PIECE, sizeof *c->numbers);
    model_create(&c->writer, c->out, c->format, c->tensors, c->n, &c->pairs);
    for (size_t i = 0; i < c->n; i++) {
        if (c->list[i].is_transposed) transpose_tensor(c, c->list[i].from, &c->tensors[i]);
        else copy_tensor(c, c->list[i].from, &c->tensors[i]);
    }
    model_commit(&c->writer);
    for (size_t i = 0; i < c->metadata.n; i++) free(copies[i]);
    free(copies);
    free(c->raw);
    free(c->numbers);
    free(c->pairs.items);
}

static void close_all(convert *c) {
    word_list *const lists[] = {
        &c->only, &c->keep, &c->drop, &c->rename, &c->transpose, &c->metadata};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]->items);
    for (size_t i = 0; i < c->n; i++) free(c->list[i].name);
    free(c->list);
    free(c->tensors);
    model_close(&c->in);
}

static int run(const command *self, int argc, const char *const *argv) {
    convert c = {0};
    const char *files[2];
    const flag flags[] = {
        {"--dtype", FLAG_TEXT, &c.dtype},
        {"--only", FLAG_WORDS, &c.only},
        {"--keep", FLAG_WORDS, &c.keep},
        {"--drop", FLAG_WORDS, &c.drop},
        {"--rename", FLAG_WORDS, &c.rename},
        {"--transpose", FLAG_WORDS, &c.transpose},
        {"--metadata", FLAG_WORDS, &c.metadata},
        {"--saturate", FLAG_SWITCH, &c.is_saturated},
        {"--json", FLAG_SWITCH, &c.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    if (c.dtype) c.to = find_type(c.dtype);
    if (!c.dtype && (c.only.n || c.keep.n))
        fail(EXIT_USAGE, "%s goes with --dtype", c.only.n ? "--only" : "--keep");
    c.out = files[1];
    c.format = model_format_of(c.out);
    model_open(&c.in, files[0]);
    list_tensors(&c);
    describe_tensors(&c);
    write_tensors(&c);
    print_answer(&c);
    flush_stdout();
    close_all(&c);
    return 0;
}

const command convert_command = {
    "convert",
    "other types, names, shapes, formats: safetensors, GGUF, llm.c",
    "  memopt convert IN OUT [flags]\n"
    "\n"
    "  --dtype T            f32, f16, bf16, f8_e4m3, f8_e5m2 or f64 for all floating-point\n"
    "                       tensors, to nearest even; q8_0 or q4_0 of GGUF for all but vectors\n"
    "  --only PATTERN       change the type of these tensors only\n"
    "  --keep PATTERN       leave the type of these as it is\n"
    "  --saturate           what is too large becomes the largest number, not infinity\n"
    "  --drop PATTERN       leave these tensors out\n"
    "  --rename FROM=TO     names that begin with FROM begin with TO\n"
    "  --rename s/RE/TO/    an extended regular expression; & and \\1 in TO, g behind it for all\n"
    "                       places\n"
    "  --transpose PATTERN  turn these matrices: [2,3] becomes [3,2]\n"
    "  --metadata KEY=TEXT  add a line of metadata, or replace it; in GGUF KEY:u32=N, KEY:f32=X,\n"
    "                       KEY:bool=true and so on are numbers\n"
    "  --json               one object on standard output\n"
    "\n"
    "All but --dtype, --saturate and --json may be repeated. A PATTERN has to fit the whole old\n"
    "name, with * and ? as in a shell. Renames apply one after the other. OUT is written as a\n"
    "stream and appears whole or not at all; it may be IN. The tensors of a safetensors file are\n"
    "sorted by the size of their elements.\n"
    "\n"
    "IN is a safetensors file, a GGUF file or a checkpoint of llm.c; OUT is GGUF with the ending\n"
    ".gguf, a checkpoint of llm.c with .bin, else safetensors. GGUF's Q8_0 and Q4_0 are decoded\n"
    "with --dtype; its other blocks only go to GGUF again, as they are. Arrays among its metadata\n"
    "do not go to other formats. Names and shapes of llm.c are those of Hugging Face's GPT-2\n"
    "(wte.weight, h.0.attn.c_attn.weight), whose four matrices of a layer are turned on the way;\n"
    "the number of heads is the metadata n_head, else channels / 64.\n"
    "\n"
    "  memopt convert model.safetensors half.safetensors --dtype f16 --keep '*norm*'\n"
    "  memopt convert gpt2_124M.bin gpt2.safetensors\n"
    "  memopt convert model.safetensors model.gguf --dtype q8_0 --metadata "
    "general.architecture=x\n"
    "  memopt convert gpt2.safetensors gpt2.bin --dtype f32 --rename transformer.= --drop "
    "lm_head.*\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
