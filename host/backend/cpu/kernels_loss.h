/* The losses' and softmax's loops; part of kernels_impl.h. Narrow outputs are processed 16 rows side by side, wide ones
 * along the row; the choice depends on n alone. Sums over rows are in double, in row order. */

enum { SIDE = 16, NARROW = 64 };

static double sum_doubles(const double *x, int64_t n) {
#define LANE(j) (*(const double8_loose *)(x + (j)))
#define SINGLE(j) x[j]
  SUM(n, LANE, SINGLE);
#undef LANE
#undef SINGLE
}

/* w / sum w in double, which costs a CPU little per row; loss.cu has a float32 version. */
static inline float weight_share(const struct kernel_loss *loss, float w) {
  return (float)((double)w * loss->inverse_weight_sum);
}

static double kernel_loss_binary(const struct kernel_loss *loss) {
  const double label_smoothing = (double)loss->label_smoothing;
  double total = 0, L[CHUNK];
  float tail[CHUNK], target[CHUNK];
  for (int64_t begin = 0; begin < loss->rows; begin += CHUNK) {
    const int64_t n = loss->rows - begin < CHUNK ? loss->rows - begin : CHUNK;
    const float *restrict z = loss->A + begin, *restrict y = loss->y + begin, *restrict w = loss->w + begin;
    for (int64_t r = 0; r < n; r++) tail[r] = formula_softplus_tail(z[r]);
    for (int64_t r = 0; r < n; r++) {
      const double t = formula_binary_target_f64((double)y[r], label_smoothing);
      target[r] = (float)t;
      L[r] = (double)w[r] * formula_binary_loss_f64((double)z[r], t, (double)tail[r]);
    }
    total += sum_doubles(L, n);
    if (!loss->dZ) continue;
    float *restrict dZ = loss->dZ + begin;
    for (int64_t r = 0; r < n; r++)
      dZ[r] = formula_cross_entropy_slope(formula_sigmoid(z[r]), target[r], weight_share(loss, w[r]));
  }
  return total;
}

/* One row's L from its logits z (n), their maximum, log sum exp(z - max) and the label's logit. */
static inline double softmax_row_loss(const float *z, int64_t n, float max, double log_sum, float z_y,
                                      double label_smoothing) {
  const double mean_distance = label_smoothing > 0 ? (double)max - kernel_sum(z, n) / (double)n : 0;
  return formula_softmax_loss_f64(log_sum, (double)max - (double)z_y, mean_distance, label_smoothing);
}

/* `count` <= SIDE rows side by side. Rows beyond count repeat the last. */
struct side {
  float p[NARROW][SIDE]; /* (n, SIDE) exp(z - max), transposed */
  float max[SIDE], sum[SIDE], z_y[SIDE];
};

static inline void softmax_side(const float *z, int64_t count, int64_t n, const float *restrict label,
                                struct side *restrict s) {
  for (int64_t r = 0; r < SIDE; r++) {
    const float *row = z + (r < count ? r : count - 1) * n;
    for (int64_t k = 0; k < n; k++) s->p[k][r] = row[k];
  }
  for (int r = 0; r < SIDE; r++) s->max[r] = s->z_y[r] = s->p[0][r];
  for (int64_t k = 1; k < n; k++)
    for (int r = 0; r < SIDE; r++) {
      s->max[r] = s->p[k][r] > s->max[r] ? s->p[k][r] : s->max[r];
      s->z_y[r] = label[r] == (float)k ? s->p[k][r] : s->z_y[r];
    }
  for (int r = 0; r < SIDE; r++) s->sum[r] = 0;
  for (int64_t k = 0; k < n; k++)
    for (int r = 0; r < SIDE; r++) {
      s->p[k][r] = formula_exp(s->p[k][r] - s->max[r]);
      s->sum[r] += s->p[k][r];
    }
}

static float row_max(const float *restrict z, int64_t n) {
  float max[SIDE];
  for (int l = 0; l < SIDE; l++) max[l] = z[0];
  int64_t k = 0;
  for (; k + SIDE <= n; k += SIDE)
    for (int l = 0; l < SIDE; l++) max[l] = z[k + l] > max[l] ? z[k + l] : max[l];
  for (; k < n; k++) max[0] = z[k] > max[0] ? z[k] : max[0];
  for (int l = 1; l < SIDE; l++) max[0] = max[l] > max[0] ? max[l] : max[0];
  return max[0];
}

/* Sum of exp(z - max) over a wide row; the terms go into `e` unless it is NULL. */
static double row_sum_exp(const float *restrict z, float max, float *e, int64_t n) {
  float chunk[CHUNK];
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += CHUNK) {
    const int64_t count = n - begin < CHUNK ? n - begin : CHUNK;
    float *restrict out = e ? e + begin : chunk;
    for (int64_t k = 0; k < count; k++) out[k] = formula_exp(z[begin + k] - max);
    sum += kernel_sum(out, count);
  }
  return sum;
}

static double softmax_loss_narrow(const struct kernel_loss *loss) {
  const int64_t n = loss->n;
  const float s = loss->label_smoothing;
  const float q_label = formula_class_target_f32(true, s, (float)n),
              q_other = formula_class_target_f32(false, s, (float)n);
  double total = 0;
  struct side side;
  for (int64_t begin = 0; begin < loss->rows; begin += SIDE) {
    const int64_t count = loss->rows - begin < SIDE ? loss->rows - begin : SIDE;
    const float *z = loss->A + begin * n;
    float label[SIDE] = {0}, w[SIDE] = {0}, log_sum[SIDE];
    memcpy(label, loss->y + begin, (size_t)count * sizeof *label);
    memcpy(w, loss->w + begin, (size_t)count * sizeof *w);
    softmax_side(z, count, n, label, &side);
    for (int r = 0; r < SIDE; r++) log_sum[r] = formula_log(side.sum[r]);
    for (int64_t r = 0; r < count; r++)
      total += (double)w[r] * softmax_row_loss(z + r * n, n, side.max[r], (double)log_sum[r], side.z_y[r], (double)s);
    if (!loss->dZ) continue;
    float f[SIDE], inverse[SIDE];
    for (int r = 0; r < SIDE; r++) {
      f[r] = weight_share(loss, w[r]);
      inverse[r] = 1.0f / side.sum[r];
    }
    for (int64_t k = 0; k < n; k++)
      for (int r = 0; r < SIDE; r++) {
        /* p is named before q is chosen: otherwise GCC contracts the product and p - q to one fused multiply-add, and
         * dZ changes in the last bit. */
        const float p = side.p[k][r] * inverse[r], q = label[r] == (float)k ? q_label : q_other;
        side.p[k][r] = formula_cross_entropy_slope(p, q, f[r]);
      }
    for (int64_t r = 0; r < count; r++)
      for (int64_t k = 0; k < n; k++) loss->dZ[(begin + r) * n + k] = side.p[k][r];
  }
  return total;
}

static double softmax_loss_wide(const struct kernel_loss *loss) {
  const int64_t n = loss->n;
  const float s = loss->label_smoothing;
  const float q_label = formula_class_target_f32(true, s, (float)n),
              q_other = formula_class_target_f32(false, s, (float)n);
  double total = 0;
  for (int64_t r = 0; r < loss->rows; r++) {
    const float *restrict z = loss->A + r * n;
    float *dZ = loss->dZ ? loss->dZ + r * n : NULL;
    const float max = row_max(z, n);
    const double sum = row_sum_exp(z, max, dZ, n);
    const int64_t label = loss->y[r] >= 0 && loss->y[r] < (float)n ? (int64_t)loss->y[r] : 0;
    total += (double)loss->w[r] * softmax_row_loss(z, n, max, log(sum), z[label], (double)s);
    if (!dZ) continue;
    const float f = weight_share(loss, loss->w[r]), inverse = (float)(1.0 / sum);
    const float e = dZ[label]; /* exp(z - max), as all of dZ */
    for (int64_t k = 0; k < n; k++) dZ[k] = formula_cross_entropy_slope(dZ[k] * inverse, q_other, f);
    dZ[label] = formula_cross_entropy_slope(e * inverse, q_label, f);
  }
  return total;
}

static double kernel_loss_softmax(const struct kernel_loss *loss) {
  return loss->n <= NARROW ? softmax_loss_narrow(loss) : softmax_loss_wide(loss);
}

/* L = mean_k (a_k - y_k)^2. */
static double kernel_loss_squared(const struct kernel_loss *loss) {
  const int64_t n = loss->n;
  double total = 0;
  for (int64_t r = 0; r < loss->rows; r++) {
    const float *restrict a = loss->A + r * n, *restrict y = loss->y + r * n;
    const double sum = kernel_sum_squared_differences(a, y, n);
    total += (double)loss->w[r] * sum / (double)n;
    if (!loss->dZ) continue;
    float *restrict dZ = loss->dZ + r * n;
    const float f = (float)(2.0 * (double)loss->w[r] * loss->inverse_weight_sum / (double)n);
    for (int64_t k = 0; k < n; k++) dZ[k] = (a[k] - y[k]) * f;
  }
  if (loss->dZ) kernel_backward(loss->activation, loss->A, loss->Z, 1.0f, loss->dZ, loss->rows * n);
  return total;
}

static void kernel_softmax(const float *z, float *a, int64_t rows, int64_t n) {
  if (n <= NARROW) {
    const float label[SIDE] = {0};
    struct side side;
    for (int64_t begin = 0; begin < rows; begin += SIDE) {
      const int64_t count = rows - begin < SIDE ? rows - begin : SIDE;
      softmax_side(z + begin * n, count, n, label, &side);
      for (int64_t r = 0; r < count; r++)
        for (int64_t k = 0; k < n; k++) a[(begin + r) * n + k] = side.p[k][r] / side.sum[r];
    }
    return;
  }
  for (int64_t r = 0; r < rows; r++, z += n, a += n) {
    const float inverse = (float)(1.0 / row_sum_exp(z, row_max(z, n), a, n));
    for (int64_t k = 0; k < n; k++) a[k] *= inverse;
  }
}
