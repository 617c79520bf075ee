/* test_remat.c - mo_remat: chains and schedules. */
#include "test_util.h"

enum { MAX_STAGES = 64, MAX_OPS = 3 * MAX_STAGES };

/* Costs that tell every term apart: forward 1, backward 2, light 1/4, output 1/8; the loss 10 +
 * 20. */
static const mo_stage_tensor block_tensors[] = {
    {"norm", 100, MO_TENSOR_CHEAP, MO_CATEGORY_OTHER, 0, 0, 0, 0},
    {"hidden", 400, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
    {"scratch", 50, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0},
    {"dhidden", 400, MO_TENSOR_BACKWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0},
};

static mo_stage make_block(void) {
    mo_stage stage = {0};
    stage.name = "block";
    stage.output_size = 100;
    stage.tensors = block_tensors;
    stage.n_tensors = n_elements(block_tensors);
    stage.forward_s = 1;
    stage.backward_s = 2;
    stage.light_s = 0.25;
    stage.output_s = 0.125;
    return stage;
}

/* n_blocks blocks and the loss. */
static mo_chain make_chain(mo_stage *stages, size_t n_blocks) {
    mo_chain chain = {100, stages, n_blocks + 1};
    for (size_t i = 0; i < n_blocks; i++) stages[i] = make_block();
    memset(&stages[n_blocks], 0, sizeof stages[n_blocks]);
    stages[n_blocks].name = "loss";
    stages[n_blocks].forward_s = 10;
    stages[n_blocks].backward_s = 20;
    return chain;
}

/* "F0s" forward saving, "R1sl" recompute saving light, "L3" loss, "B2l" backward light, "B2c"
 * compressed; "O1" offload of x[1], "o1" its wait, "P1s" prefetch of what stage 1 saved, "p1s" its
 * wait. */
static const char letters[] = "FRLBOoPp";

static const char *schedule_text(const mo_remat_op *ops, size_t n) {
    static char text[MAX_OPS * 8];
    static const char *const levels[] = {"", "l", "c"};
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%c%zu%s%s", i ? " " : "",
            letters[ops[i].op], ops[i].stage, ops[i].save ? "s" : "", levels[ops[i].light]);
    return text;
}

/* keep_cheap & 2: compress */
static const char *schedule_of(const mo_chain *chain, mo_remat_policy policy, size_t n_segments,
    int keep_cheap, double *cost) {
    static mo_remat_op ops[MAX_OPS];
    mo_remat_desc desc = {policy, n_segments, keep_cheap & 1, keep_cheap & 2};
    size_t n = 0, capacity = mo_remat_schedule_capacity(chain, &desc);
    assert_true(capacity <= MAX_OPS);
    test_ok(mo_remat_schedule(chain, &desc, ops, capacity, &n));
    test_ok(mo_remat_check(chain, ops, n, NULL));
    if (cost) *cost = mo_remat_cost(chain, ops, n);
    return schedule_text(ops, n);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void each_policy_gives_its_schedule(void **state) {
    (void)state;
    mo_stage stages[4];
    mo_chain chain = make_chain(stages, 3);
    assert_string_equal(schedule_of(&chain, MO_REMAT_NONE, 0, 0, NULL), "F0s F1s F2s L3 B2 B1 B0");
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_LIGHT, 0, 0, NULL), "F0sl F1sl F2sl L3 B2l B1l B0l");
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_BLOCK, 0, 0, NULL), "F0 F1 F2 L3 R2sl B2l R1sl B1l R0sl B0l");
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_BLOCK, 0, 1, NULL), "F0 F1 F2 L3 R2s B2 R1s B1 R0s B0");
    assert_string_equal(schedule_of(&chain, MO_REMAT_INFERENCE, 0, 0, NULL), "F0 F1 F2 F3");
}

static void segments_are_equal_and_the_last_is_not_recomputed(void **state) {
    (void)state;
    mo_stage stages[6];
    mo_chain chain = make_chain(stages, 5);
    assert_string_equal(schedule_of(&chain, MO_REMAT_SQRT, 2, 0, NULL),
        "F0 F1 F2 F3sl F4sl L5 B4l B3l R0sl R1sl R2sl B2l B1l B0l");
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_SQRT, 1, 1, NULL), "F0s F1s F2s F3s F4s L5 B4 B3 B2 B1 B0");
    assert_string_equal(schedule_of(&chain, MO_REMAT_SQRT, 99, 1, NULL),
        "F0 F1 F2 F3 F4s L5 B4 R3s B3 R2s B2 R1s B1 R0s B0");
}

static void a_stage_that_keeps_nothing_is_not_recomputed(void **state) {
    (void)state;
    mo_stage stages[5];
    mo_chain chain = make_chain(stages, 4);
    stages[1].n_tensors = 0;
    stages[3].n_tensors = 1; /* only a CHEAP one */
    assert_string_equal(schedule_of(&chain, MO_REMAT_BLOCK, 0, 0, NULL),
        "F0 F1 F2 F3 L4 B3l R2sl B2l B1l R0sl B0l");
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_BLOCK, 0, 1, NULL), "F0 F1 F2 F3 L4 R3s B3 R2s B2 B1 R0s B0");
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_SQRT, 2, 1, NULL), "F0 F1 F2s F3s L4 B3 B2 R0s B1 B0");
}

static void a_chain_may_be_the_loss_alone(void **state) {
    (void)state;
    static const mo_remat_policy policies[] = {
        MO_REMAT_NONE, MO_REMAT_LIGHT, MO_REMAT_BLOCK, MO_REMAT_SQRT};
    mo_stage stages[1];
    mo_chain chain = make_chain(stages, 0);
    for (size_t i = 0; i < n_elements(policies); i++)
        assert_string_equal(schedule_of(&chain, policies[i], 0, 0, NULL), "L0");
    assert_string_equal(schedule_of(&chain, MO_REMAT_INFERENCE, 0, 0, NULL), "F0");
}

static void costs_add_up(void **state) {
    (void)state;
    mo_stage stages[4];
    mo_chain chain = make_chain(stages, 3);
    double cost;
    assert_true(mo_remat_ideal_cost(&chain) == 39);
    assert_true(mo_remat_forward_cost(&chain) == 13);
    schedule_of(&chain, MO_REMAT_NONE, 0, 0, &cost);
    assert_true(cost == 39);
    schedule_of(&chain, MO_REMAT_LIGHT, 0, 0, &cost);
    assert_true(cost == 39 + 3 * 0.25);
    schedule_of(&chain, MO_REMAT_BLOCK, 0, 1, &cost); /* nobody reads what a recompute puts out */
    assert_true(cost == 39 + 3 * (1 - 0.125));
    schedule_of(&chain, MO_REMAT_SQRT, 2, 0, &cost); /* R0 R1: the output of R0 is read */
    assert_true(cost == 39 + 3 * 0.25 + 1 + (1 - 0.125));
    schedule_of(&chain, MO_REMAT_INFERENCE, 0, 0, &cost);
    assert_true(cost == 13);
}

static void the_compressed_level_is_one_of_its_own(void **state) {
    (void)state;
    static const mo_stage_tensor tensors[] = {
        {"wide", 400, MO_TENSOR_WIDE, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"codes", 100, MO_TENSOR_CODES, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    mo_stage stages[4];
    mo_chain chain = make_chain(stages, 3);
    test_log text;
    mo_log log = test_log_begin(&text);
    mo_remat_op mixed[] = {{MO_STEP_FORWARD, 0, 1, MO_LEVEL_COMPRESSED}, {MO_STEP_LOSS, 1, 0, 0},
        {MO_STEP_BACKWARD, 0, 0, MO_LEVEL_LIGHT}};
    mo_remat_op move = {MO_STEP_OFFLOAD, 0, 1, MO_LEVEL_LIGHT};
    double cost;
    for (size_t i = 0; i < 3; i++) {
        stages[i].tensors = tensors;
        stages[i].n_tensors = 2;
        stages[i].compress_s = 0.5;
    }
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_NONE, 0, 2, &cost), "F0sc F1sc F2sc L3 B2c B1c B0c");
    assert_true(cost == 39 + 3 * (0.25 + 0.5));
    assert_string_equal(
        schedule_of(&chain, MO_REMAT_SQRT, 2, 3, NULL), "F0 F1 F2sc L3 B2c R0sc R1sc B1c B0c");
    assert_int_equal(mo_remat_copy_bytes(&chain, &move), 400);
    move.light = MO_LEVEL_COMPRESSED;
    assert_int_equal(mo_remat_copy_bytes(&chain, &move), 100);
    chain = make_chain(stages, 1);
    stages[0].tensors = tensors;
    stages[0].n_tensors = 2;
    assert_int_equal(mo_remat_check(&chain, mixed, 3, &log), MO_E_INVALID);
    assert_string_equal(text.text,
        "schedule: op 2 (backward of stage 0): saved at another level than backward expects");
    stages[1].tensors = tensors + 1; /* the loss has no backward that could read codes */
    stages[1].n_tensors = 1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    stages[1].n_tensors = 0;
    stages[0].compress_s = -1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
}

static void the_number_of_segments_is_near_the_square_root(void **state) {
    (void)state;
    mo_stage stages[MAX_STAGES];
    mo_chain chain = make_chain(stages, 36);
    mo_remat_desc desc = {MO_REMAT_SQRT, 0, 1, 0};
    size_t n = mo_remat_desc_defaults(&desc, &chain).n_segments;
    assert_in_range(n, 9, 18); /* sqrt(36 * (100 + 500) / 100) = 14.7 */
    for (size_t i = 0; i < 36; i++) stages[i].output_size = 1;
    assert_int_equal(mo_remat_desc_defaults(&desc, &chain).n_segments, 36);
    desc.n_segments = 40;
    assert_int_equal(mo_remat_desc_defaults(&desc, &chain).n_segments, 36);
    assert_int_equal(mo_remat_desc_defaults(NULL, &chain).policy, MO_REMAT_NONE);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void every_schedule_of_a_random_chain_is_valid(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("every_schedule_of_a_random_chain_is_valid");
    mo_stage stages[MAX_STAGES];
    for (int round = 0; round < 500; round++) {
        mo_chain chain = make_chain(stages, test_below(&rng, 30));
        for (size_t i = 0; i + 1 < chain.n_stages; i++) stages[i].n_tensors = test_below(&rng, 5);
        for (int policy = MO_REMAT_NONE; policy <= MO_REMAT_INFERENCE; policy++)
            schedule_of(&chain, (mo_remat_policy)policy, test_below(&rng, 40),
                (int)test_below(&rng, 2), NULL);
    }
}

/* ---- errors -------------------------------------------------------------------------------- */

static void wrong_chains_are_named(void **state) {
    (void)state;
    mo_stage stages[2];
    mo_chain chain = make_chain(stages, 1);
    mo_stage_tensor tensor = block_tensors[1];
    test_log text;
    mo_log log = test_log_begin(&text);
    stages[0].tensors = &tensor;
    stages[0].n_tensors = 1;
    test_ok(mo_chain_check(&chain, &log));
    tensor.backward_last = 1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_string_equal(
        text.text, "chain: block.hidden: backward sub-steps 0..1 are not within 0..0");
    stages[0].backward_steps = 2;
    test_ok(mo_chain_check(&chain, &log));
    tensor.forward_first = 1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_string_equal(
        text.text, "chain: block.hidden: forward sub-steps 1..0 are not within 0..0");
    tensor.forward_first = 0;
    tensor.role = (mo_tensor_role)9;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    tensor.role = MO_TENSOR_BACKWARD;
    stages[1].tensors = &tensor;
    stages[1].n_tensors = 1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_string_equal(text.text, "chain: loss.hidden: role 3 or category 0 is not allowed here");
    stages[1].tensors = NULL;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_string_equal(text.text, "chain: loss: 1 tensors at NULL");
    stages[1].n_tensors = 0;
    stages[1].light_s = -1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_string_equal(text.text, "chain: loss: a cost is negative");
    stages[0].output_first = 1;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_string_equal(
        text.text, "chain: block: output_first 1 or gradient_first 0 is past the end");
    chain.n_stages = 0;
    assert_int_equal(mo_chain_check(&chain, &log), MO_E_INVALID);
    assert_int_equal(mo_chain_check(NULL, &log), MO_E_INVALID);
}

/* "F0s R1sl L3 B2l" back into ops. */
static size_t parse_schedule(const char *text, mo_remat_op *ops) {
    size_t n = 0;
    for (; *text; n++) {
        char *end;
        ops[n].op = (mo_step_op)(strchr(letters, *text) - letters);
        ops[n].stage = strtoul(text + 1, &end, 10);
        ops[n].save = *end == 's' ? end++, 1 : 0;
        ops[n].light = *end == 'l' ? end++, 1 : 0;
        text = *end ? end + 1 : end;
    }
    return n;
}

typedef struct schedule_case {
    const char *schedule, *message;
} schedule_case;

/* Two blocks and the loss. */
static void check_cases(const schedule_case *cases, size_t n_cases) {
    mo_stage stages[3];
    mo_chain chain = make_chain(stages, 2);
    test_log text;
    mo_log log = test_log_begin(&text);
    for (size_t i = 0; i < n_cases; i++) {
        mo_remat_op ops[24];
        size_t n = parse_schedule(cases[i].schedule, ops);
        mo_status status = mo_remat_check(&chain, ops, n, &log);
        assert_int_equal(status, cases[i].message ? MO_E_INVALID : MO_OK);
        if (cases[i].message) assert_string_equal(text.text, cases[i].message);
    }
}

static void schedules_by_hand_are_checked(void **state) {
    (void)state;
    static const schedule_case cases[] = {
        {"F0s F1s L2 B1 B0", NULL},
        {"F0sl F1s L2 B1 B0l", NULL},
        {"F0 F1s L2 R0 B1 R0s R0 B0", NULL},
        {"F0 F1 F2", NULL},
        {"F0 F1 R0 F2", NULL},
        {"F1s", "schedule: op 0 (forward of stage 1): forward must run once per stage, in order"},
        {"F0s F0s",
            "schedule: op 1 (forward of stage 0): forward must run once per stage, in order"},
        {"F0s L2", "schedule: op 1 (loss of stage 2): the stages before the loss have not all run"},
        {"F0s L1", "schedule: op 1 (loss of stage 1): only the last stage is the loss"},
        {"R0s",
            "schedule: op 0 (recompute of stage 0): recompute of a stage whose forward has not "
            "run"},
        {"F0 F1s L2 B1 B0", "schedule: op 4 (backward of stage 0): backward without saved tensors"},
        {"F0s F1s L2 R0s B1 B0", "schedule: op 3 (recompute of stage 0): saved more than once"},
        {"F0s F1sl L2 B1 B0",
            "schedule: op 3 (backward of stage 1): saved at another level than "
            "backward expects"},
        {"F0s F1s L2 B0",
            "schedule: op 3 (backward of stage 0): backward must follow the loss, once "
            "per stage, in reverse order"},
        {"F0s F1s B1",
            "schedule: op 2 (backward of stage 1): backward must follow the loss, once "
            "per stage, in reverse order"},
        {"F0s F1s L2 B1 R1s",
            "schedule: op 4 (recompute of stage 1): saves for a backward that has "
            "run"},
        {"F0s F1s L2 R2", "schedule: op 3 (recompute of stage 2): the last stage never runs again"},
        {"F0s F1s L2 B1", "schedule: after op 4: not every stage has run backward"},
        {"F0s F1s F2", "schedule: after op 3: saves without a backward"},
        {"F0s", "schedule: after op 1: not every stage has run"},
        {"F3", "schedule: op 0 (forward of stage 3): no such stage"},
    };
    mo_stage stages[3];
    mo_chain chain = make_chain(stages, 2);
    test_log text;
    mo_log log = test_log_begin(&text);
    check_cases(cases, n_elements(cases));
    mo_remat_op unknown = {(mo_step_op)8, 0, 0, 0};
    assert_int_equal(mo_remat_check(&chain, &unknown, 1, &log), MO_E_INVALID);
    assert_string_equal(text.text, "schedule: op 0 (? of stage 0): unknown op");
    assert_int_equal(mo_remat_check(&chain, NULL, 1, &log), MO_E_INVALID);
}

static void moves_by_hand_are_checked(void **state) {
    (void)state;
    static const schedule_case cases[] = {
        {"F0s O0s F1s o0s L2 B1 P0s p0s B0", NULL},
        {"F0sl O0sl o0sl F1s L2 B1 P0sl p0sl B0l", NULL},
        {"F0s O0s O0 F1s O1 o0s o1 L2 P1 p1 B1 o0 P0s P0 p0 p0s B0", NULL},
        {"F0s F1 O1 o1 L2 P1 p1 R1s P1 p1 B1 B0", NULL}, /* the store keeps x[1] */
        {"F0 F1s O1 o1 L2 R0s B1 P1 p1 B0", NULL},       /* x[1] was computed again */
        {"F0 F1s O1 R0s o1 L2 B1 P1 p1 B0", NULL},       /* while it was on the way out */
        {"F0 O0 o0 F1 P0 p0 F2", NULL},
        {"O0", "schedule: op 0 (offload of stage 0): its x is not there yet"},
        {"F0 O2", "schedule: op 1 (offload of stage 2): its x is not there yet"},
        {"F0 O0s", "schedule: op 1 (offload of stage 0): moves what is not saved"},
        {"F0s O0sl", "schedule: op 1 (offload of stage 0): saved at another level than it says"},
        {"F0s O0s O0s", "schedule: op 2 (offload of stage 0): moved out more than once"},
        {"F0s o0s", "schedule: op 1 (offload_wait of stage 0): nothing is on the way out"},
        {"F0s O0s P0s", "schedule: op 2 (prefetch of stage 0): nothing is in the store"},
        {"F0s O0s o0s p0s",
            "schedule: op 3 (prefetch_wait of stage 0): nothing is on the way back"},
        {"F0s O0s o0s P0s p0s P0s",
            "schedule: op 5 (prefetch of stage 0): nothing is in the store"},
        {"F0s O1 o1 P1 p1 O1", "schedule: op 5 (offload of stage 1): moved out more than once"},
        {"F0s F1s L2 B1 B0 O0s",
            "schedule: op 5 (offload of stage 0): moves for a backward that has run"},
        {"F0s F1s O2s", "schedule: op 2 (offload of stage 2): moves what is not saved"},
        {"F0s O0s F1s L2 B1 B0",
            "schedule: op 5 (backward of stage 0): what it saved is in the store"},
        {"F0s O0s o0s F1s L2 B1 B0",
            "schedule: op 6 (backward of stage 0): what it saved is in the store"},
        {"F0s O0s o0s P0s F1s L2 B1 B0",
            "schedule: op 7 (backward of stage 0): what it saved is in the store"},
        {"F0s O1 o1 F1s", "schedule: op 3 (forward of stage 1): its x is in the store"},
        {"F0s O1 o1 P1 F1s", "schedule: op 4 (forward of stage 1): its x is in the store"},
        {"F0s O1 o1 P1 R0", "schedule: op 4 (recompute of stage 0): its output is on the way back"},
        {"F0s F1s O2 o2 L2", "schedule: op 4 (loss of stage 2): its x is in the store"},
        {"F0s F1s O0 o0 L2 B1 B0", "schedule: op 6 (backward of stage 0): its x is in the store"},
        {"F0 F1s O0 o0 L2 B1 R0s", "schedule: op 6 (recompute of stage 0): its x is in the store"},
        {"F0s F1s O0 o0 L2 B1 P0 p0 B0 P0",
            "schedule: after op 10: not everything that was moved out is back"},
        {"F0s F1s L2 B1 B0 O0 o0",
            "schedule: after op 7: not everything that was moved out is back"},
    };
    check_cases(cases, n_elements(cases));
}

static void moves_cost_nothing_but_count_as_reads(void **state) {
    (void)state;
    mo_stage stages[3];
    mo_chain chain = make_chain(stages, 2);
    mo_remat_op ops[24];
    size_t n = parse_schedule("F0s O0s F1s o0s L2 B1 P0s p0s B0", ops);
    assert_true(mo_remat_cost(&chain, ops, n) == 36);
    n = parse_schedule("F0s F1s L2 R0 O1 o1 P1 p1 B1 B0", ops); /* x[1] of R0 is moved */
    assert_true(mo_remat_cost(&chain, ops, n) == 37);
    n = parse_schedule("F0s O1 F1s o1 L2 R0 P1 p1 B1 B0", ops); /* and here nobody reads it */
    assert_true(mo_remat_cost(&chain, ops, n) == 37 - 0.125);
}

static void a_move_has_the_bytes_of_what_it_moves(void **state) {
    (void)state;
    mo_stage stages[3];
    mo_chain chain = make_chain(stages, 2);
    mo_remat_op op = {MO_STEP_OFFLOAD, 1, 1, 0};
    assert_int_equal(mo_remat_copy_bytes(&chain, &op), 500);
    op.light = 1;
    assert_int_equal(mo_remat_copy_bytes(&chain, &op), 400);
    op.op = MO_STEP_PREFETCH;
    op.save = 0;
    assert_int_equal(mo_remat_copy_bytes(&chain, &op), 100);
    op.op = MO_STEP_PREFETCH_WAIT;
    assert_int_equal(mo_remat_copy_bytes(&chain, &op), 0);
    mo_stage_tensor large[2] = {{"a", SIZE_MAX, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"b", 1, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    stages[1].tensors = large;
    stages[1].n_tensors = 2;
    op.op = MO_STEP_OFFLOAD;
    op.save = 1;
    assert_int_equal(mo_remat_copy_bytes(&chain, &op), SIZE_MAX);
}

/* More stages than the check looks at in one pass. */
static void the_first_mistake_of_a_long_schedule_is_named(void **state) {
    (void)state;
    enum { N = 700 };
    static mo_stage stages[N + 1];
    static mo_remat_op ops[2 * N + 1];
    mo_chain chain = make_chain(stages, N);
    mo_remat_desc desc = {MO_REMAT_NONE, 0, 1, 0};
    test_log text;
    mo_log log = test_log_begin(&text);
    size_t n;
    test_ok(mo_remat_schedule(&chain, &desc, ops, n_elements(ops), &n));
    test_ok(mo_remat_check(&chain, ops, n, &log));
    assert_true(mo_remat_cost(&chain, ops, n) == 3 * N + 30);
    ops[3].save = 0; /* its backward is the last but three */
    assert_int_equal(mo_remat_check(&chain, ops, n, &log), MO_E_INVALID);
    assert_string_equal(
        text.text, "schedule: op 1397 (backward of stage 3): backward without saved tensors");
    ops[600].save = 0; /* of the third pass, but before the other */
    assert_int_equal(mo_remat_check(&chain, ops, n, &log), MO_E_INVALID);
    assert_string_equal(
        text.text, "schedule: op 800 (backward of stage 600): backward without saved tensors");
    ops[300].save = 0;
    ops[600].save = 1;
    assert_int_equal(mo_remat_check(&chain, ops, n, &log), MO_E_INVALID);
    assert_string_equal(
        text.text, "schedule: op 1100 (backward of stage 300): backward without saved tensors");
}

static void a_schedule_reports_too_little_space(void **state) {
    (void)state;
    mo_stage stages[4];
    mo_chain chain = make_chain(stages, 3);
    mo_remat_desc desc = {MO_REMAT_BLOCK, 0, 0, 0};
    mo_remat_op ops[10];
    size_t n = 77;
    assert_int_equal(mo_remat_schedule_capacity(&chain, &desc), 10);
    assert_int_equal(mo_remat_schedule(&chain, &desc, ops, 9, &n), MO_E_NO_SPACE);
    assert_int_equal(mo_remat_schedule(&chain, &desc, NULL, 10, &n), MO_E_INVALID);
    assert_int_equal(mo_remat_schedule(NULL, &desc, ops, 10, &n), MO_E_INVALID);
    assert_int_equal(mo_remat_schedule(&chain, &desc, ops, 10, NULL), MO_E_INVALID);
    desc.policy = (mo_remat_policy)99;
    assert_int_equal(mo_remat_schedule(&chain, &desc, ops, 10, &n), MO_E_INVALID);
    assert_int_equal(n, 77);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_policy_gives_its_schedule),
        cmocka_unit_test(segments_are_equal_and_the_last_is_not_recomputed),
        cmocka_unit_test(a_stage_that_keeps_nothing_is_not_recomputed),
        cmocka_unit_test(a_chain_may_be_the_loss_alone),
        cmocka_unit_test(costs_add_up),
        cmocka_unit_test(the_compressed_level_is_one_of_its_own),
        cmocka_unit_test(the_number_of_segments_is_near_the_square_root),
        cmocka_unit_test(every_schedule_of_a_random_chain_is_valid),
        cmocka_unit_test(wrong_chains_are_named),
        cmocka_unit_test(schedules_by_hand_are_checked),
        cmocka_unit_test(moves_by_hand_are_checked),
        cmocka_unit_test(moves_cost_nothing_but_count_as_reads),
        cmocka_unit_test(a_move_has_the_bytes_of_what_it_moves),
        cmocka_unit_test(the_first_mistake_of_a_long_schedule_is_named),
        cmocka_unit_test(a_schedule_reports_too_little_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
