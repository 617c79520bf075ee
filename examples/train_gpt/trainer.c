// trainer.c - everything that is known before memory is planned.
#include "app.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void open_blas(trainer *t, const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(EXIT_BAD, "--blas: %s", dlerror());
    void *symbol = dlsym(library, "cblas_sgemm");
    if (!symbol) fail(EXIT_BAD, "--blas: %s has no cblas_sgemm", path);
    memcpy(&t->cblas, &symbol, sizeof symbol); // ISO C has no cast from object to function
    void (*set_threads)(int) = NULL;
    symbol = dlsym(library, "openblas_set_num_threads");
    memcpy(&set_threads, &symbol, sizeof symbol);
    if (set_threads) set_threads(mo_parallel_threads(&t->parallel));
}

static void check_config(const trainer *t) {
    const gpt_config *c = &t->config;
    const double need = (double)t->o->batch * (double)t->o->accum * (double)c->seq + 1;
    if (c->layers % c->share != 0)
        fail(EXIT_USAGE, "--strategy: share=%zu does not divide --layers %zu", c->share, c->layers);
    if (c->channels % c->heads != 0)
        fail(EXIT_BAD, "--heads: %zu does not divide the %zu channels", c->heads, c->channels);
    if (c->heads % c->kv_heads != 0)
        fail(EXIT_BAD, "--kv-heads: %zu does not divide the %zu heads", c->kv_heads, c->heads);
    if (!c->arch->llama && c->kv_heads != c->heads)
        fail(EXIT_USAGE, "--kv-heads: needs --arch llama");
    if (c->arch->llama && c->channels / c->heads % 2 != 0)
        fail(EXIT_BAD,
            "--heads: %zu of %zu channels have an odd size, which --arch llama cannot turn",
            c->heads, c->channels);
    if ((double)t->corpus.training.n < need) // a product of sizes may not fit a size_t
        fail(EXIT_BAD, "%s: %llu tokens%s are fewer than one update reads: %.0f", t->corpus.name,
            (unsigned long long)t->corpus.training.n, t->o->valid > 0 ? " beside --valid" : "",
            need);
    if (t->corpus.vocab > c->vocab)
        fail(EXIT_BAD, "%s: token %u is outside the vocabulary of %zu", t->corpus.name,
            t->corpus.vocab - 1, c->vocab);
    if (t->o->batch % t->o->strategy.accum != 0)
        fail(EXIT_USAGE, "--strategy: accum=%zu does not divide --batch %zu", t->o->strategy.accum,
            t->o->batch);
    release_check(t, &t->o->strategy);
    if (t->o->valid > 0 && trainer_valid_batches(t, &t->o->strategy) == 0)
        fail(EXIT_BAD, "%s: --valid holds out %llu tokens, fewer than one batch reads",
            t->corpus.name, (unsigned long long)(t->corpus.tokens.n - t->corpus.training.n));
}

void trainer_open(trainer *t, const options *o) {
    const char *from = o->init;
    memset(t, 0, sizeof *t);
    t->own = *o;
    o = t->o = &t->own;
    t->config = (gpt_config){.arch = o->arch ? gpt_arch_find(o->arch) : gpt_arch_at(0),
        .layers = o->layers,
        .share = o->strategy.share ? o->strategy.share : 1,
        .channels = o->channels,
        .heads = o->heads,
        .kv_heads = o->kv_heads ? o->kv_heads : o->heads,
        .positions = o->seq,
        .seq = o->seq,
        .vocab = 256};
    t->parallel.n_threads = (int)o->threads;
    t->optim.parallel = &t->parallel;
    t->device = device_open(o->device, &t->backend);
    t->shuffle = o->shuffle;
    corpus_open(&t->corpus, o);
    if (o->resume) checkpoint_find(t);
    if (o->resume && !from) from = t->resume; // with lora the weights are in --init
    if (from) checkpoint_read_config(t, from, from == t->resume);
    else {
        t->config.vocab = t->corpus.vocab;
        const mo_model_arch arch = t->config.arch->llama ? MO_MODEL_LLAMA : MO_MODEL_GPT2;
        t->config.hidden = mo_model_default_hidden(arch, o->channels);
    }
    if (o->resume && from != t->resume) checkpoint_read_settings(t, t->resume);
    t->config.rope_theta = o->rope_theta;
    teacher_open(t);
    check_config(t);
    t->optim.lr = o->lr;
    t->optim.weight_decay = o->weight_decay;
    if (o->save) checkpoint_can_save(o->save);
    if (o->report) report_begin(o->report);
    if (o->blas) open_blas(t, o->blas);
    mo_params_init(&t->params, NULL);
    lora_add_params(t);
    freeze_params(t);
    if (from) checkpoint_check_params(t, from);
    t->state_at = allocate(t->params.n * sizeof *t->state_at);
}

void trainer_close(trainer *t) {
    teacher_close(t);
    device_close(t->device);
    free(t->state_at);
    free(t->weights);
    free(t->freeze);
    mo_params_free(&t->params);
    corpus_close(&t->corpus);
}
