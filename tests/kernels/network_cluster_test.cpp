/* A small training step by one cluster of blocks, in every variant: gradients and loss within bounds derived for the
 * whole network, exact where all sums are of whole numbers; rows beyond the step's, columns beyond the matrices and
 * memory beyond the results have no effect and stay. */
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "network.cuh"
#include "network_problem.h"

namespace {

using namespace network_problem;

class NetworkCluster : public testing::TestWithParam<StepCase> {};
class NetworkClusterExact : public NetworkCluster {};

void expect_every_variant_within(Problem &problem, const Gradients &bounds) {
  const int first = problem.resident_variants(NETWORK_STEP), variants = problem.variants(NETWORK_STEP);
  ASSERT_GT(variants, first);
  for (int variant = first; variant < variants && !testing::Test::HasFailure(); variant++) {
    SCOPED_TRACE("variant " + std::to_string(variant));
    problem.expect_within(problem.step(variant), bounds);
  }
}

TEST_P(NetworkCluster, GradientsAndLossAreWithinTheBounds) {
  Problem problem(GetParam());
  expect_every_variant_within(problem, gradients(problem.network, problem.batch));
}

TEST_P(NetworkClusterExact, GradientsAndLossOfWholeNumbersAreExact) {
  Problem problem(GetParam());
  expect_every_variant_within(problem, exact_gradients(problem.network, problem.batch));
}

/* A row of the step that is not finite is the step's: J and the gradients say so. What is no gradient stays 0. */
TEST(NetworkClusterValues, ThatAreNotFiniteStay) {
  for (const Arithmetic arithmetic : {FP32, TF32, BF16})
    for (const float x : {NAN, INFINITY}) {
      Problem problem({arithmetic,
                       {5, 9, 3},
                       DESCENT_ACTIVATION_TANH,
                       0,
                       DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                       DESCENT_ACTIVATION_IDENTITY,
                       0,
                       20,
                       20,
                       UNIFORM,
                       ONES});
      problem.poison(x);
      const int first = problem.resident_variants(NETWORK_STEP), variants = problem.variants(NETWORK_STEP);
      ASSERT_GT(variants, first);
      for (int variant = first; variant < variants; variant++) {
        const Problem::Found found = problem.step(variant);
        EXPECT_EQ(std::isnan(found.J), std::isnan(x)) << "variant " << variant;
        EXPECT_TRUE(std::any_of(found.gradients.begin(), found.gradients.end(), [](float g) { return std::isnan(g); }));
        problem.expect_gaps(found);
      }
    }
}

TEST(NetworkClusterVariants, AreOfBothSizesOfClustersAndOfTiles) {
  network_launch l = launch_of({{784, 128, 10}, ELEMENT_BF16, false, NETWORK_STEP, 256});
  EXPECT_EQ(network_cluster_variants(&l, nullptr, 0), 4);
  l.layer[0].n_out = l.layer[1].n_in = 129;
  l.layer[1].W.ld = 136;
  EXPECT_EQ(network_cluster_variants(&l, nullptr, 0), 2);
  l.kind = NETWORK_CHAIN;
  EXPECT_EQ(network_cluster_variants(&l, nullptr, 0), 0);
}

std::string refusal(network_launch l) {
  char reason[128] = "";
  EXPECT_EQ(network_cluster_variants(&l, reason, sizeof reason), 0);
  l.variant = 0;
  EXPECT_EQ(launch_network_cluster(&l, 0, nullptr), cudaErrorInvalidValue);
  return reason;
}

TEST(NetworkClusterVariants, SayWhyThereAreNone) {
  const struct {
    Shape shape;
    const char *reason;
  } refused[] = {
      {{{28, 64, 513, 10}, ELEMENT_BF16, false, NETWORK_STEP, 100}, "layer 2 has 513 outputs, more than 512"},
      {{{28, 64, 10}, ELEMENT_F32, false, NETWORK_STEP, 1025}, "1025 rows, more than 1024"},
      {{{28, 64, 10}, ELEMENT_F32, false, NETWORK_STEP, 0}, "0 rows"},
      {{{4096, 64, 10}, ELEMENT_F32, true, NETWORK_STEP, 100}, "needs 345 KB of shared memory, the GPU has 227"},
  };
  for (const auto &c : refused) EXPECT_EQ(refusal(launch_of(c.shape)), c.reason);

  network_launch l = launch_of({{10, 8, 5}, ELEMENT_BF16, false, NETWORK_STEP, 100});
  l.n_gradients = (1 << 21) + 4;
  EXPECT_EQ(refusal(l), "2097156 parameters, more than 2097152");
  l.n_gradients = 1 << 21;
  l.X.ld = 12;
  EXPECT_EQ(refusal(l), "rows of X are not whole units of 16 bytes");
  l.X.ld = 16, l.layer[0].W.ld = 12;
  EXPECT_EQ(refusal(l), "rows of layer 1's weights are not whole units of 16 bytes");
  l.layer[0].W = {nullptr, 12, ELEMENT_F32};
  EXPECT_EQ(refusal(l), "layer 1 has weights of another element");
  l.layer[0].W = {nullptr, 16, ELEMENT_BF16}, l.layer[1].n_in = 7;
  EXPECT_EQ(refusal(l), "layer 2 does not follow the one before it");
  l.layers = 13;
  EXPECT_EQ(refusal(l), "13 layers, more than 12");
}

/* Each case has a separate process, since a process asks only once what a device can do. */
class NetworkClusterDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

/* How many variants there are of each kind of launch in such an emulation, or why there are none. */
[[noreturn]] void print_variants(const char *settings) {
  emulate_configure(settings);
  network_launch l = launch_of({{784, 128, 10}, ELEMENT_BF16, false, NETWORK_STEP, 256});
  char reason[128] = "";
  const int n = network_cluster_variants(&l, reason, sizeof reason);
  fprintf(stderr, "%d variants, %s partials. %s\n", n, network_cluster_partials(&l) ? "with" : "no", reason);
  exit(0);
}
#define EXPECT_VARIANTS(settings, text) EXPECT_EXIT(print_variants(settings), testing::ExitedWithCode(0), text)

TEST_F(NetworkClusterDeathTest, VariantsFollowFromTheDevice) {
  EXPECT_VARIANTS("", "4 variants, with partials");
  EXPECT_VARIANTS("cluster=8", "2 variants, with partials");
  EXPECT_VARIANTS("cluster=4", "0 variants, no partials. the GPU cannot run 8 blocks of 227 KB as a cluster");
  EXPECT_VARIANTS("major=8", "0 variants, no partials. the GPU has no clusters of blocks");
  EXPECT_VARIANTS("ptx=80", "0 variants, no partials. the GPU cannot run 8 blocks");
  EXPECT_VARIANTS("code=0", "0 variants, no partials. the GPU cannot run 8 blocks");
  EXPECT_VARIANTS("own=6784", "4 variants, with partials");
  EXPECT_VARIANTS("own=204800", "0 variants, no partials. needs [0-9]+ KB of shared memory, the GPU has 227");
}

/* Questions 1 and 2 are for the kernels' own memory, 3 to 6 whether 16 blocks run. */
[[noreturn]] void ask_again(int failing) {
  emulate_configure(("load=" + std::to_string(failing)).c_str());
  network_launch l = launch_of({{784, 128, 10}, ELEMENT_BF16, false, NETWORK_STEP, 256});
  const int first = network_cluster_variants(&l, nullptr, 0);
  fprintf(stderr, "%d, then %d\n", first, network_cluster_variants(&l, nullptr, 0));
  exit(0);
}

TEST_F(NetworkClusterDeathTest, AnErrorThatPassesChangesNoNumber) {
  for (int failing = 1; failing <= 12; failing++)
    EXPECT_EXIT(ask_again(failing), testing::ExitedWithCode(0), "4, then 4") << failing;
}

/* Small and large clusters, tiles of 16 and of 32 rows, several tiles of a block, blocks without rows; layers round the
 * widths of the tiles and of the pieces of dW; every activation with and without dropout, every loss with every kind
 * of weights. */
std::vector<StepCase> cases() {
  const descent_loss softmax = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, binary = DESCENT_LOSS_BINARY_CROSS_ENTROPY,
                     squared = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const std::vector<StepShape> shapes = {
      {{1, 1}, squared, 1, 1, ONES},
      {{3, 2}, softmax, 15, 15, DRAWN},
      {{17, 3, 1}, binary, 16, 12, ONES},
      {{100, 64, 10}, softmax, 17, 17, DRAWN},
      {{64, 100, 17}, softmax, 40, 23, TINY},
      {{3, 128, 3}, squared, 37, 37, HUGE_ONES},
      {{17, 30, 64, 17, 3}, squared, 127, 127, DRAWN},
      {{2, 20, 17, 9, 3, 1}, binary, 300, 270, DRAWN},
      {{10, 16, 20, 32}, softmax, 140, 130, ZEROS},
      {{5, 8, 9, 1}, binary, 1000, 601, TINY},
      {{4, 9, 2}, softmax, 1024, 1024, DRAWN},
      {{30, 300, 3}, softmax, 9, 8, ONES},
      {{3, 17, 140}, squared, 18, 18, DRAWN},
      {{8, 12, 7}, squared, 33, 20, HUGE_ONES},
  };
  return cases_of(shapes, [&](ptrdiff_t number, bool drops) {
    const StepShape &shape = shapes[static_cast<size_t>(number)];
    return drops && (shape.rows > 500 || shape.widths.size() == 2);
  });
}

/* Without a rounding. Each shape with every arithmetic. */
std::vector<StepCase> exact_cases() {
  const struct {
    std::vector<int> widths;
    int64_t rows, step_rows;
  } shapes[] = {
      {{784, 128, 8}, 256, 256},
      {{100, 128, 64, 17, 2}, 130, 127},
      {{17, 300, 130, 4}, 33, 33},
      {{65, 512, 4}, 20, 17},
      {{33, 16, 16, 16, 16, 2}, 300, 299},
      {{63, 1}, 33, 1},
      {{5, 33, 2}, 1000, 501},
      {{32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 16}, 65, 65},
  };
  std::vector<StepCase> all;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      for (const bool drops : {false, true}) {
        if (drops && (shape.widths.size() == 2 || shape.widths[0] == 784)) continue;
        all.push_back({arithmetic, shape.widths, DESCENT_ACTIVATION_RELU, drops ? 0.5 : 0,
                       DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_ACTIVATION_IDENTITY, 0, shape.rows, shape.step_rows,
                       WHOLE, ONES});
      }
  return all;
}

/* ---- the whole step ---- */

/* The memory of a few steps of training: sources of more rows than a step has, the queue, the flat buffers. */
class Training {
 public:
  enum { STEPS = 2 };
  Training(const StepCase &c, unsigned seed)
      : c_(c),
        element_(c.arithmetic == BF16 ? ELEMENT_BF16 : ELEMENT_F32),
        random_(seed),
        n_y_(c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? c.widths.back() : 1),
        X_(c.rows, whole_units(c.widths.front(), element_), element_) {
    for (size_t i = 0; i + 1 < c.widths.size(); i++) {
      const int64_t ld = whole_units(c.widths[i], ELEMENT_BF16), n = c.widths[i + 1];
      dW_.push_back(n_), n_ += n * ld;
      db_.push_back(n_), n_ += (n + 7) / 8 * 8;
      const int64_t begin = dW_.back();
      for (int64_t at = begin; at < n_; at += FLAT_TURN)
        pieces_.push_back({at, std::min<int64_t>(at + FLAT_TURN, n_), static_cast<int32_t>(i + 1),
                           static_cast<int32_t>(n * (c.widths[i] + 1))});
      n_ += 8; /* a gap */
    }
    std::vector<float> parameters(static_cast<size_t>(n_), 0.0f), X, y, w;
    std::vector<uint16_t> working(static_cast<size_t>(n_), 0);
    for (size_t i = 0; i < dW_.size(); i++) {
      const int64_t ld = whole_units(c.widths[i], ELEMENT_BF16);
      for (int64_t j = 0; j < c.widths[i + 1]; j++)
        for (int64_t k = 0; k <= c.widths[i]; k++)
          parameters[static_cast<size_t>(k < c.widths[i] ? dW_[i] + j * ld + k : db_[i] + j)] =
              uniform() / std::sqrt(static_cast<float>(c.widths[i]));
    }
    for (size_t i = 0; i < working.size(); i++) working[i] = bf16_from_float(parameters[i]);
    for (int64_t i = 0; i < STEPS * c.rows * c.widths.front(); i++) X.push_back(uniform());
    for (int64_t i = 0; i < STEPS * c.rows * n_y_; i++)
      y.push_back(loss_is_regression(c.loss) ? uniform() : static_cast<float>(random_() % 2));
    for (int64_t i = 0; i < STEPS * c.rows; i++) w.push_back(1 + uniform() / 2);
    const auto flat = [&](float value) { return std::make_unique<Buffer<float>>(n_, value); };
    parameters_ = std::make_unique<Buffer<float>>(parameters), working_ = std::make_unique<Buffer<uint16_t>>(working);
    gradients_ = flat(0), moment1_ = flat(0), moment2_ = flat(0);
    source_X_ = std::make_unique<Buffer<float>>(X), source_y_ = std::make_unique<Buffer<float>>(y);
    source_w_ = std::make_unique<Buffer<float>>(w);
    y_ = std::make_unique<Buffer<float>>(c.rows * n_y_, NAN), w_ = std::make_unique<Buffer<float>>(c.rows, NAN);
    scalars_ = std::make_unique<Buffer<double>>(SCALAR_SLOTS, 0.0);
    bad_ = std::make_unique<Buffer<int>>(1, 0), counters_ = std::make_unique<Buffer<unsigned>>(COUNTERS, 0u);
    std::vector<device_step> queue(STEPS);
    for (int i = 0; i < STEPS; i++) {
      device_step &step = queue[static_cast<size_t>(i)];
      step.number = 5 + i, step.first_row = i * c.rows, step.rows = i == 0 ? c.rows : c.step_rows;
      step.update.learning_rate = 0.125f, step.update.decay_factor = 1;
      step.update.corrected_learning_rate = 0.25f, step.update.root_bias_correction = 3;
      if (!adam()) continue;
      step.order.n = static_cast<uint64_t>(STEPS * c.rows);
      while (UINT64_C(1) << 2 * step.order.half_bits < step.order.n) step.order.half_bits++;
      for (uint32_t &key : step.order.keys) key = static_cast<uint32_t>(random_());
    }
    queue_ = std::make_unique<Buffer<device_step>>(queue);
    state_ = std::make_unique<Buffer<step_state>>(std::vector<step_state>{step_state{}});
    flat_pieces_ = std::make_unique<Buffer<flat_piece>>(pieces_);
    const source_table table = {source_X_->data, source_y_->data, source_w_->data,
                                nullptr,         INPUT_FLOATS,    c.widths.front()};
    table_ = std::make_unique<Buffer<source_table>>(std::vector<source_table>{table});
  }

  whole_step whole() {
    whole_step s{};
    const scratch shared = scratch_of();
    s.gather.state = state_->data, s.gather.queue = queue_->data, s.gather.bad_step = scalars_->data + SCALAR_BAD_STEP;
    s.gather.sources = table_->data, s.gather.X = X_.matrix(), s.gather.y = y_->data, s.gather.w = w_->data;
    s.gather.weight_sum = scalars_->data + SCALAR_WEIGHT_SUM, s.gather.n_x = c_.widths.front(), s.gather.n_y = n_y_;
    s.gather.rows = c_.rows, s.gather.shuffle = adam(), s.gather.scratch = shared;
    s.norm.state = state_->data, s.norm.gradients = gradients_->data, s.norm.pieces = flat_pieces_->data;
    s.norm.n_pieces = static_cast<int>(pieces_.size()), s.norm.layers = static_cast<int>(dW_.size());
    s.norm.scalars = scalars_->data, s.norm.clip_norm = 0.25, s.norm.bad_parameters = bad_->data;
    s.norm.metrics = true, s.norm.scratch = shared;
    s.update.state = state_->data, s.update.parameters = parameters_->data;
    s.update.working = element_ == ELEMENT_BF16 ? working_->data : nullptr;
    s.update.gradients = gradients_->data, s.update.moment1 = moment1_->data, s.update.pieces = flat_pieces_->data;
    s.update.n_pieces = s.norm.n_pieces, s.update.layers = s.norm.layers, s.update.scalars = scalars_->data;
    s.update.rule = UPDATE_MOMENTUM, s.update.coefficients.momentum = 0.5f, s.update.bad_parameters = bad_->data;
    s.update.scratch = shared;
    if (!adam()) return s;
    update_coefficients_f32 &c = s.update.coefficients;
    s.update.rule = UPDATE_ADAM, s.update.moment2 = moment2_->data, c.l2 = 0.03f, c.epsilon = 1e-7f;
    c.beta1 = 0.9f, c.one_minus_beta1 = 0.1f, c.beta2 = 0.99f, c.one_minus_beta2 = 0.01f;
    return s;
  }

  network_launch layers() {
    network_launch l{};
    l.kind = NETWORK_STEP, l.state = state_->data, l.X = X_.matrix(), l.layers = static_cast<int>(dW_.size());
    for (int i = 0; i < l.layers; i++) {
      const auto at = static_cast<size_t>(i);
      const bool output = i + 1 == l.layers, halves = element_ == ELEMENT_BF16;
      network_layer &to = l.layer[i];
      const auto place = [&](int64_t from) {
        return halves ? static_cast<void *>(working_->data + from) : parameters_->data + from;
      };
      to.W = {place(dW_[at]), whole_units(c_.widths[at], ELEMENT_BF16), element_};
      to.bias = place(db_[at]), to.bias_element = element_;
      to.n_in = c_.widths[at], to.n_out = c_.widths[at + 1], to.activation = output ? c_.output : c_.activation;
      to.threshold = !output && c_.dropout > 0 ? rng_drop_threshold(c_.dropout) : 0;
      to.dropout_scale = static_cast<float>(1 / (1 - c_.dropout));
      to.keep_probability = static_cast<float>(1 - c_.dropout);
      to.dW = dW_[at], to.db = db_[at];
    }
    l.rows = c_.rows, l.seed = 11, l.tf32 = c_.arithmetic == TF32, l.loss = c_.loss;
    l.y = y_->data, l.w = w_->data, l.scalars = scalars_->data, l.label_smoothing = static_cast<float>(c_.smoothing);
    l.gradients = gradients_->data, l.n_gradients = n_, l.counters = counters_->data;
    if (!partials_) partials_ = std::make_unique<Buffer<char>>(static_cast<int64_t>(network_partials(&l)), '\0');
    l.partials = partials_->data;
    return l;
  }

  /* Everything that a step leaves. */
  std::vector<std::string> bytes() {
    X_.fetch();
    std::vector<std::string> all;
    const auto add = [&](const auto &values) {
      all.emplace_back(reinterpret_cast<const char *>(values.data()), values.size() * sizeof values[0]);
    };
    if (element_ == ELEMENT_F32)
      add(X_.floats.host);
    else
      add(X_.halves.host);
    add(y_->fetch()), add(w_->fetch()), add(state_->fetch()), add(scalars_->fetch()), add(gradients_->fetch());
    add(parameters_->fetch()), add(working_->fetch()), add(moment1_->fetch()), add(moment2_->fetch()),
        add(bad_->fetch());
    add(counters_->fetch());
    return all;
  }
  double loss() { return scalars_->fetch()[SCALAR_LOSS]; }

 private:
  /* An even number of widths: Adam with l2, rows in a shuffled order. */
  bool adam() const { return c_.widths.size() % 2 == 0; }
  float uniform() { return static_cast<float>(random_()) * 0x1p-31f - 1; }
  scratch scratch_of() {
    if (!scratch_) scratch_ = std::make_unique<Buffer<double>>(1 << 16, 0.0);
    return {scratch_->data, counters_->data};
  }

  StepCase c_;
  enum element element_;
  std::mt19937 random_;
  int64_t n_y_, n_ = 0;
  std::vector<int64_t> dW_, db_;
  std::vector<flat_piece> pieces_;
  Matrix X_;
  std::unique_ptr<Buffer<float>> parameters_, gradients_, moment1_, moment2_, source_X_, source_y_, source_w_, y_, w_;
  std::unique_ptr<Buffer<uint16_t>> working_;
  std::unique_ptr<Buffer<double>> scalars_, scratch_;
  std::unique_ptr<Buffer<int>> bad_;
  std::unique_ptr<Buffer<unsigned>> counters_;
  std::unique_ptr<Buffer<device_step>> queue_;
  std::unique_ptr<Buffer<step_state>> state_;
  std::unique_ptr<Buffer<flat_piece>> flat_pieces_;
  std::unique_ptr<Buffer<source_table>> table_;
  std::unique_ptr<Buffer<char>> partials_;
};

class NetworkClusterWhole : public NetworkCluster {};

/* One launch does the same as four, to the byte: in each of two steps, the second of which has fewer rows. */
TEST_P(NetworkClusterWhole, StepIsThatOfItsLaunches) {
  Training first(GetParam(), 3);
  network_launch l = first.layers();
  const int begin = network_resident_variants(&l), end = network_variants(&l, nullptr, 0);
  ASSERT_GT(end, begin);
  for (int variant = begin; variant < end; variant++) {
    SCOPED_TRACE("variant " + std::to_string(variant));
    Training apart(GetParam(), 3), together(GetParam(), 3);
    double last = 0;
    for (int step = 0; step < Training::STEPS; step++) {
      const whole_step of_apart = apart.whole(), of_together = together.whole();
      network_launch layers = apart.layers(), all = together.layers();
      layers.variant = all.variant = variant, all.whole = &of_together;
      ASSERT_TRUE(network_takes_whole(&layers));
      ASSERT_EQ(launch_gather(&of_apart.gather, nullptr), cudaSuccess);
      ASSERT_EQ(launch_network(&layers, nullptr), cudaSuccess);
      ASSERT_EQ(launch_norm(&of_apart.norm, nullptr), cudaSuccess);
      ASSERT_EQ(launch_update(&of_apart.update, nullptr), cudaSuccess);
      ASSERT_EQ(launch_network(&all, nullptr), cudaSuccess);
      const std::vector<std::string> a = apart.bytes(), b = together.bytes();
      for (size_t i = 0; i < a.size(); i++) EXPECT_TRUE(a[i] == b[i]) << "step " << step << ", memory " << i;
      EXPECT_TRUE(std::isfinite(apart.loss()) && apart.loss() != last);
      last = apart.loss();
    }
  }
  l.variant = begin - 1;
  EXPECT_FALSE(network_takes_whole(&l));
}

std::vector<StepCase> whole_cases() {
  std::vector<StepCase> all;
  for (const Arithmetic arithmetic : {FP32, TF32, BF16}) {
    all.push_back({arithmetic,
                   {100, 33, 10},
                   DESCENT_ACTIVATION_GELU,
                   0.25,
                   DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                   DESCENT_ACTIVATION_IDENTITY,
                   0.125,
                   130,
                   77,
                   UNIFORM,
                   DRAWN});
    all.push_back({arithmetic,
                   {17, 64, 20, 3},
                   DESCENT_ACTIVATION_RELU,
                   0,
                   DESCENT_LOSS_MEAN_SQUARED_ERROR,
                   DESCENT_ACTIVATION_TANH,
                   0,
                   40,
                   1,
                   UNIFORM,
                   DRAWN});
    all.push_back({arithmetic,
                   {5, 8, 9, 1},
                   DESCENT_ACTIVATION_TANH,
                   0,
                   DESCENT_LOSS_BINARY_CROSS_ENTROPY,
                   DESCENT_ACTIVATION_IDENTITY,
                   0,
                   1024,
                   1001,
                   UNIFORM,
                   DRAWN});
    all.push_back({arithmetic,
                   {17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5}, /* 12 layers */
                   DESCENT_ACTIVATION_LEAKY_RELU,
                   0,
                   DESCENT_LOSS_MEAN_SQUARED_ERROR,
                   DESCENT_ACTIVATION_IDENTITY,
                   0,
                   64,
                   33,
                   UNIFORM,
                   DRAWN});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Passes, NetworkClusterWhole, testing::ValuesIn(whole_cases()), name);

INSTANTIATE_TEST_SUITE_P(Passes, NetworkCluster, testing::ValuesIn(cases()), name);
INSTANTIATE_TEST_SUITE_P(Passes, NetworkClusterExact, testing::ValuesIn(exact_cases()), name);

}  // namespace
