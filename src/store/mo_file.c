/* mo_file.c - see mo_file.h. */

/* Room for one call: some systems refuse more than 2 GiB at once. */
enum { MOI_FILE_CHUNK = 1 << 30 };
#ifdef _WIN32
enum { MOI_FILE_BACKSLASH = 1 };
#else
enum { MOI_FILE_BACKSLASH = 0 };
#endif

/* A name for the temporary file: beside the target, so that the rename stays in one file system. */
static void moi_file_temp_name(const char *target, unsigned long process, int i, char *temp) {
    snprintf(temp, strlen(target) + MOI_FILE_TEMP_SIZE, "%s.tmp%lu-%d", target, process, i);
}

static unsigned long moi_file_temp_process(const char *name, size_t *length) {
    char again[MOI_FILE_TEMP_SIZE];
    unsigned long process = 0;
    int i = 0;
    const char *at = strstr(name, ".tmp");
    for (const char *next = at; next; next = strstr(next + 1, ".tmp")) at = next;
    if (!at || at == name || sscanf(at, ".tmp%lu-%d", &process, &i) != 2) return 0;
    snprintf(again, sizeof again, ".tmp%lu-%d", process, i);
    if (strcmp(at, again) != 0) return 0;
    *length = (size_t)(at - name);
    return process;
}

static size_t moi_file_folder(const char *path) {
    size_t length = strlen(path);
    while (
        length > 0 && path[length - 1] != '/' && (!MOI_FILE_BACKSLASH || path[length - 1] != '\\'))
        length--;
    return length;
}

static const char *moi_file_own_text(int error) {
    switch (error) {
    case MOI_FILE_NOT_REGULAR: return "Not a regular file";
    case MOI_FILE_TOO_SHORT: return "The file has become shorter since it was opened";
    case MOI_FILE_CHANGED: return "The file has changed its size since it was opened";
    default: return NULL;
    }
}

#ifdef _WIN32

/* Links are not followed when a file is replaced: Windows programs hardly use them. */

static int moi_file_error(void) {
    DWORD error = GetLastError();
    return error ? (int)error : (int)ERROR_GEN_FAILURE;
}

static const char *moi_file_text(int error, char *out) {
    const char *text = moi_file_own_text(error);
    if (text) return text;
    DWORD n = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL,
        (DWORD)error, 0, out, MOI_FILE_TEXT_SIZE, NULL);
    while (n > 0 && (out[n - 1] == '\r' || out[n - 1] == '\n' || out[n - 1] == '.')) n--;
    if (n == 0) return "Unknown error";
    out[n] = '\0';
    return out;
}

static mo_status moi_file_status(int error) {
    if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND) return MO_E_NOT_FOUND;
    if (error == ERROR_NOT_ENOUGH_MEMORY || error == ERROR_OUTOFMEMORY) return MO_E_NO_MEMORY;
    return MO_E_IO;
}

static int moi_file_wide(const char *path, wchar_t wide[MOI_FILE_PATH_SIZE]) {
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, MOI_FILE_PATH_SIZE)
        ? 0
        : moi_file_error();
}

static int moi_file_size(intptr_t file, uint64_t *size) {
    LARGE_INTEGER bytes;
    if (GetFileType((HANDLE)file) != FILE_TYPE_DISK) return MOI_FILE_NOT_REGULAR;
    if (!GetFileSizeEx((HANDLE)file, &bytes)) return moi_file_error();
    *size = (uint64_t)bytes.QuadPart;
    return 0;
}

static int moi_file_open(const char *path, intptr_t *file, uint64_t *size) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    int error = moi_file_wide(path, wide);
    if (error) return error;
    HANDLE handle =
        CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (handle == INVALID_HANDLE_VALUE) return moi_file_error();
    error = moi_file_size((intptr_t)handle, size);
    if (error) CloseHandle(handle);
    else *file = (intptr_t)handle;
    return error;
}

static int moi_file_close(intptr_t file) {
    return CloseHandle((HANDLE)file) ? 0 : moi_file_error();
}

static int moi_file_read(intptr_t file, uint64_t offset, void *dst, size_t size) {
    for (size_t done = 0; done < size;) {
        OVERLAPPED at;
        DWORD n = 0;
        uint64_t from = offset + done;
        memset(&at, 0, sizeof at);
        at.Offset = (DWORD)from;
        at.OffsetHigh = (DWORD)(from >> 32);
        if (!ReadFile((HANDLE)file, (char *)dst + done, (DWORD)moi_min(size - done, MOI_FILE_CHUNK),
                &n, &at))
            return GetLastError() == ERROR_HANDLE_EOF ? MOI_FILE_TOO_SHORT : moi_file_error();
        if (n == 0) return MOI_FILE_TOO_SHORT;
        done += n;
    }
    return 0;
}

static int moi_file_map(intptr_t file, uint64_t size, const unsigned char **bytes) {
    uint64_t now;
    int error = moi_file_size(file, &now);
    if (error) return error;
    if (now != size) return MOI_FILE_CHANGED;
    if (size > SIZE_MAX) return (int)ERROR_NOT_ENOUGH_MEMORY;
    HANDLE mapping = CreateFileMappingW((HANDLE)file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!mapping) return moi_file_error();
    const void *view = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    error = view ? 0 : moi_file_error();
    CloseHandle(mapping); /* the view keeps it alive */
    if (!error) *bytes = (const unsigned char *)view;
    return error;
}

static void moi_file_unmap(const unsigned char *bytes, uint64_t size) {
    (void)size;
    UnmapViewOfFile(bytes);
}

static int moi_file_target(const char *path, char *target, unsigned *mode) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    int error = moi_file_wide(path, wide);
    if (error) return error;
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES &&
        (attributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_DEVICE)))
        return MOI_FILE_NOT_REGULAR;
    if (strlen(path) >= MOI_FILE_PATH_SIZE) return (int)ERROR_FILENAME_EXCED_RANGE;
    strcpy(target, path);
    *mode = 0;
    return 0;
}

static unsigned long moi_file_process(void) { return GetCurrentProcessId(); }

static int moi_file_process_runs(unsigned long process) {
    DWORD code = 0;
    HANDLE handle = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)process);
    if (!handle) return GetLastError() != ERROR_INVALID_PARAMETER;
    const int runs = !GetExitCodeProcess(handle, &code) || code == STILL_ACTIVE;
    CloseHandle(handle);
    return runs;
}

static int moi_file_create(const char *target, unsigned mode, char *temp, intptr_t *file) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    int error = (int)ERROR_FILE_EXISTS;
    (void)mode;
    for (int i = 0; i < 1000 && error == (int)ERROR_FILE_EXISTS; i++) {
        moi_file_temp_name(target, moi_file_process(), i, temp);
        error = moi_file_wide(temp, wide);
        if (error) return error;
        HANDLE handle =
            CreateFileW(wide, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
        error = handle == INVALID_HANDLE_VALUE ? moi_file_error() : 0;
        if (!error) *file = (intptr_t)handle;
    }
    return error;
}

static int moi_file_write(intptr_t file, const void *data, size_t size, size_t *n) {
    for (*n = 0; *n < size;) {
        DWORD written = 0;
        if (!WriteFile((HANDLE)file, (const char *)data + *n,
                (DWORD)moi_min(size - *n, MOI_FILE_CHUNK), &written, NULL))
            return moi_file_error();
        if (written == 0) return (int)ERROR_DISK_FULL;
        *n += written;
    }
    return 0;
}

static int moi_file_sync(intptr_t file) {
    return FlushFileBuffers((HANDLE)file) ? 0 : moi_file_error();
}

static int moi_file_rename(const char *from, const char *to) {
    wchar_t wide_from[MOI_FILE_PATH_SIZE], wide_to[MOI_FILE_PATH_SIZE];
    int error = moi_file_wide(from, wide_from);
    if (!error) error = moi_file_wide(to, wide_to);
    if (error) return error;
    return MoveFileExW(wide_from, wide_to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)
        ? 0
        : moi_file_error();
}

static int moi_file_remove(const char *path) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    int error = moi_file_wide(path, wide);
    if (error || DeleteFileW(wide)) return error;
    return GetLastError() == ERROR_FILE_NOT_FOUND ? 0 : moi_file_error();
}

static int moi_file_open_update(const char *path, intptr_t *file, uint64_t *size) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    int error = moi_file_wide(path, wide);
    if (error) return error;
    HANDLE handle = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ, NULL,
        OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (handle == INVALID_HANDLE_VALUE) return moi_file_error();
    error = moi_file_size((intptr_t)handle, size);
    if (error) CloseHandle(handle);
    else *file = (intptr_t)handle;
    return error;
}

static int moi_file_temp_folder(char *path) {
    wchar_t wide[MAX_PATH + 1];
    if (GetTempPathW(MAX_PATH + 1, wide) == 0) return moi_file_error();
    return WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, MOI_FILE_PATH_SIZE, NULL, NULL)
        ? 0
        : moi_file_error();
}

static int moi_file_create_unnamed(const char *folder, intptr_t *file) {
    char base[MOI_FILE_PATH_SIZE], temp[MOI_FILE_PATH_SIZE + MOI_FILE_TEMP_SIZE];
    wchar_t wide[MOI_FILE_PATH_SIZE];
    int error = (int)ERROR_FILE_EXISTS;
    if (strlen(folder) + 8 > sizeof base) return (int)ERROR_FILENAME_EXCED_RANGE;
    snprintf(base, sizeof base, "%s/memopt", folder);
    for (int i = 0; i < 1000 && error == (int)ERROR_FILE_EXISTS; i++) {
        moi_file_temp_name(base, GetCurrentProcessId(), i, temp);
        error = moi_file_wide(temp, wide);
        if (error) return error;
        HANDLE handle = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, 0, NULL, CREATE_NEW,
            FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, NULL);
        error = handle == INVALID_HANDLE_VALUE ? moi_file_error() : 0;
        if (!error) *file = (intptr_t)handle;
    }
    return error;
}

static int moi_file_write_at(intptr_t file, uint64_t offset, const void *src, size_t size) {
    for (size_t done = 0; done < size;) {
        OVERLAPPED at;
        DWORD n = 0;
        const uint64_t to = offset + done;
        memset(&at, 0, sizeof at);
        at.Offset = (DWORD)to;
        at.OffsetHigh = (DWORD)(to >> 32);
        if (!WriteFile((HANDLE)file, (const char *)src + done,
                (DWORD)moi_min(size - done, MOI_FILE_CHUNK), &n, &at))
            return moi_file_error();
        if (n == 0) return (int)ERROR_DISK_FULL;
        done += n;
    }
    return 0;
}

/* The space is taken with the size. */
static int moi_file_resize(intptr_t file, uint64_t size) {
    LARGE_INTEGER at;
    at.QuadPart = (LONGLONG)size;
    if (!SetFilePointerEx((HANDLE)file, at, NULL, FILE_BEGIN) || !SetEndOfFile((HANDLE)file))
        return moi_file_error();
    return 0;
}
static int moi_file_reserve(intptr_t file, uint64_t size) { return moi_file_resize(file, size); }

/* Windows decides this when a file is opened. */
static int moi_file_direct(intptr_t file, int on) {
    (void)file;
    return on ? (int)ERROR_NOT_SUPPORTED : 0;
}

/* MOVEFILE_WRITE_THROUGH has done it. */
static int moi_file_sync_folder(const char *path) {
    (void)path;
    return 0;
}

static int moi_file_is_folder(const char *path) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    if (moi_file_wide(path, wide)) return 0;
    DWORD attributes = GetFileAttributesW(wide);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY);
}

static int moi_file_time(const char *path, uint64_t *time) {
    wchar_t wide[MOI_FILE_PATH_SIZE];
    WIN32_FILE_ATTRIBUTE_DATA info;
    int error = moi_file_wide(path, wide);
    if (error) return error;
    if (!GetFileAttributesExW(wide, GetFileExInfoStandard, &info)) return moi_file_error();
    const FILETIME at = info.ftLastWriteTime; /* in units of 100 ns */
    *time = ((uint64_t)at.dwHighDateTime << 32 | at.dwLowDateTime) / 10000000;
    return 0;
}

static int moi_file_list(
    const char *folder, int (*visit)(void *context, const char *name), void *context) {
    wchar_t wide[MOI_FILE_PATH_SIZE + 2];
    char name[4 * MAX_PATH];
    WIN32_FIND_DATAW found;
    int error = moi_file_wide(folder, wide), more = 1;
    if (error) return error;
    wcscat(wide, L"\\*");
    HANDLE handle = FindFirstFileW(wide, &found);
    if (handle == INVALID_HANDLE_VALUE) return moi_file_error();
    while (more) {
        if (WideCharToMultiByte(
                CP_UTF8, 0, found.cFileName, -1, name, (int)sizeof name, NULL, NULL) &&
            !visit(context, name))
            break;
        more = FindNextFileW(handle, &found);
    }
    if (!more && GetLastError() != ERROR_NO_MORE_FILES) error = moi_file_error();
    FindClose(handle);
    return error;
}

#else
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int moi_file_error(void) { return errno ? errno : EIO; }

/* strerror, not strerror_r, which exists in two incompatible forms: for the codes that the system
 * itself returns, the C libraries in use hand out constant strings. */
static const char *moi_file_text(int error, char *out) {
    const char *text = moi_file_own_text(error);
    (void)out;
    return text ? text : strerror(error);
}

static mo_status moi_file_status(int error) {
    return error == ENOENT ? MO_E_NOT_FOUND : error == ENOMEM ? MO_E_NO_MEMORY : MO_E_IO;
}

static int moi_file_open_as(const char *path, int flags, unsigned mode, intptr_t *file) {
    int fd;
    do fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return moi_file_error();
    *file = fd;
    return 0;
}

/* What close says about an interruption does not matter: the descriptor is gone. */
static int moi_file_close(intptr_t file) {
    return close((int)file) == 0 || errno == EINTR ? 0 : moi_file_error();
}

static int moi_file_size(intptr_t file, uint64_t *size) {
    struct stat info;
    if (fstat((int)file, &info) != 0) return moi_file_error();
    if (!S_ISREG(info.st_mode)) return MOI_FILE_NOT_REGULAR;
    *size = (uint64_t)info.st_size;
    return 0;
}

static int moi_file_open(const char *path, intptr_t *file, uint64_t *size) {
    intptr_t opened = -1; /* O_NONBLOCK: do not wait for the writer of a pipe */
    int error = moi_file_open_as(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &opened);
    if (error) return error;
    error = moi_file_size(opened, size);
    if (error) moi_file_close(opened);
    else *file = opened;
    return error;
}

static int moi_file_read(intptr_t file, uint64_t offset, void *dst, size_t size) {
    for (size_t done = 0; done < size;) {
        size_t chunk = moi_min(size - done, MOI_FILE_CHUNK);
        ssize_t n = pread((int)file, (char *)dst + done, chunk, (off_t)(offset + done));
        if (n == 0) return MOI_FILE_TOO_SHORT;
        if (n > 0) done += (size_t)n;
        else if (errno != EINTR) return moi_file_error();
    }
    return 0;
}

static int moi_file_map(intptr_t file, uint64_t size, const unsigned char **bytes) {
    uint64_t now = 0;
    int error = moi_file_size(file, &now);
    if (error) return error;
    if (now != size) return MOI_FILE_CHANGED;
    if (size > SIZE_MAX) return ENOMEM;
    void *view = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, (int)file, 0);
    if (view == MAP_FAILED) return moi_file_error();
    *bytes = (const unsigned char *)view;
    return 0;
}

static void moi_file_unmap(const unsigned char *bytes, uint64_t size) {
    munmap((void *)(uintptr_t)bytes, (size_t)size);
}

/* Follow links by hand: realpath wants the target to exist and may allocate. */
static int moi_file_resolve(const char *path, char *target) {
    char link[MOI_FILE_PATH_SIZE];
    size_t length = strlen(path);
    if (length >= MOI_FILE_PATH_SIZE) return ENAMETOOLONG;
    memcpy(target, path, length + 1);
    for (int hops = 0; hops < 40; hops++) {
        ssize_t n = readlink(target, link, sizeof link);
        if (n < 0) return errno == EINVAL || errno == ENOENT ? 0 : moi_file_error();
        size_t folder = link[0] == '/' ? 0 : moi_file_folder(target);
        if (folder + (size_t)n >= MOI_FILE_PATH_SIZE) return ENAMETOOLONG;
        memcpy(target + folder, link, (size_t)n);
        target[folder + (size_t)n] = '\0';
    }
    return ELOOP;
}

static int moi_file_target(const char *path, char *target, unsigned *mode) {
    struct stat info;
    int error = moi_file_resolve(path, target);
    if (error) return error;
    *mode = 0666;
    if (stat(target, &info) != 0) return errno == ENOENT ? 0 : moi_file_error();
    if (!S_ISREG(info.st_mode)) return MOI_FILE_NOT_REGULAR;
    *mode = (unsigned)info.st_mode & 0777;
    return 0;
}

static unsigned long moi_file_process(void) { return (unsigned long)getpid(); }

static int moi_file_process_runs(unsigned long process) {
    return kill((pid_t)process, 0) == 0 || errno != ESRCH;
}

static int moi_file_create(const char *target, unsigned mode, char *temp, intptr_t *file) {
    int error = EEXIST;
    for (int i = 0; i < 1000 && error == EEXIST; i++) {
        moi_file_temp_name(target, moi_file_process(), i, temp);
        error = moi_file_open_as(temp, O_WRONLY | O_CREAT | O_EXCL, mode, file);
    }
    return error;
}

static int moi_file_write(intptr_t file, const void *data, size_t size, size_t *n) {
    for (*n = 0; *n < size;) {
        size_t chunk = moi_min(size - *n, MOI_FILE_CHUNK);
        ssize_t written = write((int)file, (const char *)data + *n, chunk);
        if (written == 0) return ENOSPC;
        if (written > 0) *n += (size_t)written;
        else if (errno != EINTR) return moi_file_error();
    }
    return 0;
}

static int moi_file_sync(intptr_t file) {
    while (fsync((int)file) != 0)
        if (errno != EINTR) return moi_file_error();
    return 0;
}

static int moi_file_rename(const char *from, const char *to) {
    return rename(from, to) == 0 ? 0 : moi_file_error();
}

static int moi_file_remove(const char *path) {
    return unlink(path) == 0 || errno == ENOENT ? 0 : moi_file_error();
}

/* glibc shows these names only to programs that ask for more than POSIX. */
#if defined(O_DIRECT)
#define MOI_O_DIRECT O_DIRECT
#elif defined(__O_DIRECT)
#define MOI_O_DIRECT __O_DIRECT
#endif
#if defined(O_TMPFILE)
#define MOI_O_TMPFILE O_TMPFILE
#elif defined(__O_TMPFILE)
#define MOI_O_TMPFILE __O_TMPFILE
#endif

static int moi_file_open_update(const char *path, intptr_t *file, uint64_t *size) {
    intptr_t opened = -1;
    int error = moi_file_open_as(path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY, 0666, &opened);
    if (error) return error;
    error = moi_file_size(opened, size);
    if (error) moi_file_close(opened);
    else *file = opened;
    return error;
}

static int moi_file_temp_folder(char *path) {
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder) folder = "/tmp";
    if (strlen(folder) >= MOI_FILE_PATH_SIZE) return ENAMETOOLONG;
    strcpy(path, folder);
    return 0;
}

/* Where the system cannot make a file without a name it loses the name at once. */
static int moi_file_create_unnamed(const char *folder, intptr_t *file) {
    char base[MOI_FILE_PATH_SIZE], temp[MOI_FILE_PATH_SIZE + MOI_FILE_TEMP_SIZE];
    intptr_t made = -1;
    int error = EEXIST;
    if (strlen(folder) + 8 > sizeof base) return ENAMETOOLONG;
#ifdef MOI_O_TMPFILE
    error = moi_file_open_as(folder, MOI_O_TMPFILE | O_RDWR, 0600, file);
    if (error != EOPNOTSUPP && error != EISDIR && error != EINVAL) return error;
    error = EEXIST;
#endif
    snprintf(base, sizeof base, "%s/memopt", folder);
    for (int i = 0; i < 1000 && error == EEXIST; i++) {
        moi_file_temp_name(base, (unsigned long)getpid(), i, temp);
        error = moi_file_open_as(temp, O_RDWR | O_CREAT | O_EXCL, 0600, &made);
    }
    if (error) return error;
    error = moi_file_remove(temp);
    if (error) moi_file_close(made);
    else *file = made;
    return error;
}

static int moi_file_write_at(intptr_t file, uint64_t offset, const void *src, size_t size) {
    for (size_t done = 0; done < size;) {
        const size_t chunk = moi_min(size - done, MOI_FILE_CHUNK);
        ssize_t n = pwrite((int)file, (const char *)src + done, chunk, (off_t)(offset + done));
        if (n == 0) return ENOSPC;
        if (n > 0) done += (size_t)n;
        else if (errno != EINTR) return moi_file_error();
    }
    return 0;
}

static int moi_file_resize(intptr_t file, uint64_t size) {
    while (ftruncate((int)file, (off_t)size) != 0)
        if (errno != EINTR) return moi_file_error();
    return 0;
}

static int moi_file_reserve(intptr_t file, uint64_t size) {
#if defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
    int error;
    do error = posix_fallocate((int)file, 0, (off_t)size);
    while (error == EINTR);
    if (error != EINVAL && error != EOPNOTSUPP) return error;
#endif
    return moi_file_resize(file, size);
}

static int moi_file_direct(intptr_t file, int on) {
#if defined(MOI_O_DIRECT)
    const int flags = fcntl((int)file, F_GETFL);
    if (flags < 0) return moi_file_error();
    const int wanted = on ? flags | MOI_O_DIRECT : flags & ~MOI_O_DIRECT;
    return fcntl((int)file, F_SETFL, wanted) == 0 ? 0 : moi_file_error();
#elif defined(F_NOCACHE)
    return fcntl((int)file, F_NOCACHE, on) != -1 ? 0 : moi_file_error();
#else
    (void)file;
    return on ? EINVAL : 0;
#endif
}

/* Some file systems cannot sync a folder and say EINVAL: nothing more can be done there. */
static int moi_file_sync_folder(const char *path) {
    char folder[MOI_FILE_PATH_SIZE] = ".";
    size_t length = moi_file_folder(path);
    intptr_t file = -1;
    if (length > 0) {
        memcpy(folder, path, length);
        folder[length] = '\0';
    }
    int error = moi_file_open_as(folder, O_RDONLY | O_DIRECTORY, 0, &file);
    if (error) return error;
    error = moi_file_sync(file);
    moi_file_close(file);
    return error == EINVAL ? 0 : error;
}

static int moi_file_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int moi_file_time(const char *path, uint64_t *time) {
    struct stat info;
    if (stat(path, &info) != 0) return moi_file_error();
    *time = (uint64_t)info.st_mtime;
    return 0;
}

static int moi_file_list(
    const char *folder, int (*visit)(void *context, const char *name), void *context) {
    DIR *dir = opendir(folder);
    const struct dirent *item = NULL;
    if (!dir) return moi_file_error();
    do {
        errno = 0; /* readdir tells its end and its errors apart by that alone */
        item = readdir(dir);
    } while (item && visit(context, item->d_name));
    int error = item ? 0 : errno;
    closedir(dir);
    return error;
}

#undef MOI_O_DIRECT
#undef MOI_O_TMPFILE
#endif
