/* mo_page.h - an array that is larger than what there is memory for: fixed pages in a file or in
 * other memory of the host, of which a few are resident. A walk over the pages has the next ones on
 * their way in, and the last one on its way out, while the program works on this one: a thread in
 * the background reads and writes. mo_cl_page.h is the same for devices.
 *
 *     mo_page states;
 *     mo_page_desc desc = {0};
 *     desc.size = bytes;
 *     desc.resident_bytes = bytes / 8;
 *     if (mo_page_init(&states, &desc) != MO_OK) ...           a temporary file, all zero
 *     mo_page_walk(&states, NULL, mo_page_count(&states));
 *     for (each step) for (size_t i = 0; i < mo_page_count(&states); i++) {
 *         void *data;
 *         if (mo_page_acquire(&states, i, MO_PAGE_WRITE, &data) != MO_OK) ...
 *         ... work on the mo_page_size(&states, i) bytes of data
 *         if (mo_page_release(&states, i) != MO_OK) ...
 *     }
 *     if (mo_page_sync(&states) != MO_OK) ...                  now the file has it all */
#ifndef MEMOPT_PAGE_H
#define MEMOPT_PAGE_H

#include "mo_base.h"
#include "mo_queue.h"

/* mo_page_desc - an array and its pages.
 *
 * size            bytes of the array
 * page_bytes      of a page; the last one may be shorter; 0 = 2 MiB. A multiple of the blocks that
 *                 the array is made of; of 4096, for direct I/O
 * resident_bytes  most memory that pages may take, at least two of them; 0 = three. Two are enough
 *                 for a walk that reads, works and writes at once, three to make up for what takes
 *                 longer now and then; what is more keeps pages from one walk to the next
 * n_ahead         pages of a walk that are read ahead, less than fit; 0 = 2, or 1 of two
 * memory          [resident_bytes] for them, aligned to 64, to 4096 for direct I/O, valid as long
 *                 as the pages; NULL = from the allocator
 * host            [size] memory that the pages come from and go to, valid as long as they are; its
 *                 content is the array's. NULL = a file
 * path            that file, which is kept: its content is the array's, when it has size bytes; it
 *                 is made, all zero, when it is not there or empty. Copied. NULL = a temporary
 *                 file, all zero, that has no name and is gone however the program ends
 * folder          for the temporary file; NULL = TMPDIR of the environment, or /tmp. Copied
 * reserve         1: take the file's space on the disk at once, where the file system can do that,
 *                 so that a full disk is an error of mo_page_init and not of a later write
 * buffered        1: through the system's cache, which is faster as long as it has room for the
 *                 file; else past it (O_DIRECT) where the file system takes that
 * n_threads       that read and write; 0 = 1
 * allocator, log  zero = C heap, silence. The log hears which write failed, and why */
typedef struct mo_page_desc {
    uint64_t size;
    size_t page_bytes, resident_bytes, n_ahead;
    void *memory;
    void *host;
    const char *path, *folder;
    int reserve, buffered;
    size_t n_threads;
    mo_allocator allocator;
    mo_log log;
} mo_page_desc;

/* How an acquired page is used. */
typedef enum mo_page_access {
    MO_PAGE_READ = 0,
    MO_PAGE_WRITE,     /* both */
    MO_PAGE_OVERWRITE, /* every byte is written; what was there need not be read */
    MO_PAGE_ACCESS_COUNT
} mo_page_access;

/* mo_page_stats - since mo_page_init.
 *
 * in_bytes, out_bytes  read and written
 * n_acquired  pages acquired; of these
 * n_there     were resident, and
 * n_ahead     had been read ahead by the walk; the rest was read, or only placed, when asked for
 * n_in, n_out pages read and written back
 * n_stalls    times that the program had to wait for a read or write, and stall_s for how many
 *             seconds
 * resident_bytes  that pages take, all the time
 * is_direct   1: past the system's cache */
typedef struct mo_page_stats {
    uint64_t in_bytes, out_bytes;
    uint64_t n_acquired, n_there, n_ahead, n_in, n_out, n_stalls;
    double stall_s;
    size_t resident_bytes;
    int is_direct;
} mo_page_stats;

/* moi_page_route - private: the walk, and where it is. */
typedef struct moi_page_route {
    struct moi_page_step *steps; /* [n] */
    size_t n;
    uint64_t step, tick;
} moi_page_route;

/* mo_page - owned by the caller; stats may be read, the rest is private. */
typedef struct mo_page {
    mo_page_desc desc;
    size_t n_pages, n_slots, stride;
    char *memory;
    struct moi_page_slot *slots; /* [n_slots] */
    moi_page_route route;
    mo_queue queue;
    intptr_t file; /* -1 = host */
    char *name;    /* of the file, or of its folder, for the log */
    int is_kept;   /* the file has a name */
    mo_page_stats stats;
} mo_page;

/* mo_page_resident_bytes - what of desc->resident_bytes the pages will take: whole pages, no more
 * than there are; 0 when the desc is wrong.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_page_resident_bytes(const mo_page_desc *desc);

/* mo_page_init - memory for the resident pages, the file, the threads. mo_page_free - give it all
 * back, after waiting for reads and writes; what has not been written back (mo_page_sync) is lost.
 *
 * Memory:  mo_page_resident_bytes(desc), unless desc->memory is given; 200 bytes per resident page
 * Threads: one at a time, as everything here
 * Errors:  MO_E_INVALID (NULL, size 0, n_ahead, alignment of memory), MO_E_NO_SPACE (resident_bytes
 *          is less than two pages), MO_E_NO_MEMORY, MO_E_OVERFLOW, MO_E_FORMAT (the file has
 *          another size), MO_E_NOT_FOUND, MO_E_IO; the log says which file and why
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_init(mo_page *page, const mo_page_desc *desc);
MEMOPT_API void mo_page_free(mo_page *page);

/* mo_page_count - how many pages there are. mo_page_size - bytes of page i; 0 when there is none.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_page_count(const mo_page *page);
MEMOPT_API size_t mo_page_size(const mo_page *page, size_t i);

/* mo_page_walk - the order in which pages are going to be acquired, over and over: that of a plan,
 * for example. Its first pages are read at once, the others each a few pages ahead; and what is
 * resident leaves in the order that moves the fewest bytes, the page first that is needed last.
 *
 * order  in  [n] pages, each any number of times; copied; NULL = 0, 1 .. n - 1
 * n      0 = no walk any more, as after mo_page_init: the page goes first that was used last long
 *        ago, and a changed one is written back before its turn comes
 *
 * Acquiring another page than the walk's next one goes on from there, when the walk has it, and
 * else leaves the walk where it is.
 *
 * Memory:  16 bytes per entry, and 8 per page meanwhile
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, no such page), MO_E_NO_MEMORY
 * Source:  Belady 1966, A study of replacement algorithms for a virtual-storage computer
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_walk(mo_page *page, const size_t *order, size_t n);

/* mo_page_acquire - page i in memory, read if need be. mo_page_release - it is not used any more.
 *
 * access  MO_PAGE_READ: the page is not changed, and not written back; MO_PAGE_OVERWRITE: its
 *         content is of no interest, and not read
 * data    out  [mo_page_size(page, i)], aligned to 64 where page_bytes is a multiple of it; valid
 *         until the release
 *
 * A page may be acquired several times, and is released as often. Other pages may be acquired
 * meanwhile, as long as they fit.
 *
 * Threads: one at a time
 * Errors:  acquire: MO_E_INVALID (NULL, no such page, access), MO_E_NO_SPACE (as many pages are
 *          acquired as are resident), MO_E_IO (the page cannot be read, or another one could not be
 *          written back meanwhile: that one stays resident and is written again when its turn
 *          comes, so that nothing is lost as long as a later call succeeds). release: MO_E_INVALID
 *          (not acquired)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_acquire(
    mo_page *page, size_t i, mo_page_access access, void **data);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_release(mo_page *page, size_t i);

/* mo_page_sync - write back what was changed, and wait for it: desc.host, or the file, is current
 * then; a file of desc.path is on the disk. No page is resident then: desc.host may be changed
 * until the next mo_page_acquire or mo_page_walk.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL), MO_E_STATE (a page is acquired), MO_E_IO (what could not be written
 *          stays resident: sync again)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_page_sync(mo_page *page);

#endif
