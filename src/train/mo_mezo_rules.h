/* mo_mezo_rules.h - the numbers of a pass of mo_mezo, on the CPU and on devices; never part of the
 * public header. */
#ifndef MEMOPT_MEZO_RULES_H
#define MEMOPT_MEZO_RULES_H

/* y = x keep + scale z. With a grid the change, times (x decay + scale z), is in units of it, which
 * are rounded before times counts; dither is 1 where that is at random. */
typedef struct moi_mezo_factors {
    float keep, decay, scale, times, grid, inverse, dither;
} moi_mezo_factors;

/* Of the three hashes of a number: the seeds of two for z, and one for rounding. */
enum { moi_mezo_hashes = 3 };

static mo_status moi_mezo_perturbation(
    const mo_mezo_desc *desc, uint64_t t, double times, moi_mezo_factors *f, uint64_t *seed);

/* *moves = 0: nothing is to be done. */
static mo_status moi_mezo_update(const mo_mezo_desc *desc, uint64_t t, double gradient,
    moi_mezo_factors *f, uint64_t *seed, int *moves);

#endif
