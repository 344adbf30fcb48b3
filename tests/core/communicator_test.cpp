// Collectives between threads as ranks: order of additions, agreement, and ranks that fall silent.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "rank_threads.h"

extern "C" {
#include "core/status.h"
}

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

// Of different magnitudes and signs, so that another order of additions gives other bits.
float ValueOf(int rank, int64_t i) {
  const uint32_t bits = static_cast<uint32_t>(rank * 2654435761U + static_cast<uint32_t>(i) * 40503U + 12345U);
  return std::ldexp(static_cast<float>(bits >> 8) - 8e6F, static_cast<int>(bits % 13) - 20);
}

// The sum over the ranks first .. first + count - 1 by the definition of a tree: two halves, the first of which has the
// largest power of two below count.
template <typename T>
T Tree(const std::vector<T> &parts, size_t first, size_t count) {
  size_t half = 1;
  if (count == 1) return parts[first];
  while (half * 2 < count) half *= 2;
  return Tree(parts, first, half) + Tree(parts, first + half, count - half);
}

bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

template <typename T>
bool SameBytes(const std::vector<T> &a, const std::vector<T> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

struct Summed {
  std::vector<float> values;
  std::vector<double> scalars;
};

// Every rank's result of a sum of n values that value(rank, i) gives, and of two scalars.
template <typename Value>
std::vector<Summed> SumOf(int size, int64_t n, Value value) {
  std::vector<Summed> results(static_cast<size_t>(size));
  RankThreads ranks(size);
  ranks.run([&](int rank, descent_communicator *c) {
    Summed &own = results[static_cast<size_t>(rank)];
    for (int64_t i = 0; i < n; i++) own.values.push_back(value(rank, i));
    own.scalars = {0.1 * rank + 1e-17, static_cast<double>(value(rank, 3))};
    EXPECT_EQ(c->sum(c, own.values.data(), n, own.scalars.data(), 2), DESCENT_OK) << descent_last_error();
  });
  return results;
}

TEST(Communicator, HostsAreShownWithoutTheirDomainsWhereThatTellsThemApart) {
  const struct {
    std::vector<std::string> whole, shown;
  } cases[] = {{{"node1.a.org", "node1.a.org", "node2.a.org"}, {"node1", "node1", "node2"}},
               {{"node1.a.org", "node1.b.org", "node2.a.org"}, {"node1.a.org", "node1.b.org", "node2.a.org"}},
               {{"node1", "node1.a.org"}, {"node1", "node1.a.org"}},
               {{"10.1.2.3", "10.1.2.4", "node.a.org"}, {"10.1.2.3", "10.1.2.4", "node"}},
               {{"10", "10.1.2.4"}, {"10", "10.1.2.4"}}};
  for (const auto &c : cases) {
    RankThreads ranks(c.whole);
    ranks.run([&](int, descent_communicator *communicator) {
      for (size_t r = 0; r < c.shown.size(); r++)
        EXPECT_EQ(descent_communicator_host(communicator, static_cast<int>(r)), c.shown[r]);
    });
  }
}

TEST(Communicator, SumsHaveTheBitsOfTheTreeOverTheRanksOnEveryRank) {
  for (int size = 1; size <= 9; size++)
    for (const int64_t n : {1, 2, 7, 15, 16, 17, 100, 4095, 40001}) {
      const std::vector<Summed> results = SumOf(size, n, ValueOf);
      for (int64_t i = 0; i < n; i++) {
        std::vector<float> parts;
        for (int rank = 0; rank < size; rank++) parts.push_back(ValueOf(rank, i));
        ASSERT_TRUE(SameBits(results[0].values[static_cast<size_t>(i)], Tree(parts, 0, parts.size())))
            << size << " ranks, value " << i << " of " << n;
      }
      std::vector<double> first;
      for (int rank = 0; rank < size; rank++) first.push_back(0.1 * rank + 1e-17);
      EXPECT_EQ(results[0].scalars[0], Tree(first, 0, first.size())) << size << " ranks";
      for (const Summed &other : results) {
        EXPECT_TRUE(SameBytes(other.values, results[0].values)) << size << " ranks, " << n << " values";
        EXPECT_TRUE(SameBytes(other.scalars, results[0].scalars)) << size << " ranks, " << n << " values";
      }
    }
}

TEST(Communicator, SumsTreatSpecialValuesAsAdditionsDo) {
  const std::vector<std::vector<float>> cases = {
      {-0.0F, -0.0F, -0.0F},  {-0.0F, 0.0F, -0.0F},     {kNan, 1, 2}, {1, 2, kNan}, {kInfinity, -kInfinity, 1},
      {3e38F, 3e38F, -3e38F}, {1e-45F, 1e-45F, -1e-45F}};
  const std::vector<Summed> results = SumOf(3, static_cast<int64_t>(cases.size()), [&](int rank, int64_t i) {
    return cases[static_cast<size_t>(i)][static_cast<size_t>(rank)];
  });
  for (size_t i = 0; i < cases.size(); i++)
    for (const Summed &own : results)
      EXPECT_TRUE(SameBits(own.values[i], Tree(cases[i], 0, 3))) << "case " << i << ": " << own.values[i];
}

TEST(Communicator, SumsOfDifferentLengthsFollowEachOther) {
  RankThreads ranks(4);
  ranks.run([&](int rank, descent_communicator *c) {
    for (const int64_t n : {40000, 3, 0, 50000, 17}) {
      std::vector<float> values(static_cast<size_t>(n), static_cast<float>(rank + 1));
      double scalar = rank;
      EXPECT_EQ(c->sum(c, values.data(), n, &scalar, 1), DESCENT_OK) << descent_last_error();
      EXPECT_EQ(values, std::vector<float>(static_cast<size_t>(n), 10.0F));
      EXPECT_EQ(scalar, 6);
    }
  });
}

// Each rank sends every other one a slice, the scalars and a result: 2 (R - 1) / R of the values.
TEST(Communicator, SumsSendEachValueOnceForAdditionAndOnceAsResult) {
  for (const int size : {2, 4, 8}) {
    RankThreads ranks(size);
    ranks.run([&](int, descent_communicator *c) {
      std::vector<float> values(4096, 1.0F);
      double scalar = 1;
      EXPECT_EQ(c->sum(c, values.data(), 4096, &scalar, 1), DESCENT_OK);
    });
    EXPECT_EQ(ranks.sent(), size * (size - 1) * (1 + 3)) << "the hosts' names before it";
  }
}

TEST(Communicator, GathersInTheOrderOfTheRanksAndSendsWhatRankZeroHas) {
  for (const int size : {1, 2, 3, 5, 8}) {
    RankThreads ranks(size);
    ranks.run([&](int rank, descent_communicator *c) {
      std::vector<int> all(static_cast<size_t>(size), -1);
      const int own = 100 + rank;
      EXPECT_EQ(communicator_gather(c, &own, sizeof own, all.data()), DESCENT_OK);
      for (int r = 0; r < size; r++) EXPECT_EQ(all[static_cast<size_t>(r)], 100 + r);
      all[static_cast<size_t>(rank)] = 7 * rank + 1; /* in place */
      EXPECT_EQ(communicator_gather(c, &all[static_cast<size_t>(rank)], sizeof own, all.data()), DESCENT_OK);
      for (int r = 0; r < size; r++) EXPECT_EQ(all[static_cast<size_t>(r)], 7 * r + 1);
      std::string text = rank == 0 ? "from rank 0" : "xxxxxxxxxxx";
      EXPECT_EQ(communicator_broadcast(c, text.data(), static_cast<int64_t>(text.size())), DESCENT_OK);
      EXPECT_EQ(text, "from rank 0");
    });
  }
}

// What every rank is left with when these ranks fail.
void ExpectAgreement(int size, const std::vector<int> &failing, const std::string &expected) {
  RankThreads ranks(size);
  ranks.run([&](int rank, descent_communicator *c) {
    descent_status own = DESCENT_OK;
    status_clear();
    for (const int r : failing)
      if (r == rank) own = status_set(DESCENT_ERROR_READ, "train.csv: cannot read, says %d", rank);
    const descent_status agreed = communicator_agree(c, own);
    EXPECT_EQ(agreed, failing.empty() ? DESCENT_OK : DESCENT_ERROR_READ);
    EXPECT_EQ(std::string(descent_last_error()), expected) << "rank " << rank;
    double scalar = 1; /* the ranks are still together */
    float value = 1;
    EXPECT_EQ(c->sum(c, &value, 1, &scalar, 1), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(value, static_cast<float>(size));
  });
}

TEST(Communicator, AgreesOnTheErrorOfTheLowestRankThatFails) {
  ExpectAgreement(4, {}, "");
  ExpectAgreement(4, {2}, "rank 2 (node1): train.csv: cannot read, says 2");
  ExpectAgreement(4, {3, 1}, "rank 1 (node0): train.csv: cannot read, says 1");
  ExpectAgreement(2, {0, 1}, "rank 0 (node0): train.csv: cannot read, says 0");
}

/* What all ranks say is of none in particular. */
TEST(Communicator, AgreesOnTheErrorOfAllRanksWithoutNamingOne) {
  const struct {
    std::vector<std::string> texts; /* of ranks */
    std::string agreed;
  } cases[] = {
      {{"no rows", "no rows", "no rows"}, "no rows"},
      {{"no rows", "no rows", "no row!"}, "rank 0 (node0): no rows"}, /* of one length */
      {{"no rows", "no columns", "no rows"}, "rank 0 (node0): no rows"},
      {{"no rows", "no rows", ""}, "rank 0 (node0): no rows"}, /* "": OK */
      {{"", "no rows", "no rows"}, "rank 1 (node0): no rows"},
  };
  for (const auto &row : cases)
    RankThreads(3).run([&](int rank, descent_communicator *c) {
      const std::string &text = row.texts[static_cast<size_t>(rank)];
      for (int i = 0; i < 2; i++) { /* the ranks stay together */
        const descent_status own = text.empty() ? DESCENT_OK : status_set(DESCENT_ERROR_DATA, "%s", text.c_str());
        EXPECT_EQ(communicator_agree(c, own), DESCENT_ERROR_DATA);
        EXPECT_EQ(std::string(descent_last_error()), row.agreed) << "rank " << rank;
      }
    });
}

TEST(Communicator, OfOneRankAgreesWithItself) {
  status_set(DESCENT_ERROR_READ, "train.csv: cannot read");
  EXPECT_EQ(communicator_agree(nullptr, DESCENT_ERROR_READ), DESCENT_ERROR_READ);
  EXPECT_STREQ(descent_last_error(), "train.csv: cannot read");
  EXPECT_EQ(communicator_agree(nullptr, DESCENT_OK), DESCENT_OK);
}

// Rank 2 sends nothing after its first messages: the others name it, and no later call waits again.
TEST(Communicator, NamesARankThatDoesNotAnswerInTime) {
  RankThreads::Plan plan;
  plan.fault = RankThreads::SILENCE;
  plan.rank = 2;
  plan.messages = 3; /* it has introduced itself */
  RankThreads ranks(4, 0.2, plan);
  ranks.run([&](int rank, descent_communicator *c) {
    std::vector<float> values(1000, 1.0F);
    double scalar = 1;
    ASSERT_NE(c, nullptr);
    const descent_status status = c->sum(c, values.data(), 1000, &scalar, 1);
    if (rank == 2) return;
    EXPECT_EQ(status, DESCENT_ERROR_DEVICE);
    EXPECT_EQ(std::string(descent_last_error()),
              "rank 2 (node1) has not answered for 0.2 s: see whether it still runs, or allow more time");
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(communicator_gather(c, &rank, sizeof rank, values.data()), DESCENT_ERROR_DEVICE);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100)) << "waited again";
    status_set(DESCENT_ERROR_WRITE, "why this rank fails");
    EXPECT_EQ(communicator_agree(c, DESCENT_ERROR_WRITE), DESCENT_ERROR_WRITE);
    EXPECT_STREQ(descent_last_error(), "why this rank fails");
  });
}

TEST(Communicator, NamesARankThatNeverAnswers) {
  RankThreads::Plan plan;
  plan.fault = RankThreads::SILENCE;
  plan.rank = 1;
  RankThreads ranks(3, 0.2, plan);
  ranks.run([&](int rank, descent_communicator *c) {
    if (rank == 1) return;
    EXPECT_EQ(c, nullptr);
    EXPECT_EQ(std::string(descent_last_error()),
              "rank 1 (host unknown) has not answered for 0.2 s: see whether it still runs, or allow more time");
  });
}

TEST(Communicator, KeepsItsOwnErrorWhereAnotherRankFallsSilentInAnAgreement) {
  RankThreads::Plan plan;
  plan.fault = RankThreads::SILENCE;
  plan.rank = 0;
  plan.messages = 2;
  RankThreads ranks(3, 0.2, plan);
  ranks.run([&](int rank, descent_communicator *c) {
    if (rank == 0) return;
    status_set(DESCENT_ERROR_READ, "the reason of rank %d", rank);
    EXPECT_EQ(communicator_agree(c, DESCENT_ERROR_READ), DESCENT_ERROR_READ);
    EXPECT_EQ(std::string(descent_last_error()), "the reason of rank " + std::to_string(rank));
  });
}

TEST(Communicator, ReportsATransportThatFails) {
  RankThreads::Plan plan;
  plan.fault = RankThreads::BREAKAGE;
  plan.rank = 1;
  plan.messages = 1;
  RankThreads ranks(2, 0.2, plan);
  ranks.run([&](int rank, descent_communicator *c) {
    float value = 1;
    double scalar = 1;
    if (rank == 0) return;
    EXPECT_EQ(c->sum(c, &value, 1, &scalar, 1), DESCENT_ERROR_DEVICE);
    EXPECT_STREQ(descent_last_error(), "the connection between the ranks failed: broken by the test");
    EXPECT_EQ(c->sum(c, &value, 1, &scalar, 1), DESCENT_ERROR_DEVICE);
    EXPECT_STREQ(descent_last_error(), "the connection between the ranks failed earlier: start all ranks again");
  });
}

// A rank that does something else is noticed by the length of what it sends.
TEST(Communicator, NoticesARankThatMakesAnotherCall) {
  RankThreads ranks(2, 0.5);
  ranks.run([&](int rank, descent_communicator *c) {
    std::vector<float> values(100, 1.0F);
    double scalar = 1;
    if (rank == 0) {
      EXPECT_EQ(c->sum(c, values.data(), 100, &scalar, 1), DESCENT_ERROR_DEVICE);
      EXPECT_NE(std::string(descent_last_error()).find("a message of 16 bytes from rank 1 where"), std::string::npos)
          << descent_last_error();
    } else {
      status_set(DESCENT_ERROR_MEMORY, "out of memory on rank 1");
      EXPECT_EQ(communicator_agree(c, DESCENT_ERROR_MEMORY), DESCENT_ERROR_MEMORY);
      EXPECT_STREQ(descent_last_error(), "out of memory on rank 1");
    }
  });
}

TEST(Communicator, OfOneProcessIsRankZeroOfOneWithAllItsCores) {
  descent_communicator *c = nullptr;
  descent_device *device = nullptr;
  int all = 0;
  const int own = 5;
  ASSERT_EQ(descent_communicator_open("single", 1, &c), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_communicator_rank(c), 0);
  EXPECT_EQ(descent_communicator_size(c), 1);
  EXPECT_EQ(descent_communicator_local_rank(c), 0);
  EXPECT_EQ(descent_communicator_local_size(c), 1);
  EXPECT_STRNE(descent_communicator_host(c, 0), "");
  EXPECT_STREQ(descent_communicator_host(c, 1), "");
  EXPECT_STREQ(descent_communicator_host(c, -1), "");
  EXPECT_EQ(descent_communicator_gather(c, &own, sizeof own, &all), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(all, 5);
  ASSERT_EQ(descent_device_open("cpu", 0, &device), DESCENT_OK);
  const std::string threads = std::to_string(descent_communicator_threads(c)) + " thread";
  EXPECT_NE(std::string(descent_device_description(device)).find(threads), std::string::npos)
      << threads << " in " << descent_device_description(device);
  descent_device_close(device);
  descent_communicator_abort(c, 3); /* returns */
  descent_communicator_close(c);
}

TEST(Communicator, RefusesOtherKindsAndTimes) {
  descent_communicator *c = nullptr;
  EXPECT_EQ(descent_communicator_open("nccl", 1, &c), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "unknown kind 'nccl' (known: single, self, mpi)");
  for (const double seconds : {0.0, -1.0, static_cast<double>(kNan), static_cast<double>(kInfinity)})
    EXPECT_EQ(descent_communicator_open("single", seconds, &c), DESCENT_ERROR_ARGUMENT) << seconds;
  EXPECT_EQ(c, nullptr);
}

}  // namespace
