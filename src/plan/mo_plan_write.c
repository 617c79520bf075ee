/* mo_plan_write.c - see mo_plan_write.h. */

/* The step that a sub-step belongs to. */
static size_t moi_plan_step_at(const mo_plan *plan, size_t time) {
    size_t low = 0, high = plan->n_ops - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (plan->spans[middle].end < time) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* ---- text ---------------------------------------------------------------------------------- */

static void moi_plan_text_info(moi_track_out *out, const mo_plan *plan) {
    const mo_plan_info *info = &plan->info;
    moi_track_print(out, "plan: peak %zu (%s %zu), fixed %zu, live %zu, gap %zu bytes\n",
        info->peak_bytes, info->proved ? "proved, bound" : "bound", info->lower_bound,
        info->fixed_bytes, info->live_bytes, info->gap_bytes);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        if (info->bytes[i])
            moi_track_print(
                out, "  %-10s %12zu\n", mo_category_name((mo_category)i), info->bytes[i]);
    if (plan->n_moves > 0)
        moi_track_print(out, "store %zu bytes, %zu out, %zu in\n", info->store_bytes,
            info->out_bytes, info->in_bytes);
    moi_track_print(out, "cost %g, ideal %g; %zu steps, peak at step %zu\n", info->cost_s,
        info->ideal_s, info->n_steps, info->peak_step);
}

/* A name may be longer than what one print takes. */
static void moi_plan_text_block(
    moi_track_out *out, size_t off, size_t size, mo_category category, const char *name) {
    moi_track_print(out, "  %12zu %12zu %-10s ", off, size, mo_category_name(category));
    moi_track_put(out, name, strlen(name));
}

static void moi_plan_text_copies(moi_track_out *out, const mo_plan *plan, size_t k) {
    const moi_plan_op *span = &plan->spans[k];
    int is_out = plan->ops[k].op == MO_STEP_OFFLOAD;
    if (!is_out && plan->ops[k].op != MO_STEP_PREFETCH) return;
    for (size_t i = span->copy; i < span->copy + span->n_copies; i++)
        moi_track_print(out, "  %12zu %12zu %s store %zu\n", plan->copies[i].off,
            plan->copies[i].size, is_out ? "to" : "from", plan->copies[i].store_off);
}

static void moi_plan_text_step(moi_track_out *out, const mo_plan *plan, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const moi_plan_op *span = &plan->spans[k];
    const mo_stage *stage = &plan->stages[op->stage];
    static const char *const levels[] = {"", " light", " compressed"};
    moi_track_print(out, "step %zu: %s %zu ", k, moi_remat_op_name(op->op), op->stage);
    moi_track_put(out, stage->name, strlen(stage->name));
    if (op->op >= MO_STEP_OFFLOAD) moi_track_print(out, "%s", op->save ? " saved" : " x");
    else moi_track_print(out, "%s", op->save ? " save" : "");
    moi_track_print(out, "%s\n", levels[moi_remat_level(op->light)]);
    for (size_t i = 0; i < MOI_PLAN_TENSORS + stage->n_tensors; i++) {
        size_t index = plan->table[span->row + i];
        const moi_plan_life *life = &plan->lives[index];
        if (index == 0 || life->first < span->begin) continue;
        moi_plan_text_block(out, life->off, life->size, life->category, life->name);
        moi_track_print(out, " until step %zu\n", moi_plan_step_at(plan, life->last));
    }
    moi_plan_text_copies(out, plan, k);
}

mo_status mo_plan_write_text(const mo_plan *plan, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!plan || !writer || !writer->write) return MO_E_INVALID;
    moi_plan_text_info(&out, plan);
    for (size_t i = 0; i < plan->max.fixed; i++) {
        const moi_plan_block *block = &plan->fixed[i];
        moi_plan_text_block(&out, block->off, block->size, block->category, block->name);
        moi_track_print(&out, "\n");
    }
    for (size_t k = 0; k < plan->n_ops && out.status == MO_OK; k++)
        moi_plan_text_step(&out, plan, k);
    return out.status;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

/* A number as JSON wants it: the locale may have another decimal point. */
/* With a point, whatever the locale says. */
static moi_track_text moi_plan_number(double value) {
    moi_track_text out;
    snprintf(out.text, sizeof out.text, "%.17g", value);
    for (char *c = out.text; *c; c++)
        if (!strchr("+-0123456789e", *c)) *c = '.';
    return out;
}

static void moi_plan_json_number(moi_track_out *out, const char *key, double value) {
    moi_track_print(
        out, ",\"%s\":%s", key, value - value == 0 ? moi_plan_number(value).text : "null");
}

static void moi_plan_json_name(moi_track_out *out, const char *name) {
    moi_track_print(out, "\"name\":\"");
    moi_svg_put_escaped(out, name, 1);
    moi_track_print(out, "\"");
}

static void moi_plan_json_block(
    moi_track_out *out, const char *name, mo_category category, size_t off, size_t size) {
    moi_track_print(out, "{");
    moi_plan_json_name(out, name);
    moi_track_print(out, ",\"category\":\"%s\",\"offset\":%zu,\"size\":%zu",
        mo_category_name(category), off, size);
}

static void moi_plan_json_info(moi_track_out *out, const mo_plan *plan) {
    const mo_plan_info *info = &plan->info;
    moi_track_print(out,
        "{\"peak_bytes\":%zu,\"fixed_bytes\":%zu,\"lower_bound\":%zu,\"live_bytes\":%zu,"
        "\"gap_bytes\":%zu,\"store_bytes\":%zu,\"out_bytes\":%zu,\"in_bytes\":%zu,\"align\":%zu,"
        "\"proved\":%s",
        info->peak_bytes, info->fixed_bytes, info->lower_bound, info->live_bytes, info->gap_bytes,
        info->store_bytes, info->out_bytes, info->in_bytes, plan->align,
        info->proved ? "true" : "false");
    moi_plan_json_number(out, "cost_s", info->cost_s);
    moi_plan_json_number(out, "ideal_s", info->ideal_s);
    moi_track_print(out, ",\"peak_step\":%zu,\"bytes\":{", info->peak_step);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        moi_track_print(
            out, "%s\"%s\":%zu", i ? "," : "", mo_category_name((mo_category)i), info->bytes[i]);
}

static void moi_plan_json_step(moi_track_out *out, const mo_plan *plan, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const moi_plan_op *span = &plan->spans[k];
    moi_track_print(
        out, "%s{\"op\":\"%s\",\"stage\":%zu,", k ? "," : "", moi_remat_op_name(op->op), op->stage);
    moi_plan_json_name(out, plan->stages[op->stage].name);
    moi_track_print(out, ",\"save\":%s,\"light\":%s,\"compressed\":%s,\"first\":%zu,\"last\":%zu",
        op->save ? "true" : "false", op->light ? "true" : "false",
        op->light == MO_LEVEL_COMPRESSED ? "true" : "false", span->begin, span->end);
    moi_track_print(out, ",\"copies\":[");
    for (size_t i = 0; i < span->n_copies; i++) {
        const moi_plan_copy *copy = &plan->copies[span->copy + i];
        moi_track_print(out, "%s{\"offset\":%zu,\"size\":%zu,\"store_offset\":%zu}", i ? "," : "",
            copy->off, copy->size, copy->store_off);
    }
    moi_track_print(out, "]}");
}

static void moi_plan_json_tensor(moi_track_out *out, const mo_plan *plan, size_t i) {
    const moi_plan_life *life = &plan->lives[i];
    if (i > 1) moi_track_print(out, ",");
    moi_plan_json_block(out, life->name, life->category, life->off, life->size);
    moi_track_print(out, ",\"first\":%zu,\"last\":%zu,\"first_step\":%zu,\"last_step\":%zu}",
        life->first, life->last, moi_plan_step_at(plan, life->first),
        moi_plan_step_at(plan, life->last));
}

mo_status mo_plan_write_json(const mo_plan *plan, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!plan || !writer || !writer->write) return MO_E_INVALID;
    moi_plan_json_info(&out, plan);
    moi_track_print(&out, "},\"fixed\":[");
    for (size_t i = 0; i < plan->max.fixed; i++) {
        const moi_plan_block *block = &plan->fixed[i];
        if (i > 0) moi_track_print(&out, ",");
        moi_plan_json_block(&out, block->name, block->category, block->off, block->size);
        moi_track_print(&out, "}");
    }
    moi_track_print(&out, "],\"steps\":[");
    for (size_t k = 0; k < plan->n_ops && out.status == MO_OK; k++)
        moi_plan_json_step(&out, plan, k);
    moi_track_print(&out, "],\"tensors\":[");
    for (size_t i = 1; i < plan->n_lives && out.status == MO_OK; i++)
        moi_plan_json_tensor(&out, plan, i);
    moi_track_print(&out, "]}\n");
    return out.status;
}

/* ---- SVG ----------------------------------------------------------------------------------- */

/* Arrays for the picture, in one block: items, offsets and labels of fixed blocks and lives, and a
 * mark for each step. */
typedef struct moi_plan_picture {
    size_t n, n_marks;
    mo_layout_item *items;
    size_t *offsets;
    mo_layout_label *labels;
    mo_layout_mark *marks;
} moi_plan_picture;

static void moi_plan_picture_add(
    moi_plan_picture *p, mo_layout_item item, size_t off, const char *name, mo_category category) {
    p->items[p->n] = item;
    p->offsets[p->n] = off;
    p->labels[p->n].name = name;
    p->labels[p->n].category = category;
    p->n++;
}

static void moi_plan_picture_fill(moi_plan_picture *p, const mo_plan *plan) {
    size_t last = plan->spans[plan->n_ops - 1].end;
    for (size_t i = 0; i < plan->max.fixed; i++) {
        const moi_plan_block *block = &plan->fixed[i];
        moi_plan_picture_add(
            p, moi_plan_item(block->size, 0, last), block->off, block->name, block->category);
    }
    for (size_t i = 1; i < plan->n_lives; i++) {
        const moi_plan_life *life = &plan->lives[i];
        moi_plan_picture_add(p, moi_plan_item(life->size, life->first, life->last), life->off,
            life->name, life->category);
    }
    for (size_t k = 0; k < plan->n_ops; k++) { /* where another kind of op begins */
        const char *name = moi_remat_op_name(plan->ops[k].op);
        if (plan->ops[k].op >= MO_STEP_OFFLOAD ||
            (p->n_marks > 0 && p->marks[p->n_marks - 1].name == name))
            continue;
        p->marks[p->n_marks].step = plan->spans[k].begin;
        p->marks[p->n_marks++].name = name;
    }
}

mo_status mo_plan_write_svg(const mo_plan *plan, const char *title, const mo_writer *writer) {
    moi_plan_picture p;
    mo_layout_svg_desc desc;
    if (!plan || !writer || !writer->write) return MO_E_INVALID;
    memset(&p, 0, sizeof p);
    memset(&desc, 0, sizeof desc);
    size_t n = plan->max.fixed + plan->n_lives - 1, size = sizeof *p.labels + sizeof *p.marks;
    size += sizeof *p.items + sizeof *p.offsets; /* one of each for every item and step */
    char *block = (char *)moi_alloc_array(&plan->allocator, n + plan->n_ops, size);
    if (!block) return MO_E_NO_MEMORY;
    p.items = (mo_layout_item *)block;
    p.labels = (mo_layout_label *)(p.items + n);
    p.marks = (mo_layout_mark *)(p.labels + n);
    p.offsets = (size_t *)(p.marks + plan->n_ops);
    moi_plan_picture_fill(&p, plan);
    desc.title = title ? title : "Plan";
    desc.labels = p.labels;
    desc.marks = p.marks;
    desc.n_marks = p.n_marks;
    desc.allocator = &plan->allocator;
    mo_status status = mo_layout_write_svg(&desc, p.items, p.n, p.offsets, writer);
    moi_free_array(&plan->allocator, block, n + plan->n_ops, size);
    return status;
}
