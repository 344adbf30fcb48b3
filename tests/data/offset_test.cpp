// Columns that float32 is too coarse for: kept as differences to an offset, in every format, for inputs and targets, and
// taken off and put back wherever rows enter and leave.
#include <cmath>
#include <cstring>

#include "saved_data.h"

namespace {

using Numbers = std::vector<double>;

double Choose(Numbers values) { return offset_choose(values.data(), static_cast<int64_t>(values.size())); }

TEST(Offset, IsChosenOnlyWhereFloat32LosesSomething) {
  EXPECT_EQ(Choose({1700000000, 1700000001, 1700000002}), 1700000001);
  EXPECT_EQ(Choose({1000000.01, 1000000.02, 1000000.02}), 1000000.02);
  EXPECT_EQ(Choose({-1e15, -1e15 + 1, -1e15 + 2}), -1e15 + 1);
  EXPECT_EQ(Choose({NAN, 1e9 + 1, NAN, 1e9 + 3, 1e9 + 5}), 1e9 + 3);
  EXPECT_EQ(Choose({5.1, 4.9, 6.3}), 0);                 // rounded, but finely
  EXPECT_EQ(Choose({2001, 2002, 2003}), 0);              // exact
  EXPECT_EQ(Choose({16777216, 16777218, 16777220}), 0);  // exact, too
  EXPECT_EQ(Choose({-122.23, -122.22, -121.17}), 0);     // loses 2^-17 of its deviation
  EXPECT_EQ(Choose({1e9 + 1, 1e9 + 1, 1e9 + 1}), 0);     // constant
  EXPECT_EQ(Choose({0, 0, 1e9 + 1}), 0);                 // coarse where it is large only
  EXPECT_EQ(Choose({1e-42, 2e-42, 5e-42}), 0);           // no offset helps
  EXPECT_EQ(Choose({NAN, NAN}), 0);
  EXPECT_EQ(Choose({}), 0);
}

// The rule's boundary: the change of float32 is compared with 2^-16 of the standard deviation, not of the range.
TEST(Offset, IsChosenFromTheDeviation) {
  Numbers values(1000, 0);
  for (size_t i = 0; i < values.size(); i++) values[i] = 1e6 + 0.01 + static_cast<double>(i % 2);  // changes by 0.01..
  const double change = std::fabs(static_cast<double>(static_cast<float>(1e6 + 0.01)) - (1e6 + 0.01)), deviation = 0.5;
  EXPECT_GT(change, deviation * 0x1p-16);
  EXPECT_NE(Choose(values), 0);
  for (size_t i = 0; i < values.size(); i++) values[i] = 1e6 + 0.01 + 8000 * static_cast<double>(i % 2);
  EXPECT_LT(change, 4000 * 0x1p-16);
  EXPECT_EQ(Choose(values), 0);
}

TEST(Offset, SubtractionSaysWhatItChanges) {
  struct rounding rounding = {0, 0};
  double largest = 0;
  EXPECT_EQ(offset_subtract(1700000001, 1700000000, &rounding, &largest), 1);
  EXPECT_EQ(rounding.cells, 0);
  EXPECT_EQ(offset_subtract(1700000001, 0, &rounding, &largest), 1.7e9F);
  EXPECT_EQ(rounding.cells, 1);
  EXPECT_EQ(largest, 1);
  EXPECT_DOUBLE_EQ(rounding.relative, 1 / 1700000001.0);
  EXPECT_EQ(offset_subtract(0, 0.1, &rounding, &largest), -0.1F);  // 0 has no relative change
  EXPECT_TRUE(std::isfinite(rounding.relative));
}

TEST(Offset, LooksAtABoundedNumberOfRows) {
  EXPECT_EQ(offset_rows(1), 10000);
  EXPECT_EQ(offset_rows(0), 10000);
  EXPECT_EQ(offset_rows(784), (1 << 19) / 784);
  EXPECT_EQ(offset_rows(1 << 22), 1);
}

class OffsetData : public SavedData {
 protected:
  // Timestamps t, a category, a number with gaps, and a target that float32 cannot hold either.
  static std::string Table(int rows, int64_t base = 1700000000) {
    std::ostringstream text;
    text.precision(15);
    text << "t,kind,x,y\n";
    for (int i = 0; i < rows; i++) {
      text << base + i << (i % 2 ? ",red," : ",blue,");
      if (i % 3) text << i % 7;
      text << ',' << base * 2 + i << ".25\n";
    }
    return text.str();
  }
  // Every value of the dataset as the file has it.
  static void ExpectTable(const descent_dataset *d, int rows, int64_t base = 1700000000) {
    ASSERT_EQ(descent_dataset_rows(d), rows);
    ASSERT_EQ(descent_dataset_inputs(d), 4);
    for (int i = 0; i < rows; i++) {
      EXPECT_EQ(descent_dataset_input_value(d, i, 0), static_cast<double>(base + i)) << i;
      EXPECT_EQ(descent_dataset_input_value(d, i, 2), i % 2 ? 1 : 0) << i;
      const double x = descent_dataset_input_value(d, i, 3);
      EXPECT_TRUE(i % 3 ? x == i % 7 : std::isnan(x)) << i;
      EXPECT_EQ(descent_dataset_target_value(d, i, 0), static_cast<double>(base * 2 + i) + 0.25) << i;
    }
  }
  descent_dataset_options Target(const char *name = "y") const {
    descent_dataset_options options = kDefaults;
    options.target = name;
    return options;
  }
};

TEST_F(OffsetData, KeepEveryDigitOfTimestamps) {
  const Dataset data = Open(Write("t.csv", Table(300)), Target());
  ExpectTable(data.get(), 300);
  EXPECT_EQ(data->storage->X[0], -149);  // the difference to the median
  EXPECT_EQ(descent_dataset_rounded(data.get(), nullptr), 0);
  EXPECT_EQ(descent_dataset_input_rounding(data.get(), 0, nullptr), 0);
  float x[4], y;
  EXPECT_EQ(descent_dataset_row(data.get(), 7, x), DESCENT_OK);
  EXPECT_EQ(x[0], 1700000007.0F);
  EXPECT_EQ(descent_dataset_target(data.get(), 7, &y), DESCENT_OK);
  EXPECT_EQ(y, 3400000007.0F);
  EXPECT_TRUE(std::isnan(descent_dataset_input_value(data.get(), 300, 0)));
  EXPECT_TRUE(std::isnan(descent_dataset_input_value(data.get(), 0, 4)));
  EXPECT_TRUE(std::isnan(descent_dataset_target_value(data.get(), 0, 1)));
}

// Beyond the rows from which the offset is chosen, in a file that is read without a sample, and where a row is dropped.
TEST_F(OffsetData, HoldForLaterRows) {
  std::ostringstream text;
  text.precision(15);
  text << "t,y\n";
  for (int i = 0; i < 25000; i++) {
    text << 1700000000 + i << ',';
    if (i % 1000) text << 1700000000.5 + i;
    text << '\n';
  }
  const std::string path = Write("long.csv", text.str());
  for (const bool strict : {false, true}) {
    descent_dataset_options options = Target();
    options.strict = strict;
    const char *const missing[] = {""};
    options.missing = missing;
    options.missing_texts = 1;
    options.task = DESCENT_TASK_REGRESSION;
    const Dataset data = Open(path, options);
    ASSERT_EQ(descent_dataset_rows(data.get()), 24975);
    EXPECT_EQ(descent_dataset_dropped(data.get()), 25);
    for (int64_t r = 0; r < 24975; r += 111) {
      const double t = 1700000000 + static_cast<double>(r + r / 999 + 1);
      ASSERT_EQ(descent_dataset_input_value(data.get(), r, 0), t) << r;
    }
    EXPECT_EQ(descent_dataset_rounded(data.get(), nullptr), 0);
  }
}

// A column of whole numbers that are classes until the 21st value turns up, after the rows that are looked at first.
TEST_F(OffsetData, OfATargetThatProvesToBeANumberLate) {
  std::ostringstream text;
  text.precision(15);
  text << "x,y\n";
  for (int i = 0; i < 12000; i++) text << i << ',' << 1700000000 + (i < 11000 ? i % 5 : i) << '\n';
  const Dataset data = Open(Write("late.csv", text.str()), Target());
  ASSERT_EQ(descent_dataset_task(data.get()), DESCENT_TASK_REGRESSION);
  for (int i = 0; i < 12000; i += 7)
    ASSERT_EQ(descent_dataset_target_value(data.get(), i, 0), 1700000000.0 + (i < 11000 ? i % 5 : i)) << i;
}

TEST_F(OffsetData, SayWhatIsLostWhereTheFirstRowsDoNotShowIt) {
  std::ostringstream text;
  text.precision(15);
  text << "t,u,constant,y\n";
  for (int i = 0; i < 20000; i++)
    text << (i < 10000 ? 0.5 : 5e7 + 3 + i) << (i % 2 ? ",5.1,5.1," : ",5.2,5.1,") << i << ".5\n";
  const Dataset data = Open(Write("late.csv", text.str()), Target());
  double spread = 0;
  EXPECT_EQ(descent_dataset_input_rounding(data.get(), 0, &spread), 2);
  EXPECT_NEAR(spread, 2.5e7, 1e5);
  EXPECT_NEAR(descent_dataset_input_rounding(data.get(), 1, &spread), 1.907e-7, 1e-9);
  EXPECT_NEAR(spread, 0.05, 1e-3);
  EXPECT_EQ(descent_dataset_input_rounding(data.get(), 2, &spread), 0);  // rounded, but nothing is lost
  EXPECT_EQ(descent_dataset_target_rounding(data.get(), 0, &spread), 0);
  EXPECT_EQ(descent_dataset_input_rounding(data.get(), 3, &spread), 0);
  EXPECT_EQ(descent_dataset_input_rounding(data.get(), -1, nullptr), 0);
}

// A double holds whole numbers beyond 2^53 only in part: the offset is exact, the numbers are not.
TEST_F(OffsetData, DoNotHideWhatEvenADoubleLoses) {
  std::string text = "t,y\n";
  for (int i = 0; i < 400; i++)
    text += std::to_string(INT64_C(1700000000000000000) + i) + "," + std::to_string(i) + "\n";
  const Dataset data = Open(Write("ns.csv", text), Target());
  double spread;
  EXPECT_NEAR(descent_dataset_input_rounding(data.get(), 0, &spread), 1.7e18 * 0x1p-53, 1);
  EXPECT_LT(spread, 200);
}

TEST_F(OffsetData, ComeBackFromEveryFormat) {
  const Dataset data = Open(Write("t.csv", Table(60)), Target());
  for (const char *name : {"copy.csv", "copy.tsv", "copy.safetensors", "copy.npz", "copy.npy", "copy.svm", "copy.h5"}) {
    const std::string problem = Save(data.get(), name);
    if (problem.find("does not write HDF5") != std::string::npos) continue;
    ASSERT_EQ(problem, "");
    descent_dataset_options options = kDefaults;
    const bool text = strstr(name, "csv") || strstr(name, "tsv");
    if (text) options.target = "y";
    if (strstr(name, ".npy")) options.target = "-1";
    SCOPED_TRACE(name);
    ExpectTable(Open(Path(name), options).get(), 60);
  }
}

TEST_F(OffsetData, StayInTheBinaryFormWithWhatWasLost) {
  std::ostringstream text;
  text.precision(15);
  text << "t,u,y\n";
  for (int i = 0; i < 50; i++) text << 1700000000 + i << ',' << 0.1 * i << ',' << 1e10 + i << '\n';
  const std::string csv = Write("t.csv", text.str()), binary = Path("t.safetensors");
  const descent_dataset_options options = Target();
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_convert(csv.c_str(), &options, binary.c_str(), &made), DESCENT_OK) << descent_last_error();
  const Dataset converted(made), opened = Open(binary), read = Open(csv, options);
  for (const descent_dataset *d : {converted.get(), opened.get()}) {
    EXPECT_NE(d->storage->mapping, nullptr);
    for (int i = 0; i < 50; i++) {
      EXPECT_EQ(descent_dataset_input_value(d, i, 0), 1700000000.0 + i);
      EXPECT_EQ(descent_dataset_target_value(d, i, 0), 1e10 + i);
    }
    EXPECT_EQ(descent_dataset_input_rounding(d, 0, nullptr), 0);
    EXPECT_GT(descent_dataset_input_rounding(d, 1, nullptr), 0);
    EXPECT_EQ(descent_dataset_input_rounding(d, 1, nullptr), descent_dataset_input_rounding(read.get(), 1, nullptr));
  }
  EXPECT_EQ(Train(opened.get()), Train(read.get()));  // the same bits, mapped or read
}

// Several targets of which one needs an offset.
TEST_F(OffsetData, OfOneOfSeveralTargets) {
  std::ostringstream text;
  text.precision(15);
  text << "x,a,b\n";
  for (int i = 0; i < 40; i++) text << i << ',' << i % 3 << ".5," << 1e12 + i << '\n';
  const Dataset data = Open(Write("two.csv", text.str()), Target("a,b"));
  for (int i = 0; i < 40; i++) {
    EXPECT_EQ(descent_dataset_target_value(data.get(), i, 0), i % 3 + 0.5);
    EXPECT_EQ(descent_dataset_target_value(data.get(), i, 1), 1e12 + i);
  }
  ASSERT_EQ(Save(data.get(), "two.npz"), "");
  EXPECT_EQ(descent_dataset_target_value(Open(Path("two.npz")).get(), 39, 1), 1e12 + 39);
}

class OffsetNetwork : public OffsetData {
 protected:
  OffsetNetwork() {
    descent_device *opened = nullptr;
    EXPECT_EQ(descent_device_open("cpu", 1, &opened), DESCENT_OK);
    device.reset(opened);
  }
  // A network that has learnt y = 2 (t - base) on n rows.
  Network Fit(const descent_dataset *data, bool standardise = true) const {
    const int64_t widths[] = {1};
    descent_network_options shape = descent_network_options_default();
    shape.inputs = descent_dataset_inputs(data);
    shape.layers = 1;
    shape.widths = widths;
    shape.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
    descent_network *made = nullptr;
    EXPECT_EQ(descent_network_create(&shape, &made), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(
        descent_network_fit_preprocessing(made, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, standardise),
        DESCENT_OK)
        << descent_last_error();
    descent_train_options options = descent_train_options_default();
    options.epochs = 200;
    options.optimizer.learning_rate = 0.05;
    EXPECT_EQ(descent_fit(made, device.get(), data, nullptr, &options, nullptr), DESCENT_OK) << descent_last_error();
    return Network(made);
  }
  std::string Line(int64_t base, int rows) const {
    std::ostringstream text;
    text.precision(15);
    text << "t,y\n";
    for (int i = 0; i < rows; i++) text << base + i << ',' << base + 2 * i << ".5\n";
    return Write("line.csv", text.str());
  }
  double R2(const descent_network *network, const descent_dataset *data) const {
    descent_metrics metrics = {};
    EXPECT_EQ(descent_evaluate(network, device.get(), data, 0, &metrics), DESCENT_OK) << descent_last_error();
    const double r2 = metrics.r2;
    descent_metrics_clear(&metrics);
    return r2;
  }

  struct Close {
    void operator()(descent_device *opened) const { descent_device_close(opened); }
  };
  std::unique_ptr<descent_device, Close> device;
};

TEST_F(OffsetNetwork, LearnsTheSameFromTimestampsAsFromCounts) {
  const Dataset counts = Open(Line(0, 101), Target()), times = Open(Line(1700000000, 101), Target());
  const Network of_counts = Fit(counts.get()), of_times = Fit(times.get());
  EXPECT_GT(R2(of_counts.get(), counts.get()), 0.999);
  EXPECT_GT(R2(of_times.get(), times.get()), 0.999);
  double shift, scale, raw[101];
  float outputs[101], values[101];
  ASSERT_EQ(descent_predict_raw(of_times.get(), device.get(), times.get(), outputs), DESCENT_OK);
  ASSERT_EQ(descent_predict(of_times.get(), device.get(), times.get(), values), DESCENT_OK);
  descent_network_target_scaling(of_times.get(), 0, &shift, &scale);
  for (int i = 0; i < 101; i++) {
    raw[i] = shift + scale * static_cast<double>(outputs[i]);
    EXPECT_NEAR(raw[i], 1700000000 + 2 * i + 0.5, 5);
    EXPECT_NEAR(static_cast<double>(values[i]), raw[i], 64.1);  // a float32
  }
  EXPECT_EQ(descent_network_input_offset(of_times.get(), 0), 1700000050);
  EXPECT_EQ(descent_network_input_offset(of_counts.get(), 0), 0);
}

// The offset is the network's: of a saved model, of a later file whose own offset would be another, read whole or in
// blocks, from any format, and of rows in memory.
TEST_F(OffsetNetwork, TakesEveryLaterFileByItsOwnOffset) {
  const Dataset times = Open(Line(1700000000, 101), Target());
  const Network fitted = Fit(times.get());
  ASSERT_EQ(descent_network_save(fitted.get(), Path("m.safetensors").c_str()), DESCENT_OK) << descent_last_error();
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(Path("m.safetensors").c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network network(loaded);
  std::vector<float> expected(101), outputs(101);
  ASSERT_EQ(descent_predict_raw(fitted.get(), device.get(), times.get(), expected.data()), DESCENT_OK);

  // Rows 90 to 100 alone: their median is another.
  std::ostringstream text;
  text.precision(15);
  text << "t,y\n";
  for (int i = 90; i < 101; i++) text << 1700000000 + i << ',' << 1700000000 + 2 * i << ".5\n";
  const std::string csv = Write("later.csv", text.str());
  const Dataset own = Open(csv, Target());
  EXPECT_NE(own->storage->schema.offsets[0], network->schema.offsets[0]);
  for (const char *name : {"later.npz", "later.npy", "later.safetensors"}) ASSERT_EQ(Save(own.get(), name), "");
  for (const char *name : {"later.csv", "later.npz", "later.npy", "later.safetensors"}) {
    SCOPED_TRACE(name);
    descent_dataset_options options = kDefaults;
    options.network = network.get();
    if (strstr(name, ".npy")) options.target = "-1";
    const Dataset later = Open(Path(name), options);
    ASSERT_EQ(descent_predict_raw(network.get(), device.get(), later.get(), outputs.data()), DESCENT_OK);
    for (size_t i = 0; i < 11; i++) EXPECT_EQ(outputs[i], expected[90 + i]) << i;
    EXPECT_GT(R2(network.get(), later.get()), 0.9);
  }
  // A dataset that was read without the network.
  ASSERT_EQ(descent_predict_raw(network.get(), device.get(), own.get(), outputs.data()), DESCENT_OK);
  for (size_t i = 0; i < 11; i++) EXPECT_EQ(outputs[i], expected[90 + i]) << i;
  EXPECT_GT(R2(network.get(), own.get()), 0.9);
  // In memory, where x is what float32 makes of it.
  const float x[] = {1700000000.0F + 128}, y[] = {1700000000.0F + 256};
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_create(x, y, nullptr, 1, 1, 1, DESCENT_TASK_REGRESSION, 0, &made), DESCENT_OK);
  const Dataset memory(made);
  const std::string exact = Write("one.csv", "t,y\n1700000128,1700000256.5\n");
  descent_dataset_options options = kDefaults;
  options.network = network.get();
  float from_file, from_memory;
  ASSERT_EQ(descent_predict_raw(network.get(), device.get(), Open(exact, options).get(), &from_file), DESCENT_OK);
  ASSERT_EQ(descent_predict_raw(network.get(), device.get(), memory.get(), &from_memory), DESCENT_OK);
  EXPECT_EQ(from_file, from_memory);
  struct Blocks {
    descent_device *device;
    const descent_network *network;
    std::vector<float> outputs;
  } blocks = {device.get(), network.get(), {}};
  options.features_only = true;
  ASSERT_EQ(descent_dataset_read_blocks(
                csv.c_str(), &options, 4,
                [](void *user, const descent_dataset *block) {
                  auto *b = static_cast<Blocks *>(user);
                  std::vector<float> raw(static_cast<size_t>(descent_dataset_rows(block)));
                  EXPECT_EQ(descent_predict_raw(b->network, b->device, block, raw.data()), DESCENT_OK);
                  b->outputs.insert(b->outputs.end(), raw.begin(), raw.end());
                  return 0;
                },
                &blocks),
            DESCENT_OK);
  for (size_t i = 0; i < 11; i++) EXPECT_EQ(blocks.outputs[i], expected[90 + i]) << i;
}

// Training goes on with the network's offsets, by hand and over epochs, whatever the rows come with.
TEST_F(OffsetNetwork, TrainsOnWithItsOwnOffset) {
  const Dataset times = Open(Line(1700000000, 101), Target());
  const Network network = Fit(times.get());
  std::vector<float> before(2), after(2);
  ASSERT_EQ(descent_network_get_layer(network.get(), 1, before.data(), before.data() + 1), DESCENT_OK);
  descent_train_options options = descent_train_options_default();
  options.epochs = 1;
  options.batch_size = 0;
  options.optimizer.learning_rate = 1e-6;
  const Dataset others = Open(Line(1700000020, 61), Target());  // y = t + (t - base): another line and another offset
  descent_fit_result result;
  ASSERT_EQ(descent_fit(network.get(), device.get(), others.get(), others.get(), &options, &result), DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(descent_network_get_layer(network.get(), 1, after.data(), after.data() + 1), DESCENT_OK);
  EXPECT_NEAR(after[0], before[0], 1e-4);
  EXPECT_LT(result.train_loss, 1);  // in units of the deviation: 20 of 58 off
  EXPECT_GT(result.train_loss, 0.01);

  descent_trainer *trainer = nullptr;
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, 2, &trainer), DESCENT_OK);
  const float X[] = {1700000000.0F, 1700000128.0F}, y[] = {1700000000.0F, 1700000256.0F};
  descent_step_info info;
  EXPECT_EQ(descent_trainer_step(trainer, X, y, nullptr, 2, &info), DESCENT_OK) << descent_last_error();
  EXPECT_LT(info.loss, 0.01);  // both lie on the line that it has learnt
  descent_trainer_free(trainer);
}

TEST_F(OffsetNetwork, RefusesDamagedOffsets) {
  const Dataset times = Open(Line(1700000000, 101), Target());
  const Network network = Fit(times.get());
  for (const double bad : {-1e39, 1e39}) {
    network->schema.offsets[0] = bad;
    ASSERT_EQ(descent_network_save(network.get(), Path("bad.safetensors").c_str()), DESCENT_OK);
    descent_network *loaded = nullptr;
    EXPECT_EQ(descent_network_load(Path("bad.safetensors").c_str(), &loaded), DESCENT_ERROR_MODEL);
    EXPECT_NE(std::string(descent_last_error()).find("'offsets' is not a list of numbers that float32 can hold"),
              std::string::npos)
        << descent_last_error();
  }
}

}  // namespace
