// CSV files: every form that RFC 4180 and its dialects allow is read, and an unusable file is refused with line, column
// and value.
#include <clocale>
#include <cmath>
#include <cstring>

#include "data_files.h"

namespace {

using namespace std::string_literals;

class Csv : public DataFiles {};

TEST_F(Csv, ReadsEveryDialect) {
  const std::string expected = "a,b -> y binary no,yes: 1,2>0 3,4>1";
  const struct {
    const char *name;
    std::string text;
  } cases[] = {
      {"plain", "a,b,y\n1,2,no\n3,4,yes\n"},
      {"no newline at the end", "a,b,y\n1,2,no\n3,4,yes"},
      {"CR LF", "a,b,y\r\n1,2,no\r\n3,4,yes\r\n"},
      {"CR LF, none at the end", "a,b,y\r\n1,2,no\r\n3,4,yes"},
      {"CR alone", "a,b,y\r1,2,no\r3,4,yes\r"},
      {"mixed line ends", "a,b,y\r1,2,no\n3,4,yes\r\n"},
      {"semicolons", "a;b;y\n1;2;no\n3;4;yes\n"},
      {"tabs", "a\tb\ty\n1\t2\tno\n3\t4\tyes\n"},
      {"bars", "a|b|y\n1|2|no\n3|4|yes\n"},
      {"quotes everywhere", "\"a\",\"b\",\"y\"\n\"1\",\"2\",\"no\"\n\"3\",\"4\",\"yes\"\n"},
      {"quoted last cell without newline", "a,b,y\n1,2,no\n3,4,\"yes\""},
      {"byte-order mark",
       "\xef\xbb\xbf"
       "a,b,y\n1,2,no\n3,4,yes\n"},
      {"byte-order mark before a quote", "\xef\xbb\xbf\"a\",b,y\n1,2,no\n3,4,yes\n"},
      {"blank lines", "\n\r\na,b,y\n\n1,2,no\n  \n\r\n3,4,yes\n\n\n"},
      {"blank lines before semicolons", "\n \na;b;y\n1;2;no\n3;4;yes\n"},
      {"blanks around cells", "a , b,\ty\n 1, 2 ,no \n3,4\t, yes\n"},
      {"blanks around quotes", "a,b,y\n \"1\" ,2,no\n3, \"4\",\"yes\" \n"},
      {"signs and exponents", "a,b,y\n+1,2e0,no\n300e-2,.4e1,yes\n"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, "y"), expected) << c.name;
}

TEST_F(Csv, KeepsWhatIsQuoted) {
  const struct {
    const char *name;
    std::string text;
    const char *expected;
  } cases[] = {
      {"delimiter", "\"a,b\",y\n1,\"x,z\"\n2,w\n", "a,b -> y binary w,x,z: 1>1 2>0"},
      {"doubled quotes", "\"a\"\"b\",y\n1,\"\"\"x\"\"\"\n2,w\n", "a\"b -> y binary \"x\",w: 1>0 2>1"},
      {"line breaks", "\"a\nb\",y\n1,\"x\r\nz\"\n2,\"w\"\n", "a\nb -> y binary w,x\r\nz: 1>1 2>0"},
      {"line break before the first delimiter", "\"a,,\n,,\";y\n1;x\n2;z\n", "a,,\n,, -> y binary x,z: 1>0 2>1"},
      {"blanks", "a,y\n1,\" x \"\n2,x\n", "a -> y binary  x ,x: 1>0 2>1"},
      {"other delimiters more often than the real one", "\"a;b;c;d\",y\n1,x\n2,z\n",
       "a;b;c;d -> y binary x,z: 1>0 2>1"},
      {"UTF-8", "größe,y\n1,süß\n2,naïve\n", "größe -> y binary naïve,süß: 1>1 2>0"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, "y"), c.expected) << c.name;
}

TEST_F(Csv, FindsTheHeader) {
  const struct {
    const char *name, *text, *target;
    int header;
    const char *expected;
  } cases[] = {
      {"texts above numbers", "a,b\n1,2\n", nullptr, -1, "a,b -> - auto: 1,2"},
      {"numbers above numbers", "1,2\n3,4\n", nullptr, -1, "-,- -> - auto: 1,2 3,4"},
      {"numbers and a class", "1,x\n3,z\n", "1", -1, "- -> - binary x,z: 1>0 3>1"},
      {"numbers with the target's name", "0,1,y\n1,2,x\n3,4,z\n", "y", -1, "0,1 -> y binary x,z: 1,2>0 3,4>1"},
      {"declared as one", "0,1\n1,2\n", nullptr, 1, "0,1 -> - auto: 1,2"},
      {"an unnamed column", ",b\n1,2\n", nullptr, -1, ",b -> - auto: 1,2"},
      {"equal names", "b,a,a,y\n9,1,2,x\n9,3,4,z\n", "y", -1,
       "bad data: t.csv:1: several columns are named 'a' (rename them, ignore them all, or choose header no if this "
       "row is data)"},
      {"no names", "b,,,y\n9,1,2,x\n9,3,4,z\n", "y", -1,
       "bad data: t.csv:1: several columns have no name, including column 1 (from 0) (name them, or ignore them)"},
      {"declared as missing", "a,b\n1,2\n", nullptr, 0,
       "bad data: t.csv:1: column 0 (from 0): 'a' is not a number (correct it, or remove the row or the column)"},
      {"nothing below it", "a,b\n", nullptr, -1, "bad data: t.csv:1: a header without rows below it (add rows)"},
      {"nothing below it but blanks", "\n\na,b\n\n", nullptr, -1,
       "bad data: t.csv:3: a header without rows below it (add rows)"},
      {"a first cell that is not a number below it", "a,b\nn/a,n/a\n1,2\n", nullptr, -1,
       "bad data: t.csv:2: column 'a': 'n/a' is not a number (correct it, or remove the row or the column)"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, c.target, DESCENT_TASK_AUTO, c.header), c.expected) << c.name;
}

TEST_F(Csv, FindsTheTargetByNameOrIndex) {
  const char *text = "a,1,b\n1,2,3\n4,5,6\n";
  const struct {
    const char *target, *expected;
  } cases[] = {
      {"b", "a,1 -> b regression: 1,2>3 4,5>6"},
      {"0", "1,b -> a regression: 2,3>1 5,6>4"},
      {"2", "a,1 -> b regression: 1,2>3 4,5>6"},
      {"-1", "a,1 -> b regression: 1,2>3 4,5>6"},
      {"-3", "1,b -> a regression: 2,3>1 5,6>4"},
      {"1", "a,b -> 1 regression: 1,3>2 4,6>5"},
      {"3", "bad data: t.csv:1: no column 3: indices are 0 to 2, or -1 to -3 from the end"},
      {"-4", "bad data: t.csv:1: no column -4: indices are 0 to 2, or -1 to -3 from the end"},
      {"age", "bad data: t.csv:1: no column 'age' (known: 'a', '1', 'b')"},
      {"", "bad data: t.csv:1: no column '' (known: 'a', '1', 'b')"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(text, c.target, DESCENT_TASK_REGRESSION, 1), c.expected) << c.target;
  // A name wins over an index.
  EXPECT_EQ(ReadText("2,1,0\n1,2,3\n4,5,6\n", "0", DESCENT_TASK_REGRESSION, 1), "2,1 -> 0 regression: 1,2>3 4,5>6");
  EXPECT_EQ(ReadText("1,2\n3,4\n", "y", DESCENT_TASK_REGRESSION),
            "bad data: t.csv:1: no column 'y': the file has no header, use an index from 0 to 1");
  EXPECT_EQ(ReadText("y,a,y\n1,2,3\n", "y"),
            "bad data: t.csv:1: several columns are named 'y' (rename one, or use its index, counted from 0)");
  EXPECT_EQ(
      ReadText("y\n1\n2\n", "y"),
      "bad data: t.csv:1: the target is the only column: nothing to learn from (check the delimiter: , ; tab or |)");
}

TEST_F(Csv, NamesTheLineOfWhatItRefuses) {
  const std::string fix = " (correct it, or remove the row or the column)";
  const struct {
    const char *name;
    std::string text, error;
  } cases[] = {
      {"text", "a,b\n1,2\n3,n/a\n", "3: column 'b': 'n/a' is not a number" + fix},
      {"text after CR LF", "a,b\r\n1,2\r\n3,n/a\r\n", "3: column 'b': 'n/a' is not a number" + fix},
      {"text after CR", "a,b\r1,2\r3,n/a\r", "3: column 'b': 'n/a' is not a number" + fix},
      {"text after blank lines", "a,b\n\n\r\n1,2\n \n3,n/a\n", "6: column 'b': 'n/a' is not a number" + fix},
      {"text after CR and LF that do not belong together", "a,b\r \n1,x\n", "3: column 'b': 'x' is not a number" + fix},
      {"text after a quoted line break", "\"a\n\n\",b\n1,2\n3,x\n", "5: column 'b': 'x' is not a number" + fix},
      {"text after a quoted CR LF", "\"a\r\n\r\n\",b\r\n1,2\r\n3,x\r\n", "5: column 'b': 'x' is not a number" + fix},
      {"the cell's own line in a long record", "a,b,c\n1,\"2\n\",3\n", "2: column 'b': '2\\n' is not a number" + fix},
      {"the cell behind it", "\"a\",\"b\n\",c\n1,2,\n",
       "3: column 'c': the cell is empty (fill in a number, or remove the row or the column)"},
      {"no header", "1,2\n3,x\n", "2: column 1 (from 0): 'x' is not a number" + fix},
      {"first row, no header", "1,\"x\n\",\"\ny\"\n", "1: column 1 (from 0): 'x\\n' is not a number" + fix},
      {"unnamed column", ",b\nx,1\n", "2: column 0 (from 0): 'x' is not a number" + fix},
      {"empty", "a,b\n1,\n", "2: column 'b': the cell is empty (fill in a number, or remove the row or the column)"},
      {"empty in quotes", "a,b\n\"\",1\n",
       "2: column 'a': the cell is empty (fill in a number, or remove the row or the column)"},
      {"NaN", "a,b\n1,NaN\n", "2: column 'b': 'NaN' is not a number (fill one in, or remove the row or the column)"},
      {"infinity", "a,b\n1,-inf\n", "2: column 'b': '-inf' is not a finite 32-bit number, at most 3.4e38" + fix},
      {"beyond double", "a,b\n1,1e999\n", "2: column 'b': '1e999' is not a finite 32-bit number, at most 3.4e38" + fix},
      {"beyond float", "a,b\n-3.41e38,1\n",
       "2: column 'a': '-3.41e38' is not a finite 32-bit number, at most 3.4e38" + fix},
      {"hexadecimal", "a,b\n1,0x10\n", "2: column 'b': '0x10' is not a number" + fix},
      {"two numbers", "a,b\n1,2 3\n", "2: column 'b': '2 3' is not a number" + fix},
      {"decimal comma", "a;b\n1;2,5\n",
       "2: column 'b': '2,5' is not a number (use a decimal point, or choose decimal ',')"},
      {"unprintable", "a,b\n1,\"\x1b[2J\xff\t\"\n", "2: column 'b': '\\x1b[2J\\xff\\t' is not a number" + fix},
      {"long", "a,b\n1," + std::string(1000, 'x') + "\n",
       "2: column 'b': '" + std::string(60, 'x') + "...' is not a number" + fix},
      {"long in UTF-8", "a,b\n1,x" + std::string("ééééééééééééééééééééééééééééééééééééééééééééé") + "\n",
       "2: column 'b': 'x" + std::string("ééééééééééééééééééééééééééééé") + "...' is not a number" + fix},
      {"too few cells", "a,b,c\n1,2,3\n1,2\n",
       "3: 2 cells, but the header has 3 (add or remove cells; quote those that contain ',')"},
      {"too many cells", "1;2\n1;2;3\n",
       "2: 3 cells, but the first row has 2 (add or remove cells; quote those that contain ';')"},
      {"one cell", "a\tb\n1\n",
       "2: 1 cell, but the header has 2 (add or remove cells; quote those that contain '\\t')"},
      {"a missing cell rather than the text in its place", "a,y,b\n1,x\n",
       "2: 2 cells, but the header has 3 (add or remove cells; quote those that contain ',')"},
      {"ragged record over lines", "a,b\n1,2\n\"\n\n\",1,2\n4,5\n",
       "3: 3 cells, but the header has 2 (add or remove cells; quote those that contain ',')"},
      {"open quote", "a,b\n1,2\n3,\"4\n5,6\n7,8\n", "3: a quote opens here and is never closed (close it)"},
      {"open quote on a later line of the record", "a,b\n1,2\n\"1\n\n\",\"2\n3,4\n",
       "3: column 'a': '1\\n\\n' is not a number" + fix},
      {"open quote in the header", "a,\"b\n1,2\n", "1: a quote opens here and is never closed (close it)"},
      {"quote inside a cell", "a,b\n1,2\n3,4\"5\n",
       "3: a quote inside an unquoted cell (quote the whole cell, and double the quotes inside)"},
      {"text behind a quote", "a,b\n1,2\n\"3\"x,4\n",
       "3: a quote inside an unquoted cell (quote the whole cell, and double the quotes inside)"},
      {"text behind a quoted line break", "a,b\n1,2\n\"3\n\"x,4\n",
       "4: a quote inside an unquoted cell (quote the whole cell, and double the quotes inside)"},
      {"NUL", "a,b\n1,2\n3,\0004\n"s, "3: a NUL byte: this is not text, or it is UTF-16 (save the file as UTF-8)"},
      {"error before a NUL", "a,b\n1,x\n\0\n"s, "2: column 'b': 'x' is not a number" + fix},
      {"UTF-16, little-endian",
       "\xff\xfe"
       "a\0,\0b\0\n\0"s,
       "1: this is UTF-16 text (save the file as UTF-8)"},
      {"UTF-16, big-endian", "\xfe\xff\0a\0,\0b\0\n"s, "1: this is UTF-16 text (save the file as UTF-8)"},
      {"name that is not UTF-8", "a,b\xe9\n1,2\n",
       "1: column 'b\\xe9': the name is not UTF-8 text (save the file as UTF-8)"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, nullptr), "bad data: t.csv:" + c.error) << c.name;
}

TEST_F(Csv, NamesTheLineBehindAQuotedLineBreak) {
  for (const std::string &end : {"\n"s, "\r\n"s, "\r"s})
    for (const std::string &header : {"y,a,b" + end, ""s}) {
      const int line = (header.empty() ? 0 : 1) + 3;
      const std::string text = header + "\"u" + end + end + "v\",1,x" + end,
                        name = header.empty() ? "2 (from 0)" : "'b'";
      EXPECT_EQ(ReadText(text, "0", DESCENT_TASK_AUTO, header.empty() ? 0 : 1),
                "bad data: t.csv:" + std::to_string(line) + ": column " + name +
                    ": 'x' is not a number (correct it, or remove the row or the column)");
    }
}

TEST_F(Csv, NamesTheLineAcrossChunks) {
  // Rows of 1 to 40 bytes shift every boundary of a block read at a time onto each part of a row, CR LF included.
  for (const std::string &end : {"\n"s, "\r\n"s, "\r"s})
    for (int shift = 0; shift < 8; shift++) {
      std::string text = "a,b" + std::string(static_cast<size_t>(shift), 'x') + end;
      int lines = 1;
      while (text.size() < 1'100'000) {
        text += std::string(static_cast<size_t>(lines % 37), '0') + "1,2" + end;
        lines++;
      }
      text += "1,?" + end;
      EXPECT_EQ(ReadText(text, nullptr), "bad data: t.csv:" + std::to_string(lines + 1) + ": column 'b" +
                                             std::string(static_cast<size_t>(shift), 'x') +
                                             "': '?' is not a number (correct it, or remove the row or the column)");
    }
}

TEST_F(Csv, RefusesFilesThatCannotBeRead) {
  std::filesystem::create_directory(Path("folder.csv"));
  const descent_dataset_options options = descent_dataset_options_default();
  EXPECT_EQ(Read(Path("none.csv"), options), "cannot read: none.csv: cannot read: No such file or directory");
  EXPECT_EQ(Read(Path("folder.csv"), options), "cannot read: folder.csv: cannot read: Is a directory");
  EXPECT_EQ(Read(Write("empty.csv", ""), options), "bad data: empty.csv: the file is empty");
  EXPECT_EQ(Read(Write("bom.csv", "\xef\xbb\xbf"), options), "bad data: bom.csv: the file is empty");
  EXPECT_EQ(Read(Write("blank.csv", "\n \r\n\t\n"), options), "bad data: blank.csv: the file is empty");
}

TEST_F(Csv, LeavesOutWhatIsIgnoredAndWhatOnlyCountsRows) {
  const char *index = "the first column has no name (row numbers?) and is left out";
  const struct {
    const char *name, *text, *target;
    std::vector<const char *> ignore;
    const char *expected, *note;
  } cases[] = {
      {"by name", "a,b,c,y\n1,n/a,3,x\n4,,6,z\n", "y", {"b"}, "a,c -> y binary x,z: 1,3>0 4,6>1", ""},
      {"by index", "a,b,c,y\n1,n/a,3,x\n4,,6,z\n", "y", {"1", "-4"}, "c -> y binary x,z: 3>0 6>1", ""},
      {"all of a name", "a,b,a,y\n1,2,3,x\n4,5,6,z\n", "y", {"a"}, "b -> y binary x,z: 2>0 5>1", ""},
      {"twice", "a,b,y\n1,2,x\n4,5,z\n", "y", {"a", "0"}, "b -> y binary x,z: 2>0 5>1", ""},
      {"without a header", "1,2,3\n4,5,6\n", nullptr, {"1"}, "-,- -> - auto: 1,3 4,6", ""},
      {"row numbers", ",a,y\n0,2,x\n1,5,z\n", "y", {}, "a -> y binary x,z: 2>0 5>1", index},
      {"row names", "\"\",\"a\",\"y\"\n\"Fiat\",2,3.5\n\"Ford\",5,6\n", "y", {}, "a -> y regression: 2>3.5 5>6", index},
      {"row numbers read by pandas", "Unnamed: 0,a,y\n0,2,x\n1,5,z\n", "y", {}, "a -> y binary x,z: 2>0 5>1", index},
      {"row numbers that are ignored", ",a,y\n0,2,x\n1,5,z\n", "y", {"0"}, "a -> y binary x,z: 2>0 5>1", ""},
      {"a target without a name", ",a,b\n0,2,3\n1,5,6\n", "0", {}, "a,b ->  binary 0,1: 2,3>0 5,6>1", ""},
      {"the only input", ",y\n0,x\n1,z\n", "y", {}, " -> y binary x,z: 0>0 1>1", ""},
      {"a later column", "a,,y\n0,1,x\n1,2,z\n", "y", {}, "a, -> y binary x,z: 0,1>0 1,2>1", ""},
      {"the target",
       "a,b,y\n1,2,x\n",
       "y",
       {"a", "y"},
       "bad data: t.csv:1: column 'y' cannot be both the target and ignored",
       ""},
      {"everything else",
       "a,b,y\n1,2,x\n",
       "y",
       {"a", "b"},
       "bad data: t.csv:1: every column but the target is ignored: nothing to learn from",
       ""},
      {"what is not there",
       "a,b,y\n1,2,x\n",
       "y",
       {"c"},
       "bad data: t.csv:1: no column 'c' (known: 'a', 'b', 'y')",
       ""},
      {"beyond the last",
       "a,b,y\n1,2,x\n",
       "y",
       {"3"},
       "bad data: t.csv:1: no column 3: indices are 0 to 2, or -1 to -3 from the end",
       ""},
  };
  for (const auto &c : cases) {
    descent_dataset_options options = descent_dataset_options_default();
    options.target = c.target;
    options.ignore = c.ignore.data();
    options.ignored = static_cast<int64_t>(c.ignore.size());
    descent_dataset *read = nullptr;
    const descent_status status = descent_dataset_read(Write("t.csv", c.text).c_str(), &options, &read);
    const Dataset dataset(read);
    EXPECT_EQ(status == DESCENT_OK ? Describe(read) : Plain("bad data: "s + descent_last_error()), c.expected)
        << c.name;
    if (status == DESCENT_OK) {
      EXPECT_STREQ(descent_dataset_note(read), c.note) << c.name;
    }
  }
}

TEST_F(Csv, RefusesInvalidOptions) {
  const std::string path = Write("t.csv", "a,b\n1,2\n");
  descent_dataset_options options = descent_dataset_options_default();
  for (const char c : {'1', 'e', '.', '-', '"', '\n', '\x7f', '\xe9'}) {
    options.delimiter = c;
    EXPECT_EQ(Read(path, options).substr(0, 42),
              "invalid argument: invalid delimiter 0x" +
                  std::string(1, "0123456789abcdef"[static_cast<unsigned char>(c) >> 4]) +
                  std::string(1, "0123456789abcdef"[c & 15]) + ": ");
  }
  options = descent_dataset_options_default();
  options.size = 3;
  EXPECT_EQ(Read(path, options), "invalid argument: dataset options must start from descent_dataset_options_default()");
  descent_dataset *dataset = nullptr;
  EXPECT_EQ(descent_dataset_read(path.c_str(), nullptr, &dataset), DESCENT_ERROR_ARGUMENT);
  options = descent_dataset_options_default();
  EXPECT_EQ(descent_dataset_read(nullptr, &options, &dataset), DESCENT_ERROR_ARGUMENT);
  const char *ignore[] = {"a", nullptr};
  options.ignored = 1;
  EXPECT_EQ(Read(path, options), "invalid argument: 1 ignored columns, but the list is NULL");
  options.ignore = ignore, options.ignored = 2;
  EXPECT_EQ(Read(path, options), "invalid argument: ignored columns: entry 1 (from 0) is NULL");
  EXPECT_EQ(ReadText("a:b\n1:2\n", nullptr, DESCENT_TASK_AUTO, -1, ':'), "a,b -> - auto: 1,2");
  EXPECT_EQ(ReadText("a b\n1 2\n", nullptr, DESCENT_TASK_AUTO, -1, ' '), "a,b -> - auto: 1,2");
}

TEST_F(Csv, RefusesCellsAndHeadersWithoutEnd) {
  const std::string digits(3 << 20, '1');
  EXPECT_EQ(ReadText("a,b\n1,2\n3,\"4\n" + digits, nullptr),
            "bad data: t.csv:3: a cell of over 1 MiB starts here (is its closing quote missing?)");
  EXPECT_EQ(ReadText(digits, nullptr),
            "bad data: t.csv:1: a cell of over 1 MiB starts here (is its closing quote missing?)");
  EXPECT_EQ(ReadText(std::string(5 << 20, ','), nullptr), "bad data: t.csv:1: more than 4194304 columns");
  /* Many equal names must not be compared pairwise. */
  EXPECT_EQ(ReadText(std::string(1 << 20, ',') + "\n1\n", "0").substr(0, 45),
            "bad data: t.csv:1: several columns have no na");
}

TEST_F(Csv, ReadsWideAndLongTables) {
  std::string header = "y", row = "1";
  for (int j = 0; j < 20000; j++) header += ",x" + std::to_string(j), row += "," + std::to_string(j);
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "y";
  options.task = DESCENT_TASK_REGRESSION;
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("wide.csv", header + "\n" + row + "\n" + row).c_str(), &options, &read),
            DESCENT_OK)
      << descent_last_error();
  Dataset wide(read);
  std::vector<float> x(20000);
  ASSERT_EQ(descent_dataset_inputs(wide.get()), 20000);
  ASSERT_EQ(descent_dataset_row(wide.get(), 1, x.data()), DESCENT_OK);
  for (size_t j = 0; j < x.size(); j++) ASSERT_EQ(x[j], static_cast<float>(j));
  EXPECT_STREQ(descent_dataset_input_name(wide.get(), 19999), "x19999");

  std::string text;
  for (int i = 0; i < 300000; i++) text += std::to_string(i) + "," + std::to_string(i) + ".5\n";
  options.target = "1";
  ASSERT_EQ(descent_dataset_read(Write("long.csv", text).c_str(), &options, &read), DESCENT_OK);
  Dataset tall(read);
  ASSERT_EQ(descent_dataset_rows(tall.get()), 300000);
  for (int i = 0; i < 300000; i++) {
    float value, y;
    descent_dataset_row(tall.get(), i, &value);
    descent_dataset_target(tall.get(), i, &y);
    ASSERT_EQ(value, static_cast<float>(i));
    ASSERT_EQ(y, static_cast<float>(i) + 0.5f);
  }
}

TEST_F(Csv, RoundsToTheNearestFloat) {
  const char *texts[] = {"0.1",
                         "3.4028235e38",
                         "-3.4028234663852886e38",
                         "1e-45",
                         "1e-50",
                         "-0",
                         "16777217",
                         "0.30000000000000004",
                         "2.7182818284590452354",
                         "123456789012345678901234567890",
                         "1.00000017881393432617187499",
                         "8.589973e9",
                         "1234567890.1234567"};
  for (const char *text : texts) {
    descent_dataset_options options = descent_dataset_options_default();
    options.header = 0;
    descent_dataset *read = nullptr;
    ASSERT_EQ(descent_dataset_read(Write("t.csv", text).c_str(), &options, &read), DESCENT_OK) << text;
    float value = 0;
    descent_dataset_row(read, 0, &value);
    descent_dataset_free(read);
    const float expected = static_cast<float>(strtod(text, nullptr));
    EXPECT_EQ(memcmp(&value, &expected, sizeof value), 0) << text << " " << value;
  }
}

// With 16 to 20 digits a shortcut would be off by one unit.
TEST(Number, IsTheNearestDoubleAtEveryLength) {
  uint64_t word = 0;
  for (uint64_t i = 0; i < 200000; i++) {
    word = static_cast<uint64_t>(rng_word(1, RNG_SYNTHETIC, 0, 0, 2 * i)) << 32 |
           rng_word(1, RNG_SYNTHETIC, 0, 0, 2 * i + 1);
    char text[64];
    const int exponent = static_cast<int>(word % 61) - 30;
    const int length = snprintf(text, sizeof text, "%s%llu.%llue%d", word & 64 ? "-" : "",
                                static_cast<unsigned long long>(word >> (word >> 7 & 31)),
                                static_cast<unsigned long long>(word >> 40 & 1023), exponent);
    double value = 0;
    const double expected = strtod(text, nullptr);
    ASSERT_TRUE(number_parse(text, static_cast<size_t>(length), &value)) << text;
    ASSERT_EQ(memcmp(&value, &expected, sizeof value), 0) << text << " " << value;
  }
}

std::string Numbers(int n, double step) {
  std::ostringstream text;
  text << "a,y\n";
  for (int i = 0; i < n; i++) text << i << "," << i * step << "\n";
  return text.str();
}

TEST_F(Csv, InfersTheTask) {
  const struct {
    const char *name;
    std::string text, expected;
  } cases[] = {
      {"two integers", "a,y\n1,7\n2,-3\n3,7\n", "a -> y binary -3,7: 1>1 2>0 3>1"},
      {"three integers, by value", "a,y\n1,10\n2,9\n3,-1\n4,9\n5,9\n6,9\n",
       "a -> y classes -1,9,10: 1>2 2>1 3>0 4>1 5>1 6>1"},
      {"integers that do not repeat", "a,y\n1,100\n2,200\n3,350\n", "a -> y regression: 1>100 2>200 3>350"},
      {"integers that hardly repeat", "a,y\n1,10\n2,9\n3,-1\n4,9\n5,9\n", "a -> y regression: 1>10 2>9 3>-1 4>9 5>9"},
      {"integers written in several ways", "a,y\n1,1.0\n2,0\n3,1\n4,-0\n5,+1e0\n",
       "a -> y binary 0,1: 1>1 2>0 3>1 4>0 5>1"},
      {"texts, by bytes", "a,y\n1,b\n2,B\n3,a\n", "a -> y classes B,a,b: 1>2 2>0 3>1"},
      {"two texts", "a,y\n1,no\n2,yes\n3,no\n", "a -> y binary no,yes: 1>0 2>1 3>0"},
      {"texts and few integers", "a,y\n1,10\n2,9\n3,x\n", "a -> y classes 10,9,x: 1>0 2>1 3>2"},
      {"a fraction", "a,y\n1,1\n2,0\n3,0.5\n4,1\n", "a -> y regression: 1>1 2>0 3>0.5 4>1"},
      {"large integers", "a,y\n1,1e30\n2,123456789012\n", "a -> y binary 123456789012,1e+30: 1>1 2>0"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, "y"), c.expected) << c.name;
  EXPECT_NE(ReadText(Numbers(20, 2) + Numbers(20, 2).substr(4), "y")
                .find("-> y classes 0,2,4,6,8,10,12,14,16,18,20,22,24,"
                      "26,28,30,32,34,36,38:"),
            std::string::npos);
  const std::string many = ReadText(Numbers(21, 2) + Numbers(21, 2).substr(4), "y");
  EXPECT_NE(many.find("-> y regression: 0>0 1>2 "), std::string::npos) << many;
  EXPECT_NE(many.find(" 20>40"), std::string::npos) << many;
}

TEST_F(Csv, ObeysTheRequestedTask) {
  const struct {
    const char *name;
    std::string text;
    descent_task task;
    std::string expected;
  } cases[] = {
      {"classes from integers", "a,y\n1,5\n2,3\n3,5\n", DESCENT_TASK_CLASSES, "a -> y classes 3,5: 1>1 2>0 3>1"},
      {"classes from texts", "a,y\n1,u\n2,v\n", DESCENT_TASK_CLASSES, "a -> y classes u,v: 1>0 2>1"},
      {"classes from texts and fractions", "a,y\n1,1.50\n2,v\n", DESCENT_TASK_CLASSES,
       "a -> y classes 1.50,v: 1>0 2>1"},
      {"binary", "a,y\n1,u\n2,v\n", DESCENT_TASK_BINARY, "a -> y binary u,v: 1>0 2>1"},
      {"regression from few integers", "a,y\n1,1\n2,0\n", DESCENT_TASK_REGRESSION, "a -> y regression: 1>1 2>0"},
      {"regression from one value", "a,y\n1,3\n2,3\n", DESCENT_TASK_REGRESSION, "a -> y regression: 1>3 2>3"},
      {"classes from fractions", "a,y\n1,2\n2,0.5\n3,0.5\n", DESCENT_TASK_CLASSES,
       "bad data: t.csv:3: column 'y': '0.5' is neither an integer nor text, so it cannot be a class (choose task "
       "regression)"},
      {"binary from three", "a,y\n1,u\n2,v\n3,u\n4,w\n", DESCENT_TASK_BINARY,
       "bad data: t.csv:5: column 'y': 'w' is a third class, but task binary has two (choose task classes)"},
      {"regression from text", "a,y\n1,2\n2,high\n", DESCENT_TASK_REGRESSION,
       "bad data: t.csv:3: column 'y': 'high' is not a number, which regression needs (correct it)"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, "y", c.task), c.expected) << c.name;
  const std::string many = ReadText(Numbers(300, 1), "y", DESCENT_TASK_CLASSES);
  EXPECT_NE(many.find(",298,299: 0>0 1>1 "), std::string::npos) << many;
}

TEST_F(Csv, RefusesDoubtfulTargets) {
  std::string slip = Numbers(40, 1), early = "a,y\n1,n/a\n" + slip.substr(4), ids = "a,y\n", many = "a,y\n",
              repeated = "a,y\n";
  for (int i = 0; i < 1001; i++) ids += "1,name" + std::to_string(i) + "\n";
  for (int i = 0; i < 66000; i++) many += "1," + std::to_string(i) + "\n";
  for (int i = 0; i < 2100; i++) repeated += "1,name" + std::to_string(i % 1002) + "\n";
  const struct {
    const char *name;
    std::string text;
    descent_task task;
    std::string error;
  } cases[] = {
      {"one text", "a,y\n1,u\n2,u\n", DESCENT_TASK_AUTO,
       ": column 'y': only one class, 'u' in all 2 rows (choose another target, or add rows of another class)"},
      {"one number", "a,y\n1,1\n2,1.0\n", DESCENT_TASK_CLASSES,
       ": column 'y': only one class, '1' in all 2 rows (choose another target, or add rows of another class)"},
      {"empty", "a,y\n1,u\n2,\n", DESCENT_TASK_AUTO,
       ":3: column 'y': the cell is empty (fill in the target, or remove the row)"},
      {"NaN", "a,y\n1,u\n2,nan\n", DESCENT_TASK_AUTO,
       ":3: column 'y': 'nan' is not a value (fill in the target, or remove the row)"},
      {"infinite", "a,y\n1,u\n2,Inf\n", DESCENT_TASK_CLASSES,
       ":3: column 'y': 'Inf' is not a finite 32-bit number (correct it, or remove the row)"},
      {"beyond float", "a,y\n1,1\n2,1e39\n", DESCENT_TASK_REGRESSION,
       ":3: column 'y': '1e39' is not a finite 32-bit number (correct it, or remove the row)"},
      {"a text after many numbers", slip + "1,n/a\n", DESCENT_TASK_AUTO,
       ":42: column 'y': 'n/a' is not a number, but the target's other values are (correct it, or choose task "
       "classes)"},
      {"a text before many numbers", early, DESCENT_TASK_AUTO,
       ":2: column 'y': 'n/a' is not a number, but the target's other values are (correct it, or choose task classes)"},
      {"a text before a fraction", "a,y\n1,n/a\n2,0.5\n", DESCENT_TASK_AUTO,
       ":2: column 'y': 'n/a' is not a number, but the target's other values are (correct it, or choose task classes)"},
      {"identifiers", ids, DESCENT_TASK_AUTO,
       ": column 'y': 1001 distinct texts in 1001 rows look like an identifier or free text (choose another target, or "
       "task classes)"},
      {"too many numbers", many, DESCENT_TASK_CLASSES,
       ":65538: column 'y': '65536' is the 65537th distinct value, but at most 65536 classes are supported (choose "
       "task regression)"},
      {"too many texts", "a,y\n1,u\n" + many.substr(4), DESCENT_TASK_CLASSES,
       ":65538: column 'y': '65535' is the 65537th distinct value, but at most 65536 classes are supported (is the "
       "column an identifier or free text? choose another target)"},
      {"not UTF-8", "a,y\n1,u\n2,\xe9t\xe9\n", DESCENT_TASK_AUTO,
       ":3: column 'y': '\\xe9t\\xe9' is not UTF-8 text (save the file as UTF-8)"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadText(c.text, "y", c.task), "bad data: t.csv" + c.error) << c.name;
  EXPECT_EQ(ReadText(ids, "y", DESCENT_TASK_CLASSES).substr(0, 15), "a -> y classes ");
  EXPECT_EQ(ReadText(repeated, "y").substr(0, 15), "a -> y classes ");
}

TEST_F(Csv, ReadsTheExamples) {
  const struct {
    const char *file, *target;
    int64_t rows, inputs;
    std::vector<std::pair<std::string, int64_t>> classes;
  } cases[] = {
      {"breast_cancer.csv", "diagnosis", 569, 30, {{"benign", 357}, {"malignant", 212}}},
      {"optdigits_train.csv",
       "digit",
       3823,
       64,
       {{"0", 376},
        {"1", 389},
        {"2", 380},
        {"3", 389},
        {"4", 387},
        {"5", 376},
        {"6", 377},
        {"7", 387},
        {"8", 380},
        {"9", 382}}},
      {"optdigits_test.csv",
       "digit",
       1797,
       64,
       {{"0", 178},
        {"1", 182},
        {"2", 177},
        {"3", 183},
        {"4", 181},
        {"5", 182},
        {"6", 181},
        {"7", 179},
        {"8", 174},
        {"9", 180}}},
  };
  for (const auto &c : cases) {
    descent_dataset_options options = descent_dataset_options_default();
    options.target = c.target;
    descent_dataset *read = nullptr;
    ASSERT_EQ(descent_dataset_read((DESCENT_SOURCE_DIR "/examples/"s + c.file).c_str(), &options, &read), DESCENT_OK)
        << descent_last_error();
    Dataset d(read);
    EXPECT_EQ(descent_dataset_rows(read), c.rows);
    EXPECT_EQ(descent_dataset_inputs(read), c.inputs);
    EXPECT_EQ(descent_dataset_task(read), c.classes.size() == 2 ? DESCENT_TASK_BINARY : DESCENT_TASK_CLASSES);
    ASSERT_EQ(descent_dataset_classes(read), static_cast<int64_t>(c.classes.size()));
    for (size_t k = 0; k < c.classes.size(); k++) {
      EXPECT_EQ(descent_dataset_class_name(read, static_cast<int64_t>(k)), c.classes[k].first);
      EXPECT_EQ(descent_dataset_class_count(read, static_cast<int64_t>(k)), c.classes[k].second) << c.file;
    }
    EXPECT_STREQ(descent_dataset_target_name(read, 0), c.target);
  }
}

}  // namespace
