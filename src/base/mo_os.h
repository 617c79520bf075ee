/* mo_os.h - what differs between operating systems, for the implementation only. */
#ifndef MEMOPT_OS_H
#define MEMOPT_OS_H

/* Address space: reserve takes addresses only, commit backs [ptr, ptr + size) with zeroed memory,
 * decommit gives the memory back and keeps the addresses (0: nothing happened). Sizes are multiples
 * of the page. */
static size_t moi_os_page_size(void);
static void *moi_os_reserve(size_t size);
static int moi_os_commit(void *ptr, size_t size);
static int moi_os_decommit(void *ptr, size_t size);
static void moi_os_release(void *ptr, size_t size);

/* Seconds since some moment, by a clock that never goes back. */
MEMOPT_UNUSED static double moi_os_now_s(void);

#endif
