/* mo_names.c - see mo_names.h. */

/* Bits of a hash that are sorted by and compared; where those of two names are the same, as for 22
 * pairs of 7 million names, strcmp decides. */
enum { MOI_NAMES_BITS = 40 };

static const char *moi_names_at(const mo_names *names, size_t i) {
    return *(const char *const *)((const char *)names->structs + i * names->stride);
}

/* One digit of a radix sort: counts of its values become the places where they begin. */
static void moi_order_digit(
    const mo_names_item *from, mo_names_item *to, size_t n, unsigned shift, size_t places[256]) {
    memset(places, 0, 256 * sizeof *places);
    for (size_t i = 0; i < n; i++) places[from[i].key >> shift & 255]++;
    for (size_t digit = 0, at = 0; digit < 256; digit++) {
        size_t count = places[digit];
        places[digit] = at;
        at += count;
    }
    for (size_t i = 0; i < n; i++) to[places[from[i].key >> shift & 255]++] = from[i];
}

/* Not qsort, which may allocate, or take n * n steps on a header made for it. */
static void moi_order(mo_names_item *items, mo_names_item *other, size_t n, unsigned bits) {
    size_t places[256], i = 1;
    mo_names_item *from = items, *to = other;
    while (i < n && items[i - 1].key <= items[i].key) i++;
    if (i >= n) return; /* most files are in order */
    for (unsigned shift = 0; shift < bits; shift += 8) {
        moi_order_digit(from, to, n, shift, places);
        mo_names_item *swap = from;
        from = to, to = swap;
    }
    if (from != items) memcpy(items, from, n * sizeof *items);
}

/* A murmur of 8 bytes at a time. The seed is an address: who makes a file cannot know which names
 * collide. */
static uint64_t moi_names_hash(const char *name, uint64_t seed) {
    const uint64_t odd = UINT64_C(0x9fb21c651e98df25);
    size_t size = strlen(name);
    uint64_t hash = seed ^ size, word = 0;
    for (;; size -= 8, name += 8) {
        size_t n = moi_min(size, 8);
        word = 0;
        memcpy(&word, name, n);
        hash = (hash ^ word) * odd;
        hash = (hash ^ hash >> 29) * odd;
        hash ^= hash >> 32;
        if (size <= 8) break;
    }
    return hash >> (64 - MOI_NAMES_BITS);
}

static const char *moi_names_twice(const mo_names *names) {
    for (size_t i = 1; i < names->n; i++)
        for (size_t k = i; k-- > 0 && names->items[k].key == names->items[i].key;) {
            const char *name = moi_names_at(names, names->items[i].i);
            if (strcmp(moi_names_at(names, names->items[k].i), name) == 0) return name;
        }
    return NULL;
}

static mo_status moi_names_build(mo_names *names, const mo_allocator *allocator,
    const void *structs, size_t n, size_t stride, const char **twice) {
    names->structs = structs;
    names->stride = stride;
    names->n = n;
    if (n == 0) return MO_OK;
    names->items = (mo_names_item *)moi_alloc_array(allocator, n, sizeof *names->items);
    mo_names_item *other = (mo_names_item *)moi_alloc_array(allocator, n, sizeof *other);
    if (names->items && other) {
        names->seed = (uint64_t)(uintptr_t)names->items * UINT64_C(0xd6e8feb86659fd93);
        for (size_t i = 0; i < n; i++) {
            names->items[i].key = moi_names_hash(moi_names_at(names, i), names->seed);
            names->items[i].i = i;
        }
        moi_order(names->items, other, n, MOI_NAMES_BITS);
        *twice = moi_names_twice(names);
    }
    mo_status status = !names->items || !other ? MO_E_NO_MEMORY : *twice ? MO_E_FORMAT : MO_OK;
    moi_free_array(allocator, other, n, sizeof *other);
    if (status != MO_OK) moi_names_free(names, allocator);
    return status;
}

static size_t moi_names_find(const mo_names *names, const char *name) {
    const uint64_t key = names->n > 0 ? moi_names_hash(name, names->seed) : 0;
    size_t low = 0, high = names->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (names->items[middle].key < key) low = middle + 1;
        else high = middle;
    }
    for (; low < names->n && names->items[low].key == key; low++)
        if (strcmp(moi_names_at(names, names->items[low].i), name) == 0) return names->items[low].i;
    return names->n;
}

static void moi_names_free(mo_names *names, const mo_allocator *allocator) {
    moi_free_array(allocator, names->items, names->n, sizeof *names->items);
    memset(names, 0, sizeof *names);
}

static mo_status moi_names_check(const mo_allocator *allocator, const mo_log *log, const char *path,
    const void *structs, size_t n, size_t stride, const char *what) {
    char text[200];
    const char *twice = NULL;
    mo_names names;
    memset(&names, 0, sizeof names);
    mo_status status = moi_names_build(&names, allocator, structs, n, stride, &twice);
    moi_names_free(&names, allocator);
    if (status == MO_E_NO_MEMORY)
        return moi_file_fail(log, path, status, "out of memory for the names");
    if (status != MO_OK)
        return moi_file_fail(log, path, MO_E_INVALID, "%s '%s' is there twice", what,
            moi_printable(twice, strlen(twice), text, sizeof text));
    return MO_OK;
}
