// plan.c - memory and time of a strategy, and the search for one that fits.
#include "app.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t micro_batch(const trainer *t, const strategy *s) { return t->o->batch / s->accum; }

size_t trainer_rows(const trainer *t, const strategy *s) {
    return micro_batch(t, s) * t->config.seq;
}

// ---- bytes ------------------------------------------------------------------------------------

bool trainer_is_bf16(const trainer *t, const strategy *s, size_t i) {
    return s->bf16 && gpt_is_block_matrix(&t->config, &t->params, i);
}

// Bytes of a tensor of this kind, rounded up so that the next one is aligned.
static size_t tensor_size(
    const trainer *t, const strategy *s, const mo_optim_desc *optim, int kind, size_t i) {
    const mo_param *p = &t->params.items[i];
    const size_t align = t->backend->align(t);
    size_t size = trainer_param_bytes(t, s, i);
    const bool of_training = kind == TENSOR_GRAD || kind == TENSOR_STATE;
    if (of_training && !trainer_trains(t, s, i)) return 0;
    if (kind == TENSOR_GRAD && release_has(t, s, i)) return 0;
    if (kind == TENSOR_PARAM && size != 0 && trainer_is_bf16(t, s, i))
        size = p->n * sizeof(uint16_t);
    if (kind == TENSOR_STATE) size = mo_optim_state_size(optim, p->n);
    return (size + align - 1) / align * align;
}

// Behind the tensor before, in the last block where that stays within a piece.
static void place(const trainer *t, size_t begin, size_t size, const mo_plan_fixed *like,
    fixed_layout *f, tensor_place *at) {
    const size_t piece = t->backend->piece(t),
                 most = piece ? piece - t->backend->align(t) : SIZE_MAX;
    mo_plan_fixed *last = &f->blocks[f->n_blocks] - 1;
    if (size == 0) return;
    if (f->n_blocks == begin || size > most || last->size > most - size) {
        last = &f->blocks[f->n_blocks++];
        *last = *like;
    }
    *at = (tensor_place){f->n_blocks - 1, last->size, size};
    last->size += size;
}

static void place_tensors(const trainer *t, const strategy *s, const mo_optim_desc *optim, int kind,
    const mo_plan_fixed *like, fixed_layout *f) {
    const size_t begin = f->n_blocks;
    f->places[kind] = allocate(t->params.n * sizeof **f->places);
    for (size_t i = 0; i < t->params.n; i++)
        place(t, begin, tensor_size(t, s, optim, kind, i), like, f, &f->places[kind][i]);
}

static void place_pages(
    const trainer *t, const mo_page_desc *pages, const mo_plan_fixed *like, fixed_layout *f) {
    const size_t begin = f->n_blocks;
    f->n_slots = pages->resident_bytes / pages->page_bytes;
    f->places[TENSOR_STATE] = allocate(f->n_slots * sizeof **f->places);
    for (size_t i = 0; i < f->n_slots; i++)
        place(t, begin, pages->page_bytes, like, f, &f->places[TENSOR_STATE][i]);
}

// Products of both sides run one after the other.
static size_t workspace_size(const trainer *t, const strategy *s) {
    const size_t own = t->backend->workspace_size(t, s);
    const size_t other = t->teacher ? t->backend->workspace_size(&t->teacher->like, s) : 0;
    return own > other ? own : other;
}

static void place_teacher(
    const trainer *t, const strategy *s, const mo_plan_fixed *like, fixed_layout *f) {
    place_tensors(&t->teacher->like, s, &t->optim, TENSOR_TEACHER, like, f);
    f->teacher = f->n_blocks++;
    f->blocks[f->teacher] =
        (mo_plan_fixed){"teacher's activations", teacher_space_size(t, s), MO_CATEGORY_WORKSPACE};
}

void trainer_fixed_open(const trainer *t, const strategy *s, fixed_layout *f) {
    static const mo_plan_fixed like[N_TENSOR_KINDS] = {{"parameters", 0, MO_CATEGORY_PARAM},
        {"gradients", 0, MO_CATEGORY_GRAD}, {"optimizer", 0, MO_CATEGORY_OPTIMIZER},
        {"teacher", 0, MO_CATEGORY_PARAM}};
    mo_optim_desc optim = t->optim;
    optim.precision = s->optim;
    memset(f, 0, sizeof *f);
    const mo_page_desc pages = s->paged ? pages_plan(t, s) : (mo_page_desc){0};
    const size_t n_slots = s->paged ? pages.resident_bytes / pages.page_bytes : 0;
    const size_t n_teacher = t->teacher ? t->teacher->like.params.n + 1 : 0;
    f->blocks =
        allocate((N_TENSOR_KINDS * t->params.n + n_teacher + n_slots + 3) * sizeof *f->blocks);
    if (s->paged) place_pages(t, &pages, &like[TENSOR_STATE], f); // first: aligned to the system's
    place_tensors(t, s, &optim, TENSOR_PARAM, &like[TENSOR_PARAM], f);
    place_tensors(t, s, &optim, TENSOR_GRAD, &like[TENSOR_GRAD], f);
    if (!s->paged) place_tensors(t, s, &optim, TENSOR_STATE, &like[TENSOR_STATE], f);
    const size_t row_bytes = 2 * sizeof(int32_t) + (t->backend->keeps_losses ? sizeof(float) : 0);
    f->tokens = f->n_blocks++;
    f->workspace = f->n_blocks++;
    f->blocks[f->tokens] =
        (mo_plan_fixed){"tokens", row_bytes * trainer_rows(t, s), MO_CATEGORY_INPUT};
    f->blocks[f->workspace] =
        (mo_plan_fixed){"workspace", workspace_size(t, s), MO_CATEGORY_WORKSPACE};
    if (t->teacher) place_teacher(t, s, &like[TENSOR_TEACHER], f);
    if (!t->config.arch->llama) return;
    f->rope = f->n_blocks++;
    f->blocks[f->rope] = (mo_plan_fixed){"rotary embedding",
        mo_rope_table_size(t->config.channels / t->config.heads, t->config.seq), MO_CATEGORY_INPUT};
}

void trainer_fixed_close(fixed_layout *f) {
    for (int kind = 0; kind < N_TENSOR_KINDS; kind++) free(f->places[kind]);
    free(f->blocks);
}

// ---- seconds ----------------------------------------------------------------------------------

static gpt_costs costs_of(const trainer *t, const strategy *s) {
    if (t->costs.rows != 0) return t->costs;
    const size_t rows = trainer_rows(t, s);
    gpt_costs costs =
        gpt_typical_costs(&t->config, rows, mo_params_count(&t->params, MO_PARAMS_TRAINED));
    if (t->teacher)
        costs.teacher =
            2e-11 * (double)rows * (double)mo_params_count(&t->teacher->like.params, MO_PARAMS_ALL);
    return costs;
}

double trainer_update_s(const trainer *t, const strategy *s, double micro_batch_s) {
    const gpt_costs costs = costs_of(t, s);
    double micro = micro_batch_s;
    if (t->costs.rows == 0) { // typical stages leave out that gradients are added to, by chunks
        const double n = (double)mo_params_count(&t->params, MO_PARAMS_TRAINED);
        const double head = (double)t->config.vocab * (double)t->config.channels;
        const double rows = (double)trainer_rows(t, s);
        const double chunks = s->loss_rows == 0 ? 1 : ceil(rows / (double)s->loss_rows);
        micro += (8 * n + 16 * head * chunks) * 1e-10;
    }
    if (t->teacher) micro += costs.teacher * (double)trainer_rows(t, s) / costs.rows;
    const double n_passes = s->release && s->clip == MO_RELEASE_EXACT ? 2 : 1;
    return (double)(s->accum * t->o->accum) * n_passes * micro + costs.update;
}

// ---- plans ------------------------------------------------------------------------------------

static mo_plan *build(const mo_plan_desc *desc, uint64_t budget, double copy_bytes_per_s,
    mo_plan_build_result *found) {
    mo_plan *plan = NULL;
    const mo_plan_build_desc build = {
        .plan = *desc, .budget = (size_t)budget, .link = {.out_bytes_per_s = copy_bytes_per_s}};
    check(mo_plan_build(&plan, &build, found), "mo_plan_build");
    return plan;
}

static mo_plan_desc plan_desc(const trainer *t, const gpt_chain *g, const fixed_layout *fixed) {
    return (mo_plan_desc){.chain = &g->chain,
        .fixed = fixed->blocks,
        .n_fixed = fixed->n_blocks,
        .align = t->backend->align(t),
        .piece = t->backend->piece(t),
        .seed = t->o->seed,
        .log = &app_log};
}

static void build_chain(
    const trainer *t, const strategy *s, size_t layers, bool halves, gpt_chain *g) {
    const gpt_costs costs = costs_of(t, s);
    const gpt_chain_desc desc = {.config = &t->config,
        .kernels = t->backend->kernels,
        .costs = &costs,
        .layers = layers,
        .batch = micro_batch(t, s),
        .loss_rows = s->loss_rows,
        .halves = halves,
        .act = s->act,
        .released = s->release ? &t->params : NULL,
        .distill = t->teacher != NULL};
    gpt_chain_build(g, &desc);
}

mo_plan *trainer_plan(const trainer *t, const strategy *s, uint64_t budget, double *seconds) {
    const bool optimal = s->checkpoint == CHECKPOINT_OPTIMAL;
    mo_plan_build_result found;
    mo_plan *plan = NULL;
    fixed_layout fixed;
    gpt_chain g;
    trainer_fixed_open(t, s, &fixed);
    build_chain(t, s, t->config.layers, optimal, &g);
    mo_plan_desc desc = plan_desc(t, &g, &fixed);
    if (optimal) {
        plan = build(&desc, budget, s->offload ? costs_of(t, s).copy_bytes_per_s : 0, &found);
    } else {
        desc.remat.policy = (mo_remat_policy)s->checkpoint;
        desc.remat.compress = s->act != 0;
        check(mo_plan_create(&plan, &desc), "mo_plan_create");
        found.cost_s = mo_plan_describe(plan).cost_s;
    }
    gpt_chain_free(&g);
    trainer_fixed_close(&fixed);
    if (seconds) *seconds = found.cost_s;
    return plan;
}

size_t trainer_part_blocks(const trainer *t) { return t->config.layers < 3 ? t->config.layers : 3; }

void trainer_part_chain(const trainer *t, const strategy *s, gpt_chain *g) {
    build_chain(t, s, trainer_part_blocks(t), true, g);
}

mo_plan *trainer_part_plan(const trainer *t, const strategy *s, part_plan kind, uint64_t budget) {
    mo_plan_build_result found;
    mo_plan *plan = NULL;
    fixed_layout fixed;
    gpt_chain g;
    trainer_fixed_open(t, s, &fixed);
    trainer_part_chain(t, s, &g);
    mo_plan_desc desc = plan_desc(t, &g, &fixed);
    desc.remat.policy = kind == PART_AGAIN ? MO_REMAT_BLOCK : MO_REMAT_NONE;
    desc.remat.compress = kind == PART_COMPRESSED;
    if (kind == PART_LEAST) plan = build(&desc, budget, 0, &found);
    else check(mo_plan_create(&plan, &desc), "mo_plan_create");
    gpt_chain_free(&g);
    trainer_fixed_close(&fixed);
    if (budget == 0 || mo_plan_describe(plan).peak_bytes <= budget) return plan;
    mo_plan_destroy(plan);
    return NULL;
}

uint64_t trainer_budget(const trainer *t) {
    const strategy plain = {.accum = 1};
    if (t->o->budget_percent == 0) return t->o->budget;
    mo_plan *plan = trainer_plan(t, &plain, 0, NULL);
    double bytes = (double)mo_plan_describe(plan).peak_bytes;
    mo_plan_destroy(plan);
    return (uint64_t)(bytes * t->o->budget_percent / 100);
}

// ---- the search -------------------------------------------------------------------------------

// One strategy that was looked at.
typedef struct trial {
    strategy s;
    uint64_t bytes;
    double cost; // 0 = there is none
} trial;

typedef struct search {
    const trainer *t;
    uint64_t budget;
    size_t n;
    trial best, least; // the fastest that fits, the smallest
    trial missed;      // the fastest that does not fit
} search;

static void try_strategy(search *f, const strategy *s) {
    double seconds;
    mo_plan *plan = trainer_plan(f->t, s, f->budget, &seconds);
    // fewer bits are not free: they count as a twentieth of the time
    const double bits = s->optim == MO_OPTIM_8BIT ? 1.05 : 1;
    const trial x = {
        *s, mo_plan_describe(plan).peak_bytes, trainer_update_s(f->t, s, seconds) * bits};
    mo_plan_destroy(plan);
    f->n++;
    if (f->least.cost == 0 || x.bytes < f->least.bytes) f->least = x;
    trial *kept = x.bytes <= f->budget ? &f->best : &f->missed;
    // sums of the same costs in another order are equal: the simpler strategy came first
    if (kept->cost == 0 || x.cost < kept->cost * (1 - 1e-9)) *kept = x;
}

// Nothing of this batch and loss can be faster than what keeps everything.
static bool can_win(const search *f, strategy s) {
    double seconds;
    if (f->best.cost == 0) return true;
    s.checkpoint = CHECKPOINT_NONE;
    s.act = 0;
    mo_plan_destroy(trainer_plan(f->t, &s, 0, &seconds));
    return trainer_update_s(f->t, &s, seconds) < f->best.cost;
}

// Open fields take all their values, from plain to sparing; the first of equal cost wins.
static void try_checkpoints(search *f, strategy s, unsigned open) {
    static const checkpoint all[] = {CHECKPOINT_NONE, CHECKPOINT_LIGHT, CHECKPOINT_OPTIMAL};
    if (!can_win(f, s)) return;
    if (!(open & OPEN_CHECKPOINT)) try_strategy(f, &s);
    for (size_t i = 0; (open & OPEN_CHECKPOINT) && i < sizeof all / sizeof *all; i++) {
        s.checkpoint = all[i];
        try_strategy(f, &s);
    }
}

static void try_losses(search *f, strategy s, unsigned open) {
    try_checkpoints(f, s, open);
    for (size_t rows = 1024; (open & OPEN_LOSS) && rows >= 16; rows /= 2) {
        if (rows >= trainer_rows(f->t, &s)) continue;
        s.loss_rows = rows;
        try_checkpoints(f, s, open);
    }
}

static void try_all(search *f, strategy s, unsigned open) {
    const size_t batch = f->t->o->batch, first = s.accum;
    const mo_optim_precision given = s.optim;
    for (s.accum = first; s.accum <= batch; s.accum++) {
        if (batch % s.accum != 0) continue;
        for (int optim = 0; optim < (open & OPEN_OPTIM ? 2 : 1); optim++) {
            s.optim = open & OPEN_OPTIM ? (mo_optim_precision)optim : given;
            try_losses(f, s, open);
        }
        if (!(open & OPEN_ACCUM) || s.release) break;
    }
}

static void say_why(const search *f) {
    char text[128], bytes[32];
    strategy_format(&f->best.s, text, sizeof text);
    format_mib(f->budget, bytes, sizeof bytes);
    fprintf(stderr, "%zu strategies for %s: %s is the fastest that fits\n", f->n, bytes, text);
    if (f->missed.cost == 0 || f->missed.cost >= f->best.cost) return;
    strategy_format(&f->missed.s, text, sizeof text);
    format_mib(f->missed.bytes, bytes, sizeof bytes);
    fprintf(stderr, "  %s would take %.2f times its time, but %s\n", text,
        f->missed.cost / f->best.cost, bytes);
}

strategy trainer_choose(const trainer *t, uint64_t budget, bool say) {
    char want[32], least[32], text[128];
    strategy s = t->o->strategy;
    unsigned open = t->o->open;
    if (t->o->resume && !(t->o->named & OPEN_OPTIM)) {
        s.optim = t->optim.precision; // the file's
        open &= ~(unsigned)OPEN_OPTIM;
    }
    if (budget == 0) { // nothing to fit: what costs next to nothing
        if (open & OPEN_CHECKPOINT) s.checkpoint = CHECKPOINT_LIGHT;
        if (open & OPEN_LOSS) s.loss_rows = 256;
        return s;
    }
    search f = {.t = t, .budget = budget};
    try_all(&f, s, open);
    if (f.best.cost == 0 && open & OPEN_PAGED) { // last of all: it needs a disk
        s.paged = true;
        try_all(&f, s, open);
    }
    if (f.best.cost != 0) {
        if (say && f.n > 1) say_why(&f);
        return f.best.s;
    }
    format_mib(budget, want, sizeof want);
    format_mib(f.least.bytes, least, sizeof least);
    strategy_format(&f.least.s, text, sizeof text);
    fail(EXIT_BAD,
        "--budget %s (%llu bytes) is too small: the smallest that %s finds on %d threads is %s "
        "(%llu bytes), with %s",
        want, (unsigned long long)budget, open == OPEN_ALL ? "--strategy auto" : "this --strategy",
        mo_parallel_threads(&t->parallel), least, (unsigned long long)f.least.bytes, text);
}
