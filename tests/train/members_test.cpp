/* The promise of members: each ends with what its descent_fit gives it alone, to the bit, and reports the same. */
#include <set>

#include "members.h"

namespace {

const Rows classes = make_rows(90, 5, 1, 3, 1), classes_held_out = make_rows(50, 5, 1, 3, 2);
const Rows binary = make_rows(70, 5, 1, 2, 3), binary_held_out = make_rows(33, 5, 1, 2, 4);
const Rows values = make_rows(80, 5, 2, 0, 5), values_held_out = make_rows(41, 5, 2, 0, 6);

Rows with_weights(Rows rows) {
  for (int64_t r = 0; r < rows.rows; r++) rows.weights.push_back(static_cast<float>(r % 4) / 2);
  return rows;
}
Rows with_missing(Rows rows) {
  for (size_t i = 3; i < rows.X.size(); i += 11) rows.X[i] = NAN;
  return rows;
}
const Rows weighted = with_weights(classes), missing = with_missing(binary);

Training of_classes(const std::string &name, uint64_t seed) {
  Training t;
  t.name = name;
  t.rows = &classes;
  t.held_out = &classes_held_out;
  t.weights = seed;
  t.options.seed = seed;
  t.options.epochs = 3;
  t.options.batch_size = 16;
  return t;
}
Training of_binary(const std::string &name, uint64_t seed) {
  Training t = of_classes(name, seed);
  t.widths = {5, 7, 1};
  t.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  t.rows = &binary;
  t.held_out = &binary_held_out;
  return t;
}
Training of_values(const std::string &name, uint64_t seed) {
  Training t = of_classes(name, seed);
  t.widths = {5, 6, 2};
  t.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  t.rows = &values;
  t.held_out = &values_held_out;
  return t;
}

const double class_weights[] = {1, 0.5, 3};

/* Every optimizer, activation, loss, schedule and option of a training at least once; 17 in all. */
std::vector<Training> all_kinds() {
  std::vector<Training> all;
  const descent_optimizer optimizers[] = {DESCENT_OPTIMIZER_GD,   DESCENT_OPTIMIZER_SGD,  DESCENT_OPTIMIZER_RMSPROP,
                                          DESCENT_OPTIMIZER_ADAM, DESCENT_OPTIMIZER_LARS, DESCENT_OPTIMIZER_LAMB,
                                          DESCENT_OPTIMIZER_ADAMW};
  const descent_activation activations[] = {
      DESCENT_ACTIVATION_IDENTITY,   DESCENT_ACTIVATION_SIGMOID, DESCENT_ACTIVATION_TANH, DESCENT_ACTIVATION_RELU,
      DESCENT_ACTIVATION_LEAKY_RELU, DESCENT_ACTIVATION_GELU,    DESCENT_ACTIVATION_SILU};
  for (size_t i = 0; i < 7; i++) {
    const std::string name = descent_optimizer_name(optimizers[i]);
    all.push_back(i % 3 == 0 ? of_classes(name, i + 1) : i % 3 == 1 ? of_binary(name, i + 1) : of_values(name, i + 1));
    all[i].options.optimizer.kind = optimizers[i];
    all[i].options.optimizer.learning_rate = 0.02;
    all[i].hidden = activations[i];
  }
  all[1].options.optimizer.momentum = 0.9;
  all[1].options.optimizer.nesterov = true;
  all.push_back(of_classes("dropout, step reports", 11));
  all.back().options.dropout = 0.3;
  all.back().records_steps = true;
  all.push_back(of_classes("label smoothing and weights", 12));
  all.back().options.label_smoothing = 0.1;
  all.back().rows = &weighted;
  all.push_back(of_classes("class weights, clipped", 13));
  all.back().options.class_weights = class_weights;
  all.back().options.optimizer.clip_norm = 0.5;
  all.push_back(of_binary("balanced", 14));
  all.back().options.balance_classes = true;
  all.push_back(of_classes("plateau, on a split", 15));
  all.back().options.schedule.kind = DESCENT_SCHEDULE_PLATEAU;
  all.back().options.schedule.every = 1;
  all.back().options.schedule.gamma = 0.25;
  all.back().options.early_stopping.min_delta = 0.5; /* never improves after the first epoch */
  all.back().options.epochs = 5;
  all.back().split = 3;
  all.push_back(of_classes("patience, restores the best", 16));
  all.back().options.early_stopping.patience = 2;
  all.back().options.early_stopping.min_delta = 0.4;
  all.back().options.early_stopping.restore_best = true;
  all.back().options.epochs = 9;
  all.push_back(of_binary("cosine with warm-up, missing cells", 17));
  all.back().rows = &missing;
  all.back().preprocesses = true;
  all.back().options.schedule.kind = DESCENT_SCHEDULE_COSINE;
  all.back().options.schedule.warmup_steps = 4;
  all.push_back(of_values("a full batch without validation", 18));
  all.back().held_out = nullptr;
  all.back().options.batch_size = 0;
  all.back().options.epochs = 4;
  all.push_back(of_values("a loss of the caller's", 19));
  all.back().options.callbacks.loss = half_squared_error;
  all.push_back(of_classes("weight decay and l2", 20));
  all.back().options.optimizer.weight_decay = 0.01;
  all.back().options.optimizer.l2 = 0.001;
  all.back().options.early_stopping.restore_best = false;
  return all;
}

struct Place {
  const char *device;
  int threads;
};
void PrintTo(const Place &p, std::ostream *out) { *out << p.device << p.threads; }

class MembersOn : public testing::TestWithParam<Place> {
 protected:
  Device device_ = open_device(GetParam().device, GetParam().threads);
  Scratch scratch_;
};

TEST_P(MembersOn, EndAsAlone) {
  const std::vector<Training> all = all_kinds();
  ASSERT_EQ(all.size(), 17u);
  for (size_t count : {1, 2, 3, 17}) {
    SCOPED_TRACE(count);
    /* The last ones, so that each number of members has other kinds. */
    const std::vector<Training> some(all.end() - static_cast<ptrdiff_t>(count), all.end());
    for (const Seen &seen : expect_as_alone(some, device_, scratch_ / std::to_string(count)))
      EXPECT_EQ(seen.status, DESCENT_OK) << seen.error;
  }
}

TEST_P(MembersOn, OfAnEnsembleEndAsAlone) {
  std::vector<Training> all;
  for (int64_t k = 0; k < 5; k++) {
    all.push_back(of_classes("member", descent_member_seed(1, k)));
    all.back().options.dropout = 0.2;
    all.back().options.shuffle_seed = 1; /* the same rows in each step */
    all.back().options.epochs = k == 3 ? 2 : 4;
  }
  expect_as_alone(all, device_, scratch_.path());
}

INSTANTIATE_TEST_SUITE_P(All, MembersOn,
                         testing::Values(Place{"reference", 1}, Place{"cpu", 1}, Place{"cpu", 2}, Place{"cuda", 1}),
                         testing::PrintToStringParamName());

TEST(Members, HaveSeedsOfTheirOwn) {
  EXPECT_EQ(descent_member_seed(42, 0), 42u);
  EXPECT_EQ(descent_member_seed(UINT64_MAX, 0), UINT64_MAX);
  std::set<uint64_t> seeds;
  for (uint64_t seed : {0, 1, 2})
    for (int64_t k = 1; k < 200; k++) {
      const uint64_t member = descent_member_seed(seed, k);
      EXPECT_LT(member, UINT64_C(1) << 53);
      EXPECT_EQ(member, descent_member_seed(seed, k));
      seeds.insert(member);
    }
  EXPECT_EQ(seeds.size(), 3u * 199);
}

/* Which rows a step has, as the mean of a loss whose gradient is 0. */
std::vector<std::string> steps_with(uint64_t seed, uint64_t shuffle_seed) {
  Training t = of_classes("rows", 1);
  t.options.seed = seed;
  t.options.shuffle_seed = shuffle_seed;
  t.options.optimizer.learning_rate = 1e-30;
  t.records_steps = true;
  const Device device = open_device("reference", 1);
  const Scratch scratch;
  return Members({t}, device, scratch.path()).train_together()[0].steps;
}

TEST(Members, ShuffleByTheSeedOfShuffles) {
  const std::vector<std::string> by_seed = steps_with(5, 0);
  EXPECT_EQ(steps_with(5, 5), by_seed);
  EXPECT_EQ(steps_with(9, 5), by_seed);
  EXPECT_NE(steps_with(9, 0), by_seed);
  EXPECT_NE(steps_with(5, 9), by_seed);
}

}  // namespace
