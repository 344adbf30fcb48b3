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

#include "training.h"

extern "C" {
#include "report/chart.h"
#include "report/diagnosis.h"
#include "report/markup.h"
#include "report/progress.h"
#include "report/tfrecord.h"
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
      {"\xe2\x80\xaegnp", gone + "gnp", 10}, /* right to left from here */
      {"\xef\xbf\xbf", gone, 10},            /* not a character */
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
                     std::vector<float> truth) {
  const int64_t outputs = descent_network_outputs(network.get());
  const int64_t rows = static_cast<int64_t>(said.size()) / outputs;
  const predictions p{network.get(), rows,        outputs, static_cast<int64_t>(truth.size()) / rows,
                      said.data(),   truth.data()};
  const descent_metrics none{};
  return diagnosis_add(figure, kind, &p, &none);
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
}

TEST(Diagnosis, CalibrationIsTheFrequencyInEachTenth) {
  const Network binary = make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Network classes = make_network({1, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  figure figure{};
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_CALIBRATION, binary, {0.0F, 0.25F, 0.25F, 1.0F}, {0, 0, 1, 1}), nullptr);
  EXPECT_EQ(xs(figure.charts[0].series[2]), (std::vector<double>{0, 0.25, 1}));
  EXPECT_EQ(ys(figure.charts[0].series[2]), (std::vector<double>{0, 0.5, 1}));
  EXPECT_STREQ(figure.charts[0].series[2].name,
               "model, expected calibration error 0.1250"); /* two of four rows by a quarter */
  EXPECT_EQ(ys(figure.charts[0].series[1]), (std::vector<double>{0.25, 0, 0.5, 0, 0, 0, 0, 0, 0, 0.25}));
  figure_clear(&figure);
  /* The likeliest class: 0.5 and right, 0.75 and wrong. */
  ASSERT_EQ(diagnose(&figure, DIAGNOSIS_CALIBRATION, classes, {0.5F, 0.25F, 0.25F, 0.25F, 0, 0.75F}, {0, 0}), nullptr);
  EXPECT_EQ(xs(figure.charts[0].series[2]), (std::vector<double>{0.5, 0.75}));
  EXPECT_EQ(ys(figure.charts[0].series[2]), (std::vector<double>{1, 0}));
  figure_clear(&figure);
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

}  // namespace
