/* Shared by the tests of training: networks, datasets and devices that free themselves. */
#ifndef DESCENT_TESTS_TRAINING_H
#define DESCENT_TESTS_TRAINING_H

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda_module.h"
#include "internal.h"

using Network = std::unique_ptr<descent_network, void (*)(descent_network *)>;
using Dataset = std::unique_ptr<descent_dataset, void (*)(descent_dataset *)>;
using Device = std::unique_ptr<descent_device, void (*)(descent_device *)>;
using Trainer = std::unique_ptr<descent_trainer, void (*)(descent_trainer *)>;

inline Device open_device(const char *name, int threads = 2) {
  descent_device *device = nullptr;
  EXPECT_EQ(descent_device_open(name, threads, &device), DESCENT_OK) << descent_last_error();
  return {device, descent_device_close};
}

/* widths: n_0 .. n_L. Weights are drawn from `seed`. */
inline Network make_network(const std::vector<int64_t> &widths, descent_activation hidden, descent_loss loss,
                            uint64_t seed = 1, descent_activation output = DESCENT_ACTIVATION_IDENTITY) {
  std::vector<descent_activation> activations(widths.size() - 1, hidden);
  activations.back() = output;
  descent_network_options options = descent_network_options_default();
  options.inputs = widths[0];
  options.layers = static_cast<int32_t>(activations.size());
  options.widths = widths.data() + 1;
  options.activations = activations.data();
  options.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, seed), DESCENT_OK) << descent_last_error();
  return {network, descent_network_free};
}

inline std::vector<float> parameters_of(const Network &network) {
  return {network->parameters, network->parameters + network->n_parameters};
}

/* Rows in memory that live as long as the dataset does. */
struct Rows {
  int64_t rows, inputs, targets, classes; /* classes 0: regression */
  std::vector<float> X, y, weights;       /* weights may be empty */

  Dataset dataset() const {
    const descent_task task = classes == 0   ? DESCENT_TASK_REGRESSION
                              : classes == 2 ? DESCENT_TASK_BINARY
                                             : DESCENT_TASK_CLASSES;
    descent_dataset *made = nullptr;
    EXPECT_EQ(descent_dataset_create(X.data(), y.data(), weights.empty() ? nullptr : weights.data(), rows, inputs,
                                     targets, task, classes, &made),
              DESCENT_OK)
        << descent_last_error();
    return {made, descent_dataset_free};
  }
};

/* Normal inputs; the class is that of the largest of `classes` fixed random projections (binary: the sign of one), the
 * regression targets are sines of such projections. Noise-free, so that it can be learnt. */
inline Rows make_rows(int64_t rows, int64_t inputs, int64_t targets, int64_t classes, unsigned seed) {
  Rows data{rows, inputs, targets, classes, {}, {}, {}};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const int64_t projections = classes == 2 ? 1 : classes ? classes : targets;
  std::vector<float> P(static_cast<size_t>(projections * inputs));
  for (float &p : P) p = normal(random);
  for (int64_t r = 0; r < rows; r++) {
    std::vector<float> z(static_cast<size_t>(projections));
    for (int64_t j = 0; j < inputs; j++) {
      const float x = normal(random);
      data.X.push_back(x);
      for (int64_t k = 0; k < projections; k++) z[static_cast<size_t>(k)] += x * P[static_cast<size_t>(k * inputs + j)];
    }
    if (classes == 2) data.y.push_back(z[0] > 0);
    if (classes > 2) data.y.push_back(static_cast<float>(std::max_element(z.begin(), z.end()) - z.begin()));
    if (classes == 0)
      for (float value : z) data.y.push_back(std::sin(value));
  }
  return data;
}

/* Of `total` micro-batches of a step, whose rows weigh `weight_sum`, the `own` from `first` on. */
inline std::vector<plan_step> cut_step(const plan_step &step, double weight_sum, int64_t total, int64_t first,
                                       int64_t own) {
  std::vector<plan_step> parts(static_cast<size_t>(own), step);
  for (int64_t i = 0; i < own; i++) {
    plan_step &part = parts[static_cast<size_t>(i)];
    part.batch_row = step.rows * (first + i) / total;
    part.rows = step.rows * (first + i + 1) / total - part.batch_row;
    part.first_row += part.batch_row;
    part.micro_batch = static_cast<int>(i), part.micro_batches = static_cast<int>(own);
    part.weight_sum = weight_sum;
  }
  return parts;
}
/* The step as the range `finish` takes it. */
inline plan_step finish_of(plan_step step, int64_t own) {
  step.rows = 0, step.micro_batches = static_cast<int>(own);
  return step;
}

#endif
