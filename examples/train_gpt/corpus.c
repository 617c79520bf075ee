// corpus.c - where the training tokens come from.
#include "app.h"

#include <stdlib.h>
#include <string.h>

void corpus_open(corpus *c, const options *o) {
    const mo_tokens_desc desc = {.paths = o->tokens ? &o->tokens : o->texts,
        .n_paths = o->tokens ? 1 : o->n_texts,
        .format = o->tokens ? MO_TOKENS_BIN : MO_TOKENS_BYTES,
        .log = app_log};
    int32_t most = 255;
    memset(c, 0, sizeof *c);
    c->name = desc.n_paths == 1 ? desc.paths[0] : "the text files";
    if (mo_tokens_open(&c->tokens, &desc) != MO_OK) exit(EXIT_BAD); // app_log has said why
    if (o->tokens && mo_tokens_max(&c->tokens, &most) != MO_OK) exit(EXIT_BAD);
    c->training = c->tokens;
    const double held = o->valid < 1 ? o->valid * (double)c->tokens.n : o->valid;
    c->training.n -= held < (double)c->tokens.n ? (uint64_t)held : c->tokens.n;
    c->vocab = c->tokens.n > 0 ? (uint32_t)most + 1 : o->tokens ? 0 : 256;
}

void corpus_close(corpus *c) { mo_tokens_close(&c->tokens); }
