/* mo_checkpoint_files.c - the files of a run: their names, which is the newest, which are too many.
 *
 * The names of kept files differ, so that no file changes its name but from temporary to final:
 * there is no moment at which a rotation is half done. Lists of files are not kept: each question
 * is one pass over the folder. */

enum { MOI_CK_STEP_DIGITS = 8 };

/* ---- names ---------------------------------------------------------------------------------- */

static mo_status moi_ck_place_folder(const char *path, const mo_log *log, moi_ck_place *place) {
    const size_t n = strlen(path);
    if (n + 2 > sizeof place->path)
        return moi_file_fail(log, path, MO_E_NO_SPACE, "the path is too long");
    memcpy(place->path, path, n + 1);
    if (moi_file_folder(path) != n) strcpy(place->path + n, "/");
    place->any = 1;
    place->folder = place->stem = strlen(place->path);
    return MO_OK;
}

static mo_status moi_ck_place_of(
    const char *path, int may_be_folder, const mo_log *log, moi_ck_place *place) {
    unsigned mode = 0;
    memset(place, 0, sizeof *place);
    if (may_be_folder && moi_file_is_folder(path)) return moi_ck_place_folder(path, log, place);
    const int error = moi_file_target(path, place->path, &mode);
    if (error) return moi_file_fail_error(log, path, error);
    place->folder = moi_file_folder(place->path);
    const char *name = place->path + place->folder, *dot = strrchr(name, '.');
    place->stem = place->folder + (dot && dot != name ? (size_t)(dot - name) : strlen(name));
    return MO_OK;
}

static mo_status moi_ck_file_at(
    const moi_ck_place *place, size_t keep, uint64_t step, char *file, size_t size) {
    int n;
    if (keep == 0) n = snprintf(file, size, "%s", place->path);
    else
        n = snprintf(file, size, "%.*s-%0*llu%s", (int)place->stem, place->path,
            (int)MOI_CK_STEP_DIGITS, (unsigned long long)step, place->path + place->stem);
    return n < 0 || (size_t)n >= size ? MO_E_NO_SPACE : MO_OK;
}

mo_status mo_checkpoint_name(
    const char *path, const mo_checkpoint_desc *desc, uint64_t step, char *file, size_t size) {
    moi_ck_place place;
    if (!path || !file) return MO_E_INVALID;
    const mo_status status = moi_ck_place_of(path, 0, desc ? &desc->log : NULL, &place);
    return status == MO_OK ? moi_ck_file_at(&place, desc ? desc->keep : 0, step, file, size)
                           : status;
}

/* Length of name[0..length) without "-STEP" at its end. */
static size_t moi_ck_without_step(const char *name, size_t length) {
    size_t at = length;
    while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9') at--;
    const int is = length - at >= MOI_CK_STEP_DIGITS && at > 1 && name[at - 1] == '-';
    return is ? at - 1 : length;
}

/* Whether name[0..length) may be a file of the run; *kept: with a step in its name. */
static int moi_ck_is_name(const moi_ck_place *place, const char *name, size_t length, int *kept) {
    const char *extension = place->any ? ".safetensors" : place->path + place->stem;
    const size_t n_extension = strlen(extension), n_stem = place->stem - place->folder;
    if (length <= n_extension || length >= MOI_CK_NAME_SIZE) return 0;
    const size_t stem = length - n_extension, base = moi_ck_without_step(name, stem);
    if (memcmp(name + stem, extension, n_extension) != 0) return 0;
    *kept = base < stem;
    if (place->any) return 1;
    if (memcmp(name, place->path + place->folder, moi_min(n_stem, length)) != 0) return 0;
    return stem == n_stem ? !(*kept = 0) : base == n_stem && *kept;
}

/* ---- one pass over the folder --------------------------------------------------------------- */

/* before  only those older than this one; NULL = all
 * spared  name of a file that counts, but not as the oldest; NULL = none
 * newest, oldest  of n files; n_unreadable: others, whose content is not known */
typedef struct moi_ck_scan {
    const moi_ck_place *place;
    const mo_checkpoint_desc *desc;
    const mo_log *log;
    const moi_ck_found *before;
    const char *spared;
    int kept_only;
    moi_ck_found newest, oldest;
    size_t n, n_unreadable;
    mo_status status;
} moi_ck_scan;

static mo_status moi_ck_number(const mo_safetensors *st, const char *key, uint64_t *value) {
    const char *text = mo_safetensors_metadata(st, key), *at = text;
    char name[MOI_ST_NAME_SIZE];
    if (!text) return MO_E_NOT_FOUND;
    if (moi_decimal(&at, value) && !*at) return MO_OK;
    return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
        "metadata '%s' is '%s', not a number", key, moi_st_printable_name(text, name));
}

static mo_status moi_ck_path_in(
    const moi_ck_place *place, const char *name, char path[MOI_FILE_PATH_SIZE]) {
    const int n =
        snprintf(path, MOI_FILE_PATH_SIZE, "%.*s%s", (int)place->folder, place->path, name);
    return n < 0 || n >= MOI_FILE_PATH_SIZE ? MO_E_NO_SPACE : MO_OK;
}

/* What a file says of itself; MO_E_NOT_FOUND: it is no checkpoint. */
static mo_status moi_ck_peek(const moi_ck_scan *s, const char *name, moi_ck_found *found) {
    char path[MOI_FILE_PATH_SIZE];
    mo_safetensors_desc desc;
    mo_safetensors st;
    memset(&desc, 0, sizeof desc);
    memset(&st, 0, sizeof st);
    desc.allocator = s->desc->allocator;
    if (s->log) desc.log = *s->log;
    mo_status status = moi_ck_path_in(s->place, name, path);
    if (status == MO_OK) status = mo_safetensors_open(&st, path, &desc);
    if (status == MO_OK) status = moi_ck_number(&st, "memopt.step", &found->step);
    if (status == MO_OK) status = moi_ck_number(&st, "memopt.save", &found->save);
    if (status == MO_OK && found->save == UINT64_MAX) status = MO_E_FORMAT; /* none comes after */
    mo_safetensors_close(&st);
    strcpy(found->name, name);
    return status;
}

/* Whether a was saved before b; the rest only makes it an order of all files. */
static int moi_ck_is_older(const moi_ck_found *a, const moi_ck_found *b) {
    if (a->save != b->save) return a->save < b->save;
    if (a->step != b->step) return a->step < b->step;
    return strcmp(a->name, b->name) < 0;
}

static int moi_ck_same_run(const moi_ck_place *place, const char *a, const char *b) {
    const size_t n = strlen(".safetensors");
    if (!place->any) return 1;
    const size_t n_a = moi_ck_without_step(a, strlen(a) - n);
    const size_t n_b = moi_ck_without_step(b, strlen(b) - n);
    return n_a == n_b && memcmp(a, b, n_a) == 0;
}

static int moi_ck_visit(void *context, const char *name) {
    moi_ck_scan *s = (moi_ck_scan *)context;
    moi_ck_found found;
    int kept = 0;
    if (!moi_ck_is_name(s->place, name, strlen(name), &kept) || (s->kept_only && !kept)) return 1;
    const mo_status status = moi_ck_peek(s, name, &found);
    if (status == MO_E_NO_MEMORY) {
        s->status = status;
        return 0;
    }
    if (status == MO_E_IO) s->n_unreadable++;
    if (status != MO_OK) {
        if (s->log && status != MO_E_NOT_FOUND)
            moi_log(s->log, MO_LOG_WARN, "%.*s%s: passed over", (int)s->place->folder,
                s->place->path, name);
        return 1;
    }
    if (s->before && !moi_ck_is_older(&found, s->before)) return 1;
    if (s->n > 0 && !moi_ck_same_run(s->place, s->newest.name, name)) {
        s->status = moi_file_fail(&s->desc->log, s->place->path, MO_E_INVALID,
            "holds checkpoints of several runs, '%s' and '%s': name one", s->newest.name, name);
        return 0;
    }
    if (s->n == 0 || moi_ck_is_older(&s->newest, &found)) s->newest = found;
    const int spared = s->spared && strcmp(s->spared, name) == 0;
    if (!spared && (!s->oldest.name[0] || moi_ck_is_older(&found, &s->oldest))) s->oldest = found;
    s->n++;
    return 1;
}

static const char *moi_ck_folder(const moi_ck_place *place, char folder[MOI_FILE_PATH_SIZE]) {
    snprintf(folder, MOI_FILE_PATH_SIZE, "%.*s", (int)place->folder, place->path);
    return place->folder > 0 ? folder : ".";
}

static void moi_ck_scan_begin(
    moi_ck_scan *s, const moi_ck_place *place, const mo_checkpoint_desc *desc) {
    memset(s, 0, sizeof *s);
    s->place = place;
    s->desc = desc;
}

static mo_status moi_ck_run_scan(moi_ck_scan *s) {
    char folder[MOI_FILE_PATH_SIZE];
    const char *path = moi_ck_folder(s->place, folder);
    s->n = s->n_unreadable = 0;
    s->oldest.name[0] = '\0';
    const int error = moi_file_list(path, moi_ck_visit, s);
    if (s->status != MO_OK) return s->status;
    return error ? moi_file_fail_error(&s->desc->log, path, error) : MO_OK;
}

/* ---- the newest ----------------------------------------------------------------------------- */

static mo_status moi_ck_verify_path(const char *file, const mo_checkpoint_desc *desc) {
    const mo_status status = mo_checkpoint_verify(file, desc, NULL);
    if (status != MO_OK && status != MO_E_NO_MEMORY)
        moi_log(&desc->log, MO_LOG_WARN, "%s: passed over", file);
    return status;
}

mo_status mo_checkpoint_latest(
    const char *path, const mo_checkpoint_desc *desc, char *file, size_t size) {
    moi_ck_place place;
    moi_ck_scan scan;
    moi_ck_found tried;
    mo_checkpoint_desc none;
    char found[MOI_FILE_PATH_SIZE];
    if (!path || !file) return MO_E_INVALID;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    mo_status status = moi_ck_place_of(path, 1, &desc->log, &place);
    moi_ck_scan_begin(&scan, &place, desc);
    scan.log = &desc->log;
    while (status == MO_OK) {
        status = moi_ck_run_scan(&scan);
        if (status != MO_OK) return status;
        if (scan.n == 0) {
            moi_log(&desc->log, MO_LOG_INFO, "%s: no complete checkpoint", path);
            return MO_E_NOT_FOUND;
        }
        status = moi_ck_path_in(&place, scan.newest.name, found);
        if (status == MO_OK) status = moi_ck_verify_path(found, desc);
        if (status == MO_OK) {
            if (strlen(found) >= size) return MO_E_NO_SPACE;
            strcpy(file, found);
            return MO_OK;
        }
        if (status == MO_E_NO_MEMORY) return status;
        status = MO_OK;
        tried = scan.newest;
        scan.before = &tried;
        scan.log = NULL; /* has heard of them */
    }
    return status;
}

/* ---- removing ------------------------------------------------------------------------------- */

/* An older file goes only when the new one's name is sure to outlive a power failure. */
static void moi_ck_rotate(
    const moi_ck_place *place, size_t most, const char *saved, const mo_checkpoint_desc *desc) {
    char path[MOI_FILE_PATH_SIZE], text[MOI_FILE_TEXT_SIZE];
    moi_ck_scan scan;
    moi_ck_scan_begin(&scan, place, desc);
    scan.kept_only = 1;
    scan.spared = saved + moi_file_folder(saved);
    if (moi_file_sync_folder(place->path) != 0) return; /* the save has said so */
    for (int error = 0; !error;) {
        mo_status status = moi_ck_run_scan(&scan);
        if (status == MO_OK && scan.n <= most) return;
        if (status == MO_OK) status = moi_ck_path_in(place, scan.oldest.name, path);
        if (status != MO_OK) {
            moi_log(&desc->log, MO_LOG_WARN, "%s: older checkpoints are not removed: %s",
                place->path, mo_status_text(status));
            return;
        }
        error = moi_file_remove(path);
        if (error)
            moi_log(
                &desc->log, MO_LOG_WARN, "%s: not removed: %s", path, moi_file_text(error, text));
    }
}

/* ---- before a save -------------------------------------------------------------------------- */

typedef struct moi_ck_tidying {
    const moi_ck_place *place;
    const mo_log *log;
    int has_newest;
    uint64_t newest; /* time */
} moi_ck_tidying;

/* A process of that number may be another one by now, even this one: then the time decides. */
static int moi_ck_is_left(const moi_ck_tidying *t, const char *path, unsigned long process) {
    uint64_t time = 0;
    if (process == moi_file_process() || !moi_file_process_runs(process)) return 1;
    return t->has_newest && moi_file_time(path, &time) == 0 && time < t->newest;
}

static int moi_ck_tidy(void *context, const char *name) {
    const moi_ck_tidying *t = (const moi_ck_tidying *)context;
    char path[MOI_FILE_PATH_SIZE], text[MOI_FILE_TEXT_SIZE];
    size_t length = 0;
    int kept = 0;
    const unsigned long process = moi_file_temp_process(name, &length);
    if (process == 0 || !moi_ck_is_name(t->place, name, length, &kept)) return 1;
    if (moi_ck_path_in(t->place, name, path) != MO_OK) return 1;
    if (!moi_ck_is_left(t, path, process)) return 1;
    const int error = moi_file_remove(path);
    if (error)
        moi_log(t->log, MO_LOG_WARN, "%s: left by a killed run and not removed: %s", path,
            moi_file_text(error, text));
    else moi_log(t->log, MO_LOG_INFO, "%s: left by a killed run, removed", path);
    return 1;
}

static mo_status moi_ck_prepare(
    const moi_ck_place *place, const mo_checkpoint_desc *desc, uint64_t *save) {
    char path[MOI_FILE_PATH_SIZE], folder[MOI_FILE_PATH_SIZE];
    moi_ck_scan scan;
    moi_ck_tidying tidying;
    moi_ck_scan_begin(&scan, place, desc);
    scan.kept_only = desc->keep == 0; /* PATH itself is about to be replaced */
    *save = 1;
    mo_status status = moi_ck_run_scan(&scan);
    if (status == MO_OK && scan.n_unreadable > 0) { /* it may have been for a moment only */
        scan.log = &desc->log;
        status = moi_ck_run_scan(&scan);
    }
    if (status == MO_E_IO && desc->keep == 0) return MO_OK;
    if (status != MO_OK) return status;
    memset(&tidying, 0, sizeof tidying);
    tidying.place = place;
    tidying.log = &desc->log;
    if (scan.n > 0) *save = scan.newest.save + 1;
    const char *newest = desc->keep == 0 ? place->path + place->folder : scan.newest.name;
    tidying.has_newest = *newest && moi_ck_path_in(place, newest, path) == MO_OK &&
        moi_file_time(path, &tidying.newest) == 0;
    (void)moi_file_list(moi_ck_folder(place, folder), moi_ck_tidy, &tidying);
    /* Kills between a save and what it removes: each leaves one file more. */
    if (desc->keep > 0 && scan.n > 0 && scan.n - 1 > desc->keep)
        moi_ck_rotate(place, desc->keep + 1, path, desc);
    return MO_OK;
}
