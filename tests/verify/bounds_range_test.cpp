/* Intervals propagated through whole ranges hold what backends compute from layer to layer, in every precision, and are
 * tight enough that a mistake in one operation shows in the gradients. */
#include "ranges.h"
#include "simulated.h"

namespace {

using ranges::Case;
using ranges::Finding;
using ranges::Session;
using simulated::Manner;

#define LISTED(NAME, text) DESCENT_ACTIVATION_##NAME,
const descent_activation activations[] = {DESCENT_ACTIVATION_MAP(LISTED)};
const descent_precision precisions[] = {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16};

std::vector<Case> cases() {
  std::vector<Case> made;
  for (const descent_activation g : activations) {
    Case classes{{9, 17, 16, 5}};
    classes.hidden = g;
    classes.smoothing = 0.1, classes.class_weights = true;
    Case binary{{7, 12, 1}};
    binary.hidden = g;
    binary.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
    binary.dropout = 0.3, binary.row_weights = true, binary.missing = true;
    Case regression{{5, 16, 3}};
    regression.hidden = regression.output = g;
    regression.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
    made.insert(made.end(), {classes, binary, regression});
  }
  return made;
}

/* The ways of rounding of a kernel of several layers. */
std::vector<Manner> manners(descent_precision precision) {
  std::vector<Manner> made;
  for (const bool truncates : {false, true})
    for (const bool backwards : {false, true})
      for (int tanh = -1; tanh <= 1; tanh += precision == DESCENT_PRECISION_BF16 ? 1 : 3)
        made.push_back({truncates, backwards, false, true, simulated::TOGETHER, tanh, simulated::RIGHT});
  return made;
}

TEST(RangeBounds, hold_what_every_allowed_rounding_leaves_and_are_tight) {
  for (const descent_precision precision : precisions)
    for (const Case &c : cases()) {
      SCOPED_TRACE(name(c) + " in " + descent_precision_name(precision));
      for (const Manner &manner : manners(precision)) {
        simulated::manner = manner;
        Session session(c, precision, &simulated::table(), 1);
        if (HasFatalFailure()) return;
        const Finding found = check_ranges(session);
        simulated::manner = {};
        EXPECT_LE(found.worst, 1) << found.where;
        EXPECT_GE(found.tight, found.values * 99 / 100);
      }
    }
}

TEST(RangeBounds, hold_what_the_cpu_leaves) {
  for (const Case &c : cases()) {
    SCOPED_TRACE(name(c));
    Session session(c, DESCENT_PRECISION_FP32, &backend_cpu, 2);
    if (HasFatalFailure()) return;
    const Finding found = check_ranges(session);
    EXPECT_LE(found.worst, 1) << found.where;
    EXPECT_GE(found.tight, found.values * 99 / 100);
  }
}

/* In one operation of a training step: each must leave the bounds of the gradients. */
enum Mistake { SLOPE, DROPPED_ROW, NO_BIAS, OTHER_MASK, NO_MASK, TRANSPOSED, SUMS_IN_BF16, MISTAKES };
const char *const mistake_names[MISTAKES] = {"a wrong slope",         "a dropped row",
                                             "a missing bias",        "the mask of another layer",
                                             "no mask below a layer", "W transposed in the backward pass",
                                             "sums in bf16"};

/* Runs the gradient range operation by operation, with a mistake in one of layer 2, or in the slope or the mask of the
 * layer below it. */
void run_mistaken(Session &session, const plan_step &step, Mistake mistake) {
  plan &p = *session.tried.plan;
  const int parameters = session.tried.at.parameters;
  const auto n = static_cast<size_t>(p.buffers[parameters].cols);
  for (int i = p.gradient.first; i < p.gradient.first + p.gradient.count; i++) {
    plan_op &op = p.ops[i];
    const plan_op right = op;
    plan_step now = step;
    std::vector<double> W = session.read(parameters, static_cast<int64_t>(n)), before = W;
    if (op.kind == OP_DENSE_BACKWARD_INPUT && op.layer == 2) {
      const plan_dense_backward_input &o = op.input;
      const auto at = [&](int64_t j, int64_t k) { return static_cast<size_t>(o.W + j * o.n_in + k); };
      if (mistake == SLOPE) op.input.activation = DESCENT_ACTIVATION_IDENTITY;
      if (mistake == NO_MASK) op.input.dropout = 0;
      for (int64_t j = 0; mistake == TRANSPOSED && j < o.n_out; j++)
        for (int64_t k = 0; k < j; k++) std::swap(W[at(j, k)], W[at(k, j)]);
    }
    if (op.kind == OP_DENSE_FORWARD && op.layer == 1 && mistake == OTHER_MASK) op.layer = 2;
    if (op.kind == OP_DENSE_FORWARD && op.layer == 2) {
      const auto b = W.begin() + op.forward.b;
      if (mistake == NO_BIAS) std::fill(b, b + op.forward.n_out, 0.0);
      if (mistake == SUMS_IN_BF16) simulated::manner.fault = simulated::SUMS_IN_BF16;
    }
    if (op.kind == OP_DENSE_BACKWARD_WEIGHTS && op.layer == 2 && mistake == DROPPED_ROW) now.rows--;
    const auto write = [&](const std::vector<double> &values) {
      EXPECT_EQ(program_write(&session.tried, parameters, 0, static_cast<int64_t>(n), PLAN_F64, values.data()),
                DESCENT_OK);
    };
    if (W != before) write(W);
    EXPECT_EQ(program_run(&session.tried, plan_range{i, 1}, &now, 1), DESCENT_OK) << descent_last_error();
    if (W != before) write(before);
    op = right;
    simulated::manner = {};
  }
}

TEST(RangeBounds, a_mistake_in_one_operation_leaves_them) {
  for (const descent_precision precision : precisions)
    for (const descent_activation g : activations)
      for (int mistake = 0; mistake < MISTAKES; mistake++) {
        if (g == DESCENT_ACTIVATION_IDENTITY && mistake == SLOPE) continue;
        /* The hardware's tanh may err as much. */
        if (g == DESCENT_ACTIVATION_TANH && mistake == SUMS_IN_BF16 && precision == DESCENT_PRECISION_BF16) continue;
        Case c{{9, 16, 16, 5}};
        c.hidden = g;
        if (mistake == OTHER_MASK || mistake == NO_MASK) c.dropout = 0.25;
        SCOPED_TRACE(std::string(mistake_names[mistake]) + ", " + name(c) + " in " + descent_precision_name(precision));
        Session session(c, precision, &simulated::table(), 1);
        if (HasFatalFailure()) return;
        const plan_step step = session.step(1);
        const Finding found = session.check(session.tried.plan->gradient, step,
                                            [&] { run_mistaken(session, step, static_cast<Mistake>(mistake)); });
        EXPECT_GT(found.worst, 1);
      }
}

}  // namespace
