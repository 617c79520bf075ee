// 20_distill.c - a small head learns from few and noisy examples, alone, and from a larger one that
// has seen many: the teacher's eight largest log-probabilities of each example, kept in a file.
//     cc -I. examples/20_distill.c memopt.c -o distill -lm -lpthread
#include "memopt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 4096, FEW = 256, TEACHER = 24, STUDENT = 16, VOCAB = 64, K = 8, STEPS = 150 };
static _Alignas(64) char workspace[4 << 20], products[1 << 20];
static const mo_gemm_env env = {.workspace = products, .workspace_size = sizeof products};

// Rows of features and the class that follows them; a student sees the first 16 features.
typedef struct examples {
    float wide[MANY * TEACHER], narrow[MANY * STUDENT];
    int32_t targets[MANY];
} examples;
static examples seen, held_out;
typedef struct teacher_file {
    uint16_t indices[FEW * K], log_probs[FEW * K];
} teacher_file;

static float random_number(unsigned *seed) { // in -1..1
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int)*seed / 2147483648.0f;
}

// The class is the largest of 64 fixed sums of the features, and two times in five any other.
static void make_examples(examples *e, unsigned seed) {
    static float truth[VOCAB * TEACHER];
    unsigned same = 7;
    for (int i = 0; i < VOCAB * TEACHER; i++)
        truth[i] = random_number(&same) * (i % TEACHER < STUDENT ? 1 : 0.3f);
    for (int r = 0; r < MANY; r++) {
        float *x = e->wide + r * TEACHER, most = -1e9f;
        for (int c = 0; c < TEACHER; c++) x[c] = random_number(&seed);
        memcpy(e->narrow + r * STUDENT, x, STUDENT * sizeof *x);
        for (int v = 0; v < VOCAB; v++) {
            float sum = 0;
            for (int c = 0; c < TEACHER; c++) sum += x[c] * truth[v * TEACHER + c];
            if (sum > most) most = sum, e->targets[r] = v;
        }
        if (random_number(&seed) < -0.2f)
            e->targets[r] = (int32_t)((random_number(&seed) + 1) * 31.9f);
    }
}

static mo_linear_kd_desc desc_of(size_t rows, size_t channels) {
    mo_linear_kd_desc d = {.ce = {.rows = rows, .channels = channels, .vocab = VOCAB}};
    d.ce.chunk_rows = 128;
    d.ce.env = &env;
    d.ce.workspace = workspace;
    d.ce.workspace_size = sizeof workspace;
    return d;
}

static double loss_of(const float *x, size_t channels, const float *w) {
    const mo_linear_kd_desc d = desc_of(MANY, channels);
    const mo_linear_ce_tensors t = {.x = x, .w = w, .targets = held_out.targets};
    double loss = -1;
    return mo_linear_ce(&d.ce, &t, &loss) == MO_OK ? loss : -1;
}

// teacher: NULL = the labels alone
static mo_status train(
    const float *x, size_t rows, size_t channels, const teacher_file *teacher, float *w) {
    static float dx[MANY * TEACHER], dw[VOCAB * TEACHER];
    static _Alignas(64) char states[3 * sizeof dw];
    const mo_optim_desc optim = {.lr = 0.03f};
    const size_t n = VOCAB * channels;
    mo_linear_kd_desc d = desc_of(rows, channels);
    const mo_linear_ce_tensors t = {.x = x, .w = w, .targets = seen.targets, .dx = dx, .dw = dw};
    mo_linear_kd_tensors kd = {.ce = t};
    mo_optim_state state;
    double loss;
    mo_status status = mo_optim_state_init(&optim, n, states, sizeof states, &state);
    d.k = K;
    d.weight = 0.9f;
    if (teacher) kd.indices = teacher->indices, kd.log_probs = teacher->log_probs;
    memset(w, 0, n * sizeof *w);
    for (uint64_t step = 1; step <= STEPS && status == MO_OK; step++) {
        memset(dw, 0, sizeof dw);
        status = teacher ? mo_linear_kd(&d, &kd, &loss) : mo_linear_ce(&d.ce, &t, &loss);
        if (status == MO_OK) status = mo_optim_step(&optim, step, w, dw, &state);
    }
    return status;
}

// What the teacher says about the student's examples, once: it is not needed again.
static mo_status write_teacher(const char *path, const float *w) {
    static const uint64_t shape[] = {FEW, K};
    static teacher_file file;
    const mo_safetensors_entry entries[] = {
        {"indices", MO_DTYPE_U16, 2, shape, 0, 0}, {"log_probs", MO_DTYPE_F16, 2, shape, 0, 0}};
    const mo_linear_kd_topk_desc d = {.rows = FEW,
        .channels = TEACHER,
        .vocab = VOCAB,
        .chunk_rows = 64,
        .k = K,
        .env = &env,
        .workspace = workspace,
        .workspace_size = sizeof workspace};
    mo_safetensors_writer writer = {0};
    mo_status status = mo_linear_kd_topk(&d, seen.wide, w, file.indices, file.log_probs);
    if (status == MO_OK) status = mo_safetensors_create(&writer, path, entries, 2, NULL);
    if (status == MO_OK) status = mo_safetensors_write(&writer, &file, sizeof file);
    if (status == MO_OK) status = mo_safetensors_commit(&writer);
    mo_safetensors_discard(&writer);
    return status;
}

static mo_status read_teacher(const char *path, teacher_file *file) {
    mo_safetensors st = {0};
    mo_status status = mo_safetensors_open(&st, path, NULL);
    if (status != MO_OK) return status;
    status = mo_safetensors_read(
        &st, mo_safetensors_find(&st, "indices"), 0, file->indices, sizeof file->indices);
    if (status == MO_OK)
        status = mo_safetensors_read(
            &st, mo_safetensors_find(&st, "log_probs"), 0, file->log_probs, sizeof file->log_probs);
    mo_safetensors_close(&st);
    return status;
}

static mo_status run(const char *path) {
    static float teacher[VOCAB * TEACHER], student[VOCAB * STUDENT];
    static teacher_file file;
    make_examples(&seen, 1);
    make_examples(&held_out, 2);
    mo_status status = train(seen.wide, MANY, TEACHER, NULL, teacher);
    if (status == MO_OK) status = write_teacher(path, teacher);
    if (status == MO_OK) status = read_teacher(path, &file);
    if (status != MO_OK) return status;
    printf("teacher, %d examples:     held-out loss %.4f\n", MANY,
        loss_of(held_out.wide, TEACHER, teacher));
    printf("its words on %d of them:   %zu bytes, logits would be %zu\n", FEW, sizeof file,
        (size_t)FEW * VOCAB * sizeof(float));
    status = train(seen.narrow, FEW, STUDENT, NULL, student);
    if (status != MO_OK) return status;
    const double alone = loss_of(held_out.narrow, STUDENT, student);
    status = train(seen.narrow, FEW, STUDENT, &file, student);
    if (status != MO_OK) return status;
    const double taught = loss_of(held_out.narrow, STUDENT, student);
    printf("student, %d examples:      alone %.4f, taught %.4f\n", FEW, alone, taught);
    return taught < alone ? MO_OK : MO_E_STATE;
}

int main(void) {
    const char *temporary = getenv("TMPDIR");
    char folder[256], path[300];
    snprintf(folder, sizeof folder, "%s/distill.XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof path, "%s/teacher.safetensors", folder);
    const mo_status status = run(path);
    remove(path);
    rmdir(folder);
    if (status != MO_OK) printf("%s\n", mo_status_text(status));
    return status != MO_OK;
}
