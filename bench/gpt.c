// gpt.c - the tensors of a GPT's training step with the steps in which they live.
#include "bench.h"

enum { FORWARD_STEPS = 8, LOSS_STEPS = 3, BACKWARD_STEPS = 8 };

typedef struct list {
    mo_layout_item *items;
    size_t n, clock;
} list;

// floats, and the first and last step, counted from the list's clock
static void add(list *l, size_t floats, size_t first, size_t last) {
    if (l->n < GPT_MAX_ITEMS)
        l->items[l->n++] = (mo_layout_item){floats * 4, 0, l->clock + first, l->clock + last};
}

// A block: f is the first step of its forward, b of its backward.
static void add_block(list *l, const gpt_shape *s, size_t f, size_t b) {
    const size_t rows = s->batch * s->seq, x = rows * s->channels;
    add(l, x, f, b + 7);                   // input of the block
    add(l, x, f, b + 6);                   // first norm
    add(l, 3 * x, f + 1, b + 5);           // q, k, v
    add(l, x, f + 2, b + 5);               // attention
    add(l, rows * s->heads, f + 2, b + 5); // its log-sums
    add(l, x, f + 3, f + 4);               // projection
    add(l, x, f + 4, b + 4);               // residual
    add(l, x, f + 4, b + 3);               // second norm
    add(l, 4 * x, f + 5, b + 2);           // hidden
    add(l, 4 * x, f + 6, b + 1);           // gelu
    add(l, x, f + 7, f + 8);               // projection
    add(l, x, b, b + 4);                   // gradients, in the order of backward: output,
    add(l, 4 * x, b, b + 1);               // gelu,
    add(l, 4 * x, b + 1, b + 3);           // hidden,
    add(l, x, b + 3, b + 4);               // second norm,
    add(l, x, b + 4, b + 7);               // residual,
    add(l, x, b + 5, b + 5);               // attention,
    add(l, 3 * x, b + 5, b + 6);           // q, k, v,
    add(l, x, b + 6, b + 7);               // first norm
}

size_t gpt_end(const gpt_shape *s) {
    return s->layers * (FORWARD_STEPS + BACKWARD_STEPS) + LOSS_STEPS;
}

size_t gpt_lifetimes(const gpt_shape *s, size_t clock, mo_layout_item *items) {
    list l = {items, 0, clock};
    const size_t loss = s->layers * FORWARD_STEPS, rows = s->batch * s->seq;
    for (size_t i = 0; i < s->layers; i++)
        add_block(
            &l, s, i * FORWARD_STEPS, loss + LOSS_STEPS + (s->layers - 1 - i) * BACKWARD_STEPS);
    add(&l, rows * s->channels, loss, loss + 2); // last norm
    add(&l, rows * s->vocab, loss + 1, loss + 2);
    add(&l, rows * s->channels, loss + 2, loss + 3);
    return l.n;
}
