/* test_checkpoint.c - a run in a file and back; which files remain, which one is the newest. */

#include "test_checkpoint.h"
#include <sys/wait.h>
#include <utime.h>

static test_run run, other;
static test_log logged;
static mo_checkpoint_desc desc;
static char file[4096];

static int begin(void **state) {
    (void)state;
    memset(&desc, 0, sizeof desc);
    desc.log = test_log_begin(&logged);
    run_begin(&run, MO_OPTIM_8BIT);
    run_begin(&other, MO_OPTIM_8BIT);
    run_fill(&other, 5, 6);
    return 0;
}
static int end(void **state) {
    (void)state;
    empty_folder();
    run_end(&run);
    run_end(&other);
    return 0;
}

static int exists(const char *name) { return access(in_folder(name), F_OK) == 0; }

static void save(uint64_t step) {
    run_fill(&run, step, step);
    test_ok(mo_checkpoint_save(path, &run.run, &desc));
}

static void write_text(const char *name, const char *text) {
    save_file(in_folder(name), text, strlen(text));
}

/* One byte of a file, at bytes from its end. */
static void damage(const char *name, long at) {
    FILE *f = fopen(in_folder(name), "r+b");
    fseek(f, -at, SEEK_END);
    const int byte = fgetc(f);
    fseek(f, -at, SEEK_END);
    fputc(byte ^ 1, f);
    fclose(f);
}

static void assert_latest(const char *name) {
    test_ok(mo_checkpoint_latest(path, &desc, file, sizeof file));
    assert_string_equal(file, in_folder(name));
    test_ok(mo_checkpoint_latest(folder, &desc, file, sizeof file));
    assert_string_equal(file, in_folder(name));
}

/* ---- one file ------------------------------------------------------------------------------- */

static void everything_comes_back_bit_for_bit(void **state) {
    (void)state;
    for (int precision = 0; precision < MO_OPTIM_PRECISION_COUNT; precision++) {
        test_run a, b;
        run_begin(&a, (mo_optim_precision)precision);
        run_begin(&b, (mo_optim_precision)precision);
        run_fill(&a, 1, 41);
        run_fill(&b, 2, 7);
        assert_false(run_same(&a, &b));
        test_ok(mo_checkpoint_save(path, &a.run, &desc));
        test_ok(mo_checkpoint_load(path, &b.run, &desc));
        assert_true(run_same(&a, &b));
        run_end(&a);
        run_end(&b);
    }
    assert_int_equal(logged.n, 0);
    assert_int_equal(count_files("*"), 1);
}

static void bf16_parameters_come_back_bit_for_bit(void **state) {
    (void)state;
    test_rng r = {3};
    mo_params params;
    mo_safetensors st = {0};
    const mo_checkpoint of = {.step = 2, .params = &params};
    mo_checkpoint to = of;
    const size_t shape[] = {7};
    float plain[7], wrong[7];
    uint16_t half[7], saved[7];
    for (int i = 0; i < 7; i++) plain[i] = test_normal(&r), saved[i] = (uint16_t)test_u64(&r);
    memcpy(half, saved, sizeof half);
    mo_params_init(&params, NULL);
    test_ok(mo_params_add(&params, "half", shape, 1, NULL));
    test_ok(mo_params_add(&params, "plain", shape, 1, NULL));
    params.items[0].is_bf16 = 1;
    params.items[0].bf16 = half;
    params.items[1].data = plain;
    test_ok(mo_checkpoint_save(path, &of, &desc));
    test_ok(mo_safetensors_open(&st, path, NULL));
    assert_int_equal(mo_safetensors_find(&st, "half")->dtype, MO_DTYPE_BF16);
    assert_int_equal(mo_safetensors_find(&st, "plain")->dtype, MO_DTYPE_F32);
    mo_safetensors_close(&st);
    memset(half, 0, sizeof half);
    test_ok(mo_checkpoint_load(path, &to, &desc));
    assert_memory_equal(half, saved, sizeof half);
    params.items[0].is_bf16 = 0; /* a run of another precision */
    params.items[0].data = wrong;
    assert_int_equal(mo_checkpoint_load(path, &to, &desc), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "tensor 'half' has dtype BF16, not F32"));
    mo_params_free(&params);
}

static void the_file_is_what_other_programs_read(void **state) {
    (void)state;
    mo_safetensors st = {0};
    const mo_safetensors_pair notes[] = {{"model", "a test"}};
    run_fill(&run, 1, 5);
    run.run.metadata = notes, run.run.n_metadata = 1;
    test_ok(mo_checkpoint_save(path, &run.run, &desc));
    test_ok(mo_safetensors_open(&st, path, NULL));
    const mo_safetensors_entry *w = mo_safetensors_find(&st, "w");
    assert_non_null(w);
    assert_int_equal(w->dtype, MO_DTYPE_F32);
    assert_int_equal(w->shape[0] * 100 + w->shape[1], 4050);
    assert_null(mo_safetensors_find(&st, "head")); /* tied */
    assert_int_equal(mo_safetensors_find(&st, "optimizer.w.m")->dtype, MO_DTYPE_U8);
    assert_int_equal(mo_safetensors_find(&st, "emb")->dtype, MO_DTYPE_BF16);
    assert_string_equal(mo_safetensors_metadata(&st, "memopt.step"), "5");
    assert_string_equal(mo_safetensors_metadata(&st, "format"), "pt");
    assert_string_equal(mo_safetensors_metadata(&st, "model"), "a test");
    assert_string_equal(mo_safetensors_metadata(&st, "memopt.order"), run.data->text);
    for (size_t i = 0; i < st.n; i++) /* aligned, whatever the order of the lists */
        assert_int_equal(st.entries[i].begin % (mo_dtype_bits(st.entries[i].dtype) / 8), 0);
    mo_safetensors_close(&st);
}

static void states_move_to_another_precision(void **state) {
    (void)state;
    test_run to;
    run_begin(&to, MO_OPTIM_F32);
    save(3);
    test_ok(mo_checkpoint_load(path, &to.run, &desc));
    assert_memory_equal(to.data->w, run.data->w, sizeof to.data->w);
    mo_optim_state want;
    test_run direct;
    run_begin(&direct, MO_OPTIM_F32);
    want = direct.w;
    test_ok(mo_optim_state_copy(&want, &run.w, 0));
    assert_memory_equal(to.w.m, want.m, N_W * sizeof(float));
    assert_memory_equal(to.w.v, want.v, N_W * sizeof(float));
    run_end(&direct);
    run_end(&to);
}

/* Data that is elsewhere: addresses are those of one struct, contents those of another. */
typedef struct elsewhere {
    contents *address, *data;
    void *host;
    int n_open, fail_at, n_calls;
} elsewhere;
static mo_status elsewhere_begin(void *self, void *address, size_t size, int read, void **host) {
    elsewhere *e = (elsewhere *)self;
    if (e->n_calls++ == e->fail_at) return MO_E_NO_DEVICE_MEMORY;
    e->n_open++;
    *host = malloc(size);
    if (read) memcpy(*host, (char *)e->data + ((char *)address - (char *)e->address), size);
    return MO_OK;
}
static mo_status elsewhere_end(void *self, void *address, void *host, size_t size, int write) {
    elsewhere *e = (elsewhere *)self;
    e->n_open--;
    if (write) memcpy((char *)e->data + ((char *)address - (char *)e->address), host, size);
    free(host);
    return MO_OK;
}

static void data_may_be_elsewhere(void **state) {
    (void)state;
    contents *device = (contents *)mo_alloc(NULL, sizeof *device, 64);
    elsewhere e = {run.data, device, NULL, 0, -1, 0};
    const mo_checkpoint_access access = {elsewhere_begin, elsewhere_end, &e};
    run_fill(&run, 1, 5);
    memcpy(device, run.data, sizeof *device);
    memset(run.data->w, 0, sizeof run.data->w);
    memset(run.data->state_w, 0, sizeof run.data->state_w);
    desc.access = access;
    test_ok(mo_checkpoint_save(path, &run.run, &desc));
    memset(&desc.access, 0, sizeof desc.access);
    test_ok(mo_checkpoint_load(path, &other.run, &desc));
    assert_memory_equal(other.data->w, device->w, sizeof device->w);
    assert_memory_equal(other.data->state_w, device->state_w, sizeof device->state_w);

    desc.access = access; /* and back, once as it is and once in another precision */
    memset(device, 0, sizeof *device);
    test_ok(mo_checkpoint_load(path, &run.run, &desc));
    assert_memory_equal(other.data->w, device->w, sizeof device->w);
    assert_memory_equal(other.data->state_w, device->state_w, sizeof device->state_w);
    assert_memory_equal(other.data->rng, device->rng, sizeof device->rng);
    test_run wide, want;
    run_begin(&wide, MO_OPTIM_F32);
    run_begin(&want, MO_OPTIM_F32);
    e.address = wide.data;
    test_ok(mo_checkpoint_load(path, &wide.run, &desc));
    memset(&desc.access, 0, sizeof desc.access);
    test_ok(mo_checkpoint_load(path, &want.run, &desc));
    assert_memory_equal(want.data->state_w, device->state_w, sizeof device->state_w);
    assert_int_equal(e.n_open, 0);
    run_end(&want);
    run_end(&wide);
    mo_free(NULL, device, sizeof *device, 64);
}

static void an_access_that_fails_ends_the_save(void **state) {
    (void)state;
    save(1);
    mo_status status = MO_E_STATE;
    for (int k = 0; status != MO_OK; k++) {
        elsewhere e = {run.data, run.data, NULL, 0, k, 0};
        const mo_checkpoint_access access = {elsewhere_begin, elsewhere_end, &e};
        desc.access = access;
        run_fill(&run, 9, 2);
        status = mo_checkpoint_save(path, &run.run, &desc);
        assert_int_equal(e.n_open, 0);
        assert_true(status == MO_OK || status == MO_E_NO_DEVICE_MEMORY);
        uint64_t step = 0;
        test_ok(mo_checkpoint_verify(path, &desc, &step));
        assert_int_equal(step, status == MO_OK ? 2 : 1);
        assert_int_equal(count_files("*"), 1);
    }
}

/* ---- what does not fit ---------------------------------------------------------------------- */

static void refuses(mo_status status, const char *text) {
    const contents before = *run_look(&other);
    assert_int_equal(mo_checkpoint_load(path, &other.run, &desc), status);
    assert_memory_equal(run_look(&other), &before, sizeof before);
    assert_memory_equal(logged.text, path, strlen(path));
    if (!strstr(logged.text, text)) fail_msg("'%s' has no '%s'", logged.text, text);
}

static void what_does_not_fit_is_named_and_nothing_is_touched(void **state) {
    (void)state;
    save(3);
    other.params.items[1].shape[0] = 49;
    refuses(MO_E_FORMAT, "tensor 'b' has shape [50], not [49]");
    other.params.items[1].shape[0] = N_B;
    other.arrays[0].dtype = MO_DTYPE_F16;
    refuses(MO_E_FORMAT, "tensor 'emb' has dtype BF16, not F16");
    other.arrays[0].dtype = MO_DTYPE_BF16;
    other.arrays[1].name = "rngs";
    refuses(MO_E_FORMAT, "tensor 'rngs' is missing");
    other.arrays[1].name = "emb";
    refuses(MO_E_FORMAT, "tensor 'emb' has dtype BF16, not U8");
    other.arrays[1].name = "rng";
    other.run.n_arrays = 3;
    refuses(MO_E_FORMAT, "tensor 'scalar' has no place in this run");
    other.run.n_arrays = 4;
    other.run.n_states = 1;
    refuses(MO_E_FORMAT, "tensor 'optimizer.b.");
    other.run.n_states = 2;
    other.states[1].name = "w";
    refuses(MO_E_FORMAT, "optimizer states of 'w': of is 2000, not 50");
    other.states[1].name = "b";
    other.desc_b.kind = MO_OPTIM_LION;
    refuses(MO_E_FORMAT, "optimizer states of 'b': kind is 0, not 3");
    other.desc_b.kind = MO_OPTIM_ADAMW;
    other.values[2].key = "place";
    refuses(MO_E_FORMAT, "metadata 'memopt.place' is missing");
    other.values[2].key = "order";
    refuses(MO_E_FORMAT, "metadata 'memopt.order' is 'shuffled");
    other.values[2].key = "position";
    other.values[3].text_size = 5;
    refuses(MO_E_NO_SPACE, "metadata 'memopt.order' is longer than the 5 bytes for it");
    other.values[3].text_size = N_TEXT;
    run.run.scaler = NULL;
    save(3);
    refuses(MO_E_FORMAT, "metadata 'memopt.scaler'");
    other.run.scaler = NULL;
    test_ok(mo_checkpoint_load(path, &other.run, &desc));
}

static void another_kind_of_file_is_refused(void **state) {
    (void)state;
    mo_safetensors_writer w = {0};
    test_ok(mo_safetensors_create(&w, path, NULL, 0, NULL));
    test_ok(mo_safetensors_commit(&w));
    refuses(MO_E_FORMAT, "no checkpoint: metadata 'memopt.step' is missing");
    assert_int_equal(mo_checkpoint_verify(path, &desc, NULL), MO_E_FORMAT);
    write_text("run.safetensors", "hello");
    refuses(MO_E_FORMAT, "");
    remove(path);
    refuses(MO_E_NOT_FOUND, "");
}

/* Any bit of the file but those that the format itself does not read: spaces after the header. */
static void a_damaged_file_is_refused(void **state) {
    (void)state;
    struct stat info;
    save(3);
    stat(path, &info);
    int refused = 0, n = 0;
    for (long at = 1; at <= info.st_size; at += at < 200 ? 1 : 197) {
        damage("run.safetensors", at);
        const contents before = *run_look(&other);
        const mo_status status = mo_checkpoint_load(path, &other.run, &desc);
        n++, refused += status == MO_E_FORMAT;
        if (status != MO_OK) assert_memory_equal(run_look(&other), &before, sizeof before);
        damage("run.safetensors", at);
    }
    assert_int_equal(refused, n);
    test_ok(mo_checkpoint_load(path, &other.run, &desc));
}

static void a_cut_file_is_refused(void **state) {
    (void)state;
    struct stat info;
    save(3);
    stat(path, &info);
    for (off_t size = info.st_size - 1; size >= 0; size = size > 99 ? size - 99 : size - 1) {
        assert_int_equal(truncate(path, size), 0);
        refuses(MO_E_FORMAT, "");
    }
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    const mo_safetensors_pair reserved[] = {{"memopt.step", "7"}};
    assert_int_equal(mo_checkpoint_save(NULL, &run.run, &desc), MO_E_INVALID);
    assert_int_equal(mo_checkpoint_save(path, NULL, &desc), MO_E_INVALID);
    assert_int_equal(mo_checkpoint_load(NULL, &run.run, &desc), MO_E_INVALID);
    assert_int_equal(mo_checkpoint_latest(path, &desc, NULL, 0), MO_E_INVALID);
    run.run.metadata = reserved, run.run.n_metadata = 1;
    assert_int_equal(mo_checkpoint_save(path, &run.run, &desc), MO_E_INVALID);
    run.run.n_metadata = 0;
    run.arrays[0].dtype = MO_DTYPE_F4;
    assert_int_equal(mo_checkpoint_save(path, &run.run, &desc), MO_E_INVALID);
    run.arrays[0].dtype = MO_DTYPE_BF16;
    run.arrays[0].name = "memopt.checksum";
    assert_int_equal(mo_checkpoint_save(path, &run.run, &desc), MO_E_INVALID);
    run.arrays[0].name = "w"; /* twice */
    assert_int_equal(mo_checkpoint_save(path, &run.run, &desc), MO_E_INVALID);
    run.arrays[0].name = "emb";
    run.values[0].key = "step"; /* is there already */
    assert_int_equal(mo_checkpoint_save(path, &run.run, &desc), MO_E_INVALID);
    run.values[0].key = "seed";
    run.params.items[0].data = NULL;
    assert_int_equal(mo_checkpoint_save(path, &run.run, &desc), MO_E_INVALID);
    assert_int_equal(
        mo_checkpoint_save(in_folder("nowhere/a.st"), &run.run, &desc), MO_E_NOT_FOUND);
    assert_int_equal(mo_checkpoint_save(folder, &run.run, &desc), MO_E_IO);
    assert_int_equal(count_files("*"), 0);
}

/* ---- several files -------------------------------------------------------------------------- */

static void without_keep_there_is_one_file(void **state) {
    (void)state;
    for (uint64_t step = 1; step <= 3; step++) {
        save(step);
        assert_int_equal(count_files("*"), 1);
        assert_latest("run.safetensors");
    }
}

static void the_last_ones_are_kept(void **state) {
    (void)state;
    desc.keep = 2;
    for (uint64_t step = 10; step <= 50; step += 10) save(step);
    assert_int_equal(count_files("*"), 2);
    assert_true(exists("run-00000040.safetensors") && exists("run-00000050.safetensors"));
    assert_latest("run-00000050.safetensors");
    save(123456789012);
    assert_latest("run-123456789012.safetensors");
    desc.keep = 1;
    save(60);
    assert_int_equal(count_files("*"), 1);
    assert_latest("run-00000060.safetensors");
    desc.keep = SIZE_MAX;
    for (uint64_t step = 70; step <= 90; step += 10) save(step);
    assert_int_equal(count_files("*"), 4);
    assert_int_equal(logged.n, 0);
}

static void the_newest_is_what_was_saved_last(void **state) {
    (void)state;
    struct utimbuf old = {1000, 1000};
    desc.keep = 3;
    for (uint64_t step = 10; step <= 30; step += 10) save(step);
    save(15); /* resumed from 10 */
    assert_latest("run-00000015.safetensors");
    utime(in_folder("run-00000015.safetensors"), &old); /* copied with wrong times */
    assert_latest("run-00000015.safetensors");
    save(20); /* again */
    assert_latest("run-00000020.safetensors");
    assert_int_equal(count_files("*"), 2 + 1);
    assert_true(exists("run-00000030.safetensors"));
    save(25);
    assert_false(exists("run-00000030.safetensors"));
}

static void names_are_made_from_the_path(void **state) {
    (void)state;
    static const char *const names[][2] = {{"a.st", "a-00000007.st"}, {"a", "a-00000007"},
        {"a.b.st", "a.b-00000007.st"}, {".a", ".a-00000007"}};
    for (size_t i = 0; i < n_elements(names); i++) {
        desc.keep = 1;
        test_ok(mo_checkpoint_name(in_folder(names[i][0]), &desc, 7, file, sizeof file));
        assert_string_equal(file, in_folder(names[i][1]));
        run_fill(&run, 7, 7);
        test_ok(mo_checkpoint_save(in_folder(names[i][0]), &run.run, &desc));
        assert_true(exists(names[i][1]));
        test_ok(mo_checkpoint_latest(in_folder(names[i][0]), &desc, file, sizeof file));
        assert_string_equal(file, in_folder(names[i][1]));
        desc.keep = 0;
        test_ok(mo_checkpoint_name(in_folder(names[i][0]), &desc, 7, file, sizeof file));
        assert_string_equal(file, in_folder(names[i][0]));
    }
    remove(in_folder(".a-00000007"));
    assert_int_equal(mo_checkpoint_name(path, &desc, 7, file, 5), MO_E_NO_SPACE);
}

static void broken_files_are_passed_over_aloud(void **state) {
    (void)state;
    desc.keep = 5;
    for (uint64_t step = 1; step <= 5; step++) save(step);
    damage("run-00000005.safetensors", 9);
    assert_int_equal(truncate(in_folder("run-00000004.safetensors"), 3000), 0);
    write_text("run-00000009.safetensors", "");
    memset(&logged, 0, sizeof logged);
    assert_latest("run-00000003.safetensors");
    assert_true(logged.n >= 6); /* a line with the reason and one that it is passed over */
    damage("run-00000003.safetensors", 100);
    assert_latest("run-00000002.safetensors");
    for (int i = 1; i <= 2; i++) {
        char name[40];
        snprintf(name, sizeof name, "run-0000000%d.safetensors", i);
        damage(name, 12);
    }
    assert_int_equal(mo_checkpoint_latest(path, &desc, file, sizeof file), MO_E_NOT_FOUND);
    assert_non_null(strstr(logged.text, "run.safetensors: no complete checkpoint"));
}

/* The only good one stays, however many broken ones there are. */
static void broken_files_are_neither_counted_nor_removed(void **state) {
    (void)state;
    desc.keep = 1;
    save(1);
    write_text("run-00000009.safetensors", "broken");
    save(2);
    assert_int_equal(count_files("*"), 2);
    assert_true(exists("run-00000009.safetensors"));
    assert_latest("run-00000002.safetensors");
}

static void what_belongs_to_others_is_left_alone(void **state) {
    (void)state;
    static const char *const names[] = {"run-1.safetensors", "run-0000001x.safetensors",
        "run-00000001.txt", "run-00000001.safetensors.bak", "running-00000001.safetensors",
        "my-run-00000001.safetensors", "notes.safetensors.tmp9-0.txt", "other.safetensors.tmp2-0",
        "run.safetensors.tmp", "run.safetensors.tmpx-0", "run.safetensors.tmp1-", "run.tmp1-0",
        "run-00000001-00000001.safetensors"};
    desc.keep = 1;
    run_fill(&run, 1, 1);
    test_ok(mo_checkpoint_save(in_folder("running.safetensors"), &run.run, &desc));
    for (size_t i = 0; i < n_elements(names); i++)
        if (!exists(names[i])) write_text(names[i], "mine");
    save(1);
    save(2);
    for (size_t i = 0; i < n_elements(names); i++)
        if (!exists(names[i])) fail_msg("%s is gone", names[i]);
    assert_int_equal(count_files("*"), (int)n_elements(names) + 1);
}

static void a_folder_with_two_runs_is_ambiguous(void **state) {
    (void)state;
    desc.keep = 1;
    save(1);
    run_fill(&run, 1, 1);
    test_ok(mo_checkpoint_save(in_folder("other.safetensors"), &run.run, &desc));
    assert_int_equal(mo_checkpoint_latest(folder, &desc, file, sizeof file), MO_E_INVALID);
    assert_non_null(strstr(logged.text, "holds checkpoints of several runs"));
    test_ok(mo_checkpoint_latest(path, &desc, file, sizeof file));
    assert_string_equal(file, in_folder("run-00000001.safetensors"));
}

static void a_folder_without_checkpoints_says_so(void **state) {
    (void)state;
    mo_safetensors_writer w = {0};
    test_ok(mo_safetensors_create(&w, in_folder("model.safetensors"), NULL, 0, NULL));
    test_ok(mo_safetensors_commit(&w));
    assert_int_equal(mo_checkpoint_latest(folder, &desc, file, sizeof file), MO_E_NOT_FOUND);
    assert_int_equal(mo_checkpoint_latest(path, &desc, file, sizeof file), MO_E_NOT_FOUND);
    assert_int_equal(
        mo_checkpoint_latest(in_folder("nowhere/x"), &desc, file, sizeof file), MO_E_NOT_FOUND);
    save(1); /* next to another file, which is no checkpoint */
    assert_latest("run.safetensors");
}

/* ---- temporary files ------------------------------------------------------------------------ */

static void leave(const char *name, long process, int i) {
    char temp[200];
    snprintf(temp, sizeof temp, "%s.tmp%ld-%d", name, process, i);
    write_text(temp, "half");
}

static void temporary_files_of_killed_runs_are_removed(void **state) {
    (void)state;
    const pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    leave("run.safetensors", dead, 0);
    leave("run-00000007.safetensors", dead, 3);
    leave("run-00000008.safetensors", getpid(), 0); /* of one that had this number before */
    leave("other.safetensors", dead, 0);            /* not of this run */
    assert_int_equal(count_files("*.tmp*"), 4);
    save(1);
    assert_int_equal(count_files("*.tmp*"), 1);
    assert_int_equal(count_files("other.safetensors.tmp*"), 1);
}

/* Process 1 always runs: its file goes when it is older than the newest checkpoint. */
static void temporary_files_of_living_processes_stay_until_they_are_old(void **state) {
    (void)state;
    struct utimbuf old = {1000, 1000};
    leave("run.safetensors", 1, 0);
    save(1);
    save(2);
    assert_int_equal(count_files("*.tmp*"), 1);
    utime(in_folder("run.safetensors.tmp1-0"), &old);
    save(3);
    assert_int_equal(count_files("*.tmp*"), 0);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void a_failed_allocation_is_a_status_and_changes_nothing(void **state) {
    (void)state;
    test_run wide; /* what has to be requantized needs memory */
    test_heap heap;
    run_begin(&wide, MO_OPTIM_F32);
    desc.keep = 2;
    save(1);
    save(2);
    mo_status status = MO_E_NO_MEMORY;
    int k = 0;
    for (; status != MO_OK; k++) {
        desc.allocator = test_heap_begin(&heap, k);
        run_fill(&wide, 5, 6);
        const contents before = *run_look(&wide);
        status = mo_checkpoint_load(in_folder("run-00000002.safetensors"), &wide.run, &desc);
        assert_int_equal(heap.live_blocks, 0);
        if (status == MO_OK) break;
        assert_int_equal(status, MO_E_NO_MEMORY);
        assert_memory_equal(run_look(&wide), &before, sizeof before);
    }
    assert_true(k > 6);
    for (k = 0, status = MO_E_NO_MEMORY; status != MO_OK; k++) {
        desc.allocator = test_heap_begin(&heap, k);
        status = mo_checkpoint_latest(folder, &desc, file, sizeof file);
        assert_int_equal(heap.live_blocks, 0);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
    }
    assert_string_equal(file, in_folder("run-00000002.safetensors"));
    run_fill(&run, 3, 3);
    for (k = 0, status = MO_E_NO_MEMORY; status != MO_OK; k++) {
        desc.allocator = test_heap_begin(&heap, k);
        status = mo_checkpoint_save(path, &run.run, &desc);
        assert_int_equal(heap.live_blocks, 0);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
        assert_int_equal(exists("run-00000003.safetensors"), status == MO_OK);
        assert_true(exists("run-00000002.safetensors"));
        assert_int_equal(count_files("*.tmp*"), 0);
    }
    assert_true(k > 10);
    run_end(&wide);
}

#define fact(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
    const struct CMUnitTest tests[] = {
        fact(everything_comes_back_bit_for_bit),
        fact(bf16_parameters_come_back_bit_for_bit),
        fact(the_file_is_what_other_programs_read),
        fact(states_move_to_another_precision),
        fact(data_may_be_elsewhere),
        fact(an_access_that_fails_ends_the_save),
        fact(what_does_not_fit_is_named_and_nothing_is_touched),
        fact(another_kind_of_file_is_refused),
        fact(a_damaged_file_is_refused),
        fact(a_cut_file_is_refused),
        fact(bad_arguments_are_refused),
        fact(without_keep_there_is_one_file),
        fact(the_last_ones_are_kept),
        fact(the_newest_is_what_was_saved_last),
        fact(names_are_made_from_the_path),
        fact(broken_files_are_passed_over_aloud),
        fact(broken_files_are_neither_counted_nor_removed),
        fact(what_belongs_to_others_is_left_alone),
        fact(a_folder_with_two_runs_is_ambiguous),
        fact(a_folder_without_checkpoints_says_so),
        fact(temporary_files_of_killed_runs_are_removed),
        fact(temporary_files_of_living_processes_stay_until_they_are_old),
        fact(a_failed_allocation_is_a_status_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder_in_memory, NULL) + remove_folder();
}
