/* mo_safetensors.c - see mo_safetensors.h.
 *
 * The header is parsed twice: once to check it and to count, once to fill arrays of exactly that
 * size. So nothing is allocated because a header claims something, and strings can be decoded in
 * place, since no decoded string is longer than its text. */

enum { MOI_ST_HEADER_LIMIT = 100000000, MOI_ST_NAME_SIZE = 200, MOI_ST_SHAPE_SIZE = 200 };
static const uint64_t moi_st_size_limit = ((uint64_t)1 << 48) - 1;
static const char moi_st_metadata_name[] = "__metadata__";

/* ---- messages ------------------------------------------------------------------------------ */

static const char *moi_st_printable_name(const char *name, char out[MOI_ST_NAME_SIZE]) {
    return moi_printable(name, strlen(name), out, MOI_ST_NAME_SIZE);
}

/* "[2, 3]", cut with "..." when it is long. */
static const char *moi_st_shape_text(const mo_safetensors_entry *e, char out[MOI_ST_SHAPE_SIZE]) {
    size_t length = 1;
    out[0] = '[';
    for (size_t i = 0; i < e->n_dims; i++) {
        size_t room = MOI_ST_SHAPE_SIZE - length;
        if (room < 32) {
            snprintf(out + length, room, ", ...]");
            return out;
        }
        length += (size_t)snprintf(
            out + length, room, "%s%llu", i ? ", " : "", (unsigned long long)e->shape[i]);
    }
    snprintf(out + length, MOI_ST_SHAPE_SIZE - length, "]");
    return out;
}

/* ---- checks that reading and writing share ------------------------------------------------- */

static int moi_st_multiply(uint64_t a, uint64_t b, uint64_t *out) {
    if (a != 0 && b > UINT64_MAX / a) return 0;
    *out = a * b;
    return 1;
}

/* Bytes of a tensor from its dtype and shape; returns NULL, or what is wrong with them. */
static const char *moi_st_entry_bytes(const mo_safetensors_entry *e, uint64_t *bytes) {
    uint64_t n = 1;
    for (size_t i = 0; i < e->n_dims; i++) {
        if (e->shape[i] > moi_st_size_limit) return "has a dimension over 2^48 - 1";
        if (!moi_st_multiply(n, e->shape[i], &n)) return "has too many elements";
    }
    if (!moi_st_multiply(n, mo_dtype_bits(e->dtype), &n)) return "has too many elements";
    if (n % 8 != 0) return "does not fill whole bytes";
    *bytes = n / 8;
    return NULL;
}

/* ---- the header's text --------------------------------------------------------------------- */

/* One pass over the header. While it counts, the arrays are NULL; everything that can be said
 * against the text is said then. */
typedef struct moi_st_parser {
    moi_json json;
    const mo_safetensors *st; /* for messages */
    mo_safetensors_entry *entries;
    mo_safetensors_pair *metadata;
    uint64_t *dims;
    size_t n, n_metadata, n_dims, n_metadata_objects;
    uint64_t bytes; /* of the tensors so far */
    int fill;
} moi_st_parser;

/* A message about a string of the header, which stands in it with its escapes. Returns 0. */
static int moi_st_reject(
    const moi_st_parser *p, const char *before, moi_json_text string, const char *after) {
    char text[MOI_ST_NAME_SIZE];
    moi_printable(string.begin, string.size, text, sizeof text);
    (void)moi_file_fail(
        &p->st->log, p->st->input.path, MO_E_FORMAT, "%s '%s'%s", before, text, after);
    return 0;
}

static int moi_st_reject_field(
    const moi_st_parser *p, moi_json_text tensor, const char *problem, moi_json_text field) {
    char text[96], value[48];
    moi_printable(field.begin, field.size, value, sizeof value);
    snprintf(text, sizeof text, ": %s '%s'", problem, value);
    return moi_st_reject(p, "tensor", tensor, text);
}

/* Turn a string into a C string where it stands: its closing quote becomes the NUL. */
static const char *moi_st_terminate(moi_json_text string) {
    char *text = (char *)(uintptr_t)string.begin; /* the header, which is ours to change */
    text[moi_json_decode(string, text)] = '\0';
    return text;
}

static int moi_st_parse_metadata(moi_st_parser *p) {
    moi_json *j = &p->json;
    moi_json_text key, value;
    if (p->n_metadata_objects++ > 0) return moi_json_fail(j, "__metadata__ is there twice");
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++) {
        if (!moi_json_key(j, &key) || !moi_json_string(j, &value)) return 0;
        if (p->fill) {
            p->metadata[i].key = moi_st_terminate(key);
            p->metadata[i].value = moi_st_terminate(value);
        }
        p->n_metadata++;
    }
    return j->error == NULL;
}

static int moi_st_parse_dtype(moi_st_parser *p, moi_json_text name, mo_safetensors_entry *e) {
    moi_json_text string;
    int dtype = 0;
    if (!moi_json_string(&p->json, &string)) return 0;
    while (dtype < MO_DTYPE_COUNT && !moi_json_is(string, mo_dtype_name((mo_dtype)dtype))) dtype++;
    if (dtype == MO_DTYPE_COUNT) return moi_st_reject_field(p, name, "unknown dtype", string);
    e->dtype = (mo_dtype)dtype;
    return 1;
}

static int moi_st_parse_shape(moi_st_parser *p, mo_safetensors_entry *e) {
    moi_json *j = &p->json;
    uint64_t dim;
    if (p->dims) e->shape = p->dims + p->n_dims; /* NULL: counting, or all are scalars */
    if (!moi_json_open(j, '[')) return 0;
    for (; moi_json_item(j, ']', e->n_dims); e->n_dims++) {
        if (!moi_json_u64(j, &dim)) return 0;
        if (p->fill) p->dims[p->n_dims] = dim;
        p->n_dims++;
    }
    return j->error == NULL;
}

static int moi_st_parse_offsets(moi_st_parser *p, mo_safetensors_entry *e) {
    moi_json *j = &p->json;
    uint64_t offsets[2] = {0, 0};
    size_t n = 0;
    if (!moi_json_open(j, '[')) return 0;
    for (; moi_json_item(j, ']', n); n++) {
        if (n == 2) return moi_json_fail(j, "data_offsets are two numbers");
        if (!moi_json_u64(j, &offsets[n])) return 0;
    }
    if (j->error) return 0;
    if (n != 2) return moi_json_fail(j, "data_offsets are two numbers");
    if (offsets[0] > moi_st_size_limit || offsets[1] > moi_st_size_limit)
        return moi_json_fail(j, "data_offsets are over 2^48 - 1");
    e->begin = offsets[0], e->end = offsets[1];
    return 1;
}

static const char *const moi_st_fields[3] = {"dtype", "shape", "data_offsets"};

static int moi_st_parse_field(
    moi_st_parser *p, moi_json_text name, mo_safetensors_entry *e, unsigned *seen) {
    moi_json_text key;
    unsigned field = 0;
    if (!moi_json_key(&p->json, &key)) return 0;
    while (field < 3 && !moi_json_is(key, moi_st_fields[field])) field++;
    if (field == 3) return moi_st_reject_field(p, name, "unknown field", key);
    if (*seen & 1u << field) return moi_st_reject_field(p, name, "a second field", key);
    *seen |= 1u << field;
    if (field == 0) return moi_st_parse_dtype(p, name, e);
    return field == 1 ? moi_st_parse_shape(p, e) : moi_st_parse_offsets(p, e);
}

/* Tensors do not overlap: many that claim the same bytes are refused before there is any memory for
 * them. What is wrong with one alone is said later, with its shape. */
static int moi_st_has_room(moi_st_parser *p, const mo_safetensors_entry *e) {
    if (e->end < e->begin || e->end > p->st->data_size) return 1;
    p->bytes += e->end - e->begin;
    return p->bytes <= p->st->data_size;
}

static int moi_st_parse_tensor(moi_st_parser *p, moi_json_text name) {
    moi_json *j = &p->json;
    mo_safetensors_entry e;
    unsigned seen = 0;
    memset(&e, 0, sizeof e);
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++)
        if (!moi_st_parse_field(p, name, &e, &seen)) return 0;
    if (j->error) return 0;
    if (!(seen & 1)) return moi_st_reject(p, "tensor", name, " has no dtype");
    if (!(seen & 2)) return moi_st_reject(p, "tensor", name, " has no shape");
    if (!(seen & 4)) return moi_st_reject(p, "tensor", name, " has no data_offsets");
    if (!moi_st_has_room(p, &e))
        return moi_st_reject(
            p, "tensor", name, ": with it, tensors take more bytes than there are");
    if (p->fill) {
        e.name = moi_st_terminate(name);
        p->entries[p->n] = e;
    }
    p->n++;
    return 1;
}

/* Returns 0 after a message about the text, or with json.error set. */
static int moi_st_parse_header(moi_st_parser *p) {
    moi_json *j = &p->json;
    moi_json_text name;
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++) {
        if (!moi_json_key(j, &name)) return 0;
        int ok = moi_json_is(name, moi_st_metadata_name) ? moi_st_parse_metadata(p)
                                                         : moi_st_parse_tensor(p, name);
        if (!ok) return 0;
    }
    return !j->error && moi_json_end(j);
}

static void moi_st_parser_begin(moi_st_parser *p, const mo_safetensors *st) {
    memset(p, 0, sizeof *p);
    p->st = st;
    p->json.text = st->header;
    p->json.size = (size_t)(st->data_off - 8);
}

/* ---- the header's sense -------------------------------------------------------------------- */

static mo_status moi_st_check_entry(
    const mo_safetensors *st, const mo_safetensors_entry *e, uint64_t previous_end) {
    char name[MOI_ST_NAME_SIZE], shape[MOI_ST_SHAPE_SIZE];
    unsigned long long begin = e->begin, end = e->end;
    uint64_t bytes = 0;
    const mo_log *log = &st->log;
    moi_st_printable_name(e->name, name);
    if (e->begin != previous_end || e->end < e->begin)
        return moi_file_fail(log, st->input.path, MO_E_FORMAT,
            "tensor '%s': data_offsets [%llu, %llu] are not in order after %llu (hole or overlap)",
            name, begin, end, (unsigned long long)previous_end);
    const char *problem = moi_st_entry_bytes(e, &bytes);
    if (problem)
        return moi_file_fail(log, st->input.path, MO_E_FORMAT, "tensor '%s': shape %s of %s %s",
            name, moi_st_shape_text(e, shape), mo_dtype_name(e->dtype), problem);
    if (e->end - e->begin != bytes)
        return moi_file_fail(log, st->input.path, MO_E_FORMAT,
            "tensor '%s': data_offsets [%llu, %llu] do not match shape %s of %s (%llu bytes)", name,
            begin, end, moi_st_shape_text(e, shape), mo_dtype_name(e->dtype),
            (unsigned long long)bytes);
    return MO_OK;
}

static mo_status moi_st_check_entries(const mo_safetensors *st) {
    uint64_t end = 0;
    for (size_t i = 0; i < st->n; i++) {
        mo_status status = moi_st_check_entry(st, &st->entries[i], end);
        if (status != MO_OK) return status;
        end = st->entries[i].end;
    }
    if (end != st->data_size)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "tensors take %llu bytes, but the file has %llu after its header",
            (unsigned long long)end, (unsigned long long)st->data_size);
    return MO_OK;
}

/* ---- opening ------------------------------------------------------------------------------- */

static mo_status moi_st_no_memory(const mo_safetensors *st) {
    return moi_file_fail(&st->log, st->input.path, MO_E_NO_MEMORY, "out of memory for the header");
}

/* The length in front and its checks. */
static mo_status moi_st_read_length(mo_safetensors *st) {
    unsigned char bytes[8];
    uint64_t length = 0, file_size = st->input.size;
    if (file_size < sizeof bytes)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "%llu bytes are too few for a safetensors file", (unsigned long long)file_size);
    mo_status status = moi_input_read(&st->input, &st->log, 0, bytes, sizeof bytes);
    if (status != MO_OK) return status;
    for (int i = 8; i-- > 0;) length = length << 8 | bytes[i];
    if (length > MOI_ST_HEADER_LIMIT)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "header of %llu bytes is over the limit of %d", (unsigned long long)length,
            (int)MOI_ST_HEADER_LIMIT);
    if (length > file_size - sizeof bytes)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "header of %llu bytes is past the end of the file (%llu bytes)",
            (unsigned long long)length, (unsigned long long)file_size);
    if (length == 0) return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT, "header is empty");
    st->data_off = sizeof bytes + length;
    st->data_size = file_size - st->data_off;
    return MO_OK;
}

static mo_status moi_st_read_header(mo_safetensors *st) {
    size_t size = (size_t)(st->data_off - 8);
    st->header = (char *)moi_alloc_array(&st->allocator, size, 1);
    if (!st->header) return moi_st_no_memory(st);
    mo_status status = moi_input_read(&st->input, &st->log, 8, st->header, size);
    if (status != MO_OK) return status;
    size_t valid = moi_utf8_prefix(st->header, size);
    if (valid < size)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "header is not UTF-8 at byte %llu", (unsigned long long)valid);
    return MO_OK;
}

/* First pass: check the text, set the counts. */
static mo_status moi_st_count(mo_safetensors *st) {
    moi_st_parser p;
    moi_st_parser_begin(&p, st);
    if (!moi_st_parse_header(&p)) {
        if (!p.json.error) return MO_E_FORMAT; /* said */
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT, "header, byte %llu: %s",
            (unsigned long long)p.json.at, p.json.error);
    }
    st->n = p.n;
    st->n_metadata = p.n_metadata;
    st->n_shape = p.n_dims;
    return MO_OK;
}

/* entries[i] = what was entries[items[i].i], following each cycle; items are used up. */
static void moi_st_permute(mo_safetensors_entry *entries, mo_names_item *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        mo_safetensors_entry first = entries[i];
        size_t to = i;
        for (size_t from; (from = items[to].i) != i; to = from) {
            entries[to] = entries[from];
            items[to].i = to;
        }
        entries[to] = first;
        items[to].i = to;
    }
}

/* Sort the entries by offset. Empty tensors share theirs with what follows them, so they come first
 * and keep the order of the header. */
static mo_status moi_st_order(const mo_safetensors *st, mo_safetensors_entry *entries) {
    const mo_allocator *a = &st->allocator;
    size_t n = st->n, i = 1;
    while (i < n && entries[i - 1].end <= entries[i].begin) i++;
    if (i >= n) return MO_OK; /* most are in order */
    mo_names_item *items = (mo_names_item *)moi_alloc_array(a, n, sizeof *items);
    mo_names_item *other = (mo_names_item *)moi_alloc_array(a, n, sizeof *other);
    mo_status status = items && other ? MO_OK : moi_st_no_memory(st);
    for (i = 0; status == MO_OK && i < n; i++) {
        items[i].key = entries[i].begin << 1 | (entries[i].end != entries[i].begin);
        items[i].i = i;
    }
    if (status == MO_OK) {
        moi_order(items, other, n, 49);
        moi_st_permute(entries, items, n);
    }
    moi_free_array(a, items, n, sizeof *items);
    moi_free_array(a, other, n, sizeof *other);
    return status;
}

/* Second pass: fill the arrays. */
static mo_status moi_st_fill(mo_safetensors *st) {
    moi_st_parser p;
    const mo_allocator *a = &st->allocator;
    moi_st_parser_begin(&p, st);
    p.fill = 1;
    st->entries = p.entries = (mo_safetensors_entry *)moi_alloc_array(a, st->n, sizeof *p.entries);
    st->metadata = p.metadata =
        (mo_safetensors_pair *)moi_alloc_array(a, st->n_metadata, sizeof *p.metadata);
    st->dims = p.dims = (uint64_t *)moi_alloc_array(a, st->n_shape, sizeof *p.dims);
    if ((st->n && !p.entries) || (st->n_metadata && !p.metadata) || (st->n_shape && !p.dims))
        return moi_st_no_memory(st);
    int again = moi_st_parse_header(&p);
    MEMOPT_ASSERT(again);
    (void)again;
    return moi_st_order(st, p.entries);
}

/* Names to entries and keys to pairs, or what is wrong with them. */
static mo_status moi_st_index(mo_safetensors *st) {
    char text[MOI_ST_NAME_SIZE];
    const char *twice = NULL, *what = "tensor";
    mo_status status = moi_names_build(
        &st->names, &st->allocator, st->entries, st->n, sizeof *st->entries, &twice);
    if (status == MO_OK) {
        what = "__metadata__: key";
        status = moi_names_build(
            &st->keys, &st->allocator, st->metadata, st->n_metadata, sizeof *st->metadata, &twice);
    }
    if (status == MO_E_NO_MEMORY) return moi_st_no_memory(st);
    if (status == MO_E_FORMAT)
        return moi_file_fail(&st->log, st->input.path, status, "%s '%s' is there twice", what,
            moi_st_printable_name(twice, text));
    return status;
}

static mo_status moi_st_load(mo_safetensors *st) {
    mo_status status = moi_st_read_length(st);
    if (status == MO_OK) status = moi_st_read_header(st);
    if (status == MO_OK) status = moi_st_count(st);
    if (status == MO_OK) status = moi_st_fill(st);
    if (status == MO_OK) status = moi_st_check_entries(st);
    if (status == MO_OK) status = moi_st_index(st);
    return status;
}

/* Load, then hand the object over or clean up. */
static mo_status moi_st_finish_open(mo_safetensors *opening, mo_safetensors *st) {
    mo_status status = moi_st_load(opening);
    if (status == MO_OK) *st = *opening;
    else mo_safetensors_close(opening);
    return status;
}

static void moi_st_begin_open(mo_safetensors *st, const mo_safetensors_desc *desc) {
    memset(st, 0, sizeof *st);
    if (!desc) return;
    st->allocator = desc->allocator;
    st->log = desc->log;
}

mo_status mo_safetensors_open(
    mo_safetensors *st, const char *path, const mo_safetensors_desc *desc) {
    mo_safetensors opening;
    if (!st || !path) return MO_E_INVALID;
    moi_st_begin_open(&opening, desc);
    mo_status status = moi_input_open(&opening.input, path, &opening.allocator, &opening.log);
    return status == MO_OK ? moi_st_finish_open(&opening, st) : status;
}

mo_status mo_safetensors_open_memory(
    mo_safetensors *st, const void *data, size_t size, const mo_safetensors_desc *desc) {
    mo_safetensors opening;
    if (!st || (!data && size > 0)) return MO_E_INVALID;
    moi_st_begin_open(&opening, desc);
    moi_input_open_memory(&opening.input, data, size);
    return moi_st_finish_open(&opening, st);
}

void mo_safetensors_close(mo_safetensors *st) {
    if (!st) return;
    const mo_allocator *a = &st->allocator;
    moi_input_close(&st->input, a);
    if (st->header) moi_free_array(a, st->header, (size_t)(st->data_off - 8), 1);
    moi_free_array(a, (void *)(uintptr_t)st->entries, st->n, sizeof *st->entries);
    moi_free_array(a, (void *)(uintptr_t)st->metadata, st->n_metadata, sizeof *st->metadata);
    moi_names_free(&st->names, a);
    moi_names_free(&st->keys, a);
    moi_free_array(a, st->dims, st->n_shape, sizeof *st->dims);
    memset(st, 0, sizeof *st);
}

/* ---- use ----------------------------------------------------------------------------------- */

const mo_safetensors_entry *mo_safetensors_find(const mo_safetensors *st, const char *name) {
    if (!st || !name) return NULL;
    size_t i = moi_names_find(&st->names, name);
    return i < st->n ? &st->entries[i] : NULL;
}

const char *mo_safetensors_metadata(const mo_safetensors *st, const char *key) {
    if (!st || !key) return NULL;
    size_t i = moi_names_find(&st->keys, key);
    return i < st->n_metadata ? st->metadata[i].value : NULL;
}

static int moi_st_is_inside(const mo_safetensors *st, const mo_safetensors_entry *entry) {
    return entry->begin <= entry->end && entry->end <= st->data_size;
}

const void *mo_safetensors_data(mo_safetensors *st, const mo_safetensors_entry *entry) {
    if (!st || !entry || !moi_st_is_inside(st, entry)) return NULL;
    const unsigned char *bytes = moi_input_map(&st->input, &st->log);
    return bytes ? bytes + (size_t)(st->data_off + entry->begin) : NULL;
}

static int moi_st_has(
    const mo_safetensors *st, const mo_safetensors_entry *entry, uint64_t offset, size_t size) {
    if (!st || !entry || !moi_st_is_inside(st, entry)) return 0;
    uint64_t bytes = entry->end - entry->begin;
    return offset <= bytes && size <= bytes - offset;
}

mo_status mo_safetensors_read(const mo_safetensors *st, const mo_safetensors_entry *entry,
    uint64_t offset, void *dst, size_t size) {
    if (!moi_st_has(st, entry, offset, size) || (!dst && size > 0)) return MO_E_INVALID;
    return moi_input_read(&st->input, &st->log, st->data_off + entry->begin + offset, dst, size);
}

mo_status mo_safetensors_view(const mo_safetensors *st, const mo_safetensors_entry *entry,
    uint64_t offset, void *buffer, size_t size, const void **view) {
    if (!moi_st_has(st, entry, offset, size) || !view) return MO_E_INVALID;
    if (st->input.path && !buffer && size > 0) return MO_E_INVALID;
    return moi_input_view(
        &st->input, &st->log, st->data_off + entry->begin + offset, buffer, size, view);
}
