// dW of one warp: d (OUT, IN) += dZ^T A of ROWS rows. Shared memory holds both operands row by row, as device memory
// does; the product sums over rows. `each` calls store(out, in, values of neighbouring columns) for all results.
#ifndef DESCENT_KERNELS_WEIGHTS_WARP_CUH
#define DESCENT_KERNELS_WEIGHTS_WARP_CUH

#include "mma.cuh"

// bf16 on tensor cores: a transposing load turns the rows' 16-bit values into fragments.
template <int OUT16, int IN8>
struct Bf16Warp {
  static const enum element ELEMENT = ELEMENT_BF16;
  enum { OUT = 16 * OUT16, IN = 8 * IN8, ROWS = 16 };
  float d[OUT16][IN8][4] = {};

  template <int LD_OUT, int LD_IN>
  __device__ void add(const uint16_t *dZ, const uint16_t *A, int lane) {
    add<LD_OUT, LD_IN>(dZ, A, lane, [](const uint32_t(&)[OUT16][4]) {});
  }
  // use(a): also with the fragments of dZ^T, 16 rows of it each.
  template <int LD_OUT, int LD_IN, typename Use>
  __device__ void add(const uint16_t *dZ, const uint16_t *A, int lane, Use use) {
    uint32_t a[OUT16][4], b[IN8 / 2][4];
    const int row = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < OUT16; i++) load_matrices_transposed(a[i], dZ + (row + third) * LD_OUT + second + 16 * i);
#pragma unroll
    for (int j = 0; j < IN8 / 2; j++) load_matrices_transposed(b[j], A + (row + second) * LD_IN + third + 16 * j);
#pragma unroll
    for (int i = 0; i < OUT16; i++)
#pragma unroll
      for (int j = 0; j < IN8; j++) {
        const uint32_t column[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        mma_bf16(d[i][j], a[i], column);
      }
    use(a);
  }

  template <typename Store>
  __device__ void each(int lane, Store store) const {
    const int group = lane / 4, member = lane % 4;
#pragma unroll
    for (int i = 0; i < OUT16; i++)
#pragma unroll
      for (int j = 0; j < IN8; j++) {
        const float upper[2] = {d[i][j][0], d[i][j][1]}, lower[2] = {d[i][j][2], d[i][j][3]};
        store(16 * i + group, 8 * j + 2 * member, upper);
        store(16 * i + group + 8, 8 * j + 2 * member, lower);
      }
  }
};

// tf32 on tensor cores. 32-bit values have no transposing load. But which row of dW a row of a fragment stands for is
// free to choose: rows group and group + 8 of fragment i are 16 i + 2 group and the next, so that one load of 8 bytes
// gives two neighbouring registers of the fragment.
template <int OUT16, int IN8>
struct Tf32Warp {
  static const enum element ELEMENT = ELEMENT_F32;
  enum { OUT = 16 * OUT16, IN = 8 * IN8, ROWS = 8 };
  float d[OUT16][IN8][4] = {};

  template <int LD_OUT, int LD_IN>
  __device__ void add(const float *dZ, const float *A, int lane) {
    uint32_t a[OUT16][4], b[IN8][2];
    const int group = lane / 4, member = lane % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = member + 4 * half;
#pragma unroll
      for (int i = 0; i < OUT16; i++) {
        const uint2 pair = *(const uint2 *)(dZ + row * LD_OUT + 16 * i + 2 * group);
        a[i][2 * half] = pair.x, a[i][2 * half + 1] = pair.y;
      }
#pragma unroll
      for (int j = 0; j < IN8; j++) b[j][half] = float_bits(A[row * LD_IN + 8 * j + group]);
    }
#pragma unroll
    for (int i = 0; i < OUT16; i++)
#pragma unroll
      for (int j = 0; j < IN8; j++) mma_tf32(d[i][j], a[i], b[j]);
  }

  template <typename Store>
  __device__ void each(int lane, Store store) const {
    const int group = lane / 4, member = lane % 4;
#pragma unroll
    for (int i = 0; i < OUT16; i++)
#pragma unroll
      for (int j = 0; j < IN8; j++) {
        const float upper[2] = {d[i][j][0], d[i][j][1]}, lower[2] = {d[i][j][2], d[i][j][3]};
        store(16 * i + 2 * group, 8 * j + 2 * member, upper);
        store(16 * i + 2 * group + 1, 8 * j + 2 * member, lower);
      }
  }
};

// float32 by multiply-adds: a thread has 4 OUT4 rows of dW, in groups of 4 that are 16 apart, and 4 IN4 columns, in
// groups that are 32 apart.
template <int OUT4, int IN4>
struct Fp32Warp {
  static const enum element ELEMENT = ELEMENT_F32;
  enum { OUT = 16 * OUT4, IN = 32 * IN4, ROWS = 1 };
  float d[4 * OUT4][4 * IN4] = {};

  template <int LD_OUT, int LD_IN>
  __device__ void add(const float *dZ, const float *A, int lane) {
    float a[OUT4][4], b[IN4][4];
#pragma unroll
    for (int i = 0; i < OUT4; i++) load_values<ELEMENT_F32, 4>(dZ + 16 * i + lane / 8 * 4, a[i]);
#pragma unroll
    for (int j = 0; j < IN4; j++) load_values<ELEMENT_F32, 4>(A + 32 * j + lane % 8 * 4, b[j]);
#pragma unroll
    for (int i = 0; i < 4 * OUT4; i++)
#pragma unroll
      for (int j = 0; j < 4 * IN4; j++) d[i][j] = fmaf(a[i / 4][i % 4], b[j / 4][j % 4], d[i][j]);
  }

  template <typename Store>
  __device__ void each(int lane, Store store) const {
#pragma unroll
    for (int i = 0; i < 4 * OUT4; i++)
#pragma unroll
      for (int j = 0; j < IN4; j++) {
        const float four[4] = {d[i][4 * j], d[i][4 * j + 1], d[i][4 * j + 2], d[i][4 * j + 3]};
        store(i / 4 * 16 + lane / 8 * 4 + i % 4, 32 * j + lane % 8 * 4, four);
      }
  }
};

#endif
