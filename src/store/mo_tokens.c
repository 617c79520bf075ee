/* mo_tokens.c - see mo_tokens.h. */

enum { MOI_TOKENS_HEADER = 256 * 4 };

/* The headers of llm.c, one for each width. */
static const struct moi_tokens_kind {
    uint32_t magic, version;
    unsigned width;
} moi_tokens_kinds[2] = {{20240520, 1, 2}, {20240801, 7, 4}};

static uint32_t moi_tokens_u32(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- messages ------------------------------------------------------------------------------ */

static mo_status moi_tokens_say(const mo_tokens *t, const mo_log *log, const moi_tokens_error *e) {
    const char *path = t->files[e->file].path;
    if (e->error) return moi_file_fail_error(log, path, e->error);
    if (e->vocab == 0)
        return moi_file_fail(log, path, e->status, "token %llu is %lld, not below 2^31",
            (unsigned long long)e->at, (long long)e->token);
    return moi_file_fail(log, path, e->status, "token %llu is %lld, outside the vocabulary of %lu",
        (unsigned long long)e->at, (long long)e->token, (unsigned long)e->vocab);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* The file that has token at of all; at is less than t->n. */
static size_t moi_tokens_file_of(const mo_tokens *t, uint64_t at) {
    size_t low = 0, high = t->n_files;
    while (high - low > 1) { /* the last one that begins at or before it; empty ones are passed */
        const size_t middle = low + (high - low) / 2;
        if (t->files[middle].first <= at) low = middle;
        else high = middle;
    }
    return low;
}

static mo_status moi_tokens_outside(
    const mo_tokens *t, uint64_t at, int32_t token, uint32_t vocab, moi_tokens_error *error) {
    memset(error, 0, sizeof *error);
    error->status = MO_E_FORMAT;
    error->file = moi_tokens_file_of(t, at);
    error->at = at - t->files[error->file].first;
    error->token = token;
    error->vocab = vocab;
    return error->status;
}

/* The bytes lie at the end of the room that they become, and are taken from its front on: number i
 * is read before anything is written where it lies. Returns how many are below 2^31. */
static size_t moi_tokens_widen(unsigned char *room, size_t n, unsigned width) {
    const unsigned char *raw = room + (4 - width) * n;
    for (size_t i = 0; i < n; i++, raw += width) {
        uint32_t token = raw[0];
        if (width == 2) token |= (uint32_t)raw[1] << 8;
        if (width == 4) token = moi_tokens_u32(raw);
        if (token > INT32_MAX) return i;
        const int32_t id = (int32_t)token;
        memcpy(room + 4 * i, &id, sizeof id);
    }
    return n;
}

/* n tokens of one file, from number at of it on. */
static mo_status moi_tokens_read_file(
    const mo_tokens *t, size_t number, uint64_t at, size_t n, int32_t *ids, moi_tokens_error *e) {
    const struct moi_tokens_file *f = &t->files[number];
    unsigned char *room = (unsigned char *)ids, *raw = room + (4 - f->width) * n;
    memset(e, 0, sizeof *e);
    e->file = number;
    e->error = moi_file_read(f->file, f->data_off + at * f->width, raw, n * f->width);
    if (e->error) return e->status = moi_file_status(e->error);
    const size_t good = moi_tokens_widen(room, n, f->width);
    if (good == n) return MO_OK;
    e->at = at + good;
    e->token = moi_tokens_u32(raw + 4 * good);
    return e->status = MO_E_FORMAT;
}

static mo_status moi_tokens_read(
    const mo_tokens *t, uint64_t at, size_t n, int32_t *ids, moi_tokens_error *error) {
    mo_status status = MO_OK;
    size_t number = n > 0 ? moi_tokens_file_of(t, at) : 0;
    for (; n > 0 && status == MO_OK; number++) {
        const struct moi_tokens_file *f = &t->files[number];
        const uint64_t from = at - f->first, rest = f->n - from;
        const size_t part = rest < n ? (size_t)rest : n;
        status = moi_tokens_read_file(t, number, from, part, ids, error);
        ids += part;
        at += part;
        n -= part;
    }
    return status;
}

mo_status mo_tokens_read(const mo_tokens *tokens, uint64_t at, size_t n, int32_t *ids) {
    moi_tokens_error error;
    if (!tokens || (!ids && n > 0) || at > tokens->n || n > tokens->n - at) return MO_E_INVALID;
    const mo_status status = moi_tokens_read(tokens, at, n, ids, &error);
    return status == MO_OK ? MO_OK : moi_tokens_say(tokens, &tokens->log, &error);
}

mo_status mo_tokens_max(const mo_tokens *tokens, int32_t *max) {
    int32_t ids[1024], most = 0;
    if (!tokens || !max) return MO_E_INVALID;
    const int is_bytes = tokens->n_files > 0 && tokens->files[0].width == 1;
    if (is_bytes && tokens->n > 0) most = 255;
    for (uint64_t at = 0, n; at < tokens->n && !is_bytes; at += n) {
        n = tokens->n - at < 1024 ? tokens->n - at : 1024;
        const mo_status status = mo_tokens_read(tokens, at, (size_t)n, ids);
        if (status != MO_OK) return status;
        for (size_t i = 0; i < (size_t)n; i++)
            if (ids[i] > most) most = ids[i];
    }
    *max = most;
    return MO_OK;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* NULL for a header that is none of those. */
static const struct moi_tokens_kind *moi_tokens_kind_of(
    const mo_log *log, const char *path, uint32_t magic, uint32_t version) {
    for (int i = 0; i < 2; i++) {
        const struct moi_tokens_kind *kind = &moi_tokens_kinds[i];
        if (magic != kind->magic) continue;
        if (version == kind->version) return kind;
        (void)moi_file_fail(log, path, MO_E_FORMAT, "version in the header is %ld, not %lu",
            (long)(int32_t)version, (unsigned long)kind->version);
        return NULL;
    }
    (void)moi_file_fail(log, path, MO_E_FORMAT,
        "magic number in the header is %ld, not 20240520 or 20240801", (long)(int32_t)magic);
    return NULL;
}

static mo_status moi_tokens_read_header(
    struct moi_tokens_file *f, const mo_log *log, const char *path, uint64_t size) {
    unsigned char header[MOI_TOKENS_HEADER];
    if (size < sizeof header)
        return moi_file_fail(log, path, MO_E_FORMAT,
            "%llu bytes are too few for a token file's header of %d", (unsigned long long)size,
            (int)sizeof header);
    const int error = moi_file_read(f->file, 0, header, sizeof header);
    if (error) return moi_file_fail_error(log, path, error);
    const struct moi_tokens_kind *kind =
        moi_tokens_kind_of(log, path, moi_tokens_u32(header), moi_tokens_u32(header + 4));
    if (!kind) return MO_E_FORMAT;
    const int32_t count = (int32_t)moi_tokens_u32(header + 8);
    f->width = kind->width;
    f->data_off = sizeof header;
    if (count >= 0 && size - sizeof header == (uint64_t)count * kind->width) {
        f->n = (uint64_t)count;
        return MO_OK;
    }
    return moi_file_fail(log, path, MO_E_FORMAT,
        "token count in the header is %ld, but the file has %llu bytes of tokens of %u",
        (long)count, (unsigned long long)(size - sizeof header), kind->width);
}

/* f belongs to the list from here on, whatever happens. */
static mo_status moi_tokens_open_file(
    mo_tokens *t, const char *path, mo_tokens_format format, struct moi_tokens_file *f) {
    uint64_t size;
    const int error = moi_file_open(path, &f->file, &size);
    if (error) return moi_file_fail_error(&t->log, path, error);
    t->n_files++;
    f->first = t->n;
    f->width = 1;
    f->path = (char *)moi_alloc_array(&t->allocator, strlen(path) + 1, 1);
    if (!f->path) return moi_file_fail(&t->log, path, MO_E_NO_MEMORY, "out of memory for the path");
    memcpy(f->path, path, strlen(path) + 1);
    if (format == MO_TOKENS_BYTES) f->n = size;
    else {
        const mo_status status = moi_tokens_read_header(f, &t->log, path, size);
        if (status != MO_OK) return status;
    }
    if (f->n > UINT64_MAX - t->n) return MO_E_OVERFLOW;
    t->n += f->n;
    return MO_OK;
}

mo_status mo_tokens_open(mo_tokens *tokens, const mo_tokens_desc *desc) {
    mo_tokens t;
    mo_status status = MO_OK;
    if (!tokens || !desc || !desc->paths || desc->n_paths == 0) return MO_E_INVALID;
    if ((unsigned)desc->format >= MO_TOKENS_FORMAT_COUNT) return MO_E_INVALID;
    memset(&t, 0, sizeof t);
    t.allocator = desc->allocator;
    t.log = desc->log;
    t.files =
        (struct moi_tokens_file *)moi_alloc_array(&t.allocator, desc->n_paths, sizeof *t.files);
    if (!t.files) return MO_E_NO_MEMORY;
    t.n_paths = desc->n_paths;
    memset(t.files, 0, desc->n_paths * sizeof *t.files);
    for (size_t i = 0; i < desc->n_paths && status == MO_OK; i++)
        status = desc->paths[i]
            ? moi_tokens_open_file(&t, desc->paths[i], desc->format, &t.files[i])
            : MO_E_INVALID;
    if (status == MO_OK) *tokens = t;
    else mo_tokens_close(&t);
    return status;
}

void mo_tokens_close(mo_tokens *tokens) {
    if (!tokens || !tokens->files) return;
    const mo_allocator *a = &tokens->allocator;
    for (size_t i = 0; i < tokens->n_files; i++) {
        struct moi_tokens_file *f = &tokens->files[i];
        moi_file_close(f->file);
        if (f->path) moi_free_array(a, f->path, strlen(f->path) + 1, 1);
    }
    moi_free_array(a, tokens->files, tokens->n_paths, sizeof *tokens->files);
    memset(tokens, 0, sizeof *tokens);
}
