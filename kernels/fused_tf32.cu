// Dense layers in one kernel: float32 operands on tensor cores.
#include "fused.cuh"

struct fused_instances fused_tf32(void) {
  static const struct fused_instance all[] = {
      instance_of<TENSOR_TF32, tile<4, 2, 2, 4, 4, 3, 2>>(),  // 128 x 64
      instance_of<TENSOR_TF32, tile<2, 4, 4, 4, 4, 2, 2>>(),  // 128 x 128
  };
  return {all, sizeof all / sizeof *all};
}
