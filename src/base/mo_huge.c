/* mo_huge.c - see mo_huge.h. */

#ifndef _WIN32
#include <sys/mman.h>
#endif

/* Only pages that lie in the range as a whole, so that nothing around it is touched. */
static void moi_huge_advise(void *ptr, size_t size) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = (uintptr_t)moi_huge_bytes, end = (uintptr_t)ptr + size;
    const uintptr_t from = ((uintptr_t)ptr + page - 1) / page * page, to = end / page * page;
    if (from < to) (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)ptr, (void)size;
#endif
}
