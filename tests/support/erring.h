/* How far steps in the arithmetic of a precision may stray from the same steps in double, derived by propagation.
 * bounds.h says how far what one operation writes may be from the exact result, and machines that err by exactly that
 * much, in every value of every operation, are simulated by disturbing the reference. What their errors grow to over the
 * steps, through this very network and optimizer, bounds what a backend's may. While errors are small they grow
 * linearly: the deviation after t steps is the sum over all values v ever written of e_v L_v, where |e_v| <= bound_v.
 * Two parts of e_v grow differently:
 * - a systematic one, of which the worst of the machines that always err alike (up, down, inward, outward, or for each
 *   unit or parameter the same way at every step) is taken;
 * - an independent one of mean 0. For a machine that errs at random the mean square of the deviation is sigma^2 = sum_v
 *   bound_v^2 |L_v|^2, and no smaller errors exceed sigma (1 + sqrt(2 ln(1 / p))) but with probability p (McDiarmid's
 *   inequality for the norm of the sum: changing e_v changes it by at most 2 bound_v |L_v|). */
#ifndef DESCENT_TESTS_ERRING_H
#define DESCENT_TESTS_ERRING_H

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "training.h"

namespace erring {

using Parameters = std::vector<double>;

inline double distance(const Parameters &a, const Parameters &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

/* How the values that the reference writes are moved, each by its whole bound. */
enum Manner { EXACTLY, UP, DOWN, INWARD, OUTWARD, ALWAYS_ALIKE, AT_RANDOM };
struct Machine {
  Manner manner;
  uint64_t seed; /* of ALWAYS_ALIKE and AT_RANDOM */
};
const Machine systematic[] = {{UP, 0}, {DOWN, 0}, {INWARD, 0}, {OUTWARD, 0}, {ALWAYS_ALIKE, 1}, {ALWAYS_ALIKE, 2}};
const Machine at_random[] = {{AT_RANDOM, 1}, {AT_RANDOM, 2}, {AT_RANDOM, 3}, {AT_RANDOM, 4}};

inline bool is_up(const Machine &machine, int64_t counter, int op, int64_t column, int64_t element, double exact) {
  const auto drawn = [&](int64_t i, int64_t at) {
    return rng_uniform(machine.seed, RNG_SYNTHETIC, static_cast<uint32_t>(op), static_cast<uint64_t>(at),
                       static_cast<uint64_t>(i)) < 0.5;
  };
  switch (machine.manner) {
    case INWARD: return exact < 0;
    case OUTWARD: return exact > 0;
    case ALWAYS_ALIKE: return drawn(column, 0);
    case AT_RANDOM: return drawn(element, counter);
    default: return machine.manner == UP;
  }
}

/* Runs the range's operations one by one and moves every value that they write. */
inline void run(struct program *program, plan_range range, const plan_step &step, const Machine &machine) {
  const int64_t counter = step.number + (static_cast<int64_t>(step.micro_batch) << 32);
  for (int i = range.first; i < range.first + range.count; i++) {
    bounds bounds{};
    ASSERT_EQ(bounds_run(program->compiled, program->plan, i, &step, &bounds), DESCENT_OK) << descent_last_error();
    for (int j = 0; j < bounds.n; j++) {
      const bounds_output &output = bounds.outputs[j];
      std::vector<double> values(static_cast<size_t>(output.count));
      const int64_t cols = program->plan->buffers[output.buffer].cols;
      for (int64_t v = 0; v < output.count; v++) {
        const bool up = is_up(machine, counter, i, (output.offset + v) % cols, output.offset + v, output.exact[v]);
        values[static_cast<size_t>(v)] = output.exact[v] + (up ? output.bound[v] : -output.bound[v]);
      }
      ASSERT_EQ(program_write(program, output.buffer, output.offset, output.count, PLAN_F64, values.data()),
                DESCENT_OK);
    }
    bounds_clear(&bounds);
  }
}

/* How far from `exact`, the parameters before the first step and after each, those of a backend may be; `trajectory`
 * gives those of a machine. */
inline std::vector<double> growth(const std::vector<Parameters> &exact,
                                  const std::function<std::vector<Parameters>(const Machine &)> &trajectory) {
  std::vector<double> worst(exact.size()), squares(exact.size()), bound(exact.size());
  for (const Machine &machine : systematic) {
    const std::vector<Parameters> erred = trajectory(machine);
    for (size_t t = 0; t < exact.size(); t++) worst[t] = std::max(worst[t], distance(erred[t], exact[t]));
  }
  for (const Machine &machine : at_random) {
    const std::vector<Parameters> erred = trajectory(machine);
    for (size_t t = 0; t < exact.size(); t++) squares[t] += std::pow(distance(erred[t], exact[t]), 2);
  }
  const double lambda = 1 + std::sqrt(2 * std::log(1 / 1e-9));
  for (size_t t = 0; t < exact.size(); t++)
    bound[t] = worst[t] + lambda * std::sqrt(squares[t] / static_cast<double>(std::size(at_random)));
  return bound;
}

/* The steps of descent_fit in micro-batches, operation by operation, on a machine: the parameters before the first step
 * and after each. `weights`: of the rows, as the gather computes them; `class_weights`: NULL if there are none. */
inline std::vector<Parameters> in_micro_batches(const Network &network, const descent_train_options &options,
                                                const Dataset &data, const std::vector<float> &weights,
                                                const float *class_weights, const Machine &machine) {
  const auto rows = static_cast<int64_t>(weights.size());
  const int64_t M = options.ranks.micro_batches;
  const Device device = open_device("reference", 1);
  struct program program {};
  EXPECT_EQ(program_create_with(network.get(), device.get(), &options, PLAN_PART_MICRO_BATCHES,
                                (options.batch_size - 1) / M + 1, 0, class_weights, &program),
            DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(program_bind(&program, data.get()), DESCENT_OK);
  std::vector<Parameters> trajectory;
  const auto note = [&] {
    const int64_t n = network->n_parameters;
    trajectory.emplace_back(static_cast<size_t>(n));
    EXPECT_EQ(program_read(&program, program.at.parameters, 0, n, PLAN_F64, trajectory.back().data()), DESCENT_OK);
  };
  const auto run_on = [&](plan_range range, const plan_step &step) {
    if (machine.manner == EXACTLY)
      EXPECT_EQ(program_run(&program, range, &step, 1), DESCENT_OK) << descent_last_error();
    else
      run(&program, range, step, machine);
  };
  note();
  int64_t number = 0;
  for (int64_t epoch = 1; epoch <= options.epochs; epoch++) {
    const permutation order =
        permutation_create(options.seed, RNG_SHUFFLE, static_cast<uint64_t>(epoch), static_cast<uint64_t>(rows));
    for (int64_t first = 0; first < rows; first += options.batch_size) {
      plan_step step{};
      step.number = ++number, step.learning_rate = options.optimizer.learning_rate, step.order = &order;
      step.first_row = first, step.rows = std::min(options.batch_size, rows - first);
      double weight = 0;
      for (int64_t r = first; r < first + step.rows; r++)
        weight += static_cast<double>(weights[permutation_index(&order, static_cast<uint64_t>(r))]);
      for (const plan_step &part : cut_step(step, weight, M, 0, M)) run_on(program.plan->micro_batch, part);
      run_on(program.plan->finish, finish_of(step, M));
      note();
    }
  }
  program_clear(&program);
  return trajectory;
}

}  // namespace erring

#endif
