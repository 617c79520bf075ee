// options.c - the command line.
#include "app.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// In parts, since C has a limit for one literal.
static const char *const usage[] = {
    "train_gpt - train a GPT on text, within a memory budget\n"
    "\n"
    "  --text FILE...         train on the bytes of these files (vocabulary 256)\n"
    "  --tokens FILE          or on tokens as llm.c writes them: 256 int32 {20240520, 1, count},\n"
    "                         then uint16; or {20240801, 7, count}, then uint32\n"
    "  --shuffle              sequences in another order in each epoch, by --seed\n"
    "  --arch gpt2|llama      LayerNorm, GELU, learned positions; or RMSNorm, SwiGLU, rotary "
    "ones,\n"
    "                         without biases (that of --init or --resume, else gpt2)\n"
    "  --rope-theta X         base of llama's rotary positions (10000)\n"
    "  --kv-heads N           heads of k and v that llama's heads share (as many as --heads)\n"
    "  --layers N             blocks (6)            --channels N   width (384)\n"
    "  --heads N              attention heads (6)   --seq N        tokens in a sequence (256)\n"
    "  --batch N              sequences in a batch (4)\n"
    "  --accum N              batches in an update (1)\n"
    "  --steps N              updates in this run (100); 0: only load, --sample and --save\n"
    "  --lr X                 step size (3e-4)      --weight-decay X   decoupled (0)\n"
    "  --clip X               limit of the gradient's global norm (0 = none)\n"
    "  --seed N               of the initial weights, --shuffle and the sample (1337)\n"
    "  --init FILE            start from a safetensors file with Hugging Face's names of GPT-2\n"
    "                         or Llama\n"
    "  --distill FILE         learn from the words of a trained model too: such a file, of any "
    "size\n"
    "                         and of the same vocabulary; or distill=FILE in --strategy, where no\n"
    "                         comma is in the name. The loss is then that of both\n"
    "  --distill-weight X     of the teacher's words, the rest is that of the text (0.5)\n"
    "  --distill-temperature X   divides the logits of both (2)\n"
    "  --freeze NAME,...      parameters that stay as they are, without gradients and states: the\n"
    "                         first parts of their names, or a pattern: h.0,wte.weight,*.bias\n"
    "  --valid X              hold out the end of the text, a part of it (0.1) or so many tokens,\n"
    "                         and print its loss at the end\n"
    "  --device D             cpu (default); cl: an OpenCL device, the best one, or the one that\n"
    "                         MEMOPT_CL_DEVICE names; cl:P.D: device D of platform P; auto: a GPU\n"
    "                         if there is one, else the CPU; list: print them\n"
    "  --threads N            (all); where other programs run too, OMP_WAIT_POLICY=passive helps\n"
    "  --blas LIBRARY         matrix products by the cblas_sgemm of this shared library\n"
    "  --budget SIZE          bytes, with K, M or G (1024), or N%: of what --strategy none needs\n"
    "  --strategy S           none: plain; auto: the fastest that fits the budget (default); or a\n"
    "                         list, with the rest plain, or left open by auto in the list:\n"
    "        checkpoint=none|light|block|sqrt   what backward computes again, or\n"
    "        checkpoint=optimal                 the fastest schedule of halves of blocks that "
    "fits\n"
    "        offload                            optimal, which may also move activations to host\n"
    "                                           memory outside the budget; auto never does\n"
    "        act=8|4                            keep saved activations in so many bits, rounded\n"
    "                                           stochastically, and compute again what is cheap;\n"
    "                                           optimal: where that is faster\n"
    "        accum=N                            split each batch into N micro-batches\n"
    "        optim=f32|bf16|8bit|4bit           AdamW's states\n"
    "        precision=f32|bf16                 matrices of the blocks; bf16 is rounded at\n"
    "                                           random in each update; the rest stays f32\n",
    "        share=N                            each block is applied N times in a row;\n"
    "                                           --layers counts them all\n"
    "        release[=none|tensor|previous|exact]\n"
    "                                           update inside backward: gradients of one\n"
    "                                           stage at a time; --clip by each tensor's norm,\n"
    "                                           by that of the update before, or exactly, with\n"
    "                                           forward and backward twice\n",
    "        paged[=SIZE]                       so many bytes of them resident (an eighth), the "
    "rest\n"
    "                                           in a temporary file, or in the host's memory for "
    "a\n"
    "                                           device; auto only when nothing else fits\n"
    "        loss=full|chunked|ROWS             rows of logits that exist at a time (chunked: "
    "256)\n"
    "        lora=R                             train adapters of rank R alone, alpha 2 R, on the\n"
    "                                           blocks' matrices, shared ones once; --save writes\n"
    "                                           a file for PEFT, and --resume needs --init too\n"
    "        base=f32|bf16|f16|int8|nf4|fp4     how lora keeps those matrices\n",
    "  --page-dir DIR         where the file of paged states goes (TMPDIR, or /tmp)\n"
    "  --page-direct          read and write it past the system's cache, where DIR allows it\n"
    "  --save FILE            weights, optimizer and position, as safetensors, at the end, and "
    "when\n"
    "                         Ctrl-C or SIGTERM ends the run early (a second one does not wait)\n"
    "  --half                 the weights alone, as fp16: for other programs, not to be resumed\n"
    "  --save-every N         also after every N updates\n"
    "  --keep N               save to FILE with the update in its name, run-00000100.safetensors,\n"
    "                         and keep the last N of them\n"
    "  --resume FILE          continue from such a file, or from the newest complete one of "
    "--save\n"
    "                         FILE --keep N, or of a folder; its settings are the defaults then.\n"
    "                         The same bits as without a break, if --strategy says the same accum\n"
    "  --sample N             print N tokens of the model's own at the end\n"
    "  --report DIR           write report.html, timeline.svg, memory.txt, plan.txt, .json, .svg,\n"
    "                         trace.json (ui.perfetto.dev), memory.pickle "
    "(pytorch.org/memory_viz)\n"
    "  --estimate             train nothing: print what the run takes, line by line, to the byte\n"
    "  --compare              train plainly first, then as told; print both side by side, and "
    "what\n"
    "                         each part of the strategy saves; with --report as waterfall.svg too\n"
    "  --json                 one JSON object on standard output, progress on standard error\n"
    "  --help\n"
    "\n"
    "Exit status: 0 done; 1 a file, the budget or the machine does not allow it; 2 usage; 3 ended\n"
    "early by a signal, and saved.\n"};

// Every flag: where its value goes and what it may be. given has one bit per row.
typedef enum { KIND_COUNT, KIND_REAL, KIND_STRING, KIND_SWITCH, KIND_SEED, KIND_OTHER } kind;
typedef struct flag {
    const char *name;
    kind kind;
    size_t offset;
    double least, most;
} flag;
#define AT(field) offsetof(options, field)
static const flag flags[] = {
    {"--text", KIND_OTHER, 0, 0, 0},
    {"--budget", KIND_OTHER, 0, 0, 0},
    {"--strategy", KIND_OTHER, 0, 0, 0},
    {"--tokens", KIND_STRING, AT(tokens), 0, 0},
    {"--init", KIND_STRING, AT(init), 0, 0},
    {"--resume", KIND_STRING, AT(resume), 0, 0},
    {"--save", KIND_STRING, AT(save), 0, 0},
    {"--report", KIND_STRING, AT(report), 0, 0},
    {"--blas", KIND_STRING, AT(blas), 0, 0},
    {"--device", KIND_STRING, AT(device), 0, 0},
    {"--page-dir", KIND_STRING, AT(page_dir), 0, 0},
    {"--page-direct", KIND_SWITCH, AT(page_direct), 0, 0},
    {"--arch", KIND_STRING, AT(arch), 0, 0},
    {"--distill", KIND_STRING, AT(distill), 0, 0},
    {"--freeze", KIND_STRING, AT(freeze), 0, 0},
    {"--distill-weight", KIND_REAL, AT(distill_weight), 0.001, 1},
    {"--distill-temperature", KIND_REAL, AT(distill_temperature), 0.01, 1000},
    {"--valid", KIND_REAL, AT(valid), 1e-6, 1e15},
    {"--rope-theta", KIND_REAL, AT(rope_theta), 1, 1e12},
    {"--layers", KIND_COUNT, AT(layers), 1, 1000},
    {"--channels", KIND_COUNT, AT(channels), 1, 1 << 20},
    {"--heads", KIND_COUNT, AT(heads), 1, 1 << 16},
    {"--kv-heads", KIND_COUNT, AT(kv_heads), 1, 1 << 16},
    {"--seq", KIND_COUNT, AT(seq), 1, 1 << 24},
    {"--batch", KIND_COUNT, AT(batch), 1, 1 << 20},
    {"--accum", KIND_COUNT, AT(accum), 1, 1 << 20},
    {"--steps", KIND_COUNT, AT(steps), 0, 1e9},
    {"--threads", KIND_COUNT, AT(threads), 1, 1024},
    {"--half", KIND_SWITCH, AT(half), 0, 0},
    {"--save-every", KIND_COUNT, AT(save_every), 1, 1e9},
    {"--keep", KIND_COUNT, AT(keep), 1, 1e6},
    {"--sample", KIND_COUNT, AT(sample), 0, 1e9},
    {"--lr", KIND_REAL, AT(lr), 1e-12, 1e3},
    {"--weight-decay", KIND_REAL, AT(weight_decay), 0, 1e3},
    {"--clip", KIND_REAL, AT(clip), 0, 1e30},
    {"--seed", KIND_SEED, AT(seed), 0, 0},
    {"--shuffle", KIND_SWITCH, AT(shuffle), 0, 0},
    {"--compare", KIND_SWITCH, AT(compare), 0, 0},
    {"--estimate", KIND_SWITCH, AT(estimate), 0, 0},
    {"--json", KIND_SWITCH, AT(json), 0, 0},
};
#undef AT
enum { N_FLAGS = sizeof flags / sizeof *flags };
_Static_assert(N_FLAGS <= 64, "given has a bit for each flag");

static int find_flag(const char *name) {
    for (int i = 0; i < N_FLAGS; i++)
        if (strcmp(flags[i].name, name) == 0) return i;
    return -1;
}

bool options_given(const options *o, const char *name) { return (o->given >> find_flag(name)) & 1; }

static bool is_number(const flag *f, const char *text, double *x) {
    char *end;
    errno = 0;
    *x = strtod(text, &end);
    bool whole = f->kind != KIND_COUNT || (*x == floor(*x) && !strpbrk(text, ".eExX"));
    return end != text && !*end && errno != ERANGE && whole && *x >= f->least && *x <= f->most;
}

static double parse_number(const flag *f, const char *text) {
    double x;
    if (!is_number(f, text, &x))
        fail(EXIT_USAGE, "%s: '%s' is not a %s from %.12g to %.12g", f->name, text,
            f->kind == KIND_COUNT ? "whole number" : "number", f->least, f->most);
    return x;
}

static bool is_seed(const char *text, uint64_t *x) {
    char *end;
    errno = 0;
    *x = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && !*end && errno != ERANGE;
}

static uint64_t parse_seed(const char *name, const char *text) {
    uint64_t x;
    if (!is_seed(text, &x))
        fail(EXIT_USAGE, "%s: '%s' is not a whole number below 2^64", name, text);
    return x;
}

bool options_set(options *o, const char *name, const char *value) {
    const flag *f = &flags[find_flag(name)];
    void *field = (char *)o + f->offset;
    double x;
    if (f->kind == KIND_SEED) return is_seed(value, field);
    if (!is_number(f, value, &x)) return false;
    if (f->kind == KIND_COUNT) *(size_t *)field = (size_t)x;
    else *(double *)field = x;
    return true;
}

static void parse_budget(options *o, const char *text) {
    char *end;
    double x = strtod(text, &end);
    o->budget = 0;
    o->budget_percent = 0; // the last --budget counts
    if (end != text && *end == '%' && !end[1] && x > 0 && x <= 100) {
        o->budget_percent = x;
        return;
    }
    o->budget = mo_parse_bytes(text, strlen(text));
    if (o->budget == 0)
        fail(EXIT_USAGE, "--budget: '%s' is not a size such as 300M or 2G, nor a percentage", text);
}

static void write_strategy_log(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    fprintf(stderr, "train_gpt: --strategy: %s\n", text);
}

// The file of a teacher is no part of the strategy: the plain run of --compare has it too.
static void take_distill(options *o, const mo_strategy_text *asked) {
    static char path[4096];
    if (!asked->distill) return;
    if (asked->distill_size >= sizeof path)
        fail(EXIT_USAGE, "--strategy: distill: the file name is too long");
    memcpy(path, asked->distill, asked->distill_size);
    path[asked->distill_size] = 0;
    o->distill = path;
}

// The last --strategy counts, alone.
static void parse_strategy(options *o, const char *text) {
    static const mo_log log = {write_strategy_log, NULL};
    mo_strategy_text asked;
    if (mo_strategy_parse(text, &o->strategy, &asked, &log) != MO_OK) exit(EXIT_USAGE);
    o->open = asked.open;
    o->named = asked.named;
    take_distill(o, &asked);
}

void format_mib(uint64_t bytes, char *text, size_t size) {
    snprintf(text, size, "%.1f MiB", (double)bytes / 0x1p20);
}

static int parse_flag(options *o, int at, int argc, const char *const *argv) {
    int i = find_flag(argv[at]);
    if (i < 0) fail(EXIT_USAGE, "unknown flag '%s' (see --help)", argv[at]);
    const flag *f = &flags[i];
    void *field = (char *)o + f->offset;
    o->given |= (uint64_t)1 << i;
    if (f->kind == KIND_SWITCH) {
        *(bool *)field = true;
        return at + 1;
    }
    if (at + 1 >= argc || (strncmp(argv[at + 1], "--", 2) == 0 && argv[at + 1][2]))
        fail(EXIT_USAGE, "%s: value missing", f->name);
    const char *value = argv[at + 1];
    if (strcmp(f->name, "--text") == 0) {
        o->texts = argv + at + 1;
        o->n_texts = 0;
        for (at++; at < argc && strncmp(argv[at], "--", 2) != 0; at++) o->n_texts++;
        return at;
    }
    if (strcmp(f->name, "--budget") == 0) parse_budget(o, value);
    else if (strcmp(f->name, "--strategy") == 0) parse_strategy(o, value);
    else if (f->kind == KIND_COUNT) *(size_t *)field = (size_t)parse_number(f, value);
    else if (f->kind == KIND_REAL) *(double *)field = parse_number(f, value);
    else if (f->kind == KIND_SEED) *(uint64_t *)field = parse_seed(f->name, value);
    else *(const char **)field = value;
    return at + 2;
}

_Noreturn static void print_usage(void) {
    for (size_t i = 0; i < sizeof usage / sizeof *usage; i++) fputs(usage[i], stdout);
    if (ferror(stdout) || fflush(stdout) != 0)
        fail(EXIT_BAD, "standard output: %s", strerror(errno));
    exit(0);
}

void options_parse(options *o, int argc, const char *const *argv) {
    memset(o, 0, sizeof *o);
    o->layers = 6, o->channels = 384, o->heads = 6, o->seq = 256;
    o->batch = 4, o->accum = 1, o->steps = 100;
    o->lr = 3e-4;
    o->rope_theta = 10000;
    o->distill_weight = 0.5, o->distill_temperature = 2;
    o->seed = 1337;
    o->device = "cpu";
    o->strategy.accum = 1;
    o->open = OPEN_ALL;
    for (int at = 1; at < argc;) {
        if (strcmp(argv[at], "--help") == 0) {
            print_usage();
        }
        at = parse_flag(o, at, argc, argv);
    }
    if (strcmp(o->device, "list") == 0) device_list();
    if (o->arch && !gpt_arch_find(o->arch))
        fail(EXIT_USAGE, "--arch: '%s' is neither gpt2 nor llama", o->arch);
    if (o->compare && o->estimate) fail(EXIT_USAGE, "--compare and --estimate exclude each other");
    if (o->compare && o->steps == 0) fail(EXIT_USAGE, "--compare: needs --steps of 1 or more");
    if (!o->texts == !o->tokens) fail(EXIT_USAGE, "give either --text or --tokens (see --help)");
    if (o->blas && strcmp(o->device, "cpu") != 0)
        fail(EXIT_USAGE, "--blas is for --device cpu, not %s", o->device);
    if (!o->save && (o->save_every || o->keep))
        fail(EXIT_USAGE, "%s: needs --save", o->keep ? "--keep" : "--save-every");
    if (o->half && (!o->save || o->save_every || o->keep))
        fail(EXIT_USAGE, "--half: needs --save, and neither --save-every nor --keep");
    if (!o->distill && options_given(o, "--distill-weight"))
        fail(EXIT_USAGE, "--distill-weight: needs --distill");
    if (!o->distill && options_given(o, "--distill-temperature"))
        fail(EXIT_USAGE, "--distill-temperature: needs --distill");
    if (o->resume && o->strategy.lora && !o->init)
        fail(EXIT_USAGE, "--resume: lora needs the --init of the run too");
    if (o->init && o->resume && !o->strategy.lora)
        fail(EXIT_USAGE, "--init and --resume exclude each other");
}
