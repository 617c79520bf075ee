/* fuzz_config.c - any bytes as a model's config.json: rejected, or sizes that are complete.
 *
 *   make fuzz
 *   build/fuzz/fuzz_config NEW_FOLDER fuzz/corpus/config
 *
 * Compiled without libFuzzer and FUZZ_NO_MAIN it replays the files it is given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memopt.h"

static void fuzz_config_check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "fuzz_config: %s\n", what);
    abort();
}

/* A model is one that mo_model_complete leaves as it is, and that a footprint can be made of. */
static void fuzz_config_use(mo_model *model, const mo_model_file_info *info) {
    const mo_model before = *model;
    mo_footprint f;
    fuzz_config_check(mo_model_complete(model, NULL) == MO_OK, "not complete");
    fuzz_config_check(memcmp(model, &before, sizeof before) == 0, "completed twice");
    fuzz_config_check(*info->kind != '\0' && info->dtype <= MO_DTYPE_COUNT, "information");
    const mo_status status = mo_footprint_estimate(&f, model, NULL, NULL);
    fuzz_config_check(
        status == MO_OK || status == MO_E_OVERFLOW, "no footprint of sizes that are right");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_model model;
    mo_model_file_info info;
    memset(&model, 0, sizeof model);
    memset(&info, 0, sizeof info);
    const mo_status status = mo_model_read_config(&model, &info, (const char *)data, size, NULL);
    if (status == MO_OK) fuzz_config_use(&model, &info);
    else
        fuzz_config_check(
            status == MO_E_FORMAT || status == MO_E_UNSUPPORTED || status == MO_E_INVALID,
            "unexpected status");
    return 0;
}

#include "fuzz_replay.h"
