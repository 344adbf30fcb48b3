/* How the outputs of an ensemble follow from those of its members: against long double, for logits of every size. */
#include <gtest/gtest.h>

#include <cfloat>
#include <random>

#include "member_oracle.h"

extern "C" {
#include "core/terms.h"
#include "train/member_outputs.h"
}

namespace {

using member_oracle::Row;
const descent_loss binary = DESCENT_LOSS_BINARY_CROSS_ENTROPY, softmax = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                   regression = DESCENT_LOSS_MEAN_SQUARED_ERROR;

struct Scratch {
  member_scratch scratch{};
  Scratch(int64_t members, int64_t n) { EXPECT_EQ(member_scratch_create(members, n, &scratch), DESCENT_OK); }
  ~Scratch() { member_scratch_free(&scratch); }
  Scratch(const Scratch &) = delete;
  member_scratch *operator&() { return &scratch; }
};

/* Values of K members for some rows. */
struct Values {
  int64_t members, rows, n;
  std::vector<float> values;
  member_outputs all() const { return {values.data(), members, rows, n}; }
  float at(int64_t k, int64_t r, int64_t c) const { return values[static_cast<size_t>((k * rows + r) * n + c)]; }
  std::vector<Row> row(int64_t r) const {
    std::vector<Row> of(static_cast<size_t>(members));
    for (int64_t k = 0; k < members; k++)
      for (int64_t c = 0; c < n; c++) of[static_cast<size_t>(k)].push_back(static_cast<long double>(at(k, r, c)));
    return of;
  }
  Row across(int64_t r, int64_t c) const {
    Row values_of;
    for (int64_t k = 0; k < members; k++) values_of.push_back(static_cast<long double>(at(k, r, c)));
    return values_of;
  }
};

Values drawn(int64_t members, int64_t rows, int64_t n, double scale, double shift, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Values v{members, rows, n, {}};
  for (int64_t i = 0; i < members * rows * n; i++)
    v.values.push_back(static_cast<float>(shift + scale * normal(random)));
  return v;
}

struct Shape {
  descent_loss loss;
  int64_t n;
};
const Shape shapes[] = {{binary, 1}, {softmax, 2}, {softmax, 3}, {softmax, 40}, {regression, 1}, {regression, 3}};
const int64_t numbers[] = {1, 2, 3, 17};

/* The bound of member_outputs.h, and that of the oracle, which has the same operations of 2^-64. */
double raw_bound(const Values &v, const std::vector<Row> &z, descent_loss loss) {
  double distance = 0;
  for (const Row &row : z) {
    if (v.n == 1 || loss == regression)
      for (long double value : row) distance = std::max(distance, static_cast<double>(fabsl(value)));
    else
      distance = std::max(distance, static_cast<double>(*std::max_element(row.begin(), row.end()) -
                                                        *std::min_element(row.begin(), row.end())));
  }
  return 1.001 * 0x1p-53 * (2 * distance + static_cast<double>(v.n + v.members) + 8);
}

TEST(MemberOutputs, RawIsTheLogarithmOfTheMeanForLogitsOfEverySize) {
  for (const Shape &shape : shapes)
    for (const int64_t members : numbers)
      for (const double scale : {0.0, 1e-3, 1.0, 30.0, 300.0, 1500.0})
        for (const double shift : {0.0, -800.0, 800.0}) {
          SCOPED_TRACE(std::string(descent_loss_name(shape.loss)) + " " + std::to_string(members) + " of " +
                       std::to_string(shape.n) + ", " + std::to_string(shift) + " +- " + std::to_string(scale));
          const Values v = drawn(members, 9, shape.n, scale, shift, 3);
          const member_outputs all = v.all();
          Scratch scratch(members, shape.n);
          std::vector<double> raw(static_cast<size_t>(shape.n));
          for (int64_t r = 0; r < v.rows; r++) {
            const std::vector<Row> z = v.row(r);
            const Row exact = member_oracle::raw(shape.loss, z);
            const double bound = raw_bound(v, z, shape.loss);
            member_outputs_raw(shape.loss, &all, r, &scratch, raw.data());
            for (size_t c = 0; c < raw.size(); c++)
              ASSERT_NEAR(raw[c], static_cast<double>(exact[c]), bound + 0x1p-53 * std::fabs(raw[c]))
                  << "row " << r << ", " << c;
          }
        }
}

TEST(MemberOutputs, RawHasNumbersAtTheEndsOfFloat) {
  const float most = FLT_MAX;
  double raw[2];
  Scratch scratch(2, 2);
  const Values one_sided{2, 1, 1, {most, most / 2}}, opposite{2, 1, 1, {most, -most}}, tie{2, 1, 1, {750, -750}};
  member_outputs all = one_sided.all();
  member_outputs_raw(binary, &all, 0, &scratch, raw);
  EXPECT_EQ(raw[0], static_cast<double>(most / 2)) << "the member that is less sure decides";
  all = opposite.all();
  member_outputs_raw(binary, &all, 0, &scratch, raw);
  EXPECT_EQ(raw[0], 0);
  all = tie.all();
  member_outputs_raw(binary, &all, 0, &scratch, raw);
  EXPECT_EQ(raw[0], 0);
  const Values classes{2, 1, 2, {most, -most, most, -most}};
  float rounded[2];
  all = classes.all();
  member_outputs_raw_rows(softmax, &all, &scratch, rounded);
  EXPECT_EQ(rounded[0], 0);
  EXPECT_EQ(rounded[1], -most) << "-2 FLT_MAX, which is none";
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const Values v{2, 2, 2, {0, bad, 1, 2, 3, 4, 5, 6}};
    float rows[4];
    all = v.all();
    for (const Shape &shape : {Shape{softmax, 2}, Shape{regression, 2}}) {
      member_outputs_raw_rows(shape.loss, &all, &scratch, rows);
      EXPECT_TRUE(std::isnan(rows[0]) && std::isnan(rows[1])) << bad;
      EXPECT_TRUE(std::isfinite(rows[2]) && std::isfinite(rows[3])) << bad;
    }
  }
}

TEST(MemberOutputs, MeanAndSpreadAreWithinTheirBounds) {
  for (const int64_t members : {1, 2, 3, 17, 1000})
    for (const int64_t n : {1, 3, 100})
      for (const double shift : {0.0, 1e6}) {
        SCOPED_TRACE(std::to_string(members) + " of " + std::to_string(n) + " around " + std::to_string(shift));
        const Values v = drawn(members, 7, n, 1, shift, 5);
        const member_outputs all = v.all();
        std::vector<float> mean(static_cast<size_t>(7 * n), NAN), spread(mean);
        member_outputs_mean(&all, mean.data());
        member_outputs_spread(&all, spread.data());
        for (int64_t i = 0; i < 7 * n; i++) {
          const Row across = v.across(i / n, i % n);
          double largest = 0;
          for (long double value : across) largest = std::max(largest, static_cast<double>(fabsl(value)));
          const auto exact_mean = static_cast<double>(member_oracle::mean(across)),
                     exact_spread = static_cast<double>(member_oracle::spread(across));
          const double units = static_cast<double>(members) * largest;
          const auto at = static_cast<size_t>(i);
          ASSERT_NEAR(static_cast<double>(mean[at]), exact_mean, 0x1p-24 * std::fabs(exact_mean) + 0x1p-53 * units);
          ASSERT_NEAR(static_cast<double>(spread[at]), exact_spread, 0x1p-24 * exact_spread + 0x1p-52 * units);
          if (members == 1) {
            ASSERT_EQ(mean[at], v.values[at]);
            ASSERT_EQ(spread[at], 0);
          }
        }
      }
}

/* ---- derivatives ------------------------------------------------------------------------------------------------- */

long double weighted(descent_loss loss, const std::vector<Row> &z, const std::vector<float> &dOutputs) {
  const Row raw = member_oracle::raw(loss, z);
  long double sum = 0;
  for (size_t c = 0; c < raw.size(); c++) sum += static_cast<long double>(dOutputs[c]) * raw[c];
  return sum;
}

/* Central differences of the oracle with steps h and 2 h: their distance is three times the error of the nearer one. The
 * sums of logarithms are rounded in units of 2^-64 of their size, which a step divides; float32 rounds the result, and
 * double the terms of size |dOutputs|. */
TEST(MemberOutputs, BackwardIsTheDerivativeOfRaw) {
  const long double h = 1e-4L;
  for (const Shape &shape : shapes)
    for (const int64_t members : numbers)
      for (const double scale : {1.0, 6.0, 100.0}) {
        SCOPED_TRACE(std::string(descent_loss_name(shape.loss)) + " " + std::to_string(members) + " of " +
                     std::to_string(shape.n) + " +- " + std::to_string(scale));
        const Values v = drawn(members, 3, shape.n, scale, 0, 7);
        const std::vector<float> dOutputs = drawn(1, 3, shape.n, 1, 0, 8).values;
        std::vector<float> dz(v.values.size(), NAN);
        const member_outputs all = v.all();
        Scratch scratch(members, shape.n);
        for (int64_t r = 0; r < (shape.n > 3 ? 1 : 3); r++) {
          const std::vector<float> of_row(dOutputs.begin() + r * shape.n, dOutputs.begin() + (r + 1) * shape.n);
          member_outputs_backward(shape.loss, &all, r, of_row.data(), &scratch, dz.data());
          std::vector<Row> z = v.row(r);
          const auto J = static_cast<double>(fabsl(weighted(shape.loss, z, of_row)));
          for (int64_t k = 0; k < members; k++)
            for (int64_t c = 0; c < shape.n; c++) {
              long double &at = z[static_cast<size_t>(k)][static_cast<size_t>(c)], J_at[4];
              const long double middle = at, steps[] = {2 * h, -2 * h, h, -h};
              for (int i = 0; i < 4; i++) {
                at = middle + steps[i];
                J_at[i] = weighted(shape.loss, z, of_row);
              }
              at = middle;
              const auto near = static_cast<double>((J_at[2] - J_at[3]) / (2 * h)),
                         wide = static_cast<double>((J_at[0] - J_at[1]) / (4 * h));
              const double rounding = 100 * 0x1p-64 * (scale + J) * static_cast<double>(shape.n + members) / 1e-4;
              const auto found = static_cast<double>(dz[static_cast<size_t>((k * 3 + r) * shape.n + c)]);
              ASSERT_NEAR(found, near,
                          2 * std::fabs(near - wide) + rounding + 0x1p-23 * std::fabs(found) +
                              0x1p-53 * 8 * (scale + static_cast<double>(shape.n)))
                  << "member " << k << ", row " << r << ", output " << c;
            }
        }
      }
}

/* Far from 0 the weights of members are a softmax of their distances, and 0 / 0 in a direct formula. */
TEST(MemberOutputs, BackwardHasItsLimitsFarFromZero) {
  Scratch scratch(2, 2);
  const float one[] = {1, 0};
  const double first = 1 / (1 + std::exp(-1.0));
  const auto at = [&](descent_loss loss, const Values &v) {
    std::vector<float> dz(v.values.size(), NAN);
    const member_outputs all = v.all();
    member_outputs_backward(loss, &all, 0, one, &scratch, dz.data());
    return dz;
  };
  for (const float sign : {1.0F, -1.0F}) {
    const std::vector<float> dz = at(binary, {2, 1, 1, {-sign * 900, -sign * 901}});
    EXPECT_NEAR(static_cast<double>(dz[0]), first, 0x1p-23);
    EXPECT_NEAR(static_cast<double>(dz[0]) + static_cast<double>(dz[1]), 1, 0x1p-23);
  }
  const std::vector<float> dz = at(softmax, {2, 1, 2, {-900, 0, -901, 0}});
  EXPECT_NEAR(static_cast<double>(dz[0]), first, 0x1p-23);
  EXPECT_NEAR(static_cast<double>(dz[1]), -first, 0x1p-23);
  EXPECT_NEAR(static_cast<double>(dz[2]), 1 - first, 0x1p-23);
  const float most = FLT_MAX;
  for (const float value : at(binary, {2, 1, 1, {most, -most}})) EXPECT_TRUE(std::isfinite(value));
  for (const float value : at(softmax, {2, 1, 2, {most, -most, -most, most}})) EXPECT_TRUE(std::isfinite(value));
}

}  // namespace
