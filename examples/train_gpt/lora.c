// lora.c - strategy lora=R: adapters on the matrices of a block, whose weights are frozen in the
// format of base=; embedding, norms and biases are frozen as floats. A block that is applied
// several times has its adapters once.
#include "app.h"

#include <stdlib.h>
#include <string.h>

// ---- parameters -------------------------------------------------------------------------------

void lora_add_params(trainer *t) {
    const strategy *s = &t->o->strategy;
    const mo_model model = gpt_model(&t->config);
    t->n_base = mo_model_n_params(&model);
    t->weights = allocate(t->n_base * sizeof *t->weights);
    if (s->lora == 0) {
        check(mo_model_add_params(&model, &t->params), "parameters");
        return;
    }
    const mo_training x = trainer_training(t, s);
    check(mo_training_add_params(&x, &t->params), "parameters");
    for (size_t i = 0; i < t->n_base; i++)
        (void)mo_training_weight(&x, &t->params, i, &t->weights[i]);
}

size_t lora_adapter(const gpt_config *c, size_t i) {
    const mo_model model = gpt_model(c);
    return mo_training_adapter(&model, i);
}

bool lora_stores(const trainer *t, size_t i) { return i < t->n_base && t->weights[i].rows != 0; }

void lora_bind(trainer *t) {
    for (size_t i = 0; i < t->n_base; i++)
        if (lora_stores(t, i))
            check(mo_weight_place(
                      &t->weights[i], t->params.items[i].data, mo_weight_size(&t->weights[i])),
                t->params.items[i].name);
}

void lora_init(trainer *t) {
    for (size_t i = 0; i < t->n_base; i++) {
        if (!lora_stores(t, i)) continue;
        const mo_param *a = &t->params.items[lora_adapter(&t->config, i)], *b = a + 1;
        const size_t a_size = a->n * sizeof(float), b_size = b->n * sizeof(float);
        float *host_a = t->backend->host_begin(t, a->data, a_size, false);
        float *host_b = t->backend->host_begin(t, b->data, b_size, false);
        check(mo_lora_init(a->shape[1], b->shape[0], a->shape[0], t->o->seed + i, host_a, host_b),
            a->name);
        t->backend->host_end(t, a->data, host_a, a_size, true);
        t->backend->host_end(t, b->data, host_b, b_size, true);
    }
}

// ---- weights ----------------------------------------------------------------------------------

// The same weight in host memory.
static mo_weight on_host(const trainer *t, size_t i, void *host) {
    mo_weight w = t->weights[i];
    check(mo_weight_place(&w, host, mo_weight_size(&w)), t->params.items[i].name);
    return w;
}

void lora_store(trainer *t, size_t i, const float *x) {
    const size_t size = mo_weight_size(&t->weights[i]);
    const size_t scratch = mo_weight_workspace_size(&t->weights[i]);
    void *memory = allocate(scratch), *address = t->params.items[i].data;
    void *host = t->backend->host_begin(t, address, size, false);
    memset(host, 0, size); // what lies between the arrays too
    mo_weight w = on_host(t, i, host);
    check(mo_weight_encode(&w, x, memory, scratch, &t->parallel), t->params.items[i].name);
    t->weights[i].offset = w.offset;
    t->backend->host_end(t, address, host, size, true);
    free(memory);
}

mo_lora_desc lora_desc(const gpt_config *c, size_t rank, size_t rows) {
    const mo_model model = gpt_model(c);
    return mo_training_lora(&model, rank, rows);
}

size_t lora_workspace_size(const trainer *t, const strategy *s) {
    const mo_training x = trainer_training(t, s);
    return mo_training_lora_size(&x, &t->params);
}

// As floats, with the adapter in it; free() it.
float *lora_merged(const trainer *t, size_t i) {
    const mo_param *p = &t->params.items[i], *a = &t->params.items[lora_adapter(&t->config, i)],
                   *b = a + 1;
    const size_t size = mo_weight_size(&t->weights[i]);
    mo_gemm_env env = {.parallel = &t->parallel};
    mo_lora_desc d = lora_desc(&t->config, t->o->strategy.lora, 1);
    mo_weight sum = {.rows = p->shape[0], .columns = p->shape[1]};
    float *x = allocate(p->n * sizeof *x);
    void *host = t->backend->host_begin(t, p->data, size, true);
    const mo_weight w = on_host(t, i, host);
    check(mo_weight_decode(&w, 0, w.rows, x, &t->parallel), p->name);
    t->backend->host_end(t, p->data, host, size, false);
    sum.data = x;
    d.env = &env;
    d.workspace_size = mo_lora_merge_workspace_size(&d, &sum);
    env.workspace_size = mo_gemm_workspace_size(&t->parallel, NULL);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    env.workspace = mo_alloc(NULL, env.workspace_size, 64);
    if (!d.workspace || !env.workspace) fail(EXIT_BAD, "out of memory for a merged weight");
    float *host_a = t->backend->host_begin(t, a->data, a->n * sizeof(float), true);
    float *host_b = t->backend->host_begin(t, b->data, b->n * sizeof(float), true);
    check(mo_lora_merge(&d, &sum, host_a, host_b), p->name);
    t->backend->host_end(t, a->data, host_a, a->n * sizeof(float), false);
    t->backend->host_end(t, b->data, host_b, b->n * sizeof(float), false);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    mo_free(NULL, env.workspace, env.workspace_size, 64);
    return x;
}

// ---- steps ------------------------------------------------------------------------------------

gpt_adapted lora_linear(const gpt_run *run, size_t layer, int part, size_t i) {
    const gpt_config *c = run->config;
    const mo_param *w = gpt_part(c, run->params, layer, part) + i, *all = run->params->items;
    const mo_param *a = &all[lora_adapter(c, (size_t)(w - all))];
    return (gpt_adapted){
        .weight = &run->weights[w->tied_to], .a = a, .b = a + 1, .rows = run->batch * c->seq};
}

mo_lora_tensors lora_tensors(const gpt_adapted *l, bool gradients) {
    return (mo_lora_tensors){l->weight, l->a->data, l->b->data, gradients ? l->a->grad : NULL,
        gradients ? l->b->grad : NULL};
}

// ---- files ------------------------------------------------------------------------------------

// adapter_config.json in the folder of --save, so that PEFT and memopt merge-lora read the file.
void lora_save_config(const trainer *t, const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t folder = slash ? (size_t)(slash - path) + 1 : 0, rank = t->o->strategy.lora;
    const mo_lora_file_desc desc = {.log = app_log};
    const gpt_arch *arch = t->config.arch;
    const mo_lora_desc d = lora_desc(&t->config, rank, 1);
    const mo_lora_config config = {
        .rank = rank, .alpha = d.alpha, .in_out = d.in_out, .base = t->o->init};
    mo_lora_entry *entries = allocate(arch->n_params * sizeof *entries);
    size_t n = 0;
    char *file = allocate(folder + 32);
    memcpy(file, path, folder);
    strcpy(file + folder, "adapter_config.json");
    for (size_t i = 0; i < arch->n_params; i++) { // the first block's
        const mo_param *p = &t->params.items[gpt_front(&t->config) + i];
        if (p->n_dims != 2) continue;
        entries[n++] =
            (mo_lora_entry){.name = p->name, .in = p->shape[!d.in_out], .out = p->shape[d.in_out]};
    }
    if (mo_lora_save_config(file, &config, entries, n, &desc) != MO_OK) exit(EXIT_BAD);
    free(file);
    free(entries);
}
