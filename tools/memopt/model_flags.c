// model_flags.c - the sizes of a model from the command line.
#include "model_flags.h"

#include <stdlib.h>
#include <string.h>

void model_flags_list(model_flags *m, flag *flags) {
    const flag list[N_MODEL_FLAGS] = {
        {"--config", FLAG_TEXT, &m->config},
        {"--arch", FLAG_TEXT, &m->arch},
        {"--layers", FLAG_BYTES, &m->layers},
        {"--channels", FLAG_BYTES, &m->channels},
        {"--heads", FLAG_BYTES, &m->heads},
        {"--kv-heads", FLAG_BYTES, &m->kv_heads},
        {"--hidden", FLAG_BYTES, &m->hidden},
        {"--vocab", FLAG_BYTES, &m->vocab},
        {"--positions", FLAG_BYTES, &m->positions},
        {"--untied", FLAG_SWITCH, &m->untied},
    };
    memcpy(flags, list, sizeof list);
}

static void replace(size_t *to, size_t from) {
    if (from != 0) *to = from;
}

// Other heads on matrices that stay as they are; nothing where that cannot be.
static void replace_heads(const model_flags *f, mo_model *m) {
    const size_t q = m->heads * m->head_size, k = m->kv_heads * m->head_size;
    m->head_size = q % f->heads == 0 ? q / f->heads : 0;
    m->kv_heads = m->head_size && k % m->head_size == 0 ? k / m->head_size : 0;
}

// A size that follows from others in a file follows from their replacements too.
static void replace_sizes(const model_flags *f, mo_model *m) {
    if (f->heads && !f->channels) replace_heads(f, m);
    if (f->channels) m->head_size = m->hidden = m->kv_heads = 0;
    replace(&m->layers, f->layers);
    replace(&m->channels, f->channels);
    replace(&m->heads, f->heads);
    replace(&m->kv_heads, f->kv_heads);
    replace(&m->hidden, f->hidden);
    replace(&m->vocab, f->vocab);
    replace(&m->positions, f->positions);
    if (f->untied) m->untied_head = 1;
}

static mo_model_arch parse_arch(const char *name) {
    const mo_model_arch arch = mo_model_arch_find(name);
    if (arch == MO_MODEL_ARCH_COUNT) fail(EXIT_USAGE, "--arch: unknown '%s' (gpt2, llama)", name);
    return arch;
}

static void need(const char *flag_name, size_t value) {
    if (value == 0) fail(EXIT_USAGE, "%s missing (or --config FILE)", flag_name);
}

mo_model model_flags_read(const model_flags *f, mo_model_file_info *info) {
    const mo_model_file_desc desc = {.log = cli_log};
    mo_model m = {0};
    *info = (mo_model_file_info){0};
    if (f->config) {
        if (f->arch) fail(EXIT_USAGE, "--arch: %s says it already", f->config);
        const mo_status status = mo_model_read(&m, info, f->config, &desc);
        if (status == MO_E_UNSUPPORTED) exit(EXIT_USAGE);
        check_said(status);
    } else {
        if (f->arch) m.arch = parse_arch(f->arch);
        need("--layers", f->layers);
        need("--channels", f->channels);
        need("--heads", f->heads);
        need("--vocab", f->vocab);
        if (m.arch == MO_MODEL_GPT2) need("--positions", f->positions);
    }
    replace_sizes(f, &m);
    check_said(mo_model_complete(&m, &cli_log));
    return m;
}

void model_print(FILE *out, const mo_model *m) {
    fprintf(out, "%s: %zu layer%s of %zu channels, %zu head%s of %zu", mo_model_arch_name(m->arch),
        m->layers, plural(m->layers), m->channels, m->heads, plural(m->heads), m->head_size);
    if (m->kv_heads != m->heads) fprintf(out, " (%zu of keys)", m->kv_heads);
    fprintf(out, ", %zu hidden, %zu words: %llu numbers\n", m->hidden, m->vocab,
        (unsigned long long)mo_model_count(m));
}

void model_json(const mo_model *m) {
    printf("\"model\":{\"arch\":\"%s\",\"layers\":%zu,\"channels\":%zu,\"heads\":%zu,"
           "\"kv_heads\":%zu,\"head_size\":%zu,\"hidden\":%zu,\"vocab\":%zu,\"positions\":%zu,"
           "\"untied_head\":%s,\"numbers\":%llu}",
        mo_model_arch_name(m->arch), m->layers, m->channels, m->heads, m->kv_heads, m->head_size,
        m->hidden, m->vocab, m->positions, m->untied_head ? "true" : "false",
        (unsigned long long)mo_model_count(m));
}
