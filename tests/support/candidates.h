/* The backends that the tests judge, each in every precision that it has. */
#ifndef DESCENT_TESTS_CANDIDATES_H
#define DESCENT_TESTS_CANDIDATES_H

#include "conformance.h"
#include "cuda_module.h"
#include "simulated.h"

namespace conformance {

/* The reference shows that the exact result passes, the simulated backend that every rounding which the precisions
 * allow does. */
inline std::vector<Candidate> candidates() {
  const descent_precision fp32 = DESCENT_PRECISION_FP32, tf32 = DESCENT_PRECISION_TF32, bf16 = DESCENT_PRECISION_BF16;
  return {{"reference", &backend_reference, 1, {fp32}},
          {"cpu", &backend_cpu, 2, {fp32}},
          {"simulated", &simulated::table(), 1, {fp32, tf32, bf16}},
          {"cuda", cuda_module_table(), 1, {fp32, tf32, bf16}}};
}

}  // namespace conformance

#endif
