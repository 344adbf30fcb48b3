// Decimal commas, separators of thousands, signs around numbers, large whole numbers as classes, headers of numbers.
#include <cmath>

#include "data_files.h"

namespace {

using namespace std::string_literals;

TEST(NumberStyle, ParsesWhatTheStyleAllows) {
  const double none = NAN;
  const struct {
    const char *text;
    double plain, comma, comma_grouped, point_grouped;
  } cases[] = {
      {"1234.5", 1234.5, none, none, 1234.5},
      {"1234,5", none, 1234.5, 1234.5, none},
      {"1,50", none, 1.5, 1.5, none},
      {"-0,25", none, -0.25, -0.25, none},
      {"+1,5e2", none, 150, 150, none},
      {"1.234,5", none, 1234.5, 1234.5, none},
      {"1,234.5", none, none, none, 1234.5},
      {"1,007", none, 1.007, 1.007, 1007},
      {"1.007", 1.007, none, 1007, 1.007},
      {"0.123", 0.123, none, none, 0.123},
      {"0,123", none, 0.123, 0.123, none},
      {"1.234.567", none, 1234567, 1234567, none},
      {"1,234,567", none, none, none, 1234567},
      {" 12 ", 12, 12, 12, 12},
      {"12345.678", 12345.678, none, none, 12345.678},
      {"1234,567.8", none, none, none, none},
      {"12,34,567", none, none, none, none},
      {"1,2,3", none, none, none, none},
      {"1.23,4.5", none, none, none, none},
      {",5", none, 0.5, 0.5, none},
      {"1.,5", none, none, none, none},
      {"1,234e3", none, 1234, 1234, none},
      {",", none, none, none, none},
      {"", none, none, none, none},
      {"-", none, none, none, none},
  };
  for (const auto &c : cases) {
    const double expected[] = {c.plain, c.comma, c.comma_grouped, c.point_grouped};
    for (int style = 0; style < NUMBER_STYLES; style++) {
      double value = 0;
      const bool number = number_parse_style(c.text, strlen(c.text), static_cast<number_style>(style), &value);
      EXPECT_EQ(number, !std::isnan(expected[style])) << c.text << " in style " << style;
      EXPECT_TRUE(!number || value == expected[style]) << c.text << " in style " << style << ": " << value;
    }
  }
}

TEST(NumberStyle, KeepsTheDigitsOfLargeNumbers) {
  const struct {
    const char *text;
    number_style style;
    double number;
    const char *expected;
  } cases[] = {
      {"9007199254740993", NUMBER_PLAIN, 0x1p53, "9007199254740993"},
      {" +009007199254740993.00 ", NUMBER_PLAIN, 0x1p53, "9007199254740993"},
      {"-9007199254740993", NUMBER_PLAIN, -0x1p53, "-9007199254740993"},
      {"9.007.199.254.740.993,0", NUMBER_COMMA_GROUPED, 0x1p53, "9007199254740993"},
      {"1e20", NUMBER_PLAIN, 1e20, "100000000000000000000"},
      {nullptr, NUMBER_PLAIN, 0x1p60, "1152921504606846976"},
  };
  for (const auto &c : cases) {
    char digits[NUMBER_DIGITS];
    EXPECT_STREQ(number_whole(c.text, c.text ? strlen(c.text) : 0, c.style, c.number, digits), c.expected);
  }
}

class Separators : public DataFiles {
 protected:
  descent_dataset_options options = descent_dataset_options_default();

  Dataset Open(const std::string &text) {
    descent_dataset *read = nullptr;
    EXPECT_EQ(descent_dataset_read(Write("t.csv", text).c_str(), &options, &read), DESCENT_OK) << descent_last_error();
    return Dataset(read);
  }
};

TEST_F(Separators, AreReadWhereOneWayExplainsAColumn) {
  const struct {
    const char *name, *text, *expected, *note;
  } cases[] = {
      {"decimal commas", "x;y\n1,50;1\n2;2\n,5;4\n", "x -> y regression: 1.5>1 2>2 0.5>4",
       "decimal commas in column 'x'"},
      {"in the target", "x;y\n1;1,50\n2;2,75\n", "x -> y regression: 1>1.5 2>2.75", "decimal commas in column 'y'"},
      {"in several columns", "x;z;y\n1;0,5;1,50\n2;;2,75\n", "x,z -> y regression: 1,0.5>1.5 2,nan>2.75",
       "decimal commas in column 'z', column 'y'"},
      {"with thousands", "x;y\n1.234,50;1\n950;2\n2.000;4\n", "x -> y regression: 1234.5>1 950>2 2000>4",
       "decimal commas in column 'x'"},
      {"commas between thousands", "x;y\n1,234.50;1\n950;2\n2,000;4\n", "x -> y regression: 1234.5>1 950>2 2000>4",
       "thousands separated by commas in column 'x'"},
      {"quoted in a comma-delimited file", "x,y\n\"1,234,567\",1\n950,2\n\"2,000\",4\n",
       "x -> y regression: 1234567>1 950>2 2000>4", "thousands separated by commas in column 'x'"},
      {"points elsewhere", "x;z;y\n1,234.5;0.25;1.5\n950;1.5;3\n", "x,z -> y regression: 1234.5,0.25>1.5 950,1.5>3",
       "thousands separated by commas in column 'x'"},
      {"points of three decimals", "x;y\n1.007;1\n2.500;2\n3;4\n", "x -> y regression: 1.00699997>1 2.5>2 3>4",
       "column 'x': '1.007' is read with a decimal point (decimal ',' reads points between thousands)"},
      {"without a header", "1,50;1\n2,25;2\n7,5;4\n", "- -> - regression: 1.5>1 2.25>2 7.5>4",
       "decimal commas in column 0 (from 0)"},
      {"integers beside them", "x;y\n1;0,5\n20000;1,5\n", "x -> y regression: 1>0.5 20000>1.5",
       "decimal commas in column 'y'"},
      {"categories keep their text", "x;y;k\n1;0,5;a\n2;1,5;b\n", "x,k=a,k=b -> y regression: 1,1,0>0.5 2,0,1>1.5",
       "decimal commas in column 'y'"},
  };
  for (const auto &c : cases) {
    options.target = strstr(c.text, "y") ? "y" : "1";
    const Dataset read = Open(c.text);
    EXPECT_EQ(Describe(read.get()), c.expected) << c.name;
    EXPECT_STREQ(descent_dataset_note(read.get()), c.note) << c.name;
  }
}

TEST_F(Separators, AreRefusedWhereSeveralWaysExplainThem) {
  const struct {
    const char *name, *text, *error;
  } cases[] = {
      {"three digits after each comma", "x;y\n1,007;1\n950;2\n2,500;4\n",
       "2: column 'x': '1,007' could have a decimal comma or a separator of thousands (choose decimal ',' or decimal "
       "'.')"},
      {"in the target", "y;x\n950;2\n1,007;1\n",
       "3: column 'y': '1,007' could have a decimal comma or a separator of thousands (choose decimal ',' or decimal "
       "'.')"},
      {"quoted", "x,y\n\"1,007\",1\n950,2\n",
       "2: column 'x': '1,007' could have a decimal comma or a separator of thousands (choose decimal '.' for "
       "thousands, or write a decimal point for decimal ',')"},
      {"points of three digits among decimal commas", "x;y\n1,5;1.007\n2,5;2.500\n",
       "2: column 'y': '1.007' could have a decimal point or, as other columns have decimal commas, a separator of "
       "thousands (choose decimal ',' or decimal '.')"},
      {"both in one column", "x;y\n1,5;1\n2.5;2\n",
       "2: column 'x': '1,5' has a decimal comma, but other cells of the column have a decimal point (write all "
       "numbers in one way)"},
      {"both in two columns", "x;y\n1,5;0.1\n2,5;0.2\n",
       "2: column 'x': '1,5' has a decimal comma, but column 'y' has decimal points (write all numbers in one way)"},
      {"between comma-separated cells", "x,y\n\"1,5\",1\n\"2,5\",2\n",
       "2: column 'x': '1,5' has a decimal comma, but commas separate the cells (use a decimal point, or another "
       "delimiter)"},
  };
  options.target = "y";
  for (const auto &c : cases) EXPECT_EQ(Read(Write("t.csv", c.text), options), "bad data: t.csv:"s + c.error) << c.name;
}

TEST_F(Separators, FollowTheOption) {
  const struct {
    char decimal;
    const char *text, *expected;
  } cases[] = {
      {',', "x;y\n1,007;1\n950;2\n2.500;4\n", "x -> y regression: 1.00699997>1 950>2 2500>4"},
      {'.', "x;y\n1,007;1\n950;2\n2.5;4\n", "x -> y regression: 1007>1 950>2 2.5>4"},
      {'.', "x,y\n\"1,007\",1\n950,2\n2.5,4\n", "x -> y regression: 1007>1 950>2 2.5>4"},
      {',', "1,5;2,5\n2,5;3,5\n", "- -> - regression: 1.5>2.5 2.5>3.5"},
      {',', "x;y\n1.5;1\n2;2\n",
       "bad data: t.csv:2: column 'x': '1.5' is not a number with a decimal comma (correct it, or choose decimal '.')"},
      {'.', "x;y\n1,5;1\n2;2\n",
       "bad data: t.csv:2: column 'x': '1,5' is not a number with a decimal point (correct it, or choose decimal ',')"},
      {';', "x;y\n1;2\n", "invalid argument: invalid decimal separator 0x3b: must be . or ,"},
  };
  for (const auto &c : cases) {
    options.target = strstr(c.text, "y") ? "y" : "1";
    options.decimal = c.decimal;
    EXPECT_EQ(Read(Write("t.csv", c.text), options), c.expected) << c.text;
  }
  options.decimal = options.delimiter = ',';
  EXPECT_EQ(Read(Path("t.csv"), options),
            "invalid argument: ',' is both the delimiter and the decimal separator: choose another one");
}

TEST_F(Separators, StayWithTheModel) {
  options.target = "y";
  const Dataset read = Open("x;k;y\n1,50;a;no\n2,75;b;yes\n3,25;a;no\n4,5;b;yes\n");
  const descent_network_options shape = [] {
    static const int64_t widths[] = {1};
    descent_network_options o = descent_network_options_default();
    o.inputs = 3;
    o.layers = 1;
    o.widths = widths;
    return o;
  }();
  descent_network *made = nullptr, *loaded = nullptr;
  ASSERT_EQ(descent_network_create(&shape, &made), DESCENT_OK) << descent_last_error();
  const Network network(made);
  ASSERT_EQ(descent_network_fit_preprocessing(made, read.get(), DESCENT_NORMALIZE_NONE, DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(descent_network_save(made, Path("m").c_str()), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(descent_network_load(Path("m").c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network kept(loaded);
  options.network = loaded;
  options.target = nullptr;
  EXPECT_EQ(Read(Write("t.csv", "k;x\nb;1,007\na;12\nb;1.234,5\n"), options),
            "x,k=a,k=b -> - binary: 1.00699997,0,1 12,1,0 1234.5,0,1");
  EXPECT_EQ(Read(Write("t.csv", "k;x\nb;1.5\n"), options),
            "bad data: t.csv:2: column 'x': '1.5' is not a number with a decimal comma (correct it, or choose decimal "
            "'.')");
  EXPECT_EQ(Read(Write("t.csv", "k;x\nb;1.500\n"), options),
            "bad data: t.csv:2: column 'x': '1.500' has either a decimal point or a separator of thousands (choose "
            "decimal '.' or ',')");
  options.decimal = '.';
  EXPECT_EQ(Read(Path("t.csv"), options), "x,k=a,k=b -> - binary: 1.5,0,1");
}

TEST_F(Separators, SurviveAConversion) {
  options.target = "y";
  std::string text = "x;y\n";
  for (int i = 0; i < 12; i++) text += std::to_string(i) + ",5;" + std::to_string(i) + ",25\n";
  const std::string expected = Read(Write("t.csv", text), options);
  descent_dataset *converted = nullptr;
  ASSERT_EQ(descent_dataset_convert(Path("t.csv").c_str(), &options, Path("t.safetensors").c_str(), &converted),
            DESCENT_OK)
      << descent_last_error();
  const Dataset held(converted);
  EXPECT_EQ(Describe(converted), expected);
  EXPECT_STREQ(descent_dataset_note(converted), "decimal commas in column 'x', column 'y'");
  EXPECT_EQ(converted->storage->schema.numbers, NUMBER_COMMA);
}

TEST_F(Separators, OfATargetFileAreItsOwn) {
  Write("y.csv", "1,5\n2,5\n");
  const std::string targets = Path("y.csv");
  options.target_file = targets.c_str();
  options.header = 0;
  options.delimiter = ';';
  EXPECT_EQ(Read(Write("t.csv", "1;3\n2;4\n"), options), "-,- -> - regression: 1,3>1.5 2,4>2.5");
}

TEST_F(Separators, NumbersWithSignsAreNeitherCategoriesNorClasses) {
  const struct {
    const char *cell, *sign;
  } cases[] = {{"$1.50", "$"}, {"-$1,234.50", "$"}, {"3%", "%"},      {"12 %", "%"},   {"1,50 €", "€"},
               {"£5", "£"},    {"EUR 2.5", "EUR"},  {"1 234,5", " "}, {"1'234.5", "'"}};
  options.target = "y";
  for (const auto &c : cases) {
    const std::string cell = "\""s + c.cell + "\"", start = "bad data: t.csv:2: column "s,
                      is = ": '"s + c.cell + "' is not a number (remove the '" + c.sign + "', or ";
    EXPECT_EQ(Read(Write("t.csv", "x;y\n" + cell + ";1\n" + cell + ";2\n" + cell + ";1\n" + cell + ";2\n"), options),
              start + "'x'" + is + "make the column categorical)");
    const std::string target = "y;x\n" + cell + ";1\n" + cell + ";2\n7;1\n" + cell + ";2\n";
    options.task = DESCENT_TASK_REGRESSION;
    EXPECT_EQ(Read(Write("t.csv", target), options), start + "'y'" + is + "choose task classes)");
    options.task = DESCENT_TASK_CLASSES;
    EXPECT_EQ(Read(Path("t.csv"), options).substr(0, 15), "x -> y classes ");
    options.task = DESCENT_TASK_AUTO;
    EXPECT_EQ(Read(Write("t.csv", "y;x\n" + cell + ";1\n" + cell + ";2\n"), options),
              start + "'y'" + is + "choose task classes)");
  }
  // Texts that hold such signs otherwise.
  EXPECT_EQ(Read(Write("t.csv", "x;y\n$;1\n%;2\n$a;1\n"), options),
            "x=$,x=$a,x=% -> y binary 1,2: 1,0,0>0 0,0,1>1 0,1,0>0");
}

TEST_F(Separators, TextsThatAreNoClassesAreRefused) {
  const auto rows = [](int n, int distinct, const char *prefix) {
    std::string text = "x,y\n";
    for (int i = 0; i < n; i++) text += std::to_string(i) + "," + prefix + std::to_string(i % distinct) + "\n";
    return text;
  };
  const struct {
    const char *name;
    std::string text, expected;
  } cases[] = {
      {"names", rows(8, 8, "user"),
       "bad data: t.csv: column 'y': 8 distinct texts in 8 rows look like an identifier or free text (choose another "
       "target, or task classes)"},
      {"half of them again", rows(300, 151, "user"),
       "bad data: t.csv: column 'y': 151 distinct texts in 300 rows look like an identifier or free text (choose "
       "another target, or task classes)"},
      {"classes that repeat", rows(6, 3, "c"), "x -> y classes c0,c1,c2: 0>0 1>1 2>2 3>0 4>1 5>2"},
      {"few rows", rows(4, 4, "c"), "x -> y classes c0,c1,c2,c3: 0>0 1>1 2>2 3>3"},
      {"dates", "x,y\n1,2024-01-05\n2,2024-01-06\n3,2024-01-05\n4,2024-01-06\n",
       "bad data: t.csv:2: column 'y': '2024-01-05' looks like a date or time, which is not a class (choose another "
       "target, or task classes)"},
  };
  options.target = "y";
  for (const auto &c : cases) EXPECT_EQ(Read(Write("t.csv", c.text), options), c.expected) << c.name;
  options.task = DESCENT_TASK_CLASSES;
  EXPECT_EQ(Read(Write("t.csv", rows(5, 5, "u")), options), "x -> y classes u0,u1,u2,u3,u4: 0>0 1>1 2>2 3>3 4>4");
}

// ---- large whole numbers as classes ---------------------------------------------------------------------------------

TEST_F(Separators, LargeClassesAreToldApart) {
  const struct {
    const char *name, *text, *expected;
  } cases[] = {
      {"neighbours", "x,y\n1,9007199254740993\n2,9007199254740992\n3,9007199254740993\n",
       "x -> y binary 9007199254740992,9007199254740993: 1>1 2>0 3>1"},
      {"negative, in order",
       "x,y\n1,-9007199254740992\n2,-9007199254740993\n3,9007199254740993\n4,3\n5,3\n6,3\n7,3\n8,3\n",
       "x -> y classes -9007199254740993,-9007199254740992,3,9007199254740993: 1>1 2>0 3>3 4>2 5>2 6>2 7>2 8>2"},
      {"one number written in two ways", "x,y\n1,9007199254740993\n2,+009007199254740993.0\n3,1\n4,1.0\n5,01\n6,1e0\n",
       "x -> y binary 1,9007199254740993: 1>1 2>1 3>0 4>0 5>0 6>0"},
  };
  options.target = "y";
  for (const auto &c : cases) EXPECT_EQ(Read(Write("t.csv", c.text), options), c.expected) << c.name;
}

TEST_F(Separators, LargeClassesOfFilesOfNumbersAreRefused) {
  const auto npy = [this](const std::vector<int64_t> &cells) {
    std::string header =
        "{'descr': '<i8', 'fortran_order': False, 'shape': (" + std::to_string(cells.size() / 2) + ", 2), }";
    header += std::string((64 - (11 + header.size()) % 64) % 64, ' ') + "\n";
    std::string text = "\x93NUMPY\x01";
    text += '\0';
    text += static_cast<char>(header.size() & 255);
    text += static_cast<char>(header.size() >> 8);
    text += header;
    text.append(reinterpret_cast<const char *>(cells.data()), 8 * cells.size());
    return Write("t.npy", text);
  };
  constexpr int64_t big = INT64_C(1) << 53;
  const std::string merged =
      "whole numbers beyond 2^53 are not told apart as classes in a file of numbers (number the "
      "classes from 0, or use a CSV file)";
  options.target = "1";
  EXPECT_EQ(Read(npy({1, big, 2, big + 1, 3, big, 4, big + 1}), options),
            "bad data: t.npy:1: column 1 (from 0): " + merged);
  EXPECT_EQ(Read(npy({1, big, 2, big + 2, 3, big, 4, big + 2}), options),
            "- -> - binary 9007199254740992,9007199254740994: 1>0 2>1 3>0 4>1");
  // As a number to predict, the rounding is counted instead.
  options.task = DESCENT_TASK_REGRESSION;
  EXPECT_EQ(Read(npy({1, big, 2, big + 1}), options), "- -> - regression: 1>9.00719925e+15 2>9.00719925e+15");
  options.task = DESCENT_TASK_AUTO;
  const char *const first[] = {"0"};
  options.categorical = first;
  options.categoricals = 1;
  EXPECT_EQ(Read(npy({big + 1, 0, big, 1}), options),
            "bad data: t.npy:1: column 0 (from 0): '9007199254740992' is beyond 2^53, where a file of numbers does not "
            "tell categories apart (use a CSV file)");
  options.categoricals = 0;
  options.target = nullptr;
  EXPECT_EQ(Read(Write("t.svm", "9007199254740993 1:1\n9007199254740992 1:2\n"), options),
            "bad data: t.svm:1: column 1 (from 0): " + merged);
  EXPECT_EQ(Read(Write("t.svm", "9007199254740994 1:1\n9007199254740992 1:2\n"), options),
            "- -> - binary 9007199254740992,9007199254740994: 1>1 2>0");
}

// ---- headers of numbers ---------------------------------------------------------------------------------------------

TEST_F(Separators, AHeaderOfNumbersIsToldFromData) {
  const std::string counts = "the first row counts the columns and is read as names (header no reads it as data)",
                    texts = "the first row is read as names, although some are numbers (header no reads it as data)",
                    index = "the first column has no name (row numbers?) and is left out";
  const struct {
    const char *name, *text, *target, *expected;
    std::string note;
  } cases[] = {
      {"as pandas writes it", "0,1,2\n0.5,1,0\n2,3,1\n1,1,0\n4,2,1\n", "2",
       "0,1 -> 2 binary 0,1: 0.5,1>0 2,3>1 1,1>0 4,2>1", counts},
      {"whole numbers below it", "0,1,2\n5,1,0\n2,3,1\n", "2", "0,1 -> 2 binary 0,1: 5,1>0 2,3>1", counts},
      {"with the index", ",0,1\n0,5,0.5\n1,3,1.5\n", "1", "0 -> 1 regression: 5>0.5 3>1.5", counts + "; " + index},
      {"from 1", "1,2,3,4\n5,1,0,7\n2,3,1,5\n", "3", "1,2,4 -> 3 binary 0,1: 5,1,7>0 2,3,5>1", counts},
      {"text above a number", "x,1,y\n1,2,3\n4,5,6\n", "1", "x,y -> 1 binary 2,5: 1,3>0 4,6>1", texts},
      {"the target by its name", "x,1,y\n1,2,3\n4,5,6\n", "y", "x,1 -> y binary 3,6: 1,2>0 4,5>1", ""},
      {"the target is a number", "y,1,2020\na,3,4.5\nb,5,6\n", "2020",
       "y=a,y=b,1 -> 2020 regression: 1,0,3>4.5 0,1,5>6", ""},
      {"a name before an index", "x,2,y\n1,2,3\n4,5,6\n", "2", "x,y -> 2 binary 2,5: 1,3>0 4,6>1", texts},
      {"data that count on", "1,2,3\n4,5,6\n7,8,8\n", "2", "-,- -> - regression: 1,2>3 4,5>6 7,8>8", ""},
      {"two columns from 1", "1,2\n2,4\n3,6\n4,9\n5,10\n", "1", "- -> - regression: 1>2 2>4 3>6 4>9 5>10", ""},
      {"numbers in any order", "2,0,1\n5,1,0\n2,3,1\n", "2", "-,- -> - binary 0,1: 2,0>1 5,1>0 2,3>1", ""},
      {"a text among data", "5.1,a,1\n4.9,b,0\n", "2",
       "column 0,column 1=a,column 1=b -> - binary 0,1: 5.0999999,1,0>1 4.9000001,0,1>0", ""},
  };
  for (const auto &c : cases) {
    options.target = c.target;
    const Dataset read = Open(c.text);
    EXPECT_EQ(Describe(read.get()), c.expected) << c.name;
    EXPECT_EQ(descent_dataset_note(read.get()), c.note) << c.name;
  }
}

// A separator at the end of each line separates nothing.
TEST_F(Separators, AtTheEndOfLinesDoNotMakeCommasDecimal) {
  options.target = "0";
  EXPECT_EQ(Read(Write("t.csv", "1,2,3;\n2,3,3;\n"), options), "-,- -> - binary 1,2: 2,1>0 3,1>1");
  EXPECT_EQ(Read(Write("t.csv", "1,50;2,75\n2,25;3\n1,75;4\n"), options), "- -> - regression: 2.75>1.5 3>2.25 4>1.75");
}

TEST_F(Separators, AFirstRowThatMayBeBothAsksForTheHeader) {
  const struct {
    const char *name, *text, *error;
  } cases[] = {
      {"0 and 1", "0,1\n0.1,0.9\n0.2,0.8\n", "'0', '1' may"},
      {"0 and 1 and a class", "0,1,a\n5,2,b\n4,3,a\n", "'0', '1', ... may"},
      {"years above fractions", "2019,2020,2021\n0.3,0.1,0.7\n0.4,0.2,0.6\n", "'2019', '2020', ... may"},
      {"years", "2017,2018,2019,2020\n5,3,6,7\n5,3,6,8\n", "'2017', '2018', ... may"},
  };
  options.target = "-1";
  for (const auto &c : cases) {
    options.header = -1;
    const std::string read = Read(Write("t.csv", c.text), options);
    EXPECT_EQ(read.rfind("bad data: t.csv:1: "s + c.error + " be names of columns or data", 0), 0U) << read;
    EXPECT_NE(read.find("(choose header yes or no)"), std::string::npos) << c.name;
    for (options.header = 0; options.header < 2; options.header++) Open(c.text);
  }
  options.header = -1;
  for (const char *text : {"x,2,1\n1,2,3\n4,5,6\n", "22,A5,1\n38,113803,0\n35,373450,0\n"}) {
    EXPECT_EQ(Read(Write("t.csv", text), options),
              "bad data: t.csv:1: the first row may be names of columns or data: it has texts and whole numbers, and a "
              "text is above a number (choose header yes or no)");
  }
  options.header = 0;
  options.target = "2";
  EXPECT_EQ(Read(Write("t.csv", "22,A5,1\n38,B6,0\n"), options),
            "column 0,column 1=A5,column 1=B6 -> - binary 0,1: 22,1,0>1 38,0,1>0");
}

}  // namespace
