// Networks of medium width in one kernel: bf16 operands on tensor cores.
#include "network_chain.cuh"

struct chain_instances chain_bf16(void) {
  static const struct chain_instance all[] = {
      chain_instance_of<TENSOR_BF16, tile<2, 4, 4, 4, 4, 2, 2>>(),   // 128 x 128
      chain_instance_of<TENSOR_BF16, tile<2, 4, 4, 8, 3, 1, 1>>(),   // 128 x 256
      chain_instance_of<TENSOR_BF16, tile<2, 4, 4, 10, 3, 1, 1>>(),  // 128 x 320
      chain_instance_of<TENSOR_BF16, tile<2, 4, 2, 10, 3, 1, 1>>(),  // 64 x 320
  };
  return {all, sizeof all / sizeof *all};
}
