/* embedding.cl - rows of tables looked up by token and by position, and their gradients.
 *
 * groups  forward, wte: rows; wpe: positions that occur
 *
 * A token outside the vocabulary stands for a row of zeros without a gradient.
 *
 * check: -DMO_POSITIONS=0
 * check: -DMO_POSITIONS=1
 *
 * MO_POSITIONS  1: positions have rows of a table too, 0: they have none */
#ifndef MO_POSITIONS
#define MO_POSITIONS 1
#endif

static inline int mo_token_valid(int token, uint vocab) { return (uint)token < vocab; }

/* y[row] = wte[token[row]] + wpe[row % seq] */
MO_KERNEL void mo_cl_embedding_forward(__global const int *restrict tokens, ulong tokens_off,
    __global const float *restrict wte, ulong wte_off,
#if MO_POSITIONS
    __global const float *restrict wpe, ulong wpe_off,
#endif
    __global float *restrict y, ulong y_off, ulong seq, uint channels, uint vocab) {
    const ulong row = get_group_id(0);
    const int token = tokens[tokens_off + row];
    const int valid = mo_token_valid(token, vocab);
    __global const float *from = wte + wte_off + (valid ? (ulong)token * channels : 0);
    __global float *to = y + y_off + row * channels;
    uint i = (uint)get_local_id(0);
#if MO_POSITIONS
    __global const float *place = wpe + wpe_off + row % seq * channels;
    if (valid)
        for (; i < channels; i += MEMOPT_WG) to[i] = from[i] + place[i];
    else
        for (; i < channels; i += MEMOPT_WG) to[i] = place[i];
#else
    (void)seq;
    if (valid)
        for (; i < channels; i += MEMOPT_WG) to[i] = from[i];
    else
        for (; i < channels; i += MEMOPT_WG) to[i] = 0.0f;
#endif
}

/* Whether an earlier row has this token. */
static inline int mo_token_seen(
    __global const int *tokens, uint row, int token, __local int *seen) {
    int found = 0;
#if MEMOPT_WG == 1
    for (uint begin = 0; begin < row && !found; begin += 256) { /* a vector of answers, then one */
        const uint end = min(begin + 256, row);
        for (uint r = begin; r < end; r++) found |= tokens[r] == token;
    }
    (void)seen;
#else
    const uint item = (uint)get_local_id(0);
    for (uint r = item; r < row && !found; r += MEMOPT_WG) found = tokens[r] == token;
    seen[item] = found;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint step = MEMOPT_WG / 2; step > 0; step /= 2) {
        if (item < step) seen[item] |= seen[item + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    found = seen[0];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    return found;
}

/* dwte[token] += dy of all rows with that token, in their order, by the group of the first. */
MO_KERNEL void mo_cl_embedding_dwte(__global const int *restrict tokens, ulong tokens_off,
    __global const float *restrict dy, ulong dy_off, __global float *restrict dwte, ulong dwte_off,
    uint rows, uint channels, uint vocab) {
    __local int near[MEMOPT_WG];
    const uint row = (uint)get_group_id(0), item = (uint)get_local_id(0);
    tokens += tokens_off;
    const int token = tokens[row];
    if (!mo_token_valid(token, vocab) || mo_token_seen(tokens, row, token, near)) return;
    __global float *to = dwte + dwte_off + (ulong)token * channels;
    for (uint begin = row; begin < rows; begin += MEMOPT_WG) {
        const uint n = min(rows - begin, (uint)MEMOPT_WG);
        if (item < n) near[item] = tokens[begin + item];
#if MEMOPT_WG > 1
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
        for (uint k = 0; k < n; k++) {
            if (near[k] != token) continue;
            __global const float *from = dy + dy_off + (ulong)(begin + k) * channels;
            for (uint i = item; i < channels; i += MEMOPT_WG) to[i] = to[i] + from[i];
        }
#if MEMOPT_WG > 1
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
    }
}

/* dwpe[position] += dy of all rows at that position, in their order. */
MO_KERNEL void mo_cl_embedding_dwpe(__global const float *restrict dy, ulong dy_off,
    __global float *restrict dwpe, ulong dwpe_off, ulong rows, ulong seq, uint channels) {
    const ulong position = get_group_id(0);
    __global float *to = dwpe + dwpe_off + position * channels;
    for (uint i = (uint)get_local_id(0); i < channels; i += MEMOPT_WG) {
        float sum = to[i];
        for (ulong row = position; row < rows; row += seq) sum += dy[dy_off + row * channels + i];
        to[i] = sum;
    }
}
