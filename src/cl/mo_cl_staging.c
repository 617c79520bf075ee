/* mo_cl_staging.c - see mo_cl_staging.h. */

/* A buffer in host memory, mapped for good; 0 when the driver refuses. Not all align it. */
static int moi_cl_staging_pin(mo_cl *cl, mo_cl_staging *staging) {
    const cl_mem_flags flags = CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR;
    cl_int code = CL_SUCCESS;
    size_t size;
    if (!moi_add(staging->size, MOI_CACHE_LINE - 1, &size) || size > cl->info.max_alloc_bytes)
        return 0;
    cl_mem buffer = clCreateBuffer(cl->context, flags, size, NULL, &code);
    if (!buffer || code != CL_SUCCESS) return 0;
    void *mapped = clEnqueueMapBuffer(cl->queues[MO_CL_TRANSFER], buffer, CL_TRUE,
        CL_MAP_READ | CL_MAP_WRITE, 0, size, 0, NULL, NULL, &code);
    if (!mapped || code != CL_SUCCESS) {
        clReleaseMemObject(buffer);
        return 0;
    }
    staging->mapped = mapped;
    staging->data = (char *)mapped + ((0 - (uintptr_t)mapped) & (MOI_CACHE_LINE - 1));
    staging->buffer = buffer;
    staging->pinned = 1;
    return 1;
}

mo_status mo_cl_staging_alloc(mo_cl_heap *heap, size_t size, mo_cl_staging *staging) {
    mo_cl_staging made;
    if (!heap || !heap->cl || !staging || size == 0) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.heap = heap;
    made.size = size;
    if (!moi_cl_staging_pin(heap->cl, &made)) {
        moi_cl_say(
            &heap->cl->log, MO_LOG_INFO, "cl: %zu bytes of host memory are not pinned", size);
        made.data = mo_alloc(&heap->cl->allocator, size, MOI_CACHE_LINE);
        if (!made.data) return MO_E_NO_MEMORY;
    }
    mo_cl_heap_stats *s = &heap->stats;
    s->staging_bytes += size;
    if (s->staging_bytes > s->peak_staging_bytes) s->peak_staging_bytes = s->staging_bytes;
    if (made.pinned) s->pinned_bytes += size;
    *staging = made;
    return MO_OK;
}

void mo_cl_staging_free(mo_cl_staging *staging) {
    if (!staging || !staging->data) return;
    mo_cl_heap *heap = staging->heap;
    mo_cl *cl = heap->cl;
    if (staging->pinned) {
        cl_event done = NULL;
        cl_int code = clEnqueueUnmapMemObject(
            cl->queues[MO_CL_TRANSFER], staging->buffer, staging->mapped, 0, NULL, &done);
        if (code == CL_SUCCESS) {
            mo_status status = mo_cl_wait(cl, 1, &done);
            (void)status; /* said in the log; the memory goes in any case */
            clReleaseEvent(done);
        }
        clReleaseMemObject(staging->buffer);
        heap->stats.pinned_bytes -= staging->size;
    } else {
        mo_free(&cl->allocator, staging->data, staging->size, MOI_CACHE_LINE);
    }
    heap->stats.staging_bytes -= staging->size;
    memset(staging, 0, sizeof *staging);
}
