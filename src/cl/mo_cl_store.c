/* mo_cl_store.c - see mo_cl_store.h.
 *
 * The transfer queue keeps the order of its commands, so the event of a copy stands for all copies
 * before it too, and a mark of the compute queue holds back the first copy of a step only. A queue
 * must be flushed before the other one waits for its events. */

enum { MOI_CL_STORE_COPIES = 64 }; /* on their way; the oldest are waited for when there are more */

typedef struct moi_cl_store_copy {
    cl_event event;
    uint64_t off, size;
} moi_cl_store_copy;

mo_status mo_cl_store_init(mo_cl_store *store, mo_cl_heap *heap, size_t bytes) {
    mo_cl_store made;
    if (!store || !heap || !heap->cl) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.heap = heap;
    made.copies = (moi_cl_store_copy *)moi_cl_new(
        &heap->cl->allocator, MOI_CL_STORE_COPIES, sizeof *made.copies);
    if (!made.copies) return MO_E_NO_MEMORY;
    mo_status status = bytes ? mo_cl_staging_alloc(heap, bytes, &made.memory) : MO_OK;
    if (status == MO_OK) *store = made;
    else moi_cl_delete(&heap->cl->allocator, made.copies, MOI_CL_STORE_COPIES, sizeof *made.copies);
    return status;
}

/* Forget the first n copies. */
static void moi_cl_store_drop(mo_cl_store *store, size_t n) {
    for (size_t i = 0; i < n; i++) clReleaseEvent(store->copies[i].event);
    store->n_copies -= n;
    memmove(store->copies, store->copies + n, store->n_copies * sizeof *store->copies);
}

void mo_cl_store_free(mo_cl_store *store) {
    if (!store || !store->heap) return;
    if (store->n_copies > 0) {
        mo_status status =
            mo_cl_wait(store->heap->cl, 1, &store->copies[store->n_copies - 1].event);
        (void)status; /* said in the log; the memory goes in any case */
        moi_cl_store_drop(store, store->n_copies);
    }
    mo_cl_staging_free(&store->memory);
    moi_cl_delete(
        &store->heap->cl->allocator, store->copies, MOI_CL_STORE_COPIES, sizeof *store->copies);
    memset(store, 0, sizeof *store);
}

static int moi_cl_store_holds(const mo_cl_store *store, uint64_t off, uint64_t size) {
    return store && store->heap && off <= store->memory.size && size <= store->memory.size - off;
}

/* The compute queue goes on behind the first n copies. */
static mo_status moi_cl_store_order(mo_cl_store *store, size_t n) {
    if (n == 0) return MO_OK;
    const mo_cl_wait_list last = {&store->copies[n - 1].event, 1};
    mo_status status = mo_cl_barrier(store->heap->cl, MO_CL_COMPUTE, &last);
    if (status == MO_OK) moi_cl_store_drop(store, n);
    return status;
}

/* ---- copies -------------------------------------------------------------------------------- */

/* One copy, behind the mark. */
static mo_status moi_cl_store_copy_one(
    mo_cl_store *store, int out, const mo_cl_mem *mem, uint64_t off, cl_event mark) {
    if (!moi_cl_store_holds(store, off, mem->size) || !mem->buffer) return MO_E_INVALID;
    if (mem->size == 0) return MO_OK;
    if (store->n_copies == MOI_CL_STORE_COPIES) {
        mo_status status = moi_cl_store_order(store, MOI_CL_STORE_COPIES / 2);
        if (status != MO_OK) return status;
    }
    const mo_cl_wait_list after = {&mark, 1};
    const size_t size = (size_t)mem->size;
    char *data = (char *)store->memory.data + off;
    moi_cl_store_copy *copy = &store->copies[store->n_copies];
    mo_status status = out
        ? mo_cl_download(store->heap, MO_CL_TRANSFER, data, mem, 0, size, &after, &copy->event)
        : mo_cl_upload(store->heap, MO_CL_TRANSFER, mem, 0, data, size, &after, &copy->event);
    if (status != MO_OK) return status;
    copy->off = off;
    copy->size = size;
    store->n_copies++;
    *(out ? &store->stats.out_bytes : &store->stats.in_bytes) += size;
    *(out ? &store->stats.n_out : &store->stats.n_in) += 1;
    return MO_OK;
}

/* A mark of what the compute queue has done so far, on its way to the device. */
static mo_status moi_cl_store_mark(mo_cl *cl, cl_event *mark) {
    cl_event made = NULL;
    mo_status status = mo_cl_mark(cl, MO_CL_COMPUTE, &made);
    if (status != MO_OK) return status;
    status = mo_cl_flush(cl, MO_CL_COMPUTE);
    if (status == MO_OK) *mark = made;
    else clReleaseEvent(made);
    return status;
}

static mo_status moi_cl_store_move(
    mo_cl_store *store, int out, const mo_cl_mem *mem, uint64_t store_off) {
    cl_event mark = NULL;
    if (!moi_cl_store_holds(store, store_off, mem->size) || !mem->buffer) return MO_E_INVALID;
    mo_status status = moi_cl_store_mark(store->heap->cl, &mark);
    if (status != MO_OK) return status;
    status = moi_cl_store_copy_one(store, out, mem, store_off, mark);
    clReleaseEvent(mark);
    return status == MO_OK ? mo_cl_flush(store->heap->cl, MO_CL_TRANSFER) : status;
}

mo_status mo_cl_store_out(mo_cl_store *store, mo_cl_mem mem, uint64_t store_off) {
    return moi_cl_store_move(store, 1, &mem, store_off);
}
mo_status mo_cl_store_in(mo_cl_store *store, mo_cl_mem mem, uint64_t store_off) {
    return moi_cl_store_move(store, 0, &mem, store_off);
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* Copies up to the last one that touches the range. */
static size_t moi_cl_store_until(const mo_cl_store *store, uint64_t off, uint64_t size) {
    size_t n = store->n_copies;
    for (; n > 0; n--) {
        const moi_cl_store_copy *copy = &store->copies[n - 1];
        if (copy->off < off + size && off < copy->off + copy->size) break;
    }
    return n;
}

mo_status mo_cl_store_wait(mo_cl_store *store, uint64_t store_off, uint64_t size) {
    if (!moi_cl_store_holds(store, store_off, size)) return MO_E_INVALID;
    const size_t n = moi_cl_store_until(store, store_off, size);
    store->stats.n_waits += n > 0;
    return moi_cl_store_order(store, n);
}

/* ---- steps of a plan ----------------------------------------------------------------------- */

static mo_status moi_cl_store_start(
    mo_cl_store *store, const mo_cl_arena *arena, const mo_step *step, cl_event mark) {
    for (size_t i = 0; i < step->n_copies; i++) {
        const mo_plan_copy *copy = &step->copies[i];
        const mo_cl_mem part = mo_cl_arena_at(arena, copy->address, copy->size);
        mo_status status =
            moi_cl_store_copy_one(store, step->op == MO_STEP_OFFLOAD, &part, copy->store_off, mark);
        if (status != MO_OK) return status;
    }
    return mo_cl_flush(store->heap->cl, MO_CL_TRANSFER);
}

static mo_status moi_cl_store_end(mo_cl_store *store, const mo_step *step) {
    size_t n = 0;
    for (size_t i = 0; i < step->n_copies; i++) {
        const mo_plan_copy *copy = &step->copies[i];
        if (!moi_cl_store_holds(store, copy->store_off, copy->size)) return MO_E_INVALID;
        const size_t until = moi_cl_store_until(store, copy->store_off, copy->size);
        if (until > n) n = until;
    }
    store->stats.n_waits += n > 0;
    return moi_cl_store_order(store, n);
}

mo_status mo_cl_store_step(mo_cl_store *store, const mo_cl_arena *arena, const mo_step *step) {
    cl_event mark = NULL;
    if (!store || !store->heap || !arena || !step) return MO_E_INVALID;
    const int starts = step->op == MO_STEP_OFFLOAD || step->op == MO_STEP_PREFETCH;
    const int ends = step->op == MO_STEP_OFFLOAD_WAIT || step->op == MO_STEP_PREFETCH_WAIT;
    if (ends) return moi_cl_store_end(store, step);
    if (!starts || step->n_copies == 0) return MO_OK;
    mo_status status = moi_cl_store_mark(store->heap->cl, &mark);
    if (status != MO_OK) return status;
    status = moi_cl_store_start(store, arena, step, mark);
    clReleaseEvent(mark);
    return status;
}
