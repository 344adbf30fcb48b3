/* descent_verify of training in micro-batches, on one rank and on several: it passes a right device, and names the operation
 * that is wrong, be it on one rank only. Threads stand for the ranks. */
#include <functional>
#include <optional>

extern "C" {
#include "core/clock.h"
}

#include "cuda_module.h"
#include "op_output.h"
#include "plan/operations.h"
#include "rank_threads.h"
#include "simulated.h"
#include "training.h"

namespace {

/* Two steps of 8 rows and one of a single row, of which most parts have none. */
constexpr int64_t kRows = 17, kSteps = 4, kWithStatistics = 1;

descent_train_options options_of(descent_optimizer optimizer, int64_t micro_batches) {
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = optimizer;
  options.batch_size = 8;
  options.seed = 11;
  options.dropout = 0.3;
  options.optimizer.clip_norm = 0.05;
  options.optimizer.weight_decay = 0.1;
  options.ranks.micro_batches = micro_batches;
  return options;
}

/* 5 inputs, hidden layers of 7 and 4, outputs as the loss wants them. */
Network network_of(descent_loss loss, descent_activation hidden = DESCENT_ACTIVATION_TANH) {
  return make_network({5, 7, 4, loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3}, hidden, loss, 7);
}

struct Result {
  descent_status status = DESCENT_OK;
  std::string error;
  bool passed = false;
  std::vector<std::string> operations, failed;
  std::vector<descent_verify_row> rows;
};

Result verify(const descent_network *network, descent_device *candidate, descent_device *reference,
              const descent_train_options &options, int64_t rows = kRows, int64_t steps = kSteps,
              bool wants_passed = true) {
  Result result;
  const auto take = [](void *user, const descent_verify_row *row) {
    auto *taken = static_cast<Result *>(user);
    taken->operations.emplace_back(row->operation);
    taken->rows.push_back(*row);
    if (!row->pass) taken->failed.emplace_back(row->operation);
  };
  result.status = descent_verify(network, candidate, reference, &options, rows, steps, take, &result,
                                 wants_passed ? &result.passed : nullptr);
  if (result.status != DESCENT_OK) result.error = descent_last_error();
  return result;
}

std::string failures(const Result &result) {
  std::string text = result.error;
  for (size_t i = 0; i < result.rows.size(); i++)
    if (!result.rows[i].pass)
      text += result.operations[i] + ": error " + std::to_string(result.rows[i].largest_error) + " of bound " +
              std::to_string(result.rows[i].bound) + "\n";
  return text;
}

const descent_verify_row &row_of(const Result &result, const std::string &operation) {
  static const descent_verify_row none{};
  for (size_t i = 0; i < result.rows.size(); i++)
    if (result.operations[i] == operation) return result.rows[i];
  ADD_FAILURE() << "no row " << operation;
  return none;
}

/* ---- a right device ---- */

TEST(VerifyParts, PassForEveryOptimizerLossAndNumber) {
  const Device cpu = open_device("cpu"), reference = open_device("reference");
  for (int o = 0; o < N_OPTIMIZERS; o++)
    for (int l = 0; l < N_LOSSES; l++)
      for (const int64_t M : {2, 3, 4, 5, 8}) {
        const auto optimizer = static_cast<descent_optimizer>(o);
        const auto loss = static_cast<descent_loss>(l);
        SCOPED_TRACE(testing::Message() << descent_optimizer_name(optimizer) << " " << descent_loss_name(loss) << " "
                                        << M);
        const Network network = network_of(loss, l == 0 ? DESCENT_ACTIVATION_SILU : DESCENT_ACTIVATION_RELU);
        descent_train_options options = options_of(optimizer, M);
        options.balance_classes = !loss_is_regression(loss);
        const Result result = verify(network.get(), cpu.get(), reference.get(), options);
        ASSERT_EQ(result.status, DESCENT_OK) << result.error;
        EXPECT_TRUE(result.passed) << failures(result);
        EXPECT_GT(row_of(result, "combine").values, 0);
      }
}

class VerifyPartsDevice : public testing::TestWithParam<descent_precision> {};
INSTANTIATE_TEST_SUITE_P(Cuda, VerifyPartsDevice,
                         testing::Values(DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16),
                         [](const testing::TestParamInfo<descent_precision> &row) {
                           return std::string("cuda_") + descent_precision_name(row.param);
                         });

TEST_P(VerifyPartsDevice, PassWithAndWithoutFusion) {
  const struct {
    descent_optimizer optimizer;
    descent_loss loss;
    descent_activation hidden;
    int64_t micro_batches;
    descent_fusion fusion;
  } cases[] = {
      {DESCENT_OPTIMIZER_ADAM, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_ACTIVATION_RELU, 3, DESCENT_FUSION_ON},
      {DESCENT_OPTIMIZER_LAMB, DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_ACTIVATION_SILU, 2, DESCENT_FUSION_OFF},
      {DESCENT_OPTIMIZER_LARS, DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_ACTIVATION_TANH, 4, DESCENT_FUSION_ON},
  };
  const Device cuda = open_device("cuda"), reference = open_device("reference");
  for (const auto &c : cases) {
    SCOPED_TRACE(descent_optimizer_name(c.optimizer));
    const Network network = network_of(c.loss, c.hidden);
    descent_train_options options = options_of(c.optimizer, c.micro_batches);
    options.precision = GetParam();
    options.gpu.fusion = c.fusion;
    options.balance_classes = !loss_is_regression(c.loss);
    const Result result = verify(network.get(), cuda.get(), reference.get(), options);
    ASSERT_EQ(result.status, DESCENT_OK) << result.error;
    EXPECT_TRUE(result.passed) << failures(result);
    if (c.fusion == DESCENT_FUSION_OFF) continue;
    for (const char *fused : {"fused: loss", "fused: gradients layer 3", "fused train: gradients",
                              "fused train: partial_gradients", "fused train: partial_losses", "fused train: scalars"})
      EXPECT_GT(row_of(result, fused).values, 0) << fused;
  }
}

TEST(VerifyParts, HaveARowForEachOperationOfAStep) {
  const Device cpu = open_device("cpu", 1), reference = open_device("reference", 1);
  const Network network = make_network({5, 4, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 7);
  const std::vector<std::string> step = {"gather",
                                         "dense_forward layer 1",
                                         "dense_forward layer 2",
                                         "statistics layer 1",
                                         "statistics layer 2",
                                         "loss",
                                         "dense_backward_weights layer 2",
                                         "dense_backward_input layer 2",
                                         "dense_backward_weights layer 1",
                                         "combine",
                                         "allreduce",
                                         "gradient_norm",
                                         "trust_ratio",
                                         "update",
                                         "metrics"};
  for (const bool combines : {false, true})
    for (const bool exchanges : {false, true}) {
      if (!combines && !exchanges) continue;
      descent_train_options options = options_of(DESCENT_OPTIMIZER_LAMB, combines ? 4 : 1);
      if (exchanges) {
        ASSERT_EQ(descent_communicator_open("self", 1, &options.ranks.communicator), DESCENT_OK);
      }
      const Result result = verify(network.get(), cpu.get(), reference.get(), options);
      ASSERT_EQ(result.status, DESCENT_OK) << result.error;
      EXPECT_TRUE(result.passed) << failures(result);
      std::vector<std::string> expected;
      for (const std::string &operation : step)
        if ((combines || operation != "combine") && (exchanges || operation != "allreduce"))
          expected.push_back(operation);
      ASSERT_GT(result.operations.size(), expected.size());
      EXPECT_EQ(std::vector<std::string>(result.operations.begin(),
                                         result.operations.begin() + static_cast<std::ptrdiff_t>(expected.size())),
                expected);
      EXPECT_EQ(result.operations[expected.size()], "backward: backward_output");
      EXPECT_EQ(result.operations.back(), "predict: output");
      for (size_t i = 0; i < result.rows.size(); i++) EXPECT_GT(result.rows[i].values, 0) << result.operations[i];
      if (exchanges) { /* one rank's sum is what it has */
        EXPECT_EQ(row_of(result, "allreduce").bound, 0);
        EXPECT_EQ(row_of(result, "allreduce").values, (kSteps + kWithStatistics) * (network->n_parameters + 1));
      }
      descent_communicator_close(options.ranks.communicator);
    }
}

/* ---- a device that is wrong in one place, on the ranks that are given a fault ---- */

struct Fault {
  plan_op_kind kind = OP_KINDS;
  std::function<void(plan_step *)> step;   /* what the device takes the step for */
  std::function<double(double)> value;     /* what it makes of one value that it writes */
  bool leaves_out = false, breaks = false; /* breaks: fails with ERROR_DEVICE */
  bool of_loss = false;                    /* the value is J, not a gradient */
};

/* The table of functions cannot hold state; each rank is a thread. */
thread_local std::optional<Fault> fault;
thread_local const plan *its_plan;
thread_local std::function<void(backend_program *, const plan_op &, const plan_step &)> seen;

descent_status faulty_compile(backend_device *device, const plan *p, backend_program **program) {
  its_plan = p;
  return backend_cpu.compile(device, p, program);
}

descent_status faulty_run_op(backend_program *program, plan_range range, plan_step step) {
  const plan_op &op = its_plan->ops[range.first];
  int buffer = PLAN_NONE;
  int64_t offset = 0;
  double value = 0, before = 0;
  output_of(its_plan, op, &buffer, &offset);
  if (fault->of_loss) buffer = op.allreduce.scalars, offset = SCALAR_LOSS;
  if (fault->breaks) return status_set(DESCENT_ERROR_DEVICE, "the device has fallen off the bus");
  if (fault->step) fault->step(&step);
  descent_status status = backend_cpu.read(program, buffer, offset, 1, PLAN_F64, &before);
  if (status == DESCENT_OK && (!fault->leaves_out || op.kind == OP_ALLREDUCE)) /* which the others wait for */
    status = backend_cpu.run(program, range, &step, 1);
  if (status == DESCENT_OK) status = backend_cpu.read(program, buffer, offset, 1, PLAN_F64, &value);
  if (fault->value) value = fault->value(value);
  if (fault->leaves_out) value = before;
  return status == DESCENT_OK ? backend_cpu.write(program, buffer, offset, 1, PLAN_F64, &value) : status;
}

descent_status faulty_run(backend_program *program, plan_range range, const plan_step *steps, int64_t n_steps) {
  const bool is_wrong = fault && range.count == 1 && its_plan->ops[range.first].kind == fault->kind;
  const descent_status status =
      is_wrong ? faulty_run_op(program, range, steps[0]) : backend_cpu.run(program, range, steps, n_steps);
  if (seen && range.count == 1) seen(program, its_plan->ops[range.first], steps[0]);
  return status;
}

const backend &faulty() {
  static const backend made = [] {
    backend table = backend_cpu;
    table.compile = faulty_compile;
    table.run = faulty_run;
    return table;
  }();
  return made;
}

double off_by_a_thousandth(double value) { return value + 1e-3 * (1 + std::fabs(value)); }

struct WrongCase {
  const char *name;
  Fault fault;
  std::vector<std::string> failed;
};

/* Operations of a step in micro-batches; each is also one of evaluations or has a row of its kind alone. */
std::vector<WrongCase> wrong_cases() {
  const auto value = [](plan_op_kind kind) { return Fault{kind, nullptr, off_by_a_thousandth}; };
  const auto step = [](plan_op_kind kind, std::function<void(plan_step *)> change) {
    return Fault{kind, std::move(change), nullptr};
  };
  const auto left_out = [](plan_op_kind kind) { return Fault{kind, nullptr, nullptr, true}; };
  return {
      {"nothing", {}, {}},
      {"combine: a value", value(OP_COMBINE), {"combine"}},
      {"combine: left out", left_out(OP_COMBINE), {"combine"}},
      {"combine: forgets what it has kept",
       step(OP_COMBINE, [](plan_step *s) { s->micro_batches = 1, s->micro_batch = 0; }),
       {"combine"}},
      {"combine: takes each part for the first",
       step(OP_COMBINE, [](plan_step *s) { s->micro_batch = 0; }),
       {"combine"}},
      {"combine: takes each part for the last",
       step(OP_COMBINE, [](plan_step *s) { s->micro_batch = s->micro_batches - 1; }),
       {"combine"}},
      {"gather: the weight of the part alone", step(OP_GATHER, [](plan_step *s) { s->weight_sum = 0; }), {"gather"}},
      {"gather: another weight", step(OP_GATHER, [](plan_step *s) { s->weight_sum *= 1.0 + 1e-9; }), {"gather"}},
      {"dropout of the part's rows",
       step(OP_DENSE_FORWARD, [](plan_step *s) { s->batch_row = 0; }),
       {"dense_forward layer 1", "dense_forward layer 2"}},
      {"dropout of the part's rows, backward",
       step(OP_DENSE_BACKWARD_INPUT, [](plan_step *s) { s->batch_row = 0; }),
       {"dense_backward_input layer 3", "dense_backward_input layer 2"}},
      {"gradient_norm", value(OP_GRADIENT_NORM), {"gradient_norm"}},
      {"update", value(OP_UPDATE), {"update"}},
      {"update: left out", left_out(OP_UPDATE), {"update"}},
  };
}

TEST(VerifyParts, AWrongDeviceFailsWhereItIsWrong) {
  const Device cpu = open_device("cpu", 1), reference = open_device("reference", 1);
  descent_device candidate = *cpu;
  candidate.backend = &faulty();
  const Network network = network_of(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  for (const WrongCase &c : wrong_cases())
    for (const int64_t M : {2, 3, 4})
      for (const Device *against : {&reference, &cpu}) {
        SCOPED_TRACE(testing::Message() << c.name << ", " << M << " parts");
        fault = c.fault;
        const Result result = verify(network.get(), &candidate, against->get(), options_of(DESCENT_OPTIMIZER_ADAM, M));
        fault.reset();
        ASSERT_EQ(result.status, DESCENT_OK) << result.error;
        EXPECT_EQ(result.failed, c.failed) << failures(result);
        EXPECT_EQ(result.passed, c.failed.empty());
      }
}

/* The parts of a step are all of its rows, and each has the weight of all of them. */
TEST(VerifyParts, HaveTheWeightOfTheWholeStep) {
  const Device cpu = open_device("cpu", 1), reference = open_device("reference", 1);
  descent_device candidate = *cpu;
  candidate.backend = &faulty();
  for (const descent_loss loss : {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_LOSS_MEAN_SQUARED_ERROR}) {
    const Network network = network_of(loss);
    descent_train_options options = options_of(DESCENT_OPTIMIZER_ADAM, 3);
    options.balance_classes = !loss_is_regression(loss);
    double given = 0, gathered = 0;
    int64_t rows = 0, steps = 0, all_rows = 0;
    seen = [&](backend_program *program, const plan_op &op, const plan_step &step) {
      if (op.kind == OP_GATHER && step.micro_batches > 0) {
        std::vector<double> w(static_cast<size_t>(step.rows));
        ASSERT_EQ(backend_cpu.read(program, op.gather.w, 0, step.rows, PLAN_F64, w.data()), DESCENT_OK);
        EXPECT_EQ(step.batch_row, rows);
        if (step.micro_batch > 0) {
          EXPECT_EQ(step.weight_sum, given);
        }
        given = step.weight_sum;
        for (const double weight : w) gathered += weight;
        rows += step.rows;
      } else if (op.kind == OP_GRADIENT_NORM) {
        EXPECT_NEAR(given, gathered, 1e-12 * given);
        EXPECT_GT(given, 0);
        all_rows += rows;
        steps++;
        gathered = 0, rows = 0;
      }
    };
    const Result result = verify(network.get(), &candidate, reference.get(), options);
    seen = nullptr;
    EXPECT_EQ(result.status, DESCENT_OK) << result.error;
    EXPECT_EQ(steps, kSteps + kWithStatistics);
    EXPECT_EQ(all_rows, 8 + 8 + 1 + 8 + 8);
  }
}

/* ---- several parts at once ---- */

/* What such a device gets wrong when it runs a whole range: a gradient, or, with several parts, which part it is. */
enum AtOnce { RIGHT_AT_ONCE, GRADIENT, REPEATS_THE_FIRST_PART } at_once;

descent_status run_at_once(backend_program *program, plan_range range, const plan_step *steps, int64_t n_steps) {
  const plan &p = *program->plan;
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n_steps; s++) {
    plan_step step = steps[s];
    if (at_once == REPEATS_THE_FIRST_PART && s > 0) {
      step.first_row = steps[0].first_row, step.rows = steps[0].rows;
    }
    for (int i = range.first; i < range.first + range.count && status == DESCENT_OK; i++) {
      const plan_op &op = p.ops[i];
      status = simulated::run(program, plan_range{i, 1}, &step, 1);
      if (at_once == GRADIENT && range.count > 1 && op.kind == OP_DENSE_BACKWARD_WEIGHTS && op.layer == 2)
        reference_values(program, op.weights.gradients)[op.weights.b] *= 1.001;
    }
  }
  return status;
}

TEST(VerifyParts, AreComparedAtOnceWhereTheDeviceFusesTheirOperations) {
  backend table = simulated::table();
  table.fused_with = simulated::fused_with;
  table.run = run_at_once;
  const Device reference = open_device("reference", 1);
  descent_device candidate = *reference;
  candidate.backend = &table;
  const Network network = network_of(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_ACTIVATION_RELU);
  const struct {
    AtOnce what;
    std::vector<std::string> must_fail; /* among others */
  } cases[] = {{RIGHT_AT_ONCE, {}},
               {GRADIENT, {"fused: gradients layer 2"}},
               {REPEATS_THE_FIRST_PART, {"fused train: gradients", "fused train: scalars", "fused train: X"}}};
  for (const auto &c : cases)
    for (const int64_t M : {2, 4}) {
      SCOPED_TRACE(testing::Message() << c.what << ", " << M << " parts");
      descent_train_options options = options_of(DESCENT_OPTIMIZER_ADAM, M);
      simulated::manner = {true, false, false, true, simulated::TOGETHER, 1, simulated::RIGHT};
      at_once = c.what;
      const Result result = verify(network.get(), &candidate, reference.get(), options);
      simulated::manner = {};
      ASSERT_EQ(result.status, DESCENT_OK) << result.error;
      EXPECT_EQ(result.passed, c.must_fail.empty()) << failures(result);
      for (const std::string &name : c.must_fail) EXPECT_FALSE(row_of(result, name).pass) << name;
      for (const std::string &name : result.failed) EXPECT_EQ(name.find("fused"), 0U) << name;
      EXPECT_GT(row_of(result, "fused: loss").values, 0);
    }
}

/* ---- ranks ---- */

/* What a rank is called with beside its options and rows. */
struct Work {
  descent_loss loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  descent_activation hidden = DESCENT_ACTIVATION_TANH;
  std::string device = "cpu", reference = "reference";
  float first_weight_off = 0;
  int64_t steps = kSteps;
  /* NULL is passed for these. */
  bool no_network = false, no_candidate = false, no_reference = false, no_passed = false;
};

struct RankedOptions {
  descent_train_options options = options_of(DESCENT_OPTIMIZER_ADAM, 0);
  descent_loss loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  const char *device = "cpu", *reference = "reference";
  std::function<std::optional<Fault>(int rank)> faults;
  std::function<void(int rank, backend_program *program, const plan_op &op)> seen; /* with `faults` */
  std::function<void(int rank, descent_train_options *options, int64_t *rows)> change;
  std::function<void(int rank, Work *work)> change_work;
  double seconds = 60;
};

std::vector<Result> verify_on(int ranks, const RankedOptions &with) {
  std::vector<Result> results(static_cast<size_t>(ranks));
  RankThreads all(ranks, with.seconds);
  all.run([&](int rank, descent_communicator *communicator) {
    descent_train_options options = with.options;
    int64_t rows = kRows;
    options.ranks.communicator = communicator;
    if (with.change) with.change(rank, &options, &rows);
    Work work;
    work.loss = with.loss, work.device = with.device, work.reference = with.reference;
    if (with.change_work) with.change_work(rank, &work);
    const Network network = network_of(work.loss, work.hidden);
    network->parameters[0] += work.first_weight_off;
    const Device opened = open_device(work.device.c_str(), 1), reference = open_device(work.reference.c_str(), 1);
    descent_device candidate = *opened;
    if (with.faults) {
      fault = with.faults(rank);
      candidate.backend = &faulty();
    }
    if (with.seen)
      seen = [&with, rank](backend_program *program, const plan_op &op, const plan_step &) {
        with.seen(rank, program, op);
      };
    results[static_cast<size_t>(rank)] =
        verify(work.no_network ? nullptr : network.get(), work.no_candidate ? nullptr : &candidate,
               work.no_reference ? nullptr : reference.get(), options, rows, work.steps, !work.no_passed);
  });
  return results;
}

/* NaN equals itself. */
bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

/* Rows are the same on all ranks. */
void expect_one_result(const std::vector<Result> &results) {
  for (const Result &result : results) {
    EXPECT_EQ(result.status, results[0].status) << result.error;
    EXPECT_EQ(result.error, results[0].error);
    EXPECT_EQ(result.passed, results[0].passed);
    EXPECT_EQ(result.failed, results[0].failed);
    ASSERT_EQ(result.operations, results[0].operations);
    for (size_t i = 0; i < result.rows.size(); i++) {
      EXPECT_EQ(result.rows[i].values, results[0].rows[i].values) << result.operations[i];
      EXPECT_TRUE(same(result.rows[i].largest_error, results[0].rows[i].largest_error)) << result.operations[i];
      EXPECT_TRUE(same(result.rows[i].error_to_bound, results[0].rows[i].error_to_bound)) << result.operations[i];
      EXPECT_EQ(result.rows[i].bound, results[0].rows[i].bound) << result.operations[i];
    }
  }
}

TEST(VerifyRanks, PassWithOneResult) {
  const int64_t n = network_of(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY)->n_parameters;
  for (const int ranks : {2, 3, 4})
    for (const int64_t each : {1, 2})
      for (const char *reference : {"reference", "cpu"})
        for (const descent_optimizer optimizer : {DESCENT_OPTIMIZER_ADAM, DESCENT_OPTIMIZER_LARS}) {
          SCOPED_TRACE(testing::Message() << ranks << " ranks, " << each << " parts each, " << reference);
          RankedOptions with;
          with.options = options_of(optimizer, ranks * each);
          with.options.balance_classes = true;
          with.reference = reference;
          const std::vector<Result> results = verify_on(ranks, with);
          ASSERT_EQ(results[0].status, DESCENT_OK) << results[0].error;
          EXPECT_TRUE(results[0].passed) << failures(results[0]);
          expect_one_result(results);
          const descent_verify_row &sums = row_of(results[0], "allreduce");
          EXPECT_EQ(sums.values, ranks * (kSteps + kWithStatistics) * (n + 1));
          EXPECT_GT(sums.bound, 0);
          if (std::string(reference) == "reference") { /* the bound is no larger than roundings come near to */
            EXPECT_GT(sums.error_to_bound, 0.3);
          }
        }
}

TEST(VerifyRanks, PassOnGpus) {
  RankedOptions with;
  with.options = options_of(DESCENT_OPTIMIZER_ADAM, 4);
  with.device = "cuda";
  with.options.precision = DESCENT_PRECISION_BF16;
  const std::vector<Result> results = verify_on(2, with);
  ASSERT_EQ(results[0].status, DESCENT_OK) << results[0].error;
  EXPECT_TRUE(results[0].passed) << failures(results[0]);
  expect_one_result(results);
  EXPECT_GT(row_of(results[0], "allreduce").values, 0);
}

double next_up(double value) { return static_cast<double>(std::nextafterf(static_cast<float>(value), 1e9F)); }

TEST(VerifyRanks, AFaultOfOneRankFailsOnAll) {
  std::vector<WrongCase> cases = wrong_cases();
  cases.push_back({"allreduce: a value", {OP_ALLREDUCE, nullptr, off_by_a_thousandth}, {"allreduce"}});
  cases.push_back({"allreduce: left out", {OP_ALLREDUCE, nullptr, nullptr, true}, {"allreduce"}});
  cases.push_back({"allreduce: the last bit", {OP_ALLREDUCE, nullptr, next_up}, {"allreduce"}});
  cases.push_back({"allreduce: the last bit of J, which the bound allows",
                   {OP_ALLREDUCE, nullptr, [](double J) { return std::nextafter(J, 1e9); }, false, false, true},
                   {"allreduce"}});
  cases.push_back({"allreduce: no number", {OP_ALLREDUCE, nullptr, [](double) { return NAN; }}, {"allreduce"}});
  for (const WrongCase &c : cases)
    for (const int ranks : {2, 3, 4})
      for (const int wrong : {0, ranks - 1}) {
        SCOPED_TRACE(testing::Message() << c.name << ", rank " << wrong << " of " << ranks);
        RankedOptions with;
        with.options.ranks.micro_batches = 2 * ranks;
        with.options.batch_size = 13;
        with.faults = [&](int rank) { return rank == wrong ? std::make_optional(c.fault) : std::nullopt; };
        const std::vector<Result> results = verify_on(ranks, with);
        ASSERT_EQ(results[0].status, DESCENT_OK) << results[0].error;
        EXPECT_EQ(results[0].failed, c.failed) << failures(results[0]);
        expect_one_result(results);
      }
}

TEST(VerifyRanks, ADeviceThatFailsEndsAllWithOneError) {
  for (const int ranks : {2, 4})
    for (const plan_op_kind kind : {OP_GATHER, OP_COMBINE, OP_UPDATE, OP_BACKWARD_OUTPUT, OP_OUTPUT}) {
      RankedOptions with;
      with.seconds = 2; /* of ranks that wait for one that has left */
      with.options.ranks.micro_batches = 2 * ranks;
      with.faults = [&](int rank) {
        const Fault breaks{kind, nullptr, nullptr, false, true};
        return rank == 1 ? std::make_optional(breaks) : std::nullopt;
      };
      const std::vector<Result> results = verify_on(ranks, with);
      SCOPED_TRACE(plan_op_kind_name(kind));
      EXPECT_EQ(results[0].status, DESCENT_ERROR_DEVICE);
      EXPECT_EQ(results[0].error, "rank 1 (node0): the device has fallen off the bus");
      EXPECT_TRUE(results[0].rows.empty());
      expect_one_result(results);
    }
}

/* The others wait in the exchange that it has left. */
TEST(VerifyRanks, ADeviceThatFailsInTheSumEndsAllWithinTheTimeLimit) {
  RankedOptions with;
  with.seconds = 0.5;
  with.faults = [&](int rank) {
    const Fault breaks{OP_ALLREDUCE, nullptr, nullptr, false, true};
    return rank == 1 ? std::make_optional(breaks) : std::nullopt;
  };
  const std::vector<Result> results = verify_on(3, with);
  for (const Result &result : results) EXPECT_EQ(result.status, DESCENT_ERROR_DEVICE);
  EXPECT_EQ(results[1].error, "the device has fallen off the bus");
}

/* The sums of one rank are wrong, in the last bit or by more than the bound: the others take the exact ones as well. */
TEST(VerifyRanks, StayReplicasWhereASumFails) {
  for (const auto wrong : {next_up, off_by_a_thousandth})
    for (const int failing : {0, 1, 2}) {
      constexpr int kRanks = 3;
      std::vector<std::vector<std::vector<double>>> summed(kRanks);
      RankedOptions with;
      with.options.ranks.micro_batches = kRanks;
      with.faults = [&](int rank) {
        const Fault sum{OP_ALLREDUCE, nullptr, wrong};
        return rank == failing ? std::make_optional(sum) : std::nullopt;
      };
      with.seen = [&](int rank, backend_program *program, const plan_op &op) {
        if (op.kind != OP_GRADIENT_NORM) return;
        const int buffer = op.norm.gradients;
        const int64_t n = its_plan->buffers[buffer].rows * its_plan->buffers[buffer].cols;
        std::vector<double> values(static_cast<size_t>(n));
        ASSERT_EQ(backend_cpu.read(program, buffer, 0, n, PLAN_F64, values.data()), DESCENT_OK);
        summed[static_cast<size_t>(rank)].push_back(values);
      };
      const std::vector<Result> results = verify_on(kRanks, with);
      ASSERT_EQ(results[0].status, DESCENT_OK) << results[0].error;
      EXPECT_EQ(results[0].failed, std::vector<std::string>{"allreduce"});
      EXPECT_EQ(summed[0].size(), static_cast<size_t>(kSteps + kWithStatistics));
      EXPECT_EQ(summed[1], summed[0]) << failing;
      EXPECT_EQ(summed[2], summed[0]) << failing;
    }
}

/* ---- the same work on all ranks ---- */

TEST(VerifyRanks, CompareTheirOptionsFirst) {
  const struct {
    std::function<void(descent_train_options *options, int64_t *rows)> change;
    const char *says;
  } cases[] = {
      {[](descent_train_options *, int64_t *rows) { *rows = 18; }, "data is 18 rows ("},
      {[](descent_train_options *options, int64_t *) { options->batch_size = 9; }, "batch_size is 9, but 8 on rank 0;"},
      {[](descent_train_options *options, int64_t *) { options->seed = 12; }, "seed is 12, but 11 on rank 0;"},
      {[](descent_train_options *options, int64_t *) { options->optimizer.learning_rate = 0.5; },
       "learning_rate is 0.5, but 0.001 on rank 0;"},
      {[](descent_train_options *options, int64_t *) { options->optimizer.kind = DESCENT_OPTIMIZER_SGD; },
       "optimizer is sgd, but adam on rank 0;"},
      {[](descent_train_options *options, int64_t *) { options->dropout = 0.2; }, "dropout is 0.2, but 0.3 on rank 0;"},
      {[](descent_train_options *options, int64_t *) { options->ranks.micro_batches = 4; },
       "micro_batches is 4, but 2 on rank 0;"},
      {[](descent_train_options *options, int64_t *) { options->dropout = 2; }, "dropout 2: must be in [0, 1)"},
      {[](descent_train_options *, int64_t *rows) { *rows = 0; },
       "descent_verify: rows 0 and steps 4 must be at least 1"},
  };
  for (const auto &c : cases) {
    RankedOptions with;
    with.seconds = 2;
    with.change = [&c](int rank, descent_train_options *options, int64_t *rows) {
      if (rank == 1) c.change(options, rows);
    };
    const std::vector<Result> results = verify_on(2, with);
    EXPECT_EQ(results[0].status, DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(results[0].error.find(std::string("rank 1 (node0): ") + c.says), 0U) << results[0].error;
    expect_one_result(results);
  }
}

TEST(VerifyRanks, CompareTheirNetworksAndDevicesFirst) {
  const struct {
    std::function<void(Work *work)> change;
    const char *says;
  } cases[] = {
      {[](Work *w) { w->steps = 5; }, "steps is 5, but 4 on rank 0"},
      {[](Work *w) { w->reference = "cpu"; }, "reference is cpu, but reference on rank 0"},
      {[](Work *w) { w->first_weight_off = 0.25F; }, "initial weights is "},
      {[](Work *w) { w->hidden = DESCENT_ACTIVATION_RELU; }, "network is 5-7-4-3 relu "},
      {[](Work *w) { w->loss = DESCENT_LOSS_MEAN_SQUARED_ERROR; }, "network is 5-7-4-3 tanh mean_squared_error,"},
      {[](Work *w) { w->device = "cuda"; }, "device is cuda, but cpu on rank 0"},
  };
  for (const auto &c : cases) {
    RankedOptions with;
    with.seconds = 2;
    with.change_work = [&c](int rank, Work *work) {
      if (rank == 1) c.change(work);
    };
    const std::vector<Result> results = verify_on(2, with);
    EXPECT_EQ(results[0].status, DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(results[0].error.find(std::string("rank 1 (node0): ") + c.says), 0U) << results[0].error;
    expect_one_result(results);
  }
}

/* The others would wait for it. */
TEST(VerifyRanks, EndAtOnceWhereOneHasNoDevice) {
  const struct {
    std::function<void(Work *work)> change;
    const char *says;
  } cases[] = {
      {[](Work *w) { w->no_network = true; }, "rank 1 (node0): network: is NULL"},
      {[](Work *w) { w->no_candidate = true; }, "rank 1 (node0): candidate: is NULL"},
      {[](Work *w) { w->no_reference = true; }, "rank 1 (node0): reference: is NULL"},
      {[](Work *w) { w->no_passed = true; }, "rank 1 (node0): passed: is NULL"},
  };
  for (const auto &c : cases) {
    RankedOptions with;
    with.seconds = 5;
    with.change_work = [&c](int rank, Work *work) {
      if (rank == 1) c.change(work);
    };
    const double start = clock_seconds();
    const std::vector<Result> results = verify_on(3, with);
    EXPECT_LT(clock_seconds() - start, with.seconds);
    EXPECT_EQ(results[0].status, DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(results[0].error, c.says);
    expect_one_result(results);
  }
}

TEST(VerifyRanks, AreRefusedWhereTheDeviceIsOneRank) {
  RankedOptions with;
  with.device = "reference";
  const std::vector<Result> results = verify_on(2, with);
  EXPECT_EQ(results[0].status, DESCENT_ERROR_UNSUPPORTED);
  EXPECT_EQ(results[0].error, "ranks 2: the reference computes on one; use the device cpu or cuda");
  expect_one_result(results);
}

/* An error of the options is not one of a rank. */
TEST(VerifyRanks, DoNotNameARankWhereAllHaveTheError) {
  RankedOptions with;
  with.options.ranks.micro_batches = 32;
  with.options.batch_size = 0;
  const std::vector<Result> results = verify_on(2, with);
  EXPECT_EQ(results[0].status, DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(results[0].error, "micro_batches 32: must be at most the 17 rows of a step");
  expect_one_result(results);
}

TEST(VerifyParts, MoreThanTheRowsOfAStepAreRefused) {
  const Device cpu = open_device("cpu", 1), reference = open_device("reference", 1);
  const Network network = network_of(DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Result result = verify(network.get(), cpu.get(), reference.get(), options_of(DESCENT_OPTIMIZER_SGD, 8), 5);
  EXPECT_EQ(result.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(result.error, "micro_batches 8: must be at most the 5 rows of a step");
}

/* A way between ranks that is tried on one must leave what it is given. */
TEST(VerifyParts, ASumOfOneRankThatChangesItFails) {
  const Device cpu = open_device("cpu", 1), reference = open_device("reference", 1);
  descent_device candidate = *cpu;
  candidate.backend = &faulty();
  const Network network = network_of(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  descent_train_options options = options_of(DESCENT_OPTIMIZER_ADAM, 1);
  ASSERT_EQ(descent_communicator_open("self", 1, &options.ranks.communicator), DESCENT_OK);
  fault = Fault{OP_ALLREDUCE, nullptr, next_up};
  const Result result = verify(network.get(), &candidate, reference.get(), options);
  fault.reset();
  descent_communicator_close(options.ranks.communicator);
  ASSERT_EQ(result.status, DESCENT_OK) << result.error;
  EXPECT_EQ(result.failed, std::vector<std::string>{"allreduce"}) << failures(result);
}

}  // namespace
