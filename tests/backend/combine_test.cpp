/* The order in which the gradients of micro-batches are added, to the bit: it makes a result the same on 1, 2, 4 .. ranks. */
#include <random>

#include "conformance.h"

namespace conformance {
namespace {

/* The sum of parts first .. first + n - 1: that of the largest power of two below n, and that of the rest. */
template <typename Value>
Value tree(const std::vector<Value> &parts, size_t first, size_t n) {
  if (n == 1) return parts[first];
  size_t left = 1;
  while (2 * left < n) left *= 2;
  return tree(parts, first, left) + tree(parts, first + left, n - left);
}

enum { VALUES = 9000 }; /* more than a piece of work */

/* What parts [first, first + K) of all add up to, element by element, and their losses. */
struct Sums {
  std::vector<float> gradients;
  double loss = 0;
  bool operator==(const Sums &other) const { return gradients == other.gradients && loss == other.loss; }
};

Sums combined(const backend &b, int threads, const std::vector<Sums> &parts, size_t first, size_t K) {
  OneOp one(1, 1);
  plan_combine c{};
  c.n = VALUES, c.levels = plan_combine_levels(static_cast<int64_t>(K));
  c.gradients = one.state("gradients", PLAN_F32, std::vector<double>(VALUES));
  c.partial_gradients =
      one.state("partial_gradients", PLAN_F32, c.levels, std::vector<double>(static_cast<size_t>(c.levels) * VALUES));
  c.scalars = one.scalars({});
  c.partial_losses = one.state("partial_losses", PLAN_F64, std::vector<double>(static_cast<size_t>(c.levels)));
  one.op(OP_COMBINE, 0).combine = c;
  one.segment(parameter_segment{0, 0, 0, VALUES});
  one.step.rows = 0;
  Session session({"", &b, threads, {}}, one);
  Sums sums{std::vector<float>(VALUES), 0};
  for (size_t k = 0; k < K; k++) {
    one.cut(0, static_cast<int>(k), static_cast<int>(K), 0);
    EXPECT_EQ(b.write(session.program, c.gradients, 0, VALUES, PLAN_F32, parts[first + k].gradients.data()),
              DESCENT_OK);
    EXPECT_EQ(b.write(session.program, c.scalars, SCALAR_LOSS, 1, PLAN_F64, &parts[first + k].loss), DESCENT_OK);
    EXPECT_EQ(b.run(session.program, plan_range{0, 1}, &one.step, 1), DESCENT_OK) << descent_last_error();
  }
  EXPECT_EQ(b.read(session.program, c.gradients, 0, VALUES, PLAN_F32, sums.gradients.data()), DESCENT_OK);
  EXPECT_EQ(b.read(session.program, c.scalars, SCALAR_LOSS, 1, PLAN_F64, &sums.loss), DESCENT_OK);
  return sums;
}

enum { MOST_PARTS = 40 };

/* The first n of the same parts. */
std::vector<Sums> some_parts(size_t n) {
  static const std::vector<Sums> all = [] {
    std::mt19937 random(1);
    std::vector<Sums> parts(MOST_PARTS);
    for (Sums &part : parts) {
      for (int i = 0; i < VALUES; i++) part.gradients.push_back(static_cast<float>(random()) / 3 - 7e8F);
      part.loss = random() / 3.0;
    }
    return parts;
  }();
  EXPECT_LE(n, all.size());
  return {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n)};
}

Sums expected(const std::vector<Sums> &parts) {
  Sums sums{std::vector<float>(VALUES), 0};
  for (size_t i = 0; i < VALUES; i++) {
    std::vector<float> values;
    for (const Sums &part : parts) values.push_back(part.gradients[i]);
    sums.gradients[i] = tree(values, 0, values.size());
  }
  std::vector<double> losses;
  for (const Sums &part : parts) losses.push_back(part.loss);
  sums.loss = tree(losses, 0, losses.size());
  return sums;
}

TEST(Combine, AddsInTheOrderOfATree) {
  for (size_t K = 1; K <= 19; K++) {
    const std::vector<Sums> parts = some_parts(K);
    for (int threads : {1, 2}) EXPECT_TRUE(combined(backend_cpu, threads, parts, 0, K) == expected(parts)) << K;
  }
}

/* Each of R ranks adds 2^k parts; their sums, added in the same order, are those of one rank. */
TEST(Combine, SumsOfRanksAreThoseOfOne) {
  for (size_t ranks : {2, 3, 4, 5, 8})
    for (size_t each : {1, 2, 4}) {
      const std::vector<Sums> parts = some_parts(ranks * each);
      std::vector<Sums> sums;
      for (size_t rank = 0; rank < ranks; rank++) sums.push_back(combined(backend_cpu, 1, parts, rank * each, each));
      EXPECT_TRUE(expected(sums) == combined(backend_cpu, 1, parts, 0, parts.size())) << ranks << " x " << each;
    }
}

}  // namespace
}  // namespace conformance
