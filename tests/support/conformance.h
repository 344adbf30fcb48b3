/* One-op plans built by hand, and the check that runs one on a backend: inputs must be stored as the precision
 * requires, everything that the op writes must be within the bounds derived from the exact result, everything else must
 * be unchanged, and a second run must give the same bytes. */
#ifndef DESCENT_TESTS_CONFORMANCE_H
#define DESCENT_TESTS_CONFORMANCE_H

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "internal.h"

extern "C" {
#include "backend/reference/reference.h"
#include "plan/operations.h"
#include "verify/interval.h"
}

namespace conformance {

const uint64_t seed = 20261123; /* of every input; printed with every failure */
enum { GUARD = 16 };            /* elements around flat buffers */

inline double sentinel(size_t i) { return -1000.0 - static_cast<double>(i % 97); }

/* Random inputs, exactly representable in float32; every call draws from a new stream. */
class Random {
 public:
  /* Uniform in (low, high). */
  std::vector<double> uniform(int64_t count, double low, double high) {
    return draw(count, [=](double u, double) { return low + (high - low) * u; });
  }
  /* Of either sign with magnitudes 2^low .. 2^high. */
  std::vector<double> exponents(int64_t count, double low, double high) {
    return draw(count, [=](double u, double v) { return (v < 0.5 ? -1 : 1) * std::exp2(low + (high - low) * u); });
  }
  std::vector<double> integers(int64_t count, int64_t below) {
    return draw(count, [=](double u, double) { return std::floor(u * static_cast<double>(below)); });
  }
  std::vector<double> draw(int64_t count, const std::function<double(double, double)> &law) {
    std::vector<double> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); i++)
      values[i] = static_cast<float>(law(rng_uniform(seed, RNG_SYNTHETIC, stream_, 0, 2 * i),
                                         rng_uniform(seed, RNG_SYNTHETIC, stream_, 0, 2 * i + 1)));
    stream_++;
    return values;
  }

 private:
  uint32_t stream_ = 100;
};

/* A plan of one operation (or a few) with the contents of its buffers. */
class OneOp {
 public:
  OneOp(int64_t rows, int64_t batch) {
    step.number = 3;
    step.rows = rows;
    step.learning_rate = 0.01;
    plan.batch = batch;
    plan.seed = seed;
  }

  /* An operand (rows, n). The rows beyond the step's are NaN, which must not affect any result. */
  int batch(const char *name, int64_t n, const std::vector<double> &values) {
    std::vector<double> content(static_cast<size_t>(plan.batch * n), NAN);
    EXPECT_LE(values.size(), content.size()) << name;
    std::copy_n(values.begin(), std::min(values.size(), content.size()), content.begin());
    return add(name, PLAN_BATCH, PLAN_F32, plan.batch, n, content);
  }
  /* An operand that the op is to write: NaN. */
  int output(const char *name, int64_t n) { return batch(name, n, {}); }

  int state(const char *name, plan_type type, const std::vector<double> &content) {
    return add(name, PLAN_STATE, type, 1, static_cast<int64_t>(content.size()), content);
  }
  /* Of (rows, content / rows). */
  int state(const char *name, plan_type type, int64_t rows, const std::vector<double> &content) {
    return add(name, PLAN_STATE, type, rows, static_cast<int64_t>(content.size()) / rows, content);
  }
  int source(const char *name, int64_t cols, const std::vector<double> &values) {
    const int buffer = add(name, PLAN_SOURCE, PLAN_F32, 0, cols, {});
    floats_[static_cast<size_t>(buffer)].assign(values.begin(), values.end());
    return buffer;
  }
  int source(const char *name, const std::vector<int64_t> &values) {
    const int buffer = add(name, PLAN_SOURCE, PLAN_I64, 0, 1, {});
    integers_[static_cast<size_t>(buffer)] = values;
    return buffer;
  }
  /* The scalars, all sentinels but those given. */
  int scalars(const std::vector<std::pair<plan_scalar, double>> &given) {
    std::vector<double> content(SCALAR_SLOTS);
    for (size_t i = 0; i < content.size(); i++) content[i] = sentinel(i);
    for (const auto &slot : given) content[slot.first] = slot.second;
    return state("scalars", PLAN_F64, content);
  }
  /* The statistics, all sentinels but the trust ratios, if they are given. */
  int layer_statistics(int layers, const std::vector<double> &trust = {}) {
    std::vector<double> content(static_cast<size_t>(layers * LAYER_SLOTS));
    for (size_t i = 0; i < content.size(); i++) content[i] = sentinel(i);
    for (size_t l = 0; l < trust.size(); l++) content[l * LAYER_SLOTS + LAYER_TRUST] = trust[l];
    return add("layer_statistics", PLAN_STATE, PLAN_F64, layers, LAYER_SLOTS, content);
  }

  plan_op &op(plan_op_kind kind, int layer) {
    ops_.push_back(plan_op{});
    ops_.back().kind = kind;
    ops_.back().layer = layer;
    return ops_.back();
  }
  /* Makes the operands' buffers this many columns wider than the operands, which are dense at their start. */
  void widen(int64_t columns) {
    wider_ = columns;
    for (size_t b = 0; b < buffers_.size(); b++) {
      if (buffers_[b].storage != PLAN_BATCH) continue;
      buffers_[b].cols += columns;
      for (size_t i = contents_[b].size(); i < static_cast<size_t>(plan.batch * buffers_[b].cols); i++)
        contents_[b].push_back(sentinel(i));
    }
  }
  /* Makes the step a part of one: the first of its rows is `row` of that step. */
  void cut(int64_t row, int part, int parts, double weight_sum) {
    step.batch_row = row, step.micro_batch = part, step.micro_batches = parts, step.weight_sum = weight_sum;
  }
  void segment(const parameter_segment &at) { segments_.push_back(at); }
  void prepend(const std::vector<plan_op> &ops) { ops_.insert(ops_.begin(), ops.begin(), ops.end()); }
  const plan_op &last_op() const { return ops_.back(); }
  void set(int buffer, size_t element, double value) { contents_[static_cast<size_t>(buffer)][element] = value; }

  /* Compiles, binds and fills in `program`; the plan stays this object's. */
  void load(const backend &b, backend_device *device, backend_program **program) {
    plan.buffers = buffers_.data();
    plan.n_buffers = static_cast<int>(buffers_.size());
    plan.ops = ops_.data();
    plan.n_ops = static_cast<int>(ops_.size());
    plan.segments = segments_.data();
    plan.layers = static_cast<int>(segments_.size());
    for (const plan_op &o : ops_) ASSERT_TRUE(b.supports(device, &plan, &o)) << descent_last_error();
    ASSERT_EQ(b.compile(device, &plan, program), DESCENT_OK) << descent_last_error();
    for (size_t i = 0; i < buffers_.size(); i++) {
      if (buffers_[i].storage != PLAN_SOURCE) continue;
      const bool is_float = buffers_[i].type == PLAN_F32;
      const size_t count = is_float ? floats_[i].size() : integers_[i].size();
      const void *data = is_float ? static_cast<const void *>(floats_[i].data()) : integers_[i].data();
      ASSERT_EQ(b.bind(*program, static_cast<int>(i), is_float ? DESCENT_DTYPE_F32 : DESCENT_DTYPE_I64,
                       count ? data : nullptr, static_cast<int64_t>(count) / buffers_[i].cols, true),
                DESCENT_OK);
    }
    fill(b, *program, contents_);
  }
  void fill(const backend &b, backend_program *program, const std::vector<std::vector<double>> &contents) const {
    for (size_t i = 0; i < buffers_.size(); i++)
      if (buffers_[i].storage != PLAN_SOURCE) {
        ASSERT_EQ(b.write(program, static_cast<int>(i), 0, static_cast<int64_t>(contents[i].size()), PLAN_F64,
                          contents[i].data()),
                  DESCENT_OK);
      }
  }
  /* Every buffer's values now. */
  std::vector<std::vector<double>> read(const backend &b, backend_program *program) const {
    std::vector<std::vector<double>> now(contents_);
    if (b.synchronise) {
      EXPECT_EQ(b.synchronise(program), DESCENT_OK);
    }
    for (size_t i = 0; i < now.size(); i++)
      if (buffers_[i].storage != PLAN_SOURCE) {
        EXPECT_EQ(b.read(program, static_cast<int>(i), 0, static_cast<int64_t>(now[i].size()), PLAN_F64, now[i].data()),
                  DESCENT_OK);
      }
    return now;
  }

  const std::vector<std::vector<double>> &contents() const { return contents_; }
  const plan_buffer &buffer(size_t i) const { return buffers_[i]; }
  int64_t wider() const { return wider_; }

  struct plan plan {};
  plan_step step{};
  permutation order{};

 private:
  int add(const char *name, plan_storage storage, plan_type type, int64_t rows, int64_t cols,
          const std::vector<double> &content) {
    plan_buffer made{};
    snprintf(made.name, sizeof made.name, "%s", name);
    made.storage = storage;
    made.type = type;
    made.rows = rows;
    made.cols = cols;
    buffers_.push_back(made);
    contents_.push_back(content);
    floats_.emplace_back();
    integers_.emplace_back();
    return static_cast<int>(buffers_.size()) - 1;
  }

  std::vector<plan_buffer> buffers_;
  std::vector<std::vector<double>> contents_; /* before the op; empty for sources */
  std::vector<std::vector<float>> floats_;
  std::vector<std::vector<int64_t>> integers_;
  std::vector<plan_op> ops_;
  std::vector<parameter_segment> segments_;
  int64_t wider_ = 0;
};

/* A backend under test, in each of its precisions; add another with a row in candidates(). */
struct Candidate {
  const char *name;
  const struct backend *backend;
  int threads;
  std::vector<descent_precision> precisions;
};

/* A compiled plan on an opened device. */
class Session {
 public:
  Session(const Candidate &candidate, OneOp &one) : backend(*candidate.backend) { open(candidate.threads, one); }
  ~Session() {
    backend.release(program);
    backend.close(device_);
  }
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  const struct backend &backend;
  backend_program *program = nullptr;

 private:
  void open(int threads, OneOp &one) {
    ASSERT_EQ(backend.open(0, threads, &device_), DESCENT_OK) << descent_last_error();
    one.load(backend, device_, &program);
  }
  backend_device *device_ = nullptr;
};

inline bool same(double a, double b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0; }

/* Values written can be read back to the bit; operands in bf16 hold the nearest bf16. */
inline void expect_stored(const OneOp &one, const std::vector<std::vector<double>> &before) {
  for (size_t b = 0; b < before.size(); b++) {
    const bool reduced = plan_is_bf16(&one.plan, static_cast<int>(b));
    for (size_t j = 0; j < before[b].size(); j++) {
      const double written = one.contents()[b][j];
      ASSERT_TRUE(same(before[b][j], reduced ? interval_bf16(written) : written))
          << one.buffer(b).name << "[" << j << "] was written " << written << ", reads " << before[b][j];
    }
  }
}

/* Element by element: |value - exact| <= bound, which NaN never satisfies. */
inline void expect_within(const bounds_output &output, const char *name, const std::vector<double> &values) {
  for (int64_t i = 0; i < output.count; i++) {
    const double value = values[static_cast<size_t>(output.offset + i)];
    ASSERT_TRUE(std::isfinite(output.bound[i])) << name << "[" << output.offset + i << "] has no bound";
    ASSERT_LE(std::fabs(value - output.exact[i]), output.bound[i])
        << name << "[" << output.offset + i << "] is " << value << ", exactly " << output.exact[i];
  }
}

/* In norm: roundings behave as independent errors of mean 0, so that with probability 1 - p no sum of k of them exceeds
 * lambda sqrt(k) instead of k, lambda = sqrt(2 ln(2 N / p)) for N sums (Higham and Mary 2019, theorem 2.4). So do
 * truncations where the terms have random signs: a term's own error has its sign, and a partial sum, to which the error
 * of an addition is relative, is itself no larger than lambda sqrt(k) terms. */
inline void expect_norm_within(const bounds_output &output, const char *name, const std::vector<double> &values,
                               double k) {
  double errors = 0, bounds = 0;
  for (int64_t i = 0; i < output.count; i++) {
    const double error = values[static_cast<size_t>(output.offset + i)] - output.exact[i];
    errors += error * error;
    bounds += output.bound[i] * output.bound[i];
  }
  const double lambda = std::sqrt(2 * std::log(2 * static_cast<double>(output.count) / 1e-9));
  const double share = std::fmin(1, lambda / std::sqrt(k));
  EXPECT_LE(std::sqrt(errors), share * std::sqrt(bounds)) << name << " in norm";
}

/* Everything except the outputs is unchanged; in an output's buffer only the rows beyond the step's are unspecified. */
inline void expect_untouched(const OneOp &one, const bounds &within, const std::vector<std::vector<double>> &before,
                             const std::vector<std::vector<double>> &now) {
  for (size_t b = 0; b < now.size(); b++) {
    std::vector<bool> free(now[b].size());
    for (int i = 0; i < within.n; i++) {
      const bounds_output &output = within.outputs[i];
      if (static_cast<size_t>(output.buffer) != b) continue;
      int64_t end = output.offset + output.count;
      if (one.buffer(b).storage == PLAN_BATCH) end = one.plan.batch * (one.buffer(b).cols - one.wider());
      for (int64_t j = output.offset; j < end; j++) free[static_cast<size_t>(j)] = true;
    }
    for (size_t j = 0; j < now[b].size(); j++)
      ASSERT_TRUE(free[j] || same(now[b][j], before[b][j]))
          << one.buffer(b).name << "[" << j << "] was " << before[b][j] << ", is " << now[b][j];
  }
}

/* Runs op 0 on the candidate and compares it with the exact result from the same inputs, as the candidate stored them.
 * `terms` > 0: the dot product's length, for the norm; a result in bf16 has one rounding that does not average out. */
inline void judge(const Candidate &candidate, OneOp &one, double terms) {
  Session exact({"reference", &backend_reference, 1, {}}, one), tried(candidate, one);
  if (testing::Test::HasFatalFailure()) return;
  const std::vector<std::vector<double>> before = one.read(tried.backend, tried.program);
  expect_stored(one, before);
  if (testing::Test::HasFatalFailure()) return;
  one.fill(exact.backend, exact.program, before);
  const bool averages =
      one.plan.precision != DESCENT_PRECISION_BF16 || one.plan.ops[0].kind == OP_DENSE_BACKWARD_WEIGHTS;
  bounds within{};
  ASSERT_EQ(bounds_run(exact.program, &one.plan, 0, &one.step, &within), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(tried.backend.run(tried.program, plan_range{0, 1}, &one.step, 1), DESCENT_OK) << descent_last_error();
  const std::vector<std::vector<double>> first = one.read(tried.backend, tried.program);
  for (int i = 0; i < within.n && !testing::Test::HasFatalFailure(); i++) {
    const bounds_output &output = within.outputs[i];
    const char *name = one.buffer(static_cast<size_t>(output.buffer)).name;
    const std::vector<double> &values = first[static_cast<size_t>(output.buffer)];
    expect_within(output, name, values);
    if (terms > 0 && averages) expect_norm_within(output, name, values, terms);
  }
  if (!testing::Test::HasFatalFailure()) expect_untouched(one, within, before, first);
  bounds_clear(&within);

  one.fill(tried.backend, tried.program, one.contents());
  ASSERT_EQ(tried.backend.run(tried.program, plan_range{0, 1}, &one.step, 1), DESCENT_OK);
  const std::vector<std::vector<double>> second = one.read(tried.backend, tried.program);
  for (size_t b = 0; b < first.size(); b++)
    for (size_t j = 0; j < first[b].size(); j++)
      ASSERT_TRUE(same(first[b][j], second[b][j])) << one.buffer(b).name << "[" << j << "] differs in a rerun";
}

}  // namespace conformance

#endif
