/* The cpu backend's guarantees besides correct numbers: the same bytes on any number of threads, a step that stops at
 * the first non-finite value, checked ranges. */
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "internal.h"
extern "C" {
#include "backend/cpu/pool.h"
}

namespace {

#define OK(expression) ASSERT_EQ(expression, DESCENT_OK) << descent_last_error()

/* ---- the pool ---- */

struct Region {
  std::vector<std::atomic<int>> runs;
  explicit Region(size_t tiles) : runs(tiles) {}
  static void tile(void *context, int64_t number) { ((Region *)context)->runs[(size_t)number]++; }
  static void tile_with_others(void *context, int64_t number) {
    if (number % 8 == 0) std::this_thread::yield();
    tile(context, number);
  }
};

TEST(Pool, RunsEveryTileOnceOnAnyNumberOfThreads) {
  for (int threads : {1, 2, 3, 8}) { /* 8: more than a small machine has cores */
    struct pool *pool = nullptr;
    OK(pool_create(threads, &pool));
    EXPECT_EQ(pool_threads(pool), threads);
    for (int round = 0; round < 500; round++) {
      const size_t tiles = (size_t)(round * 7 % 40);
      Region region(tiles);
      pool_run(pool, Region::tile, &region, (int64_t)tiles);
      for (size_t i = 0; i < tiles; i++) ASSERT_EQ(region.runs[i], 1) << threads << " threads, round " << round;
    }
    pool_free(pool);
  }
}

TEST(Pool, RunsEveryTileOnceForEveryOneOfManyCallers) {
  enum { CALLERS = 4, ROUNDS = 3000, TILES = 23 };
  struct pool *pool = nullptr;
  OK(pool_create(3, &pool));
  std::atomic<int> wrong{0}, waiting{CALLERS};
  std::vector<std::thread> callers;
  for (int c = 0; c < CALLERS; c++)
    callers.emplace_back([&] {
      for (--waiting; waiting > 0;) std::this_thread::yield();
      for (int round = 0; round < ROUNDS; round++) {
        Region region(TILES);
        pool_run(pool, Region::tile_with_others, &region, TILES);
        for (const std::atomic<int> &runs : region.runs) wrong += runs != 1;
      }
    });
  for (std::thread &caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  pool_free(pool);
}

/* ---- whole steps ---- */

struct Case {
  const char *name;
  std::vector<int64_t> widths; /* inputs first */
  descent_activation activation;
  descent_loss loss;
  descent_optimizer optimizer;
  double dropout, label_smoothing, momentum, clip_norm;
  int64_t batch;
};

/* Chosen so that every way of cutting the work into tiles occurs: column tiles, row tiles, slices of a long batch, rows
 * of many units, and work too small to share. */
const Case cases[] = {
    {"small",
     {30, 16, 8, 1},
     DESCENT_ACTIVATION_SIGMOID,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     DESCENT_OPTIMIZER_SGD,
     0,
     0.1,
     0,
     0,
     64},
    {"wide",
     {200, 301, 128, 10},
     DESCENT_ACTIVATION_GELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     DESCENT_OPTIMIZER_ADAM,
     0.3,
     0.1,
     0,
     1,
     333},
    {"few_rows",
     {784, 128, 64, 10},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     DESCENT_OPTIMIZER_RMSPROP,
     0,
     0,
     0.9,
     0,
     64},
    {"long_batch",
     {9, 20, 3},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     DESCENT_OPTIMIZER_SGD,
     0,
     0,
     0.9,
     0,
     5001},
    {"many_classes",
     {40, 600, 100},
     DESCENT_ACTIVATION_SILU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     DESCENT_OPTIMIZER_ADAMW,
     0.5,
     0,
     0,
     0,
     130},
    {"large_batch_lars",
     {200, 301, 128, 10},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     DESCENT_OPTIMIZER_LARS,
     0,
     0.1,
     0.9,
     1,
     333},
    {"large_batch_lamb",
     {40, 600, 100},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     DESCENT_OPTIMIZER_LAMB,
     0.1,
     0,
     0,
     0,
     130},
};

struct Session {
  descent_network *network = nullptr;
  struct plan *plan = nullptr;
  struct plan_handles at = {};
  struct backend_device *device = nullptr;
  struct backend_program *program = nullptr;
  std::vector<float> X, y;
  struct permutation order = {};

  ~Session() {
    if (program) backend_cpu.release(program);
    if (device) backend_cpu.close(device);
    plan_free(plan);
    descent_network_free(network);
  }

  void open(const Case &c, int threads) {
    const bool squared = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
    const int64_t outputs = c.widths.back(), rows = 3 * c.batch + 1, n_y = squared ? outputs : 1;
    std::vector<descent_activation> activations(c.widths.size() - 1, c.activation);
    activations.back() = DESCENT_ACTIVATION_IDENTITY;
    descent_network_options shape = descent_network_options_default();
    shape.inputs = c.widths[0];
    shape.layers = (int32_t)c.widths.size() - 1;
    shape.widths = c.widths.data() + 1;
    shape.activations = activations.data();
    shape.loss = c.loss;
    OK(descent_network_create(&shape, &network));
    OK(descent_network_initialise(network, DESCENT_INIT_AUTO, 5));
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = c.optimizer;
    options.dropout = c.dropout;
    options.label_smoothing = c.label_smoothing;
    options.optimizer.momentum = c.momentum;
    options.optimizer.clip_norm = c.clip_norm;
    const bool has_trust = c.optimizer == DESCENT_OPTIMIZER_LARS || c.optimizer == DESCENT_OPTIMIZER_LAMB;
    options.optimizer.weight_decay = has_trust ? 0.05 : 0;
    options.seed = 9;
    OK(plan_build(network, &options, c.batch, &plan, &at));
    OK(backend_cpu.open(0, threads, &device));
    OK(backend_cpu.compile(device, plan, &program));
    X.resize((size_t)(rows * c.widths[0]));
    y.resize((size_t)(rows * n_y));
    for (size_t i = 0; i < X.size(); i++) X[i] = (float)rng_uniform(1, RNG_SYNTHETIC, 0, 0, i) * 2 - 1;
    for (size_t i = 0; i < y.size(); i++)
      y[i] =
          squared ? (float)rng_uniform(1, RNG_SYNTHETIC, 1, 0, i) : (float)((int64_t)i % (outputs > 1 ? outputs : 2));
    order = permutation_create(3, RNG_SHUFFLE, 0, (uint64_t)rows);
    OK(backend_cpu.bind(program, at.source_X, DESCENT_DTYPE_F32, X.data(), rows, false));
    OK(backend_cpu.bind(program, at.source_y, DESCENT_DTYPE_F32, y.data(), rows, false));
    OK(backend_cpu.write(program, at.parameters, 0, network->n_parameters, PLAN_F32, network->parameters));
    const std::vector<float> ones((size_t)n_y, 1.0f);
    if (at.y_scale != PLAN_NONE) {
      OK(backend_cpu.write(program, at.y_scale, 0, n_y, PLAN_F32, ones.data()));
    }
  }

  struct plan_step step(int64_t number) const {
    struct plan_step s = {};
    s.number = number;
    s.rows = number % 3 == 0 ? plan->batch / 2 + 1 : plan->batch; /* some batches are not full */
    s.first_row = (number % 2) * plan->batch;
    s.learning_rate = 1e-3;
    s.order = &order;
    return s;
  }

  std::vector<double> values(int buffer) const {
    const struct plan_buffer &b = plan->buffers[buffer];
    std::vector<double> v((size_t)(b.rows * b.cols));
    EXPECT_EQ(backend_cpu.read(program, buffer, 0, b.rows * b.cols, PLAN_F64, v.data()), DESCENT_OK);
    return v;
  }
};

/* The bytes of everything that training writes. */
std::string trained(const Case &c, int threads) {
  Session s;
  s.open(c, threads);
  std::vector<struct plan_step> steps;
  for (int64_t number = 1; number <= 20; number++) steps.push_back(s.step(number));
  EXPECT_EQ(backend_cpu.run(s.program, s.plan->train, steps.data(), 19), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(backend_cpu.run(s.program, s.plan->train_with_statistics, &steps[19], 1), DESCENT_OK)
      << descent_last_error();
  std::string bytes;
  for (int buffer = 0; buffer < s.plan->n_buffers; buffer++)
    if (s.plan->buffers[buffer].storage == PLAN_STATE) {
      const std::vector<double> v = s.values(buffer);
      for (double x : v) EXPECT_TRUE(std::isfinite(x)) << c.name << " " << s.plan->buffers[buffer].name;
      bytes.append((const char *)v.data(), v.size() * sizeof v[0]);
    }
  return bytes;
}

TEST(CpuBackend, LeavesTheSameBytesOnAnyNumberOfThreads) {
  for (const Case &c : cases) {
    const std::string alone = trained(c, 1);
    for (int threads : {1, 2, 3, 7}) EXPECT_TRUE(trained(c, threads) == alone) << c.name << ", " << threads;
  }
}

/* Its spans of the flat buffers are others, and in lars and lamb W and b have other coefficients. */
TEST(CpuBackend, UpdatesAlikeWithAndWithoutMeasuring) {
  for (const Case &c : cases) {
    Session plain, measured;
    plain.open(c, 2);
    measured.open(c, 2);
    for (int64_t number = 1; number <= 3; number++) {
      const struct plan_step step = plain.step(number);
      OK(backend_cpu.run(plain.program, plain.plan->train, &step, 1));
      const struct plan_step same = measured.step(number);
      OK(backend_cpu.run(measured.program, measured.plan->train_with_statistics, &same, 1));
    }
    for (int buffer : {plain.at.parameters, plain.at.moment1, plain.at.moment2})
      if (buffer != PLAN_NONE) {
        EXPECT_EQ(plain.values(buffer), measured.values(buffer)) << c.name;
      }
  }
}

/* How far a dot product of n terms in float32 may be from the exact one: gamma(n) sum |x y| (Higham 2002, 3.1). */
double dot_bound(int64_t n, double magnitude) {
  const double u = 0x1p-24;
  return (double)n * u / (1 - (double)n * u) * magnitude;
}

TEST(CpuBackend, SumsWeightGradientsOfALongBatchOverAllItsRows) {
  const Case &c = cases[3];
  Session s;
  s.open(c, 2);
  const struct plan_step step = s.step(1);
  for (int i = 0; i < s.plan->train.count; i++) {
    const struct plan_op &op = s.plan->ops[s.plan->train.first + i];
    OK(backend_cpu.run(s.program, {s.plan->train.first + i, 1}, &step, 1));
    if (op.kind != OP_DENSE_BACKWARD_WEIGHTS) continue;
    const struct plan_dense_backward_weights &o = op.weights;
    const std::vector<double> dZ = s.values(o.dZ), A = s.values(o.A_in), g = s.values(o.gradients);
    for (int64_t j = 0; j < o.n_out; j++)
      for (int64_t k = 0; k <= o.n_in; k++) { /* k = n_in: the bias, whose input is 1 */
        double exact = 0, magnitude = 0;
        for (int64_t r = 0; r < step.rows; r++) {
          const double term = dZ[(size_t)(r * o.n_out + j)] * (k < o.n_in ? A[(size_t)(r * o.n_in + k)] : 1);
          exact += term;
          magnitude += std::fabs(term);
        }
        const double ours = g[(size_t)(k < o.n_in ? o.W + j * o.n_in + k : o.b + j)];
        ASSERT_LE(std::fabs(ours - exact), dot_bound(step.rows, magnitude)) << "layer " << op.layer << " " << j << k;
      }
  }
}

TEST(CpuBackend, StopsAtTheFirstStepThatIsNotFiniteAndKeepsTheParametersBeforeIt) {
  for (const Case &c : cases) {
    Session s;
    s.open(c, 2);
    const struct plan_step good = s.step(1);
    OK(backend_cpu.run(s.program, s.plan->train, &good, 1));
    const std::vector<double> before = s.values(s.at.parameters), totals = s.values(s.at.scalars);
    for (float &x : s.X) x = std::numeric_limits<float>::infinity();
    std::vector<struct plan_step> steps = {s.step(2), s.step(3), s.step(4)};
    OK(backend_cpu.run(s.program, s.plan->train, steps.data(), 3));
    const std::vector<double> scalars = s.values(s.at.scalars);
    EXPECT_EQ(scalars[SCALAR_BAD_STEP], 2) << c.name;
    EXPECT_EQ(scalars[SCALAR_TOTAL_WEIGHT], totals[SCALAR_TOTAL_WEIGHT]) << c.name;
    EXPECT_EQ(s.values(s.at.parameters), before) << c.name;
    for (float &x : s.X) x = 0.5f; /* a good step does not clear the mark */
    OK(backend_cpu.run(s.program, s.plan->train, &steps[1], 2));
    EXPECT_EQ(s.values(s.at.scalars)[SCALAR_BAD_STEP], 2) << c.name;
    EXPECT_EQ(s.values(s.at.parameters), before) << c.name;
  }
}

TEST(CpuBackend, RefusesRangesOutsideItsBuffers) {
  Session s;
  s.open(cases[0], 1);
  std::vector<double> v(4);
  const int64_t n = s.network->n_parameters;
  EXPECT_EQ(backend_cpu.read(s.program, s.at.parameters, n - 3, 4, PLAN_F64, v.data()), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.write(s.program, s.at.parameters, -1, 1, PLAN_F64, v.data()), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.write(s.program, s.at.parameters, INT64_MAX, 4, PLAN_F64, v.data()), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.read(s.program, s.plan->n_buffers, 0, 1, PLAN_F64, v.data()), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.read(s.program, s.at.source_X, 0, 1, PLAN_F64, v.data()), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.read(s.program, s.at.parameters, 0, 1, PLAN_I64, v.data()), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.bind(s.program, s.at.parameters, DESCENT_DTYPE_F32, v.data(), 1, false),
            DESCENT_ERROR_ARGUMENT);

  struct Bad {
    const char *why;
    int64_t first_row, rows;
  };
  for (const Bad &bad : {Bad{"no rows", 0, 0}, Bad{"more than a batch", 0, 65}, Bad{"before the first", -1, 2},
                         Bad{"beyond the last", 150, 64}}) {
    struct plan_step step = s.step(1);
    step.first_row = bad.first_row;
    step.rows = bad.rows;
    EXPECT_EQ(backend_cpu.run(s.program, s.plan->train, &step, 1), DESCENT_ERROR_ARGUMENT) << bad.why;
  }
  OK(backend_cpu.bind(s.program, s.at.source_X, DESCENT_DTYPE_F32, nullptr, 0, false));
  const struct plan_step step = s.step(1);
  EXPECT_EQ(backend_cpu.run(s.program, s.plan->train, &step, 1), DESCENT_ERROR_ARGUMENT) << "nothing bound";
}

TEST(CpuBackend, RefusesPrecisionsItDoesNotHaveAndDevicesThatAreNotThere) {
  Session s;
  s.open(cases[0], 1);
  s.plan->precision = DESCENT_PRECISION_BF16;
  EXPECT_FALSE(backend_cpu.supports(s.device, s.plan, &s.plan->ops[0]));
  EXPECT_NE(std::strstr(descent_last_error(), "bf16"), nullptr) << descent_last_error();
  struct backend_program *program = nullptr;
  EXPECT_EQ(backend_cpu.compile(s.device, s.plan, &program), DESCENT_ERROR_UNSUPPORTED);
  s.plan->precision = DESCENT_PRECISION_FP32;
  struct backend_device *device = nullptr;
  EXPECT_EQ(backend_cpu.open(1, 1, &device), DESCENT_ERROR_DEVICE);
  EXPECT_EQ(backend_cpu.open(0, 257, &device), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(backend_cpu.open(0, -1, &device), DESCENT_ERROR_ARGUMENT);
}

TEST(CpuBackend, RunsProductsAloneOnlyOfOperationsThatHaveOne) {
  Session s;
  s.open(cases[1], 2);
  const struct plan_step step = s.step(1);
  OK(backend_cpu.run(s.program, s.plan->train, &step, 1));
  for (int i = 0; i < s.plan->n_ops; i++) {
    const enum plan_op_kind kind = s.plan->ops[i].kind;
    const bool dense = kind == OP_DENSE_FORWARD || kind == OP_DENSE_BACKWARD_INPUT || kind == OP_DENSE_BACKWARD_WEIGHTS;
    EXPECT_EQ(backend_cpu.run_product(s.program, i, step.rows, 2), dense ? DESCENT_OK : DESCENT_ERROR_ARGUMENT) << i;
  }
}

}  // namespace
