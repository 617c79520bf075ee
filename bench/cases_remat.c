// cases_remat.c - the optimal schedule of heterogeneous chains under 40 % of the memory of saving
// every stage: what solving costs, and the time that the schedule takes over that of saving all.
#include "bench.h"

#include <string.h>

typedef struct solving {
    mo_flat_chain chain;
    mo_flat_stage *stages;
    mo_remat_table_desc desc;
    double ratio;
} solving;

// splitmix64
static double uniform(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static void make_chain(solving *s, mo_flat_option *ways, size_t n_layers) {
    uint64_t seed = 1;
    for (size_t i = 0; i < n_layers; i++) {
        mo_flat_stage *stage = &s->stages[i];
        stage->forward_s = 1 + 9 * uniform(&seed);
        stage->backward_s = stage->forward_s * (1.5 + uniform(&seed));
        stage->output_size = (size_t)(1e6 * (1 + 9 * uniform(&seed)));
        stage->options = &ways[i];
        stage->n_options = 1;
        ways[i].kept = (size_t)((double)stage->output_size * (1 + 5 * uniform(&seed)));
    }
    s->chain = (mo_flat_chain){1000000, s->stages, n_layers + 1};
}

static void solve(void *state) {
    solving *s = state;
    mo_remat_solution solution;
    must(mo_remat_optimal(&s->desc, &solution));
    s->ratio = solution.cost_s / solution.ideal_s;
    mo_remat_solution_free(&solution);
}

static bool setup(work *w) {
    size_t n_layers = (size_t)w->variant;
    solving *s = take(w, sizeof *s);
    mo_flat_stage *stages = take(w, (n_layers + 1) * sizeof *stages);
    mo_flat_option *ways = take(w, n_layers * sizeof *ways);
    mo_remat_solution all;
    if (!s || !stages || !ways) return false;
    memset(s, 0, sizeof *s);
    memset(stages, 0, (n_layers + 1) * sizeof *stages);
    memset(ways, 0, n_layers * sizeof *ways);
    s->stages = stages;
    make_chain(s, ways, n_layers);
    must(mo_remat_baseline_solve(&s->chain, MO_BASELINE_NONE, SIZE_MAX, NULL, NULL, &all));
    s->desc.chain = &s->chain;
    s->desc.budget = all.peak_bytes / 10 * 4;
    mo_remat_solution_free(&all);
    solve(s);
    w->state = s;
    w->units = w->threads = 1;
    add_extra(w, "time_ratio", s->ratio);
    return true;
}

const bench_case cases_remat[] = {
    {"remat.solve_L50", "solve", "50 stages that all differ", 0, setup, solve, 50},
    {"remat.solve_L200", "solve", "200 stages that all differ", 0, setup, solve, 200},
    {"remat.coarse_L1000", "solve", "1000 stages, in 128 groups", 0, setup, solve, 1000}, {0}};
