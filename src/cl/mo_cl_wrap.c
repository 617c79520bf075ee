/* mo_cl_wrap.c - see mo_cl_wrap.h.
 *
 * Drivers copy what is not aligned to a page. Memory that is only read can be widened to whole
 * pages: what surrounds it in its pages can be read. */

/* size bytes at off of the memory from base on. */
static mo_status moi_cl_wrap_range(
    mo_cl_heap *heap, cl_mem_flags access, void *base, size_t off, size_t size, mo_cl_mem *mem) {
    const size_t bytes = off + size;
    cl_int code = CL_SUCCESS;
    if (!heap->cl->info.unified || bytes > heap->cl->info.max_alloc_bytes) return MO_E_UNSUPPORTED;
    cl_mem buffer =
        clCreateBuffer(heap->cl->context, access | CL_MEM_USE_HOST_PTR, bytes, base, &code);
    if (!buffer || code != CL_SUCCESS)
        return moi_cl_fail(&heap->cl->log, "clCreateBuffer", code, "%zu bytes of the host", bytes);
    memset(mem, 0, sizeof *mem);
    mem->buffer = buffer;
    mem->off = off;
    mem->size = size;
    heap->stats.wrapped_bytes += size;
    return MO_OK;
}

mo_status mo_cl_wrap(mo_cl_heap *heap, void *data, size_t size, mo_cl_mem *mem) {
    if (!heap || !heap->cl || !data || size == 0 || !mem) return MO_E_INVALID;
    if ((uintptr_t)data % MO_CL_WRAP_ALIGN != 0) return MO_E_INVALID;
    return moi_cl_wrap_range(heap, CL_MEM_READ_WRITE, data, 0, size, mem);
}

mo_status mo_cl_wrap_const(mo_cl_heap *heap, const void *data, size_t size, mo_cl_mem *mem) {
    size_t bytes;
    if (!heap || !heap->cl || !data || size == 0 || !mem) return MO_E_INVALID;
    const size_t off = (uintptr_t)data % MO_CL_WRAP_ALIGN;
    if (!moi_add(size, off, &bytes)) return MO_E_INVALID;
    void *base = (void *)((uintptr_t)data - off); /* OpenCL takes no pointer to const */
    return moi_cl_wrap_range(heap, CL_MEM_READ_ONLY, base, off, size, mem);
}

void mo_cl_unwrap(mo_cl_heap *heap, mo_cl_mem *mem) {
    if (!heap || !heap->cl || !mem || !mem->buffer) return;
    mo_status status = moi_cl_heap_sync(heap);
    (void)status; /* said in the log */
    clReleaseMemObject(mem->buffer);
    heap->stats.wrapped_bytes -= mem->size;
    memset(mem, 0, sizeof *mem);
}
