/* mo_machine.c - see mo_machine.h.
 *
 * The memory is four blocks of n floats: x and y are only read, and hold numbers that nothing makes
 * infinite or denormal; z and w are written. */

enum {
    MOI_MACHINE_RUNS = 3, /* of an item, at least */
    MOI_MACHINE_MOST = 64,
    MOI_MACHINE_PAGE = 1 << 20,
    MOI_MACHINE_PAGES = 16
};

static const size_t moi_machine_least = (size_t)8 << 20;

typedef struct moi_machine_bench {
    mo_machine_desc desc;
    mo_machine *machine;
    float *x, *y, *z, *w;
    size_t n; /* floats of a block */
    mo_gemm_env env;
    mo_optim_desc optim;
    mo_optim_state state;
    mo_page pages;
    int has_pages;
    double begun, limit;
} moi_machine_bench;

/* A run of an item, and how much it is of the item's unit. */
typedef struct moi_machine_kind {
    const char *name, *unit;
    double typical; /* in a second */
    double (*run)(moi_machine_bench *b, mo_machine_item item);
} moi_machine_kind;

/* ---- products and attention ----------------------------------------------------------------- */

typedef struct moi_machine_shape {
    size_t m, n, k;
    int gradient;
} moi_machine_shape;

static const moi_machine_shape moi_machine_shapes[] = {
    {512, 1024, 256, 0}, {512, 256, 1024, 0}, {256, 1024, 512, 1}, {16, 512, 512, 0}};

static double moi_machine_gemm(moi_machine_bench *b, mo_machine_item item) {
    const moi_machine_shape *s = &moi_machine_shapes[item];
    mo_gemm_desc d;
    memset(&d, 0, sizeof d);
    d.m = s->m, d.n = s->n, d.k = s->k;
    d.trans_a = s->gradient;
    d.beta = s->gradient ? 1.0f : 0.0f;
    if (mo_gemm(&b->env, &d, b->x, b->y, b->z) != MO_OK) return 0;
    return 2.0 * (double)s->m * (double)s->n * (double)s->k;
}

enum { MOI_MACHINE_SEQ = 256, MOI_MACHINE_HEADS = 4, MOI_MACHINE_WIDTH = 256 };

static double moi_machine_attention(moi_machine_bench *b, mo_machine_item item) {
    mo_attention_desc d;
    mo_attention_tensors t;
    const size_t square = (size_t)MOI_MACHINE_SEQ * MOI_MACHINE_WIDTH;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    d.batch = 1, d.seq = MOI_MACHINE_SEQ, d.heads = MOI_MACHINE_HEADS;
    d.head_size = MOI_MACHINE_WIDTH / MOI_MACHINE_HEADS;
    d.stride = 3 * (size_t)MOI_MACHINE_WIDTH;
    d.parallel = b->desc.parallel;
    d.workspace = b->env.workspace;
    d.workspace_size = b->env.workspace_size;
    t.q = b->x, t.k = b->x + MOI_MACHINE_WIDTH, t.v = t.k + MOI_MACHINE_WIDTH;
    t.out = b->z, t.lse = b->z + square;
    t.dout = b->y;
    t.dq = b->w, t.dk = b->w + MOI_MACHINE_WIDTH, t.dv = t.dk + MOI_MACHINE_WIDTH;
    mo_status status =
        item == MO_MACHINE_ATTENTION ? mo_attention_forward(&d, &t) : mo_attention_backward(&d, &t);
    return status == MO_OK ? (double)square * MOI_MACHINE_SEQ : 0;
}

/* ---- passes over memory --------------------------------------------------------------------- */

static void moi_machine_copy_part(const void *context, size_t begin, size_t end) {
    const moi_machine_bench *b = (const moi_machine_bench *)context;
    memcpy(b->z + begin, b->x + begin, (end - begin) * sizeof(float));
    memcpy(b->w + begin, b->y + begin, (end - begin) * sizeof(float));
}

static double moi_machine_copy(moi_machine_bench *b, mo_machine_item item) {
    (void)item;
    mo_parallel_for(b->desc.parallel, b->n, 4096, moi_machine_copy_part, b);
    return 2.0 * (double)(b->n * sizeof(float));
}

static double moi_machine_norm(moi_machine_bench *b, mo_machine_item item) {
    mo_layernorm_desc d;
    memset(&d, 0, sizeof d);
    d.channels = MOI_MACHINE_WIDTH;
    d.n = b->n / d.channels;
    d.weight = b->y, d.bias = b->y + d.channels;
    d.mean = b->w, d.rstd = b->w + d.n;
    d.dweight = d.rstd + d.n, d.dbias = d.dweight + d.channels;
    d.parallel = b->desc.parallel;
    mo_status status = item == MO_MACHINE_NORM ? mo_layernorm_forward(&d, b->x, b->z)
                                               : mo_layernorm_backward(&d, b->x, b->y, b->z);
    return status == MO_OK ? (double)(d.n * d.channels) : 0;
}

static double moi_machine_gelu(moi_machine_bench *b, mo_machine_item item) {
    if (item == MO_MACHINE_GELU) mo_gelu_forward(b->x, b->z, b->n, b->desc.parallel);
    else mo_gelu_backward(b->x, b->y, b->z, b->n, b->desc.parallel);
    return (double)b->n;
}

static double moi_machine_codes(moi_machine_bench *b, mo_machine_item item) {
    mo_compress_desc d;
    memset(&d, 0, sizeof d);
    d.parallel = b->desc.parallel;
    mo_status status = item == MO_MACHINE_COMPRESS ? mo_compress_encode(&d, b->x, b->n, b->w)
                                                   : mo_compress_decode(&d, b->w, b->n, b->z);
    return status == MO_OK ? (double)b->n : 0;
}

/* Half a block's numbers, whose states are in w. */
static int moi_machine_states_begin(moi_machine_bench *b, int item) {
    static const mo_optim_precision precisions[] = {
        MO_OPTIM_F32, MO_OPTIM_8BIT, MO_OPTIM_BF16, MO_OPTIM_4BIT};
    memset(&b->optim, 0, sizeof b->optim);
    b->optim.precision = precisions[item - MO_MACHINE_UPDATE_F32];
    b->optim.lr = 1e-4;
    b->optim.parallel = b->desc.parallel;
    memset(b->w, 0, b->n * sizeof(float));
    return mo_optim_state_init(&b->optim, b->n / 2, b->w, b->n * sizeof(float), &b->state) == MO_OK;
}

static double moi_machine_update(moi_machine_bench *b, mo_machine_item item) {
    (void)item;
    return mo_optim_step(&b->optim, 1, b->z, b->x, &b->state) == MO_OK ? (double)b->state.n : 0;
}

/* ---- disk ----------------------------------------------------------------------------------- */

static void moi_machine_disk_open(moi_machine_bench *b) {
    mo_page_desc d;
    memset(&d, 0, sizeof d);
    d.size = (uint64_t)MOI_MACHINE_PAGES * MOI_MACHINE_PAGE;
    d.page_bytes = MOI_MACHINE_PAGE;
    d.resident_bytes = 4 * (size_t)MOI_MACHINE_PAGE;
    d.folder = b->desc.folder;
    d.reserve = 1;
    if (b->desc.allocator) d.allocator = *b->desc.allocator;
    if (b->desc.log) d.log = *b->desc.log;
    b->has_pages = mo_page_init(&b->pages, &d) == MO_OK;
}

/* All pages in their order, and what was written is in the file then. */
static double moi_machine_disk(moi_machine_bench *b, mo_machine_item item) {
    const int write = item == MO_MACHINE_DISK_WRITE;
    if (!b->has_pages || mo_page_walk(&b->pages, NULL, MOI_MACHINE_PAGES) != MO_OK) return 0;
    for (size_t i = 0; i < MOI_MACHINE_PAGES; i++) {
        void *data;
        mo_page_access access = write ? MO_PAGE_OVERWRITE : MO_PAGE_READ;
        if (mo_page_acquire(&b->pages, i, access, &data) != MO_OK) return 0;
        if (write) memcpy(data, b->x, MOI_MACHINE_PAGE);
        if (mo_page_release(&b->pages, i) != MO_OK) return 0;
    }
    if (mo_page_sync(&b->pages) != MO_OK) return 0;
    return (double)MOI_MACHINE_PAGES * MOI_MACHINE_PAGE;
}

/* ---- items ---------------------------------------------------------------------------------- */

static const moi_machine_kind moi_machine_kinds[MO_MACHINE_ITEM_COUNT] = {
    {"gemm.wide", "flop", 1e11, moi_machine_gemm},
    {"gemm.narrow", "flop", 1e11, moi_machine_gemm},
    {"gemm.gradient", "flop", 1e11, moi_machine_gemm},
    {"gemm.few", "flop", 4e10, moi_machine_gemm},
    {"attention", "seq^2 channels", 2e10, moi_machine_attention},
    {"attention.backward", "seq^2 channels", 1e10, moi_machine_attention},
    {"copy", "bytes", 5e9, moi_machine_copy},
    {"norm", "numbers", 1.25e9, moi_machine_norm},
    {"norm.backward", "numbers", 8e8, moi_machine_norm},
    {"gelu", "numbers", 1.25e9, moi_machine_gelu},
    {"gelu.backward", "numbers", 8e8, moi_machine_gelu},
    {"compress", "numbers", 2e9, moi_machine_codes},
    {"expand", "numbers", 2e9, moi_machine_codes},
    {"update.f32", "numbers", 3.6e8, moi_machine_update},
    {"update.8bit", "numbers", 2.5e8, moi_machine_update},
    {"update.bf16", "numbers", 3e8, moi_machine_update},
    {"update.4bit", "numbers", 2.5e8, moi_machine_update},
    {"disk.write", "bytes", 5e8, moi_machine_disk},
    {"disk.read", "bytes", 1e9, moi_machine_disk},
};

static int moi_machine_is_disk(int item) { return item >= MO_MACHINE_DISK_WRITE; }
static int moi_machine_is_update(int item) {
    return item >= MO_MACHINE_UPDATE_F32 && item <= MO_MACHINE_UPDATE_4BIT;
}

mo_machine mo_machine_typical(void) {
    mo_machine m;
    memset(&m, 0, sizeof m);
    for (int i = 0; i < MO_MACHINE_ITEM_COUNT; i++) m.items[i].per_s = moi_machine_kinds[i].typical;
    return m;
}

static double moi_machine_now(const moi_machine_bench *b) { return moi_profile_now(b->desc.clock); }

/* Runs until its share of the time is over: one that is not timed, then at least so many timed
 * ones. Behind the limit of the whole none begins, and the first one counts where it is the only
 * one; a clock that stands still is not waited for. Returns how much a run does; 0 = it failed. */
static double moi_machine_time(
    moi_machine_bench *b, int item, double end, double *samples, size_t *n) {
    const double first = moi_machine_now(b);
    double work = 0;
    *n = 0;
    for (int i = 0; i <= MOI_MACHINE_MOST; i++) {
        const double begun = moi_machine_now(b);
        if (i > MOI_MACHINE_RUNS && (begun >= end || begun <= first)) break;
        work = moi_machine_kinds[item].run(b, (mo_machine_item)item);
        const double now = moi_machine_now(b);
        if (work <= 0) return 0;
        const int is_last = now >= b->begun + b->limit;
        if (i > 0 || is_last) samples[(*n)++] = now - begun;
        if (is_last) break;
    }
    return work;
}

static mo_machine_state moi_machine_judge(
    const moi_machine_bench *b, int item, const mo_machine_rate *rate) {
    if (moi_machine_is_disk(item) && !b->pages.stats.is_direct) return MO_MACHINE_CACHED;
    if (rate->n_runs < MOI_MACHINE_RUNS) return MO_MACHINE_SHORT;
    return rate->spread <= 0.25 ? MO_MACHINE_GOOD : MO_MACHINE_NOISY;
}

/* From the lower quartile to the upper one; of three runs from the least to the most. */
static double moi_machine_range(const double *samples, size_t n) {
    return moi_profile_kth(samples, n, (3 * n) / 4) - moi_profile_kth(samples, n, (n - 1) / 4);
}

static void moi_machine_item_measure(moi_machine_bench *b, int item, double end) {
    double samples[MOI_MACHINE_MOST + 1];
    size_t n;
    mo_machine_rate *rate = &b->machine->items[item];
    const int can = !moi_machine_is_update(item) || moi_machine_states_begin(b, item);
    const double work = can ? moi_machine_time(b, item, end, samples, &n) : 0;
    if (work <= 0) {
        rate->state = MO_MACHINE_FAILED;
        return;
    }
    const double middle = moi_profile_middle(samples, n);
    rate->n_runs = n;
    rate->state = MO_MACHINE_NO_CLOCK;
    if (!(middle > 0)) return;
    rate->per_s = work / middle;
    rate->spread = moi_machine_range(samples, n) / middle;
    rate->state = moi_machine_judge(b, item, rate);
}

/* Each item has its share of what is left. */
static void moi_machine_items(moi_machine_bench *b) {
    const int n = b->desc.folder ? MO_MACHINE_ITEM_COUNT : MO_MACHINE_DISK_WRITE;
    b->begun = moi_machine_now(b);
    for (int i = 0; i < n; i++) {
        const double now = moi_machine_now(b), left = b->begun + b->limit - now;
        moi_machine_item_measure(b, i, now + left / (n - i));
    }
    b->machine->seconds = moi_machine_now(b) - b->begun;
}

/* ---- measuring ------------------------------------------------------------------------------ */

static void moi_machine_fill(const void *context, size_t begin, size_t end) {
    const moi_machine_bench *b = (const moi_machine_bench *)context;
    for (size_t i = begin; i < end; i++) {
        b->x[i] = 0.01f * (float)(int)(i * 7919 % 201 + 1);
        b->y[i] = 0.01f * (float)((int)(i * 104729 % 199) - 99) + 0.005f;
        b->z[i] = b->x[i];
    }
    memset(b->w + begin, 0, (end - begin) * sizeof(float));
}

static size_t moi_machine_workspace(const moi_machine_bench *b) {
    mo_attention_desc attention;
    mo_gemm_desc largest;
    memset(&largest, 0, sizeof largest);
    memset(&attention, 0, sizeof attention);
    largest.m = 512, largest.n = largest.k = 1024;
    attention.batch = 1, attention.seq = MOI_MACHINE_SEQ, attention.heads = MOI_MACHINE_HEADS;
    attention.head_size = MOI_MACHINE_WIDTH / MOI_MACHINE_HEADS;
    attention.parallel = b->desc.parallel;
    return moi_max(mo_gemm_workspace_size(b->desc.parallel, &largest),
        mo_attention_workspace_size(&attention));
}

static mo_status moi_machine_check(const mo_machine_desc *desc, moi_machine_bench *b) {
    memset(b, 0, sizeof *b);
    if (desc) b->desc = *desc;
    b->limit = b->desc.seconds;
    if (b->limit == 0) b->limit = 1;
    if (b->desc.memory == 0) b->desc.memory = (size_t)64 << 20;
    if (!(b->limit > 0 && b->limit <= 3600) || b->desc.memory < moi_machine_least)
        return MO_E_INVALID;
    b->n = b->desc.memory / 4 / sizeof(float) / 4096 * 4096;
    return MO_OK;
}

mo_status mo_machine_measure(mo_machine *machine, const mo_machine_desc *desc) {
    moi_machine_bench b;
    mo_machine made = mo_machine_typical();
    size_t workspace, size;
    mo_status status = machine ? moi_machine_check(desc, &b) : MO_E_INVALID;
    if (status != MO_OK) return status;
    workspace = moi_machine_workspace(&b);
    if (!moi_align_up(workspace, MOI_CACHE_LINE, &workspace) ||
        !moi_add(4 * b.n * sizeof(float), workspace, &size))
        return MO_E_OVERFLOW;
    b.x = (float *)mo_alloc(b.desc.allocator, size, MOI_CACHE_LINE);
    if (!b.x) return MO_E_NO_MEMORY;
    b.y = b.x + b.n, b.z = b.y + b.n, b.w = b.z + b.n;
    b.env.parallel = b.desc.parallel;
    b.env.cblas = b.desc.cblas;
    b.env.workspace = b.w + b.n;
    b.env.workspace_size = workspace;
    b.machine = &made;
    made.n_threads = (size_t)mo_parallel_threads(b.desc.parallel);
    mo_parallel_for(b.desc.parallel, b.n, 4096, moi_machine_fill, &b);
    if (b.desc.folder) moi_machine_disk_open(&b);
    moi_machine_items(&b);
    if (b.has_pages) mo_page_free(&b.pages);
    mo_free(b.desc.allocator, b.x, size, MOI_CACHE_LINE);
    *machine = made;
    return MO_OK;
}

/* ---- seconds of a product ------------------------------------------------------------------- */

static double moi_machine_product_bytes(double m, double n, double k, int added) {
    return 4 * (m * k + k * n + (added ? 2 : 1) * m * n);
}

/* Seconds of a flop and of a byte: those of the few rows, and of the other shapes together. */
static void moi_machine_solve(const mo_machine *machine, double *flop_s, double *byte_s) {
    double flops[2] = {0, 0}, bytes[2] = {0, 0}, seconds[2] = {0, 0};
    for (int i = 0; i < 4; i++) {
        const moi_machine_shape *s = &moi_machine_shapes[i];
        const double m = (double)s->m, n = (double)s->n, k = (double)s->k;
        const int few = i == MO_MACHINE_GEMM_FEW;
        flops[few] += 2 * m * n * k;
        bytes[few] += moi_machine_product_bytes(m, n, k, s->gradient);
        seconds[few] += 2 * m * n * k / machine->items[i].per_s;
    }
    const double det = flops[0] * bytes[1] - flops[1] * bytes[0];
    *byte_s = (flops[0] * seconds[1] - flops[1] * seconds[0]) / det;
    if (*byte_s < 0) *byte_s = 0;
    *flop_s = (seconds[0] - bytes[0] * *byte_s) / flops[0];
    if (*flop_s > 0) return;
    *flop_s = 0;
    *byte_s = seconds[0] / bytes[0];
}

double mo_machine_product_s(const mo_machine *machine, double m, double n, double k, int added) {
    double flop_s, byte_s;
    if (!machine) return 0;
    moi_machine_solve(machine, &flop_s, &byte_s);
    return 2 * m * n * k * flop_s + moi_machine_product_bytes(m, n, k, added) * byte_s;
}

/* ---- text ----------------------------------------------------------------------------------- */

static int moi_machine_has(mo_machine_item item) {
    return item >= MO_MACHINE_GEMM_WIDE && item < MO_MACHINE_ITEM_COUNT;
}

const char *mo_machine_item_name(mo_machine_item item) {
    return moi_machine_has(item) ? moi_machine_kinds[item].name : "?";
}

const char *mo_machine_item_unit(mo_machine_item item) {
    return moi_machine_has(item) ? moi_machine_kinds[item].unit : "?";
}

/* Without %f, whose decimal point follows the locale. */
static moi_track_text moi_machine_number(double value) {
    moi_track_text out;
    const long long hundredths = (long long)(value * 100 + 0.5);
    snprintf(out.text, sizeof out.text, "%lld.%02lld", hundredths / 100, hundredths % 100);
    return out;
}

static const char *const moi_machine_states[MO_MACHINE_STATE_COUNT] = {
    "typical", "good", "noisy", "short", "cached", "no clock", "failed"};

const char *mo_machine_state_name(mo_machine_state state) {
    return state >= MO_MACHINE_ABSENT && state < MO_MACHINE_STATE_COUNT ? moi_machine_states[state]
                                                                        : "?";
}

static void moi_machine_row(moi_track_out *out, const mo_machine *machine, int item) {
    const mo_machine_rate *rate = &machine->items[item];
    const mo_machine_item at = (mo_machine_item)item;
    moi_track_print(out, "%-19s %8s G %-14s %5s %%  %4llu  %s\n", mo_machine_item_name(at),
        moi_machine_number(rate->per_s * 1e-9).text, mo_machine_item_unit(at),
        moi_svg_number(100 * rate->spread).text, (unsigned long long)rate->n_runs,
        mo_machine_state_name(rate->state));
}

mo_status mo_machine_write_text(const mo_machine *machine, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!machine || !writer || !writer->write) return MO_E_INVALID;
    moi_track_print(
        &out, "%-19s %10s %-14s %7s  %4s\n", "what", "a second", "of", "spread", "runs");
    for (int i = 0; i < MO_MACHINE_ITEM_COUNT; i++) moi_machine_row(&out, machine, i);
    return out.status;
}
