// teacher.c - a trained model that the student learns from: its weights are in the plan, and its
// activations of one sequence and one layer at a time.
#include "app.h"

#include <stdlib.h>
#include <string.h>

void teacher_open(trainer *t) {
    const char *path = t->o->distill;
    if (!path) return;
    teacher *h = t->teacher = allocate(sizeof *h);
    h->own = *t->o;
    h->own.given = 0; // the flags are about the student's sizes
    h->own.arch = NULL;
    h->own.kv_heads = 0;
    h->like = *t;
    h->like.o = &h->own;
    h->like.teacher = NULL;
    gpt_config *c = &h->like.config;
    checkpoint_read_teacher(&h->like, path);
    if (c->channels % c->heads != 0)
        fail(EXIT_BAD, "%s: %zu heads do not divide the %zu channels", path, c->heads, c->channels);
    if (c->seq < t->config.seq)
        fail(EXIT_BAD, "%s: --seq is %zu, but the teacher has %zu positions", path, t->config.seq,
            c->positions);
    if (!t->o->init && !t->o->resume && c->vocab > t->config.vocab) t->config.vocab = c->vocab;
    if (c->vocab != t->config.vocab)
        fail(EXIT_BAD, "%s: the teacher has a vocabulary of %zu, not %zu", path, c->vocab,
            t->config.vocab);
    mo_params_init(&h->like.params, NULL);
    gpt_add_params(c, &h->like.params);
    checkpoint_check_params(&h->like, path);
}

void teacher_close(trainer *t) {
    if (!t->teacher) return;
    mo_params_free(&t->teacher->like.params);
    free(t->teacher);
    t->teacher = NULL;
}

// ---- memory -----------------------------------------------------------------------------------

// What a forward of one sequence needs, and the output of all of them. Halves of a block run one
// after the other, so that their tensors may be in the same place.
typedef struct space {
    size_t x, y, half, rope, hidden, end;              // bytes from the beginning
    size_t ln, stats, qkv, lse, att, wide, activation; // from half
} space;

static size_t behind(const trainer *t, size_t *at, size_t n_floats) {
    const size_t align = t->backend->align(t), begin = *at;
    *at += (n_floats * sizeof(float) + align - 1) / align * align;
    return begin;
}

static space space_of(const trainer *t, const strategy *s) {
    const trainer *like = &t->teacher->like;
    const gpt_config *c = &like->config;
    const size_t rows = c->seq, width = c->channels;
    space at = {0};
    size_t attention, mlp, half = 0;
    at.ln = behind(t, &half, rows * width);
    at.stats = behind(t, &half, 2 * rows);
    attention = mlp = half;
    at.qkv = behind(t, &attention, rows * gpt_width(c, WIDTH_QKV));
    at.lse = behind(t, &attention, rows * c->heads);
    at.att = behind(t, &attention, rows * width);
    at.wide = behind(t, &mlp, rows * gpt_width(c, WIDTH_WIDE));
    at.activation = behind(t, &mlp, rows * gpt_width(c, WIDTH_HIDDEN));
    half = attention > mlp ? attention : mlp;
    at.x = behind(t, &at.end, rows * width);
    at.y = behind(t, &at.end, rows * width);
    at.half = behind(t, &at.end, half / sizeof(float));
    at.rope = behind(t, &at.end,
        c->arch->llama ? mo_rope_table_size(width / c->heads, rows) / sizeof(float) : 0);
    at.hidden = behind(t, &at.end, trainer_rows(like, s) * width);
    return at;
}

size_t teacher_space_size(const trainer *t, const strategy *s) { return space_of(t, s).end; }

void teacher_bind(session *x, char *memory) {
    teacher *h = x->t->teacher;
    const gpt_config *c = &h->like.config;
    const space at = space_of(x->t, x->s);
    char *half = memory + at.half;
    h->x[0] = (float *)(memory + at.x);
    h->x[1] = (float *)(memory + at.y);
    h->attention[LN1] = h->mlp[LN2] = half + at.ln;
    h->attention[STATS1] = h->mlp[STATS2] = half + at.stats;
    h->attention[QKV] = half + at.qkv;
    h->attention[LSE] = half + at.lse;
    h->attention[ATT] = half + at.att;
    h->mlp[FC] = half + at.wide;
    h->mlp[ACT] = half + at.activation;
    h->run = x->run;
    h->run.config = c;
    h->run.params = &h->like.params;
    h->run.batch = 1;
    h->run.halves = true;
    h->run.rope_table = NULL;
    if (c->arch->llama) h->run.rope_table = rope_begin(&h->like, memory + at.rope);
    h->hidden = (float *)(memory + at.hidden);
    h->distill = (distillation){.x = h->hidden,
        .w = h->like.params.items[h->like.params.n - 1].data,
        .channels = c->channels,
        .temperature = (float)x->t->o->distill_temperature,
        .weight = (float)x->t->o->distill_weight};
    x->run.distill = &h->distill;
}

void teacher_load(trainer *t) {
    if (!t->teacher) return;
    t->teacher->like.pages = NULL;
    checkpoint_load(&t->teacher->like, t->o->distill, false);
}

// ---- forward ----------------------------------------------------------------------------------

// One sequence, to its rows of what the head reads.
static void forward(teacher *h, float *to) {
    const gpt_config *c = &h->like.config;
    const mo_layernorm_desc norm =
        gpt_norm(&h->run, gpt_last_norm(c, h->run.params), (float *)h->attention[STATS1]);
    mo_step step = {.op = MO_STEP_FORWARD, .y = h->x[0]};
    gpt_step(&h->run, &step);
    for (size_t i = 0; i < 2 * c->layers; i++) {
        step.stage = i + 1;
        step.x = h->x[i % 2];
        step.y = h->x[(i + 1) % 2];
        step.tensors = i % 2 ? h->mlp : h->attention;
        gpt_step(&h->run, &step);
    }
    h->run.kernels->norm_forward(&h->run, &norm, h->x[0], to);
}

void teacher_forward(session *x) {
    teacher *h = x->t->teacher;
    if (!h) return;
    const gpt_config *c = &h->like.config;
    for (size_t i = 0; i < x->run.batch; i++) {
        h->run.inputs = x->inputs + i * c->seq;
        forward(h, h->hidden + i * c->seq * c->channels);
    }
}
