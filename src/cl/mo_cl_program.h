/* mo_cl_program.h - OpenCL programs: compiled once, kept in memory and in a folder of files.
 *
 * A file of the cache is named by a hash of the device, its driver, the source and the options. It
 * is written under another name, renamed, and checked before the driver sees it, so that
 * processes can share the folder and a damaged file costs a compilation and nothing else. */
#ifndef MEMOPT_CL_PROGRAM_H
#define MEMOPT_CL_PROGRAM_H

#include "mo_cl.h"

/* mo_cl_source - OpenCL C. {0} plus parts and n_parts is valid.
 *
 * name     for messages; NULL = "program"
 * parts    [n_parts] texts that are joined: lines, or whole files; each ends with a 0
 * options  for the compiler, such as "-DN=4"; NULL = none
 *
 * Every program is also built with -cl-std=CL1.2, -DMEMOPT_WG=cl->work_group, the build_options of
 * the mo_cl_desc, and correct rounding of division and square root where the device can. */
typedef struct mo_cl_source {
    const char *name;
    const char *const *parts;
    size_t n_parts;
    const char *options;
} mo_cl_source;

/* mo_cl_program - private; kept by the mo_cl. */
typedef struct mo_cl_program mo_cl_program;

/* mo_cl_program_get - the program of a source: from memory, else from the cache folder, else
 * compiled and written there.
 *
 * program  out  valid until mo_cl_program_clear or mo_cl_free
 *
 * Memory:  the mo_cl's allocator
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, no parts), MO_E_OVERFLOW, MO_E_NO_MEMORY, MO_E_UNSUPPORTED (it does
 *          not compile; the log gets the compiler's lines). The cache folder is no source of
 *          errors: what goes wrong there is a warning in the log
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_program_get(
    mo_cl *cl, const mo_cl_source *source, mo_cl_program **program);

/* mo_cl_program_kernel - a kernel by its name; the same one at every call.
 *
 * kernel  out  borrowed, valid as long as the program
 *
 * Threads: one at a time; its arguments are shared by all who use it
 * Errors:  MO_E_INVALID (NULL), MO_E_NOT_FOUND
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_program_kernel(
    const mo_cl_program *program, const char *name, cl_kernel *kernel);

/* mo_cl_program_clear - release all programs and kernels in memory; files stay.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_cl_program_clear(mo_cl *cl);

/* mo_cl_program_path - the file of the cache for this source, whether it exists or not.
 *
 * path  out  [size] with its 0
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, no parts), MO_E_NO_MEMORY, MO_E_OVERFLOW, MO_E_NO_SPACE (size),
 *          MO_E_STATE (no cache folder)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_program_path(
    const mo_cl *cl, const mo_cl_source *source, char *path, size_t size);

/* mo_cl_program_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_cl_program_get_stats(const mo_cl *cl, mo_cl_program_stats *stats);

#endif
