/* mo_training_internal.h - private: a training run with its lists of parameters. */
#ifndef MEMOPT_TRAINING_INTERNAL_H
#define MEMOPT_TRAINING_INTERNAL_H

#include "mo_training.h"

/* params, teacher  the run's lists, or own ones; teacher NULL: there is none */
typedef struct moi_training_job {
    const mo_training *t;
    const mo_params *params, *teacher;
    mo_params own, own_teacher;
} moi_training_job;

/* A list that was made is freed by close, which open that fails does itself. */
static mo_status moi_training_open(moi_training_job *job, const mo_training *t);
static void moi_training_close(moi_training_job *job);

static size_t moi_training_align(const mo_training *t);
/* Sequences of a micro-batch. */
static size_t moi_training_batch(const mo_training *t);
static size_t moi_training_n_trained(const mo_training *t, const mo_params *params);
static mo_optim_desc moi_training_optim(const mo_training *t, const mo_param *p);
/* Bytes of released gradients that the stage of the model's parameter i has for it. */
static size_t moi_training_released(const mo_training *t, const mo_params *params, size_t i);
/* Of the workspace that a model's micro-batch needs. */
static size_t moi_training_workspace(
    const mo_training *t, const mo_model *model, size_t n_params, size_t lora);

/* Of a tensor of a kind, MO_TRAINING_PARAM and so on; 0 = it has none. */
static size_t moi_training_tensor_bytes(const moi_training_job *job, int kind, size_t i);
static mo_status moi_training_place_all(const moi_training_job *job, mo_training_fixed *f);
static mo_status moi_training_build(
    const moi_training_job *job, size_t layers, int halves, mo_training_chain *g);
static mo_training_costs moi_training_costs_of(const moi_training_job *job);

#endif
