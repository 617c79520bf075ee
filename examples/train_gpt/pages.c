// pages.c - optimizer states in pages: what both places of a run have in common. Addresses of the
// states stand for them then: nothing is there.
#include "app.h"

#include <stdlib.h>
#include <string.h>

struct paged_states {
    mo_training_states of;
    mo_arena tokens;
    size_t size; // of their addresses
    // The states of one parameter as a checkpoint has them, between host_begin and the next step.
    size_t kept;
    void *memory; // NULL = none
    mo_optim_state state;
    bool changed;
};

// ---- states -----------------------------------------------------------------------------------

void pages_open(trainer *t, const strategy *s, void *const *slots, size_t n_slots) {
    const mo_training x = trainer_training(t, s);
    paged_states *p = t->pages = allocate(sizeof *p);
    mo_page_desc plan;
    size_t size = 0;
    check(mo_training_states_init(&p->of, &x, &t->params), "states");
    check(mo_training_pages(&p->of, &x, &plan), "pages of states");
    for (size_t k = 0; k < p->of.n_tensors; k++)
        size += mo_optim_state_size(&p->of.descs[k], p->of.n[k]);
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
        .tensors = p->of.descs, .n = p->of.n, .n_tensors = p->of.n_tensors, .pages = plan};
    desc.pages.folder = t->o->page_dir;
    desc.pages.buffered = !t->o->page_direct;
    desc.pages.reserve = 1;
    desc.pages.log = app_log;
    t->backend->pages_open(t, &desc, slots, n_slots);
}

// What a checkpoint has changed goes to the pages.
static void put_back(const trainer *t) {
    paged_states *p = t->pages;
    if (p->changed) t->backend->pages_exchange(t, p->of.tensor_of[p->kept], &p->state, false);
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
    mo_training_states_free(&p->of);
    free(p);
    t->pages = NULL;
}

void pages_step(trainer *t, size_t i) {
    if (t->pages->memory) put_back(t);
    t->backend->pages_step(t, t->pages->of.tensor_of[i], i);
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
        t->backend->pages_exchange(t, p->of.tensor_of[i], &p->state, true);
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
