// A training step by one cluster of blocks: bf16 operands on tensor cores.
#include "network_cluster.cuh"

typedef Tile<Bf16Warp<2, 4>, 4, 2, 5, 1> Piece;  // 128 x 64

struct cluster_instances cluster_bf16(void) {
  static const struct cluster_instance all[] = {
      cluster_instance_of<TENSOR_BF16, tile<1, 8, 1, 2, 4, 1, 1>, Piece>(),  // 16 x 128
      cluster_instance_of<TENSOR_BF16, tile<1, 8, 2, 2, 4, 1, 1>, Piece>(),  // 32 x 128
      cluster_instance_of<TENSOR_BF16, tile<1, 8, 1, 4, 3, 1, 1>, Piece>(),  // 16 x 256
      cluster_instance_of<TENSOR_BF16, tile<1, 8, 1, 8, 3, 1, 1>, Piece>(),  // 16 x 512
  };
  return {all, sizeof all / sizeof *all};
}
