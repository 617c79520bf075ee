/* mo_optim_file.c - see mo_optim_file.h. */

enum { MOI_OPTIM_NAME_SIZE = 512 };

/* ---- parts ---------------------------------------------------------------------------------- */

static void moi_optim_part(mo_optim_part *parts, size_t *n_parts, const char *suffix,
    mo_dtype dtype, uint64_t n, void *data) {
    if (!data) return;
    parts[*n_parts].suffix = suffix;
    parts[*n_parts].dtype = dtype;
    parts[*n_parts].n = n;
    parts[(*n_parts)++].data = data;
}

size_t mo_optim_state_parts(const mo_optim_state *state, mo_optim_part *parts) {
    size_t n = 0;
    if (!state || !parts) return 0;
    const mo_optim_precision precision = state->precision;
    const uint64_t numbers = state->n_states, blocks = moi_ceil_div(numbers, state->block);
    const uint64_t codes = precision == MO_OPTIM_4BIT ? moi_ceil_div(numbers, 2) : numbers;
    mo_dtype dtype = MO_DTYPE_F32;
    if (precision == MO_OPTIM_BF16) dtype = MO_DTYPE_BF16;
    if (moi_optim_is_blockwise(precision)) dtype = MO_DTYPE_U8;
    moi_optim_part(parts, &n, "m_absmax", MO_DTYPE_F32, blocks, state->m_absmax);
    moi_optim_part(parts, &n, "slow_absmax", MO_DTYPE_F32, blocks, state->slow_absmax);
    moi_optim_part(parts, &n, "v_absmax", MO_DTYPE_F32, blocks, state->v_absmax);
    moi_optim_part(parts, &n, "row", MO_DTYPE_F32, state->rows, state->row);
    moi_optim_part(parts, &n, "column", MO_DTYPE_F32, state->columns, state->column);
    moi_optim_part(parts, &n, "master", MO_DTYPE_F32, state->n, state->master);
    moi_optim_part(parts, &n, "extra", MO_DTYPE_F32, state->n_extra, state->extra);
    moi_optim_part(parts, &n, "m", dtype, codes, state->m);
    moi_optim_part(parts, &n, "slow", dtype, codes, state->slow);
    moi_optim_part(parts, &n, "v", dtype, codes, state->v);
    return n;
}

/* ---- metadata ------------------------------------------------------------------------------- */

typedef struct moi_optim_header {
    uint64_t kind, precision, block, plain_v, n, begin, of, columns, t, rank;
} moi_optim_header;

/* The last one, the rank, is there where it is not 0. */
enum { MOI_OPTIM_FIELDS = 10 };
static const char *const moi_optim_fields[MOI_OPTIM_FIELDS] = {
    "kind", "precision", "block", "plain_v", "n", "begin", "of", "columns", "t", "rank"};

mo_status mo_optim_format(const mo_optim_desc *desc, const mo_optim_state *state, size_t of,
    uint64_t t, char *text, size_t size) {
    if (!desc || !state || !text) return MO_E_INVALID;
    const uint64_t values[MOI_OPTIM_FIELDS] = {(uint64_t)desc->kind, (uint64_t)state->precision,
        state->block, state->plain_v != 0, state->n, state->offset, of, desc->columns, t,
        state->rank};
    const int n_fields = state->rank ? MOI_OPTIM_FIELDS : MOI_OPTIM_FIELDS - 1;
    size_t at = 0;
    for (int i = 0; i < n_fields; i++) {
        const int n = snprintf(text + at, size - at, "%s%s=%llu", i ? " " : "", moi_optim_fields[i],
            (unsigned long long)values[i]);
        if (n < 0 || (size_t)n >= size - at) return MO_E_NO_SPACE;
        at += (size_t)n;
    }
    return MO_OK;
}

/* A number at *text, which moves behind it; 0 when there is none that fits. */
static int moi_decimal(const char **text, uint64_t *value) {
    const char *at = *text;
    uint64_t x = 0;
    if (*at < '0' || *at > '9') return 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        const uint64_t digit = (uint64_t)(*at - '0');
        if (x > (UINT64_MAX - digit) / 10) return 0;
        x = x * 10 + digit;
    }
    *text = at;
    *value = x;
    return 1;
}

/* "name=value" at *text, which moves behind it; 0 when something else is there. */
static int moi_optim_field(const char **text, const char *name, uint64_t *value) {
    const size_t n = strlen(name);
    const char *at = *text;
    if (*at == ' ') at++;
    if (strncmp(at, name, n) != 0 || at[n] != '=') return 0;
    at += n + 1;
    if (!moi_decimal(&at, value)) return 0;
    *text = at;
    return 1;
}

static mo_status moi_optim_read_header(
    const mo_safetensors *st, const char *name, moi_optim_header *header) {
    char key[MOI_OPTIM_NAME_SIZE];
    uint64_t values[MOI_OPTIM_FIELDS];
    const int n = snprintf(key, sizeof key, "memopt.optimizer.%s", name);
    if (n < 0 || (size_t)n >= sizeof key) return MO_E_INVALID;
    const char *text = mo_safetensors_metadata(st, key), *at = text;
    if (!text) {
        moi_log(&st->log, MO_LOG_ERROR, "%s: metadata '%s' is missing", st->input.path, key);
        return MO_E_NOT_FOUND;
    }
    values[MOI_OPTIM_FIELDS - 1] = 0;
    for (int i = 0; i < MOI_OPTIM_FIELDS && (i + 1 < MOI_OPTIM_FIELDS || *at); i++)
        if (!moi_optim_field(&at, moi_optim_fields[i], &values[i])) {
            moi_log(&st->log, MO_LOG_ERROR, "%s: metadata '%s' has no %s: '%.100s'", st->input.path,
                key, moi_optim_fields[i], text);
            return MO_E_FORMAT;
        }
    memcpy(header, values, sizeof *header);
    return MO_OK;
}

/* Whether the header can be true, and fits desc, of and rank. */
static mo_status moi_optim_check_header(const mo_safetensors *st, const char *name,
    const mo_optim_desc *desc, size_t of, size_t rank, const moi_optim_header *h) {
    const char *what = NULL;
    uint64_t is = 0, want = 0;
    if (h->kind != (uint64_t)desc->kind) what = "kind", is = h->kind, want = (uint64_t)desc->kind;
    else if (h->of != of) what = "of", is = h->of, want = of;
    else if (h->columns != desc->columns) what = "columns", is = h->columns, want = desc->columns;
    else if (h->rank != rank) what = "rank", is = h->rank, want = rank;
    else if (h->precision >= MO_OPTIM_PRECISION_COUNT) what = "precision", is = h->precision;
    else if (h->block < 64 || h->block > moi_q8_max_block) what = "block", is = h->block;
    else if (h->begin > h->of || h->n > h->of - h->begin) what = "n", is = h->n, want = of;
    if (!what) return MO_OK;
    moi_log(&st->log, MO_LOG_ERROR, "%s: optimizer states of '%s': %s is %llu, not %llu",
        st->input.path, name, what, (unsigned long long)is, (unsigned long long)want);
    return MO_E_FORMAT;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The tensor of a part, of which part->n elements from begin on are wanted. */
static mo_status moi_optim_find_part(const mo_safetensors *st, const char *name,
    const mo_optim_part *part, uint64_t begin, const mo_safetensors_entry **entry) {
    char key[MOI_OPTIM_NAME_SIZE];
    const int n = snprintf(key, sizeof key, "optimizer.%s.%s", name, part->suffix);
    if (n < 0 || (size_t)n >= sizeof key) return MO_E_INVALID;
    const mo_safetensors_entry *e = mo_safetensors_find(st, key);
    if (!e) {
        moi_log(&st->log, MO_LOG_ERROR, "%s: tensor '%s' is missing", st->input.path, key);
        return MO_E_FORMAT;
    }
    if (e->dtype != part->dtype || e->n_dims != 1 || e->shape[0] < begin ||
        e->shape[0] - begin < part->n) {
        moi_log(&st->log, MO_LOG_ERROR, "%s: tensor '%s' is not a vector of %llu %s",
            st->input.path, key, (unsigned long long)(begin + part->n), mo_dtype_name(part->dtype));
        return MO_E_FORMAT;
    }
    *entry = e;
    return MO_OK;
}

static mo_status moi_optim_read_part(
    const mo_safetensors *st, const char *name, const mo_optim_part *part, uint64_t begin) {
    const mo_safetensors_entry *e = NULL;
    const uint64_t width = mo_dtype_bits(part->dtype) / 8;
    const mo_status status = moi_optim_find_part(st, name, part, begin, &e);
    if (status != MO_OK) return status;
    return mo_safetensors_read(st, e, begin * width, part->data, (size_t)(part->n * width));
}

/* Where element begin of the state is in the part. */
static uint64_t moi_optim_part_begin(
    const mo_optim_state *s, const mo_optim_part *part, size_t begin) {
    const size_t n = strlen(part->suffix);
    if (strcmp(part->suffix, "row") == 0 || strcmp(part->suffix, "column") == 0) return 0;
    if (n > 7 && strcmp(part->suffix + n - 7, "_absmax") == 0) return begin / s->block;
    if (strcmp(part->suffix, "master") == 0) return begin;
    return s->precision == MO_OPTIM_4BIT ? begin / 2 : begin;
}

/* All arrays of s, from number begin of what the file holds. */
static mo_status moi_optim_read(
    const mo_safetensors *st, const char *name, const mo_optim_state *s, size_t begin) {
    mo_optim_part parts[MO_OPTIM_MAX_PARTS];
    const size_t n = mo_optim_state_parts(s, parts);
    mo_status status = MO_OK;
    for (size_t i = 0; i < n && status == MO_OK; i++)
        status =
            moi_optim_read_part(st, name, &parts[i], moi_optim_part_begin(s, &parts[i], begin));
    return status;
}

/* What of a file goes where: numbers h.begin + skip on into part, a slice of the caller's state;
 * part.n = 0: the file has none of them. same: in one coding. */
typedef struct moi_optim_match {
    moi_optim_header h;
    mo_optim_state part;
    size_t skip;
    int same;
} moi_optim_match;

static int moi_optim_at_block(uint64_t at, uint64_t of, uint64_t block, int blockwise) {
    return !blockwise || at == of || at % block == 0;
}

static mo_status moi_optim_match_file(const mo_safetensors *st, const mo_optim_desc *desc,
    const char *name, size_t of, const mo_optim_state *to, moi_optim_match *match) {
    moi_optim_header h;
    memset(match, 0, sizeof *match);
    mo_status status = moi_optim_read_header(st, name, &h);
    if (status == MO_OK) status = moi_optim_check_header(st, name, desc, of, to->rank, &h);
    if (status != MO_OK) return status;
    const uint64_t begin = h.begin > to->offset ? h.begin : to->offset;
    const uint64_t file_end = h.begin + h.n, to_end = to->offset + to->n;
    const uint64_t end = file_end < to_end ? file_end : to_end;
    if (begin >= end) return MO_OK;
    const int from_blocks = moi_optim_is_blockwise((mo_optim_precision)h.precision);
    const int to_blocks = moi_optim_is_blockwise(to->precision);
    if (!moi_optim_at_block(begin - h.begin, h.n, h.block, from_blocks) ||
        !moi_optim_at_block(begin, of, to->block, to_blocks) ||
        !moi_optim_at_block(end, of, to->block, to_blocks)) {
        moi_log(&st->log, MO_LOG_ERROR,
            "%s: optimizer states of '%s': numbers %llu to %llu do not begin and end at blocks",
            st->input.path, name, (unsigned long long)begin, (unsigned long long)end);
        return MO_E_INVALID;
    }
    status =
        mo_optim_state_slice(to, (size_t)(begin - to->offset), (size_t)(end - begin), &match->part);
    if (status != MO_OK) return MO_E_INVALID;
    match->h = h;
    match->same = h.precision == (uint64_t)to->precision && (!to_blocks || h.block == to->block) &&
        !h.plain_v == !to->plain_v;
    match->skip = (size_t)(begin - h.begin);
    return MO_OK;
}

/* The desc of a state of a given coding, which holds what to holds. */
static mo_optim_desc moi_optim_desc_as(const mo_optim_desc *desc, const mo_optim_state *to,
    mo_optim_precision precision, size_t block, int plain_v) {
    mo_optim_desc d = *desc;
    d.precision = precision;
    d.block = block;
    d.plain_v = plain_v;
    d.master = to->master != NULL;
    d.min_8bit_size = 1;
    d.rank = to->rank;
    return d;
}

/* The desc of a state as the file has it. */
static mo_optim_desc moi_optim_desc_from(const mo_optim_desc *desc, const moi_optim_match *m) {
    return moi_optim_desc_as(
        desc, &m->part, (mo_optim_precision)m->h.precision, (size_t)m->h.block, m->h.plain_v != 0);
}

/* Through a state of the file's coding, which is then moved into the caller's. The stretch begins
 * at a block of either. */
static mo_status moi_optim_read_recoded(
    const mo_safetensors *st, const mo_optim_desc *desc, const char *name, moi_optim_match *m) {
    const mo_optim_desc d = moi_optim_desc_from(desc, m);
    mo_optim_state from;
    const size_t size = mo_optim_state_size(&d, m->part.n);
    void *memory = mo_alloc(&st->allocator, size, MOI_CACHE_LINE);
    if (!memory) return MO_E_NO_MEMORY;
    mo_status status = mo_optim_state_init(&d, m->part.n, memory, size, &from);
    if (status == MO_OK) status = moi_optim_read(st, name, &from, m->skip);
    if (status == MO_OK) status = mo_optim_state_copy(&m->part, &from, desc->seed);
    mo_free(&st->allocator, memory, size, MOI_CACHE_LINE);
    return status;
}

mo_status mo_optim_load(const mo_safetensors *st, const mo_optim_desc *desc, const char *name,
    size_t of, mo_optim_state *to, size_t *n, uint64_t *t) {
    moi_optim_match match;
    if (!st || !desc || !name || !to || !n) return MO_E_INVALID;
    mo_status status = moi_optim_match_file(st, desc, name, of, to, &match);
    if (status != MO_OK) return status;
    if (match.part.n == 0) {
        *n = 0;
        return MO_OK;
    }
    if (match.same) status = moi_optim_read(st, name, &match.part, match.skip);
    else status = moi_optim_read_recoded(st, desc, name, &match);
    if (status != MO_OK) return status;
    *n = match.part.n;
    if (t) *t = match.h.t;
    return MO_OK;
}
