// Dense layers in one kernel: bf16 operands on tensor cores.
#include "fused.cuh"

struct fused_instances fused_bf16(void) {
  static const struct fused_instance all[] = {
      instance_of<TENSOR_BF16, tile<4, 2, 2, 4, 4, 3, 2>>(),   // 128 x 64
      instance_of<TENSOR_BF16, tile<2, 4, 4, 4, 4, 2, 2>>(),   // 128 x 128
      instance_of<TENSOR_BF16, tile<4, 2, 2, 10, 3, 2, 2>>(),  // 128 x 160: layers of 300 in two
      instance_of<TENSOR_BF16, tile<2, 8, 4, 4, 4, 1, 1>>(),   // 128 x 256
  };
  return {all, sizeof all / sizeof *all};
}
