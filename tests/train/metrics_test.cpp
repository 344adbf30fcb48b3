/* Metrics compared with hand-computed values and brute force. */
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "internal.h"

namespace {

using Network = std::unique_ptr<descent_network, void (*)(descent_network *)>;

Network make_network(int64_t outputs, descent_loss loss) {
  descent_network_options options = descent_network_options_default();
  options.inputs = 1;
  options.layers = 1;
  options.widths = &outputs;
  options.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  return {network, descent_network_free};
}

struct Metrics : descent_metrics {
  Metrics() : descent_metrics{} {}
  ~Metrics() { descent_metrics_clear(this); }
  Metrics(const Metrics &) = delete;
  Metrics &operator=(const Metrics &) = delete;
};

/* Logits, or predicted values, row by row of `outputs`; y row by row of `targets`. */
void measure(const Network &network, const std::vector<float> &values, const std::vector<float> &y, int64_t top_k,
             Metrics *metrics) {
  const size_t outputs = static_cast<size_t>(descent_network_outputs(network.get()));
  const size_t targets = network->classes ? 1 : outputs, rows = y.size() / targets;
  metrics_sums *sums = nullptr;
  ASSERT_EQ(metrics_create(network.get(), static_cast<int64_t>(rows), top_k, &sums), DESCENT_OK);
  for (size_t r = 0; r < rows; r++) metrics_add(sums, &values[r * outputs], &y[r * targets]);
  ASSERT_EQ(metrics_finish(sums, 0.25, metrics), DESCENT_OK);
  metrics_free(sums);
  EXPECT_EQ(metrics->rows, static_cast<int64_t>(rows));
  EXPECT_EQ(metrics->loss, 0.25);
}

std::vector<int64_t> confusion_of(const Metrics &m) { return {m.confusion, m.confusion + m.classes * m.classes}; }

TEST(Metrics, BinaryByHand) {
  auto network = make_network(1, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  Metrics m;
  measure(network, {2, 0, -0.5F, -3, 1}, {1, 1, 1, 0, 0}, 0, &m);
  EXPECT_EQ(m.accuracy, 3.0 / 5); /* a logit of 0, a probability of 1/2, counts as class 1 */
  EXPECT_EQ(confusion_of(m), (std::vector<int64_t>{1, 1, 1, 2}));
  EXPECT_EQ(m.classes, 2);
  EXPECT_DOUBLE_EQ(m.f1[0], 2.0 * 1 / (2 * 1 + 1 + 1));
  EXPECT_DOUBLE_EQ(m.f1[1], 2.0 * 2 / (2 * 2 + 1 + 1));
  EXPECT_EQ(m.auc, 4.0 / 6); /* of 6 pairs only 0 < 1 and -0.5 < 1 are wrong */
  EXPECT_TRUE(std::isnan(m.rmse) && std::isnan(m.r2) && std::isnan(m.top_k_accuracy));
  EXPECT_EQ(m.top_k, 0);
}

TEST(Metrics, AreaUnderCurveEqualsThePairCount) {
  auto network = make_network(1, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  std::mt19937 random(7);
  /* From logits of both signs that differ in the last bits to those whose probabilities are 0 or 1 in float32, and in
   * double: few levels make many ties. */
  for (float scale : {1e-30F, 1.0F, 60.0F, 1e4F, 1e38F})
    for (int levels : {1, 2, 5, 1000, 1 << 24})
      for (size_t rows : {2, 3, 10, 257}) {
        SCOPED_TRACE(std::to_string(levels) + " levels, " + std::to_string(rows) + " rows");
        std::vector<float> z(rows), y(rows);
        for (size_t r = 0; r < rows; r++) {
          const float level = static_cast<float>(random() % static_cast<unsigned>(levels));
          z[r] = (2 * level / static_cast<float>(levels) - 1) * scale;
          y[r] = static_cast<float>(r < 2 ? r : random() % 3 == 0);
        }
        double wins = 0, pairs = 0;
        for (size_t i = 0; i < rows; i++)
          for (size_t j = 0; j < rows; j++)
            if (y[i] > y[j]) wins += z[i] > z[j] ? 1 : z[i] == z[j] ? 0.5 : 0, pairs++;
        Metrics m;
        measure(network, z, y, 0, &m);
        EXPECT_DOUBLE_EQ(m.auc, wins / pairs);
      }
}

TEST(Metrics, AreaUnderCurveKnowsWhenItIsUndefined) {
  auto network = make_network(1, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const struct {
    const char *name;
    std::vector<float> z, y;
    double auc;
  } cases[] = {
      {"one class only", {0.1F, 0.9F}, {1, 1}, NAN},
      {"a score that is not a number", {0.1F, NAN}, {0, 1}, NAN},
      {"negative zero ties with zero", {-0.0F, 0.0F}, {1, 0}, 0.5},
      {"infinite scores", {-INFINITY, INFINITY, INFINITY}, {0, 1, 0}, 0.75},
      {"perfect", {0.0F, 1.0F}, {0, 1}, 1},
      {"inverted", {1.0F, 0.0F}, {0, 1}, 0},
  };
  for (const auto &c : cases) {
    Metrics m;
    measure(network, c.z, c.y, 0, &m);
    EXPECT_TRUE(m.auc == c.auc || (std::isnan(m.auc) && std::isnan(c.auc))) << c.name << ": " << m.auc;
  }
}

TEST(Metrics, ClassesByHand) {
  auto network = make_network(4, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const std::vector<float> P = {0.7F,  0.1F,  0.1F,  0.1F,   /* 0 right */
                                0.4F,  0.4F,  0.1F,  0.1F,   /* tie goes to 0, truth 1 */
                                0.1F,  0.2F,  0.3F,  0.4F,   /* 3, truth 1: third */
                                0.25F, 0.25F, 0.25F, 0.25F}; /* 0, truth 3: last */
  const std::vector<float> y = {0, 1, 1, 3};
  const struct {
    int64_t asked, k;
    double accuracy;
  } cases[] = {{1, 1, 0.25}, {2, 2, 0.5}, {3, 3, 0.75}, {4, 4, 1}, {0, 4, 1}};
  for (const auto &c : cases) {
    Metrics m;
    measure(network, P, y, c.asked, &m);
    EXPECT_EQ(m.accuracy, 0.25);
    EXPECT_EQ(m.top_k, c.k);
    EXPECT_EQ(m.top_k_accuracy, c.accuracy) << "top " << c.k;
    EXPECT_EQ(confusion_of(m), (std::vector<int64_t>{1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0}));
    EXPECT_EQ(m.f1[0], 2.0 * 1 / (1 + 3));
    EXPECT_EQ(m.f1[1], 0);
    EXPECT_EQ(m.f1[2], 0); /* neither present nor predicted */
    EXPECT_EQ(m.f1[3], 0);
    EXPECT_EQ(m.balanced_accuracy, 1.0 / 3); /* of class 0 one of one, of 1 and 3 none; 2 has no row */
    EXPECT_TRUE(std::isnan(m.auc));
  }
}

TEST(Metrics, NeedMemoryForManyClassesNotForTheirPairs) {
  /* A matrix of 60000 classes would take 29 GB. */
  for (int64_t classes : {INT64_C(1024), INT64_C(1025), INT64_C(60000)}) {
    auto network = make_network(classes, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    const auto last = static_cast<size_t>(classes) - 1;
    std::vector<float> P(4 * (last + 1));
    for (size_t r = 0; r < 4; r++) P[r * (last + 1) + (r < 3 ? last : 0)] = 1; /* says last, last, last, 0 */
    Metrics m;
    measure(network, P, {static_cast<float>(last), static_cast<float>(last), 5, 0}, 0, &m);
    EXPECT_EQ(m.confusion == nullptr, classes > DESCENT_CONFUSION_CLASSES);
    EXPECT_EQ(m.accuracy, 3.0 / 4);
    EXPECT_EQ(m.classes, classes);
    EXPECT_DOUBLE_EQ(m.f1[last], 2.0 * 2 / (2 * 2 + 1));
    EXPECT_DOUBLE_EQ(m.f1[0], 1);
    EXPECT_DOUBLE_EQ(m.f1[5], 0);
    EXPECT_DOUBLE_EQ(m.balanced_accuracy, (1 + 1 + 0) / 3.0); /* with and without a confusion matrix */
  }
}

TEST(Metrics, TopKIsFiveWhereThereAreMoreClasses) {
  auto network = make_network(9, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  Metrics m;
  measure(network, std::vector<float>(9, 1.0F / 9), {4}, 0, &m);
  EXPECT_EQ(m.top_k, 5);
  EXPECT_EQ(m.top_k_accuracy, 1); /* of nine equal classes the fifth is number 4 */
}

TEST(Metrics, RefusesTopKBeyondTheClasses) {
  auto network = make_network(3, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  metrics_sums *sums = nullptr;
  for (int64_t top_k : {-1, 4}) {
    EXPECT_EQ(metrics_create(network.get(), 10, top_k, &sums), DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(std::string(descent_last_error()).find(std::to_string(top_k)), std::string::npos);
  }
}

TEST(Metrics, RegressionByHand) {
  auto network = make_network(2, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  Metrics m;
  measure(network, {1, 10, 2, 20, 6, 30}, {1, 12, 3, 20, 5, 28}, 0, &m);
  /* residuals 0 -1 1 and -2 0 2; totals about the means 3 and 20: 8 and 128 */
  EXPECT_DOUBLE_EQ(m.rmse, std::sqrt((2.0 + 8) / 6));
  EXPECT_DOUBLE_EQ(m.r2, ((1 - 2.0 / 8) + (1 - 8.0 / 128)) / 2);
  EXPECT_TRUE(std::isnan(m.accuracy) && std::isnan(m.auc) && std::isnan(m.balanced_accuracy));
  EXPECT_EQ(m.f1, nullptr);
  EXPECT_EQ(m.confusion, nullptr);
}

TEST(Metrics, R2OfAConstantTargetIsNotANumber) {
  auto network = make_network(1, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  Metrics m;
  measure(network, {1, 2, 3}, {0.1F, 0.1F, 0.1F}, 0, &m);
  EXPECT_TRUE(std::isnan(m.r2));
  EXPECT_FALSE(std::isnan(m.rmse));
}

TEST(Metrics, R2SurvivesALargeOffset) {
  auto network = make_network(1, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const float base = 16777216.0F / 4; /* steps of 1/2 and more are exact in float32 here */
  std::vector<float> P, y;
  for (int i = 0; i < 1000; i++) {
    y.push_back(base + static_cast<float>(i % 2));
    P.push_back(base + static_cast<float>(i % 2) * 0.5F);
  }
  Metrics m;
  measure(network, P, y, 0, &m);
  /* Half of the rows miss by 1/2, the variance is 1/4. Welford loses at most n u (1 + |mean| / deviation) relative. */
  const double bound = 1000 * 0x1p-53 * (1 + base / 0.5);
  EXPECT_NEAR(m.r2, 1 - (0.5 * 0.25) / 0.25, bound);
}

}  // namespace
