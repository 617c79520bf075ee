/* mo_file_log.c - see mo_file_log.h. */

MOI_PRINTF(4)
static mo_status moi_file_fail(
    const mo_log *log, const char *path, mo_status status, const char *format, ...) {
    char text[640], file[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!path) path = "data in memory";
    moi_printable(path, strlen(path), file, sizeof file);
    moi_log(log, MO_LOG_ERROR, "%s: %s", file, text);
    return status;
}

static mo_status moi_file_fail_error(const mo_log *log, const char *path, int error) {
    char text[MOI_FILE_TEXT_SIZE];
    return moi_file_fail(log, path, moi_file_status(error), "%s", moi_file_text(error, text));
}
