/* The sum of gradients over micro-batches without a plan: its order, which decides the bits, and its error. */
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "passes.h"

namespace {

enum { LEVELS = 5, GUARD = 16 };

/* The flat buffers of two layers: one of several pieces, and one that is shorter than a turn of a block. */
const int64_t kFloats = FLAT_TURN + 808 + 40;
const std::vector<flat_piece> kPieces = {
    {0, FLAT_TURN, 1, FLAT_TURN}, {FLAT_TURN, FLAT_TURN + 808, 1, FLAT_TURN}, {FLAT_TURN + 808, kFloats, 2, 40}};

/* The gradients and the loss of parts, of sizes whose sum depends on its order. */
struct Parts {
  explicit Parts(int n) {
    std::mt19937 random(static_cast<unsigned>(n));
    std::uniform_real_distribution<float> exponent(-12, 12);
    for (int k = 0; k < n; k++) {
      std::vector<float> values(static_cast<size_t>(kFloats));
      for (float &x : values) x = std::exp2(exponent(random)) * (random() % 2 ? 1.0F : -1.0F);
      gradients.push_back(values);
      losses.push_back(std::exp2(static_cast<double>(exponent(random))) / 3);
    }
  }
  std::vector<std::vector<float>> gradients;
  std::vector<double> losses;
};

/* The tree over parts first .. first + n - 1: halves where n is a power of two, else the largest one in front. */
template <typename T, typename VALUE>
T tree(int first, int n, VALUE value) {
  int left = 1;
  if (n == 1) return value(first);
  while (2 * left < n) left *= 2;
  return tree<T>(first, left, value) + tree<T>(first + left, n - left, value);
}

/* What the kernel leaves of parts that are given to it in turn. */
class Combined {
 public:
  Combined()
      : gradients(kFloats + GUARD, kUntouched),
        partial(LEVELS * kFloats + GUARD, NAN), /* nothing is read before it is written */
        losses(LEVELS + 1, static_cast<double>(NAN)),
        loss(1, 0),
        pieces_(kPieces) {}
  void add(const std::vector<float> &values, double J, int part, int parts) {
    step_state now{};
    now.current.micro_batch = part, now.current.micro_batches = parts;
    const Buffer<step_state> state({now});
    std::copy(values.begin(), values.end(), gradients.host.begin());
    gradients.store();
    loss.host[0] = J;
    loss.store();
    combine_launch launch{};
    launch.state = state.data, launch.gradients = gradients.data, launch.partial_gradients = partial.data;
    launch.n = kFloats, launch.loss = loss.data, launch.partial_losses = losses.data;
    launch.pieces = pieces_.data, launch.n_pieces = static_cast<int>(kPieces.size());
    ASSERT_EQ(launch_combine(&launch, nullptr), cudaSuccess);
    gradients.fetch(), partial.fetch(), losses.fetch(), loss.fetch();
  }
  Buffer<float> gradients, partial;
  Buffer<double> losses, loss;

 private:
  Buffer<flat_piece> pieces_;
};

TEST(Combine, AddsPartsInTheOrderOfABinaryCounter) {
  for (int n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 23, 32}) {
    SCOPED_TRACE(std::to_string(n) + " parts");
    const Parts parts(n);
    Combined combined;
    for (int k = 0; k < n; k++) {
      const auto at = static_cast<size_t>(k);
      combined.add(parts.gradients[at], parts.losses[at], k, n);
      if (HasFatalFailure()) return;
      if (k == n - 1) break;
      ASSERT_EQ(memcmp(combined.gradients.host.data(), parts.gradients[at].data(), static_cast<size_t>(kFloats) * 4),
                0);
      ASSERT_EQ(combined.loss.host[0], parts.losses[at]);
      int level = 0; /* of the largest subtree that ends here */
      while ((k + 1) % (2 << level) == 0) level++;
      for (size_t i = 0; i < static_cast<size_t>(kFloats); i += 97) {
        const auto value = [&](int part) { return parts.gradients[static_cast<size_t>(part)][i]; };
        ASSERT_EQ(combined.partial.host[static_cast<size_t>(level * kFloats) + i],
                  tree<float>(k + 1 - (1 << level), 1 << level, value))
            << k << ", " << i;
      }
    }
    for (size_t i = 0; i < static_cast<size_t>(kFloats); i++) {
      const auto value = [&](int part) { return parts.gradients[static_cast<size_t>(part)][i]; };
      ASSERT_EQ(combined.gradients.host[i], tree<float>(0, n, value)) << i;
      double exact = 0, absolute = 0; /* to within 2^-52 */
      for (int k = 0; k < n; k++)
        exact += static_cast<double>(value(k)), absolute += std::fabs(static_cast<double>(value(k)));
      const double lost = std::ceil(std::log2(n)) * 0x1p-24; /* of a tree of this height */
      ASSERT_NEAR(static_cast<double>(combined.gradients.host[i]), exact, (lost / (1 - lost) + n * 0x1p-52) * absolute);
    }
    EXPECT_EQ(combined.loss.host[0],
              tree<double>(0, n, [&](int part) { return parts.losses[static_cast<size_t>(part)]; }));
    for (size_t i = static_cast<size_t>(kFloats); i < combined.gradients.host.size(); i++)
      EXPECT_EQ(combined.gradients.host[i], kUntouched);
    for (size_t i = static_cast<size_t>(LEVELS * kFloats); i < combined.partial.host.size(); i++)
      EXPECT_TRUE(std::isnan(combined.partial.host[i]));
    EXPECT_TRUE(std::isnan(combined.losses.host[LEVELS]));
  }
}

/* Ranks of equally many parts, a power of two, whose sums are added in the same order, have the bits of one rank. */
TEST(Combine, GivesTheSameBytesForEveryNumberOfRanks) {
  enum { PARTS = 16 };
  const Parts parts(PARTS);
  std::vector<float> expected;
  double expected_loss = 0;
  for (int ranks : {1, 2, 4, 8, 16}) {
    const int each = PARTS / ranks;
    Combined over_ranks;
    for (int rank = 0; rank < ranks; rank++) {
      Combined of_rank;
      for (int k = 0; k < each; k++) {
        const auto at = static_cast<size_t>(rank * each + k);
        of_rank.add(parts.gradients[at], parts.losses[at], k, each);
      }
      of_rank.gradients.host.resize(static_cast<size_t>(kFloats));
      over_ranks.add(of_rank.gradients.host, of_rank.loss.host[0], rank, ranks);
    }
    if (ranks == 1) expected = over_ranks.gradients.host, expected_loss = over_ranks.loss.host[0];
    EXPECT_EQ(over_ranks.gradients.host, expected) << ranks;
    EXPECT_EQ(over_ranks.loss.host[0], expected_loss) << ranks;
  }
}

}  // namespace
