/* mo_cl_device.h - the OpenCL devices of this machine: listed, chosen by a string, described. */
#ifndef MEMOPT_CL_DEVICE_H
#define MEMOPT_CL_DEVICE_H

/* Most platforms, and most devices of one platform, that are looked at. */
enum { MO_CL_MAX_PLATFORMS = 64, MO_CL_MAX_DEVICES = 64 };

/* mo_cl_device - one device. The indices are those of "cl:P.D" and of other tools (clinfo -l): P
 * counts all platforms in OpenCL's order, also those without devices, D the platform's devices. */
typedef struct mo_cl_device {
    cl_platform_id platform;
    cl_device_id id;
    int platform_index, device_index;
} mo_cl_device;

/* mo_cl_info - what a device is and has. Texts that do not fit are cut; what a device does not
 * answer is 0 or "".
 *
 * version            of OpenCL, as 10 * major + minor: 12, 20, 30
 * c_version          of OpenCL C, likewise
 * available          takes work, and has a compiler
 * fp16, fp64         half and double arithmetic; storing halves needs neither
 * unified            shares the host's memory: mapping copies nothing
 * correctly_rounded  float division and square root are, when a program is built with
 *                    -cl-fp32-correctly-rounded-divide-sqrt (mo_cl_program_get does)
 * denormals          float denormals are kept
 * int64_atomics      cl_khr_int64_base_atomics
 * sub_groups         cl_khr_subgroups or cl_intel_subgroups
 * out_of_order       queues can be
 * base_align_bytes   of a sub-buffer's origin
 * max_alloc_bytes    of one buffer
 * local_bytes        of one work-group; local_is_fast: it is memory of its own */
typedef struct mo_cl_info {
    char name[128], vendor[128], driver[128], device_version[128];
    char platform[128], platform_version[128];
    cl_device_type type;
    int version, c_version, available;
    int fp16, fp64, unified, correctly_rounded, denormals, int64_atomics, sub_groups, out_of_order;
    int little_endian, address_bits;
    uint64_t global_bytes, max_alloc_bytes, local_bytes, base_align_bytes;
    int local_is_fast;
    size_t max_work_group;
    unsigned compute_units, clock_mhz;
} mo_cl_info;

/* mo_cl_list - all devices of all platforms; platforms without devices are skipped.
 *
 * devices  out  [capacity]; may be NULL with capacity 0
 * n        out  how many there are, also when that is more than capacity
 * log      told about platforms that fail; may be NULL
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_UNSUPPORTED (no OpenCL platform, or none that works; the log
 *          says which). No device on any platform is *n = 0, not an error
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_list(
    mo_cl_device *devices, size_t capacity, size_t *n, const mo_log *log);

/* mo_cl_choose - the device that a text names.
 *
 * text  "cl:P.D"  device D of platform P; "cl:P" its first one
 *       "cl", "auto", "" or NULL: what MEMOPT_CL_DEVICE of the environment names in the same way,
 *       else the best one: GPUs before accelerators before CPUs, then those with their own memory,
 *       then the one with the most memory
 * log   told what is wrong with the text or the machine; may be NULL
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL device, the text is none of these), MO_E_NOT_FOUND (no such platform
 *          or device), MO_E_UNSUPPORTED (no OpenCL device at all, or none that works)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_choose(
    const char *text, mo_cl_device *device, const mo_log *log);

/* mo_cl_device_info - describe a device, also a sub-device.
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, or not a device)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_device_info(cl_device_id id, mo_cl_info *info);

/* mo_cl_device_has - whether the device lists an extension, by its whole name.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API int mo_cl_device_has(cl_device_id id, const char *extension);

/* mo_cl_error_name - "CL_OUT_OF_RESOURCES"; "?" for an unknown code.
 * mo_cl_error_status - the status that stands for an OpenCL code: MO_E_NO_DEVICE_MEMORY,
 *                      MO_E_NO_MEMORY, MO_E_UNSUPPORTED (does not build, no compiler, not there),
 *                      MO_E_INVALID (CL_INVALID_*), MO_E_STATE (the rest).
 *
 * Memory:  static strings
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_cl_error_name(cl_int code);
MEMOPT_API mo_status mo_cl_error_status(cl_int code);

#endif
