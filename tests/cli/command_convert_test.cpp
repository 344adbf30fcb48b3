/* `descent convert`, and `descent info` on its binary form. */
#include <regex>

#include "command.h"

namespace {

/* Libraries may lay out files otherwise. */
std::string without_sizes(const std::string &text) {
  return std::regex_replace(std::regex_replace(text, std::regex("[0-9,]+ bytes"), "SIZE bytes"),
                            std::regex("\"bytes\":[0-9]+"), "\"bytes\":SIZE");
}

constexpr char data[] = "age,colour,w,kind\n1.5,red,1,no\n,blue,0.5,yes\n0.1,red,2,no\n4,red,1,\n7,blue,1,yes\n";

struct Step {
  Arguments arguments;
  int code;
  const char *out, *err;
};

const Step steps[] = {
    {{"convert", "data.csv", "d.safetensors", "--target", "kind", "--weight-column", "w"},
     0,
     "read      data.csv: 4 rows, 2 columns, target kind of 2 classes\n"
     "note      1 row without a target dropped\n"
     "inexact   1 cell rounded to float32, by at most 1.5e-08 of the value\n"
     "wrote     d.safetensors: 4 rows, 3 inputs, SIZE bytes\n",
     ""},
    {{"convert", "data.csv", "twice.safetensors", "--target", "kind", "--weight-column", "w", "--two-passes"},
     0,
     "read      data.csv: 4 rows, 2 columns, target kind of 2 classes\n"
     "note      1 row without a target dropped\n"
     "inexact   1 cell rounded to float32, by at most 1.5e-08 of the value\n"
     "wrote     twice.safetensors: 4 rows, 3 inputs, SIZE bytes\n",
     ""},
    {{"info", "d.safetensors"},
     0,
     "file          d.safetensors, SIZE bytes\n"
     "data          4 rows of 3 inputs, mapped rather than read\n"
     "columns       age, colour\n"
     "task          binary\n"
     "target        kind\n"
     "classes       no 2, yes 2\n",
     ""},
    {{"info", "d.safetensors", "--json"},
     0,
     "{\"file\":\"d.safetensors\",\"bytes\":SIZE,\"rows\":4,\"inputs\":3,\"task\":\"binary\",\"columns\":[\"age\","
     "\"colour\"],"
     "\"input_names\":[\"age\",\"colour=blue\",\"colour=red\"],\"targets\":[\"kind\"],\"classes\":[\"no\",\"yes\"]}\n",
     ""},
    {{"convert", "d.safetensors", "d.csv"},
     0,
     "read      d.safetensors: 4 rows, 2 columns, target kind of 2 classes\n"
     "exact     every number is the same in float32\n"
     "wrote     d.csv: 4 rows, 2 columns, SIZE bytes\n",
     ""},
    {{"convert", "d.safetensors", "d.npz"},
     0,
     "read      d.safetensors: 4 rows, 2 columns, target kind of 2 classes\n"
     "exact     every number is the same in float32\n"
     "wrote     d.npz: 4 rows, 3 inputs, SIZE bytes\n"
     "note      1 column of categories became inputs of 0 and 1: 3 inputs in all\n"
     "note      classes are written as numbers: 0 is no, 1 is yes\n"
     "note      the format has no column names; they are stored in a separate array, which is not read back\n",
     ""},
    {{"convert", "d.safetensors", "d.npy"},
     1,
     "read      d.safetensors: 4 rows, 2 columns, target kind of 2 classes\n"
     "exact     every number is the same in float32\n",
     "descent convert: d.npy: not written: npy cannot store weights (choose npz, csv, hdf5 or safetensors)\n"},
    {{"convert", "data.csv", "data.csv"}, 2, "", "descent convert: 'data.csv': is also an input file\n"},
    {{"convert", "data.csv", "./data.csv"}, 2, "", "descent convert: './data.csv': is also an input file\n"},
    {{"convert", "none.csv", "d.npz"}, 3, "", "descent convert: none.csv: cannot read: No such file or directory\n"},
    {{"convert", "d.safetensors", "e.npz", "--two-passes"},
     2,
     "",
     "descent convert: --two-passes needs an output that ends in .safetensors\n"},
    {{"evaluate", "d.safetensors", "data.csv"},
     3,
     "",
     "descent evaluate: d.safetensors: holds data, not a model (the model comes first on the command line)\n"},
};

TEST(Convert, SaysWhatItReadAndWroteAndHowExactly) {
  Folder folder;
  folder.write("data.csv", data);
  for (const Step &step : steps) {
    const Result result = folder.run(step.arguments);
    const std::string what = step.arguments[0] + " " + step.arguments[1];
    EXPECT_EQ(result.code, step.code) << what;
    EXPECT_EQ(without_sizes(result.out), step.out) << what;
    EXPECT_EQ(result.err, step.err) << what;
  }
  EXPECT_EQ(folder.read("twice.safetensors"), folder.read("d.safetensors"));
  EXPECT_EQ(folder.read("d.csv"), "age,colour,weight,kind\n1.5,red,1,no\n,blue,0.5,yes\n0.1,red,2,no\n7,blue,1,yes\n");
}

TEST(Convert, GivesTheSameModel) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run({"convert", "data.csv", "d.safetensors", "--target", "answer"}).code, 0);
  const Arguments train = {"--epochs", "2", "--quiet"};
  const Result text = folder.run(Arguments{"train", "data.csv", "--target", "answer", "--out", "a"} + train);
  const Result mapped = folder.run(Arguments{"train", "d.safetensors", "--out", "b"} + train);
  ASSERT_EQ(text.code, 0) << text.err;
  ASSERT_EQ(mapped.code, 0) << mapped.err;
  ASSERT_EQ(folder.run({"predict", "a", "data.csv", "--out", "a.csv"}).code, 0);
  ASSERT_EQ(folder.run({"predict", "b", "d.safetensors", "--out", "b.csv"}).code, 0);
  EXPECT_EQ(folder.read("a.csv"), folder.read("b.csv"));
}

}  // namespace
