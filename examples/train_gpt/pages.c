// pages.c - optimizer states in pages: what both places of a run have in common. Addresses of the
// states stand for them then: nothing is there.
#include "app.h"

#include <stdlib.h>
#include <string.h>

struct paged_states {
    mo_optim_desc *descs;
    size_t *n, n_tensors, *tensor_of; // [params.n] by parameter
    mo_arena tokens;
    size_t size; // of their addresses
    // The states of one parameter as a checkpoint has them, between host_begin and the next step.
    size_t kept;
    void *memory; // NULL = none
    mo_optim_state state;
    bool changed;
};

// In the order of their updates: backward comes to the last ones first.
static void list_tensors(
    const trainer *t, const strategy *s, const mo_optim_desc *optim, paged_states *p) {
    p->descs = allocate(t->params.n * sizeof *p->descs);
    p->n = allocate(t->params.n * sizeof *p->n);
    p->tensor_of = allocate(t->params.n * sizeof *p->tensor_of);
    for (size_t k = 0; k < t->params.n; k++) {
        const size_t i = s->release ? t->params.n - 1 - k : k;
        if (!trainer_trains(t, s, i)) continue;
        p->tensor_of[i] = p->n_tensors;
        p->descs[p->n_tensors] = *optim;
        p->n[p->n_tensors++] = t->params.items[i].n;
    }
}

static void unlist_tensors(paged_states *p) {
    free(p->descs);
    free(p->n);
    free(p->tensor_of);
}

// ---- planning ---------------------------------------------------------------------------------

// An eighth of the states, or what two pages need where that is more.
static mo_status plan_eighth(mo_page_optim_desc *desc, mo_page_desc *found) {
    size_t bytes = 0;
    for (size_t i = 0; i < desc->n_tensors; i++)
        bytes += mo_optim_state_size(&desc->tensors[i], desc->n[i]);
    mo_status status = MO_E_NO_SPACE;
    for (size_t limit = bytes / 8; status == MO_E_NO_SPACE && limit <= 2 * bytes;
         limit += limit / 8 + 1) {
        desc->pages.resident_bytes = limit;
        status = mo_page_optim_pages(desc, found);
    }
    return status;
}

mo_page_desc pages_plan(const trainer *t, const strategy *s) {
    mo_optim_desc optim = t->optim;
    paged_states p = {0};
    mo_page_desc found;
    optim.precision = s->optim;
    list_tensors(t, s, &optim, &p);
    mo_page_optim_desc desc = {.tensors = p.descs, .n = p.n, .n_tensors = p.n_tensors};
    desc.pages.resident_bytes = (size_t)s->resident;
    const mo_status status =
        s->resident ? mo_page_optim_pages(&desc, &found) : plan_eighth(&desc, &found);
    if (status == MO_E_NO_SPACE)
        fail(EXIT_BAD, "--strategy: paged=%llu: no two pages of states fit",
            (unsigned long long)s->resident);
    check(status, "pages of states");
    unlist_tensors(&p);
    return found;
}

// ---- states -----------------------------------------------------------------------------------

void pages_open(trainer *t, const strategy *s, void *const *slots, size_t n_slots) {
    const mo_page_desc plan = pages_plan(t, s);
    paged_states *p = t->pages = allocate(sizeof *p);
    size_t size = 0;
    list_tensors(t, s, &t->optim, p);
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *param = &t->params.items[i];
        if (trainer_trains(t, s, i)) size += mo_optim_state_size(&t->optim, param->n);
    }
    const mo_arena_desc tokens = {.size = size + 64, .log = &app_log};
    p->size = size;
    check(mo_arena_init(&p->tokens, &tokens), "addresses for pages of states");
    char *at = (char *)p->tokens.base;
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *param = &t->params.items[i];
        if (!trainer_trains(t, s, i)) continue;
        t->state_at[i] = at;
        at += mo_optim_state_size(&t->optim, param->n);
    }
    mo_page_optim_desc desc = {
        .tensors = p->descs, .n = p->n, .n_tensors = p->n_tensors, .pages = plan};
    desc.pages.folder = t->o->page_dir;
    desc.pages.buffered = !t->o->page_direct;
    desc.pages.reserve = 1;
    desc.pages.log = app_log;
    t->backend->pages_open(t, &desc, slots, n_slots);
}

// What a checkpoint has changed goes to the pages.
static void put_back(const trainer *t) {
    paged_states *p = t->pages;
    if (p->changed) t->backend->pages_exchange(t, p->tensor_of[p->kept], &p->state, false);
    mo_free(NULL, p->memory, mo_optim_state_size(&t->optim, t->params.items[p->kept].n), 64);
    p->memory = NULL;
    p->changed = false;
}

void pages_close(trainer *t) {
    paged_states *p = t->pages;
    if (!p) return;
    put_back(t);
    t->backend->pages_close(t);
    mo_arena_free(&p->tokens);
    unlist_tensors(p);
    free(p);
    t->pages = NULL;
}

void pages_step(trainer *t, size_t i) {
    if (t->pages->memory) put_back(t);
    t->backend->pages_step(t, t->pages->tensor_of[i], i);
}

// ---- as host memory ---------------------------------------------------------------------------

bool pages_hold(const trainer *t, const void *address) {
    const mo_arena *tokens = t->pages ? &t->pages->tokens : NULL;
    return tokens && (uintptr_t)address - (uintptr_t)tokens->base < t->pages->size;
}

// The parameter whose states lie at the address; all of its states are in p->memory then.
static char *keep(const trainer *t, const void *address) {
    paged_states *p = t->pages;
    size_t i = t->params.n;
    while (i-- > 0)
        if (t->state_at[i] && (uintptr_t)t->state_at[i] <= (uintptr_t)address) break;
    if (!p->memory || p->kept != i) {
        const size_t n = t->params.items[i].n, size = mo_optim_state_size(&t->optim, n);
        put_back(t);
        p->kept = i;
        p->memory = mo_alloc(NULL, size, 64);
        if (!p->memory) fail(EXIT_BAD, "out of memory for %zu bytes", size);
        check(mo_optim_state_init(&t->optim, n, p->memory, size, &p->state), "states in memory");
        t->backend->pages_exchange(t, p->tensor_of[i], &p->state, true);
    }
    return (char *)p->memory + ((uintptr_t)address - (uintptr_t)t->state_at[i]);
}

void *pages_host_begin(const trainer *t, const void *address, size_t size, bool read) {
    void *host = allocate(size);
    if (read) memcpy(host, keep(t, address), size);
    return host;
}

void pages_host_end(const trainer *t, const void *address, void *host, size_t size, bool write) {
    if (write) {
        memcpy(keep(t, address), host, size);
        t->pages->changed = true;
    }
    free(host);
}
