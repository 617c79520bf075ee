/* mo_checkpoint.c - see mo_checkpoint.h: saving and loading one file.
 *
 * Both go through the same list of what a run has; loading goes through it once to check and once
 * to write, so that nothing is written before everything is known to fit. */

enum { MOI_CK_TEXT_SIZE = 192, MOI_CK_FIXED_PAIRS = 5 };

static mo_status moi_ck_begin(
    const mo_checkpoint_access *access, void *address, size_t size, int read, void **host) {
    *host = address;
    return access->begin && size > 0 ? access->begin(access->self, address, size, read, host)
                                     : MO_OK;
}

static mo_status moi_ck_end(
    const mo_checkpoint_access *access, void *address, void *host, size_t size, int write) {
    return access->end && size > 0 ? access->end(access->self, address, host, size, write) : MO_OK;
}

/* ---- saving: the list of what is written ---------------------------------------------------- */

/* Entries, where their data is, metadata, and the texts and shapes that they point to. */
typedef struct moi_ck_list {
    const mo_checkpoint *run;
    const mo_checkpoint_desc *desc;
    mo_safetensors_entry *entries;
    void **data;
    size_t n, most;
    mo_safetensors_pair *pairs;
    size_t n_pairs, most_pairs;
    uint64_t *dims;
    size_t n_dims, most_dims;
    char *text;
    size_t text_at, text_size;
} moi_ck_list;

/* Bounds of the counts. The objects exist in memory, and each is larger than what is counted for
 * it, but the sum is checked all the same. */
static int moi_ck_list_bounds(moi_ck_list *l) {
    const mo_checkpoint *r = l->run;
    const size_t n_params = r->params ? r->params->n : 0;
    size_t parts, size = MOI_CK_FIXED_PAIRS * MOI_CK_TEXT_SIZE;
    if (!moi_mul(r->n_states, MO_OPTIM_MAX_PARTS, &parts) || !moi_add(n_params, parts, &l->most) ||
        !moi_add(l->most, r->n_arrays, &l->most) || !moi_add(l->most, 1, &l->most))
        return 0;
    if (!moi_mul(n_params, MO_PARAM_MAX_DIMS, &l->most_dims) ||
        !moi_add(l->most_dims, parts, &l->most_dims) || !moi_add(l->most_dims, 1, &l->most_dims))
        return 0;
    if (!moi_add(r->n_states, r->n_values, &l->most_pairs) ||
        !moi_add(l->most_pairs, r->n_metadata, &l->most_pairs) ||
        !moi_add(l->most_pairs, MOI_CK_FIXED_PAIRS, &l->most_pairs))
        return 0;
    for (size_t i = 0; i < r->n_states; i++) {
        size_t one = strlen(r->states[i].name) + MOI_CK_TEXT_SIZE;
        if (!moi_mul(one, MO_OPTIM_MAX_PARTS + 1, &one) || !moi_add(size, one, &size)) return 0;
    }
    for (size_t i = 0; i < r->n_values; i++)
        if (!moi_add(size, strlen(r->values[i].key) + MOI_CK_TEXT_SIZE, &size)) return 0;
    l->text_size = size;
    return 1;
}

static void moi_ck_list_free(moi_ck_list *l) {
    const mo_allocator *a = &l->desc->allocator;
    moi_free_array(a, l->entries, l->most, sizeof *l->entries);
    moi_free_array(a, (void *)l->data, l->most, sizeof *l->data);
    moi_free_array(a, l->pairs, l->most_pairs, sizeof *l->pairs);
    moi_free_array(a, l->dims, l->most_dims, sizeof *l->dims);
    moi_free_array(a, l->text, l->text_size, 1);
}

static int moi_ck_list_allocate(moi_ck_list *l) {
    const mo_allocator *a = &l->desc->allocator;
    l->entries = (mo_safetensors_entry *)moi_alloc_array(a, l->most, sizeof *l->entries);
    l->data = (void **)moi_alloc_array(a, l->most, sizeof *l->data);
    l->pairs = (mo_safetensors_pair *)moi_alloc_array(a, l->most_pairs, sizeof *l->pairs);
    l->dims = (uint64_t *)moi_alloc_array(a, l->most_dims, sizeof *l->dims);
    l->text = (char *)moi_alloc_array(a, l->text_size, 1);
    return l->entries && l->data && l->pairs && l->dims && l->text;
}

/* Text that lives as long as the list. */
MOI_PRINTF(2)
static const char *moi_ck_text(moi_ck_list *l, const char *format, ...) {
    char *text = l->text + l->text_at;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, l->text_size - l->text_at, format, args);
    va_end(args);
    MEMOPT_ASSERT(n >= 0 && (size_t)n < l->text_size - l->text_at); /* see moi_ck_list_bounds */
    l->text_at += (size_t)n + 1;
    return text;
}

static void moi_ck_put(moi_ck_list *l, const char *name, mo_dtype dtype, const uint64_t *shape,
    size_t n_dims, void *data) {
    mo_safetensors_entry *e = &l->entries[l->n];
    memset(e, 0, sizeof *e);
    e->name = name;
    e->dtype = dtype;
    e->shape = shape;
    e->n_dims = n_dims;
    l->data[l->n++] = data;
}

static void moi_ck_put_pair(moi_ck_list *l, const char *key, const char *value) {
    l->pairs[l->n_pairs].key = key;
    l->pairs[l->n_pairs++].value = value;
}

static mo_dtype moi_ck_param_dtype(const mo_param *p) {
    return p->is_bf16 ? MO_DTYPE_BF16 : MO_DTYPE_F32;
}

static void moi_ck_put_params(moi_ck_list *l, unsigned bits) {
    const mo_params *params = l->run->params;
    for (size_t i = 0; params && i < params->n; i++) {
        const mo_param *p = &params->items[i];
        uint64_t *shape = l->dims + l->n_dims;
        if (p->tied_to != i || mo_dtype_bits(moi_ck_param_dtype(p)) != bits) continue;
        for (size_t k = 0; k < p->n_dims; k++) shape[k] = p->shape[k];
        l->n_dims += p->n_dims;
        moi_ck_put(l, p->name, moi_ck_param_dtype(p), shape, p->n_dims, mo_param_data(p));
    }
}

static void moi_ck_put_state(moi_ck_list *l, const mo_checkpoint_state *s, unsigned bits) {
    mo_optim_part parts[MO_OPTIM_MAX_PARTS];
    const size_t n = mo_optim_state_parts(s->state, parts);
    for (size_t i = 0; i < n; i++) {
        uint64_t *shape = l->dims + l->n_dims;
        if (mo_dtype_bits(parts[i].dtype) != bits) continue;
        *shape = parts[i].n;
        l->n_dims++;
        moi_ck_put(l, moi_ck_text(l, "optimizer.%s.%s", s->name, parts[i].suffix), parts[i].dtype,
            shape, 1, parts[i].data);
    }
}

/* Wide elements first, so that all stay aligned; the sum at the end. */
static void moi_ck_put_tensors(moi_ck_list *l) {
    static const uint64_t eight = 8;
    const mo_checkpoint *r = l->run;
    for (unsigned bits = 64; bits >= 8; bits /= 2) {
        moi_ck_put_params(l, bits);
        for (size_t i = 0; i < r->n_arrays; i++) {
            const mo_checkpoint_array *a = &r->arrays[i];
            if (mo_dtype_bits(a->dtype) == bits)
                moi_ck_put(l, a->name, a->dtype, a->shape, a->n_dims, a->data);
        }
        for (size_t i = 0; i < r->n_states; i++) moi_ck_put_state(l, &r->states[i], bits);
    }
    moi_ck_put(l, moi_ck_sum_name, MO_DTYPE_U8, &eight, 1, NULL);
}

static uint64_t moi_ck_double_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The scale as its bits: text of a double depends on the locale. */
static void moi_ck_put_scaler(moi_ck_list *l) {
    const mo_loss_scaler *s = l->run->scaler;
    if (!s) return;
    moi_ck_put_pair(l, "memopt.scaler",
        moi_ck_text(l, "scale_bits=%llu good_steps=%lu skipped=%llu",
            (unsigned long long)moi_ck_double_bits(s->scale), (unsigned long)s->good_steps,
            (unsigned long long)s->skipped));
}

static mo_status moi_ck_put_metadata(moi_ck_list *l, uint64_t save) {
    const mo_checkpoint *r = l->run;
    char text[MOI_CK_TEXT_SIZE];
    moi_ck_put_pair(l, "format", "pt");
    moi_ck_put_pair(l, "memopt.version", mo_version());
    moi_ck_put_pair(l, "memopt.step", moi_ck_text(l, "%llu", (unsigned long long)r->step));
    moi_ck_put_pair(l, "memopt.save", moi_ck_text(l, "%llu", (unsigned long long)save));
    moi_ck_put_scaler(l);
    for (size_t i = 0; i < r->n_values; i++) {
        const mo_checkpoint_value *v = &r->values[i];
        moi_ck_put_pair(l, moi_ck_text(l, "memopt.%s", v->key),
            v->text ? v->text : moi_ck_text(l, "%llu", (unsigned long long)v->number));
    }
    for (size_t i = 0; i < r->n_states; i++) {
        const mo_checkpoint_state *s = &r->states[i];
        const mo_status status = mo_optim_format(
            s->desc, s->state, s->of ? s->of : s->state->n, r->step, text, sizeof text);
        if (status != MO_OK) return status;
        moi_ck_put_pair(
            l, moi_ck_text(l, "memopt.optimizer.%s", s->name), moi_ck_text(l, "%s", text));
    }
    for (size_t i = 0; i < r->n_metadata; i++)
        moi_ck_put_pair(l, r->metadata[i].key, r->metadata[i].value);
    return MO_OK;
}

/* What the list relies on; names used twice and the like are left to the writer. */
static int moi_ck_is_run(const mo_checkpoint *r) {
    if ((!r->arrays && r->n_arrays) || (!r->states && r->n_states) || (!r->values && r->n_values) ||
        (!r->metadata && r->n_metadata))
        return 0;
    for (size_t i = 0; i < r->n_states; i++)
        if (!r->states[i].name || !r->states[i].desc || !r->states[i].state) return 0;
    for (size_t i = 0; i < r->n_arrays; i++)
        if (!r->arrays[i].name || mo_dtype_bits(r->arrays[i].dtype) % 8 != 0 ||
            mo_dtype_bits(r->arrays[i].dtype) == 0 || strncmp(r->arrays[i].name, "memopt.", 7) == 0)
            return 0;
    for (size_t i = 0; i < r->n_values; i++)
        if (!r->values[i].key) return 0;
    for (size_t i = 0; i < r->n_metadata; i++)
        if (!r->metadata[i].key || strncmp(r->metadata[i].key, "memopt.", 7) == 0) return 0;
    return 1;
}

/* ---- saving: the file ----------------------------------------------------------------------- */

static mo_status moi_ck_write_tensor(
    moi_ck_list *l, mo_safetensors_writer *w, size_t i, uint64_t *sum) {
    const mo_checkpoint_access *access = &l->desc->access;
    const mo_safetensors_entry *e = &l->entries[i];
    moi_ck_hash hash;
    uint64_t bytes = 0;
    void *host = NULL;
    (void)moi_st_entry_bytes(e, &bytes); /* the writer has checked it */
    if (bytes > SIZE_MAX) return MO_E_OVERFLOW;
    if (!l->data[i] && bytes > 0)
        return moi_file_fail(
            &l->desc->log, w->output.path, MO_E_INVALID, "tensor '%s' has no data", e->name);
    mo_status status = moi_ck_begin(access, l->data[i], (size_t)bytes, 1, &host);
    if (status != MO_OK)
        return moi_file_fail(&l->desc->log, w->output.path, status,
            "tensor '%s' cannot be reached: %s", e->name, mo_status_text(status));
    moi_ck_hash_begin(&hash, moi_ck_entry_seed(e));
    moi_ck_hash_add(&hash, host, (size_t)bytes);
    *sum += moi_ck_hash_end(&hash);
    status = mo_safetensors_write(w, host, (size_t)bytes);
    const mo_status end = moi_ck_end(access, l->data[i], host, (size_t)bytes, 0);
    return status == MO_OK ? end : status;
}

static mo_status moi_ck_write_sum(moi_ck_list *l, mo_safetensors_writer *w, uint64_t sum) {
    unsigned char bytes[8];
    for (size_t i = 0; i < l->n_pairs; i++) sum += moi_ck_pair_hash(&l->pairs[i]);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(sum >> 8 * i & 0xff);
    return mo_safetensors_write(w, bytes, sizeof bytes);
}

static mo_status moi_ck_write(moi_ck_list *l, const char *file) {
    mo_safetensors_writer_desc desc;
    mo_safetensors_writer w;
    uint64_t sum = 0;
    memset(&desc, 0, sizeof desc);
    memset(&w, 0, sizeof w);
    desc.allocator = l->desc->allocator;
    desc.log = l->desc->log;
    desc.metadata = l->pairs;
    desc.n_metadata = l->n_pairs;
    mo_status status = mo_safetensors_create(&w, file, l->entries, l->n, &desc);
    for (size_t i = 0; i + 1 < l->n && status == MO_OK; i++)
        status = moi_ck_write_tensor(l, &w, i, &sum);
    if (status == MO_OK) status = moi_ck_write_sum(l, &w, sum);
    if (status == MO_OK) status = mo_safetensors_commit(&w);
    mo_safetensors_discard(&w);
    return status;
}

static mo_status moi_ck_save_file(
    const char *file, const mo_checkpoint *run, const mo_checkpoint_desc *desc, uint64_t save) {
    moi_ck_list l;
    memset(&l, 0, sizeof l);
    l.run = run;
    l.desc = desc;
    if (!moi_ck_list_bounds(&l)) return MO_E_OVERFLOW;
    mo_status status = moi_ck_list_allocate(&l)
        ? MO_OK
        : moi_file_fail(&desc->log, file, MO_E_NO_MEMORY, "out of memory for the list of tensors");
    if (status == MO_OK) status = moi_ck_put_metadata(&l, save);
    if (status == MO_OK) {
        moi_ck_put_tensors(&l);
        status = moi_ck_write(&l, file);
    }
    moi_ck_list_free(&l);
    return status;
}

mo_status mo_checkpoint_save(
    const char *path, const mo_checkpoint *run, const mo_checkpoint_desc *desc) {
    char file[MOI_FILE_PATH_SIZE];
    moi_ck_place place;
    mo_checkpoint_desc none;
    uint64_t save = 1;
    if (!path || !run || !moi_ck_is_run(run)) return MO_E_INVALID;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    mo_status status = moi_ck_place_of(path, 0, &desc->log, &place);
    if (status == MO_OK) status = moi_ck_file_at(&place, desc->keep, run->step, file, sizeof file);
    if (status == MO_OK) status = moi_ck_prepare(&place, desc, &save);
    if (status == MO_OK) status = moi_ck_save_file(desc->keep ? file : path, run, desc, save);
    if (status == MO_OK && desc->keep > 0) moi_ck_rotate(&place, desc->keep, file, desc);
    return status;
}

/* ---- loading -------------------------------------------------------------------------------- */

/* claimed  [st.n] whether the run has a place for the entry
 * block    for states that are requantized; stage: for states that are not host memory */
typedef struct moi_ck_loading {
    mo_safetensors st;
    const mo_checkpoint_desc *desc;
    uint64_t step;
    unsigned char *claimed;
    void *block, *stage;
    size_t block_size, stage_size;
} moi_ck_loading;

static mo_status moi_ck_claim(moi_ck_loading *l, const mo_safetensors_entry *e) {
    unsigned char *claimed = &l->claimed[e - l->st.entries];
    char name[MOI_ST_NAME_SIZE];
    if (*claimed)
        return moi_file_fail(&l->st.log, l->st.input.path, MO_E_INVALID,
            "tensor '%s' is asked for twice", moi_st_printable_name(e->name, name));
    *claimed = 1;
    return MO_OK;
}

static mo_status moi_ck_check_tensor(moi_ck_loading *l, const char *name, mo_dtype dtype,
    const uint64_t *shape, size_t n_dims, const void *data) {
    char is[MOI_ST_SHAPE_SIZE], want[MOI_ST_SHAPE_SIZE], text[MOI_ST_NAME_SIZE];
    const mo_safetensors_entry *e = mo_safetensors_find(&l->st, name);
    mo_safetensors_entry wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.shape = shape;
    wanted.n_dims = n_dims;
    moi_st_printable_name(name, text);
    if (!e)
        return moi_file_fail(
            &l->st.log, l->st.input.path, MO_E_FORMAT, "tensor '%s' is missing", text);
    if (e->dtype != dtype)
        return moi_file_fail(&l->st.log, l->st.input.path, MO_E_FORMAT,
            "tensor '%s' has dtype %s, not %s", text, mo_dtype_name(e->dtype),
            mo_dtype_name(dtype));
    if (e->n_dims != n_dims || (n_dims > 0 && memcmp(e->shape, shape, n_dims * sizeof *shape) != 0))
        return moi_file_fail(&l->st.log, l->st.input.path, MO_E_FORMAT,
            "tensor '%s' has shape %s, not %s", text, moi_st_shape_text(e, is),
            moi_st_shape_text(&wanted, want));
    if (e->end - e->begin > SIZE_MAX) return MO_E_OVERFLOW;
    if (!data && e->end > e->begin)
        return moi_file_fail(
            &l->st.log, l->st.input.path, MO_E_INVALID, "tensor '%s' has nowhere to go", text);
    return moi_ck_claim(l, e);
}

static mo_status moi_ck_check_tensors(moi_ck_loading *l, const mo_checkpoint *run) {
    const mo_params *params = run->params;
    mo_status status = MO_OK;
    for (size_t i = 0; params && i < params->n && status == MO_OK; i++) {
        const mo_param *p = &params->items[i];
        uint64_t shape[MO_PARAM_MAX_DIMS] = {0};
        if (p->tied_to != i) continue;
        for (size_t k = 0; k < p->n_dims; k++) shape[k] = p->shape[k];
        status = moi_ck_check_tensor(
            l, p->name, moi_ck_param_dtype(p), shape, p->n_dims, mo_param_data(p));
    }
    for (size_t i = 0; i < run->n_arrays && status == MO_OK; i++) {
        const mo_checkpoint_array *a = &run->arrays[i];
        status = moi_ck_check_tensor(l, a->name, a->dtype, a->shape, a->n_dims, a->data);
    }
    return status;
}

static mo_status moi_ck_check_value(
    const mo_safetensors *st, const mo_checkpoint_value *v, const char **text, uint64_t *number) {
    char key[MOI_OPTIM_NAME_SIZE];
    const int n = snprintf(key, sizeof key, "memopt.%s", v->key);
    if (n < 0 || (size_t)n >= sizeof key) return MO_E_INVALID;
    *text = mo_safetensors_metadata(st, key);
    if (!*text)
        return moi_file_fail(
            &st->log, st->input.path, MO_E_FORMAT, "metadata '%s' is missing", key);
    if (!v->text) return moi_ck_number(st, key, number);
    if (strlen(*text) >= v->text_size)
        return moi_file_fail(&st->log, st->input.path, MO_E_NO_SPACE,
            "metadata '%s' is longer than the %llu bytes for it", key,
            (unsigned long long)v->text_size);
    return MO_OK;
}

static mo_status moi_ck_read_scaler(const mo_safetensors *st, mo_loss_scaler *scaler) {
    static const char *const fields[] = {"scale_bits", "good_steps", "skipped"};
    const char *text = mo_safetensors_metadata(st, "memopt.scaler"), *at = text;
    uint64_t values[3] = {0, 0, 0};
    double scale = 0;
    int n = 0;
    while (text && n < 3 && moi_optim_field(&at, fields[n], &values[n])) n++;
    memcpy(&scale, &values[0], sizeof scale);
    if (n < 3 || *at || !(scale > 0) || !isfinite(scale) || values[1] > UINT32_MAX)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "metadata 'memopt.scaler' is not that of a loss scaler: '%.100s'",
            text ? text : "missing");
    scaler->scale = scale;
    scaler->good_steps = (uint32_t)values[1];
    scaler->skipped = values[2];
    return MO_OK;
}

/* Everything that is in the metadata, into nothing. */
static mo_status moi_ck_check_metadata(moi_ck_loading *l, const mo_checkpoint *run) {
    const char *text;
    uint64_t number;
    mo_loss_scaler scaler;
    mo_status status = moi_ck_number(&l->st, "memopt.step", &l->step);
    if (status == MO_E_NOT_FOUND)
        status = moi_file_fail(&l->st.log, l->st.input.path, MO_E_FORMAT,
            "no checkpoint: metadata 'memopt.step' is missing");
    for (size_t i = 0; i < run->n_values && status == MO_OK; i++)
        status = moi_ck_check_value(&l->st, &run->values[i], &text, &number);
    if (status == MO_OK && run->scaler) status = moi_ck_read_scaler(&l->st, &scaler);
    return status;
}

/* ---- loading: states ------------------------------------------------------------------------ */

/* A state of the same coding in host memory. */
static mo_optim_desc moi_ck_stage_desc(const mo_checkpoint_state *s) {
    const size_t block =
        moi_optim_is_blockwise(s->state->precision) ? s->state->block : s->desc->block;
    return moi_optim_desc_as(s->desc, s->state, s->state->precision, block, s->state->plain_v);
}

/* Whether the file has all of a state, and the memory that reading it takes. */
static mo_status moi_ck_match_state(
    moi_ck_loading *l, const mo_checkpoint_state *s, moi_optim_match *match) {
    const size_t of = s->of ? s->of : s->state->n;
    const mo_status status = moi_optim_match_file(&l->st, s->desc, s->name, of, s->state, match);
    if (status == MO_E_NOT_FOUND) return MO_E_FORMAT; /* of the file's content */
    if (status != MO_OK) return status;
    if (match->part.n != s->state->n || match->h.t != l->step)
        return moi_file_fail(&l->st.log, l->st.input.path, MO_E_FORMAT,
            "optimizer states of '%s' are %llu numbers at step %llu, not %llu at step %llu",
            s->name, (unsigned long long)match->part.n, (unsigned long long)match->h.t,
            (unsigned long long)s->state->n, (unsigned long long)l->step);
    if (!match->same) {
        const mo_optim_desc d = moi_optim_desc_from(s->desc, match);
        l->block_size = moi_max(l->block_size, mo_optim_state_size(&d, s->state->n));
    }
    if (l->desc->access.begin) {
        const mo_optim_desc d = moi_ck_stage_desc(s);
        l->stage_size = moi_max(l->stage_size, mo_optim_state_size(&d, s->state->n));
    }
    return MO_OK;
}

/* Whether the tensors of a state are there, in the file's own coding. */
static mo_status moi_ck_check_parts(moi_ck_loading *l, const mo_checkpoint_state *s) {
    moi_optim_match match;
    mo_optim_part parts[MO_OPTIM_MAX_PARTS];
    mo_optim_state from;
    mo_status status = moi_ck_match_state(l, s, &match);
    if (status != MO_OK) return status;
    from = match.part;
    if (!match.same) {
        const mo_optim_desc d = moi_optim_desc_from(s->desc, &match);
        if (mo_optim_state_attach(&d, match.part.n, l->block, l->block_size, &from) != MO_OK)
            return moi_file_fail(&l->st.log, l->st.input.path, MO_E_FORMAT,
                "optimizer states of '%s' have a block of %llu", s->name,
                (unsigned long long)match.h.block);
    }
    const size_t n = mo_optim_state_parts(&from, parts);
    for (size_t i = 0; i < n && status == MO_OK; i++) {
        const mo_safetensors_entry *e = NULL;
        const uint64_t begin = moi_optim_part_begin(&from, &parts[i], match.skip);
        status = moi_optim_find_part(&l->st, s->name, &parts[i], begin, &e);
        if (status == MO_OK) status = moi_ck_claim(l, e);
    }
    return status;
}

static mo_status moi_ck_check_states(moi_ck_loading *l, const mo_checkpoint *run) {
    moi_optim_match match;
    mo_status status = MO_OK;
    for (size_t i = 0; i < run->n_states && status == MO_OK; i++)
        status = moi_ck_match_state(l, &run->states[i], &match);
    if (status != MO_OK) return status;
    if (l->block_size > 0) l->block = mo_alloc(&l->desc->allocator, l->block_size, MOI_CACHE_LINE);
    if (l->stage_size > 0) l->stage = mo_alloc(&l->desc->allocator, l->stage_size, MOI_CACHE_LINE);
    if ((l->block_size > 0 && !l->block) || (l->stage_size > 0 && !l->stage))
        return moi_file_fail(
            &l->st.log, l->st.input.path, MO_E_NO_MEMORY, "out of memory for the largest state");
    for (size_t i = 0; i < run->n_states && status == MO_OK; i++)
        status = moi_ck_check_parts(l, &run->states[i]);
    return status;
}

/* What nobody asked for; names of memopt itself may be of a later version. */
static mo_status moi_ck_check_rest(moi_ck_loading *l) {
    char name[MOI_ST_NAME_SIZE];
    for (size_t i = 0; i < l->st.n; i++)
        if (!l->claimed[i] && strncmp(l->st.entries[i].name, "memopt.", 7) != 0)
            return moi_file_fail(&l->st.log, l->st.input.path, MO_E_FORMAT,
                "tensor '%s' has no place in this run",
                moi_st_printable_name(l->st.entries[i].name, name));
    return MO_OK;
}

static mo_status moi_ck_check(moi_ck_loading *l, const mo_checkpoint *run) {
    l->claimed = (unsigned char *)moi_alloc_array(&l->desc->allocator, l->st.n + 1, 1);
    if (!l->claimed)
        return moi_file_fail(
            &l->st.log, l->st.input.path, MO_E_NO_MEMORY, "out of memory for the list of tensors");
    memset(l->claimed, 0, l->st.n + 1);
    mo_status status = moi_ck_check_metadata(l, run);
    if (status == MO_OK) status = moi_ck_check_tensors(l, run);
    if (status == MO_OK) status = moi_ck_check_states(l, run);
    if (status == MO_OK) status = moi_ck_check_rest(l);
    if (status == MO_OK && !l->desc->trusted)
        status = moi_ck_sum_check(&l->st, &l->desc->allocator);
    return status;
}

/* ---- loading: into the run ------------------------------------------------------------------ */

static mo_status moi_ck_read_tensor(moi_ck_loading *l, const char *name, void *data) {
    const mo_checkpoint_access *access = &l->desc->access;
    const mo_safetensors_entry *e = mo_safetensors_find(&l->st, name);
    const size_t size = (size_t)(e->end - e->begin);
    void *host = NULL;
    mo_status status = moi_ck_begin(access, data, size, 0, &host);
    if (status != MO_OK) return status;
    status = mo_safetensors_read(&l->st, e, 0, host, size);
    const mo_status end = moi_ck_end(access, data, host, size, status == MO_OK);
    return status == MO_OK ? end : status;
}

static mo_status moi_ck_read_tensors(moi_ck_loading *l, const mo_checkpoint *run) {
    const mo_params *params = run->params;
    mo_status status = MO_OK;
    for (size_t i = 0; params && i < params->n && status == MO_OK; i++)
        if (params->items[i].tied_to == i)
            status = moi_ck_read_tensor(l, params->items[i].name, mo_param_data(&params->items[i]));
    for (size_t i = 0; i < run->n_arrays && status == MO_OK; i++)
        status = moi_ck_read_tensor(l, run->arrays[i].name, run->arrays[i].data);
    return status;
}

/* An allocator of one block, which has been allocated while failing was still free of harm. */
static void *moi_ck_block_alloc(void *self, size_t size, size_t align) {
    const moi_ck_loading *l = (const moi_ck_loading *)self;
    (void)align;
    return size <= l->block_size ? l->block : NULL;
}
static void moi_ck_block_free(void *self, void *ptr, size_t size, size_t align) {
    (void)self, (void)ptr, (void)size, (void)align;
}

static mo_status moi_ck_write_back(
    const mo_checkpoint_access *access, const mo_optim_state *from, const mo_optim_state *to) {
    mo_optim_part mine[MO_OPTIM_MAX_PARTS], theirs[MO_OPTIM_MAX_PARTS];
    const size_t n = mo_optim_state_parts(from, mine);
    mo_status status = MO_OK;
    (void)mo_optim_state_parts(to, theirs);
    for (size_t i = 0; i < n && status == MO_OK; i++) {
        const size_t size = (size_t)mine[i].n * (mo_dtype_bits(mine[i].dtype) / 8);
        void *host = NULL;
        status = moi_ck_begin(access, theirs[i].data, size, 0, &host);
        if (status != MO_OK) return status;
        memcpy(host, mine[i].data, size);
        status = moi_ck_end(access, theirs[i].data, host, size, 1);
    }
    return status;
}

static mo_status moi_ck_read_state(moi_ck_loading *l, const mo_checkpoint_state *s) {
    mo_safetensors view = l->st;
    const size_t of = s->of ? s->of : s->state->n;
    size_t n = 0;
    view.allocator.alloc = moi_ck_block_alloc;
    view.allocator.free = moi_ck_block_free;
    view.allocator.self = l;
    if (!l->desc->access.begin)
        return mo_optim_load(&view, s->desc, s->name, of, s->state, &n, NULL);
    const mo_optim_desc d = moi_ck_stage_desc(s);
    mo_optim_state stage;
    mo_status status = mo_optim_state_init(&d, s->state->n, l->stage, l->stage_size, &stage);
    if (status != MO_OK) return status;
    stage.offset = s->state->offset;
    status = mo_optim_load(&view, s->desc, s->name, of, &stage, &n, NULL);
    return status == MO_OK ? moi_ck_write_back(&l->desc->access, &stage, s->state) : status;
}

/* Nothing here can fail any more. */
static void moi_ck_take_metadata(moi_ck_loading *l, mo_checkpoint *run) {
    for (size_t i = 0; i < run->n_values; i++) {
        mo_checkpoint_value *v = &run->values[i];
        const char *text = NULL;
        uint64_t number = 0;
        if (moi_ck_check_value(&l->st, v, &text, &number) != MO_OK) continue;
        if (v->text) strcpy(v->text, text);
        else v->number = number;
    }
    if (run->scaler) (void)moi_ck_read_scaler(&l->st, run->scaler);
    run->step = l->step;
}

static mo_status moi_ck_take(moi_ck_loading *l, mo_checkpoint *run) {
    mo_status status = moi_ck_read_tensors(l, run);
    for (size_t i = 0; i < run->n_states && status == MO_OK; i++)
        status = moi_ck_read_state(l, &run->states[i]);
    if (status != MO_OK)
        return moi_file_fail(&l->st.log, l->st.input.path, status,
            "%s; the run is partly overwritten, load another file", mo_status_text(status));
    moi_ck_take_metadata(l, run);
    return MO_OK;
}

static mo_status moi_ck_open(mo_safetensors *st, const char *file, const mo_checkpoint_desc *desc) {
    mo_safetensors_desc d;
    memset(&d, 0, sizeof d);
    memset(st, 0, sizeof *st);
    d.allocator = desc->allocator;
    d.log = desc->log;
    return mo_safetensors_open(st, file, &d);
}

mo_status mo_checkpoint_load(const char *file, mo_checkpoint *run, const mo_checkpoint_desc *desc) {
    moi_ck_loading l;
    mo_checkpoint_desc none;
    if (!file || !run || !moi_ck_is_run(run)) return MO_E_INVALID;
    memset(&none, 0, sizeof none);
    memset(&l, 0, sizeof l);
    l.desc = desc ? desc : &none;
    mo_status status = moi_ck_open(&l.st, file, l.desc);
    if (status != MO_OK) return status;
    status = moi_ck_check(&l, run);
    if (status == MO_OK) status = moi_ck_take(&l, run);
    const mo_allocator *a = &l.desc->allocator;
    if (l.claimed) moi_free_array(a, l.claimed, l.st.n + 1, 1);
    mo_free(a, l.block, l.block_size, MOI_CACHE_LINE);
    mo_free(a, l.stage, l.stage_size, MOI_CACHE_LINE);
    mo_safetensors_close(&l.st);
    return status;
}

mo_status mo_checkpoint_verify(const char *file, const mo_checkpoint_desc *desc, uint64_t *step) {
    mo_safetensors st;
    mo_checkpoint_desc none;
    uint64_t at = 0;
    if (!file) return MO_E_INVALID;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    mo_status status = moi_ck_open(&st, file, desc);
    if (status != MO_OK) return status;
    status = moi_ck_number(&st, "memopt.step", &at);
    if (status == MO_E_NOT_FOUND)
        status = moi_file_fail(&st.log, st.input.path, MO_E_FORMAT,
            "no checkpoint: metadata 'memopt.step' is missing");
    if (status == MO_OK) status = moi_ck_sum_check(&st, &desc->allocator);
    mo_safetensors_close(&st);
    if (status == MO_OK && step) *step = at;
    return status;
}
