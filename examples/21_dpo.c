// 21_dpo.c - a model of bytes learns which of two answers is preferred, without a reward model: DPO
// on chunks of logits. The reference is the model itself before the first step.
//     cc -I. examples/21_dpo.c memopt.c -o dpo -lm
#include "memopt.h"
#include <stdio.h>
#include <string.h>

enum { PAIRS = 4, SEQ = 32, ROWS = 2 * PAIRS * SEQ, WIDTH = 48, VOCAB = 128, STEPS = 40, OFF = -1 };
static const char *const asked[PAIRS] = {"sky? ", "snow? ", "grass? ", "coal? "};
static const char *const preferred[PAIRS] = {
    "it is blue.", "it is white.", "it is green.", "it is black."};
static const char *const rejected[PAIRS] = {"no idea.", "who cares.", "ask a cow.", "dunno."};

static float features[VOCAB][WIDTH], x[ROWS * WIDTH], w[VOCAB * WIDTH], dx[ROWS * WIDTH];
static float dw[VOCAB * WIDTH];
static int32_t targets[ROWS];

// A hidden state is made of the bytes up to here, older ones less. Only what is answered counts.
static void put_sequence(int row, const char *question, const char *answer) {
    char text[SEQ + 1] = "";
    snprintf(text, sizeof text, "%s%s", question, answer);
    const int n = (int)strlen(text), from = (int)strlen(question) - 1;
    for (int i = 0; i < SEQ; i++) {
        float *now = x + (row + i) * WIDTH;
        const float *before = i ? now - WIDTH : features[0];
        for (int c = 0; c < WIDTH; c++) now[c] = 0.6f * before[c] + features[(int)text[i]][c];
        targets[row + i] = i >= from && i + 1 < n ? text[i + 1] : OFF;
    }
}

static void make_rows(void) {
    unsigned bits = 1;
    for (int i = 0; i < VOCAB * WIDTH; i++) {
        bits = bits * 1664525u + 1013904223u;
        features[i / WIDTH][i % WIDTH] = (float)(int)bits / 4294967296.0f;
    }
    for (int i = 0; i < PAIRS; i++) {
        put_sequence(i * SEQ, asked[i], preferred[i]);
        put_sequence((PAIRS + i) * SEQ, asked[i], rejected[i]);
    }
}

static mo_status run(void) {
    static _Alignas(64) char workspace[1 << 18], products[1 << 20], states[3 * sizeof w];
    const mo_gemm_env env = {.workspace = products, .workspace_size = sizeof products};
    const mo_linear_dpo_desc d = {.ce = {.rows = ROWS,
                                      .channels = WIDTH,
                                      .vocab = VOCAB,
                                      .chunk_rows = 64, // of 256 rows of logits
                                      .ignore = 1,
                                      .ignore_index = OFF,
                                      .env = &env,
                                      .workspace = workspace,
                                      .workspace_size = sizeof workspace},
        .pairs = {.pairs = PAIRS, .beta = 0.5f}};
    const mo_optim_desc optim = {.lr = 3e-3f};
    mo_linear_ce_tensors t = {.x = x, .w = w, .targets = targets};
    double reference[2 * PAIRS], now[2 * PAIRS], loss = 0;
    mo_optim_state state;
    mo_status status = mo_optim_state_init(&optim, VOCAB * WIDTH, states, sizeof states, &state);
    if (status == MO_OK) status = mo_linear_dpo_log_probs(&d, &t, reference);
    t.dx = dx;
    t.dw = dw;
    for (uint64_t step = 1; step <= STEPS && status == MO_OK; step++) {
        memset(dw, 0, sizeof dw);
        status = mo_linear_dpo(&d, &t, reference, now, &loss);
        if (status == MO_OK) status = mo_optim_step(&optim, step, w, dw, &state);
        if (step == 1 || step == STEPS) printf("step %2d: loss %.4f\n", (int)step, loss);
    }
    if (status != MO_OK) return status;
    puts("log-probability beyond the reference's:");
    for (int i = 0; i < PAIRS; i++) {
        const double up = now[i] - reference[i], down = now[PAIRS + i] - reference[PAIRS + i];
        printf("  %-8s %+7.2f %-12s %+7.2f %s\n", asked[i], up, preferred[i], down, rejected[i]);
        if (!(up > down)) status = MO_E_STATE;
    }
    return status;
}

int main(void) {
    make_rows();
    const mo_status status = run();
    if (status != MO_OK) printf("%s\n", mo_status_text(status));
    return status != MO_OK;
}
