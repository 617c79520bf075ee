/* test_distill.c - mo_linear_kd against double; what a teacher writes down, refusals. */
#include "test_loss.h"

/* A teacher of 7 channels; or the k that are written down of it. */
static void teach(problem *p, test_rng *r, size_t k, float temperature, float weight) {
    const size_t chunk = p->d.chunk_rows;
    p->kd.teacher_channels = 7;
    p->kd.temperature = temperature;
    p->kd.weight = weight;
    p->kt.teacher_x = test_normals(r, p->rows * 7, 1);
    p->kt.teacher_w = test_normals(r, p->vocab * 7, 0.5f);
    if (k == 0) return;
    mo_linear_kd_topk_desc d;
    uint16_t *indices = (uint16_t *)test_array(p->rows * k, 2);
    uint16_t *log_probs = (uint16_t *)test_array(p->rows * k, 2);
    memset(&d, 0, sizeof d);
    d.rows = p->rows;
    d.channels = 7;
    d.vocab = p->vocab;
    d.chunk_rows = chunk;
    d.k = k;
    d.temperature = temperature;
    d.env = &p->env;
    d.workspace_size = mo_linear_kd_topk_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    test_ok(mo_linear_kd_topk(&d, p->kt.teacher_x, p->kt.teacher_w, indices, log_probs));
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    p->kd.k = k;
    p->kt.indices = indices;
    p->kt.log_probs = log_probs;
}
static void taught_end(problem *p) {
    free((void *)(uintptr_t)p->kt.teacher_x);
    free((void *)(uintptr_t)p->kt.teacher_w);
    free((void *)(uintptr_t)p->kt.indices);
    free((void *)(uintptr_t)p->kt.log_probs);
    problem_end(p);
}

static void a_student_equal_to_its_teacher_has_nothing_to_learn(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 6, 5, 40, 4);
    p->kd.temperature = 3;
    p->kd.weight = 1;
    p->kt.teacher_x = p->x;
    p->kt.teacher_w = p->w;
    p->t.targets = NULL; /* which weight 1 does not need */
    assert_true(fabs(run(p)) < 1e-5);
    for (size_t i = 0; i < 30; i++) assert_true(fabsf(p->dx[i]) < 1e-6f);
    problem_end(p);
}

static void distillation_matches_double(void **state) {
    (void)state;
    static const size_t shapes[][5] = {/* rows, channels, vocab, chunk, k */
        {3, 5, 7, 1, 0}, {17, 33, 65, 4, 0}, {20, 9, 300, 20, 0}, {3, 5, 7, 2, 1}, {9, 3, 65, 4, 8},
        {4, 5, 300, 0, 33}, {5, 4, 16, 3, 16}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t i = 0; i < n_elements(shapes); i++) {
            const size_t *s = shapes[i];
            problem *p = problem_begin(&r, s[0], s[1], s[2], s[3]);
            teach(p, &r, s[4], i % 3 ? 2.5f : 1.0f, i % 2 ? 0.7f : 1.0f);
            p->d.label_smoothing = 0.1f;
            p->d.ignore = i == 2 || i == 4;
            p->d.ignore_index = -1;
            if (p->d.ignore) p->targets[1] = -1;
            assert_as_in_double(p, 1.0 / (double)(s[0] - (p->d.ignore != 0)));
            taught_end(p);
        }
}

static void gradients_of_distillation_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < 4; k += 3) {
        problem *p = problem_begin(&r, 4, 5, 9, 3);
        teach(p, &r, k, 2, 0.6f);
        assert_central_differences(p);
        taught_end(p);
    }
}

static void chunks_and_threads_change_no_bit_of_distillation(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < 10; k += 9) {
        problem *p = problem_begin(&r, 30, 12, 100, 0);
        teach(p, &r, k, 2, 0.6f);
        const double loss = run(p);
        float *dx = test_copy(p->dx, 30 * 12);
        for (size_t chunk = 1; chunk < 20; chunk += 6) {
            workspaces_end(p);
            workspaces_begin(p, chunk, 1 + (int)chunk % 3);
            assert_true(run(p) == loss);
            assert_same_bits(p->dx, dx, 30 * 12 * sizeof *dx);
        }
        free(dx);
        taught_end(p);
    }
}

static void the_largest_are_written_down_in_their_order(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    const float w[] = {1, 5, 3, 5, -2, 0, 5, 4};
    problem *p = problem_begin(&r, 1, 1, 8, 0);
    mo_linear_kd_topk_desc d;
    uint16_t indices[5], log_probs[5];
    double l[8];
    const float x = 1;
    memset(&d, 0, sizeof d);
    d.rows = d.channels = 1;
    d.vocab = 8;
    d.k = 5;
    d.env = &p->env;
    d.workspace_size = mo_linear_kd_topk_workspace_size(&d);
    assert_int_equal(d.workspace_size, 128); /* 8 logits and a loss, 5 values with indices */
    d.workspace = mo_alloc(NULL, 128, 64);
    test_ok(mo_linear_kd_topk(&d, &x, w, indices, log_probs));
    static const uint16_t want[] = {1, 3, 6, 7, 2};
    assert_memory_equal(indices, want, sizeof want);
    for (size_t i = 0; i < 8; i++) l[i] = (double)w[i];
    for (size_t i = 0; i < 5; i++) {
        float got;
        mo_f16_to_f32(log_probs + i, &got, 1, NULL);
        assert_true(fabs((double)got - (l[want[i]] / 2 - log_sum(l, 8, 2))) < 1e-3); /* fp16 */
    }
    mo_free(NULL, d.workspace, 128, 64);
    problem_end(p);
}

/* 2^-11 of log-probabilities up to 8, and the temperature's square */
static void the_whole_vocabulary_written_down_teaches_as_the_teacher_does(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 8, 5, 50, 0);
    teach(p, &r, 50, 2, 1);
    const double written = run(p);
    p->kd.k = 0;
    assert_error_below(fabs(run(p) - written), 8 * 0x1p-11);
    taught_end(p);
}

static void wrong_teachers_are_refused_and_change_nothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 5, 4, 7, 2);
    teach(p, &r, 3, 2, 0.5f);
    run(p);
    double loss = 5;
    p->kd.ce.workspace = mo_alloc(NULL, p->kd.ce.workspace_size, 64);
    mo_linear_kd_desc d[6];
    for (int i = 0; i < 6; i++) d[i] = p->kd;
    d[0].temperature = -1;
    d[1].weight = 1.5f;
    d[2].k = 8;
    d[3].weight = -0.5f;
    d[4].ce.label_smoothing = 2;
    d[5].ce.workspace_size--;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_linear_kd(&d[i], &p->kt, &loss), i < 5 ? MO_E_INVALID : MO_E_NO_SPACE);
    uint16_t *indices = (uint16_t *)(uintptr_t)p->kt.indices;
    const uint16_t good = indices[14];
    indices[14] = 7; /* of the last row */
    assert_int_equal(mo_linear_kd(&p->kd, &p->kt, &loss), MO_E_INVALID);
    indices[14] = good;
    mo_linear_kd_tensors t = p->kt;
    t.log_probs = NULL;
    assert_int_equal(mo_linear_kd(&p->kd, &t, &loss), MO_E_INVALID);
    t = p->kt;
    t.ce.targets = NULL; /* cross-entropy has its part */
    assert_int_equal(mo_linear_kd(&p->kd, &t, &loss), MO_E_INVALID);
    p->kd.k = 0;
    t = p->kt;
    t.teacher_w = NULL;
    assert_int_equal(mo_linear_kd(&p->kd, &t, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_kd(NULL, &t, &loss), MO_E_INVALID);
    mo_linear_kd_topk_desc topk;
    memset(&topk, 0, sizeof topk);
    assert_int_equal(mo_linear_kd_topk(&topk, p->x, p->w, indices, indices), MO_E_INVALID);
    assert_int_equal(mo_linear_kd_topk_workspace_size(NULL), 0);
    assert_int_equal(mo_linear_kd_workspace_size(NULL), 0);
    assert_true(loss == 5);
    p->kd.k = 3;
    mo_free(NULL, p->kd.ce.workspace, p->kd.ce.workspace_size, 64);
    taught_end(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_student_equal_to_its_teacher_has_nothing_to_learn),
        cmocka_unit_test(distillation_matches_double),
        cmocka_unit_test(gradients_of_distillation_match_central_differences),
        cmocka_unit_test(chunks_and_threads_change_no_bit_of_distillation),
        cmocka_unit_test(the_largest_are_written_down_in_their_order),
        cmocka_unit_test(the_whole_vocabulary_written_down_teaches_as_the_teacher_does),
        cmocka_unit_test(wrong_teachers_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
