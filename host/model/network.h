/* The network in host memory: layers, one flat parameter buffer, preprocessing, names. */
#ifndef DESCENT_MODEL_NETWORK_H
#define DESCENT_MODEL_NETWORK_H

#include "core/handle.h"
#include "core/parameters.h"
#include "model/schema.h"

enum { NETWORK_MAX_LAYERS = 10000 };

struct network_layer {
  int64_t n_in, n_out;
  descent_activation activation;
  struct parameter_segment at; /* of W and b in `parameters` */
};

struct descent_network {
  struct handle handle;
  int64_t inputs;
  int32_t n_layers;
  struct network_layer *layers; /* (n_layers); layers[l-1] is layer l, counted from 1 */
  descent_loss loss;
  int64_t members;      /* of an ensemble; 1: a plain network */
  float *parameters;    /* (members, n_parameters) flat, gaps are zero; see parameter_segment */
  int64_t n_parameters; /* of one member, including gaps */
  descent_normalize normalize;
  descent_impute impute;    /* how `fill` was fitted */
  float *fill;              /* (inputs) or NULL: replaces a missing cell, NaN */
  float *shift, *scale;     /* (inputs): (x - shift) * scale; 0 and 1 without normalisation */
  float *y_shift, *y_scale; /* (outputs): regression targets in training are (y - y_shift) * y_scale; 0 and 1 */
  struct schema schema;     /* names and features */
  int64_t classes;          /* 2, K, or 0 for regression */
  char *provenance;         /* or NULL */
  char *library;            /* or NULL: the library version that wrote its file */
  int64_t checkpoint_step;  /* if its file is a checkpoint; else -1 */
  int trainers;             /* that live and write to it; atomic */
};

/* A copy of everything but the parameters (NULL), the provenance and the library: what a plan is built from and rows are
 * checked against. For objects that outlive the network. */
descent_status network_copy_outline(const descent_network *network, descent_network **outline);
void network_free_outline(descent_network *outline);

/* Whether both have the same inputs, widths, activations and loss. */
bool network_same_shape(const descent_network *a, const descent_network *b);

/* ERROR_ARGUMENT, "networks[2]: layer 1 has 64 units, but 32 in networks[0] ..", unless both could be members of one
 * ensemble: equal in shape, preprocessing and schema. `name`: of `network`; `first` is networks[0]. */
descent_status network_check_joins(const descent_network *network, const char *name, const descent_network *first);

/* As descent_network_create from complete options, with parameters for so many members. */
descent_status network_create(const descent_network_options *options, int64_t members, descent_network **network);

/* A copy of everything but the parameters, which are 0, for so many members. */
descent_status network_copy_frame(const descent_network *network, int64_t members, descent_network **copy);

/* ERROR_UNSUPPORTED, "verify: an ensemble of 8 networks: ..", for an ensemble. `what` cannot be done with one. */
descent_status network_check_plain(const descent_network *network, const char *what);

/* Member `member` as a plain network that borrows everything from the ensemble: to build plans and write parameters. It
 * is no handle. */
static inline descent_network network_view_member(const descent_network *network, int64_t member) {
  descent_network view = *network;
  view.members = 1;
  if (view.parameters) view.parameters += member * view.n_parameters;
  return view;
}

/* Values per row; of a copy of a network too, which the public functions refuse. */
static inline int64_t network_outputs(const descent_network *network) {
  return network->layers[network->n_layers - 1].n_out;
}

/* handle_check, and ERROR_ARGUMENT while a trainer lives, which has a copy of what would change and writes its own
 * later. For every public function that changes parameters or preprocessing. */
descent_status network_check_unused(const descent_network *network);

/* ERROR_ARGUMENT, "layer 2: W[3] is nan: must be finite", unless all of values (n) are; values may be NULL. */
descent_status network_check_finite(int32_t layer, const char *what, const float *values, int64_t n);

/* The initialisation that DESCENT_INIT_AUTO selects for this activation. */
descent_init init_auto(descent_activation activation);

#endif
