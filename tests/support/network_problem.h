/* A training step of a network as a test's case: its numbers on the host and on the device, and what the launch of a
 * kernel of several layers gives, compared with bounds. */
#ifndef DESCENT_TESTS_NETWORK_PROBLEM_H
#define DESCENT_TESTS_NETWORK_PROBLEM_H

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "network_oracle.h"
#include "passes.h"

namespace network_problem {

using namespace network_oracle;

/* What the numbers are drawn from: uniform, or whole, so that every sum is exact. */
enum Values { UNIFORM, WHOLE };
enum Weights { ONES, DRAWN, ZEROS, TINY, HUGE_ONES };

struct StepCase {
  Arithmetic arithmetic;
  std::vector<int> widths; /* of X and of each layer */
  descent_activation activation;
  double dropout;
  descent_loss loss;
  descent_activation output;
  double smoothing;
  int64_t rows, step_rows;
  Values values;
  Weights weights;
};

struct StepShape {
  std::vector<int> widths; /* of X and of each layer */
  descent_loss loss;
  int64_t rows, step_rows;
  Weights weights;
};

/* Each shape in every arithmetic, with and without dropout, except where skips(number of the shape, dropout). Activations,
 * those of the output, and smoothing take turns. */
template <typename Skips>
std::vector<StepCase> cases_of(const std::vector<StepShape> &shapes, Skips skips) {
  std::vector<StepCase> all;
  int turn = 0;
  for (const StepShape &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      for (const bool drops : {false, true}) {
        if (skips(&shape - shapes.data(), drops)) continue;
        const bool is_squared = shape.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
        const auto activation = static_cast<descent_activation>(turn % N_ACTIVATIONS);
        const auto output =
            is_squared ? static_cast<descent_activation>(3 * turn % N_ACTIVATIONS) : DESCENT_ACTIVATION_IDENTITY;
        const double smoothing = !is_squared && turn % 3 == 0 ? 0.125 : 0;
        all.push_back({arithmetic, shape.widths, activation, drops ? 0.25 : 0, shape.loss, output, smoothing,
                       shape.rows, shape.step_rows, UNIFORM, shape.weights});
        turn++;
      }
  return all;
}

inline int64_t unit_of(enum element element) { return element == ELEMENT_BF16 ? 8 : 4; }
inline int64_t whole_units(int64_t n, enum element element) {
  return (n + unit_of(element) - 1) / unit_of(element) * unit_of(element);
}

/* A case's numbers, on the host and on the device. */
class Problem {
 public:
  explicit Problem(const StepCase &c, int64_t batch_row = 0)
      : c_(c), element_(c.arithmetic == BF16 ? ELEMENT_BF16 : ELEMENT_F32), random_(17) {
    network = {c.arithmetic, {}, c.loss, c.smoothing, 7, 3, batch_row};
    for (size_t l = 0; l + 1 < c.widths.size(); l++) {
      const bool output = l + 2 == c.widths.size();
      Layer layer = {c.widths[l], c.widths[l + 1], output ? c.output : c.activation, output ? 0 : c.dropout, {}, {}};
      for (int i = 0; i < layer.n_in * layer.n_out; i++) layer.W.push_back(weight(layer.n_in));
      for (int i = 0; i < layer.n_out; i++) layer.b.push_back(weight(layer.n_in));
      network.layers.push_back(layer);
    }
    for (int j = 0; j < c.widths.back(); j++) {
      y_shift.push_back(static_cast<float>(uniform()));
      y_scale.push_back(static_cast<float>(2 + uniform()));
    }
    draw_batch();
    place_parameters();
    place_batch();
  }

  network_launch launch_of(enum network_kind kind) {
    network_launch l{};
    l.kind = kind;
    l.state = state_->data;
    l.X = {X_->matrix().data, X_->ld, element_};
    l.layers = static_cast<int>(network.layers.size());
    for (size_t i = 0; i < network.layers.size(); i++) {
      const Layer &layer = network.layers[i];
      network_layer &to = l.layer[i];
      to.W = W_[i]->matrix(), to.bias = b_[i]->matrix().data, to.bias_element = b_[i]->element;
      to.n_in = layer.n_in, to.n_out = layer.n_out, to.activation = layer.activation;
      to.threshold = layer.dropout > 0 ? rng_drop_threshold(layer.dropout) : 0;
      to.dropout_scale = static_cast<float>(1 / (1 - layer.dropout));
      to.keep_probability = static_cast<float>(1 - layer.dropout);
      to.dW = dW_[i], to.db = db_[i];
    }
    l.rows = c_.rows, l.seed = network.seed, l.tf32 = c_.arithmetic == TF32, l.loss = c_.loss;
    l.y = y_->data, l.w = w_->data, l.label_smoothing = static_cast<float>(c_.smoothing);
    l.n_gradients = n_gradients_;
    return l;
  }

  struct Found {
    std::vector<float> gradients;
    double J;
    bool operator==(const Found &other) const {
      return memcmp(&J, &other.J, sizeof J) == 0 &&
             memcmp(gradients.data(), other.gradients.data(), gradients.size() * sizeof(float)) == 0;
    }
  };
  /* A long step once; others twice in the same partial sums: what the first launch leaves has no effect. */
  Found step(int variant) {
    network_launch l = launch_of(NETWORK_STEP);
    l.variant = variant;
    std::vector<double> slots(SCALAR_SLOTS, 0);
    slots[SCALAR_WEIGHT_SUM] = batch.weight_sum;
    Buffer<double> scalars(slots);
    Buffer<unsigned> counters(COUNTERS, 0);
    Buffer<char> partials(std::vector<char>(network_partials(&l)));
    Buffer<float> gradients(n_gradients_ + 4, kUntouched);
    l.scalars = scalars.data, l.gradients = gradients.data, l.partials = partials.data, l.counters = counters.data;
    std::vector<Found> found(is_long() ? 1 : 2);
    for (Found &each : found) {
      std::fill(gradients.host.begin(), gradients.host.end() - 4, NAN);
      gradients.store();
      EXPECT_EQ(launch_network(&l, nullptr), cudaSuccess);
      each = {gradients.fetch(), scalars.fetch()[SCALAR_LOSS]};
      EXPECT_EQ(scalars.host[SCALAR_WEIGHT_SUM], batch.weight_sum);
    }
    EXPECT_TRUE(found.front() == found.back()) << "blocks and threads ran in another order";
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
    return found.front();
  }
  /* So long that blocks have several tiles. */
  bool is_long() const { return c_.rows > 10000; }
  void poison(float x) {
    X_->floats.host[0] = x, X_->halves.host[0] = bf16_from_float(x);
    X_->store();
  }

  void expect_within(const Found &found, const Gradients &bounds) {
    const auto check = [&](int64_t place, interval x, const std::string &what) {
      const auto at = static_cast<size_t>(place);
      const auto value = static_cast<double>(found.gradients[at]);
      EXPECT_TRUE(x.lo <= value && value <= x.hi) << what << ": " << value << " not in " << x.lo << ", " << x.hi;
    };
    for (size_t l = 0; l < network.layers.size() && !testing::Test::HasFailure(); l++) {
      const Layer &layer = network.layers[l];
      for (int j = 0; j < layer.n_out; j++) {
        const std::string where = " of layer " + std::to_string(l + 1) + ", " + std::to_string(j);
        check(db_[l] + j, bounds.db[l][static_cast<size_t>(j)], "db" + where);
        for (int i = 0; i < layer.n_in; i++)
          check(dW_[l] + j * W_[l]->ld + i, bounds.dW[l][static_cast<size_t>(j * layer.n_in + i)],
                "dW" + where + ", " + std::to_string(i));
      }
    }
    EXPECT_TRUE(bounds.J.lo <= found.J && found.J <= bounds.J.hi)
        << "J: " << found.J << " not in " << bounds.J.lo << ", " << bounds.J.hi;
    expect_gaps(found);
  }

  /* Where is neither dW nor db there are zeros, and behind the gradients nothing is written. */
  void expect_gaps(const Found &found) {
    std::vector<bool> is_gradient(found.gradients.size(), false);
    for (size_t l = 0; l < network.layers.size(); l++)
      for (int j = 0; j < network.layers[l].n_out; j++) {
        is_gradient[static_cast<size_t>(db_[l] + j)] = true;
        for (int i = 0; i < network.layers[l].n_in; i++)
          is_gradient[static_cast<size_t>(dW_[l] + j * W_[l]->ld + i)] = true;
      }
    for (size_t i = 0; i < found.gradients.size(); i++) {
      if (is_gradient[i]) continue;
      EXPECT_EQ(found.gradients[i], static_cast<int64_t>(i) < n_gradients_ ? 0 : kUntouched) << "no gradient, " << i;
    }
  }

  struct Output {
    std::vector<float> A, P; /* (rows + 1, ld), (rows + 1, n) */
    int64_t ld;
  };
  /* A and P, or one of them; untouched where the launch has nothing to write. */
  Output forward(int variant, bool with_A, bool with_P) {
    network_launch l = launch_of(NETWORK_FORWARD);
    const int64_t n = c_.widths.back(), ld = whole_units(n, ELEMENT_F32) + 4;
    Buffer<float> A((c_.rows + 1) * ld, kUntouched), P((c_.rows + 1) * n, kUntouched), shift(y_shift), scale(y_scale);
    l.variant = variant;
    if (with_A) l.A = {A.data, ld, ELEMENT_F32};
    if (with_P) l.P = P.data;
    l.y_shift = shift.data, l.y_scale = scale.data;
    l.y = l.w = nullptr;
    EXPECT_EQ(launch_network(&l, nullptr), cudaSuccess);
    return {A.fetch(), P.fetch(), ld};
  }

  void expect_output(const Output &output, bool with_A, bool with_P) const {
    const int64_t n = c_.widths.back();
    const auto at = [](const std::vector<float> &all, int64_t i) { return all[static_cast<size_t>(i)]; };
    const auto expect_inside = [](float found, interval x, int64_t r, int64_t j, const char *what) {
      const auto value = static_cast<double>(found);
      ASSERT_TRUE(x.lo <= value && value <= x.hi)
          << what << " " << r << ", " << j << ": " << value << " not in " << x.lo << ", " << x.hi;
    };
    for (int64_t r = 0; r <= c_.rows && !testing::Test::HasFailure(); r++) {
      const bool is_step = r < c_.step_rows;
      const Passed passed = network_oracle::forward(network, batch, is_step ? r : 0);
      const Row P = predictions(network, passed.A.back(), y_shift, y_scale);
      for (int64_t j = 0; j < output.ld; j++) {
        if (!is_step || j >= n || !with_A)
          ASSERT_EQ(at(output.A, r * output.ld + j), kUntouched) << r << ", " << j;
        else
          expect_inside(at(output.A, r * output.ld + j), passed.A.back()[static_cast<size_t>(j)], r, j, "A");
      }
      for (int64_t j = 0; j < n; j++) {
        if (!is_step || !with_P)
          ASSERT_EQ(at(output.P, r * n + j), kUntouched) << r << ", " << j;
        else
          expect_inside(at(output.P, r * n + j), P[static_cast<size_t>(j)], r, j, "P");
      }
    }
  }

  int variants(enum network_kind kind) {
    const network_launch l = launch_of(kind);
    return network_variants(&l, nullptr, 0);
  }

  /* The variants that keep all weights in shared memory; they are the first. */
  int resident_variants(enum network_kind kind) {
    const network_launch l = launch_of(kind);
    return network_resident_variants(&l);
  }

  Network network;
  Batch batch;
  std::vector<float> y_shift, y_scale;

 private:
  double rounded(double x) const {
    return c_.arithmetic == BF16 ? interval_bf16(x) : static_cast<double>(static_cast<float>(x));
  }
  double uniform() { return static_cast<double>(random_()) * 0x1p-31 - 1; }
  int whole(int most) { return static_cast<int>(random_() % static_cast<unsigned>(2 * most + 1)) - most; }
  int whole_sign() { return static_cast<int>(random_() % 2); }
  /* Of whole numbers about one in a row is not 0, so that they stay small through many layers. */
  double weight(int n_in) {
    if (c_.values == WHOLE)
      return static_cast<int>(random_() % static_cast<unsigned>(n_in)) == 0 ? 1 - 2 * whole_sign() : 0;
    return rounded(uniform() * 1.7 / std::sqrt(n_in));
  }

  void draw_batch() {
    const int n_x = c_.widths.front(), n = c_.widths.back(), n_y = loss_is_regression(c_.loss) ? n : 1;
    batch.rows = c_.step_rows;
    for (int64_t i = 0; i < c_.step_rows * n_x; i++)
      batch.X.push_back(c_.values == WHOLE ? whole(2) : rounded(2 * uniform()));
    for (int64_t i = 0; i < c_.step_rows * n_y; i++)
      batch.y.push_back(loss_is_regression(c_.loss)
                            ? (c_.values == WHOLE ? whole(3) : static_cast<double>(static_cast<float>(uniform())))
                            : static_cast<double>(random_() % static_cast<unsigned>(n == 1 ? 2 : n)));
    for (int64_t r = 0; r < c_.step_rows; r++) {
      const double drawn[] = {1, static_cast<double>(static_cast<float>(0.5 + 0.4 * uniform())), 0, 0x1p-120, 0x1p120};
      batch.w.push_back(drawn[c_.weights]);
    }
    batch.weight_sum = 0;
    for (const double w : batch.w) batch.weight_sum += w;
    if (c_.values == WHOLE) batch.weight_sum = 0x1p10; /* whole shares */
  }

  void place_parameters() {
    int64_t at = 4;
    for (const Layer &layer : network.layers) {
      W_.push_back(std::make_unique<Matrix>(layer.n_out, whole_units(layer.n_in, element_), element_));
      b_.push_back(std::make_unique<Matrix>(1, whole_units(layer.n_out, element_),
                                            layer.dropout > 0 ? ELEMENT_F32 : element_)); /* of either */
      fill(*W_.back(), layer.n_out, layer.n_in, layer.W, 0), fill(*b_.back(), 1, layer.n_out, layer.b, NAN);
      dW_.push_back(at), at += layer.n_out * W_.back()->ld + 4;
      at = (at + 3) / 4 * 4;
      db_.push_back(at), at += (layer.n_out + 3) / 4 * 4 + 4;
    }
    n_gradients_ = at;
  }

  void place_batch() {
    const int n_x = c_.widths.front();
    X_ = std::make_unique<Matrix>(c_.rows, whole_units(n_x, element_) + unit_of(element_), element_);
    fill(*X_, c_.rows, n_x, batch.X, NAN);
    const auto n_y = static_cast<size_t>(loss_is_regression(c_.loss) ? c_.widths.back() : 1);
    std::vector<float> y(static_cast<size_t>(c_.rows) * n_y, NAN), w(static_cast<size_t>(c_.rows), NAN);
    std::copy(batch.y.begin(), batch.y.end(), y.begin());
    std::copy(batch.w.begin(), batch.w.end(), w.begin());
    y_ = std::make_unique<Buffer<float>>(y), w_ = std::make_unique<Buffer<float>>(w);
    step_state now{};
    now.current.rows = c_.step_rows, now.current.number = static_cast<int64_t>(network.number);
    now.current.batch_row = network.batch_row;
    state_ = std::make_unique<Buffer<step_state>>(std::vector<step_state>{now});
  }

  /* `padding` behind column n; rows without values are NaN and infinite. */
  static void fill(Matrix &m, int64_t rows, int64_t n, const std::vector<double> &values, float padding) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < m.ld; j++) {
        const auto at = static_cast<size_t>(r * m.ld + j), from = static_cast<size_t>(r * n + j);
        const bool has = static_cast<size_t>(r * n) < values.size();
        const float x = j >= n ? padding : has ? static_cast<float>(values[from]) : r % 2 ? NAN : INFINITY;
        m.floats.host[at] = x, m.halves.host[at] = bf16_from_float(x);
      }
    m.store();
  }

  StepCase c_;
  enum element element_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<Matrix>> W_, b_;
  std::vector<int64_t> dW_, db_;
  int64_t n_gradients_ = 0;
  std::unique_ptr<Matrix> X_;
  std::unique_ptr<Buffer<float>> y_, w_;
  std::unique_ptr<Buffer<step_state>> state_;
};

inline std::string name(const testing::TestParamInfo<StepCase> &info) {
  const StepCase &c = info.param;
  const char *const arithmetics[] = {"fp32", "tf32", "bf16"};
  const char *const losses[] = {"squared", "binary", "softmax"};
  const char *const weights[] = {"", "_drawn", "_zeros", "_tiny", "_huge"};
  std::string text = std::to_string(c.step_rows) + "of" + std::to_string(c.rows);
  for (const int n : c.widths) text += "_" + std::to_string(n);
  text += std::string("_") + arithmetics[c.arithmetic] + "_" + descent_activation_name(c.activation);
  if (c.dropout > 0) text += "_dropout";
  text += std::string("_") + losses[c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR     ? 0
                                    : c.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1
                                                                                  : 2];
  if (c.output != DESCENT_ACTIVATION_IDENTITY) text += std::string("_") + descent_activation_name(c.output);
  return text + weights[c.weights] + (c.smoothing > 0 ? "_smoothed" : "");
}

/* Of a launch without data. */
struct Shape {
  std::vector<int> widths;
  enum element element;
  bool tf32;
  enum network_kind kind;
  int64_t rows;
};
inline network_launch launch_of(const Shape &shape) {
  network_launch l{};
  l.kind = shape.kind, l.rows = shape.rows, l.tf32 = shape.tf32;
  l.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  l.layers = static_cast<int>(shape.widths.size()) - 1;
  l.X = {nullptr, whole_units(shape.widths[0], shape.element), shape.element};
  for (int i = 0; i < l.layers; i++) {
    const auto at = static_cast<size_t>(i);
    l.layer[i].n_in = shape.widths[at], l.layer[i].n_out = shape.widths[at + 1];
    l.layer[i].W = {nullptr, whole_units(shape.widths[at], shape.element), shape.element};
  }
  return l;
}

}  // namespace network_problem

#endif
