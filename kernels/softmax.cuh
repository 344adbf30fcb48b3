// The exponentials of a softmax's rows. A row's threads keep it in registers: each logit is read once, and each
// exponential is computed once.
//
// LANES threads process a row: neighbours in a warp, or a block. A thread has chunks of 4 neighbouring columns, LANES *
// 4 columns apart, so that neighbours' accesses of 16 bytes are neighbours. All threads of a block take part in every
// function. The order of a sum follows from the number of columns.
#ifndef DESCENT_KERNELS_SOFTMAX_CUH
#define DESCENT_KERNELS_SOFTMAX_CUH

#include "common.cuh"

enum { CHUNK = 4 };  // columns

template <int LANES>
static __device__ inline int row_member(void) {
  return (int)threadIdx.x % LANES;
}
template <int LANES>
static __device__ inline int chunk_column(int chunk) {
  return (chunk * LANES + row_member<LANES>()) * CHUNK;
}

// NaN if one of the two is.
static __device__ inline float max_or_nan(float a, float b) {
#ifdef __CUDACC__
  float max;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
  return max;
#else
  return a > b || a != a ? a : b;
#endif
}

// Combines x over the threads of a row, in all of them. `parts` has a float for each warp of a block; between two calls
// with the same `parts` is one with others.
template <int LANES, typename Combine>
static __device__ inline float row_combined(float x, float *parts, Combine combine) {
#pragma unroll
  for (int distance = (LANES < WARP ? LANES : WARP) / 2; distance > 0; distance /= 2)
    x = combine(x, __shfl_xor_sync(0xffffffffu, x, distance));
  if constexpr (LANES > WARP) {
    static_assert(LANES == BLOCK, "a row has lanes of a warp, or a block");
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
    __syncthreads();
    x = parts[0];
#pragma unroll
    for (int i = 1; i < BLOCK / WARP; i++) x = combine(x, parts[i]);
  }
  return x;
}

// Of one row. The exponentials have the unit 2^-32 (formula_scaled_exp), and `inverse`, the inverse of their sum, 2^32:
// a product of the two is a probability. If the row has a NaN, or its maximum is infinite, sum and inverse are NaN.
struct softmax_row {
  float max, sum, inverse;
  float distances;  // the sum of max - z, if requested
};

struct softmax_parts {  // in shared memory
  float max[BLOCK / WARP], sum[BLOCK / WARP], distances[BLOCK / WARP];
};

template <int LANES>
static __device__ inline float row_max(float x, struct softmax_parts *parts) {
  return row_combined<LANES>(x, parts->max, max_or_nan);
}
static __device__ inline float add(float a, float b) { return a + b; }

// From the maximum and the sum of scaled exponentials, or the threads' parts of it.
static __device__ inline void set_sum(struct softmax_row &row, float scaled) {
  const float not_finite = row.max - row.max;  // 0, or NaN
  row.sum = scaled * (1 / FORMULA_EXP_SCALE) + not_finite;
  row.inverse = FORMULA_QUOTIENT(1.0f, row.sum) * (1 / FORMULA_EXP_SCALE);
}
template <int LANES>
static __device__ inline void set_sum(struct softmax_row &row, float sum, struct softmax_parts *parts) {
  set_sum(row, row_combined<LANES>(sum, parts->sum, add));
}

// COUNT columns, of which `left` are in the row; the others are read as -inf, and not written.
template <enum element ELEMENT, int COUNT>
static __device__ inline void load_columns(const typename Element<ELEMENT>::type *z, int left, bool wide,
                                           float (&values)[COUNT]) {
  if (wide && left >= COUNT) {
    load_values<ELEMENT, COUNT>(z, values);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] = i < left ? Element<ELEMENT>::load(z + i) : -INFINITY;
  }
}
template <enum element ELEMENT, int COUNT>
static __device__ inline void store_columns(typename Element<ELEMENT>::type *z, int left, bool wide,
                                            const float (&values)[COUNT]) {
  if (wide && left >= COUNT) {
    store_values<ELEMENT, COUNT>(z, values);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
      if (i < left) Element<ELEMENT>::store(z + i, values[i]);
  }
}

// ---- rows of at most CHUNKS * LANES * 4 columns; FULL: of exactly so many, in aligned rows ----

template <int LANES, bool FULL>
static __device__ inline bool has_chunk(int chunk, int n) {
  return FULL || chunk == 0 || chunk * LANES * CHUNK < n;
}

// z: the thread's first column.
template <int LANES, int CHUNKS, bool FULL, enum element ELEMENT>
static __device__ inline void load_row(const typename Element<ELEMENT>::type *z, int n, bool wide,
                                       float (&values)[CHUNKS][CHUNK]) {
#pragma unroll
  for (int j = 0; j < CHUNKS; j++)
    if (has_chunk<LANES, FULL>(j, n))
      load_columns<ELEMENT>(z + j * LANES * CHUNK, FULL ? CHUNK : n - chunk_column<LANES>(j), FULL || wide, values[j]);
}
template <int LANES, int CHUNKS, bool FULL, enum element ELEMENT>
static __device__ inline void store_row(typename Element<ELEMENT>::type *z, int n, bool wide,
                                        const float (&values)[CHUNKS][CHUNK]) {
#pragma unroll
  for (int j = 0; j < CHUNKS; j++)
    if (has_chunk<LANES, FULL>(j, n))
      store_columns<ELEMENT>(z + j * LANES * CHUNK, FULL ? CHUNK : n - chunk_column<LANES>(j), FULL || wide, values[j]);
}

// Replaces z by the exponentials of z - max. Those of columns beyond n are below 2^-149 and lost in the sum.
template <int LANES, int CHUNKS, bool FULL>
static __device__ inline struct softmax_row exponentials_of(float (&z)[CHUNKS][CHUNK], int n, bool distances) {
  SHARED_VARIABLE(parts, struct softmax_parts);
  struct softmax_row row = {-INFINITY, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int j = 0; j < CHUNKS; j++)
    if (has_chunk<LANES, FULL>(j, n))
#pragma unroll
      for (int i = 0; i < CHUNK; i++) row.max = i + j == 0 ? z[j][i] : max_or_nan(row.max, z[j][i]);
  row.max = row_max<LANES>(row.max, &parts);
  if (distances) {
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
      if (has_chunk<LANES, FULL>(j, n))
#pragma unroll
        for (int i = 0; i < CHUNK; i++)
          if (FULL || chunk_column<LANES>(j) + i < n) row.distances += row.max - z[j][i];
    row.distances = row_combined<LANES>(row.distances, parts.distances, add);
  }
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < CHUNKS; j++)
    if (has_chunk<LANES, FULL>(j, n))
#pragma unroll
      for (int i = 0; i < CHUNK; i++) {
        z[j][i] = formula_scaled_exp(z[j][i] - row.max);
        sum += z[j][i];
      }
  set_sum<LANES>(row, sum, &parts);
  return row;
}

// ---- rows of any length, which are read again for each use ----

// MAX_FIRST: the maximum is found before the exponentials. Otherwise a thread's sum is of exponentials relative to its
// maximum so far, and is scaled when that grows: by at most one rounding more for each of its chunks, in a sum of at
// least 4 LANES times as many terms, if all threads have several.
template <int LANES, enum element ELEMENT, bool MAX_FIRST = false>
static __device__ inline struct softmax_row exponentials_of_long(const typename Element<ELEMENT>::type *z, int n,
                                                                 bool wide, bool distances) {
  SHARED_VARIABLE(parts, struct softmax_parts);
  struct softmax_row row = {-INFINITY, 0.0f, 0.0f, 0.0f};
  const int left = n - chunk_column<LANES>(0);
  float values[CHUNK], max = -INFINITY, sum = 0.0f;
  if constexpr (MAX_FIRST) {
#pragma unroll 1
    for (int k = 0; k < left; k += LANES * CHUNK) {
      load_columns<ELEMENT>(z + k, left - k, wide, values);
#pragma unroll
      for (int i = 0; i < CHUNK; i++) max = max_or_nan(max, values[i]);
    }
  } else {
    for (int k = 0; k < left; k += LANES * CHUNK) {
      load_columns<ELEMENT>(z + k, left - k, wide, values);
      const float before = max;
#pragma unroll
      for (int i = 0; i < CHUNK; i++) max = max_or_nan(max, values[i]);
      if (max != before) sum *= formula_scaled_exp(before - max) * (1 / FORMULA_EXP_SCALE);
#pragma unroll
      for (int i = 0; i < CHUNK; i++) sum += formula_scaled_exp(values[i] - max);
    }
  }
  row.max = row_max<LANES>(max, &parts);
  if (distances) {
#pragma unroll 1
    for (int k = 0; k < left; k += LANES * CHUNK) {
      load_columns<ELEMENT>(z + k, left - k, wide, values);
#pragma unroll
      for (int i = 0; i < CHUNK; i++)
        if (k + i < left) row.distances += row.max - values[i];
    }
    row.distances = row_combined<LANES>(row.distances, parts.distances, add);
  }
#pragma unroll 1
  for (int k = 0; MAX_FIRST && k < left; k += LANES * CHUNK) {
    load_columns<ELEMENT>(z + k, left - k, wide, values);
#pragma unroll
    for (int i = 0; i < CHUNK; i++) sum += formula_scaled_exp(values[i] - row.max);
  }
  if (!MAX_FIRST) sum *= formula_scaled_exp(max - row.max) * (1 / FORMULA_EXP_SCALE);
  set_sum<LANES>(row, sum, &parts);
  return row;
}

#endif
