/* The dense layer's passes without a plan: the properties on which the lowering of a step relies. Column sums have the
 * same bits fused and alone for every way of accessing the matrices, and nothing beyond column n is touched. */
#include <cmath>
#include <memory>
#include <string>

#include "passes.h"

namespace {

struct DenseCase {
  int64_t rows, n;
  enum element element;
  descent_activation activation;
  bool drops;
};

class Dense : public testing::TestWithParam<DenseCase> {
 protected:
  /* Rows of whole 16-byte units, and of an odd number of elements: accessed one by one. */
  static std::vector<int64_t> strides(const DenseCase &c) {
    const int64_t unit = c.element == ELEMENT_F32 ? 4 : 8, whole = (c.n + unit - 1) / unit * unit;
    return {whole, c.n % 2 ? c.n + 2 : c.n + 1};
  }
  static void fill(Matrix &m, const DenseCase &c, uint64_t seed) {
    EXPECT_EQ(launch_fill(m.matrix(), c.rows, c.n, false, seed, nullptr), cudaSuccess);
  }
  static void expect_untouched(const Matrix &m, const DenseCase &c) {
    for (int64_t r = 0; r < c.rows; r++)
      for (int64_t j = c.n; j < m.ld; j++) ASSERT_EQ(m.at(r, j), kUntouched) << r << ", " << j;
  }
  static void expect_same(const Matrix &a, const Matrix &b, const DenseCase &c) {
    for (int64_t r = 0; r < c.rows; r++)
      for (int64_t j = 0; j < c.n; j++) ASSERT_EQ(a.at(r, j), b.at(r, j)) << r << ", " << j;
  }
  static std::vector<step_state> step(int64_t batch_row = kBatchRow) {
    step_state state{};
    state.current.number = 3;
    state.current.batch_row = batch_row;
    return {state};
  }
  static uint32_t threshold(const DenseCase &c) { return c.drops ? rng_drop_threshold(0.25) : 0; }
};

TEST_P(Dense, ForwardIsTheSameHoweverRowsLie) {
  const DenseCase c = GetParam();
  Buffer<step_state> state(step());
  Buffer<float> bias(std::vector<float>(static_cast<size_t>(c.n), 0.25f));
  std::vector<std::unique_ptr<Matrix>> Z, A;
  for (const int64_t ld : strides(c)) {
    Matrix product(c.rows, ld, c.element);
    fill(product, c, 5);
    Z.push_back(std::make_unique<Matrix>(c.rows, ld, c.element));
    A.push_back(std::make_unique<Matrix>(c.rows, ld, c.element));
    forward_launch launch{};
    launch.state = state.data;
    launch.product = product.matrix(), launch.Z = Z.back()->matrix(), launch.A = A.back()->matrix();
    launch.bias = bias.data, launch.bias_element = ELEMENT_F32;
    launch.rows = c.rows, launch.n = c.n, launch.activation = c.activation;
    launch.seed = 7, launch.layer = 2, launch.threshold = threshold(c), launch.dropout_scale = c.drops ? 1 / 0.75f : 1;
    ASSERT_EQ(launch_forward(&launch, nullptr), cudaSuccess);
    Z.back()->fetch(), A.back()->fetch();
    expect_untouched(*Z.back(), c), expect_untouched(*A.back(), c);
    launch.A = product.matrix(); /* in place */
    ASSERT_EQ(launch_forward(&launch, nullptr), cudaSuccess);
    product.fetch();
    expect_same(product, *A.back(), c);
  }
  expect_same(*Z[0], *Z[1], c), expect_same(*A[0], *A[1], c);
}

TEST_P(Dense, ColumnSumsAreTheSameBitsFusedAndAlone) {
  const DenseCase c = GetParam();
  Buffer<step_state> state(step());
  Buffer<unsigned> counters(COUNTERS, 0);
  Buffer<char> partials(std::vector<char>(column_sums_scratch(c.rows, c.n)));
  std::vector<std::unique_ptr<Matrix>> dZ;
  std::vector<std::vector<float>> sums;
  for (const int64_t ld : strides(c)) {
    Matrix A(c.rows, ld, c.element);
    fill(A, c, 5);
    dZ.push_back(std::make_unique<Matrix>(c.rows, ld, c.element));
    fill(*dZ.back(), c, 6);
    Buffer<float> fused(c.n + 1, kUntouched), alone(c.n + 1, kUntouched);
    backward_launch launch{};
    launch.state = state.data;
    launch.dZ = dZ.back()->matrix(), launch.A = launch.Z = A.matrix();
    launch.rows = c.rows, launch.n = c.n, launch.activation = c.activation;
    launch.seed = 7, launch.layer = 2, launch.threshold = threshold(c);
    launch.dropout_scale = c.drops ? 1 / 0.75f : 1, launch.keep_probability = c.drops ? 0.75f : 1;
    launch.bias_gradient = fused.data;
    launch.scratch = {partials.data, counters.data};
    ASSERT_EQ(launch_backward(&launch, nullptr), cudaSuccess);
    ASSERT_EQ(launch_column_sums(dZ.back()->matrix(), c.rows, c.n, alone.data, launch.scratch, nullptr), cudaSuccess);
    dZ.back()->fetch();
    expect_untouched(*dZ.back(), c);
    EXPECT_EQ(fused.fetch(), alone.fetch());
    EXPECT_EQ(fused.host.back(), kUntouched);
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
    sums.push_back(fused.host);
  }
  expect_same(*dZ[0], *dZ[1], c);
  EXPECT_EQ(sums[0], sums[1]);
  for (int64_t j = 0; j < c.n; j++) {
    double sum = 0, absolute = 0;
    for (int64_t r = 0; r < c.rows; r++) {
      const auto d = static_cast<double>(dZ[0]->at(r, j));
      sum += d, absolute += std::fabs(d);
    }
    const double u = static_cast<double>(c.rows) * 0x1p-24; /* no order of summation is worse */
    ASSERT_LE(std::fabs(static_cast<double>(sums[0][static_cast<size_t>(j)]) - sum), u / (1 - u) * absolute) << j;
  }
}

/* Rows from `row` on, as a part of the step that begins there, get what they get in the whole. */
TEST_P(Dense, MasksOfAPartAreThoseOfItsRows) {
  const DenseCase c = GetParam();
  const int64_t row = c.rows / 3;
  for (const int64_t ld : strides(c)) {
    Matrix A(c.rows, ld, c.element), dZ(c.rows, ld, c.element), part_A(c.rows, ld, c.element),
        part_dZ(c.rows, ld, c.element);
    for (Matrix *m : {&A, &part_A}) fill(*m, c, 5);
    for (Matrix *m : {&dZ, &part_dZ}) fill(*m, c, 6);
    for (const bool is_part : {false, true}) {
      const Buffer<step_state> state(step(kBatchRow + (is_part ? row : 0)));
      forward_launch forward{};
      backward_launch backward{};
      forward.state = backward.state = state.data;
      forward.product = forward.A = is_part ? rows_from(part_A.matrix(), row) : A.matrix();
      backward.dZ = is_part ? rows_from(part_dZ.matrix(), row) : dZ.matrix();
      backward.A = backward.Z = forward.A;
      forward.rows = backward.rows = is_part ? c.rows - row : c.rows;
      forward.n = backward.n = c.n, forward.activation = backward.activation = c.activation;
      forward.seed = backward.seed = 7, forward.layer = backward.layer = 2;
      forward.threshold = backward.threshold = threshold(c);
      forward.dropout_scale = backward.dropout_scale = c.drops ? 1 / 0.75f : 1;
      backward.keep_probability = c.drops ? 0.75f : 1;
      ASSERT_EQ(launch_forward(&forward, nullptr), cudaSuccess);
      ASSERT_EQ(launch_backward(&backward, nullptr), cudaSuccess);
    }
    for (Matrix *m : {&A, &dZ, &part_A, &part_dZ}) m->fetch();
    bool drops = false, keeps = false;
    for (int64_t r = row; r < c.rows; r++)
      for (int64_t j = 0; j < c.n; j++) {
        ASSERT_EQ(part_A.at(r, j), A.at(r, j)) << r << ", " << j;
        ASSERT_EQ(part_dZ.at(r, j), dZ.at(r, j)) << r << ", " << j;
        const bool keep = rng_keep(7, 2, 3, static_cast<uint64_t>((kBatchRow + r) * c.n + j), threshold(c));
        if (!keep) {
          ASSERT_EQ(A.at(r, j), 0) << r << ", " << j;
          ASSERT_EQ(dZ.at(r, j), 0) << r << ", " << j;
        }
        drops |= !keep, keeps |= A.at(r, j) != 0;
      }
    EXPECT_TRUE(c.rows * c.n < 100 || (drops == c.drops && keeps));
  }
}

/* Of one group of columns and many, in one block and many, with rows left over; elements by 8, by 4 and singly. */
std::vector<DenseCase> cases() {
  std::vector<DenseCase> all;
  const struct {
    int64_t rows, n;
  } shapes[] = {{1, 1},    {3, 8},   {5, 1030},  {256, 128}, {700, 4},   {2100, 10},
                {2600, 1}, {300, 7}, {1100, 28}, {530, 300}, {90, 2056}, {4099, 16}};
  int turn = 0;
  for (const auto &shape : shapes)
    for (const enum element element : {ELEMENT_F32, ELEMENT_BF16})
      for (int k = 0; k < 2;
           k++, turn++) /* 3 and their number are coprime: every activation, with dropout and without */
        all.push_back({shape.rows, shape.n, element, static_cast<descent_activation>(3 * turn % N_ACTIVATIONS),
                       turn / N_ACTIVATIONS % 2 == 0});
  return all;
}

std::string name(const testing::TestParamInfo<DenseCase> &info) {
  const DenseCase &c = info.param;
  return std::to_string(info.index) + "_" + std::to_string(c.rows) + "x" + std::to_string(c.n) +
         (c.element == ELEMENT_F32 ? "_f32_" : "_bf16_") + descent_activation_name(c.activation) +
         (c.drops ? "_dropout" : "");
}

INSTANTIATE_TEST_SUITE_P(Passes, Dense, testing::ValuesIn(cases()), name);

}  // namespace
