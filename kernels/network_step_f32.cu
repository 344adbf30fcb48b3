// Narrow networks in one kernel: float32 operands by multiply-adds.
#include "network_step.cuh"

struct step_instances network_step_f32(void) {
  static const struct step_instance all[] = {
      step_instance_of<step_tile<MULTIPLY_ADD, 64, 4, 4, 1, Fp32Warp<2, 1>, 1>>(true),  // 64 rows
      step_instance_of<step_tile<MULTIPLY_ADD, 32, 8, 4, 1, Fp32Warp<1, 1>, 1>>(true),
  };
  return {all, sizeof all / sizeof *all};
}
