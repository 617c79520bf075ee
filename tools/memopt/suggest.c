// suggest.c - memopt suggest: the strategy to train with under a budget, and why.
#include <string.h>

#include "training.h"

typedef struct suggestion {
    training_run run;
    double seconds, tokens_per_s;
    mo_suggest_result r;
} suggestion;

static void print_change(uint64_t before, uint64_t after) {
    char text[72];
    snprintf(text, sizeof text, "%c%s", after > before ? '+' : '-',
        text_bytes(after > before ? after - before : before - after).text);
    printf(" %12s", after == before ? "" : text);
}

static void print_steps(const suggestion *s) {
    const double plain = s->r.plain.seconds;
    printf("%-62s %12s %12s %10s\n", "", "saved", "bytes", "update");
    printf("%-62s %12s %12s %10s\n", "plain", "", text_bytes(s->r.plain.bytes).text,
        training_time(&s->run, plain, plain).text);
    for (size_t i = 0; i < s->r.n_steps; i++) {
        const mo_suggest_step *step = &s->r.steps[i];
        printf("%-62s", step->text);
        print_change(step->bytes_before, step->bytes_after);
        printf(" %12s %10s\n", text_bytes(step->bytes_after).text,
            training_time(&s->run, step->seconds_after, plain).text);
    }
}

static void print_missed(const suggestion *s) {
    const mo_suggest_trial *missed = &s->r.missed, *best = &s->r.best;
    char strategy[192];
    if (missed->bytes == 0 || missed->seconds >= best->seconds) return;
    mo_strategy_format(&missed->strategy, strategy, sizeof strategy);
    printf("%s would take %.2f times its time, but %s\n", strategy, missed->seconds / best->seconds,
        text_bytes(missed->bytes).text);
}

static void print_text(const suggestion *s) {
    training_print(&s->run);
    printf("\n");
    print_steps(s);
    printf("\n");
    if (!s->r.fits) return;
    if (s->run.budget)
        printf("%s of %s; %zu strateg%s planned\n", text_size(s->r.best.bytes).text,
            text_size(s->run.budget).text, s->r.n_trials, s->r.n_trials == 1 ? "y" : "ies");
    print_missed(s);
    training_command(stdout, &s->run, &s->r.best);
    printf("\n");
}

static void print_json(const suggestion *s) {
    const mo_suggest_result *r = &s->r;
    printf("{\"fits\":%s,\"in_time\":%s,\"budget_bytes\":%zu,\"missing_bytes\":%llu,\"trials\":%zu",
        r->fits ? "true" : "false", r->in_time ? "true" : "false", s->run.budget,
        (unsigned long long)r->missing_bytes, r->n_trials);
    printf(",\"plain\":");
    training_json_trial(&s->run, &r->plain);
    printf("},\"best\":");
    training_json_trial(&s->run, &r->best);
    printf("},\"least\":");
    training_json_trial(&s->run, &r->least);
    printf("},\"steps\":[");
    for (size_t i = 0; i < r->n_steps; i++) {
        const mo_suggest_step *step = &r->steps[i];
        printf("%s{\"text\":\"%s\",\"bytes_before\":%llu,\"bytes_after\":%llu,"
               "\"seconds_before\":%.15g,\"seconds_after\":%.15g}",
            i ? "," : "", step->text, (unsigned long long)step->bytes_before,
            (unsigned long long)step->bytes_after, step->seconds_before, step->seconds_after);
    }
    printf("]");
    training_json_machine(&s->run);
    printf("}\n");
}

// Exit status, with the reason on standard error.
static int answer(const suggestion *s) {
    const mo_suggest_result *r = &s->r;
    char strategy[192];
    if (!r->fits) {
        mo_strategy_format(&r->least.strategy, strategy, sizeof strategy);
        fail(EXIT_NO,
            "does not fit: %s are missing; the smallest budget that works is %llu, with %s",
            text_size(r->missing_bytes).text, (unsigned long long)r->least.bytes, strategy);
    }
    if (!r->in_time)
        fail(EXIT_NO, "too slow: the fastest that fits takes %.3g s for an update, not %.3g",
            r->best.seconds, s->seconds);
    return 0;
}

static int run(const command *self, int argc, const char *const *argv) {
    suggestion s;
    memset(&s, 0, sizeof s);
    flag flags[N_TRAINING_FLAGS + 4];
    size_t n = training_flags(&s.run, flags);
    flags[n++] = (flag){"--json", FLAG_SWITCH, &s.run.json};
    flags[n++] = (flag){"--budget", FLAG_BYTES, &s.run.budget};
    flags[n++] = (flag){"--seconds", FLAG_REAL, &s.seconds};
    flags[n++] = (flag){"--tokens-per-s", FLAG_REAL, &s.tokens_per_s};
    flags_parse(self, argc, argv, flags, n, NULL, 0);
    if (s.seconds > 0 && s.tokens_per_s > 0)
        fail(EXIT_USAGE, "give either --seconds or --tokens-per-s");
    training_open(&s.run, s.seconds > 0 || s.tokens_per_s > 0);
    const mo_training *t = &s.run.training;
    if (s.tokens_per_s > 0)
        s.seconds = (double)t->batch * (double)t->accum * (double)t->seq / s.tokens_per_s;
    mo_suggest_desc d = training_desc(&s.run);
    d.seconds = s.seconds;
    d.explain = 1;
    check(mo_suggest(&d, &s.r), "planning");
    if (s.run.json) print_json(&s);
    else print_text(&s);
    flush_stdout();
    const int status = answer(&s);
    training_close(&s.run);
    return status;
}

const command suggest_command = {"suggest", "the fastest way to train within a budget, and why",
    "  memopt suggest --budget SIZE [flags]\n"
    "\n"
    "Plans the training of a GPT by train_gpt in many ways, allocating nothing, and prints the\n"
    "command line of the fastest that fits: it runs as it is and stays within the budget. Before\n"
    "it, what each part of the strategy saves, in the order of what it costs.\n"
    "\n"
    "  --budget SIZE     bytes, with K, M or G (1024); none: what costs next to nothing\n"
    "  --seconds S       that an update may take; --tokens-per-s R   that it is to do: the "
    "machine\n"
    "                    is measured then\n" TRAINING_HELP "  --json            one object\n"
    "\n"
    "Chosen are: accum (micro-batches), optim (f32, 8bit), loss (rows of logits at a time),\n"
    "checkpoint (none, light, optimal; block and sqrt where nothing else fits), and, where "
    "nothing\n"
    "else fits, paged states. The model is trained on one device; memopt place is for weights on\n"
    "several.\n"
    "\n"
    "Example:\n"
    "  memopt suggest --layers 12 --channels 768 --heads 12 --batch 8 --budget 1G --text book.txt\n"
    "\n"
    "Exit status: 0 it fits; 1 it does not, and standard error says how many bytes are missing "
    "and\n"
    "which budget would do, or it is slower than asked for; 2 usage.\n",
    run};
