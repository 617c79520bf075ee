/* mo_cl_training.c - see mo_cl_training.h. */

static mo_cl_linear_ce_desc moi_cl_training_ce(const mo_linear_ce_desc *from) {
    mo_cl_linear_ce_desc d;
    memset(&d, 0, sizeof d);
    d.rows = from->rows;
    d.channels = from->channels;
    d.vocab = from->vocab;
    d.chunk_rows = from->chunk_rows;
    return d;
}

size_t mo_cl_training_ce_size(const mo_linear_ce_desc *desc) {
    const mo_cl_linear_ce_desc d = moi_cl_training_ce(desc);
    return mo_cl_linear_ce_workspace_size(&d);
}

size_t mo_cl_training_kd_size(const mo_linear_kd_desc *desc) {
    mo_cl_linear_kd_desc d;
    memset(&d, 0, sizeof d);
    d.ce = moi_cl_training_ce(&desc->ce);
    d.teacher_channels = desc->teacher_channels;
    return mo_cl_linear_kd_workspace_size(&d);
}

/* The end of the products' workspace is the adapters': it begins at a cache line. */
static size_t moi_cl_training_products(mo_cl *cl, const mo_training_sizes *s) {
    const mo_model *m = s->model;
    mo_gemm_desc largest;
    mo_cl_gemm_env env;
    memset(&largest, 0, sizeof largest);
    memset(&env, 0, sizeof env);
    size_t side = moi_max(moi_max(s->rows, m->hidden), moi_max(m->channels, m->vocab));
    side = moi_max(side, mo_model_size(m, MO_MODEL_WIDTH_QUERY));
    largest.m = largest.n = largest.k = side;
    env.cl = cl;
    return moi_ceil_div(mo_cl_gemm_workspace_size(&env, &largest), MOI_CACHE_LINE) *
        MOI_CACHE_LINE +
        s->lora;
}

/* One block for all kernels: they run one after the other. */
static size_t moi_cl_training_workspace(void *self, const mo_training_sizes *s) {
    mo_cl *cl = (mo_cl *)self;
    const mo_model *m = s->model;
    const size_t wide = moi_max(m->hidden, m->channels);
    mo_cl_layernorm_desc norm;
    mo_cl_attention_desc attention;
    memset(&norm, 0, sizeof norm);
    memset(&attention, 0, sizeof attention);
    norm.n = s->rows;
    norm.channels = m->channels;
    attention.batch = s->rows / s->seq;
    attention.seq = s->seq;
    attention.heads = m->heads;
    attention.head_size = m->head_size;
    attention.kv_heads = m->kv_heads;
    size_t size = moi_cl_training_products(cl, s);
    size = moi_max(size, mo_cl_attention_workspace_size(&attention));
    size = moi_max(size, mo_cl_layernorm_workspace_size(cl, &norm));
    size = moi_max(size, mo_cl_bias_workspace_size(cl, s->rows, wide));
    size =
        moi_max(size, mo_cl_bias_workspace_size(cl, s->rows, mo_model_size(m, MO_MODEL_WIDTH_QKV)));
    size = moi_max(size, mo_cl_bias_workspace_size(cl, s->rows, m->channels));
    size = moi_max(size, s->n_params * MO_CL_ACCUM_PARTS_BYTES);
    return moi_ceil_div(size, MOI_CACHE_LINE) * MOI_CACHE_LINE;
}

mo_training_target mo_cl_training_target(mo_cl *cl) {
    mo_training_target t;
    memset(&t, 0, sizeof t);
    t.align = mo_cl_arena_align(cl);
    t.piece = mo_cl_arena_piece(cl);
    t.keeps_losses = 1;
    t.workspace_size = moi_cl_training_workspace;
    t.self = cl;
    t.ce_size = mo_cl_training_ce_size;
    t.kd_size = mo_cl_training_kd_size;
    return t;
}
