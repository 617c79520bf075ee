// 12_place.c - a model of 27 GB over a GPU of 10 GB, a host of 16 GB and a disk.
//     cc -I. examples/12_place.c memopt.c -o place -lm
#include "memopt.h"
#include <stdio.h>

// The shape of Llama 7B in fp32: embedding, 32 blocks (attention and MLP, which stay together, for
// their residual connections), norm, head.
enum { BLOCKS = 32, N = 2 * BLOCKS + 3, WIDTH = 4096, HIDDEN = 11008, VOCABULARY = 32000 };
static const mo_place_device devices[] = {
    // name, limit, bytes per second to the first device, buffers for streamed layers
    {"gpu", 10000000000, 0, 2}, // one layer computes while the next one is on its way
    {"host", 16000000000, 25e9, 0},
    {"disk", SIZE_MAX, 3e9, 0},
};
enum { N_DEVICES = sizeof devices / sizeof *devices };

static int to_file(void *file, const char *text, size_t size) {
    return fwrite(text, 1, size, (FILE *)file) != size;
}

static int failed(mo_status status, const char *what) {
    if (status != MO_OK) fprintf(stderr, "%s: %s\n", what, mo_status_text(status));
    return status != MO_OK;
}

static size_t make_items(mo_place_item *items, char (*names)[16]) {
    size_t n = 0;
    items[n++] = (mo_place_item){.name = "embed", .bytes = 4ull * VOCABULARY * WIDTH};
    for (size_t i = 0; i < BLOCKS; i++)
        for (int mlp = 0; mlp < 2; mlp++, n++) {
            const size_t size = mlp ? 3ull * WIDTH * HIDDEN : 4ull * WIDTH * WIDTH;
            snprintf(names[n], sizeof names[n], "%zu.%s", i, mlp ? "mlp" : "attn");
            items[n] =
                (mo_place_item){.name = names[n], .bytes = 4 * (size + WIDTH), .group = 1 + i};
        }
    items[n++] = (mo_place_item){.name = "norm", .bytes = 4ull * WIDTH};
    items[n++] = (mo_place_item){.name = "head", .bytes = 4ull * VOCABULARY * WIDTH};
    return n;
}

int main(void) {
    mo_place_item items[N];
    char names[N][16];
    size_t device[N], n_fetches;
    mo_place_use use[N_DEVICES];
    mo_place_result result;
    mo_place_fetch fetches[N];
    const mo_writer out = {to_file, stdout};
    mo_place_desc desc = {.devices = devices, .n_devices = N_DEVICES, .items = items};
    desc.n_items = make_items(items, names);

    desc.method = MO_PLACE_GREEDY;
    if (failed(mo_place_solve(&desc, device, use, &result), "greedy")) return 1;
    const double greedy_s = result.step_s;
    desc.method = MO_PLACE_OPTIMAL;
    if (failed(mo_place_solve(&desc, device, use, &result), "place")) return 1;
    if (failed(mo_place_write_text(&desc, device, use, &result, &out), "write")) return 1;
    printf("layer after layer, as accelerate does: %.3f s on the links in a step\n", greedy_s);

    // The order in which layers come over the link, and how early each may start.
    if (failed(mo_place_stream(&desc, device, 2, fetches, &n_fetches), "stream")) return 1;
    printf("%zu layers are streamed; ", n_fetches);
    if (n_fetches > 2)
        printf("%s, needed at item %zu, may be fetched from item %zu on\n",
            items[fetches[2].item].name, fetches[2].item, fetches[2].begin);
    return result.missing_bytes != 0 || result.step_s > greedy_s;
}
