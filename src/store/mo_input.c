/* mo_input.c - see mo_input.h. */

static mo_status moi_input_open(
    mo_input *in, const char *path, const mo_allocator *allocator, const mo_log *log) {
    size_t path_size = strlen(path) + 1;
    memset(in, 0, sizeof *in);
    int error = moi_file_open(path, &in->file, &in->size);
    if (error) return moi_file_fail_error(log, path, error);
    in->path = (char *)moi_alloc_array(allocator, path_size, 1);
    if (!in->path) {
        moi_file_close(in->file);
        return moi_file_fail(log, path, MO_E_NO_MEMORY, "out of memory for the path");
    }
    memcpy(in->path, path, path_size);
    return MO_OK;
}

static void moi_input_open_memory(mo_input *in, const void *data, size_t size) {
    memset(in, 0, sizeof *in);
    in->bytes = (const unsigned char *)data;
    in->size = size;
}

static void moi_input_close(mo_input *in, const mo_allocator *allocator) {
    if (!in->path) return;
    if (in->bytes) moi_file_unmap(in->bytes, in->size);
    moi_file_close(in->file);
    moi_free_array(allocator, in->path, strlen(in->path) + 1, 1);
    in->path = NULL;
}

static mo_status moi_input_read(
    const mo_input *in, const mo_log *log, uint64_t offset, void *dst, size_t size) {
    if (!in->path) {
        if (size > 0) memcpy(dst, in->bytes + offset, size);
        return MO_OK;
    }
    int error = moi_file_read(in->file, offset, dst, size);
    return error ? moi_file_fail_error(log, in->path, error) : MO_OK;
}

static mo_status moi_input_view(const mo_input *in, const mo_log *log, uint64_t offset,
    void *buffer, size_t size, const void **view) {
    mo_status status = MO_OK;
    const void *from = buffer;
    if (in->path) status = moi_input_read(in, log, offset, buffer, size);
    else if (in->bytes) from = in->bytes + offset;
    if (status == MO_OK) *view = from;
    return status;
}

static const unsigned char *moi_input_map(mo_input *in, const mo_log *log) {
    uint64_t now = 0;
    int error = 0;
    if (!in->path) return in->bytes;
    if (!in->bytes) error = moi_file_map(in->file, in->size, &in->bytes);
    else if ((error = moi_file_size(in->file, &now)) == 0 && now != in->size)
        error = MOI_FILE_CHANGED;
    if (error) (void)moi_file_fail_error(log, in->path, error);
    return error ? NULL : in->bytes;
}

enum { MOI_INPUT_TEXT_LIMIT = 1 << 24 };

static mo_status moi_input_text(
    const char *path, const mo_allocator *allocator, const mo_log *log, char **text, size_t *size) {
    mo_input in;
    mo_status status = moi_input_open(&in, path, allocator, log);
    if (status != MO_OK) return status;
    char *bytes = NULL;
    const uint64_t n = in.size;
    if (n == 0 || n > MOI_INPUT_TEXT_LIMIT)
        status = moi_file_fail(
            log, path, MO_E_FORMAT, "%llu bytes are no configuration", (unsigned long long)n);
    else if (!(bytes = (char *)moi_alloc_array(allocator, (size_t)n, 1)))
        status = moi_file_fail(log, path, MO_E_NO_MEMORY, "out of memory for its text");
    else status = moi_input_read(&in, log, 0, bytes, (size_t)n);
    moi_input_close(&in, allocator);
    if (status == MO_OK) {
        *text = bytes;
        *size = (size_t)n;
    } else moi_free_array(allocator, bytes, (size_t)n, 1);
    return status;
}
