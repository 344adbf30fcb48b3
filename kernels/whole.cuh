// What surrounds the layers in a small training step, by the blocks of one cluster: the gather, the norm, the update,
// with the bits of gather.cu and flat.cu. Blocks of BLOCK threads; every function is called by all threads of all
// blocks.
//
// Latency counts: a block has few rows and few pieces, whose loads are in flight together; what depends on nothing new
// is loaded before the barrier that the rest waits for.
#ifndef DESCENT_KERNELS_WHOLE_CUH
#define DESCENT_KERNELS_WHOLE_CUH

#include "flat.cuh"
#include "gather.cuh"

// ---- gather ----
// The last block finds the targets and weights of all rows, so that their sum needs no barrier of the cluster. The
// others gather the inputs, and targets of several columns, of neighbouring rows.

enum { WHOLE_ROWS = BLOCK };  // whose sources a block finds at once: one by each thread

struct whole_rows {
  int64_t X[WHOLE_ROWS], y[WHOLE_ROWS];  // where the source's rows begin; -1 beyond the step's
};
struct whole_weights {
  float w[MOST_CHUNK];
  double sums[BLOCK];  // of up to 32 neighbours of a chunk, and those 256, 512 and 768 rows behind them
};

union whole_memory {
  struct whole_rows rows;
  struct whole_weights weights;
};

// A thread's place among the columns, COUNT each, and rows.
struct whole_place {
  int row, down, group, across, stripes;
};
static __device__ inline struct whole_place whole_place_of(int groups) {
  struct whole_place p;
  p.stripes = (groups + BLOCK - 1) / BLOCK;
  p.across = (groups + p.stripes - 1) / p.stripes;
  p.down = BLOCK / p.across;
  p.row = (int)threadIdx.x / p.across;
  p.group = (int)threadIdx.x % p.across;
  return p;
}

template <enum element ELEMENT, int COUNT>
static __device__ inline void whole_copy(struct copy c, const struct whole_place &place,
                                         const struct gather_launch &l) {
  // Of the widest accesses 80 values of a thread at once: 18 rows of 784 columns, 1/15 of 256 rows.
  enum { ROWS = COUNT == (ELEMENT == ELEMENT_BF16 ? 8 : 4) ? 80 / COUNT : 8 };
  c.row = place.row, c.down = place.down;
  if (c.row >= c.down) return;
  for (int stripe = 0; stripe < place.stripes; stripe++) {
    c.column = ((int64_t)stripe * place.across + place.group) * COUNT;
    if (c.column >= c.n) continue;
    if (ELEMENT == ELEMENT_BF16 && c.form == INPUT_NORMALISED) {
      if constexpr (COUNT == 8) copy_words<uint4, ROWS>(c);
      if constexpr (COUNT == 4) copy_words<uint2, ROWS>(c);
      if constexpr (COUNT == 1) copy_words<uint16_t, ROWS>(c);
    } else if (c.form == INPUT_BYTES) {
      c.form = INPUT_BYTES;  // a constant in what follows
      copy_values<ELEMENT, COUNT, ROWS>(c, l.fill, l.shift, l.scale);
    } else {
      c.form = INPUT_FLOATS;
      copy_values<ELEMENT, COUNT, ROWS>(c, l.fill, l.shift, l.scale);
    }
  }
}

static __device__ inline void whole_copy_targets(struct copy c, const struct gather_launch &l) {
  enum { ROWS = 4 };
  const struct whole_place place = whole_place_of((int)c.n);
  c.row = place.row, c.down = place.down;
  if (c.row >= c.down) return;
  for (int stripe = 0; stripe < place.stripes; stripe++) {
    c.column = (int64_t)stripe * place.across + place.group;
    if (c.column < c.n) copy_values<ELEMENT_F32, 1, ROWS>(c, NULL, l.y_shift, l.y_scale);
  }
}

// The block's rows of X, and of y where that has several columns.
template <enum element ELEMENT>
static __device__ inline void whole_gather_cells(const struct gather_launch &l, const struct source_table &sources,
                                                 const struct device_step *step, int64_t first, int64_t end,
                                                 int columns, const struct whole_place &place,
                                                 struct whole_rows *found) {
  typedef typename Element<ELEMENT>::type type;
  const float *const y = l.y && l.n_y > 1 ? sources.y : NULL;
  for (; first < end; first += WHOLE_ROWS) {
    const int rows = end - first < WHOLE_ROWS ? (int)(end - first) : (int)WHOLE_ROWS;
    if ((int)threadIdx.x < rows) {
      const int64_t r = first + threadIdx.x, s = r < step->rows ? source_row(l, sources, step, r) : -1;
      found->X[threadIdx.x] = s < 0 ? -1 : s * sources.ld;
      found->y[threadIdx.x] = s < 0 ? -1 : s * l.n_y;
    }
    __syncthreads();
    struct copy c;
    c.rows = rows;
    if (sources.X) {
      c.from = sources.X, c.begin = found->X, c.form = sources.form, c.n = l.n_x, c.to = l.X;
      c.to.data = (type *)l.X.data + first * l.X.ld;
      if constexpr (ELEMENT == ELEMENT_BF16)
        if (columns == 8) whole_copy<ELEMENT, 8>(c, place, l);
      if (columns == 4) whole_copy<ELEMENT, 4>(c, place, l);
      if (columns == 1) whole_copy<ELEMENT, 1>(c, place, l);
    }
    if (y) {
      c.from = y, c.begin = found->y, c.form = INPUT_FLOATS, c.n = l.n_y;
      c.to.data = l.y + first * l.n_y, c.to.ld = l.n_y;
      whole_copy_targets(c, l);
    }
    __syncthreads();  // `found` is free
  }
}

// Targets of one column and weights of up to EACH BLOCK rows; the weights also to `weights`. The walks through the
// permutation, latencies of hundreds of cycles, are taken side by side.
template <int EACH>
static __device__ inline void whole_gather_targets(const struct gather_launch &l, const struct source_table &sources,
                                                   const struct device_step *step, const float *y, int64_t first,
                                                   int rows, float *weights) {
  uint64_t t[EACH];
  bool valid[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = (int)threadIdx.x + k * BLOCK;
    valid[k] = i < rows && first + i < step->rows;
    t[k] = valid[k] ? (uint64_t)(step->first_row + first + i) : 0;
  }
  if (l.shuffle && step->order.n) {
    bool walks = true;
#pragma unroll
    for (int k = 0; k < EACH; k++) t[k] = permutation_pass(&step->order, t[k]);
    while (walks) {
      walks = false;
#pragma unroll
      for (int k = 0; k < EACH; k++) {
        const uint64_t next = permutation_pass(&step->order, t[k]);
        if (t[k] >= step->order.n) t[k] = next;
        walks |= t[k] >= step->order.n;
      }
    }
  }
  if (sources.index) {
#pragma unroll
    for (int k = 0; k < EACH; k++)
      if (valid[k]) t[k] = (uint64_t)sources.index[t[k]];
  }
  float target[EACH] = {}, w[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    w[k] = valid[k] ? 1.0f : 0.0f;
    if (valid[k]) target[k] = y[(int64_t)t[k] * l.n_y];
    if (valid[k] && sources.w) w[k] = sources.w[t[k]];
  }
  const float shift = l.y_shift ? *l.y_shift : 0.0f, scale = l.y_scale ? *l.y_scale : 1.0f;
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = (int)threadIdx.x + k * BLOCK;
    if (i >= rows) break;
    if (valid[k] && l.class_weight) w[k] = formula_class_weighted(w[k], l.class_weight, l.classes, target[k]);
    if (l.n_y == 1) l.y[first + i] = valid[k] ? formula_normalise(target[k], shift, scale) : 0.0f;
    l.w[first + i] = w[k];
    weights[i] = w[k];
  }
}

// The same for all rows, and the sum of the weights: chunks of the gather's kernel, each as block_sum adds it, then the
// chunks as they are added there.
static __device__ inline void whole_gather_weights(const struct gather_launch &l, const struct source_table &sources,
                                                   const struct device_step *step, const float *y, int chunk,
                                                   struct whole_weights *shared) {
  enum { WARPS = BLOCK / WARP, AT_ONCE = 4, FAR = MOST_CHUNK / BLOCK };
  const int parts = chunk < BLOCK ? (chunk + WARP - 1) / WARP : (int)WARPS;  // of a chunk: its warps
  const int most = MOST_CHUNK / chunk < BLOCK ? MOST_CHUNK / chunk : (int)BLOCK;
  const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
  double sum = 0;  // of every BLOCK-th chunk
  unsigned number = 0;
  for (int64_t first = 0; first < l.rows; first += most * chunk, number += (unsigned)most) {
    const int rows = l.rows - first < most * chunk ? (int)(l.rows - first) : most * chunk;
    if (rows <= BLOCK)
      whole_gather_targets<1>(l, sources, step, y, first, rows, shared->w);
    else
      whole_gather_targets<MOST_CHUNK / BLOCK>(l, sources, step, y, first, rows, shared->w);
    __syncthreads();
    const int chunks = (rows + chunk - 1) / chunk;
    for (int begin = warp; begin < chunks * parts; begin += AT_ONCE * WARPS) {
      double part[AT_ONCE] = {};
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        const int at = begin + k * WARPS, of = at / parts, from = of * chunk + (at - of * parts) * WARP + lane;
        const int end = rows < (of + 1) * chunk ? rows : (of + 1) * chunk;
#pragma unroll
        for (int far = 0; far < FAR; far++)
          if (from + far * BLOCK < end) part[k] += (double)shared->w[from + far * BLOCK];
      }
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) part[k] = warp_sum(part[k]);
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++)
        if (lane == 0 && begin + k * WARPS < chunks * parts) shared->sums[begin + k * WARPS] = part[k];
    }
    __syncthreads();
    const int own = (int)((threadIdx.x - number) % BLOCK);
    if (own < chunks) {
      double total = shared->sums[own * parts];
      for (int i = 1; i < parts; i++) total += shared->sums[own * parts + i];
      sum += total;
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) *l.weight_sum = step->weight_sum != 0 ? step->weight_sum : sum;
}

// As launch_gather, of fewer than 2^31 rows and columns, except that whole_advance follows. What it writes, also
// state->current and the weights' sum, may be read behind the next CLUSTER_SYNC.
template <enum element ELEMENT>
static __device__ void whole_gather(const struct gather_launch &l, unsigned block, unsigned blocks) {
  SHARED_VARIABLE(step, struct device_step);
  SHARED_VARIABLE(shared, union whole_memory);
  // Side by side, since the latency of each read counts. After a bad step the queue does not advance.
  const struct source_table sources = *l.sources;
  const double bad_step = l.queue && l.bad_step ? *l.bad_step : 0;
  const struct device_step *const now = l.queue ? &l.queue[l.state->next] : &l.state->current;
  // Do the divisions while the loads are in flight.
  const int columns = gather_columns(l), each = (int)(((unsigned)l.rows + blocks - 2) / (blocks - 1));
  const struct whole_place place = whole_place_of((int)l.n_x / columns);
  const int chunk = block == blocks - 1 ? gather_tiling_of(l, columns).chunk : 0;
  if (bad_step != 0) return;
  load_step(now, &step);
  if (block < blocks - 1) {
    const int64_t first = (int64_t)block * each, end = first + each < l.rows ? first + each : l.rows;
    whole_gather_cells<ELEMENT>(l, sources, &step, first, end, columns, place, &shared.rows);
    return;
  }
  if (l.queue) store_current(l.state, &step);
  if (l.y && sources.y) whole_gather_weights(l, sources, &step, sources.y, chunk, &shared.weights);
}

// By one thread, behind a CLUSTER_SYNC after whole_gather, when no block reads the queue any more: on to its next step.
static __device__ inline void whole_advance(const struct gather_launch &l) {
  if (l.queue && !(l.bad_step && *l.bad_step != 0)) l.state->next++;
}

// ---- norm and update ----

enum { WHOLE_PIECES = 4 };  // of a block, in flight at once

// Where the thread's 8 floats of each piece begin; -1: it has none.
struct whole_places {
  int at[WHOLE_PIECES];
  bool in_double[WHOLE_PIECES];  // sums of few terms
};
struct whole_floats {
  float w[WHOLE_PIECES][8], g[WHOLE_PIECES][8], v[WHOLE_PIECES][8], s[WHOLE_PIECES][8];
};

// Of the pieces `first`, first + blocks, ...
static __device__ inline struct whole_places whole_places_of(const struct norm_launch &l, int first, unsigned blocks) {
  struct whole_places p;
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++) {
    const int number = first + k * (int)blocks;
    struct flat_piece piece = {};
    if (number < l.n_pieces) piece = l.pieces[number];
    const int at = (int)piece.begin + 8 * (int)threadIdx.x;
    p.at[k] = at < (int)piece.end ? at : -1;
    p.in_double[k] = piece.terms < PRECISE_TERMS;
  }
  return p;
}

static __device__ inline void whole_load(const float *from, const struct whole_places &p,
                                         float (&values)[WHOLE_PIECES][8]) {
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++)
    if (p.at[k] >= 0) load_values<ELEMENT_F32, 8>(from + p.at[k], values[k]);
}

// What the update reads beside the gradients.
static __device__ inline void whole_load_state(const struct update_launch &l, const struct whole_places &p,
                                               struct whole_floats &x) {
  const struct update_moments moments = update_moments_of(l.rule);
  whole_load(l.parameters, p, x.w);
  if (moments.moment1) whole_load(l.moment1, p, x.v);
  if (moments.moment2) whole_load(l.moment2, p, x.s);
}

// Writes the sums of squares of the pieces `first`, first + blocks, ... The caller must
// synchronise before reusing `sums`.
static __device__ inline void whole_add_squares(const struct norm_launch &l, const struct whole_places &p,
                                                const float (&g)[WHOLE_PIECES][8], int first, unsigned blocks,
                                                double (&sums)[WHOLE_PIECES][BLOCK / WARP]) {
  double squares[WHOLE_PIECES];
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++) {
    struct precise_sum sum = {};
    if (p.at[k] >= 0) add_squares(sum, g[k], p.in_double[k]);
    squares[k] = total(sum);
  }
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++) squares[k] = warp_sum(squares[k]);
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++)
    if (threadIdx.x % WARP == 0) sums[k][threadIdx.x / WARP] = squares[k];
  __syncthreads();
  const int k = (int)threadIdx.x, piece = first + k * (int)blocks;
  if (k >= WHOLE_PIECES || piece >= l.n_pieces) return;
  double all = sums[k][0];  // as block_sum
#pragma unroll
  for (int i = 1; i < BLOCK / WARP; i++) all += sums[k][i];
  ((double *)l.scratch.partials)[piece] = all;
}

// first[l]: the first piece of layer l + 1; first[layers]: behind the last one. Visible behind the next barrier.
static __device__ inline void whole_find_layers(const struct norm_launch &l, int *first) {
  for (int piece = (int)threadIdx.x; piece < l.n_pieces; piece += BLOCK) {
    const int before = piece == 0 ? 0 : l.pieces[piece - 1].layer, layer = l.pieces[piece].layer;
    for (int i = before; i < layer; i++) first[i] = piece;
    if (piece == l.n_pieces - 1)
      for (int i = layer; i <= l.layers; i++) first[i] = l.n_pieces;
  }
}

// The squares of all gradients from those of the pieces, in the order of the norm's kernel; in every thread. Those of a
// layer are in `layers` from then on.
static __device__ inline double whole_add_pieces(const struct norm_launch &l, const int *first, double *layers) {
  static_assert((int)NETWORK_LAYERS <= (int)WARP, "a lane for each layer");
  const int lane = (int)threadIdx.x % WARP;
  for (int layer = (int)threadIdx.x / WARP; layer < l.layers; layer += BLOCK / WARP) {
    double sum = 0;
#pragma unroll 4
    for (int piece = first[layer] + lane; piece < first[layer + 1]; piece += WARP)
      sum += ((const double *)l.scratch.partials)[piece];
    sum = warp_sum(sum);
    if (lane == 0) layers[layer] = sum;
  }
  __syncthreads();
  return warp_sum(lane < l.layers ? layers[lane] : 0.0);
}

// Bit k is set if piece k needs the slow path: one of its parameters is not finite.
template <enum update_rule RULE>
static __device__ inline unsigned whole_apply(const struct update_coefficients_f32 &coefficients,
                                              const struct whole_places &p, struct whole_floats &x) {
  struct update_coefficients_quick quick;
  static_assert(sizeof quick == sizeof coefficients, "the same members");
  memcpy(&quick, &coefficients, sizeof quick);
  unsigned not_finite = 0;
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++) {
    if (p.at[k] < 0) continue;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      x.w[k][i] = formula_update_quick(RULE, &quick, x.w[k][i], x.g[k][i], &x.v[k][i], &x.s[k][i]);
      if (!is_finite(x.w[k][i])) not_finite |= 1u << k;
    }
  }
  return not_finite;
}

// The update of 8 floats as they are in memory. A loop, since the rules are long; the arrays turn in it, so that they
// stay in registers.
static __device__ inline void whole_update_slowly(const struct update_launch &l,
                                                  const struct update_coefficients_f32 &coefficients, int at) {
  const struct update_moments moments = update_moments_of(l.rule);
  float w[8], g[8], v[8] = {}, s[8] = {};
  load_values<ELEMENT_F32, 8>(l.parameters + at, w);
  load_values<ELEMENT_F32, 8>(l.gradients + at, g);
  if (moments.moment1) load_values<ELEMENT_F32, 8>(l.moment1 + at, v);
  if (moments.moment2) load_values<ELEMENT_F32, 8>(l.moment2 + at, s);
  bool is_bad = false;
#pragma unroll 1
  for (int turn = 0; turn < 8; turn++) {
    float first_v = v[0], first_s = s[0];
    const float first_w = formula_update_f32(l.rule, &coefficients, w[0], g[0], &first_v, &first_s);
    is_bad |= !is_finite(first_w);
#pragma unroll
    for (int i = 0; i < 7; i++) w[i] = w[i + 1], g[i] = g[i + 1], v[i] = v[i + 1], s[i] = s[i + 1];
    w[7] = first_w, v[7] = first_v, s[7] = first_s;
  }
  if (is_bad) *l.bad_parameters = 1;
  store_values<ELEMENT_F32, 8>(l.parameters + at, w);
  if (moments.moment1) store_values<ELEMENT_F32, 8>(l.moment1 + at, v);
  if (moments.moment2) store_values<ELEMENT_F32, 8>(l.moment2 + at, s);
  if (l.working) store_values<ELEMENT_BF16, 8>((uint16_t *)l.working + at, w);
}

static __device__ inline void whole_update(const struct update_launch &l,
                                           const struct update_coefficients_f32 &coefficients,
                                           const struct whole_places &p, struct whole_floats &x) {
  unsigned slow = 0;
  switch (l.rule) {
    case UPDATE_GD: slow = whole_apply<UPDATE_GD>(coefficients, p, x); break;
    case UPDATE_MOMENTUM: slow = whole_apply<UPDATE_MOMENTUM>(coefficients, p, x); break;
    case UPDATE_NESTEROV: slow = whole_apply<UPDATE_NESTEROV>(coefficients, p, x); break;
    case UPDATE_RMSPROP: slow = whole_apply<UPDATE_RMSPROP>(coefficients, p, x); break;
    case UPDATE_RMSPROP_MOMENTUM: slow = whole_apply<UPDATE_RMSPROP_MOMENTUM>(coefficients, p, x); break;
    case UPDATE_ADAM: slow = whole_apply<UPDATE_ADAM>(coefficients, p, x); break;
    case UPDATE_LARS:
    case UPDATE_LAMB: return;  // fusion.c refuses them: their norms need another barrier
  }
  const struct update_moments moments = update_moments_of(l.rule);
#pragma unroll
  for (int k = 0; k < WHOLE_PIECES; k++) {
    if (p.at[k] < 0 || slow >> k & 1) continue;
    store_values<ELEMENT_F32, 8>(l.parameters + p.at[k], x.w[k]);
    if (moments.moment1) store_values<ELEMENT_F32, 8>(l.moment1 + p.at[k], x.v[k]);
    if (moments.moment2) store_values<ELEMENT_F32, 8>(l.moment2 + p.at[k], x.s[k]);
    if (l.working) store_values<ELEMENT_BF16, 8>((uint16_t *)l.working + p.at[k], x.w[k]);
  }
  static_assert(WHOLE_PIECES == 4, "the places below");
#pragma unroll 1
  for (int k = 0; slow >> k; k++)
    if (slow >> k & 1)
      whole_update_slowly(l, coefficients, k == 0 ? p.at[0] : k == 1 ? p.at[1] : k == 2 ? p.at[2] : p.at[3]);
}

// Does what launch_norm does, then whole_advance, then what launch_update does. Of up to NETWORK_LAYERS layers, and of
// up to FLAT_TURN * FLAT_PIECES floats, so that no piece has more than FLAT_TURN. Begins with a CLUSTER_SYNC, behind
// which it reads the gradients, SCALAR_LOSS and SCALAR_WEIGHT_SUM.
static __device__ void whole_norm_and_update(const struct whole_step &whole, unsigned block, unsigned blocks) {
  const struct norm_launch &norm = whole.norm;
  const struct update_launch &update = whole.update;
  SHARED_VARIABLE(sums, double[WHOLE_PIECES][BLOCK / WARP]);
  SHARED_VARIABLE(layers, double[NETWORK_LAYERS]);
  SHARED_VARIABLE(first_piece, int[NETWORK_LAYERS + 1]);

  // No block changes any of this before all have passed the second barrier.
  const int stride = WHOLE_PIECES * (int)blocks;
  const struct whole_places own = whole_places_of(norm, (int)block, blocks);
  struct whole_floats x = {};
  whole_load_state(update, own, x);
  struct update_coefficients_f32 coefficients = update.coefficients;
  coefficients.step = update.state->current.update;
  const bool bad_parameters = *norm.bad_parameters;
  const double bad_step = norm.scalars[SCALAR_BAD_STEP];
  whole_find_layers(norm, first_piece);
  CLUSTER_SYNC();

  // The first pieces last: their gradients stay in registers.
  const double loss = norm.scalars[SCALAR_LOSS];
  int first = (int)block;
  while (first + stride < norm.n_pieces) first += stride;
  for (; first > (int)block; first -= stride) {
    const struct whole_places places = whole_places_of(norm, first, blocks);
    whole_load(norm.gradients, places, x.g);
    whole_add_squares(norm, places, x.g, first, blocks, sums);
    __syncthreads();
  }
  whole_load(norm.gradients, own, x.g);
  whole_add_squares(norm, own, x.g, (int)block, blocks, sums);
  CLUSTER_SYNC();

  const double squares = whole_add_pieces(norm, first_piece, layers);
  const struct norm_result result = norm_result_of(norm, squares, loss, bad_parameters, bad_step);
  if (block == 0) {
    const int layer = (int)threadIdx.x;
    if (norm.layer_statistics && layer < norm.layers)
      norm.layer_statistics[layer * LAYER_SLOTS + LAYER_GRADIENT] = sqrt(layers[layer]);
    if (threadIdx.x == 0) {
      whole_advance(whole.gather);  // before there may be a bad step
      store_norm(norm, result);
    }
  }
  if (result.bad_step != 0) return;
  coefficients.clip_factor = (float)result.clip_factor;
  for (first = (int)block;; first += stride) {
    struct whole_places places = own;
    if (first > (int)block) {
      places = whole_places_of(norm, first, blocks);
      whole_load_state(update, places, x);
      whole_load(update.gradients, places, x.g);
    }
    whole_update(update, coefficients, places, x);
    if (first + stride >= norm.n_pieces) break;
  }
}

#endif
