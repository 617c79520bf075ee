/* mo_gguf.c - see mo_gguf.h.
 *
 * The length of a header is known only at its end, so it is parsed three times: in the file,
 * through a small window, to check it and to find its end; then in memory, to count; and again, to
 * fill arrays of exactly that size. Nothing is allocated for what the first pass rejects, and the
 * file may change between the passes. */

enum { MOI_GGUF_LABEL = 200, MOI_GGUF_WINDOW = 4096, MOI_GGUF_ALIGNMENT = 32 };
enum { MOI_GGUF_KEY_LIMIT = 65535, MOI_GGUF_NAME_LIMIT = 63, MOI_GGUF_LONG_NAME_LIMIT = 65536 };
enum { MOI_GGUF_STRING_LIMIT = 1 << 30, MOI_GGUF_ARRAY_LIMIT = 1 << 30 };
enum { MOI_GGUF_HEADER_LIMIT = 256 << 20, MOI_GGUF_ARRAY = 9, MOI_GGUF_READ = 16384 };
enum { MOI_GGUF_LEAST_PAIR = 14, MOI_GGUF_LEAST_ENTRY = 24 }; /* bytes that each takes at least */
static const char moi_gguf_alignment_key[] = "general.alignment";

/* ---- kinds ---------------------------------------------------------------------------------- */

const char *mo_gguf_kind_name(mo_gguf_kind kind) {
    static const char *const names[MO_GGUF_KIND_COUNT] = {
        "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "?", "u64", "i64", "f64"};
    return (unsigned)kind < MO_GGUF_KIND_COUNT ? names[kind] : "?";
}

size_t mo_gguf_kind_bytes(mo_gguf_kind kind) {
    static const unsigned char bytes[MO_GGUF_KIND_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return (unsigned)kind < MO_GGUF_KIND_COUNT ? bytes[kind] : 0;
}

/* ---- checks that reading and writing share -------------------------------------------------- */

/* Bytes of a tensor from its type and shape; returns NULL, or what is wrong with them. */
static const char *moi_gguf_entry_bytes(const mo_gguf_entry *e, uint64_t *bytes) {
    uint64_t n = 1;
    const size_t block = mo_gguf_type_block(e->type);
    if (block == 0) return "is of an unknown type";
    if (e->n_dims > MO_GGUF_DIMS) return "has more than 4 dimensions";
    for (size_t i = 0; i < e->n_dims; i++)
        if (!moi_st_multiply(n, e->shape[i], &n) || e->shape[i] > INT64_MAX || n > INT64_MAX)
            return "has too many elements";
    if ((e->n_dims > 0 ? e->shape[0] : 1) % block != 0) return "has rows that are no whole blocks";
    if (!moi_st_multiply(n / block, mo_gguf_type_bytes(e->type), bytes))
        return "has too many elements";
    return NULL;
}

/* "[3, 2] of Q8_0" */
static const char *moi_gguf_entry_text(const mo_gguf_entry *e, char out[MOI_GGUF_LABEL]) {
    size_t length = 1;
    out[0] = '[';
    for (size_t i = 0; i < e->n_dims && i < MO_GGUF_DIMS; i++)
        length += (size_t)snprintf(out + length, MOI_GGUF_LABEL - length, "%s%llu", i ? ", " : "",
            (unsigned long long)e->shape[i]);
    snprintf(out + length, MOI_GGUF_LABEL - length, "] of %s", mo_gguf_type_name(e->type));
    return out;
}

/* NULL, or what is wrong with the alignment. */
static const char *moi_gguf_alignment_problem(const mo_gguf_pair *pair) {
    if (pair->is_array || pair->kind != MO_GGUF_KIND_U32) return "is no u32";
    if (pair->u64 > UINT32_MAX || !moi_is_pow2((size_t)pair->u64)) return "is no power of two";
    return NULL;
}

static uint64_t moi_gguf_pad(uint64_t size, uint32_t alignment) { return (0 - size) % alignment; }

/* ---- the cursor ----------------------------------------------------------------------------- */

/* One pass over the header. While it counts, the arrays are NULL. */
typedef struct moi_gguf_parser {
    const mo_gguf *g; /* for messages, limits and the file */
    char *memory;     /* [size] the header; NULL: the file, through the window */
    uint64_t at, size;
    uint64_t window_off;
    size_t window_n;
    unsigned char window[MOI_GGUF_WINDOW];
    char label[MOI_GGUF_LABEL]; /* the key or name that is being read */
    mo_status status;           /* the failure, once it is said */
    /* what was found */
    uint32_t version, alignment;
    int big_endian;
    uint64_t n, n_metadata, n_strings;
    uint64_t data_off, data_end; /* data_end: relative, with padding */
    /* to fill */
    mo_gguf_entry *entries;
    mo_gguf_pair *metadata;
    mo_gguf_text *strings;
} moi_gguf_parser;

/* A string that lies at [at, at + size). */
typedef struct moi_gguf_span {
    uint64_t at;
    size_t size;
} moi_gguf_span;

MOI_PRINTF(2)
static int moi_gguf_reject(moi_gguf_parser *p, const char *format, ...) {
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->status = moi_file_fail(&p->g->log, p->g->input.path, MO_E_FORMAT, "%s", text);
    return 0;
}

static int moi_gguf_reject_short(moi_gguf_parser *p, const char *what) {
    if (!p->memory && p->size < p->g->input.size)
        return moi_gguf_reject(p, "header is over the limit of %llu bytes (%s%s%s)",
            (unsigned long long)p->size, what, *p->label ? " of " : "", p->label);
    return moi_gguf_reject(p, "byte %llu: the file ends inside %s%s%s", (unsigned long long)p->at,
        what, *p->label ? " of " : "", p->label);
}

/* The next n bytes, at most a window of them. */
static const unsigned char *moi_gguf_peek(moi_gguf_parser *p, size_t n, const char *what) {
    if (n > p->size - p->at) {
        moi_gguf_reject_short(p, what);
        return NULL;
    }
    if (p->memory) return (const unsigned char *)p->memory + p->at;
    if (p->at < p->window_off || p->at + n > p->window_off + p->window_n) {
        p->window_off = p->at;
        p->window_n = MOI_GGUF_WINDOW;
        if (p->window_n > p->size - p->at) p->window_n = (size_t)(p->size - p->at);
        p->status = moi_input_read(&p->g->input, &p->g->log, p->window_off, p->window, p->window_n);
        if (p->status != MO_OK) return NULL;
    }
    return p->window + (p->at - p->window_off);
}

static int moi_gguf_number(moi_gguf_parser *p, size_t bytes, const char *what, uint64_t *number) {
    uint64_t value = 0;
    const unsigned char *from = moi_gguf_peek(p, bytes, what);
    if (!from) return 0;
    for (size_t i = 0; i < bytes; i++) value = value << 8 | from[p->big_endian ? i : bytes - 1 - i];
    p->at += bytes;
    *number = value;
    return 1;
}

/* A length and that many bytes, which are skipped. */
static int moi_gguf_string_at(
    moi_gguf_parser *p, const char *what, uint64_t limit, moi_gguf_span *span) {
    uint64_t size = 0;
    if (!moi_gguf_number(p, 8, what, &size)) return 0;
    if (size > limit)
        return moi_gguf_reject(p, "byte %llu: %s of %llu bytes is over the limit of %llu",
            (unsigned long long)p->at, what, (unsigned long long)size, (unsigned long long)limit);
    if (size > p->size - p->at) return moi_gguf_reject_short(p, what);
    span->at = p->at;
    span->size = (size_t)size;
    p->at += size;
    return 1;
}

/* A string that is used as a C string: what can be said of it, and its beginning for messages. */
static int moi_gguf_name_at(
    moi_gguf_parser *p, const char *what, uint64_t limit, moi_gguf_span *span) {
    char text[MOI_GGUF_LABEL];
    p->label[0] = '\0';
    if (!moi_gguf_string_at(p, what, limit, span)) return 0;
    uint64_t end = p->at;
    p->at = span->at;
    const unsigned char *begin = moi_gguf_peek(p, moi_min(span->size, MOI_GGUF_LABEL), what);
    p->at = end;
    if (!begin) return 0;
    moi_printable((const char *)begin, moi_min(span->size, MOI_GGUF_LABEL), text, sizeof text);
    snprintf(p->label, sizeof p->label, "%s", text);
    if (!p->memory) return 1;
    const char *whole = p->memory + span->at;
    if (memchr(whole, 0, span->size))
        return moi_gguf_reject(p, "%s '%s' holds a NUL character", what, p->label);
    if (moi_utf8_prefix(whole, span->size) != span->size)
        return moi_gguf_reject(p, "%s '%s' is not UTF-8", what, p->label);
    return 1;
}

/* Turn a string into a C string: one byte down, where its length ended, so that a NUL fits. */
static const char *moi_gguf_terminate(const moi_gguf_parser *p, moi_gguf_span span) {
    char *text = p->memory + span.at - 1;
    memmove(text, text + 1, span.size);
    text[span.size] = '\0';
    return text;
}

/* ---- metadata ------------------------------------------------------------------------------- */

static int moi_gguf_parse_strings(moi_gguf_parser *p, mo_gguf_pair *pair) {
    moi_gguf_span span;
    mo_gguf_text *texts = p->strings ? p->strings + p->n_strings : NULL;
    for (size_t i = 0; i < pair->n; i++) {
        if (!moi_gguf_string_at(p, "a string", MOI_GGUF_STRING_LIMIT, &span)) return 0;
        if (!texts) continue;
        texts[i].text = moi_gguf_terminate(p, span);
        texts[i].size = span.size;
    }
    pair->strings = texts;
    p->n_strings += pair->n;
    return 1;
}

static int moi_gguf_parse_bools(moi_gguf_parser *p, uint64_t n) {
    while (n > 0) {
        size_t part = n < MOI_GGUF_WINDOW ? (size_t)n : (size_t)MOI_GGUF_WINDOW;
        const unsigned char *bytes = moi_gguf_peek(p, part, "a value");
        if (!bytes) return 0;
        for (size_t i = 0; i < part; i++)
            if (bytes[i] > 1)
                return moi_gguf_reject(p, "key '%s': a boolean is %d", p->label, bytes[i]);
        p->at += part, n -= part;
    }
    return 1;
}

/* Numbers of an array, moved down to where they are aligned: over the end of its length. */
static const void *moi_gguf_align(const moi_gguf_parser *p, uint64_t at, size_t n, size_t bytes) {
    char *data = p->memory + (at & ~(uint64_t)7);
    memmove(data, p->memory + at, n * bytes);
    if (p->big_endian != moi_host_is_big_endian()) moi_swap_bytes(data, n, bytes);
    return data;
}

static int moi_gguf_parse_numbers(moi_gguf_parser *p, mo_gguf_pair *pair) {
    const size_t bytes = mo_gguf_kind_bytes(pair->kind);
    const uint64_t begin = p->at, size = (uint64_t)pair->n * bytes;
    if (size > p->size - p->at) return moi_gguf_reject_short(p, "an array");
    if (pair->kind == MO_GGUF_KIND_BOOL && !moi_gguf_parse_bools(p, size)) return 0;
    p->at = begin + size;
    if (p->metadata) pair->data = moi_gguf_align(p, begin, pair->n, bytes);
    return 1;
}

static int moi_gguf_parse_number(moi_gguf_parser *p, mo_gguf_pair *pair) {
    const size_t bytes = mo_gguf_kind_bytes(pair->kind);
    uint64_t bits = 0;
    uint32_t bits32;
    if (!moi_gguf_number(p, bytes, "a value", &bits)) return 0;
    bits32 = (uint32_t)bits;
    switch (pair->kind) {
    case MO_GGUF_KIND_I8:
    case MO_GGUF_KIND_I16:
    case MO_GGUF_KIND_I32:
    case MO_GGUF_KIND_I64: { /* the sign bit has the weight -2^(8 bytes - 1) */
        const uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
        const uint64_t extended = (bits ^ sign) - sign;
        memcpy(&pair->i64, &extended, sizeof pair->i64);
        break;
    }
    case MO_GGUF_KIND_F32: pair->f64 = (double)moi_bits_float(bits32); break;
    case MO_GGUF_KIND_F64: memcpy(&pair->f64, &bits, sizeof pair->f64); break;
    default: pair->u64 = bits; break;
    }
    if (pair->kind == MO_GGUF_KIND_BOOL && bits > 1)
        return moi_gguf_reject(
            p, "key '%s': a boolean is %llu", p->label, (unsigned long long)bits);
    return 1;
}

static int moi_gguf_parse_kind(moi_gguf_parser *p, mo_gguf_pair *pair) {
    uint64_t kind = 0, n = 1;
    if (!moi_gguf_number(p, 4, "the kind", &kind)) return 0;
    if (kind == MOI_GGUF_ARRAY) {
        pair->is_array = 1;
        if (!moi_gguf_number(p, 4, "the kind", &kind)) return 0;
        if (!moi_gguf_number(p, 8, "the length", &n)) return 0;
        if (kind == MOI_GGUF_ARRAY)
            return moi_gguf_reject(p, "key '%s': arrays of arrays are not supported", p->label);
    }
    if (kind >= MO_GGUF_KIND_COUNT || kind == MOI_GGUF_ARRAY)
        return moi_gguf_reject(
            p, "key '%s' is of unknown kind %llu", p->label, (unsigned long long)kind);
    if (n > MOI_GGUF_ARRAY_LIMIT)
        return moi_gguf_reject(p, "key '%s': an array of %llu elements is over the limit of %d",
            p->label, (unsigned long long)n, (int)MOI_GGUF_ARRAY_LIMIT);
    pair->kind = (mo_gguf_kind)kind;
    pair->n = (size_t)n;
    return 1;
}

static int moi_gguf_parse_value(moi_gguf_parser *p, mo_gguf_pair *pair) {
    if (pair->kind == MO_GGUF_KIND_STRING) {
        if (pair->n > (p->size - p->at) / 8) return moi_gguf_reject_short(p, "an array");
        return moi_gguf_parse_strings(p, pair);
    }
    return pair->is_array ? moi_gguf_parse_numbers(p, pair) : moi_gguf_parse_number(p, pair);
}

static int moi_gguf_parse_pair(moi_gguf_parser *p, size_t i) {
    moi_gguf_span key;
    mo_gguf_pair pair;
    memset(&pair, 0, sizeof pair);
    if (!moi_gguf_name_at(p, "key", MOI_GGUF_KEY_LIMIT, &key)) return 0;
    if (key.size == 0) return moi_gguf_reject(p, "key %llu is empty", (unsigned long long)i);
    if (!moi_gguf_parse_kind(p, &pair) || !moi_gguf_parse_value(p, &pair)) return 0;
    if (strcmp(p->label, moi_gguf_alignment_key) == 0) {
        const char *problem = moi_gguf_alignment_problem(&pair);
        if (problem) return moi_gguf_reject(p, "key '%s' %s", p->label, problem);
        p->alignment = (uint32_t)pair.u64;
    }
    if (p->metadata) {
        pair.key = moi_gguf_terminate(p, key);
        p->metadata[i] = pair;
    }
    return 1;
}

/* ---- tensors -------------------------------------------------------------------------------- */

static int moi_gguf_parse_shape(moi_gguf_parser *p, mo_gguf_entry *e) {
    uint64_t n_dims = 0;
    if (!moi_gguf_number(p, 4, "the shape", &n_dims)) return 0;
    if (n_dims > MO_GGUF_DIMS)
        return moi_gguf_reject(p, "tensor '%s' has %llu dimensions, more than %d", p->label,
            (unsigned long long)n_dims, (int)MO_GGUF_DIMS);
    e->n_dims = (size_t)n_dims;
    for (size_t i = 0; i < MO_GGUF_DIMS; i++) {
        e->shape[i] = 1;
        if (i < e->n_dims && !moi_gguf_number(p, 8, "the shape", &e->shape[i])) return 0;
    }
    return 1;
}

/* Where the tensor lies: right behind the one before it. */
static int moi_gguf_place(moi_gguf_parser *p, mo_gguf_entry *e) {
    char text[MOI_GGUF_LABEL];
    uint64_t bytes = 0;
    const char *problem = moi_gguf_entry_bytes(e, &bytes);
    if (problem)
        return moi_gguf_reject(
            p, "tensor '%s': %s %s", p->label, moi_gguf_entry_text(e, text), problem);
    if (e->begin != p->data_end)
        return moi_gguf_reject(p, "tensor '%s': offset %llu, but %llu comes next", p->label,
            (unsigned long long)e->begin, (unsigned long long)p->data_end);
    if (e->begin > p->g->input.size || bytes > p->g->input.size - e->begin)
        return moi_gguf_reject(p, "tensor '%s': %s is past the end of the file", p->label,
            moi_gguf_entry_text(e, text));
    e->end = e->begin + bytes;
    p->data_end = e->end + moi_gguf_pad(e->end, p->alignment);
    return 1;
}

static int moi_gguf_parse_entry(moi_gguf_parser *p, size_t i, uint64_t *end) {
    moi_gguf_span name;
    mo_gguf_entry e;
    uint64_t type = 0;
    memset(&e, 0, sizeof e);
    if (!moi_gguf_name_at(p, "tensor", p->g->max_name_bytes, &name)) return 0;
    if (!moi_gguf_parse_shape(p, &e) || !moi_gguf_number(p, 4, "the type", &type)) return 0;
    if (!moi_gguf_number(p, 8, "the offset", &e.begin)) return 0;
    if (type >= MO_GGUF_TYPE_COUNT || mo_gguf_type_block((mo_gguf_type)type) == 0)
        return moi_gguf_reject(
            p, "tensor '%s' is of unknown type %llu", p->label, (unsigned long long)type);
    e.type = (mo_gguf_type)type;
    if (!moi_gguf_place(p, &e)) return 0;
    *end = e.end;
    if (p->entries) {
        e.name = moi_gguf_terminate(p, name);
        p->entries[i] = e;
    }
    return 1;
}

/* ---- the header ----------------------------------------------------------------------------- */

static int moi_gguf_parse_version(moi_gguf_parser *p) {
    uint64_t version = 0;
    const unsigned char *magic = moi_gguf_peek(p, 4, "the magic");
    if (!magic) return 0;
    if (memcmp(magic, "GGUF", 4) != 0) return moi_gguf_reject(p, "is no GGUF file");
    p->at += 4;
    if (!moi_gguf_number(p, 4, "the version", &version)) return 0;
    if ((version & 0xffff) == 0) { /* a small number, read from its wrong end */
        p->big_endian = 1;
        p->at -= 4;
        if (!moi_gguf_number(p, 4, "the version", &version)) return 0;
    }
    if (version != 2 && version != 3)
        return moi_gguf_reject(p, "version %llu, not 2 or 3", (unsigned long long)version);
    p->version = (uint32_t)version;
    return 1;
}

/* A count, which must at least fit into the rest of the file. */
static int moi_gguf_parse_count(
    moi_gguf_parser *p, const char *what, uint64_t least, uint64_t *count) {
    if (!moi_gguf_number(p, 8, what, count)) return 0;
    if (*count > (p->g->input.size - p->at) / least)
        return moi_gguf_reject(
            p, "%s %llu is more than the file can hold", what, (unsigned long long)*count);
    return 1;
}

static int moi_gguf_parse_data(moi_gguf_parser *p, uint64_t end) {
    const uint64_t size = p->g->input.size;
    p->data_off = p->at;
    if (p->n == 0) return 1;
    const uint64_t pad = moi_gguf_pad(p->at, p->alignment);
    if (pad > size - p->at || end > size - p->at - pad)
        return moi_gguf_reject(p,
            "tensor '%s' is past the end of the file: %llu bytes of data, %llu of the file follow",
            p->label, (unsigned long long)end,
            (unsigned long long)(pad > size - p->at ? 0 : size - p->at - pad));
    p->data_off += pad;
    return 1;
}

static int moi_gguf_parse(moi_gguf_parser *p) {
    uint64_t end = 0;
    if (!moi_gguf_parse_version(p)) return 0;
    if (!moi_gguf_parse_count(p, "the number of tensors", MOI_GGUF_LEAST_ENTRY, &p->n)) return 0;
    if (!moi_gguf_parse_count(p, "the number of keys", MOI_GGUF_LEAST_PAIR, &p->n_metadata))
        return 0;
    for (size_t i = 0; i < p->n_metadata; i++)
        if (!moi_gguf_parse_pair(p, i)) return 0;
    for (size_t i = 0; i < p->n; i++)
        if (!moi_gguf_parse_entry(p, i, &end)) return 0;
    return moi_gguf_parse_data(p, end);
}

static void moi_gguf_parser_begin(moi_gguf_parser *p, const mo_gguf *g) {
    memset(p, 0, sizeof *p);
    p->g = g;
    p->memory = g->header;
    p->alignment = MOI_GGUF_ALIGNMENT;
    p->size = g->header_size;
    if (g->header) return;
    p->size = g->input.size < g->max_header_bytes ? g->input.size : g->max_header_bytes;
}

/* ---- opening -------------------------------------------------------------------------------- */

static mo_status moi_gguf_no_memory(const mo_gguf *g) {
    return moi_file_fail(&g->log, g->input.path, MO_E_NO_MEMORY, "out of memory for the header");
}

/* First pass: check the header where it is, and read it. */
static mo_status moi_gguf_read_header(mo_gguf *g) {
    moi_gguf_parser p;
    moi_gguf_parser_begin(&p, g);
    if (!moi_gguf_parse(&p)) return p.status;
    g->header_size = (size_t)p.at;
    g->header = (char *)moi_alloc_array(&g->allocator, g->header_size, 1);
    if (!g->header) return moi_gguf_no_memory(g);
    return moi_input_read(&g->input, &g->log, 0, g->header, g->header_size);
}

/* Second pass: count, and check names. */
static mo_status moi_gguf_count(mo_gguf *g) {
    moi_gguf_parser p;
    moi_gguf_parser_begin(&p, g);
    if (!moi_gguf_parse(&p)) return p.status;
    g->n = (size_t)p.n;
    g->n_metadata = (size_t)p.n_metadata;
    g->n_strings = (size_t)p.n_strings;
    g->version = p.version;
    g->alignment = p.alignment;
    g->big_endian = p.big_endian;
    g->data_off = p.data_off;
    g->data_size = g->input.size - p.data_off;
    return MO_OK;
}

/* Third pass: fill the arrays. */
static mo_status moi_gguf_fill(mo_gguf *g) {
    moi_gguf_parser p;
    const mo_allocator *a = &g->allocator;
    moi_gguf_parser_begin(&p, g);
    g->entries = p.entries = (mo_gguf_entry *)moi_alloc_array(a, g->n, sizeof *p.entries);
    g->metadata = p.metadata =
        (mo_gguf_pair *)moi_alloc_array(a, g->n_metadata, sizeof *p.metadata);
    g->strings = p.strings = (mo_gguf_text *)moi_alloc_array(a, g->n_strings, sizeof *p.strings);
    if ((g->n && !p.entries) || (g->n_metadata && !p.metadata) || (g->n_strings && !p.strings))
        return moi_gguf_no_memory(g);
    int again = moi_gguf_parse(&p);
    MEMOPT_ASSERT(again);
    (void)again;
    return MO_OK;
}

/* Names to entries and keys to pairs, or what is wrong with them. */
static mo_status moi_gguf_index(mo_gguf *g) {
    char text[MOI_GGUF_LABEL];
    const char *twice = NULL, *what = "tensor";
    const mo_allocator *a = &g->allocator;
    mo_status status = moi_names_build(&g->names, a, g->entries, g->n, sizeof *g->entries, &twice);
    if (status == MO_OK) {
        what = "key";
        status =
            moi_names_build(&g->keys, a, g->metadata, g->n_metadata, sizeof *g->metadata, &twice);
    }
    if (status == MO_E_NO_MEMORY) return moi_gguf_no_memory(g);
    if (status == MO_E_FORMAT)
        return moi_file_fail(&g->log, g->input.path, status, "%s '%s' is there twice", what,
            moi_printable(twice, strlen(twice), text, sizeof text));
    return status;
}

static mo_status moi_gguf_load(mo_gguf *opening, mo_gguf *g) {
    mo_status status = moi_gguf_read_header(opening);
    if (status == MO_OK) status = moi_gguf_count(opening);
    if (status == MO_OK) status = moi_gguf_fill(opening);
    if (status == MO_OK) status = moi_gguf_index(opening);
    if (status == MO_OK) *g = *opening;
    else mo_gguf_close(opening);
    return status;
}

static void moi_gguf_begin_open(mo_gguf *g, const mo_gguf_desc *desc) {
    memset(g, 0, sizeof *g);
    g->max_header_bytes = MOI_GGUF_HEADER_LIMIT;
    g->max_name_bytes = MOI_GGUF_NAME_LIMIT;
    if (!desc) return;
    g->allocator = desc->allocator;
    g->log = desc->log;
    if (desc->max_header_bytes) g->max_header_bytes = desc->max_header_bytes;
    if (desc->long_names) g->max_name_bytes = MOI_GGUF_LONG_NAME_LIMIT;
}

mo_status mo_gguf_open(mo_gguf *g, const char *path, const mo_gguf_desc *desc) {
    mo_gguf opening;
    if (!g || !path) return MO_E_INVALID;
    moi_gguf_begin_open(&opening, desc);
    mo_status status = moi_input_open(&opening.input, path, &opening.allocator, &opening.log);
    return status == MO_OK ? moi_gguf_load(&opening, g) : status;
}

mo_status mo_gguf_open_memory(mo_gguf *g, const void *data, size_t size, const mo_gguf_desc *desc) {
    mo_gguf opening;
    if (!g || (!data && size > 0)) return MO_E_INVALID;
    moi_gguf_begin_open(&opening, desc);
    moi_input_open_memory(&opening.input, data, size);
    return moi_gguf_load(&opening, g);
}

void mo_gguf_close(mo_gguf *g) {
    if (!g) return;
    const mo_allocator *a = &g->allocator;
    moi_input_close(&g->input, a);
    moi_free_array(a, g->header, g->header_size, 1);
    moi_free_array(a, (void *)(uintptr_t)g->entries, g->n, sizeof *g->entries);
    moi_free_array(a, (void *)(uintptr_t)g->metadata, g->n_metadata, sizeof *g->metadata);
    moi_free_array(a, g->strings, g->n_strings, sizeof *g->strings);
    moi_names_free(&g->names, a);
    moi_names_free(&g->keys, a);
    memset(g, 0, sizeof *g);
}

/* ---- metadata by key ------------------------------------------------------------------------ */

const mo_gguf_entry *mo_gguf_find(const mo_gguf *g, const char *name) {
    if (!g || !name) return NULL;
    size_t i = moi_names_find(&g->names, name);
    return i < g->n ? &g->entries[i] : NULL;
}

const mo_gguf_pair *mo_gguf_find_key(const mo_gguf *g, const char *key) {
    if (!g || !key) return NULL;
    size_t i = moi_names_find(&g->keys, key);
    return i < g->n_metadata ? &g->metadata[i] : NULL;
}

const char *mo_gguf_string(const mo_gguf *g, const char *key) {
    const mo_gguf_pair *pair = mo_gguf_find_key(g, key);
    return pair && pair->kind == MO_GGUF_KIND_STRING && !pair->is_array ? pair->strings[0].text
                                                                        : NULL;
}

static mo_status moi_gguf_other_kind(const mo_gguf *g, const mo_gguf_pair *pair, const char *want) {
    char text[MOI_GGUF_LABEL];
    return moi_file_fail(&g->log, g->input.path, MO_E_FORMAT, "key '%s' is %s%s, not %s",
        moi_printable(pair->key, strlen(pair->key), text, sizeof text),
        pair->is_array      ? "an array of "
            : pair->i64 < 0 ? "a negative "
                            : "",
        mo_gguf_kind_name(pair->kind), want);
}

static int moi_gguf_is_signed(mo_gguf_kind kind) {
    return kind == MO_GGUF_KIND_I8 || kind == MO_GGUF_KIND_I16 || kind == MO_GGUF_KIND_I32 ||
        kind == MO_GGUF_KIND_I64;
}

static int moi_gguf_is_float(mo_gguf_kind kind) {
    return kind == MO_GGUF_KIND_F32 || kind == MO_GGUF_KIND_F64;
}

mo_status mo_gguf_u64(const mo_gguf *g, const char *key, uint64_t *value) {
    if (!g || !key || !value) return MO_E_INVALID;
    const mo_gguf_pair *pair = mo_gguf_find_key(g, key);
    if (!pair) return MO_E_NOT_FOUND;
    if (pair->is_array || pair->kind == MO_GGUF_KIND_STRING || moi_gguf_is_float(pair->kind) ||
        pair->i64 < 0)
        return moi_gguf_other_kind(g, pair, "an integer from 0 on");
    *value = moi_gguf_is_signed(pair->kind) ? (uint64_t)pair->i64 : pair->u64;
    return MO_OK;
}

mo_status mo_gguf_f64(const mo_gguf *g, const char *key, double *value) {
    if (!g || !key || !value) return MO_E_INVALID;
    const mo_gguf_pair *pair = mo_gguf_find_key(g, key);
    if (!pair) return MO_E_NOT_FOUND;
    if (pair->is_array || pair->kind == MO_GGUF_KIND_STRING)
        return moi_gguf_other_kind(g, pair, "a number");
    if (moi_gguf_is_float(pair->kind)) *value = pair->f64;
    else *value = moi_gguf_is_signed(pair->kind) ? (double)pair->i64 : (double)pair->u64;
    return MO_OK;
}

/* ---- data ----------------------------------------------------------------------------------- */

uint64_t mo_gguf_elements(const mo_gguf_entry *entry) {
    uint64_t n = 1;
    for (size_t i = 0; entry && i < entry->n_dims && i < MO_GGUF_DIMS; i++) n *= entry->shape[i];
    return entry ? n : 0;
}

static int moi_gguf_has(
    const mo_gguf *g, const mo_gguf_entry *entry, uint64_t offset, size_t size) {
    if (!g || !entry || entry->begin > entry->end || entry->end > g->data_size) return 0;
    uint64_t bytes = entry->end - entry->begin;
    return offset <= bytes && size <= bytes - offset;
}

const void *mo_gguf_data(mo_gguf *g, const mo_gguf_entry *entry) {
    if (!moi_gguf_has(g, entry, 0, 0)) return NULL;
    const unsigned char *bytes = moi_input_map(&g->input, &g->log);
    return bytes ? bytes + (size_t)(g->data_off + entry->begin) : NULL;
}

mo_status mo_gguf_read(
    const mo_gguf *g, const mo_gguf_entry *entry, uint64_t offset, void *dst, size_t size) {
    if (!moi_gguf_has(g, entry, offset, size) || (!dst && size > 0)) return MO_E_INVALID;
    return moi_input_read(&g->input, &g->log, g->data_off + entry->begin + offset, dst, size);
}

mo_status mo_gguf_view(const mo_gguf *g, const mo_gguf_entry *entry, uint64_t offset, void *buffer,
    size_t size, const void **view) {
    if (!moi_gguf_has(g, entry, offset, size) || !view) return MO_E_INVALID;
    if (g->input.path && !buffer && size > 0) return MO_E_INVALID;
    return moi_input_view(
        &g->input, &g->log, g->data_off + entry->begin + offset, buffer, size, view);
}

mo_status mo_gguf_read_f32(
    const mo_gguf *g, const mo_gguf_entry *entry, uint64_t first, size_t n, float *dst) {
    unsigned char buffer[MOI_GGUF_READ];
    mo_gguf_code code;
    const void *view = NULL;
    if (!g || !entry || (!dst && n > 0)) return MO_E_INVALID;
    memset(&code, 0, sizeof code);
    code.type = entry->type;
    code.big_endian = g->big_endian;
    mo_status status = moi_gguf_check_code(&code, buffer, n, buffer);
    if (status != MO_OK) return status;
    const size_t block = mo_gguf_type_block(code.type), bytes = mo_gguf_type_bytes(code.type);
    const uint64_t elements = mo_gguf_elements(entry);
    if (first > elements || n > elements - first || first % block != 0) return MO_E_INVALID;
    for (size_t done = 0; status == MO_OK && done < n;) {
        const size_t part = moi_min(n - done, sizeof buffer / bytes * block);
        status = mo_gguf_view(
            g, entry, (first + done) / block * bytes, buffer, part / block * bytes, &view);
        if (status == MO_OK) status = mo_gguf_decode(&code, view, part, dst + done);
        done += part;
    }
    return status;
}
