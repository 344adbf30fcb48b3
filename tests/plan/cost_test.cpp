/* Arithmetic and bytes of operations, and of several that one kernel computes, counted by hand. */
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "plans.h"

extern "C" {
#include "plan/operations.h"
}

namespace {

using namespace plans;

TEST(Cost, ProductsOfAStepCountTheNotesFlops) {
  for (const Shape &shape : shapes) {
    SCOPED_TRACE(shape.name);
    auto network = make_network(shape);
    descent_train_options options = descent_train_options_default();
    Plan p;
    ASSERT_EQ(plan_build(network.get(), &options, 100, &p.plan, &p.at), DESCENT_OK);
    const double m = 96;
    double products = -2 * static_cast<double>(shape.widths[0] * shape.widths[1]);
    for (size_t l = 1; l < shape.widths.size(); l++)
      products += 6 * static_cast<double>(shape.widths[l - 1] * shape.widths[l]);
    double counted = 0, rest = 0;
    for (int i = 0; i < p.plan->train.count; i++) {
      const plan_op &op = p.plan->ops[p.plan->train.first + i];
      double flops, bytes;
      plan_op_cost(p.plan, &op, 96, &flops, &bytes);
      EXPECT_GT(bytes, 0);
      EXPECT_GE(flops, 0);
      if (op.kind == OP_DENSE_FORWARD) {
        rest = static_cast<double>(op.forward.n_out) * (op.forward.activation == DESCENT_ACTIVATION_IDENTITY ? 1 : 2);
        counted += flops - m * rest;
      }
      if (op.kind == OP_DENSE_BACKWARD_WEIGHTS) counted += flops - m * static_cast<double>(op.weights.n_out);
      if (op.kind == OP_DENSE_BACKWARD_INPUT)
        counted += flops - m * static_cast<double>(op.input.n_in) *
                               (op.input.activation == DESCENT_ACTIVATION_IDENTITY ? 0 : 2);
    }
    EXPECT_DOUBLE_EQ(counted, m * products);
  }
}

TEST(Cost, BytesAreEveryInputOnceAndEveryOutputOnceAsWideAsThePrecisionStoresThem) {
  const double in = 64, h1 = 32, h2 = 48, out = 10; /* of shapes[2] */
  auto network = make_network(shapes[2]);
  const double n = static_cast<double>(network->n_parameters);
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    SCOPED_TRACE(descent_precision_name(precision));
    descent_train_options options = descent_train_options_default();
    options.precision = precision;
    Plan p;
    ASSERT_EQ(plan_build(network.get(), &options, 100, &p.plan, &p.at), DESCENT_OK);
    const bool bf16 = precision == DESCENT_PRECISION_BF16;
    const double o = bf16 ? 2 : 4; /* bytes of an operand of a product */
    const std::map<std::string, double> expected = {
        /* name -> bytes moved for 10 rows */
        {"gather", 10 * (in * o + in * o + 2 * 4 + 4 + 4 + 8)}, /* X, y and w in and out, an index of 8 bytes */
        {"dense_forward layer 1", 10 * (in + h1) * o + in * h1 * o + h1 * o},
        {"dense_forward layer 3", 10 * (h2 * o + out * 4) + h2 * out * o + out * 4},
        {"loss", 10 * (out * 4 + 4 + 4 + out * o)},
        {"dense_backward_weights layer 3", 10 * (out + h2) * o + (h2 * out + out) * 4},
        {"dense_backward_input layer 3", 10 * (out + h2 + h2) * o + h2 * out * o},
        {"gradient_norm", n * 4},
        {"update", 7 * n * 4 + (bf16 ? n * 2 : 0)}, /* and the working copy */
    };
    size_t met = 0;
    for (int i = 0; i < p.plan->train.count; i++) {
      const plan_op &op = p.plan->ops[p.plan->train.first + i];
      char name[64];
      double flops, bytes;
      plan_op_name(&op, name, sizeof name);
      plan_op_cost(p.plan, &op, 10, &flops, &bytes);
      auto row = expected.find(name);
      if (row == expected.end()) continue;
      met++;
      EXPECT_DOUBLE_EQ(bytes, row->second) << name;
    }
    EXPECT_EQ(met, expected.size());
  }
}

/* The group numbers of the range's ops: 0 for those of one kernel, the others alone. */
std::vector<int> group_of(const plan &plan, plan_range range, const std::set<plan_op_kind> &kinds) {
  std::vector<int> group;
  for (int i = 0; i < range.count; i++) group.push_back(kinds.count(plan.ops[range.first + i].kind) ? 0 : i + 1);
  return group;
}

const std::set<plan_op_kind>
    step_kinds = {OP_DENSE_FORWARD, OP_LOSS, OP_DENSE_BACKWARD_WEIGHTS, OP_DENSE_BACKWARD_INPUT},
    chain_kinds = {OP_DENSE_FORWARD, OP_LOSS, OP_DENSE_BACKWARD_INPUT}, forward_kinds = {OP_DENSE_FORWARD},
    output_kinds = {OP_DENSE_FORWARD, OP_OUTPUT}, all_kinds = {OP_GATHER, OP_DENSE_FORWARD, OP_OUTPUT},
    whole_kinds = {OP_GATHER,        OP_DENSE_FORWARD, OP_LOSS,   OP_DENSE_BACKWARD_WEIGHTS, OP_DENSE_BACKWARD_INPUT,
                   OP_GRADIENT_NORM, OP_UPDATE,        OP_METRICS};

TEST(Cost, AGroupMovesOnlyWhatEntersAndWhatLeavesIt) {
  const double m = 10;
  for (const Shape &shape : {shapes[2], shapes[3]})
    for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
      SCOPED_TRACE(std::string(shape.name) + " " + descent_precision_name(precision));
      auto network = make_network(shape);
      descent_train_options options = descent_train_options_default();
      options.precision = precision;
      options.dropout = 0.25;
      Plan p;
      ASSERT_EQ(plan_build(network.get(), &options, 100, &p.plan, &p.at), DESCENT_OK);
      const double o = precision == DESCENT_PRECISION_BF16 ? 2 : 4; /* bytes of an operand of a product */
      const bool smooth = slope_is_from_z(shape.hidden), regression = loss_is_regression(shape.loss);
      const double in = static_cast<double>(shape.widths.front()), out = static_cast<double>(shape.widths.back());
      double hidden = 0, W = 0;
      for (size_t l = 1; l < shape.widths.size(); l++) {
        W += static_cast<double>(shape.widths[l] * shape.widths[l - 1]);
        if (l + 1 < shape.widths.size()) hidden += static_cast<double>(shape.widths[l]);
      }
      const double parameters = W * o + hidden * o + out * 4, targets = m * ((regression ? out : 1) + 1) * 4;
      const double flat = static_cast<double>(network->n_parameters) * 4; /* with gaps */
      const double Z = smooth ? m * hidden * o : 0;                       /* of the hidden layers */
      const double Z_out = slope_is_from_z(shape.output) ? m * out * 4 : 0;
      const struct {
        const char *name;
        plan_range range;
        const std::set<plan_op_kind> &kinds;
        double bytes;
      } cases[] = {
          {"step", p.plan->train, step_kinds, m * in * o + targets + parameters + (W + hidden + out) * 4},
          {"chain", p.plan->train, chain_kinds,
           m * in * o + targets + parameters + m * hidden * o /* A, for dW */ + m * (hidden + out) * o /* dZ */},
          /* Rows and targets of the source, an index of 8 bytes and a weight; the parameters and two moments in
           * float32, read and written; the gradients, which are state; the copy in bf16. */
          {"whole step", p.plan->train, whole_kinds,
           m * (in * o + 8) + targets + (regression ? 2 * out * 4 : 0) + 2 * (W + hidden + out) * 4 + 5 * flat +
               (o < 4 ? flat / 2 : 0)},
          /* Statistics read A and Z of every layer. */
          {"chain and statistics", p.plan->train_with_statistics, chain_kinds,
           m * in * o + targets + parameters + m * hidden * o + m * (hidden + out) * o + Z + m * out * 4 + Z_out},
          /* The loss lists A and Z of the output layer, P comes from A. */
          {"forward", p.plan->evaluate, forward_kinds, m * in * o + parameters + m * out * 4 + Z_out},
          {"prediction", p.plan->predict, output_kinds,
           m * in * o + parameters + m * out * 4 + (regression ? 2 * out * 4 : 0)},
          /* X of the source once, an index of 8 bytes */
          {"whole prediction", p.plan->predict, all_kinds,
           m * (in * o + 8) + parameters + m * out * 4 + (regression ? 2 * out * 4 : 0)},
      };
      for (const auto &c : cases) {
        SCOPED_TRACE(c.name);
        const std::vector<int> group = group_of(*p.plan, c.range, c.kinds);
        double flops, bytes, sum = 0, stored = 0;
        plan_group_cost(p.plan, c.range, group.data(), 0, static_cast<int64_t>(m), &flops, &bytes);
        for (int i = 0; i < c.range.count; i++) {
          double op_flops, op_bytes, alone_flops, alone_bytes;
          plan_op_cost(p.plan, &p.plan->ops[c.range.first + i], static_cast<int64_t>(m), &op_flops, &op_bytes);
          if (group[static_cast<size_t>(i)] == 0) {
            sum += op_flops;
            stored += op_bytes;
            if (p.plan->ops[c.range.first + i].kind == OP_UPDATE) { /* which counts gaps, twice more than the group */
              EXPECT_GE(bytes + 2 * (flat - (W + hidden + out) * 4), op_bytes);
            }
            continue;
          }
          plan_group_cost(p.plan, c.range, group.data(), i + 1, static_cast<int64_t>(m), &alone_flops, &alone_bytes);
          EXPECT_EQ(alone_flops, op_flops) << i;
          EXPECT_EQ(alone_bytes, op_bytes) << i;
        }
        EXPECT_DOUBLE_EQ(flops, sum);
        EXPECT_DOUBLE_EQ(bytes, c.bytes);
        EXPECT_LT(bytes, stored);
      }
    }
}

}  // namespace
