/* The network in host memory: shape, one flat parameter buffer, preprocessing, names. */
#ifndef DESCENT_MODEL_NETWORK_H
#define DESCENT_MODEL_NETWORK_H

#include "core/parameters.h"
#include "model/schema.h"

enum { NETWORK_MAX_LAYERS = 10000 };

struct network_layer {
  int64_t n_in, n_out;
  descent_activation activation;
  struct parameter_segment at; /* where W and b lie in `parameters` */
};

struct descent_network {
  int64_t inputs;
  int32_t n_layers;
  struct network_layer *layers; /* (n_layers); layers[l-1] is layer l of the mathematics */
  descent_loss loss;
  float *parameters;    /* (n_parameters) flat, gaps zero; see parameter_segment */
  int64_t n_parameters; /* gaps included */
  descent_normalize normalize;
  descent_impute impute;    /* how `fill` was fitted */
  float *fill;              /* (inputs) or NULL: what a missing cell, NaN, counts as */
  float *shift, *scale;     /* (inputs): (x - shift) * scale; 0 and 1 without normalisation */
  float *y_shift, *y_scale; /* (outputs): regression targets in training are (y - y_shift) * y_scale; 0 and 1 */
  struct schema schema;     /* names and features; see there */
  int64_t classes;          /* 2, K, or 0 for regression */
  char *provenance;         /* or NULL */
  char *library;            /* or NULL: the version that wrote its file */
  int64_t checkpoint_step;  /* of the checkpoint that its file is, or -1 */
};

/* What DESCENT_INIT_AUTO means before this activation. */
descent_init init_auto(descent_activation activation);

#endif
