// cpu.c - the CPU as the place of a run: memory from one arena, kernels of memopt.h.
#include "app.h"

#include <stdlib.h>
#include <string.h>

// ---- linear layers, embedding -----------------------------------------------------------------

typedef struct fill_job {
    const float *bias, *residual;
    float *y;
    size_t columns;
} fill_job;

static void fill_rows(const void *context, size_t begin, size_t end) {
    const fill_job *f = context;
    for (size_t row = begin; row < end; row++) {
        float *restrict y = f->y + row * f->columns;
        const float *restrict r = f->residual ? f->residual + row * f->columns : NULL;
        if (r)
            for (size_t i = 0; i < f->columns; i++) y[i] = r[i] + f->bias[i];
        else memcpy(y, f->bias, f->columns * sizeof *y);
    }
}

static void bias_forward(const gpt_run *run, const float *bias, const float *residual, size_t rows,
    size_t columns, float *y) {
    fill_job fill = {bias, residual, y, columns};
    mo_parallel_for(run->env.parallel, rows, 1, fill_rows, &fill);
}

typedef struct column_job {
    const float *dy;
    float *sum;
    size_t rows, columns;
} column_job;

static void add_columns(const void *context, size_t begin, size_t end) {
    const column_job *c = context;
    for (size_t row = 0; row < c->rows; row++) {
        const float *restrict dy = c->dy + row * c->columns;
        float *restrict sum = c->sum;
        for (size_t i = begin; i < end; i++) sum[i] += dy[i];
    }
}

static void bias_backward(
    const gpt_run *run, const float *dy, size_t rows, size_t columns, float *dbias) {
    column_job job = {dy, dbias, rows, columns};
    mo_parallel_for(run->env.parallel, columns, 64, add_columns, &job);
}

static void gemm(
    const gpt_run *run, const mo_gemm_desc *d, const float *a, const float *b, float *c) {
    check(mo_gemm(&run->env, d, a, b, c), "mo_gemm");
}

// A BLAS has no product with bf16.
static void gemm_param(
    const gpt_run *run, const mo_gemm_desc *d, const float *a, const mo_param *b, float *c) {
    const mo_gemm_operand left = {.type = MO_GEMM_F32, .data = a};
    const mo_gemm_operand right = {.type = MO_GEMM_BF16, .data = b->bf16};
    mo_gemm_env own = run->env;
    own.cblas = NULL;
    if (b->is_bf16) check(mo_gemm_mixed(&own, d, &left, &right, c), "mo_gemm_mixed");
    else gemm(run, d, a, b->data, c);
}

typedef struct embedding_job {
    const gpt_run *run;
    float *y;        // forward
    const float *dy; // backward
} embedding_job;

static void embed_rows(const void *context, size_t begin, size_t end) {
    const embedding_job *e = context;
    const size_t width = e->run->config->channels, seq = e->run->config->seq;
    const float *wte = e->run->params->items[0].data;
    const float *wpe = e->run->config->arch->positions ? e->run->params->items[1].data : NULL;
    for (size_t row = begin; row < end; row++) {
        const float *restrict token = wte + (size_t)e->run->inputs[row] * width;
        const float *restrict place = wpe ? wpe + row % seq * width : NULL;
        float *restrict y = e->y + row * width;
        if (!place) memcpy(y, token, width * sizeof *y);
        else
            for (size_t i = 0; i < width; i++) y[i] = token[i] + place[i];
    }
}

// Columns go to threads: rows of wte meet more than once.
static void embed_backward_columns(const void *context, size_t begin, size_t end) {
    const embedding_job *e = context;
    const size_t width = e->run->config->channels, seq = e->run->config->seq;
    float *dwte = e->run->params->items[0].grad;
    float *dwpe = e->run->config->arch->positions ? e->run->params->items[1].grad : NULL;
    for (size_t row = 0; row < e->run->batch * seq; row++) {
        const float *restrict dy = e->dy + row * width;
        float *token = dwte ? dwte + (size_t)e->run->inputs[row] * width : NULL;
        float *place = dwpe ? dwpe + row % seq * width : NULL;
        for (size_t i = begin; i < end && token; i++) token[i] += dy[i];
        for (size_t i = begin; i < end && place; i++) place[i] += dy[i];
    }
}

static void embedding_forward(const gpt_run *run, float *y) {
    embedding_job job = {run, y, NULL};
    mo_parallel_for(run->env.parallel, run->batch * run->config->seq, 1, embed_rows, &job);
}

static void embedding_backward(const gpt_run *run, const float *dy) {
    embedding_job job = {run, NULL, dy};
    mo_parallel_for(run->env.parallel, run->config->channels, 16, embed_backward_columns, &job);
}

// ---- the rest of the stages -------------------------------------------------------------------

// Without a bias: RMSNorm.
static mo_rmsnorm_desc rmsnorm_desc(const gpt_run *run, const mo_layernorm_desc *d) {
    return (mo_rmsnorm_desc){.n = d->n,
        .channels = d->channels,
        .epsilon = d->epsilon,
        .weight = d->weight,
        .rstd = d->rstd,
        .dweight = d->dweight,
        .add = d->add,
        .parallel = run->env.parallel};
}

static void norm_forward(
    const gpt_run *run, const mo_layernorm_desc *desc, const float *x, float *y) {
    const mo_rmsnorm_desc rms = rmsnorm_desc(run, desc);
    mo_layernorm_desc d = *desc;
    d.parallel = run->env.parallel;
    check(d.bias ? mo_layernorm_forward(&d, x, y) : mo_rmsnorm_forward(&rms, x, y), "norm");
}

static void norm_apply(
    const gpt_run *run, const mo_layernorm_desc *desc, const float *x, float *y) {
    const mo_rmsnorm_desc rms = rmsnorm_desc(run, desc);
    mo_layernorm_desc d = *desc;
    d.parallel = run->env.parallel;
    check(d.bias ? mo_layernorm_apply(&d, x, y) : mo_rmsnorm_apply(&rms, x, y), "norm");
}

static void norm_backward(
    const gpt_run *run, const mo_layernorm_desc *desc, const float *x, const float *dy, float *dx) {
    const mo_rmsnorm_desc rms = rmsnorm_desc(run, desc);
    mo_layernorm_desc d = *desc;
    d.parallel = run->env.parallel;
    check(d.bias ? mo_layernorm_backward(&d, x, dy, dx) : mo_rmsnorm_backward(&rms, x, dy, dx),
        "norm");
}

// Products and an adapter share the workspace: its part is at the end.
static mo_lora_desc adapter_desc(const gpt_run *run, const gpt_adapted *l, mo_gemm_env *env) {
    mo_lora_desc d = lora_desc(run->config, run->rank, l->rows);
    d.y_stride = l->y_stride;
    d.dx_stride = l->dx_stride;
    d.add = l->add;
    *env = run->env;
    env->workspace_size -= run->lora_size;
    d.env = env;
    d.workspace = (char *)run->workspace + env->workspace_size;
    d.workspace_size = run->lora_size;
    return d;
}

static void lora_forward(const gpt_run *run, const gpt_adapted *l, const float *x, float *y) {
    const mo_lora_tensors tensors = lora_tensors(l, false);
    mo_gemm_env env;
    const mo_lora_desc d = adapter_desc(run, l, &env);
    check(mo_lora_forward(&d, &tensors, x, y), "mo_lora_forward");
}

static void lora_backward_adapter(
    const gpt_run *run, const gpt_adapted *l, const float *x, const float *dy) {
    const mo_lora_tensors tensors = lora_tensors(l, true);
    mo_gemm_env env;
    const mo_lora_desc d = adapter_desc(run, l, &env);
    check(mo_lora_backward(&d, &tensors, x, dy, NULL), "mo_lora_backward");
}

static void lora_backward_input(
    const gpt_run *run, const gpt_adapted *l, const float *dy, float *dx) {
    const mo_lora_tensors tensors = lora_tensors(l, false);
    mo_gemm_env env;
    const mo_lora_desc d = adapter_desc(run, l, &env);
    check(mo_lora_backward(&d, &tensors, NULL, dy, dx), "mo_lora_backward");
}

static mo_attention_desc attention_desc(const gpt_run *run, const mo_attention_desc *desc) {
    mo_attention_desc d = *desc;
    d.workspace = run->workspace;
    d.workspace_size = run->workspace_size;
    d.parallel = run->env.parallel;
    return d;
}

static void attention_forward(
    const gpt_run *run, const mo_attention_desc *desc, const mo_attention_tensors *t) {
    const mo_attention_desc d = attention_desc(run, desc);
    check(mo_attention_forward(&d, t), "mo_attention_forward");
}

static void attention_backward(
    const gpt_run *run, const mo_attention_desc *desc, const mo_attention_tensors *t) {
    const mo_attention_desc d = attention_desc(run, desc);
    check(mo_attention_backward(&d, t), "mo_attention_backward");
}

static void compress(
    const gpt_run *run, const mo_compress_desc *desc, const float *x, size_t n, void *codes) {
    mo_compress_desc d = *desc;
    d.parallel = run->env.parallel;
    check(mo_compress_encode(&d, x, n, codes), "mo_compress_encode");
}

static void expand(
    const gpt_run *run, const mo_compress_desc *desc, const void *codes, size_t n, float *x) {
    mo_compress_desc d = *desc;
    d.parallel = run->env.parallel;
    check(mo_compress_decode(&d, codes, n, x), "mo_compress_decode");
}

static void gelu_forward(const gpt_run *run, const float *x, float *y, size_t n) {
    mo_gelu_forward(x, y, n, run->env.parallel);
}

static void gelu_backward(
    const gpt_run *run, const float *x, const float *dy, float *dx, size_t n) {
    mo_gelu_backward(x, dy, dx, n, run->env.parallel);
}

static void swiglu_forward(
    const gpt_run *run, const mo_swiglu_desc *desc, const float *gate_up, float *y) {
    mo_swiglu_desc d = *desc;
    d.parallel = run->env.parallel;
    check(mo_swiglu_forward(&d, gate_up, gate_up + d.hidden, y), "mo_swiglu_forward");
}

static void swiglu_backward(const gpt_run *run, const mo_swiglu_desc *desc, const float *gate_up,
    const float *dy, float *dgate_up) {
    mo_swiglu_desc d = *desc;
    d.parallel = run->env.parallel;
    check(mo_swiglu_backward(&d, gate_up, gate_up + d.hidden, dy, dgate_up, dgate_up + d.hidden),
        "mo_swiglu_backward");
}

static void rope(const gpt_run *run, const mo_rope_desc *desc, bool back, float *x) {
    mo_rope_desc d = *desc;
    d.parallel = run->env.parallel;
    check(back ? mo_rope_backward(&d, x) : mo_rope_forward(&d, x), "mo_rope");
}

static void linear_ce(
    gpt_run *run, const mo_linear_ce_desc *desc, const mo_linear_ce_tensors *tensors) {
    mo_linear_ce_desc d = *desc;
    d.env = &run->env;
    check(mo_linear_ce(&d, tensors, &run->loss), "mo_linear_ce");
}

static void linear_kd(
    gpt_run *run, const mo_linear_kd_desc *desc, const mo_linear_kd_tensors *tensors) {
    mo_linear_kd_desc d = *desc;
    d.ce.env = &run->env;
    check(mo_linear_kd(&d, tensors, &run->loss), "mo_linear_kd");
}

static double last_loss(const gpt_run *run) { return run->loss; }

static void copy(const gpt_run *run, const float *from, float *to, size_t n) {
    (void)run;
    memcpy(to, from, n * sizeof *to);
}

static const gpt_kernels kernels = {.bias_forward = bias_forward,
    .bias_backward = bias_backward,
    .gemm = gemm,
    .gemm_param = gemm_param,
    .norm_forward = norm_forward,
    .norm_apply = norm_apply,
    .norm_backward = norm_backward,
    .lora_forward = lora_forward,
    .lora_backward_adapter = lora_backward_adapter,
    .lora_backward_input = lora_backward_input,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .gelu_forward = gelu_forward,
    .gelu_backward = gelu_backward,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .rope = rope,
    .compress = compress,
    .expand = expand,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .linear_ce_workspace_size = mo_linear_ce_workspace_size,
    .linear_ce = linear_ce,
    .linear_kd_workspace_size = mo_linear_kd_workspace_size,
    .linear_kd = linear_kd,
    .loss = last_loss,
    .copy = copy};

// ---- memory -----------------------------------------------------------------------------------

struct cpu {
    mo_arena arena;
    mo_optim_state *states; // [params.n]
    mo_page_optim paged;
    transfer *transfer;
};

static mo_training_target target(const trainer *t) {
    return (mo_training_target){
        .align = 64, .has_blas = t->cblas != NULL, .parallel = &t->parallel};
}

static uint64_t most(const trainer *t) {
    (void)t;
    return 0;
}

static void give_back(trainer *t) {
    mo_arena_free(&t->cpu->arena);
    free(t->cpu->states);
    free(t->cpu);
    t->cpu = NULL;
}

static mo_arena *take(trainer *t, size_t size, uint64_t budget) {
    const mo_arena_desc desc = {.size = size, .log = &app_log};
    (void)budget; // the plan is within it
    t->cpu = allocate(sizeof *t->cpu);
    t->cpu->states = allocate(t->params.n * sizeof *t->cpu->states);
    if (mo_arena_init(&t->cpu->arena, &desc) != MO_OK)
        fail(EXIT_BAD, "no address space for the plan of %zu bytes", size);
    return &t->cpu->arena;
}

static uint64_t peak_bytes(const trainer *t) {
    mo_arena_stats stats;
    mo_arena_get_stats(&t->cpu->arena, &stats);
    return stats.peak_bytes;
}

static void *host_begin(const trainer *t, void *address, size_t size, bool read) {
    return pages_hold(t, address) ? pages_host_begin(t, address, size, read) : address;
}

static void host_end(const trainer *t, void *address, void *host, size_t size, bool write) {
    if (pages_hold(t, address)) pages_host_end(t, address, host, size, write);
}

static void clear_range(const void *context, size_t begin, size_t end) {
    char *const *bytes = context;
    memset(*bytes + begin, 0, end - begin);
}

static void clear(const trainer *t, void *address, size_t size) {
    char *bytes = address;
    mo_parallel_for(&t->parallel, size, 4096, clear_range, &bytes);
}

static void wait_for_all(const trainer *t) { (void)t; }

// ---- updates ----------------------------------------------------------------------------------

static void state_begin(trainer *t, size_t i) {
    const size_t n = t->params.items[i].n, size = mo_optim_state_size(&t->optim, n);
    check(mo_optim_state_init(&t->optim, n, t->state_at[i], size, &t->cpu->states[i]),
        t->params.items[i].name);
}

static void update(trainer *t, size_t i) {
    const mo_param *p = &t->params.items[i];
    const mo_optim_state *state = &t->cpu->states[i];
    check(p->is_bf16 ? mo_optim_step_bf16(&t->optim, t->step, p->bf16, p->grad, state)
                     : mo_optim_step(&t->optim, t->step, p->data, p->grad, state),
        p->name);
}

// Its write-backs may fail in a step as well as here; app_log has said why.
static void must_page(mo_status status) {
    if (status != MO_OK) fail(EXIT_BAD, "paged states: %s", mo_status_text(status));
}

static void open_pages(
    trainer *t, const mo_page_optim_desc *desc, void *const *slots, size_t n_slots) {
    mo_page_optim_desc d = *desc;
    (void)n_slots;
    d.pages.memory = slots[0]; // they lie one behind the other
    must_page(mo_page_optim_init(&t->cpu->paged, &d));
}

static void close_pages(trainer *t) { mo_page_optim_free(&t->cpu->paged); }

static void step_pages(trainer *t, size_t tensor, size_t i) {
    const mo_param *p = &t->params.items[i];
    mo_page_optim *paged = &t->cpu->paged;
    must_page(p->is_bf16
            ? mo_page_optim_step_bf16(paged, tensor, &t->optim, t->step, p->bf16, p->grad)
            : mo_page_optim_step(paged, tensor, &t->optim, t->step, p->data, p->grad));
}

static void exchange_pages(
    const trainer *t, size_t tensor, const mo_optim_state *state, bool read) {
    mo_page_optim *paged = &t->cpu->paged;
    must_page(read ? mo_page_optim_read(paged, tensor, state)
                   : mo_page_optim_write(paged, tensor, state));
}

static void figures_of_pages(const trainer *t, page_figures *f) {
    const mo_page *pages = &t->cpu->paged.pages;
    *f = (page_figures){.resident_bytes = pages->stats.resident_bytes,
        .paged_out_bytes = pages->desc.size > pages->stats.resident_bytes
            ? pages->desc.size - pages->stats.resident_bytes
            : 0,
        .in_bytes = pages->stats.in_bytes,
        .out_bytes = pages->stats.out_bytes,
        .stall_s = pages->stats.stall_s};
}

static void square_sums(const trainer *t, size_t first, size_t n, void *workspace, double *sums) {
    (void)workspace;
    for (size_t i = 0; i < n; i++) {
        const mo_param *p = &t->params.items[first + i];
        sums[i] = p->tied_to == first + i && p->grad
            ? mo_accum_square_sum(p->grad, p->n, &t->parallel)
            : 0;
    }
}

// ---- offload ----------------------------------------------------------------------------------

static void open_transfer(trainer *t, size_t store_bytes, size_t n_stages) {
    t->cpu->transfer = transfer_open(store_bytes, n_stages);
}

static void step_transfer(trainer *t, const mo_step *step) {
    transfer_step(t->cpu->transfer, step);
}

static void close_transfer(trainer *t) { transfer_close(t->cpu->transfer); }

const backend cpu_backend = {.kernels = &kernels,
    .target = target,
    .most = most,
    .take = take,
    .give_back = give_back,
    .peak_bytes = peak_bytes,
    .host_begin = host_begin,
    .host_end = host_end,
    .clear = clear,
    .wait = wait_for_all,
    .state_begin = state_begin,
    .update = update,
    .pages_open = open_pages,
    .pages_close = close_pages,
    .pages_step = step_pages,
    .pages_exchange = exchange_pages,
    .pages_figures = figures_of_pages,
    .square_sums = square_sums,
    .transfer_open = open_transfer,
    .transfer_step = step_transfer,
    .transfer_close = close_transfer};
