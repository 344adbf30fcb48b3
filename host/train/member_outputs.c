/* Means over members: of values, of probabilities from logits without overflow, and their derivatives. */
#include "train/member_outputs.h"

#include <float.h>
#include <math.h>

enum { CHUNK = 256 };

/* ---- mean and standard deviation --------------------------------------------------------------------------------- */

/* means (n) of values first .. first + n - 1 of all rows. */
static void mean_of(const struct member_outputs *o, int64_t first, int64_t n, double *restrict means) {
  const int64_t count = o->rows * o->n;
  for (int64_t i = 0; i < n; i++) means[i] = 0;
  for (int64_t k = 0; k < o->members; k++) {
    const float *restrict values = o->values + k * count + first;
    for (int64_t i = 0; i < n; i++) means[i] += (double)values[i];
  }
  for (int64_t i = 0; i < n; i++) means[i] /= (double)o->members;
}

void member_outputs_mean(const struct member_outputs *o, float *mean) {
  const int64_t count = o->rows * o->n;
  double means[CHUNK];
  for (int64_t first = 0; first < count; first += CHUNK) {
    const int64_t n = count - first < CHUNK ? count - first : CHUNK;
    mean_of(o, first, n, means);
    for (int64_t i = 0; i < n; i++) mean[first + i] = (float)means[i];
  }
}

void member_outputs_spread(const struct member_outputs *o, float *spread) {
  const int64_t count = o->rows * o->n;
  double means[CHUNK], squares[CHUNK];
  for (int64_t first = 0; first < count; first += CHUNK) {
    const int64_t n = count - first < CHUNK ? count - first : CHUNK;
    mean_of(o, first, n, means);
    for (int64_t i = 0; i < n; i++) squares[i] = 0;
    for (int64_t k = 0; k < o->members; k++) {
      const float *restrict values = o->values + k * count + first;
      for (int64_t i = 0; i < n; i++) squares[i] += ((double)values[i] - means[i]) * ((double)values[i] - means[i]);
    }
    for (int64_t i = 0; i < n; i++) spread[first + i] = (float)sqrt(squares[i] / (double)o->members);
  }
}

/* ---- raw outputs ------------------------------------------------------------------------------------------------- */

/* A distance of logits beyond which exp is close to the end of double: exp(-600) is 1e-261. */
static const double far = 600;

int64_t member_outputs_scratch(int64_t members, int64_t n) { return members * n + members + 2 * n; }

/* z (n) of a member's row. */
static const float *row_of(const struct member_outputs *o, int64_t k, int64_t row) {
  return o->values + (k * o->rows + row) * o->n;
}

static bool row_is_finite(const struct member_outputs *o, int64_t row) {
  double differences = 0; /* 0, or NaN after one value that is not finite */
  for (int64_t k = 0; k < o->members; k++) {
    const float *z = row_of(o, k, row);
    for (int64_t c = 0; c < o->n; c++) differences += (double)(z[c] - z[c]);
  }
  return differences == 0;
}

static double mean_value(const struct member_outputs *o, int64_t row, int64_t c) {
  double sum = 0;
  for (int64_t k = 0; k < o->members; k++) sum += (double)row_of(o, k, row)[c];
  return sum / (double)o->members;
}

/* log mean_k exp(sign z_k) for one logit. */
static double log_mean_exp(const struct member_outputs *o, int64_t row, double sign, double largest) {
  double sum = 0;
  for (int64_t k = 0; k < o->members; k++) sum += exp(sign * (double)*row_of(o, k, row) - largest);
  return largest + log(sum / (double)o->members);
}

/* Sums of sigmoid(z) and sigmoid(-z), whose quotient keeps the smaller one exact; far from 0 sigmoid(z) is exp(z). */
static double logit_of_mean(const struct member_outputs *o, int64_t row) {
  double p = 0, q = 0, least = INFINITY, most = -INFINITY;
  for (int64_t k = 0; k < o->members; k++) {
    const double z = (double)*row_of(o, k, row), e = exp(-fabs(z)), near = 1 / (1 + e), rest = e * near;
    p += z < 0 ? rest : near;
    q += z < 0 ? near : rest;
    least = fmin(least, z);
    most = fmax(most, z);
  }
  if (most < -far) return log_mean_exp(o, row, 1, most);
  if (least > far) return -log_mean_exp(o, row, -1, -least);
  return log(p / q);
}

/* log mean_k exp(z_kc - norm_k), norms (members). */
static double log_mean_of_class(const struct member_outputs *o, int64_t row, int64_t c, const double *norms) {
  double most = -INFINITY, sum = 0;
  for (int64_t k = 0; k < o->members; k++) most = fmax(most, (double)row_of(o, k, row)[c] - norms[k]);
  for (int64_t k = 0; k < o->members; k++) sum += exp((double)row_of(o, k, row)[c] - norms[k] - most);
  return most + log(sum / (double)o->members);
}

/* e (n) = exp(z - max z), their sum, and log sum exp(z). */
static double exponentials(const float *z, int64_t n, double *e, double *sum) {
  double max = (double)z[0];
  for (int64_t c = 1; c < n; c++) max = fmax(max, (double)z[c]);
  *sum = 0;
  for (int64_t c = 0; c < n; c++) *sum += e[c] = exp((double)z[c] - max);
  return max + log(*sum);
}

static void log_mean_of_softmax(const struct member_outputs *o, int64_t row, double *scratch, double *raw) {
  double *const e = scratch, *const norms = scratch + o->n; /* (n), (members) */
  const double least = exp(-far);
  for (int64_t c = 0; c < o->n; c++) raw[c] = 0;
  for (int64_t k = 0; k < o->members; k++) {
    double sum;
    norms[k] = exponentials(row_of(o, k, row), o->n, e, &sum);
    for (int64_t c = 0; c < o->n; c++) raw[c] += e[c] / sum;
  }
  for (int64_t c = 0; c < o->n; c++) {
    raw[c] = raw[c] > least ? log(raw[c] / (double)o->members) : log_mean_of_class(o, row, c, norms);
    if (raw[c] > 0) raw[c] = 0; /* by rounding */
  }
}

void member_outputs_raw(descent_loss loss, const struct member_outputs *o, int64_t row, double *scratch, double *raw) {
  if (!row_is_finite(o, row)) {
    for (int64_t c = 0; c < o->n; c++) raw[c] = NAN;
    return;
  }
  switch (loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: raw[0] = logit_of_mean(o, row); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: log_mean_of_softmax(o, row, scratch, raw); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (int64_t c = 0; c < o->n; c++) raw[c] = mean_value(o, row, c);
      break;
  }
}

float member_outputs_round(double raw) { return raw < -(double)FLT_MAX ? -FLT_MAX : (float)raw; }

void member_outputs_raw_rows(descent_loss loss, const struct member_outputs *o, double *scratch, float *raw) {
  double *const row = scratch + member_outputs_scratch(o->members, o->n) - o->n; /* (n) */
  for (int64_t r = 0; r < o->rows; r++) {
    member_outputs_raw(loss, o, r, scratch, row);
    for (int64_t c = 0; c < o->n; c++) raw[r * o->n + c] = member_outputs_round(row[c]);
  }
}

/* ---- their derivatives ------------------------------------------------------------------------------------------- */

/* log sigmoid(z). */
static double log_sigmoid(double z) { return fmin(z, 0) - log1p(exp(-fabs(z))); }

/* shares (members), `stride` apart, hold log p_k; they become p_k / sum p. */
static void shares_from_logs(double *shares, int64_t members, int64_t stride) {
  double most = -INFINITY, sum = 0;
  for (int64_t k = 0; k < members; k++) most = fmax(most, shares[k * stride]);
  for (int64_t k = 0; k < members; k++) sum += shares[k * stride] = exp(shares[k * stride] - most);
  for (int64_t k = 0; k < members; k++) shares[k * stride] /= sum;
}

/* With p = sigmoid(z), q = 1 - p: d (log sum p - log sum q) / dz_k = p_k q_k (1 / sum p + 1 / sum q), and since sum p +
 * sum q = K this is K (p_k / sum p) (q_k / sum q). */
static void binary_backward(const struct member_outputs *o, int64_t row, double dOutput, double *scratch, float *dz) {
  const int64_t members = o->members;
  double *const p = scratch, *const q = scratch + members; /* (members) */
  for (int64_t k = 0; k < members; k++) {
    const double z = (double)*row_of(o, k, row);
    p[k] = log_sigmoid(z);
    q[k] = log_sigmoid(-z);
  }
  shares_from_logs(p, members, 1);
  shares_from_logs(q, members, 1);
  for (int64_t k = 0; k < members; k++) dz[k * o->rows + row] = (float)(dOutput * (double)members * p[k] * q[k]);
}

/* With p = softmax(z): d log sum_k p_kc / dz_kj = s_kc ([c = j] - p_kj), s_kc = p_kc / sum_k p_kc. */
static void softmax_backward(const struct member_outputs *o, int64_t row, const float *dOutputs, double *scratch,
                             float *dz) {
  const int64_t members = o->members, n = o->n;
  double *const s = scratch, *const norms = s + members * n,
                *const p = norms + members; /* (members, n), (members), (n) */
  for (int64_t k = 0; k < members; k++) {
    const float *z = row_of(o, k, row);
    double sum;
    norms[k] = exponentials(z, n, p, &sum);
    for (int64_t c = 0; c < n; c++) s[k * n + c] = (double)z[c] - norms[k];
  }
  for (int64_t c = 0; c < n; c++) shares_from_logs(s + c, members, n);
  for (int64_t k = 0; k < members; k++) {
    const float *z = row_of(o, k, row);
    double taken = 0;
    for (int64_t c = 0; c < n; c++) taken += (double)dOutputs[c] * s[k * n + c];
    for (int64_t j = 0; j < n; j++)
      dz[(k * o->rows + row) * n + j] =
          (float)((double)dOutputs[j] * s[k * n + j] - exp((double)z[j] - norms[k]) * taken);
  }
}

void member_outputs_backward(descent_loss loss, const struct member_outputs *o, int64_t row, const float *dOutputs,
                             double *scratch, float *dz) {
  switch (loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: binary_backward(o, row, (double)dOutputs[0], scratch, dz); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: softmax_backward(o, row, dOutputs, scratch, dz); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (int64_t k = 0; k < o->members; k++)
        for (int64_t c = 0; c < o->n; c++)
          dz[(k * o->rows + row) * o->n + c] = (float)((double)dOutputs[c] / (double)o->members);
      break;
  }
}
