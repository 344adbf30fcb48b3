/* The plan: training and evaluation of one network as data. It is a flat list of operations over numbered buffers,
 * built by plan/build.c, executed by the backends, read by verify and bench. All computation on a device is in it.
 *
 * Rows are examples. A step has at most `batch` rows. A shorter step uses the first `rows` rows of each buffer; the
 * contents of a PLAN_BATCH buffer beyond them are unspecified. An operand (rows, n) starts at the start of its buffer
 * and has a row stride of n values, even if the buffer is wider. Operations run in order. An operation writes only its
 * outputs and may overwrite other buffers of the same slot. */
#ifndef DESCENT_PLAN_PLAN_H
#define DESCENT_PLAN_PLAN_H

#include <descent/descent.h>

#include "core/parameters.h"

enum { PLAN_NONE = -1 }; /* no buffer */

enum plan_type { PLAN_F32, PLAN_F64, PLAN_I64 }; /* logical type; the reference backend stores F32 as double */

enum plan_storage {
  PLAN_SOURCE, /* bound to the caller's memory, read only; the plan does not know its rows (rows = 0) */
  PLAN_STATE,  /* zeroed by compile, kept between runs: parameters, gradients, moments, statistics */
  PLAN_BATCH,  /* (batch, cols); valid within a step */
};

struct plan_buffer {
  char name[24]; /* "X", "A[2]", "parameters" */
  enum plan_storage storage;
  enum plan_type type;
  int64_t rows, cols; /* row-major */
  int slot;           /* buffers of the same slot (not 0) never hold values at the same time, so they may share
                       * memory; they have equal rows, type and storage */
};

/* Slots of the `scalars` buffer (F64, 1 x SCALAR_SLOTS). */
enum plan_scalar {
  SCALAR_WEIGHT_SUM,    /* gather: sum of w over the step's rows; may be 0 */
  SCALAR_LOSS,          /* loss: J of the step = sum w L / sum w; 0 when sum w is 0 */
  SCALAR_GRADIENT_NORM, /* gradient_norm: global 2-norm, before clipping */
  SCALAR_CLIP,          /* gradient_norm: factor to apply to every gradient, 1 without clipping */
  SCALAR_TOTAL_LOSS,    /* metrics: += J * sum w; reset by the host */
  SCALAR_TOTAL_WEIGHT,  /* metrics: += sum w */
  SCALAR_BAD_STEP,      /* gradient_norm: 0, or the number of the first step with a non-finite loss or norm. While it
                         * is set, update and metrics do nothing, and run returns after that step; the host resets it */
  SCALAR_SLOTS
};

/* Slots per layer of the `layer_statistics` buffer (F64, layers x LAYER_SLOTS; row l-1 is layer l). */
enum plan_layer_slot {
  LAYER_GRADIENT,   /* gradient_norm: 2-norm of (dW, db), before clipping */
  LAYER_UPDATE,     /* update with `measure`: 2-norm of the change of (W, b) */
  LAYER_PARAMETERS, /* update with `measure`: 2-norm of (W, b) before the change */
  LAYER_MEAN,       /* statistics: mean of A over the step's rows and the units */
  LAYER_STD,        /* statistics: population standard deviation of the same values */
  LAYER_DEAD,       /* statistics: fraction of units with |g'(Z)| < 1e-6 in every row of the step in which dropout keeps
                     * them */
  LAYER_TRUST,      /* trust_ratio: factor of the update of W */
  LAYER_SLOTS
};

enum plan_op_kind {
  OP_GATHER,
  OP_DENSE_FORWARD,
  OP_LOSS,
  OP_BACKWARD_OUTPUT,
  OP_DENSE_BACKWARD_WEIGHTS,
  OP_DENSE_BACKWARD_INPUT,
  OP_ACCUMULATE,
  OP_COMBINE,
  OP_ALLREDUCE,
  OP_GRADIENT_NORM,
  OP_TRUST_RATIO,
  OP_UPDATE,
  OP_STATISTICS,
  OP_METRICS,
  OP_OUTPUT,
  OP_KINDS
};

/* Row r of the step (r = 0 .. rows-1) is row s of the source:
 *   t = first_row + r;  if (shuffle && step.order) t = permutation_index(step.order, t);
 *   s = source_index ? source_index[t] : t
 *   x       = source_X[s][j];  if (x is NaN) x = fill[j]   (missing cell; without fill it stays NaN; no byte is NaN)
 *   X[r][j] = (x - shift[j]) * scale[j]
 *   y[r][k] = (source_y[s][k] - y_shift[k]) * y_scale[k]
 *   w[r]    = (source_w ? source_w[s] : 1) * (class_weight ? class_weight[(int)source_y[s][0]] : 1)
 * and scalars[SCALAR_WEIGHT_SUM] = step.weight_sum, or sum w where that is 0. All sources except source_X, and all
 * constants, may be PLAN_NONE. Without source_y, neither y nor w nor the sum is written (they are PLAN_NONE in the
 * predict range). An optional source that is not bound is treated as PLAN_NONE. */
struct plan_gather {
  int source_X, source_y, source_w, source_index; /* F32 or, as bound, bytes; F32, F32, I64 */
  int fill, shift, scale, y_shift, y_scale;       /* F32 (1, n_x) and (1, n_y) */
  int class_weight;                               /* F32 (1, classes) */
  int X, y, w, scalars;
  int64_t n_x, n_y;
  bool shuffle;
};

/* Z = A_in W^T + b;  A = g(Z);  with dropout p > 0: A = keep(r, j) ? A / (1 - p) : 0, where keep is rng_keep() of
 * core/rng.h with (seed, layer, step.number, (step.batch_row + r) * n_out + j). Z is PLAN_NONE unless slope_is_from_z()
 * of core/terms.h. W is (n_out, n_in) at offset W of `parameters`, b (n_out) at offset b. */
struct plan_dense_forward {
  int A_in, parameters, Z, A;
  int64_t W, b, n_in, n_out;
  descent_activation activation;
  double dropout;
};

/* From the output layer's A (logits for the cross-entropies): scalars[SCALAR_LOSS] = J and, unless dZ is PLAN_NONE,
 * dZ = dJ/dZ (rows, n), which for mean_squared_error includes g'(Z) of the output activation (Z as in dense_forward).
 * If scalars[SCALAR_WEIGHT_SUM] is 0, then J and dZ are 0 (the factor 1 / sum w is taken as 0).
 * Label smoothing s replaces a class target y by y (1 - s) + s / K (binary: K = 2). */
struct plan_loss {
  int A, Z, y, w, scalars, dZ;
  int64_t n; /* outputs K */
  descent_loss loss;
  descent_activation activation; /* of the output layer */
  double label_smoothing;
};

/* dZ = dA * g'(Z) of the output layer, in place of a loss: dA = dJ/dA (rows, n) comes from the caller. A and Z as in
 * plan_loss; g' as in dense_backward_input, without dropout. */
struct plan_backward_output {
  int dA, A, Z, dZ;
  int64_t n;
  descent_activation activation;
};

/* dW = dZ^T A_in, db = column sums of dZ, into `gradients` at the offsets of W and b. */
struct plan_dense_backward_weights {
  int dZ, A_in, gradients;
  int64_t W, b, n_in, n_out;
};

/* dZ_below = (dZ W) * g'(Z) of the layer below (whose output is A, pre-activation Z or PLAN_NONE, width n_in), times
 * its dropout factor: dropped 0, kept 1 / (1 - p). g' comes from A where possible: sigmoid a (1 - a), tanh 1 - a^2,
 * relu 1{a > 0}, leaky_relu 1{a > 0} + 0.01 1{a <= 0}, with a = A (1 - p) for kept units; otherwise from Z. The
 * op's `layer` is the upper layer, which has W and dZ; the dropout counter uses layer - 1. Below layer 1 are the inputs: A
 * is X, the activation identity, and dZ_below is dX, per unit of the normalised inputs. */
struct plan_dense_backward_input {
  int dZ, parameters, A, Z, dZ_below;
  int64_t W, n_in, n_out;
  descent_activation activation;
  double dropout;
};

/* kept_gradients = gradients; or, with `adds`, gradients += kept_gradients. n: floats of the flat buffers, gaps included.
 */
struct plan_accumulate {
  int gradients, kept_gradients;
  int64_t n;
  bool adds;
};

/* Adds the gradients and J of one micro-batch, number k = step.micro_batch of K = step.micro_batches, to those of the
 * micro-batches before it, in the order of a binary counter. With t the number of trailing ones of k, the sum of parts
 * k + 1 - 2^t .. k is
 *   v = gradients;  v = partial_gradients[i] + v for i = 0 .. t-1
 * and becomes partial_gradients[t]; gradients are then either v or as before. The last part, k = K - 1, adds the sums
 * that are left,
 *   v = partial_gradients[i] + v for every i > t whose bit is set in K, ascending;  gradients = v.
 * So a subtree of 2^t parts has the same bits on any rank. The same with SCALAR_LOSS and partial_losses, whose values
 * are shares of one J, since every part divides by the weight of the whole step. */
struct plan_combine {
  int gradients, partial_gradients; /* F32 (1, n), (levels, n) */
  int scalars, partial_losses;      /* F64 (1, levels) */
  int64_t n;                        /* floats of the flat buffers, gaps included */
  int levels;                       /* at least 1, and 2^levels >= K */
  int64_t micro_batches;            /* K */
};

/* gradients and SCALAR_LOSS become their sums over the ranks, in the same order over ranks as combine's over parts. */
struct plan_allreduce {
  int gradients, scalars;
  int64_t n;
};

/* 2-norms of `gradients`, per layer and global, accumulated in double in an order independent of the thread count.
 * SCALAR_CLIP = clip_norm > 0 ? min(1, clip_norm / (norm + 1e-6)) : 1 (PyTorch's clip_grad_norm_). */
struct plan_gradient_norm {
  int gradients, scalars, layer_statistics;
  double clip_norm;
};

/* For lars and lamb: LAYER_TRUST of each layer, from what the update that follows will read. With g as there, norms over
 * the layer's W alone:
 *   lars   trust_coefficient |w| / (|g| + weight_decay |w|)      (You, Gitman and Ginsburg 2017, equation 6)
 *   lamb   |w| / |u|, u = m' + weight_decay w                    (You et al. 2020, algorithm 2)
 * with m' = (m / (1 - beta1^t)) / (sqrt(s) / sqrt(1 - beta2^t) + epsilon) of the moments after the update; 1 where |w| or
 * the denominator is 0, and at most the largest float32. Norms are accumulated in double, in an order independent of the
 * thread count, from terms of the working type. Writes nothing else. Does nothing while SCALAR_BAD_STEP is set. */

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
 *   lars               W: v = momentum v + trust (g + weight_decay w);  w -= a v;  b: v = momentum v + g;  w -= a v
 *   lamb               m and s as adam;  W: w -= a trust (m' + weight_decay w);  b: w -= a m'   (m' as in trust_ratio)
 *
 * where "all rules" leaves out lars and lamb, and trust is LAYER_TRUST of the layer, rounded to the working type.
 * moment1 holds v or m, moment2 holds s; PLAN_NONE where unused. The learning rate, the decay factor and the bias
 * corrections are computed in double and rounded once to the working type. Does nothing while SCALAR_BAD_STEP is set. */
struct plan_update {
  int parameters, gradients, moment1, moment2, scalars, layer_statistics;
  int64_t n; /* floats of the flat buffers, gaps included */
  descent_optimizer optimizer;
  double momentum, beta1, beta2, rho, epsilon, weight_decay, l2, trust_coefficient;
  bool nesterov;
  bool measure; /* write LAYER_UPDATE and LAYER_PARAMETERS */
};

/* LAYER_MEAN, LAYER_STD and LAYER_DEAD of the op's `layer`. Without rows the mean and the deviation are 0. */
struct plan_statistics {
  int A, Z, layer_statistics;
  int active; /* F32 (1, n) or PLAN_NONE: made 1 for the units that are not dead here; LAYER_DEAD then counts those that
               * are not 1. The host zeroes it before the first part of a step */
  int64_t n;
  descent_activation activation;
  double dropout;
};

/* SCALAR_TOTAL_LOSS += J * sum w, SCALAR_TOTAL_WEIGHT += sum w. */
struct plan_metrics {
  int scalars;
};

/* P (rows, n), the predictions, in float32: sigmoid(A), softmax(A) over each row, or A / y_scale + y_shift. */
struct plan_output {
  int A, y_shift, y_scale, P;
  int64_t n;
  descent_loss loss;
};

struct plan_op {
  enum plan_op_kind kind;
  int layer; /* 1 .. layers; 0: not of one layer */
  union {
    struct plan_gather gather;
    struct plan_dense_forward forward;
    struct plan_loss loss;
    struct plan_backward_output output_slope;
    struct plan_dense_backward_weights weights;
    struct plan_dense_backward_input input;
    struct plan_accumulate accumulate;
    struct plan_combine combine;
    struct plan_allreduce allreduce;
    struct plan_gradient_norm norm;
    struct plan_update update; /* also of trust_ratio, which has all members of the update that follows it */
    struct plan_statistics statistics;
    struct plan_metrics metrics;
    struct plan_output output;
  };
};

/* Consecutive operations. */
struct plan_range {
  int first, count;
};

/* What a plan has only if it is asked for; a sum of these. */
enum plan_part {
  PLAN_PART_BACKWARD = 1,       /* the range `backward` and its buffer dA */
  PLAN_PART_INPUT_GRADIENT = 2, /* with backward: the range `input_gradient` and its buffer dX */
  PLAN_PART_ACCUMULATE = 4,     /* with options and backward: the ranges keep_gradients and add_gradients */
  PLAN_PART_MICRO_BATCHES = 8,  /* with options: micro_batch and finish in place of train, gradient and update */
};

struct plan {
  struct plan_buffer *buffers;
  int n_buffers;
  struct plan_op *ops;
  int n_ops;
  struct parameter_segment *segments; /* (layers) */
  int layers;
  int64_t batch;      /* most rows of a step */
  int64_t train_rows; /* most rows of a training step, at most batch; evaluation may use more */
  uint64_t seed;      /* of the dropout masks */
  descent_precision precision;
  bool autotune;           /* use the fastest algorithm by timing; false: the first that works */
  descent_fusion fusion;   /* of several layers in one kernel; a device without such kernels ignores it */
  struct plan_range train; /* gather .. update, metrics */
  struct plan_range train_with_statistics; /* the same step; also writes the layer statistics */
  struct plan_range evaluate; /* gather without shuffle, forward without dropout, loss without dZ, metrics, output */
  struct plan_range predict;  /* gather X only, forward, output */

  /* A training step in parts, which give the bits of the whole: each is a part of train or train_with_statistics. */
  struct plan_range forward, forward_with_statistics; /* gather, forward, statistics */
  struct plan_range gradient;                         /* gather .. gradient_norm */
  struct plan_range update, update_with_statistics;   /* gradient_norm, update, metrics */

  /* Empty unless asked for. They read what `forward` (without options: predict) has left. */
  struct plan_range backward;       /* backward_output, then as in train; without options no weight gradients */
  struct plan_range input_gradient; /* after backward: dX */
  struct plan_range keep_gradients, add_gradients; /* before and after a backward whose gradients are to be added */

  /* A step in micro-batches: micro_batch once for each of them, then finish. `batch` is then that of a micro-batch. */
  struct plan_range micro_batch, micro_batch_with_statistics; /* gather .. the last dense_backward_weights, and combine
                                                              * where a rank has several */
  struct plan_range finish,
      finish_with_statistics;                /* allreduce if ranks exchange gradients, then gradient_norm .. metrics */
  struct descent_communicator *communicator; /* of the ranks, borrowed; NULL: no gradients are exchanged */
};

struct permutation;          /* core/rng.h */
struct descent_communicator; /* core/communicator.h */

/* The values that change from step to step. */
struct plan_step {
  int64_t number;    /* from 1, over the whole training; counter of the dropout masks and t of Adam */
  int64_t first_row; /* of the source, before the permutation */
  int64_t rows;      /* 1 .. batch; a micro-batch may have 0 */
  double learning_rate;
  const struct permutation *order; /* of the source's rows, for a gather that shuffles; NULL: not shuffled */

  /* Of a micro-batch; 0 in a whole step. */
  int64_t batch_row; /* its first row within the step */
  int micro_batch;   /* its number among this rank's, from 0 */
  int micro_batches; /* how many this rank has; 0: a whole step */
  double weight_sum; /* sum of w over the whole step; 0: over the rows that are gathered */
};

#endif
