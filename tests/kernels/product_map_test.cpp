/* Row-major products described to a column-major library: the same bytes, the same values. */
#include <Random123/philox.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

extern "C" {
#include "product_shape.h"
}

namespace {

using Matrix = std::vector<float>; /* read with at(): nothing outside of it */

/* Of `rows` rows (or columns) `ld` apart, the last one without padding. */
size_t length(int64_t rows, int64_t ld, int64_t n) { return (size_t)((rows - 1) * ld + n); }

/* The product by the definition of the shape, element by element. */
void row_major(const product_shape &s, const Matrix &A, const Matrix &B, Matrix *C) {
  for (int64_t i = 0; i < s.m; i++)
    for (int64_t j = 0; j < s.n; j++) {
      float sum = 0;
      for (int64_t p = 0; p < s.k; p++)
        sum += A.at((size_t)(s.transpose_a ? p * s.lda + i : i * s.lda + p)) *
               B.at((size_t)(s.transpose_b ? j * s.ldb + p : p * s.ldb + j));
      C->at((size_t)(i * s.ldc + j)) = sum;
    }
}

/* The product as a column-major library computes it. */
void column_major(const product_mapping &map, const Matrix &x, const Matrix &y, Matrix *d) {
  ASSERT_EQ(map.transpose_x ? map.x_cols : map.x_rows, map.m);
  ASSERT_EQ(map.transpose_x ? map.x_rows : map.x_cols, map.k);
  ASSERT_EQ(map.transpose_y ? map.y_cols : map.y_rows, map.k);
  ASSERT_EQ(map.transpose_y ? map.y_rows : map.y_cols, map.n);
  ASSERT_GE(map.x_ld, map.x_rows);
  ASSERT_GE(map.y_ld, map.y_rows);
  ASSERT_GE(map.d_ld, map.m);
  for (int64_t j = 0; j < map.n; j++)
    for (int64_t i = 0; i < map.m; i++) {
      float sum = 0;
      for (int64_t p = 0; p < map.k; p++)
        sum += x.at((size_t)(map.transpose_x ? p + i * map.x_ld : i + p * map.x_ld)) *
               y.at((size_t)(map.transpose_y ? j + p * map.y_ld : p + j * map.y_ld));
      d->at((size_t)(i + j * map.d_ld)) = sum;
    }
}

TEST(ProductMap, GivesTheSameElementsAndLeavesPaddingAlone) {
  std::mt19937 random(1);
  const auto draw = [&](int most) { return (int64_t)(random() % (unsigned)most); };
  const auto values = [&](size_t n) {
    Matrix matrix(n);
    for (float &x : matrix) x = (float)draw(17) - 8; /* sums are exact in any order */
    return matrix;
  };
  for (int round = 0; round < 2000; round++) {
    product_shape shape = {};
    shape.m = 1 + draw(9), shape.n = 1 + draw(9), shape.k = 1 + draw(9);
    shape.transpose_a = round & 1, shape.transpose_b = round & 2;
    const int64_t A_rows = shape.transpose_a ? shape.k : shape.m, A_cols = shape.transpose_a ? shape.m : shape.k;
    const int64_t B_rows = shape.transpose_b ? shape.n : shape.k, B_cols = shape.transpose_b ? shape.k : shape.n;
    shape.lda = A_cols + draw(4), shape.ldb = B_cols + draw(4), shape.ldc = shape.n + draw(4);
    SCOPED_TRACE(testing::Message() << "m=" << shape.m << " n=" << shape.n << " k=" << shape.k << " transposed "
                                    << shape.transpose_a << shape.transpose_b << " ld " << shape.lda << ' ' << shape.ldb
                                    << ' ' << shape.ldc);
    const Matrix A = values(length(A_rows, shape.lda, A_cols)), B = values(length(B_rows, shape.ldb, B_cols));
    const Matrix untouched(length(shape.m, shape.ldc, shape.n), 0.5f);
    Matrix C = untouched, D = untouched;
    row_major(shape, A, B, &C);
    column_major(product_map(&shape), B, A, &D);
    ASSERT_EQ(C, D);
  }
}

TEST(ProductMap, NamesTheLibrarysEpilogues) {
  const struct {
    epilogue ours;
    cublasLtEpilogue_t theirs;
  } cases[] = {
      {EPILOGUE_NONE, CUBLASLT_EPILOGUE_DEFAULT},         {EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS},
      {EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_RELU_BIAS},  {EPILOGUE_RELU_MASK_BIAS, CUBLASLT_EPILOGUE_RELU_AUX_BIAS},
      {EPILOGUE_MASKED, CUBLASLT_EPILOGUE_DRELU},         {EPILOGUE_MASKED_COLUMN_SUMS, CUBLASLT_EPILOGUE_DRELU_BGRAD},
      {EPILOGUE_COLUMN_SUMS_A, CUBLASLT_EPILOGUE_BGRADB}, /* the caller's A is the library's B */
  };
  for (const auto &each : cases) {
    product_shape shape = {};
    shape.epilogue = each.ours;
    EXPECT_EQ(product_map(&shape).epilogue, each.theirs) << each.ours;
  }
}

}  // namespace
