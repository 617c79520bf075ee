/* mo_checkpoint_internal.h - what the files of mo_checkpoint share. */
#ifndef MEMOPT_CHECKPOINT_INTERNAL_H
#define MEMOPT_CHECKPOINT_INTERNAL_H

/* ---- mo_checkpoint_sum.c: the checksum ------------------------------------------------------ */

static const char moi_ck_sum_name[] = "memopt.checksum";

/* A hash of bytes in pieces; all but the last are multiples of 32. */
typedef struct moi_ck_hash {
    uint64_t lanes[4];
    uint64_t size;
} moi_ck_hash;

static void moi_ck_hash_begin(moi_ck_hash *h, uint64_t seed);
static void moi_ck_hash_add(moi_ck_hash *h, const void *data, size_t size);
static uint64_t moi_ck_hash_end(const moi_ck_hash *h);

/* The sum of a file is that of its tensors and its metadata, in any order: programs that write the
 * file anew may sort them. A tensor: a hash of its bytes that begins with moi_ck_entry_seed. */
static uint64_t moi_ck_entry_seed(const mo_safetensors_entry *entry);
static uint64_t moi_ck_pair_hash(const mo_safetensors_pair *pair);

/* MO_OK also for a file without a sum. Reads all of it. */
static mo_status moi_ck_sum_check(const mo_safetensors *st, const mo_allocator *allocator);

/* ---- mo_checkpoint_files.c: names ----------------------------------------------------------- */

/* The files of a run: path[folder..stem) [-STEP] path[stem..). any: all of a folder. */
typedef struct moi_ck_place {
    char path[MOI_FILE_PATH_SIZE];
    size_t folder, stem;
    int any;
} moi_ck_place;

enum { MOI_CK_NAME_SIZE = 800 };

/* One of them. */
typedef struct moi_ck_found {
    char name[MOI_CK_NAME_SIZE];
    uint64_t save, step;
} moi_ck_found;

static mo_status moi_ck_place_of(
    const char *path, int may_be_folder, const mo_log *log, moi_ck_place *place);
static mo_status moi_ck_file_at(
    const moi_ck_place *place, size_t keep, uint64_t step, char *file, size_t size);

/* The number of the next save. Where the folder cannot be listed: 1 for keep = 0, else a failure.
 * Then removes what killed runs have left. */
static mo_status moi_ck_prepare(
    const moi_ck_place *place, const mo_checkpoint_desc *desc, uint64_t *save);

/* Remove what is more than most, but not the file that was saved last. */
static void moi_ck_rotate(
    const moi_ck_place *place, size_t most, const char *saved, const mo_checkpoint_desc *desc);

/* A number in the metadata: MO_E_NOT_FOUND when it is not there, MO_E_FORMAT. */
static mo_status moi_ck_number(const mo_safetensors *st, const char *key, uint64_t *value);

#endif
