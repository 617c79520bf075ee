// training.c - see training.h.
#include "training.h"

#include <stdlib.h>
#include <string.h>

size_t training_flags(training_run *r, flag *flags) {
    const flag own[N_OWN_TRAINING_FLAGS] = {{"--seq", FLAG_COUNT, &r->seq},
        {"--batch", FLAG_COUNT, &r->batch}, {"--accum", FLAG_COUNT, &r->accum},
        {"--threads", FLAG_COUNT, &r->threads}, {"--strategy", FLAG_TEXT, &r->strategy},
        {"--open", FLAG_TEXT, &r->open}, {"--text", FLAG_WORDS, &r->texts},
        {"--tokens", FLAG_TEXT, &r->tokens}, {"--steps", FLAG_COUNT, &r->steps},
        {"--devices", FLAG_TEXT, &r->devices}, {"--measure", FLAG_SWITCH, &r->measure}};
    memset(r, 0, sizeof *r);
    memcpy(flags, own, sizeof own);
    model_flags_list(&r->sizes, flags + N_OWN_TRAINING_FLAGS);
    return N_TRAINING_FLAGS;
}

static size_t or_else(size_t value, size_t standard) { return value ? value : standard; }

static unsigned open_bit(const char *word, size_t n) {
    static const struct {
        const char *name;
        unsigned bit;
    } all[] = {{"release", MO_SUGGEST_OPEN_RELEASE}, {"act", MO_SUGGEST_OPEN_ACT},
        {"precision", MO_STRATEGY_OPEN_PRECISION}, {"lora", MO_SUGGEST_OPEN_LORA},
        {"4bit", MO_SUGGEST_OPEN_4BIT}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strlen(all[i].name) == n && memcmp(word, all[i].name, n) == 0) return all[i].bit;
    fail(EXIT_USAGE, "--open: '%.*s' is none of release, act, precision, lora, 4bit", (int)n, word);
}

static void open_strategy(training_run *r) {
    mo_strategy_text asked = {.open = MO_STRATEGY_OPEN_ALL};
    if (r->strategy)
        check_said(mo_strategy_parse(r->strategy, &r->training.strategy, &asked, &cli_log));
    if (asked.distill) fail(EXIT_USAGE, "--strategy: distill is not planned here");
    r->open_bits = asked.open;
    for (const char *at = r->open; at && *at;) {
        const size_t n = strcspn(at, ",");
        r->open_bits |= open_bit(at, n);
        at += n + (at[n] != 0);
    }
    r->closed = r->open_bits == 0;
}

// What train_gpt has no flag for.
static const char *odd_size(const training_run *r) {
    const mo_model *m = &r->training.model;
    if (r->is_init) return NULL;
    if (m->hidden != mo_model_default_hidden(m->arch, m->channels)) return "--hidden";
    if (m->untied_head) return "--untied";
    if (m->qkv_bias) return "biases of q, k and v";
    if (m->head_size * m->heads != m->channels) return "the size of a head";
    return m->arch == MO_MODEL_GPT2 && m->positions != r->training.seq ? "--positions" : NULL;
}

static void open_model(training_run *r) {
    mo_model_file_info info;
    mo_training *t = &r->training;
    model_flags sizes = r->sizes;
    if (!sizes.config) {
        sizes.layers = or_else(sizes.layers, 6);
        sizes.channels = or_else(sizes.channels, 384);
        sizes.heads = or_else(sizes.heads, 6);
        sizes.vocab = or_else(sizes.vocab, 256);
        sizes.positions = or_else(sizes.positions, or_else(r->seq, 256));
    }
    t->model = model_flags_read(&sizes, &info);
    if (t->model.arch == MO_MODEL_GPT2 && t->model.kv_heads != t->model.heads)
        fail(EXIT_USAGE, "--kv-heads: needs --arch llama");
    if (t->model.arch != MO_MODEL_GPT2) t->model.positions = 0;
    if (t->strategy.share > 1) t->model.share = t->strategy.share;
    check_said(mo_model_complete(&t->model, &cli_log));
    t->seq =
        or_else(r->seq, t->model.positions && t->model.positions < 256 ? t->model.positions : 256);
    r->is_init = sizes.config && info.format == MO_MODEL_FILE_SAFETENSORS;
    r->odd = odd_size(r);
}

static void measure(training_run *r) {
    mo_machine_desc d = {.parallel = &r->parallel, .log = &cli_log};
    if (r->training.strategy.paged || (r->open_bits & MO_STRATEGY_OPEN_PAGED)) {
        const char *folder = getenv("TMPDIR");
        d.folder = folder && *folder ? folder : "/tmp";
    }
    check(mo_machine_measure(&r->machine, &d), "measuring");
}

void training_open(training_run *r, bool need) {
    mo_training *t = &r->training;
    if (r->devices)
        fail(EXIT_USAGE,
            "--devices: training runs on one device; memopt place spreads weights over several, "
            "for inference");
    if (r->tokens && r->texts.n) fail(EXIT_USAGE, "give either --text or --tokens");
    t->batch = or_else(r->batch, 4);
    t->accum = or_else(r->accum, 1);
    t->log = &cli_log;
    r->parallel = (mo_parallel){.n_threads = (int)r->threads};
    r->threads = (size_t)mo_parallel_threads(&r->parallel);
    t->target.parallel = &r->parallel;
    open_strategy(r);
    open_model(r);
    check_said(mo_training_check(t));
    if (r->measure || need) measure(r);
}

void training_close(training_run *r) { free(r->texts.items); }

const mo_machine *training_machine(const training_run *r) {
    return r->machine.n_threads ? &r->machine : NULL;
}

mo_suggest_desc training_desc(const training_run *r) {
    return (mo_suggest_desc){.training = r->training,
        .open = r->open_bits,
        .closed = r->closed,
        .budget = r->budget,
        .machine = training_machine(r)};
}

// ---- output -----------------------------------------------------------------------------------

void training_print(const training_run *r) {
    const mo_training *t = &r->training;
    model_print(stdout, &t->model);
    printf("%zu sequence%s of %zu tokens, %zu thread%s\n", t->batch, plural(t->batch), t->seq,
        r->threads, plural(r->threads));
}

// A word of a command line, in quotes where a shell would not take it as it is.
static void print_word(FILE *out, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=,./:@%";
    if (*word && word[strspn(word, plain)] == 0) {
        fprintf(out, " %s", word);
        return;
    }
    fputs(" '", out);
    for (; *word; word++) {
        if (*word == '\'') fputs("'\\''", out);
        else fputc(*word, out);
    }
    fputc('\'', out);
}

static void print_data(FILE *out, const training_run *r) {
    if (r->tokens) {
        fputs(" --tokens", out);
        print_word(out, r->tokens);
        return;
    }
    fputs(" --text", out);
    for (size_t i = 0; i < r->texts.n; i++) print_word(out, r->texts.items[i]);
    if (r->texts.n == 0) fputs(" FILE", out);
}

// The model: a file, or the sizes that differ from none.
static void print_model(FILE *out, const training_run *r) {
    const mo_model *m = &r->training.model;
    if (r->is_init) {
        fputs(" --init", out);
        print_word(out, r->sizes.config);
        fprintf(out, " --heads %zu", m->heads);
        return;
    }
    if (m->arch != MO_MODEL_GPT2) fprintf(out, " --arch %s", mo_model_arch_name(m->arch));
    fprintf(out, " --layers %zu --channels %zu --heads %zu", m->layers, m->channels, m->heads);
    if (m->kv_heads != m->heads) fprintf(out, " --kv-heads %zu", m->kv_heads);
}

void training_command(FILE *out, const training_run *r, const mo_suggest_trial *trial) {
    const mo_training *t = &r->training;
    char strategy[192];
    mo_strategy_format(&trial->strategy, strategy, sizeof strategy);
    if (r->odd) {
        fprintf(out, "(no command line: train_gpt has no flag for %s)", r->odd);
        return;
    }
    fputs("train_gpt", out);
    print_data(out, r);
    print_model(out, r);
    fprintf(out, " --seq %zu --batch %zu", t->seq, t->batch);
    if (t->accum > 1) fprintf(out, " --accum %zu", t->accum);
    if (r->steps) fprintf(out, " --steps %zu", r->steps);
    fprintf(out, " --threads %zu --strategy %s", r->threads, strategy);
    const uint64_t budget = trial->budget ? trial->budget : r->budget;
    if (budget) fprintf(out, " --budget %llu", (unsigned long long)budget);
}

void training_json_trial(const training_run *r, const mo_suggest_trial *trial) {
    char strategy[192];
    text_stream line;
    text_begin(&line);
    training_command(line.file, r, trial);
    char *text = text_end(&line);
    mo_strategy_format(&trial->strategy, strategy, sizeof strategy);
    printf("{\"strategy\":\"%s\",\"bytes\":%llu,\"seconds\":%.15g,\"command\":", strategy,
        (unsigned long long)trial->bytes, trial->seconds);
    if (r->odd) printf("null");
    else json_string(stdout, text);
    free(text);
}

void training_json_machine(const training_run *r) {
    const mo_machine *m = training_machine(r);
    printf(",\"measured\":%s", m ? "true" : "false");
    if (!m) return;
    printf(",\"machine\":{\"threads\":%zu,\"seconds\":%.15g", m->n_threads, m->seconds);
    for (int i = 0; i < MO_MACHINE_ITEM_COUNT; i++)
        printf(",\"%s\":{\"per_s\":%.15g,\"spread\":%.15g,\"state\":\"%s\"}",
            mo_machine_item_name((mo_machine_item)i), m->items[i].per_s, m->items[i].spread,
            mo_machine_state_name(m->items[i].state));
    printf("}");
}

bytes_text training_time(const training_run *r, double seconds, double plain) {
    bytes_text out;
    if (!training_machine(r)) snprintf(out.text, sizeof out.text, "%.3f x", seconds / plain);
    else if (seconds < 1) snprintf(out.text, sizeof out.text, "%.3g ms", 1e3 * seconds);
    else snprintf(out.text, sizeof out.text, "%.3g s", seconds);
    return out;
}
