/* mo_names.h - names to numbers, and numbers in order, for the implementation only.
 *
 * A file's header may hold millions of names, or one that was made to be slow: nothing here takes
 * more than a few passes over them, whatever they are. */
#ifndef MEMOPT_NAMES_H
#define MEMOPT_NAMES_H

/* Sort by the low `bits` of key; equal keys keep their order. other [n] is overwritten. O(n). */
static void moi_order(mo_names_item *items, mo_names_item *other, size_t n, unsigned bits);

/* Make a zeroed mo_names of n structs whose first field is a name.
 *
 * MO_E_NO_MEMORY, or MO_E_FORMAT when a name is there twice, which is put in *twice */
static mo_status moi_names_build(mo_names *names, const mo_allocator *allocator,
    const void *structs, size_t n, size_t stride, const char **twice);
/* Whether names for a file differ; else MO_E_INVALID, or MO_E_NO_MEMORY, and a line in the log. */
static mo_status moi_names_check(const mo_allocator *allocator, const mo_log *log, const char *path,
    const void *structs, size_t n, size_t stride, const char *what);

/* The number of a name; n when it is not there. */
static size_t moi_names_find(const mo_names *names, const char *name);
static void moi_names_free(mo_names *names, const mo_allocator *allocator);

#endif
