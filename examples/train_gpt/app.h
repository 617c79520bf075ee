// app.h - what the files of train_gpt share: options, the run, errors.
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "memopt.h"

// One line on stderr, then exit: 1 for a bad file, budget or machine, 2 for a bad command line.
// 3: a signal has ended the training, and it is saved.
enum { EXIT_BAD = 1, EXIT_USAGE = 2, EXIT_EARLY = 3 };
_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check(mo_status status, const char *what);
void check_said(mo_status status, const char *what); // adds nothing to what app_log has said
void *allocate(size_t size); // zeroed heap memory; fails the program when there is none
double now_s(void);
uint64_t now_ns(void);       // of the trace
extern const mo_log app_log; // errors of the library go to stderr, named after the program

// ---- options ----------------------------------------------------------------------------------

// What may be traded for memory, and which of it a search may choose: the library's.
typedef mo_strategy strategy;
enum {
    OPEN_CHECKPOINT = MO_STRATEGY_OPEN_CHECKPOINT,
    OPEN_ACCUM = MO_STRATEGY_OPEN_ACCUM,
    OPEN_OPTIM = MO_STRATEGY_OPEN_OPTIM,
    OPEN_LOSS = MO_STRATEGY_OPEN_LOSS,
    OPEN_PAGED = MO_STRATEGY_OPEN_PAGED,
    OPEN_ALL = MO_STRATEGY_OPEN_ALL,
    OPEN_PRECISION = MO_STRATEGY_OPEN_PRECISION,
    OPEN_SHARE = MO_STRATEGY_OPEN_SHARE
};

typedef struct options {
    const char *const *texts; // [n_texts]
    size_t n_texts;
    const char *tokens, *init, *resume, *save, *report, *blas, *device, *page_dir;
    const char *arch;    // NULL = the file's, or gpt2
    const char *distill; // the teacher's file; NULL = none
    const char *freeze;  // patterns with commas between; NULL = none
    size_t layers, channels, heads, kv_heads, seq, batch, accum, steps, threads, sample;
    size_t save_every, keep; // 0 = not given
    double lr, weight_decay, clip, rope_theta, distill_weight, distill_temperature;
    double valid; // 0 = none; below 1 a part of the text, else so many tokens at its end
    uint64_t seed;
    uint64_t budget;       // bytes, 0 = none
    double budget_percent; // of the plan of --strategy none, 0 = not given so
    strategy strategy;
    unsigned open;  // OPEN_*: what the search may choose
    unsigned named; // OPEN_*: what --strategy says itself
    uint64_t given; // a bit for each row of the flags in options.c
    bool shuffle, compare, estimate, json, page_direct, half;
    bool is_plain; // the plain run of --compare
} options;

// Command line to options; fails with a message that names the flag and the value.
void options_parse(options *o, int argc, const char *const *argv);
bool options_given(const options *o, const char *flag);
// The value of a flag that takes a number, as if it had been given; false when it cannot be.
bool options_set(options *o, const char *flag, const char *value);
void format_mib(uint64_t bytes, char *text, size_t size);

// ---- tokens -----------------------------------------------------------------------------------

// The training text: bytes of files, or files of tokens; vocab is 256, or one more than the largest
// token.
typedef struct corpus {
    const char *name;
    mo_tokens tokens, training; // all; without what is held out at the end
    uint32_t vocab;
} corpus;

void corpus_open(corpus *c, const options *o);
void corpus_close(corpus *c);

// ---- model ------------------------------------------------------------------------------------

// Sizes, parts and tensors under shorter names.
typedef mo_model_width param_width;
enum {
    WIDTH_NONE = MO_MODEL_WIDTH_NONE,
    WIDTH_CHANNELS = MO_MODEL_WIDTH_CHANNELS,
    WIDTH_KV = MO_MODEL_WIDTH_KV,
    WIDTH_QKV = MO_MODEL_WIDTH_QKV,
    WIDTH_HIDDEN = MO_MODEL_WIDTH_HIDDEN,
    WIDTH_WIDE = MO_MODEL_WIDTH_WIDE
};
enum {
    NORM1 = MO_MODEL_NORM1,
    TO_QKV = MO_MODEL_TO_QKV,
    PROJECT = MO_MODEL_PROJECT,
    NORM2 = MO_MODEL_NORM2,
    TO_HIDDEN = MO_MODEL_TO_HIDDEN,
    FROM_HIDDEN = MO_MODEL_FROM_HIDDEN
};

// An architecture, with Hugging Face's names. Llama's way: RMSNorm, SwiGLU, rotary positions, no
// biases, linear weights [out x in]; else LayerNorm, GELU, learned positions, biases, [in x out].
typedef mo_model_layout gpt_arch;
enum { N_ARCHS = MO_MODEL_ARCH_COUNT };
const gpt_arch *gpt_arch_at(int i); // the first is the default
const gpt_arch *gpt_arch_find(const char *name);

// layers: share in a row are one block's
typedef struct gpt_config {
    const gpt_arch *arch;
    size_t layers, share, channels, heads, kv_heads, hidden, positions, seq, vocab;
    double rope_theta;
} gpt_config;

mo_model gpt_model(const gpt_config *c); // as the library has it, complete
size_t gpt_width(const gpt_config *c, int width);
// First values of parameter i; the parameters in their order share a seed, which moves on.
void gpt_init_param(const gpt_config *c, const mo_param *p, float *to, uint64_t *seed);
// The first parameter of a part; of the norm before the head, with the head behind it.
const mo_param *gpt_part(const gpt_config *c, const mo_params *params, size_t layer, int part);
const mo_param *gpt_last_norm(const gpt_config *c, const mo_params *params);
// How many parameters come before those of the first block.
size_t gpt_front(const gpt_config *c);
size_t gpt_head_params(const gpt_config *c); // the last norm's
// Tensors of a stage: see mo_training.h.
enum {
    LN1 = MO_TRAINING_LN1,
    STATS1 = MO_TRAINING_STATS1,
    QKV = MO_TRAINING_QKV,
    LSE = MO_TRAINING_LSE,
    ATT = MO_TRAINING_ATT,
    DATT = MO_TRAINING_DATT,
    DQKV = MO_TRAINING_DQKV,
    DLN1 = MO_TRAINING_DLN1,
    QKV_CODES = MO_TRAINING_QKV_CODES,
    ATT_CODES = MO_TRAINING_ATT_CODES,
    N_ATTENTION_TENSORS = MO_TRAINING_N_ATTENTION
};
enum {
    LN2 = MO_TRAINING_LN2,
    STATS2 = MO_TRAINING_STATS2,
    FC = MO_TRAINING_FC,
    ACT = MO_TRAINING_ACT,
    DFC = MO_TRAINING_DFC,
    DLN2 = MO_TRAINING_DLN2,
    FC_CODES = MO_TRAINING_FC_CODES,
    N_MLP_TENSORS = MO_TRAINING_N_MLP
};
enum {
    BLOCK_MLP = MO_TRAINING_MLP,
    BLOCK_RESIDUAL = MO_TRAINING_RESIDUAL,
    BLOCK_RESIDUAL_CODES = MO_TRAINING_RESIDUAL_CODES,
    N_BLOCK_TENSORS = MO_TRAINING_N_BLOCK
};
enum {
    HEAD_LNF = MO_TRAINING_LNF,
    HEAD_STATS = MO_TRAINING_HEAD_STATS,
    HEAD_LOGITS = MO_TRAINING_LOGITS,
    HEAD_DLNF = MO_TRAINING_DLNF,
    N_HEAD_TENSORS = MO_TRAINING_N_HEAD
};
typedef struct gpt_kernels gpt_kernels;

// What the stages compute with. On a device the addresses stand for bytes there, and a call returns
// before it is done. Workspaces and threads of the descs are left to the kernels.
typedef struct gpt_run gpt_run;
// A frozen weight and the two matrices of its adapter; how far rows of y, dy and dx are apart;
// whether y or dx is added to.
typedef struct gpt_adapted {
    const mo_weight *weight;
    const mo_param *a, *b;
    size_t rows, y_stride, dx_stride;
    bool add;
} gpt_adapted;
struct gpt_kernels {
    // y = bias (+ residual, when it is not NULL) in every row; dbias += sums of the columns of dy
    void (*bias_forward)(const gpt_run *run, const float *bias, const float *residual, size_t rows,
        size_t columns, float *y);
    void (*bias_backward)(
        const gpt_run *run, const float *dy, size_t rows, size_t columns, float *dbias);
    void (*gemm)(
        const gpt_run *run, const mo_gemm_desc *d, const float *a, const float *b, float *c);
    // y = x weight and the adapter's share; gradients of the adapter; dx
    void (*lora_forward)(const gpt_run *run, const gpt_adapted *l, const float *x, float *y);
    void (*lora_backward_adapter)(
        const gpt_run *run, const gpt_adapted *l, const float *x, const float *dy);
    void (*lora_backward_input)(
        const gpt_run *run, const gpt_adapted *l, const float *dy, float *dx);
    // b: a parameter as it is stored; bf16 is decoded by panels, and never stands there as fp32
    void (*gemm_param)(
        const gpt_run *run, const mo_gemm_desc *d, const float *a, const mo_param *b, float *c);
    // without a bias: RMSNorm, which has no mean
    void (*norm_forward)(const gpt_run *run, const mo_layernorm_desc *d, const float *x, float *y);
    void (*norm_apply)(const gpt_run *run, const mo_layernorm_desc *d, const float *x, float *y);
    void (*norm_backward)(
        const gpt_run *run, const mo_layernorm_desc *d, const float *x, const float *dy, float *dx);
    void (*attention_forward)(
        const gpt_run *run, const mo_attention_desc *d, const mo_attention_tensors *t);
    void (*attention_backward)(
        const gpt_run *run, const mo_attention_desc *d, const mo_attention_tensors *t);
    void (*gelu_forward)(const gpt_run *run, const float *x, float *y, size_t n);
    void (*gelu_backward)(const gpt_run *run, const float *x, const float *dy, float *dx, size_t n);
    // of gate and up, and of their gradients, side by side
    void (*swiglu_forward)(
        const gpt_run *run, const mo_swiglu_desc *d, const float *gate_up, float *y);
    void (*swiglu_backward)(const gpt_run *run, const mo_swiglu_desc *d, const float *gate_up,
        const float *dy, float *dgate_up);
    void (*rope)(const gpt_run *run, const mo_rope_desc *d, bool back, float *x);
    // n numbers to mo_compress_size bytes of codes, and back
    void (*compress)(
        const gpt_run *run, const mo_compress_desc *d, const float *x, size_t n, void *codes);
    void (*expand)(
        const gpt_run *run, const mo_compress_desc *d, const void *codes, size_t n, float *x);
    // of run->inputs: y = wte[token] (+ wpe[position], where there is one); gradients of both
    void (*embedding_forward)(const gpt_run *run, float *y);
    void (*embedding_backward)(const gpt_run *run, const float *dy);
    size_t (*linear_ce_workspace_size)(const mo_linear_ce_desc *d);
    void (*linear_ce)(gpt_run *run, const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t);
    size_t (*linear_kd_workspace_size)(const mo_linear_kd_desc *d);
    void (*linear_kd)(gpt_run *run, const mo_linear_kd_desc *d, const mo_linear_kd_tensors *t);
    double (*loss)(const gpt_run *run); // of the last of these; waits for it
    void (*copy)(const gpt_run *run, const float *from, float *to, size_t n);
};

// A teacher's last hidden states of the micro-batch, and its head.
typedef struct distillation {
    const float *x, *w;
    size_t channels;
    float temperature, weight;
} distillation;

// What one step of the plan needs to run.
struct gpt_run {
    const gpt_kernels *kernels;
    struct device *device; // NULL = the CPU
    const gpt_config *config;
    const mo_params *params;
    const mo_weight *weights;       // NULL = no adapters
    size_t rank, n_base, lora_size; // of them: rank, first, bytes at the end of the workspace
    size_t batch;                   // sequences in a micro-batch
    int act;                        // bits of codes
    uint64_t seed;                  // of the step
    size_t n_blocks;                // that the chain has
    bool halves;                    // stages are halves of them
    bool fresh;                     // gradients of matrices are written, not added to
    const int32_t *inputs, *targets;
    const float *rope_table; // NULL = none
    size_t loss_rows;
    float loss_scale;
    const distillation *distill; // NULL = none
    bool evaluate;               // the loss alone: no gradients
    double loss;                 // the CPU's: of the last linear_ce
    float *losses;               // a device's: of each row
    mo_gemm_env env;
    void *workspace; // shared by all that needs one
    size_t workspace_size;
};

void gpt_step(gpt_run *run, const mo_step *step);
// The parameters of a step's stage, n from items[first]; their gradients are its tensors from
// tensor on where they are released.
typedef struct stage_params {
    size_t first, n, tensor;
} stage_params;
stage_params gpt_stage_params(const gpt_run *run, const mo_step *step);
// Weight and bias of a norm, gradients, and where its stats are.
mo_layernorm_desc gpt_norm(const gpt_run *run, const mo_param *w, float *stats);

// A saved tensor of n numbers becomes codes, and is made of them again. codes NULL: the stage is
// not at the compressed level, and nothing happens. which: another number for each of a stage.
void gpt_compress(const gpt_run *run, int which, const float *x, size_t n, void *codes);
void gpt_expand(const gpt_run *run, const void *codes, size_t n, float *x);

// Text from the model, one token at a time with cached keys and values in the given memory.
void gpt_sample(const gpt_config *c, const mo_params *params, size_t n_tokens, uint64_t seed,
    void *memory, size_t size, FILE *out);

// ---- training ---------------------------------------------------------------------------------

// Where a run happens: its memory, and what works on that.
typedef struct trainer trainer;
typedef struct page_figures {
    uint64_t resident_bytes, paged_out_bytes; // of the states: in the plan, and beside it
    uint64_t in_bytes, out_bytes;
    double stall_s; // -1 = not known
} page_figures;
typedef struct backend {
    const gpt_kernels *kernels;
    mo_training_target (*target)(const trainer *t); // for plans
    uint64_t (*most)(const trainer *t);             // bytes that it can give; 0 = not known
    // Memory for a plan: its arena. Fails when there is not so much. One at a time.
    mo_arena *(*take)(trainer *t, size_t size, uint64_t budget);
    void (*give_back)(trainer *t);
    uint64_t (*peak_bytes)(const trainer *t); // that the plan has used, since take
    // A range of it as host memory: the same bytes, or a copy that end writes back where it says so
    void *(*host_begin)(const trainer *t, void *address, size_t size, bool read);
    void (*host_end)(const trainer *t, void *address, void *host, size_t size, bool write);
    void (*clear)(const trainer *t, void *address, size_t size);
    void (*wait)(const trainer *t); // until everything is done
    // Optimizer state of parameter i, in the memory at t->state_at[i]: a new one; a step
    void (*state_begin)(trainer *t, size_t i);
    void (*update)(trainer *t, size_t i);
    // Paged states: memory for resident pages, of the desc's page_bytes each; a step of parameter
    // i, whose states are those of a tensor there; all states of a tensor, from pages or to them
    void (*pages_open)(trainer *t, const mo_page_optim_desc *d, void *const *slots, size_t n_slots);
    void (*pages_close)(trainer *t);
    void (*pages_step)(trainer *t, size_t tensor, size_t i);
    void (*pages_exchange)(const trainer *t, size_t tensor, const mo_optim_state *state, bool read);
    void (*pages_figures)(const trainer *t, page_figures *f);
    // Sums of squares of the gradients of n parameters; those of tied ones are 0
    void (*square_sums)(const trainer *t, size_t first, size_t n, void *workspace, double *sums);
    void (*transfer_open)(trainer *t, size_t store_bytes, size_t n_stages);
    void (*transfer_step)(trainer *t, const mo_step *step); // OFFLOAD, PREFETCH and their WAITs
    void (*transfer_close)(trainer *t);
} backend;
extern const backend cpu_backend;

// The OpenCL device that --device asks for, and its backend; NULL = the CPU. Fails when there is
// none, but for "auto", which says so.
typedef struct device device;
device *device_open(const char *text, const backend **backend);
void device_close(device *d);              // NULL does nothing
const char *device_name(const device *d);  // "cl:0.0"; NULL: "cpu"
const char *device_model(const device *d); // the maker's name of it
_Noreturn void device_list(void);          // prints them and ends the program

// Everything that lives during a run.
struct trainer {
    const options *o;  // own
    options own;       // as given, or as they were in the run that is resumed
    char resume[4096]; // the file
    char *freeze;      // its patterns; NULL = none, or they are given
    bool verified;     // it has been read to its end
    gpt_config config;
    corpus corpus;
    mo_params params;
    size_t n_base;      // without adapters
    mo_weight *weights; // [n_base] where rows is not 0: frozen in the format of base=
    mo_optim_desc optim;
    const backend *backend;
    device *device;
    struct cpu *cpu;
    void **state_at; // [params.n] memory of the optimizer's state; NULL = tied
    struct paged_states
        *pages; // NULL = the states are there; else the addresses only stand for them
    mo_parallel parallel;
    mo_cblas_sgemm *cblas;
    struct teacher *teacher; // NULL = none
    mo_training_costs costs; // rows = 0: not measured
    uint64_t step;           // updates done so far, also by the run that is resumed
    uint64_t epoch;          // of the text
    uint64_t position;       // its tokens that were trained on
    bool shuffle;            // another order in each epoch
    double norm;             // of the last update, for release=previous; 0 = none
};

// What is known of a run when it ends.
typedef struct result {
    uint64_t budget_bytes, plan_bytes, peak_bytes, rss_bytes;
    uint64_t planned[MO_CATEGORY_COUNT], measured[MO_CATEGORY_COUNT];
    uint64_t store_bytes;             // of host memory, beside the arena
    uint64_t released_bytes;          // of gradients without a place of their own
    page_figures page;                // since the first step; zero = not paged
    double ms_per_step, predicted_ms; // 0 = not predicted
    double tokens_per_s, first_loss, last_loss;
    double valid_loss; // of what --valid holds out; -1 = nothing
    size_t steps;      // done
    bool early;        // a signal has ended it
    char strategy[192], device[160];
    struct mo_strategy chosen; // the same in fields
    mo_training_costs costs;   // what predicted_ms is made of
} result;

void trainer_open(trainer *t, const options *o);
void trainer_close(trainer *t);
// Batches of the strategy's size in what --valid holds out.
size_t trainer_valid_batches(const trainer *t, const strategy *s);
// Trains; losses is [steps].
void trainer_run(trainer *t, const strategy *s, result *r, double *losses);

// ---- planning ---------------------------------------------------------------------------------

uint64_t trainer_budget(const trainer *t);                           // bytes; 0 = none
bool trainer_is_bf16(const trainer *t, const strategy *s, size_t i); // parameter i
size_t trainer_rows(const trainer *t, const strategy *s);            // tokens of a micro-batch
// The run with this strategy, as the library plans it; it points into the trainer.
mo_training trainer_training(const trainer *t, const strategy *s);
// Where tensors lie in the plan.
enum {
    TENSOR_PARAM = MO_TRAINING_PARAM,
    TENSOR_GRAD = MO_TRAINING_GRAD,
    TENSOR_STATE = MO_TRAINING_STATE,
    TENSOR_TEACHER = MO_TRAINING_TEACHER,
    N_TENSOR_KINDS = MO_TRAINING_KIND_COUNT
};
typedef mo_training_place tensor_place;
typedef mo_training_fixed fixed_layout;
void trainer_fixed_open(const trainer *t, const strategy *s, fixed_layout *f);
// A plan for this strategy, optimal within the budget; nothing but the plan itself is allocated.
// seconds, of a micro-batch, may be NULL.
mo_plan *trainer_plan(const trainer *t, const strategy *s, uint64_t budget, double *seconds);
double trainer_update_s(const trainer *t, const strategy *s, double micro_batch_s);
// The strategy to run: as given, or the fastest that fits the budget. Fails when none does. Says
// why on stderr.
strategy trainer_choose(const trainer *t, uint64_t budget, bool say);

// Whether parameter i has a gradient under this strategy; numbers of those that do; the bytes that
// its numbers take.
bool trainer_trains(const trainer *t, const strategy *s, size_t i);
size_t trainer_n_trained(const trainer *t, const strategy *s);
size_t trainer_param_bytes(const trainer *t, const strategy *s, size_t i);

void freeze_params(trainer *t); // what --freeze names; fails where a pattern names nothing

// ---- adapters ---------------------------------------------------------------------------------

void lora_add_params(trainer *t); // the model's, and adapters behind them where there are any
void lora_bind(trainer *t);       // weights to the addresses of their parameters
void lora_init(trainer *t);       // first values of the adapters
// Whether parameter i is in the format of base=; then what writes it, and what reads it.
bool lora_stores(const trainer *t, size_t i);
void lora_store(trainer *t, size_t i, const float *x);
float *lora_merged(const trainer *t, size_t i);
mo_lora_desc lora_desc(const gpt_config *c, size_t rank, size_t rows);
size_t lora_workspace_size(const trainer *t, const strategy *s);
// Matrix i of a part of a block, with its adapter.
gpt_adapted lora_linear(const gpt_run *run, size_t layer, int part, size_t i);
// The adapter's A of base parameter i, its B is next to it; of any other parameter, that of the
// next matrix.
size_t lora_adapter(const gpt_config *c, size_t i);
mo_lora_tensors lora_tensors(const gpt_adapted *l, bool gradients);
void lora_save_config(const trainer *t, const char *path);

// ---- paged states -----------------------------------------------------------------------------

typedef struct paged_states paged_states;
void pages_open(trainer *t, const strategy *s, void *const *slots, size_t n_slots);
void pages_close(trainer *t); // does nothing where none are open
void pages_step(trainer *t, size_t i);
// Whether an address stands for paged states; then these are a backend's host_begin and host_end.
bool pages_hold(const trainer *t, const void *address);
void *pages_host_begin(const trainer *t, const void *address, size_t size, bool read);
void pages_host_end(const trainer *t, const void *address, void *host, size_t size, bool write);

// ---- copies to host memory, on the CPU --------------------------------------------------------

typedef struct transfer transfer;
transfer *transfer_open(size_t store_bytes, size_t n_stages);
void transfer_close(transfer *t);                     // NULL does nothing
void transfer_step(transfer *t, const mo_step *step); // OFFLOAD, PREFETCH and their WAITs

// ---- a run on its way -------------------------------------------------------------------------

typedef struct session {
    trainer *t;
    const strategy *s;
    mo_plan *plan;
    mo_arena *arena;
    mo_track track;
    bool transfers;
    mo_loader loader;
    gpt_run run;
    mo_release release;
    double *square_sums; // [params.n]
    int32_t *inputs, *targets;
    uint64_t budget;
    uint64_t pass;      // number of the plan's next pass
    double predicted_s; // of an update, 0 = not known
    page_figures paged; // before the first step
    double started_s, *step_s;
    size_t done;    // steps of this run
    uint64_t saved; // step of the last save
    bool has_saved;
} session;

// Arena, states and everything that a step of the plan needs; nothing has a value yet.
void session_bind(session *x, size_t n_blocks, bool halves);
void session_free(session *x);
// A run with its plan, its memory and first values.
void session_open(session *x, trainer *t, const strategy *s);
void session_close(session *x);
void session_step(session *x, const mo_step *step);
void session_read_tokens(session *x, mo_loader *loader, size_t rows); // of a micro-batch
void session_clear_gradients(const session *x);
void session_update(session *x);
// One line that is written over on a terminal, else a line now and then.
void session_show_progress(const session *x, size_t done, double loss);
void session_fill_result(session *x, result *r, const double *losses);
void session_sample(session *x); // prints it
// Fails when the sum of squares of a gradient is not finite.
void session_check_norm(const session *x, double square_sum);
// Runs the parts of the strategy's micro-batch, and an update, on memory without values; fills
// t->costs with what they took. Stays within the budget: what does not fit stays typical.
void measure_costs(trainer *t, const strategy *s, uint64_t budget);

// ---- updates inside backward ------------------------------------------------------------------

// Fails when strategy and flags do not go together.
void release_check(const trainer *t, const strategy *s);
// Whether a gradient has no memory of its own, but that of its stage's backward.
bool release_has(const trainer *t, const strategy *s, size_t i);
uint64_t release_bytes(const trainer *t, const strategy *s); // of such gradients, together
void release_open(session *x);
void release_close(session *x);
// Around a step of the plan: gives the stage's gradients their memory; updates, within an update.
void release_before(session *x, const mo_step *step);
void release_after(session *x, const mo_step *step);
// A whole update; pass runs forward and backward and returns the loss.
double release_update(session *x, double (*pass)(session *x));
// The work of an update without gradients: for measuring what it costs.
void release_rehearse(session *x);

// Positions of rotary embedding, written to memory of the plan.
float *rope_begin(const trainer *t, void *memory);

// ---- teacher ----------------------------------------------------------------------------------

typedef struct teacher {
    options own;
    trainer like; // its sizes and weights, in the place of the run
    mo_model model;
    gpt_run run; // of one sequence
    float *x[2]; // before and behind half a block
    void *attention[N_ATTENTION_TENSORS], *mlp[N_MLP_TENSORS];
    float *hidden; // of all sequences of a micro-batch
    distillation distill;
} teacher;

void teacher_open(trainer *t); // sizes, from the file; does nothing without --distill
void teacher_close(trainer *t);
void teacher_bind(session *x, char *memory); // behind its parameters
void teacher_load(trainer *t);               // weights
void teacher_forward(session *x);            // of x->inputs

// ---- checkpoint -------------------------------------------------------------------------------

// Before memory is planned: shapes from a file, and whether it has all weights. Then the contents.
void checkpoint_find(trainer *t); // the file that --resume means
void checkpoint_read_config(trainer *t, const char *path, bool resume);
// As of --init, and what the file says of heads and rotary positions.
void checkpoint_read_teacher(trainer *t, const char *path);
void checkpoint_read_settings(trainer *t, const char *path); // of a run to resume, without shapes
void checkpoint_check_params(const trainer *t, const char *path);
void checkpoint_load_weights(trainer *t, const char *path);
void checkpoint_load(trainer *t, const char *path, bool resume);
void checkpoint_save(const trainer *t, const char *path);
void checkpoint_save_half(const trainer *t, const char *path); // the weights alone
void checkpoint_can_save(const char *path);

// ---- comparison -------------------------------------------------------------------------------

// The plain strategy, then each part of the one that was run added to those before it.
enum { MAX_PARTS = 16 };
typedef struct compared_part {
    char part[96], strategy[192];
    uint64_t plan_bytes;
    double predicted_ms;  // 0 = not predicted
    const result *result; // of the first and the last one; NULL = only planned
} compared_part;
typedef struct comparison {
    compared_part parts[MAX_PARTS];
    size_t n;
} comparison;

// Bytes that measuring costs may take, so that it is no peak of its own.
uint64_t compare_limit(const trainer *t, const strategy *s);
// After both runs: plans of what lies between them. Measures again what other kernels cost.
void compare_parts(trainer *t, const result *plain, const result *run, comparison *c);
// Bytes that part i needs less than the one before it; negative: more.
int64_t compare_saved(const comparison *c, size_t i);
int64_t compare_saved_in_all(const comparison *c);

// ---- report -----------------------------------------------------------------------------------

void report_table(FILE *out, const result *runs, size_t n_runs);
void report_parts(FILE *out, const comparison *c);
// c NULL: there is no baseline
void report_json(FILE *out, const result *r, const double *losses, const result *baseline,
    const double *baseline_losses, const comparison *c);
// What the run would take, instead of running it.
void report_estimate(FILE *out, const trainer *t, const strategy *s, uint64_t budget);
// Makes the directory, before the training; then the files, after it.
void report_begin(const char *dir);
void report_files(const char *dir, const mo_track *track, const mo_plan *plan);
void report_waterfall(const char *dir, const comparison *c, uint64_t budget);

#endif
