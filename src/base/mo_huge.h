/* mo_huge.h - huge pages, for the implementation only. */
#ifndef MEMOPT_HUGE_H
#define MEMOPT_HUGE_H

/* Asks for huge pages behind [ptr, ptr + size), memory that nobody has written yet: walks over many
 * megabytes then spend no time on page tables. Less than one such page: nothing happens. */
static const size_t moi_huge_bytes = (size_t)2 << 20;
static void moi_huge_advise(void *ptr, size_t size);

#endif
