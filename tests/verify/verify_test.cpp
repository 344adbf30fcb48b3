/* descent_verify: passes a right device for everything that can be trained, and names the one operation that a faulty
 * device gets wrong. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cuda_module.h"
#include "internal.h"
#include "op_output.h"
#include "plan/operations.h"
#include "simulated.h"

namespace {

struct Closer {
  void operator()(descent_device *device) const { descent_device_close(device); }
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Device = std::unique_ptr<descent_device, Closer>;
using Network = std::unique_ptr<descent_network, Closer>;

Device open(const char *name, int threads) {
  descent_device *device = nullptr;
  EXPECT_EQ(descent_device_open(name, threads, &device), DESCENT_OK) << descent_last_error();
  return Device(device);
}

/* 5 inputs, hidden layers of 7 and 4, outputs as the loss wants them. */
Network make_network(descent_activation activation, descent_loss loss) {
  const int64_t widths[] = {7, 4, loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3};
  const descent_activation output = loss_is_regression(loss) ? activation : DESCENT_ACTIVATION_IDENTITY;
  const descent_activation activations[] = {activation, activation, output};
  descent_network_options options = descent_network_options_default();
  options.inputs = 5;
  options.layers = 3;
  options.widths = widths;
  options.activations = activations;
  options.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, 7), DESCENT_OK) << descent_last_error();
  return Network(network);
}

/* Two batches of 8 rows and one of 7. */
constexpr int64_t kRows = 23, kSteps = 4;
descent_train_options train_options(descent_optimizer optimizer) {
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = optimizer;
  options.batch_size = 8;
  options.seed = 11;
  return options;
}

struct Row {
  std::string operation;
  descent_verify_row values;
};
struct Result {
  descent_status status;
  bool passed = false;
  std::vector<Row> rows;
  std::vector<std::string> failed;
};

void take_row(void *user, const descent_verify_row *row) {
  auto *result = static_cast<Result *>(user);
  result->rows.push_back({row->operation, *row});
  if (!row->pass) result->failed.push_back(row->operation);
}

Result verify(const descent_network *network, descent_device *candidate, descent_device *reference,
              const descent_train_options &options) {
  Result result;
  result.status =
      descent_verify(network, candidate, reference, &options, kRows, kSteps, take_row, &result, &result.passed);
  return result;
}

std::string failures(const Result &result) {
  std::string text;
  for (const Row &row : result.rows)
    if (!row.values.pass)
      text += row.operation + ": error " + std::to_string(row.values.largest_error) + " of bound " +
              std::to_string(row.values.bound) + ", " + std::to_string(row.values.error_to_bound) + "\n";
  return text;
}

/* A device and a precision that it computes in. */
struct Candidate {
  const char *device;
  descent_precision precision;
};

class VerifyDevice : public testing::TestWithParam<Candidate> {};

INSTANTIATE_TEST_SUITE_P(Devices, VerifyDevice,
                         testing::Values(Candidate{"cpu", DESCENT_PRECISION_FP32},
                                         Candidate{"cuda", DESCENT_PRECISION_FP32},
                                         Candidate{"cuda", DESCENT_PRECISION_TF32},
                                         Candidate{"cuda", DESCENT_PRECISION_BF16}),
                         [](const testing::TestParamInfo<Candidate> &row) {
                           return std::string(row.param.device) + "_" + descent_precision_name(row.param.precision);
                         });

#ifdef __SANITIZE_ADDRESS__ /* many times as slow: every activation with every loss, every optimizer with one of them */
bool is_left_out(int activation, int loss, int optimizer) {
  return activation > 0 && optimizer != (activation + loss) % N_OPTIMIZERS;
}
#else
bool is_left_out(int, int, int) { return false; }
#endif

TEST_P(VerifyDevice, PassesForEveryActivationLossOptimizerAndOption) {
  const struct {
    const char *name;
    void (*set)(descent_train_options *options, descent_loss loss);
  } variants[] = {
      {"plain", [](descent_train_options *, descent_loss) {}},
      {"everything on",
       [](descent_train_options *o, descent_loss loss) {
         o->dropout = 0.3;
         o->optimizer.clip_norm = 0.05;
         o->optimizer.l2 = 0.01;
         o->optimizer.weight_decay = 0.1;
         o->optimizer.momentum = 0.9;
         o->optimizer.nesterov = o->optimizer.kind == DESCENT_OPTIMIZER_SGD;
         if (loss_is_regression(loss)) return;
         o->label_smoothing = 0.1;
         o->balance_classes = true;
       }},
  };
  const Device device = open(GetParam().device, 2), reference = open("reference", 1);
  for (int a = 0; a < N_ACTIVATIONS; a++)
    for (int l = 0; l < N_LOSSES; l++)
      for (int o = 0; o < N_OPTIMIZERS; o++)
        for (const auto &variant : variants) {
          if (is_left_out(a, l, o)) continue;
          const auto activation = static_cast<descent_activation>(a);
          const auto loss = static_cast<descent_loss>(l);
          const auto optimizer = static_cast<descent_optimizer>(o);
          SCOPED_TRACE(std::string(descent_activation_name(activation)) + " " + descent_loss_name(loss) + " " +
                       descent_optimizer_name(optimizer) + " " + variant.name);
          const Network network = make_network(activation, loss);
          descent_train_options options = train_options(optimizer);
          options.precision = GetParam().precision;
          variant.set(&options, loss);
          const bool is_fused = options.dropout > 0 && device->backend->fused_with != nullptr;
          if (is_fused) options.gpu.fusion = DESCENT_FUSION_ON;
          const Result result = verify(network.get(), device.get(), reference.get(), options);
          ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
          EXPECT_TRUE(result.passed) << failures(result);
          if (is_fused) {
            EXPECT_EQ(result.rows.back().operation, "fused predict: predictions");
          }
        }
}

TEST(Verify, EveryOperationHasOneRowThatComparedValues) {
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  const Network network = make_network(DESCENT_ACTIVATION_GELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Result result = verify(network.get(), cpu.get(), reference.get(), train_options(DESCENT_OPTIMIZER_ADAM));
  ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
  const char *const expected[] = {"gather",
                                  "dense_forward layer 1",
                                  "dense_forward layer 2",
                                  "dense_forward layer 3",
                                  "statistics layer 1",
                                  "statistics layer 2",
                                  "statistics layer 3",
                                  "loss",
                                  "dense_backward_weights layer 3",
                                  "dense_backward_input layer 3",
                                  "dense_backward_weights layer 2",
                                  "dense_backward_input layer 2",
                                  "dense_backward_weights layer 1",
                                  "gradient_norm",
                                  "update",
                                  "metrics",
                                  "backward: backward_output",
                                  "backward: dense_backward_weights layer 3",
                                  "backward: dense_backward_input layer 3",
                                  "backward: dense_backward_weights layer 2",
                                  "backward: dense_backward_input layer 2",
                                  "backward: dense_backward_weights layer 1",
                                  "backward: dense_backward_input layer 1",
                                  "backward: accumulate",
                                  "evaluate: gather",
                                  "evaluate: dense_forward layer 1",
                                  "evaluate: dense_forward layer 2",
                                  "evaluate: dense_forward layer 3",
                                  "evaluate: loss",
                                  "evaluate: metrics",
                                  "evaluate: output",
                                  "predict: gather",
                                  "predict: dense_forward layer 1",
                                  "predict: dense_forward layer 2",
                                  "predict: dense_forward layer 3",
                                  "predict: output"};
  ASSERT_EQ(result.rows.size(), std::size(expected));
  for (size_t i = 0; i < result.rows.size(); i++) {
    const descent_verify_row &row = result.rows[i].values;
    EXPECT_EQ(result.rows[i].operation, expected[i]);
    EXPECT_GT(row.values, 0) << expected[i];
    EXPECT_LE(row.error_to_bound, 1) << expected[i];
    EXPECT_LE(row.largest_error, row.bound) << expected[i];
  }
}

TEST(Verify, NeitherTheNetworkNorTheResultDependsOnHavingVerified) {
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  const Network network = make_network(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const std::vector<float> before(network->parameters, network->parameters + network->n_parameters);
  const descent_train_options options = train_options(DESCENT_OPTIMIZER_SGD);
  const Result first = verify(network.get(), cpu.get(), reference.get(), options);
  const Result second = verify(network.get(), cpu.get(), reference.get(), options);
  EXPECT_EQ(before, std::vector<float>(network->parameters, network->parameters + network->n_parameters));
  ASSERT_EQ(first.rows.size(), second.rows.size());
  for (size_t i = 0; i < first.rows.size(); i++) {
    EXPECT_EQ(first.rows[i].values.largest_error, second.rows[i].values.largest_error) << first.rows[i].operation;
    EXPECT_EQ(first.rows[i].values.values, second.rows[i].values.values) << first.rows[i].operation;
  }
}

/* ---- a device that is wrong in one place ---- */

enum Fault { ADDS, GIVES_NAN, GIVES_INFINITY, LEAVES_OUT, ROUNDS_OTHERWISE };

/* The fault of the wrong device, since the table of functions cannot hold state. */
struct {
  const plan *its_plan;
  int op; /* at which it is wrong */
  Fault fault;
} wrong;

descent_status wrong_compile(backend_device *device, const plan *p, backend_program **program) {
  wrong.its_plan = p;
  return backend_cpu.compile(device, p, program);
}

descent_status wrong_run(backend_program *program, plan_range range, const plan_step *steps, int64_t n_steps) {
  if (range.first != wrong.op) return backend_cpu.run(program, range, steps, n_steps);
  if (wrong.fault == LEAVES_OUT) return DESCENT_OK;
  descent_status status = backend_cpu.run(program, range, steps, n_steps);
  int buffer = PLAN_NONE;
  int64_t offset = 0;
  output_of(wrong.its_plan, wrong.its_plan->ops[range.first], &buffer, &offset);
  double value = 0;
  if (status == DESCENT_OK) status = backend_cpu.read(program, buffer, offset, 1, PLAN_F64, &value);
  if (wrong.fault == GIVES_NAN) value = std::nan("");
  if (wrong.fault == GIVES_INFINITY) value = std::numeric_limits<double>::infinity();
  if (wrong.fault == ROUNDS_OTHERWISE) value = static_cast<double>(std::nextafterf(static_cast<float>(value), 1e9f));
  if (wrong.fault == ADDS) value += 1e-3 * (1 + std::fabs(value)); /* over 1000 times any bound here */
  if (status == DESCENT_OK) status = backend_cpu.write(program, buffer, offset, 1, PLAN_F64, &value);
  return status;
}

bool inside(int op, plan_range range) { return op >= range.first && op < range.first + range.count; }

TEST(Verify, AWrongValueFailsTheOperationThatWroteItAndNoOther) {
  backend table = backend_cpu;
  table.compile = wrong_compile;
  table.run = wrong_run;
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  descent_device candidate = *cpu;
  candidate.backend = &table;
  const Network network = make_network(DESCENT_ACTIVATION_SILU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const descent_train_options options = train_options(DESCENT_OPTIMIZER_ADAM);
  plan *p = nullptr;
  plan_handles handles;
  const unsigned all_parts = PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT | PLAN_PART_ACCUMULATE;
  ASSERT_EQ(plan_build_with(network.get(), &options, all_parts, options.batch_size, &p, &handles), DESCENT_OK);
  const std::unique_ptr<plan, void (*)(plan *)> owner(p, plan_free);
  for (wrong.op = 0; wrong.op < p->n_ops; wrong.op++)
    for (Fault fault : {ADDS, GIVES_NAN, GIVES_INFINITY, LEAVES_OUT})
      for (const Device *against : {&reference, &cpu}) {
        wrong.fault = fault;
        char name[64];
        plan_op_name(&p->ops[wrong.op], name, sizeof name);
        const bool backward = inside(wrong.op, p->backward) || inside(wrong.op, p->input_gradient) ||
                              inside(wrong.op, p->keep_gradients) || inside(wrong.op, p->add_gradients);
        const char *prefix = backward                        ? "backward: "
                             : inside(wrong.op, p->evaluate) ? "evaluate: "
                             : inside(wrong.op, p->predict)  ? "predict: "
                                                             : "";
        const std::string expected = std::string(prefix) + name;
        SCOPED_TRACE(expected + " (operation " + std::to_string(wrong.op) + "), fault " + std::to_string(fault));
        const Result result = verify(network.get(), &candidate, against->get(), options);
        ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
        EXPECT_FALSE(result.passed);
        EXPECT_EQ(result.failed, std::vector<std::string>{expected});
      }
}

TEST(Verify, ADeviceThatRoundsOtherwisePasses) {
  backend table = backend_cpu;
  table.compile = wrong_compile;
  table.run = wrong_run;
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  descent_device candidate = *cpu;
  candidate.backend = &table;
  const Network network = make_network(DESCENT_ACTIVATION_SILU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  wrong.op = 1; /* the first layer's output, whose bound spans several units in the last place */
  wrong.fault = ROUNDS_OTHERWISE;
  for (const Device *against : {&reference, &cpu}) {
    const Result result = verify(network.get(), &candidate, against->get(), train_options(DESCENT_OPTIMIZER_ADAM));
    ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
    EXPECT_TRUE(result.passed) << failures(result);
    EXPECT_GT(result.rows[1].values.largest_error, 0);
  }
}

TEST(Verify, TrainingThatDivergesInExactArithmeticIsNotHeldAgainstTheDevice) {
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  const Network network = make_network(DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  descent_train_options options = train_options(DESCENT_OPTIMIZER_GD);
  options.optimizer.learning_rate = 1e20;
  const Result result = verify(network.get(), cpu.get(), reference.get(), options);
  EXPECT_EQ(result.status, DESCENT_ERROR_DIVERGED);
  EXPECT_TRUE(result.rows.empty());
  EXPECT_NE(std::string(descent_last_error()).find("learning rate"), std::string::npos) << descent_last_error();
}

TEST(Verify, ADeviceMayBeComparedWithAnyOther) {
  const Device one = open("cpu", 1), two = open("cpu", 2);
  const Network network = make_network(DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Result result = verify(network.get(), one.get(), two.get(), train_options(DESCENT_OPTIMIZER_RMSPROP));
  ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
  EXPECT_TRUE(result.passed) << failures(result);
}

/* ---- a device that computes several operations in one kernel ---- */

/* The operations from the first layer on, as one; in a run of the whole range a value may be wrong. */
struct {
  plan_op_kind kind; /* of the operation whose result is wrong in such a run; OP_KINDS: of none */
  int layer;
  bool is_missing; /* as before; else off by a thousandth */
} wrong_as_one;

descent_status run_as_one(backend_program *program, plan_range range, const plan_step *steps, int64_t n_steps) {
  descent_status status = DESCENT_OK;
  for (int64_t s = 1; s < n_steps && status == DESCENT_OK; s++, steps++) status = run_as_one(program, range, steps, 1);
  for (int i = range.first; i < range.first + range.count && status == DESCENT_OK; i++) {
    const plan_op &op = program->plan->ops[i];
    const bool is_wrong =
        range.count > 1 && op.kind == wrong_as_one.kind && (op.layer == wrong_as_one.layer || !op.layer);
    int buffer = PLAN_NONE;
    int64_t offset = 0;
    output_of(program->plan, op, &buffer, &offset);
    double &value = reference_values(program, buffer)[offset];
    const double before = value;
    status = simulated::run(program, plan_range{i, 1}, steps, 1);
    if (is_wrong) value = wrong_as_one.is_missing ? before : value * 1.001;
  }
  return status;
}

TEST(Verify, SeveralOperationsInOneKernelAreComparedAsOne) {
  backend table = simulated::table();
  table.fused_with = simulated::fused_with;
  table.run = run_as_one;
  const Device reference = open("reference", 1);
  descent_device candidate = *reference;
  candidate.backend = &table;
  const Network network = make_network(DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const struct {
    plan_op_kind kind;
    int layer;
    std::vector<std::string> failed;
  } cases[] = {
      {OP_KINDS, 0, {}},
      {OP_LOSS, 3, {"fused: loss", "fused evaluate: loss"}},
      {OP_DENSE_BACKWARD_WEIGHTS, 2, {"fused: gradients layer 2"}},
      {OP_OUTPUT, 0, {"fused evaluate: predictions", "fused predict: predictions"}},
  };
  const std::vector<std::string> expected = {"fused: loss",
                                             "fused: gradients layer 1",
                                             "fused: gradients layer 2",
                                             "fused: gradients layer 3",
                                             "fused train: parameters",
                                             "fused train: moment1",
                                             "fused train: moment2",
                                             "fused train: scalars",
                                             "fused train: gradients",
                                             "fused train: layer_statistics",
                                             "fused train: X",
                                             "fused train: y",
                                             "fused train: w",
                                             "fused evaluate: loss",
                                             "fused evaluate: predictions",
                                             "fused predict: predictions"};
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16})
    for (const auto &c : cases)
      for (const bool is_missing : {false, true}) {
        SCOPED_TRACE(std::string(descent_precision_name(precision)) + ", operation " + std::to_string(c.kind) +
                     (is_missing ? " missing" : " wrong"));
        descent_train_options options = train_options(DESCENT_OPTIMIZER_ADAM);
        options.precision = precision;
        simulated::manner = {true, false, false, true, simulated::TOGETHER, 1, simulated::RIGHT};
        wrong_as_one = {c.kind, c.layer, is_missing};
        const Result result = verify(network.get(), &candidate, reference.get(), options);
        simulated::manner = {};
        ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
        EXPECT_EQ(result.passed, c.failed.empty());
        EXPECT_EQ(result.failed, c.failed) << failures(result);
        std::vector<std::string> fused;
        for (const Row &row : result.rows) {
          if (row.operation.compare(0, 5, "fused") != 0) continue;
          fused.push_back(row.operation);
          EXPECT_GT(row.values.values, 0);
          EXPECT_LT(row.values.bound, 0.02) << row.operation;
        }
        EXPECT_EQ(fused, expected);
      }
}

/* A value that a training step at once leaves as it was. */
struct {
  std::string buffer; /* "": none */
  int64_t offset;
  bool is_last_bit; /* off by its last bit in float32 instead */
} kept_at_once;

descent_status run_at_once(backend_program *program, plan_range range, const plan_step *steps, int64_t n_steps) {
  const plan &p = *program->plan;
  descent_status status = DESCENT_OK;
  if (range.first != p.train.first || range.count != p.train.count || kept_at_once.buffer.empty())
    return simulated::run(program, range, steps, n_steps);
  int buffer = 0;
  while (p.buffers[buffer].name != kept_at_once.buffer) buffer++;
  double &value = reference_values(program, buffer)[kept_at_once.offset];
  for (int64_t i = 0; i < n_steps && status == DESCENT_OK; i++) {
    const double before = value;
    status = simulated::run(program, range, &steps[i], 1);
    value = kept_at_once.is_last_bit ? std::nextafterf(static_cast<float>(value), 1e9F) : before;
  }
  return status;
}

/* The bounds of several layers are for gradients; a kernel of a whole step does more. */
TEST(Verify, ATrainingStepAtOnceLeavesTheBitsOfItsParts) {
  backend table = simulated::table();
  table.fused_with = simulated::fused_with;
  table.run = run_at_once;
  const Device reference = open("reference", 1);
  descent_device candidate = *reference;
  candidate.backend = &table;
  const Network network = make_network(DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const struct {
    const char *buffer;
    int64_t offset;
    std::vector<std::string> failed;
  } cases[] = {
      {"", 0, {}},
      {"parameters", 0, {"parameters"}},
      {"parameters", 17, {"parameters"}},
      {"moment1", 1, {"moment1"}},
      {"moment2", 1, {"moment2"}},
      {"scalars", SCALAR_TOTAL_LOSS, {"scalars"}},
      {"scalars", SCALAR_TOTAL_WEIGHT, {"scalars"}},
      {"scalars", SCALAR_LOSS, {"scalars"}},
      {"scalars", SCALAR_GRADIENT_NORM, {"scalars"}},
      {"scalars", SCALAR_CLIP, {"scalars"}},
      {"layer_statistics", LAYER_SLOTS + LAYER_GRADIENT, {"layer_statistics"}},
      {"gradients", 0, {"gradients"}},
      {"X", 7, {"X"}},
      {"y", 2, {"y"}},
      {"w", 3, {"w"}},
  };
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16})
    for (const auto &c : cases)
      for (const bool is_last_bit : {false, true}) {
        SCOPED_TRACE(testing::Message() << descent_precision_name(precision) << ", " << c.buffer << " " << c.offset
                                        << (is_last_bit ? ", the last bit" : ", not written"));
        descent_train_options options = train_options(DESCENT_OPTIMIZER_ADAM);
        options.precision = precision;
        options.balance_classes = true;
        options.optimizer.clip_norm = 0.05;
        options.optimizer.l2 = 0.01;
        simulated::manner = {true, false, false, true, simulated::TOGETHER, 1, simulated::RIGHT};
        kept_at_once = {c.buffer, c.offset, is_last_bit};
        const Result result = verify(network.get(), &candidate, reference.get(), options);
        simulated::manner = {};
        ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
        EXPECT_EQ(result.passed, c.failed.empty());
        for (const std::string &name : result.failed) EXPECT_EQ(name.find("fused train: "), 0u) << name;
        for (const std::string &name : c.failed)
          EXPECT_NE(std::find(result.failed.begin(), result.failed.end(), "fused train: " + name), result.failed.end())
              << failures(result);
        /* What a step leaves wrong beside its state is no input of the next one. */
        if (!c.failed.empty() && c.failed[0] != "parameters" && c.failed[0].find("moment") != 0) {
          EXPECT_EQ(result.failed.size(), 1u) << failures(result);
        }
      }
}

/* ---- reduced precisions ---- */

TEST(Verify, ADeviceThatRoundsAsAPrecisionAllowsPassesInIt) {
  const Device reference = open("reference", 1);
  descent_device candidate = *reference;
  candidate.backend = &simulated::table();
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16})
    for (int a = 0; a < N_ACTIVATIONS; a++)
      for (int l = 0; l < N_LOSSES; l++)
        for (simulated::Way way : {simulated::TOGETHER, simulated::APART})
          for (descent_device *against : {reference.get(), &candidate}) {
            const auto activation = static_cast<descent_activation>(a);
            const auto loss = static_cast<descent_loss>(l);
            SCOPED_TRACE(std::string(descent_precision_name(precision)) + " " + descent_activation_name(activation) +
                         " " + descent_loss_name(loss) + ", way " + std::to_string(way));
            const Network network = make_network(activation, loss);
            descent_train_options options = train_options(DESCENT_OPTIMIZER_ADAM);
            options.precision = precision;
            options.dropout = 0.3;
            simulated::manner = {true, false, false, true, way, 1, simulated::RIGHT};
            const Result result = verify(network.get(), &candidate, against, options);
            simulated::manner = {};
            ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
            EXPECT_TRUE(result.passed) << failures(result);
          }
}

TEST(Verify, ADeviceThatRoundsMoreThanItsPrecisionAllowsFailsWhereItDoes) {
  const Device reference = open("reference", 1);
  descent_device candidate = *reference;
  candidate.backend = &simulated::table();
  const struct {
    simulated::Fault fault;
    descent_precision precision;
    const char *operation; /* one of those that fail */
  } cases[] = {
      {simulated::RIGHT, DESCENT_PRECISION_BF16, nullptr},
      {simulated::STORES_7_BITS, DESCENT_PRECISION_BF16, "gather"},
      {simulated::STORES_CUT, DESCENT_PRECISION_BF16, "loss"},
      {simulated::SUMS_IN_BF16, DESCENT_PRECISION_BF16, "dense_backward_weights layer 1"},
      {simulated::LOSES_THE_TAIL, DESCENT_PRECISION_BF16, "dense_forward layer 2"},
      {simulated::READS_8_BITS, DESCENT_PRECISION_TF32, "dense_backward_input layer 2"},
      {simulated::LOSES_THE_TAIL, DESCENT_PRECISION_TF32, "evaluate: dense_forward layer 3"},
  };
  const Network network = make_network(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  for (const auto &c : cases) {
    descent_train_options options = train_options(DESCENT_OPTIMIZER_ADAM);
    options.precision = c.precision;
    simulated::manner.fault = c.fault;
    const Result result = verify(network.get(), &candidate, reference.get(), options);
    simulated::manner = {};
    ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
    EXPECT_EQ(result.passed, c.operation == nullptr);
    for (const std::string &operation : result.failed) /* operations without products or stored operands are right */
      EXPECT_TRUE(operation.find("dense_") != std::string::npos || operation.find("gather") != std::string::npos ||
                  operation == "loss" || operation == "backward: backward_output")
          << operation << ", fault " << c.fault;
    if (!c.operation) continue;
    EXPECT_NE(std::find(result.failed.begin(), result.failed.end(), c.operation), result.failed.end())
        << c.operation << ", fault " << c.fault;
  }
}

TEST(Verify, ADeviceWithoutThePrecisionIsNamedWhetherCandidateOrReference) {
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  const Network network = make_network(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  descent_train_options options = train_options(DESCENT_OPTIMIZER_SGD);
  options.precision = DESCENT_PRECISION_BF16;
  const struct {
    descent_device *candidate, *reference;
    std::vector<const char *> said;
  } cases[] = {{cpu.get(), reference.get(), {"bf16", "the cpu computes in fp32", "use precision fp32"}},
               {reference.get(),
                cpu.get(),
                {"reference cpu", "bf16", "the cpu computes in fp32", "use the device 'reference'"}}};
  for (const auto &c : cases) {
    const Result result = verify(network.get(), c.candidate, c.reference, options);
    EXPECT_EQ(result.status, DESCENT_ERROR_UNSUPPORTED);
    EXPECT_TRUE(result.rows.empty());
    for (const char *said : c.said)
      EXPECT_NE(std::string(descent_last_error()).find(said), std::string::npos) << descent_last_error();
  }
}

/* The device that it is compared with need not have kernels of several layers. */
TEST(Verify, FusionIsAskedOfTheCandidateAlone) {
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  const Network network = make_network(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  descent_train_options options = train_options(DESCENT_OPTIMIZER_SGD);
  options.gpu.fusion = DESCENT_FUSION_ON;
  backend fuses = *cpu->backend;
  fuses.fused_with = [](backend_program *, plan_range, int op) { return op; };
  descent_device candidate = *cpu;
  candidate.backend = &fuses;
  for (descent_device *against : {cpu.get(), reference.get()}) {
    const Result result = verify(network.get(), &candidate, against, options);
    ASSERT_EQ(result.status, DESCENT_OK) << descent_last_error();
    EXPECT_TRUE(result.passed) << failures(result);
    EXPECT_EQ(verify(network.get(), against, &candidate, options).status, DESCENT_ERROR_UNSUPPORTED);
  }
}

TEST(Verify, WhatCannotBeVerifiedIsRefused) {
  const Device cpu = open("cpu", 1), reference = open("reference", 1);
  const Network network = make_network(DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const descent_train_options good = train_options(DESCENT_OPTIMIZER_SGD);
  descent_train_options bad = good;
  bad.optimizer.nesterov = true; /* without momentum */
  const struct {
    const char *name;
    const descent_network *network;
    descent_device *candidate, *reference;
    const descent_train_options *options;
    int64_t rows, steps;
  } cases[] = {
      {"no network", nullptr, cpu.get(), reference.get(), &good, 1, 1},
      {"no candidate", network.get(), nullptr, reference.get(), &good, 1, 1},
      {"no reference", network.get(), cpu.get(), nullptr, &good, 1, 1},
      {"no options", network.get(), cpu.get(), reference.get(), nullptr, 1, 1},
      {"no rows", network.get(), cpu.get(), reference.get(), &good, 0, 1},
      {"no steps", network.get(), cpu.get(), reference.get(), &good, 1, 0},
      {"options that contradict", network.get(), cpu.get(), reference.get(), &bad, 1, 1},
  };
  for (const auto &c : cases) {
    bool passed = true;
    EXPECT_EQ(
        descent_verify(c.network, c.candidate, c.reference, c.options, c.rows, c.steps, nullptr, nullptr, &passed),
        DESCENT_ERROR_ARGUMENT)
        << c.name;
    EXPECT_TRUE(passed) << c.name << ": outputs are left untouched";
  }
}

}  // namespace
