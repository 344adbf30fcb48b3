/* The formulas that are needed in float32 and in float64, written once: formulas.h includes this file with REAL float,
 * whose names end in _f32, and with REAL double, whose names end in _f64. TYPED(name) adds the ending, REAL_SQRT is the
 * type's square root, REAL_QUOTIENT its quotient. A target may include it once more with other forms of these two.
 *
 * Three families are not here, because the reference has independent versions that their float32 forms are tested
 * against: activations (from libm), the softmax losses (as sums over all classes) and the normalisation. */

/* ---- update rules ---- */

#define FACTORS struct TYPED(update_factors)
#define COEFFICIENTS struct TYPED(update_coefficients)

/* The factors that change from step to step, t = step.number. */
FACTORS {
  REAL learning_rate;
  REAL decay_factor;            /* 1 - learning_rate * weight_decay */
  REAL corrected_learning_rate; /* learning_rate / (1 - beta1^t) */
  REAL root_bias_correction;    /* 1 / sqrt(1 - beta2^t) */
  REAL bias_correction;         /* 1 / (1 - beta1^t) */
};

/* The coefficients that all elements of an update share. */
COEFFICIENTS {
  REAL clip_factor; /* of the step's gradients: SCALAR_CLIP */
  REAL l2, momentum, rho, one_minus_rho, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon;
  FACTORS step;
  REAL weight_decay, trust_ratio; /* of lars and lamb; trust_ratio: LAYER_TRUST of the layer */
};

/* Computed in double, then rounded once. */
static inline FACTORS TYPED(update_factors_of)(const struct plan_update *update, const struct plan_step *step) {
  const double learning_rate = step->learning_rate, t = (double)step->number;
  const double divisor = 1 - pow(update->beta1, t); /* of moment1 */
  FACTORS f;
  f.learning_rate = (REAL)learning_rate;
  f.decay_factor = (REAL)(1 - learning_rate * update->weight_decay);
  f.corrected_learning_rate = (REAL)(learning_rate / divisor);
  f.root_bias_correction = (REAL)(1 / sqrt(1 - pow(update->beta2, t)));
  f.bias_correction = (REAL)(1 / divisor);
  return f;
}

/* Likewise; the caller fills in clip_factor and step, and for lars and lamb takes the forms for W and for b below. */
static inline COEFFICIENTS TYPED(update_coefficients_of)(const struct plan_update *update) {
  COEFFICIENTS c;
  memset(&c, 0, sizeof c);
  c.clip_factor = 1;
  c.l2 = (REAL)update->l2;
  c.momentum = (REAL)update->momentum;
  c.rho = (REAL)update->rho;
  c.one_minus_rho = (REAL)(1 - update->rho);
  c.beta1 = (REAL)update->beta1;
  c.one_minus_beta1 = (REAL)(1 - update->beta1);
  c.beta2 = (REAL)update->beta2;
  c.one_minus_beta2 = (REAL)(1 - update->beta2);
  c.epsilon = (REAL)update->epsilon;
  c.weight_decay = (REAL)update->weight_decay;
  c.trust_ratio = 1;
  return c;
}

/* In lars and lamb, the coefficients of one layer's W. */
FORMULA COEFFICIENTS TYPED(update_coefficients_of_W)(COEFFICIENTS c, double trust_ratio) {
  c.trust_ratio = (REAL)trust_ratio;
  return c;
}

/* Those of its b, for which both factors are exact: the rule without trust ratio and weight decay. */
FORMULA COEFFICIENTS TYPED(update_coefficients_of_b)(COEFFICIENTS c) {
  c.trust_ratio = 1;
  c.weight_decay = 0;
  return c;
}

/* g: the clipped gradient of J plus the gradient of l2 / 2 |w|^2. */
FORMULA REAL TYPED(formula_gradient)(const COEFFICIENTS *c, REAL w, REAL gradient) {
  return FORMULA_FUSED_SUM_SECOND(c->clip_factor, gradient, c->l2, w);
}

/* A rule returns the new w and updates the moments: v is the velocity, m and s are running means of g and g^2. In every
 * rule but lars and lamb weight decay is decoupled from the gradient, as in Loshchilov and Hutter (2019); zeros stay
 * zeros. */

/* Gradient descent. */
FORMULA REAL TYPED(formula_gd)(const COEFFICIENTS *c, REAL w, REAL gradient) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  return FORMULA_FUSED_FIRST(c->step.decay_factor, w, c->step.learning_rate, g);
}

/* Momentum: Polyak (1964), the heavy ball; v does not contain the learning rate. */
FORMULA REAL TYPED(formula_momentum)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *v) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *v = c->momentum * *v + g;
  return FORMULA_FUSED_FIRST(c->step.decay_factor, w, c->step.learning_rate, *v);
}

/* Nesterov (1983), in PyTorch's form: w is the point at which the gradient is taken, one momentum step ahead. */
FORMULA REAL TYPED(formula_nesterov)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *v) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *v = c->momentum * *v + g;
  return FORMULA_FUSED_FIRST(c->step.decay_factor, w, c->step.learning_rate, g + c->momentum * *v);
}

/* RMSProp: Hinton (2012), Neural Networks for Machine Learning, lecture 6e. */
FORMULA REAL TYPED(formula_rmsprop)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *s) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *s = FORMULA_FUSED_SUM_FIRST(c->rho, *s, c->one_minus_rho, g * g);
  return FORMULA_FUSED_SECOND(c->step.decay_factor, w, c->step.learning_rate,
                              REAL_QUOTIENT(g, REAL_SQRT(*s) + c->epsilon));
}

/* RMSProp with Polyak's momentum on the scaled gradient. */
FORMULA REAL TYPED(formula_rmsprop_momentum)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *v, REAL *s) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *s = FORMULA_FUSED_SUM_FIRST(c->rho, *s, c->one_minus_rho, g * g);
  *v = c->momentum * *v + REAL_QUOTIENT(g, REAL_SQRT(*s) + c->epsilon);
  return FORMULA_FUSED_FIRST(c->step.decay_factor, w, c->step.learning_rate, *v);
}

/* Adam: Kingma and Ba (2015), algorithm 1; with weight decay AdamW: Loshchilov and Hutter (2019), algorithm 2. */
FORMULA REAL TYPED(formula_adam)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *m, REAL *s) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *m = FORMULA_FUSED_SUM_FIRST(c->beta1, *m, c->one_minus_beta1, g);
  *s = FORMULA_FUSED_SUM_FIRST(c->beta2, *s, c->one_minus_beta2, g * g);
  const REAL root = REAL_SQRT(*s) * c->step.root_bias_correction;
  return FORMULA_FUSED_SECOND(c->step.decay_factor, w, c->step.corrected_learning_rate,
                              REAL_QUOTIENT(*m, root + c->epsilon));
}

/* LARS: You, Gitman and Ginsburg (2017), algorithm 1, in PyTorch's form: v does not contain the learning rate. */
FORMULA REAL TYPED(formula_lars)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *v) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *v = FORMULA_FUSED_SUM_FIRST(c->momentum, *v, c->trust_ratio, g + c->weight_decay * w);
  return w - c->step.learning_rate * *v;
}

/* u of LAMB: You et al. (2020), algorithm 2. Updates the moments. */
FORMULA REAL TYPED(formula_lamb_step)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *m, REAL *s) {
  const REAL g = TYPED(formula_gradient)(c, w, gradient);
  *m = FORMULA_FUSED_SUM_FIRST(c->beta1, *m, c->one_minus_beta1, g);
  *s = FORMULA_FUSED_SUM_FIRST(c->beta2, *s, c->one_minus_beta2, g * g);
  const REAL root = REAL_SQRT(*s) * c->step.root_bias_correction;
  return FORMULA_FUSED_SUM_SECOND(c->step.bias_correction, REAL_QUOTIENT(*m, root + c->epsilon), c->weight_decay, w);
}

/* LAMB with phi(z) = z. The ratio is multiplied with u first: their product is at most |w|, but that of the ratio and the
 * learning rate may overflow. */
FORMULA REAL TYPED(formula_lamb)(const COEFFICIENTS *c, REAL w, REAL gradient, REAL *m, REAL *s) {
  const REAL u = TYPED(formula_lamb_step)(c, w, gradient, m, s);
  return w - c->step.learning_rate * (c->trust_ratio * u);
}

/* An element of the vector whose norm formula_trust_ratio compares with |w|: g of lars, u of lamb. The moments are
 * those before the update and are left as they are. */
FORMULA REAL TYPED(formula_trust_term)(enum update_rule rule, const COEFFICIENTS *c, REAL w, REAL gradient,
                                       REAL moment1, REAL moment2) {
  if (rule == UPDATE_LAMB) return TYPED(formula_lamb_step)(c, w, gradient, &moment1, &moment2);
  return TYPED(formula_gradient)(c, w, gradient);
}

/* Applies the rule. A moment that it does not use is neither read nor written. */
FORMULA REAL TYPED(formula_update)(enum update_rule rule, const COEFFICIENTS *c, REAL w, REAL gradient, REAL *moment1,
                                   REAL *moment2) {
  switch (rule) {
    case UPDATE_GD: break;
    case UPDATE_MOMENTUM: return TYPED(formula_momentum)(c, w, gradient, moment1);
    case UPDATE_NESTEROV: return TYPED(formula_nesterov)(c, w, gradient, moment1);
    case UPDATE_RMSPROP: return TYPED(formula_rmsprop)(c, w, gradient, moment2);
    case UPDATE_RMSPROP_MOMENTUM: return TYPED(formula_rmsprop_momentum)(c, w, gradient, moment1, moment2);
    case UPDATE_ADAM: return TYPED(formula_adam)(c, w, gradient, moment1, moment2);
    case UPDATE_LARS: return TYPED(formula_lars)(c, w, gradient, moment1);
    case UPDATE_LAMB: return TYPED(formula_lamb)(c, w, gradient, moment1, moment2);
  }
  return TYPED(formula_gd)(c, w, gradient);
}

/* ---- terms of the losses: the cpu computes a row's L in double, CUDA in float32, because double is slow there ---- */

/* The smoothed target t of the binary cross-entropy: smoothing moves it s / 2 towards the other class. */
FORMULA REAL TYPED(formula_binary_target)(REAL y, REAL label_smoothing) {
  return y * ((REAL)1 - label_smoothing) + (REAL)0.5 * label_smoothing;
}

/* L = max(z, 0) - t z + log(1 + exp(-|z|)) with z's factor written so that nothing cancels; `tail` is the logarithm. */
FORMULA REAL TYPED(formula_binary_loss)(REAL z, REAL target, REAL tail) {
  return (z > (REAL)0 ? (REAL)1 - target : -target) * z + tail;
}

/* The smoothed target q_k of the softmax cross-entropy with n classes: (1 - s) [k = y] + s / n. */
FORMULA REAL TYPED(formula_class_target)(bool is_label, REAL label_smoothing, REAL n) {
  return (is_label ? (REAL)1 - label_smoothing : (REAL)0) + label_smoothing / n;
}

/* L = log sum exp(z) - sum q z of targets q, from log_sum = log sum exp(z - max), distance = max - z_y of the label
 * and, with smoothing, the mean of max - z. Every term is >= 0. */
FORMULA REAL TYPED(formula_softmax_loss)(REAL log_sum, REAL distance, REAL mean_distance, REAL label_smoothing) {
  return log_sum + ((REAL)1 - label_smoothing) * distance + label_smoothing * mean_distance;
}

#undef FACTORS
#undef COEFFICIENTS
