// Networks of medium width in one kernel: float32 operands on tensor cores.
#include "network_chain.cuh"

struct chain_instances chain_tf32(void) {
  static const struct chain_instance all[] = {
      chain_instance_of<TENSOR_TF32, tile<2, 4, 2, 4, 4, 2, 2>>(),   // 64 x 128
      chain_instance_of<TENSOR_TF32, tile<2, 4, 2, 8, 3, 1, 1>>(),   // 64 x 256
      chain_instance_of<TENSOR_TF32, tile<2, 4, 2, 10, 3, 1, 1>>(),  // 64 x 320
  };
  return {all, sizeof all / sizeof *all};
}
