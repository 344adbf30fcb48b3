/* What follows from a term of the public header alone, once for the library, the plan, the backends and device code.
 * The switches have no default: a compiler warning names each one that a new term must enter. */
#ifndef DESCENT_CORE_TERMS_H
#define DESCENT_CORE_TERMS_H

#include <descent/descent.h>
#include <stdbool.h>

#ifdef __CUDACC__
#define TERM_FUNCTION static inline __host__ __device__
#else
#define TERM_FUNCTION static inline __attribute__((always_inline))
#endif

#define TERM_COUNTED(NAME, text) +1
enum {
  N_ACTIVATIONS = 0 DESCENT_ACTIVATION_MAP(TERM_COUNTED),
  N_LOSSES = 0 DESCENT_LOSS_MAP(TERM_COUNTED),
  N_OPTIMIZERS = 0 DESCENT_OPTIMIZER_MAP(TERM_COUNTED)
};
#undef TERM_COUNTED

/* Does g' come from Z? Otherwise it comes from A, and the plan keeps no Z. */
TERM_FUNCTION bool slope_is_from_z(descent_activation activation) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY:
    case DESCENT_ACTIVATION_SIGMOID:
    case DESCENT_ACTIVATION_TANH:
    case DESCENT_ACTIVATION_RELU:
    case DESCENT_ACTIVATION_LEAKY_RELU: break;
    case DESCENT_ACTIVATION_GELU:
    case DESCENT_ACTIVATION_SILU: return true;
  }
  return false;
}

/* Are the targets values, one for each output? Otherwise y is the index of a class. */
static inline bool loss_is_regression(descent_loss loss) {
  switch (loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY:
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: return true;
  }
  return false;
}

/* Bytes of an element. */
static inline int dtype_size(descent_dtype dtype) {
  switch (dtype) {
    case DESCENT_DTYPE_U8: return 1;
    case DESCENT_DTYPE_F16:
    case DESCENT_DTYPE_BF16: return 2;
    case DESCENT_DTYPE_F32:
    case DESCENT_DTYPE_I32: break;
    case DESCENT_DTYPE_F64:
    case DESCENT_DTYPE_I64: return 8;
  }
  return 4;
}

/* An optimizer with its options of momentum: each rule is one formula. */
enum update_rule {
  UPDATE_GD,
  UPDATE_MOMENTUM,
  UPDATE_NESTEROV,
  UPDATE_RMSPROP,
  UPDATE_RMSPROP_MOMENTUM,
  UPDATE_ADAM,
  UPDATE_LARS,
  UPDATE_LAMB,
};

static inline enum update_rule update_rule_from(descent_optimizer optimizer, bool has_momentum, bool nesterov) {
  switch (optimizer) {
    case DESCENT_OPTIMIZER_GD: break;
    case DESCENT_OPTIMIZER_SGD: return !has_momentum ? UPDATE_GD : nesterov ? UPDATE_NESTEROV : UPDATE_MOMENTUM;
    case DESCENT_OPTIMIZER_RMSPROP: return has_momentum ? UPDATE_RMSPROP_MOMENTUM : UPDATE_RMSPROP;
    case DESCENT_OPTIMIZER_ADAM:
    case DESCENT_OPTIMIZER_ADAMW: return UPDATE_ADAM;
    case DESCENT_OPTIMIZER_LARS: return UPDATE_LARS;
    case DESCENT_OPTIMIZER_LAMB: return UPDATE_LAMB;
  }
  return UPDATE_GD;
}

/* Does the rule scale the step of each layer's W by a trust ratio? b then has the rule without ratio and decay. */
TERM_FUNCTION bool update_has_trust_ratio(enum update_rule rule) { return rule == UPDATE_LARS || rule == UPDATE_LAMB; }

/* Which of moment1 and moment2 the rule keeps. */
struct update_moments {
  bool moment1, moment2;
};

TERM_FUNCTION struct update_moments update_moments_of(enum update_rule rule) {
  struct update_moments moments = {false, false};
  switch (rule) {
    case UPDATE_GD: break;
    case UPDATE_MOMENTUM:
    case UPDATE_NESTEROV:
    case UPDATE_LARS: moments.moment1 = true; break;
    case UPDATE_RMSPROP: moments.moment2 = true; break;
    case UPDATE_RMSPROP_MOMENTUM:
    case UPDATE_ADAM:
    case UPDATE_LAMB: moments.moment1 = moments.moment2 = true; break;
  }
  return moments;
}

#endif
