// sample.c - text from the model: one token at a time, keys and values of earlier ones cached.
#include "app.h"

#include <math.h>
#include <string.h>

typedef struct sampler {
    const gpt_config *c;
    const mo_params *params;
    size_t window;        // positions that fit
    float *keys, *values; // [layers x window x columns of k]
    float *rope;          // [window x head size]
    float *x, *norm, *qkv, *mix, *wide, *row, *scores, *logits;
} sampler;

static float dot(const float *a, const float *b, size_t n) {
    float lane[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) lane[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum += a[i] * b[i];
    for (size_t j = 0; j < 16; j++) sum += lane[j];
    return sum;
}

// Row i of a matrix, decoded where it is bf16.
static const float *row_of(const sampler *s, const mo_param *w, size_t i, size_t columns) {
    if (!w->is_bf16) return w->data + i * columns;
    mo_bf16_to_f32(w->bf16 + i * columns, s->row, columns, NULL);
    return s->row;
}

// y = x weight + bias, weight [in x out]
static void matvec(const sampler *s, const float *x, const mo_param *w, float *restrict y) {
    const size_t in = w[0].shape[0], out = w[0].shape[1];
    memcpy(y, w[1].data, out * sizeof *y);
    for (size_t i = 0; i < in; i++) {
        const float *restrict row = row_of(s, w, i, out);
        for (size_t j = 0; j < out; j++) y[j] += x[i] * row[j];
    }
}

// A part of a block: y = x weight (+ bias); matrices [out x in] side by side.
static void apply(const sampler *s, size_t layer, int part, const float *x, float *y) {
    const mo_param *w = gpt_part(s->c, s->params, layer, part);
    if (!s->c->arch->llama) {
        matvec(s, x, w, y);
        return;
    }
    for (size_t i = 0; i < s->c->arch->parts[part].n; i++)
        for (size_t j = 0; j < w[i].shape[0]; j++)
            *y++ = dot(x, row_of(s, &w[i], j, w[i].shape[1]), w[i].shape[1]);
}

static void normalize(const sampler *s, const mo_param *w) {
    float mean, rstd;
    const mo_rmsnorm_desc rms = {
        .n = 1, .channels = s->c->channels, .weight = w[0].data, .rstd = &rstd};
    const mo_layernorm_desc norm = {.n = 1,
        .channels = s->c->channels,
        .weight = w[0].data,
        .bias = w[1].data,
        .mean = &mean,
        .rstd = &rstd};
    check(s->c->arch->llama ? mo_rmsnorm_forward(&rms, s->x, s->norm)
                            : mo_layernorm_forward(&norm, s->x, s->norm),
        "norm");
}

static void normalize_block(const sampler *s, size_t layer, int part) {
    normalize(s, gpt_part(s->c, s->params, layer, part));
}

// In place: y begins as what the first product of the MLP has made.
static void activate(const sampler *s, float *y) {
    const size_t hidden = s->c->hidden;
    const mo_swiglu_desc d = {.rows = 1, .hidden = hidden};
    if (s->c->arch->llama) check(mo_swiglu_forward(&d, y, y + hidden, y), "mo_swiglu_forward");
    else mo_gelu_forward(y, y, hidden, NULL);
}

static void rotate(const sampler *s, size_t at) {
    const mo_rope_desc d = {.batch = 1,
        .seq = 1,
        .first = at,
        .heads = s->c->heads + s->c->kv_heads,
        .head_size = s->c->channels / s->c->heads,
        .table = s->rope};
    if (s->c->arch->llama) check(mo_rope_forward(&d, s->qkv), "mo_rope_forward");
}

static void attend(const sampler *s, size_t layer, size_t at) {
    const size_t width = s->c->channels, size = width / s->c->heads;
    const size_t kv = gpt_width(s->c, WIDTH_KV), shared = s->c->heads / s->c->kv_heads;
    const size_t base = layer * s->window * kv;
    memcpy(s->keys + base + at * kv, s->qkv + width, kv * sizeof(float));
    memcpy(s->values + base + at * kv, s->qkv + width + kv, kv * sizeof(float));
    memset(s->mix, 0, width * sizeof(float));
    for (size_t head = 0; head < s->c->heads; head++) {
        const float *q = s->qkv + head * size;
        float most = -INFINITY, sum = 0;
        for (size_t i = 0; i <= at; i++) {
            s->scores[i] =
                dot(q, s->keys + base + i * kv + head / shared * size, size) / sqrtf((float)size);
            most = fmaxf(most, s->scores[i]);
        }
        for (size_t i = 0; i <= at; i++) sum += s->scores[i] = expf(s->scores[i] - most);
        for (size_t i = 0; i <= at; i++) {
            const float *v = s->values + base + i * kv + head / shared * size,
                        p = s->scores[i] / sum;
            for (size_t j = 0; j < size; j++) s->mix[head * size + j] += p * v[j];
        }
    }
}

static void embed(const sampler *s, size_t token, size_t at) {
    const size_t width = s->c->channels;
    memcpy(s->x, s->params->items[0].data + token * width, width * sizeof *s->x);
    if (!s->c->arch->positions) return;
    const float *place = s->params->items[1].data + at * width;
    for (size_t i = 0; i < width; i++) s->x[i] += place[i];
}

// logits of the token after token, which stands at position at
static void advance(const sampler *s, size_t token, size_t at) {
    const size_t width = s->c->channels;
    embed(s, token, at);
    for (size_t layer = 0; layer < s->c->layers; layer++) {
        normalize_block(s, layer, NORM1);
        apply(s, layer, TO_QKV, s->norm, s->qkv);
        rotate(s, at);
        attend(s, layer, at);
        apply(s, layer, PROJECT, s->mix, s->norm);
        for (size_t i = 0; i < width; i++) s->x[i] += s->norm[i];
        normalize_block(s, layer, NORM2);
        apply(s, layer, TO_HIDDEN, s->norm, s->wide);
        activate(s, s->wide);
        apply(s, layer, FROM_HIDDEN, s->wide, s->norm);
        for (size_t i = 0; i < width; i++) s->x[i] += s->norm[i];
    }
    normalize(s, gpt_last_norm(s->c, s->params));
    const float *wte = s->params->items[0].data;
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
    const size_t wide = gpt_width(c, WIDTH_WIDE), head = c->channels / c->heads;
    const size_t kv = gpt_width(c, WIDTH_KV), qkv = gpt_width(c, WIDTH_QKV);
    const size_t row = wide > qkv ? wide : qkv;
    const size_t fixed = 3 * c->channels + qkv + wide + row + c->vocab;
    const size_t each = 2 * c->layers * kv + 1 + (c->arch->llama ? head : 0);
    const size_t floats = size / sizeof(float);
    if (floats < fixed + 2 * each) fail(EXIT_BAD, "--sample: %zu bytes are too few for it", size);
    s.window = (floats - fixed) / each;
    if (s.window > c->seq) s.window = c->seq;
    s.keys = memory;
    s.values = s.keys + c->layers * s.window * kv;
    s.x = s.values + c->layers * s.window * kv;
    s.norm = s.x + c->channels;
    s.qkv = s.norm + c->channels;
    s.mix = s.qkv + qkv;
    s.wide = s.mix + c->channels;
    s.row = s.wide + wide;
    s.logits = s.row + row;
    s.scores = s.logits + c->vocab;
    s.rope = s.scores + s.window;
    if (c->arch->llama)
        check(mo_rope_table(head, s.window, c->rope_theta, s.rope), "mo_rope_table");
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
