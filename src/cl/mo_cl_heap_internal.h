/* mo_cl_heap_internal.h - the heap's tables, for its files; never part of the public header. */
#ifndef MEMOPT_CL_HEAP_INTERNAL_H
#define MEMOPT_CL_HEAP_INTERNAL_H

#define MOI_CL_NO_BLOCK 0xffffffffu

/* zone: bytes before and behind the size bytes that blocks may have, see mo_cl_heap_debug.c. */
typedef struct moi_cl_buffer {
    struct moi_cl_buffer *next;
    cl_mem buffer;
    uint64_t size, zone;
    mo_suballoc sub;
} moi_cl_buffer;

/* mem.handle = 0 while the record is free; next chains the free ones. */
typedef struct moi_cl_block {
    mo_cl_mem mem;
    moi_cl_buffer *from;
    uint64_t sub_handle;
    uint64_t rounded_bytes;
    const char *name;
    uint32_t generation, next;
    mo_category category;
    uint8_t is_tracked, is_pinned;
} moi_cl_block;

/* The record of a handle; NULL when it is none, or stale. */
static moi_cl_block *moi_cl_record(const mo_cl_heap *heap, uint64_t handle);

/* Until both queues have done everything. */
static mo_status moi_cl_heap_sync(mo_cl_heap *heap);

/* Release the buffers without blocks, whose commands are complete; how many bytes they had. */
static uint64_t moi_cl_drop_empty(mo_cl_heap *heap);

/* ---- debug mode: nothing happens without it ------------------------------------------------- */

static int moi_cl_debug_wanted(const mo_cl_heap_desc *desc);

/* Fill a new block, which has a buffer of its own, and its zones. */
static mo_status moi_cl_debug_begin(mo_cl_heap *heap, const moi_cl_block *block);

/* Whether the zones are as they were; else MO_E_STATE, with the place in the log. */
static mo_status moi_cl_debug_check(mo_cl_heap *heap, const moi_cl_block *block);

#endif
