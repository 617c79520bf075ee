/* mo_output.c - see mo_output.h.
 *
 * The temporary file is not a luxury: who trains from a mapped file and saves to the same name
 * would otherwise read what is being written. */

static void moi_output_free(mo_output *out) {
    moi_free_array(&out->allocator, out->paths, out->paths_size, 1);
    memset(out, 0, sizeof *out);
}

static void moi_output_remove(const mo_output *out) {
    char text[MOI_FILE_TEXT_SIZE];
    int error = moi_file_remove(out->temp);
    if (error)
        moi_log(
            &out->log, MO_LOG_WARN, "%s: not removed: %s", out->temp, moi_file_text(error, text));
}

static void moi_output_discard(mo_output *out) {
    if (!out->temp) return;
    if (!out->sealed) moi_file_close(out->file);
    moi_output_remove(out);
    moi_output_free(out);
}

/* A file operation failed: leave no trace of the file. */
static mo_status moi_output_abandon(mo_output *out, int error) {
    mo_status status = moi_file_fail_error(&out->log, out->path, error);
    moi_output_discard(out);
    return status;
}

/* Keep the three names in one block and create the temporary file. */
static mo_status moi_output_create(mo_output *out, const char *path, uint64_t size) {
    char target[MOI_FILE_PATH_SIZE];
    unsigned mode = 0;
    int error = moi_file_target(path, target, &mode);
    if (error) return moi_file_fail_error(&out->log, path, error);
    size_t path_size = strlen(path) + 1, target_size = strlen(target) + 1;
    out->paths_size = path_size + 2 * target_size + MOI_FILE_TEMP_SIZE;
    out->paths = (char *)moi_alloc_array(&out->allocator, out->paths_size, 1);
    if (!out->paths)
        return moi_file_fail(&out->log, path, MO_E_NO_MEMORY, "out of memory for the path");
    char *temp = out->paths + path_size + target_size;
    out->path = (const char *)memcpy(out->paths, path, path_size);
    out->target = (const char *)memcpy(out->paths + path_size, target, target_size);
    out->size = size;
    out->written = 0;
    out->sealed = 0;
    error = moi_file_create(target, mode, temp, &out->file);
    if (error) {
        mo_status status = moi_file_fail_error(&out->log, path, error);
        moi_output_free(out);
        return status;
    }
    out->temp = temp;
    return MO_OK;
}

static mo_status moi_output_write(mo_output *out, const void *data, size_t size) {
    char text[MOI_FILE_TEXT_SIZE];
    size_t n = 0;
    int error = moi_file_write(out->file, data, size, &n);
    out->written += n;
    if (!error) return MO_OK;
    mo_status status = moi_file_fail(&out->log, out->path, moi_file_status(error),
        "%s (%llu of %llu bytes written)", moi_file_text(error, text),
        (unsigned long long)out->written, (unsigned long long)out->size);
    moi_output_discard(out);
    return status;
}

/* Sync and close before the rename: a name must never stand for data that is not on disk. */
static mo_status moi_output_seal(mo_output *out) {
    int error = moi_file_sync(out->file);
    int close_error = moi_file_close(out->file);
    out->sealed = 1;
    if (!error) error = close_error;
    return error ? moi_output_abandon(out, error) : MO_OK;
}

static mo_status moi_output_publish(mo_output *out, int folder) {
    char text[MOI_FILE_TEXT_SIZE];
    int error = moi_file_rename(out->temp, out->target);
    if (error) return moi_output_abandon(out, error);
    if (folder && (error = moi_file_sync_folder(out->target)) != 0)
        moi_log(&out->log, MO_LOG_WARN, "%s: written, but its folder cannot be synchronized: %s",
            out->path, moi_file_text(error, text));
    moi_output_free(out);
    return MO_OK;
}

static mo_status moi_output_commit(mo_output *out) {
    mo_status status = moi_output_seal(out);
    return status == MO_OK ? moi_output_publish(out, 1) : status;
}

/* ---- small pieces -------------------------------------------------------------------------- */

static void moi_sink_begin(moi_sink *sink, mo_output *out) {
    sink->out = out;
    sink->size = 0;
    sink->status = MO_OK;
    sink->n = 0;
}

static mo_status moi_sink_end(moi_sink *sink) {
    if (sink->status == MO_OK && sink->n > 0)
        sink->status = moi_output_write(sink->out, sink->buffer, sink->n);
    sink->n = 0;
    return sink->status;
}

static void moi_sink_put(moi_sink *sink, const void *data, size_t size) {
    const char *from = (const char *)data;
    sink->size += size;
    if (!sink->out) return;
    while (size > 0) {
        if (sink->n == sizeof sink->buffer) moi_sink_end(sink);
        size_t n = moi_min(size, sizeof sink->buffer - sink->n);
        memcpy(sink->buffer + sink->n, from, n);
        sink->n += n, from += n, size -= n;
    }
}

static void moi_sink_text(moi_sink *sink, const char *text) {
    moi_sink_put(sink, text, strlen(text));
}

static void moi_sink_json(moi_sink *sink, const char *text) {
    char escaped[6];
    moi_sink_put(sink, "\"", 1);
    for (; *text; text++) moi_sink_put(sink, escaped, moi_json_escape(*text, escaped));
    moi_sink_put(sink, "\"", 1);
}

static void moi_sink_u64(moi_sink *sink, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    moi_sink_put(sink, digits + at, sizeof digits - at);
}

static void moi_sink_fill(moi_sink *sink, char with, uint64_t n) {
    for (; n > 0; n--) moi_sink_put(sink, &with, 1);
}
