/* mo_file_log.h - what is wrong with a file, in the log; for the implementation only. */
#ifndef MEMOPT_FILE_LOG_H
#define MEMOPT_FILE_LOG_H

/* One line in the log: the path (NULL: data in memory), then what is wrong. Returns status; that of
 * the error with moi_file_fail_error. */
MOI_PRINTF(4)
static mo_status moi_file_fail(
    const mo_log *log, const char *path, mo_status status, const char *format, ...);
static mo_status moi_file_fail_error(const mo_log *log, const char *path, int error);

#endif
