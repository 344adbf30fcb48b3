/* The device's passes: everything in a step except the matrix products. The interface is plain C, so the C files need
 * no CUDA C++. Each launcher enqueues its kernels on a stream and returns the launch's error.
 *
 * Matrices are (rows, n), row-major, `ld` elements from row to row; the padding between column n and ld is neither read
 * nor written. Base addresses are 256-byte aligned. Where ld is a multiple of 16 bytes' worth of elements, accesses are
 * 16 bytes wide, otherwise one element each: by an instance of the kernel, or by a branch in it.
 *
 * `rows` of a launch is what the grid covers: the plan's batch inside a captured graph, the step's own rows otherwise.
 * A step's valid rows are step->rows <= rows. Inside a graph the rows beyond the valid ones are computed and must be
 * harmless: gather fills X with 0 there, loss fills dZ with 0, and sums over rows leave them out or add zeros.
 *
 * Every sum has a fixed order that depends on shapes, and on the variant where there are several, alone. Sums over
 * blocks: each block writes its partial sum, and the last one to finish (an integer counter, reset by it) or a second
 * kernel adds them up in order; no floating-point atomics. */
#ifndef DESCENT_KERNELS_KERNELS_H
#define DESCENT_KERNELS_KERNELS_H

#include <cuda_runtime_api.h>
#include <descent/descent.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/device_array.h"
#include "backend/formulas.h"
#include "core/rng.h"
#include "plan/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum element { ELEMENT_F32, ELEMENT_BF16 }; /* bf16: the upper half of a float32, rounded to nearest even */
static inline int64_t element_bytes(enum element element) { return element == ELEMENT_F32 ? 4 : 2; }

struct device_matrix {
  void *data; /* NULL: there is none */
  int64_t ld;
  enum element element;
};

/* A step in the device's form: plan_step and the factors of the update. */
struct device_step {
  int64_t number, first_row, rows;
  int64_t batch_row;
  double weight_sum;
  int32_t micro_batch, micro_batches;
  struct permutation order; /* n = 0: rows in their own order */
  struct update_factors_f32 update;
};

/* In device memory, one per program. */
struct step_state {
  struct device_step current; /* the step whose operations are running; every kernel reads it from here */
  int64_t next;               /* index in the queue of the step that the next fetching gather makes current */
};

/* The elements of a source of X: float32, bytes, or already filled, normalised and rounded to bf16. */
enum input_form { INPUT_FLOATS, INPUT_BYTES, INPUT_NORMALISED };

/* In device memory, one per program: the current addresses of the bound sources (resident, or a window); NULL:
 * unbound. */
struct source_table {
  const void *X;
  const float *y, *w;
  const int64_t *index;
  enum input_form form; /* of X; INPUT_NORMALISED: for an X of bf16 only, with rows of whole 16-byte units */
  int64_t ld;           /* of X: elements from row to row */
};

/* Scratch shared by the launches in one stream. `partials` has at least as many bytes as the launcher's ..._scratch
 * function returns, `counters` has COUNTERS zeros (every kernel leaves them zero). */
enum { COUNTERS = 512 };
struct scratch {
  void *partials;
  unsigned *counters;
};

/* ---- gather (gather.cu) ---- */

struct gather_launch {
  /* queue not NULL: first state->current = queue[state->next++], unless *bad_step (may be NULL) is not 0: then the
   * whole gather does nothing, and the operations after it repeat the bad step and leave every buffer unchanged. */
  struct step_state *state;
  const struct device_step *queue;
  const double *bad_step;
  const struct source_table *sources;
  const float *fill, *shift, *scale, *y_shift, *y_scale, *class_weight; /* NULL: not there */
  struct device_matrix X;
  float *y, *w;       /* (rows, n_y), (rows), dense; NULL: y, w and the sum are not written */
  double *weight_sum; /* &scalars[SCALAR_WEIGHT_SUM]: becomes the step's, or the sum of w where that is 0 */
  int64_t classes;    /* entries of class_weight; the weight of a class beyond them is NaN */
  int64_t n_x, n_y, rows;
  bool shuffle;           /* false: state->current.order is ignored */
  struct scratch scratch; /* not used without queue and y */
};
size_t gather_scratch(int64_t rows);
/* As specified in plan.h. In rows beyond the step's, X, y and w are 0. If y is unbound, y, w and the sum are not
 * written. */
cudaError_t launch_gather(const struct gather_launch *launch, cudaStream_t stream);
/* The fetch alone, for ranges that do not begin with a gather: state->current = queue[state->next++]. */
cudaError_t launch_fetch(struct step_state *state, const struct device_step *queue, cudaStream_t stream);

/* ---- dense layers (dense.cu) ---- */

struct forward_launch {
  const struct step_state *state;
  struct device_matrix product; /* A_in W^T, with b added already when bias is NULL; may be Z's or A's own memory */
  const void *bias;             /* (n), of element bias_element; NULL: none to add */
  enum element bias_element;
  struct device_matrix Z; /* written when data is not NULL */
  struct device_matrix A;
  int64_t rows, n;
  descent_activation activation;
  /* dropout: keep is rng_keep(seed, layer, number, (batch_row + r) * n + j, threshold), kept values times dropout_scale;
   * threshold 0: none. */
  uint64_t seed;
  uint32_t layer, threshold;
  float dropout_scale; /* 1 / (1 - p) */
};
cudaError_t launch_forward(const struct forward_launch *launch, cudaStream_t stream);

struct backward_launch {
  const struct step_state *state;
  struct device_matrix dZ; /* in: (dZ W); out: times g' and the dropout factor; in place */
  struct device_matrix A, Z;
  int64_t rows, n;
  descent_activation activation;
  uint64_t seed;
  uint32_t layer, threshold;
  float dropout_scale, keep_probability; /* 1 / (1 - p), 1 - p */
  float *bias_gradient;   /* (n): the column sums of dZ as written (rounded to its element); NULL: not asked for */
  struct scratch scratch; /* for the column sums */
};
/* Also for column sums alone (launch_column_sums), in the same order of summation: fused and separate sums have the
 * same bits. The scratch suffices for fewer rows as well. */
size_t column_sums_scratch(int64_t rows, int64_t n);
cudaError_t launch_backward(const struct backward_launch *launch, cudaStream_t stream);
cudaError_t launch_column_sums(struct device_matrix dZ, int64_t rows, int64_t n, float *sums, struct scratch scratch,
                               cudaStream_t stream);

/* ---- dense operations in one kernel (fused.cu, weights.cu) ----
 * The product of a dense operation, whose epilogue is the operation's element-wise work. bf16 and tf32 operands are
 * multiplied on tensor cores and added in float32, float32 operands by multiply-adds. A variant has its own tiles;
 * ..._variants gives how many of them take the launch, 0 if none does (data may be NULL: strides, elements and sizes
 * decide, and the shared memory of the device, so that a number may be another variant on another model). The order of
 * every sum follows from the shape and the variant alone. */

struct fused_forward_launch {
  struct forward_launch pass;   /* its product is not used; Z and A are of the operands' element */
  struct device_matrix A_in, W; /* (rows, n_in), (n, n_in), of one element */
  int64_t n_in;
  bool tf32; /* F32 operands: on tensor cores, which read their upper 19 bits */
  int variant;
};
int fused_forward_variants(const struct fused_forward_launch *launch);
cudaError_t launch_fused_forward(const struct fused_forward_launch *launch, cudaStream_t stream);

struct fused_input_launch {
  struct backward_launch pass;      /* its dZ is written, not read: (dZ_above W) times g' and the dropout factor */
  struct device_matrix dZ_above, W; /* (rows, n_out), (n_out, n), of one element, which is also dZ's */
  int64_t n_out;
  bool tf32;
  int variant;
};
int fused_input_variants(const struct fused_input_launch *launch);
size_t fused_input_scratch(int64_t rows, int64_t n); /* for the column sums; suffices for fewer rows */
cudaError_t launch_fused_input(const struct fused_input_launch *launch, cudaStream_t stream);

struct weights_launch {
  struct device_matrix dZ, A_in; /* (rows, n_out), (rows, n_in), of one element */
  float *gradient;               /* dW (n_out, n_in), ld from row to row; the padding stays as it is */
  int64_t ld;
  float *bias_gradient; /* (n_out), the column sums of dZ; NULL: not asked for */
  int64_t rows, n_in, n_out;
  bool tf32;
  int variant;
  struct scratch scratch; /* the slices' partial sums */
};
/* n_in and n_out from 1 to 320, rows of whole 16-byte units. db is a sum in float32 of the values as stored. */
int weights_variants(const struct weights_launch *launch);
size_t weights_scratch(int64_t rows, int64_t n_in, int64_t n_out); /* suffices for fewer rows */
cudaError_t launch_weights(const struct weights_launch *launch, cudaStream_t stream);

/* ---- several layers in one kernel (network.cu) ----
 * A block takes tiles of rows through all layers of a network, so that activations need not leave it. What a launch
 * computes is its kind:
 *
 *   NETWORK_FORWARD  A of the output layer, or the predictions P, or both
 *   NETWORK_CHAIN    forward, loss and every dZ: A and Z of the hidden layers and all dZ are written, for dW and db
 *   NETWORK_STEP     forward, loss and backward: only the gradients are written, and the loss
 *
 * Values are rounded where the kernels of single layers round: hidden A, Z where g' comes from it, and dZ, to the
 * operands' element; the output layer's A and Z stay float32; b is added to a float32 sum. Dropout masks are those of
 * the same elements (chains, clusters: batch_row is 0). Rows beyond the step's have a dZ of 0. Blocks and tiles follow
 * from the shapes and the variant, and so does the order of every sum.
 *
 * A step of few rows is bound by the start and the end of its kernels. Some variants of NETWORK_STEP are one cluster of
 * blocks (compute capability 9.0 and later), which may also do what surrounds the layers in a step. */

struct whole_step;
enum network_kind { NETWORK_FORWARD, NETWORK_CHAIN, NETWORK_STEP };
enum { NETWORK_LAYERS = 12 }; /* the most layers of any variant */

struct network_layer {
  struct device_matrix W; /* (n_out, n_in), rows of whole 16-byte units with zeros behind n_in */
  const void *bias;       /* (n_out), of element bias_element */
  enum element bias_element;
  int n_in, n_out;
  descent_activation activation;
  uint32_t threshold;                    /* dropout as in forward_launch, layers from 1; 0: none, as in the output */
  float dropout_scale, keep_probability; /* 1 / (1 - p), 1 - p */
  /* NETWORK_STEP: where in `gradients` dW, with W.ld from row to row, and db begin: multiples of 4. */
  int64_t dW, db;
  /* NETWORK_CHAIN: A of a hidden layer, Z of one if g' comes from it, dZ of every layer; of the operands' element. */
  struct device_matrix A, Z, dZ;
};

struct network_launch {
  enum network_kind kind;
  const struct step_state *state; /* also its current.number and .batch_row: of the dropout masks */
  struct device_matrix X;         /* (rows, layer[0].n_in), of the operands' element */
  struct network_layer layer[NETWORK_LAYERS];
  int layers;
  int64_t rows;
  uint64_t seed;
  bool tf32; /* F32 operands: on tensor cores, which read their upper 19 bits */
  descent_loss loss;
  int variant;
  /* NETWORK_STEP, where network_takes_whole(): the launch does all of the step, with the bits that launch_gather,
   * launch_norm and launch_update would give around it. Read during the call. NULL: the layers only. */
  const struct whole_step *whole;

  /* NETWORK_FORWARD: writes the step's rows only. */
  struct device_matrix A; /* of the output layer, float32: logits for the cross-entropies; data NULL: not asked for */
  float *P;               /* (rows, n_out) dense, as output_launch; NULL: not asked for */
  const float *y_shift, *y_scale; /* of P; NULL: not there */

  /* NETWORK_CHAIN, NETWORK_STEP */
  const float *y, *w; /* dense */
  double *scalars;    /* reads SCALAR_WEIGHT_SUM, writes SCALAR_LOSS */
  float label_smoothing;
  float *gradients;    /* NETWORK_STEP: (n_gradients); what is neither dW nor db becomes 0 */
  int64_t n_gradients; /* a multiple of 4 */
  void *partials;      /* network_partials() bytes, for this launch alone: zeros before the first one */
  unsigned *counters;  /* COUNTERS zeros, shared by the launches in one stream */
};
/* How many variants take the launch; 0: none (as for the dense operations, data may be NULL). `reason`, if not NULL,
 * then gives why, as a phrase: "layer 3 has 400 outputs, more than 320". */
int network_variants(const struct network_launch *launch, char *reason, size_t size);
/* `reason`: why no variant takes a whole step, in the same way; "" if one does. */
void network_refuses_whole(const struct network_launch *launch, char *reason, size_t size);
/* The first so many keep all weights in shared memory while rows pass through it. */
int network_resident_variants(const struct network_launch *launch);
/* Does the launch's variant take a whole step? */
bool network_takes_whole(const struct network_launch *launch);
size_t network_partials(const struct network_launch *launch); /* of any variant; suffices for fewer rows */
cudaError_t launch_network(const struct network_launch *launch, cudaStream_t stream);

/* ---- loss, output (loss.cu) ---- */

struct loss_launch {
  const struct step_state *state;
  struct device_matrix A, Z; /* of the output layer; A of either element */
  const float *y, *w;        /* dense */
  double *scalars;           /* reads SCALAR_WEIGHT_SUM, writes SCALAR_LOSS */
  struct device_matrix dZ;   /* data NULL: not asked for; rows beyond the step's: 0 */
  int64_t rows, n;
  descent_loss loss;
  descent_activation activation;
  float label_smoothing;
  struct scratch scratch;
};
size_t loss_scratch(int64_t rows);
cudaError_t launch_loss(const struct loss_launch *launch, cudaStream_t stream);

/* dZ = dA * g' of the output layer, rounded to dZ's element; in rows beyond the step's 0. */
struct backward_output_launch {
  const struct step_state *state;
  const float *dA;           /* (rows, n) dense */
  struct device_matrix A, Z; /* of one element; Z only where g' comes from it */
  struct device_matrix dZ;
  int64_t rows, n;
  descent_activation activation;
};
cudaError_t launch_backward_output(const struct backward_output_launch *launch, cudaStream_t stream);

struct output_launch {
  const struct step_state *state;
  struct device_matrix A;
  const float *y_shift, *y_scale; /* NULL: not there */
  float *P;                       /* (rows, n) dense */
  int64_t rows, n;
  descent_loss loss;
};
cudaError_t launch_output(const struct output_launch *launch, cudaStream_t stream);

/* ---- the flat buffers (flat.cu) ---- On the device the rows of W are padded to whole 16-byte units of the working
 * type. Padding and gaps hold zeros. So the flat buffers are longer than the plan's, and all have the same layout. */

/* A run of one layer's floats, the work of one block; begin and end are multiples of 8 floats. */
struct flat_piece {
  int64_t begin, end;
  int32_t layer; /* from 1 */
  int32_t terms; /* parameters of the layer, at most INT32_MAX: determines the accuracy of their sums */
};
/* Floats of a piece: FLAT_TURN, which a block processes in one iteration, doubled until the network's n floats make at
 * most FLAT_PIECES pieces, up to FLAT_PIECE. */
enum { FLAT_TURN = 2048, FLAT_PIECE = 16384, FLAT_PIECES = 1024 };
static inline int64_t flat_piece_floats(int64_t n) {
  int64_t each = FLAT_TURN;
  while (each < FLAT_PIECE && n / each > FLAT_PIECES) each *= 2;
  return each;
}

/* kept_gradients = gradients; or, with `adds`, gradients += kept_gradients. */
struct accumulate_launch {
  float *gradients, *kept_gradients;
  const struct flat_piece *pieces; /* on the device */
  int n_pieces;
  bool adds;
};
cudaError_t launch_accumulate(const struct accumulate_launch *launch, cudaStream_t stream);

/* As struct plan_combine in plan.h, of the current step's micro_batch and micro_batches. */
struct combine_launch {
  const struct step_state *state;
  float *gradients, *partial_gradients; /* partial_gradients: (levels, n), of flat buffers of n floats */
  int64_t n;
  double *loss, *partial_losses;   /* &scalars[SCALAR_LOSS]; (levels) */
  const struct flat_piece *pieces; /* on the device */
  int n_pieces;
};
cudaError_t launch_combine(const struct combine_launch *launch, cudaStream_t stream);

/* ---- the sum over ranks (rank_sum.cu) ---- */

enum { RANKS_MOST = 256 };
struct rank_sum_launch {
  float *own;            /* (n): this rank's gradients, of which it adds a slice; becomes the sum */
  const float *received; /* (ranks, width): the same slice of the others; that of this rank is not read */
  int64_t n, width;      /* multiples of 4 */
  double *loss;          /* SCALAR_LOSS of this rank; becomes the sum */
  const double *losses;  /* (ranks): those of the others */
  int ranks, rank;
};
cudaError_t launch_rank_sum(const struct rank_sum_launch *launch, cudaStream_t stream);

struct norm_launch {
  const struct step_state *state;
  const float *gradients;
  const struct flat_piece *pieces; /* on the device, ascending by layer */
  int n_pieces, layers;
  double *scalars; /* reads SCALAR_LOSS; writes SCALAR_GRADIENT_NORM, SCALAR_CLIP; SCALAR_BAD_STEP if it is 0 */
  double *layer_statistics; /* (layers, LAYER_SLOTS), writes LAYER_GRADIENT; NULL: not there */
  double clip_norm;
  /* Set by an update that leaves a non-finite parameter. The next norm then marks its step as bad, since an epilogue
   * that clamps with max(0, x) may turn the resulting NaNs into zeros. */
  const int *bad_parameters;
  bool metrics; /* afterwards the same as launch_metrics */
  struct scratch scratch;
};
size_t norm_scratch(int n_pieces, int layers);
cudaError_t launch_norm(const struct norm_launch *launch, cudaStream_t stream);
/* SCALAR_TOTAL_LOSS, SCALAR_TOTAL_WEIGHT. */
cudaError_t launch_metrics(double *scalars, cudaStream_t stream);

struct update_launch {
  const struct step_state *state;
  float *parameters;
  void *working; /* bf16 copy of the parameters; NULL: none */
  const float *gradients;
  float *moment1, *moment2; /* NULL where the optimizer has none */
  const struct flat_piece *pieces;
  const int64_t *biases; /* (layers), on the device: where each layer's b begins, a multiple of 8; lars and lamb */
  int n_pieces, layers;
  const double *scalars;    /* reads SCALAR_CLIP and SCALAR_BAD_STEP; if the latter is not 0, nothing is done */
  double *layer_statistics; /* with `measure`: LAYER_UPDATE, LAYER_PARAMETERS; lars and lamb read LAYER_TRUST */
  enum update_rule rule;
  struct update_coefficients_f32 coefficients; /* its clip_factor and step are ignored: scalars and state hold them */
  bool measure;
  int *bad_parameters;
  struct scratch scratch;
};
size_t update_scratch(int n_pieces, int layers);
cudaError_t launch_update(const struct update_launch *launch, cudaStream_t stream);

/* LAYER_TRUST of each layer for the update behind it, which reads the same: lars and lamb. Writes nothing else. */
struct trust_launch {
  struct update_launch update;
  double trust_coefficient, weight_decay;
};
size_t trust_scratch(int n_pieces, int layers);
cudaError_t launch_trust_ratio(const struct trust_launch *launch, cudaStream_t stream);

/* What surrounds the layers in a training step, for the launch of a network that does all of it. */
struct whole_step {
  struct gather_launch gather; /* its X, y and w are the network's */
  struct norm_launch norm;
  struct update_launch update; /* without `measure` */
};

/* to[i] = bf16(from[i]), n a multiple of 8. */
cudaError_t launch_cast(const float *from, void *to, int64_t n, cudaStream_t stream);

/* ---- statistics (statistics.cu) ---- */

struct statistics_launch {
  const struct step_state *state;
  struct device_matrix A, Z;
  double *layer_statistics; /* (LAYER_SLOTS) of this layer: writes LAYER_MEAN, LAYER_STD, LAYER_DEAD */
  float *active;            /* (n): 1 for units that were not dead in an earlier part of the step; NULL: not there */
  int64_t rows, n;
  descent_activation activation;
  uint64_t seed;
  uint32_t layer, threshold;
  float keep_probability;
  struct scratch scratch;
};
size_t statistics_scratch(int64_t rows, int64_t n);
cudaError_t launch_statistics(const struct statistics_launch *launch, cudaStream_t stream);

/* ---- random values for trials of products (random.cu) ---- */

/* Fills with values uniform in (-1, 1), or all ones. */
cudaError_t launch_fill(struct device_matrix m, int64_t rows, int64_t n, bool ones, uint64_t seed, cudaStream_t stream);
/* The same matrix, of F32, filled with random bits. */
cudaError_t launch_fill_bits(struct device_matrix m, int64_t rows, int64_t n, uint64_t seed, cudaStream_t stream);
/* *differing = number of elements whose bits differ between the two; *off = number of elements of `a` that are not
 * exactly `expected`. */
cudaError_t launch_compare(struct device_matrix a, struct device_matrix b, int64_t rows, int64_t n, float expected,
                           unsigned long long *differing, unsigned long long *off, cudaStream_t stream);

/* ---- checks of the results of a product's trial (check.cu) ---- */

/* C (rows, n) = epilogue(P) of a product P: P + bias[j] where there is a bias; max(0, that) for relu, whose mask has
 * the bits of the positive values (mask_written); with a mask that is read, P where its bit is set and 0 elsewhere. Bit
 * j of row i is bit (i mask_ld + j) % 8 of byte (i mask_ld + j) / 8. */
struct trial_result {
  struct device_matrix C;
  int64_t rows, n;
  const void *bias; /* (n); NULL: none */
  enum element bias_element;
  bool relu, mask_written;
  bool zero_may_be_marked;   /* where P + bias is 0, either bit is right */
  const unsigned char *mask; /* NULL: none */
  int64_t mask_ld;
};
/* wrong[0] = number of elements that differ from the epilogue of a P that is `value` everywhere (NaN: of any P);
 * wrong[1] = number of elements that contradict their bit of the mask. */
cudaError_t launch_check(const struct trial_result *result, float value, unsigned long long wrong[2],
                         cudaStream_t stream);
/* *wrong = number of sums that are not exactly those of C's columns. */
cudaError_t launch_check_sums(struct device_matrix C, int64_t rows, int64_t n, const float *sums,
                              unsigned long long *wrong, cudaStream_t stream);

/* P = op(A) op(B) as stored; the elements before `k_begin` along K are zero. */
struct trial_factors {
  struct device_matrix A, B;
  bool transpose_a, transpose_b;
  int64_t k_begin, k_end;
  const float *A_sums; /* (rows) the sums of op(A)'s rows that the epilogue wrote; NULL: none */
  double unit;         /* largest error of an addition, relative to its result */
  double cut;          /* largest relative error of a product of two factors due to rounding them when read */
};
/* *wrong = how many of about ERROR_SAMPLES elements of C, and of the sums beside them, are further from the exact
 * values than float32 sums of that many terms can be. */
enum { ERROR_SAMPLES = 1024 };
cudaError_t launch_check_errors(const struct trial_result *result, const struct trial_factors *factors,
                                unsigned long long *wrong, cudaStream_t stream);

/* ---- arrays of callers (arrays.cu) ---- */

/* Elements in device memory; strides in elements. */
struct array_view {
  void *data;
  descent_dtype dtype;
  int64_t columns, row_stride, column_stride;
};
/* Copies `count` elements, counted along the rows, rounded to float32 and then to the float type of `to`. */
cudaError_t launch_copy_array(const struct array_view *from, int64_t first_from, const struct array_view *to,
                              int64_t first_to, int64_t count, cudaStream_t stream);

#define ARRAY_NOTHING (~0ULL)
struct array_finding {
  unsigned long long element; /* counted along the rows */
  double value;
};
/* *found, on the device: the first element that breaks the rule, or ARRAY_NOTHING. */
cudaError_t launch_check_array(const struct array_view *array, int64_t rows, struct array_rule rule,
                               struct array_finding *found, cudaStream_t stream);

/* ---- this build (code.cu) ---- */

/* cudaErrorNoKernelImageForDevice if it has no code for the current device. */
cudaError_t code_check(void);

/* This thread's next launch does not start before everything that its stream waits for is complete. Called where a
 * stream begins to wait for another one, unless a copy or a graph comes next: GRID_BEGIN (common.cuh) waits for kernels
 * of the same stream only. */
void launch_next_plainly(void);

#ifdef __cplusplus
}
#endif

#endif
