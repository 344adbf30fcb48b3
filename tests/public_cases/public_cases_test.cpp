/* What users of comparable tools reported, tried on the command: each *.case file of this folder is a test. The format is
 * described in README.md beside it. */
#include <gtest/gtest.h>

#include <sstream>

#include "command.h"

namespace {

const std::string folder_of_cases = DESCENT_SOURCE_DIR "/tests/public_cases/";

std::vector<std::string> case_names() {
  std::vector<std::string> found;
  for (const auto &entry : std::filesystem::directory_iterator(folder_of_cases))
    if (entry.path().extension() == ".case") found.push_back(entry.path().stem());
  std::sort(found.begin(), found.end());
  return found;
}

/* Splits "word rest" at the first blank. */
std::string first_word(std::string &text) {
  const size_t end = text.find(' ');
  const std::string word = text.substr(0, end);
  text = end == std::string::npos ? "" : text.substr(end + 1);
  return word;
}

/* Takes a label, in quotes or up to the next blank, off the front of `text`. */
std::string take_label(std::string &text) {
  if (text.empty() || text[0] != '"') return first_word(text);
  const size_t end = text.find('"', 1);
  EXPECT_NE(end, std::string::npos) << "a quote is not closed: " << text;
  if (end == std::string::npos) return "";
  const std::string label = text.substr(1, end - 1);
  text = text.substr(std::min(text.size(), end + 2));
  return label;
}

Result run_shell(const Folder &folder, const std::string &command) {
  const std::string redirected =
      "cd '" + folder.path() + "' && PATH='" + std::filesystem::path(DESCENT_COMMAND).parent_path().string() +
      "':\"$PATH\"; export PATH; unset CDPATH; LC_ALL=C; export LC_ALL; { " + command + "\n} >.out 2>.err </dev/null";
  const int status = system(redirected.c_str()); /* NOLINT(cert-env33-c): the commands are those of the case */
  return {exit_code(status), folder.read(".out"), folder.read(".err")};
}

void expect_number(const Result &result, std::string text) {
  const std::string label = take_label(text);
  std::istringstream range(text);
  double low = 0, high = 0;
  ASSERT_TRUE(range >> low >> high) << "number LABEL LOW HIGH: " << text;
  size_t at = result.out.find(label);
  ASSERT_NE(at, std::string::npos) << "'" << label << "' is not in: " << result.out;
  at = result.out.find_first_of("0123456789-", at + label.size());
  ASSERT_NE(at, std::string::npos) << "no number follows '" << label << "'";
  const double value = strtod(result.out.c_str() + at, nullptr);
  EXPECT_GE(value, low) << label << " in: " << result.out;
  EXPECT_LE(value, high) << label << " in: " << result.out;
}

class PublicCase : public ::testing::TestWithParam<std::string> {};

TEST_P(PublicCase, EndsAsItShould) {
  Folder folder;
  Result result{0, "", ""};
  std::istringstream text(read_file(folder_of_cases + GetParam() + ".case"));
  std::string what, why;
  int checks = 0, line_number = 0;
  bool ran = false, code_known = false;
  auto expect_success = [&] { /* unless the case says otherwise */
                              EXPECT_TRUE(!ran || code_known || result.code == 0)
                                  << result.code << ": " << result.out << result.err;
  };
  for (std::string line; std::getline(text, line);) {
    SCOPED_TRACE(GetParam() + ".case:" + std::to_string(++line_number) + ": " + line);
    if (line.empty() || line[0] == '#') continue;
    std::string rest = line;
    const std::string word = first_word(rest);
    if (word == "what:") {
      what = rest;
    } else if (word == "why:") {
      why = rest;
    } else if (word == "$") {
      expect_success();
      result = run_shell(folder, rest);
      ran = true;
      code_known = false;
    } else if (word == "exit") {
      EXPECT_EQ(std::to_string(result.code), rest) << result.out << result.err;
      code_known = true;
    } else if (word == "out") {
      expect_contains(result.out, rest);
      checks++;
    } else if (word == "err") {
      expect_contains(result.err, rest);
      checks++;
    } else if (word == "not") {
      EXPECT_EQ((result.out + result.err).find(rest), std::string::npos) << result.out << result.err;
      checks++;
    } else if (word == "number") {
      expect_number(result, rest);
      checks++;
    } else {
      ADD_FAILURE() << "unknown word '" << word << "'";
    }
  }
  expect_success();
  EXPECT_FALSE(what.empty() || why.empty()) << "a case says what and why";
  EXPECT_GT(checks, 0) << "a case checks a text or a number";
}

INSTANTIATE_TEST_SUITE_P(, PublicCase, ::testing::ValuesIn(case_names()),
                         [](const auto &param) { return param.param; });

}  // namespace
