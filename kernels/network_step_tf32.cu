// Narrow networks in one kernel: float32 operands on tensor cores.
#include "network_step.cuh"

struct step_instances network_step_tf32(void) {
  return {nullptr, 0};
}
