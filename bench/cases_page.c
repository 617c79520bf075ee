// cases_page.c - pages in a file beside plain reads and writes of the same file.
//
// The file is 4 times --n bytes, in the system's cache; an eighth of it is resident. A call goes
// over the whole file once. plain_ratio: the time of plain pread and pwrite calls, a page each,
// over that of the case.
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ, WRITE, WALK };

typedef struct pages {
    mo_page page;
    int kind, file;
    char path[4096];
    char *buffer; // of a page
} pages;

static void paged(void *state) {
    static const mo_page_access access[] = {MO_PAGE_READ, MO_PAGE_OVERWRITE, MO_PAGE_WRITE};
    pages *p = state;
    void *data;
    for (size_t i = 0; i < mo_page_count(&p->page); i++) {
        must(mo_page_acquire(&p->page, i, access[p->kind], &data));
        must(mo_page_release(&p->page, i));
    }
}

static void plain(void *state) {
    pages *p = state;
    const size_t step = p->page.desc.page_bytes;
    for (size_t i = 0; i < mo_page_count(&p->page); i++) {
        const ssize_t size = (ssize_t)mo_page_size(&p->page, i);
        const off_t at = (off_t)(i * step);
        if (p->kind != WRITE && pread(p->file, p->buffer, (size_t)size, at) != size) must(MO_E_IO);
        if (p->kind != READ && pwrite(p->file, p->buffer, (size_t)size, at) != size) must(MO_E_IO);
    }
}

static void end_pages(void *state) {
    pages *p = state;
    mo_page_free(&p->page);
    close(p->file);
}

static bool setup_pages(work *w) {
    const char *folder = getenv("TMPDIR");
    const size_t size = 4 * w->n, part = size / 32 / 64 * 64;
    const size_t page_bytes = part < 64 ? 64 : part < 2 << 20 ? part : 2 << 20;
    const size_t resident = size / 8 < 2 * page_bytes ? 2 * page_bytes : size / 8;
    pages *p = take(w, sizeof *p);
    if (!p) return false;
    p->kind = w->variant;
    snprintf(p->path, sizeof p->path, "%s/memopt-bench.%ld", folder && *folder ? folder : "/tmp",
        (long)getpid());
    const mo_page_desc desc = {.size = size,
        .page_bytes = page_bytes,
        .resident_bytes = resident,
        .path = p->path,
        .buffered = 1,
        .reserve = 1};
    if (mo_page_init(&p->page, &desc) != MO_OK)
        fail(EXIT_FAILED, "%s: no room for a file of %zu bytes", p->path, size);
    p->file = open(p->path, O_RDWR | O_CLOEXEC);
    remove(p->path); // both have it open
    if (p->file < 0) fail(EXIT_FAILED, "%s: cannot be opened again", p->path);
    p->buffer = take(w, p->page.desc.page_bytes);
    if (!p->buffer) return false;
    memset(p->buffer, 1, p->page.desc.page_bytes);
    if (p->kind != WRITE) must(mo_page_walk(&p->page, NULL, mo_page_count(&p->page)));
    add_extra(w, "resident_ratio", (double)p->page.stats.resident_bytes / (double)size);
    w->state = p;
    w->units = w->n;
    w->threads = 1;
    w->rival = plain;
    w->end = end_pages;
    return true;
}

const bench_case cases_page[] = {
    {"page.read", "element", "a walk that reads a file of floats", 4, setup_pages, paged, READ},
    {"page.write", "element", "a file of floats is written anew", 4, setup_pages, paged, WRITE},
    {"page.walk", "element", "a walk that changes all of a file", 8, setup_pages, paged, WALK},
    {0},
};
