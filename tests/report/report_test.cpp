/* The output of report/, byte for byte where other programs read it. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "command.h"
#include "training.h"

extern "C" {
#include "report/appended.h"
#include "report/chart.h"
#include "report/curves.h"
#include "report/diagnosis.h"
#include "report/markup.h"
#include "report/measures.h"
#include "report/probability.h"
#include "report/progress.h"
#include "report/text.h"
#include "report/tfrecord.h"
#include "report/verdict.h"
}

namespace {

/* ---- TFRecord --------------------------------------------------------------------------------------------------- */

TEST(TfRecord, SumsAsTheStandardsExamplesDo) {
  std::string ascending(32, '\0'), descending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  std::iota(descending.rbegin(), descending.rend(), '\0');
  const struct {
    std::string data;
    uint32_t crc;
  } cases[] = {
      /* RFC 3720, B.4 */
      {std::string(32, '\0'), 0x8a9136aa},
      {std::string(32, '\xff'), 0x62a8ab43},
      {ascending, 0x46dd794e},
      {descending, 0x113fdb5c},
      {"123456789", 0xe3069283}, /* the "check" of the Catalogue of parametrised CRC algorithms */
      {"", 0},
  };
  for (const auto &c : cases) EXPECT_EQ(tfrecord_crc32c(c.data.data(), c.data.size()), c.crc);
}

std::string record_of(const std::string &data) {
  char *bytes = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&bytes, &size);
  EXPECT_TRUE(tfrecord_write(file, data.data(), data.size()));
  fclose(file);
  std::string record(bytes, size);
  free(bytes);
  return record;
}

TEST(TfRecord, FramesAsTensorBoardDoes) { /* the bytes are those of TensorBoard's RecordWriter */
  EXPECT_EQ(record_of("descent"), std::string("\x07\0\0\0\0\0\0\0"
                                              "\xbb\xd7\x9f\x11"
                                              "descent"
                                              "\x43\x36\x22\x42",
                                              23));
  EXPECT_EQ(record_of(""), std::string("\0\0\0\0\0\0\0\0"
                                       "\x29\x03\x98\x07"
                                       "\xd8\xea\x82\xa2",
                                       16));
}

TEST(TfRecord, SaysWhenTheDiskIsFull) {
  FILE *file = fopen("/dev/full", "w");
  ASSERT_NE(file, nullptr);
  setvbuf(file, nullptr, _IONBF, 0);
  EXPECT_FALSE(tfrecord_write(file, "x", 1));
  fclose(file);
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

std::string marked_up(const std::string &text, int columns) {
  char *bytes = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&bytes, &size);
  markup_label(file, text.c_str(), columns);
  fclose(file);
  std::string result(bytes, size);
  free(bytes);
  return result;
}

TEST(Markup, EscapesEveryText) {
  const std::string gone = "\xef\xbf\xbd";
  const struct {
    std::string text, marked;
    int columns;
  } cases[] = {
      {"plain", "plain", 10},
      {"<script>alert(\"1\" & '2')</script>", "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;",
       100},
      {"&amp;", "&amp;amp;", 10},
      {"\xf0\x9f\x94\xa5 gr\xc3\xbc\xc3\x9f", "\xf0\x9f\x94\xa5 gr\xc3\xbc\xc3\x9f", 10},
      {"a\tb\nc\x1b[31m\x7f", "a" + gone + "b" + gone + "c" + gone + "[31m" + gone, 20},
      {"\xc3", gone, 10},                       /* ends within a character */
      {"\xc3(", gone + "(", 10},                /* or continues wrongly */
      {"\xc0\xaf", gone + gone, 10},            /* overlong */
      {"\xed\xa0\x80", gone + gone + gone, 10}, /* half a UTF-16 surrogate pair */
      {"\xf5\x80\x80\x80", gone + gone + gone + gone, 10},
      {"\xe2\x80\xaegnp", gone + "gnp", 10},                        /* right to left from here */
      {"\xd8\x9c\xe2\x80\x8f\xe2\x81\xa6", gone + gone + gone, 10}, /* the other marks of direction */
      {"\xc2\x9b\xe2\x80\xa8\xef\xbb\xbf", gone + gone + gone, 10}, /* a control, a line break, a byte-order mark */
      {"\xef\xbf\xbf", gone, 10},                                   /* not a character */
      {"0123456789", "0123456789", 10},
      {"0123456789x", "012345678\xe2\x80\xa6", 10},
      {"<<<<", "&lt;&lt;\xe2\x80\xa6", 3},
      {"\xc3\xbc\xc3\xbc\xc3\xbc", "\xc3\xbc\xe2\x80\xa6", 2},
  };
  for (const auto &c : cases) EXPECT_EQ(marked_up(c.text, c.columns), c.marked) << c.text;
}

/* ---- axes ------------------------------------------------------------------------------------------------------- */

TEST(Chart, NamesRoundValuesThatCoverTheData) {
  const struct {
    std::vector<double> y;
    bool log, from_zero;
    std::vector<std::string> ticks;
  } cases[] = {
      {{0.82, 0.98}, false, false, {"0.80", "0.85", "0.90", "0.95", "1.00"}},
      {{0.82, 0.98}, false, true, {"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
      {{-3, 4}, false, false, {"-3", "-2", "-1", "0", "1", "2", "3", "4"}},
      {{0, 0}, false, false, {"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
      {{7, 7}, false, false, {"6.2", "6.4", "6.6", "6.8", "7.0", "7.2", "7.4", "7.6", "7.8"}},
      {{0, 2500000}, false, false, {"0", "500k", "1M", "1.5M", "2M", "2.5M"}},
      {{0, 1e-7}, false, false, {"0", "2e-08", "4e-08", "6e-08", "8e-08", "1e-07"}},
      {{NAN, INFINITY}, false, false, {"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
      {{1e-5, 10}, true, false, {"1e-5", "1e-4", "0.001", "0.01", "0.1", "1", "10"}},
      {{0.1, 1}, true, false, {"0.1", "0.2", "0.5", "1"}},
      {{0, -1}, true, false, {"1", "2", "5", "10"}},
  };
  for (const auto &c : cases) {
    figure figure{};
    chart *chart = figure_add(&figure, "", "", "");
    chart->log_y = c.log;
    chart->from_zero = c.from_zero;
    chart_series *series = chart_add(chart, nullptr, 0, CHART_LINE, 2);
    std::copy(c.y.begin(), c.y.end(), series->y);
    const chart_axis axis = chart_y_axis(chart);
    EXPECT_EQ(std::vector<std::string>(axis.texts, axis.texts + axis.n), c.ticks);
    for (double y : c.y)
      if (std::isfinite(y) && (!c.log || y > 0)) {
        EXPECT_GE(chart_position(&axis, y), 0);
        EXPECT_LE(chart_position(&axis, y), 1);
      }
    figure_clear(&figure);
  }
}

/* Times in a narrow range: what four digits would show is the same for all. */
TEST(Chart, TicksFarFromZeroDiffer) {
  figure figure{};
  chart *chart = figure_add(&figure, "", "", "");
  chart_series *series = chart_add(chart, nullptr, 0, CHART_LINE, 2);
  series->x[0] = 0, series->x[1] = 400, series->y[0] = 1700000000, series->y[1] = 1700000400;
  const chart_axis y = chart_y_axis(chart);
  for (int i = 1; i < y.n; i++) EXPECT_STRNE(y.texts[i - 1], y.texts[i]);
  EXPECT_STREQ(y.texts[1], "1700000100");
  figure_clear(&figure);
}

TEST(Chart, KeepsThePeaksOfALongCurve) {
  figure figure{};
  chart *chart = figure_add(&figure, "", "", "");
  chart_series *series = chart_add(chart, nullptr, 0, CHART_LINE, 100000);
  for (int i = 0; i < 100000; i++) series->x[i] = i, series->y[i] = i == 54321 ? 7 : i == 12345 ? -7 : 0;
  chart_thin(series, 100);
  EXPECT_LE(series->n, 200);
  EXPECT_EQ(*std::max_element(series->y, series->y + series->n), 7);
  EXPECT_EQ(*std::min_element(series->y, series->y + series->n), -7);
  EXPECT_TRUE(std::is_sorted(series->x, series->x + series->n));
  figure_clear(&figure);
}

/* ---- diagnosis -------------------------------------------------------------------------------------------------- */

/* Draws one kind of chart of these predictions; the charts are valid until `figure` is cleared. */
const char *diagnose(figure *figure, diagnosis kind, const Network &network, std::vector<float> said,
                     std::vector<double> truth) {
  const int64_t outputs = descent_network_outputs(network.get());
  const int64_t rows = static_cast<int64_t>(said.size()) / outputs;
  const predictions p{network.get(), rows,        outputs, static_cast<int64_t>(truth.size()) / rows,
                      said.data(),   truth.data()};
  const descent_metrics none{};
  return diagnosis_add(figure, kind, &p, &none);
}

/* The logit of a probability, and the logits of some. */
float logit(double p) { return static_cast<float>(std::log(p / (1 - p))); }
std::vector<float> logs(std::vector<double> P) {
  std::vector<float> z;
  for (double p : P) z.push_back(static_cast<float>(std::log(p)));
  return z;
}

void expect_near(const std::vector<double> &found, const std::vector<double> &expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); i++) EXPECT_NEAR(found[i], expected[i], 1e-7) << i; /* logits are float32 */
}

std::vector<double> xs(const chart_series &s) { return {s.x, s.x + s.n}; }
std::vector<double> ys(const chart_series &s) { return {s.y, s.y + s.n}; }

TEST(Diagnosis, RocStepsAtEachScoreAndTiesPassTogether) {
  const Network network = make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  figure figure{};
  /* By hand: 0.9 is right, 0.7 holds one right and one wrong, 0.2 is right, 0.1 wrong twice. Of the 9 pairs of a right
   * and a wrong row 7 are in order and one is tied: the area is 7.5 / 9. */
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_ROC, network, {0.1F, 0.9F, 0.7F, 0.7F, 0.2F, 0.1F}, {0, 1, 0, 1, 1, 0}),
            nullptr);
  const chart_series &curve = figure.charts[0].series[1];
  EXPECT_EQ(xs(curve), (std::vector<double>{0, 0, 1 / 3., 1 / 3., 1}));
  EXPECT_EQ(ys(curve), (std::vector<double>{0, 1 / 3., 2 / 3., 1, 1}));
  EXPECT_STREQ(curve.name, "area under the curve 0.8333");
  figure_clear(&figure);
  EXPECT_STREQ(diagnose(&figure, DIAGNOSIS_ROC, network, {0.1F, 0.9F}, {1, 1}), "one of the two classes has no rows");
  figure_clear(&figure);
  /* Logits whose probabilities are all 1 in float32, and in double. */
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_ROC, network, {50, 70, 60, 80}, {0, 1, 0, 1}), nullptr);
  EXPECT_STREQ(figure.charts[0].series[1].name, "area under the curve 1.0000");
  figure_clear(&figure);
}

TEST(Diagnosis, CalibrationIsTheFrequencyInEachTenth) {
  const Network binary = make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Network classes = make_network({1, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  figure figure{};
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_CALIBRATION, binary, {-50, logit(0.25), logit(0.25), 50}, {0, 0, 1, 1}),
            nullptr);
  expect_near(xs(figure.charts[0].series[2]), {0, 0.25, 1});
  EXPECT_EQ(ys(figure.charts[0].series[2]), (std::vector<double>{0, 0.5, 1}));
  EXPECT_STREQ(figure.charts[0].series[2].name,
               "model, expected calibration error 0.1250"); /* two of four rows by a quarter */
  EXPECT_EQ(ys(figure.charts[0].series[1]), (std::vector<double>{0.25, 0, 0.5, 0, 0, 0, 0, 0, 0, 0.25}));
  figure_clear(&figure);
  /* The likeliest class: 0.5 and right, 0.75 and wrong. */
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_CALIBRATION, classes, logs({0.5, 0.25, 0.25, 0.25, 1e-30, 0.75}), {0, 0}),
            nullptr);
  expect_near(xs(figure.charts[0].series[2]), {0.5, 0.75});
  EXPECT_EQ(ys(figure.charts[0].series[2]), (std::vector<double>{1, 0}));
  figure_clear(&figure);
}

TEST(Probabilities, AreExactHoweverSmall) {
  double p[3];
  for (float z : {-800.0F, -100.0F, -22.5F, -1.0F, 0.0F, 1e-9F, 0.5F, 22.5F, 100.0F, 800.0F}) {
    probabilities_from_logits(&z, 1, p);
    const long double one = 1 / (1 + std::exp(-static_cast<long double>(z)));
    const long double zero = 1 / (1 + std::exp(static_cast<long double>(z)));
    EXPECT_LE(std::fabs(static_cast<long double>(p[1]) - one), 4 * 0x1p-53L * one + 0x1p-1074L) << z;
    EXPECT_LE(std::fabs(static_cast<long double>(p[0]) - zero), 4 * 0x1p-53L * zero + 0x1p-1074L) << z;
  }
  const float logits[] = {-30, 3, 400};
  probabilities_from_logits(logits, 3, p);
  EXPECT_DOUBLE_EQ(p[0], std::exp(-430.0));
  EXPECT_DOUBLE_EQ(p[1], std::exp(-397.0));
  EXPECT_DOUBLE_EQ(p[2], 1);
}

TEST(Probabilities, PredictTheClassFromTheThresholdOn) {
  const struct {
    float z;
    double threshold;
    int64_t predicted;
  } cases[] = {{0, 0.5, 1},          {-1e-30F, 0.5, 0},           {1e-30F, 0.5, 1},   {-22.5F, 1.6e-10, 1},
               {-22.5F, 1.8e-10, 0}, /* 1.69e-10 */ {-800, 0, 1}, {17, 0.9999999, 1}, {16, 0.9999999, 0}};
  for (const auto &c : cases)
    EXPECT_EQ(predicted_class(&c.z, 1, c.threshold), c.predicted) << c.z << " " << c.threshold;
  const float logits[] = {100, 200, 200};
  EXPECT_EQ(predicted_class(logits, 3, 0.5), 1);
}

TEST(Diagnosis, ResidualsAreTrueLessPredictedOfEachTarget) {
  const Network network = make_network({1, 2}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  figure figure{};
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_RESIDUALS, network, {1, 10, 2, 20}, {1.5F, 10, 1, 25}), nullptr);
  ASSERT_EQ(figure.n, 2);
  EXPECT_EQ(xs(figure.charts[0].series[0]), (std::vector<double>{1, 2}));
  EXPECT_EQ(ys(figure.charts[0].series[0]), (std::vector<double>{0.5, -1}));
  EXPECT_EQ(ys(figure.charts[1].series[0]), (std::vector<double>{0, 5}));
  figure_clear(&figure);
}

/* ---- progress in a pipe or a file -------------------------------------------------------------------------------- */

struct ShownCase {
  int64_t from, to, epochs; /* those that run, and the most there would be */
  double seconds;           /* of an epoch */
  std::vector<int64_t> warned;
  std::vector<int64_t> lines;
};

std::vector<int64_t> epochs_shown(const ShownCase &c) {
  char *text = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  struct progress progress;
  progress_open(&progress, file, 10);
  for (int64_t epoch = c.from; epoch <= c.to; epoch++) {
    const bool warned = std::find(c.warned.begin(), c.warned.end(), epoch) != c.warned.end();
    descent_epoch_info info{};
    info.epoch = epoch;
    info.epochs = c.epochs;
    info.seconds = static_cast<double>(epoch) * c.seconds;
    info.warning = warned ? "gradients vanish" : "";
    info.placement = "";
    progress_epoch(&progress, DESCENT_TASK_BINARY, &info);
  }
  progress_close(&progress);
  progress_close(&progress); /* a message before the end closes it too */
  fclose(file);
  std::vector<int64_t> shown;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (line.rfind("epoch ", 0) == 0) shown.push_back(std::stoll(line.substr(6)));
  free(text);
  return shown;
}

TEST(Progress, OutsideATerminalShowsTheEpochsThatMatter) {
  const int64_t most = INT64_MAX, tenth = most / 10 + 1;
  const ShownCase cases[] = {
      {1, 1, 1, 0.1, {}, {1}},
      {1, 10, 10, 0.1, {}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
      {1, 11, 11, 0.1, {}, {1, 2, 4, 6, 8, 10, 11}},
      {1, 100, 100, 0.1, {}, {1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
      {1, 37, 100, 0.1, {}, {1, 10, 20, 30, 37}},           /* stopped early */
      {1, 1, 100, 0.1, {}, {1}},                            /* stopped at once */
      {53, 100, 100, 0.1, {}, {53, 60, 70, 80, 90, 100}},   /* resumed */
      {1, 30, 100, 0.1, {14, 15, 22}, {1, 10, 14, 20, 30}}, /* each new warning once */
      {1, 10, 100000, 25, {}, {1, 4, 7, 10}},               /* none for a minute */
      {1, 9, 100000, 25, {}, {1, 4, 7, 9}},
      {tenth - 2, tenth + 1, most, 1e-18, {}, {tenth - 2, tenth, tenth + 1}},
  };
  for (const auto &c : cases) EXPECT_EQ(epochs_shown(c), c.lines) << c.to << " of " << c.epochs;
}

/* ---- several networks -------------------------------------------------------------------------------------------- */

/* An epoch of one of several networks. */
struct MemberEpoch {
  explicit MemberEpoch(double loss, double validation_loss, const char *warning = "") {
    metrics.loss = validation_loss;
    metrics.accuracy = 1 - validation_loss;
    info.epoch = 1;
    info.epochs = 10;
    info.seconds = 2;
    info.rows_per_second = 100;
    info.train_loss = loss;
    info.validation = &metrics;
    info.warning = warning;
    info.placement = "";
  }
  descent_metrics metrics{};
  descent_epoch_info info{};
};

std::string members_shown(const std::vector<const descent_epoch_info *> &epochs) {
  char *text = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  struct progress progress;
  progress_open(&progress, file, 10);
  progress_members(&progress, DESCENT_TASK_BINARY, epochs.data(), static_cast<int64_t>(epochs.size()));
  progress_members(&progress, DESCENT_TASK_BINARY, epochs.data(), static_cast<int64_t>(epochs.size()));
  fclose(file);
  const std::string shown = text;
  free(text);
  return shown;
}

TEST(Progress, OfSeveralNetworksShowsMeansAndDeviations) {
  const MemberEpoch a(0.2, 0.3), b(0.4, 0.7), same(0.2, 0.3, "gradients vanish"), late(0.4, 0.7, "gradients explode");
  const auto line = [](const MemberEpoch &m) { return &m.info; };
  /* The deviation of 0.2 and 0.4 is 0.1, that of 0.3 and 0.7 is 0.2. */
  EXPECT_EQ(members_shown({line(a), line(b)}).substr(0, 100),
            "epoch  1/10  loss 0.3000+-0.1000  val 0.5000+-0.2000  accuracy 0.5000  2 networks  200 rows/s  18s l");
  const std::string one = members_shown({nullptr, line(b), nullptr});
  EXPECT_EQ(one.rfind("epoch  1/10  loss 0.4000  val 0.7000  accuracy 0.3000  1 of 3 still training  100 rows/s", 0),
            0U)
      << one;
  EXPECT_EQ(members_shown({nullptr, nullptr}), "");
  MemberEpoch without(0.4, 0.7);
  without.info.validation = nullptr;
  const std::string some = members_shown({line(a), line(without)});
  EXPECT_EQ(some.rfind("epoch  1/10  loss 0.3000+-0.1000  2 networks  200 rows/s", 0), 0U) << some;
  const std::string warned = members_shown({line(a), line(same), line(late)});
  EXPECT_EQ(warned.rfind("warning: epoch 1: 2 of 3 networks: gradients vanish\n", 0), 0U) << warned;
  EXPECT_EQ(warned.find("warning", 1), std::string::npos) << warned; /* once */
  const MemberEpoch infinite(INFINITY, NAN);
  const std::string odd = members_shown({line(infinite), line(b)});
  EXPECT_EQ(odd.find("+-"), std::string::npos) << odd;
}

TEST(Progress, OfSeveralNetworksFitsTheWindow) {
  progress_view view{};
  view.epoch = 12, view.epochs = 100, view.share = 0.12;
  view.loss = 0.0662, view.loss_deviation = 0.0078, view.validation_loss = 0.0324, view.validation_deviation = 0.0035;
  view.metric = "acc", view.metric_value = 0.9956, view.networks = 8, view.training = 8;
  view.rows_per_second = 4.58e6, view.seconds_left = 2;
  bool deviations = false, networks = false;
  for (int columns = 10; columns <= 160; columns++) {
    char text[512];
    progress_line(&view, columns, true, true, text, sizeof text);
    EXPECT_LE(text_columns(text), columns);
    const bool has_deviations = std::strstr(text, "\u00b1") != nullptr, has_networks = std::strstr(text, "8 networks");
    EXPECT_TRUE(has_deviations || !deviations) << text; /* what a window has, a wider one has too */
    EXPECT_TRUE(has_networks || !networks) << text;
    deviations = has_deviations, networks = has_networks;
  }
  EXPECT_TRUE(deviations && networks);
}

TEST(Measures, OfSeveralNetworksHaveStatistics) {
  const Network network = make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  measures_table table{};
  ASSERT_TRUE(measures_open(&table, "test", 8));
  const double losses[] = {0.5, 0.1, 0.3}, areas[] = {0.9, std::nan(""), 0.7};
  for (int k = 0; k < 3; k++) {
    descent_metrics metrics{};
    metrics.rows = 10, metrics.loss = losses[k], metrics.accuracy = 1, metrics.auc = areas[k];
    measures_add(&table, ("fold " + std::to_string(k)).c_str(), network.get(), &metrics);
  }
  measures_add_statistic(&table, "mean", MEASURES_MEAN, 0, 3);
  measures_add_statistic(&table, "deviation", MEASURES_DEVIATION, 0, 3);
  measures_add_statistic(&table, "lowest", MEASURES_LOWEST, 0, 3);
  measures_add_statistic(&table, "highest", MEASURES_HIGHEST, 0, 3);
  measures_add_statistic(&table, "one", MEASURES_DEVIATION, 1, 1);
  ASSERT_EQ(table.n_measures, 4);
  const double loss[] = {0.3, 0.2, 0.1, 0.5}, auc[] = {0.8, std::sqrt(0.02), 0.7, 0.9};
  for (int s = 0; s < 4; s++) {
    EXPECT_NEAR(table.rows[3 + s].values[0], loss[s], 1e-15) << s;
    EXPECT_NEAR(table.rows[3 + s].values[3], auc[s], 1e-15) << s;
  }
  EXPECT_TRUE(std::isnan(table.rows[7].values[0]));
  char *text = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  measures_print(file, &table, 5);
  fclose(file);
  EXPECT_NE(std::strstr(text, "\nstatistics of auc over 2 of 3, where it is defined\n"), nullptr) << text;
  EXPECT_NE(std::strstr(text, "\nfold 1          10    0.1000    1.0000             0.0000         -\n"), nullptr)
      << text;
  EXPECT_NE(std::strstr(text, "\nmean                  0.3000    1.0000             0.0000    0.8000\n"), nullptr)
      << text;
  free(text);
  measures_clear(&table);
}

/* ---- verdicts --------------------------------------------------------------------------------------------------- */

/* A regression or classification measured on training and validation rows. */
struct Measured {
  Rows training, validation;
  double training_measure, validation_measure; /* RMSE or loss */
};

std::string worse(const Measured &c, const descent_train_options &options) {
  const bool regression = c.training.classes == 0;
  const Network network =
      make_network({1, 1}, DESCENT_ACTIVATION_RELU,
                   regression ? DESCENT_LOSS_MEAN_SQUARED_ERROR : DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Dataset training = c.training.dataset(), validation = c.validation.dataset();
  descent_metrics metrics[2]{};
  metrics[0].rows = c.training.rows, metrics[1].rows = c.validation.rows;
  metrics[0].rmse = metrics[0].loss = c.training_measure, metrics[1].rmse = metrics[1].loss = c.validation_measure;
  metrics[0].r2 = metrics[1].r2 = -1;
  const verdict_rows first{{"training", &metrics[0]}, training.get()};
  const verdict_rows second{{"validation", &metrics[1]}, validation.get()};
  const descent_fit_result result{};
  verdict verdict{};
  EXPECT_TRUE(verdict_make(network.get(), &options, &result, &first, &second, &verdict));
  return verdict.worse;
}

Rows rows_of(int64_t classes, std::vector<float> y, std::vector<float> weights = {}) {
  const auto rows = static_cast<int64_t>(y.size());
  return {rows, 1, 1, classes, std::vector<float>(y.size()), std::move(y), std::move(weights)};
}

TEST(Verdict, ComparesWithTheConstantOnTheSameRowsBeyondChance) {
  const Rows spread = rows_of(0, {0, 10, 0, 10, 0, 10, 0, 10, 0, 10, 0, 10, 0, 10, 0, 10}); /* mean and deviation 5 */
  const Rows few = rows_of(0, {5.9F, 6, 6.1F}); /* R2 of -1 or -100 means little here */
  const Rows classes = rows_of(2, {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0});
  const Rows weighted = rows_of(2, {1, 0}, {1, 3});
  const double entropy = -0.25 * std::log(0.25) - 0.75 * std::log(0.75);
  const descent_train_options plain = descent_train_options_default();
  descent_train_options balanced = plain, smoothed = plain;
  balanced.balance_classes = true;
  smoothed.label_smoothing = 0.4;
  const struct {
    const char *name;
    Measured measured;
    const descent_train_options &options;
    const char *on; /* NULL: no warning */
  } cases[] = {
      {"good", {spread, few, 1, 0.5}, plain, nullptr},
      {"as bad as the mean", {spread, few, 5.5, 0.5}, plain, nullptr},
      {"training", {spread, few, 7, 0.5}, plain, "on the training rows, against 5.0000"},
      {"a little worse on few rows", {spread, few, 1, 1.3}, plain, nullptr}, /* the mean errs by 1 */
      {"validation", {spread, few, 1, 4}, plain, "RMSE 4.0000 on the validation rows, against 1.0033"},
      {"good classes", {classes, classes, 0.1, 0.3}, plain, nullptr},
      {"shares", {classes, classes, entropy, 1.4 * entropy}, plain, nullptr}, /* 5 rows of the rare class */
      {"classes", {classes, classes, 1.5 * entropy, 0.3}, plain, "on the training rows, against 0.5623"},
      {"classes in validation", {classes, classes, 0.3, 1.5 * entropy}, plain, "on the validation rows"},
      {"balanced", {classes, classes, 0.9, 0.9}, balanced, nullptr}, /* the constant's loss is log 2 = 0.693 */
      {"badly balanced", {classes, classes, 1.1, 0.9}, balanced, "against 0.6931"},
      {"smoothed", {classes, classes, 0.84, 0.6}, smoothed, nullptr}, /* the constant is 0.35, its loss 0.5855 */
      {"badly smoothed", {classes, classes, 0.86, 0.6}, smoothed, "against 0.5855"},
      {"row weights", {weighted, weighted, 2.2 * entropy, 0.3}, plain, "against 0.5623"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const std::string text = worse(c.measured, c.options);
    if (c.on)
      EXPECT_NE(text.find(c.on), std::string::npos) << text;
    else
      EXPECT_EQ(text, "");
  }
}

/* ---- history ---------------------------------------------------------------------------------------------------- */

/* Adds epochs first .. last, of a loss that falls to 0.5 at epoch `best` and rises again. */
void add_epochs(history *h, int64_t first, int64_t last, int64_t best) {
  for (int64_t epoch = first; epoch <= last; epoch++) {
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "epoch", static_cast<double>(epoch));
    cJSON_AddNumberToObject(line, "train_loss", 1 / static_cast<double>(epoch));
    cJSON_AddNumberToObject(line, "validation_loss", 0.5 + std::fabs(static_cast<double>(epoch - best)));
    cJSON_AddNumberToObject(line, "rows_per_second", epoch == 1 ? 1 : epoch % 2 ? 1000 : 500);
    EXPECT_EQ(history_add(h, line), nullptr);
    cJSON_Delete(line);
  }
}

bool holds(const history &h, int64_t epoch) {
  for (int64_t point = 0; point < h.points; point++)
    if (history_number(&h, point, HISTORY_EPOCH) == static_cast<double>(epoch)) return true;
  return false;
}

TEST(History, OfALongTrainingHasABound) {
  history h{};
  int64_t most = 0, done = 0;
  for (int64_t epochs : {1, 2, 3, 2000, 2047, 2048, 5000, 20001, 100000}) {
    add_epochs(&h, done + 1, epochs, 77776);
    done = epochs;
    most = std::max(most, h.points);
    EXPECT_EQ(h.epochs, epochs);
    EXPECT_TRUE(holds(h, 1)) << epochs;
    EXPECT_TRUE(holds(h, std::min<int64_t>(epochs, 77776))) << epochs;
    EXPECT_TRUE(holds(h, epochs)) << epochs;
    EXPECT_EQ(h.stride == 1, epochs < 2048);
  }
  EXPECT_LE(most, 2048);
  EXPECT_GT(h.points, 1024);
  EXPECT_EQ(h.stride, 64);
  for (int64_t point = 0; point + 1 < h.points; point++) {
    const double epoch = history_number(&h, point, HISTORY_EPOCH);
    EXPECT_TRUE(std::fmod(epoch - 1, 64) == 0 || epoch == 77776) << epoch;
    EXPECT_LT(epoch, history_number(&h, point + 1, HISTORY_EPOCH));
  }
  EXPECT_NEAR(history_speed(&h), 2 / (1 / 500. + 1 / 1000.), 0.1); /* of all epochs but the first */
  history_free(&h);
}

TEST(History, ChartsSayWhichEpochsTheyDraw) {
  history all{}, part{};
  char text[TEXT_SIZE];
  add_epochs(&all, 1, 2000, 5);
  add_epochs(&part, 1, 3000, 5);
  const curves_run runs[] = {{"a", &all}, {"b", &part}};
  EXPECT_STREQ(curves_epochs(runs, 1, text), "epoch");
  EXPECT_STREQ(curves_epochs(runs + 1, 1, text), "epoch (every 2nd is drawn)");
  EXPECT_STREQ(curves_epochs(runs, 2, text), "epoch (of some runs every 2nd is drawn)");
  part.stride = 512;
  EXPECT_STREQ(curves_epochs(runs + 1, 1, text), "epoch (every 512th is drawn)");
  figure drawn{};
  ASSERT_TRUE(curves_add_loss(&drawn, runs + 1, 1));
  EXPECT_STREQ(drawn.charts[0].x_label, "epoch (every 512th is drawn)");
  figure_clear(&drawn);
  history_free(&all);
  history_free(&part);
}

/* ---- files that grow -------------------------------------------------------------------------------------------- */

TEST(Appended, PartsWaitUntilThereIsAFileAndHaveABound) {
  Scratch folder;
  appended_file file{};
  const std::string part(1 << 20, 'x');
  int64_t missing = 0;
  for (int i = 0; i < 20; i++) EXPECT_FALSE(appended_add(&file, part.data(), part.size()));
  EXPECT_EQ(file.parts, 15);
  EXPECT_EQ(file.lost, 5);
  ASSERT_TRUE(appended_open(&file, open((folder / "file").c_str(), O_WRONLY | O_CREAT, 0600)));
  EXPECT_TRUE(appended_add(&file, "end", 3));
  EXPECT_EQ(read_file(folder / "file").size(), 15 * part.size() + 3);
  EXPECT_FALSE(appended_close(&file, 1, &missing));
  EXPECT_EQ(missing, 5);
}

TEST(Appended, APartWrittenHalfwayIsTakenBack) {
  Scratch folder;
  appended_file file{};
  int64_t missing = 0;
  ASSERT_TRUE(appended_open(&file, open((folder / "file").c_str(), O_WRONLY | O_CREAT, 0600)));
  EXPECT_TRUE(appended_add(&file, "one\n", 4));
  {
    SmallFiles small(6);
    EXPECT_FALSE(appended_add(&file, "two\n", 4));
    EXPECT_EQ(errno, EFBIG);
    EXPECT_FALSE(appended_add(&file, "three\n", 6));
  }
  EXPECT_EQ(read_file(folder / "file"), "one\n");
  EXPECT_EQ(file.parts, 2);
  EXPECT_TRUE(appended_close(&file, 1, &missing));
  EXPECT_EQ(missing, 0);
  EXPECT_EQ(read_file(folder / "file"), "one\ntwo\nthree\n");
}

TEST(Appended, AFileThatWasEmptiedIsContinuedFromItsBeginning) {
  const Scratch scratch;
  const std::string path = scratch / "log";
  appended_file file{};
  int64_t missing;
  ASSERT_TRUE(appended_open(&file, open(path.c_str(), O_WRONLY | O_CREAT, 0600)));
  ASSERT_TRUE(appended_add(&file, "first\n", 6));
  ASSERT_EQ(truncate(path.c_str(), 0), 0);
  ASSERT_TRUE(appended_add(&file, "second\n", 7));
  EXPECT_TRUE(appended_close(&file, 1, &missing));
  EXPECT_EQ(read_file(path), "second\n");
}

TEST(Appended, AFileThatWasRemovedIsAnError) {
  Scratch folder;
  appended_file file{};
  int64_t missing = 0;
  ASSERT_TRUE(appended_open(&file, open((folder / "file").c_str(), O_WRONLY | O_CREAT, 0600)));
  EXPECT_TRUE(appended_add(&file, "one\n", 4));
  std::filesystem::remove(folder / "file");
  EXPECT_FALSE(appended_close(&file, 1, &missing));
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
