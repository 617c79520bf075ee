// footprint.c - what memopt estimate says of a model by formulas alone.
#include "footprint.h"

#include <string.h>

#include "model_flags.h"

void footprint_flags_list(footprint_flags *f, flag *flags) {
    const flag list[N_FOOTPRINT_FLAGS] = {
        {"--infer", FLAG_SWITCH, &f->infer},
        {"--dtype", FLAG_TEXT, &f->weights},
        {"--rest", FLAG_TEXT, &f->rest},
        {"--compute", FLAG_TEXT, &f->compute},
        {"--gradients", FLAG_TEXT, &f->gradients},
        {"--cache", FLAG_TEXT, &f->cache},
        {"--master", FLAG_SWITCH, &f->master},
        {"--optim", FLAG_TEXT, &f->optim},
        {"--batch", FLAG_BYTES, &f->batch},
        {"--seq", FLAG_BYTES, &f->seq},
        {"--prompt", FLAG_BYTES, &f->prompt},
        {"--recompute", FLAG_TEXT, &f->recompute},
        {"--math", FLAG_SWITCH, &f->math},
        {"--dropout", FLAG_SWITCH, &f->dropout},
        {"--chunk", FLAG_BYTES, &f->chunk},
        {"--lora", FLAG_BYTES, &f->lora_rank},
        {"--lora-targets", FLAG_TEXT, &f->lora_targets},
        {"--lora-dtype", FLAG_TEXT, &f->lora_format},
        {"--devices", FLAG_BYTES, &f->devices},
        {"--zero", FLAG_TEXT, &f->zero},
        {"--runtime", FLAG_BYTES, &f->runtime_bytes},
        {"--slack", FLAG_SHARE, &f->slack},
    };
    memcpy(flags, list, sizeof list);
}

// The number of a word; NULL = 0.
static int parse_word(const char *flag_name, const char *word, const char *const *words, int n) {
    if (!word) return 0;
    for (int i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0) return i;
    fail(EXIT_USAGE, "%s: unknown '%s' (see --help)", flag_name, word);
}

static mo_footprint_format parse_format(
    const char *flag_name, const char *word, mo_gguf_type *gguf) {
    mo_gguf_type type = MO_GGUF_TYPE_COUNT;
    if (!word) return MO_FOOTPRINT_DEFAULT;
    const mo_footprint_format format = mo_footprint_format_find(word, &type);
    if (format == MO_FOOTPRINT_FORMAT_COUNT || (format == MO_FOOTPRINT_GGUF && !gguf))
        fail(EXIT_USAGE, "%s: unknown '%s' (see --help)", flag_name, word);
    if (gguf) *gguf = type;
    return format;
}

// One of those that numbers are computed in, or has_int8.
static mo_footprint_format parse_float(const char *flag_name, const char *word, bool has_int8) {
    const mo_footprint_format format = parse_format(flag_name, word, NULL);
    if (format > MO_FOOTPRINT_F16 && !(has_int8 && format == MO_FOOTPRINT_INT8))
        fail(EXIT_USAGE, "%s: '%s' is not f32, bf16%s", flag_name, word,
            has_int8 ? ", f16 or int8" : " or f16");
    return format;
}

static mo_footprint_format format_of_dtype(mo_dtype dtype) {
    switch (dtype) {
    case MO_DTYPE_F32: return MO_FOOTPRINT_F32;
    case MO_DTYPE_F16: return MO_FOOTPRINT_F16;
    case MO_DTYPE_BF16: return MO_FOOTPRINT_BF16;
    default: return MO_FOOTPRINT_DEFAULT;
    }
}

// As most bytes of the file are stored, or as its config.json says.
static mo_footprint_format format_of_file(const mo_model_file_info *info, mo_gguf_type *gguf) {
    const mo_model_file_type *most = NULL;
    for (size_t i = 0; i < info->n_types; i++)
        if (!most || info->types[i].bytes > most->bytes) most = &info->types[i];
    if (!most) return format_of_dtype(info->dtype);
    const mo_footprint_format format = format_of_dtype(mo_dtype_find(most->name));
    if (format != MO_FOOTPRINT_DEFAULT || info->format != MO_MODEL_FILE_GGUF) return format;
    *gguf = mo_gguf_type_find(most->name);
    return MO_FOOTPRINT_GGUF;
}

static bool has_file(const mo_model_file_info *info) { return info->kind[0] != '\0'; }

// What the file is made for, but not more than a training run of today.
static size_t default_seq(const mo_model *m, const mo_model_file_info *info) {
    const size_t context = m->arch == MO_MODEL_GPT2 ? m->positions : info->context;
    return context != 0 && context < 2048 ? context : 2048;
}

mo_footprint_desc footprint_flags_read(
    const footprint_flags *f, const mo_model *m, const mo_model_file_info *info) {
    static const char *const optims[] = {"f32", "8bit", "4bit", "bf16"};
    static const char *const recomputes[] = {"none", "selective", "full"};
    static const char *const targets[] = {"all", "qv", "attention"};
    static const char *const zeros[] = {"0", "1", "2", "3"};
    mo_footprint_desc d = {.infer = f->infer,
        .rest = parse_float("--rest", f->rest, false),
        .compute = parse_float("--compute", f->compute, false),
        .gradients = parse_float("--gradients", f->gradients, false),
        .cache = parse_float("--cache", f->cache, true),
        .master = f->master,
        .optim = (mo_footprint_optim)parse_word("--optim", f->optim, optims, 4),
        .batch = f->batch,
        .seq = f->seq ? f->seq : default_seq(m, info),
        .prompt = f->prompt,
        .math = f->math,
        .dropout = f->dropout,
        .recompute = (mo_footprint_recompute)parse_word("--recompute", f->recompute, recomputes, 3),
        .chunk = f->chunk,
        .lora_rank = f->lora_rank,
        .lora_targets =
            (mo_footprint_targets)parse_word("--lora-targets", f->lora_targets, targets, 3),
        .lora_format = parse_float("--lora-dtype", f->lora_format, false),
        .devices = f->devices,
        .zero = parse_word("--zero", f->zero, zeros, 4),
        .runtime_bytes = f->runtime_bytes,
        .slack = f->slack.percent / 100};
    if (f->slack.bytes) fail(EXIT_USAGE, "--slack: a percentage such as 5%%");
    d.weights = parse_format("--dtype", f->weights, &d.gguf);
    if (!f->weights && has_file(info)) d.weights = format_of_file(info, &d.gguf);
    return d;
}

// ---- as text ----------------------------------------------------------------------------------

static void print_file(const mo_model_file_info *info) {
    if (!has_file(info)) return;
    if (info->context) printf("made for sequences of %zu", info->context);
    for (size_t i = 0; i < info->n_types; i++)
        printf("%s%s%s %llu of %llu", i || info->context ? ", " : "",
            i ? "" : "stored: ", info->types[i].name, (unsigned long long)info->types[i].bytes,
            (unsigned long long)info->bytes);
    if (info->context || info->n_types) printf("%s\n", info->n_types ? " bytes" : "");
}

void footprint_print(
    const mo_model *m, const mo_model_file_info *info, const mo_footprint *f, bool explain) {
    model_print(stdout, m);
    print_file(info);
    putchar('\n');
    for (size_t i = 0; i < f->n; i++) {
        const mo_footprint_line *line = &f->lines[i];
        printf("%-12s %12s %18llu%s", line->name, text_bytes(line->bytes).text,
            (unsigned long long)line->bytes, line->apart ? "  not at the peak" : "");
        if (explain) printf("\n    %s", line->formula);
        putchar('\n');
    }
    printf("%-12s %12s %18llu  at the peak, on each device\n", "total", text_bytes(f->total).text,
        (unsigned long long)f->total);
}

// ---- as JSON ----------------------------------------------------------------------------------

static void json_file(const mo_model_file_info *info) {
    printf(",\"file\":{\"kind\":");
    json_string(stdout, info->kind);
    printf(",\"context\":%zu,\"numbers\":%llu,\"bytes\":%llu,\"types\":[", info->context,
        (unsigned long long)info->numbers, (unsigned long long)info->bytes);
    for (size_t i = 0; i < info->n_types; i++)
        printf("%s{\"type\":\"%s\",\"tensors\":%llu,\"numbers\":%llu,\"bytes\":%llu}", i ? "," : "",
            info->types[i].name, (unsigned long long)info->types[i].n_tensors,
            (unsigned long long)info->types[i].numbers, (unsigned long long)info->types[i].bytes);
    printf("]}");
}

void footprint_json(
    const mo_model *m, const mo_model_file_info *info, const mo_footprint *f, size_t devices) {
    putchar('{');
    model_json(m);
    if (has_file(info)) json_file(info);
    printf(",\"trained\":%llu,\"devices\":%zu,\"lines\":[", (unsigned long long)f->trained,
        devices ? devices : 1);
    for (size_t i = 0; i < f->n; i++) {
        printf("%s{\"name\":\"%s\",\"bytes\":%llu,\"at_peak\":%s", i ? "," : "", f->lines[i].name,
            (unsigned long long)f->lines[i].bytes, f->lines[i].apart ? "false" : "true");
        json_after(",\"formula\":", f->lines[i].formula);
        putchar('}');
    }
    printf("],\"total_bytes\":%llu}\n", (unsigned long long)f->total);
}
