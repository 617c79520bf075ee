/* mo_place_internal.h - what the files of mo_place share.
 *
 * Items become layers (a group, or one item), layers that share tied weights become clusters: what
 * is placed. Layers and clusters are numbered by their first item. */
#ifndef MEMOPT_PLACE_INTERNAL_H
#define MEMOPT_PLACE_INTERNAL_H

/* bytes: all that a step needs at once, also what other layers are tied to. */
typedef struct moi_place_layer {
    size_t bytes;
    size_t cluster;
} moi_place_layer;

typedef struct moi_place_cluster {
    size_t bytes;   /* tied items once */
    size_t largest; /* bytes of its largest layer */
    double moved;   /* bytes in a step when it is streamed */
    size_t pin;     /* device, SIZE_MAX = any */
} moi_place_cluster;

typedef struct moi_place {
    const mo_place_desc *desc;
    size_t n_layers, n_clusters;
    size_t *layer_of; /* [n_items] */
    size_t *parent;   /* [n_items] of layers: the cluster's first layer, while they are joined */
    unsigned char *repeats; /* [n_items] MOI_PLACE_*: an item before this one is the same tensor */
    moi_layout_key *keys;   /* [n_items] */
    size_t *sums;           /* [n_items] of layers */
    moi_place_layer *layers;
    moi_place_cluster *clusters;
    moi_layout_memory memory;
} moi_place;

/* The item before is in the same cluster; in the same layer. */
enum { MOI_PLACE_IN_CLUSTER = 1, MOI_PLACE_IN_LAYER = 2 };

/* Some clusters placed. */
typedef struct moi_place_state {
    size_t *used;   /* [n_devices] bytes of what lies there */
    size_t *behind; /* [n_devices] the largest layer streamed from behind */
} moi_place_state;

/* Whether cluster c may go to device d as well: everything still fits, the rooms included. */
static int moi_place_fits(
    const moi_place *place, const moi_place_state *state, const moi_place_cluster *c, size_t d);
static void moi_place_put(
    const moi_place *place, moi_place_state *state, const moi_place_cluster *c, size_t d);

/* device: out, [n_clusters]. */
static mo_status moi_place_greedy(const moi_place *place, size_t *device);

/* device: [n_clusters], a placement in and a better one, or the same, out. */
static mo_status moi_place_search(const moi_place *place, size_t *device, mo_place_result *result);

#endif
