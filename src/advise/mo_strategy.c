/* mo_strategy.c - see mo_strategy.h. */

/* ---- words ---------------------------------------------------------------------------------- */

static const char *const moi_strategy_checkpoints[] = {"none", "light", "block", "sqrt", "optimal"};
static const char *const moi_strategy_optims[] = {"f32", "8bit", "bf16", "4bit"};
static const char *const moi_strategy_bases[] = {"f32", "bf16", "f16", "int8", "nf4", "fp4"};
static const char *const moi_strategy_clips[] = {"none", "tensor", "previous", "exact"};

static int moi_strategy_is(const char *item, size_t n, const char *word) {
    return strlen(word) == n && memcmp(item, word, n) == 0;
}

static int moi_strategy_find(const char *word, size_t n, const char *const *words, int count) {
    int i = 0;
    while (i < count && !moi_strategy_is(word, n, words[i])) i++;
    return i;
}

static const char *moi_strategy_word(int i, const char *const *words, int count) {
    return i >= 0 && i < count ? words[i] : "?";
}

const char *mo_strategy_checkpoint_name(mo_strategy_checkpoint checkpoint) {
    return moi_strategy_word(
        (int)checkpoint, moi_strategy_checkpoints, (int)MO_STRATEGY_CHECKPOINT_COUNT);
}
const char *mo_strategy_optim_name(mo_optim_precision precision) {
    return moi_strategy_word((int)precision, moi_strategy_optims, (int)MO_OPTIM_PRECISION_COUNT);
}
const char *mo_strategy_base_name(mo_gemm_type type) {
    return moi_strategy_word((int)type, moi_strategy_bases, (int)MO_GEMM_TYPE_COUNT);
}
const char *mo_strategy_clip_name(mo_release_clip clip) {
    return moi_strategy_word((int)clip, moi_strategy_clips, (int)MO_RELEASE_CLIP_COUNT);
}

mo_strategy_checkpoint mo_strategy_checkpoint_find(const char *word, size_t n) {
    return (mo_strategy_checkpoint)moi_strategy_find(
        word, n, moi_strategy_checkpoints, (int)MO_STRATEGY_CHECKPOINT_COUNT);
}
mo_optim_precision mo_strategy_optim_find(const char *word, size_t n) {
    return (mo_optim_precision)moi_strategy_find(
        word, n, moi_strategy_optims, (int)MO_OPTIM_PRECISION_COUNT);
}
mo_gemm_type mo_strategy_base_find(const char *word, size_t n) {
    return (mo_gemm_type)moi_strategy_find(word, n, moi_strategy_bases, (int)MO_GEMM_TYPE_COUNT);
}
mo_release_clip mo_strategy_clip_find(const char *word, size_t n) {
    return (mo_release_clip)moi_strategy_find(
        word, n, moi_strategy_clips, (int)MO_RELEASE_CLIP_COUNT);
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Digits alone up to 2^64; with a fraction or a unit up to 2^60. */
uint64_t mo_parse_bytes(const char *text, size_t n) {
    static const char units[] = "KMGT";
    char copy[32], *end;
    double unit = 1;
    if (n == 0 || n >= sizeof copy || *text < '0' || *text > '9') return 0;
    memcpy(copy, text, n);
    copy[n] = 0;
    if (strspn(copy, "0123456789") == n) {
        uint64_t whole = 0;
        for (size_t i = 0; i < n; i++) {
            const uint64_t digit = (uint64_t)(copy[i] - '0');
            if (whole > (UINT64_MAX - digit) / 10) return 0;
            whole = 10 * whole + digit;
        }
        return whole;
    }
    const double x = strtod(copy, &end);
    if ((size_t)(end - copy) > strspn(copy, "0123456789.")) return 0; /* 0x10, 1e9 */
    const int letter = *end >= 'a' && *end <= 'z' ? *end - 'a' + 'A' : *end;
    const char *at = letter ? strchr(units, letter) : NULL;
    if (at) {
        for (const char *u = units; u <= at; u++) unit *= 1024;
        end++;
        if (*end == 'i') end++;
        if (*end == 'B' || *end == 'b') end++;
    }
    return *end || !(x * unit >= 1) || x * unit > 1152921504606846976.0 ? 0 : (uint64_t)(x * unit);
}

static mo_status moi_strategy_count(
    const char *key, const char *value, size_t n, size_t *count, const mo_log *log) {
    size_t x = 0, i = 0;
    while (i < n && value[i] >= '0' && value[i] <= '9' && x <= 1u << 20)
        x = 10 * x + (size_t)(value[i++] - '0');
    if (i < n || x == 0 || x > 1u << 20) {
        moi_log(log, MO_LOG_ERROR, "%s=%.*s is not a whole number from 1 to 1048576", key, (int)n,
            value);
        return MO_E_INVALID;
    }
    *count = x;
    return MO_OK;
}

/* ---- parse ---------------------------------------------------------------------------------- */

/* An item of the list: its key, and the value behind the sign. */
typedef struct moi_strategy_item {
    const char *key, *value;
    size_t key_size, size; /* of the value */
    int has_value;
} moi_strategy_item;

/* What the list has said so far. */
typedef struct moi_strategy_list {
    mo_strategy s;
    mo_strategy_text asked;
    const mo_log *log;
} moi_strategy_list;

static mo_status moi_strategy_unknown(const moi_strategy_list *l, const moi_strategy_item *item) {
    moi_log(l->log, MO_LOG_ERROR, "unknown '%.*s' (see --help)",
        (int)(item->key_size + item->size + (item->has_value ? 1 : 0)), item->key);
    return MO_E_INVALID;
}

static void moi_strategy_name(moi_strategy_list *l, unsigned field) {
    l->asked.open &= ~field;
    l->asked.named |= field;
}

/* A word, or none with a count. */
static mo_status moi_strategy_loss(moi_strategy_list *l, const moi_strategy_item *item) {
    moi_strategy_name(l, MO_STRATEGY_OPEN_LOSS);
    if (moi_strategy_is(item->value, item->size, "chunked")) l->s.loss_rows = 256;
    else if (moi_strategy_is(item->value, item->size, "full")) l->s.loss_rows = 0;
    else return moi_strategy_count("loss", item->value, item->size, &l->s.loss_rows, l->log);
    return MO_OK;
}

/* With the limit of what is resident or not. */
static mo_status moi_strategy_paged(moi_strategy_list *l, const moi_strategy_item *item) {
    if (item->has_value && item->size == 0) return moi_strategy_unknown(l, item);
    moi_strategy_name(l, MO_STRATEGY_OPEN_PAGED);
    l->s.paged = 1;
    l->s.resident = mo_parse_bytes(item->value, item->size);
    if (item->size == 0 || l->s.resident != 0) return MO_OK;
    moi_log(l->log, MO_LOG_ERROR, "paged=%.*s is not a size such as 30M or 2G", (int)item->size,
        item->value);
    return MO_E_INVALID;
}

static mo_status moi_strategy_release(moi_strategy_list *l, const moi_strategy_item *item) {
    l->s.release = 1;
    l->s.clip = item->has_value ? mo_strategy_clip_find(item->value, item->size) : MO_RELEASE_NONE;
    return l->s.clip == MO_RELEASE_CLIP_COUNT ? moi_strategy_unknown(l, item) : MO_OK;
}

static mo_status moi_strategy_act(moi_strategy_list *l, const moi_strategy_item *item) {
    const int bits = moi_strategy_is(item->value, item->size, "8") ? 8
        : moi_strategy_is(item->value, item->size, "4")            ? 4
                                                                   : 0;
    l->s.act = bits;
    return bits ? MO_OK : moi_strategy_unknown(l, item);
}

static mo_status moi_strategy_checkpoint_item(moi_strategy_list *l, const moi_strategy_item *item) {
    moi_strategy_name(l, MO_STRATEGY_OPEN_CHECKPOINT);
    l->s.checkpoint = mo_strategy_checkpoint_find(item->value, item->size);
    return l->s.checkpoint == MO_STRATEGY_CHECKPOINT_COUNT ? moi_strategy_unknown(l, item) : MO_OK;
}

static mo_status moi_strategy_precision(moi_strategy_list *l, const moi_strategy_item *item) {
    moi_strategy_name(l, MO_STRATEGY_OPEN_PRECISION);
    l->s.bf16 = moi_strategy_is(item->value, item->size, "bf16");
    if (l->s.bf16 || moi_strategy_is(item->value, item->size, "f32")) return MO_OK;
    return moi_strategy_unknown(l, item);
}

static mo_status moi_strategy_optim(moi_strategy_list *l, const moi_strategy_item *item) {
    moi_strategy_name(l, MO_STRATEGY_OPEN_OPTIM);
    l->s.optim = mo_strategy_optim_find(item->value, item->size);
    return l->s.optim == MO_OPTIM_PRECISION_COUNT ? moi_strategy_unknown(l, item) : MO_OK;
}

static mo_status moi_strategy_base(moi_strategy_list *l, const moi_strategy_item *item) {
    l->s.base = mo_strategy_base_find(item->value, item->size);
    return l->s.base == MO_GEMM_TYPE_COUNT ? moi_strategy_unknown(l, item) : MO_OK;
}

static mo_status moi_strategy_distill(moi_strategy_list *l, const moi_strategy_item *item) {
    if (item->size == 0) return moi_strategy_unknown(l, item);
    l->asked.distill = item->value;
    l->asked.distill_size = item->size;
    return MO_OK;
}

static mo_status moi_strategy_accum(moi_strategy_list *l, const moi_strategy_item *item) {
    moi_strategy_name(l, MO_STRATEGY_OPEN_ACCUM);
    return moi_strategy_count("accum", item->value, item->size, &l->s.accum, l->log);
}

static mo_status moi_strategy_share(moi_strategy_list *l, const moi_strategy_item *item) {
    moi_strategy_name(l, MO_STRATEGY_OPEN_SHARE);
    return moi_strategy_count("share", item->value, item->size, &l->s.share, l->log);
}

static mo_status moi_strategy_lora(moi_strategy_list *l, const moi_strategy_item *item) {
    return moi_strategy_count("lora", item->value, item->size, &l->s.lora, l->log);
}

static mo_status moi_strategy_offload(moi_strategy_list *l, const moi_strategy_item *item) {
    if (item->has_value) return moi_strategy_unknown(l, item);
    l->s.offload = 1;
    return MO_OK;
}

static mo_status moi_strategy_add(moi_strategy_list *l, const char *text, size_t n) {
    static const struct {
        const char *key;
        mo_status (*add)(moi_strategy_list *l, const moi_strategy_item *item);
    } keys[] = {{"checkpoint", moi_strategy_checkpoint_item}, {"offload", moi_strategy_offload},
        {"act", moi_strategy_act}, {"accum", moi_strategy_accum}, {"optim", moi_strategy_optim},
        {"precision", moi_strategy_precision}, {"share", moi_strategy_share},
        {"release", moi_strategy_release}, {"paged", moi_strategy_paged},
        {"loss", moi_strategy_loss}, {"lora", moi_strategy_lora}, {"base", moi_strategy_base},
        {"distill", moi_strategy_distill}};
    const char *equals = (const char *)memchr(text, '=', n);
    moi_strategy_item item = {text, "", n, 0, equals != NULL};
    if (equals) {
        item.key_size = (size_t)(equals - text);
        item.value = equals + 1;
        item.size = n - item.key_size - 1;
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (moi_strategy_is(item.key, item.key_size, keys[i].key)) return keys[i].add(l, &item);
    return moi_strategy_unknown(l, &item);
}

/* The item that begins at text, and the one behind it; NULL = that was the last. */
static const char *moi_strategy_next(const char *text) {
    const char *comma = strchr(text, ',');
    return comma ? comma + 1 : NULL;
}

static int moi_strategy_is_auto(const char *text) {
    return moi_strategy_is(text, strcspn(text, ","), "auto");
}

/* Offload asks for the checkpoints that it needs, where the text names no other ones. */
static void moi_strategy_imply(moi_strategy_list *l) {
    if (!l->s.offload || l->asked.named & MO_STRATEGY_OPEN_CHECKPOINT) return;
    l->s.checkpoint = MO_STRATEGY_OPTIMAL;
    moi_strategy_name(l, MO_STRATEGY_OPEN_CHECKPOINT);
}

mo_status mo_strategy_parse(
    const char *text, mo_strategy *s, mo_strategy_text *asked, const mo_log *log) {
    moi_strategy_list l;
    memset(&l, 0, sizeof l);
    l.s.accum = 1;
    l.log = log;
    if (!text || !s) return MO_E_INVALID;
    const int none = strcmp(text, "none") == 0;
    if (none) l.asked.named = MO_STRATEGY_OPEN_ALL;
    for (const char *at = text; at && !none; at = moi_strategy_next(at))
        if (moi_strategy_is_auto(at)) l.asked.open = MO_STRATEGY_OPEN_ALL;
    for (const char *at = text; at && !none; at = moi_strategy_next(at)) {
        if (moi_strategy_is_auto(at)) continue;
        const mo_status status = moi_strategy_add(&l, at, strcspn(at, ","));
        if (status != MO_OK) return status;
    }
    moi_strategy_imply(&l);
    const mo_status status = mo_strategy_check(&l.s, log);
    if (status != MO_OK) return status;
    *s = l.s;
    if (asked) *asked = l.asked;
    return MO_OK;
}

/* ---- check ---------------------------------------------------------------------------------- */

static int moi_strategy_in_range(const mo_strategy *s) {
    return s->checkpoint >= MO_STRATEGY_NONE && s->checkpoint < MO_STRATEGY_CHECKPOINT_COUNT &&
        s->optim >= MO_OPTIM_F32 && s->optim < MO_OPTIM_PRECISION_COUNT &&
        s->clip >= MO_RELEASE_NONE && s->clip < MO_RELEASE_CLIP_COUNT && s->base >= MO_GEMM_F32 &&
        s->base < MO_GEMM_TYPE_COUNT && (s->act == 0 || s->act == 8 || s->act == 4);
}

mo_status mo_strategy_check(const mo_strategy *s, const mo_log *log) {
    if (!s) return MO_E_INVALID;
    if (!moi_strategy_in_range(s)) moi_log(log, MO_LOG_ERROR, "a value is out of range");
    else if (s->base != MO_GEMM_F32 && s->lora == 0)
        moi_log(log, MO_LOG_ERROR, "base=%s needs lora=R", mo_strategy_base_name(s->base));
    else if (s->offload && s->checkpoint != MO_STRATEGY_OPTIMAL)
        moi_log(log, MO_LOG_ERROR, "offload needs checkpoint=optimal, not checkpoint=%s",
            mo_strategy_checkpoint_name(s->checkpoint));
    else if (s->release && s->accum > 1)
        moi_log(log, MO_LOG_ERROR,
            "release and accum=%zu exclude each other: every backward updates", s->accum);
    else if (s->lora && s->bf16)
        moi_log(log, MO_LOG_ERROR,
            "lora and precision=bf16 exclude each other: base=bf16 keeps the frozen weights so");
    else return MO_OK;
    return MO_E_INVALID;
}

/* ---- format --------------------------------------------------------------------------------- */

/* A text that grows, and is cut where it does not fit. */
typedef struct moi_strategy_out {
    char *text;
    size_t size, at;
} moi_strategy_out;

MOI_PRINTF(2) static void moi_strategy_put(moi_strategy_out *o, const char *format, ...) {
    va_list args;
    if (o->at >= o->size) return;
    va_start(args, format);
    const int n = vsnprintf(o->text + o->at, o->size - o->at, format, args);
    va_end(args);
    if (n > 0) o->at += (size_t)n;
}

void mo_strategy_format(const mo_strategy *s, char *text, size_t size) {
    moi_strategy_out o = {text, size, 0};
    moi_strategy_put(&o, "checkpoint=%s", mo_strategy_checkpoint_name(s->checkpoint));
    if (s->offload) moi_strategy_put(&o, ",offload");
    if (s->act) moi_strategy_put(&o, ",act=%d", s->act);
    moi_strategy_put(
        &o, ",accum=%zu,optim=%s", moi_max(s->accum, 1), mo_strategy_optim_name(s->optim));
    if (s->loss_rows) moi_strategy_put(&o, ",loss=%zu", s->loss_rows);
    else moi_strategy_put(&o, ",loss=full");
    if (s->share > 1) moi_strategy_put(&o, ",share=%zu", s->share);
    if (s->bf16) moi_strategy_put(&o, ",precision=bf16");
    if (s->release) moi_strategy_put(&o, ",release");
    if (s->release && s->clip != MO_RELEASE_NONE)
        moi_strategy_put(&o, "=%s", mo_strategy_clip_name(s->clip));
    if (s->paged) moi_strategy_put(&o, ",paged");
    if (s->paged && s->resident) moi_strategy_put(&o, "=%llu", (unsigned long long)s->resident);
    if (s->lora) moi_strategy_put(&o, ",lora=%zu,base=%s", s->lora, mo_strategy_base_name(s->base));
}
