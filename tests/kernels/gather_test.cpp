/* The gather without a plan: every combination of what may be bound against the definition in plan.h, to the bit; rows
 * normalised beforehand; the queue of steps. */
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/half.h"
#include "passes.h"

namespace {

/* ---- every combination against the definition ---- */

enum Part {
  FILL = 1,
  NORMALISED = 2,
  WEIGHTS = 4,
  CLASS_WEIGHTS = 8,
  INDEX = 16,
  SHUFFLED = 32,
  UNBOUND_Y = 64,
  MICRO_BATCH = 128, /* the weight of the whole step is given */
};
enum { PARTS = 256, CLASSES = 5 };

/* What a gather has written, as bits. Rows of X and y with their padding. */
struct Written {
  std::vector<uint32_t> X, y, w;
  double weight_sum = 0;
};

/* A source, the constants and a step on it. */
class Gathered {
 public:
  Gathered(int64_t rows, int64_t n_x, int64_t n_y, unsigned parts, bool bytes, unsigned seed)
      : rows_(rows), n_x_(n_x), n_y_(n_y), parts_(parts), bytes_(bytes), random_(seed) {
    const int64_t sources = rows + 7;
    static const float specials[] = {NAN,    INFINITY, -INFINITY, -0.0F, 1e-42F, 3.3e38F, -3e38F, 1.00390625F /* tie */,
                                     1e-39F, 65536.5F};
    std::mt19937 of_X(seed + 1); /* all else is the same with bytes and floats */
    for (int64_t i = 0; i < sources * n_x; i++) {
      bytes_of_X_.push_back(static_cast<uint8_t>(of_X()));
      X_.push_back(bytes        ? static_cast<float>(bytes_of_X_.back())
                   : of_X() % 3 ? static_cast<float>(of_X() % 2001) / 256 - 4
                                : specials[of_X() % (sizeof specials / sizeof *specials)]);
    }
    for (int64_t i = 0; i < sources * n_y; i++)
      y_.push_back(has(CLASS_WEIGHTS) ? static_cast<float>(random_() % CLASSES) : draw());
    for (int64_t i = 0; i < sources; i++) w_.push_back(std::exp2(draw() * 5));
    for (int64_t i = 0; i < sources; i++) index_.push_back(static_cast<int64_t>(random_() % sources));
    for (auto *constants : {&fill_, &shift_, &scale_})
      for (int64_t j = 0; j < n_x; j++) constants->push_back(draw());
    for (auto *constants : {&y_shift_, &y_scale_})
      for (int64_t k = 0; k < n_y; k++) constants->push_back(draw());
    for (int k = 0; k < CLASSES; k++) class_weight_.push_back(draw() + 4);
    state_.current.number = 3, state_.current.first_row = 2, state_.current.rows = rows - rows / 3;
    if (has(MICRO_BATCH)) state_.current.weight_sum = 12.5;
    if (has(SHUFFLED)) {
      permutation &order = state_.current.order;
      order.n = static_cast<uint64_t>(rows + 2);
      while (UINT64_C(1) << 2 * order.half_bits < order.n) order.half_bits++;
      for (uint32_t &key : order.keys) key = random_();
    }
  }

  /* As plan.h defines it; the sum of w in double, in any order. */
  Written expected(int64_t ld, enum element element) const {
    Written e;
    for (int64_t r = 0; r < rows_; r++) {
      const bool valid = r < state_.current.rows;
      int64_t s = state_.current.first_row + r;
      if (valid && has(SHUFFLED)) s = static_cast<int64_t>(permutation_index(&state_.current.order, s));
      if (valid && has(INDEX)) s = index_[static_cast<size_t>(s)];
      for (int64_t j = 0; j < ld; j++) {
        float x = kUntouched;
        if (j < n_x_ && valid) {
          const auto column = static_cast<size_t>(j);
          x = X_[static_cast<size_t>(s * n_x_) + column];
          if (has(FILL) && std::isnan(x)) x = fill_[column];
          if (has(NORMALISED)) x = (x - shift_[column]) * scale_[column];
        } else if (j < n_x_) {
          x = 0;
        }
        e.X.push_back(bits_of(x, element));
      }
      const auto at = static_cast<size_t>(s);
      for (int64_t k = 0; k < n_y_; k++) {
        const auto column = static_cast<size_t>(k);
        float y = valid ? y_[at * static_cast<size_t>(n_y_) + column] : 0;
        if (valid && has(NORMALISED)) y = (y - y_shift_[column]) * y_scale_[column];
        e.y.push_back(bits_of(has(UNBOUND_Y) ? kUntouched : y, ELEMENT_F32));
      }
      float w = valid && has(WEIGHTS) ? w_[at] : 1;
      if (valid && has(CLASS_WEIGHTS)) w *= class_weight_[static_cast<size_t>(y_[at * static_cast<size_t>(n_y_)])];
      if (!valid) w = 0;
      e.w.push_back(bits_of(has(UNBOUND_Y) ? kUntouched : w, ELEMENT_F32));
      e.weight_sum += static_cast<double>(w);
    }
    if (has(MICRO_BATCH)) e.weight_sum = 12.5;
    if (has(UNBOUND_Y)) e.weight_sum = kUntouched;
    return e;
  }

  /* By the kernel. `normalised`: from rows that it has normalised before. */
  Written gathered(int64_t ld, enum element element, bool normalised) {
    const Buffer<float> X(X_), y(y_), w(w_), fill(fill_), shift(shift_), scale(scale_), y_shift(y_shift_),
        y_scale(y_scale_), class_weight(class_weight_);
    const Buffer<uint8_t> narrow(bytes_of_X_);
    const Buffer<int64_t> index(index_);
    const Buffer<step_state> state({state_});
    Matrix to(rows_, ld, element);
    Buffer<float> to_y(rows_ * n_y_, kUntouched), to_w(rows_, kUntouched);
    Buffer<double> weight_sum(1, static_cast<double>(kUntouched));
    Buffer<double> partials(static_cast<int64_t>(gather_scratch(rows_) / sizeof(double)), NAN);
    Buffer<unsigned> counters(COUNTERS, 0);
    source_table sources{};
    sources.X = bytes_ ? static_cast<const void *>(narrow.data) : X.data;
    sources.form = bytes_ ? INPUT_BYTES : INPUT_FLOATS, sources.ld = n_x_;
    if (!has(UNBOUND_Y)) sources.y = y.data;
    if (has(WEIGHTS)) sources.w = w.data;
    if (has(INDEX)) sources.index = index.data;
    gather_launch launch{};
    launch.state = state.data, launch.X = to.matrix(), launch.n_x = n_x_, launch.n_y = n_y_, launch.rows = rows_;
    if (has(FILL)) launch.fill = fill.data;
    if (has(NORMALISED)) launch.shift = shift.data, launch.scale = scale.data;
    Matrix kept(rows_ + 7, (n_x_ + 7) / 8 * 8, ELEMENT_BF16);
    step_state all{};
    all.current.rows = INT64_MAX;
    const Buffer<step_state> every({all});
    if (normalised) {
      source_table rows_alone{};
      rows_alone.X = X.data, rows_alone.ld = n_x_;
      const Buffer<source_table> table({rows_alone});
      gather_launch make = launch;
      make.state = every.data, make.sources = table.data, make.X = kept.matrix(), make.rows = rows_ + 7;
      EXPECT_EQ(launch_gather(&make, nullptr), cudaSuccess);
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      sources.X = kept.halves.data, sources.form = INPUT_NORMALISED, sources.ld = kept.ld;
      const std::vector<float> poison(n_x_, NAN); /* constants are used once */
      for (const float *constants : {launch.fill, launch.shift, launch.scale}) {
        if (!constants) continue;
        EXPECT_EQ(cudaMemcpy(const_cast<float *>(constants), poison.data(), poison.size() * 4, cudaMemcpyHostToDevice),
                  cudaSuccess);
      }
    }
    if (has(NORMALISED)) launch.y_shift = y_shift.data, launch.y_scale = y_scale.data;
    if (has(CLASS_WEIGHTS)) launch.class_weight = class_weight.data, launch.classes = CLASSES;
    const Buffer<source_table> table({sources});
    launch.sources = table.data, launch.y = to_y.data, launch.w = to_w.data, launch.weight_sum = weight_sum.data;
    launch.shuffle = has(SHUFFLED), launch.scratch = {partials.data, counters.data};
    EXPECT_EQ(launch_gather(&launch, nullptr), cudaSuccess);
    to.fetch(), to_y.fetch(), to_w.fetch();
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
    Written written;
    for (int64_t r = 0; r < rows_; r++)
      for (int64_t j = 0; j < ld; j++) written.X.push_back(bits_of(to.at(r, j), element));
    for (const float value : to_y.host) written.y.push_back(bits_of(value, ELEMENT_F32));
    for (const float value : to_w.host) written.w.push_back(bits_of(value, ELEMENT_F32));
    written.weight_sum = weight_sum.fetch()[0];
    return written;
  }

 private:
  bool has(Part part) const { return parts_ & part; }
  float draw() { return static_cast<float>(static_cast<int>(random_() % 2001) - 1000) / 256; }
  /* Every NaN is one. */
  static uint32_t bits_of(float x, enum element element) {
    return std::isnan(x) ? 0x7fffU : element == ELEMENT_F32 ? float_bits(x) : bf16_from_float(x);
  }

  int64_t rows_, n_x_, n_y_;
  unsigned parts_;
  bool bytes_;
  std::mt19937 random_;
  std::vector<float> X_, y_, w_, fill_, shift_, scale_, y_shift_, y_scale_, class_weight_;
  std::vector<uint8_t> bytes_of_X_;
  std::vector<int64_t> index_;
  step_state state_{};
};

struct Shape {
  int64_t rows, n_x, ld, n_y;
};

/* Widths of every access and of several stripes; rows of one and of several chunks. */
const Shape shapes[] = {{1, 1, 8, 1},         {3, 5, 8, 1},     {50, 28, 32, 1},     {40, 64, 64, 1},
                        {600, 8, 8, 1},       {9, 784, 784, 1}, {5, 1300, 1304, 1},  {1300, 2, 8, 1},
                        {33, 30, 30, 3},      {70, 12, 16, 70}, {21, 1024, 1024, 1}, {257, 16, 24, 2},
                        {2, 4096, 4096, 130}, {150, 36, 40, 1}};

/* The parts are drawn for each shape, element and form; every one occurs with every form. */
TEST(Gather, IsTheDefinitionToTheBit) {
  std::mt19937 random(3);
  for (const Shape &shape : shapes)
    for (const enum element element : {ELEMENT_F32, ELEMENT_BF16})
      for (const enum input_form form : {INPUT_FLOATS, INPUT_BYTES, INPUT_NORMALISED})
        for (int tries = 0; tries < 4; tries++) {
          const unsigned parts = random() % PARTS;
          if (form == INPUT_NORMALISED && element == ELEMENT_F32) continue;
          SCOPED_TRACE(testing::Message()
                       << shape.rows << " x " << shape.n_x << ", ld " << shape.ld << ", n_y " << shape.n_y
                       << ", element " << element << ", form " << form << ", parts " << parts);
          Gathered gathered(shape.rows, shape.n_x, shape.n_y, parts, form == INPUT_BYTES, random());
          const Written expected = gathered.expected(shape.ld, element);
          const Written found = gathered.gathered(shape.ld, element, form == INPUT_NORMALISED);
          ASSERT_EQ(found.X, expected.X);
          ASSERT_EQ(found.y, expected.y);
          ASSERT_EQ(found.w, expected.w);
          ASSERT_NEAR(found.weight_sum, expected.weight_sum, shape.rows * 0x1p-50 * std::fabs(expected.weight_sum));
        }
}

/* So resident and streamed rows give the same bits. The weights are of sizes whose sum depends on its order. */
TEST(Gather, AddsWeightsInTheSameOrderWhateverIsBound) {
  for (const Shape &shape : shapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.n_x);
    double sums[3];
    for (const enum input_form form : {INPUT_FLOATS, INPUT_BYTES, INPUT_NORMALISED}) {
      Gathered gathered(shape.rows, shape.n_x, shape.n_y, WEIGHTS | CLASS_WEIGHTS, form == INPUT_BYTES, 5);
      sums[form] = gathered.gathered(shape.ld, ELEMENT_BF16, form == INPUT_NORMALISED).weight_sum;
    }
    EXPECT_EQ(sums[0], sums[1]);
    EXPECT_EQ(sums[0], sums[2]);
  }
}

/* ---- gather from the queue ---- */

struct GatherCase {
  int64_t rows, n_x, ld, n_y;
  enum element element;
};

class Gather : public testing::TestWithParam<GatherCase> {};

/* Source row s holds s + j / 64 in X, s + k in y and s + 1 in w, all exact. */
TEST_P(Gather, FollowsTheQueueAndStopsAfterABadStep) {
  const GatherCase c = GetParam();
  const int64_t source_rows = 3 * c.rows;
  std::vector<float> X, y, w;
  for (int64_t s = 0; s < source_rows; s++) {
    for (int64_t j = 0; j < c.n_x; j++) X.push_back(static_cast<float>(s % 64) + static_cast<float>(j % 4) / 4);
    for (int64_t k = 0; k < c.n_y; k++) y.push_back(static_cast<float>(s + k));
    w.push_back(static_cast<float>(s + 1));
  }
  const Buffer<float> source_X(X), source_y(y), source_w(w);
  const Buffer<source_table> table({{source_X.data, source_y.data, source_w.data, nullptr, INPUT_FLOATS, c.n_x}});
  std::vector<device_step> steps(3);
  for (size_t i = 0; i < steps.size(); i++) {
    steps[i].number = static_cast<int64_t>(i) + 1;
    steps[i].first_row = static_cast<int64_t>(i) * c.rows;
    steps[i].rows = i == 1 ? c.rows / 2 + 1 : c.rows;
    steps[i].update.learning_rate = static_cast<float>(i) / 2;
  }
  const Buffer<device_step> queue(steps);
  Buffer<step_state> state(1, step_state{});
  Buffer<double> bad_step(1, 0), weight_sum(1, -1);
  Matrix to(c.rows, c.ld, c.element);
  Buffer<float> to_y(c.rows * c.n_y, kUntouched), to_w(c.rows, kUntouched);
  Buffer<double> partials(static_cast<int64_t>(gather_scratch(c.rows) / sizeof(double)), 0);
  Buffer<unsigned> counters(COUNTERS, 0);
  gather_launch launch{};
  launch.state = state.data, launch.queue = queue.data, launch.bad_step = bad_step.data, launch.sources = table.data;
  launch.X = to.matrix(), launch.y = to_y.data, launch.w = to_w.data, launch.weight_sum = weight_sum.data;
  launch.n_x = c.n_x, launch.n_y = c.n_y, launch.rows = c.rows;
  launch.scratch = {partials.data, counters.data};

  size_t current = 0; /* step whose rows must be there */
  for (size_t turn = 0; turn < 4; turn++) {
    SCOPED_TRACE("turn " + std::to_string(turn));
    if (turn < 2) current = turn;
    const double bad = turn == 2 ? 2 : 0; /* turn 2 does nothing, turn 3 continues */
    if (turn == 3) current = 2;
    ASSERT_EQ(cudaMemcpy(bad_step.data, &bad, sizeof bad, cudaMemcpyHostToDevice), cudaSuccess);
    const std::vector<float> now = turn == 2 ? std::vector<float>(X.size(), 99) : X; /* another window of the data */
    ASSERT_EQ(cudaMemcpy(source_X.data, now.data(), now.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
    ASSERT_EQ(launch_gather(&launch, nullptr), cudaSuccess);
    const device_step &step = steps[current];
    EXPECT_EQ(state.fetch()[0].next, static_cast<int64_t>(current) + 1);
    EXPECT_EQ(memcmp(&state.host[0].current, &step, sizeof step), 0);
    to.fetch(), to_y.fetch(), to_w.fetch();
    double sum = 0;
    for (int64_t r = 0; r < c.rows; r++) {
      const int64_t s = step.first_row + r;
      const bool valid = r < step.rows;
      for (int64_t j = 0; j < c.ld; j++)
        ASSERT_EQ(to.at(r, j), j >= c.n_x ? kUntouched
                               : valid    ? X[static_cast<size_t>(s * c.n_x + j)]
                                          : 0.0f)
            << "row " << r << ", column " << j;
      for (int64_t k = 0; k < c.n_y; k++)
        ASSERT_EQ(to_y.host[static_cast<size_t>(r * c.n_y + k)], valid ? static_cast<float>(s + k) : 0.0f) << r;
      ASSERT_EQ(to_w.host[static_cast<size_t>(r)], valid ? static_cast<float>(s + 1) : 0.0f) << r;
      if (valid) sum += static_cast<double>(s + 1);
    }
    EXPECT_EQ(weight_sum.fetch()[0], sum);
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, Gather,
                         testing::Values(GatherCase{1, 1, 1, 1, ELEMENT_F32}, GatherCase{7, 5, 8, 1, ELEMENT_F32},
                                         GatherCase{300, 28, 32, 1, ELEMENT_BF16},
                                         GatherCase{1024, 4, 4, 2, ELEMENT_F32},
                                         GatherCase{1025, 3, 8, 4, ELEMENT_BF16},
                                         GatherCase{3000, 8, 12, 1, ELEMENT_F32},
                                         GatherCase{33, 1300, 1304, 1, ELEMENT_BF16}));

TEST(Passes, FetchTakesTheQueuesNextStep) {
  std::vector<device_step> steps(2);
  for (int i : {0, 1})
    steps[static_cast<size_t>(i)].number = i + 5, steps[static_cast<size_t>(i)].update.root_bias_correction = 0.5f;
  const Buffer<device_step> queue(steps);
  Buffer<step_state> state(1, step_state{});
  for (size_t i = 0; i < 2; i++) {
    ASSERT_EQ(launch_fetch(state.data, queue.data, nullptr), cudaSuccess);
    EXPECT_EQ(memcmp(&state.fetch()[0].current, &steps[i], sizeof steps[i]), 0);
    EXPECT_EQ(state.host[0].next, static_cast<int64_t>(i) + 1);
  }
}

}  // namespace
