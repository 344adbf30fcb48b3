/* Reading an algorithm's attributes. An attribute that the library does not report counts as unknown, not as wrong. */
#include "facts.h"

#include <stdio.h>

static bool scheme_of(const cublasLtMatmulAlgo_t *algorithm, uint32_t *scheme) {
  size_t written;
  return cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, scheme, sizeof *scheme,
                                              &written) == CUBLAS_STATUS_SUCCESS;
}

static bool flags_of(const cublasLtMatmulAlgo_t *algorithm, uint64_t *flags) {
  size_t written;
  return cublasLtMatmulAlgoCapGetAttribute(algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, flags, sizeof *flags,
                                           &written) == CUBLAS_STATUS_SUCCESS;
}

/* A reduction in a separate step adds in one fixed order; one in place adds in the order in which the parts finish.
 * Partial sums in the output's type are precise enough only if that is float32. */
uint32_t facts_allowed_schemes(const struct product_shape *shape) {
  return CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
         (shape->result == ELEMENT_F32 ? (uint32_t)CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE : 0);
}

enum trust facts_trust(const struct product_shape *shape, const cublasLtMatmulAlgo_t *algorithm) {
  const bool ieee = shape->operands == ELEMENT_F32 && !shape->tf32;
  const uint64_t inputs = shape->operands == ELEMENT_BF16 ? CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF
                          : shape->tf32
                              ? CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32 | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F
                              : CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
  uint32_t scheme;
  uint64_t flags;
  const bool has_scheme = scheme_of(algorithm, &scheme), has_flags = flags_of(algorithm, &flags);
  if (has_scheme && scheme & ~facts_allowed_schemes(shape)) return TRUST_NONE;
  if (ieee && (!has_flags || flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK)) return TRUST_NONE;
  const bool fits = has_scheme && has_flags && !(flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F) &&
                    !(flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_OP_INPUT_TYPE_MASK & ~inputs);
  return fits ? TRUST_FLAGS : TRUST_TESTS;
}

/* ---- the trace ---- */

struct attribute {
  const char *name;
  cublasLtMatmulAlgoConfigAttributes_t id;
  size_t bytes;
};

void facts_trace(const struct trace *trace, const char *key, const struct candidate *candidate, const char *verdict) {
  static const struct attribute attributes[] = {
      {"id", CUBLASLT_ALGO_CONFIG_ID, 4},
      {"tile", CUBLASLT_ALGO_CONFIG_TILE_ID, 4},
      {"stages", CUBLASLT_ALGO_CONFIG_STAGES_ID, 4},
      {"split_k", CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4},
      {"scheme", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4},
      {"swizzling", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4},
      {"custom", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4},
      {"inner", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2},
      {"cluster", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2},
  };
  enum { N = sizeof attributes / sizeof *attributes };
  char text[N * 24], flags_text[24] = "?";
  uint64_t flags;
  int at = 0;
  if (trace->file < 0) return;
  for (int i = 0; i < N; i++) {
    union {
      uint32_t word;
      uint16_t half;
    } value;
    size_t written;
    const bool known = cublasLtMatmulAlgoConfigGetAttribute(&candidate->algorithm, attributes[i].id, &value,
                                                            attributes[i].bytes, &written) == CUBLAS_STATUS_SUCCESS;
    char number[12] = "?";
    if (known) snprintf(number, sizeof number, "%u", attributes[i].bytes == 4 ? value.word : value.half);
    at += snprintf(text + at, sizeof text - (size_t)at, "%s=%s ", attributes[i].name, number);
  }
  if (flags_of(&candidate->algorithm, &flags))
    snprintf(flags_text, sizeof flags_text, "0x%llx", (unsigned long long)flags);
  static const char *const trusts[] = {[TRUST_FLAGS] = "flags", [TRUST_TESTS] = "tests", [TRUST_NONE] = "none"};
  trace_line(trace, "candidate %s %sflags=%s needs=%zu waves=%.3g trust=%s verdict=%s seconds=%.4g", key, text,
             flags_text, candidate->workspace, (double)candidate->waves, trusts[candidate->trust], verdict,
             candidate->seconds);
}
