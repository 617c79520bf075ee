// 14_paged_optimizer.c - AdamW whose states live in a file: an eighth of them is in memory at a
// time, the rest comes and goes while other pages are updated. The result is that of states in
// memory, to the bit.
//     cc -I. examples/14_paged_optimizer.c memopt.c -o paged_optimizer -lm -lpthread
#include "memopt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 4, N = 1 << 20, STEPS = 10 };

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void log_line(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    printf("  %s\n", text);
}

// The gradient of (x - 1)^2 / 2.
static void gradient(const float *x, float *g) {
    for (int i = 0; i < N; i++) g[i] = x[i] - 1;
}

static float start(int tensor, int i) { return (float)((i + tensor) % 2001 - 1000) / 1000; }

// All tensors with states in pages.
static mo_status train_paged(const mo_optim_desc *adam, float *x[TENSORS], float *g) {
    mo_optim_desc descs[TENSORS];
    size_t n[TENSORS];
    for (int i = 0; i < TENSORS; i++) descs[i] = *adam, n[i] = N;
    mo_page_optim_desc desc = {.tensors = descs, .n = n, .n_tensors = TENSORS};
    desc.pages.resident_bytes = TENSORS * mo_optim_state_size(adam, N) / 8;
    desc.pages.log.write = log_line;
    mo_page_optim states;
    mo_status status = mo_page_optim_init(&states, &desc); // a temporary file
    if (status != MO_OK) return status;
    for (uint64_t t = 1; t <= STEPS && status == MO_OK; t++)
        for (size_t i = 0; i < TENSORS && status == MO_OK; i++) {
            gradient(x[i], g);
            status = mo_page_optim_step(&states, i, NULL, t, x[i], g);
        }
    const mo_page_stats s = states.pages.stats;
    printf("%.1f MiB of states, %.1f MiB of them in memory, in pages of %.2f MiB, %s\n",
        mib(states.pages.desc.size), mib(s.resident_bytes), mib(states.pages.desc.page_bytes),
        s.is_direct ? "past the system's cache" : "through the system's cache");
    printf("%d steps: %.1f MiB read, %.1f MiB written, %.3f s waited\n", STEPS, mib(s.in_bytes),
        mib(s.out_bytes), s.stall_s);
    mo_page_optim_free(&states);
    return status;
}

// One tensor with states in memory, to compare.
static mo_status train_plain(const mo_optim_desc *adam, float *x, float *g) {
    const size_t size = mo_optim_state_size(adam, N);
    void *memory = mo_alloc(NULL, size, 64);
    mo_optim_state state;
    mo_status status = memory ? mo_optim_state_init(adam, N, memory, size, &state) : MO_E_NO_MEMORY;
    for (uint64_t t = 1; t <= STEPS && status == MO_OK; t++) {
        gradient(x, g);
        status = mo_optim_step(adam, t, x, g, &state);
    }
    mo_free(NULL, memory, size, 64);
    return status;
}

int main(void) {
    const mo_optim_desc adam = {.kind = MO_OPTIM_ADAMW, .lr = 0.01};
    float *x[TENSORS], *plain = malloc(N * sizeof *plain), *g = malloc(N * sizeof *g);
    int same = 1;
    for (int i = 0; i < TENSORS; i++) {
        x[i] = malloc(N * sizeof *x[i]);
        if (!x[i] || !plain || !g) return 1;
        for (int k = 0; k < N; k++) x[i][k] = start(i, k);
    }
    mo_status status = train_paged(&adam, x, g);
    for (int i = 0; i < TENSORS && status == MO_OK; i++) {
        for (int k = 0; k < N; k++) plain[k] = start(i, k);
        status = train_plain(&adam, plain, g);
        same = same && memcmp(x[i], plain, N * sizeof *plain) == 0;
    }
    if (status == MO_OK)
        printf("the same bits as with states in memory: %s\n", same ? "yes" : "no");
    else printf("%s\n", mo_status_text(status));
    for (int i = 0; i < TENSORS; i++) free(x[i]);
    free(plain);
    free(g);
    return status == MO_OK && same ? 0 : 1;
}
