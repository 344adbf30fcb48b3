/* Networks of which plans are built, and a plan that is freed. */
#ifndef DESCENT_TESTS_PLANS_H
#define DESCENT_TESTS_PLANS_H

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "internal.h"

namespace plans {

struct Shape {
  const char *name;
  std::vector<int64_t> widths; /* n_0 .. n_L */
  descent_activation hidden, output;
  descent_loss loss;
};

inline const Shape shapes[] = {
    {"one_layer", {3, 1}, DESCENT_ACTIVATION_RELU, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_BINARY_CROSS_ENTROPY},
    {"notes",
     {30, 16, 8, 1},
     DESCENT_ACTIVATION_SIGMOID,
     DESCENT_ACTIVATION_IDENTITY,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY},
    {"digits",
     {64, 32, 48, 10},
     DESCENT_ACTIVATION_RELU,
     DESCENT_ACTIVATION_IDENTITY,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY},
    {"smooth", {5, 7, 6, 5, 4}, DESCENT_ACTIVATION_GELU, DESCENT_ACTIVATION_SILU, DESCENT_LOSS_MEAN_SQUARED_ERROR},
};

inline std::unique_ptr<descent_network, void (*)(descent_network *)> make_network(const Shape &shape) {
  std::vector<descent_activation> activations(shape.widths.size() - 1, shape.hidden);
  activations.back() = shape.output;
  descent_network_options options = descent_network_options_default();
  options.inputs = shape.widths[0];
  options.layers = static_cast<int32_t>(activations.size());
  options.widths = shape.widths.data() + 1;
  options.activations = activations.data();
  options.loss = shape.loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  return {network, descent_network_free};
}

struct Plan {
  struct plan *plan = nullptr;
  struct plan_handles at {};
  ~Plan() { plan_free(plan); }
  Plan() = default;
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;
};

}  // namespace plans

#endif
