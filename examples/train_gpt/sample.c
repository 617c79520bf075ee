// sample.c - text from the model: one token at a time, keys and values of earlier ones cached.
#include "app.h"

#include <math.h>
#include <string.h>

typedef struct sampler {
    const gpt_config *c;
    const mo_params *params;
    size_t window;        // positions that fit
    float *keys, *values; // [layers x window x channels]
    float *x, *norm, *qkv, *mix, *wide, *scores, *logits;
} sampler;

// y = x weight + bias, weight [in x out]
static void matvec(const float *x, const float *weight, const float *bias, size_t in, size_t out,
    float *restrict y) {
    memcpy(y, bias, out * sizeof *y);
    for (size_t i = 0; i < in; i++) {
        const float *restrict row = weight + i * out;
        for (size_t j = 0; j < out; j++) y[j] += x[i] * row[j];
    }
}

static float dot(const float *a, const float *b, size_t n) {
    float lane[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) lane[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum += a[i] * b[i];
    for (size_t j = 0; j < 16; j++) sum += lane[j];
    return sum;
}

static void normalize(const sampler *s, const float *weight, const float *bias) {
    float mean, rstd;
    mo_layernorm_desc d = {.n = 1,
        .channels = s->c->channels,
        .weight = weight,
        .bias = bias,
        .mean = &mean,
        .rstd = &rstd};
    check(mo_layernorm_forward(&d, s->x, s->norm), "mo_layernorm_forward");
}

static void attend(const sampler *s, size_t layer, size_t at) {
    const size_t width = s->c->channels, size = width / s->c->heads;
    const size_t base = layer * s->window * width;
    memcpy(s->keys + base + at * width, s->qkv + width, width * sizeof(float));
    memcpy(s->values + base + at * width, s->qkv + 2 * width, width * sizeof(float));
    memset(s->mix, 0, width * sizeof(float));
    for (size_t head = 0; head < s->c->heads; head++) {
        const float *q = s->qkv + head * size;
        float most = -INFINITY, sum = 0;
        for (size_t i = 0; i <= at; i++) {
            s->scores[i] =
                dot(q, s->keys + base + i * width + head * size, size) / sqrtf((float)size);
            most = fmaxf(most, s->scores[i]);
        }
        for (size_t i = 0; i <= at; i++) sum += s->scores[i] = expf(s->scores[i] - most);
        for (size_t i = 0; i <= at; i++) {
            const float *v = s->values + base + i * width + head * size, p = s->scores[i] / sum;
            for (size_t j = 0; j < size; j++) s->mix[head * size + j] += p * v[j];
        }
    }
}

// logits of the token after token, which stands at position at
static void advance(const sampler *s, size_t token, size_t at) {
    const size_t width = s->c->channels;
    const float *wte = s->params->items[0].data, *wpe = s->params->items[1].data;
    for (size_t i = 0; i < width; i++) s->x[i] = wte[token * width + i] + wpe[at * width + i];
    for (size_t layer = 0; layer < s->c->layers; layer++) {
        const float *p[N_BLOCK_PARAMS];
        for (int i = 0; i < N_BLOCK_PARAMS; i++) p[i] = gpt_param(s->params, layer, i);
        normalize(s, p[LN1_W], p[LN1_B]);
        matvec(s->norm, p[QKV_W], p[QKV_B], width, 3 * width, s->qkv);
        attend(s, layer, at);
        matvec(s->mix, p[PROJ_W], p[PROJ_B], width, width, s->norm);
        for (size_t i = 0; i < width; i++) s->x[i] += s->norm[i];
        normalize(s, p[LN2_W], p[LN2_B]);
        matvec(s->norm, p[FC_W], p[FC_B], width, 4 * width, s->wide);
        mo_gelu_forward(s->wide, s->wide, 4 * width, NULL);
        matvec(s->wide, p[OUT_W], p[OUT_B], 4 * width, width, s->norm);
        for (size_t i = 0; i < width; i++) s->x[i] += s->norm[i];
    }
    normalize(s, gpt_param(s->params, s->c->layers, 0), gpt_param(s->params, s->c->layers, 1));
    for (size_t v = 0; v < s->c->vocab; v++) s->logits[v] = dot(s->norm, wte + v * width, width);
}

static uint64_t random_next(uint64_t *state) { // xorshift64*
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

// softmax at temperature 0.8
static size_t draw(const sampler *s, uint64_t *state) {
    double sum = 0, at = 0, most = -INFINITY;
    for (size_t v = 0; v < s->c->vocab; v++) most = fmax(most, s->logits[v]);
    for (size_t v = 0; v < s->c->vocab; v++) sum += exp((s->logits[v] - most) / 0.8);
    double u = (double)(random_next(state) >> 11) * 0x1p-53 * sum;
    for (size_t v = 0; v < s->c->vocab; v++)
        if ((at += exp((s->logits[v] - most) / 0.8)) > u) return v;
    return s->c->vocab - 1;
}

static void print_token(const gpt_config *c, size_t token, FILE *out) {
    if (c->vocab != 256) fprintf(out, "%zu ", token);
    else fputc(token == '\n' || (token >= 32 && token < 127) ? (int)token : '?', out);
}

void gpt_sample(const gpt_config *c, const mo_params *params, size_t n_tokens, uint64_t seed,
    void *memory, size_t size, FILE *out) {
    sampler s = {.c = c, .params = params};
    const size_t fixed = 10 * c->channels + c->vocab, each = 2 * c->layers * c->channels + 1;
    const size_t floats = size / sizeof(float);
    if (floats < fixed + 2 * each) fail(EXIT_BAD, "--sample: %zu bytes are too few for it", size);
    s.window = (floats - fixed) / each;
    if (s.window > c->seq) s.window = c->seq;
    s.keys = memory;
    s.values = s.keys + c->layers * s.window * c->channels;
    s.x = s.values + c->layers * s.window * c->channels;
    s.norm = s.x + c->channels;
    s.qkv = s.norm + c->channels;
    s.mix = s.qkv + 3 * c->channels;
    s.wide = s.mix + c->channels;
    s.logits = s.wide + 4 * c->channels;
    s.scores = s.logits + c->vocab;
    uint64_t state = seed * 2 + 1;
    size_t token = c->vocab > '\n' ? '\n' : 0;
    // a full window starts again: simple, and good enough to see what was learned
    for (size_t i = 0; i < n_tokens; i++) {
        advance(&s, token, i % s.window);
        token = draw(&s, &state);
        print_token(c, token, out);
    }
    fputc('\n', out);
}
