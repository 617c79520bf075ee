/* mo_place_write.c - see mo_place_write.h. */

static int moi_place_is_writable(const mo_place_desc *desc, const size_t *device,
    const mo_place_use *use, const mo_place_result *result, const mo_writer *writer) {
    if (!desc || !desc->devices || !device || !use || !result || !writer || !writer->write)
        return 0;
    if (!desc->items && desc->n_items > 0) return 0;
    for (size_t i = 0; i < desc->n_items; i++)
        if (device[i] >= desc->n_devices && device[i] != SIZE_MAX) return 0;
    return 1;
}

/* Names of any length; those that are missing are numbers. */
static void moi_place_put_name(moi_track_out *out, const char *name, size_t index, int json) {
    if (!name) moi_track_print(out, "%zu", index);
    else if (json) moi_svg_put_escaped(out, name, 1);
    else moi_track_put(out, name, strlen(name));
}

/* ---- text ---------------------------------------------------------------------------------- */

static void moi_place_text_result(moi_track_out *out, const mo_place_result *result) {
    moi_track_print(out, "placement: %.0f bytes over links, %g s in a step%s\n",
        result->moved_bytes, result->step_s, result->is_optimal ? " (optimal)" : "");
    if (result->missing_bytes > 0 || result->n_missing > 0)
        moi_track_print(
            out, "no place for %zu items of %zu bytes\n", result->n_missing, result->missing_bytes);
    if (result->over_bytes > 0)
        moi_track_print(out, "limits exceeded by %zu bytes\n", result->over_bytes);
}

static void moi_place_text_device(
    moi_track_out *out, const mo_place_device *device, size_t d, const mo_place_use *use) {
    if (device->limit_bytes == SIZE_MAX) moi_track_print(out, "  %14s", "-");
    else moi_track_print(out, "  %14zu", device->limit_bytes);
    moi_track_print(out, " %14zu %14zu %14.0f %7zu  ", use->bytes, use->room_bytes,
        use->moved_bytes, use->n_items);
    moi_place_put_name(out, device->name, d, 0);
    moi_track_print(out, "\n");
}

static void moi_place_text_run(
    moi_track_out *out, const mo_place_desc *desc, size_t device, size_t first, size_t end) {
    double bytes = 0; /* of ties too, which may not fit into size_t here */
    for (size_t i = first; i < end; i++) bytes += (double)desc->items[i].bytes;
    moi_track_print(out, "  %14.0f %7zu  ", bytes, end - first);
    if (device == SIZE_MAX) moi_track_print(out, "nowhere");
    else moi_place_put_name(out, desc->devices[device].name, device, 0);
    moi_track_print(out, "  ");
    moi_place_put_name(out, desc->items[first].name, first, 0);
    if (end - first > 1) {
        moi_track_print(out, " .. ");
        moi_place_put_name(out, desc->items[end - 1].name, end - 1, 0);
    }
    moi_track_print(out, "\n");
}

mo_status mo_place_write_text(const mo_place_desc *desc, const size_t *device,
    const mo_place_use *use, const mo_place_result *result, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!moi_place_is_writable(desc, device, use, result, writer)) return MO_E_INVALID;
    moi_place_text_result(&out, result);
    moi_track_print(&out, "  %14s %14s %14s %14s %7s  device\n", "limit", "items' bytes", "room",
        "moved", "items");
    for (size_t d = 0; d < desc->n_devices; d++)
        moi_place_text_device(&out, &desc->devices[d], d, &use[d]);
    moi_track_print(&out, "  %14s %7s  device  first .. last\n", "bytes", "items");
    for (size_t i = 0, end; i < desc->n_items && out.status == MO_OK; i = end) {
        for (end = i + 1; end < desc->n_items && device[end] == device[i];) end++;
        moi_place_text_run(&out, desc, device[i], i, end);
    }
    return out.status;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void moi_place_json_name(moi_track_out *out, const char *name, size_t index) {
    moi_track_print(out, "\"");
    moi_place_put_name(out, name, index, 1);
    moi_track_print(out, "\"");
}

static void moi_place_json_device(
    moi_track_out *out, const mo_place_device *device, size_t d, const mo_place_use *use) {
    moi_track_print(out, "%s{\"name\":", d ? "," : "");
    moi_place_json_name(out, device->name, d);
    if (device->limit_bytes == SIZE_MAX) moi_track_print(out, ",\"limit_bytes\":null");
    else moi_track_print(out, ",\"limit_bytes\":%zu", device->limit_bytes);
    moi_track_print(out, ",\"bytes\":%zu,\"room_bytes\":%zu", use->bytes, use->room_bytes);
    moi_plan_json_number(out, "moved_bytes", use->moved_bytes);
    moi_track_print(out, ",\"items\":%zu}", use->n_items);
}

static void moi_place_json_item(
    moi_track_out *out, const mo_place_desc *desc, size_t i, size_t device) {
    moi_track_print(out, "%s{\"name\":", i ? "," : "");
    moi_place_json_name(out, desc->items[i].name, i);
    moi_track_print(out, ",\"bytes\":%zu,\"device\":", desc->items[i].bytes);
    if (device == SIZE_MAX) moi_track_print(out, "null");
    else moi_place_json_name(out, desc->devices[device].name, device);
    moi_track_print(out, "}");
}

mo_status mo_place_write_json(const mo_place_desc *desc, const size_t *device,
    const mo_place_use *use, const mo_place_result *result, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!moi_place_is_writable(desc, device, use, result, writer)) return MO_E_INVALID;
    moi_track_print(&out, "{\"fits\":%s,\"is_optimal\":%s",
        result->n_missing == 0 && result->over_bytes == 0 ? "true" : "false",
        result->is_optimal ? "true" : "false");
    moi_plan_json_number(&out, "step_s", result->step_s);
    moi_plan_json_number(&out, "moved_bytes", result->moved_bytes);
    moi_plan_json_number(&out, "bound", result->bound);
    moi_track_print(&out, ",\"missing_bytes\":%zu,\"over_bytes\":%zu,\"devices\":[",
        result->missing_bytes, result->over_bytes);
    for (size_t d = 0; d < desc->n_devices; d++)
        moi_place_json_device(&out, &desc->devices[d], d, &use[d]);
    moi_track_print(&out, "],\"items\":[");
    for (size_t i = 0; i < desc->n_items && out.status == MO_OK; i++)
        moi_place_json_item(&out, desc, i, device[i]);
    moi_track_print(&out, "]}\n");
    return out.status;
}
