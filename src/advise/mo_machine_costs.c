/* mo_machine_costs.c - see mo_machine_costs.h. */

/* The sizes of the formulas, as doubles. */
typedef struct moi_costs_sizes {
    const mo_machine *machine;
    double rows, seq, channels, query, qkv, hidden, wide, vocab, chunk;
    double rank;   /* 0 = no adapters */
    double expand; /* 1 = weights are stored in few bits */
    int has_bias;
} moi_costs_sizes;

static double moi_costs_item(const moi_costs_sizes *s, mo_machine_item item, double amount) {
    return amount / s->machine->items[item].per_s;
}

static double moi_costs_copy(const moi_costs_sizes *s, double bytes) {
    return moi_costs_item(s, MO_MACHINE_COPY, bytes);
}

static double moi_costs_product(const moi_costs_sizes *s, double m, double n, double k, int added) {
    return mo_machine_product_s(s->machine, m, n, k, added);
}

/* x weight, of in x out, and what an adapter adds. */
static double moi_costs_forward(const moi_costs_sizes *s, double in, double out, int added) {
    double seconds = moi_costs_product(s, s->rows, out, in, added || s->has_bias) +
        moi_costs_item(s, MO_MACHINE_EXPAND, s->expand * in * out);
    if (s->has_bias || added) seconds += moi_costs_copy(s, 4 * s->rows * out);
    if (s->rank > 0)
        seconds += moi_costs_product(s, s->rows, s->rank, in, 0) +
            moi_costs_product(s, s->rows, out, s->rank, 1);
    return seconds;
}

/* dy weight^T, and the gradient of the weight or of its adapter. */
static double moi_costs_backward(const moi_costs_sizes *s, double in, double out) {
    const double r = s->rank;
    double seconds = moi_costs_product(s, s->rows, in, out, 0) +
        moi_costs_item(s, MO_MACHINE_EXPAND, s->expand * in * out);
    if (s->has_bias) seconds += moi_costs_copy(s, 4 * s->rows * out);
    if (r > 0)
        return seconds + moi_costs_product(s, s->rows, r, out, 0) +
            moi_costs_product(s, r, out, s->rows, 1) + moi_costs_product(s, in, r, s->rows, 1) +
            moi_costs_product(s, s->rows, in, r, 1);
    return seconds + moi_costs_product(s, in, out, s->rows, 1);
}

static double moi_costs_codes(const moi_costs_sizes *s, double numbers) {
    return moi_costs_item(s, MO_MACHINE_COMPRESS, numbers) +
        moi_costs_item(s, MO_MACHINE_EXPAND, numbers);
}

static mo_stage_costs moi_costs_attention(const moi_costs_sizes *s) {
    mo_stage_costs c;
    const double numbers = s->rows * s->channels, square = s->rows * s->seq * s->query;
    c.output = moi_costs_forward(s, s->query, s->channels, 1);
    c.forward = moi_costs_item(s, MO_MACHINE_NORM, numbers) +
        moi_costs_forward(s, s->channels, s->qkv, 0) +
        moi_costs_item(s, MO_MACHINE_ATTENTION, square) + c.output;
    c.backward = moi_costs_backward(s, s->query, s->channels) +
        moi_costs_backward(s, s->channels, s->qkv) +
        moi_costs_item(s, MO_MACHINE_ATTENTION_BACKWARD, square) +
        moi_costs_item(s, MO_MACHINE_NORM_BACKWARD, numbers);
    c.light = moi_costs_item(s, MO_MACHINE_NORM, numbers);
    c.compress = moi_costs_codes(s, s->rows * (s->qkv + s->query));
    return c;
}

static mo_stage_costs moi_costs_mlp(const moi_costs_sizes *s) {
    mo_stage_costs c;
    const double numbers = s->rows * s->channels, units = s->rows * s->wide;
    c.output = moi_costs_forward(s, s->hidden, s->channels, 1);
    c.light =
        moi_costs_item(s, MO_MACHINE_NORM, numbers) + moi_costs_item(s, MO_MACHINE_GELU, units);
    c.forward = c.light + moi_costs_forward(s, s->channels, s->wide, 0) + c.output;
    c.backward = moi_costs_backward(s, s->hidden, s->channels) +
        moi_costs_backward(s, s->channels, s->wide) +
        moi_costs_item(s, MO_MACHINE_GELU_BACKWARD, units) +
        moi_costs_item(s, MO_MACHINE_NORM_BACKWARD, numbers);
    c.compress = moi_costs_codes(s, units);
    return c;
}

static mo_stage_costs moi_costs_head(const moi_costs_sizes *s) {
    mo_stage_costs c;
    const double numbers = s->rows * s->channels, chunks = s->rows / s->chunk;
    memset(&c, 0, sizeof c);
    c.forward = moi_costs_item(s, MO_MACHINE_NORM, numbers) +
        chunks * moi_costs_product(s, s->chunk, s->vocab, s->channels, 0) +
        moi_costs_item(s, MO_MACHINE_GELU, s->rows * s->vocab);
    c.backward = chunks * moi_costs_product(s, s->chunk, s->channels, s->vocab, 0) +
        moi_costs_item(s, MO_MACHINE_NORM_BACKWARD, numbers);
    if (!(s->rank > 0))
        c.backward += chunks * moi_costs_product(s, s->vocab, s->channels, s->chunk, 1);
    return c;
}

static moi_costs_sizes moi_costs_sizes_of(const mo_machine *machine, const mo_training *t) {
    const mo_model *m = &t->model;
    moi_costs_sizes s;
    memset(&s, 0, sizeof s);
    s.machine = machine;
    s.rows = (double)mo_training_rows(t);
    s.seq = (double)t->seq;
    s.channels = (double)m->channels;
    s.query = (double)mo_model_size(m, MO_MODEL_WIDTH_QUERY);
    s.qkv = (double)mo_model_size(m, MO_MODEL_WIDTH_QKV);
    s.hidden = (double)m->hidden;
    s.wide = (double)mo_model_size(m, MO_MODEL_WIDTH_WIDE);
    s.vocab = (double)m->vocab;
    const double chunk = (double)t->strategy.loss_rows;
    s.chunk = chunk > 0 && chunk < s.rows ? chunk : s.rows;
    s.rank = (double)t->strategy.lora;
    s.expand = t->strategy.bf16 || (s.rank > 0 && t->strategy.base != MO_GEMM_F32) ? 1.0 : 0.0;
    s.has_bias = m->arch == MO_MODEL_GPT2;
    return s;
}

/* Bytes of paged states that an update reads and writes. */
static mo_status moi_costs_moved(const moi_training_job *job, double *bytes) {
    mo_training_states states;
    mo_page_desc pages;
    mo_status status = mo_training_states_init(&states, job->t, job->params);
    if (status != MO_OK) return status;
    status = mo_training_pages(&states, job->t, &pages);
    mo_training_states_free(&states);
    if (status == MO_OK)
        *bytes =
            pages.size > pages.resident_bytes ? (double)(pages.size - pages.resident_bytes) : 0;
    return status;
}

static mo_status moi_costs_update(
    const moi_costs_sizes *s, const moi_training_job *job, double *seconds) {
    static const mo_machine_item items[MO_OPTIM_PRECISION_COUNT] = {MO_MACHINE_UPDATE_F32,
        MO_MACHINE_UPDATE_8BIT, MO_MACHINE_UPDATE_BF16, MO_MACHINE_UPDATE_4BIT};
    const double n = (double)moi_training_n_trained(job->t, job->params);
    double update = moi_costs_item(s, items[job->t->strategy.optim], n), moved = 0;
    if (job->t->strategy.paged) {
        mo_status status = moi_costs_moved(job, &moved);
        if (status != MO_OK) return status;
    }
    moved = moi_costs_item(s, MO_MACHINE_DISK_READ, moved) +
        moi_costs_item(s, MO_MACHINE_DISK_WRITE, moved);
    *seconds = (moved > update ? moved : update) + moi_costs_copy(s, 8 * n);
    return MO_OK;
}

/* Products of all its matrices with the rows. */
static double moi_costs_teacher(const moi_costs_sizes *s, const moi_training_job *job) {
    if (!job->teacher) return 0;
    const double n = (double)mo_params_count(job->teacher, MO_PARAMS_ALL);
    return moi_costs_product(s, s->rows, n / s->channels, s->channels, 0);
}

mo_status mo_machine_costs(
    const mo_machine *machine, const mo_training *t, mo_training_costs *costs) {
    moi_training_job job;
    mo_training_costs c;
    if (!machine || !t || !costs) return MO_E_INVALID;
    mo_status status = moi_training_open(&job, t);
    if (status != MO_OK) return status;
    const moi_costs_sizes s = moi_costs_sizes_of(machine, t);
    memset(&c, 0, sizeof c);
    c.rows = s.rows;
    c.embedding.forward = moi_costs_copy(&s, 4 * s.rows * s.channels);
    c.embedding.backward = 2 * c.embedding.forward;
    c.attention = moi_costs_attention(&s);
    c.mlp = moi_costs_mlp(&s);
    c.head = moi_costs_head(&s);
    c.teacher = moi_costs_teacher(&s, &job);
    c.copy_bytes_per_s = machine->items[MO_MACHINE_COPY].per_s;
    status = moi_costs_update(&s, &job, &c.update);
    moi_training_close(&job);
    if (status == MO_OK) *costs = c;
    return status;
}
