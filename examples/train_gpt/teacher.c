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
    h->model = gpt_model(c);
    check(mo_model_add_params(&h->model, &h->like.params), path);
    checkpoint_check_params(&h->like, path);
}

void teacher_close(trainer *t) {
    if (!t->teacher) return;
    mo_params_free(&t->teacher->like.params);
    free(t->teacher);
    t->teacher = NULL;
}

// ---- memory -----------------------------------------------------------------------------------

void teacher_bind(session *x, char *memory) {
    teacher *h = x->t->teacher;
    const gpt_config *c = &h->like.config;
    const mo_training of = trainer_training(x->t, x->s);
    const mo_training_teacher at = mo_training_teacher_space(&of);
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
