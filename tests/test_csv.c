/* test_csv.c - the tables that the memopt program reads: csv.c, lifetimes.c, chain.c */
#include "test_files.h"

#define FUZZ_NO_MAIN
#include "../fuzz/fuzz_csv.c"

#define HEADER "id,lower,upper,size\n"

static lifetimes l;
static bool read_lifetimes(const char *text) {
    return lifetimes_parse(&l, "x.csv", fuzz_csv_copy(text, strlen(text)), strlen(text));
}
static void assert_rejected(const char *text, const char *message) {
    assert_false(read_lifetimes(text));
    assert_string_equal(l.table.error, message);
    lifetimes_close(&l);
}
static void assert_item(size_t i, const char *name, size_t first, size_t last, size_t size) {
    assert_string_equal(lifetimes_name(&l, i), name);
    assert_int_equal(l.items[i].first, first);
    assert_int_equal(l.items[i].last, last);
    assert_int_equal(l.items[i].size, size);
}
static void assert_written(const size_t *offsets, const char *expected) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    lifetimes_write(&l, offsets, out);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void columns_stand_in_any_order_and_others_pass_through(void **state) {
    (void)state;
    const size_t offsets[] = {8, 0};
    assert_true(read_lifetimes("size,note,upper,id,lower\n4,x,3,a,0\n5,,9,b,2\n"));
    assert_int_equal(l.n, 2);
    assert_item(0, "a", 0, 2, 4);
    assert_item(1, "b", 2, 8, 5);
    assert_written(offsets, "size,note,upper,id,lower,offset\n4,x,3,a,0,8\n5,,9,b,2,0\n");
    lifetimes_close(&l);
}

static void quotes_crlf_blanks_and_a_bom_are_understood(void **state) {
    (void)state;
    const size_t offsets[] = {1, 2};
    assert_true(read_lifetimes(
        "\xef\xbb\xbfid,\"lower\" , upper,size\r\n\r\n\"a \"\"b\"\",\nc\",0,1,2\r\n x\t,1,2,3"));
    assert_int_equal(l.n, 2);
    assert_item(0, "a \"b\",\nc", 0, 0, 2);
    assert_item(1, "x", 1, 1, 3);
    assert_written(offsets, "id,lower,upper,size,offset\n\"a \"\"b\"\",\nc\",0,1,2,1\nx,1,2,3,2\n");
    lifetimes_close(&l);
}

static void an_end_column_names_the_last_step(void **state) {
    (void)state;
    assert_true(read_lifetimes("buffer,start,end,size,gaps\na,2,9,4,3-5 7-7@1:2\n"));
    assert_item(0, "a", 2, 9, 4);
    assert_int_equal(l.n_gaps, 2);
    assert_int_equal(l.gaps[0].last, 5);
    assert_int_equal(l.gaps[1].first, 7);
    assert_int_equal(l.gaps[1].last, 7);
    lifetimes_close(&l);
}

static void gaps_and_their_windows_are_read(void **state) {
    (void)state;
    assert_true(read_lifetimes("id,lower,upper,size,gaps\na,0,9,4,2-3  5-6@1:2\nb,0,9,4,\n"));
    assert_int_equal(l.n_gaps, 2);
    const mo_layout_gap none = {0, 2, 2, 0, 0}, some = {0, 5, 5, 1, 2};
    assert_memory_equal(&l.gaps[0], &none, sizeof none);
    assert_memory_equal(&l.gaps[1], &some, sizeof some);
    lifetimes_close(&l);
}

static void offsets_are_given_where_not_empty(void **state) {
    (void)state;
    const size_t offsets[] = {8, 4};
    assert_true(read_lifetimes("offset,id,lower,upper,size\n8,a,0,1,2\n,b,0,1,2\n"));
    assert_int_equal(l.fixed[0], 8);
    assert_true(l.fixed[1] == SIZE_MAX);
    assert_written(offsets, "offset,id,lower,upper,size\n8,a,0,1,2\n4,b,0,1,2\n");
    lifetimes_close(&l);
    assert_true(read_lifetimes("offset,id,lower,upper,size\n,a,0,1,2\n"));
    assert_null(l.fixed);
    lifetimes_close(&l);
}

static void the_largest_numbers_are_exact(void **state) {
    (void)state;
    assert_true(read_lifetimes(HEADER "a,18446744073709551613,18446744073709551614,"
                                      "18446744073709551615\n"));
    assert_true(l.items[0].first == SIZE_MAX - 2 && l.items[0].last == SIZE_MAX - 2);
    assert_true(l.items[0].size == SIZE_MAX);
    lifetimes_close(&l);
}

static void a_message_names_file_line_column_and_value(void **state) {
    (void)state;
    assert_rejected("", "x.csv: empty, without a header");
    assert_rejected("id,lower,size\n", "x.csv: no column 'upper'");
    assert_rejected("id,lower,upper,size,id\n", "x.csv:1: column 'id' is there twice");
    assert_rejected(HEADER "a,0,1\n", "x.csv:2: 3 columns, but the header has 4");
    assert_rejected("id,lower,upper,size,note\na,0,1,2,\"\n\"\n\nb,1,1,2,\n",
        "x.csv:5: upper '1': not above the first step, 1");
    assert_rejected(HEADER "a,0,1,-2\n",
        "x.csv:2: size '-2': not a whole number from 0 to 18446744073709551615");
    assert_rejected(HEADER "a,0.5,1,2\n",
        "x.csv:2: lower '0.5': not a whole number from 0 to 18446744073709551614");
    assert_rejected(HEADER "a,0,1,18446744073709551616\n",
        "x.csv:2: size '18446744073709551616': not a whole number from 0 to "
        "18446744073709551615");
    assert_rejected(HEADER "a,0,1,1\nb,0,1,1\na,0,1,1\n", "x.csv:4: id 'a': line 2 has it too");
    assert_rejected(HEADER "a\n\"b,0,1,1\n", "x.csv:2: 1 columns, but the header has 4");
    assert_rejected(
        HEADER "a,0,1,1\n\"b,0,1,1\n", "x.csv:3: quotes that do not close, or text behind them");
}

static void values_in_messages_are_short_and_printable(void **state) {
    (void)state;
    char text[300] = HEADER "a,0,1,";
    memset(text + strlen(text), '\x1b', 200);
    assert_false(read_lifetimes(text));
    fuzz_csv_error(&l.table);
    assert_in_range(strlen(l.table.error), 50, 160);
    lifetimes_close(&l);
}

static void a_chain_is_read(void **state) {
    (void)state;
    static const char text[] = "# a comment\nindex,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp\n"
                               "0,a,1.5,3,4,8,9,1,2\n# another\n1,loss,.5,1e1,8,0,0,0,7\n";
    chain c;
    assert_true(chain_parse(&c, "c.csv", fuzz_csv_copy(text, sizeof text - 1), sizeof text - 1));
    assert_int_equal(c.flat.n_stages, 2);
    assert_int_equal(c.flat.input_size, 4);
    assert_string_equal(c.stages[0].name, "a");
    assert_true(c.stages[0].forward_s == 1.5 && c.stages[0].backward_s == 3);
    assert_int_equal(c.stages[0].output_size, 8);
    assert_int_equal(c.stages[0].forward_tmp, 1);
    assert_int_equal(c.options[0].kept, 9);
    assert_int_equal(c.options[0].backward_tmp, 2);
    assert_true(c.stages[1].forward_s == .5 && c.stages[1].backward_s == 10);
    assert_int_equal(c.stages[1].forward_tmp, 7);
    chain_close(&c);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void many_rows_keep_their_order(void **state) {
    (void)state;
    enum { N = 100000 };
    char *text = (char *)malloc(40 * N);
    size_t size = (size_t)sprintf(text, HEADER);
    for (int i = 0; i < N; i++)
        size += (size_t)sprintf(text + size, "b%d,%d,%d,%d\n", i, i, i + 1, i);
    assert_true(lifetimes_parse(&l, "x.csv", text, size));
    assert_int_equal(l.n, N);
    assert_item(0, "b0", 0, 0, 0);
    assert_item(N - 1, "b99999", N - 1, N - 1, N - 1);
    lifetimes_close(&l);
}

static void changed_bytes_are_rejected_or_consistent(void **state) {
    (void)state;
    static const char good[] = "id,lower,upper,size,alignment,gaps,offset\n\"a,\"\"b\",0,9,4,4,"
                               "2-3 5-6@1:2,8\nc,1,2,30,1,,\n";
    test_rng r = test_rng_begin("csv");
    for (int i = 0; i < 20000; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        for (size_t k = 1 + test_below(&r, 3); k > 0; k--) {
            static const char chars[] = ",\"\n\r 019-@:#\xff";
            text[test_below(&r, sizeof good - 1)] = chars[test_below(&r, sizeof chars)];
        }
        LLVMFuzzerTestOneInput((const uint8_t *)text, sizeof good - 1);
    }
}

static void replay(const char *file, const char *name, int (*parse)(const uint8_t *, size_t)) {
    static uint8_t data[1 << 16];
    const size_t size = load_file(file, data, sizeof data);
    LLVMFuzzerTestOneInput(data, size);
    if (parse(data, size) != (strncmp(name, "ok_", 3) == 0)) fail_msg("%s", file);
}
static void replay_lifetimes(const char *file, const char *name) {
    replay(file, name, fuzz_csv_lifetimes);
}
static void replay_chain(const char *file, const char *name) { replay(file, name, fuzz_csv_chain); }

static void the_fuzz_corpora_replay(void **state) {
    (void)state;
    each_file("fuzz/corpus/csv", 45, replay_lifetimes);
    each_file("fuzz/corpus/chain", 15, replay_chain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_stand_in_any_order_and_others_pass_through),
        cmocka_unit_test(quotes_crlf_blanks_and_a_bom_are_understood),
        cmocka_unit_test(an_end_column_names_the_last_step),
        cmocka_unit_test(gaps_and_their_windows_are_read),
        cmocka_unit_test(offsets_are_given_where_not_empty),
        cmocka_unit_test(the_largest_numbers_are_exact),
        cmocka_unit_test(a_message_names_file_line_column_and_value),
        cmocka_unit_test(values_in_messages_are_short_and_printable),
        cmocka_unit_test(a_chain_is_read),
        cmocka_unit_test(many_rows_keep_their_order),
        cmocka_unit_test(changed_bytes_are_rejected_or_consistent),
        cmocka_unit_test(the_fuzz_corpora_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
