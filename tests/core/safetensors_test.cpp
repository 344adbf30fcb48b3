// The model file: bit-exact round trips, bytes that other programs can read, damage at every byte, and paths that fail.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "internal.h"
#include "scratch.h"

namespace {

struct FreeNetwork {
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Network = std::unique_ptr<descent_network, FreeNetwork>;

char *Copy(const std::string &text) { return strdup(text.c_str()); }

char **CopyNames(const std::vector<std::string> &names) {
  char **list = static_cast<char **>(calloc(names.size(), sizeof *list));
  for (size_t i = 0; i < names.size(); i++) list[i] = Copy(names[i]);
  return list;
}

// Bit patterns that decimal text would lose: subnormals, the largest float, values without short decimals.
float OddFloat(uint64_t i) {
  const float odd[] = {0x1p-149f, -0x1.fffffep127f, 0.1f, 0x1p-126f, -0x1.000002p0f, 1.0f / 3};
  return odd[i % 6] * static_cast<float>(i / 6 % 2 ? 1 : 0.5);
}

struct Shape {
  const char *name;
  int64_t inputs;
  std::vector<int64_t> widths;
  std::vector<descent_activation> activations;
  descent_loss loss;
  descent_normalize normalize;
  bool named;
  std::string provenance;
};

const Shape kShapes[] = {
    {"binary",
     3,
     {2, 1},
     {DESCENT_ACTIVATION_SIGMOID, DESCENT_ACTIVATION_IDENTITY},
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     DESCENT_NORMALIZE_STANDARD,
     true,
     "{\"lr\": 0.1}"},
    {"bare",
     1,
     {2},
     {DESCENT_ACTIVATION_IDENTITY},
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     DESCENT_NORMALIZE_NONE,
     false,
     ""},
    {"regression",
     2,
     {3, 4, 2},
     {DESCENT_ACTIVATION_GELU, DESCENT_ACTIVATION_LEAKY_RELU, DESCENT_ACTIVATION_TANH},
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     DESCENT_NORMALIZE_MINMAX,
     true,
     std::string("line\nbreak \"quote\" \\u0000 back\\slash \x01 ") + "\xf0\x9f\x98\x80"},
    {"deep", 2, std::vector<int64_t>(40, 3), std::vector<descent_activation>(40, DESCENT_ACTIVATION_SILU),
     DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_NORMALIZE_NONE, true, "x"},
};

Network MakeNetwork(const Shape &shape) {
  descent_network_options options = descent_network_options_default();
  options.inputs = shape.inputs;
  options.layers = static_cast<int32_t>(shape.widths.size());
  options.widths = shape.widths.data();
  options.activations = shape.activations.data();
  options.loss = shape.loss;
  descent_network *created = nullptr;
  EXPECT_EQ(descent_network_create(&options, &created), DESCENT_OK) << descent_last_error();
  Network network(created);
  uint64_t odd = 0;
  for (int32_t l = 1; l <= options.layers; l++) {
    std::vector<float> W(static_cast<size_t>(created->layers[l - 1].n_in * created->layers[l - 1].n_out));
    std::vector<float> b(static_cast<size_t>(created->layers[l - 1].n_out));
    for (float &w : W) w = OddFloat(odd++);
    for (float &w : b) w = OddFloat(odd++);
    EXPECT_EQ(descent_network_set_layer(created, l, W.data(), b.data()), DESCENT_OK);
  }
  created->normalize = shape.normalize;
  for (int64_t j = 0; shape.normalize != DESCENT_NORMALIZE_NONE && j < shape.inputs; j++) {
    created->shift[j] = OddFloat(odd++);
    created->scale[j] = std::fabs(OddFloat(odd++)) + 0x1p-149f;
  }
  for (int64_t k = 0; shape.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR && k < shape.widths.back(); k++) {
    created->y_shift[k] = OddFloat(odd++);
    created->y_scale[k] = std::fabs(OddFloat(odd++)) + 0x1p-149f;
  }
  if (shape.named) {
    std::vector<std::string> inputs, classes;
    for (int64_t j = 0; j < shape.inputs; j++)
      inputs.push_back("input \"" + std::to_string(j) +
                       "\", gr\xc3\xb6\xc3\x9f"
                       "e");
    for (int64_t k = 0; k < created->classes; k++) classes.push_back(k ? "class\n" + std::to_string(k) : "");
    struct schema &schema = created->schema;
    schema.features = static_cast<feature *>(calloc(inputs.size(), sizeof(feature)));
    for (const std::string &input : inputs) schema.features[schema.n_features++].name = Copy(input);
    EXPECT_EQ(schema_name_inputs(&schema), DESCENT_OK);
    if (created->classes) {
      schema.class_names = CopyNames(classes);
      schema.classes = created->classes;
    }
    schema.targets = created->classes ? 1 : descent_network_outputs(created);
    schema.target_names = CopyNames(std::vector<std::string>(static_cast<size_t>(schema.targets), "target\t{}"));
  }
  if (!shape.provenance.empty()) {
    EXPECT_EQ(descent_network_set_provenance(created, shape.provenance.c_str()), DESCENT_OK);
  }
  return network;
}

std::vector<uint32_t> Bits(const float *values, int64_t n) {
  std::vector<uint32_t> bits(static_cast<size_t>(n));
  memcpy(bits.data(), values, bits.size() * 4);
  return bits;
}

void ExpectSame(const descent_network &a, const descent_network &b) {
  ASSERT_EQ(a.inputs, b.inputs);
  ASSERT_EQ(a.n_layers, b.n_layers);
  for (int32_t l = 0; l < a.n_layers; l++) {
    EXPECT_EQ(a.layers[l].n_out, b.layers[l].n_out);
    EXPECT_EQ(a.layers[l].activation, b.layers[l].activation);
  }
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.classes, b.classes);
  EXPECT_EQ(a.normalize, b.normalize);
  ASSERT_EQ(a.n_parameters, b.n_parameters);
  EXPECT_EQ(Bits(a.parameters, a.n_parameters), Bits(b.parameters, b.n_parameters));
  EXPECT_EQ(Bits(a.shift, a.inputs), Bits(b.shift, b.inputs));
  EXPECT_EQ(Bits(a.scale, a.inputs), Bits(b.scale, b.inputs));
  const int64_t outputs = descent_network_outputs(&a);
  EXPECT_EQ(Bits(a.y_shift, outputs), Bits(b.y_shift, outputs));
  EXPECT_EQ(Bits(a.y_scale, outputs), Bits(b.y_scale, outputs));
  EXPECT_EQ(a.schema.input_names == nullptr, b.schema.input_names == nullptr);
  EXPECT_EQ(a.schema.class_names == nullptr, b.schema.class_names == nullptr);
  for (int64_t j = 0; j < a.inputs; j++)
    EXPECT_STREQ(descent_network_input_name(&a, j), descent_network_input_name(&b, j));
  for (int64_t k = 0; k < a.classes; k++)
    EXPECT_STREQ(descent_network_class_name(&a, k), descent_network_class_name(&b, k));
  ASSERT_EQ(a.schema.targets, b.schema.targets);
  for (int64_t k = 0; k < a.schema.targets; k++)
    EXPECT_STREQ(descent_network_target_name(&a, k), descent_network_target_name(&b, k));
  EXPECT_STREQ(descent_network_provenance(&a), descent_network_provenance(&b));
}

class ModelFile : public ::testing::Test {
 protected:
  std::string Path(const std::string &name) const { return scratch_ / name; }

  static std::pair<descent_status, Network> Load(const std::string &path) {
    descent_network *network = nullptr;
    descent_status status = descent_network_load(path.c_str(), &network);
    EXPECT_EQ(status == DESCENT_OK, network != nullptr);
    return {status, Network(network)};
  }

  Scratch scratch_;
};

TEST_F(ModelFile, RoundTripsBitForBitAndTheSameNetworkGivesTheSameBytes) {
  for (const Shape &shape : kShapes) {
    SCOPED_TRACE(shape.name);
    const Network network = MakeNetwork(shape);
    ASSERT_EQ(descent_network_save(network.get(), Path("a").c_str()), DESCENT_OK) << descent_last_error();
    auto [status, loaded] = Load(Path("a"));
    ASSERT_EQ(status, DESCENT_OK) << descent_last_error();
    ExpectSame(*network, *loaded);
    ASSERT_EQ(descent_network_save(loaded.get(), Path("b").c_str()), DESCENT_OK);
    EXPECT_EQ(read_file(Path("a")), read_file(Path("b")));
  }
}

// The expected bytes, by hand: what any reader of the format relies on.
TEST_F(ModelFile, IsTheSafetensorsFormatByteForByte) {
  const Shape shape = {
      "tiny", 1, {2}, {DESCENT_ACTIVATION_IDENTITY}, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_NORMALIZE_STANDARD,
      false,  ""};
  const Network network = MakeNetwork(shape);
  const float W[2] = {1, -2}, b[2] = {0.5f, 3};
  ASSERT_EQ(descent_network_set_layer(network.get(), 1, W, b), DESCENT_OK);
  network->shift[0] = 4;
  network->scale[0] = 0.25f;
  ASSERT_EQ(descent_network_save(network.get(), Path("m").c_str()), DESCENT_OK) << descent_last_error();
  const std::string bytes = read_file(Path("m"));

  std::string header =
      R"({"__metadata__":{"format":"pt","descent":"{\"version\":2,\"inputs\":1,\"layers\":[{\"width\":2,)"
      R"(\"activation\":\"identity\"}],\"loss\":\"softmax_cross_entropy\",\"normalize\":\"standard\",\"library\":\"0.3.0\"}",)"
      R"("descent.xxh64":"5f2601df6c73ba27"},)" /* of that text and the 24 bytes of data */
      R"("layers.0.weight":{"shape":[2,1],"dtype":"F32","data_offsets":[0,8]},)"
      R"("layers.0.bias":{"shape":[2],"dtype":"F32","data_offsets":[8,16]},)"
      R"("preprocessing.shift":{"shape":[1],"dtype":"F32","data_offsets":[16,20]},)"
      R"("preprocessing.scale":{"shape":[1],"dtype":"F32","data_offsets":[20,24]}})";
  while ((8 + header.size()) % 64) header += ' ';
  const unsigned char length[8] = {static_cast<unsigned char>(header.size() % 256),
                                   static_cast<unsigned char>(header.size() / 256),
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0};
  const unsigned char data[24] = {0, 0, 0x80, 0x3f, 0, 0, 0,    0xc0, 0, 0, 0,    0x3f,
                                  0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40, 0, 0, 0x80, 0x3e};
  EXPECT_EQ(bytes, std::string(reinterpret_cast<const char *>(length), 8) + header +
                       std::string(reinterpret_cast<const char *>(data), 24));
}

// ---- damaged files --------------------------------------------------------------------------------------------------

TEST_F(ModelFile, CutAtAnyLengthIsRefused) {
  const Network network = MakeNetwork(kShapes[0]);
  ASSERT_EQ(descent_network_save(network.get(), Path("m").c_str()), DESCENT_OK);
  const auto size = std::filesystem::file_size(Path("m"));
  for (uintmax_t length = size; length-- > 0;) {
    std::filesystem::resize_file(Path("m"), length);
    ASSERT_EQ(Load(Path("m")).first, DESCENT_ERROR_MODEL) << length << " of " << size << " bytes";
    ASSERT_EQ(std::string(descent_last_error()).rfind(Path("m") + ": ", 0), 0u) << descent_last_error();
  }
}

TEST_F(ModelFile, WithAnyByteAlteredIsRefusedOrLoadsTheSame) {
  const Network network = MakeNetwork(kShapes[2]);
  ASSERT_EQ(descent_network_save(network.get(), Path("m").c_str()), DESCENT_OK);
  const std::string bytes = read_file(Path("m"));
  std::unique_ptr<FILE, int (*)(FILE *)> file(fopen(Path("m").c_str(), "r+b"), fclose);
  ASSERT_NE(file, nullptr);
  const auto put = [&](size_t at, char byte) {
    ASSERT_EQ(pwrite(fileno(file.get()), &byte, 1, static_cast<off_t>(at)), 1);
  };
  size_t refused = 0, loaded = 0;
  for (size_t at = 0; at < bytes.size(); at++) {
    const char old = bytes[at];
    for (char other : {'\0', '"', '0', '9', '}', '\x7f', '\xff', static_cast<char>(old ^ 1),
                       static_cast<char>(old ^ 0x20), static_cast<char>(old ^ 0x80)}) {
      if (other == old) continue;
      put(at, other);
      auto [status, altered] = Load(Path("m"));
      if (status == DESCENT_OK) {
        loaded++;
        /* The byte had no meaning: a blank, another tool's text, or the name of the checksum. */
        ASSERT_EQ(altered->n_parameters, network->n_parameters);
        ASSERT_EQ(memcmp(altered->parameters, network->parameters,
                         static_cast<size_t>(network->n_parameters) * sizeof(float)),
                  0)
            << "byte " << at;
        ASSERT_EQ(memcmp(altered->scale, network->scale, static_cast<size_t>(network->inputs) * sizeof(float)), 0);
        ASSERT_STREQ(descent_network_input_name(altered.get(), 0), descent_network_input_name(network.get(), 0));
        ASSERT_STREQ(descent_network_provenance(altered.get()), descent_network_provenance(network.get()));
      } else {
        refused++;
        ASSERT_EQ(status, DESCENT_ERROR_MODEL) << "byte " << at << ": " << descent_last_error();
      }
    }
    put(at, old);
  }
  EXPECT_EQ(Load(Path("m")).first, DESCENT_OK);
  EXPECT_GT(refused, bytes.size()); /* most of the header's bytes matter */
  EXPECT_GT(loaded, 0u);            /* the padding does not */
}

// ---- paths ----------------------------------------------------------------------------------------------------------

TEST_F(ModelFile, SaysWhyAPathCannotBeRead) {
  std::filesystem::create_directory(Path("directory"));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const std::string &path :
       {Path("missing"), Path("directory"), Path("pipe"), Path("no/such/file"), std::string("")}) {
    EXPECT_EQ(Load(path).first, DESCENT_ERROR_READ) << path;
    EXPECT_EQ(std::string(descent_last_error()).rfind(path + ": ", 0), 0u) << descent_last_error();
  }
}

TEST_F(ModelFile, SaysWhyAPathCannotBeWrittenAndLeavesNothingBehind) {
  const Network network = MakeNetwork(kShapes[0]);
  std::filesystem::create_directory(Path("directory"));
  for (const std::string &path : {Path("directory"), Path("no/such/file"), std::string("")}) {
    EXPECT_EQ(descent_network_save(network.get(), path.c_str()), DESCENT_ERROR_WRITE) << path;
    EXPECT_EQ(std::string(descent_last_error()).rfind(path + ": ", 0), 0u) << descent_last_error();
  }
  EXPECT_EQ(scratch_.files(), 1u);
}

TEST_F(ModelFile, KeepsAnExistingFileWhenTheNetworkCannotBeSaved) {
  const struct {
    const char *name;
    void (*spoil)(descent_network *network);
    const char *says;
  } cases[] = {
      {"NaN weight", [](descent_network *n) { n->parameters[1] = NAN; }, "layers.0.weight[1] is nan"},
      {"infinite shift", [](descent_network *n) { n->shift[2] = INFINITY; }, "preprocessing.shift[2] is inf"},
      {"name in Latin-1", [](descent_network *n) { strcpy(n->schema.features[1].name, "caf\xe9"); },
       "columns[1]: byte 3"},
      {"target in Latin-1", [](descent_network *n) { strcpy(n->schema.target_names[0], "\xe9"); },
       "target_names[0]: byte 0"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    write_file(Path("m"), "precious");
    const Network network = MakeNetwork(kShapes[0]);
    c.spoil(network.get());
    EXPECT_EQ(descent_network_save(network.get(), Path("m").c_str()), DESCENT_ERROR_WRITE);
    EXPECT_NE(std::string(descent_last_error()).find(c.says), std::string::npos) << descent_last_error();
    EXPECT_EQ(read_file(Path("m")), "precious");
    EXPECT_EQ(scratch_.files(), 1u);
  }
}

TEST_F(ModelFile, KeepsAnExistingFileWhenTheDiskIsFull) {
  Shape large = kShapes[1];
  large.widths = {200000};
  const Network network = MakeNetwork(large);
  write_file(Path("m"), "precious");
  struct rlimit old, small;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 100000; /* writes beyond this fail, as on a full disk, once the signal is ignored */
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const descent_status status = descent_network_save(network.get(), Path("m").c_str());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(status, DESCENT_ERROR_WRITE);
  EXPECT_EQ(read_file(Path("m")), "precious");
  EXPECT_EQ(scratch_.files(), 1u);
}

}  // namespace
