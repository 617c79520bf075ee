/* mo_cl_page.h - an array that is larger than what a device has room for: fixed pages in host
 * memory, of which a few are on the device. A walk over the pages has the next one on its way up,
 * and the last one on its way back, while kernels work on this one; events order the two queues,
 * and the host waits for nothing.
 *
 *     mo_cl_page states;
 *     mo_cl_page_desc desc = {0};
 *     desc.size = bytes;
 *     desc.page_bytes = 16 << 20;
 *     if (mo_cl_page_init(&states, &heap, &desc) != MO_OK) ...
 *     ... fill mo_cl_page_host(&states, 0..)
 *     mo_cl_page_walk(&states, NULL, mo_cl_page_count(&states));
 *     for (each step) for (size_t i = 0; i < mo_cl_page_count(&states); i++) {
 *         mo_cl_mem mem;
 *         if (mo_cl_page_acquire(&states, i, MO_CL_WRITE, &mem) != MO_OK) ...
 *         ... kernels that use mem
 *         if (mo_cl_page_release(&states, i) != MO_OK) ...
 *     }
 *     if (mo_cl_page_sync(&states) != MO_OK) ...      now the host memory has it all
 *
 * On a device that shares the host's memory paging only copies: see mo_cl_wrap.h. */
#ifndef MEMOPT_CL_PAGE_H
#define MEMOPT_CL_PAGE_H

#include "mo_cl_staging.h"

/* mo_cl_page_desc - an array and its pages.
 *
 * size        bytes of the array
 * page_bytes  of a page; the last one may be shorter. A page takes a few ms to transfer, or more:
 *             at 10 GB/s 16 MiB take 1.6 ms
 * n_slots     pages on the device; 0 = 2. Two are enough for a walk that goes up, works and goes
 *             back at once; what is more keeps pages from one walk to the next
 * n_ahead     pages of a walk that are fetched ahead, less than n_slots; 0 = 1
 * host        [size] memory of the caller, valid as long as the pages, such as a mapped file; its
 *             content is the array's. NULL = staging, whose content is undefined
 * slots       [n_slots] device memory of the caller for them, of page_bytes each or more, valid as
 *             long as the pages; the array itself is copied. NULL = from the heap
 * category    of the slots in the track; name as well, kept as a pointer, may be NULL */
typedef struct mo_cl_page_desc {
    uint64_t size;
    size_t page_bytes;
    size_t n_slots, n_ahead;
    void *host;
    const mo_cl_mem *slots;
    mo_category category;
    const char *name;
} mo_cl_page_desc;

/* mo_cl_page_stats - since mo_cl_page_init.
 *
 * n_acquired  pages acquired; of these
 * n_there     were on the device, and
 * n_ahead     on their way, fetched by the walk; the rest was fetched, or only placed, when asked
 *             for
 * n_in, n_out pages uploaded and written back */
typedef struct mo_cl_page_stats {
    uint64_t in_bytes, out_bytes;
    uint64_t n_acquired, n_there, n_ahead, n_in, n_out;
} mo_cl_page_stats;

/* mo_cl_page - owned by the caller, must not move; stats may be read, the rest is private. */
typedef struct mo_cl_page {
    mo_cl_heap *heap;
    mo_cl_page_desc desc;
    size_t n_pages, pages_per_chunk, n_chunks;
    mo_cl_staging *chunks;          /* [n_chunks] of pages_per_chunk pages; none with desc.host */
    struct moi_cl_page_slot *slots; /* [desc.n_slots] */
    moi_page_route route;
    mo_cl_page_stats stats;
} mo_cl_page;

/* mo_cl_page_init - the slots on the device, and the host memory. mo_cl_page_free - give both back,
 * after waiting for the transfers; what has not been written back (mo_cl_page_sync) is lost.
 *
 * heap  valid as long as the pages
 *
 * Memory:  n_slots pages of the heap, unless desc->slots are given; size bytes of staging, in
 *          pieces of 64 MiB or a page
 * Threads: one at a time, as everything here, and not beside other calls on the same mo_cl
 * Errors:  MO_E_INVALID (NULL, size 0, page_bytes 0, one slot, n_ahead), MO_E_NO_SPACE (desc->slots
 *          are smaller), MO_E_NO_MEMORY, those of mo_cl_heap_alloc
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_init(
    mo_cl_page *page, mo_cl_heap *heap, const mo_cl_page_desc *desc);
MEMOPT_API void mo_cl_page_free(mo_cl_page *page);

/* mo_cl_page_count - how many pages there are. mo_cl_page_host - page i in host memory; NULL when
 * there is none. It is current, and may be changed, from mo_cl_page_init or mo_cl_page_sync to the
 * next mo_cl_page_acquire or mo_cl_page_walk.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_page_count(const mo_cl_page *page);
MEMOPT_API void *mo_cl_page_host(const mo_cl_page *page, size_t i);

/* mo_cl_page_walk - the order in which pages are going to be acquired, over and over: that of a
 * plan, for example. Its first pages are fetched at once, the others each a few pages ahead; and
 * what is on the device leaves in the order that moves the fewest bytes.
 *
 * order  in  [n] pages, each any number of times; copied; NULL = 0, 1 .. n - 1
 * n      0 = no walk any more: nothing is fetched ahead, as after mo_cl_page_init
 *
 * Acquiring another page than the walk's next one goes on from there, when the walk has it, and
 * else leaves the walk where it is.
 *
 * Memory:  24 bytes per entry
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, no such page), MO_E_NO_MEMORY, what OpenCL says
 * Source:  Belady 1966, A study of replacement algorithms for a virtual-storage computer
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_walk(
    mo_cl_page *page, const size_t *order, size_t n);

/* mo_cl_page_acquire - a page for what is enqueued on the compute queue from here on, which waits
 * for the page's upload. mo_cl_page_release - what was enqueued there until here has used it.
 *
 * access  MO_CL_READ: the page is not changed, and not written back; MO_CL_OVERWRITE: its content
 *         is of no interest, and not uploaded
 * mem     out  valid until release; as long as the page. handle is 0
 *
 * A page may be acquired several times, and is released as often. Other pages may be acquired
 * meanwhile, as long as there are slots.
 *
 * Threads: one at a time
 * Errors:  acquire: MO_E_INVALID (NULL, no such page, access), MO_E_NO_SPACE (every slot is
 *          acquired), what OpenCL says. release: MO_E_INVALID (not acquired), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_acquire(
    mo_cl_page *page, size_t i, mo_cl_access access, mo_cl_mem *mem);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_release(mo_cl_page *page, size_t i);

/* mo_cl_page_sync - write back what was changed, and wait for it. No page is on the device then.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL), MO_E_STATE (a page is acquired), what a failed command left behind
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_page_sync(mo_cl_page *page);

#endif
