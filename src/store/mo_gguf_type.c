/* mo_gguf_type.c - see mo_gguf_type.h. */

/* Elements converted at a time; also the least work for a thread, and a multiple of any block. */
enum { MOI_GGUF_CHUNK = 1024, MOI_GGUF_GRAIN = 16 * MOI_GGUF_CHUNK };

const char *mo_gguf_type_name(mo_gguf_type type) {
#define MOI_GGUF_NAME(name, number, block, bytes)                                                  \
    case number: return #name;
    switch ((int)type) {
        MEMOPT_GGUF_TYPE_LIST(MOI_GGUF_NAME)
    default: return "?";
    }
#undef MOI_GGUF_NAME
}

size_t mo_gguf_type_block(mo_gguf_type type) {
#define MOI_GGUF_BLOCK(name, number, block, bytes)                                                 \
    case number: return block;
    switch ((int)type) {
        MEMOPT_GGUF_TYPE_LIST(MOI_GGUF_BLOCK)
    default: return 0;
    }
#undef MOI_GGUF_BLOCK
}

size_t mo_gguf_type_bytes(mo_gguf_type type) {
#define MOI_GGUF_BYTES(name, number, block, bytes)                                                 \
    case number: return bytes;
    switch ((int)type) {
        MEMOPT_GGUF_TYPE_LIST(MOI_GGUF_BYTES)
    default: return 0;
    }
#undef MOI_GGUF_BYTES
}

mo_gguf_type mo_gguf_type_find(const char *name) {
    int type = 0;
    if (!name || strcmp(name, "?") == 0) return MO_GGUF_TYPE_COUNT;
    while (type < MO_GGUF_TYPE_COUNT && strcmp(mo_gguf_type_name((mo_gguf_type)type), name) != 0)
        type++;
    return (mo_gguf_type)type;
}

/* ---- byte order ----------------------------------------------------------------------------- */

static int moi_host_is_big_endian(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 0;
}

/* Reverse the bytes of n elements of a size. */
static void moi_swap_bytes(void *data, size_t n, size_t size) {
    unsigned char *at = (unsigned char *)data;
    for (size_t i = 0; i < n; i++, at += size)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char byte = at[k];
            at[k] = at[size - 1 - k];
            at[size - 1 - k] = byte;
        }
}

MOI_ALWAYS_INLINE uint16_t moi_gguf_load_u16(const unsigned char *at, int big_endian) {
    return (uint16_t)(big_endian ? at[0] << 8 | at[1] : at[1] << 8 | at[0]);
}

MOI_ALWAYS_INLINE void moi_gguf_store_u16(unsigned char *at, uint16_t value, int big_endian) {
    at[big_endian ? 1 : 0] = (unsigned char)(value & 255);
    at[big_endian ? 0 : 1] = (unsigned char)(value >> 8);
}

/* ---- blocks of 32 --------------------------------------------------------------------------- */

/* The number of the largest magnitude, the first of them; NaN when one is not finite. */
MOI_ALWAYS_INLINE float moi_gguf_largest(const float *x) {
    uint32_t most = 0;
    float largest = 0.0f;
    for (int i = 0; i < 32; i++) {
        const uint32_t magnitude = moi_float_bits(x[i]) & 0x7fffffff;
        if (magnitude > most) largest = x[i];
        if (magnitude > most) most = magnitude;
    }
    return most < 0x7f800000u ? largest : moi_bits_float(0x7fc00000u);
}

/* 1 / d where it is a number, else 0: the block is one of zeros, or has no meaning. */
MOI_ALWAYS_INLINE float moi_gguf_inverse(float d) {
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    return (moi_float_bits(inverse) & 0x7fffffff) < 0x7f800000u ? inverse : 0.0f;
}

/* The scale of a block of zeros keeps its sign, as in ggml. */
static void moi_gguf_store_scale(unsigned char *y, float d, float inverse, int big_endian) {
    uint16_t scale = 0;
    if (inverse == 0.0f && d == d) d = 0.0f * d;
    moi_store_f16_scalar(&scale, d);
    moi_gguf_store_u16(y, scale, big_endian);
}

/* To the nearest, ties away from zero, as roundf does; |x| < 2^31. */
MOI_ALWAYS_INLINE int32_t moi_gguf_round(float x) {
    const int32_t whole = (int32_t)x;
    const float rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

static void moi_gguf_encode_q8(const float *x, unsigned char *y, int big_endian) {
    const float d = fabsf(moi_gguf_largest(x)) / 127.0f, inverse = moi_gguf_inverse(d);
    moi_gguf_store_scale(y, d, inverse, big_endian);
    if (inverse == 0.0f) memset(y + 2, 0, 32);
    else
        for (int i = 0; i < 32; i++) y[2 + i] = (unsigned char)moi_gguf_round(x[i] * inverse);
}

static void moi_gguf_encode_q4(const float *x, unsigned char *y, int big_endian) {
    const float d = moi_gguf_largest(x) / -8.0f, inverse = moi_gguf_inverse(d);
    moi_gguf_store_scale(y, d, inverse, big_endian);
    if (inverse == 0.0f) memset(y + 2, 0x88, 16);
    else
        for (int i = 0; i < 16; i++) {
            const int32_t low = (int32_t)(x[i] * inverse + 8.5f);
            const int32_t high = (int32_t)(x[i + 16] * inverse + 8.5f);
            y[2 + i] = (unsigned char)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
        }
}

static float moi_gguf_load_scale(const unsigned char *x, int big_endian) {
    const uint16_t scale = moi_gguf_load_u16(x, big_endian);
    return moi_load_f16_scalar(&scale);
}

static void moi_gguf_decode_q8(const unsigned char *x, float *y, int big_endian) {
    const float d = moi_gguf_load_scale(x, big_endian);
    for (int i = 0; i < 32; i++) y[i] = (float)(x[2 + i] < 128 ? x[2 + i] : x[2 + i] - 256) * d;
}

static void moi_gguf_decode_q4(const unsigned char *x, float *y, int big_endian) {
    const float d = moi_gguf_load_scale(x, big_endian);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)((x[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((x[2 + i] >> 4) - 8) * d;
    }
}

/* ---- ranges --------------------------------------------------------------------------------- */

typedef struct moi_gguf_job {
    const mo_gguf_code *code;
    const unsigned char *coded;
    const float *x;
    unsigned char *y_coded;
    float *y;
    int swap; /* the coded bytes are not in the order of this host */
} moi_gguf_job;

/* At most MOI_GGUF_CHUNK elements of 2 or 4 bytes, through aligned memory. */
static void moi_gguf_encode_chunk(const moi_gguf_job *job, const float *x, size_t n, void *y) {
    uint16_t half[MOI_GGUF_CHUNK];
    const mo_gguf_type type = job->code->type;
    const size_t bytes = mo_gguf_type_bytes(type);
    if (type == MO_GGUF_F16) mo_f32_to_f16(x, half, n, &moi_serial);
    if (type == MO_GGUF_BF16) mo_f32_to_bf16(x, half, n, &moi_serial);
    memcpy(y, type == MO_GGUF_F32 ? (const void *)x : half, n * bytes);
    if (job->swap) moi_swap_bytes(y, n, bytes);
}

static void moi_gguf_decode_chunk(const moi_gguf_job *job, const void *x, size_t n, float *y) {
    uint16_t half[MOI_GGUF_CHUNK];
    const mo_gguf_type type = job->code->type;
    const size_t bytes = mo_gguf_type_bytes(type);
    void *aligned = type == MO_GGUF_F32 ? (void *)y : half;
    memcpy(aligned, x, n * bytes);
    if (job->swap) moi_swap_bytes(aligned, n, bytes);
    if (type == MO_GGUF_F16) mo_f16_to_f32(half, y, n, &moi_serial);
    if (type == MO_GGUF_BF16) mo_bf16_to_f32(half, y, n, &moi_serial);
}

static void moi_gguf_encode_range(const void *context, size_t begin, size_t end) {
    const moi_gguf_job *job = (const moi_gguf_job *)context;
    const mo_gguf_type type = job->code->type;
    const size_t block = mo_gguf_type_block(type), bytes = mo_gguf_type_bytes(type);
    const size_t step = block > 1 ? block : (size_t)MOI_GGUF_CHUNK;
    for (; begin < end; begin += step) {
        unsigned char *y = job->y_coded + begin / block * bytes;
        if (type == MO_GGUF_Q8_0) moi_gguf_encode_q8(job->x + begin, y, job->code->big_endian);
        else if (type == MO_GGUF_Q4_0) moi_gguf_encode_q4(job->x + begin, y, job->code->big_endian);
        else moi_gguf_encode_chunk(job, job->x + begin, moi_min(step, end - begin), y);
    }
}

static void moi_gguf_decode_range(const void *context, size_t begin, size_t end) {
    const moi_gguf_job *job = (const moi_gguf_job *)context;
    const mo_gguf_type type = job->code->type;
    const size_t block = mo_gguf_type_block(type), bytes = mo_gguf_type_bytes(type);
    const size_t step = block > 1 ? block : (size_t)MOI_GGUF_CHUNK;
    for (; begin < end; begin += step) {
        const unsigned char *x = job->coded + begin / block * bytes;
        if (type == MO_GGUF_Q8_0) moi_gguf_decode_q8(x, job->y + begin, job->code->big_endian);
        else if (type == MO_GGUF_Q4_0) moi_gguf_decode_q4(x, job->y + begin, job->code->big_endian);
        else moi_gguf_decode_chunk(job, x, moi_min(step, end - begin), job->y + begin);
    }
}

static mo_status moi_gguf_check_code(
    const mo_gguf_code *code, const void *x, size_t n, const void *y) {
    if (!code || !x || !y) return MO_E_INVALID;
    switch ((int)code->type) {
    case MO_GGUF_F32:
    case MO_GGUF_F16:
    case MO_GGUF_BF16: return MO_OK;
    case MO_GGUF_Q8_0:
    case MO_GGUF_Q4_0: return n % 32 == 0 ? MO_OK : MO_E_INVALID;
    default: return MO_E_UNSUPPORTED;
    }
}

static moi_gguf_job moi_gguf_job_begin(const mo_gguf_code *code) {
    moi_gguf_job job;
    memset(&job, 0, sizeof job);
    job.code = code;
    job.swap = (code->big_endian != 0) != moi_host_is_big_endian();
    return job;
}

mo_status mo_gguf_encode(const mo_gguf_code *code, const float *x, size_t n, void *y) {
    mo_status status = moi_gguf_check_code(code, x, n, y);
    if (status != MO_OK) return status;
    moi_gguf_job job = moi_gguf_job_begin(code);
    job.x = x;
    job.y_coded = (unsigned char *)y;
    mo_parallel_for(code->parallel, n, MOI_GGUF_GRAIN, moi_gguf_encode_range, &job);
    return MO_OK;
}

mo_status mo_gguf_decode(const mo_gguf_code *code, const void *x, size_t n, float *y) {
    mo_status status = moi_gguf_check_code(code, x, n, y);
    if (status != MO_OK) return status;
    moi_gguf_job job = moi_gguf_job_begin(code);
    job.coded = (const unsigned char *)x;
    job.y = y;
    mo_parallel_for(code->parallel, n, MOI_GGUF_GRAIN, moi_gguf_decode_range, &job);
    return MO_OK;
}
