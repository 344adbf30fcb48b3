// Untrusted model files: loading either gives the network that the file describes or one line that names the cause, and
// takes no more memory than the file's size warrants.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "internal.h"
#include "scratch.h"

namespace {

class HostileModelFile : public ::testing::Test {
 protected:
  // Loads a file of these bytes; the network, if any, is the caller's. The bytes in memory give the same.
  descent_status Load(const std::string &bytes, descent_network **network) const {
    descent_network *other = nullptr;
    const descent_status in_memory = descent_network_load_memory(bytes.data(), bytes.size(), &other);
    const std::string said = descent_last_error();
    EXPECT_EQ(in_memory == DESCENT_OK, other != nullptr);
    descent_network_free(other);
    write_file(path_, bytes);
    *network = nullptr;
    descent_status status = descent_network_load(path_.c_str(), network);
    EXPECT_EQ(status == DESCENT_OK, *network != nullptr);
    EXPECT_EQ(status, in_memory);
    if (status == DESCENT_ERROR_MODEL) {
      EXPECT_EQ("the model in memory" + std::string(descent_last_error()).substr(path_.size()), said);
    }
    return status;
  }

  Scratch scratch_;
  const std::string path_ = scratch_ / "m";
};

std::string Prefix(uint64_t length) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; i++) bytes[static_cast<size_t>(i)] = static_cast<char>(length >> (8 * i) & 0xff);
  return bytes;
}

std::string Escape(const std::string &text) {
  std::string escaped;
  for (char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string Repeat(const std::string &text, size_t times) {
  std::string repeated;
  for (size_t i = 0; i < times; i++) repeated += text;
  return repeated;
}

// A file around one description and one list of tensors; 8 bytes of zeros as the data by default.
std::string File(const std::string &description, const std::string &tensors, const std::string &data) {
  std::string header = "{\"__metadata__\":{\"descent\":\"" + Escape(description) + "\"}" + tensors + "}";
  return Prefix(header.size()) + header + data;
}

const char kDescription[] = R"({"version":1,"inputs":1,"layers":[{"width":1,"activation":"identity"}],)"
                            R"("loss":"binary_cross_entropy","normalize":"none"})";
const char kWeight[] = R"(,"layers.0.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]})";
const char kBias[] = R"(,"layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]})";
const std::string kData(8, '\0');

std::string Described(const std::string &description) { return File(description, std::string(kWeight) + kBias, kData); }
std::string Altered(const std::string &from, const std::string &to) {
  std::string text = kDescription;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return Described(text.replace(at, from.size(), to));
}
std::string Bias(const std::string &members) {
  return File(kDescription, std::string(kWeight) + ",\"layers.0.bias\":" + members, kData);
}
std::string Headed(const std::string &header, const std::string &data = "") {
  return Prefix(header.size()) + header + data;
}

std::string Floats(std::initializer_list<float> values) {
  std::string bytes;
  for (float value : values) bytes.append(reinterpret_cast<const char *>(&value), 4);
  return bytes;
}

struct Hostile {
  const char *name;
  std::string bytes;
  const char *says;
};

std::vector<Hostile> HostileContainers() {
  const std::string valid = Described(kDescription);
  return {
      {"empty", "", "0 bytes"},
      {"seven bytes", std::string(7, '\0'), "7 bytes"},
      {"empty header", Prefix(0), "invalid JSON"},
      {"header longer than the file", Prefix(100) + "{}", "100 bytes"},
      {"header of 2^64 - 1 bytes", Prefix(UINT64_MAX) + "{}", "18446744073709551615"},
      {"header of 2^63 bytes", Prefix(UINT64_C(1) << 63) + "{}", "9223372036854775808"},
      {"not JSON", Headed("hello"), "byte 8: invalid JSON"},
      {"an array", Headed("[]"), "not a JSON object"},
      {"a number", Headed("1"), "not a JSON object"},
      {"text after the object", Headed("{} {}"), "byte 11: text after"},
      {"deep arrays", Headed(Repeat("[", 100000)), "byte 24: nested too deeply"},
      {"deep objects", Headed(Repeat("{\"a\":", 100000)), "nested too deeply"},
      {"millions of values", Headed("[" + Repeat("0,", 5000000) + "0]"), "too many values"},
      {"NUL in a name", Headed(std::string("{\"a\0b\":1}", 9)), "byte 11: control character"},
      {"escaped NUL in a name", Headed("{\"a\\u0000b\":1}"), "byte 11: \\u0000"},
      {"NUL between values", Headed(std::string("{\0}", 3)), "byte 9: control character"},
      {"line break in a name", Headed("{\"a\nb\":1}"), "control character"},
      {"invalid UTF-8", Headed("{\"\xc3(\":1}"), "byte 10: not UTF-8"},
      {"overlong UTF-8", Headed("{\"\xc0\x80\":1}"), "byte 10: not UTF-8"},
      {"UTF-8 surrogate", Headed("{\"\xed\xa0\x80\":1}"), "byte 10: not UTF-8"},
      {"lone surrogate escape", Headed(R"({"\ud800":1})"), "invalid JSON"},
      {"unterminated string", Headed("{\"a"), "invalid JSON"},
      {"string that ends in a backslash", Headed("{\"a\\"), "invalid JSON"},
      {"no metadata", Headed("{}"), "without 'descent'"},
      {"metadata without ours", Headed(R"({"__metadata__":{"format":"pt"}})"), "without 'descent'"},
      {"metadata not an object", Headed(R"({"__metadata__":[]})"), "__metadata__ is not an object"},
      {"metadata value not text", Headed(R"({"__metadata__":{"descent":1}})"), "'descent' is not a string"},
      {"metadata twice", Headed(R"({"__metadata__":{"descent":"{}"},"__metadata__":{"descent":"{}"}})"),
       "duplicate __metadata__"},
      {"our text twice", Headed(R"({"__metadata__":{"descent":"{}","descent":"{}"}})"), "duplicate 'descent'"},
      {"trailing byte", valid + "x", "1 bytes belong to no tensor"},
      {"missing byte", valid.substr(0, valid.size() - 1), "'layers.0.bias': data_offsets [4, 8]"},
      {"tensor not an object", Bias("1"), "'layers.0.bias': not a JSON object"},
      {"no dtype", Bias(R"({"shape":[1],"data_offsets":[4,8]})"), "dtype is missing"},
      {"another dtype", Bias(R"({"dtype":"I32","shape":[1],"data_offsets":[4,8]})"), "dtype is I32"},
      {"no shape", Bias(R"({"dtype":"F32","data_offsets":[4,8]})"), "missing shape"},
      {"three dimensions", Bias(R"({"dtype":"F32","shape":[1,1,1],"data_offsets":[4,8]})"), "dimensions"},
      {"negative dimension", Bias(R"({"dtype":"F32","shape":[-1],"data_offsets":[4,8]})"), "dimension 0"},
      {"fractional dimension", Bias(R"({"dtype":"F32","shape":[1.5],"data_offsets":[4,8]})"), "dimension 0"},
      {"dimension 1e300", Bias(R"({"dtype":"F32","shape":[1e300],"data_offsets":[4,8]})"), "dimension 0"},
      {"dimension as text", Bias(R"({"dtype":"F32","shape":["1"],"data_offsets":[4,8]})"), "dimension 0"},
      {"dimensions that overflow",
       Bias(R"({"dtype":"F32","shape":[9007199254740992,9007199254740992],"data_offsets":[4,8]})"), "dimension 1"},
      {"bytes that overflow", Bias(R"({"dtype":"F32","shape":[9007199254740992,1023],"data_offsets":[4,8]})"),
       "do not take 4 bytes"},
      {"no offsets", Bias(R"({"dtype":"F32","shape":[1]})"), "two offsets"},
      {"one offset", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[4]})"), "two offsets"},
      {"three offsets", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8,8]})"), "two offsets"},
      {"offsets in an object", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":{"a":4,"b":8}})"), "two offsets"},
      {"negative offset", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,8]})"), "two offsets"},
      {"offsets reversed", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[8,4]})"), "[8, 4]"},
      {"offset beyond the file", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[8,12]})"), "[8, 12]"},
      {"offset 2^60", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[4,1152921504606846976]})"), "two offsets"},
      {"shape and offsets differ", Bias(R"({"dtype":"F32","shape":[2],"data_offsets":[4,8]})"),
       "2 values do not take 4 bytes"},
      {"overlap", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "overlap"},
      {"partial overlap", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[2,6]})"), "overlap"},
      {"gap",
       File(kDescription,
            std::string(kWeight) + R"(,"layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})",
            std::string(12, '\0')),
       "gap between tensors"},
      {"gap before the first",
       File(kDescription, R"(,"layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]})", kData),
       "gap between tensors"},
      {"unknown member", Bias(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8],"x":1})"), "unknown member 'x'"},
      {"member twice", Bias(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[4,8]})"),
       "duplicate member 'dtype'"},
      {"tensor twice",
       File(kDescription,
            std::string(kWeight) + kBias + R"(,"layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})",
            std::string(12, '\0')),
       "duplicate tensor 'layers.0.bias'"},
      {"name with a line break and an escape sequence",
       Headed(R"({"__metadata__":{"descent":"{}"},"a\n\u001b[31m":1})"), R"('a\n\x1b[31m')"},
  };
}

std::vector<Hostile> HostileModels() {
  const std::string extra = R"(,"layers.1.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})";
  const std::string both = std::string(kWeight) + kBias, longer(12, '\0');
  const std::string layers = R"([{"width":1,"activation":"identity"}])";
  return {
      {"missing tensor",
       File(kDescription, std::string(kWeight) + R"(,"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]})", kData),
       "'layers.0.bias' is missing"},
      {"unknown tensor", File(kDescription, both + extra, longer), "'layers.1.bias' is not part"},
      {"transposed weight",
       File(
           R"({"version":1,"inputs":2,"layers":[{"width":1,"activation":"identity"}],"loss":"binary_cross_entropy","normalize":"none"})",
           R"(,"layers.0.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})",
           longer),
       "'layers.0.weight' has 2 dimensions, [2, 1]"},
      {"flat weight",
       File(kDescription, std::string(R"(,"layers.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})") + kBias,
            kData),
       "'layers.0.weight' has 1 dimensions"},
      {"NaN weight", File(kDescription, both, Floats({NAN, 0})), "layers.0.weight[0] is nan"},
      {"infinite bias", File(kDescription, both, Floats({0, -INFINITY})), "layers.0.bias[0] is -inf"},
      {"description not JSON", Described("{"), "metadata: byte 0: invalid JSON"},
      {"description empty", Described(""), "invalid JSON"},
      {"description an array", Described("[]"), "version"},
      {"description nested too deeply", Described(Repeat("[", 50)), "nested too deeply"},
      {"another version", Altered("\"version\":1", "\"version\":4"),
       "format version 4, but Descent " DESCENT_VERSION " reads up to 3; use a later version of it"},
      {"no version", Altered("\"version\":1,", ""), "format version missing or not a positive number"},
      {"version as text", Altered("\"version\":1", "\"version\":\"1\""),
       "format version missing or not a positive number"},
      {"unknown member", Altered("\"inputs\"", "\"depth\":1,\"inputs\""), "unknown member 'depth'"},
      {"member twice", Altered("\"inputs\"", "\"inputs\":1,\"inputs\""), "duplicate member 'inputs'"},
      {"no inputs", Altered("\"inputs\":1,", ""), "'inputs' is not a positive integer"},
      {"zero inputs", Altered("\"inputs\":1", "\"inputs\":0"), "'inputs' is not a positive integer"},
      {"2^53 inputs", Altered("\"inputs\":1", "\"inputs\":9007199254740992"), "layer 1, 1 x 9007199254740992"},
      {"more inputs than the file has weights", Altered("\"inputs\":1", "\"inputs\":3"), "layer 1, 1 x 3"},
      {"no layers", Altered(layers, "[]"), "'layers' is not a list"},
      {"layers not a list", Altered(layers, "7"), "'layers' is not a list"},
      {"10001 layers",
       Altered(layers,
               "[" + Repeat(R"({"width":1,"activation":"relu"},)", 10000) + R"({"width":1,"activation":"identity"}])"),
       "1 to 10000 layers"},
      {"a layer that is a number", Altered(layers, "[1]"), "not a JSON object"},
      {"width 0", Altered("\"width\":1", "\"width\":0"), "width of layer 1"},
      {"width of a billion", Altered("\"width\":1", "\"width\":1000000000"), "layer 1, 1000000000 x 1"},
      {"a second layer that the file does not have",
       Altered(layers, R"([{"width":1,"activation":"relu"},{"width":1,"activation":"identity"}])"), "layer 2"},
      {"unknown activation", Altered("\"identity\"", "\"softsign\""), "unknown activation 'softsign'"},
      {"no activation", Altered(",\"activation\":\"identity\"", ""), "unknown activation ''"},
      {"activation that the loss cannot have", Altered("\"identity\"", "\"tanh\""), "layer 1: binary_cross_entropy"},
      {"unknown loss", Altered("binary_cross_entropy", "hinge"), "unknown loss 'hinge'"},
      {"loss that the outputs do not fit", Altered("binary_cross", "softmax_cross"), "layer 1: softmax_cross_entropy"},
      {"loss that needs more tensors", Altered("binary_cross_entropy", "mean_squared_error"),
       "'preprocessing.target_shift' is missing"},
      {"unknown normalisation", Altered("\"none\"", "\"other\""), "unknown normalize 'other'"},
      {"normalisation without its tensors", Altered("\"none\"", "\"standard\""), "'preprocessing.shift' is missing"},
      {"scale of 0",
       File(
           R"({"version":1,"inputs":1,"layers":[{"width":1,"activation":"identity"}],"loss":"binary_cross_entropy","normalize":"minmax"})",
           both +
               R"(,"preprocessing.shift":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"preprocessing.scale":{"dtype":"F32","shape":[1],"data_offsets":[12,16]})",
           Floats({1, 2, 3, 0})),
       "preprocessing.scale[0] is 0"},
      {"too few input names", Altered("\"normalize\"", "\"input_names\":[],\"normalize\""),
       "'input_names' is not a list of columns"},
      {"input name that is a number", Altered("\"normalize\"", "\"input_names\":[1],\"normalize\""), "'input_names'"},
      {"too many class names", Altered("\"normalize\"", "\"class_names\":[\"a\",\"b\",\"c\"],\"normalize\""),
       "'class_names' is not a list of 2"},
      {"target name that is a list", Altered("\"normalize\"", "\"target_name\":[],\"normalize\""),
       "'target_name' is not a list of 1 names"},
      {"categories out of order",
       Altered("\"version\":1", "\"version\":2,\"columns\":[{\"categories\":[\"b\",\"a\"]}]"), "in ascending order"},
      {"columns that do not add up",
       Altered("\"version\":1", "\"version\":2,\"columns\":[{\"categories\":[\"a\",\"b\"]}]"),
       "'columns' describes 2 inputs, not 1"},
      {"column with a member too many", Altered("\"version\":1", "\"version\":2,\"columns\":[{\"kind\":1}]"), "kind"},
      {"unseen that is no policy",
       Altered("\"version\":1", "\"version\":2,\"columns\":[{\"name\":\"a\"}],\"unseen\":\"no\""), "'unseen'"},
      {"provenance that is a number", Altered("\"normalize\"", "\"provenance\":1,\"normalize\""),
       "'provenance' is not a string"},
  };
}

// Ensembles of networks of one input and one output.
std::string EnsembleTensors(int members, const std::string &but = "") {
  std::string tensors;
  for (int i = 0; i < 2 * members; i++) {
    const std::string name = "members." + std::to_string(i / 2) + ".layers.0." + (i % 2 ? "bias" : "weight");
    tensors += ",\"" + (name == but ? "x" : name) + R"(":{"dtype":"F32","shape":[)" + (i % 2 ? "1" : "1,1") +
               R"(],"data_offsets":[)" + std::to_string(4 * i) + "," + std::to_string(4 * i + 4) + "]}";
  }
  return tensors;
}

std::string EnsembleFile(const std::string &members, int held, const std::string &but = "") {
  std::string text = kDescription;
  text.replace(text.find("1,"), 2, "3," + members);
  return File(text, EnsembleTensors(held, but), std::string(static_cast<size_t>(8 * held), '\0'));
}

std::vector<Hostile> HostileEnsembles() {
  static const char wanted[] = "'members' is not an integer of at least 2";
  std::string wide = EnsembleFile("\"members\":2,", 2), flat = wide, bad = wide;
  wide.replace(wide.find("width\\\":1"), 9, "width\\\":9");
  flat.replace(flat.find("[1,1]"), 5, "[1]  ");
  bad.replace(bad.size() - 8, 4, Floats({NAN}));
  return {
      {"members in version 2", Altered("\"version\":1", "\"version\":2,\"members\":2"),
       "'members' is not part of format version 2"},
      {"no members in version 3", EnsembleFile("", 1), wanted},
      {"plain tensors in version 3", Altered("\"version\":1", "\"version\":3"), wanted},
      {"members 0", EnsembleFile("\"members\":0,", 0), wanted},
      {"members 1", EnsembleFile("\"members\":1,", 1), wanted},
      {"members -2", EnsembleFile("\"members\":-2,", 2), wanted},
      {"members 1.5", EnsembleFile("\"members\":1.5,", 2), wanted},
      {"members 1e300", EnsembleFile("\"members\":1e300,", 2), wanted},
      {"members as text", EnsembleFile("\"members\":\"2\",", 2), wanted},
      {"members twice", EnsembleFile("\"members\":2,\"members\":2,", 2), "duplicate member 'members'"},
      {"2^53 members", EnsembleFile("\"members\":9007199254740992,", 2),
       "'members.2.layers.0.weight' is missing, but the metadata states 9007199254740992 members"},
      {"a member too many", EnsembleFile("\"members\":3,", 2), "'members.2.layers.0.weight' is missing"},
      {"a member too few", EnsembleFile("\"members\":2,", 3), "'members.2.layers.0.bias' is not part of the network"},
      {"a missing bias", EnsembleFile("\"members\":2,", 2, "members.0.layers.0.bias"),
       "'members.0.layers.0.bias' is missing"},
      {"a missing weight", EnsembleFile("\"members\":2,", 2, "members.1.layers.0.weight"),
       "'members.1.layers.0.weight' is missing"},
      {"plain tensors",
       File(std::string(kDescription).replace(11, 1, "3,\"members\":2"), std::string(kWeight) + kBias, kData),
       "'members.0.layers.0.weight' is missing"},
      {"members that are wider than the file", wide, "layer 1, 9 x 1, exceeds the file's 2 values of each member"},
      {"a flat weight", flat, "'members.0.layers.0.weight' has 1 dimensions"},
      {"a NaN in the last member", bad, "members.1.layers.0.weight[0] is nan"},
  };
}

TEST_F(HostileModelFile, IsRefusedInOneLineThatNamesTheCause) {
  descent_network *network;
  ASSERT_EQ(Load(Described(kDescription), &network), DESCENT_OK) << descent_last_error(); /* what the cases alter */
  descent_network_free(network);
  ASSERT_EQ(Load(EnsembleFile("\"members\":2,", 2), &network), DESCENT_OK) << descent_last_error();
  descent_network_free(network);
  for (const std::vector<Hostile> &cases : {HostileContainers(), HostileModels(), HostileEnsembles()})
    for (const Hostile &c : cases) {
      SCOPED_TRACE(c.name);
      EXPECT_EQ(Load(c.bytes, &network), DESCENT_ERROR_MODEL);
      const std::string error = descent_last_error();
      EXPECT_EQ(error.rfind(path_ + ": ", 0), 0u) << error;
      EXPECT_NE(error.find(c.says), std::string::npos) << error;
      EXPECT_EQ(error.find_first_of("\n\r\x1b"), std::string::npos) << error;
    }
}

// What other programs may do to a file: order the tensors otherwise, add their own metadata, not pad the header.
TEST_F(HostileModelFile, IsReadWhenOnlyTheOrderOfTensorsAndOtherToolsMetadataDiffer) {
  const std::string header = std::string(R"({"layers.0.bias":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"},)") +
                             R"("__metadata__":{"tool":"other","descent":")" + Escape(kDescription) + R"("},)" +
                             R"("layers.0.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}})";
  descent_network *network;
  ASSERT_EQ(Load(Headed(header, Floats({2, 3})), &network), DESCENT_OK) << descent_last_error();
  float W, b;
  descent_network_get_layer(network, 1, &W, &b);
  EXPECT_EQ(W, 3);
  EXPECT_EQ(b, 2);
  descent_network_free(network);
}

}  // namespace
