/* mo_remat_groups.c - long chains: stages put together to groups of about equal bytes. A group has
 * options that save only some of its stages; which, a greedy choice by seconds per byte says. */

/* ---- a copy of a chain --------------------------------------------------------------------- */

static size_t moi_rg_count_options(const mo_flat_chain *chain) {
    size_t n = 0;
    for (size_t i = 0; i + 1 < chain->n_stages; i++) n += chain->stages[i].n_options;
    return n;
}

static void moi_rg_free(mo_flat_chain *copy, const mo_allocator *allocator) {
    size_t n_options = copy->stages ? moi_rg_count_options(copy) : 0;
    mo_free(allocator, (void *)(uintptr_t)copy->stages,
        copy->n_stages * sizeof *copy->stages + n_options * sizeof(mo_flat_option), MOI_CACHE_LINE);
    copy->stages = NULL;
}

/* Stages and options in one block; names stay the caller's and go. */
static mo_status moi_rg_copy(
    mo_flat_chain *copy, const mo_flat_chain *chain, const mo_allocator *allocator) {
    size_t n = chain->n_stages, stage_bytes, option_bytes, bytes;
    if (!moi_mul(n, sizeof(mo_flat_stage), &stage_bytes) ||
        !moi_mul(moi_rg_count_options(chain), sizeof(mo_flat_option), &option_bytes) ||
        !moi_add(stage_bytes, option_bytes, &bytes))
        return MO_E_OVERFLOW;
    mo_flat_stage *stages = (mo_flat_stage *)mo_alloc(allocator, bytes, MOI_CACHE_LINE);
    if (!stages) return MO_E_NO_MEMORY;
    mo_flat_option *options = (mo_flat_option *)(void *)(stages + n);
    for (size_t i = 0; i < n; i++) {
        stages[i] = chain->stages[i];
        stages[i].name = NULL;
        if (i + 1 == n) continue;
        memcpy(options, stages[i].options, stages[i].n_options * sizeof *options);
        stages[i].options = options;
        options += stages[i].n_options;
    }
    copy->input_size = chain->input_size;
    copy->stages = stages;
    copy->n_stages = n;
    return MO_OK;
}

/* ---- where groups begin -------------------------------------------------------------------- */

static void moi_rg_cut(moi_rg_groups *groups, size_t n_wanted) {
    const mo_flat_chain *fine = groups->fine;
    size_t n = fine->n_stages - 1, group = 0;
    double total = 0, before = 0;
    for (size_t i = 0; i < n; i++) total += (double)fine->stages[i].options[0].kept + 1;
    groups->begins[0] = 0;
    for (size_t i = 0; i < n; i++) {
        double half = ((double)fine->stages[i].options[0].kept + 1) / 2;
        size_t to = (size_t)((before + half) / total * (double)n_wanted);
        if (i > 0 && to > group) groups->begins[++groups->n_groups] = i;
        group = to;
        before += 2 * half;
    }
    groups->begins[++groups->n_groups] = n;
    groups->begins[++groups->n_groups] = n + 1;
}

/* The group that begins with this stage, or SIZE_MAX. */
static size_t moi_rg_find(const moi_rg_groups *groups, size_t first) {
    for (size_t g = 0; g < groups->n_groups; g++)
        if (groups->begins[g] == first) return g;
    return SIZE_MAX;
}

/* ---- what a group's option keeps and costs ------------------------------------------------- */

/* The level of a stage in an option of its group. */
static uint32_t *moi_rg_level(const moi_rg_groups *groups, size_t option, size_t stage) {
    return &groups->levels[option * groups->fine->n_stages + stage];
}

/* A stage that is not saved is run again by its fastest option. */
static uint32_t moi_rg_fastest(const mo_flat_stage *stage) {
    uint32_t best = 0;
    for (uint32_t k = 1; k < stage->n_options; k++)
        if (stage->options[k].extra_s < stage->options[best].extra_s) best = k;
    return best;
}

static size_t moi_rg_kept(const mo_flat_stage *stage, uint32_t level) {
    return level == MOI_RG_NOT ? stage->output_size : stage->options[level].kept;
}

static double moi_rg_extra(const mo_flat_stage *stage, uint32_t level) {
    if (level != MOI_RG_NOT) return stage->options[level].extra_s;
    const mo_flat_option *again = &stage->options[moi_rg_fastest(stage)];
    return stage->forward_s - again->unread_s + again->extra_s;
}

/* Bytes beyond the input while forward saves the group; 0 = overflow. */
static int moi_rg_forward_peak(
    const moi_rg_groups *groups, size_t g, size_t option, size_t *kept, size_t *peak) {
    *kept = *peak = 0;
    for (size_t i = groups->begins[g]; i < groups->begins[g + 1]; i++) {
        const mo_flat_stage *stage = &groups->fine->stages[i];
        uint32_t level = *moi_rg_level(groups, option, i);
        size_t used,
            tmp = level == MOI_RG_NOT ? stage->forward_tmp : stage->options[level].forward_tmp;
        if (!moi_add(*kept, moi_rg_kept(stage, level), kept) || !moi_add(*kept, tmp, &used))
            return 0;
        *peak = moi_max(*peak, used);
    }
    return 1;
}

/* The same while backward runs; kept: what the stages keep at its start. */
static int moi_rg_backward_peak(
    const moi_rg_groups *groups, size_t g, size_t option, size_t kept, size_t *peak) {
    *peak = 0;
    for (size_t i = groups->begins[g + 1]; i > groups->begins[g]; i--) {
        const mo_flat_stage *stage = &groups->fine->stages[i - 1];
        uint32_t level = *moi_rg_level(groups, option, i - 1);
        const mo_flat_option *by =
            &stage->options[level == MOI_RG_NOT ? moi_rg_fastest(stage) : level];
        size_t used, save, backward;
        kept -= moi_rg_kept(stage, level);
        if (!moi_add(kept, stage->output_size, &used) || !moi_add(used, by->kept, &used) ||
            !moi_add(used, by->forward_tmp, &save) ||
            !moi_add(used, moi_flat_x(groups->fine, i - 1), &backward) ||
            !moi_add(backward, by->backward_tmp, &backward))
            return 0;
        *peak = moi_max(*peak, level == MOI_RG_NOT ? moi_max(save, backward) : backward);
    }
    return 1;
}

static int moi_rg_make_option(
    const moi_rg_groups *groups, size_t g, size_t option, mo_flat_option *out) {
    size_t begin = groups->begins[g], end = groups->begins[g + 1], peak, counted;
    const mo_flat_stage *last = &groups->fine->stages[end - 1];
    uint32_t level = *moi_rg_level(groups, option, end - 1);
    out->extra_s = 0;
    for (size_t i = begin; i < end; i++)
        out->extra_s += moi_rg_extra(&groups->fine->stages[i], *moi_rg_level(groups, option, i));
    out->unread_s = level == MOI_RG_NOT ? last->forward_s : last->options[level].unread_s;
    if (!moi_rg_forward_peak(groups, g, option, &out->kept, &peak)) return 0;
    out->forward_tmp = peak - out->kept;
    if (!moi_rg_backward_peak(groups, g, option, out->kept, &peak) ||
        !moi_add(out->kept, last->output_size, &counted) ||
        !moi_add(counted, moi_flat_x(groups->fine, begin), &counted))
        return 0;
    out->backward_tmp = moi_flat_beyond(peak, counted);
    return 1;
}

/* ---- the options of a group ---------------------------------------------------------------- */

/* The step to fewer bytes at stage i that costs least per byte: 1, or 0 when there is none. */
static int moi_rg_best_step(
    const mo_flat_stage *stage, uint32_t level, uint32_t *to, double *cost_per_byte) {
    size_t kept = moi_rg_kept(stage, level);
    int found = 0;
    if (level == MOI_RG_NOT) return 0;
    for (uint32_t k = 0; k <= stage->n_options; k++) {
        uint32_t next = k < stage->n_options ? k : MOI_RG_NOT;
        size_t left = moi_rg_kept(stage, next);
        if (left >= kept) continue;
        double more = moi_rg_extra(stage, next) - moi_rg_extra(stage, level);
        double rate = fmax(more, 0) / (double)(kept - left);
        if (found && rate >= *cost_per_byte) continue;
        found = 1;
        *to = next;
        *cost_per_byte = rate;
    }
    return found;
}

/* One greedy step of a group's option: the bytes that it no longer keeps, 0 at the end. */
static size_t moi_rg_step(const moi_rg_groups *groups, size_t g, size_t option) {
    size_t best = SIZE_MAX;
    uint32_t best_to = 0;
    double best_rate = 0;
    for (size_t i = groups->begins[g]; i < groups->begins[g + 1]; i++) {
        uint32_t to = 0;
        double rate = 0;
        const mo_flat_stage *stage = &groups->fine->stages[i];
        if (!moi_rg_best_step(stage, *moi_rg_level(groups, option, i), &to, &rate)) continue;
        if (best != SIZE_MAX && rate >= best_rate) continue;
        best = i;
        best_to = to;
        best_rate = rate;
    }
    if (best == SIZE_MAX) return 0;
    const mo_flat_stage *stage = &groups->fine->stages[best];
    uint32_t *level = moi_rg_level(groups, option, best);
    size_t freed = moi_rg_kept(stage, *level) - moi_rg_kept(stage, best_to);
    *level = best_to;
    return freed;
}

/* What all steps together free: up to x alone. */
static double moi_rg_freeable(const moi_rg_groups *groups, size_t g) {
    double bytes = 0;
    for (size_t i = groups->begins[g]; i < groups->begins[g + 1]; i++) {
        const mo_flat_stage *stage = &groups->fine->stages[i];
        bytes += (double)(stage->options[0].kept - stage->output_size);
    }
    return bytes;
}

/* Option 0 saves every stage by its option 0; the last keeps x alone; between, equal bytes. */
static void moi_rg_choose_levels(const moi_rg_groups *groups, size_t g) {
    size_t begin = groups->begins[g], end = groups->begins[g + 1];
    double freed = 0, freeable = moi_rg_freeable(groups, g);
    for (size_t i = begin; i < end; i++) *moi_rg_level(groups, 0, i) = 0;
    for (size_t option = 1; option < MOI_RG_OPTIONS; option++) {
        double until = freeable * (double)option / (MOI_RG_OPTIONS - 1);
        size_t more = 1;
        for (size_t i = begin; i < end; i++)
            *moi_rg_level(groups, option, i) = *moi_rg_level(groups, option - 1, i);
        while (more && (freed < until || option == MOI_RG_OPTIONS - 1)) {
            more = moi_rg_step(groups, g, option);
            freed += (double)more;
        }
    }
}

/* Bytes beyond the input while forward passes the group and keeps nothing within it. */
static int moi_rg_pass_peak(const moi_rg_groups *groups, size_t g, size_t *peak) {
    *peak = 0;
    for (size_t i = groups->begins[g]; i < groups->begins[g + 1]; i++) {
        const mo_flat_stage *stage = &groups->fine->stages[i];
        size_t used = i > groups->begins[g] ? moi_flat_x(groups->fine, i) : 0;
        if (!moi_add(used, stage->output_size, &used) || !moi_add(used, stage->forward_tmp, &used))
            return 0;
        *peak = moi_max(*peak, used);
    }
    return 1;
}

static int moi_rg_make_group(moi_rg_groups *groups, size_t g) {
    mo_flat_stage *to = &groups->stages[g];
    mo_flat_option *options = groups->options + g * MOI_RG_OPTIONS;
    size_t end = groups->begins[g + 1], peak;
    memset(to, 0, sizeof *to);
    for (size_t i = groups->begins[g]; i < end; i++) {
        to->forward_s += groups->fine->stages[i].forward_s;
        to->backward_s += groups->fine->stages[i].backward_s;
    }
    to->output_size = groups->fine->stages[end - 1].output_size;
    if (!moi_rg_pass_peak(groups, g, &peak)) return 0;
    to->forward_tmp = peak - to->output_size;
    to->options = options;
    to->n_options = MOI_RG_OPTIONS;
    moi_rg_choose_levels(groups, g);
    for (size_t k = 0; k < MOI_RG_OPTIONS; k++)
        if (!moi_rg_make_option(groups, g, k, &options[k])) return 0;
    return 1;
}

/* ---- create -------------------------------------------------------------------------------- */

static void moi_rg_destroy(moi_rg_groups *groups, const mo_allocator *allocator) {
    if (!groups) return;
    size_t n = groups->fine->n_stages;
    moi_free_array(allocator, groups->begins, n + 1, sizeof *groups->begins);
    moi_free_array(allocator, groups->levels, n * MOI_RG_OPTIONS, sizeof *groups->levels);
    moi_free_array(allocator, groups->stages, n, sizeof *groups->stages);
    moi_free_array(allocator, groups->options, n * MOI_RG_OPTIONS, sizeof *groups->options);
    mo_free(allocator, groups, sizeof *groups, MOI_CACHE_LINE);
}

static mo_status moi_rg_fill(moi_rg_groups *groups, size_t n_wanted) {
    moi_rg_cut(groups, n_wanted);
    for (size_t g = 0; g + 1 < groups->n_groups; g++)
        if (!moi_rg_make_group(groups, g)) return MO_E_OVERFLOW;
    groups->stages[groups->n_groups - 1] = groups->fine->stages[groups->fine->n_stages - 1];
    groups->chain.input_size = groups->fine->input_size;
    groups->chain.stages = groups->stages;
    groups->chain.n_stages = groups->n_groups;
    return MO_OK;
}

/* fine: checked, at least two stages, valid as long as the groups. */
static mo_status moi_rg_create(moi_rg_groups **out, const mo_flat_chain *fine, size_t n_wanted,
    const mo_allocator *allocator) {
    size_t n = fine->n_stages;
    moi_rg_groups *groups = (moi_rg_groups *)mo_alloc(allocator, sizeof *groups, MOI_CACHE_LINE);
    if (!groups) return MO_E_NO_MEMORY;
    memset(groups, 0, sizeof *groups);
    groups->fine = fine;
    groups->begins = (size_t *)moi_alloc_array(allocator, n + 1, sizeof *groups->begins);
    groups->levels =
        (uint32_t *)moi_alloc_array(allocator, n * MOI_RG_OPTIONS, sizeof *groups->levels);
    groups->stages = (mo_flat_stage *)moi_alloc_array(allocator, n, sizeof *groups->stages);
    groups->options =
        (mo_flat_option *)moi_alloc_array(allocator, n * MOI_RG_OPTIONS, sizeof *groups->options);
    mo_status status = MO_E_NO_MEMORY;
    if (groups->begins && groups->levels && groups->stages && groups->options)
        status = moi_rg_fill(groups, n_wanted);
    if (status == MO_OK) *out = groups;
    else moi_rg_destroy(groups, allocator);
    return status;
}
