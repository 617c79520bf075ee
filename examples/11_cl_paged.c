// 11_cl_paged.c - AdamW for parameters on an OpenCL device whose budget has no room for the states:
// they stay in host memory, and come and go page by page while kernels work on other pages.
//     cc -I. examples/11_cl_paged.c memopt.c memopt_cl.c -o cl_paged -lOpenCL -lm
//     cl_paged [auto | cl:P.D]
#include "memopt_cl.h"
#include <stdio.h>
#include <stdlib.h>

enum { TENSORS = 4, N = 1 << 20, PAGE = 1 << 20, STEPS = 5 };

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void log_line(void *self, mo_log_level level, const char *text) {
    (void)self;
    if (level == MO_LOG_ERROR) printf("  %s\n", text);
}

typedef struct model {
    mo_cl_heap heap;
    mo_cl_mem param[TENSORS], grad[TENSORS];
    mo_cl_page_optim states;
} model;

// The mean of x^2, which the loop makes smaller: the gradient of x^2 / 2 is x.
static mo_status mean_square(model *m, double *mean) {
    float *x = malloc(N * sizeof *x);
    mo_status status = x ? MO_OK : MO_E_NO_MEMORY;
    *mean = 0;
    for (int i = 0; i < TENSORS && status == MO_OK; i++) {
        status =
            mo_cl_download(&m->heap, MO_CL_COMPUTE, x, &m->param[i], 0, N * sizeof *x, NULL, NULL);
        for (int j = 0; j < N && status == MO_OK; j++)
            *mean += (double)x[j] * x[j] / ((double)N * TENSORS);
    }
    free(x);
    return status;
}

static mo_status begin(model *m, const mo_optim_desc *adam) {
    mo_optim_desc descs[TENSORS];
    size_t n[TENSORS];
    mo_status status = MO_OK;
    float *x = malloc(N * sizeof *x);
    if (!x) return MO_E_NO_MEMORY;
    for (int j = 0; j < N; j++) x[j] = (float)(j % 2001 - 1000) / 1000;
    for (int i = 0; i < TENSORS && status == MO_OK; i++) {
        descs[i] = *adam;
        n[i] = N;
        status = mo_cl_heap_alloc(&m->heap, 4 * N, MO_CATEGORY_PARAM, "param", &m->param[i]);
        if (status == MO_OK)
            status = mo_cl_heap_alloc(&m->heap, 4 * N, MO_CATEGORY_GRAD, "grad", &m->grad[i]);
        if (status == MO_OK)
            status = mo_cl_upload(&m->heap, MO_CL_COMPUTE, &m->param[i], 0, x, 4 * N, NULL, NULL);
    }
    free(x);
    const mo_cl_page_optim_desc desc = {
        .tensors = descs, .n = n, .n_tensors = TENSORS, .page_bytes = PAGE};
    return status == MO_OK ? mo_cl_page_optim_init(&m->states, &m->heap, &desc) : status;
}

static mo_status train(model *m) {
    mo_status status = MO_OK;
    mo_cl_times times;
    double mean = 0;
    for (int t = 1; t <= STEPS && status == MO_OK; t++) {
        const int timed = mo_cl_times_begin(m->heap.cl, 10000) == MO_OK;
        for (size_t i = 0; i < TENSORS && status == MO_OK; i++) {
            status = mo_cl_copy(
                &m->heap, MO_CL_COMPUTE, &m->grad[i], 0, &m->param[i], 0, 4 * N, NULL, NULL);
            if (status == MO_OK)
                status = mo_cl_page_optim_step(
                    &m->states, i, NULL, (uint64_t)t, m->param[i], m->grad[i]);
        }
        if (status == MO_OK) printf("step %d:", t);
        if (timed && mo_cl_times_end(m->heap.cl, &times) == MO_OK && status == MO_OK)
            printf(" %5.1f ms, kernels %5.1f, transfers %5.1f of %.0f MiB, %2.0f %% of it hidden;",
                1e3 * times.span_s, 1e3 * times.kernel_s, 1e3 * times.transfer_s,
                mib(times.in_bytes + times.out_bytes), 100 * times.both_s / times.transfer_s);
        if (status == MO_OK) status = mean_square(m, &mean);
        if (status == MO_OK) printf(" mean of x^2 %.5f\n", mean);
    }
    return status;
}

int main(int argc, char **argv) {
    const mo_log log = {log_line, NULL};
    const mo_cl_desc desc = {.device = argc > 1 ? argv[1] : "auto", .profiling = 1, .log = &log};
    const mo_optim_desc adam = {.lr = 0.05}; // AdamW with states in fp32
    const uint64_t tensors = 2 * TENSORS * 4 * N, planned = tensors + 2 * PAGE;
    const uint64_t states = TENSORS * mo_optim_state_size(&adam, N);
    const mo_cl_heap_desc heap_desc = {.budget_bytes = planned, .buffer_bytes = 4 << 20};
    model m = {0};
    mo_cl cl;
    mo_cl_heap_stats stats;
    if (mo_cl_init(&cl, &desc) != MO_OK) {
        printf("no OpenCL device\n");
        return argc > 1; // to have none is an answer, unless one was asked for
    }
    printf("%s: parameters and gradients %.0f MiB, states %.0f MiB; budget %.0f MiB\n",
        cl.info.name, mib(tensors), mib(states), mib(planned));
    mo_status status = mo_cl_heap_init(&m.heap, &cl, &heap_desc);
    if (status == MO_OK) status = begin(&m, &adam);
    if (status == MO_OK) status = train(&m);
    if (status == MO_OK) {
        mo_cl_heap_get_stats(&m.heap, &stats);
        printf("device: planned %llu bytes, peak %llu; host: %llu bytes, %s\n",
            (unsigned long long)planned, (unsigned long long)stats.peak_reserved_bytes,
            (unsigned long long)stats.staging_bytes, stats.pinned_bytes ? "pinned" : "not pinned");
    } else {
        printf("%s\n", mo_status_text(status));
    }
    mo_cl_page_optim_free(&m.states);
    mo_cl_heap_free(&m.heap);
    mo_cl_free(&cl);
    return status != MO_OK;
}
