/* Custom kernels of dense operations at the layers of bench's workloads, against the exact result and its derived bounds. */
#include "candidates.h"
#include "dense_ops.h"

namespace conformance {
namespace {

/* With few rows; of the widest layers a part, since exact sums take long. The wide ones have the kernels of the others. */
const Shape layers[] = {
    {37, 40, 64, 64}, {530, 600, 64, 64}, {9, 12, 28, 300}, {33, 40, 300, 1}, {19, 24, 128, 10},
#ifndef __SANITIZE_ADDRESS__
    {5, 8, 256, 256}, {5, 8, 300, 300},   {3, 4, 784, 128}, {3, 4, 1024, 40}, {3, 4, 40, 1024},
    {2, 3, 4096, 12}, {2, 3, 12, 4096},
#endif
};

class CustomKernels : public testing::TestWithParam<std::tuple<descent_precision, Shape>> {};

/* Which way computes an operation is drawn from a seed, so seeds are tried until a custom kernel does. */
TEST_P(CustomKernels, StayWithinTheDerivedBounds) {
  const auto [precision, s] = GetParam();
  const Candidate cuda = candidates().back();
  ASSERT_STREQ(cuda.name, "cuda");
  const bool is_higgs = s.n_in == 300 || s.n_out == 300;
  const descent_activation g = is_higgs ? DESCENT_ACTIVATION_TANH : DESCENT_ACTIVATION_RELU;
  std::vector<OneOp> ops = {dense_forward(s, g, 0, UNIFORM), dense_backward_input(s, g, 0, UNIFORM)};
  if (s.n_in <= 320 && s.n_out <= 320) ops.push_back(dense_backward_weights(s, UNIFORM)); /* no kernel for wider ones */
  for (OneOp &one : ops) {
    SCOPED_TRACE(plan_op_kind_name(one.last_op().kind));
    one.plan.precision = precision;
    bool found = false;
    for (int draw = 1; draw <= 30 && !found; draw++) {
      setenv("DESCENT_CUDA_CHOOSE", std::to_string(draw).c_str(), 1);
      char path[BACKEND_PATH] = "";
      {
        Session session(cuda, one);
        if (!HasFatalFailure()) session.backend.path(session.program, plan_range{0, 1}, 0, path);
      }
      found = std::string(path).find("custom ") == 0;
      if (found) judge(cuda, one, 0);
      unsetenv("DESCENT_CUDA_CHOOSE");
      if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(found);
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CustomKernels,
                         testing::Combine(testing::Values(DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32,
                                                          DESCENT_PRECISION_BF16),
                                          testing::ValuesIn(layers)),
                         [](const testing::TestParamInfo<CustomKernels::ParamType> &item) {
                           return std::string(descent_precision_name(std::get<0>(item.param))) + "_" +
                                  shape_name(std::get<1>(item.param));
                         });

}  // namespace
}  // namespace conformance
