// Narrow networks in one kernel: float32 operands on tensor cores.
#include "network_step.cuh"

struct step_instances network_step_tf32(void) {
  static const struct step_instance all[] = {
      step_instance_of<step_tile<TENSOR_TF32, 64, 4, 4, 1, Tf32Warp<2, 4>, 1>>(true),   // 64 rows
      step_instance_of<step_tile<TENSOR_TF32, 32, 6, 8, 1, Tf32Warp<1, 2>, 1>>(true),   // 128 rows
      step_instance_of<step_tile<TENSOR_TF32, 32, 12, 4, 1, Tf32Warp<1, 2>, 2>>(true),  // 64 rows
  };
  return {all, sizeof all / sizeof *all};
}
