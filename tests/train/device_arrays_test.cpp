/* Arrays in a GPU's memory give the bits of the same numbers as dense float32 in the host's, at every dtype and stride,
 * and are ordered with the caller's stream. */
#include <gtest/gtest.h>

#include "device_memory.h"
#include "scratch.h"
#include "training.h"

namespace {

using arrays::Layout;
namespace gpu = device_memory;
using Predictor = std::unique_ptr<descent_predictor, void (*)(descent_predictor *)>;

std::vector<double> numbers(int64_t count, double scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> values(static_cast<size_t>(count));
  for (double &x : values) x = normal(random);
  return values;
}

struct Case {
  descent_dtype dtype;
  Layout layout;
};
/* GPUs read whole elements only: the unaligned layout is for elements of one byte. */
std::vector<Case> cases() {
  std::vector<Case> list;
  for (const descent_dtype dtype : arrays::dtypes) list.push_back({dtype, Layout(static_cast<int>(list.size()) % 5)});
  for (int layout = 0; layout < arrays::UNALIGNED; layout++) list.push_back({DESCENT_DTYPE_F32, Layout(layout)});
  list.push_back({DESCENT_DTYPE_U8, arrays::UNALIGNED});
  return list;
}
std::string name_of(const Case &c) {
  return std::string(descent_dtype_name(c.dtype)) + ", " + arrays::layout_name(c.layout);
}

Predictor make_predictor(const Network &network, const Device &device, int64_t rows,
                         descent_precision precision = DESCENT_PRECISION_FP32) {
  descent_predict_options options = descent_predict_options_default();
  options.precision = precision;
  descent_predictor *made = nullptr;
  EXPECT_EQ(descent_predictor_create_with(network.get(), device.get(), &options, rows, &made), DESCENT_OK)
      << descent_last_error();
  return {made, descent_predictor_free};
}
Trainer make_trainer(const Network &network, const Device &device, int64_t rows,
                     descent_fusion fusion = DESCENT_FUSION_AUTO) {
  descent_train_options options = descent_train_options_default();
  options.gpu.fusion = fusion;
  descent_trainer *made = nullptr;
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, rows, &made), DESCENT_OK)
      << descent_last_error();
  return {made, descent_trainer_free};
}

/* With missing cells that are filled, normalised inputs, and n_x with and without accesses of 16 bytes. */
Network fitted_network(int64_t inputs, std::vector<double> &X) {
  Network network = make_network({inputs, 9, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Rows rows = make_rows(20, inputs, 1, 3, 7);
  EXPECT_EQ(descent_network_fit_preprocessing(network.get(), rows.dataset().get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK);
  X[1] = X[static_cast<size_t>(2 * inputs)] = NAN;
  return network;
}
bool holds_missing(descent_dtype dtype) { return dtype < DESCENT_DTYPE_U8; }

TEST(DeviceArrays, APredictorUsesThem) {
  const int64_t rows = 7, outputs = 3;
  const Device device = open_device("cuda");
  for (const int64_t inputs : {8, 11}) {
    std::vector<double> X = numbers(rows * inputs, 2, 2);
    const Network network = fitted_network(inputs, X);
    const Predictor predictor = make_predictor(network, device, rows);
    for (const Case &c : cases()) {
      SCOPED_TRACE(name_of(c));
      std::vector<double> present = X;
      for (double &x : present)
        if (!holds_missing(c.dtype) && std::isnan(x)) x = 1;
      const arrays::Array host(c.dtype, c.layout, rows, inputs, present);
      const gpu::Array given(host);
      const bool is_float = holds_missing(c.dtype);
      const Layout layout = c.layout == arrays::UNALIGNED ? arrays::DENSE : c.layout;
      const arrays::Array to_host(is_float ? c.dtype : DESCENT_DTYPE_F64, layout, rows, outputs);
      for (const bool raw : {false, true}) {
        std::vector<float> expected(static_cast<size_t>(rows * outputs)), found(expected);
        ASSERT_EQ((raw ? descent_predictor_run_raw : descent_predictor_run)(predictor.get(), host.rows.data(), rows,
                                                                            expected.data()),
                  DESCENT_OK);
        const arrays::Array wanted(to_host.array.dtype, layout, rows, outputs, {expected.begin(), expected.end()});
        const auto run = raw ? descent_predictor_run_raw_arrays : descent_predictor_run_arrays;
        const gpu::Array to(to_host);
        ASSERT_EQ(run(predictor.get(), &given, &to), DESCENT_OK) << descent_last_error();
        EXPECT_EQ(to.bytes(), wanted.bytes) << "from the GPU to the GPU";
        const arrays::Array back(to_host.array.dtype, layout, rows, outputs);
        ASSERT_EQ(run(predictor.get(), &given, &back), DESCENT_OK) << descent_last_error();
        EXPECT_EQ(back.bytes, wanted.bytes) << "from the GPU to the host";
        const gpu::Array again(to_host);
        ASSERT_EQ(run(predictor.get(), &host, &again), DESCENT_OK) << descent_last_error();
        EXPECT_EQ(again.bytes(), wanted.bytes) << "from the host to the GPU";
      }
    }
  }
}

/* Parameters after three steps on arrays, each on the GPU or not. */
std::vector<float> learn(const Device &device, int64_t inputs, int64_t rows, const descent_array *X,
                         const descent_array *y, const descent_array *weights) {
  const Network network = make_network({inputs, 5, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Trainer trainer = make_trainer(network, device, rows);
  for (int step = 0; step < 3; step++)
    EXPECT_EQ(descent_trainer_step_arrays(trainer.get(), X, y, weights, nullptr), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
  return parameters_of(network);
}

TEST(DeviceArrays, ATrainerLearnsFromThem) {
  const int64_t rows = 6, inputs = 4;
  const Device device = open_device("cuda");
  const std::vector<double> values = numbers(rows * inputs, 3, 4);
  for (const Case &c : cases()) {
    SCOPED_TRACE(name_of(c));
    const arrays::Array X(c.dtype, c.layout, rows, inputs, values), y(c.dtype, c.layout, rows, 1, {0, 2, 1, 1, 0, 2}),
        w(c.dtype, c.layout, rows, 1, {1, 0.5, 0.25, 2, 3, 1});
    const gpu::Array X_there(X), y_there(y), w_there(w);
    const std::vector<float> expected = learn(device, inputs, rows, &X, &y, &w);
    EXPECT_EQ(learn(device, inputs, rows, &X_there, &y_there, &w_there), expected);
    EXPECT_EQ(learn(device, inputs, rows, &X_there, &y, &w_there), expected);
    EXPECT_EQ(learn(device, inputs, rows, &X, &y_there, &w), expected);
    EXPECT_EQ(learn(device, inputs, rows, &X_there, &y_there, nullptr), learn(device, inputs, rows, &X, &y, nullptr));
  }
}

/* Targets of several columns. */
TEST(DeviceArrays, ATrainerRegressesOnThem) {
  const int64_t rows = 5, inputs = 3, K = 2;
  const Device device = open_device("cuda");
  const arrays::Array X(DESCENT_DTYPE_F64, arrays::BY_COLUMN, rows, inputs, numbers(rows * inputs, 1, 8)),
      y(DESCENT_DTYPE_F16, arrays::PADDED, rows, K, numbers(rows * K, 1, 9));
  const gpu::Array X_there(X), y_there(y);
  std::vector<float> learnt[2];
  for (const bool there : {false, true}) {
    const Network network = make_network({inputs, 4, K}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
    const Trainer trainer = make_trainer(network, device, rows);
    for (int step = 0; step < 3; step++)
      ASSERT_EQ(
          descent_trainer_step_arrays(trainer.get(), there ? &X_there : &X, there ? &y_there : &y, nullptr, nullptr),
          DESCENT_OK)
          << descent_last_error();
    ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
    learnt[there] = parameters_of(network);
  }
  EXPECT_EQ(learnt[0], learnt[1]);
}

/* A step in one kernel gathers the rows itself, from where they are. No other kernel of several layers takes so many
 * inputs. */
TEST(DeviceArrays, AWholeStepLearnsFromThem) {
  const int64_t rows = 32, inputs = 400;
  const Device device = open_device("cuda");
  std::vector<double> classes, weights;
  for (int r = 0; r < rows; r++) classes.push_back(r % 3), weights.push_back(0.5 + r % 7);
  const arrays::Array y(DESCENT_DTYPE_F32, arrays::DENSE, rows, 1, classes),
      w(DESCENT_DTYPE_F32, arrays::DENSE, rows, 1, weights);
  const gpu::Array y_there(y), w_there(w);
  for (const Case &c : {Case{DESCENT_DTYPE_F32, arrays::DENSE},
                        {DESCENT_DTYPE_U8, arrays::DENSE},
                        {DESCENT_DTYPE_F32, arrays::PADDED}}) {
    SCOPED_TRACE(name_of(c));
    const arrays::Array X(c.dtype, c.layout, rows, inputs, numbers(rows * inputs, 3, 4));
    const gpu::Array X_there(X);
    std::vector<float> learnt[2];
    for (const bool there : {false, true}) {
      const Network network =
          make_network({inputs, 80, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
      const Trainer trainer = make_trainer(network, device, rows, DESCENT_FUSION_ON);
      for (int step = 0; step < 3; step++)
        ASSERT_EQ(descent_trainer_step_arrays(trainer.get(), there ? &X_there : &X, there ? &y_there : &y,
                                              there ? &w_there : &w, nullptr),
                  DESCENT_OK)
            << descent_last_error();
      ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
      learnt[there] = parameters_of(network);
    }
    EXPECT_EQ(learnt[1], learnt[0]);
  }
}

TEST(DeviceArrays, ThePartsOfAStepUseThem) {
  const int64_t rows = 6, inputs = 4, K = 3;
  const Device device = open_device("cuda");
  std::vector<double> values = numbers(rows * inputs, 3, 5);
  const Network network = fitted_network(inputs, values);
  const Trainer trainer = make_trainer(network, device, rows);
  const Predictor predictor = make_predictor(network, device, rows);
  for (const descent_dtype dtype : arrays::floats)
    for (int layout = 0; layout < arrays::UNALIGNED; layout++) {
      SCOPED_TRACE(name_of({dtype, Layout(layout)}));
      const arrays::Array X(dtype, Layout(layout), rows, inputs, values),
          y(DESCENT_DTYPE_I64, Layout(layout), rows, 1, {0, 2, 1, 1, 0, 2}),
          d(dtype, Layout(layout), rows, K, numbers(rows * K, 1, 6)), A(dtype, Layout(layout), rows, K),
          dX(dtype, Layout(layout), rows, inputs);
      const gpu::Array X_there(X), y_there(y), d_there(d), A_there(A), dX_there(dX), dX_too(dX);
      std::vector<float> dW[2][2];
      for (auto &both : dW)
        for (auto &part : both) part.resize(static_cast<size_t>(9 * inputs));
      for (const bool there : {false, true}) {
        ASSERT_EQ(descent_trainer_gradient_arrays(trainer.get(), there ? &X_there : &X, there ? &y_there : &y, nullptr,
                                                  nullptr),
                  DESCENT_OK)
            << descent_last_error();
        ASSERT_EQ(descent_trainer_get_gradient(trainer.get(), 1, dW[there][0].data(), nullptr), DESCENT_OK);
        ASSERT_EQ(descent_trainer_forward_arrays(trainer.get(), there ? &X_there : &X, there ? &A_there : &A),
                  DESCENT_OK)
            << descent_last_error();
        ASSERT_EQ(descent_trainer_backward_arrays(trainer.get(), there ? &d_there : &d, there ? &dX_there : &dX, true),
                  DESCENT_OK)
            << descent_last_error();
        ASSERT_EQ(descent_trainer_get_gradient(trainer.get(), 1, dW[there][1].data(), nullptr), DESCENT_OK);
      }
      EXPECT_EQ(dW[0][0], dW[1][0]);
      EXPECT_EQ(dW[0][1], dW[1][1]);
      EXPECT_EQ(A_there.bytes(), A.bytes);
      EXPECT_EQ(dX_there.bytes(), dX.bytes);
      const arrays::Array sensitivities(dtype, Layout(layout), rows, inputs);
      ASSERT_EQ(descent_predictor_input_gradient_arrays(predictor.get(), &X, &d, &sensitivities), DESCENT_OK);
      ASSERT_EQ(descent_predictor_input_gradient_arrays(predictor.get(), &X_there, &d_there, &dX_too), DESCENT_OK)
          << descent_last_error();
      EXPECT_EQ(dX_too.bytes(), sensitivities.bytes);
    }
}

/* A network that subtracts offsets, of columns that float32 is too coarse for, does so on the host. */
TEST(DeviceArrays, ANetworkWithOffsetsTakesThem) {
  const int64_t rows = 4, inputs = 2;
  const Scratch folder;
  std::string text = "time,a,y\n";
  for (int i = 0; i < 40; i++)
    text += std::to_string(1700000000 + i) + "," + std::to_string(i % 7) + "," + std::to_string(i % 3) + ".5\n";
  write_file(folder / "table.csv", text);
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "y";
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read((folder / "table.csv").c_str(), &options, &read), DESCENT_OK) << descent_last_error();
  const Dataset data{read, descent_dataset_free};
  const Network network = make_network({inputs, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  ASSERT_EQ(
      descent_network_fit_preprocessing(network.get(), read, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
      DESCENT_OK);
  ASSERT_NE(descent_network_input_offset(network.get(), 0), 0);
  const arrays::Array X(DESCENT_DTYPE_F32, arrays::PADDED, rows, inputs,
                        {1700000000, 1, 1700000128, 2, 1699999872, 3, 1700000000, 4}),
      y(DESCENT_DTYPE_F64, arrays::DENSE, rows, 1, {1, 2, 3, 4}), to(DESCENT_DTYPE_F64, arrays::DENSE, rows, 1);
  const gpu::Array X_there(X), y_there(y), to_there(to);
  const Device device = open_device("cuda");
  const Predictor predictor = make_predictor(network, device, rows);
  ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &X, &to), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &X_there, &to_there), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(to_there.bytes(), to.bytes);
  const Trainer trainer = make_trainer(network, device, rows);
  descent_step_info info[2];
  ASSERT_EQ(descent_trainer_gradient_arrays(trainer.get(), &X, &y, nullptr, &info[0]), DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(descent_trainer_gradient_arrays(trainer.get(), &X_there, &y_there, nullptr, &info[1]), DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(info[0].loss, info[1].loss);
  EXPECT_EQ(info[0].gradient_norm, info[1].gradient_norm);
  EXPECT_LT(info[0].loss, 1e4) << "inputs near 0, not near 1.7e9";
}

/* ---- datasets ---- */

/* Where X is read is seen by changing it: the dataset's copy on the host stays as it was. */
TEST(DeviceArrays, ADatasetIsTrainedWhereItIs) {
  const int64_t rows = 40, inputs = 4;
  const Device device = open_device("cuda");
  const Rows data = make_rows(rows, inputs, 1, 3, 12);
  const arrays::Array X(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, {data.X.begin(), data.X.end()}),
      y(DESCENT_DTYPE_I64, arrays::DENSE, rows, 1, {data.y.begin(), data.y.end()});
  const gpu::Array X_there(X), y_there(y);
  descent_dataset *made = nullptr, *kept = nullptr, *held_out = nullptr;
  ASSERT_EQ(descent_dataset_create_arrays(device.get(), &X_there, &y_there, nullptr, DESCENT_TASK_CLASSES, 3, &made),
            DESCENT_OK)
      << descent_last_error();
  const Dataset there{made, descent_dataset_free};
  ASSERT_EQ(descent_dataset_split(made, 0.25, 1, &kept, &held_out), DESCENT_OK);
  const Dataset training{kept, descent_dataset_free}, validation{held_out, descent_dataset_free};
  descent_train_options options = descent_train_options_default();
  options.epochs = 3;
  options.batch_size = 8;
  const auto fit = [&](const descent_dataset *first, const descent_dataset *second) {
    const Network network = make_network({inputs, 6, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    EXPECT_EQ(
        descent_network_fit_preprocessing(network.get(), first, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
        DESCENT_OK);
    EXPECT_EQ(descent_fit(network.get(), device.get(), first, second, &options, nullptr), DESCENT_OK)
        << descent_last_error();
    return parameters_of(network);
  };
  const Dataset host = data.dataset();
  descent_dataset *host_kept = nullptr, *host_held_out = nullptr;
  ASSERT_EQ(descent_dataset_split(host.get(), 0.25, 1, &host_kept, &host_held_out), DESCENT_OK);
  const Dataset host_training{host_kept, descent_dataset_free}, host_validation{host_held_out, descent_dataset_free};
  EXPECT_EQ(fit(made, nullptr), fit(host.get(), nullptr));
  EXPECT_EQ(fit(kept, held_out), fit(host_kept, host_held_out));

  const Network network = make_network({inputs, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const std::vector<float> zeros(data.X.size());
  std::vector<float> before(static_cast<size_t>(3 * rows)), after(before);
  ASSERT_EQ(descent_predict_raw(network.get(), device.get(), made, before.data()), DESCENT_OK);
  gpu::call("cudaMemcpy", X_there.array.data, static_cast<const void *>(zeros.data()), 4 * zeros.size(),
            static_cast<int>(gpu::TO_DEVICE));
  ASSERT_EQ(descent_predict_raw(network.get(), device.get(), made, after.data()), DESCENT_OK);
  EXPECT_EQ(after, std::vector<float>(after.size())) << "the biases, read from the GPU's memory";
  const Device cpu = open_device("cpu");
  ASSERT_EQ(descent_predict_raw(network.get(), cpu.get(), made, after.data()), DESCENT_OK);
  ASSERT_EQ(descent_predict_raw(network.get(), cpu.get(), host.get(), before.data()), DESCENT_OK);
  EXPECT_EQ(after, before) << "read from the copy on the host";
  float row[4];
  ASSERT_EQ(descent_dataset_row(made, 3, row), DESCENT_OK);
  EXPECT_TRUE(std::equal(row, row + 4, data.X.begin() + 12));
}

/* Once, to the nearest: the double of this integer is a tie between two floats. */
TEST(DeviceArrays, LargeIntegersAreRounded) {
  const Device device = open_device("cuda");
  const int64_t beside_a_tie = (INT64_C(1) << 60) + (INT64_C(1) << 36) + 1;
  arrays::Array X(DESCENT_DTYPE_I64, arrays::PADDED, 1, 2, {0, 0});
  std::memcpy(X.at(0, 1), &beside_a_tie, sizeof beside_a_tie);
  const gpu::Array there(X);
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_create_arrays(device.get(), &there, nullptr, nullptr, DESCENT_TASK_AUTO, 0, &made),
            DESCENT_OK)
      << descent_last_error();
  const Dataset dataset{made, descent_dataset_free};
  float row[2];
  ASSERT_EQ(descent_dataset_row(made, 0, row), DESCENT_OK);
  EXPECT_EQ(row[1], static_cast<float>(beside_a_tie));
}

TEST(DeviceArrays, ADatasetChecksItsValues) {
  const Device device = open_device("cuda");
  const arrays::Array infinite(DESCENT_DTYPE_F32, arrays::DENSE, 2, 2, {1, 2, 3, INFINITY}),
      good(DESCENT_DTYPE_F32, arrays::DENSE, 2, 2, {1, 2, NAN, 4}),
      classes(DESCENT_DTYPE_U8, arrays::DENSE, 2, 1, {0, 2});
  const gpu::Array infinite_there(infinite), good_there(good), classes_there(classes);
  descent_dataset *made = nullptr;
  const auto create = [&](descent_device *on, const descent_array *X, const descent_array *y) {
    return descent_dataset_create_arrays(on, X, y, nullptr, DESCENT_TASK_BINARY, 2, &made);
  };
  EXPECT_EQ(create(device.get(), &infinite_there, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "X: row 1, column 1 is infinite");
  EXPECT_EQ(create(device.get(), &good_there, &classes_there), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "y: row 1: 2 is not a class index below the number of classes");
  EXPECT_EQ(create(nullptr, &good_there, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "X: is in the memory of a GPU: give its device");
  EXPECT_EQ(made, nullptr);
  ASSERT_EQ(create(device.get(), &good_there, nullptr), DESCENT_OK) << descent_last_error();
  descent_dataset_free(made);
}

/* ---- refusals ---- */

TEST(DeviceArrays, ValuesAreChecked) {
  const int64_t rows = 4, inputs = 2;
  const Device device = open_device("cuda");
  const Network network = make_network({inputs, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Trainer trainer = make_trainer(network, device, rows);
  const Predictor predictor = make_predictor(network, device, rows);
  const std::vector<double> good_X(static_cast<size_t>(rows * inputs), 1), good_y{0, 1, 2, 0}, good_w{1, 1, 0, 1};
  const struct {
    std::vector<double> X, y, w;
    descent_status status;
    const char *text;
  } table[] = {
      {good_X, good_y, good_w, DESCENT_OK, nullptr},
      {good_X, {0, 1, 3, 3}, good_w, DESCENT_ERROR_ARGUMENT, "row 2: invalid class 3: must be an integer in 0 .. 2"},
      {good_X, {0, -1, 2, 0}, good_w, DESCENT_ERROR_ARGUMENT, "row 1: invalid class -1"},
      {good_X, {0, 0.5, 2, 0}, good_w, DESCENT_ERROR_ARGUMENT, "row 1: invalid class 0.5"},
      {good_X, {NAN, 0, 2, 0}, good_w, DESCENT_ERROR_ARGUMENT, "row 0: invalid class"},
      {good_X, good_y, {1, 1, 1, -2}, DESCENT_ERROR_ARGUMENT, "row 3: invalid weight -2"},
      {good_X, good_y, {1, INFINITY, 1, NAN}, DESCENT_ERROR_ARGUMENT, "row 1: invalid weight inf"},
      {{1, 1, 1, 1, 1, -1e39, 1, 1e40},
       good_y,
       good_w,
       DESCENT_ERROR_ARGUMENT,
       "X: row 2, column 1: -1e+39 exceeds float32"},
      {{1, 1, NAN, 1, 1, 1, 1, 1}, good_y, good_w, DESCENT_ERROR_DIVERGED, "training diverged at step"},
  };
  for (const auto &c : table) {
    const arrays::Array X(DESCENT_DTYPE_F64, arrays::PADDED, rows, inputs, c.X),
        y(DESCENT_DTYPE_F64, arrays::DENSE, rows, 1, c.y), w(DESCENT_DTYPE_F64, arrays::BACKWARDS, rows, 1, c.w);
    const gpu::Array X_there(X), y_there(y), w_there(w);
    EXPECT_EQ(descent_trainer_step_arrays(trainer.get(), &X_there, &y_there, &w_there, nullptr), c.status);
    const std::string text = c.text ? c.text : "";
    EXPECT_TRUE(!c.text || std::string(descent_last_error()).rfind(text, 0) == 0) << descent_last_error();
  }
}

/* The errors of rows on the host, with the number of the row. An input just above the largest is that in bf16. */
void expect_the_same_refusals(descent_precision precision) {
  const int64_t rows = 3, inputs = 2;
  const Device device = open_device("cuda");
  const Network network = make_network({inputs, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Predictor predictor = make_predictor(network, device, rows, precision);
  const arrays::Array largest(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, {1, 2, 3, -0x1p64, 5, 0x1p64}),
      predicted(DESCENT_DTYPE_F32, arrays::DENSE, rows, 3);
  const gpu::Array largest_there(largest), predicted_there(predicted);
  EXPECT_EQ(descent_predictor_run_raw_arrays(predictor.get(), &largest, &predicted), DESCENT_OK);
  EXPECT_EQ(descent_predictor_run_raw_arrays(predictor.get(), &largest_there, &predicted_there), DESCENT_OK);
  EXPECT_EQ(predicted_there.bytes(), predicted.bytes);
  for (const std::vector<double> &values : {std::vector<double>{1, 2, 3, 4, 5, 1e30},
                                            {1, 2, 3, NAN, 5, 6},
                                            {1, 2, 3, 4, -0x1.00fp64, 6},
                                            {1, 2, 0x1.000002p64, 4, 5, 6}}) {
    const arrays::Array X(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, values);
    const arrays::Array to(DESCENT_DTYPE_F32, arrays::DENSE, rows, 3),
        to_strided(DESCENT_DTYPE_F64, arrays::PADDED, rows, 3);
    const gpu::Array X_there(X), to_there(to);
    ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &X, &to), DESCENT_ERROR_DATA);
    const std::string expected = descent_last_error();
    EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &X_there, &to_there), DESCENT_ERROR_DATA);
    EXPECT_EQ(descent_last_error(), expected);
    EXPECT_EQ(to_there.bytes(), to.bytes) << "all rows are predicted";
    EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &X_there, &to_strided), DESCENT_ERROR_DATA);
    double first;
    std::memcpy(&first, to_strided.at(0, 0), sizeof first);
    EXPECT_EQ(static_cast<float>(first), reinterpret_cast<const float *>(to.bytes.data())[0]);
  }
}

TEST(DeviceArrays, APredictorRefusesTheSameRows) {
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    SCOPED_TRACE(descent_precision_name(precision));
    expect_the_same_refusals(precision);
  }
}

/* The bits of rows on the host. */
TEST(DeviceArrays, APredictorUsesThemInEveryPrecision) {
  const int64_t rows = 9, inputs = 12;
  const Device device = open_device("cuda");
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    SCOPED_TRACE(descent_precision_name(precision));
    std::vector<double> values = numbers(rows * inputs, 2, 5);
    const Network network = fitted_network(inputs, values);
    const Predictor predictor = make_predictor(network, device, rows, precision);
    const arrays::Array X(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, values),
        to(DESCENT_DTYPE_F32, arrays::DENSE, rows, 3);
    const gpu::Array X_there(X), to_there(to);
    ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &X, &to), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &X_there, &to_there), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(to_there.bytes(), to.bytes);
  }
}

TEST(DeviceArrays, MemoryOfAnotherPlaceIsRefused) {
  const Device device = open_device("cuda"), cpu = open_device("cpu");
  const Network network = make_network({2, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Predictor predictor = make_predictor(network, device, 4), on_cpu = make_predictor(network, cpu, 4);
  const arrays::Array X(DESCENT_DTYPE_F32, arrays::DENSE, 4, 2, std::vector<double>(8, 1)),
      to(DESCENT_DTYPE_F32, arrays::DENSE, 4, 3);
  const gpu::Array there(X);
  EXPECT_EQ(descent_predictor_run_arrays(on_cpu.get(), &there, &to), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "X: is in the memory of cuda:0, but the device is cpu");
  descent_array other = there.array;
  other.ordinal = 1;
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &other, &to), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "X: is in the memory of cuda:1, but the device is cuda:0");
  descent_array pretended = X.array;
  pretended.place = DESCENT_PLACE_CUDA;
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &pretended, &to), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("not GPU memory"), std::string::npos) << descent_last_error();
  EXPECT_EQ(std::string(descent_last_error()).rfind("X: ", 0), 0U) << descent_last_error();
  descent_array shifted = there.array;
  shifted.rows = 1;
  shifted.data = static_cast<char *>(shifted.data) + 2;
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &shifted, &to), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("not aligned to its elements of 4 bytes"), std::string::npos)
      << descent_last_error();
  EXPECT_EQ(descent_device_set_stream(cpu.get(), nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "device: cpu has no streams: only a GPU has");
  EXPECT_EQ(descent_device_set_stream(nullptr, nullptr), DESCENT_ERROR_ARGUMENT);
}

/* ---- order ---- */

/* In streams that run as late as they may, rows arrive on the caller's stream and outputs leave on it. */
TEST(DeviceArrays, WorkIsOrderedWithTheCallersStream) {
  const int64_t rows = 5, inputs = 4, outputs = 3;
  const auto configure = reinterpret_cast<void (*)(const char *)>(gpu::symbol("emulate_configure"));
  if (configure) configure("late=1");
  const Device device = open_device("cuda");
  const Network network = make_network({inputs, outputs}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Predictor predictor = make_predictor(network, device, rows);
  const arrays::Array X(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, numbers(rows * inputs, 2, 11)),
      zeros(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, std::vector<double>(static_cast<size_t>(rows * inputs))),
      to(DESCENT_DTYPE_F32, arrays::DENSE, rows, outputs);
  std::vector<float> expected(static_cast<size_t>(rows * outputs));
  ASSERT_EQ(descent_predictor_run(predictor.get(), X.rows.data(), rows, expected.data()), DESCENT_OK);
  void *stream = nullptr, *pinned_X = nullptr, *pinned = nullptr;
  gpu::call("cudaStreamCreateWithFlags", &stream, 1U);
  gpu::call("cudaMallocHost", &pinned_X, X.bytes.size());
  gpu::call("cudaMallocHost", &pinned, to.bytes.size());
  std::memcpy(pinned_X, X.bytes.data(), X.bytes.size());
  {
    const gpu::Array given(zeros), results(to);
    ASSERT_EQ(descent_device_set_stream(device.get(), stream), DESCENT_OK) << descent_last_error();
    gpu::call("cudaMemcpyAsync", given.array.data, static_cast<const void *>(pinned_X), X.bytes.size(),
              static_cast<int>(gpu::TO_DEVICE), stream);
    ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &given, &results), DESCENT_OK) << descent_last_error();
    gpu::call("cudaMemcpyAsync", pinned, static_cast<const void *>(results.array.data), to.bytes.size(),
              static_cast<int>(gpu::TO_HOST), stream);
    gpu::call("cudaStreamSynchronize", stream);
    EXPECT_EQ(std::memcmp(pinned, expected.data(), to.bytes.size()), 0);
  }
  gpu::call("cudaFreeHost", pinned);
  gpu::call("cudaFreeHost", pinned_X);
  gpu::call("cudaStreamDestroy", stream);
  if (configure) configure("");
}

}  // namespace
