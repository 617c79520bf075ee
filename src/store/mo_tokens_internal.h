/* mo_tokens_internal.h - what mo_loader needs of mo_tokens, for the implementation only. */
#ifndef MEMOPT_TOKENS_INTERNAL_H
#define MEMOPT_TOKENS_INTERNAL_H

struct moi_tokens_file {
    uint64_t first, n; /* its tokens among all */
    intptr_t file;
    unsigned width; /* bytes of a token */
    unsigned data_off;
    char *path; /* ours */
};

/* What went wrong with a read, to be said later: a job in the background must not log. */
typedef struct moi_tokens_error {
    mo_status status;
    size_t file;
    int error;     /* of moi_file_read; 0: the token at is out of range */
    uint64_t at;   /* in the file */
    int64_t token; /* that one; 0 when it was not read */
    uint32_t vocab;
} moi_tokens_error;

static mo_status moi_tokens_read(
    const mo_tokens *t, uint64_t at, size_t n, int32_t *ids, moi_tokens_error *error);
/* The error as one line to a log. Returns its status. */
static mo_status moi_tokens_say(
    const mo_tokens *t, const mo_log *log, const moi_tokens_error *error);
/* Token at of all is outside a vocabulary. */
static mo_status moi_tokens_outside(
    const mo_tokens *t, uint64_t at, int32_t token, uint32_t vocab, moi_tokens_error *error);

#endif
