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
    moi_optim_n_arrays
};

/* has: bit i = array i is there; at: its offset in bytes, each on a cache line; size: of all. */
typedef struct moi_optim_layout {
    size_t n, block, rows, columns, size;
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

/* Bytes of an array of a state, of which the layout gives precision, n, block, rows and columns. */
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

#endif
