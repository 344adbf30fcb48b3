/* The outputs of an ensemble by their definition, in long double (64 bits of mantissa, exponents to 1e4932): the oracle
 * of what the library computes in double. */
#ifndef DESCENT_TESTS_MEMBER_ORACLE_H
#define DESCENT_TESTS_MEMBER_ORACLE_H

#include <descent/descent.h>

#include <cmath>
#include <vector>

namespace member_oracle {

using Row = std::vector<long double>;

/* softmax(z), or sigmoid(z) and sigmoid(-z) of one logit. */
inline Row probabilities(const Row &z) {
  Row p;
  if (z.size() == 1) return {1 / (1 + expl(-z[0])), 1 / (1 + expl(z[0]))};
  long double most = -INFINITY, sum = 0;
  for (long double value : z) most = std::max(most, value);
  for (long double value : z) sum += expl(value - most);
  for (long double value : z) p.push_back(expl(value - most) / sum);
  return p;
}

/* The raw outputs of an ensemble from those of its members. */
inline Row raw(descent_loss loss, const std::vector<Row> &members) {
  const auto K = static_cast<long double>(members.size());
  const bool values = loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  Row sums;
  for (const Row &z : members) {
    const Row p = values ? z : probabilities(z);
    sums.resize(p.size());
    for (size_t c = 0; c < p.size(); c++) sums[c] += p[c];
  }
  if (loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) return {logl(sums[0]) - logl(sums[1])};
  for (long double &sum : sums) sum = values ? sum / K : logl(sum / K);
  return sums;
}

inline long double mean(const Row &values) {
  long double sum = 0;
  for (long double value : values) sum += value;
  return sum / static_cast<long double>(values.size());
}

/* The standard deviation of values, whose number divides. */
inline long double spread(const Row &values) {
  const long double middle = mean(values);
  long double squares = 0;
  for (long double value : values) squares += (value - middle) * (value - middle);
  return sqrtl(squares / static_cast<long double>(values.size()));
}

/* L of a row from an ensemble's raw outputs; y: its class, or its targets. */
inline long double loss(descent_loss loss, const Row &raw, const Row &y) {
  if (loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) return y[0] == 1 ? log1pl(expl(-raw[0])) : log1pl(expl(raw[0]));
  if (loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) return -raw[static_cast<size_t>(y[0])];
  Row squares;
  for (size_t c = 0; c < y.size(); c++) squares.push_back((raw[c] - y[c]) * (raw[c] - y[c]));
  return mean(squares);
}

}  // namespace member_oracle

#endif
