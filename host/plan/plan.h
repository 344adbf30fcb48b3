/* The plan: one network's training and evaluation as data. A flat list of operations over numbered buffers, built by
 * train/plan.c, executed by every backend, read by verify and bench. Nothing else computes.
 *
 * Rows are examples. `batch` is the most rows of a step; a step with fewer works on its first `rows` rows only, and
 * what a PLAN_BATCH buffer holds beyond them is unspecified. An operand (rows, n) lies at the start of its buffer with
 * rows n values apart, also in a wider buffer. Every operation states what it reads and writes; operations run in order
 * and may overwrite nothing but their outputs, and buffers of the same slot. */
#ifndef DESCENT_PLAN_PLAN_H
#define DESCENT_PLAN_PLAN_H

#include <descent/descent.h>

#include "core/parameters.h"

enum { PLAN_NONE = -1 }; /* "no such buffer" */

enum plan_type { PLAN_F32, PLAN_F64, PLAN_I64 }; /* logical type; the reference keeps F32 buffers in double */

enum plan_storage {
  PLAN_SOURCE, /* bound to the caller's memory, read only; rows unknown to the plan (rows = 0) */
  PLAN_STATE,  /* zeroed by compile, kept between runs: parameters, gradients, moments, statistics */
  PLAN_BATCH,  /* meaningful within a step; (batch, cols) */
};

struct plan_buffer {
  char name[24]; /* "X", "A[2]", "parameters" */
  enum plan_storage storage;
  enum plan_type type;
  int64_t rows, cols; /* row-major */
  int slot;           /* buffers of one slot other than 0 never hold values at the same time and may share memory;
                       * of the same rows, type and storage */
};

/* Slots of the `scalars` buffer (F64, 1 x SCALAR_SLOTS). */
enum plan_scalar {
  SCALAR_WEIGHT_SUM,    /* gather: sum of w over the step's rows; may be 0 */
  SCALAR_LOSS,          /* loss: J of the step = sum w L / sum w; 0 when sum w is 0 */
  SCALAR_GRADIENT_NORM, /* gradient_norm: global 2-norm, before clipping */
  SCALAR_CLIP,          /* gradient_norm: factor to apply to every gradient, 1 without clipping */
  SCALAR_TOTAL_LOSS,    /* metrics: += J * sum w; the host resets it */
  SCALAR_TOTAL_WEIGHT,  /* metrics: += sum w */
  SCALAR_BAD_STEP,      /* gradient_norm: 0, or the first step whose loss or norm was not finite. Sticky: while it is
                         non-zero update and metrics do nothing and run returns after that step */
  SCALAR_SLOTS
};

/* Slots per layer of the `layer_statistics` buffer (F64, layers x LAYER_SLOTS; row l-1 is layer l). */
enum plan_layer_slot {
  LAYER_GRADIENT,   /* gradient_norm: 2-norm of (dW, db), before clipping */
  LAYER_UPDATE,     /* update with `measure`: 2-norm of the change of (W, b) */
  LAYER_PARAMETERS, /* update with `measure`: 2-norm of (W, b) before the change */
  LAYER_MEAN,       /* statistics: mean of A over the step's rows and the units */
  LAYER_STD,        /* statistics: standard deviation (of the population) of the same values */
  LAYER_DEAD,       /* statistics: units with |g'(Z)| < 1e-6 for every row of the step in which dropout keeps them, as a
                     * fraction */
  LAYER_SLOTS
};

enum plan_op_kind {
  OP_GATHER,
  OP_DENSE_FORWARD,
  OP_LOSS,
  OP_DENSE_BACKWARD_WEIGHTS,
  OP_DENSE_BACKWARD_INPUT,
  OP_GRADIENT_NORM,
  OP_UPDATE,
  OP_STATISTICS,
  OP_METRICS,
  OP_OUTPUT,
  OP_KINDS
};

/* Row r of the step (r = 0 .. rows-1) is row s of the source:
 *   t = first_row + r;  if (shuffle && step.order) t = permutation_index(step.order, t);
 *   s = source_index ? source_index[t] : t
 *   x       = source_X[s][j];  if (x is NaN) x = fill[j]   (a missing cell; without fill it stays NaN)
 *   X[r][j] = (x - shift[j]) * scale[j]
 *   y[r][k] = (source_y[s][k] - y_shift[k]) * y_scale[k]
 *   w[r]    = (source_w ? source_w[s] : 1) * (class_weight ? class_weight[(int)source_y[s][0]] : 1)
 * and scalars[SCALAR_WEIGHT_SUM] = sum w. Any source but source_X, and any of the constants, may be PLAN_NONE; without
 * source_y neither y nor w nor the sum is written (they are PLAN_NONE in the predict range). An unbound optional source
 * counts as PLAN_NONE. */
struct plan_gather {
  int source_X, source_y, source_w, source_index; /* F32, F32, F32, I64 */
  int fill, shift, scale, y_shift, y_scale;       /* F32 (1, n_x) and (1, n_y) */
  int class_weight;                               /* F32 (1, classes) */
  int X, y, w, scalars;
  int64_t n_x, n_y;
  bool shuffle;
};

/* Z = A_in W^T + b;  A = g(Z);  with dropout p > 0: A = keep(r, j) ? A / (1 - p) : 0, where keep is rng_keep() of
 * core/rng.h with (seed, layer, step.number, r * n_out + j). Z is PLAN_NONE unless g' needs it (gelu, silu).
 * W is (n_out, n_in) at offset W of `parameters`, b (n_out) at offset b. */
struct plan_dense_forward {
  int A_in, parameters, Z, A;
  int64_t W, b, n_in, n_out;
  descent_activation activation;
  double dropout;
};

/* From the output layer's A (logits for the cross-entropies): scalars[SCALAR_LOSS] = J and, unless dZ is PLAN_NONE,
 * dZ = dJ/dZ (rows, n), which for mean_squared_error includes g'(Z) of the output activation (Z as in dense_forward).
 * Where scalars[SCALAR_WEIGHT_SUM] is 0 no example counts: J and dZ are 0 (a factor of 0 stands for 1 / sum w).
 * Label smoothing s replaces a class target y by y (1 - s) + s / K (binary: K = 2). */
struct plan_loss {
  int A, Z, y, w, scalars, dZ;
  int64_t n; /* outputs K */
  descent_loss loss;
  descent_activation activation; /* of the output layer */
  double label_smoothing;
};

/* dW = dZ^T A_in, db = column sums of dZ, into `gradients` at the offsets of W and b. */
struct plan_dense_backward_weights {
  int dZ, A_in, gradients;
  int64_t W, b, n_in, n_out;
};

/* dZ_below = (dZ W) * g'(Z) of the layer below (whose output is A, pre-activation Z or PLAN_NONE, width n_in), times
 * its dropout factor: dropped 0, kept 1 / (1 - p). g' comes from A where possible: sigmoid a (1 - a), tanh 1 - a^2,
 * relu 1{a > 0}, leaky_relu 1{a > 0} + 0.01 1{a <= 0}, with a = A (1 - p) for kept units; gelu and silu from Z. `layer`
 * of the op is the upper one (the owner of W and dZ); the dropout counter uses layer - 1. */
struct plan_dense_backward_input {
  int dZ, parameters, A, Z, dZ_below;
  int64_t W, n_in, n_out;
  descent_activation activation;
  double dropout;
};

/* Norms of `gradients`, per layer and global, accumulated in double in an order that does not depend on threads.
 * SCALAR_CLIP = clip_norm > 0 ? min(1, clip_norm / (norm + 1e-6)) : 1 (PyTorch's clip_grad_norm_). */
struct plan_gradient_norm {
  int gradients, scalars, layer_statistics;
  double clip_norm;
};

/* For each parameter w, with gradient g = SCALAR_CLIP * gradient + l2 w, learning rate a = step.learning_rate and
 * t = step.number:
 *
 *   all rules          w -= a weight_decay w, before the step below
 *   gd                 w -= a g
 *   sgd                v = momentum v + g  (v starts at 0);  w -= a (nesterov ? g + momentum v : v)
 *   rmsprop            s = rho s + (1 - rho) g^2;  d = g / (sqrt(s) + epsilon);
 *                      momentum > 0: v = momentum v + d, d = v;  w -= a d
 *   adam, adamw        m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2;
 *                      w -= a / (1 - beta1^t) * m / (sqrt(s) / sqrt(1 - beta2^t) + epsilon)
 *
 * moment1 holds v or m, moment2 holds s; PLAN_NONE where unused. The learning rate, the decay factor and the bias
 * corrections are computed in double and rounded once to the working type. Does nothing while SCALAR_BAD_STEP is set. */
struct plan_update {
  int parameters, gradients, moment1, moment2, scalars, layer_statistics;
  int64_t n; /* floats of the flat buffers, gaps included */
  descent_optimizer optimizer;
  double momentum, beta1, beta2, rho, epsilon, weight_decay, l2;
  bool nesterov;
  bool measure; /* write LAYER_UPDATE and LAYER_PARAMETERS */
};

/* LAYER_MEAN, LAYER_STD and LAYER_DEAD of one layer (the op's `layer`). */
struct plan_statistics {
  int A, Z, layer_statistics;
  int64_t n;
  descent_activation activation;
  double dropout;
};

/* SCALAR_TOTAL_LOSS += J * weight sum, SCALAR_TOTAL_WEIGHT += weight sum. */
struct plan_metrics {
  int scalars;
};

/* P (rows, n) = what predict returns, in float32: sigmoid(A), softmax(A) row by row, or A / y_scale + y_shift. */
struct plan_output {
  int A, y_shift, y_scale, P;
  int64_t n;
  descent_loss loss;
};

struct plan_op {
  enum plan_op_kind kind;
  int layer; /* 1 .. layers, 0 where an op belongs to none */
  union {
    struct plan_gather gather;
    struct plan_dense_forward forward;
    struct plan_loss loss;
    struct plan_dense_backward_weights weights;
    struct plan_dense_backward_input input;
    struct plan_gradient_norm norm;
    struct plan_update update;
    struct plan_statistics statistics;
    struct plan_metrics metrics;
    struct plan_output output;
  };
};

/* A run of consecutive operations. */
struct plan_range {
  int first, count;
};

struct plan {
  struct plan_buffer *buffers;
  int n_buffers;
  struct plan_op *ops;
  int n_ops;
  struct parameter_segment *segments; /* (layers) */
  int layers;
  int64_t batch;      /* most rows of a step */
  int64_t train_rows; /* most rows of a step of the train ranges; at most batch. Evaluation may take more at once */
  uint64_t seed;      /* of the dropout masks */
  descent_precision precision;
  bool autotune;                           /* time algorithms where there is a choice; false: the first that serves */
  struct plan_range train;                 /* gather .. update, metrics */
  struct plan_range train_with_statistics; /* the same step, also leaving the layer statistics */
  struct plan_range evaluate; /* gather without shuffle, forward without dropout, loss without dZ, metrics, output */
  struct plan_range predict;  /* gather X only, forward, output */
};

/* What changes from step to step: one small array per run. */
struct permutation; /* core/rng.h */
struct plan_step {
  int64_t number;    /* from 1, over the whole training: dropout counter and Adam's t */
  int64_t first_row; /* of the source, before the permutation */
  int64_t rows;      /* 1 .. batch */
  double learning_rate;
  const struct permutation *order; /* of the source's rows, for gathers that shuffle; NULL: in their own order */
};

#endif
