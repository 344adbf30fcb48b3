// A tile of dW, and of db, by one block: it walks down the rows of dZ and A, a few at a time, through a ring of stages in
// shared memory, and keeps the tile in registers.
#ifndef DESCENT_KERNELS_WEIGHTS_TILE_CUH
#define DESCENT_KERNELS_WEIGHTS_TILE_CUH

#include "weights_warp.cuh"

// RESIDENT: the blocks that a multiprocessor should hold, which limits the registers. 16 bytes of padding behind a row
// of bf16 put 8 rows of a transposing load into different banks; 32 bytes behind a row of F32 do so for the loads of
// Tf32Warp.
template <class WARP_, int WARPS_OUT_, int WARPS_IN_, int STAGES_, int RESIDENT_>
struct Tile {
  typedef WARP_ Warp;
  typedef typename Element<Warp::ELEMENT>::type type;
  enum {
    WARPS_IN = WARPS_IN_,
    OUT = WARPS_OUT_ * Warp::OUT,
    IN = WARPS_IN_ * Warp::IN,
    THREADS = WARPS_OUT_ * WARPS_IN_ * WARP,
    RESIDENT = RESIDENT_,
    STAGES = STAGES_,
    ROWS = 64 / sizeof(type), /* of a stage */
    LD_OUT = OUT + 8,
    LD_IN = IN + 8,
    STAGE = ROWS * (LD_OUT + LD_IN), /* elements */
    BYTES = STAGES * STAGE * sizeof(type)
  };
  static_assert(OUT % 32 == 0 && IN % 32 == 0, "what the padding of the rows relies on");
  static_assert(BYTES <= 99 << 10, "every GPU since sm_80 gives so much to a block");
};

// A thread's part in copying ROWS rows of COLUMNS columns of a matrix into a stage: one unit of 16 bytes in every
// DOWN-th row.
template <enum element ELEMENT, int COLUMNS, int ROWS, int THREADS>
struct Copies {
  typedef typename Element<ELEMENT>::type type;
  enum { WIDE = Element<ELEMENT>::WIDE, UNITS = COLUMNS / WIDE, DOWN = THREADS / UNITS, LD = COLUMNS + 8 };
  enum { TURNS = (ROWS + DOWN - 1) / DOWN };
  static_assert(THREADS % UNITS == 0, "a thread stays in its columns");
  const type *from; /* in the thread's first row of the next stage */
  int64_t ld;
  int row, column; /* in the stage */
  int bytes;       /* of the unit that are left of column n */

  __device__ Copies(const struct device_matrix &m, int64_t first_row, int first_column, int64_t n) {
    row = (int)threadIdx.x / UNITS, column = (int)threadIdx.x % UNITS * WIDE;
    ld = m.ld;
    from = (const type *)m.data + (first_row + row) * ld + first_column + column;
    const int left = (int)n - first_column - column;
    bytes = (left <= 0 ? 0 : left < WIDE ? left : WIDE) * (int)sizeof(type);
  }

  // One more stage; rows from `left` on are zeros.
  __device__ void next(type *stage, int left) {
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
      const int r = row + turn * DOWN;
      if (ROWS % DOWN == 0 || r < ROWS)
        copy_async(stage + r * LD + column, from + turn * DOWN * ld, r < left ? bytes : 0);
    }
    from += ROWS * ld;
  }

  // Adds what the thread has copied to its columns' sums.
  __device__ void sum(const type *stage, float (&sums)[WIDE]) const {
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
      const int r = row + turn * DOWN;
      if (ROWS % DOWN != 0 && r >= ROWS) continue;
      float values[WIDE];
      load_values<ELEMENT, WIDE>(stage + r * LD + column, values);
#pragma unroll
      for (int i = 0; i < WIDE; i++) sums[i] += values[i];
    }
  }
};

// Which part of a layer's gradients: `rows` rows from first_row on, and the tile that begins at (first_out, first_in).
struct weights_part {
  struct device_matrix dZ, A_in;
  int64_t first_row;
  int rows, n_out, n_in;
  int first_out, first_in;
};

// Where they go. `columns` of dW are written, of which those that the tile has are sums. IN_FOURS: dW and ld are
// multiples of 16 bytes.
struct weights_place {
  float *dW;
  int64_t ld;
  int columns;
  bool in_fours;
  float *db;  // (n_out), the column sums of dZ; NULL: not asked for
};

// By all threads of the block; `shared` has TILE::BYTES. A barrier has to come before the next use of `shared`.
template <class TILE>
static __device__ inline void sum_weights(const struct weights_part &part, const struct weights_place &to,
                                          unsigned char *shared) {
  typedef typename TILE::Warp Warp;
  typedef typename TILE::type type;
  typedef Copies<Warp::ELEMENT, TILE::OUT, TILE::ROWS, TILE::THREADS> Left;
  typedef Copies<Warp::ELEMENT, TILE::IN, TILE::ROWS, TILE::THREADS> Right;
  type *const stages = (type *)shared;
  const int first_out = part.first_out, first_in = part.first_in;
  int left = part.rows; /* rows to be copied */
  int steps = (left + TILE::ROWS - 1) / TILE::ROWS;
  const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
  const int warp_out = warp / TILE::WARPS_IN * Warp::OUT, warp_in = warp % TILE::WARPS_IN * Warp::IN;
  const bool sums_columns = to.db && first_in == 0;

  Left dZ(part.dZ, part.first_row, first_out, part.n_out);
  Right A(part.A_in, part.first_row, first_in, part.n_in);
  const auto fetch = [&](int stage) {
    if (left > 0) {
      dZ.next(stages + stage * TILE::STAGE, left);
      A.next(stages + stage * TILE::STAGE + TILE::ROWS * TILE::LD_OUT, left);
      left -= TILE::ROWS;
    }
    copy_commit();
  };
#pragma unroll
  for (int stage = 0; stage < TILE::STAGES - 1; stage++) fetch(stage);

  Warp product;
  float sums[Left::WIDE] = {};
  int stage = 0;
  for (; steps > 0; steps--) {
    copy_wait<TILE::STAGES - 2>();
    __syncthreads();  // this stage has arrived; no thread still reads the one before it, the next to be overwritten
    fetch(stage == 0 ? TILE::STAGES - 1 : stage - 1);
    const type *const dZ_stage = stages + stage * TILE::STAGE, *const A_stage = dZ_stage + TILE::ROWS * TILE::LD_OUT;
#pragma unroll
    for (int row = 0; row < TILE::ROWS; row += Warp::ROWS)
      product.template add<TILE::LD_OUT, TILE::LD_IN>(dZ_stage + row * TILE::LD_OUT + warp_out,
                                                      A_stage + row * TILE::LD_IN + warp_in, lane);
    if (sums_columns) dZ.sum(dZ_stage, sums);
    stage = stage == TILE::STAGES - 1 ? 0 : stage + 1;
  }

  product.each(lane, [&](int out, int in, const auto &values) {
    enum { COUNT = sizeof values / sizeof *values };
    out += first_out + warp_out, in += first_in + warp_in;
    if (out >= part.n_out || in >= to.columns) return;
    float *const place = to.dW + out * to.ld + in;
    if (to.in_fours && in + COUNT <= to.columns) {
      store_values<ELEMENT_F32, COUNT>(place, values);
    } else {
#pragma unroll
      for (int i = 0; i < COUNT; i++)
        if (in + i < to.columns) place[i] = values[i];
    }
  });
  if (!sums_columns) return;

  float *const table = (float *)shared; /* (DOWN, OUT) */
  copy_wait<0>();
  __syncthreads();
  store_values<ELEMENT_F32, Left::WIDE>(table + dZ.row * TILE::OUT + dZ.column, sums);
  __syncthreads();
  for (int j = (int)threadIdx.x; j < TILE::OUT && first_out + j < part.n_out; j += TILE::THREADS) {
    float sum = 0;
#pragma unroll
    for (int row = 0; row < Left::DOWN; row++) sum += table[row * TILE::OUT + j];
    to.db[first_out + j] = sum;
  }
}

#endif
