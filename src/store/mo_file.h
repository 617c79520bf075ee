/* mo_file.h - files on POSIX systems and Windows, for the implementation only.
 *
 * Functions return 0, or an error: the system's own code, or one of those below. Interrupted calls
 * are repeated, short reads and writes continued. Paths are UTF-8 on Windows. */
#ifndef MEMOPT_FILE_H
#define MEMOPT_FILE_H

enum { MOI_FILE_NOT_REGULAR = -1, MOI_FILE_TOO_SHORT = -2, MOI_FILE_CHANGED = -3 };
enum { MOI_FILE_PATH_SIZE = 4096, MOI_FILE_TEMP_SIZE = 32, MOI_FILE_TEXT_SIZE = 160 };

/* Bytes of path up to and with its last slash. */
static size_t moi_file_folder(const char *path);

/* The error in words, into out [MOI_FILE_TEXT_SIZE] where it is not a static string. */
static const char *moi_file_text(int error, char *out);
static mo_status moi_file_status(int error);

/* Open a regular file to read; anything else is refused without waiting for it. */
static int moi_file_open(const char *path, intptr_t *file, uint64_t *size);
static int moi_file_close(intptr_t file);
static int moi_file_size(intptr_t file, uint64_t *size);

/* Read exactly size bytes at offset; MOI_FILE_TOO_SHORT at the end of the file. */
static int moi_file_read(intptr_t file, uint64_t offset, void *dst, size_t size);

/* The whole file as read-only memory; MOI_FILE_CHANGED when it no longer has that size. */
static int moi_file_map(intptr_t file, uint64_t size, const unsigned char **bytes);
static void moi_file_unmap(const unsigned char *bytes, uint64_t size);

/* Replace a file as a whole: find what path stands for (links followed; it need not exist), create
 * a file of a new name beside it, write, sync, close, rename.
 *
 * target  out  [MOI_FILE_PATH_SIZE]
 * mode    out  permissions for the new file: those of the file that it replaces, else 0666; the
 *              umask is applied to them either way
 * temp    out  [strlen(target) + MOI_FILE_TEMP_SIZE]
 * n       out  bytes written, also when the write fails
 *
 * Removing a file that is not there is no error. */
static int moi_file_target(const char *path, char *target, unsigned *mode);
static int moi_file_create(const char *target, unsigned mode, char *temp, intptr_t *file);
static int moi_file_write(intptr_t file, const void *data, size_t size, size_t *n);
static int moi_file_sync(intptr_t file);
static int moi_file_rename(const char *from, const char *to);
static int moi_file_remove(const char *path);

/* Bytes of path up to and with its last slash. */
static size_t moi_file_folder(const char *path);
/* A file that is written in place: open it to read and write, or make an empty one; or make one in
 * a folder that has no name, so that it is gone when it is closed, however the program ends. */
static int moi_file_open_update(const char *path, intptr_t *file, uint64_t *size);
static int moi_file_create_unnamed(const char *folder, intptr_t *file);

/* Where temporary files go by the environment. path [MOI_FILE_PATH_SIZE] */
static int moi_file_temp_folder(char *path);

/* Write exactly size bytes at offset. */
static int moi_file_write_at(intptr_t file, uint64_t offset, const void *src, size_t size);

/* Make the file size bytes long, new ones zero. reserve: take the space for them at once, where the
 * file system can, so that no later write finds it full. */
static int moi_file_resize(intptr_t file, uint64_t size);
static int moi_file_reserve(intptr_t file, uint64_t size);

/* Read and write past the system's cache, or not: offsets, sizes and addresses are multiples of
 * MOI_FILE_DIRECT_ALIGN then. Where the file system refuses this is an error at once, or in the
 * first read. */
enum { MOI_FILE_DIRECT_ALIGN = 4096 };
static int moi_file_direct(intptr_t file, int on);

/* Make the names in the folder of path durable. */
static int moi_file_sync_folder(const char *path);

/* The process in the name of a temporary file, and the length of the name that it stands for; 0
 * when it is not one of moi_file_create. This process; whether one of a number runs here. */
static unsigned long moi_file_temp_process(const char *name, size_t *length);

static unsigned long moi_file_process(void);
static int moi_file_process_runs(unsigned long process);

/* Whether path is a folder; when a file was last written, in seconds. */
static int moi_file_is_folder(const char *path);
static int moi_file_time(const char *path, uint64_t *time);

/* Call visit with each name in a folder, in any order, until it returns 0. */
static int moi_file_list(
    const char *folder, int (*visit)(void *context, const char *name), void *context);

#endif
