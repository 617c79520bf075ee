/* mo_safetensors_writer.c - see mo_safetensors_writer.h.
 *
 * The temporary file is not a luxury: who trains from a mapped file and saves to the same name
 * would otherwise read what is being written. */

/* ---- the header ---------------------------------------------------------------------------- */

/* Where the header's text goes: counted only while file is NULL, else written through a buffer. */
typedef struct moi_stw_sink {
    const intptr_t *file;
    uint64_t size, written;
    size_t n;
    int error;
    char buffer[4096];
} moi_stw_sink;

static void moi_stw_sink_begin(moi_stw_sink *sink, const intptr_t *file) {
    sink->file = file;
    sink->size = sink->written = 0;
    sink->n = 0;
    sink->error = 0;
}

static void moi_stw_flush(moi_stw_sink *sink) {
    size_t n = 0;
    if (!sink->error) sink->error = moi_file_write(*sink->file, sink->buffer, sink->n, &n);
    sink->written += n;
    sink->n = 0;
}

static void moi_stw_put(moi_stw_sink *sink, const char *text, size_t size) {
    sink->size += size;
    if (!sink->file) return;
    for (size_t i = 0; i < size; i++) {
        if (sink->n == sizeof sink->buffer) moi_stw_flush(sink);
        sink->buffer[sink->n++] = text[i];
    }
}

static void moi_stw_put_text(moi_stw_sink *sink, const char *text) {
    moi_stw_put(sink, text, strlen(text));
}

static void moi_stw_put_string(moi_stw_sink *sink, const char *text) {
    char escaped[6];
    moi_stw_put(sink, "\"", 1);
    for (; *text; text++) moi_stw_put(sink, escaped, moi_json_escape(*text, escaped));
    moi_stw_put(sink, "\"", 1);
}

static void moi_stw_put_u64(moi_stw_sink *sink, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    moi_stw_put(sink, digits + at, sizeof digits - at);
}

static void moi_stw_put_metadata(moi_stw_sink *sink, const mo_safetensors_writer_desc *desc) {
    moi_stw_put_string(sink, moi_st_metadata_name);
    for (size_t i = 0; i < desc->n_metadata; i++) {
        moi_stw_put_text(sink, i ? "," : ":{");
        moi_stw_put_string(sink, desc->metadata[i].key);
        moi_stw_put_text(sink, ":");
        moi_stw_put_string(sink, desc->metadata[i].value);
    }
    moi_stw_put_text(sink, "}");
}

static void moi_stw_put_entry(moi_stw_sink *sink, const mo_safetensors_entry *e, uint64_t *offset) {
    uint64_t bytes = 0;
    (void)moi_st_entry_bytes(e, &bytes); /* checked before */
    moi_stw_put_string(sink, e->name);
    moi_stw_put_text(sink, ":{\"dtype\":\"");
    moi_stw_put_text(sink, mo_dtype_name(e->dtype));
    moi_stw_put_text(sink, "\",\"shape\":[");
    for (size_t i = 0; i < e->n_dims; i++) {
        if (i > 0) moi_stw_put_text(sink, ",");
        moi_stw_put_u64(sink, e->shape[i]);
    }
    moi_stw_put_text(sink, "],\"data_offsets\":[");
    moi_stw_put_u64(sink, *offset);
    moi_stw_put_text(sink, ",");
    *offset += bytes;
    moi_stw_put_u64(sink, *offset);
    moi_stw_put_text(sink, "]}");
}

/* The JSON text, filled up with spaces so that the data begins on a multiple of 8. */
static void moi_stw_put_header(moi_stw_sink *sink, const mo_safetensors_entry *entries, size_t n,
    const mo_safetensors_writer_desc *desc) {
    uint64_t offset = 0;
    uint64_t begin = sink->size;
    moi_stw_put_text(sink, "{");
    if (desc->n_metadata > 0) moi_stw_put_metadata(sink, desc);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 || desc->n_metadata > 0) moi_stw_put_text(sink, ",");
        moi_stw_put_entry(sink, &entries[i], &offset);
    }
    moi_stw_put_text(sink, "}");
    while ((sink->size - begin) % 8 != 0) moi_stw_put_text(sink, " ");
}

/* ---- checks -------------------------------------------------------------------------------- */

static int moi_stw_is_text(const char *text) {
    size_t size = text ? strlen(text) : 0;
    return text && moi_utf8_prefix(text, size) == size;
}

static mo_status moi_stw_check_metadata(const char *path, const mo_safetensors_writer_desc *desc) {
    char text[MOI_ST_NAME_SIZE];
    size_t n = desc->n_metadata;
    for (size_t i = 0; i < n; i++)
        if (!moi_stw_is_text(desc->metadata[i].key) || !moi_stw_is_text(desc->metadata[i].value))
            return moi_st_fail(&desc->log, path, MO_E_INVALID,
                "__metadata__: pair %llu is not UTF-8 text", (unsigned long long)i);
    if (n < 2) return MO_OK;
    mo_safetensors_pair *by_key =
        (mo_safetensors_pair *)moi_alloc_array(&desc->allocator, n, sizeof *by_key);
    if (!by_key)
        return moi_st_fail(&desc->log, path, MO_E_NO_MEMORY, "out of memory for the metadata");
    memcpy(by_key, desc->metadata, n * sizeof *by_key);
    moi_st_sort(by_key, n, sizeof *by_key, moi_st_by_key);
    const char *twice = moi_st_key_twice(by_key, n);
    moi_free_array(&desc->allocator, by_key, n, sizeof *by_key);
    if (twice)
        return moi_st_fail(&desc->log, path, MO_E_INVALID, "__metadata__: key '%s' is there twice",
            moi_st_printable_name(twice, text));
    return MO_OK;
}

static mo_status moi_stw_check_entry(
    const mo_log *log, const char *path, const mo_safetensors_entry *e, uint64_t *total) {
    char name[MOI_ST_NAME_SIZE], shape[MOI_ST_SHAPE_SIZE];
    uint64_t bytes = 0;
    if (!moi_stw_is_text(e->name))
        return moi_st_fail(log, path, MO_E_INVALID, "a tensor's name is not UTF-8 text");
    moi_st_printable_name(e->name, name);
    if (strcmp(e->name, moi_st_metadata_name) == 0)
        return moi_st_fail(log, path, MO_E_INVALID, "tensor '%s': the name is reserved", name);
    if ((unsigned)e->dtype >= MO_DTYPE_COUNT || (!e->shape && e->n_dims > 0))
        return moi_st_fail(log, path, MO_E_INVALID, "tensor '%s': invalid dtype or no shape", name);
    const char *problem = moi_st_entry_bytes(e, &bytes);
    if (!problem && bytes > moi_st_size_limit - *total) problem = "takes the file over 2^48 - 1";
    if (problem)
        return moi_st_fail(log, path, MO_E_INVALID, "tensor '%s': shape %s of %s %s", name,
            moi_st_shape_text(e, shape), mo_dtype_name(e->dtype), problem);
    *total += bytes;
    return MO_OK;
}

static mo_status moi_stw_check_names(const char *path, const mo_safetensors_entry *entries,
    size_t n, const mo_safetensors_writer_desc *desc) {
    char name[MOI_ST_NAME_SIZE];
    if (n < 2) return MO_OK;
    const mo_safetensors_entry **by_name =
        (const mo_safetensors_entry **)moi_alloc_array(&desc->allocator, n, sizeof *by_name);
    if (!by_name)
        return moi_st_fail(&desc->log, path, MO_E_NO_MEMORY, "out of memory for the names");
    for (size_t i = 0; i < n; i++) by_name[i] = &entries[i];
    moi_st_sort(by_name, n, sizeof *by_name, moi_st_by_name);
    const char *twice = moi_st_name_twice(by_name, n);
    moi_free_array(&desc->allocator, (void *)by_name, n, sizeof *by_name);
    if (twice)
        return moi_st_fail(&desc->log, path, MO_E_INVALID, "tensor '%s' is there twice",
            moi_st_printable_name(twice, name));
    return MO_OK;
}

/* All that can be known before a file is touched; sets data_size and header_size. */
static mo_status moi_stw_check(mo_safetensors_writer *w, const char *path,
    const mo_safetensors_entry *entries, size_t n, const mo_safetensors_writer_desc *desc) {
    moi_stw_sink count;
    mo_status status = moi_stw_check_metadata(path, desc);
    for (size_t i = 0; status == MO_OK && i < n; i++)
        status = moi_stw_check_entry(&desc->log, path, &entries[i], &w->data_size);
    if (status == MO_OK) status = moi_stw_check_names(path, entries, n, desc);
    if (status != MO_OK) return status;
    moi_stw_sink_begin(&count, NULL);
    moi_stw_put_header(&count, entries, n, desc);
    if (count.size > MOI_ST_HEADER_LIMIT)
        return moi_st_fail(&desc->log, path, MO_E_INVALID,
            "header of %llu bytes is over the limit of %d", (unsigned long long)count.size,
            (int)MOI_ST_HEADER_LIMIT);
    w->header_size = count.size + 8;
    return MO_OK;
}

/* ---- the file ------------------------------------------------------------------------------ */

static void moi_stw_free(mo_safetensors_writer *w) {
    moi_free_array(&w->allocator, w->paths, w->paths_size, 1);
    memset(w, 0, sizeof *w);
}

static void moi_stw_remove(mo_safetensors_writer *w) {
    char text[MOI_FILE_TEXT_SIZE];
    int error = moi_file_remove(w->temp);
    if (error)
        moi_log(&w->log, MO_LOG_WARN, "%s: not removed: %s", w->temp, moi_file_text(error, text));
}

void mo_safetensors_discard(mo_safetensors_writer *w) {
    if (!w || !w->temp) return;
    moi_file_close(w->file);
    moi_stw_remove(w);
    moi_stw_free(w);
}

/* A file operation failed: say how far the file is, and leave no trace of it. */
static mo_status moi_stw_abandon(mo_safetensors_writer *w, int error, uint64_t written) {
    char text[MOI_FILE_TEXT_SIZE];
    mo_status status = moi_st_fail(&w->log, w->path, moi_file_status(error),
        "%s (%llu of %llu bytes written)", moi_file_text(error, text), (unsigned long long)written,
        (unsigned long long)(w->header_size + w->data_size));
    mo_safetensors_discard(w);
    return status;
}

/* Keep the three names in one block and create the temporary file. */
static mo_status moi_stw_open(mo_safetensors_writer *w, const char *path) {
    char target[MOI_FILE_PATH_SIZE];
    unsigned mode = 0;
    int error = moi_file_target(path, target, &mode);
    if (error) return moi_st_fail_file(&w->log, path, error);
    size_t path_size = strlen(path) + 1, target_size = strlen(target) + 1;
    w->paths_size = path_size + 2 * target_size + MOI_FILE_TEMP_SIZE;
    w->paths = (char *)moi_alloc_array(&w->allocator, w->paths_size, 1);
    if (!w->paths) return moi_st_fail(&w->log, path, MO_E_NO_MEMORY, "out of memory for the path");
    char *temp = w->paths + path_size + target_size;
    w->path = (const char *)memcpy(w->paths, path, path_size);
    w->target = (const char *)memcpy(w->paths + path_size, target, target_size);
    error = moi_file_create(target, mode, temp, &w->file);
    if (error) {
        mo_status status = moi_st_fail_file(&w->log, path, error);
        moi_stw_free(w);
        return status;
    }
    w->temp = temp;
    return MO_OK;
}

static mo_status moi_stw_write_header(mo_safetensors_writer *w, const mo_safetensors_entry *entries,
    size_t n, const mo_safetensors_writer_desc *desc) {
    moi_stw_sink sink;
    char length[8];
    for (int i = 0; i < 8; i++) length[i] = (char)((w->header_size - 8) >> 8 * i & 0xff);
    moi_stw_sink_begin(&sink, &w->file);
    moi_stw_put(&sink, length, sizeof length);
    moi_stw_put_header(&sink, entries, n, desc);
    moi_stw_flush(&sink);
    return sink.error ? moi_stw_abandon(w, sink.error, sink.written) : MO_OK;
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
    opening.allocator = desc->allocator;
    opening.log = desc->log;
    mo_status status = moi_stw_check(&opening, path, entries, n, desc);
    if (status == MO_OK) status = moi_stw_open(&opening, path);
    if (status == MO_OK) status = moi_stw_write_header(&opening, entries, n, desc);
    if (status == MO_OK) *w = opening;
    return status;
}

mo_status mo_safetensors_write(mo_safetensors_writer *w, const void *data, size_t size) {
    size_t written = 0;
    if (!w || (!data && size > 0)) return MO_E_INVALID;
    if (!w->temp) return MO_E_STATE;
    if (size > w->data_size - w->data_written) {
        mo_status status = moi_st_fail(&w->log, w->path, MO_E_INVALID,
            "%llu bytes more are over the tensors' %llu bytes (%llu written)",
            (unsigned long long)size, (unsigned long long)w->data_size,
            (unsigned long long)w->data_written);
        mo_safetensors_discard(w);
        return status;
    }
    int error = moi_file_write(w->file, data, size, &written);
    w->data_written += written;
    return error ? moi_stw_abandon(w, error, w->header_size + w->data_written) : MO_OK;
}

/* Sync and close before the rename: a name must never stand for data that is not on disk. */
static int moi_stw_finish(mo_safetensors_writer *w) {
    int error = moi_file_sync(w->file);
    int close_error = moi_file_close(w->file);
    if (!error) error = close_error;
    return error ? error : moi_file_rename(w->temp, w->target);
}

mo_status mo_safetensors_commit(mo_safetensors_writer *w) {
    char text[MOI_FILE_TEXT_SIZE];
    if (!w || !w->temp) return MO_E_STATE;
    if (w->data_written != w->data_size) {
        mo_status status = moi_st_fail(&w->log, w->path, MO_E_STATE,
            "%llu of the tensors' %llu bytes are missing",
            (unsigned long long)(w->data_size - w->data_written), (unsigned long long)w->data_size);
        mo_safetensors_discard(w);
        return status;
    }
    int error = moi_stw_finish(w);
    mo_status status = error ? moi_st_fail_file(&w->log, w->path, error) : MO_OK;
    if (error) moi_stw_remove(w);
    else if ((error = moi_file_sync_folder(w->target)) != 0)
        moi_log(&w->log, MO_LOG_WARN, "%s: written, but its folder cannot be synchronized: %s",
            w->path, moi_file_text(error, text));
    moi_stw_free(w);
    return status;
}
