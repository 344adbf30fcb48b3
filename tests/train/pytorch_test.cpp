// Trainings recorded from PyTorch and timm in float64 (record_pytorch.py, record_timm.py), step by step, on the exact and
// the float32 backends.
//
// How far may a training drift from the recorded one? The bounds of each operation (verify/bounds.h) say how far one
// execution of it may be from the exact one; how such errors grow over the steps depends on the training. So the exact
// backend runs it again with every value that every operation writes pushed to its bound, up or down at random, and the
// distance by which losses, norms and parameters then miss the unpushed run is the allowance for a float32 backend,
// none of whose operations is ever that wrong everywhere. Errors that small add up linearly, so the allowance for
// float64 is the same times the ratio of the unit round-offs, 2^-53 / 2^-24, for each of the two sides.
#include <cjson/cJSON.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_module.h"
#include "internal.h"
#include "source.h"

namespace {

// ---- the recording --------------------------------------------------------------------------------------------------

struct Case {
  std::string name;
  int64_t inputs;
  std::vector<int64_t> widths;
  std::vector<descent_activation> activations;
  descent_loss loss;
  bool weighted;
  descent_train_options options; /* class_weights: see below */
  std::vector<double> class_weights;
  std::vector<int64_t> order, batches; /* rows of the data, step after step; rows of each step */
  std::vector<double> initial, final, losses, norms, learning_rates;
};

struct Recording {
  std::map<std::string, std::vector<float>> data; /* X, weights, and the targets under their loss's name */
  std::vector<Case> cases;
};

const cJSON *Member(const cJSON *object, const char *name) {
  const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
  if (!member) throw std::runtime_error(std::string("the recording has no ") + name);
  return member;
}

template <class T>
std::vector<T> Numbers(const cJSON *list) {
  std::vector<T> numbers;
  const cJSON *item;
  cJSON_ArrayForEach(item, list) numbers.push_back(static_cast<T>(item->valuedouble));
  return numbers;
}

descent_train_options ParseOptions(const cJSON *object) {
  descent_train_options o = descent_train_options_default();
  const std::map<std::string, double *> numbers = {
      {"learning_rate", &o.optimizer.learning_rate},
      {"momentum", &o.optimizer.momentum},
      {"beta1", &o.optimizer.beta1},
      {"beta2", &o.optimizer.beta2},
      {"rho", &o.optimizer.rho},
      {"weight_decay", &o.optimizer.weight_decay},
      {"l2", &o.optimizer.l2},
      {"clip_norm", &o.optimizer.clip_norm},
      {"trust_coefficient", &o.optimizer.trust_coefficient},
      {"label_smoothing", &o.label_smoothing},
      {"schedule_gamma", &o.schedule.gamma},
      {"schedule_minimum", &o.schedule.minimum},
      {"min_delta", &o.early_stopping.min_delta},
  };
  const std::map<std::string, int64_t *> counts = {{"schedule_every", &o.schedule.every},
                                                   {"warmup_steps", &o.schedule.warmup_steps}};
  const cJSON *item;
  cJSON_ArrayForEach(item, object) {
    const std::string name = item->string;
    if (name == "optimizer")
      EXPECT_EQ(descent_optimizer_parse(item->valuestring, &o.optimizer.kind), DESCENT_OK);
    else if (name == "schedule")
      EXPECT_EQ(descent_schedule_parse(item->valuestring, &o.schedule.kind), DESCENT_OK);
    else if (name == "nesterov")
      o.optimizer.nesterov = cJSON_IsTrue(item);
    else if (counts.count(name))
      *counts.at(name) = static_cast<int64_t>(item->valuedouble);
    else
      *numbers.at(name) = item->valuedouble; /* throws at an option that the test does not know */
  }
  return o;
}

Case ParseCase(const cJSON *object, int64_t inputs) {
  Case c;
  c.name = Member(object, "name")->valuestring;
  c.inputs = inputs;
  c.widths = Numbers<int64_t>(Member(object, "widths"));
  const cJSON *item;
  cJSON_ArrayForEach(item, Member(object, "activations")) {
    c.activations.emplace_back();
    EXPECT_EQ(descent_activation_parse(item->valuestring, &c.activations.back()), DESCENT_OK);
  }
  EXPECT_EQ(descent_loss_parse(Member(object, "loss")->valuestring, &c.loss), DESCENT_OK);
  c.weighted = cJSON_IsTrue(Member(object, "weighted"));
  c.options = ParseOptions(Member(object, "options"));
  c.class_weights = Numbers<double>(cJSON_GetObjectItemCaseSensitive(object, "class_weights"));
  c.order = Numbers<int64_t>(Member(object, "order"));
  c.batches = Numbers<int64_t>(Member(object, "batches"));
  c.initial = Numbers<double>(Member(object, "initial"));
  c.final = Numbers<double>(Member(object, "final"));
  c.losses = Numbers<double>(Member(object, "losses"));
  c.norms = Numbers<double>(Member(object, "norms"));
  c.learning_rates = Numbers<double>(Member(object, "learning_rates"));
  return c;
}

// Adds the cases of one file; the data, which are the same for all files, are in one of them.
void ReadFile(const char *name, Recording *recording) {
  std::ifstream stream(source_file(name));
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const std::unique_ptr<cJSON, void (*)(cJSON *)> json(cJSON_Parse(text.c_str()), cJSON_Delete);
  if (!json) throw std::runtime_error(std::string(name) + ": missing or not JSON");
  const cJSON *item;
  cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json.get(), "data")) recording->data[item->string] =
      Numbers<float>(item);
  const int64_t inputs = static_cast<int64_t>(Member(json.get(), "inputs")->valuedouble);
  cJSON_ArrayForEach(item, Member(json.get(), "cases")) recording->cases.push_back(ParseCase(item, inputs));
}

Recording ReadRecording() {
  Recording recording;
  ReadFile("tests/fixtures/pytorch.json", &recording);
  ReadFile("tests/fixtures/timm.json", &recording);
  return recording;
}

const Recording &TheRecording() {
  static const Recording recording = ReadRecording();
  return recording;
}

const std::vector<float> &Data(const char *name) { return TheRecording().data.at(name); }

// ---- one training ---------------------------------------------------------------------------------------------------

struct Result {
  std::vector<double> losses, norms, final;
};

struct FreeNetwork {
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Network = std::unique_ptr<descent_network, FreeNetwork>;
struct CloseDevice {
  void operator()(descent_device *device) const { descent_device_close(device); }
};
using Device = std::unique_ptr<descent_device, CloseDevice>;

void Check(descent_status status) {
  if (status != DESCENT_OK) throw std::runtime_error(descent_last_error());
}

Device Open(const char *name) {
  descent_device *device = nullptr;
  Check(descent_device_open(name, 2, &device));
  return Device(device);
}

// The network with the recorded initial parameters, which are float32 numbers.
Network MakeNetwork(const Case &c) {
  descent_network_options options = descent_network_options_default();
  options.inputs = c.inputs;
  options.layers = static_cast<int32_t>(c.widths.size());
  options.widths = c.widths.data();
  options.activations = c.activations.data();
  options.loss = c.loss;
  descent_network *made = nullptr;
  Check(descent_network_create(&options, &made));
  Network network(made);
  const std::vector<float> initial(c.initial.begin(), c.initial.end());
  const float *next = initial.data();
  for (int32_t l = 1; l <= options.layers; l++) {
    const int64_t n_out = descent_network_width(made, l), weights = n_out * descent_network_width(made, l - 1);
    Check(descent_network_set_layer(made, l, next, next + weights));
    next += weights + n_out;
  }
  EXPECT_EQ(next, initial.data() + initial.size());
  return network;
}

descent_train_options OptionsOf(const Case &c) {
  descent_train_options options = c.options;
  options.class_weights = c.class_weights.empty() ? nullptr : c.class_weights.data();
  return options;
}

// The flat buffer without its gaps, in the order of the recording.
std::vector<double> Compact(const descent_network &network, const std::vector<double> &flat) {
  std::vector<double> values;
  for (int32_t l = 0; l < network.n_layers; l++) {
    const network_layer &layer = network.layers[l];
    const auto W = flat.begin() + layer.at.W, b = flat.begin() + layer.at.b;
    values.insert(values.end(), W, W + layer.n_in * layer.n_out);
    values.insert(values.end(), b, b + layer.n_out);
  }
  return values;
}

class Training {
 public:
  Training(const Case &c, const char *device) : case_(c), device_(Open(device)), network_(MakeNetwork(c)) {
    const descent_train_options options = OptionsOf(c);
    const std::vector<float> class_weights(c.class_weights.begin(), c.class_weights.end());
    const int64_t batch = *std::max_element(c.batches.begin(), c.batches.end());
    Check(program_create(network_.get(), device_.get(), &options, batch, 0,
                         class_weights.empty() ? nullptr : class_weights.data(), &program_));
    const auto bind = program_.backend->bind;
    const std::vector<float> &X = Data("X"), &y = Data(descent_loss_name(c.loss)), &w = Data("weights");
    const int64_t rows = static_cast<int64_t>(w.size());
    Check(bind(program_.compiled, program_.at.source_X, DESCENT_DTYPE_F32, X.data(), rows, true));
    Check(bind(program_.compiled, program_.at.source_y, DESCENT_DTYPE_F32, y.data(), rows, true));
    if (c.weighted) Check(bind(program_.compiled, program_.at.source_w, DESCENT_DTYPE_F32, w.data(), rows, true));
    Check(bind(program_.compiled, program_.at.source_index, DESCENT_DTYPE_I64, c.order.data(),
               static_cast<int64_t>(c.order.size()), true));
  }
  ~Training() { program_clear(&program_); }
  Training(const Training &) = delete;

  // All steps; with `push` every value written is moved to its bound, in a direction drawn from it.
  Result Run(std::mt19937_64 *push = nullptr) {
    Result result;
    plan_step step = {};
    for (size_t s = 0; s < case_.batches.size(); s++) {
      step.number = static_cast<int64_t>(s) + 1;
      step.rows = case_.batches[s];
      step.learning_rate = case_.learning_rates[s];
      if (push)
        RunPushed(step, *push);
      else
        Check(program_run(&program_, program_.plan->train, &step, 1));
      step.first_row += step.rows;
      double scalars[SCALAR_SLOTS];
      Check(program_read(&program_, program_.at.scalars, 0, SCALAR_SLOTS, PLAN_F64, scalars));
      EXPECT_EQ(scalars[SCALAR_BAD_STEP], 0);
      result.losses.push_back(scalars[SCALAR_LOSS]);
      result.norms.push_back(scalars[SCALAR_GRADIENT_NORM]);
    }
    std::vector<double> flat(static_cast<size_t>(network_->n_parameters));
    Check(program_read(&program_, program_.at.parameters, 0, network_->n_parameters, PLAN_F64, flat.data()));
    result.final = Compact(*network_, flat);
    return result;
  }

 private:
  void RunPushed(const plan_step &step, std::mt19937_64 &random) {
    const plan_range range = program_.plan->train;
    for (int op = range.first; op < range.first + range.count; op++) {
      bounds found = {};
      Check(bounds_run(program_.compiled, program_.plan, op, &step, &found));
      for (int i = 0; i < found.n; i++) {
        const bounds_output &output = found.outputs[i];
        std::vector<double> values(output.exact, output.exact + output.count);
        for (size_t j = 0; j < values.size(); j++)
          /* values that are exactly 0 (behind a relu, in a gap) are 0 in float32 as well: the recording avoids kinks */
          if (values[j] != 0) values[j] += random() & 1 ? output.bound[j] : -output.bound[j];
        Check(program_write(&program_, output.buffer, output.offset, output.count, PLAN_F64, values.data()));
      }
      bounds_clear(&found);
    }
  }

  const Case &case_;
  Device device_;
  Network network_;
  program program_ = {};
};

// ---- how far a training may drift -----------------------------------------------------------------------------------

double Largest(const std::vector<double> &a, const std::vector<double> &b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); i++) largest = std::fmax(largest, std::fabs(a[i] - b[i]));
  return largest;
}

// The allowed error of losses and norms up to each step, and of the final parameters.
struct Allowance {
  std::vector<double> losses, norms;
  double final = 0;
};

// The largest distance over a few pushed runs; for the steps also over the steps before, so that a lucky crossing of
// the two trainings does not count.
Allowance MeasureAllowance(const Case &c, const Result &exact) {
  constexpr int kRuns = 8;
  Allowance allowance;
  allowance.losses.assign(exact.losses.size(), 0);
  allowance.norms = allowance.losses;
  std::mt19937_64 random(1);
  for (int run = 0; run < kRuns; run++) {
    const Result pushed = Training(c, "reference").Run(&random);
    double loss = 0, norm = 0;
    for (size_t s = 0; s < exact.losses.size(); s++) {
      loss = std::fmax(loss, std::fabs(pushed.losses[s] - exact.losses[s]));
      norm = std::fmax(norm, std::fabs(pushed.norms[s] - exact.norms[s]));
      allowance.losses[s] = std::fmax(allowance.losses[s], loss);
      allowance.norms[s] = std::fmax(allowance.norms[s], norm);
    }
    allowance.final = std::fmax(allowance.final, Largest(pushed.final, exact.final));
  }
  return allowance;
}

void ExpectWithin(const Result &result, const Case &c, const Allowance &allowance, double scale) {
  ASSERT_EQ(result.losses.size(), c.losses.size());
  ASSERT_EQ(result.final.size(), c.final.size());
  for (size_t s = 0; s < c.losses.size(); s++) {
    EXPECT_LE(std::fabs(result.losses[s] - c.losses[s]), scale * allowance.losses[s]) << "loss of step " << s + 1;
    EXPECT_LE(std::fabs(result.norms[s] - c.norms[s]), scale * allowance.norms[s]) << "norm of step " << s + 1;
  }
  EXPECT_LE(Largest(result.final, c.final), scale * allowance.final) << "final parameters";
}

class PyTorch : public ::testing::TestWithParam<size_t> {
 protected:
  const Case &case_ = TheRecording().cases[GetParam()];
};

std::string CaseName(const ::testing::TestParamInfo<size_t> &info) { return TheRecording().cases[info.param].name; }

TEST_P(PyTorch, IsFollowedStepByStep) {
  const Result exact = Training(case_, "reference").Run();
  const Allowance allowance = MeasureAllowance(case_, exact);
  EXPECT_LT(allowance.losses.back(), 1e-3) << "a training this sensitive tells nothing: record another";
  {
    SCOPED_TRACE("reference");
    ExpectWithin(exact, case_, allowance, 2 * 0x1p-53 / 0x1p-24);
  }
  for (const char *device : {"cpu", "cuda"}) {
    SCOPED_TRACE(device);
    ExpectWithin(Training(case_, device).Run(), case_, allowance, 1);
  }
}

// The same through the public trainer, which receives the rows. Its parameters come back as float32.
TEST_P(PyTorch, IsFollowedByTheTrainer) {
  const Device device = Open("reference");
  const Network network = MakeNetwork(case_);
  descent_train_options options = OptionsOf(case_);
  options.schedule.kind = DESCENT_SCHEDULE_CONSTANT; /* each step's rate is set from the recording */
  options.schedule.warmup_steps = 0;
  descent_trainer *made = nullptr;
  const int64_t batch = *std::max_element(case_.batches.begin(), case_.batches.end());
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, batch, &made), DESCENT_OK)
      << descent_last_error();
  const std::unique_ptr<descent_trainer, void (*)(descent_trainer *)> trainer(made, descent_trainer_free);

  const Result exact = Training(case_, "reference").Run();
  const std::vector<float> &X = Data("X"), &y = Data(descent_loss_name(case_.loss)), &w = Data("weights");
  const int64_t inputs = case_.inputs, targets = static_cast<int64_t>(y.size() / w.size());
  auto next = case_.order.begin();
  for (size_t s = 0; s < case_.batches.size(); s++) {
    std::vector<float> X_rows, y_rows, w_rows;
    for (int64_t r = 0; r < case_.batches[s]; r++, next++) {
      X_rows.insert(X_rows.end(), X.begin() + *next * inputs, X.begin() + (*next + 1) * inputs);
      y_rows.insert(y_rows.end(), y.begin() + *next * targets, y.begin() + (*next + 1) * targets);
      w_rows.push_back(w[static_cast<size_t>(*next)]);
    }
    descent_step_info info;
    ASSERT_EQ(descent_trainer_set_learning_rate(made, case_.learning_rates[s]), DESCENT_OK);
    ASSERT_EQ(descent_trainer_step(made, X_rows.data(), y_rows.data(), case_.weighted ? w_rows.data() : nullptr,
                                   case_.batches[s], &info),
              DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(info.loss, exact.losses[s]) << "step " << s + 1;
    EXPECT_EQ(info.gradient_norm, exact.norms[s]) << "step " << s + 1;
  }
  ASSERT_EQ(descent_trainer_sync(made), DESCENT_OK);
  const std::vector<double> flat(network->parameters, network->parameters + network->n_parameters);
  const std::vector<double> final = Compact(*network, flat);
  for (size_t i = 0; i < final.size(); i++) EXPECT_EQ(final[i], static_cast<float>(exact.final[i])) << i;
}

// PyTorch multiplies its way from step to step: with at most 4 roundings in each of n steps, and ours of at most 8 in
// all, the two differ by at most (4 n + 8) 2^-53 of the rate at the start.
TEST_P(PyTorch, HasTheSameLearningRates) {
  descent_train_options options = OptionsOf(case_);
  options.epochs = 1; /* all steps are one epoch's, for the schedule that counts them */
  const int64_t steps = static_cast<int64_t>(case_.batches.size());
  const int64_t rows = static_cast<int64_t>(Data("weights").size());
  const double slack = (4 * static_cast<double>(steps) + 8) * 0x1p-53 * options.optimizer.learning_rate;
  schedule_plateau plateau{options.optimizer.learning_rate, 0};
  double best = INFINITY, epoch_loss = 0;
  for (int64_t step = 1, epoch = 1, done = 0; step <= steps; step++) {
    const size_t s = static_cast<size_t>(step - 1);
    const double rate = schedule_learning_rate(&options, &plateau, step, epoch, steps);
    EXPECT_LE(std::fabs(rate - case_.learning_rates[s]), slack) << "step " << step;
    epoch_loss += case_.losses[s] * static_cast<double>(case_.batches[s]) / static_cast<double>(rows);
    done += case_.batches[s];
    if (done < rows) continue;
    const bool improved = epoch_loss < best - options.early_stopping.min_delta;
    if (improved) best = epoch_loss;
    schedule_plateau_advance(&options, &plateau, improved);
    done = 0;
    epoch_loss = 0;
    epoch++;
  }
}

INSTANTIATE_TEST_SUITE_P(Recorded, PyTorch, ::testing::Range(size_t{0}, TheRecording().cases.size()), CaseName);

}  // namespace
