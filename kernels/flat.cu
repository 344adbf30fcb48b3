// The flat buffers: the gradient's accumulation, its sum over micro-batches, its norms with the sentinel, trust ratios,
// the update rules, the copy in bf16. The norm may add the step to the metrics, which are here too.
// These passes are bound by memory; everything is read once and written once, 16 bytes at a time, 8 floats per thread
// and iteration.
//
// A block works on a piece. A thread's sums are sums.cuh's; those of the block's threads are added in double, then by
// the grid's last block those of each layer's blocks, and the layers', always in the same order.
#include "flat.cuh"

// ---- sums by layer ----

// Scratch of launches that take COUNT sums of each layer.
template <int COUNT>
struct layer_sums {
  double *pieces;  // (n_pieces, COUNT)
  double *layers;  // (layers, COUNT)
  int *first;      // (layers + 1): the first piece of each layer
};

template <int COUNT>
static size_t layer_sums_bytes(int n_pieces, int layers) {
  return sizeof(double) * COUNT * ((size_t)n_pieces + (size_t)layers) + sizeof(int) * ((size_t)layers + 1);
}

template <int COUNT>
static __device__ inline struct layer_sums<COUNT> layer_sums_at(void *scratch, int n_pieces, int layers) {
  struct layer_sums<COUNT> s;
  s.pieces = (double *)scratch;
  s.layers = s.pieces + COUNT * (size_t)n_pieces;
  s.first = (int *)(s.layers + COUNT * (size_t)layers);
  return s;
}

// By one thread of each block: writes the sums of its piece, and which layers begin with it.
template <int COUNT>
static __device__ inline void store_piece(const struct layer_sums<COUNT> &s, const double (&sums)[COUNT],
                                          const struct flat_piece *pieces, int n_pieces, int layers) {
  const int piece = (int)blockIdx.x;
  for (int i = 0; i < COUNT; i++) s.pieces[COUNT * (size_t)piece + i] = sums[i];
  for (int l = piece == 0 ? 0 : pieces[piece - 1].layer; l < pieces[piece].layer; l++) s.first[l] = piece;
  if (piece == n_pieces - 1)
    for (int l = pieces[piece].layer; l <= layers; l++) s.first[l] = n_pieces;
}

// By the last block: computes the sums of every layer, a warp each. Visible to all threads on return.
template <int COUNT>
static __device__ inline void add_pieces(const struct layer_sums<COUNT> &s, int layers) {
  const int lane = (int)threadIdx.x % WARP;
  for (int l = (int)threadIdx.x / WARP; l < layers; l += BLOCK / WARP) {
    double sums[COUNT] = {};
    const int end = s.first[l + 1];
#pragma unroll 8
    for (int piece = s.first[l] + lane; piece < end; piece += WARP)
      for (int i = 0; i < COUNT; i++) sums[i] += s.pieces[COUNT * (size_t)piece + i];
    for (int i = 0; i < COUNT; i++) {
      sums[i] = warp_sum(sums[i]);
      if (lane == 0) s.layers[COUNT * (size_t)l + i] = sums[i];
    }
  }
  __syncthreads();
}

// ---- accumulation ----

static __global__ void __launch_bounds__(BLOCK) accumulate_kernel(struct accumulate_launch l) {
  GRID_BEGIN();
  const struct flat_piece piece = l.pieces[blockIdx.x];
  for (int64_t at = piece.begin + 8 * threadIdx.x; at < piece.end; at += FLAT_TURN) {
    float g[8], earlier[8];
    load_values<ELEMENT_F32, 8>(l.gradients + at, g);
    if (!l.adds) {
      store_values<ELEMENT_F32, 8>(l.kept_gradients + at, g);
      continue;
    }
    load_values<ELEMENT_F32, 8>(l.kept_gradients + at, earlier);
#pragma unroll
    for (int i = 0; i < 8; i++) g[i] += earlier[i];
    store_values<ELEMENT_F32, 8>(l.gradients + at, g);
  }
}

cudaError_t launch_accumulate(const struct accumulate_launch *l, cudaStream_t stream) {
  return LAUNCH(accumulate_kernel, (unsigned)l->n_pieces, BLOCK, stream, *l);
}

// ---- the sum over micro-batches ----

// What a part adds to its values, and where the result goes. Partial sum i holds 2^i parts, and those that hold any are
// the bits of the part's number.
struct combine_turn {
  uint32_t added;  // bit i: partial sum i; in ascending order
  int level;       // the partial sum that the result becomes; -1: it is the sum over all parts
};
static __device__ inline struct combine_turn combine_turn_of(const struct device_step &step) {
  const uint32_t part = (uint32_t)step.micro_batch;
  struct combine_turn turn = {part, -1};
  if (step.micro_batch >= step.micro_batches - 1) return turn;
  turn.added = part & ~(part + 1);  // the trailing ones
  turn.level = 0;
  while (turn.added >> turn.level) turn.level++;
  return turn;
}

static __device__ inline void combine_loss(const struct combine_launch &l, const struct combine_turn &turn) {
  double sum = *l.loss;
  for (int i = 0; turn.added >> i; i++)
    if (turn.added >> i & 1) sum = l.partial_losses[i] + sum;
  *(turn.level < 0 ? l.loss : &l.partial_losses[turn.level]) = sum;
}

static __global__ void __launch_bounds__(BLOCK) combine_kernel(struct combine_launch l) {
  GRID_BEGIN();
  const struct combine_turn turn = combine_turn_of(l.state->current);
  if (blockIdx.x == 0 && threadIdx.x == 0) combine_loss(l, turn);
  if (turn.added == 0 && turn.level < 0) return;  // one part, whose sum is in place
  float *const to = turn.level < 0 ? l.gradients : l.partial_gradients + turn.level * l.n;
  const struct flat_piece piece = l.pieces[blockIdx.x];
  for (int64_t at = piece.begin + 8 * threadIdx.x; at < piece.end; at += FLAT_TURN) {
    float sum[8], partial[8];
    load_values<ELEMENT_F32, 8>(l.gradients + at, sum);
    for (int i = 0; turn.added >> i; i++) {
      if (!(turn.added >> i & 1)) continue;
      load_values<ELEMENT_F32, 8>(l.partial_gradients + i * l.n + at, partial);
#pragma unroll
      for (int j = 0; j < 8; j++) sum[j] = partial[j] + sum[j];
    }
    store_values<ELEMENT_F32, 8>(to + at, sum);
  }
}

cudaError_t launch_combine(const struct combine_launch *l, cudaStream_t stream) {
  return LAUNCH(combine_kernel, (unsigned)l->n_pieces, BLOCK, stream, *l);
}

// ---- metrics ----

// One thread.
static __global__ void metrics_kernel(double *scalars) {
  GRID_BEGIN();
  add_step(scalars);
}

cudaError_t launch_metrics(double *scalars, cudaStream_t stream) {
  return LAUNCH(metrics_kernel, 1, 1, stream, scalars);
}

// ---- norm ----

static __global__ void __launch_bounds__(BLOCK) norm_kernel(struct norm_launch l) {
  GRID_BEGIN();
  const struct layer_sums<1> s = layer_sums_at<1>(l.scratch.partials, l.n_pieces, l.layers);
  const struct flat_piece piece = l.pieces[blockIdx.x];
  struct precise_sum sum = {};
#pragma unroll 2
  for (int64_t at = piece.begin + 8 * threadIdx.x; at < piece.end; at += FLAT_TURN) {
    float g[8];
    load_values<ELEMENT_F32, 8>(l.gradients + at, g);
    add_squares(sum, g, piece.terms < PRECISE_TERMS);
  }
  const double squares[1] = {block_sum(total(sum))};
  if (threadIdx.x == 0) store_piece(s, squares, l.pieces, l.n_pieces, l.layers);
  if (!is_last_block(l.scratch.counters)) return;
  add_pieces(s, l.layers);
  double all = 0;
  for (int layer = (int)threadIdx.x; layer < l.layers; layer += BLOCK) {
    if (l.layer_statistics) l.layer_statistics[layer * LAYER_SLOTS + LAYER_GRADIENT] = sqrt(s.layers[layer]);
    all += s.layers[layer];
  }
  all = block_sum(all);
  if (threadIdx.x != 0) return;
  store_norm(l, norm_result_of(l, all, l.scalars[SCALAR_LOSS], *l.bad_parameters, l.scalars[SCALAR_BAD_STEP]));
}

size_t norm_scratch(int n_pieces, int layers) { return layer_sums_bytes<1>(n_pieces, layers); }

cudaError_t launch_norm(const struct norm_launch *l, cudaStream_t stream) {
  return LAUNCH(norm_kernel, (unsigned)l->n_pieces, BLOCK, stream, *l);
}

static __device__ inline struct update_coefficients_f32 coefficients_of(const struct update_launch &l) {
  struct update_coefficients_f32 coefficients = l.coefficients;
  coefficients.clip_factor = (float)l.scalars[SCALAR_CLIP];
  coefficients.step = l.state->current.update;
  return coefficients;
}

// ---- trust ratio ----

// Norms over W alone: W and b begin at multiples of 8 floats, so a thread's 8 floats are of one of them.
template <enum update_rule RULE>
static __global__ void __launch_bounds__(BLOCK, 3) trust_kernel(struct trust_launch l) {
  GRID_BEGIN();
  const struct update_launch &u = l.update;
  if (u.scalars[SCALAR_BAD_STEP] != 0) return;
  const struct update_coefficients_f32 coefficients = coefficients_of(u);
  const struct flat_piece piece = u.pieces[blockIdx.x];
  const int64_t b = u.biases[piece.layer - 1], end = piece.end < b ? piece.end : b;
  const bool in_double = piece.terms < PRECISE_TERMS;
  struct precise_sum weights = {}, terms = {};
  for (int64_t at = piece.begin + 8 * threadIdx.x; at < end; at += FLAT_TURN) {
    float w[8], g[8], m[8] = {}, s[8] = {}, term[8];
    load_values<ELEMENT_F32, 8>(u.parameters + at, w);
    load_values<ELEMENT_F32, 8>(u.gradients + at, g);
    if (RULE == UPDATE_LAMB) {
      load_values<ELEMENT_F32, 8>(u.moment1 + at, m);
      load_values<ELEMENT_F32, 8>(u.moment2 + at, s);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) term[i] = formula_trust_term_f32(RULE, &coefficients, w[i], g[i], m[i], s[i]);
    add_squares(weights, w, in_double);
    add_squares(terms, term, in_double);
  }
  const struct layer_sums<2> layers = layer_sums_at<2>(u.scratch.partials, u.n_pieces, u.layers);
  const double sums[2] = {block_sum(total(weights)), block_sum(total(terms))};
  if (threadIdx.x == 0) store_piece(layers, sums, u.pieces, u.n_pieces, u.layers);
  if (!is_last_block(u.scratch.counters)) return;
  add_pieces(layers, u.layers);
  for (int layer = (int)threadIdx.x; layer < u.layers; layer += BLOCK)
    u.layer_statistics[layer * LAYER_SLOTS + LAYER_TRUST] = formula_trust_ratio(
        RULE, l.trust_coefficient, l.weight_decay, sqrt(layers.layers[2 * layer]), sqrt(layers.layers[2 * layer + 1]));
}

size_t trust_scratch(int n_pieces, int layers) { return layer_sums_bytes<2>(n_pieces, layers); }

cudaError_t launch_trust_ratio(const struct trust_launch *l, cudaStream_t stream) {
  const unsigned blocks = (unsigned)l->update.n_pieces;
  if (l->update.rule == UPDATE_LARS) return LAUNCH(trust_kernel<UPDATE_LARS>, blocks, BLOCK, stream, *l);
  if (l->update.rule == UPDATE_LAMB) return LAUNCH(trust_kernel<UPDATE_LAMB>, blocks, BLOCK, stream, *l);
  return cudaErrorInvalidValue;
}

// ---- update ----

// The steps with statistics, one per epoch, need registers for the sums, and lamb for two sets of coefficients.
template <enum update_rule RULE, bool MEASURE>
static __global__ void __launch_bounds__(BLOCK, MEASURE || RULE == UPDATE_LAMB ? 3 : 4)
    update_kernel(struct update_launch l) {
  GRID_BEGIN();
  const bool has_moment1 = update_moments_of(RULE).moment1, has_moment2 = update_moments_of(RULE).moment2;
  if (l.scalars[SCALAR_BAD_STEP] != 0) return;
  struct update_coefficients_f32 coefficients = coefficients_of(l);
  const struct flat_piece piece = l.pieces[blockIdx.x];
  int64_t b = 0;
  struct update_coefficients_f32 of_W = coefficients, of_b = coefficients;
  if (update_has_trust_ratio(RULE)) {
    b = l.biases[piece.layer - 1];
    of_W = update_coefficients_of_W_f32(of_W, l.layer_statistics[(piece.layer - 1) * LAYER_SLOTS + LAYER_TRUST]);
    of_b = update_coefficients_of_b_f32(of_b);
  }
  struct precise_sum change = {}, before = {};
  bool is_bad = false;
  for (int64_t at = piece.begin + 8 * threadIdx.x; at < piece.end; at += FLAT_TURN) {
    float w[8], after[8], g[8], v[8] = {}, s[8] = {};
    load_values<ELEMENT_F32, 8>(l.parameters + at, w);
    load_values<ELEMENT_F32, 8>(l.gradients + at, g);
    if (has_moment1) load_values<ELEMENT_F32, 8>(l.moment1 + at, v);
    if (has_moment2) load_values<ELEMENT_F32, 8>(l.moment2 + at, s);
    if (update_has_trust_ratio(RULE)) coefficients = at < b ? of_W : of_b;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      after[i] = formula_update_f32(RULE, &coefficients, w[i], g[i], &v[i], &s[i]);
      is_bad |= !is_finite(after[i]);
    }
    store_values<ELEMENT_F32, 8>(l.parameters + at, after);
    if (has_moment1) store_values<ELEMENT_F32, 8>(l.moment1 + at, v);
    if (has_moment2) store_values<ELEMENT_F32, 8>(l.moment2 + at, s);
    if (l.working) store_values<ELEMENT_BF16, 8>((uint16_t *)l.working + at, after);
    if (MEASURE) {
      const bool in_double = piece.terms < PRECISE_TERMS;
      add_squared_distances(change, after, w, in_double);
      add_squares(before, w, in_double);
    }
  }
  if (is_bad) *l.bad_parameters = 1;
  if (!MEASURE) return;

  const struct layer_sums<2> layers = layer_sums_at<2>(l.scratch.partials, l.n_pieces, l.layers);
  const double sums[2] = {block_sum(total(change)), block_sum(total(before))};
  if (threadIdx.x == 0) store_piece(layers, sums, l.pieces, l.n_pieces, l.layers);
  if (!is_last_block(l.scratch.counters)) return;
  add_pieces(layers, l.layers);
  for (int layer = (int)threadIdx.x; layer < l.layers; layer += BLOCK) {
    l.layer_statistics[layer * LAYER_SLOTS + LAYER_UPDATE] = sqrt(layers.layers[2 * layer]);
    l.layer_statistics[layer * LAYER_SLOTS + LAYER_PARAMETERS] = sqrt(layers.layers[2 * layer + 1]);
  }
}

size_t update_scratch(int n_pieces, int layers) { return layer_sums_bytes<2>(n_pieces, layers); }

cudaError_t launch_update(const struct update_launch *l, cudaStream_t stream) {
  const unsigned blocks = (unsigned)l->n_pieces;
  switch (l->rule) {
#define CASE(RULE)                                                                     \
  case RULE:                                                                           \
    return l->measure ? LAUNCH((update_kernel<RULE, true>), blocks, BLOCK, stream, *l) \
                      : LAUNCH((update_kernel<RULE, false>), blocks, BLOCK, stream, *l)
    CASE(UPDATE_GD);
    CASE(UPDATE_MOMENTUM);
    CASE(UPDATE_NESTEROV);
    CASE(UPDATE_RMSPROP);
    CASE(UPDATE_RMSPROP_MOMENTUM);
    CASE(UPDATE_ADAM);
    CASE(UPDATE_LARS);
    CASE(UPDATE_LAMB);
#undef CASE
  }
  return cudaErrorInvalidValue;
}

// ---- cast ----

static __global__ void __launch_bounds__(BLOCK) cast_kernel(const float *from, uint16_t *to, int64_t n) {
  GRID_BEGIN();
  const int64_t stride = (int64_t)gridDim.x * FLAT_TURN;
  for (int64_t at = (int64_t)blockIdx.x * FLAT_TURN + 8 * threadIdx.x; at < n; at += stride) {
    float values[8];
    load_values<ELEMENT_F32, 8>(from + at, values);
    store_values<ELEMENT_BF16, 8>(to + at, values);
  }
}

cudaError_t launch_cast(const float *from, void *to, int64_t n, cudaStream_t stream) {
  return LAUNCH(cast_kernel, block_count(n, FLAT_TURN, 4096), BLOCK, stream, from, (uint16_t *)to, n);
}
