/* mo_optim_pages.h - how the states of many tensors are cut into pages, on the CPU and on devices;
 * never part of the public header.
 *
 * A slice in a page is a state of its own, laid out as mo_optim_state_init lays out one of its
 * numbers; its offset makes stochastic rounding that of the whole tensor. Slices begin at multiples
 * of the largest block. */
#ifndef MEMOPT_OPTIM_PAGES_H
#define MEMOPT_OPTIM_PAGES_H

enum { MOI_OPTIM_PAGE_ALIGN = 4096 };

/* desc: with the precision that the tensor's size decides, for slices of any size. */
typedef struct moi_optim_tensor {
    mo_optim_desc desc;
    size_t n, first, n_slices;
} moi_optim_tensor;

typedef struct moi_optim_slice {
    size_t begin, n, page, off, size;
} moi_optim_slice;

/* slices = NULL: only counts. page, used: where the next slice goes. */
typedef struct moi_optim_cut {
    size_t page_bytes, page, used, n_slices;
    moi_optim_slice *slices;
} moi_optim_cut;

/* A tensor of n numbers, whose states are added to the bytes. */
static mo_status moi_optim_tensor_init(
    const mo_optim_desc *desc, size_t n, moi_optim_tensor *tensor, size_t *bytes);

/* Pages of page_bytes, or of all bytes where that is less, in whole MOI_OPTIM_PAGE_ALIGN. */
static mo_status moi_optim_cut_begin(size_t page_bytes, size_t bytes, moi_optim_cut *cut);

/* 0: not even an empty page is enough. */
static int moi_optim_cut_tensor(moi_optim_cut *cut, moi_optim_tensor *tensor);

/* Bytes of a page that is just enough for a tensor, alone. */
MEMOPT_UNUSED static size_t moi_optim_least(const moi_optim_tensor *tensor);

/* A walk over tensors, order [n], as one over pages: how many pages that is at most; and which.
 * Neighbours that share a page are one entry. */
static mo_status moi_optim_walk_size(const moi_optim_tensor *tensors, size_t n_tensors,
    const size_t *order, size_t n, size_t *n_steps);
static size_t moi_optim_walk_pages(const moi_optim_tensor *tensors, const moi_optim_slice *slices,
    const size_t *order, size_t n, size_t *pages);

/* Whether a state is one of the whole tensor. */
static int moi_optim_tensor_has(const moi_optim_tensor *tensor, const mo_optim_state *state);

/* Between two states of the same shape. */
static mo_status moi_optim_slice_copy(
    const moi_optim_tensor *tensor, const mo_optim_state *from, const mo_optim_state *to);

/* An array of a state by its number in mo_optim_rules.h; NULL = it has none. */
static void *moi_optim_state_array(const mo_optim_state *s, int array);

#endif
