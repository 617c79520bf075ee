/* test_model_file.c - mo_model_file: sizes from config.json, safetensors and GGUF, files that are
 * broken, folders, failing allocations. */
#include "test_folder.h"

#define FUZZ_NO_MAIN
#include "../fuzz/fuzz_config.c"

static test_log heard;
static test_heap heap;
static mo_model m;
static mo_model_file_info info;

static int clean(void **state) {
    (void)state;
    empty_folder();
    return 0;
}

static const char *save_text(const char *name, const char *text) {
    const char *file = in_folder(name);
    save_file(file, text, strlen(text));
    return file;
}

static mo_status read_with(const char *file, int fail_at) {
    const mo_model_file_desc desc = {test_heap_begin(&heap, fail_at), test_log_begin(&heard)};
    memset(&m, 0, sizeof m), memset(&info, 0, sizeof info);
    const mo_status status = mo_model_read(&m, &info, file, &desc);
    assert_int_equal(heap.live_blocks, 0);
    return status;
}

static void reads(const char *file) {
    if (read_with(file, -1) != MO_OK) fail_msg("%s", heard.text);
}

/* Behind the path. */
static void refuses(const char *file, mo_status status, const char *want) {
    assert_int_equal(read_with(file, -1), status);
    assert_int_equal(heard.n, 1);
    if (strncmp(heard.text, folder, strlen(folder)) != 0 || !strstr(heard.text, want))
        fail_msg("'%s' is not '... %s'", heard.text, want);
    assert_int_equal(m.layers, 0);
}

/* ---- config.json ----------------------------------------------------------------------------- */

static const char gpt2_config[] =
    "{\"activation_function\": \"gelu_new\", \"architectures\": [\"GPT2LMHeadModel\"],\n"
    " \"attn_pdrop\": 0.1, \"initializer_range\": 0.02, \"layer_norm_epsilon\": 1e-05,\n"
    " \"model_type\": \"gpt2\", \"n_ctx\": 1024, \"n_embd\": 768, \"n_head\": 12, \"n_layer\": "
    "12,\n"
    " \"n_positions\": 1024, \"n_inner\": null, \"summary_first_dropout\": 0.1,\n"
    " \"task_specific_params\": {\"text-generation\": {\"n_layer\": 7, \"do_sample\": true}},\n"
    " \"vocab_size\": 50257}";

static const char llama_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"bos_token_id\": 1, \"hidden_act\": \"silu\",\n"
    " \"hidden_size\": 4096, \"intermediate_size\": 11008, \"max_position_embeddings\": 4096,\n"
    " \"model_type\": \"llama\", \"num_attention_heads\": 32, \"num_hidden_layers\": 32,\n"
    " \"num_key_value_heads\": 32, \"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05,\n"
    " \"rope_scaling\": null, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false,\n"
    " \"torch_dtype\": \"float16\", \"use_cache\": true, \"vocab_size\": 32000}\n";

static const char qwen2_config[] =
    "{\"model_type\": \"qwen2\", \"hidden_size\": 896, \"intermediate_size\": 4864,\n"
    " \"max_position_embeddings\": 32768, \"max_window_layers\": 21, \"num_attention_heads\": 14,\n"
    " \"num_hidden_layers\": 24, \"num_key_value_heads\": 2, \"rope_theta\": 1000000.0,\n"
    " \"sliding_window\": 32768, \"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\",\n"
    " \"use_sliding_window\": false, \"vocab_size\": 151936}";

static const char mistral_config[] =
    "{\"model_type\": \"mistral\", \"hidden_size\": 4096, \"intermediate_size\": 14336,\n"
    " \"max_position_embeddings\": 32768, \"num_attention_heads\": 32, \"num_hidden_layers\": 32,\n"
    " \"head_dim\": null, \"dtype\": \"bfloat16\", \"vocab_size\": 32000}";

static void a_config_of_gpt2_is_124m(void **state) {
    (void)state;
    reads(save_text("config.json", gpt2_config));
    assert_int_equal(m.arch, MO_MODEL_GPT2);
    assert_int_equal(mo_model_count(&m), 124439808);
    assert_int_equal(m.hidden, 3072);
    assert_int_equal(m.untied_head, 0);
    assert_int_equal(info.context, 1024);
    assert_int_equal(info.dtype, MO_DTYPE_COUNT);
    assert_int_equal(info.format, MO_MODEL_FILE_CONFIG);
    assert_int_equal(info.n_types, 0);
    assert_string_equal(info.kind, "gpt2");
    assert_int_equal(heard.n, 0);
}

static void a_config_of_llama_2_is_7b(void **state) {
    (void)state;
    reads(save_text("any.json", llama_config));
    assert_int_equal(m.arch, MO_MODEL_LLAMA);
    assert_int_equal(mo_model_count(&m), 6738415616u);
    assert_int_equal(info.context, 4096);
    assert_int_equal(info.dtype, MO_DTYPE_F16);
    assert_true(info.rope_theta == 10000.0);
    assert_string_equal(info.kind, "llama");
}

static void a_config_of_qwen2_has_biases_and_one_embedding(void **state) {
    (void)state;
    reads(save_text("config.json", qwen2_config));
    assert_int_equal(m.qkv_bias, 1);
    assert_int_equal(m.untied_head, 0);
    assert_int_equal(m.kv_heads, 2);
    assert_int_equal(mo_model_count(&m), 494032768); /* Qwen2-0.5B and Qwen2.5-0.5B */
    assert_int_equal(info.dtype, MO_DTYPE_BF16);
    assert_true(info.rope_theta == 1e6);
}

static void a_config_of_mistral_has_8_heads_of_keys(void **state) {
    (void)state;
    reads(save_text("config.json", mistral_config));
    assert_int_equal(m.kv_heads, 8);
    assert_int_equal(mo_model_count(&m), 7241732096u);
    assert_int_equal(info.dtype, MO_DTYPE_BF16);
}

/* text with the first `from` replaced. */
static const char *changed(const char *text, const char *from, const char *to) {
    static char out[2048];
    const char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return save_text("config.json", out);
}

static void fields_that_are_wrong_are_named_with_their_value(void **state) {
    (void)state;
    const struct {
        const char *text, *from, *to, *want;
    } known[] = {
        {gpt2_config, "\"n_layer\": 12", "\"x\": 1", "/config.json: n_layer is missing"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": null", "n_layer is missing"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": 0", "n_layer is 0"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": -12",
            "n_layer is -12, not a whole number below 2^32"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": 1.5",
            "n_layer is 1.5, not a whole number below 2^32"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": \"12\"",
            "n_layer is \"12\", not a whole number below 2^32"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": [12]", "n_layer is [12], not a whole"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": 4294967296",
            "n_layer is 4294967296, not a whole number below 2^32"},
        {gpt2_config, "\"n_layer\": 12", "\"n_layer\": 99999999999999999999999",
            "n_layer is 99999999999999999999999, not a whole number below 2^32"},
        {gpt2_config, "\"n_ctx\": 1024", "\"n_layer\": 3", "a field is there twice"},
        {gpt2_config, "\"vocab_size\": 50257", "\"x\": 1", "vocab_size is missing"},
        {gpt2_config, "\"n_positions\": 1024", "\"n_positions\": 0", "n_positions is 0"},
        {gpt2_config, "\"gpt2\"", "7", "model_type is 7, not a string"},
        {gpt2_config, "\"model_type\"", "\"x\"", "model_type is missing"},
        {llama_config, "10000.0", "-1", "rope_theta is -1, not a number above 0"},
        {llama_config, "10000.0", "\"1e4\"", "rope_theta is \"1e4\", not a number above 0"},
        {llama_config, "s\": false", "s\": 0", "tie_word_embeddings is 0, not true or false"},
        {llama_config, "\"hidden_size\": 4096", "\"x\": 1", "hidden_size is missing"},
        {llama_config, "\"intermediate_size\": 11008", "\"x\": 1", "intermediate_size is missing"},
        {llama_config, "\"silu\"", "\"si\nlu\"", "byte 76: control character in a string"},
        {llama_config, "}", "", ": expected ',' or '}'"},
        {llama_config, "}", "} 1", "text after the end"},
    };
    for (size_t i = 0; i < n_elements(known); i++)
        refuses(changed(known[i].text, known[i].from, known[i].to), MO_E_FORMAT, known[i].want);
}

static void sizes_that_do_not_fit_together_are_named_with_the_file(void **state) {
    (void)state;
    refuses(changed(gpt2_config, "\"n_head\": 12", "\"n_head\": 7"), MO_E_INVALID,
        "/config.json: model: heads of 7 do not divide channels of 768");
    refuses(changed(llama_config, "\"use_cache\"", "\"head_dim\": 33, \"y\""), MO_E_INVALID,
        "head_size, which rotary positions need to be even, is 33");
}

static void other_architectures_are_refused_by_name(void **state) {
    (void)state;
    refuses(changed(llama_config, "\"llama\"", "\"gemma2\""), MO_E_UNSUPPORTED,
        "model_type 'gemma2' is not supported: gpt2, llama, mistral and qwen2 are");
    refuses(changed(llama_config, "\"llama\"", "\"mixtral\", \"num_local_experts\": 8"),
        MO_E_UNSUPPORTED,
        "model_type 'mixtral' with num_local_experts of 8: mixtures of experts are not supported");
    refuses(changed(qwen2_config, "\"qwen2\"", "\"qwen2_moe\", \"num_experts\": 60"),
        MO_E_UNSUPPORTED, "model_type 'qwen2_moe' with num_experts of 60");
    refuses(changed(llama_config, "\"use_cache\"", "\"mlp_bias\": true, \"y\""), MO_E_UNSUPPORTED,
        "mlp_bias is true");
}

static void a_bias_that_is_not_counted_is_said(void **state) {
    (void)state;
    reads(changed(llama_config, "\"use_cache\"", "\"attention_bias\": true, \"y\""));
    assert_int_equal(m.qkv_bias, 1);
    assert_int_equal(heard.n, 1);
    assert_non_null(strstr(heard.text, "attention_bias is true"));
}

static void the_other_names_of_sizes_count(void **state) {
    (void)state;
    reads(changed(gpt2_config, "\"n_positions\": 1024", "\"x\": 1"));
    assert_int_equal(m.positions, 1024);
    reads(changed(gpt2_config, "\"n_inner\": null", "\"n_inner\": 1000"));
    assert_int_equal(m.hidden, 1000);
    reads(changed(gpt2_config, "\"n_inner\"", "\"tie_word_embeddings\": false, \"n_inner\""));
    assert_int_equal(m.untied_head, 1);
    reads(changed(llama_config, "\"num_key_value_heads\": 32", "\"x\": 1"));
    assert_int_equal(m.kv_heads, 32);
    reads(changed(llama_config, "\"use_cache\"", "\"head_dim\": 64, \"y\""));
    assert_int_equal(m.head_size, 64);
}

static void a_cut_text_is_refused_wherever_it_is_cut(void **state) {
    (void)state;
    for (size_t n = 1; n + 2 < sizeof llama_config; n++) { /* one blank is behind the bracket */
        char text[sizeof llama_config];
        mo_model out = {.layers = 99};
        memcpy(text, llama_config, n);
        assert_int_equal(mo_model_read_config(&out, NULL, text, n, NULL), MO_E_FORMAT);
        assert_int_equal(out.layers, 99);
    }
    test_ok(mo_model_read_config(&m, NULL, llama_config, sizeof llama_config - 1, NULL));
    assert_int_equal(mo_model_read_config(NULL, NULL, "", 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_model_read_config(&m, NULL, NULL, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_model_read_config(&m, NULL, "\"\xff\"", 3, NULL), MO_E_FORMAT);
}

/* ---- safetensors ----------------------------------------------------------------------------- */

enum { MOST = 32 };
typedef struct tensors {
    mo_safetensors_entry entries[MOST]; /* point into the struct once it is saved */
    uint64_t shapes[MOST][3];
    char names[MOST][64];
    size_t n;
} tensors;

static void add(tensors *t, const char *prefix, const char *name, uint64_t rows, uint64_t columns) {
    mo_safetensors_entry *e = &t->entries[t->n];
    snprintf(t->names[t->n], sizeof t->names[0], "%s%s", prefix, name);
    t->shapes[t->n][0] = rows, t->shapes[t->n][1] = columns;
    *e = (mo_safetensors_entry){
        .dtype = columns ? MO_DTYPE_BF16 : MO_DTYPE_F32, .n_dims = columns ? 2 : 1};
    t->n++;
}

/* Bytes of all. */
static size_t link_tensors(tensors *t) {
    size_t bytes = 0;
    for (size_t i = 0; i < t->n; i++) {
        t->entries[i].name = t->names[i];
        t->entries[i].shape = t->shapes[i];
        bytes += (size_t)(t->shapes[i][0] * (t->shapes[i][1] ? 2 * t->shapes[i][1] : 4));
    }
    return bytes;
}

/* Two layers of 128 channels, 4 heads of queries and 2 of keys in Llama's kind. */
static tensors small_llama(void) {
    tensors t = {.n = 0};
    add(&t, "", "model.embed_tokens.weight", 50, 128);
    for (int i = 0; i < 2; i++) {
        char layer[32];
        snprintf(layer, sizeof layer, "model.layers.%d.", i);
        add(&t, layer, "mlp.gate_proj.weight", 96, 128);
        add(&t, layer, "mlp.down_proj.weight", 128, 96);
        add(&t, layer, "self_attn.q_proj.weight", 128, 128);
        add(&t, layer, "self_attn.k_proj.weight", 64, 128);
    }
    add(&t, "", "model.norm.weight", 128, 0);
    return t;
}

static tensors small_gpt2(const char *prefix) {
    tensors t = {.n = 0};
    char layer[32];
    add(&t, prefix, "wte.weight", 50, 128);
    add(&t, prefix, "wpe.weight", 16, 128);
    for (int i = 0; i < 3; i++) {
        snprintf(layer, sizeof layer, "%sh.%d.", prefix, i);
        add(&t, layer, "mlp.c_fc.weight", 128, 200);
    }
    return t;
}

static const char *save_tensors(
    const char *name, tensors *t, const mo_safetensors_pair *metadata, size_t n_metadata) {
    static const uint16_t zeros[64 * 1024];
    const mo_safetensors_writer_desc desc = {.metadata = metadata, .n_metadata = n_metadata};
    mo_safetensors_writer w;
    const char *file = in_folder(name);
    size_t bytes = link_tensors(t);
    test_ok(mo_safetensors_create(&w, file, t->entries, t->n, &desc));
    for (; bytes > sizeof zeros; bytes -= sizeof zeros)
        test_ok(mo_safetensors_write(&w, zeros, sizeof zeros));
    test_ok(mo_safetensors_write(&w, zeros, bytes));
    test_ok(mo_safetensors_commit(&w));
    return file;
}

static void shapes_tell_sizes_but_heads_which_are_guessed_aloud(void **state) {
    (void)state;
    tensors t = small_llama();
    reads(save_tensors("model.safetensors", &t, NULL, 0));
    assert_int_equal(m.arch, MO_MODEL_LLAMA);
    assert_int_equal(m.layers, 2);
    assert_int_equal(m.channels, 128);
    assert_int_equal(m.hidden, 96);
    assert_int_equal(m.vocab, 50);
    assert_int_equal(m.heads, 2);
    assert_int_equal(m.kv_heads, 1);
    assert_int_equal(m.head_size, 64);
    assert_int_equal(m.untied_head, 0);
    assert_int_equal(info.heads_unsure, 1);
    assert_int_equal(heard.n, 1);
    assert_non_null(strstr(heard.text, "taken as 2 of 64 channels"));
    assert_int_equal(info.format, MO_MODEL_FILE_SAFETENSORS);
}

static void channels_that_are_no_heads_of_64_are_one(void **state) {
    (void)state;
    tensors t = small_gpt2("");
    for (size_t i = 0; i < t.n; i++) t.shapes[i][i < 2] = 100;
    reads(save_tensors("model.safetensors", &t, NULL, 0));
    assert_int_equal(m.heads, 1);
    assert_int_equal(m.channels, 100);
    assert_non_null(strstr(heard.text, "taken as 1 of 100 channels"));
}

static void the_weights_are_counted_by_type(void **state) {
    (void)state;
    tensors t = small_llama();
    reads(save_tensors("model.safetensors", &t, NULL, 0));
    const uint64_t n = 50 * 128 + 2 * (2 * 96 * 128 + 128 * 128 + 64 * 128);
    assert_int_equal(info.n_types, 2);
    for (int i = 0; i < 2; i++) {
        const int is_f32 = strcmp(info.types[i].name, "F32") == 0;
        assert_string_equal(info.types[i].name, is_f32 ? "F32" : "BF16");
        assert_int_equal(info.types[i].n_tensors, is_f32 ? 1 : 9);
        assert_int_equal(info.types[i].numbers, is_f32 ? 128 : n);
        assert_int_equal(info.types[i].bytes, is_f32 ? 4 * 128 : 2 * n);
    }
    assert_int_equal(info.numbers, n + 128);
    assert_int_equal(info.bytes, 2 * n + 4 * 128);
}

static void heads_of_a_training_run_are_in_its_metadata(void **state) {
    (void)state;
    tensors t = small_gpt2("");
    mo_safetensors_pair pairs[] = {{"memopt.heads", "4"}, {"memopt.share", "2"}};
    const char *file = save_tensors("run.safetensors", &t, pairs, 2);
    reads(file);
    assert_int_equal(m.arch, MO_MODEL_GPT2);
    assert_int_equal(m.heads, 4);
    assert_int_equal(m.share, 2);
    assert_int_equal(m.layers, 6);
    assert_int_equal(m.hidden, 200);
    assert_int_equal(m.positions, 16);
    assert_int_equal(heard.n, 0);
    pairs[0].value = "4x";
    refuses(save_tensors("run.safetensors", &t, pairs, 2), MO_E_FORMAT,
        "metadata 'memopt.heads' is '4x', not a size");
    pairs[0].value = "0";
    refuses(save_tensors("run.safetensors", &t, pairs, 1), MO_E_FORMAT, "is '0', not a size");
}

static void names_of_gpt2_may_have_their_prefix(void **state) {
    (void)state;
    tensors t = small_gpt2("transformer.");
    add(&t, "", "lm_head.weight", 50, 128);
    reads(save_tensors("model.safetensors", &t, NULL, 0));
    assert_int_equal(m.layers, 3);
    assert_int_equal(m.heads, 2);
    assert_int_equal(m.untied_head, 1);
    assert_string_equal(info.kind, "gpt2");
}

static const char small_config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 128, \"intermediate_size\": 96,\n"
    " \"num_attention_heads\": 4, \"num_hidden_layers\": 2, \"num_key_value_heads\": 2,\n"
    " \"max_position_embeddings\": 77, \"vocab_size\": 50, \"tie_word_embeddings\": true}";

static void a_config_beside_tensors_knows_the_heads(void **state) {
    (void)state;
    tensors t = small_llama();
    const char *file = save_tensors("model.safetensors", &t, NULL, 0);
    save_text("config.json", small_config);
    const char *const from[] = {file, folder};
    for (int i = 0; i < 2; i++) {
        reads(from[i]);
        assert_int_equal(m.heads, 4);
        assert_int_equal(m.kv_heads, 2);
        assert_int_equal(info.context, 77);
        assert_int_equal(info.heads_unsure, 0);
        assert_int_equal(info.format, MO_MODEL_FILE_SAFETENSORS);
        assert_int_equal(info.numbers, 50 * 128 + 2 * (2 * 96 * 128 + 128 * 128 + 64 * 128) + 128);
        assert_int_equal(heard.n, 0);
    }
    changed(small_config, "\"vocab_size\": 50", "\"vocab_size\": 51");
    refuses(file, MO_E_FORMAT, "is [50, 128], but config.json has [51, 128]");
    changed(small_config, "layers\": 2", "layers\": 3");
    refuses(file, MO_E_FORMAT, "tensors of 2 layers, but config.json has 3");
}

static void folders_are_of_a_config_or_weights(void **state) {
    (void)state;
    tensors t = small_llama();
    refuses(folder, MO_E_NOT_FOUND,
        ": neither config.json nor model.safetensors.index.json nor model.safetensors in it");
    save_text("config.json", llama_config);
    reads(folder);
    assert_int_equal(info.format, MO_MODEL_FILE_CONFIG);
    empty_folder();
    save_tensors("model.safetensors", &t, NULL, 0);
    reads(folder);
    assert_int_equal(m.layers, 2);
}

static void shards_are_read_through_their_index(void **state) {
    (void)state;
    tensors t = small_llama();
    static const uint16_t zeros[256 * 1024];
    const mo_safetensors_shards_desc desc = {.max_shard_bytes = 60000};
    mo_safetensors_shards_writer w;
    char file[256];
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    const size_t bytes = link_tensors(&t);
    assert_true(bytes <= sizeof zeros);
    test_ok(mo_safetensors_shards_create(&w, file, t.entries, t.n, &desc));
    assert_true(w.n_shards > 1);
    test_ok(mo_safetensors_shards_write(&w, zeros, bytes));
    test_ok(mo_safetensors_shards_commit(&w));
    reads(folder);
    assert_int_equal(info.format, MO_MODEL_FILE_SHARDS);
    assert_int_equal(m.layers, 2);
    assert_int_equal(info.bytes, bytes);
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", folder);
    reads(file);
    assert_int_equal(info.bytes, bytes);
}

static void tensors_that_are_no_model_are_named(void **state) {
    (void)state;
    tensors t = {.n = 0};
    add(&t, "", "x", 2, 3);
    refuses(save_tensors("a.safetensors", &t, NULL, 0), MO_E_FORMAT,
        "/a.safetensors: tensor 'wte.weight' is missing");
    t = small_llama();
    snprintf(t.names[1], sizeof t.names[1], "other");
    refuses(save_tensors("a.safetensors", &t, NULL, 0), MO_E_FORMAT,
        "tensor 'model.layers.0.mlp.gate_proj.weight' is missing");
    t = small_llama();
    t.shapes[4][0] = 63; /* k_proj */
    refuses(
        save_tensors("a.safetensors", &t, (const mo_safetensors_pair[]){{"memopt.heads", "4"}}, 1),
        MO_E_FORMAT, "128 channels of queries and 63 of keys are no heads of the 4");
    t = small_llama();
    add(&t, "", "model.layers.0.block_sparse_moe.gate.weight", 8, 128);
    refuses(save_tensors("a.safetensors", &t, NULL, 0), MO_E_UNSUPPORTED, "mixture of experts");
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

typedef struct small_gguf {
    mo_gguf_pair pairs[16];
    mo_gguf_text text;
    size_t n;
    mo_gguf_entry entries[4];
    size_t n_entries;
} small_gguf;

static void set_u32(small_gguf *g, const char *key, uint64_t value) {
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->pairs[i].key, key) == 0) {
            g->pairs[i].u64 = value;
            return;
        }
    g->pairs[g->n++] = (mo_gguf_pair){.key = key, .kind = MO_GGUF_KIND_U32, .n = 1, .u64 = value};
}

static void set_architecture(small_gguf *g, const char *name) {
    g->text = (mo_gguf_text){name, strlen(name)};
    g->pairs[0] = (mo_gguf_pair){
        .key = "general.architecture", .kind = MO_GGUF_KIND_STRING, .n = 1, .strings = &g->text};
    if (g->n == 0) g->n = 1;
}

static void fill_gguf(small_gguf *g) {
    memset(g, 0, sizeof *g);
    set_architecture(g, "llama");
    set_u32(g, "llama.block_count", 3);
    set_u32(g, "llama.embedding_length", 128);
    set_u32(g, "llama.feed_forward_length", 352);
    set_u32(g, "llama.attention.head_count", 4);
    set_u32(g, "llama.attention.head_count_kv", 2);
    set_u32(g, "llama.context_length", 2048);
    g->pairs[g->n++] =
        (mo_gguf_pair){.key = "llama.rope.freq_base", .kind = MO_GGUF_KIND_F32, .n = 1, .f64 = 5e5};
    g->entries[0] = (mo_gguf_entry){
        .name = "token_embd.weight", .type = MO_GGUF_Q8_0, .n_dims = 2, .shape = {128, 40, 1, 1}};
    g->entries[1] = (mo_gguf_entry){
        .name = "output_norm.weight", .type = MO_GGUF_F32, .n_dims = 1, .shape = {128, 1, 1, 1}};
    g->n_entries = 2;
}

static const char *save_gguf(const small_gguf *g) {
    static const unsigned char zeros[16384];
    const char *file = in_folder("model.gguf");
    const mo_gguf_writer_desc desc = {.metadata = g->pairs, .n_metadata = g->n};
    mo_gguf_writer w;
    test_ok(mo_gguf_create(&w, file, g->entries, g->n_entries, &desc));
    for (size_t i = 0; i < g->n_entries; i++) {
        const uint64_t n = mo_gguf_elements(&g->entries[i]);
        const mo_gguf_type type = g->entries[i].type;
        test_ok(mo_gguf_write(
            &w, zeros, (size_t)n / mo_gguf_type_block(type) * mo_gguf_type_bytes(type)));
    }
    test_ok(mo_gguf_commit(&w));
    return file;
}

static void keys_of_gguf_tell_sizes(void **state) {
    (void)state;
    small_gguf g;
    fill_gguf(&g);
    reads(save_gguf(&g));
    assert_int_equal(m.arch, MO_MODEL_LLAMA);
    assert_int_equal(m.layers, 3);
    assert_int_equal(m.channels, 128);
    assert_int_equal(m.hidden, 352);
    assert_int_equal(m.heads, 4);
    assert_int_equal(m.kv_heads, 2);
    assert_int_equal(m.head_size, 32);
    assert_int_equal(m.vocab, 40);
    assert_int_equal(m.untied_head, 0);
    assert_int_equal(info.format, MO_MODEL_FILE_GGUF);
    assert_int_equal(info.context, 2048);
    assert_true(info.rope_theta == 5e5);
    assert_int_equal(info.n_types, 2);
    assert_string_equal(info.types[0].name, "Q8_0");
    assert_int_equal(info.types[0].bytes, 40 * 128 / 32 * 34);
    assert_int_equal(info.bytes, 40 * 128 / 32 * 34 + 512);
    assert_int_equal(heard.n, 0);
}

static void a_head_and_positions_of_gguf_are_its_tensors(void **state) {
    (void)state;
    small_gguf g;
    fill_gguf(&g);
    set_architecture(&g, "gpt2");
    for (size_t i = 1; i < g.n; i++) {
        static char keys[16][64];
        snprintf(keys[i], sizeof keys[i], "gpt2%s", strchr(g.pairs[i].key, '.'));
        g.pairs[i].key = keys[i];
    }
    g.entries[g.n_entries++] = (mo_gguf_entry){
        .name = "position_embd.weight", .type = MO_GGUF_F32, .n_dims = 2, .shape = {128, 8, 1, 1}};
    g.entries[g.n_entries++] = (mo_gguf_entry){
        .name = "output.weight", .type = MO_GGUF_Q8_0, .n_dims = 2, .shape = {128, 40, 1, 1}};
    reads(save_gguf(&g));
    assert_int_equal(m.arch, MO_MODEL_GPT2);
    assert_int_equal(m.positions, 8);
    assert_int_equal(m.untied_head, 1);
}

static void a_gguf_that_is_wrong_is_named_by_its_key(void **state) {
    (void)state;
    small_gguf g;
    fill_gguf(&g);
    set_u32(&g, "llama.embedding_length", 96);
    refuses(save_gguf(&g), MO_E_FORMAT, "has rows of 128, but embedding_length is 96");
    fill_gguf(&g);
    set_u32(&g, "llama.block_count", 0);
    refuses(save_gguf(&g), MO_E_FORMAT, "key 'llama.block_count' is 0, not a size");
    fill_gguf(&g);
    g.pairs[1].key = "llama.blocks";
    refuses(save_gguf(&g), MO_E_FORMAT, "key 'llama.block_count' is missing");
    fill_gguf(&g);
    set_u32(&g, "llama.expert_count", 8);
    refuses(save_gguf(&g), MO_E_UNSUPPORTED, "architecture 'llama' with 8 experts");
    fill_gguf(&g);
    set_architecture(&g, "mamba");
    refuses(save_gguf(&g), MO_E_UNSUPPORTED, "architecture 'mamba' is not supported");
    fill_gguf(&g);
    g.pairs[0].key = "general.name";
    refuses(save_gguf(&g), MO_E_FORMAT, "general.architecture is missing");
    fill_gguf(&g);
    g.entries[0].name = "embd";
    refuses(save_gguf(&g), MO_E_FORMAT, "tensor 'token_embd.weight' is missing");
}

/* ---- files that cannot be read --------------------------------------------------------------- */

static void files_that_cannot_be_read_are_named(void **state) {
    (void)state;
    refuses(in_folder("none.json"), MO_E_NOT_FOUND, "none.json: No such file");
    refuses(in_folder("none.safetensors"), MO_E_NOT_FOUND, "none.safetensors: No such file");
    refuses(save_text("empty.json", ""), MO_E_FORMAT, "0 bytes are no configuration");
    refuses(save_text("x.safetensors", "{}"), MO_E_FORMAT, "x.safetensors");
    assert_int_equal(mo_model_read(NULL, NULL, "x", NULL), MO_E_INVALID);
    assert_int_equal(mo_model_read(&m, NULL, NULL, NULL), MO_E_INVALID);
}

static void a_failing_allocation_is_out_of_memory(void **state) {
    (void)state;
    small_gguf g;
    tensors t = small_llama();
    char files[3][256];
    fill_gguf(&g);
    snprintf(files[0], sizeof files[0], "%s", save_text("other.json", llama_config));
    snprintf(files[1], sizeof files[1], "%s", save_tensors("model.safetensors", &t, NULL, 0));
    snprintf(files[2], sizeof files[2], "%s", save_gguf(&g));
    for (int i = 0; i < 3; i++) {
        int k = 0;
        for (; read_with(files[i], k) != MO_OK; k++) {
            assert_int_equal(heap.n_requests > k, 1);
            assert_int_equal(m.layers, 0);
        }
        assert_true(k > 1);
        assert_int_equal(read_with(files[i], 0), MO_E_NO_MEMORY);
    }
}

/* ---- the corpus of the fuzzer ---------------------------------------------------------------- */

static void replay(const char *file, const char *name) {
    char text[4096];
    const size_t n = load_file(file, text, sizeof text);
    const int is_ok = mo_model_read_config(&m, NULL, text, n, NULL) == MO_OK;
    if (is_ok != (strncmp(name, "ok", 2) == 0)) fail_msg("%s", file);
    assert_int_equal(fuzz_replay(file), 0);
}

static void the_fuzzers_corpus_is_read_as_its_names_say(void **state) {
    (void)state;
    each_file("fuzz/corpus/config", 10, replay);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_config_of_gpt2_is_124m, clean),
        cmocka_unit_test_teardown(a_config_of_llama_2_is_7b, clean),
        cmocka_unit_test_teardown(a_config_of_qwen2_has_biases_and_one_embedding, clean),
        cmocka_unit_test_teardown(a_config_of_mistral_has_8_heads_of_keys, clean),
        cmocka_unit_test_teardown(fields_that_are_wrong_are_named_with_their_value, clean),
        cmocka_unit_test_teardown(sizes_that_do_not_fit_together_are_named_with_the_file, clean),
        cmocka_unit_test_teardown(other_architectures_are_refused_by_name, clean),
        cmocka_unit_test_teardown(a_bias_that_is_not_counted_is_said, clean),
        cmocka_unit_test_teardown(the_other_names_of_sizes_count, clean),
        cmocka_unit_test_teardown(a_cut_text_is_refused_wherever_it_is_cut, clean),
        cmocka_unit_test_teardown(shapes_tell_sizes_but_heads_which_are_guessed_aloud, clean),
        cmocka_unit_test_teardown(channels_that_are_no_heads_of_64_are_one, clean),
        cmocka_unit_test_teardown(the_weights_are_counted_by_type, clean),
        cmocka_unit_test_teardown(heads_of_a_training_run_are_in_its_metadata, clean),
        cmocka_unit_test_teardown(names_of_gpt2_may_have_their_prefix, clean),
        cmocka_unit_test_teardown(a_config_beside_tensors_knows_the_heads, clean),
        cmocka_unit_test_teardown(folders_are_of_a_config_or_weights, clean),
        cmocka_unit_test_teardown(shards_are_read_through_their_index, clean),
        cmocka_unit_test_teardown(tensors_that_are_no_model_are_named, clean),
        cmocka_unit_test_teardown(keys_of_gguf_tell_sizes, clean),
        cmocka_unit_test_teardown(a_head_and_positions_of_gguf_are_its_tensors, clean),
        cmocka_unit_test_teardown(a_gguf_that_is_wrong_is_named_by_its_key, clean),
        cmocka_unit_test_teardown(files_that_cannot_be_read_are_named, clean),
        cmocka_unit_test_teardown(a_failing_allocation_is_out_of_memory, clean),
        cmocka_unit_test(the_fuzzers_corpus_is_read_as_its_names_say),
    };
    return cmocka_run_group_tests(tests, make_folder_in_memory, NULL) + remove_folder();
}
