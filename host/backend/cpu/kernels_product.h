/* The product of the dense layers for few rows, part of kernels_impl.h. Both operands are read as they lie, along their
 * rows, so nothing is packed: with few rows the BLAS spends most of its time on packing W. A block of C is held in
 * registers, one vector of partial sums for each element, which are added up at the end. An element is the same sum
 * whatever block computes it. */

#if defined(__x86_64__) && defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { PRODUCT_LANES = 16, PRODUCT_ROWS = 6 }; /* 24 of 32 registers hold sums */
#elif defined(__AVX2__)
enum { PRODUCT_LANES = 8, PRODUCT_ROWS = 3 }; /* 12 of 16 */
#else
enum { PRODUCT_LANES = 4, PRODUCT_ROWS = 2 };
#endif
enum { PRODUCT_COLUMNS = 4 };

typedef float product_lanes __attribute__((vector_size(4 * PRODUCT_LANES)));
typedef float product_lanes_loose __attribute__((vector_size(4 * PRODUCT_LANES), aligned(4), may_alias));
typedef float float4 __attribute__((vector_size(16)));
typedef float float4_loose __attribute__((vector_size(16), aligned(4), may_alias));

#define PRODUCT_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define PRODUCT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PRODUCT_UNROLL _Pragma("GCC unroll 8")
#endif

PRODUCT_INLINE product_lanes product_load(const float *x) { return *(const product_lanes_loose *)x; }

/* The first n < PRODUCT_LANES floats of x, then zeros. */
PRODUCT_INLINE product_lanes product_load_part(const float *x, int64_t n) {
#if defined(__AVX512F__)
  return (product_lanes)_mm512_maskz_loadu_ps((__mmask16)((1U << n) - 1), x);
#elif defined(__AVX2__)
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (product_lanes)_mm256_maskload_ps(x, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
#else
  return (product_lanes){x[0], n > 1 ? x[1] : 0, n > 2 ? x[2] : 0, 0};
#endif
}

/* The sums of the lanes of a, b, c and d. */
PRODUCT_INLINE float4 product_fold(product_lanes a, product_lanes b, product_lanes c, product_lanes d) {
#if defined(__AVX512F__)
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m128 low = _mm_add_ps(_mm512_castps512_ps128(abcd), _mm512_extractf32x4_ps(abcd, 2));
  return (float4)_mm_add_ps(low, _mm_add_ps(_mm512_extractf32x4_ps(abcd, 1), _mm512_extractf32x4_ps(abcd, 3)));
#elif defined(__AVX2__)
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256 abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  return (float4)_mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
#elif defined(__SSE2__)
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
  return (float4)_mm_add_ps(_mm_shuffle_ps(ab, cd, 0x44), _mm_shuffle_ps(ab, cd, 0xee));
#else
  const float4 even = {a[0], b[0], c[0], d[0]}, odd = {a[1], b[1], c[1], d[1]};
  const float4 even2 = {a[2], b[2], c[2], d[2]}, odd2 = {a[3], b[3], c[3], d[3]};
  return (even + even2) + (odd + odd2);
#endif
}

/* Rows and row strides of the operands of C = A W^T, of k columns each. */
struct product {
  int64_t k, lda, ldw, ldc;
};

/* sums += A W^T over one vector of columns; of n < PRODUCT_LANES of them if `part`. */
PRODUCT_INLINE void product_step(const int rows, const bool part, int64_t n, const struct product *p, const float *A,
                                 const float *W, product_lanes sums[PRODUCT_ROWS][PRODUCT_COLUMNS]) {
  product_lanes a[PRODUCT_ROWS];
  PRODUCT_UNROLL for (int r = 0; r < rows; r++) {
    const float *at = A + r * p->lda;
    a[r] = part ? product_load_part(at, n) : product_load(at);
  }
  PRODUCT_UNROLL for (int j = 0; j < PRODUCT_COLUMNS; j++) {
    const float *at = W + j * p->ldw;
    const product_lanes w = part ? product_load_part(at, n) : product_load(at);
    PRODUCT_UNROLL for (int r = 0; r < rows; r++) sums[r][j] += a[r] * w;
  }
}

/* A block of C, (rows, PRODUCT_COLUMNS). `rows` is a constant in each call, so that the sums are registers. */
PRODUCT_INLINE void product_block(const int rows, const struct product *p, const float *A, const float *W, float *C) {
  product_lanes sums[PRODUCT_ROWS][PRODUCT_COLUMNS] = {0};
  int64_t i = 0;
  for (; i + PRODUCT_LANES <= p->k; i += PRODUCT_LANES) product_step(rows, false, 0, p, A + i, W + i, sums);
  if (i < p->k) product_step(rows, true, p->k - i, p, A + i, W + i, sums);
  PRODUCT_UNROLL for (int r = 0; r < rows; r++) * (float4_loose *)(C + r * p->ldc) =
      product_fold(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
}

static void product_block_1(const struct product *p, const float *A, const float *W, float *C) {
  product_block(1, p, A, W, C);
}
static void product_block_2(const struct product *p, const float *A, const float *W, float *C) {
  product_block(2, p, A, W, C);
}
#if defined(__AVX2__)
static void product_block_3(const struct product *p, const float *A, const float *W, float *C) {
  product_block(3, p, A, W, C);
}
#endif
#if defined(__AVX512F__)
static void product_block_4(const struct product *p, const float *A, const float *W, float *C) {
  product_block(4, p, A, W, C);
}
static void product_block_5(const struct product *p, const float *A, const float *W, float *C) {
  product_block(5, p, A, W, C);
}
static void product_block_6(const struct product *p, const float *A, const float *W, float *C) {
  product_block(6, p, A, W, C);
}
#endif

/* [r]: of r rows */
static void (*const product_blocks[PRODUCT_ROWS + 1])(const struct product *, const float *, const float *, float *) = {
    NULL,
    product_block_1,
    product_block_2,
#if defined(__AVX2__)
    product_block_3,
#endif
#if defined(__AVX512F__)
    product_block_4,
    product_block_5,
    product_block_6,
#endif
};

/* C (m, n) for n >= PRODUCT_COLUMNS. The rows are shared out evenly; the last block of columns overlaps the one before. */
static void product_wide(const struct product *p, int64_t m, int64_t n, const float *A, const float *W, float *C) {
  const int64_t parts = (m + PRODUCT_ROWS - 1) / PRODUCT_ROWS, fewest = m / parts, larger = m % parts;
  for (int64_t next = 0; next < n; next += PRODUCT_COLUMNS) {
    const int64_t j = next + PRODUCT_COLUMNS <= n ? next : n - PRODUCT_COLUMNS;
    for (int64_t part = 0, r = 0, rows; part < parts; part++, r += rows) {
      rows = fewest + (part < larger);
      product_blocks[rows](p, A + r * p->lda, W + j * p->ldw, C + r * p->ldc + j);
    }
  }
}

/* C (m, n) for n < PRODUCT_COLUMNS and PRODUCT_COLUMNS <= m <= KERNEL_FEW_ROWS, through its transpose W A^T. */
static void product_narrow(const struct product *p, int64_t m, int64_t n, const float *A, const float *W, float *C) {
  float transpose[(PRODUCT_COLUMNS - 1) * KERNEL_FEW_ROWS];
  const struct product swapped = {.k = p->k, .lda = p->ldw, .ldw = p->lda, .ldc = m};
  product_wide(&swapped, n, m, W, A, transpose);
  for (int64_t r = 0; r < m; r++)
    for (int64_t j = 0; j < n; j++) C[r * p->ldc + j] = transpose[j * m + r];
}

static float product_dot(const float *a, const float *w, int64_t k) {
  product_lanes sum = {0};
  const product_lanes none = {0};
  int64_t i = 0;
  for (; i + PRODUCT_LANES <= k; i += PRODUCT_LANES) sum += product_load(a + i) * product_load(w + i);
  if (i < k) sum += product_load_part(a + i, k - i) * product_load_part(w + i, k - i);
  return product_fold(sum, none, none, none)[0];
}

static void kernel_product(int64_t m, int64_t n, int64_t k, const float *A, int64_t lda, const float *W, int64_t ldw,
                           float *C, int64_t ldc) {
  const struct product p = {k, lda, ldw, ldc};
  if (n >= PRODUCT_COLUMNS)
    product_wide(&p, m, n, A, W, C);
  else if (m >= PRODUCT_COLUMNS)
    product_narrow(&p, m, n, A, W, C);
  else
    for (int64_t r = 0; r < m; r++)
      for (int64_t j = 0; j < n; j++) C[r * ldc + j] = product_dot(A + r * lda, W + j * ldw, k);
}
