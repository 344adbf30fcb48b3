/* Whole ranges of a network's plan on a backend: what they leave against intervals propagated through their operations
 * from the parameters and rows as the backend stored them. */
#ifndef DESCENT_TESTS_RANGES_H
#define DESCENT_TESTS_RANGES_H

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "conformance.h"
#include "training.h"

namespace ranges {

struct Case {
  std::vector<int64_t> widths;
  descent_activation hidden = DESCENT_ACTIVATION_RELU, output = DESCENT_ACTIVATION_IDENTITY;
  descent_loss loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  int64_t rows = 37, batch = 32; /* of the data; the last batch has the rest */
  double dropout = 0, smoothing = 0;
  bool row_weights = false, class_weights = false, missing = false;
};

inline std::string name(const Case &c) {
  std::string text = descent_activation_name(c.hidden) + std::string("_") + descent_loss_name(c.loss);
  for (const int64_t width : c.widths) text += "_" + std::to_string(width);
  if (c.output != DESCENT_ACTIVATION_IDENTITY) text += std::string("_to_") + descent_activation_name(c.output);
  text += "_rows_" + std::to_string(c.rows) + "_batch_" + std::to_string(c.batch);
  if (c.dropout > 0) text += "_dropout";
  if (c.smoothing > 0) text += "_smoothing";
  if (c.row_weights) text += "_row_weights";
  if (c.class_weights) text += "_class_weights";
  return text + (c.missing ? "_missing" : "");
}

/* How values compare with their intervals. */
struct Finding {
  double worst = 0; /* largest distance from the middle of the interval, in its radii; infinite where not finite */
  std::string where = "nowhere";
  int64_t values = 0;
  int64_t tight = 0; /* whose radius is at most a tenth of the largest middle of their matrix or vector */
  void take(const Finding &other) {
    if (other.worst > worst) worst = other.worst, where = other.where;
    values += other.values, tight += other.tight;
  }
};

inline Finding compared(const std::string &what, const std::vector<double> &values, const interval *within) {
  Finding found;
  double largest = 0;
  found.values = static_cast<int64_t>(values.size());
  for (size_t i = 0; i < values.size(); i++) {
    const double middle = interval_middle(within[i]);
    if (std::isfinite(middle)) largest = std::fmax(largest, std::fabs(middle));
  }
  for (size_t i = 0; i < values.size(); i++) {
    const double middle = interval_middle(within[i]), radius = interval_bound(within[i], middle);
    double ratio = std::isfinite(radius) ? std::fabs(values[i] - middle) / radius : 0;
    if (values[i] == middle) ratio = 0;
    if (!std::isfinite(values[i])) ratio = INFINITY;
    found.tight += radius <= largest / 10;
    if (ratio <= found.worst) continue;
    found.worst = ratio;
    found.where = what + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) + ", within " +
                  std::to_string(within[i].lo) + " .. " + std::to_string(within[i].hi);
  }
  return found;
}

/* RANDOM: with biases that are not 0. WHOLE: small whole numbers throughout and few weights that are not 0. Where
 * batches and outputs are powers of 2 and activations keep whole numbers, each sum of a step is then exact. */
enum Numbers { RANDOM, WHOLE };

/* The network of a case on a backend, and the same on the reference. */
class Session {
 public:
  Session(const Case &c, descent_precision precision, const backend *table, int threads,
          descent_fusion fusion = DESCENT_FUSION_OFF, Numbers numbers = RANDOM)
      : case_(c), network_(make_network(c.widths, c.hidden, c.loss, 3, c.output)), data_(nullptr, nullptr) {
    const int64_t outputs = c.widths.back();
    const bool regression = loss_is_regression(c.loss);
    Rows &rows = rows_;
    rows = make_rows(c.rows, c.widths[0], regression ? outputs : 1, regression ? 0 : std::max<int64_t>(outputs, 2), 3);
    if (c.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) rows.classes = outputs;
    std::mt19937 random(5);
    const auto uniform = [&] { return static_cast<float>(random() % 1000) / 1000; };
    for (int64_t r = 0; c.row_weights && r < c.rows; r++) rows.weights.push_back(r % 5 == 3 ? 0 : 0.25F + uniform());
    for (size_t i = 0; c.missing && i < rows.X.size(); i += 11) rows.X[i] = NAN;
    for (int32_t l = 0; l < network_->n_layers; l++)
      for (int64_t j = 0; j < network_->layers[l].n_out; j++)
        network_->parameters[network_->layers[l].at.b + j] = uniform() - 0.5F;
    data_ = rows.dataset();
    EXPECT_EQ(descent_network_fit_preprocessing(network_.get(), data_.get(), DESCENT_NORMALIZE_STANDARD,
                                                DESCENT_IMPUTE_MEAN, regression),
              DESCENT_OK)
        << descent_last_error();
    if (numbers == WHOLE) make_whole();
    open(precision, table, threads, fusion);
  }
  ~Session() {
    program_clear(&tried);
    program_clear(&exact);
    if (device_.device) device_.backend->close(device_.device);
  }
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  plan_step step(int64_t number) const {
    const int64_t batches = (case_.rows - 1) / case_.batch + 1, first = (number - 1) % batches * case_.batch;
    return {number, first, std::min(case_.batch, case_.rows - first), 0.01, &order_, 0, 0, 0, 0};
  }
  int64_t steps() const { return (case_.rows - 1) / case_.batch + 1; }

  /* Runs the whole range at once or as `run` does, and compares J and whichever of the gradients and P it writes. */
  Finding check(plan_range range, const plan_step &step, const std::function<void()> &run = nullptr) {
    if (run) {
      run();
    } else {
      EXPECT_EQ(program_run(&tried, range, &step, 1), DESCENT_OK) << descent_last_error();
    }
    const plan &p = *tried.plan;
    std::vector<double> gradients, P, J;
    const bool trains = contains(range, OP_DENSE_BACKWARD_WEIGHTS);
    if (trains) gradients = read(tried.at.gradients, network_->n_parameters);
    if (contains(range, OP_LOSS)) J = {read(tried.at.scalars, SCALAR_SLOTS)[SCALAR_LOSS]};
    if (contains(range, OP_OUTPUT)) P = read(tried.at.P, step.rows * case_.widths.back());
    take_inputs(J.empty() ? std::vector<int>{tried.at.X} : std::vector<int>{tried.at.X, tried.at.y, tried.at.w});
    range_bounds within{};
    EXPECT_EQ(range_bounds_run(exact.compiled, range, &step, &within), DESCENT_OK) << descent_last_error();
    Finding found;
    const auto piece = [&](int64_t from, int64_t count) {
      return std::vector<double>(gradients.begin() + from, gradients.begin() + from + count);
    };
    for (int32_t l = 0; trains && l < p.layers; l++) {
      const network_layer &layer = network_->layers[l];
      const interval *bounds = within.values[tried.at.gradients];
      const std::string number = std::to_string(l + 1);
      found.take(compared("dW" + number, piece(layer.at.W, layer.n_in * layer.n_out), bounds + layer.at.W));
      found.take(compared("db" + number, piece(layer.at.b, layer.n_out), bounds + layer.at.b));
    }
    if (!J.empty()) found.take(compared("J", J, within.values[tried.at.scalars] + SCALAR_LOSS));
    if (!P.empty()) found.take(compared("P", P, within.values[tried.at.P]));
    range_bounds_clear(&within);
    return found;
  }

  std::vector<double> read(int buffer, int64_t count) const {
    std::vector<double> values(static_cast<size_t>(count));
    if (tried.backend->synchronise) {
      EXPECT_EQ(tried.backend->synchronise(tried.compiled), DESCENT_OK) << descent_last_error();
    }
    EXPECT_EQ(program_read(&tried, buffer, 0, count, PLAN_F64, values.data()), DESCENT_OK) << descent_last_error();
    return values;
  }
  const descent_network &network() const { return *network_; }

  struct program tried {
  }, exact{};

 private:
  void make_whole() {
    std::mt19937 random(5);
    const auto draw = [&](unsigned most) {
      return static_cast<float>(random() % (2 * most + 1)) - static_cast<float>(most);
    };
    for (float &x : rows_.X) x = draw(2);
    for (float &y : rows_.y) y = draw(8);
    for (int32_t l = 0; l < network_->n_layers; l++) {
      const network_layer &layer = network_->layers[l];
      for (int64_t i = 0; i < layer.n_out * layer.n_in; i++) {
        const bool is_chosen = random() % static_cast<unsigned>(layer.n_in) < 3;
        network_->parameters[layer.at.W + i] = is_chosen ? draw(1) : 0;
      }
      for (int64_t j = 0; j < layer.n_out; j++) network_->parameters[layer.at.b + j] = draw(1);
    }
    for (int64_t j = 0; j < network_->inputs; j++) network_->shift[j] = 0, network_->scale[j] = 1;
    for (int64_t k = 0; k < case_.widths.back(); k++) network_->y_shift[k] = 0, network_->y_scale[k] = 1;
    data_ = rows_.dataset();
  }

  void open(descent_precision precision, const backend *table, int threads, descent_fusion fusion) {
    const Device reference = open_device("reference", 1);
    device_ = *reference;
    device_.backend = table;
    device_.device = nullptr;
    ASSERT_EQ(table->open(0, threads, &device_.device), DESCENT_OK) << descent_last_error();
    descent_train_options options = descent_train_options_default();
    options.precision = precision;
    options.dropout = case_.dropout;
    options.label_smoothing = case_.smoothing;
    options.autotune = false;
    options.gpu.fusion = fusion;
    std::vector<float> class_weights;
    options.balance_classes = case_.class_weights;
    for (int64_t k = 0; case_.class_weights && k < network_->classes; k++)
      class_weights.push_back(0.5F + static_cast<float>(k % 3));
    const float *weights = class_weights.empty() ? nullptr : class_weights.data();
    ASSERT_EQ(program_create(network_.get(), &device_, &options, case_.batch, 0, weights, &tried), DESCENT_OK)
        << descent_last_error();
    ASSERT_EQ(program_create(network_.get(), reference.get(), &options, case_.batch, 0, weights, &exact), DESCENT_OK)
        << descent_last_error();
    ASSERT_EQ(program_bind(&tried, data_.get()), DESCENT_OK) << descent_last_error();
    order_ = permutation_create(7, RNG_SHUFFLE, 1, static_cast<uint64_t>(case_.rows));
  }

  bool contains(plan_range range, plan_op_kind kind) const {
    bool found = false;
    for (int i = 0; i < range.count; i++) found |= tried.plan->ops[range.first + i].kind == kind;
    return found;
  }

  /* What the range read, from the candidate to the reference. */
  void take_inputs(const std::vector<int> &rows) {
    EXPECT_EQ(program_copy_state(&tried, &exact), DESCENT_OK) << descent_last_error();
    for (const int buffer : rows) {
      const int64_t count = tried.plan->buffers[buffer].rows * tried.plan->buffers[buffer].cols;
      const std::vector<double> values = read(buffer, count);
      EXPECT_EQ(program_write(&exact, buffer, 0, count, PLAN_F64, values.data()), DESCENT_OK);
    }
  }

  Case case_;
  Network network_;
  Rows rows_{};
  Dataset data_;
  descent_device device_{};
  permutation order_{};
};

/* The gradients of the first and the last batch, then the evaluation and prediction of both. */
inline Finding check_ranges(Session &session) {
  Finding found;
  for (int64_t number = 1; number <= session.steps(); number += std::max<int64_t>(session.steps() - 1, 1)) {
    const plan_step step = session.step(number);
    for (const plan_range &range :
         {session.tried.plan->gradient, session.tried.plan->evaluate, session.tried.plan->predict})
      found.take(session.check(range, step));
  }
  return found;
}

}  // namespace ranges

#endif
