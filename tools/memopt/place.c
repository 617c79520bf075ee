// place.c - memopt place: the tensors of a file over devices, host memory and disk.
#include "model_file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct place {
    const char *memory, *links, *map, *no_split, *order; // flags, as given
    size_t buffers;
    double seconds;
    bool is_greedy, is_balanced, is_json, by_bytes;
    model_file file;
    mo_place_device *devices;
    mo_place_item *items;
    const char **blocks; // [n_items] the name up to the part that stays together ends here
    mo_place_desc desc;
    size_t *device;
    mo_place_use *use;
    mo_place_result result;
} place;

// ---- lists: NAME=VALUE,NAME=VALUE ---------------------------------------------------------------

typedef struct pair {
    char *name, *value; // value: NULL where there is no =
} pair;

typedef struct pairs {
    char *text;
    pair *all;
    size_t n;
} pairs;

static pairs split_pairs(const char *text) {
    pairs p = {.text = allocate(strlen(text) + 1, 1), .n = 1};
    strcpy(p.text, text);
    for (const char *c = text; *c; c++) p.n += *c == ',';
    p.all = allocate(p.n, sizeof *p.all);
    char *at = p.text;
    for (size_t i = 0; i < p.n; i++) {
        char *end = at + strcspn(at, ","), *equals = memchr(at, '=', (size_t)(end - at));
        *end = 0;
        p.all[i].name = at;
        if (equals) *equals = 0, p.all[i].value = equals + 1;
        at = end + 1;
    }
    return p;
}

static void free_pairs(pairs *p) {
    free(p->all);
    free(p->text);
}

static void set_pair(const char *name, const pair *p, flag_kind kind, void *value) {
    char text[80];
    snprintf(text, sizeof text, "%s: %.40s", name, p->name);
    const flag f = {text, kind, value};
    flag_set(&f, p->value);
}

// ---- devices -----------------------------------------------------------------------------------

// GPUs compute with what they hold; from elsewhere it travels, over PCIe 4 or from a disk.
static double default_speed(const char *name) {
    if (strcmp(name, "cpu") == 0) return 25e9;
    return strcmp(name, "disk") == 0 ? 3e9 : 0;
}

static size_t find_device(const place *p, const char *flag_name, const char *name) {
    for (size_t d = 0; d < p->desc.n_devices; d++)
        if (strcmp(p->devices[d].name, name) == 0) return d;
    fail(EXIT_USAGE, "%s: device '%s' is not in --max-memory", flag_name, name);
}

static void make_devices(place *p, const pairs *memory) {
    p->devices = allocate(memory->n, sizeof *p->devices);
    for (size_t d = 0; d < memory->n; d++) {
        const pair *at = &memory->all[d];
        mo_place_device *device = &p->devices[d];
        if (!*at->name) fail(EXIT_USAGE, "--max-memory: device without a name");
        for (size_t e = 0; e < d; e++)
            if (strcmp(p->devices[e].name, at->name) == 0)
                fail(EXIT_USAGE, "--max-memory: device '%s' twice", at->name);
        device->name = at->name;
        device->limit_bytes = SIZE_MAX;
        if (at->value) set_pair("--max-memory", at, FLAG_BYTES, &device->limit_bytes);
        device->bytes_per_s = d == 0 ? 0 : default_speed(at->name);
        device->n_buffers = d == 0 || strcmp(at->name, "cpu") == 0 ? p->buffers : 0;
    }
    p->desc.devices = p->devices;
    p->desc.n_devices = memory->n;
}

static void set_links(place *p) {
    if (!p->links) return;
    pairs links = split_pairs(p->links);
    for (size_t i = 0; i < links.n; i++) {
        const size_t d = find_device(p, "--link", links.all[i].name);
        if (!links.all[i].value) fail(EXIT_USAGE, "--link: '%s' has no speed", links.all[i].name);
        if (d == 0) fail(EXIT_USAGE, "--link: %s is the first device", links.all[i].name);
        set_pair("--link", &links.all[i], FLAG_RATE, &p->devices[d].bytes_per_s);
    }
    free_pairs(&links);
}

// ---- the order of execution --------------------------------------------------------------------

static size_t part_size(const char *name) { return strcspn(name, "."); }

static bool is_number(const char *part, size_t size) {
    return size > 0 && strspn(part, "0123456789") >= size;
}

// The end of the module that a tensor belongs to: its name without the last part.
static const char *module_end(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot : name + strlen(name);
}

// The end of the first part that is a number and has something behind it; NULL = there is none.
static const char *numbered_end(const char *name) {
    for (const char *at = name; *at;) {
        const char *end = at + part_size(at);
        if (*end && is_number(at, (size_t)(end - at))) return end;
        at = *end ? end + 1 : end;
    }
    return NULL;
}

static bool has_word(const char *name, const char *const *words) {
    for (; *words; words++)
        if (strstr(name, *words)) return true;
    return false;
}

// A file does not say what runs when: embeddings, numbered blocks, the rest, the head.
static int stage_of(const char *name) {
    static const char *const first[] = {"embed", "wte", "wpe", "shared", NULL};
    static const char *const last[] = {"head", "output", "score", "classifier", NULL};
    if (numbered_end(name)) return 1;
    return has_word(name, first) ? 0 : has_word(name, last) ? 3 : 2;
}

// By name, with numbers as numbers.
static int compare_names(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            const size_t zeros_a = strspn(a, "0"), zeros_b = strspn(b, "0");
            const size_t n_a = strspn(a + zeros_a, "0123456789");
            const size_t n_b = strspn(b + zeros_b, "0123456789");
            if (n_a != n_b) return n_a < n_b ? -1 : 1;
            const int order = memcmp(a + zeros_a, b + zeros_b, n_a);
            if (order) return order;
            a += zeros_a + n_a, b += zeros_b + n_b;
            if (!*a || !*b) break;
        }
        if (*a != *b) return *a == '.' ? -1 : *b == '.' ? 1 : (unsigned char)*a - (unsigned char)*b;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

static int compare_items(const void *a, const void *b) {
    const mo_place_item *x = a, *y = b;
    const int stages = stage_of(x->name) - stage_of(y->name);
    const int names = stages ? stages : compare_names(x->name, y->name);
    return names ? names : strcmp(x->name, y->name);
}

// ---- what stays together -----------------------------------------------------------------------

// The end of a prefix that matches, part by part, where * is any part; NULL = it does not.
static const char *match(const char *pattern, const char *name) {
    for (;;) {
        const size_t n_pattern = part_size(pattern), n_name = part_size(name);
        const bool is_any = n_pattern == 1 && *pattern == '*';
        if (!is_any && (n_pattern != n_name || memcmp(pattern, name, n_name) != 0)) return NULL;
        pattern += n_pattern, name += n_name;
        if (!*pattern) return name;
        if (!*name) return NULL;
        pattern++, name++;
    }
}

static const char *block_end(const place *p, const pairs *patterns, const char *name) {
    const char *end = NULL;
    if (!p->no_split) end = numbered_end(name);
    else if (strcmp(p->no_split, "none") != 0)
        for (size_t i = 0; !end && i < patterns->n; i++) end = match(patterns->all[i].name, name);
    return end ? end : module_end(name);
}

static bool same_block(const place *p, size_t a, size_t b) {
    const size_t n = (size_t)(p->blocks[a] - p->items[a].name);
    return n == (size_t)(p->blocks[b] - p->items[b].name) &&
        memcmp(p->items[a].name, p->items[b].name, n) == 0;
}

// Blocks are nearly always in a row, so the search for an earlier one begins at the last.
static void make_groups(place *p) {
    pairs patterns = split_pairs(p->no_split ? p->no_split : "");
    const size_t n = p->desc.n_items;
    size_t *first = allocate(n, sizeof *first), n_groups = 0; // item that begins each group
    p->blocks = allocate(n, sizeof *p->blocks);
    for (size_t i = 0; i < n; i++) {
        p->blocks[i] = block_end(p, &patterns, p->items[i].name);
        size_t g = n_groups;
        while (g > 0 && !same_block(p, first[g - 1], i)) g--;
        if (g == 0) first[n_groups++] = i, g = n_groups;
        p->items[i].group = g;
    }
    free(first);
    free_pairs(&patterns);
}

static void make_items(place *p, const char *path) {
    model_open(&p->file, path);
    const size_t n = p->file.n;
    p->items = allocate(n, sizeof *p->items);
    for (size_t i = 0; i < n; i++) {
        p->items[i].name = p->file.tensors[i].name;
        p->items[i].bytes = (size_t)p->file.tensors[i].bytes;
    }
    p->desc.items = p->items;
    p->desc.n_items = n;
    if (!p->order || strcmp(p->order, "name") == 0)
        qsort(p->items, n, sizeof *p->items, compare_items);
    else if (strcmp(p->order, "file") != 0)
        fail(EXIT_USAGE, "--order: '%s' is neither name nor file", p->order);
    make_groups(p);
}

// ---- the command -------------------------------------------------------------------------------

static void balance(place *p) {
    size_t *limits = allocate(p->desc.n_devices, sizeof *limits);
    check(mo_place_balanced(&p->desc, 0, limits), "--balanced");
    for (size_t d = 0; d < p->desc.n_devices; d++) p->devices[d].limit_bytes = limits[d];
    free(limits);
}

static void map_by_hand(place *p) {
    pairs map = split_pairs(p->map);
    mo_place_rule *rules = allocate(map.n, sizeof *rules);
    for (size_t i = 0; i < map.n; i++) {
        if (!map.all[i].value) fail(EXIT_USAGE, "--map: '%s' has no device", map.all[i].name);
        rules[i].prefix = map.all[i].name;
        rules[i].device = find_device(p, "--map", map.all[i].value);
    }
    check_said(mo_place_map(&p->desc, rules, map.n, p->device));
    check(mo_place_measure(&p->desc, p->device, p->use, &p->result), "--map");
    free(rules);
    free_pairs(&map);
}

static void choose(place *p) {
    p->device = allocate(p->desc.n_items, sizeof *p->device);
    p->use = allocate(p->desc.n_devices, sizeof *p->use);
    p->desc.log = &cli_log;
    p->desc.time_limit_s = p->seconds;
    if (p->is_greedy || p->is_balanced) p->desc.method = MO_PLACE_GREEDY;
    if (p->by_bytes) p->desc.goal = MO_PLACE_BYTES;
    if (p->is_balanced) balance(p);
    if (p->map) map_by_hand(p);
    else check(mo_place_solve(&p->desc, p->device, p->use, &p->result), "placement");
}

static void print(const place *p) {
    output o;
    output_open(&o, "-");
    const mo_writer writer = output_writer(&o);
    check((p->is_json ? mo_place_write_json : mo_place_write_text)(
              &p->desc, p->device, p->use, &p->result, &writer),
        "standard output");
    output_close(&o);
}

static int report_fit(const place *p) {
    const mo_place_result *r = &p->result;
    if (r->n_missing > 0)
        fprintf(stderr, "memopt place: does not fit: %zu bytes of %zu tensors have no place\n",
            r->missing_bytes, r->n_missing);
    if (r->over_bytes > 0)
        fprintf(stderr, "memopt place: does not fit: limits are exceeded by %zu bytes\n",
            r->over_bytes);
    return r->n_missing > 0 || r->over_bytes > 0 ? EXIT_NO : 0;
}

static int run(const command *self, int argc, const char *const *argv) {
    place p = {.buffers = 1};
    const char *path;
    const flag flags[] = {
        {"--max-memory", FLAG_TEXT, &p.memory},
        {"--link", FLAG_TEXT, &p.links},
        {"--no-split", FLAG_TEXT, &p.no_split},
        {"--order", FLAG_TEXT, &p.order},
        {"--map", FLAG_TEXT, &p.map},
        {"--buffers", FLAG_BYTES, &p.buffers},
        {"--time", FLAG_REAL, &p.seconds},
        {"--greedy", FLAG_SWITCH, &p.is_greedy},
        {"--balanced", FLAG_SWITCH, &p.is_balanced},
        {"--bytes", FLAG_SWITCH, &p.by_bytes},
        {"--json", FLAG_SWITCH, &p.is_json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, &path, 1);
    if (!p.memory) fail(EXIT_USAGE, "--max-memory missing (see --help)");
    pairs memory = split_pairs(p.memory);
    make_devices(&p, &memory);
    set_links(&p);
    make_items(&p, path);
    choose(&p);
    print(&p);
    const int status = report_fit(&p);
    model_close(&p.file);
    free(p.use);
    free(p.device);
    free(p.blocks);
    free(p.items);
    free(p.devices);
    free_pairs(&memory);
    return status;
}

const command place_command = {
    "place",
    "tensors of a file over devices, host memory and disk, with the least travel",
    "  memopt place FILE --max-memory 0=10G,cpu=16G,disk [flags]\n"
    "\n"
    "  --max-memory LIST  devices in order of preference, with a limit or without\n"
    "  --link LIST        speeds to the first device (cpu=25G,disk=3G; others compute themselves\n"
    "                     with what they hold)\n"
    "  --buffers N        room on the first device, and on cpu, for N of the largest block that "
    "is\n"
    "                     fetched from behind it (1); 2 = one travels while another computes\n"
    "  --no-split LIST    modules that stay on one device, * for any part of a name: h.*; none =\n"
    "                     modules of tensors alone. Default: those that end in a number\n"
    "  --order name|file  of execution: embeddings, numbered blocks, the rest, head (name); or as\n"
    "                     in the file\n"
    "  --greedy           block after block, as accelerate does\n"
    "  --balanced         the same, with limits that fill computing devices evenly\n"
    "  --bytes            the fewest bytes in a step, not the fewest seconds\n"
    "  --time S           end the search after S seconds, not after 1,000,000 tries\n"
    "  --map LIST         by hand, the longest prefix wins: =cpu,h.0=0,h.1=0\n"
    "  --json             one JSON object\n"
    "\n"
    "FILE is any that memopt inspect reads; only headers are read. Exit status: 0 done; 1 it does "
    "not fit (the best placement "
    "is\n"
    "printed), or the machine does not allow it; 2 usage, input.\n",
    run,
};
