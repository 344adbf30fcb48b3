/* Several layers in one kernel give what the operations of their range give: the same bits where all sums are exact,
 * otherwise values within the bounds propagated through the range. */
#include <set>

#include "ranges.h"

namespace {

using ranges::Case;
using ranges::Finding;
using ranges::Session;

const descent_precision precisions[] = {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16};

const descent_activation identity = DESCENT_ACTIVATION_IDENTITY, sigmoid = DESCENT_ACTIVATION_SIGMOID,
                         tanh_ = DESCENT_ACTIVATION_TANH, relu = DESCENT_ACTIVATION_RELU,
                         leaky = DESCENT_ACTIVATION_LEAKY_RELU, gelu = DESCENT_ACTIVATION_GELU,
                         silu = DESCENT_ACTIVATION_SILU;
const descent_loss binary = DESCENT_LOSS_BINARY_CROSS_ENTROPY, classes = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                   squares = DESCENT_LOSS_MEAN_SQUARED_ERROR;

/* Every activation, loss, option and edge of a width or batch, each a few times; the last batch is shorter. */
const Case cases[] = {
    {{1, 1}, identity, identity, binary, 1, 1},
    {{1, 2, 1}, sigmoid, sigmoid, squares, 5, 2},
    {{2, 3, 2}, relu, identity, classes, 129, 127, 0, 0.1, true, true},
    {{3, 16, 17, 3}, gelu, gelu, squares, 200, 128, 0.3, 0, true, false, true},
    {{16, 17, 16}, silu, identity, classes, 130, 129, 0.25, 0.1, false, true, true},
    {{28, 63, 1}, tanh_, identity, binary, 129, 128, 0, 0.1, true, true, true},
    {{28, 33, 28, 33, 4}, relu, leaky, squares, 150, 100, 0.5, 0, false, false, true},
    {{33, 64, 33, 10}, leaky, identity, classes, 140, 128, 0.2, 0.1, true},
    {{64, 64, 64, 64}, relu, identity, classes, 160, 128},
    {{63, 64, 2}, gelu, identity, classes, 1000, 1000, 0, 0, true, true},
    {{17, 16, 16, 16, 16, 16, 5}, sigmoid, identity, classes, 100, 64, 0.1},
    {{5, 24, 24, 24, 24, 24, 3}, relu, silu, squares, 70, 64},
    {{28, 65, 1}, tanh_, identity, binary, 129, 128, 0, 0.1, true, true, true},
    {{65, 100, 3}, relu, identity, classes, 130, 128, 0.3, 0.1, false, true},
    {{100, 33, 128, 65}, gelu, identity, classes, 70, 64, 0, 0.1, true},
    {{2, 128, 100, 1}, silu, identity, binary, 129, 127, 0.4, 0, false, true, true},
    {{17, 255, 7}, sigmoid, tanh_, squares, 129, 128, 0.2, 0, true, false, true},
    {{28, 256, 256, 3}, relu, identity, classes, 33, 32},
    {{28, 300, 1}, tanh_, identity, binary, 65, 64, 0, 0, false, true},
    {{9, 320, 65, 2}, leaky, identity, classes, 33, 32, 0.25, 0.1},
    {{320, 16, 320}, silu, relu, squares, 20, 16},
    {{3, 70, 66, 65, 66, 70, 2}, gelu, identity, classes, 20, 16, 0.1, 0.1, true, true},
};

/* Under AddressSanitizer, which makes it minutes, a case has one of the precisions and each precision some of the cases:
 * network_step_test and network_chain_test run every variant of every precision there. */
#ifdef __SANITIZE_ADDRESS__
const bool all_run = false;
#else
const bool all_run = true;
#endif
bool is_left_out(size_t number, descent_precision precision) {
  return !all_run && precisions[number % std::size(precisions)] != precision;
}

/* Do operations of the range share a kernel? */
bool is_fused(const struct program &program, plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++)
    if (program.backend->fused_with(program.compiled, range, i) != i) return true;
  return false;
}

void expect_fused(const Session &session) {
  const plan &p = *session.tried.plan;
  for (const plan_range &range : {p.train, p.gradient, p.evaluate, p.predict})
    EXPECT_TRUE(is_fused(session.tried, range)) << "range from operation " << range.first;
}

TEST(FusedRange, stays_within_the_bounds_of_all_its_operations) {
  for (const descent_precision precision : precisions) {
    Finding all;
    for (const Case &c : cases) {
      if (is_left_out(static_cast<size_t>(&c - cases), precision)) continue;
      SCOPED_TRACE(name(c) + " in " + descent_precision_name(precision));
      Session session(c, precision, cuda_module_table(), 1, DESCENT_FUSION_ON);
      if (HasFatalFailure()) return;
      expect_fused(session);
      const Finding found = check_ranges(session);
      EXPECT_LE(found.worst, 1) << found.where;
      all.take(found);
    }
    if (all_run) { /* a share of them all */
      EXPECT_GE(all.tight, all.values * 9 / 10);
    }
  }
}

/* How the range's first layer is computed: "fused step 0". */
std::string path_of(const struct program &program, plan_range range) {
  char text[BACKEND_PATH] = "";
  for (int i = range.first; i < range.first + range.count && !text[0]; i++)
    if (program.plan->ops[i].kind == OP_DENSE_FORWARD) program.backend->path(program.compiled, range, i, text);
  return text;
}

/* The kinds and variants of kernels that a seed draws. */
TEST(FusedRange, stays_within_the_bounds_in_any_variant) {
  const Case drawn[] = {
      {{28, 33, 28, 4}, silu, identity, classes, 150, 100, 0.3, 0.1, true},
      {{9, 32, 16, 1}, tanh_, identity, binary, 129, 128, 0, 0, false, true, true},
      {{2, 128, 100, 3}, gelu, sigmoid, squares, 100, 64, 0.4},
      {{65, 300, 7}, relu, identity, classes, 40, 32, 0.2},
  };
  std::set<std::string> paths;
  for (const descent_precision precision : precisions)
    for (const Case &c : drawn) {
      const bool is_narrow = *std::max_element(c.widths.begin(), c.widths.end()) <= 64; /* and has more variants */
      for (int seed = 1; seed <= (is_narrow ? 8 : 6); seed++) {
        if (is_left_out(static_cast<size_t>(seed), precision)) continue;
        SCOPED_TRACE(name(c) + " in " + descent_precision_name(precision) + ", seed " + std::to_string(seed));
        setenv("DESCENT_CUDA_CHOOSE", std::to_string(seed).c_str(), 1);
        Session session(c, precision, cuda_module_table(), 1, DESCENT_FUSION_ON);
        unsetenv("DESCENT_CUDA_CHOOSE");
        if (HasFatalFailure()) return;
        for (const plan_range &range : {session.tried.plan->gradient, session.tried.plan->predict})
          paths.insert(path_of(session.tried, range));
        const Finding found = check_ranges(session);
        EXPECT_LE(found.worst, 1) << found.where;
      }
    }
  for (const char *kind : {"fused step ", "fused chain ", "fused forward "}) {
    const auto is_of_kind = [&](const std::string &path) { return path.compare(0, strlen(kind), kind) == 0; };
    EXPECT_GE(std::count_if(paths.begin(), paths.end(), is_of_kind), 2) << kind << "in several variants";
  }
}

/* Everything that a range leaves, of the first batch and the last. */
std::vector<std::vector<double>> left_by(Session &session) {
  std::vector<std::vector<double>> left;
  const plan &p = *session.tried.plan;
  for (int64_t number = 1; number <= session.steps(); number++) {
    const plan_step step = session.step(number);
    EXPECT_EQ(program_run(&session.tried, p.gradient, &step, 1), DESCENT_OK) << descent_last_error();
    left.push_back(session.read(session.tried.at.gradients, session.network().n_parameters));
    left.push_back(session.read(session.tried.at.scalars, SCALAR_CLIP));
    EXPECT_EQ(program_run(&session.tried, p.evaluate, &step, 1), DESCENT_OK) << descent_last_error();
    left.push_back(session.read(session.tried.at.scalars, SCALAR_CLIP));
    for (const plan_range &range : {p.evaluate, p.predict}) {
      EXPECT_EQ(program_run(&session.tried, range, &step, 1), DESCENT_OK) << descent_last_error();
      left.push_back(session.read(session.tried.at.P, step.rows * p.buffers[session.tried.at.P].cols));
    }
  }
  return left;
}

TEST(FusedRange, gives_the_bits_of_its_operations_where_sums_are_exact) {
  const Case whole[] = {
      {{8, 16, 16, 4}, relu, identity, squares, 192, 128},  {{1, 2, 1}, identity, identity, squares, 3, 2},
      {{3, 17, 33, 2}, relu, relu, squares, 96, 64},        {{28, 64, 63, 64, 8}, relu, identity, squares, 192, 128},
      {{9, 65, 100, 1}, relu, identity, squares, 192, 128}, {{28, 128, 255, 2}, identity, relu, squares, 96, 64},
      {{65, 300, 320, 4}, relu, identity, squares, 48, 32}};
  for (const descent_precision precision : precisions)
    for (const Case &c : whole) {
      if (is_left_out(static_cast<size_t>(&c - whole), precision)) continue;
      SCOPED_TRACE(name(c) + " in " + descent_precision_name(precision));
      std::vector<std::vector<double>> left[2];
      for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
        Session session(c, precision, cuda_module_table(), 1, fusion, ranges::WHOLE);
        if (HasFatalFailure()) return;
        EXPECT_EQ(is_fused(session.tried, session.tried.plan->gradient), fusion == DESCENT_FUSION_ON);
        left[fusion == DESCENT_FUSION_ON] = left_by(session);
      }
      ASSERT_EQ(left[1].size(), left[0].size());
      for (size_t i = 0; i < left[0].size(); i++)
        for (size_t j = 0; j < left[0][i].size(); j++)
          ASSERT_TRUE(conformance::same(left[1][i][j], left[0][i][j]))
              << "result " << i << "[" << j << "] is " << left[1][i][j] << " instead of " << left[0][i][j];
      if (HasFatalFailure()) return;
    }
}

}  // namespace
