// Networks of medium width in one kernel: float32 operands by multiply-adds.
#include "network_chain.cuh"

struct chain_instances chain_f32(void) {
  static const struct chain_instance all[] = {
      chain_instance_of<MULTIPLY_ADD, tile<2, 4, 2, 4, 4, 2, 2>>(),   // 64 x 128
      chain_instance_of<MULTIPLY_ADD, tile<2, 4, 2, 8, 3, 1, 1>>(),   // 64 x 256
      chain_instance_of<MULTIPLY_ADD, tile<2, 4, 2, 10, 3, 1, 1>>(),  // 64 x 320
  };
  return {all, sizeof all / sizeof *all};
}
