/* Intervals of the element-wise functions: the range of the exact function over the interval of its argument (by
 * monotonicity), widened by the error of an evaluation in float32. */
#include "verify/bounds_internal.h"

/* Relative error of one evaluation from a float argument, in units of u, half a unit in the last place (ulp). They
 * allow for functions with errors of two ulp, which the vendors' libraries state for exp, log and tanh. */
enum {
  ERROR_EXP = 2,     /* formulas.h: 1.4 */
  ERROR_LOG = 2,     /* 1 ulp */
  ERROR_LOG1P = 4,   /* formulas.h: 2.9 */
  ERROR_TANH = 4,    /* formulas.h: 2.8 */
  ERROR_SIGMOID = 4, /* exp, 1 + e, the division; formulas.h: 3.0 */
  ERROR_NORMAL = 5,  /* Phi(z) for z <= 0, plus z^2 / 2 for the rounding of z^2 in exp(-z^2 / 2); formulas.h: 4.1 */
  ERROR_DENSITY = 4, /* exp, the constant and the product, plus z^2 / 2 */
};

static struct interval evaluated(double lo, double hi, double error) {
  return interval_widened((struct interval){lo, hi}, interval_gamma(error), 1);
}

static struct interval capped(struct interval x, double least, double most) {
  return (struct interval){fmax(x.lo, least), fmin(x.hi, most)};
}

/* For z from which 1 + exp(-z) rounds to 1, every form gives exactly 1 in float32. */
static struct interval sigmoid(struct interval z) {
  enum { SATURATED = 32 };
  if (z.lo >= SATURATED) return interval_exact(1);
  return capped(evaluated(reference_sigmoid(z.lo), reference_sigmoid(z.hi), ERROR_SIGMOID), 0, 1);
}

static double normal(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

/* Phi(-t) underflows float32 for t above this. */
enum { NORMAL_END = 15 };

/* Phi of one float: the tail for z < 0, else 1 - tail. */
static struct interval normal_distribution_at(double z) {
  const double t = fmin(fabs(z), NORMAL_END), tail = normal(-fabs(z));
  const struct interval p = evaluated(tail, tail, ERROR_NORMAL + 0.5 * t * t);
  return z < 0 ? p : interval_sub(interval_exact(1), p);
}

/* Both ends increase with z, since the error increases more slowly than Phi. */
static struct interval normal_distribution(struct interval z) {
  return interval_hull(normal_distribution_at(z.lo), normal_distribution_at(z.hi));
}

static struct interval normal_density(struct interval z) {
  const struct interval magnitude = interval_magnitude(z);
  const double t = fmin(magnitude.hi, NORMAL_END), factor = 0.5 * M_2_SQRTPI * M_SQRT1_2;
  return evaluated(exp(-0.5 * magnitude.hi * magnitude.hi) * factor, exp(-0.5 * magnitude.lo * magnitude.lo) * factor,
                   ERROR_DENSITY + 0.5 * t * t);
}

/* The range of g over z, for a g that decreases up to its only minimum and then increases. */
static struct interval valley(descent_activation g, struct interval z, double argmin) {
  const double a = reference_activate(g, z.lo), b = reference_activate(g, z.hi);
  const bool inside = z.lo < argmin && argmin < z.hi;
  return (struct interval){inside ? reference_activate(g, argmin) : fmin(a, b), fmax(a, b)};
}

/* z Phi(z): the errors of Phi and the product. For z >= 0 the error of Phi is largest at 0, (ERROR_NORMAL / 2) / (1/2),
 * plus one from 1 - tail. If Phi is subnormal, its absolute error is multiplied by |z| < 15. */
static struct interval gelu(struct interval z) {
  const double t = fmin(fabs(z.lo), NORMAL_END);
  const double error = z.lo < 0 ? fmax(ERROR_NORMAL + 2, ERROR_NORMAL + 1 + 0.5 * t * t) : ERROR_NORMAL + 2;
  return interval_widened(valley(DESCENT_ACTIVATION_GELU, z, -0.75179164), interval_gamma(error), NORMAL_END);
}

/* z sigmoid(z): the errors of sigmoid and the product. If sigmoid is subnormal, |z| < 110. */
static struct interval silu(struct interval z) {
  return interval_widened(valley(DESCENT_ACTIVATION_SILU, z, -1.27846454), interval_gamma(ERROR_SIGMOID + 1),
                          z.lo < -80 ? 110 : 1);
}

/* max(z, 0) + 0.01 min(z, 0): below 0 the constant and the product are rounded. */
static struct interval leaky_relu(struct interval z) {
  const struct interval below = interval_rounded((struct interval){0.01 * fmin(z.lo, 0), 0.01 * fmin(z.hi, 0)}, 2);
  return (struct interval){z.lo < 0 ? below.lo : z.lo, z.hi < 0 ? below.hi : z.hi};
}

struct interval bounds_activation(descent_activation activation, struct interval z) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: return z;
    case DESCENT_ACTIVATION_SIGMOID: return sigmoid(z);
    case DESCENT_ACTIVATION_TANH: return capped(evaluated(tanh(z.lo), tanh(z.hi), ERROR_TANH), -1, 1);
    case DESCENT_ACTIVATION_RELU: return (struct interval){fmax(z.lo, 0), fmax(z.hi, 0)};
    case DESCENT_ACTIVATION_LEAKY_RELU: return leaky_relu(z);
    case DESCENT_ACTIVATION_GELU: return gelu(z);
    case DESCENT_ACTIVATION_SILU: return silu(z);
  }
  return (struct interval){-INFINITY, INFINITY};
}

struct interval bounds_activation_approximate(descent_activation activation, struct interval z) {
  if (activation != DESCENT_ACTIVATION_TANH) return bounds_activation(activation, z);
  return capped(interval_widened((struct interval){tanh(z.lo), tanh(z.hi)}, 0x1p-11, 1), -1, 1);
}

/* Derivatives like that of relu jump at a = 0. For an exact `a` there is no ambiguity; with dropout there is only if
 * A (1 - p) may round to 0. */
static struct interval step_slope(struct interval a, double below) {
  const struct interval least = interval_constant(below);
  return (struct interval){a.lo > 0 ? 1 : least.lo, a.hi > 0 ? 1 : least.hi};
}

struct interval bounds_slope(descent_activation activation, struct interval a, struct interval z) {
  const struct interval one = interval_exact(1);
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: return one;
    case DESCENT_ACTIVATION_SIGMOID: return interval_mul(a, interval_sub(one, a));
    case DESCENT_ACTIVATION_TANH:
      /* Covers both forms: 1 - a^2, which is worst near |a| = 1, and (1 - a)(1 + a), with two more roundings near 0. */
      return interval_rounded(interval_sub(one, interval_mul(a, a)), 2);
    case DESCENT_ACTIVATION_RELU: return step_slope(a, 0);
    case DESCENT_ACTIVATION_LEAKY_RELU: return step_slope(a, 0.01);
    case DESCENT_ACTIVATION_GELU: return interval_add(normal_distribution(z), interval_mul(z, normal_density(z)));
    case DESCENT_ACTIVATION_SILU: {
      const struct interval s = sigmoid(z);
      return interval_mul(s, interval_add(one, interval_mul(z, interval_sub(one, s))));
    }
  }
  return (struct interval){-INFINITY, INFINITY};
}

struct interval bounds_dropped(struct interval x, double factor) {
  if (factor == 0) return interval_exact(0);
  return factor == 1 ? x : interval_rounded(interval_times(x, interval_exact(factor)), 3);
}

/* Two roundings for 1 - p, one for the product. */
struct interval bounds_unscaled(struct interval A, double dropout) {
  if (dropout == 0) return A;
  return interval_rounded((struct interval){A.lo * (1 - dropout), A.hi * (1 - dropout)}, 3);
}

/* The rounding of the argument z - max becomes a relative error of |z - max| u in exp; a computation takes for max its
 * largest z, which is at most the upper ends' and gives a smaller error. All terms of the sum are positive, so its
 * relative error is that of the terms and of n - 1 additions. */
struct interval bounds_exponentials(const struct interval *z, int64_t n, struct interval *e) {
  double max = z[0].hi;
  struct interval sum = {0, 0};
  for (int64_t k = 1; k < n; k++) max = fmax(max, z[k].hi);
  for (int64_t k = 0; k < n; k++) {
    const struct interval d = interval_rounded((struct interval){z[k].lo - max, z[k].hi - max}, 1);
    e[k] = evaluated(exp(d.lo), exp(d.hi), ERROR_EXP);
    sum.lo += e[k].lo;
    sum.hi += e[k].hi;
  }
  return interval_widened(sum, interval_gamma((double)(n - 1)), 0);
}

struct interval bounds_log(struct interval x) {
  return evaluated(log(x.lo), log(x.hi), ERROR_LOG);
}

struct interval bounds_softplus_tail(struct interval z) {
  const struct interval magnitude = interval_magnitude(z);
  const struct interval power = evaluated(exp(-magnitude.hi), exp(-magnitude.lo), ERROR_EXP);
  return evaluated(log1p(power.lo), log1p(power.hi), ERROR_LOG1P);
}
