/* mo_safetensors_shards.c - see mo_safetensors_shards.h. The index is parsed twice, as the header
 * of a safetensors file is. */

enum {
    MOI_SHARDS_MOST = 99999,
    MOI_SHARDS_NAME = 48,   /* room for "-00001-of-00003..." */
    MOI_SHARDS_BROKEN = 100 /* so many are named */
};
static const char moi_shards_suffix[] = ".safetensors", moi_shards_index[] = ".index.json";

/* ---- reading the index ---------------------------------------------------------------------- */

/* One pass over the index. While it counts, entries is NULL. */
typedef struct moi_shards_parser {
    moi_json json;
    mo_safetensors_shards *s;
    mo_safetensors_shards_entry *entries;
    size_t n, n_maps, n_sizes, n_broken;
    uint64_t total_size;
    mo_status status; /* of the first failure that has been said */
} moi_shards_parser;

static mo_status moi_shards_no_memory(const mo_safetensors_shards *s) {
    return moi_file_fail(&s->log, s->input.path, MO_E_NO_MEMORY, "out of memory for the index");
}

/* Whether a file lies in the folder of the index: no path, no other stream or drive. */
static int moi_shards_is_plain(const char *file) {
    if (!*file || strcmp(file, ".") == 0 || strcmp(file, "..") == 0) return 0;
    return strpbrk(file, "/\\:") == NULL;
}

/* Room for one more shard. */
static mo_status moi_shards_grow(mo_safetensors_shards *s) {
    const mo_allocator *a = &s->allocator;
    const size_t size = s->shards_size ? 2 * s->shards_size : 8, n = s->n_shards;
    if (n < s->shards_size) return MO_OK;
    mo_safetensors *shards = (mo_safetensors *)moi_alloc_array(a, size, sizeof *shards);
    const char **files = (const char **)moi_alloc_array(a, size, sizeof *files);
    if (!shards || !files) {
        moi_free_array(a, shards, size, sizeof *shards);
        moi_free_array(a, (void *)files, size, sizeof *files);
        return moi_shards_no_memory(s);
    }
    if (n > 0) {
        memcpy(shards, s->shards, n * sizeof *shards);
        memcpy((void *)files, (const void *)s->files, n * sizeof *files);
    }
    moi_free_array(a, s->shards, s->shards_size, sizeof *shards);
    moi_free_array(a, (void *)s->files, s->shards_size, sizeof *files);
    s->shards = shards;
    s->files = files;
    s->shards_size = size;
    return MO_OK;
}

/* One that cannot be opened has its place too, so that it is tried and named once. */
static mo_status moi_shards_add(mo_safetensors_shards *s, const char *file) {
    char name[MOI_ST_NAME_SIZE];
    mo_safetensors_desc desc;
    if (!moi_shards_is_plain(file))
        return moi_file_fail(&s->log, s->input.path, MO_E_FORMAT,
            "weight_map: '%s' is not the name of a file beside the index",
            moi_st_printable_name(file, name));
    mo_status status = moi_shards_grow(s);
    if (status != MO_OK) return status;
    const size_t folder = moi_file_folder(s->input.path), length = strlen(file) + 1;
    char *path = (char *)moi_alloc_array(&s->allocator, folder + length, 1);
    if (!path) return moi_shards_no_memory(s);
    memcpy(path, s->input.path, folder);
    memcpy(path + folder, file, length);
    desc.allocator = s->allocator;
    desc.log = s->log;
    memset(&s->shards[s->n_shards], 0, sizeof *s->shards);
    status = mo_safetensors_open(&s->shards[s->n_shards], path, &desc);
    moi_free_array(&s->allocator, path, folder + length, 1);
    if (status != MO_E_NO_MEMORY) s->files[s->n_shards++] = file;
    return status;
}

/* The shard of that file, opened when it is new. Most entries are in that of the one before. */
static mo_status moi_shards_of(mo_safetensors_shards *s, const char *file, size_t *shard) {
    mo_status status = MO_OK;
    if (*shard < s->n_shards && strcmp(s->files[*shard], file) == 0) return MO_OK;
    size_t i = 0;
    while (i < s->n_shards && strcmp(s->files[i], file) != 0) i++;
    if (i == s->n_shards) status = moi_shards_add(s, file);
    *shard = i;
    return status;
}

/* Whether to go on: a broken shard does not keep the others from being looked at. */
static int moi_shards_parse_file(
    moi_shards_parser *p, mo_safetensors_shards_entry *e, const char *file) {
    const size_t n = p->s->n_shards;
    const mo_status status = moi_shards_of(p->s, file, &e->shard);
    if (status == MO_OK) return 1;
    if (p->status == MO_OK) p->status = status;
    return p->s->n_shards > n && ++p->n_broken < MOI_SHARDS_BROKEN;
}

static int moi_shards_parse_map(moi_shards_parser *p) {
    moi_json *j = &p->json;
    moi_json_text name, file;
    size_t shard = 0;
    if (p->n_maps++ > 0) return moi_json_fail(j, "weight_map is there twice");
    if (!moi_json_open(j, '{')) return 0;
    for (; moi_json_item(j, '}', p->n); p->n++) {
        if (!moi_json_key(j, &name) || !moi_json_string(j, &file)) return 0;
        if (!p->entries) continue;
        mo_safetensors_shards_entry *e = &p->entries[p->n];
        e->name = moi_st_terminate(name);
        e->shard = shard;
        if (!moi_shards_parse_file(p, e, moi_st_terminate(file))) return 0;
        shard = e->shard;
    }
    return j->error == NULL;
}

static int moi_shards_parse_metadata(moi_shards_parser *p) {
    moi_json *j = &p->json;
    moi_json_text key;
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++) {
        if (!moi_json_key(j, &key)) return 0;
        if (!moi_json_is(key, "total_size")) {
            if (!moi_json_skip(j)) return 0;
            continue;
        }
        if (p->n_sizes++ > 0) return moi_json_fail(j, "total_size is there twice");
        if (!moi_json_u64(j, &p->total_size)) return 0;
    }
    return j->error == NULL;
}

static int moi_shards_parse(moi_shards_parser *p) {
    moi_json *j = &p->json;
    moi_json_text key;
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++) {
        if (!moi_json_key(j, &key)) return 0;
        int ok = moi_json_is(key, "weight_map") ? moi_shards_parse_map(p)
            : moi_json_is(key, "metadata")      ? moi_shards_parse_metadata(p)
                                                : moi_json_skip(j);
        if (!ok) return 0;
    }
    if (j->error || !moi_json_end(j)) return 0;
    return p->n_maps > 0 ? 1 : moi_json_fail(j, "weight_map is missing");
}

static mo_status moi_shards_run(moi_shards_parser *p, mo_safetensors_shards *s) {
    memset(p, 0, sizeof *p);
    p->s = s;
    p->json.text = s->text;
    p->json.size = s->text_size;
    p->entries = (mo_safetensors_shards_entry *)(uintptr_t)s->entries;
    if (moi_shards_parse(p) || p->status != MO_OK) return p->status;
    return moi_file_fail(&s->log, s->input.path, MO_E_FORMAT, "byte %llu: %s",
        (unsigned long long)p->json.at, p->json.error);
}

static mo_status moi_shards_read(mo_safetensors_shards *s) {
    const uint64_t size = s->input.size;
    if (size > MOI_ST_HEADER_LIMIT)
        return moi_file_fail(&s->log, s->input.path, MO_E_FORMAT,
            "index of %llu bytes is over the limit of %d", (unsigned long long)size,
            (int)MOI_ST_HEADER_LIMIT);
    if (size == 0) return moi_file_fail(&s->log, s->input.path, MO_E_FORMAT, "index is empty");
    s->text_size = (size_t)size;
    s->text = (char *)moi_alloc_array(&s->allocator, s->text_size, 1);
    if (!s->text) return moi_shards_no_memory(s);
    mo_status status = moi_input_read(&s->input, &s->log, 0, s->text, s->text_size);
    if (status != MO_OK) return status;
    size_t valid = moi_utf8_prefix(s->text, s->text_size);
    if (valid < s->text_size)
        return moi_file_fail(&s->log, s->input.path, MO_E_FORMAT, "index is not UTF-8 at byte %llu",
            (unsigned long long)valid);
    return MO_OK;
}

/* Names to entries, and entries to the tensors of the shards. */
static mo_status moi_shards_link(mo_safetensors_shards *s) {
    char text[MOI_ST_NAME_SIZE];
    const char *twice = NULL;
    mo_safetensors_shards_entry *entries = (mo_safetensors_shards_entry *)(uintptr_t)s->entries;
    mo_status status =
        moi_names_build(&s->names, &s->allocator, s->entries, s->n, sizeof *s->entries, &twice);
    if (status == MO_E_NO_MEMORY) return moi_shards_no_memory(s);
    if (status != MO_OK)
        return moi_file_fail(&s->log, s->input.path, status, "weight_map: '%s' is there twice",
            moi_st_printable_name(twice, text));
    for (size_t i = 0; i < s->n; i++) {
        mo_safetensors_shards_entry *e = &entries[i];
        e->entry = mo_safetensors_find(&s->shards[e->shard], e->name);
        if (!e->entry)
            return moi_file_fail(&s->log, s->shards[e->shard].input.path, MO_E_FORMAT,
                "tensor '%s' of the index is missing", moi_st_printable_name(e->name, text));
        s->total_size += e->entry->end - e->entry->begin;
    }
    return MO_OK;
}

/* Each shard has no more tensors than the index names for it. */
static mo_status moi_shards_check_shards(const mo_safetensors_shards *s) {
    char text[MOI_ST_NAME_SIZE];
    for (size_t k = 0; k < s->n_shards; k++)
        for (size_t i = 0; i < s->shards[k].n; i++) {
            const char *name = s->shards[k].entries[i].name;
            const mo_safetensors_shards_entry *e = mo_safetensors_shards_find(s, name);
            if (!e || e->shard != k)
                return moi_file_fail(&s->log, s->shards[k].input.path, MO_E_FORMAT,
                    "tensor '%s' is not in the index", moi_st_printable_name(name, text));
        }
    return MO_OK;
}

static mo_status moi_shards_load(mo_safetensors_shards *s) {
    moi_shards_parser p;
    mo_status status = moi_shards_read(s);
    if (status == MO_OK) status = moi_shards_run(&p, s);
    if (status != MO_OK) return status;
    s->n = p.n;
    s->entries = (const mo_safetensors_shards_entry *)moi_alloc_array(
        &s->allocator, s->n, sizeof *s->entries);
    if (s->n > 0 && !s->entries) return moi_shards_no_memory(s);
    if (s->n > 0) status = moi_shards_run(&p, s);
    if (status == MO_OK) status = moi_shards_link(s);
    if (status == MO_OK) status = moi_shards_check_shards(s);
    if (status == MO_OK && p.n_sizes > 0 && p.total_size != s->total_size)
        return moi_file_fail(&s->log, s->input.path, MO_E_FORMAT,
            "total_size is %llu, but the tensors have %llu bytes", (unsigned long long)p.total_size,
            (unsigned long long)s->total_size);
    return status;
}

mo_status mo_safetensors_shards_open(
    mo_safetensors_shards *s, const char *path, const mo_safetensors_desc *desc) {
    mo_safetensors_shards opening;
    if (!s || !path) return MO_E_INVALID;
    memset(&opening, 0, sizeof opening);
    if (desc) {
        opening.allocator = desc->allocator;
        opening.log = desc->log;
    }
    mo_status status = moi_input_open(&opening.input, path, &opening.allocator, &opening.log);
    if (status == MO_OK) status = moi_shards_load(&opening);
    if (status == MO_OK) *s = opening;
    else mo_safetensors_shards_close(&opening);
    return status;
}

void mo_safetensors_shards_close(mo_safetensors_shards *s) {
    if (!s) return;
    const mo_allocator *a = &s->allocator;
    for (size_t i = 0; i < s->n_shards; i++) mo_safetensors_close(&s->shards[i]);
    moi_input_close(&s->input, a);
    moi_free_array(a, s->text, s->text_size, 1);
    moi_free_array(a, s->shards, s->shards_size, sizeof *s->shards);
    moi_free_array(a, (void *)s->files, s->shards_size, sizeof *s->files);
    moi_free_array(a, (void *)(uintptr_t)s->entries, s->n, sizeof *s->entries);
    moi_names_free(&s->names, a);
    memset(s, 0, sizeof *s);
}

const mo_safetensors_shards_entry *mo_safetensors_shards_find(
    const mo_safetensors_shards *s, const char *name) {
    if (!s || !name) return NULL;
    size_t i = moi_names_find(&s->names, name);
    return i < s->n ? &s->entries[i] : NULL;
}

/* ---- splitting ------------------------------------------------------------------------------ */

/* The path of a shard, or of the index (number n_shards), behind the caller's path. */
static char *moi_shards_path(const mo_safetensors_shards_writer *w, size_t number) {
    const size_t length = strlen(w->path), stem = length + 1 - sizeof moi_shards_suffix;
    char *path = w->path + length + 1;
    memcpy(path, w->path, length + 1);
    if (number == w->n_shards) memcpy(path + length, moi_shards_index, sizeof moi_shards_index);
    else if (w->n_shards > 1)
        snprintf(path + stem, MOI_SHARDS_NAME, "-%05u-of-%05u%s", (unsigned)number + 1,
            (unsigned)w->n_shards, moi_shards_suffix);
    return path;
}

/* The first entry of each shard into first, unless it is NULL; how many shards there are. */
static size_t moi_shards_split(
    const mo_safetensors_entry *entries, size_t n, uint64_t limit, size_t *first) {
    uint64_t sum = 0, bytes = 0;
    size_t n_shards = 0;
    for (size_t i = 0; i < n; i++) {
        (void)moi_st_entry_bytes(&entries[i], &bytes); /* checked before */
        if (i == 0 || (sum > 0 && bytes > 0 && (bytes > limit || sum > limit - bytes))) {
            if (first) first[n_shards] = i;
            n_shards++;
            sum = 0;
        }
        sum += bytes;
    }
    if (n_shards == 0) {
        if (first) first[0] = 0;
        n_shards = 1;
    }
    if (first) first[n_shards] = n;
    return n_shards;
}

void mo_safetensors_shards_discard(mo_safetensors_shards_writer *w) {
    if (!w) return;
    const mo_allocator *a = &w->allocator;
    for (size_t i = 0; w->writers && i < w->n_shards; i++) mo_safetensors_discard(&w->writers[i]);
    moi_free_array(a, w->writers, w->n_shards, sizeof *w->writers);
    if (w->first) moi_free_array(a, w->first, w->n_shards + 1, sizeof *w->first);
    moi_free_array(a, w->path, w->path_size, 1);
    memset(w, 0, sizeof *w);
}

static mo_status moi_shards_end(mo_safetensors_shards_writer *w, mo_status status) {
    mo_safetensors_shards_discard(w);
    return status;
}

/* Create the shard that comes next. */
static mo_status moi_shards_begin(mo_safetensors_shards_writer *w) {
    mo_safetensors_writer_desc desc;
    const size_t first = w->first[w->at];
    desc.allocator = w->allocator;
    desc.log = w->log;
    desc.metadata = w->metadata;
    desc.n_metadata = w->n_metadata;
    const mo_safetensors_entry *entries = w->entries ? w->entries + first : NULL;
    return mo_safetensors_create(
        &w->writers[w->at], moi_shards_path(w, w->at), entries, w->first[w->at + 1] - first, &desc);
}

static mo_status moi_shards_check(mo_safetensors_shards_writer *w, const char *path) {
    const size_t length = strlen(path), end = sizeof moi_shards_suffix - 1;
    mo_status status = MO_OK;
    if (length < end || strcmp(path + length - end, moi_shards_suffix) != 0)
        return moi_file_fail(
            &w->log, path, MO_E_INVALID, "the path does not end in %s", moi_shards_suffix);
    for (size_t i = 0; status == MO_OK && i < w->n; i++)
        status = moi_stw_check_entry(&w->log, path, &w->entries[i], &w->total_size);
    if (status == MO_OK)
        status = moi_names_check(
            &w->allocator, &w->log, path, w->entries, w->n, sizeof *w->entries, "tensor");
    return status;
}

static mo_status moi_shards_plan(
    mo_safetensors_shards_writer *w, const char *path, uint64_t limit) {
    const mo_allocator *a = &w->allocator;
    const size_t length = strlen(path) + 1, n = moi_shards_split(w->entries, w->n, limit, NULL);
    if (n > MOI_SHARDS_MOST)
        return moi_file_fail(&w->log, path, MO_E_INVALID, "%llu shards are over the limit of %d",
            (unsigned long long)n, (int)MOI_SHARDS_MOST);
    w->n_shards = n;
    w->path_size = 2 * length + MOI_SHARDS_NAME;
    w->path = (char *)moi_alloc_array(a, w->path_size, 1);
    w->first = (size_t *)moi_alloc_array(a, n + 1, sizeof *w->first);
    w->writers = (mo_safetensors_writer *)moi_alloc_array(a, n, sizeof *w->writers);
    if (w->writers) memset(w->writers, 0, n * sizeof *w->writers);
    if (!w->path || !w->first || !w->writers)
        return moi_file_fail(&w->log, path, MO_E_NO_MEMORY, "out of memory for the shards");
    memcpy(w->path, path, length);
    (void)moi_shards_split(w->entries, w->n, limit, w->first);
    return MO_OK;
}

mo_status mo_safetensors_shards_create(mo_safetensors_shards_writer *w, const char *path,
    const mo_safetensors_entry *entries, size_t n, const mo_safetensors_shards_desc *desc) {
    mo_safetensors_shards_writer opening;
    mo_safetensors_shards_desc none;
    memset(&opening, 0, sizeof opening);
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (!w || !path || (!entries && n > 0)) return MO_E_INVALID;
    if (!desc->metadata && desc->n_metadata > 0) return MO_E_INVALID;
    opening.allocator = desc->allocator;
    opening.log = desc->log;
    opening.metadata = desc->metadata;
    opening.n_metadata = desc->n_metadata;
    opening.entries = entries;
    opening.n = n;
    const uint64_t limit = desc->max_shard_bytes ? desc->max_shard_bytes : UINT64_C(5000000000);
    mo_status status = moi_shards_check(&opening, path);
    if (status == MO_OK) status = moi_shards_plan(&opening, path, limit);
    if (status == MO_OK) status = moi_shards_begin(&opening);
    if (status != MO_OK) return moi_shards_end(&opening, status);
    *w = opening;
    return MO_OK;
}

mo_status mo_safetensors_shards_write(
    mo_safetensors_shards_writer *w, const void *data, size_t size) {
    const char *from = (const char *)data;
    mo_status status = MO_OK;
    if (!w || (!data && size > 0)) return MO_E_INVALID;
    if (!w->writers) return MO_E_STATE;
    while (status == MO_OK && size > 0) {
        mo_safetensors_writer *shard = &w->writers[w->at];
        const uint64_t left = shard->data_size - shard->data_written;
        if (left == 0 && w->at + 1 < w->n_shards) {
            status = moi_stw_seal(shard);
            w->at++;
            if (status == MO_OK) status = moi_shards_begin(w);
            continue;
        }
        const size_t part = size < left || left == 0 ? size : (size_t)left;
        status = mo_safetensors_write(shard, from, part);
        from += part, size -= part;
    }
    return status == MO_OK ? status : moi_shards_end(w, status);
}

/* ---- the end -------------------------------------------------------------------------------- */

static void moi_shards_put_index(const mo_safetensors_shards_writer *w, moi_sink *sink) {
    moi_sink_text(sink, "{\n  \"metadata\": {\n    \"total_size\": ");
    moi_sink_u64(sink, w->total_size);
    moi_sink_text(sink, "\n  },\n  \"weight_map\": {");
    for (size_t k = 0; k < w->n_shards; k++) {
        const char *path = moi_shards_path(w, k);
        for (size_t i = w->first[k]; i < w->first[k + 1]; i++) {
            moi_sink_text(sink, i ? ",\n    " : "\n    ");
            moi_sink_json(sink, w->entries[i].name);
            moi_sink_text(sink, ": ");
            moi_sink_json(sink, path + moi_file_folder(path));
        }
    }
    moi_sink_text(sink, "\n  }\n}\n");
}

/* Write the index under a temporary name. */
static mo_status moi_shards_write_index(mo_safetensors_shards_writer *w, mo_output *index) {
    moi_sink sink;
    memset(index, 0, sizeof *index);
    index->allocator = w->allocator;
    index->log = w->log;
    moi_sink_begin(&sink, NULL);
    moi_shards_put_index(w, &sink);
    mo_status status = moi_output_create(index, moi_shards_path(w, w->n_shards), sink.size);
    if (status != MO_OK) return status;
    moi_sink_begin(&sink, index);
    moi_shards_put_index(w, &sink);
    status = moi_sink_end(&sink);
    return status == MO_OK ? moi_output_seal(index) : status;
}

/* Everything is on disk under temporary names: now the names. */
static mo_status moi_shards_publish(mo_safetensors_shards_writer *w, mo_output *index) {
    mo_status status = MO_OK;
    int error = moi_file_remove(index->target);
    if (!error) error = moi_file_sync_folder(index->target);
    if (error) status = moi_file_fail_error(&w->log, index->path, error);
    for (size_t i = 0; status == MO_OK && i < w->n_shards; i++)
        status = moi_output_publish(&w->writers[i].output, i + 1 == w->n_shards);
    if (status == MO_OK) return moi_output_publish(index, 1);
    moi_output_discard(index);
    return status;
}

/* The last shard, and those that follow without bytes. */
static mo_status moi_shards_seal(mo_safetensors_shards_writer *w) {
    mo_status status = moi_stw_seal(&w->writers[w->at]);
    while (status == MO_OK && w->at + 1 < w->n_shards) {
        w->at++;
        status = moi_shards_begin(w);
        if (status == MO_OK) status = moi_stw_seal(&w->writers[w->at]);
    }
    return status;
}

mo_status mo_safetensors_shards_commit(mo_safetensors_shards_writer *w) {
    mo_output index;
    if (!w || !w->writers) return MO_E_STATE;
    mo_status status = moi_shards_seal(w);
    if (status == MO_OK && w->n_shards == 1) status = moi_output_publish(&w->writers[0].output, 1);
    else if (status == MO_OK) {
        status = moi_shards_write_index(w, &index);
        if (status == MO_OK) status = moi_shards_publish(w, &index);
    }
    return moi_shards_end(w, status);
}
