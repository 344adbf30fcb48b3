/* The plan as data: which operations each range holds, that each has the buffers it needs in the right sizes, and that
 * none reads values that the step has not written. */
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "plans.h"

extern "C" {
#include "core/communicator.h"
#include "plan/operations.h"
}

namespace {

using namespace plans;

/* An operand: which buffer, and how many values of a row (batch buffers) or in all (state) it takes. */
struct Operand {
  int buffer;
  int64_t cols;
  bool required = true;
};
struct Access {
  std::vector<Operand> reads, writes;
};

Access access_of(const plan_op &op, const plan &plan, int64_t n_parameters, int64_t classes) {
  const int64_t layers = plan.layers;
  switch (op.kind) {
    case OP_GATHER: {
      const plan_gather &g = op.gather;
      const bool targets = g.source_y != PLAN_NONE;
      return {{{g.source_X, g.n_x},
               {g.source_index, 1},
               {g.source_y, g.n_y, targets},
               {g.source_w, 1, targets},
               {g.fill, g.n_x, false},
               {g.shift, g.n_x, false},
               {g.scale, g.n_x, false},
               {g.y_shift, g.n_y, false},
               {g.y_scale, g.n_y, false},
               {g.class_weight, classes, false}},
              {{g.X, g.n_x}, {g.y, g.n_y, targets}, {g.w, 1, targets}, {g.scalars, SCALAR_SLOTS, targets}}};
    }
    case OP_DENSE_FORWARD: {
      const plan_dense_forward &f = op.forward;
      const bool Z = slope_is_from_z(f.activation);
      EXPECT_EQ(f.Z != PLAN_NONE, Z);
      return {{{f.A_in, f.n_in}, {f.parameters, n_parameters}}, {{f.A, f.n_out}, {f.Z, f.n_out, Z}}};
    }
    case OP_LOSS: {
      const plan_loss &l = op.loss;
      const int64_t n_y = loss_is_regression(l.loss) ? l.n : 1;
      return {{{l.A, l.n}, {l.Z, l.n, false}, {l.y, n_y}, {l.w, 1}, {l.scalars, SCALAR_SLOTS}},
              {{l.dZ, l.n, false}, {l.scalars, SCALAR_SLOTS}}};
    }
    case OP_BACKWARD_OUTPUT: {
      const plan_backward_output &b = op.output_slope;
      return {{{b.dA, b.n}, {b.A, b.n}, {b.Z, b.n, slope_is_from_z(b.activation)}}, {{b.dZ, b.n}}};
    }
    case OP_DENSE_BACKWARD_WEIGHTS: {
      const plan_dense_backward_weights &b = op.weights;
      return {{{b.dZ, b.n_out}, {b.A_in, b.n_in}}, {{b.gradients, n_parameters}}};
    }
    case OP_DENSE_BACKWARD_INPUT: {
      const plan_dense_backward_input &b = op.input;
      return {{{b.dZ, b.n_out}, {b.parameters, n_parameters}, {b.A, b.n_in}, {b.Z, b.n_in, false}},
              {{b.dZ_below, b.n_in}}};
    }
    case OP_ACCUMULATE: {
      const plan_accumulate &a = op.accumulate;
      EXPECT_EQ(a.n, n_parameters);
      if (a.adds)
        return {{{a.gradients, n_parameters}, {a.kept_gradients, n_parameters}}, {{a.gradients, n_parameters}}};
      return {{{a.gradients, n_parameters}}, {{a.kept_gradients, n_parameters}}};
    }
    case OP_COMBINE: {
      const plan_combine &c = op.combine;
      EXPECT_EQ(c.n, n_parameters);
      const std::vector<Operand> all = {{c.gradients, n_parameters},
                                        {c.scalars, SCALAR_SLOTS},
                                        {c.partial_gradients, c.levels * n_parameters},
                                        {c.partial_losses, c.levels}};
      return {all, all};
    }
    case OP_ALLREDUCE:
      return {{{op.allreduce.gradients, n_parameters}, {op.allreduce.scalars, SCALAR_SLOTS}},
              {{op.allreduce.gradients, n_parameters}, {op.allreduce.scalars, SCALAR_SLOTS}}};
    case OP_TRUST_RATIO: {
      const plan_update &u = op.update;
      return {{{u.parameters, n_parameters},
               {u.gradients, n_parameters},
               {u.scalars, SCALAR_SLOTS},
               {u.moment1, n_parameters, false},
               {u.moment2, n_parameters, false}},
              {{u.layer_statistics, layers * LAYER_SLOTS}}};
    }
    case OP_GRADIENT_NORM:
      return {{{op.norm.gradients, n_parameters}, {op.norm.scalars, SCALAR_SLOTS}},
              {{op.norm.scalars, SCALAR_SLOTS}, {op.norm.layer_statistics, layers * LAYER_SLOTS}}};
    case OP_UPDATE: {
      const plan_update &u = op.update;
      const bool has_trust = update_has_trust_ratio(update_rule_of(&u));
      EXPECT_EQ(u.n, n_parameters);
      return {{{u.parameters, n_parameters},
               {u.gradients, n_parameters},
               {u.scalars, SCALAR_SLOTS},
               {u.moment1, n_parameters, false},
               {u.moment2, n_parameters, false},
               {has_trust ? u.layer_statistics : static_cast<int>(PLAN_NONE), layers * LAYER_SLOTS, false}},
              {{u.parameters, n_parameters},
               {u.moment1, n_parameters, false},
               {u.moment2, n_parameters, false},
               {u.layer_statistics, layers * LAYER_SLOTS}}};
    }
    case OP_STATISTICS: {
      const plan_statistics &s = op.statistics;
      return {{{s.A, s.n}, {s.Z, s.n, false}, {s.active, s.n, false}},
              {{s.layer_statistics, layers * LAYER_SLOTS}, {s.active, s.n, false}}};
    }
    case OP_METRICS: return {{{op.metrics.scalars, SCALAR_SLOTS}}, {{op.metrics.scalars, SCALAR_SLOTS}}};
    case OP_OUTPUT:
      return {{{op.output.A, op.output.n},
               {op.output.y_shift, op.output.n, false},
               {op.output.y_scale, op.output.n, false}},
              {{op.output.P, op.output.n}}};
    case OP_KINDS: break;
  }
  ADD_FAILURE() << "operation of unknown kind " << op.kind;
  return {};
}

/* Optimizer by optimizer, with every option that changes the plan in use. */
std::vector<descent_train_options> option_table() {
  std::vector<descent_train_options> table;
  for (int optimizer = 0; optimizer < N_OPTIMIZERS; optimizer++)
    for (double momentum : {0.0, 0.9}) {
      descent_train_options options = descent_train_options_default();
      options.optimizer.kind = static_cast<descent_optimizer>(optimizer);
      options.optimizer.momentum = momentum;
      options.dropout = momentum > 0 ? 0.25 : 0;
      options.label_smoothing = momentum > 0 ? 0.1 : 0;
      options.balance_classes = momentum > 0;
      table.push_back(options);
    }
  return table;
}

std::string kinds_of(const plan &plan, plan_range range) {
  static const char letters[] = "gflbwiacrntusmo";
  static_assert(sizeof letters == OP_KINDS + 1, "a letter for each kind");
  std::string text;
  for (int i = range.first; i < range.first + range.count; i++) text += letters[plan.ops[i].kind];
  return text;
}

std::string repeat(const char *text, int n) {
  std::string all;
  for (int i = 0; i < n; i++) all += text;
  return all;
}

/* plan_uses gives the same buffers with the same access, and the same width where the width is of a row. */
void check_uses(const plan_op &op, const plan &plan, const Access &access) {
  std::map<int, int> expected, given;
  std::map<int, int64_t> widths;
  for (const Operand &read : access.reads)
    if (read.buffer != PLAN_NONE) expected[read.buffer] |= PLAN_READ, widths[read.buffer] = read.cols;
  for (const Operand &write : access.writes)
    if (write.buffer != PLAN_NONE) expected[write.buffer] |= PLAN_WRITE, widths[write.buffer] = write.cols;
  plan_use uses[PLAN_MOST_USES];
  const int n = plan_uses(&op, uses);
  for (int i = 0; i < n; i++) {
    const plan_use &use = uses[i];
    given[use.buffer] |= use.access;
    const plan_buffer &buffer = plan.buffers[use.buffer];
    EXPECT_EQ(buffer.storage == PLAN_SOURCE, use.role == PLAN_ROWS_OF_SOURCE) << buffer.name;
    EXPECT_EQ(buffer.storage == PLAN_BATCH, use.role == PLAN_ACTIVATION || use.role == PLAN_ROWS) << buffer.name;
    EXPECT_EQ(buffer.type == PLAN_F64, use.role == PLAN_STATISTIC) << buffer.name;
    if (buffer.storage == PLAN_BATCH || use.role == PLAN_ROWS_OF_SOURCE) {
      EXPECT_EQ(use.width, widths[use.buffer]) << buffer.name;
    }
  }
  EXPECT_EQ(given, expected);
}

/* Values needed before the range's first operation are state or bound; all others must be written within the range. */
void check_dataflow(const plan &plan, plan_range range, const descent_network &network) {
  std::set<int> written;
  for (int i = range.first; i < range.first + range.count; i++) {
    const plan_op &op = plan.ops[i];
    char name[64];
    plan_op_name(&op, name, sizeof name);
    SCOPED_TRACE(name);
    const Access access = access_of(op, plan, network.n_parameters, network.classes);
    check_uses(op, plan, access);
    for (const auto *operands : {&access.reads, &access.writes})
      for (const Operand &operand : *operands) {
        if (operand.buffer == PLAN_NONE) {
          EXPECT_FALSE(operand.required);
          continue;
        }
        ASSERT_GE(operand.buffer, 0);
        ASSERT_LT(operand.buffer, plan.n_buffers);
        const plan_buffer &buffer = plan.buffers[operand.buffer];
        if (buffer.storage == PLAN_BATCH) {
          EXPECT_GE(buffer.cols, operand.cols) << buffer.name;
          EXPECT_EQ(buffer.rows, plan.batch) << buffer.name;
        } else if (buffer.storage == PLAN_STATE) {
          EXPECT_EQ(buffer.rows * buffer.cols, operand.cols) << buffer.name;
        } else {
          EXPECT_EQ(buffer.cols, operand.cols) << buffer.name;
          EXPECT_EQ(buffer.rows, 0) << buffer.name;
        }
      }
    for (const Operand &read : access.reads)
      if (read.buffer != PLAN_NONE && plan.buffers[read.buffer].storage == PLAN_BATCH) {
        EXPECT_TRUE(written.count(read.buffer)) << plan.buffers[read.buffer].name << " is read before it is written";
      }

    for (const Operand &write : access.writes) {
      if (write.buffer == PLAN_NONE) continue;
      EXPECT_NE(plan.buffers[write.buffer].storage, PLAN_SOURCE);
      for (const Operand &read : access.reads) {
        EXPECT_FALSE(plan.buffers[write.buffer].storage == PLAN_BATCH && read.buffer == write.buffer)
            << plan.buffers[write.buffer].name << " is overwritten while read";
      }
      written.insert(write.buffer);
    }
  }
}

TEST(Plan, EveryOperationHasItsBuffersAndReadsOnlyWhatIsThere) {
  for (const Shape &shape : shapes)
    for (descent_train_options options : option_table()) {
      SCOPED_TRACE(std::string(shape.name) + " " + descent_optimizer_name(options.optimizer.kind));
      auto network = make_network(shape);
      network->normalize = DESCENT_NORMALIZE_STANDARD;
      Plan p;
      ASSERT_EQ(plan_build(network.get(), &options, 17, &p.plan, &p.at), DESCENT_OK) << descent_last_error();
      for (plan_range range : {p.plan->train, p.plan->train_with_statistics, p.plan->evaluate, p.plan->predict})
        check_dataflow(*p.plan, range, *network);
    }
}

TEST(Plan, OperationsOfMicroBatchesHaveTheirBuffersAndReadOnlyWhatIsThere) {
  for (const Shape &shape : shapes)
    for (descent_train_options options : option_table())
      for (int64_t parts : {2, 3, 8, 1000}) {
        SCOPED_TRACE(std::string(shape.name) + " " + descent_optimizer_name(options.optimizer.kind) + " in " +
                     std::to_string(parts));
        auto network = make_network(shape);
        network->normalize = DESCENT_NORMALIZE_STANDARD;
        options.ranks.micro_batches = parts;
        Plan p;
        ASSERT_EQ(plan_build_with(network.get(), &options, PLAN_PART_MICRO_BATCHES, 17, &p.plan, &p.at), DESCENT_OK);
        for (plan_range range : {p.plan->micro_batch, p.plan->micro_batch_with_statistics, p.plan->finish,
                                 p.plan->finish_with_statistics, p.plan->evaluate, p.plan->predict})
          check_dataflow(*p.plan, range, *network);
      }
}

/* Of this many ranks, which exchange nothing here. */
descent_communicator make_communicator(transport *transport, int size) {
  transport->size = size;
  descent_communicator communicator{};
  communicator.transport = transport;
  return communicator;
}

TEST(Plan, MicroBatchesTakeThePlaceOfTheStepAndKeepOneSumForEachLevelOfTheTree) {
  const struct {
    int ranks;
    int64_t parts;
    int levels; /* 0: a rank has one part */
  } cases[] = {{1, 2, 1}, {1, 3, 2}, {1, 4, 2}, {1, 5, 3},  {1, 8, 3}, {1, 9, 4},
               {2, 2, 0}, {2, 4, 1}, {4, 0, 0}, {4, 32, 3}, {3, 12, 2}};
  for (const Shape &shape : shapes)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(shape.name) + " in " + std::to_string(c.parts) + " on " + std::to_string(c.ranks));
      auto network = make_network(shape);
      transport transport{};
      descent_communicator communicator = make_communicator(&transport, c.ranks);
      descent_train_options options = descent_train_options_default();
      options.ranks.micro_batches = c.parts;
      options.ranks.communicator = &communicator;
      Plan p;
      ASSERT_EQ(plan_build_with(network.get(), &options, PLAN_PART_MICRO_BATCHES, 8, &p.plan, &p.at), DESCENT_OK);
      const plan &made = *p.plan;
      const int L = network->n_layers;
      const std::string forward = "g" + repeat("f", L), backward = "l" + repeat("wi", L - 1) + (c.levels ? "wc" : "w");
      const std::string finish = c.ranks > 1 ? "rnum" : "num";
      EXPECT_EQ(kinds_of(made, made.micro_batch), forward + backward);
      EXPECT_EQ(kinds_of(made, made.micro_batch_with_statistics), forward + repeat("s", L) + backward);
      EXPECT_EQ(kinds_of(made, made.finish), finish);
      EXPECT_EQ(kinds_of(made, made.finish_with_statistics), finish);
      EXPECT_EQ(kinds_of(made, made.evaluate), forward + "lmo");
      for (plan_range none : {made.train, made.train_with_statistics, made.forward, made.forward_with_statistics,
                              made.gradient, made.update, made.update_with_statistics, made.backward})
        EXPECT_EQ(none.count, 0);
      EXPECT_EQ(made.communicator, c.ranks > 1 ? &communicator : nullptr);
      if (c.levels) {
        EXPECT_EQ(made.buffers[p.at.partial_gradients].rows, c.levels);
        EXPECT_EQ(made.buffers[p.at.partial_losses].cols, c.levels);
      } else {
        EXPECT_EQ(p.at.partial_gradients, PLAN_NONE);
        EXPECT_EQ(p.at.partial_losses, PLAN_NONE);
      }
      for (int i = 0; i < made.n_ops; i++) {
        const plan_op &op = made.ops[i];
        const bool with_statistics =
            i >= made.micro_batch_with_statistics.first &&
            i < made.micro_batch_with_statistics.first + made.micro_batch_with_statistics.count;
        if (op.kind == OP_COMBINE) {
          double flops, bytes;
          plan_op_cost(&made, &op, 8, &flops, &bytes);
          EXPECT_EQ(op.combine.levels, c.levels);
          /* K parts and K - 1 sums are read, K results written, K - 1 of them sums; an operation has the mean */
          const double K = static_cast<double>(c.parts / c.ranks), n = static_cast<double>(network->n_parameters);
          EXPECT_DOUBLE_EQ(K * flops, (K - 1) * n);
          EXPECT_DOUBLE_EQ(K * bytes, (3 * K - 1) * 4 * n);
        }
        if (op.kind == OP_ALLREDUCE) {
          double flops, bytes;
          plan_op_cost(&made, &op, 0, &flops, &bytes);
          const double R = c.ranks, n = static_cast<double>(network->n_parameters);
          EXPECT_DOUBLE_EQ(flops, (R - 1) / R * n);
          EXPECT_EQ(bytes, 2 * 4 * n);
          EXPECT_DOUBLE_EQ(plan_link_bytes(&made, &op), 2 * (R - 1) / R * 4 * n + 8 * (R - 1));
        }
        if (op.kind == OP_STATISTICS) {
          EXPECT_TRUE(with_statistics && op.statistics.active != PLAN_NONE);
        }
        if (op.kind == OP_UPDATE) {
          EXPECT_EQ(op.update.measure, i >= made.finish_with_statistics.first);
        }
      }
    }
}

TEST(Plan, APlanOfWholeStepsHasNothingOfMicroBatches) {
  auto network = make_network(shapes[2]);
  descent_train_options options = descent_train_options_default();
  Plan p;
  ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
  EXPECT_EQ(p.plan->micro_batch.count + p.plan->micro_batch_with_statistics.count, 0);
  EXPECT_EQ(p.plan->finish.count + p.plan->finish_with_statistics.count, 0);
  EXPECT_EQ(p.at.partial_gradients, PLAN_NONE);
  EXPECT_EQ(p.at.partial_losses, PLAN_NONE);
  for (int i = 0; i < p.plan->n_ops; i++)
    if (p.plan->ops[i].kind == OP_STATISTICS) {
      EXPECT_EQ(p.plan->ops[i].statistics.active, PLAN_NONE);
    }
}

TEST(Plan, RangesHoldTheStepInTheNotesOrder) {
  for (const Shape &shape : shapes) {
    SCOPED_TRACE(shape.name);
    auto network = make_network(shape);
    descent_train_options options = descent_train_options_default();
    Plan p;
    ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
    const int L = network->n_layers;
    const std::string forward = "g" + repeat("f", L), backward = "l" + repeat("wi", L - 1) + "wnum";
    EXPECT_EQ(kinds_of(*p.plan, p.plan->train), forward + backward);
    EXPECT_EQ(kinds_of(*p.plan, p.plan->train_with_statistics), forward + repeat("s", L) + backward);
    EXPECT_EQ(kinds_of(*p.plan, p.plan->evaluate), forward + "lmo");
    EXPECT_EQ(kinds_of(*p.plan, p.plan->predict), forward + "o");
  }
}

const unsigned all_parts = PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT | PLAN_PART_ACCUMULATE;

TEST(Plan, PartsOfAStepMakeTheWholeAndBackwardIsThereWhereItIsAskedFor) {
  for (const Shape &shape : shapes) {
    SCOPED_TRACE(shape.name);
    auto network = make_network(shape);
    descent_train_options options = descent_train_options_default();
    const int L = network->n_layers;
    const std::string forward = "g" + repeat("f", L), gradients = repeat("wi", L - 1) + "w";
    const struct {
      const descent_train_options *options;
      unsigned parts;
      std::string forward, forward_with_statistics, gradient, update, backward, input_gradient, keep, add;
    } cases[] = {
        {&options, 0, forward, forward + repeat("s", L), forward + "l" + gradients + "n", "num", "", "", "", ""},
        {&options, PLAN_PART_BACKWARD, forward, forward + repeat("s", L), forward + "l" + gradients + "n", "num",
         "b" + gradients, "", "", ""},
        {&options, all_parts, forward, forward + repeat("s", L), forward + "l" + gradients + "n", "num",
         "b" + gradients, "i", "a", "a"},
        {nullptr, PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT, "", "", "", "", "b" + repeat("i", L - 1), "i", "", ""},
    };
    for (const auto &c : cases) {
      SCOPED_TRACE(c.parts);
      Plan p;
      ASSERT_EQ(plan_build_with(network.get(), c.options, c.parts, 8, &p.plan, &p.at), DESCENT_OK);
      const plan &made = *p.plan;
      EXPECT_EQ(kinds_of(made, made.forward), c.forward);
      EXPECT_EQ(kinds_of(made, made.forward_with_statistics), c.forward_with_statistics);
      EXPECT_EQ(kinds_of(made, made.gradient), c.gradient);
      EXPECT_EQ(kinds_of(made, made.update), c.update);
      EXPECT_EQ(kinds_of(made, made.update_with_statistics), c.update);
      EXPECT_EQ(kinds_of(made, made.backward), c.backward);
      EXPECT_EQ(kinds_of(made, made.input_gradient), c.input_gradient);
      EXPECT_EQ(kinds_of(made, made.keep_gradients), c.keep);
      EXPECT_EQ(kinds_of(made, made.add_gradients), c.add);
      EXPECT_EQ(p.at.dA != PLAN_NONE, !c.backward.empty());
      EXPECT_EQ(p.at.dX != PLAN_NONE, !c.input_gradient.empty());
      EXPECT_EQ(p.at.kept_gradients != PLAN_NONE, !c.add.empty());
      for (plan_range range : {made.backward, made.input_gradient, made.keep_gradients, made.add_gradients})
        for (int i = range.first; i < range.first + range.count; i++)
          check_uses(made.ops[i], made, access_of(made.ops[i], made, network->n_parameters, network->classes));
      if (!c.add.empty()) {
        EXPECT_FALSE(made.ops[made.keep_gradients.first].accumulate.adds);
        EXPECT_TRUE(made.ops[made.add_gradients.first].accumulate.adds);
      }
    }
  }
}

TEST(Plan, DropoutSmoothingWeightsAndShuffleActInTrainingOnly) {
  auto network = make_network(shapes[2]);
  descent_train_options options = descent_train_options_default();
  options.dropout = 0.5;
  options.label_smoothing = 0.1;
  options.balance_classes = true;
  Plan p;
  ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
  const struct {
    plan_range range;
    bool training;
  } cases[] = {{p.plan->train, true},
               {p.plan->train_with_statistics, true},
               {p.plan->evaluate, false},
               {p.plan->predict, false}};
  for (const auto &c : cases)
    for (int i = c.range.first; i < c.range.first + c.range.count; i++) {
      const plan_op &op = p.plan->ops[i];
      const bool hidden = op.layer < network->n_layers;
      if (op.kind == OP_GATHER) {
        EXPECT_EQ(op.gather.shuffle, c.training);
        EXPECT_EQ(op.gather.class_weight != PLAN_NONE, c.training);
      }
      if (op.kind == OP_DENSE_FORWARD) {
        EXPECT_EQ(op.forward.dropout, c.training && hidden ? 0.5 : 0);
      }

      if (op.kind == OP_DENSE_BACKWARD_INPUT) {
        EXPECT_EQ(op.input.dropout, 0.5);
      }

      if (op.kind == OP_STATISTICS) {
        EXPECT_EQ(op.statistics.dropout, hidden ? 0.5 : 0);
      }

      if (op.kind == OP_LOSS) {
        EXPECT_EQ(op.loss.label_smoothing, c.training ? 0.1 : 0);
        EXPECT_EQ(op.loss.dZ != PLAN_NONE, c.training);
      }
    }
}

TEST(Plan, OnlyTheStepWithStatisticsMeasuresTheUpdate) {
  auto network = make_network(shapes[1]);
  descent_train_options options = descent_train_options_default();
  Plan p;
  ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
  for (plan_range range : {p.plan->train, p.plan->train_with_statistics})
    for (int i = range.first; i < range.first + range.count; i++)
      if (p.plan->ops[i].kind == OP_UPDATE) {
        EXPECT_EQ(p.plan->ops[i].update.measure, range.first == p.plan->train_with_statistics.first);
      }
}

TEST(Plan, TakesTrustRatiosFromWhatTheUpdateReads) {
  auto network = make_network(shapes[1]);
  for (const descent_train_options &options : option_table()) {
    const bool has_trust =
        options.optimizer.kind == DESCENT_OPTIMIZER_LARS || options.optimizer.kind == DESCENT_OPTIMIZER_LAMB;
    Plan p;
    ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
    for (plan_range range : {p.plan->update, p.plan->update_with_statistics}) {
      EXPECT_EQ(kinds_of(*p.plan, range), has_trust ? "ntum" : "num");
      if (!has_trust) continue;
      const plan_op &trust = p.plan->ops[range.first + 1], &update = p.plan->ops[range.first + 2];
      for (const plan_update &u : {trust.update, update.update}) {
        EXPECT_EQ(u.parameters, p.at.parameters);
        EXPECT_EQ(u.gradients, p.at.gradients);
        EXPECT_EQ(u.moment1, p.at.moment1);
        EXPECT_EQ(u.moment2, p.at.moment2);
        EXPECT_EQ(u.optimizer, options.optimizer.kind);
        EXPECT_EQ(u.trust_coefficient, options.optimizer.trust_coefficient);
        EXPECT_EQ(u.epsilon, options.optimizer.epsilon);
      }
      double flops, bytes;
      plan_op_cost(p.plan, &trust, 8, &flops, &bytes);
      const bool is_lamb = options.optimizer.kind == DESCENT_OPTIMIZER_LAMB;
      const double n = static_cast<double>(network->n_parameters);
      EXPECT_EQ(bytes, (is_lamb ? 4 : 2) * n * 4); /* w and gradients; both moments */
      EXPECT_GE(flops, 4 * n);
    }
  }
}

TEST(Plan, HoldsOnlyTheMomentsThatTheOptimizerUses) {
  const struct {
    descent_optimizer optimizer;
    double momentum;
    bool moment1, moment2;
  } cases[] = {
      {DESCENT_OPTIMIZER_GD, 0.9, false, false},    {DESCENT_OPTIMIZER_SGD, 0, false, false},
      {DESCENT_OPTIMIZER_SGD, 0.9, true, false},    {DESCENT_OPTIMIZER_RMSPROP, 0, false, true},
      {DESCENT_OPTIMIZER_RMSPROP, 0.9, true, true}, {DESCENT_OPTIMIZER_ADAM, 0, true, true},
      {DESCENT_OPTIMIZER_ADAMW, 0, true, true},     {DESCENT_OPTIMIZER_LARS, 0, true, false},
      {DESCENT_OPTIMIZER_LARS, 0.9, true, false},   {DESCENT_OPTIMIZER_LAMB, 0.9, true, true},
  };
  auto network = make_network(shapes[1]);
  for (const auto &c : cases) {
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = c.optimizer;
    options.optimizer.momentum = c.momentum;
    Plan p;
    ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
    EXPECT_EQ(p.at.moment1 != PLAN_NONE, c.moment1) << descent_optimizer_name(c.optimizer) << c.momentum;
    EXPECT_EQ(p.at.moment2 != PLAN_NONE, c.moment2) << descent_optimizer_name(c.optimizer) << c.momentum;
  }
}

TEST(Plan, WithoutTrainingHoldsNeitherGradientsNorTrainingSteps) {
  auto network = make_network(shapes[1]);
  Plan p;
  ASSERT_EQ(plan_build(network.get(), nullptr, 8, &p.plan, &p.at), DESCENT_OK);
  EXPECT_EQ(p.plan->train.count, 0);
  EXPECT_EQ(p.plan->train_with_statistics.count, 0);
  EXPECT_GT(p.plan->evaluate.count, 0);
  for (int i = 0; i < p.plan->n_buffers; i++) {
    const std::string name = p.plan->buffers[i].name;
    EXPECT_TRUE(name != "gradients" && name.rfind("moment", 0) != 0 && name.rfind("dZ[", 0) != 0) << name;
  }
  EXPECT_EQ(p.at.gradients, PLAN_NONE);
  EXPECT_EQ(p.at.layer_statistics, PLAN_NONE);
}

TEST(Plan, AllDZAlternateBetweenTwoSlots) {
  auto network = make_network(shapes[2]); /* widths 32, 48, 10 */
  descent_train_options options = descent_train_options_default();
  Plan p;
  ASSERT_EQ(plan_build(network.get(), &options, 8, &p.plan, &p.at), DESCENT_OK);
  std::map<std::string, std::pair<int64_t, int>> dZ; /* width and slot */
  for (int i = 0; i < p.plan->n_buffers; i++) {
    const plan_buffer &buffer = p.plan->buffers[i];
    if (buffer.name[0] == 'd')
      dZ[buffer.name] = {buffer.cols, buffer.slot};
    else
      EXPECT_EQ(buffer.slot, 0) << buffer.name;
  }
  EXPECT_EQ(
      dZ, (std::map<std::string, std::pair<int64_t, int>>{{"dZ[1]", {32, 2}}, {"dZ[2]", {48, 1}}, {"dZ[3]", {10, 2}}}));
}

TEST(Plan, LetsNothingOutsideABufferBeCopied) {
  auto network = make_network(shapes[1]);
  Plan p;
  ASSERT_EQ(plan_build(network.get(), nullptr, 4, &p.plan, &p.at), DESCENT_OK);
  const int64_t size = 4 * network->inputs;
  const struct {
    int buffer;
    int64_t offset, count;
    plan_type type;
    const char *says; /* "": fine */
  } cases[] = {
      {p.at.X, 0, size, PLAN_F32, ""},
      {p.at.X, size, 0, PLAN_F64, ""},
      {p.at.X, size, 1, PLAN_F64, "buffer X: 1 elements from 120, but it has 120"},
      {p.at.X, -1, 1, PLAN_F64, "buffer X: 1 elements from -1, but it has 120"},
      {p.at.X, 0, -1, PLAN_F64, "buffer X: -1 elements from 0, but it has 120"},
      {p.at.X, INT64_MAX, INT64_MAX, PLAN_F64,
       "buffer X: 9223372036854775807 elements from 9223372036854775807, but it has 120"},
      {p.at.X, 0, 1, PLAN_I64, "buffer X: integers convert to no other type"},
      {p.at.source_X, 0, 1, PLAN_F32, "buffer 0 cannot be read or written"},
      {PLAN_NONE, 0, 1, PLAN_F32, "buffer -1 cannot be read or written"},
      {p.plan->n_buffers, 0, 0, PLAN_F32, "cannot be read or written"},
  };
  ASSERT_EQ(size, 120);
  for (const auto &c : cases) {
    char reason[128] = "";
    EXPECT_EQ(plan_can_copy(p.plan, c.buffer, c.offset, c.count, c.type, reason, sizeof reason), !*c.says);
    EXPECT_NE(std::string(reason).find(c.says), std::string::npos) << reason;
  }
}

TEST(Plan, RefusesBatchesThatCannotBeAddressed) {
  auto network = make_network(shapes[1]);
  descent_train_options options = descent_train_options_default();
  const struct {
    int64_t batch;
    descent_status status;
  } cases[] = {{0, DESCENT_ERROR_ARGUMENT},
               {-5, DESCENT_ERROR_ARGUMENT},
               {INT64_MAX, DESCENT_ERROR_MEMORY},
               {INT64_MAX / 16, DESCENT_ERROR_MEMORY}};
  for (const auto &c : cases) {
    Plan p;
    EXPECT_EQ(plan_build(network.get(), &options, c.batch, &p.plan, &p.at), c.status) << c.batch;
    EXPECT_EQ(p.plan, nullptr);
  }
}

}  // namespace
