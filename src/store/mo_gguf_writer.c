/* mo_gguf_writer.c - see mo_gguf_writer.h. */

/* ---- the header ---------------------------------------------------------------------------- */

/* What the header is made of, and where its bytes go. */
typedef struct moi_ggw_header {
    const mo_gguf_entry *entries;
    size_t n;
    const mo_gguf_writer_desc *desc;
    uint32_t alignment;
    moi_sink sink;
} moi_ggw_header;

static void moi_ggw_number(moi_ggw_header *h, uint64_t value, size_t bytes) {
    unsigned char out[8];
    for (size_t i = 0; i < bytes; i++)
        out[h->desc->big_endian ? bytes - 1 - i : i] = (unsigned char)(value >> 8 * i & 255);
    moi_sink_put(&h->sink, out, bytes);
}

static void moi_ggw_string(moi_ggw_header *h, const char *text, size_t size) {
    moi_ggw_number(h, size, 8);
    moi_sink_put(&h->sink, text, size);
}

static uint64_t moi_ggw_bits(const mo_gguf_pair *pair) {
    const float f32 = (float)pair->f64;
    uint64_t bits = pair->u64;
    if (pair->kind == MO_GGUF_KIND_F32) bits = moi_float_bits(f32);
    if (pair->kind == MO_GGUF_KIND_F64) memcpy(&bits, &pair->f64, sizeof bits);
    if (moi_gguf_is_signed(pair->kind)) memcpy(&bits, &pair->i64, sizeof bits);
    return bits;
}

/* The numbers of an array, from the byte order of this host to that of the file. */
static void moi_ggw_numbers(moi_ggw_header *h, const mo_gguf_pair *pair) {
    const size_t bytes = mo_gguf_kind_bytes(pair->kind);
    const int swap = (h->desc->big_endian != 0) != moi_host_is_big_endian();
    const char *data = (const char *)pair->data;
    if (!swap || bytes == 1) {
        if (pair->n > 0) moi_sink_put(&h->sink, data, pair->n * bytes);
        return;
    }
    for (size_t i = 0; i < pair->n; i++) {
        char number[8];
        memcpy(number, data + i * bytes, bytes);
        moi_swap_bytes(number, 1, bytes);
        moi_sink_put(&h->sink, number, bytes);
    }
}

static void moi_ggw_pair(moi_ggw_header *h, const mo_gguf_pair *pair) {
    moi_ggw_string(h, pair->key, strlen(pair->key));
    if (pair->is_array) moi_ggw_number(h, MOI_GGUF_ARRAY, 4);
    moi_ggw_number(h, (uint64_t)pair->kind, 4);
    if (pair->is_array) moi_ggw_number(h, pair->n, 8);
    if (pair->kind == MO_GGUF_KIND_STRING)
        for (size_t i = 0; i < (pair->is_array ? pair->n : 1); i++)
            moi_ggw_string(h, pair->strings[i].text, pair->strings[i].size);
    else if (pair->is_array) moi_ggw_numbers(h, pair);
    else moi_ggw_number(h, moi_ggw_bits(pair), mo_gguf_kind_bytes(pair->kind));
}

static void moi_ggw_entry(moi_ggw_header *h, const mo_gguf_entry *e, uint64_t *offset) {
    uint64_t bytes = 0;
    (void)moi_gguf_entry_bytes(e, &bytes); /* checked before */
    moi_ggw_string(h, e->name, strlen(e->name));
    moi_ggw_number(h, e->n_dims, 4);
    for (size_t i = 0; i < e->n_dims; i++) moi_ggw_number(h, e->shape[i], 8);
    moi_ggw_number(h, (uint64_t)e->type, 4);
    moi_ggw_number(h, *offset, 8);
    *offset += bytes + moi_gguf_pad(bytes, h->alignment);
}

static void moi_ggw_put(moi_ggw_header *h) {
    uint64_t offset = 0;
    moi_sink_text(&h->sink, "GGUF");
    moi_ggw_number(h, 3, 4);
    moi_ggw_number(h, h->n, 8);
    moi_ggw_number(h, h->desc->n_metadata, 8);
    for (size_t i = 0; i < h->desc->n_metadata; i++) moi_ggw_pair(h, &h->desc->metadata[i]);
    for (size_t i = 0; i < h->n; i++) moi_ggw_entry(h, &h->entries[i], &offset);
    if (h->n > 0) moi_sink_fill(&h->sink, '\0', moi_gguf_pad(h->sink.size, h->alignment));
}

/* ---- checks -------------------------------------------------------------------------------- */

/* A value of its kind; NULL, or what is wrong. */
static const char *moi_ggw_value_problem(const mo_gguf_pair *pair) {
    const size_t bytes = mo_gguf_kind_bytes(pair->kind), n = pair->is_array ? pair->n : 1;
    if (pair->kind == MO_GGUF_KIND_STRING) {
        if (!pair->strings && n > 0) return "has no strings";
        for (size_t i = 0; i < n; i++)
            if ((!pair->strings[i].text && pair->strings[i].size > 0) ||
                pair->strings[i].size > MOI_GGUF_STRING_LIMIT)
                return "has a string that is NULL or too long";
        return n > MOI_GGUF_ARRAY_LIMIT ? "has too many elements" : NULL;
    }
    if (bytes == 0) return "is of an unknown kind";
    if (n > MOI_GGUF_ARRAY_LIMIT) return "has too many elements";
    if (pair->is_array && !pair->data && n > 0) return "has no data";
    if (pair->kind == MO_GGUF_KIND_BOOL && pair->is_array)
        for (size_t i = 0; i < n; i++)
            if (((const unsigned char *)pair->data)[i] > 1) return "has a boolean over 1";
    if (pair->is_array || moi_gguf_is_float(pair->kind)) return NULL;
    if (!moi_gguf_is_signed(pair->kind)) {
        const unsigned bits = pair->kind == MO_GGUF_KIND_BOOL ? 1 : (unsigned)(8 * bytes);
        return bits < 64 && pair->u64 >> bits != 0 ? "has a value that its kind cannot hold" : NULL;
    }
    const int64_t most = INT64_MAX >> (64 - 8 * bytes);
    return pair->i64 > most || pair->i64 < -most - 1 ? "has a value that its kind cannot hold"
                                                     : NULL;
}

static mo_status moi_ggw_check_pair(
    const char *path, const mo_gguf_writer_desc *desc, size_t i, uint32_t *alignment) {
    char text[MOI_GGUF_LABEL];
    const mo_gguf_pair *pair = &desc->metadata[i];
    if (!moi_is_text(pair->key) || !*pair->key || strlen(pair->key) > MOI_GGUF_KEY_LIMIT)
        return moi_file_fail(&desc->log, path, MO_E_INVALID,
            "key %llu is empty, over %d bytes or not UTF-8 text", (unsigned long long)i,
            (int)MOI_GGUF_KEY_LIMIT);
    const char *problem = moi_ggw_value_problem(pair);
    if (!problem && strcmp(pair->key, moi_gguf_alignment_key) == 0) {
        problem = moi_gguf_alignment_problem(pair);
        if (!problem) *alignment = (uint32_t)pair->u64;
    }
    if (problem)
        return moi_file_fail(&desc->log, path, MO_E_INVALID, "key '%s' %s",
            moi_printable(pair->key, strlen(pair->key), text, sizeof text), problem);
    return MO_OK;
}

static mo_status moi_ggw_check_entry(
    mo_gguf_writer *w, const char *path, const mo_gguf_entry *e, int long_names, size_t i) {
    char name[MOI_GGUF_LABEL], shape[MOI_GGUF_LABEL];
    const mo_log *log = &w->output.log;
    const size_t limit = long_names ? MOI_GGUF_LONG_NAME_LIMIT : MOI_GGUF_NAME_LIMIT;
    uint64_t bytes = 0;
    if (!moi_is_text(e->name))
        return moi_file_fail(log, path, MO_E_INVALID, "a tensor's name is not UTF-8 text");
    moi_printable(e->name, strlen(e->name), name, sizeof name);
    if (strlen(e->name) > limit)
        return moi_file_fail(log, path, MO_E_INVALID, "tensor '%s': the name is over %llu bytes",
            name, (unsigned long long)limit);
    const char *problem = moi_gguf_entry_bytes(e, &bytes);
    if (!problem && bytes > moi_st_size_limit - w->data_size) problem = "takes the file over 2^48";
    if (problem)
        return moi_file_fail(log, path, MO_E_INVALID, "tensor '%s': %s %s", name,
            moi_gguf_entry_text(e, shape), problem);
    w->data_size += bytes;
    w->ends[i] = w->data_size;
    return MO_OK;
}

/* All that can be known before a file is touched; fills ends and sets data_size. */
static mo_status moi_ggw_check(mo_gguf_writer *w, const char *path, const moi_ggw_header *h) {
    const mo_gguf_writer_desc *desc = h->desc;
    const mo_allocator *a = &desc->allocator;
    mo_status status = MO_OK;
    for (size_t i = 0; status == MO_OK && i < desc->n_metadata; i++)
        status = moi_ggw_check_pair(path, desc, i, &w->alignment);
    for (size_t i = 0; status == MO_OK && i < h->n; i++)
        status = moi_ggw_check_entry(w, path, &h->entries[i], desc->long_names, i);
    if (status == MO_OK)
        status = moi_names_check(
            a, &desc->log, path, desc->metadata, desc->n_metadata, sizeof *desc->metadata, "key");
    if (status == MO_OK)
        status =
            moi_names_check(a, &desc->log, path, h->entries, h->n, sizeof *h->entries, "tensor");
    return status;
}

/* ---- the file ------------------------------------------------------------------------------ */

void mo_gguf_discard(mo_gguf_writer *w) {
    if (!w) return;
    if (w->ends) moi_free_array(&w->output.allocator, w->ends, w->n, sizeof *w->ends);
    moi_output_discard(&w->output);
    memset(w, 0, sizeof *w);
}

/* Free what is left, in success and failure. The output may be zeroed by then, and its allocator
 * with it. */
static mo_status moi_ggw_end(mo_gguf_writer *w, const mo_allocator *allocator, mo_status status) {
    moi_free_array(allocator, w->ends, w->n, sizeof *w->ends);
    w->ends = NULL;
    mo_gguf_discard(w);
    return status;
}

/* Count the header, create the file, write it. */
static mo_status moi_ggw_open(mo_gguf_writer *w, const char *path, moi_ggw_header *h) {
    uint64_t size = 0;
    h->alignment = w->alignment;
    moi_sink_begin(&h->sink, NULL);
    moi_ggw_put(h);
    if (h->sink.size > MOI_GGUF_HEADER_LIMIT)
        return moi_file_fail(&w->output.log, path, MO_E_INVALID,
            "header of %llu bytes is over the limit of %d", (unsigned long long)h->sink.size,
            (int)MOI_GGUF_HEADER_LIMIT);
    size = h->sink.size;
    for (size_t i = 0; i < w->n; i++) {
        const uint64_t bytes = w->ends[i] - (i ? w->ends[i - 1] : 0);
        size += bytes + moi_gguf_pad(bytes, w->alignment);
    }
    mo_status status = moi_output_create(&w->output, path, size);
    if (status != MO_OK) return status;
    moi_sink_begin(&h->sink, &w->output);
    moi_ggw_put(h);
    return moi_sink_end(&h->sink);
}

mo_status mo_gguf_create(mo_gguf_writer *w, const char *path, const mo_gguf_entry *entries,
    size_t n, const mo_gguf_writer_desc *desc) {
    mo_gguf_writer opening;
    mo_gguf_writer_desc none;
    moi_ggw_header header;
    memset(&opening, 0, sizeof opening);
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (!w || !path || (!entries && n > 0)) return MO_E_INVALID;
    if (!desc->metadata && desc->n_metadata > 0) return MO_E_INVALID;
    opening.output.allocator = desc->allocator;
    opening.output.log = desc->log;
    opening.n = n;
    opening.alignment = MOI_GGUF_ALIGNMENT;
    opening.ends = (uint64_t *)moi_alloc_array(&desc->allocator, n, sizeof *opening.ends);
    if (!opening.ends && n > 0)
        return moi_file_fail(&desc->log, path, MO_E_NO_MEMORY, "out of memory for the sizes");
    header.entries = entries;
    header.n = n;
    header.desc = desc;
    mo_status status = moi_ggw_check(&opening, path, &header);
    if (status == MO_OK) status = moi_ggw_open(&opening, path, &header);
    if (status != MO_OK) return moi_ggw_end(&opening, &desc->allocator, status);
    *w = opening;
    return MO_OK;
}

/* Behind a tensor: zeros up to where the next one begins. ggml wants them behind the last one. */
static mo_status moi_ggw_finish_tensor(mo_gguf_writer *w) {
    const uint64_t bytes = w->ends[w->at] - (w->at ? w->ends[w->at - 1] : 0);
    moi_sink sink;
    w->at++;
    moi_sink_begin(&sink, &w->output);
    moi_sink_fill(&sink, '\0', moi_gguf_pad(bytes, w->alignment));
    return moi_sink_end(&sink);
}

static mo_status moi_ggw_write_part(mo_gguf_writer *w, const char *data, size_t size) {
    mo_status status = moi_output_write(&w->output, data, size);
    w->data_written += size;
    if (status == MO_OK && w->data_written == w->ends[w->at]) status = moi_ggw_finish_tensor(w);
    return status;
}

mo_status mo_gguf_write(mo_gguf_writer *w, const void *data, size_t size) {
    const char *from = (const char *)data;
    if (!w || (!data && size > 0)) return MO_E_INVALID;
    if (!w->output.temp) return MO_E_STATE;
    const mo_allocator allocator = w->output.allocator;
    if (size > w->data_size - w->data_written)
        return moi_ggw_end(w, &allocator,
            moi_file_fail(&w->output.log, w->output.path, MO_E_INVALID,
                "%llu bytes more are over the tensors' %llu bytes (%llu written)",
                (unsigned long long)size, (unsigned long long)w->data_size,
                (unsigned long long)w->data_written));
    mo_status status = MO_OK;
    while (status == MO_OK && size > 0) {
        while (w->ends[w->at] == w->data_written) w->at++; /* empty ones */
        const uint64_t left = w->ends[w->at] - w->data_written;
        const size_t part = size < left ? size : (size_t)left;
        status = moi_ggw_write_part(w, from, part);
        from += part, size -= part;
    }
    return status == MO_OK ? status : moi_ggw_end(w, &allocator, status);
}

mo_status mo_gguf_commit(mo_gguf_writer *w) {
    if (!w || !w->output.temp) return MO_E_STATE;
    const mo_allocator allocator = w->output.allocator;
    if (w->data_written != w->data_size)
        return moi_ggw_end(w, &allocator,
            moi_file_fail(&w->output.log, w->output.path, MO_E_STATE,
                "%llu of the tensors' %llu bytes are missing",
                (unsigned long long)(w->data_size - w->data_written),
                (unsigned long long)w->data_size));
    return moi_ggw_end(w, &allocator, moi_output_commit(&w->output));
}
