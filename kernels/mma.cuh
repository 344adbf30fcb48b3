// Tensor core products of one warp, and asynchronous copies to shared memory: sm_80 and later (PTX ISA, "Warp Level
// Matrix Multiply-Accumulate Instructions", "Data Movement and Conversion Instructions").
//
// In the maps below, lane = 4 group + member: the row (or column) of a fragment is counted by group, 0 to 7, and pairs
// of neighbours by member, 0 to 3. Products and loads of matrices take all lanes together; they are volatile, so that
// none moves into a branch of some lanes. The tests' emulation has the same functions with the same maps; there the
// bytes of an asynchronous copy arrive late.
#ifndef DESCENT_KERNELS_MMA_CUH
#define DESCENT_KERNELS_MMA_CUH

#include "common.cuh"

enum arithmetic { MULTIPLY_ADD, TENSOR_TF32, TENSOR_BF16 };  // how products are computed

#ifdef __CUDACC__

// d (16, 8) += a (16, 16) b (16, 8); bf16 factors, two in a register, the lower column (of b: row) in its lower half.
//   a[0]: row group,     columns 2 member, 2 member + 1     a[1]: row group + 8, the same columns
//   a[2], a[3]: the same rows, columns 8 further
//   b[0]: rows 2 member, 2 member + 1, column group         b[1]: rows 8 further
//   d[0], d[1]: row group, columns 2 member, 2 member + 1   d[2], d[3]: row group + 8
static __device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d (16, 8) += a (16, 8) b (8, 8); float32 factors, of which the tensor cores read the upper 19 bits (tf32).
//   a[0]: row group, column member   a[1]: row group + 8   a[2], a[3]: the same rows, column member + 4
//   b[0]: row member, column group   b[1]: row member + 4
//   d: as above
static __device__ inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices of 8 rows of 16 bytes (8 x 8 values of 16 bits) from shared memory: lane 8 i + r passes the address of
// row r of matrix i, a multiple of 16. words[i]: of matrix i, row group, the word `member` (columns 2 member, 2 member
// + 1). Transposed: rows 2 member, 2 member + 1 of column group.
static __device__ inline void load_matrices(uint32_t (&words)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"((uint32_t)__cvta_generic_to_shared(row))
               : "memory");
}
static __device__ inline void load_matrices_transposed(uint32_t (&words)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"((uint32_t)__cvta_generic_to_shared(row))
               : "memory");
}

// Copies the first `bytes` (0 to 16) of 16 from global to shared memory and writes zeros behind them; both addresses
// are multiples of 16. With 0 bytes nothing is read. The copies since the last commit form a group.
static __device__ inline void copy_async(void *shared, const void *global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes)
               : "memory");
}
static __device__ inline void copy_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the youngest PENDING groups of this thread are complete. Other threads see them after a barrier.
template <int PENDING>
static __device__ inline void copy_wait(void) {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif

#endif
