/* A dataset of an array of bytes gives the bits of the same numbers as float32 in every use of a dataset, and takes a
 * quarter of the memory. */
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoints.h"
#include "device_memory.h"
extern "C" {
#include "train/predictor.h"
}

namespace {

using arrays::Layout;
namespace gpu = device_memory;

/* Row r of so many columns: grey levels with both ends, and a constant column. */
std::vector<double> levels(int64_t rows, int64_t inputs) {
  std::mt19937 random(11);
  std::vector<double> values(static_cast<size_t>(rows * inputs));
  for (double &x : values) x = static_cast<double>(random() % 256);
  for (int64_t r = 0; r < rows; r++) values[static_cast<size_t>(r * inputs + 1)] = 7;
  values[0] = 0, values[2] = 255;
  return values;
}

Dataset wrapped(descent_device *device, const descent_array *X, const descent_array *y) {
  descent_dataset *made = nullptr;
  EXPECT_EQ(descent_dataset_create_arrays(device, X, y, nullptr, DESCENT_TASK_CLASSES, 3, &made), DESCENT_OK)
      << descent_last_error();
  return {made, descent_dataset_free};
}

/* The same rows as bytes and as float32. */
struct Twins {
  enum { ROWS = 90 };
  arrays::Array X, wide, y;
  Dataset bytes, floats;

  explicit Twins(int64_t inputs)
      : X(DESCENT_DTYPE_U8, arrays::DENSE, ROWS, inputs, levels(ROWS, inputs)),
        wide(DESCENT_DTYPE_F32, arrays::DENSE, ROWS, inputs, levels(ROWS, inputs)),
        y(DESCENT_DTYPE_U8, arrays::DENSE, ROWS, 1, classes()),
        bytes(wrapped(nullptr, &X, &y)),
        floats(wrapped(nullptr, &wide, &y)) {
    EXPECT_EQ(static_cast<const void *>(bytes->storage->bytes), X.array.data) << "borrowed";
    EXPECT_EQ(bytes->storage->X, nullptr);
  }
  static std::vector<double> classes() {
    std::vector<double> values;
    for (int r = 0; r < ROWS; r++) values.push_back((r * r) % 3);
    return values;
  }
};

/* One byte per access of a GPU, four, and more columns than are widened at a time. */
const int64_t widths[] = {11, 12, DATASET_PIECE + 1};

struct Place {
  const char *device, *megabytes; /* of data in GPU memory; NULL: no limit */
};
const Place places[] = {{"reference", nullptr}, {"cpu", nullptr}, {"cuda", nullptr}, {"cuda", "0"}};

void limit(const Place &place) {
  if (place.megabytes)
    setenv("DESCENT_GPU_DATA_MB", place.megabytes, 1);
  else
    unsetenv("DESCENT_GPU_DATA_MB");
}

/* All that a training on the data and uses of its network give. */
std::vector<double> results(descent_device *device, const descent_dataset *data, int64_t inputs, descent_normalize kind,
                            descent_impute impute) {
  std::vector<double> all;
  descent_dataset *kept = nullptr, *held_out = nullptr;
  EXPECT_EQ(descent_dataset_split(data, 0.3, 5, &kept, &held_out), DESCENT_OK);
  const Dataset training{kept, descent_dataset_free}, validation{held_out, descent_dataset_free};
  const Network network = make_network({inputs, 6, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  EXPECT_EQ(descent_network_fit_preprocessing(network.get(), kept, kind, impute, false), DESCENT_OK)
      << descent_last_error();
  for (int64_t j = 0; j < inputs; j++)
    for (const float *values : {network->fill, network->shift, network->scale}) all.push_back(values ? values[j] : 9);
  descent_train_options options = descent_train_options_default();
  options.epochs = 2;
  options.batch_size = 16;
  options.dropout = 0.2;
  options.autotune = false;
  EXPECT_EQ(descent_fit(network.get(), device, kept, held_out, &options, nullptr), DESCENT_OK) << descent_last_error();
  for (const float w : parameters_of(network)) all.push_back(w);
  for (const descent_dataset *part : {data, static_cast<const descent_dataset *>(held_out)}) {
    std::vector<float> P(static_cast<size_t>(3 * descent_dataset_rows(part)));
    EXPECT_EQ(descent_predict(network.get(), device, part, P.data()), DESCENT_OK) << descent_last_error();
    all.insert(all.end(), P.begin(), P.end());
    descent_metrics metrics{};
    EXPECT_EQ(descent_evaluate(network.get(), device, part, 0, &metrics), DESCENT_OK) << descent_last_error();
    all.insert(all.end(), {metrics.loss, metrics.accuracy});
    descent_metrics_clear(&metrics);
  }
  return all;
}

TEST(Bytes, GiveTheBitsOfFloat32Everywhere) {
  for (const int64_t inputs : widths) {
    const Twins data(inputs);
    for (const Place &place : places) {
      SCOPED_TRACE(std::string(place.device) + ", " + std::to_string(inputs) + " inputs");
      limit(place);
      const Device device = open_device(place.device);
      for (const auto &[kind, impute] : {std::pair{DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN},
                                         {DESCENT_NORMALIZE_MINMAX, DESCENT_IMPUTE_MEDIAN},
                                         {DESCENT_NORMALIZE_NONE, DESCENT_IMPUTE_MOST_FREQUENT}}) {
        const std::vector<double> found = results(device.get(), data.bytes.get(), inputs, kind, impute);
        EXPECT_EQ(found, results(device.get(), data.floats.get(), inputs, kind, impute));
        for (const double x : found) ASSERT_TRUE(std::isfinite(x));
        if (inputs != widths[0]) break; /* one of them shows it */
      }
    }
  }
  unsetenv("DESCENT_GPU_DATA_MB");
}

TEST(Bytes, OfEveryLayoutAreTheirValues) {
  const int64_t rows = 3, inputs = 70000; /* a row is more than is converted at a time */
  const std::vector<double> values = levels(rows, inputs);
  for (int layout = 0; layout < arrays::LAYOUTS; layout++) {
    SCOPED_TRACE(arrays::layout_name(layout));
    const arrays::Array X(DESCENT_DTYPE_U8, Layout(layout), rows, inputs, values);
    const Dataset data = wrapped(nullptr, &X, nullptr);
    ASSERT_EQ(data->storage->X, nullptr);
    std::vector<float> row(static_cast<size_t>(inputs));
    for (int64_t r = 0; r < rows; r++) {
      ASSERT_EQ(descent_dataset_row(data.get(), r, row.data()), DESCENT_OK);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), X.rows.begin() + r * inputs)) << r;
      EXPECT_EQ(descent_dataset_input_value(data.get(), r, 2), values[static_cast<size_t>(r * inputs + 2)]);
    }
    std::vector<int64_t> missing(static_cast<size_t>(inputs), 1);
    descent_dataset_missing(data.get(), missing.data());
    EXPECT_EQ(missing, std::vector<int64_t>(missing.size()));
  }
}

/* Whole, and a view of rows that are not adjacent. */
TEST(Bytes, AreSavedAsFloat32Is) {
  const Twins data(11);
  const Scratch folder;
  descent_dataset *parts[2][2] = {};
  ASSERT_EQ(descent_dataset_split(data.bytes.get(), 0.3, 5, &parts[0][0], &parts[0][1]), DESCENT_OK);
  ASSERT_EQ(descent_dataset_split(data.floats.get(), 0.3, 5, &parts[1][0], &parts[1][1]), DESCENT_OK);
  const descent_dataset *const pairs[][2] = {
      {data.bytes.get(), data.floats.get()}, {parts[0][0], parts[1][0]}, {parts[0][1], parts[1][1]}};
  for (const char *ending : {"csv", "tsv", "npy", "npz", "idx", "svm", "safetensors", "h5"})
    for (const auto &pair : pairs) {
      std::string saved[2];
      for (int k = 0; k < 2; k++) {
        const std::string path = folder / (std::string("d.") + ending);
        const descent_status status = descent_dataset_save(pair[k], path.c_str());
        if (status == DESCENT_ERROR_UNSUPPORTED) continue; /* a build without the format: both */
        ASSERT_EQ(status, DESCENT_OK) << descent_last_error();
        saved[k] = read_file(path);
        EXPECT_FALSE(saved[k].empty());
      }
      EXPECT_TRUE(saved[0] == saved[1]) << ending;
    }
  for (auto &part : parts)
    for (descent_dataset *view : part) descent_dataset_free(view);
}

TEST(Bytes, AreRefusedWithTheLineOfFloat32) {
  const Twins data(11);
  const Device device = open_device("cpu");
  const Network network = make_network({11, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  std::vector<float> P(3 * Twins::ROWS);
  network->scale[4] = 1e30F;
  std::string text[2];
  for (int k = 0; k < 2; k++) {
    const Dataset &given = k ? data.floats : data.bytes;
    ASSERT_EQ(descent_predict(network.get(), device.get(), given.get(), P.data()), DESCENT_ERROR_DATA);
    text[k] = descent_last_error();
  }
  EXPECT_EQ(text[0], text[1]);
  EXPECT_NE(text[0].find("input 4 (from 0) is "), std::string::npos) << text[0];
}

/* A network that subtracts offsets has a copy made, of float32. */
TEST(Bytes, AreAlignedWithANetwork) {
  const Twins data(11);
  const Network network = make_network({11, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  network->schema.offsets = static_cast<double *>(calloc(11, sizeof(double)));
  network->schema.n_offsets = 11;
  network->schema.offsets[2] = 100;
  for (const char *name : {"reference", "cpu", "cuda"}) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    std::vector<float> P(3 * Twins::ROWS), expected(P), plain(P);
    ASSERT_EQ(descent_predict(network.get(), device.get(), data.bytes.get(), P.data()), DESCENT_OK);
    ASSERT_EQ(descent_predict(network.get(), device.get(), data.floats.get(), expected.data()), DESCENT_OK);
    EXPECT_EQ(P, expected);
    network->schema.offsets[2] = 0;
    ASSERT_EQ(descent_predict(network.get(), device.get(), data.bytes.get(), plain.data()), DESCENT_OK);
    network->schema.offsets[2] = 100;
    EXPECT_NE(P, plain);
  }
}

/* ---- checkpoints ---- */

TEST(Bytes, ResumeFromACheckpoint) {
  const int64_t rows = 80, inputs = 4;
  const std::vector<double> values = levels(rows, inputs);
  arrays::Array X(DESCENT_DTYPE_U8, arrays::DENSE, rows, inputs, values);
  const arrays::Array y(DESCENT_DTYPE_I32, arrays::DENSE, rows, 1, [] {
    const std::vector<double> all = Twins::classes();
    return std::vector<double>(all.begin(), all.begin() + 80);
  }());
  const Dataset data = wrapped(nullptr, &X, &y);
  for (const char *device : {"cpu", "cuda"}) {
    SCOPED_TRACE(device);
    Job job = small_job();
    job.device = device;
    job.validate = false;
    job.fit = [&](descent_network *network, descent_device *on, const descent_dataset *,
                  const descent_train_options *options, descent_fit_result *result) {
      const descent_status status = descent_network_fit_preprocessing(network, data.get(), DESCENT_NORMALIZE_STANDARD,
                                                                      DESCENT_IMPUTE_MEAN, false);
      return status == DESCENT_OK ? descent_fit(network, on, data.get(), nullptr, options, result) : status;
    };
    const Scratch scratch;
    const Job::Outcome whole = job.run();
    expect_same_end(whole, job.run_keeping_all(scratch / "all"));
    const std::string alone = scratch / "alone";
    std::filesystem::create_directory(alone);
    std::filesystem::copy(scratch / ("all/" + checkpoint_name(5)), alone + "/" + checkpoint_name(5));
    const Job::Outcome resumed = job.resume(alone);
    ASSERT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED).size(), 1u);
    expect_same_end(whole, resumed);
    char *const cell = X.at(40, 3);
    *cell = static_cast<char>(*cell ^ 1);
    const Job::Outcome changed = job.resume(scratch / "all");
    *cell = static_cast<char>(*cell ^ 1);
    EXPECT_EQ(changed.status, DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(changed.error.find("data"), std::string::npos) << changed.error;
  }
}

/* ---- memory of a GPU ---- */

struct Compiled {
  struct program program {};
  Compiled(const Network &network, const Device &device, int64_t batch) {
    const descent_train_options options = descent_train_options_default();
    EXPECT_EQ(program_create(network.get(), device.get(), &options, batch, 0, nullptr, &program), DESCENT_OK)
        << descent_last_error();
  }
  ~Compiled() { program_clear(&program); }
  Compiled(const Compiled &) = delete;
  int64_t memory() const { return program.backend->memory(program.compiled); }
};

/* A block of predictions of rows from the middle of the data. */
std::vector<float> predicted(Compiled &made, const Dataset &data) {
  std::vector<float> P(3 * 8);
  EXPECT_EQ(program_bind(&made.program, data.get()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(program_run_block(&made.program, made.program.plan->predict, 40, 8), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(program_read(&made.program, made.program.at.P, 0, 3 * 8, PLAN_F32, P.data()), DESCENT_OK);
  return P;
}

/* One program takes either type; slots of bytes are replaced by those of float32, and serve both from then on. */
TEST(Bytes, TakeAQuarterOfAGpusMemory) {
  enum { INPUTS = 12, BATCH = 8, SLOTS = 2, STEPS = 1024 /* of a slot */ };
  const Twins data(INPUTS);
  const Device device = open_device("cuda");
  const Network network = make_network({INPUTS, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const int64_t rest = 4 /* y */;
  for (const bool streamed : {false, true}) {
    SCOPED_TRACE(streamed ? "streamed" : "resident");
    limit({"cuda", streamed ? "0" : nullptr});
    Compiled of_floats(network, device, BATCH), of_bytes(network, device, BATCH);
    const int64_t before = of_bytes.memory();
    ASSERT_EQ(of_floats.memory(), before);
    const int64_t rows = streamed ? SLOTS * STEPS * BATCH : Twins::ROWS;
    const int64_t row_rest = streamed ? rest + 4 /* w, which may be bound later */ : rest;
    const std::vector<float> expected = predicted(of_floats, data.floats);
    EXPECT_EQ(of_floats.memory() - before, rows * (INPUTS * 4 + row_rest));
    EXPECT_EQ(predicted(of_bytes, data.bytes), expected);
    EXPECT_EQ(of_bytes.memory() - before, rows * (INPUTS + row_rest));
    EXPECT_EQ(predicted(of_bytes, data.floats), expected);
    EXPECT_EQ(predicted(of_bytes, data.bytes), expected);
    EXPECT_EQ(predicted(of_bytes, data.floats), expected);
    const int64_t both = rows * (INPUTS * 4 + row_rest) + (streamed ? 0 : rows * (INPUTS + row_rest));
    EXPECT_EQ(of_bytes.memory() - before, both);
    EXPECT_EQ(predicted(of_floats, data.bytes), expected);
  }
  unsetenv("DESCENT_GPU_DATA_MB");
}

/* Where X is read is seen by changing it: the dataset's copy on the host stays as it was. */
TEST(Bytes, OfAGpuAreReadInPlace) {
  const Device device = open_device("cuda"), cpu = open_device("cpu");
  for (const int64_t inputs : widths) {
    SCOPED_TRACE(inputs);
    const Twins data(inputs);
    const gpu::Array X_there(data.X), y_there(data.y);
    const Dataset there = wrapped(device.get(), &X_there, &y_there);
    EXPECT_EQ(results(device.get(), there.get(), inputs, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN),
              results(device.get(), data.floats.get(), inputs, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN));
    const Network network = make_network({inputs, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    const std::vector<char> zeros(data.X.bytes.size());
    std::vector<float> P(3 * Twins::ROWS), expected(P);
    gpu::call("cudaMemcpy", X_there.array.data, static_cast<const void *>(zeros.data()), zeros.size(),
              static_cast<int>(gpu::TO_DEVICE));
    ASSERT_EQ(descent_predict_raw(network.get(), device.get(), there.get(), P.data()), DESCENT_OK);
    EXPECT_EQ(P, std::vector<float>(P.size())) << "the biases, read from the GPU's memory";
    ASSERT_EQ(descent_predict_raw(network.get(), cpu.get(), there.get(), P.data()), DESCENT_OK);
    ASSERT_EQ(descent_predict_raw(network.get(), cpu.get(), data.floats.get(), expected.data()), DESCENT_OK);
    EXPECT_EQ(P, expected) << "read from the copy on the host";
  }
}

/* A copy would take memory of the GPU. */
TEST(Bytes, OfAGpuAreNotCopiedForAStepOrAPrediction) {
  enum { INPUTS = 12 };
  const Device device = open_device("cuda");
  const Twins data(INPUTS);
  const arrays::Array y(DESCENT_DTYPE_F32, arrays::DENSE, Twins::ROWS, 1, Twins::classes()),
      P(DESCENT_DTYPE_F32, arrays::DENSE, Twins::ROWS, 3);
  const gpu::Array X_there(data.X), wide_there(data.wide), y_there(y), P_there(P), P_of_wide(P);
  const Network network = make_network({INPUTS, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const descent_train_options options = descent_train_options_default();
  descent_predictor *made = nullptr;
  ASSERT_EQ(descent_predictor_create(network.get(), device.get(), Twins::ROWS, &made), DESCENT_OK);
  const std::unique_ptr<descent_predictor, void (*)(descent_predictor *)> predictor{made, descent_predictor_free};
  descent_trainer *created = nullptr;
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, Twins::ROWS, &created), DESCENT_OK);
  const Trainer trainer{created, descent_trainer_free};
  const auto memory = [](const program &of) { return of.backend->memory(of.compiled); };
  const int64_t of_predictor = memory(predictor->ensemble.programs[0]), of_trainer = memory(trainer->program);
  ASSERT_EQ(descent_predictor_run_arrays(made, &X_there, &P_there), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(descent_predictor_run_arrays(made, &wide_there, &P_of_wide), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(P_there.bytes(), P_of_wide.bytes());
  EXPECT_EQ(memory(predictor->ensemble.programs[0]), of_predictor);
  descent_step_info info[2];
  ASSERT_EQ(descent_trainer_gradient_arrays(created, &X_there, &y_there, nullptr, &info[0]), DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(descent_trainer_gradient_arrays(created, &wide_there, &y_there, nullptr, &info[1]), DESCENT_OK);
  EXPECT_EQ(info[0].loss, info[1].loss);
  EXPECT_EQ(info[0].gradient_norm, info[1].gradient_norm);
  ASSERT_EQ(descent_trainer_step_arrays(created, &X_there, &y_there, nullptr, nullptr), DESCENT_OK);
  EXPECT_EQ(memory(trainer->program), of_trainer);
}

/* ---- what programs refuse ---- */

TEST(Bytes, AreForInputsOnly) {
  const Network network = make_network({2, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const uint8_t values[] = {0, 1};
  for (const char *name : {"reference", "cpu", "cuda"}) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    Compiled made(network, device, 4);
    const struct {
      int buffer;
      descent_dtype dtype;
      const char *text; /* NULL: taken */
    } table[] = {
        {made.program.at.source_X, DESCENT_DTYPE_U8, nullptr},
        {made.program.at.source_y, DESCENT_DTYPE_U8, "bind: buffer source_y cannot hold elements of dtype 4"},
        {made.program.at.source_w, DESCENT_DTYPE_U8, "bind: buffer source_w cannot hold elements of dtype 4"},
        {made.program.at.source_index, DESCENT_DTYPE_U8, "bind: buffer source_index cannot hold elements of dtype 4"},
        {made.program.at.source_X, DESCENT_DTYPE_F16, "bind: buffer source_X cannot hold elements of dtype 2"},
    };
    for (const auto &row : table) {
      const descent_status status = program_bind_buffer(&made.program, row.buffer, row.dtype, values, 1, false);
      ASSERT_EQ(status, row.text ? DESCENT_ERROR_ARGUMENT : DESCENT_OK);
      if (row.text) {
        EXPECT_STREQ(descent_last_error(), row.text);
      }
    }
  }
}

}  // namespace
