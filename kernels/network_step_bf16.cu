// Narrow networks in one kernel: bf16 operands on tensor cores.
#include "network_step.cuh"

struct step_instances network_step_bf16(void) {
  static const struct step_instance all[] = {
      step_instance_of<step_tile<TENSOR_BF16, 64, 6, 8, 1, Bf16Warp<1, 4>, 1>>(true),   // 128 rows
      step_instance_of<step_tile<TENSOR_BF16, 64, 3, 8, 1, Bf16Warp<2, 4>, 1>>(false),  // the same, other pieces
      step_instance_of<step_tile<TENSOR_BF16, 64, 3, 4, 2, Bf16Warp<2, 4>, 1>>(true),   // 128 rows, 32 a warp
      step_instance_of<step_tile<TENSOR_BF16, 64, 4, 4, 1, Bf16Warp<2, 4>, 2>>(true),   // 64 rows
      step_instance_of<step_tile<TENSOR_BF16, 32, 5, 8, 1, Bf16Warp<1, 2>, 2>>(true),   // 128 rows
      step_instance_of<step_tile<TENSOR_BF16, 32, 12, 4, 2, Bf16Warp<1, 2>, 2>>(true),  // 32 rows a warp
  };
  return {all, sizeof all / sizeof *all};
}
