/* Steps in micro-batches on the emulation: their gradients are those of the whole step, with one kernel for several
 * layers or without, on one rank or several; empty parts, bad steps, streamed rows, whole trainings. */
#include <algorithm>

#include "emulated_module.h"
#include "erring.h"
#include "plan/operations.h"

extern "C" {
#include "core/communicator.h"
}

namespace {

class EmulatedMicroBatches : public EmulatedModule {};

#ifdef __SANITIZE_ADDRESS__ /* a dozen times as slow */
const std::vector<int64_t> of_a_step = {3, 8}, of_trainings = {3};
#else
const std::vector<int64_t> of_a_step = {1, 2, 5, 8, 32}, of_trainings = {1, 2, 3, 4, 8};
#endif

/* Whole numbers stay whole through relu, the squared error and masks that double what they keep. */
std::vector<Case> whole_cases() {
  std::vector<Case> all;
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16})
    for (const double dropout : {0.0, 0.5}) {
      all.push_back(
          {"narrow", {8, 16, 13, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, dropout, precision});
      all.push_back(
          {"wide", {8, 16, 72, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, dropout, precision});
    }
  return all;
}

double scalar(const struct program &program, plan_scalar slot) { return read(program, "scalars")[slot]; }

void run(Training &training, plan_range range, const std::vector<plan_step> &steps) {
  ASSERT_EQ(program_run(&training.program, range, steps.data(), static_cast<int64_t>(steps.size())), DESCENT_OK)
      << descent_last_error();
}

/* A step on one rank. */
void run_parts(Training &training, const plan_step &step, bool with_statistics = false) {
  const struct plan *const plan = training.program.plan;
  const std::vector<plan_step> parts = training.cut(step, 0, training.micro_batches);
  run(training, with_statistics ? plan->micro_batch_with_statistics : plan->micro_batch, parts);
}
void run_finish(Training &training, const plan_step &step, bool with_statistics = false) {
  const struct plan *const plan = training.program.plan;
  run(training, with_statistics ? plan->finish_with_statistics : plan->finish,
      {finish_of(step, training.micro_batches)});
}

std::string path_of(const struct program &program, plan_range range, plan_op_kind kind) {
  char text[BACKEND_PATH] = "";
  for (int i = range.first; i < range.first + range.count; i++)
    if (program.plan->ops[i].kind == kind) program.backend->path(program.compiled, range, i, text);
  return text;
}

/* What lasts, apart from the partial sums. */
Bytes state_of(Training &training) {
  Bytes state;
  for (const char *name : {"parameters", "moment1", "moment2", "gradients", "scalars"})
    state.push_back(read(training.program, name));
  return state;
}

/* ---- the gradients of a step ---- */

/* Sums of whole numbers are exact in any order. `step_rows`: 4 rows leave some of the parts without any. */
void expect_whole_gradients(const Case &c, descent_fusion fusion, int64_t step_rows) {
  Training whole(c, BATCH);
  whole.make_whole();
  whole.options.gpu.fusion = DESCENT_FUSION_OFF;
  ASSERT_EQ(whole.open(), DESCENT_OK) << descent_last_error();
  plan_step step = whole.steps(1)[0];
  step.rows = step_rows, step.learning_rate = 0;
  run(whole, whole.program.plan->gradient, {step});
  const std::vector<double> gradients = read(whole.program, "gradients"), A = read(whole.program, "A[2]");
  EXPECT_TRUE(std::any_of(gradients.begin(), gradients.end(), [](double g) { return g != 0; }));
  for (const int64_t count : of_a_step) {
    SCOPED_TRACE(testing::Message() << count << " micro-batches");
    Training training(c, BATCH);
    training.make_whole();
    training.micro_batches = count;
    training.options.gpu.fusion = fusion;
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(path_of(training.program, training.program.plan->micro_batch, OP_LOSS).find("fused "),
              fusion == DESCENT_FUSION_OFF ? std::string::npos : 0U);
    for (const bool with_statistics : {false, true}) {
      run_parts(training, step, with_statistics);
      expect_same({read(training.program, "gradients")}, {gradients});
      EXPECT_EQ(scalar(training.program, SCALAR_LOSS), scalar(whole.program, SCALAR_LOSS));
      EXPECT_EQ(scalar(training.program, SCALAR_WEIGHT_SUM), scalar(whole.program, SCALAR_WEIGHT_SUM));
      run_finish(training, step, with_statistics); /* its learning rate is 0 */
      const plan_step last = training.cut(step, 0, count).back();
      const std::vector<double> A_of_part = read(training.program, "A[2]"); /* the launch may have left it out */
      const auto n = static_cast<size_t>(c.widths[2]), from = static_cast<size_t>(last.batch_row) * n;
      for (size_t k = 0; k < static_cast<size_t>(last.rows) * n; k++) ASSERT_EQ(A_of_part[k], A[from + k]) << k;
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST_F(EmulatedMicroBatches, GiveTheGradientsOfTheWholeStepForWholeNumbers) {
  for (const Case &c : whole_cases())
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON})
      for (const int64_t rows : {32, 4}) {
        if (fusion == DESCENT_FUSION_ON && c.dropout > 0 && c.widths[2] > 64) continue; /* refused, see below */
        SCOPED_TRACE(testing::Message() << descent_precision_name(c.precision) << ", " << c.name << ", dropout "
                                        << c.dropout << ", fusion " << fusion << ", " << rows << " rows");
        expect_whole_gradients(c, fusion, rows);
        if (HasFailure()) return;
      }
}

/* Every way to compute the operations of a part. */
TEST_F(EmulatedMicroBatches, GiveTheSameBytesForWholeNumbersWithEveryKernel) {
#ifdef __SANITIZE_ADDRESS__
  enum { DRAWS = 2 };
#else
  enum { DRAWS = 12 };
#endif
  const std::vector<Case> all = whole_cases();
  for (const Case &c : {all[2], all[6], all[8]}) {
    Bytes expected;
    for (int seed = 0; seed <= DRAWS; seed++) {
      SCOPED_TRACE(testing::Message() << c.name << " " << descent_precision_name(c.precision) << ", seed " << seed);
      const auto drawn = seed ? std::make_unique<Drawn>(seed) : nullptr;
      Training training(c, BATCH);
      training.make_whole();
      training.micro_batches = 3;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      const plan_step step = training.steps(1)[0];
      run_parts(training, step);
      run_finish(training, step);
      if (!seed) expected = state_of(training);
      expect_same(state_of(training), expected);
      if (HasFailure()) return;
    }
  }
}

/* ---- the training step ---- */

/* Steps that are cut into one part are the steps that are not cut. */
TEST_F(EmulatedMicroBatches, OneOfThemIsTheStepToTheBit) {
  for (const Case &c : cases)
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      SCOPED_TRACE(testing::Message() << c.name << ", fusion " << fusion);
      Bytes state[2];
      for (const bool is_cut : {false, true}) {
        Training training(c);
        training.options.gpu.fusion = fusion;
        training.micro_batches = is_cut;
        ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
        const struct plan *const plan = training.program.plan;
        for (const plan_step &step : training.steps(STEPS)) {
          if (is_cut) {
            run_parts(training, step, step.number % 5 == 0);
            run_finish(training, step, step.number % 5 == 0);
          } else {
            run(training, step.number % 5 == 0 ? plan->train_with_statistics : plan->train, {step});
          }
        }
        state[is_cut] = state_of(training);
        if (!is_cut) {
          EXPECT_EQ(path_of(training.program, plan->train, OP_LOSS).find("whole"), std::string::npos);
        }
        if (HasFailure()) return;
      }
      expect_same(state[1], state[0]);
    }
}

/* The same in one call or several, and with graphs and single launches in any order of blocks. */
TEST_F(EmulatedMicroBatches, GiveTheSameBytesHoweverTheyAreRun) {
  for (const Case &c : {cases[0], cases[4]})
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      SCOPED_TRACE(testing::Message() << c.name << ", fusion " << fusion);
      Bytes expected;
      for (const char *how : {"", "apart", "seed=2", "seed=3,late=1"}) {
        const bool apart = !strcmp(how, "apart");
        emulation.configure(apart ? "" : how);
        Training training(c);
        training.options.gpu.fusion = fusion;
        training.micro_batches = 40; /* several graphs of many steps, and parts without rows */
        training.batch = 64;
        ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
        for (const plan_step &step : training.steps(4)) {
          if (apart)
            for (const plan_step &part : training.cut(step, 0, 40))
              run(training, training.program.plan->micro_batch, {part});
          else
            run_parts(training, step);
          run_finish(training, step);
        }
        if (!*how) expected = state_of(training);
        expect_same(state_of(training), expected);
        if (HasFailure()) return;
      }
      emulation.configure("");
    }
}

/* After a step that is marked as bad, further steps leave the parameters alone; once the mark is reset the training
 * continues as if they had not been. */
TEST_F(EmulatedMicroBatches, OfABadStepAndAfterItChangeNothing) {
  for (const Case &c : {cases[0], cases[3]})
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      SCOPED_TRACE(testing::Message() << c.name << ", fusion " << fusion);
      Bytes state[2];
      for (const bool with_bad : {false, true}) {
        Training training(c);
        training.options.gpu.fusion = fusion;
        training.micro_batches = 4;
        ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
        struct program &program = training.program;
        const std::vector<plan_step> steps = training.steps(8);
        for (size_t s = 0; s < steps.size(); s++) {
          if (with_bad && s == 3) {
            const std::vector<double> before = read(program, "parameters"), totals = read(program, "scalars");
            std::vector<plan_step> parts = training.cut(steps[s], 0, 4);
            for (plan_step &part : parts) part.weight_sum = NAN;
            run(training, program.plan->micro_batch, parts);
            run_finish(training, steps[s]);
            for (size_t after : {s + 1, s + 2}) run_parts(training, steps[after]), run_finish(training, steps[after]);
            EXPECT_EQ(scalar(program, SCALAR_BAD_STEP), static_cast<double>(steps[s].number));
            expect_same({read(program, "parameters")}, {before});
            EXPECT_EQ(scalar(program, SCALAR_TOTAL_LOSS), totals[SCALAR_TOTAL_LOSS]);
            EXPECT_EQ(scalar(program, SCALAR_TOTAL_WEIGHT), totals[SCALAR_TOTAL_WEIGHT]);
            const double none = 0;
            ASSERT_EQ(program_write(&program, program.at.scalars, SCALAR_BAD_STEP, 1, PLAN_F64, &none), DESCENT_OK);
          }
          run_parts(training, steps[s]);
          run_finish(training, steps[s]);
        }
        EXPECT_EQ(scalar(program, SCALAR_BAD_STEP), 0);
        state[with_bad] = state_of(training);
      }
      expect_same(state[1], state[0]);
    }
}

/* Its masks are those of the first rows of a step. */
TEST_F(EmulatedMicroBatches, WithDropoutAreNoChain) {
  const Case c = whole_cases()[3];
  for (const descent_fusion fusion : {DESCENT_FUSION_AUTO, DESCENT_FUSION_ON}) {
    Training training(c, BATCH);
    training.micro_batches = 2;
    training.options.gpu.fusion = fusion;
    EXPECT_EQ(training.open(), fusion == DESCENT_FUSION_ON ? DESCENT_ERROR_UNSUPPORTED : DESCENT_OK);
    if (fusion == DESCENT_FUSION_ON) {
      EXPECT_STREQ(descent_last_error(), "fusion on: no chain with dropout in micro-batches; use auto or off");
    }
  }
}

TEST_F(EmulatedMicroBatches, RefuseStepsThatTheyDoNotTake) {
  Training training(cases[0]);
  training.micro_batches = 4;
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  const plan_step step = training.steps(1)[0];
  plan_step part = training.cut(step, 0, 4)[0];
  for (const int64_t rows : {INT64_C(-1), INT64_C(9)}) {
    part.rows = rows;
    EXPECT_EQ(program_run(&training.program, training.program.plan->micro_batch, &part, 1), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(descent_last_error(), "run: a step of " + std::to_string(rows) + " rows: must be 0 to 8");
  }
  part.rows = part.micro_batches = 0; /* not a part of a step */
  EXPECT_EQ(program_run(&training.program, training.program.plan->micro_batch, &part, 1), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "run: a step of 0 rows: must be 1 to 8");
}

/* As many at a time as a step has, in equal graphs of at most 16 and single ones for the rest. */
TEST_F(EmulatedMicroBatches, TakeFewLaunches) {
  const struct {
    int64_t count, launches;
  } expected[] = {{1, 1}, {2, 1}, {3, 1}, {5, 1}, {7, 1}, {8, 1}, {12, 1}, {16, 1}, {17, 3}, {31, 3}, {32, 2}, {40, 4}};
  for (const auto &of : expected) {
    SCOPED_TRACE(of.count);
    Training training(cases[0], BATCH, BATCH);
    training.micro_batches = of.count;
    training.options.gpu.fusion = DESCENT_FUSION_OFF;
    emulation.configure("");
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const plan_step step = training.steps(1)[0];
    const long long before = emulation.launches();
    run_parts(training, step);
    EXPECT_EQ(emulation.launches() - before, of.launches);
  }
}

/* Operations one by one, on a part without rows too, give what the captured range gives. */
TEST_F(EmulatedMicroBatches, RunOperationByOperation) {
  const Case c = whole_cases()[0];
  Training training(c, BATCH);
  training.make_whole();
  training.micro_batches = 8;
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  const plan_range range = training.program.plan->micro_batch;
  plan_step step = training.steps(1)[0];
  step.rows = 5;
  run_parts(training, step);
  const std::vector<double> expected = read(training.program, "gradients");
  for (const plan_step &part : training.cut(step, 0, 8))
    for (int i = 0; i < range.count; i++) run(training, {range.first + i, 1}, {part});
  expect_same({read(training.program, "gradients")}, {expected});
}

/* ---- ranks ---- */

/* A communicator of two ranks on one of them: it adds what the other one would send. */
struct OtherRank : descent_communicator {
  explicit OtherRank(int rank) : descent_communicator{}, connection{} {
    connection.rank = rank, connection.size = 2;
    transport = &connection;
    sum = [](descent_communicator *self, float *values, int64_t n, double *scalars, int n_scalars) {
      auto *const other = static_cast<OtherRank *>(self);
      EXPECT_EQ(n, static_cast<int64_t>(other->gradients.size()));
      EXPECT_EQ(n_scalars, 1);
      if (other->status != DESCENT_OK) return other->status;
      const bool is_first = other->connection.rank == 0;
      for (size_t i = 0; i < other->gradients.size(); i++) {
        const auto theirs = static_cast<float>(other->gradients[i]);
        values[i] = is_first ? values[i] + theirs : theirs + values[i];
      }
      scalars[0] = is_first ? scalars[0] + other->loss : other->loss + scalars[0];
      other->calls++;
      return DESCENT_OK;
    };
  }
  struct transport connection;
  std::vector<double> gradients;
  double loss = 0;
  int calls = 0;
  descent_status status = DESCENT_OK;
};

/* The first step on two ranks of two parts each has the bytes of one rank with four, on either. */
TEST_F(EmulatedMicroBatches, OfTwoRanksGiveTheBytesOfOne) {
  for (const Case &c : cases)
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      SCOPED_TRACE(testing::Message() << c.name << ", fusion " << fusion);
      Bytes expected;
      std::vector<double> gradients[2];
      double losses[2];
      {
        Training training(c);
        training.options.gpu.fusion = fusion;
        training.micro_batches = 4;
        ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
        const plan_step step = training.steps(1)[0];
        for (int rank : {0, 1}) { /* the sum over its parts alone */
          run(training, training.program.plan->micro_batch, training.cut(step, 2 * rank, 2));
          gradients[rank] = read(training.program, "gradients"), losses[rank] = scalar(training.program, SCALAR_LOSS);
        }
        run_parts(training, step);
        run_finish(training, step, true);
        expected = state_of(training);
        expected.push_back(read(training.program, "layer_statistics"));
      }
      for (int rank : {0, 1}) {
        OtherRank other(rank);
        other.gradients = gradients[1 - rank], other.loss = losses[1 - rank];
        Training training(c);
        training.options.gpu.fusion = fusion;
        training.micro_batches = 4;
        training.options.ranks.communicator = &other;
        ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
        EXPECT_EQ(other.calls, 0) << "a rank does not wait for the others to compile";
        const struct plan *const plan = training.program.plan;
        const plan_step step = training.steps(1)[0];
        run(training, plan->micro_batch, training.cut(step, 2 * rank, 2));
        run(training, plan->finish_with_statistics, {finish_of(step, 2)});
        EXPECT_EQ(other.calls, 1);
        Bytes state = state_of(training);
        state.push_back(read(training.program, "layer_statistics"));
        expect_same(state, expected);
        double seconds[2][64];
        const plan_step finish = finish_of(step, 2);
        other.status = DESCENT_ERROR_DEVICE; /* a rank is lost */
        EXPECT_EQ(program_run(&training.program, plan->finish, &finish, 1), DESCENT_ERROR_DEVICE);
        EXPECT_EQ(
            training.program.backend->time(training.program.compiled, plan->finish, &finish, 1, seconds[0], seconds[1]),
            DESCENT_ERROR_DEVICE);
        expect_same({read(training.program, "parameters")}, {expected[0]});
      }
    }
}

/* ---- whole trainings ---- */

/* 101 rows in batches of 32: the last one has 5, fewer than 8 micro-batches. */
struct Fit {
  explicit Fit(const Case &of) : c(of) {
    const int64_t outputs = c.widths.back();
    const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
    rows = make_rows(ROWS, c.widths[0], regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, 3);
    for (int64_t r = 0; r < ROWS; r++) rows.weights.push_back(0.5F + static_cast<float>(r % 7));
    data = rows.dataset();
    options.epochs = 3, options.batch_size = BATCH, options.dropout = c.dropout, options.precision = c.precision;
    options.autotune = false;
    options.optimizer.kind = DESCENT_OPTIMIZER_SGD, options.optimizer.momentum = 0.5;
    options.optimizer.learning_rate = 0.05;
  }
  Network network() const { return make_network(c.widths, c.hidden, c.loss); }

  erring::Parameters on_the_device(int64_t micro_batches, descent_fusion fusion) {
    options.gpu.fusion = fusion, options.ranks.micro_batches = micro_batches;
    const Device device = open_device("cuda");
    const Network trained = network();
    descent_fit_result result{};
    EXPECT_EQ(descent_fit(trained.get(), device.get(), data.get(), nullptr, &options, &result), DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(result.steps, 12);
    return {trained->parameters, trained->parameters + trained->n_parameters};
  }

  std::vector<erring::Parameters> on_the_machine(int64_t micro_batches, const erring::Machine &machine) {
    options.gpu.fusion = DESCENT_FUSION_OFF, options.ranks.micro_batches = micro_batches;
    return erring::in_micro_batches(network(), options, data, rows.weights, nullptr, machine);
  }

  Case c;
  Rows rows{};
  Dataset data{nullptr, nullptr};
  descent_train_options options = descent_train_options_default();
};

/* As many micro-batches as asked for change a training by rounding errors only: see erring.h. */
TEST_F(EmulatedMicroBatches, TrainAsTheReferenceDoes) {
  for (const Case &c : cases) {
    Fit fit(c);
    const std::vector<erring::Parameters> exact = fit.on_the_machine(1, {erring::EXACTLY, 0});
    const erring::Parameters &end = exact.back();
    const double way = erring::distance(end, exact.front());
    for (const int64_t count : of_trainings) {
      SCOPED_TRACE(testing::Message() << c.name << ", " << count << " micro-batches");
      const double bound = erring::growth(exact, [&](const erring::Machine &machine) {
                             return fit.on_the_machine(count, machine);
                           }).back();
      EXPECT_LT(bound, way * (c.precision == DESCENT_PRECISION_FP32 ? 1e-3 : 0.15));
      for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
        const erring::Parameters cut = fit.on_the_device(count, fusion);
        EXPECT_LE(erring::distance(cut, end), bound) << "fusion " << fusion;
        if (count == 1) {
          EXPECT_EQ(fit.on_the_device(0, fusion), cut);
        }
        if (count == 3) {
          EXPECT_EQ(fit.on_the_device(count, fusion), cut);
        }
      }
      if (HasFailure()) return;
    }
    /* Another seed has other masks and another order of rows. */
    fit.options.seed++;
    EXPECT_GT(erring::distance(fit.on_the_device(3, DESCENT_FUSION_OFF), end), 0.15 * way);
  }
}

/* ---- what is shown of the ranges ---- */

TEST_F(EmulatedMicroBatches, NameTheirKernelsAndTakeTimes) {
  for (const bool is_wide : {false, true})
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      Training training(whole_cases()[is_wide], BATCH);
      training.micro_batches = 2;
      training.options.gpu.fusion = fusion;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      const struct program &program = training.program;
      const struct plan *const plan = program.plan;
      const plan_step step = training.steps(1)[0], finish = finish_of(step, 2);
      const std::vector<plan_step> parts = training.cut(step, 0, 2);
      const std::string of_loss = path_of(program, plan->micro_batch, OP_LOSS);
      EXPECT_EQ(of_loss.substr(0, of_loss.rfind(' ')), fusion == DESCENT_FUSION_OFF ? ""
                                                       : is_wide                    ? "fused chain"
                                                                                    : "fused step");
      EXPECT_EQ(path_of(program, plan->micro_batch_with_statistics, OP_LOSS), of_loss);
      EXPECT_EQ(path_of(program, plan->micro_batch, OP_COMBINE), "");
      for (const plan_range range :
           {plan->micro_batch, plan->micro_batch_with_statistics, plan->finish, plan->finish_with_statistics}) {
        double seconds[2][64];
        for (int i = range.first; i < range.first + range.count; i++) {
          const int with = program.backend->fused_with(program.compiled, range, i);
          EXPECT_TRUE(range.first <= with && with <= i);
        }
        const bool ends = plan->ops[range.first].kind == OP_GRADIENT_NORM;
        ASSERT_EQ(program.backend->time(program.compiled, range, ends ? &finish : parts.data(), ends ? 1 : 2,
                                        seconds[0], seconds[1]),
                  DESCENT_OK)
            << descent_last_error();
      }
    }
}

}  // namespace
