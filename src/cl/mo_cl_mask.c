/* mo_cl_mask.c - see mo_cl_mask.h. */

typedef struct moi_cl_mask {
    int by, to; /* MO_BY and MO_TO of mask.cl */
    const mo_cl_mem *sign, *mask, *x, *y;
    float high, low;
    uint32_t below;
    uint64_t seed;
} moi_cl_mask;

/* A memory that the kernel does not touch is x. */
static mo_status moi_cl_mask_run(mo_cl *cl, const moi_cl_mask *m, size_t n) {
    char options[32];
    const int has_mask = m->by == 1 || m->to;
    snprintf(options, sizeof options, "-DMO_BY=%d -DMO_TO=%d", m->by, m->to);
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_mask_run, options);
    moi_cl_mem_arg(&call, m->by == 0 ? m->sign : m->x, sizeof(float), n);
    moi_cl_mem_arg(
        &call, has_mask ? m->mask : m->x, sizeof(uint32_t), has_mask ? mo_mask_words(n) : 0);
    moi_cl_mem_arg(&call, m->x, sizeof(float), n);
    moi_cl_mem_arg(&call, m->y, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    moi_cl_f32_arg(&call, m->high);
    moi_cl_f32_arg(&call, m->low);
    moi_cl_u32_arg(&call, m->below);
    moi_cl_u64_arg(&call, m->seed);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

static moi_cl_mask moi_cl_mask_of(const mo_cl_mem *x, const mo_cl_mem *y, float low) {
    moi_cl_mask m;
    memset(&m, 0, sizeof m);
    m.x = x;
    m.y = y;
    m.high = 1.0f;
    m.low = low;
    return m;
}

mo_status mo_cl_relu_forward(
    mo_cl *cl, mo_cl_mem x, float slope, mo_cl_mem mask, mo_cl_mem y, size_t n) {
    moi_cl_mask m = moi_cl_mask_of(&x, &y, slope);
    if (!(slope >= 0)) return MO_E_INVALID;
    m.sign = &x;
    m.to = mask.buffer != NULL;
    m.mask = &mask;
    return moi_cl_mask_run(cl, &m, n);
}

mo_status mo_cl_relu_backward(
    mo_cl *cl, mo_cl_mem mask, mo_cl_mem dy, float slope, mo_cl_mem dx, size_t n) {
    moi_cl_mask m = moi_cl_mask_of(&dy, &dx, slope);
    if (!(slope >= 0)) return MO_E_INVALID;
    m.by = 1;
    m.mask = &mask;
    return moi_cl_mask_run(cl, &m, n);
}

mo_status mo_cl_relu_backward_output(
    mo_cl *cl, mo_cl_mem y, mo_cl_mem dy, float slope, mo_cl_mem dx, size_t n) {
    moi_cl_mask m = moi_cl_mask_of(&dy, &dx, slope);
    if (!(slope >= 0)) return MO_E_INVALID;
    m.sign = &y;
    return moi_cl_mask_run(cl, &m, n);
}

static mo_status moi_cl_dropout(mo_cl *cl, const mo_dropout_desc *desc, const mo_cl_mem *mask,
    int by, int to, const mo_cl_mem *x, const mo_cl_mem *y, size_t n) {
    moi_cl_mask m = moi_cl_mask_of(x, y, 0.0f);
    if (!desc || !(desc->p >= 0 && desc->p < 1)) return MO_E_INVALID;
    m.by = by;
    m.to = to;
    m.mask = mask;
    m.high = 1.0f / (1.0f - desc->p);
    m.below = (uint32_t)(desc->p * 16777216.0f);
    m.seed = desc->seed;
    return moi_cl_mask_run(cl, &m, n);
}

mo_status mo_cl_dropout_forward(
    mo_cl *cl, const mo_dropout_desc *desc, mo_cl_mem x, mo_cl_mem mask, mo_cl_mem y, size_t n) {
    return moi_cl_dropout(cl, desc, &mask, 2, mask.buffer != NULL, &x, &y, n);
}

mo_status mo_cl_dropout_backward(
    mo_cl *cl, const mo_dropout_desc *desc, mo_cl_mem mask, mo_cl_mem dy, mo_cl_mem dx, size_t n) {
    return moi_cl_dropout(cl, desc, &mask, mask.buffer ? 1 : 2, 0, &dy, &dx, n);
}
