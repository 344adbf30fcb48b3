/* The products of the dense layers for few rows, part of kernels_impl.h. All operands are read in place, along their
 * rows, and nothing is packed: with few rows the BLAS spends most of its time on packing W. A block of C is held in
 * registers. An element of C is the same sum whatever block computes it. */

#if defined(__x86_64__) && defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { PRODUCT_LANES = 16, PRODUCT_ROWS = 6, COMBINE_ROWS = 64 }; /* 24 of 32 registers hold sums */
#elif defined(__AVX2__)
enum { PRODUCT_LANES = 8, PRODUCT_ROWS = 3, COMBINE_ROWS = 8 }; /* 12 of 16 */
#else
enum { PRODUCT_LANES = 4, PRODUCT_ROWS = 2, COMBINE_ROWS = 8 };
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

/* The first n < PRODUCT_LANES lanes to x. */
PRODUCT_INLINE void product_store_part(float *x, int64_t n, product_lanes lanes) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(x, (__mmask16)((1U << n) - 1), lanes);
#elif defined(__AVX2__)
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(x, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane), lanes);
#else
  for (int i = 0; i < PRODUCT_LANES - 1; i++)
    if (i < n) x[i] = lanes[i];
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

/* ---- C = A W^T: a vector of partial sums for each element, which are added up at the end ------------------------- */

/* Columns and row strides of the operands of C = A W^T. */
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

/* ---- the same sums for a short k ---- */

/* For a short k, adding up the lanes of each element's vector takes longer than its products. Here W is transposed, and
 * a vector holds one lane of PRODUCT_LANES elements of a row of C: whole vectors are added, in the order of
 * product_fold. */
enum { SHORT_VECTORS = 4, SHORT_K = SHORT_VECTORS * PRODUCT_LANES, SHORT_ROWS = 4 /* of C at a time */ };
enum { SHORT_LEAST_ROWS = 16, SHORT_LEAST_COLUMNS = 12 };

struct short_rows {
  product_lanes row[SHORT_ROWS];
};

/* Operands of SHORT_ROWS rows of C. */
struct short_product {
  const float *A[SHORT_ROWS], *W_T; /* W_T (k, PRODUCT_LANES) */
  int64_t k;
};

PRODUCT_INLINE struct short_rows short_add(struct short_rows a, struct short_rows b) {
  PRODUCT_UNROLL for (int r = 0; r < SHORT_ROWS; r++) a.row[r] += b.row[r];
  return a;
}

/* Lane l: columns l, l + PRODUCT_LANES, .. of `vectors`. Beyond k, product_step adds 0. */
PRODUCT_INLINE struct short_rows short_lane(const int vectors, const int l, const struct short_product *p) {
  struct short_rows sum = {0};
  PRODUCT_UNROLL for (int v = 0; v < vectors; v++) {
    const int t = v * PRODUCT_LANES + l;
    if (v < vectors - 1 || t < p->k) {
      const product_lanes w = product_load(p->W_T + t * PRODUCT_LANES);
      PRODUCT_UNROLL for (int r = 0; r < SHORT_ROWS; r++) sum.row[r] += p->A[r][t] * w;
    } else {
      PRODUCT_UNROLL for (int r = 0; r < SHORT_ROWS; r++) sum.row[r] += 0.0f;
    }
  }
  return sum;
}

/* Lanes 4 q .. 4 q + 3. */
PRODUCT_INLINE struct short_rows short_quarter(const int vectors, const int q, const struct short_product *p) {
  const struct short_rows even = short_add(short_lane(vectors, 4 * q, p), short_lane(vectors, 4 * q + 2, p));
  return short_add(even, short_add(short_lane(vectors, 4 * q + 1, p), short_lane(vectors, 4 * q + 3, p)));
}

PRODUCT_INLINE struct short_rows short_sum(const int vectors, const struct short_product *p) {
#if defined(__AVX512F__)
  const struct short_rows even = short_add(short_quarter(vectors, 0, p), short_quarter(vectors, 2, p));
  return short_add(even, short_add(short_quarter(vectors, 1, p), short_quarter(vectors, 3, p)));
#elif defined(__AVX2__)
  return short_add(short_quarter(vectors, 0, p), short_quarter(vectors, 1, p));
#else
  return short_quarter(vectors, 0, p);
#endif
}

/* A block of C, (SHORT_ROWS, n). */
PRODUCT_INLINE void short_block(const int vectors, const struct short_product *p, int64_t n, float *C, int64_t ldc) {
  const struct short_rows sum = short_sum(vectors, p);
  PRODUCT_UNROLL for (int r = 0; r < SHORT_ROWS; r++) {
    if (n == PRODUCT_LANES)
      *(product_lanes_loose *)(C + r * ldc) = sum.row[r];
    else
      product_store_part(C + r * ldc, n, sum.row[r]);
  }
}

static void short_block_1(const struct short_product *p, int64_t n, float *C, int64_t ldc) {
  short_block(1, p, n, C, ldc);
}
static void short_block_2(const struct short_product *p, int64_t n, float *C, int64_t ldc) {
  short_block(2, p, n, C, ldc);
}
static void short_block_3(const struct short_product *p, int64_t n, float *C, int64_t ldc) {
  short_block(3, p, n, C, ldc);
}
static void short_block_4(const struct short_product *p, int64_t n, float *C, int64_t ldc) {
  short_block(4, p, n, C, ldc);
}

/* [v]: of k in v vectors */
static void (*const short_blocks[SHORT_VECTORS + 1])(const struct short_product *, int64_t, float *, int64_t) = {
    NULL, short_block_1, short_block_2, short_block_3, short_block_4};

/* Four columns of four rows of W. */
PRODUCT_INLINE void short_transpose_4(const float *W, int64_t ldw, float *W_T) {
#ifdef __SSE2__
  const __m128 a = _mm_loadu_ps(W), b = _mm_loadu_ps(W + ldw), c = _mm_loadu_ps(W + 2 * ldw),
               d = _mm_loadu_ps(W + 3 * ldw);
  const __m128 ab_low = _mm_unpacklo_ps(a, b), cd_low = _mm_unpacklo_ps(c, d);
  const __m128 ab_high = _mm_unpackhi_ps(a, b), cd_high = _mm_unpackhi_ps(c, d);
  _mm_store_ps(W_T, _mm_movelh_ps(ab_low, cd_low));
  _mm_store_ps(W_T + PRODUCT_LANES, _mm_movehl_ps(cd_low, ab_low));
  _mm_store_ps(W_T + 2 * PRODUCT_LANES, _mm_movelh_ps(ab_high, cd_high));
  _mm_store_ps(W_T + 3 * PRODUCT_LANES, _mm_movehl_ps(cd_high, ab_high));
#else
  for (int t = 0; t < 4; t++)
    for (int j = 0; j < 4; j++) W_T[t * PRODUCT_LANES + j] = W[j * ldw + t];
#endif
}

/* W_T (k, PRODUCT_LANES), with zeros from column n on. */
static void short_transpose(const struct product *p, int64_t n, const float *W, float *W_T) {
  if (n < PRODUCT_LANES) memset(W_T, 0, (size_t)(p->k * PRODUCT_LANES) * sizeof *W_T);
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const float *rows = W + j * p->ldw;
    int64_t t = 0;
    for (; t + 4 <= p->k; t += 4) short_transpose_4(rows + t, p->ldw, W_T + t * PRODUCT_LANES + j);
    for (; t < p->k; t++)
      for (int i = 0; i < 4; i++) W_T[t * PRODUCT_LANES + j + i] = rows[i * p->ldw + t];
  }
  for (; j < n; j++)
    for (int64_t t = 0; t < p->k; t++) W_T[t * PRODUCT_LANES + j] = W[j * p->ldw + t];
}

/* C (m, n) for n <= PRODUCT_LANES, k <= SHORT_K and m >= SHORT_ROWS; the last block of rows overlaps the one before. */
static void short_columns(const struct product *p, int64_t m, int64_t n, const float *A, const float *W, float *C) {
  _Alignas(product_lanes) float W_T[SHORT_K * PRODUCT_LANES];
  short_transpose(p, n, W, W_T);
  const int64_t vectors = (p->k + PRODUCT_LANES - 1) / PRODUCT_LANES;
  struct short_product block = {.W_T = W_T, .k = p->k};
  for (int64_t next = 0; next < m; next += SHORT_ROWS) {
    const int64_t first = next + SHORT_ROWS <= m ? next : m - SHORT_ROWS;
    for (int r = 0; r < SHORT_ROWS; r++) block.A[r] = A + (first + r) * p->lda;
    short_blocks[vectors](&block, n, C + first * p->ldc, p->ldc);
  }
}

static void product_short(const struct product *p, int64_t m, int64_t n, const float *A, const float *W, float *C) {
  for (int64_t j = 0; j < n; j += PRODUCT_LANES)
    short_columns(p, m, n - j < PRODUCT_LANES ? n - j : PRODUCT_LANES, A, W + j * p->ldw, C + j);
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
  if (n >= SHORT_LEAST_COLUMNS && k <= SHORT_K && m >= SHORT_LEAST_ROWS)
    product_short(&p, m, n, A, W, C);
  else if (n >= PRODUCT_COLUMNS)
    product_wide(&p, m, n, A, W, C);
  else if (m >= PRODUCT_COLUMNS)
    product_narrow(&p, m, n, A, W, C);
  else
    for (int64_t r = 0; r < m; r++)
      for (int64_t j = 0; j < n; j++) C[r * ldc + j] = product_dot(A + r * lda, W + j * ldw, k);
}

/* ---- C = S B: sums of the rows of B ------------------------------------------------------------------------------ */

enum { PRODUCT_VECTORS = 4, PRODUCT_TERMS = 128 /* rows of B at a time: they stay in the caches for all rows of C */ };

/* Operands of C = S B: element (i, t) of S is S[i * row + t * column]. */
struct combination {
  int64_t terms, row, column, ldb, ldc;
  bool add; /* to C */
};

/* A block of C of so many rows and vectors; of the last vector, only `last` <= PRODUCT_LANES columns exist. */
PRODUCT_INLINE void combination_block(const int rows, const int vectors, const bool part, int64_t last,
                                      const struct combination *p, const float *S, const float *B, float *C) {
  product_lanes sums[PRODUCT_ROWS][PRODUCT_VECTORS] = {0};
  if (p->add) {
    PRODUCT_UNROLL for (int r = 0; r < rows; r++) {
      PRODUCT_UNROLL for (int v = 0; v < vectors; v++) {
        const float *at = C + r * p->ldc + v * PRODUCT_LANES;
        sums[r][v] = part && v == vectors - 1 ? product_load_part(at, last) : product_load(at);
      }
    }
  }
  for (int64_t t = 0; t < p->terms; t++) {
    product_lanes b[PRODUCT_VECTORS];
    PRODUCT_UNROLL for (int v = 0; v < vectors; v++) {
      const float *at = B + t * p->ldb + v * PRODUCT_LANES;
      b[v] = part && v == vectors - 1 ? product_load_part(at, last) : product_load(at);
    }
    PRODUCT_UNROLL for (int r = 0; r < rows; r++) {
      const float s = S[r * p->row + t * p->column];
      PRODUCT_UNROLL for (int v = 0; v < vectors; v++) sums[r][v] += s * b[v];
    }
  }
  PRODUCT_UNROLL for (int r = 0; r < rows; r++) {
    PRODUCT_UNROLL for (int v = 0; v < vectors; v++) {
      float *at = C + r * p->ldc + v * PRODUCT_LANES;
      if (part && v == vectors - 1)
        product_store_part(at, last, sums[r][v]);
      else
        *(product_lanes_loose *)at = sums[r][v];
    }
  }
}

/* `rows` rows of C, in blocks of four vectors; the columns that are left are a block of as few as hold them. */
PRODUCT_INLINE void combination_rows(const int rows, const struct combination *p, int64_t n, const float *S,
                                     const float *B, float *C) {
  enum { WIDE = PRODUCT_VECTORS * PRODUCT_LANES };
  int64_t j = 0;
  for (; j + WIDE <= n; j += WIDE) combination_block(rows, PRODUCT_VECTORS, false, 0, p, S, B + j, C + j);
  const int64_t last = (n - j) % PRODUCT_LANES;
  const bool part = last > 0;
#define LEFT(vectors, is_part) combination_block(rows, vectors, is_part, last, p, S, B + j, C + j)
  switch ((n - j + PRODUCT_LANES - 1) / PRODUCT_LANES) {
    case 1: part ? LEFT(1, true) : LEFT(1, false); break;
    case 2: part ? LEFT(2, true) : LEFT(2, false); break;
    case 3: part ? LEFT(3, true) : LEFT(3, false); break;
    case 4: LEFT(4, true); break;
    default: break;
  }
#undef LEFT
}

static void combination_rows_1(const struct combination *p, int64_t n, const float *S, const float *B, float *C) {
  combination_rows(1, p, n, S, B, C);
}
static void combination_rows_2(const struct combination *p, int64_t n, const float *S, const float *B, float *C) {
  combination_rows(2, p, n, S, B, C);
}
#if defined(__AVX2__)
static void combination_rows_3(const struct combination *p, int64_t n, const float *S, const float *B, float *C) {
  combination_rows(3, p, n, S, B, C);
}
#endif
#if defined(__AVX512F__)
static void combination_rows_4(const struct combination *p, int64_t n, const float *S, const float *B, float *C) {
  combination_rows(4, p, n, S, B, C);
}
static void combination_rows_5(const struct combination *p, int64_t n, const float *S, const float *B, float *C) {
  combination_rows(5, p, n, S, B, C);
}
static void combination_rows_6(const struct combination *p, int64_t n, const float *S, const float *B, float *C) {
  combination_rows(6, p, n, S, B, C);
}
#endif

/* [r]: of r rows */
static void (*const combinations[PRODUCT_ROWS + 1])(const struct combination *, int64_t, const float *, const float *,
                                                    float *) = {
    NULL,
    combination_rows_1,
    combination_rows_2,
#if defined(__AVX2__)
    combination_rows_3,
#endif
#if defined(__AVX512F__)
    combination_rows_4,
    combination_rows_5,
    combination_rows_6,
#endif
};

static void kernel_combine(int64_t m, int64_t n, int64_t k, const float *S, int64_t row, int64_t column, const float *B,
                           int64_t ldb, float *C, int64_t ldc) {
  const int64_t parts = (m + PRODUCT_ROWS - 1) / PRODUCT_ROWS, fewest = m / parts, larger = m % parts;
  for (int64_t t = 0; t < k; t += PRODUCT_TERMS) {
    const struct combination p = {k - t < PRODUCT_TERMS ? k - t : PRODUCT_TERMS, row, column, ldb, ldc, t > 0};
    for (int64_t part = 0, r = 0, rows; part < parts; part++, r += rows) {
      rows = fewest + (part < larger);
      combinations[rows](&p, n, S + r * row + t * column, B + t * ldb, C + r * ldc);
    }
  }
}
