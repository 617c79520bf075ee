/* mo_cl_transfer.c - what is in the blocks of mo_cl_heap.h: uploads, downloads, copies, kernels,
 * mappings. */

/* Whether these arguments and this range make sense; also for ranges of no bytes. */
static int moi_cl_in_range(const mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *mem,
    uint64_t off, uint64_t size, const mo_cl_wait_list *after) {
    return heap && heap->cl && (unsigned)queue < MO_CL_QUEUE_COUNT && mem && mem->buffer &&
        off <= mem->size && size <= mem->size - off && moi_cl_list_valid(after);
}

static int moi_cl_overlap(
    const mo_cl_mem *a, uint64_t a_off, const mo_cl_mem *b, uint64_t b_off, uint64_t size) {
    const uint64_t x = a->off + a_off, y = b->off + b_off;
    return a->buffer == b->buffer && x < y + size && y < x + size;
}

/* Nothing to do: no event. */
static mo_status moi_cl_nothing(cl_event *event) {
    if (event) *event = NULL;
    return MO_OK;
}

/* After an enqueue: hand the event out, or wait for it. */
static mo_status moi_cl_hand_out(
    mo_cl *cl, const char *call, cl_int code, uint64_t size, cl_event done, cl_event *event) {
    if (code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, call, code, "%llu bytes", (unsigned long long)size);
    if (event) {
        *event = done;
        return MO_OK;
    }
    mo_status status = mo_cl_wait(cl, 1, &done);
    clReleaseEvent(done);
    return status;
}

mo_status mo_cl_upload(mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *dst, uint64_t off,
    const void *src, size_t size, const mo_cl_wait_list *after, cl_event *event) {
    cl_event done = NULL;
    if (!moi_cl_in_range(heap, queue, dst, off, size, after)) return MO_E_INVALID;
    if (size == 0) return moi_cl_nothing(event);
    if (!src) return MO_E_INVALID;
    cl_int code = clEnqueueWriteBuffer(heap->cl->queues[queue], dst->buffer, CL_FALSE,
        (size_t)(dst->off + off), size, src, moi_cl_list_n(after), moi_cl_list_events(after),
        &done);
    if (code == CL_SUCCESS) moi_cl_record_command(heap->cl, MOI_CL_RAN_UPLOAD, size, done);
    return moi_cl_hand_out(heap->cl, "clEnqueueWriteBuffer", code, size, done, event);
}

mo_status mo_cl_download(mo_cl_heap *heap, mo_cl_queue queue, void *dst, const mo_cl_mem *src,
    uint64_t off, size_t size, const mo_cl_wait_list *after, cl_event *event) {
    cl_event done = NULL;
    if (!moi_cl_in_range(heap, queue, src, off, size, after)) return MO_E_INVALID;
    if (size == 0) return moi_cl_nothing(event);
    if (!dst) return MO_E_INVALID;
    cl_int code = clEnqueueReadBuffer(heap->cl->queues[queue], src->buffer, CL_FALSE,
        (size_t)(src->off + off), size, dst, moi_cl_list_n(after), moi_cl_list_events(after),
        &done);
    if (code == CL_SUCCESS) moi_cl_record_command(heap->cl, MOI_CL_RAN_DOWNLOAD, size, done);
    return moi_cl_hand_out(heap->cl, "clEnqueueReadBuffer", code, size, done, event);
}

mo_status mo_cl_copy(mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *dst, uint64_t dst_off,
    const mo_cl_mem *src, uint64_t src_off, uint64_t size, const mo_cl_wait_list *after,
    cl_event *event) {
    cl_event done = NULL;
    if (!moi_cl_in_range(heap, queue, dst, dst_off, size, after) ||
        !moi_cl_in_range(heap, queue, src, src_off, size, after))
        return MO_E_INVALID;
    if (size == 0) return moi_cl_nothing(event);
    if (moi_cl_overlap(dst, dst_off, src, src_off, size)) return MO_E_INVALID;
    cl_int code = clEnqueueCopyBuffer(heap->cl->queues[queue], src->buffer, dst->buffer,
        (size_t)(src->off + src_off), (size_t)(dst->off + dst_off), (size_t)size,
        moi_cl_list_n(after), moi_cl_list_events(after),
        event || moi_cl_recording(heap->cl) ? &done : NULL);
    if (code != CL_SUCCESS)
        return moi_cl_fail(
            &heap->cl->log, "clEnqueueCopyBuffer", code, "%llu bytes", (unsigned long long)size);
    moi_cl_record_command(heap->cl, MOI_CL_RAN_KERNEL, size, done);
    if (event) *event = done;
    else if (done) clReleaseEvent(done);
    return MO_OK;
}

mo_cl_mem mo_cl_part(const mo_cl_mem *mem, uint64_t off, uint64_t size) {
    mo_cl_mem part;
    memset(&part, 0, sizeof part);
    if (!mem || !mem->buffer || off > mem->size || size > mem->size - off) return part;
    part = *mem;
    part.off += off;
    part.size = size;
    return part;
}

/* ---- by kernels ---------------------------------------------------------------------------- */

mo_status mo_cl_fill_u32(mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *dst, uint64_t off,
    uint64_t n, uint32_t value, const mo_cl_wait_list *after, cl_event *event) {
    if (n > UINT64_MAX / 4 || off % 4 != 0) return MO_E_INVALID;
    if (!moi_cl_in_range(heap, queue, dst, off, 4 * n, after)) return MO_E_INVALID;
    if (n == 0) return moi_cl_nothing(event);
    const mo_cl_mem to = mo_cl_part(dst, off, 4 * n);
    moi_cl_call call = moi_cl_begin(heap->cl, MOI_CL_mo_cl_fill_u32, NULL);
    moi_cl_mem_arg(&call, &to, 4, n);
    moi_cl_u32_arg(&call, value);
    moi_cl_u64_arg(&call, n);
    return moi_cl_end(&call, queue, moi_cl_tiles(heap->cl, n), after, event);
}

mo_status mo_cl_copy_u32(mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *dst,
    uint64_t dst_off, const mo_cl_mem *src, uint64_t src_off, uint64_t n,
    const mo_cl_wait_list *after, cl_event *event) {
    if (n > UINT64_MAX / 4 || dst_off % 4 != 0 || src_off % 4 != 0) return MO_E_INVALID;
    if (!moi_cl_in_range(heap, queue, dst, dst_off, 4 * n, after) ||
        !moi_cl_in_range(heap, queue, src, src_off, 4 * n, after))
        return MO_E_INVALID;
    if (n == 0) return moi_cl_nothing(event);
    if (moi_cl_overlap(dst, dst_off, src, src_off, 4 * n)) return MO_E_INVALID;
    const mo_cl_mem from = mo_cl_part(src, src_off, 4 * n), to = mo_cl_part(dst, dst_off, 4 * n);
    moi_cl_call call = moi_cl_begin(heap->cl, MOI_CL_mo_cl_copy_u32, NULL);
    moi_cl_mem_arg(&call, &from, 4, n);
    moi_cl_mem_arg(&call, &to, 4, n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_end(&call, queue, moi_cl_tiles(heap->cl, n), after, event);
}

/* ---- mappings ------------------------------------------------------------------------------ */

mo_status mo_cl_map(mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *mem, uint64_t off,
    size_t size, mo_cl_access access, const mo_cl_wait_list *after, void **ptr) {
    static const cl_map_flags flags[MO_CL_ACCESS_COUNT] = {
        CL_MAP_READ, CL_MAP_READ | CL_MAP_WRITE, CL_MAP_WRITE_INVALIDATE_REGION};
    cl_int code = CL_SUCCESS;
    if (!moi_cl_in_range(heap, queue, mem, off, size, after) || size == 0 || !ptr ||
        (unsigned)access >= MO_CL_ACCESS_COUNT)
        return MO_E_INVALID;
    void *mapped = clEnqueueMapBuffer(heap->cl->queues[queue], mem->buffer, CL_TRUE, flags[access],
        (size_t)(mem->off + off), size, moi_cl_list_n(after), moi_cl_list_events(after), NULL,
        &code);
    if (!mapped || code != CL_SUCCESS)
        return moi_cl_fail(&heap->cl->log, "clEnqueueMapBuffer", code, "%zu bytes", size);
    *ptr = mapped;
    return MO_OK;
}

mo_status mo_cl_unmap(
    mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *mem, void *ptr, cl_event *event) {
    cl_event done = NULL;
    if (!moi_cl_in_range(heap, queue, mem, 0, 0, NULL) || !ptr) return MO_E_INVALID;
    cl_int code =
        clEnqueueUnmapMemObject(heap->cl->queues[queue], mem->buffer, ptr, 0, NULL, &done);
    return moi_cl_hand_out(heap->cl, "clEnqueueUnmapMemObject", code, 0, done, event);
}
