// 15_stream_weights.c - a forward pass over a model eight times larger than the memory that its
// weights may take: the next layers are read from the file while this one computes.
//     cc -I. examples/15_stream_weights.c memopt.c -o stream_weights -lm -lpthread
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 24, WIDTH = 512, ROWS = 16, LIMIT = LAYERS * WIDTH * WIDTH * 4 / 8 };
static const size_t matrix_bytes = (size_t)WIDTH * WIDTH * sizeof(float);

static double mib(double bytes) { return bytes / (1 << 20); }

// Resident memory of this process that is not a file's; 0 where the system does not say.
static double resident_mib(void) {
    long pages = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*s %ld %ld", &pages, &shared) != 2) pages = shared = 0;
    if (file) fclose(file);
    return mib((double)(pages - shared) * (double)sysconf(_SC_PAGESIZE));
}

// y = tanh(x W), into x
static mo_status layer_forward(float *x, const float *w) {
    static float y[ROWS * WIDTH];
    static _Alignas(64) char workspace[1 << 20];
    const mo_gemm_env env = {.workspace = workspace, .workspace_size = sizeof workspace};
    const mo_gemm_desc gemm = {.m = ROWS, .n = WIDTH, .k = WIDTH};
    const mo_status status = mo_gemm(&env, &gemm, x, w, y);
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = tanhf(y[i]);
    return status;
}

static void begin(float *x) {
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = (float)(i % 37 - 18) / 18;
}

// One layer at a time is in memory here too: a file can be written as a stream.
static mo_status write_model(const char *path) {
    static const uint64_t shape[] = {WIDTH, WIDTH};
    mo_safetensors_entry entries[LAYERS];
    char names[LAYERS][32];
    mo_safetensors_writer writer = {0};
    float *w = malloc(matrix_bytes);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(names[i], sizeof names[i], "layer.%d.weight", i);
        entries[i] = (mo_safetensors_entry){names[i], MO_DTYPE_F32, 2, shape, 0, 0};
    }
    mo_status status =
        w ? mo_safetensors_create(&writer, path, entries, LAYERS, NULL) : MO_E_NO_MEMORY;
    unsigned bits = 1;
    for (int i = 0; i < LAYERS && status == MO_OK; i++) {
        for (int k = 0; k < WIDTH * WIDTH; k++) {
            bits = bits * 1664525u + 1013904223u;
            w[k] = ((float)(bits >> 8) / (1 << 24) - 0.5f) / 8;
        }
        status = mo_safetensors_write(&writer, w, matrix_bytes);
    }
    if (status == MO_OK) status = mo_safetensors_commit(&writer);
    mo_safetensors_discard(&writer);
    free(w);
    return status;
}

// What it is compared with: all weights are read first.
static mo_status forward_in_memory(const mo_safetensors *file, float *x) {
    mo_status status = MO_OK;
    float *w = malloc(LAYERS * matrix_bytes);
    if (!w) return MO_E_NO_MEMORY;
    for (size_t i = 0; i < LAYERS && status == MO_OK; i++)
        status =
            mo_safetensors_read(file, &file->entries[i], 0, w + i * WIDTH * WIDTH, matrix_bytes);
    begin(x);
    for (size_t i = 0; i < LAYERS && status == MO_OK; i++)
        status = layer_forward(x, w + i * WIDTH * WIDTH);
    printf("all in memory: resident %.1f MiB\n", resident_mib());
    free(w);
    return status;
}

static void print_stats(const mo_stream_stats *stats) {
    printf("streamed:      resident %.1f MiB, of it the window %.1f MiB (limit %.1f)\n",
        resident_mib(), mib((double)stats->window_bytes), mib(LIMIT));
    printf("read %.1f MiB at %.2f GB/s; the computation waited for %.1f ms in %llu stalls\n",
        mib((double)stats->read_bytes), 1e-9 * (double)stats->read_bytes / stats->read_s,
        1e3 * stats->stall_s, (unsigned long long)stats->n_stalls);
}

static mo_status forward_streamed(const mo_safetensors *file, float *x) {
    mo_stream_tensor tensors[LAYERS];
    mo_stream_layer layers[LAYERS];
    mo_stream stream = {0};
    mo_stream_layer_view layer;
    for (int i = 0; i < LAYERS; i++) {
        tensors[i] = mo_stream_tensor_of(mo_stream_safetensors(file), &file->entries[i]);
        layers[i] = (mo_stream_layer){&tensors[i], 1};
    }
    const mo_stream_desc desc = {.layers = layers, .n_layers = LAYERS, .limit_bytes = LIMIT};
    mo_status status = mo_stream_init(&stream, &desc);
    begin(x);
    while (status == MO_OK && (status = mo_stream_next(&stream, &layer)) == MO_OK && !layer.is_end)
        status = layer_forward(x, layer.data[0]);
    if (status == MO_OK) {
        const mo_stream_stats stats = mo_stream_get_stats(&stream);
        print_stats(&stats);
        if (stats.peak_bytes > LIMIT) status = MO_E_NO_SPACE;
    }
    mo_stream_free(&stream);
    return status;
}

static mo_status run(const char *path) {
    static float streamed[ROWS * WIDTH], whole[ROWS * WIDTH];
    mo_safetensors file = {0};
    mo_status status = write_model(path);
    if (status == MO_OK) status = mo_safetensors_open(&file, path, NULL);
    if (status == MO_OK)
        printf("%d layers of %.1f MiB in %s\n", LAYERS, mib((double)matrix_bytes), path);
    if (status == MO_OK) status = forward_streamed(&file, streamed);
    if (status == MO_OK) status = forward_in_memory(&file, whole);
    mo_safetensors_close(&file);
    if (status != MO_OK) return status;
    const int same = memcmp(streamed, whole, sizeof whole) == 0;
    printf("the results %s\n", same ? "are the same, bit for bit" : "DIFFER");
    return same ? MO_OK : MO_E_STATE;
}

int main(void) {
    const char *temporary = getenv("TMPDIR");
    char folder[256], path[300];
    snprintf(folder, sizeof folder, "%s/stream_weights.XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    const mo_status status = run(path);
    remove(path);
    rmdir(folder);
    if (status != MO_OK) printf("%s\n", mo_status_text(status));
    return status != MO_OK;
}
