// Dense layers in one kernel: float32 operands by multiply-adds.
#include "fused.cuh"

struct fused_instances fused_f32(void) {
  static const struct fused_instance all[] = {
      instance_of<MULTIPLY_ADD, tile<4, 2, 2, 4, 4, 3, 2>>(),  // 128 x 64
      instance_of<MULTIPLY_ADD, tile<2, 4, 4, 4, 4, 2, 2>>(),  // 128 x 128
  };
  return {all, sizeof all / sizeof *all};
}
