// Categories, missing cells, weights, several targets and blocks: the table on columns that are not all numbers.
#include <gtest/gtest.h>

#include <cmath>

#include "data_files.h"

namespace {

class Table : public DataFiles {
 protected:
  descent_dataset_options options = descent_dataset_options_default();
};

TEST_F(Table, DistinguishesNumbersCategoriesAndMissingCells) {
  const struct {
    const char *name, *text, *expected;
  } cases[] = {
      {"texts", "a,b\n1,red\n2,blue\n3,red\n", "a,b=blue,b=red -> - auto: 1,0,1 2,1,0 3,0,1"},
      {"blanks around", "a,b\n1, red\n2,red \n", "a,b=red -> - auto: 1,1 2,1"},
      {"missing numbers", "a,b\n1,?\n,2\n3,NA\n", "a,b -> - auto: 1,nan nan,2 3,nan"},
      {"missing in any case", "a,b\n1,nan\nNULL,2\n3,n/a\n", "a,b -> - auto: 1,nan nan,2 3,nan"},
      {"missing categories", "a,b\n1,x\n2,?\n3,\n4,y\n", "a,b=x,b=y -> - auto: 1,1,0 2,nan,nan 3,nan,nan 4,0,1"},
      {"a column of missing cells", "a,b\n1,?\n2,\n", "a,b -> - auto: 1,nan 2,nan"},
      {"no header", "1,x\n2,y\n", "column 0,column 1=x,column 1=y -> - auto: 1,1,0 2,0,1"},
      {"one text among numbers", "a,b\n1,2\n2,x\n3,4\n",
       "bad data: t.csv:3: column 'b': 'x' is not a number (correct it, list it as missing, or make the column "
       "categorical)"},
      {"numbers among texts", "a,b\n1,x\n2,7\n3,y\n", "a,b=7,b=x,b=y -> - auto: 1,0,1,0 2,1,0,0 3,0,0,1"},
      {"dates", "a,b\n1,2024-03-01\n2,2024-03-02\n",
       "bad data: t.csv:2: column 'b': '2024-03-01' looks like a date or time (ignore the column, "
       "replace it with numbers, or make it categorical)"},
      {"times", "a,b\n1,12:30\n2,?\n",
       "bad data: t.csv:2: column 'b': '12:30' looks like a date or time (ignore the column, "
       "replace it with numbers, or make it categorical)"},
      {"days first", "a,b\n1,1.2.24\n2,31/12/1999\n",
       "bad data: t.csv:2: column 'b': '1.2.24' looks like a date or time (ignore the column, "
       "replace it with numbers, or make it categorical)"},
      {"categories with digits", "a,b\n1,a-1\n2,b-2\n", "a,b=a-1,b=b-2 -> - auto: 1,1,0 2,0,1"},
      {"infinite", "a,b\n1,inf\n2,3\n",
       "bad data: t.csv:2: column 'b': 'inf' is not a finite 32-bit number, at most 3.4e38 (correct it, or remove the "
       "row or the column)"},
  };
  for (const auto &c : cases) EXPECT_EQ(Read(Write("t.csv", c.text), options), c.expected) << c.name;
}

TEST_F(Table, RefusesListsWithHoles) {
  const char *const holes[] = {"a", nullptr};
  const std::string path = Write("t.csv", "a,b\n1,2\n");
  options.categorical = holes;
  options.categoricals = 2;
  EXPECT_EQ(Read(path, options), "invalid argument: categorical columns: entry 1 (from 0) is NULL");
  options.categoricals = 1;
  options.missing = holes;
  options.missing_texts = 2;
  EXPECT_EQ(Read(path, options), "invalid argument: texts of missing cells: entry 1 (from 0) is NULL");
}

TEST_F(Table, RefusesFreeText) {
  std::string text = "a,name\n";
  for (int i = 0; i < 30; i++) text += "1,person " + std::to_string(i) + "\n";
  EXPECT_EQ(Read(Write("t.csv", text), options),
            "bad data: t.csv: column 'name': 30 distinct texts in 30 rows look like an identifier or free text (ignore "
            "the column, or make it categorical)");
  const char *const names[] = {"name"};
  options.categorical = names;
  options.categoricals = 1;
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Path("t.csv").c_str(), &options, &read), DESCENT_OK);
  const Dataset dataset(read);
  EXPECT_EQ(descent_dataset_inputs(read), 31);
  EXPECT_EQ(descent_dataset_columns(read), 2);
  EXPECT_EQ(descent_dataset_column_categories(read, 0), 0);
  EXPECT_EQ(descent_dataset_column_categories(read, 1), 30);
  EXPECT_STREQ(descent_dataset_column_category(read, 1, 29), "person 9");
  EXPECT_EQ(descent_dataset_column_category(read, 1, 30), nullptr);
}

TEST_F(Table, ObeysTheOptionsForColumns) {
  const char *const second[] = {"b"}, *const unknown[] = {"c"}, *const dashes[] = {"-", "-9"}, *const empty[] = {""};
  const struct {
    const char *name, *text;
    std::vector<const char *> categorical, missing;
    bool indicators;
    const char *expected;
  } cases[] = {
      {"whole numbers as categories",
       "a,b\n1,10\n2,9.0\n3,9\n",
       {second[0]},
       {},
       false,
       "a,b=10,b=9 -> - auto: 1,1,0 2,0,1 3,0,1"},
      {"codes that look like numbers",
       "a,b\n1,01\n2,1\n3,1e0\n4,+1.0\n5,-0\n6,0.0\n",
       {second[0]},
       {},
       false,
       "a,b=0,b=01,b=1,b=1e0 -> - auto: 1,0,1,0,0 2,0,0,1,0 3,0,0,0,1 4,0,0,1,0 5,1,0,0,0 6,1,0,0,0"},
      {"codes beyond what a double tells apart",
       "a,b\n1,90071992547409921\n2,90071992547409922\n",
       {second[0]},
       {},
       false,
       "a,b=90071992547409921,b=90071992547409922 -> - auto: 1,1,0 2,0,1"},
      {"a category that is not there",
       "a,b\n1,2\n",
       {unknown[0]},
       {},
       false,
       "bad data: t.csv:1: no column 'c' (known: 'a', 'b')"},
      {"texts for missing",
       "a,b\n1,-\n2,-9\n3,5\n",
       {},
       {dashes[0], dashes[1]},
       false,
       "a,b -> - auto: 1,nan 2,nan 3,5"},
      {"only the empty cell", "a,b\n1,?\n,y\n", {}, {empty[0]}, false, "a,b=?,b=y -> - auto: 1,1,0 nan,0,1"},
      {"indicators",
       "a,b,c\n1,?,x\n2,3,?\n",
       {},
       {},
       true,
       "a,b,b missing,c=x,c missing -> - auto: 1,nan,1,1,0 2,3,0,nan,1"},
  };
  for (const auto &c : cases) {
    descent_dataset_options o = options;
    o.categorical = c.categorical.data();
    o.categoricals = static_cast<int64_t>(c.categorical.size());
    o.missing = c.missing.empty() ? nullptr : c.missing.data();
    o.missing_texts = static_cast<int64_t>(c.missing.size());
    o.indicators = c.indicators;
    EXPECT_EQ(Read(Write("t.csv", c.text), o), c.expected) << c.name;
  }
}

TEST_F(Table, TakesNumbersForMissingInFilesOfNumbers) {
  const char *const texts[] = {"-999.0"};
  options.missing = texts;
  options.missing_texts = 1;
  EXPECT_EQ(Read(Write("t.svm", "1 1:-999 2:3\n0 1:4 2:5\n-999 1:6\n"), options), "-,- -> - binary 0,1: nan,3>1 4,5>0");
}

TEST_F(Table, DropsRowsWithoutATarget) {
  options.target = "y";
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("t.csv", "a,y\n1,no\n2,?\n3,yes\n4,\n").c_str(), &options, &read), DESCENT_OK);
  const Dataset dataset(read);
  EXPECT_EQ(Describe(read), "a -> y binary no,yes: 1>0 3>1");
  EXPECT_EQ(descent_dataset_dropped(read), 2);
  EXPECT_EQ(Read(Write("t.csv", "a,y\n1,?\n"), options), "bad data: t.csv: the target is missing in every row (1)");
  options.indicators = true;
  EXPECT_EQ(Read(Write("t.csv", "a,b,y\n1,?,no\n?,2,?\n3,4,yes\n"), options),
            "a,b,b missing -> y binary no,yes: 1,nan,1>0 3,4,0>1");
}

TEST_F(Table, ReadsWeightsAndSeveralTargets) {
  const struct {
    const char *name, *text, *target, *weight;
    descent_task task;
    const char *expected;
  } cases[] = {
      {"two targets", "a,y,b,z\n1,2,3,4\n5,6,7,8\n", "y,z", nullptr, DESCENT_TASK_AUTO,
       "a,b -> y regression: 1,3>2&4 5,7>6&8"},
      {"in the requested order", "a,y,b,z\n1,2,3,4\n", "z,0", nullptr, DESCENT_TASK_REGRESSION,
       "y,b -> z regression: 2,3>4&1"},
      {"a name with a comma", "a,\"y,z\"\n1,2\n3,4\n", "y,z", nullptr, DESCENT_TASK_REGRESSION,
       "a -> y,z regression: 1>2 3>4"},
      {"twice the same", "a,y\n1,2\n", "y,1", nullptr, DESCENT_TASK_AUTO,
       "bad data: t.csv:1: column 1 (from 0) is listed twice as a target"},
      {"classes have one target", "a,y,z\n1,2,3\n", "y,z", nullptr, DESCENT_TASK_CLASSES,
       "bad data: t.csv: 2 targets, but task classes takes one (choose task regression)"},
      {"one of two is text", "a,y,z\n1,2,x\n", "y,z", nullptr, DESCENT_TASK_AUTO,
       "bad data: t.csv:2: column 'z': 'x' is not a finite number, which regression on several targets needs (correct "
       "it)"},
      {"a weight", "w,a,y\n0.5,1,0\n2,3,1\n", "y", "w", DESCENT_TASK_AUTO, "a -> y binary 0,1: 1>0 3>1"},
      {"a negative weight", "w,a,y\n-1,1,0\n2,3,1\n", "y", "w", DESCENT_TASK_AUTO,
       "bad data: t.csv:2: column 'w': '-1' is not a valid weight: must be finite and >= 0"},
      {"a missing weight", "w,a,y\n,1,0\n2,3,1\n", "y", "w", DESCENT_TASK_AUTO,
       "bad data: t.csv:2: column 'w': the cell is not a valid weight: must be finite and >= 0"},
      {"weight and target", "w,a\n1,1\n", "w", "w", DESCENT_TASK_AUTO,
       "bad data: t.csv:1: a column cannot be both the target and the weight"},
  };
  for (const auto &c : cases) {
    descent_dataset_options o = options;
    o.target = c.target;
    o.weight_column = c.weight;
    o.task = c.task;
    EXPECT_EQ(Read(Write("t.csv", c.text), o), c.expected) << c.name;
  }
}

TEST_F(Table, KeepsTheWeights) {
  options.target = "y";
  options.weight_column = "w";
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("t.csv", "w,a,y\n0.5,1,0\n9,2,?\n2,3,1\n").c_str(), &options, &read),
            DESCENT_OK);
  const Dataset dataset(read);
  ASSERT_NE(read->storage->weights, nullptr);
  EXPECT_EQ(read->storage->weights[0], 0.5F);
  EXPECT_EQ(read->storage->weights[1], 2.0F);
}

TEST_F(Table, TakesTargetsFromAFileOfTheirOwn) {
  const std::string labels = Write("labels.csv", "label\nno\nyes\n");
  options.target_file = labels.c_str();
  EXPECT_EQ(Read(Write("t.csv", "a,b\n1,2\n3,4\n"), options), "a,b -> label binary no,yes: 1,2>0 3,4>1");
  EXPECT_EQ(Read(Write("t.csv", "a,b\n1,2\n"), options), "bad data: labels.csv: 2 targets for 1 rows of data");
  Write("labels.csv", "label\nno\n?\nyes\n");
  EXPECT_EQ(Read(Write("t.csv", "a,b\n1,2\n3,4\n"), options),
            "bad data: labels.csv: 1 targets are missing (fill them in, or remove their rows from both files)");
  EXPECT_EQ(Read(Write("t.csv", ",a\n0,2\n1,4\n"), options),
            "bad data: labels.csv: 1 targets are missing (fill them in, or remove their rows from both files)");
  Write("labels.csv", ",label\n0,no\n1,yes\n");
  EXPECT_EQ(Read(Path("t.csv"), options), "a -> label binary no,yes: 2>0 4>1") << "with row numbers, both";
  Write("t.csv", "a,b\n1,2\n3,4\n");
  EXPECT_EQ(Read(Path("t.csv"), options), "a,b -> label binary no,yes: 1,2>0 3,4>1") << "with row numbers";
  Write("labels.csv", "u,v\n1,2\n3,4.5\n");
  EXPECT_EQ(Read(Path("t.csv"), options), "a,b -> u regression: 1,2>1&2 3,4>3&4.5");
}

// ---- like a network -------------------------------------------------------------------------------------------------

class LikeANetwork : public Table {
 protected:
  void Fit(const std::string &text) {
    descent_dataset_options o = options;
    if (!o.target) o.target = o.header == 0 ? "-1" : "y";
    descent_dataset *read = nullptr;
    ASSERT_EQ(descent_dataset_read(Write("fit.csv", text).c_str(), &o, &read), DESCENT_OK) << descent_last_error();
    const Dataset dataset(read);
    const int64_t widths[] = {1};
    descent_network_options made = descent_network_options_default();
    made.inputs = descent_dataset_inputs(read);
    made.layers = 1;
    made.widths = widths;
    descent_network *created = nullptr;
    ASSERT_EQ(descent_network_create(&made, &created), DESCENT_OK);
    network.reset(created);
    ASSERT_EQ(descent_network_fit_preprocessing(created, read, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
              DESCENT_OK);
    options.network = created;
  }
  Network network;
};

TEST_F(LikeANetwork, FindsColumnsAndCategoriesByName) {
  options.indicators = true;
  Fit("size,colour,y\n1,red,no\n?,blue,yes\n3,red,no\n");
  options.indicators = false;
  const struct {
    const char *name, *text, *expected;
  } cases[] = {
      {"as trained", "size,colour,y\n1,red,no\n",
       "size,size missing,colour=blue,colour=red -> y binary no,yes: 1,0,0,1>0"},
      {"in another order", "y,colour,more,size\nyes,blue,x,7\n",
       "size,size missing,colour=blue,colour=red -> y binary no,yes: 7,0,1,0>1"},
      {"without the target", "colour,size\nblue,7\n", "size,size missing,colour=blue,colour=red -> - binary: 7,0,1,0"},
      {"missing cells", "colour,size\n?,\n", "size,size missing,colour=blue,colour=red -> - binary: nan,1,nan,nan"},
      {"a column is missing", "colour,y\nblue,no\n",
       "bad data: t.csv:1: 1 of the 2 columns that the network needs is missing: 'size'"},
      {"a category never seen", "size,colour\n1,green\n",
       "bad data: t.csv:2: column 'colour': 'green' is a category that the network did not see in training (correct "
       "it, or choose unseen zeros)"},
      {"text for a number", "size,colour\nbig,red\n",
       "bad data: t.csv:2: column 'size': 'big' is not a number (correct it, list it as missing, or make the column "
       "categorical)"},
      {"a class never seen", "size,colour,y\n1,red,maybe\n",
       "bad data: t.csv:2: column 'y': 'maybe' is not one of the network's classes"},
  };
  for (const auto &c : cases) EXPECT_EQ(Read(Write("t.csv", c.text), options), c.expected) << c.name;
}

TEST_F(LikeANetwork, TakesTargetsFromTheirFileThoughTheDataHasThem) {
  Fit("a,y\n1,no\n2,yes\n");
  const std::string labels = Write("labels.csv", "label\nyes\nno\n");
  options.target_file = labels.c_str();
  EXPECT_EQ(Read(Write("t.csv", "a,y\n5,\n6,no\n"), options), "a -> label binary no,yes: 5>1 6>0");
  EXPECT_EQ(Read(Write("t.csv", "5,\n6,no\n"), options), "- -> label binary no,yes: 5>1 6>0");
}

TEST_F(LikeANetwork, KnowsItsTextsFromAHeader) {
  options.header = 0;
  Fit("red,1,no\nblue,2,yes\n");
  options.header = -1;
  EXPECT_EQ(Read(Write("t.csv", "red,?\nblue,2\n"), options),
            "column 0=blue,column 0=red,column 1 -> - binary: 0,1,nan 1,0,2");
  EXPECT_EQ(Read(Write("t.csv", "colour,size\nblue,2\n"), options), "colour=blue,colour=red,size -> - binary: 1,0,2");
}

TEST_F(LikeANetwork, TakesUnseenCategoriesAsZerosIfAllowed) {
  Fit("a,b,y\n1,red,no\n2,blue,yes\n");
  options.unseen = DESCENT_UNSEEN_ZEROS;
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("t.csv", "a,b\n1,green\n2,red\n").c_str(), &options, &read), DESCENT_OK);
  const Dataset dataset(read);
  EXPECT_EQ(Describe(read), "a,b=blue,b=red -> - binary: 1,0,0 2,0,1");
  EXPECT_EQ(descent_dataset_unseen(read), 1);
  options.unseen = DESCENT_UNSEEN_ERROR;
  network->schema.unseen = DESCENT_UNSEEN_ZEROS;
  EXPECT_EQ(Read(Path("t.csv"), options), "a,b=blue,b=red -> - binary: 1,0,0 2,0,1");
}

TEST_F(LikeANetwork, FillsCategoriesWithTheMostFrequent) {
  Fit("a,b,y\n1,red,no\n2,blue,yes\n?,red,no\n6,?,yes\n");
  ASSERT_TRUE(descent_network_imputes(network.get()));
  EXPECT_EQ(network->fill[0], 3);
  EXPECT_EQ(network->fill[1], 0);
  EXPECT_EQ(network->fill[2], 1);
  network->fill = (free(network->fill), nullptr);
  EXPECT_EQ(Read(Write("t.csv", "a,b\n1,?\n"), options),
            "bad data: t.csv:2: column 'b': the cell is missing, and the network does not replace missing cells (fill "
            "it in)");
}

TEST_F(LikeANetwork, KeepsAllOfItInTheModelFile) {
  options.indicators = true;
  options.unseen = DESCENT_UNSEEN_ZEROS;
  Fit("size,colour,y\n1,red,no\n?,blue,yes\n3,red,no\n");
  const std::string first = Path("a.safetensors"), second = Path("b.safetensors");
  ASSERT_EQ(descent_network_save(network.get(), first.c_str()), DESCENT_OK) << descent_last_error();
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(first.c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network owner(loaded);
  ASSERT_EQ(descent_network_save(loaded, second.c_str()), DESCENT_OK);
  std::ostringstream a, b;
  a << std::ifstream(first, std::ios::binary).rdbuf();
  b << std::ifstream(second, std::ios::binary).rdbuf();
  EXPECT_EQ(a.str(), b.str());
  EXPECT_NE(a.str().find("unseen"), std::string::npos);
  EXPECT_EQ(descent_network_columns(loaded), 2);
  EXPECT_STREQ(descent_network_column_category(loaded, 1, 0), "blue");
  EXPECT_STREQ(descent_network_input_name(loaded, 1), "size missing");
  EXPECT_EQ(loaded->fill[0], 2);
}

TEST_F(LikeANetwork, RemembersWhatCountedAsMissing) {
  const char *const texts[] = {"-999", " none "};
  options.missing = texts;
  options.missing_texts = 2;
  Fit("a,b,y\n1,red,no\n-999,none,yes\n3,NA,no\n");
  options.missing = nullptr;
  options.missing_texts = 0;
  const std::string path = Path("a.safetensors");
  ASSERT_EQ(descent_network_save(network.get(), path.c_str()), DESCENT_OK) << descent_last_error();
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(path.c_str(), &loaded), DESCENT_OK) << descent_last_error();
  network.reset(loaded);
  options.network = loaded;
  const std::string data = Write("t.csv", "a,b\n-999.0,NA\n5,none\n");
  EXPECT_EQ(Read(data, options), "a,b=NA,b=red -> - binary: nan,1,0 5,nan,nan");
  const char *const other[] = {"5"};
  options.missing = other;
  options.missing_texts = 1;
  options.unseen = DESCENT_UNSEEN_ZEROS;
  EXPECT_EQ(Read(data, options), "a,b=NA,b=red -> - binary: -999,1,0 nan,0,0");
}

TEST(Schema, RefusesColumnsOfWhichSomeHaveNames) {
  const std::unique_ptr<cJSON, decltype(&cJSON_Delete)> json(
      cJSON_Parse("{\"columns\": [\"a\", {\"categories\": [\"x\", \"y\"]}]}"), cJSON_Delete);
  schema_members members = {};
  members.columns = cJSON_GetObjectItem(json.get(), "columns");
  schema read = {};
  EXPECT_EQ(schema_read("m", &members, 3, 1, 0, &read), DESCENT_ERROR_MODEL);
  EXPECT_STREQ(descent_last_error(), "m: 'columns': either all columns must have a name or none");
}

TEST_F(LikeANetwork, RemembersThePositionsOfColumns) {
  const char *const first[] = {"1"};
  options.header = 0;
  options.target = "2";
  options.ignore = first;
  options.ignored = 1;
  options.weight_column = "4";
  Fit("1,70,no,2,9\n3,71,yes,4,9\n");  // two features, the first and the fourth
  options.target = options.weight_column = nullptr;
  options.ignored = 0;
  const std::string path = Path("a.safetensors");
  ASSERT_EQ(descent_network_save(network.get(), path.c_str()), DESCENT_OK) << descent_last_error();
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(path.c_str(), &loaded), DESCENT_OK) << descent_last_error();
  network.reset(loaded);
  options.network = loaded;
  const struct {
    const char *name, *text, *ignore, *expected;
  } cases[] = {
      {"as trained", "5,70,yes,6,9\n", nullptr, "-,- -> - binary no,yes: 5,6>1"},
      {"without the target", "5,70,6,9\n", nullptr, "-,- -> - binary: 5,6"},
      {"the target, but nothing left out", "5,yes,6\n", nullptr, "-,- -> - binary no,yes: 5,6>1"},
      {"features alone", "5,6\n", nullptr, "-,- -> - binary: 5,6"},
      {"one more, ignored", "5,yes,6,0\n", "-1", "-,- -> - binary no,yes: 5,6>1"},
      {"too many", "5,6,7,8,9,10\n", nullptr,
       "bad data: t.csv:1: 6 columns, matched by position because the file has no names: the network needs 2, plus one "
       "for the target"},
  };
  for (const auto &c : cases) {
    options.ignore = &c.ignore;
    options.ignored = c.ignore != nullptr;
    EXPECT_EQ(Read(Write("t.csv", c.text), options), c.expected) << c.name;
  }
}

TEST_F(LikeANetwork, AsksWhichColumnIsMissing) {
  const char *const first[] = {"0"};
  options.header = 0;
  options.ignore = first;
  options.ignored = 1;
  Fit("70,1,2,no\n71,3,4,yes\n");
  options.ignored = 0;
  EXPECT_EQ(Read(Write("t.csv", "70,1,2\n"), options),
            "bad data: t.csv:1: 3 columns, matched by position, are ambiguous: 1 of them are the network's targets or "
            "columns left out in training (ignore them)");
  options.ignored = 1;
  EXPECT_EQ(Read(Path("t.csv"), options), "-,- -> - binary: 1,2");
}

TEST_F(LikeANetwork, GivesBlocksInOrder) {
  Fit("a,b,y\n1,red,no\n2,blue,yes\n");
  std::string text = "b,a\n";
  for (int i = 0; i < 10; i++) text += (i % 2 ? "red," : "blue,") + std::to_string(i) + "\n";
  options.features_only = true;
  const std::string path = Write("t.csv", text);
  const std::string whole = Read(path, options);
  for (const int64_t rows : {1, 3, 5, 10, 11}) {
    std::string joined = "a,b=blue,b=red -> - binary:";
    const auto take = [](void *user, const descent_dataset *block) {
      const std::string described = Describe(block);
      *static_cast<std::string *>(user) += described.substr(described.find(':') + 1);
      return 0;
    };
    ASSERT_EQ(descent_dataset_read_blocks(path.c_str(), &options, rows, take, &joined), DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(joined, whole) << rows;
  }
}

}  // namespace
