/* The losses' and softmax's loops; part of kernels_impl.h. Narrow outputs are worked on 16 rows side by side, wide ones
 * along the row; which of the two depends on n alone. Sums over rows are in double, in row order. */

enum { SIDE = 16, NARROW = 64 };

/* L = max(z, 0) - y z + log(1 + exp(-|z|)) with z's factor written so that nothing cancels. */
static double kernel_loss_binary(const struct kernel_loss *loss) {
  const float *restrict z = loss->A, *restrict y = loss->y, *restrict w = loss->w;
  float *restrict D = loss->D;
  const float smooth = loss->label_smoothing;
  double sum = 0;
  float tail[CHUNK];
  for (int64_t begin = 0; begin < loss->rows; begin += CHUNK, z += CHUNK, y += CHUNK, w += CHUNK) {
    const int64_t n = loss->rows - begin < CHUNK ? loss->rows - begin : CHUNK;
    for (int64_t r = 0; r < n; r++) tail[r] = formula_softplus_tail(z[r]);
    for (int64_t r = 0; r < n; r++) {
      const double target = (double)y[r] * (1.0 - (double)smooth) + 0.5 * (double)smooth;
      const double factor = z[r] > 0 ? 1.0 - target : -target;
      sum += (double)w[r] * (factor * (double)z[r] + (double)tail[r]);
    }
    if (!D) continue;
    const double per_weight = loss->per_weight;
    for (int64_t r = 0; r < n; r++) {
      const float target = y[r] * (1.0f - smooth) + 0.5f * smooth;
      D[r] = (formula_sigmoid(z[r]) - target) * (float)((double)w[r] * per_weight);
    }
    D += CHUNK;
  }
  return sum;
}

/* One row's L from its maximum m, sum of exp(z - m), target logit and (with smoothing) mean logit: with targets q,
 * L = log sum exp(z) - sum q z = log(sum) + (1 - s) (m - z_y) + s (m - mean z), every term >= 0. */
static inline double softmax_row_loss(float m, double sum, float z_y, double mean, double s) {
  double L = log(sum) + (1.0 - s) * ((double)m - (double)z_y);
  if (s > 0) L += s * ((double)m - mean);
  return L;
}

/* `count` <= SIDE rows of n <= NARROW; p (n, SIDE) receives exp(z - max), transposed. Rows beyond count repeat the
 * last.
 */
static inline void softmax_side(const float *z, int64_t count, int64_t n, float (*restrict p)[SIDE],
                                float *restrict max, float *restrict sum) {
  for (int64_t r = 0; r < SIDE; r++) {
    const float *row = z + (r < count ? r : count - 1) * n;
    for (int64_t k = 0; k < n; k++) p[k][r] = row[k];
  }
  for (int r = 0; r < SIDE; r++) max[r] = p[0][r];
  for (int64_t k = 1; k < n; k++)
    for (int r = 0; r < SIDE; r++) max[r] = p[k][r] > max[r] ? p[k][r] : max[r];
  for (int r = 0; r < SIDE; r++) sum[r] = 0;
  for (int64_t k = 0; k < n; k++)
    for (int r = 0; r < SIDE; r++) {
      p[k][r] = formula_exp(p[k][r] - max[r]);
      sum[r] += p[k][r];
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

/* D = (p - q) f for one row, q = (1 - s) [k = y] + s / n; e holds exp(z - max). e and D may be the same row. */
static inline float softmax_slope(float e, float inverse, bool target, float hit, float miss, float f) {
  return (e * inverse - (target ? hit : miss)) * f;
}

static double softmax_loss_narrow(const struct kernel_loss *loss) {
  const int64_t n = loss->n;
  const float s = loss->label_smoothing;
  const float miss = s / (float)n, hit = 1.0f - s + miss;
  double total = 0;
  float p[NARROW][SIDE], max[SIDE], sum[SIDE];
  for (int64_t begin = 0; begin < loss->rows; begin += SIDE) {
    const int64_t count = loss->rows - begin < SIDE ? loss->rows - begin : SIDE;
    const float *z = loss->A + begin * n, *y = loss->y + begin, *w = loss->w + begin;
    softmax_side(z, count, n, p, max, sum);
    for (int64_t r = 0; r < count; r++) {
      float z_y = 0;
      for (int64_t k = 0; k < n; k++) z_y = (float)k == y[r] ? z[r * n + k] : z_y;
      const double mean = s > 0 ? kernel_sum(z + r * n, n) / (double)n : 0;
      total += (double)w[r] * softmax_row_loss(max[r], (double)sum[r], z_y, mean, (double)s);
    }
    if (!loss->D) continue;
    float f[SIDE], inverse[SIDE], label[SIDE];
    for (int64_t r = 0; r < SIDE; r++) {
      f[r] = r < count ? (float)((double)w[r] * loss->per_weight) : 0;
      label[r] = r < count ? y[r] : 0;
      inverse[r] = 1.0f / sum[r];
    }
    for (int64_t k = 0; k < n; k++)
      for (int r = 0; r < SIDE; r++)
        p[k][r] = softmax_slope(p[k][r], inverse[r], label[r] == (float)k, hit, miss, f[r]);
    for (int64_t r = 0; r < count; r++)
      for (int64_t k = 0; k < n; k++) loss->D[(begin + r) * n + k] = p[k][r];
  }
  return total;
}

static double softmax_loss_wide(const struct kernel_loss *loss) {
  const int64_t n = loss->n;
  const float s = loss->label_smoothing;
  const float miss = s / (float)n, hit = 1.0f - s + miss;
  double total = 0;
  for (int64_t r = 0; r < loss->rows; r++) {
    const float *restrict z = loss->A + r * n;
    float *D = loss->D ? loss->D + r * n : NULL;
    const float max = row_max(z, n);
    const double sum = row_sum_exp(z, max, D, n);
    const int64_t label = loss->y[r] >= 0 && loss->y[r] < (float)n ? (int64_t)loss->y[r] : 0;
    const double mean = s > 0 ? kernel_sum(z, n) / (double)n : 0;
    total += (double)loss->w[r] * softmax_row_loss(max, sum, z[label], mean, (double)s);
    if (!D) continue;
    const float f = (float)((double)loss->w[r] * loss->per_weight), inverse = (float)(1.0 / sum);
    const float e = D[label];
    for (int64_t k = 0; k < n; k++) D[k] = softmax_slope(D[k], inverse, false, hit, miss, f);
    D[label] = softmax_slope(e, inverse, true, hit, miss, f);
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
    if (!loss->D) continue;
    float *restrict D = loss->D + r * n;
    const float f = (float)(2.0 * (double)loss->w[r] * loss->per_weight / (double)n);
    for (int64_t k = 0; k < n; k++) D[k] = (a[k] - y[k]) * f;
  }
  if (loss->D) kernel_backward(loss->activation, loss->A, loss->Z, 1.0f, loss->D, loss->rows * n);
  return total;
}

static void kernel_softmax(const float *z, float *a, int64_t rows, int64_t n) {
  if (n <= NARROW) {
    float p[NARROW][SIDE], max[SIDE], sum[SIDE];
    for (int64_t begin = 0; begin < rows; begin += SIDE) {
      const int64_t count = rows - begin < SIDE ? rows - begin : SIDE;
      softmax_side(z + begin * n, count, n, p, max, sum);
      for (int64_t r = 0; r < count; r++)
        for (int64_t k = 0; k < n; k++) a[(begin + r) * n + k] = p[k][r] / sum[r];
    }
    return;
  }
  for (int64_t r = 0; r < rows; r++, z += n, a += n) {
    const float inverse = (float)(1.0 / row_sum_exp(z, row_max(z, n), a, n));
    for (int64_t k = 0; k < n; k++) a[k] *= inverse;
  }
}
