/* mo_safetensors_writer.c - see mo_safetensors_writer.h. */

/* ---- the header ---------------------------------------------------------------------------- */

static void moi_stw_put_metadata(moi_sink *sink, const mo_safetensors_writer_desc *desc) {
    moi_sink_json(sink, moi_st_metadata_name);
    for (size_t i = 0; i < desc->n_metadata; i++) {
        moi_sink_text(sink, i ? "," : ":{");
        moi_sink_json(sink, desc->metadata[i].key);
        moi_sink_text(sink, ":");
        moi_sink_json(sink, desc->metadata[i].value);
    }
    moi_sink_text(sink, "}");
}

static void moi_stw_put_entry(moi_sink *sink, const mo_safetensors_entry *e, uint64_t *offset) {
    uint64_t bytes = 0;
    (void)moi_st_entry_bytes(e, &bytes); /* checked before */
    moi_sink_json(sink, e->name);
    moi_sink_text(sink, ":{\"dtype\":\"");
    moi_sink_text(sink, mo_dtype_name(e->dtype));
    moi_sink_text(sink, "\",\"shape\":[");
    for (size_t i = 0; i < e->n_dims; i++) {
        if (i > 0) moi_sink_text(sink, ",");
        moi_sink_u64(sink, e->shape[i]);
    }
    moi_sink_text(sink, "],\"data_offsets\":[");
    moi_sink_u64(sink, *offset);
    moi_sink_text(sink, ",");
    *offset += bytes;
    moi_sink_u64(sink, *offset);
    moi_sink_text(sink, "]}");
}

/* The JSON text, filled up with spaces so that the data begins on a multiple of 8. */
static void moi_stw_put_header(moi_sink *sink, const mo_safetensors_entry *entries, size_t n,
    const mo_safetensors_writer_desc *desc) {
    uint64_t offset = 0;
    uint64_t begin = sink->size;
    moi_sink_text(sink, "{");
    if (desc->n_metadata > 0) moi_stw_put_metadata(sink, desc);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 || desc->n_metadata > 0) moi_sink_text(sink, ",");
        moi_stw_put_entry(sink, &entries[i], &offset);
    }
    moi_sink_text(sink, "}");
    moi_sink_fill(sink, ' ', (0 - (sink->size - begin)) % 8);
}

/* ---- checks -------------------------------------------------------------------------------- */

static mo_status moi_stw_check_metadata(const char *path, const mo_safetensors_writer_desc *desc) {
    size_t n = desc->n_metadata;
    for (size_t i = 0; i < n; i++)
        if (!moi_is_text(desc->metadata[i].key) || !moi_is_text(desc->metadata[i].value))
            return moi_file_fail(&desc->log, path, MO_E_INVALID,
                "__metadata__: pair %llu is not UTF-8 text", (unsigned long long)i);
    return moi_names_check(&desc->allocator, &desc->log, path, desc->metadata, n,
        sizeof *desc->metadata, "__metadata__: key");
}

static mo_status moi_stw_check_entry(
    const mo_log *log, const char *path, const mo_safetensors_entry *e, uint64_t *total) {
    char name[MOI_ST_NAME_SIZE], shape[MOI_ST_SHAPE_SIZE];
    uint64_t bytes = 0;
    if (!moi_is_text(e->name))
        return moi_file_fail(log, path, MO_E_INVALID, "a tensor's name is not UTF-8 text");
    moi_st_printable_name(e->name, name);
    if (strcmp(e->name, moi_st_metadata_name) == 0)
        return moi_file_fail(log, path, MO_E_INVALID, "tensor '%s': the name is reserved", name);
    if ((unsigned)e->dtype >= MO_DTYPE_COUNT || (!e->shape && e->n_dims > 0))
        return moi_file_fail(
            log, path, MO_E_INVALID, "tensor '%s': invalid dtype or no shape", name);
    const char *problem = moi_st_entry_bytes(e, &bytes);
    if (!problem && bytes > moi_st_size_limit - *total) problem = "takes the file over 2^48 - 1";
    if (problem)
        return moi_file_fail(log, path, MO_E_INVALID, "tensor '%s': shape %s of %s %s", name,
            moi_st_shape_text(e, shape), mo_dtype_name(e->dtype), problem);
    *total += bytes;
    return MO_OK;
}

/* All that can be known before a file is touched; sets data_size and header_size. */
static mo_status moi_stw_check(mo_safetensors_writer *w, const char *path,
    const mo_safetensors_entry *entries, size_t n, const mo_safetensors_writer_desc *desc) {
    moi_sink count;
    mo_status status = moi_stw_check_metadata(path, desc);
    for (size_t i = 0; status == MO_OK && i < n; i++)
        status = moi_stw_check_entry(&desc->log, path, &entries[i], &w->data_size);
    if (status == MO_OK)
        status = moi_names_check(
            &desc->allocator, &desc->log, path, entries, n, sizeof *entries, "tensor");
    if (status != MO_OK) return status;
    moi_sink_begin(&count, NULL);
    moi_stw_put_header(&count, entries, n, desc);
    if (count.size > MOI_ST_HEADER_LIMIT)
        return moi_file_fail(&desc->log, path, MO_E_INVALID,
            "header of %llu bytes is over the limit of %d", (unsigned long long)count.size,
            (int)MOI_ST_HEADER_LIMIT);
    w->header_size = count.size + 8;
    return MO_OK;
}

/* ---- the file ------------------------------------------------------------------------------ */

void mo_safetensors_discard(mo_safetensors_writer *w) {
    if (!w) return;
    moi_output_discard(&w->output);
    memset(w, 0, sizeof *w);
}

/* The caller made a mistake: no trace of the file is left. */
static mo_status moi_stw_abandon(mo_safetensors_writer *w, mo_status status) {
    mo_safetensors_discard(w);
    return status;
}

static mo_status moi_stw_write_header(mo_safetensors_writer *w, const mo_safetensors_entry *entries,
    size_t n, const mo_safetensors_writer_desc *desc) {
    moi_sink sink;
    char length[8];
    for (int i = 0; i < 8; i++) length[i] = (char)((w->header_size - 8) >> 8 * i & 0xff);
    moi_sink_begin(&sink, &w->output);
    moi_sink_put(&sink, length, sizeof length);
    moi_stw_put_header(&sink, entries, n, desc);
    return moi_sink_end(&sink);
}

mo_status mo_safetensors_create(mo_safetensors_writer *w, const char *path,
    const mo_safetensors_entry *entries, size_t n, const mo_safetensors_writer_desc *desc) {
    mo_safetensors_writer opening;
    mo_safetensors_writer_desc none;
    memset(&opening, 0, sizeof opening);
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (!w || !path || (!entries && n > 0)) return MO_E_INVALID;
    if (!desc->metadata && desc->n_metadata > 0) return MO_E_INVALID;
    opening.output.allocator = desc->allocator;
    opening.output.log = desc->log;
    mo_status status = moi_stw_check(&opening, path, entries, n, desc);
    if (status == MO_OK)
        status = moi_output_create(&opening.output, path, opening.header_size + opening.data_size);
    if (status == MO_OK) status = moi_stw_write_header(&opening, entries, n, desc);
    if (status == MO_OK) *w = opening;
    return status;
}

mo_status mo_safetensors_write(mo_safetensors_writer *w, const void *data, size_t size) {
    if (!w || (!data && size > 0)) return MO_E_INVALID;
    mo_output *out = &w->output;
    if (!out->temp) return MO_E_STATE;
    if (size > w->data_size - w->data_written)
        return moi_stw_abandon(w,
            moi_file_fail(&out->log, out->path, MO_E_INVALID,
                "%llu bytes more are over the tensors' %llu bytes (%llu written)",
                (unsigned long long)size, (unsigned long long)w->data_size,
                (unsigned long long)w->data_written));
    w->data_written += size;
    mo_status status = moi_output_write(out, data, size);
    return status == MO_OK ? status : moi_stw_abandon(w, status);
}

static int moi_stw_half_format(mo_dtype dtype, mo_half_format *format) {
    switch (dtype) {
    case MO_DTYPE_F16: *format = MO_HALF_F16; return 1;
    case MO_DTYPE_BF16: *format = MO_HALF_BF16; return 1;
    case MO_DTYPE_F8_E4M3: *format = MO_HALF_F8_E4M3; return 1;
    case MO_DTYPE_F8_E5M2: *format = MO_HALF_F8_E5M2; return 1;
    default: return 0;
    }
}

mo_status mo_safetensors_write_f32(
    mo_safetensors_writer *w, mo_dtype dtype, const float *x, size_t n) {
    enum { PIECE = 4096 };
    uint16_t piece[PIECE];
    mo_half_desc desc;
    mo_status status = MO_OK;
    if (!w || (!x && n > 0)) return MO_E_INVALID;
    if (dtype == MO_DTYPE_F32) return mo_safetensors_write(w, x, n * sizeof *x);
    memset(&desc, 0, sizeof desc);
    if (!moi_stw_half_format(dtype, &desc.format)) return MO_E_UNSUPPORTED;
    for (size_t at = 0; at < n && status == MO_OK; at += PIECE) {
        const size_t size = moi_min(n - at, PIECE);
        status = mo_half_encode(&desc, x + at, size, piece);
        if (status == MO_OK)
            status = mo_safetensors_write(w, piece, size * mo_half_bytes(desc.format));
    }
    return status;
}

/* All bytes are there and on disk; what is left is the name. */
static mo_status moi_stw_seal(mo_safetensors_writer *w) {
    mo_output *out = &w->output;
    if (w->data_written == w->data_size) return moi_output_seal(out);
    return moi_stw_abandon(w,
        moi_file_fail(&out->log, out->path, MO_E_STATE,
            "%llu of the tensors' %llu bytes are missing",
            (unsigned long long)(w->data_size - w->data_written),
            (unsigned long long)w->data_size));
}

mo_status mo_safetensors_commit(mo_safetensors_writer *w) {
    if (!w || !w->output.temp) return MO_E_STATE;
    mo_status status = moi_stw_seal(w);
    if (status == MO_OK) status = moi_output_publish(&w->output, 1);
    memset(w, 0, sizeof *w);
    return status;
}
