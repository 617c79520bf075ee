// compress.c - saved activations in 8 or 4 bits: what forward has used is encoded where the plan
// has room for codes, and decoded where backward needs it.
#include "app.h"

static mo_compress_desc compress_desc(const gpt_run *run, int which) {
    const uint64_t step = 0x9e3779b97f4a7c15u;
    return (mo_compress_desc){.bits = run->act, .seed = run->seed + step * (uint64_t)which};
}

void gpt_compress(const gpt_run *run, int which, const float *x, size_t n, void *codes) {
    const mo_compress_desc d = compress_desc(run, which);
    if (codes) run->kernels->compress(run, &d, x, n, codes);
}

void gpt_expand(const gpt_run *run, const void *codes, size_t n, float *x) {
    const mo_compress_desc d = compress_desc(run, 0);
    if (codes) run->kernels->expand(run, &d, codes, n, x);
}
