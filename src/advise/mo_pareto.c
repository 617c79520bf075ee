/* mo_pareto.c - see mo_pareto.h. */

/* ---- the frontier --------------------------------------------------------------------------- */

/* In this order a point is on the frontier when it is smaller than all before it. */
static int moi_pareto_compare(const void *x, const void *y) {
    const mo_pareto_point *a = (const mo_pareto_point *)x, *b = (const mo_pareto_point *)y;
    if (a->seconds != b->seconds) return a->seconds < b->seconds ? -1 : 1;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* Those that are dominated move to rest, and behind the others again. */
static size_t moi_pareto_split(mo_pareto_point *points, size_t n, mo_pareto_point *rest) {
    size_t n_frontier = 0;
    for (size_t i = 0; i < n; i++) {
        const int on = n_frontier == 0 || points[i].bytes < points[n_frontier - 1].bytes;
        if (on) points[n_frontier++] = points[i];
        else rest[i - n_frontier] = points[i];
    }
    memcpy(points + n_frontier, rest, (n - n_frontier) * sizeof *rest);
    return n_frontier;
}

mo_status mo_pareto_frontier(
    mo_pareto_point *points, size_t n, const mo_allocator *allocator, size_t *n_frontier) {
    if ((!points && n) || !n_frontier) return MO_E_INVALID;
    for (size_t i = 0; i < n; i++)
        if (!(points[i].seconds >= 0 && points[i].seconds - points[i].seconds == 0))
            return MO_E_INVALID;
    if (n == 0) {
        *n_frontier = 0;
        return MO_OK;
    }
    size_t size;
    if (!moi_mul(n, sizeof *points, &size)) return MO_E_OVERFLOW;
    mo_pareto_point *rest = (mo_pareto_point *)moi_alloc_array(allocator, n, sizeof *rest);
    if (!rest) return MO_E_NO_MEMORY;
    qsort(points, n, sizeof *points, moi_pareto_compare);
    *n_frontier = moi_pareto_split(points, n, rest);
    moi_free_array(allocator, rest, n, sizeof *rest);
    return MO_OK;
}

size_t mo_pareto_best(const mo_pareto_point *points, size_t n_frontier, uint64_t budget) {
    size_t i = 0;
    while (points && i < n_frontier && points[i].bytes > budget) i++;
    return points ? i : n_frontier;
}

/* ---- writing -------------------------------------------------------------------------------- */

static const char *moi_pareto_name(const mo_pareto_view *view, size_t i, char *text, size_t size) {
    const size_t index = view->points[i].index;
    const char *name = view->name ? view->name(view->self, index) : NULL;
    if (name) return name;
    snprintf(text, size, "%zu", index);
    return text;
}

static int moi_pareto_is_view(const mo_pareto_view *view) {
    return view && (view->points || view->n == 0) && view->n_frontier <= view->n;
}

static void moi_pareto_put_quoted(moi_track_out *out, const char *text) {
    moi_track_put(out, "\"", 1);
    for (; *text; text++) {
        if (*text == '"') moi_track_put(out, "\"\"", 2);
        else if ((unsigned char)*text < 32 || *text == 127) moi_track_put(out, "?", 1);
        else moi_track_put(out, text, 1);
    }
    moi_track_put(out, "\"\n", 2);
}

mo_status mo_pareto_write_csv(
    const mo_pareto_view *view, uint64_t budget, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    char text[32];
    if (!moi_pareto_is_view(view) || !writer || !writer->write) return MO_E_INVALID;
    moi_track_print(&out, "index,bytes,seconds,frontier,fits,name\n");
    for (size_t i = 0; i < view->n && out.status == MO_OK; i++) {
        const mo_pareto_point *p = &view->points[i];
        moi_track_print(&out, "%zu,%llu,%s,%d,%d,", p->index, (unsigned long long)p->bytes,
            moi_plan_number(p->seconds).text, i < view->n_frontier,
            budget == 0 || p->bytes <= budget);
        moi_pareto_put_quoted(&out, moi_pareto_name(view, i, text, sizeof text));
    }
    return out.status;
}

/* The names are copied: the view's function may overwrite one at its next call. */
static void moi_pareto_chart(
    const mo_pareto_view *view, mo_chart_point *to, moi_track_text *names) {
    char text[32];
    for (size_t i = 0; i < view->n; i++) {
        names[i] = moi_chart_name(moi_pareto_name(view, i, text, sizeof text));
        to[i].name = names[i].text;
        to[i].time_s = view->points[i].seconds;
        to[i].bytes = view->points[i].bytes;
        to[i].on_frontier = i < view->n_frontier;
    }
}

mo_status mo_pareto_write_svg(const mo_pareto_view *view, const mo_chart_desc *desc,
    const mo_allocator *allocator, const mo_writer *writer) {
    if (!moi_pareto_is_view(view)) return MO_E_INVALID;
    if (view->n == 0) return mo_chart_write_pareto(desc, NULL, 0, writer);
    size_t size;
    if (!moi_mul(view->n, sizeof(moi_track_text), &size)) return MO_E_OVERFLOW;
    mo_chart_point *points = (mo_chart_point *)moi_alloc_array(allocator, view->n, sizeof *points);
    moi_track_text *names = (moi_track_text *)moi_alloc_array(allocator, view->n, sizeof *names);
    mo_status status = points && names ? MO_OK : MO_E_NO_MEMORY;
    if (status == MO_OK) {
        moi_pareto_chart(view, points, names);
        status = mo_chart_write_pareto(desc, points, view->n, writer);
    }
    moi_free_array(allocator, points, view->n, sizeof *points);
    moi_free_array(allocator, names, view->n, sizeof *names);
    return status;
}
