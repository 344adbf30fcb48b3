/* The kernel that adds the slices of all ranks: its order, which decides the bits, for every number of ranks that it
 * takes, and what it leaves alone. */
#include <cmath>
#include <random>

#include "passes.h"

namespace {

enum { GUARD = 8 };

/* The sum over parts [first, first + n): halves where n is a power of two, else the largest one in front. */
template <typename T>
T tree(const std::vector<T> &parts, size_t first, size_t n) {
  size_t left = 1;
  if (n == 1) return parts[first];
  while (2 * left < n) left *= 2;
  return tree(parts, first, left) + tree(parts, first + left, n - left);
}

void expect_sum(int ranks, int rank, int64_t n, int64_t width) {
  std::mt19937 random(static_cast<unsigned>(ranks * 1000 + rank));
  const auto draw = [&] {
    return std::ldexp(static_cast<float>(random() % 4001) - 2000.0F, static_cast<int>(random() % 24) - 12);
  };
  Buffer<float> own(n + GUARD, kUntouched), received(ranks * width, 0.0F);
  Buffer<double> loss(1, 0.0), losses(ranks, 0.0);
  for (int64_t i = 0; i < n; i++) own.host[static_cast<size_t>(i)] = draw();
  for (float &value : received.host) value = draw();
  for (double &value : losses.host) value = static_cast<double>(draw()) / 3;
  loss.host[0] = static_cast<double>(draw()) / 3;
  losses.host[static_cast<size_t>(rank)] = NAN; /* this rank's entries are not read */
  for (int64_t i = 0; i < width; i++) received.host[static_cast<size_t>(rank * width + i)] = NAN;
  own.store(), received.store(), loss.store(), losses.store();
  const std::vector<float> gradients = own.host;
  std::vector<double> shares = losses.host;
  shares[static_cast<size_t>(rank)] = loss.host[0];

  rank_sum_launch launch{};
  launch.own = own.data, launch.received = received.data, launch.n = n, launch.width = width;
  launch.loss = loss.data, launch.losses = losses.data, launch.ranks = ranks, launch.rank = rank;
  ASSERT_EQ(launch_rank_sum(&launch, nullptr), cudaSuccess);
  own.fetch(), loss.fetch();
  for (int64_t i = 0; i < n; i++) {
    std::vector<float> parts;
    for (int r = 0; r < ranks; r++)
      parts.push_back(r == rank ? gradients[static_cast<size_t>(i)]
                                : received.host[static_cast<size_t>(r * width + i)]);
    ASSERT_EQ(own.host[static_cast<size_t>(i)], tree(parts, 0, parts.size())) << i;
  }
  EXPECT_EQ(loss.host[0], tree(shares, 0, shares.size()));
  for (size_t i = static_cast<size_t>(n); i < own.host.size(); i++) EXPECT_EQ(own.host[i], kUntouched);
}

TEST(RankSum, AddsInTheOrderOfABinaryCounter) {
  for (const int ranks : {2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 64, 100, 255, 256})
    for (const int rank : {0, ranks / 2, ranks - 1}) {
      SCOPED_TRACE(testing::Message() << "rank " << rank << " of " << ranks);
      expect_sum(ranks, rank, ranks < 10 ? 1040 : 16, ranks < 10 ? 1056 : 16);
      if (HasFailure()) return;
    }
}

/* Ranks beyond the gradients' end have an empty slice, and still add the loss. */
TEST(RankSum, OfAnEmptySliceIsThatOfTheLosses) { expect_sum(5, 3, 0, 16); }

TEST(RankSum, RefusesWhatItCannotAdd) {
  rank_sum_launch launch{};
  launch.ranks = RANKS_MOST + 1;
  EXPECT_EQ(launch_rank_sum(&launch, nullptr), cudaErrorInvalidValue);
  launch.ranks = 1;
  EXPECT_EQ(launch_rank_sum(&launch, nullptr), cudaErrorInvalidValue);
  launch.ranks = 2, launch.n = 3;
  EXPECT_EQ(launch_rank_sum(&launch, nullptr), cudaErrorInvalidValue);
}

}  // namespace
