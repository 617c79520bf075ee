// 09_cl_info.c - the OpenCL devices of this machine; the one that is chosen; a block of its memory
// filled by a kernel, under a budget.
//     cc -I. examples/09_cl_info.c memopt.c memopt_cl.c -o cl_info -lOpenCL -lm
//     cl_info [auto | cl:P.D]
#include "memopt_cl.h"
#include <stdio.h>

enum { MAX_DEVICES = 32, WORDS = 1 << 20 };

static void log_line(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    printf("%s\n", text);
}

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void show(const mo_cl_device *device) {
    mo_cl_info i;
    if (mo_cl_device_info(device->id, &i) != MO_OK) return;
    printf("cl:%d.%d  %s\n", device->platform_index, device->device_index, i.name);
    printf("        %s, driver %s, %s, OpenCL C %d.%d\n", i.platform, i.driver, i.device_version,
        i.c_version / 10, i.c_version % 10);
    printf("        %.0f MiB, one allocation %.0f MiB, local %.0f KiB, aligned to %d bytes%s\n",
        mib(i.global_bytes), mib(i.max_alloc_bytes), (double)i.local_bytes / 1024,
        (int)i.base_align_bytes, i.unified ? ", shared with the host" : "");
    printf("        %u units, work-groups up to %zu%s%s%s%s%s\n", i.compute_units, i.max_work_group,
        i.fp16 ? ", fp16" : "", i.fp64 ? ", fp64" : "", i.sub_groups ? ", sub-groups" : "",
        i.out_of_order ? ", out of order" : "",
        i.correctly_rounded ? ", division and square root correctly rounded" : "");
}

// Fills a block on the device and looks at its last word.
static int try_it(mo_cl *cl) {
    mo_cl_heap heap;
    mo_cl_heap_stats stats;
    mo_cl_mem mem;
    uint32_t last = 0;
    mo_cl_heap_desc desc = {.budget_bytes = 16 << 20};
    if (mo_cl_heap_init(&heap, cl, &desc) != MO_OK) return 1;
    mo_status status = mo_cl_heap_alloc(&heap, 4 * WORDS, MO_CATEGORY_PARAM, "words", &mem);
    if (status == MO_OK)
        status = mo_cl_fill_u32(&heap, MO_CL_COMPUTE, &mem, 0, WORDS, 42, NULL, NULL);
    if (status == MO_OK)
        status = mo_cl_download(
            &heap, MO_CL_COMPUTE, &last, &mem, 4 * (WORDS - 1), sizeof last, NULL, NULL);
    mo_cl_heap_get_stats(&heap, &stats);
    printf("%s: %.0f of %.0f MiB used; filled with %u\n", mo_status_text(status),
        mib(stats.used_bytes), mib(stats.budget_bytes), (unsigned)last);
    mo_cl_heap_free(&heap);
    return status != MO_OK || last != 42;
}

int main(int argc, char **argv) {
    const mo_log log = {log_line, NULL};
    mo_cl_device devices[MAX_DEVICES];
    size_t n = 0;
    if (mo_cl_list(devices, MAX_DEVICES, &n, &log) != MO_OK || n == 0) {
        printf("no OpenCL device\n");
        return argc > 1; // to have none is an answer, unless one was asked for
    }
    for (size_t i = 0; i < n && i < MAX_DEVICES; i++) show(&devices[i]);

    mo_cl cl;
    mo_cl_desc desc = {.device = argc > 1 ? argv[1] : "auto", .log = &log};
    if (mo_cl_init(&cl, &desc) != MO_OK) return 1;
    printf("chosen: %s\n", cl.info.name);
    int failed = try_it(&cl);
    mo_cl_free(&cl);
    return failed;
}
