/* mo_optim_rules.h - what optimizers are wherever they run: which states a kind has and where they
 * lie, and the numbers of a step; never part of the public header. */
#ifndef MEMOPT_OPTIM_RULES_H
#define MEMOPT_OPTIM_RULES_H

enum { MOI_HAS_M = 1, MOI_HAS_SLOW = 2, MOI_HAS_V = 4, MOI_HAS_ROW = 8, MOI_HAS_COLUMN = 16 };
enum { MOI_COUPLED = 32, MOI_WHOLE = 64 };
static unsigned moi_optim_traits(mo_optim_kind kind, size_t columns);

/* Of a desc without zeros. */
static int moi_optim_valid(const mo_optim_desc *d);
static int moi_optim_is_blockwise(mo_optim_precision precision);
/* APOLLO, APOLLO_MINI, GALORE */
static int moi_optim_is_low(mo_optim_kind kind);

/* ---- where the states lie ------------------------------------------------------------------- */

/* The arrays of a state, in their order. */
enum {
    moi_optim_m,
    moi_optim_m_absmax,
    moi_optim_slow,
    moi_optim_slow_absmax,
    moi_optim_v,
    moi_optim_v_absmax,
    moi_optim_row,
    moi_optim_column,
    moi_optim_master,
    moi_optim_extra,
    moi_optim_n_arrays
};

/* has: bit i = array i is there; at: its offset in bytes, each on a cache line; size: of all. */
typedef struct moi_optim_layout {
    size_t n, block, rows, columns, rank, n_states, n_extra, size;
    mo_optim_precision precision;
    unsigned has;
    size_t at[moi_optim_n_arrays];
} moi_optim_layout;

/* Of n numbers; 0 when that does not fit into a size_t. */
static int moi_optim_lay_out(const mo_optim_desc *d, size_t n, moi_optim_layout *layout);

/* What can be wrong when a state is made. */
static mo_status moi_optim_layout_check(const mo_optim_desc *d, size_t n);

/* Bytes of n numbers; 0 and *size untouched when that does not fit. */
static int moi_optim_bytes(mo_optim_precision precision, size_t n, size_t *size);

/* Bytes of an array of a state, of which the layout gives precision, block and all counts. */
static int moi_optim_array_bytes(const moi_optim_layout *layout, int array, size_t *size);

/* What every byte of an array is at first: the code of 0. */
static int moi_optim_first_byte(const moi_optim_layout *layout, int plain_v, int array);

/* Whether begin..begin + n - 1 of a state of all numbers can be a slice. */
static mo_status moi_optim_slice_check(
    mo_optim_precision precision, size_t block, size_t all, size_t begin, size_t n);

/* ---- the numbers of a step ------------------------------------------------------------------ */

/* What an update needs of desc and t, each rounded to float once. */
typedef struct moi_optim_factors {
    float grad_scale, beta1, beta2, beta3;
    float one_minus_beta1, one_minus_beta2, one_minus_beta3;
    float keep;     /* 1 - lr weight_decay, where it is decoupled, else 1 */
    float decay;    /* weight_decay, where it goes into the gradient, else 0 */
    float step;     /* what the direction is multiplied with */
    float debias;   /* 1 / sqrt(1 - beta2^t) */
    float debias_m; /* 1 / (1 - beta1^t), where step does not have it */
    float epsilon, alpha;
} moi_optim_factors;

static moi_optim_factors moi_optim_factors_of(const mo_optim_desc *d, uint64_t t);

/* Of the stochastic rounding of parameters; m, slow and v have the next ones. Different noise for
 * every step and state. */
static uint64_t moi_optim_seed(const mo_optim_desc *d, uint64_t t);

/* Whole kinds: whether the squares of all gradients, and their sum, are finite in fp32. */
static int moi_optim_sum_usable(const mo_optim_desc *d, double square_sum);

/* LAMB and LARS: the factors while norms are measured: parameters stay as they are. */
static moi_optim_factors moi_optim_still(const mo_optim_desc *d, const moi_optim_factors *f);

/* LAMB and LARS: the step from the sums of squares of the parameters and of the other thing; 0: it
 * is not finite, nothing must change. */
static int moi_optim_trust_step(
    const mo_optim_desc *d, double param_sum, double other_sum, float *step);

/* ADAFACTOR: beta2 of a step; the mean of rows; and the step from the sum of squares of u. */
static void moi_optim_factored_decay(uint64_t t, float *beta2, float *one_minus_beta2);
static float moi_optim_mean_row(const mo_optim_desc *d, double row_sum, size_t rows);
static float moi_optim_factored_step(const mo_optim_desc *d, double square_sum, size_t n);

/* ---- low-rank kinds -------------------------------------------------------------------------- */

/* A matrix as large channels of small numbers each: number i of channel c is at c channel_step +
 * i number_step. rank numbers stand for a channel: tiles of 16 channels, in a tile first the 16
 * numbers 0, then the 16 numbers 1... The largest rank makes the largest tile. */
enum { moi_low_lanes = 16, moi_low_most_rank = 1024, moi_low_wide = 8, moi_low_rounds = 3 };
typedef struct moi_low_shape {
    size_t rank, small, large, tiles, channel_step, number_step;
} moi_low_shape;

static moi_low_shape moi_low_shape_of(size_t n, size_t columns, size_t rank);

/* Floats in extra of a state of that rank; 0 for other kinds, and for a vector. */
static size_t moi_low_extra(const mo_optim_desc *d, size_t n, size_t columns, size_t rank);

/* Tiles whose numbers are whole blocks, and enough of them to be worth a call. */
static size_t moi_low_chunk_tiles(const moi_low_shape *s, mo_optim_precision p, size_t block);

/* Floats in extra before each part. APOLLO kinds: the norm, then what each channel is multiplied
 * with and how long that makes it, APOLLO_MINI the lengths of u and r. GALORE: the directions, then
 * for all channels as many columns as are worked on at a time. */
enum { moi_low_factors = 16 };
static size_t moi_low_lengths(const moi_low_shape *s);
static size_t moi_low_channels(const moi_low_shape *s);
static size_t moi_low_width(const moi_low_shape *s);

/* Of the random signs that hold in step t: number i, k is bit k % 32 of the random bits of index
 * i moi_low_words + k / 32. */
static uint64_t moi_low_seed(const mo_optim_desc *d, uint64_t t);
static size_t moi_low_words(size_t rank);

/* GALORE: whether step t looks for new directions. */
static int moi_low_is_due(const mo_optim_desc *d, uint64_t t);

/* What the gradient is multiplied with there, so that its powers stay in the range of floats. */
static float moi_low_power_scale(double squares);

/* What r is multiplied with. */
static float moi_low_scale(const mo_optim_desc *d, size_t rank);

/* AdamW that leaves u in parameters that were 0. */
static mo_optim_desc moi_low_adam(const mo_optim_desc *d, mo_optim_precision p, size_t block);

/* APOLLO kinds: the step, and in *last the norm of this update, from that of the last one. first
 * and second: sums of squares of the parts of extra; squares: of the gradient. */
static float moi_low_step_of(
    const mo_optim_desc *d, double first, double second, double squares, float *last);

#endif
