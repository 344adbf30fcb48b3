// dW = dZ^T A_in and db, the column sums of dZ, in one pass over the rows: for layers of at most 320 units, whose dW is a
// small matrix and a sum over all of a long batch.
//
// The rows are cut into slices, dW into tiles. A block computes one tile for one slice. The slices' partial sums go to
// scratch, and a second kernel adds them in order: one block alone would read them at the speed of one
// multiprocessor. The slices follow from the shape and the variant.
#include "weights_tile.cuh"

namespace {

// How the rows are cut; a slice's partial sums are dW with rows of whole units of 4, then db.
struct slicing {
  int count, rows; /* of each but the last; whole stages */
  int ld, floats;  /* of a row of partial sums; of all of a slice's */
};

template <class TILE>
__global__ void __launch_bounds__(TILE::THREADS, TILE::RESIDENT)
    weights_of_slice(struct weights_launch l, struct slicing slicing) {
  GRID_BEGIN();
  SHARED_MEMORY(shared);
  const int tiles_in = ((int)l.n_in + TILE::IN - 1) / TILE::IN;
  const int first_out = (int)blockIdx.x / tiles_in * TILE::OUT, first_in = (int)blockIdx.x % tiles_in * TILE::IN;
  const int64_t slice = blockIdx.y, first_row = slice * slicing.rows;
  const int rows = (int)(l.rows - first_row < slicing.rows ? l.rows - first_row : slicing.rows);
  const bool partial = slicing.count > 1;
  float *const partials = (float *)l.scratch.partials + slice * slicing.floats;
  const struct weights_part part = {l.dZ, l.A_in, first_row, rows, (int)l.n_out, (int)l.n_in, first_out, first_in};
  // Member by member: of two structs to choose from, the compiler would keep a stack frame.
  const struct weights_place to = {partial ? partials : l.gradient, partial ? slicing.ld : l.ld,
                                   partial ? slicing.ld : (int)l.n_in, partial,
                                   l.bias_gradient && partial ? partials + l.n_out * slicing.ld : l.bias_gradient};
  sum_weights<TILE>(part, to, shared);
}

// ---- the sum of the slices ----

// A block adds four neighbours of CELLS places; SHARES threads of each add neighbouring slices.
enum { CELLS = 16, SHARES = BLOCK / CELLS };

__global__ void __launch_bounds__(BLOCK) weights_of_slices(struct weights_launch l, struct slicing slicing) {
  GRID_BEGIN();
  SHARED_VARIABLE(sums, float[SHARES][CELLS][4]);
  const int cell = (int)blockIdx.x * CELLS + (int)threadIdx.x % CELLS;
  const int each = (slicing.count + SHARES - 1) / SHARES, first = (int)threadIdx.x / CELLS * each;
  const int end = first + each < slicing.count ? first + each : slicing.count;
  const bool idle = 4 * cell >= slicing.floats;
  float sum[4] = {};
  if (!idle) {
    const float *from = (const float *)l.scratch.partials + (int64_t)first * slicing.floats + 4 * cell;
#pragma unroll 8
    for (int slice = first; slice < end; slice++, from += slicing.floats) {
      float values[4];
      load_values<ELEMENT_F32, 4>(from, values);
#pragma unroll
      for (int i = 0; i < 4; i++) sum[i] += values[i];
    }
  }
  store_values<ELEMENT_F32, 4>(sums[threadIdx.x / CELLS][threadIdx.x % CELLS], sum);
  __syncthreads();
  if (threadIdx.x >= CELLS || idle) return;
#pragma unroll
  for (int share = 1; share < SHARES; share++) {
    float more[4];
    load_values<ELEMENT_F32, 4>(sums[share][threadIdx.x], more);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] += more[i];
  }
  const int across = slicing.ld / 4, out = cell / across;
  const bool is_bias = out >= l.n_out;
  const int column = (is_bias ? cell - (int)l.n_out * across : cell % across) * 4,
            n = (int)(is_bias ? l.n_out : l.n_in);
  float *const to = is_bias ? l.bias_gradient : l.gradient + out * l.ld;
  if (!to) return;
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (column + i < n) to[column + i] = sum[i];
}

// ---- variants ----

template <class TILE>
cudaError_t launch_tile(const struct weights_launch &l, struct slicing slicing, cudaStream_t stream) {
  const int64_t tiles = (l.n_out + TILE::OUT - 1) / TILE::OUT * ((l.n_in + TILE::IN - 1) / TILE::IN);
  return LAUNCH_SHARED(weights_of_slice<TILE>, dim3((unsigned)tiles, (unsigned)slicing.count), TILE::THREADS,
                       TILE::BYTES, stream, l, slicing);
}

struct variant {
  int out, in; /* of the tile */
  int blocks;  /* about so many, which gives the number of slices */
  cudaError_t (*launch)(const struct weights_launch &l, struct slicing slicing, cudaStream_t stream);
};

template <class TILE>
constexpr struct variant variant_of(int blocks) {
  return {TILE::OUT, TILE::IN, blocks, launch_tile<TILE>};
}

// Square tiles, from all of a narrow layer to a quarter of the widest; half of 256 x 256; and tiles for layers that are
// narrow on one side. A variant is a tile and a number of blocks: with few of them, each the only one of its
// multiprocessor, there are few partial sums; more of them fill the GPU evenly.
template <template <int, int> class WARP_>
struct TensorTiles {
  typedef Tile<WARP_<2, 4>, 2, 2, 4, 4> Small;  /* 64 x 64 */
  typedef Tile<WARP_<4, 4>, 2, 4, 4, 2> Medium; /* 128 x 128 */
  typedef Tile<WARP_<5, 4>, 2, 5, 4, 1> Large;  /* 160 x 160 */
  typedef Tile<WARP_<4, 8>, 2, 4, 3, 1> Half;   /* 128 x 256 */
  typedef Tile<WARP_<4, 4>, 5, 1, 3, 2> Tall;   /* 320 x 32 */
  typedef Tile<WARP_<2, 8>, 1, 5, 3, 2> Broad;  /* 32 x 320 */
};
typedef TensorTiles<Bf16Warp> Bf16;
typedef TensorTiles<Tf32Warp> Tf32;
typedef Tile<Fp32Warp<2, 1>, 2, 2, 4, 4> SmallFp32;  /* 64 x 64 */
typedef Tile<Fp32Warp<2, 2>, 4, 2, 4, 1> MediumFp32; /* 128 x 128 */

enum { MOST_VARIANTS = 12, WIDEST = 320, MOST_ROWS = 1 << 30 };
constexpr struct variant bf16_variants[MOST_VARIANTS] = {
    variant_of<Bf16::Small>(256),  variant_of<Bf16::Small>(512), variant_of<Bf16::Medium>(128),
    variant_of<Bf16::Medium>(256), variant_of<Bf16::Half>(128),  variant_of<Bf16::Half>(256),
    variant_of<Bf16::Large>(128),  variant_of<Bf16::Large>(256), variant_of<Bf16::Tall>(128),
    variant_of<Bf16::Tall>(256),   variant_of<Bf16::Broad>(128), variant_of<Bf16::Broad>(256),
};
constexpr struct variant tf32_variants[MOST_VARIANTS] = {
    variant_of<Tf32::Small>(256),  variant_of<Tf32::Small>(512), variant_of<Tf32::Medium>(128),
    variant_of<Tf32::Medium>(256), variant_of<Tf32::Half>(128),  variant_of<Tf32::Half>(256),
    variant_of<Tf32::Large>(128),  variant_of<Tf32::Large>(256), variant_of<Tf32::Tall>(128),
    variant_of<Tf32::Tall>(256),   variant_of<Tf32::Broad>(128), variant_of<Tf32::Broad>(256),
};
constexpr struct variant fp32_variants[MOST_VARIANTS] = {
    variant_of<SmallFp32>(256),
    variant_of<SmallFp32>(512),
    variant_of<MediumFp32>(128),
    variant_of<MediumFp32>(256),
};

int64_t whole_units(int64_t n) { return (n + 3) / 4 * 4; }
int64_t slice_floats(int64_t n_in, int64_t n_out) { return n_out * whole_units(n_in) + whole_units(n_out); }

int64_t tiles_of(const struct variant &v, int64_t n_in, int64_t n_out) {
  return (n_out + v.out - 1) / v.out * ((n_in + v.in - 1) / v.in);
}

// No more slices than so many. Never fewer for more rows.
int64_t most_slices(const struct variant &v, int64_t rows, int64_t n_in, int64_t n_out) {
  enum { LEAST_ROWS = 256 };
  const int64_t wanted = v.blocks / tiles_of(v, n_in, n_out), useful = rows / LEAST_ROWS;
  const int64_t count = wanted < useful ? wanted : useful;
  return count > 1 ? count : 1;
}

struct slicing slicing_of(const struct variant &v, int64_t rows, int64_t n_in, int64_t n_out) {
  enum { STAGE = 32 }; /* rows */
  const int64_t most = most_slices(v, rows, n_in, n_out);
  struct slicing s;
  s.rows = (int)(((rows + most - 1) / most + STAGE - 1) / STAGE * STAGE);
  s.count = (int)((rows + s.rows - 1) / s.rows);
  s.ld = (int)whole_units(n_in);
  s.floats = (int)slice_floats(n_in, n_out);
  return s;
}

// The variants of an arithmetic whose tiles cover at most twice the area of those that cover the least.
struct offer {
  const struct variant *variants[MOST_VARIANTS];
  int count;
};
struct offer offer_of(const struct variant (&all)[MOST_VARIANTS], int64_t n_in, int64_t n_out) {
  struct offer offer = {};
  int64_t areas[MOST_VARIANTS], least = INT64_MAX;
  for (int i = 0; i < MOST_VARIANTS && all[i].launch; i++) {
    areas[i] = tiles_of(all[i], n_in, n_out) * all[i].out * all[i].in;
    if (areas[i] < least) least = areas[i];
  }
  for (int i = 0; i < MOST_VARIANTS && all[i].launch; i++)
    if (areas[i] <= 2 * least) offer.variants[offer.count++] = &all[i];
  return offer;
}

struct offer offer_for(const struct weights_launch *l) {
  if (l->dZ.element == ELEMENT_BF16) return offer_of(bf16_variants, l->n_in, l->n_out);
  return offer_of(l->tf32 ? tf32_variants : fp32_variants, l->n_in, l->n_out);
}

bool fits(const struct device_matrix &m, int64_t n) {
  const int unit = m.element == ELEMENT_F32 ? 4 : 8;
  return n >= 1 && n <= WIDEST && m.ld >= n && m.ld % unit == 0 && (uintptr_t)m.data % 16 == 0;
}

}  // namespace

int weights_variants(const struct weights_launch *launch) {
  const struct weights_launch &l = *launch;
  if (l.rows < 1 || l.rows > MOST_ROWS || l.dZ.element != l.A_in.element || !fits(l.dZ, l.n_out) ||
      !fits(l.A_in, l.n_in))
    return 0;
  return offer_for(launch).count;
}

size_t weights_scratch(int64_t rows, int64_t n_in, int64_t n_out) {
  int64_t most = 1;
  for (const auto &variants : {&bf16_variants, &tf32_variants, &fp32_variants}) {
    const struct offer offer = offer_of(*variants, n_in, n_out);
    for (int i = 0; i < offer.count; i++) {
      const int64_t slices = most_slices(*offer.variants[i], rows, n_in, n_out);
      if (slices > most) most = slices;
    }
  }
  return most == 1 ? 0 : (size_t)(most * slice_floats(n_in, n_out)) * sizeof(float);
}

cudaError_t launch_weights(const struct weights_launch *launch, cudaStream_t stream) {
  if (launch->variant < 0 || launch->variant >= weights_variants(launch)) return cudaErrorInvalidValue;
  const struct variant &v = *offer_for(launch).variants[launch->variant];
  const struct slicing s = slicing_of(v, launch->rows, launch->n_in, launch->n_out);
  const cudaError_t error = v.launch(*launch, s, stream);
  if (error != cudaSuccess || s.count == 1) return error;
  return LAUNCH(weights_of_slices, block_count(s.floats / 4, CELLS, INT32_MAX), BLOCK, stream, *launch, s);
}
