// Ensembles: joining keeps every bit of every member, through files, memory and copies; what cannot be joined is named;
// and what only a plain network can do is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "data_files.h"

namespace {

#define TERM_VALUE(NAME, text) DESCENT_LOSS_##NAME,
constexpr descent_loss kLosses[] = {DESCENT_LOSS_MAP(TERM_VALUE)};
#undef TERM_VALUE

using Networks = std::vector<Network>;

std::string Bytes(const descent_network *network) {
  size_t size = 0;
  EXPECT_EQ(descent_network_save_memory(network, nullptr, 0, &size), DESCENT_OK) << descent_last_error();
  std::string bytes(size, '\0');
  EXPECT_EQ(descent_network_save_memory(network, bytes.data(), size, &size), DESCENT_OK) << descent_last_error();
  return bytes;
}

descent_status TryJoin(const Networks &networks, Network *ensemble) {
  std::vector<const descent_network *> list;
  for (const Network &network : networks) list.push_back(network.get());
  descent_network *joined = nullptr;
  const descent_status status = descent_network_join(list.data(), static_cast<int64_t>(list.size()), &joined);
  EXPECT_EQ(status == DESCENT_OK, joined != nullptr);
  ensemble->reset(joined);
  return status;
}

Network Join(const Networks &networks) {
  Network ensemble;
  EXPECT_EQ(TryJoin(networks, &ensemble), DESCENT_OK) << descent_last_error();
  return ensemble;
}

Network Member(const descent_network *ensemble, int64_t member) {
  descent_network *copy = nullptr;
  EXPECT_EQ(descent_network_member(ensemble, member, &copy), DESCENT_OK) << descent_last_error();
  return Network(copy);
}

class Ensemble : public DataFiles {
 protected:
  // Numbers with missing cells, categories, an offset and, for the loss, a target.
  Dataset Table(descent_loss loss) const {
    const char *const colours[] = {"red", "green", "blue"};
    const char *const answers[] = {"no", "yes", loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? "no" : "maybe"};
    std::string text = "time,age,colour,answer\n";
    for (int i = 0; i < 60; i++)
      text += std::to_string(1700000000 + i) + "," + (i % 9 ? std::to_string(20 + 7 * i % 41) : "") + "," +
              colours[i % 3] + "," + (loss_is_regression(loss) ? std::to_string(0.25 * i) : answers[i % 5 % 3]) + "\n";
    descent_dataset_options options = descent_dataset_options_default();
    options.target = "answer";
    options.indicators = true;
    descent_dataset *read = nullptr;
    EXPECT_EQ(descent_dataset_read(Write("table.csv", text).c_str(), &options, &read), DESCENT_OK)
        << descent_last_error();
    return Dataset(read);
  }

  // With weights by `seed`, and preprocessing of the table.
  Network Make(const descent_dataset *rows, descent_loss loss, uint64_t seed) const {
    const int64_t widths[] = {7, 5, loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY ? 3 : 1};
    descent_network_options options = descent_network_options_default();
    options.inputs = descent_dataset_inputs(rows);
    options.layers = 3;
    options.widths = widths;
    options.loss = loss;
    descent_network *made = nullptr;
    EXPECT_EQ(descent_network_create(&options, &made), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(descent_network_initialise(made, DESCENT_INIT_AUTO, seed), DESCENT_OK);
    EXPECT_EQ(descent_network_fit_preprocessing(made, rows, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEDIAN, true),
              DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(descent_network_set_provenance(made, ("seed " + std::to_string(seed)).c_str()), DESCENT_OK);
    return Network(made);
  }

  Networks MakeMany(descent_loss loss, int64_t count) const {
    const Dataset rows = Table(loss);
    Networks networks;
    for (int64_t k = 0; k < count; k++) networks.push_back(Make(rows.get(), loss, 3 + static_cast<uint64_t>(k)));
    return networks;
  }
};

// The bytes of a member's file, except for its provenance, which is that of networks[0].
void ExpectMembers(const descent_network *ensemble, const Networks &networks) {
  ASSERT_EQ(descent_network_members(ensemble), static_cast<int64_t>(networks.size()));
  for (size_t k = 0; k < networks.size(); k++) {
    const Network member = Member(ensemble, static_cast<int64_t>(k));
    EXPECT_EQ(descent_network_members(member.get()), 1);
    EXPECT_STREQ(descent_network_provenance(member.get()), descent_network_provenance(networks[0].get()));
    EXPECT_EQ(descent_network_set_provenance(member.get(), descent_network_provenance(networks[k].get())), DESCENT_OK);
    EXPECT_EQ(Bytes(member.get()), Bytes(networks[k].get())) << "member " << k;
  }
}

TEST_F(Ensemble, KeepsEveryBitOfEveryMember) {
  for (const descent_loss loss : kLosses)
    for (const int64_t count : {2, 3, 17}) {
      SCOPED_TRACE(std::string(descent_loss_name(loss)) + ", " + std::to_string(count));
      const Networks networks = MakeMany(loss, count);
      const Network ensemble = Join(networks);
      EXPECT_EQ(descent_network_parameters(ensemble.get()), count * descent_network_parameters(networks[0].get()));
      ExpectMembers(ensemble.get(), networks);

      const std::string bytes = Bytes(ensemble.get());
      uint64_t header;
      memcpy(&header, bytes.data(), sizeof header);
      for (size_t k = 0; k < networks.size(); k++) {  // in the order of their names
        const size_t values = k * static_cast<size_t>(descent_network_parameters(networks[0].get()));
        const network_layer &first = networks[k]->layers[0];
        EXPECT_EQ(memcmp(bytes.data() + 8 + header + 4 * values, networks[k]->parameters + first.at.W,
                         static_cast<size_t>(first.n_in * first.n_out) * sizeof(float)),
                  0)
            << "member " << k;
      }
      descent_network *other = nullptr;
      ASSERT_EQ(descent_network_clone(ensemble.get(), &other), DESCENT_OK) << descent_last_error();
      const Network clone(other);
      EXPECT_EQ(Bytes(other), bytes);
      ASSERT_EQ(descent_network_load_memory(bytes.data(), bytes.size(), &other), DESCENT_OK) << descent_last_error();
      const Network from_memory(other);
      EXPECT_EQ(Bytes(other), bytes);
      ASSERT_EQ(descent_network_save(ensemble.get(), Path("m").c_str()), DESCENT_OK) << descent_last_error();
      EXPECT_EQ(read_file(Path("m")), bytes);
      ASSERT_EQ(descent_network_load(Path("m").c_str(), &other), DESCENT_OK) << descent_last_error();
      const Network from_file(other);
      for (const Network *network : {&clone, &from_memory, &from_file}) ExpectMembers(network->get(), networks);

      descent_network *outline = nullptr;
      ASSERT_EQ(network_copy_outline(ensemble.get(), &outline), DESCENT_OK);
      EXPECT_EQ(outline->members, count);
      network_free_outline(outline);
    }
}

TEST_F(Ensemble, OfOneIsAPlainCopyInAFileThatEarlierReleasesRead) {
  const Networks networks = MakeMany(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 2);
  Networks one;
  one.push_back(Member(networks[0].get(), 0));
  const Network copy = Join(one);
  EXPECT_EQ(descent_network_members(copy.get()), 1);
  EXPECT_EQ(Bytes(copy.get()), Bytes(networks[0].get()));
  EXPECT_NE(Bytes(copy.get()).find("{\\\"version\\\":2,\\\"inputs\\\""), std::string::npos);
  EXPECT_NE(Bytes(Join(networks).get()).find("{\\\"version\\\":3,\\\"members\\\":2,\\\"inputs\\\""), std::string::npos);
}

TEST_F(Ensemble, OfCheckpointsIsNone) {
  Networks networks = MakeMany(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 2);
  for (const Network &network : networks) network->checkpoint_step = 12;
  EXPECT_EQ(descent_network_checkpoint_step(Join(networks).get()), -1);
  networks.pop_back();
  EXPECT_EQ(descent_network_checkpoint_step(Join(networks).get()), 12);
}

// ---- what cannot be joined ------------------------------------------------------------------------------------------

void Rename(char **text, const char *name) {
  free(*text);
  *text = strdup(name);
}

TEST_F(Ensemble, NamesTheNetworkThatDiffersAndHow) {
  const struct {
    void (*alter)(descent_network *network);
    const char *says;
  } cases[] = {
      {[](descent_network *n) { n->layers[1].activation = DESCENT_ACTIVATION_TANH; },
       "the activation of layer 2 is tanh, but relu"},
      {[](descent_network *n) { n->loss = DESCENT_LOSS_MEAN_SQUARED_ERROR; },
       "the loss is mean_squared_error, but softmax_cross_entropy"},
      {[](descent_network *n) { n->normalize = DESCENT_NORMALIZE_MINMAX; },
       "the normalisation is minmax, but standard"},
      {[](descent_network *n) { n->impute = DESCENT_IMPUTE_MEAN; }, "the imputation is mean, but median"},
      {[](descent_network *n) {
         free(n->fill);
         n->fill = nullptr;
       },
       "missing cells are not replaced, but are"},
      {[](descent_network *n) { n->fill[1] = 0.5F; }, "fill[1] is 0.5, but "},
      {[](descent_network *n) { n->shift[0] = std::nextafter(n->shift[0], 1e30F); }, "shift[0] is "},
      {[](descent_network *n) { n->scale[5] = 0.25F; }, "scale[5] is 0.25, but "},
      {[](descent_network *n) { n->y_shift[2] = -0.0F; }, "y_shift[2] is -0, but 0"},
      {[](descent_network *n) { n->y_scale[0] = 2; }, "y_scale[0] is 2, but 1"},
      {[](descent_network *n) { Rename(&n->schema.features[1].name, "years"); }, "column 1 is 'years', but 'age'"},
      {[](descent_network *n) {
         free(n->schema.features[0].name);
         n->schema.features[0].name = nullptr;
       },
       "column 0 has no name, but one"},
      {[](descent_network *n) { n->schema.features[1].indicator = false; }, "column 1 has no indicator, but one"},
      {[](descent_network *n) {
         struct feature *colour = &n->schema.features[2];
         free(colour->categories[--colour->n_categories]);
       },
       "column 2 has 2 categories, but 3"},
      {[](descent_network *n) { Rename(&n->schema.features[2].categories[1], "grey"); },
       "column 2: category 1 is 'grey', but 'green'"},
      {[](descent_network *n) { schema_drop_features(&n->schema); }, "has 0 described columns, but there are 3"},
      {[](descent_network *n) { Rename(&n->schema.target_names[0], "reply"); }, "target 0 is 'reply', but 'answer'"},
      {[](descent_network *n) { std::swap(n->schema.class_names[0], n->schema.class_names[2]); },
       "class 0 is 'yes', but 'maybe'"},
      {[](descent_network *n) { schema_drop_classes(&n->schema); }, "has 0 class names, but there are 3"},
      {[](descent_network *n) { n->schema.offsets[0] += 0.25; }, "the offset of input 0 is 1700000"},
      {[](descent_network *n) {
         n->schema.target_offsets = static_cast<double *>(memory_allocate(1, sizeof(double), "offsets"));
         n->schema.n_target_offsets = 1;
         n->schema.target_offsets[0] = 3;
       },
       "the offset of target 0 is 3, but 0"},
      {[](descent_network *n) { n->schema.unseen = DESCENT_UNSEEN_ZEROS; },
       "unseen categories are treated as zeros, but error"},
      {[](descent_network *n) { n->schema.first_index = 1; }, "svmlight files have "},
      {[](descent_network *n) { n->schema.numbers = static_cast<number_style>(1); }, "numbers of files are written"},
      {[](descent_network *n) {
         const char *const texts[] = {"n/a"};
         EXPECT_EQ(schema_set_missing(&n->schema, texts, 1), DESCENT_OK);
       },
       "has 1 missing cell names, but there are 0"},
      {[](descent_network *n) {
         n->schema.left_out = static_cast<int64_t *>(memory_allocate(1, sizeof(int64_t), "positions"));
         n->schema.n_left_out = 1;
       },
       "targets and columns that are left out have other positions than"},
  };
  Networks networks = MakeMany(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 4);
  Network ensemble;
  for (const auto &c : cases) {
    SCOPED_TRACE(c.says);
    networks[2] = Member(networks[3].get(), 0);
    ASSERT_EQ(TryJoin(networks, &ensemble), DESCENT_OK) << descent_last_error();
    c.alter(networks[2].get());
    EXPECT_EQ(TryJoin(networks, &ensemble), DESCENT_ERROR_ARGUMENT);
    const std::string error = descent_last_error();
    EXPECT_EQ(error.rfind(std::string("networks[2]: ") + c.says, 0), 0U) << error;
    EXPECT_NE(error.find(" in networks[0]: members of an ensemble have the same"), std::string::npos) << error;
  }
}

TEST_F(Ensemble, NamesTheShapeThatDiffers) {
  const struct {
    int64_t inputs;
    std::vector<int64_t> widths;
    const char *says;
  } cases[] = {
      {3, {64, 1}, "networks[1]: has 3 inputs, but there are 4 in networks[0]"},
      {4, {32, 32, 1}, "networks[1]: has 3 layers, but there are 2 in networks[0]"},
      {4, {64, 1}, "networks[1]: layer 1 has 64 units, but 32 in networks[0]"},
      {4, {32, 2}, "networks[1]: layer 2 has 2 units, but 1 in networks[0]"},
  };
  const auto make = [](int64_t inputs, const std::vector<int64_t> &widths) {
    descent_network_options options = descent_network_options_default();
    options.inputs = inputs;
    options.layers = static_cast<int32_t>(widths.size());
    options.widths = widths.data();
    options.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
    descent_network *made = nullptr;
    EXPECT_EQ(descent_network_create(&options, &made), DESCENT_OK);
    return Network(made);
  };
  for (const auto &c : cases) {
    Networks networks;
    networks.push_back(make(4, {32, 1}));
    networks.push_back(make(c.inputs, c.widths));
    Network ensemble;
    EXPECT_EQ(TryJoin(networks, &ensemble), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(std::string(descent_last_error()).rfind(c.says, 0), 0U) << descent_last_error();
  }
}

TEST_F(Ensemble, RefusesWhatIsNoListOfPlainNetworks) {
  Networks networks = MakeMany(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 3);
  Network ensemble;
  EXPECT_EQ(TryJoin({}, &ensemble), DESCENT_ERROR_ARGUMENT);
  networks[1] = Join(MakeMany(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 2));
  EXPECT_EQ(TryJoin(networks, &ensemble), DESCENT_ERROR_UNSUPPORTED);
  EXPECT_NE(std::string(descent_last_error()).find("networks[1]: an ensemble of 2"), std::string::npos);
  networks[1] = nullptr;
  EXPECT_EQ(TryJoin(networks, &ensemble), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("networks[1]"), std::string::npos) << descent_last_error();
}

// A hundred thousand times 40 MB, refused before anything of that size is allocated; and a product beyond 2^63.
TEST_F(Ensemble, ThatDoesNotFitIsRefused) {
  const int64_t widths[] = {10000, 1};
  descent_network_options options = descent_network_options_default();
  options.inputs = 1000;
  options.layers = 2;
  options.widths = widths;
  options.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  descent_network *made = nullptr, *ensemble = nullptr;
  ASSERT_EQ(descent_network_create(&options, &made), DESCENT_OK);
  const Network network(made);
  const std::vector<const descent_network *> list(100000, made);
  EXPECT_EQ(descent_network_join(list.data(), 100000, &ensemble), DESCENT_ERROR_MEMORY);
  EXPECT_NE(std::string(descent_last_error()).find("100000 members of 10020"), std::string::npos)
      << descent_last_error();
  EXPECT_EQ(network_copy_frame(made, INT64_MAX / 1000, &ensemble), DESCENT_ERROR_MEMORY);
  EXPECT_NE(std::string(descent_last_error()).find("exceed the address space"), std::string::npos)
      << descent_last_error();
  EXPECT_EQ(ensemble, nullptr);
}

// ---- what only a plain network can do -------------------------------------------------------------------------------

TEST_F(Ensemble, RefusesToChangeItsParametersAndPreprocessing) {
  const descent_loss loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  const Networks networks = MakeMany(loss, 3);
  const Network ensemble = Join(networks);
  descent_network *const e = ensemble.get();
  const Dataset rows = Table(loss);
  const descent_preprocessing preprocessing = descent_preprocessing_default();
  const std::string bytes = Bytes(e);
  ASSERT_EQ(descent_network_save(networks[0].get(), Path("plain").c_str()), DESCENT_OK);
  float W[49], b[7];
  const struct {
    const char *name;
    descent_status status;
    std::string error;
  } refusals[] = {
#define CALL(what, call) {what, call, descent_last_error()}
      CALL("initialise", descent_network_initialise(e, DESCENT_INIT_AUTO, 1)),
      CALL("get_layer", descent_network_get_layer(e, 1, W, b)),
      CALL("set_layer", descent_network_set_layer(e, 1, nullptr, nullptr)),
      CALL("load_weights", descent_network_load_weights(e, Path("plain").c_str())),
      CALL("set_preprocessing", descent_network_set_preprocessing(e, &preprocessing)),
      CALL("fit_preprocessing",
           descent_network_fit_preprocessing(e, rows.get(), DESCENT_NORMALIZE_NONE, DESCENT_IMPUTE_MEAN, false)),
#undef CALL
  };
  for (const auto &r : refusals) {
    EXPECT_EQ(r.status, DESCENT_ERROR_UNSUPPORTED) << r.name;
    EXPECT_EQ(r.error, std::string(r.name) + ": an ensemble of 3 networks: use its members (descent_network_member)");
  }
  EXPECT_EQ(Bytes(e), bytes);
  for (const int64_t member : {INT64_C(-1), INT64_C(3)}) {
    descent_network *copy = nullptr;
    EXPECT_EQ(descent_network_member(e, member, &copy), DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(std::string(descent_last_error()).find("must be 0 to 2"), std::string::npos) << descent_last_error();
  }
}

TEST_F(Ensemble, TakesNamesAndProvenanceAndTellsItsPreprocessing) {
  const Networks networks = MakeMany(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 3);
  const Network ensemble = Join(networks);
  const char *const targets[] = {"reply"}, *const classes[] = {"never", "always"};
  ASSERT_EQ(descent_network_set_names(ensemble.get(), nullptr, targets, classes), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(descent_network_set_provenance(ensemble.get(), "joined"), DESCENT_OK);
  const Network member = Member(ensemble.get(), 2);
  EXPECT_STREQ(descent_network_class_name(member.get(), 1), "always");
  EXPECT_STREQ(descent_network_target_name(member.get(), 0), "reply");
  EXPECT_STREQ(descent_network_provenance(member.get()), "joined");
  descent_preprocessing mine = descent_preprocessing_default(), its = descent_preprocessing_default();
  ASSERT_EQ(descent_network_get_preprocessing(ensemble.get(), &mine), DESCENT_OK);
  ASSERT_EQ(descent_network_get_preprocessing(networks[1].get(), &its), DESCENT_OK);
  EXPECT_EQ(mine.normalize, its.normalize);
  EXPECT_EQ(memcmp(mine.scale, its.scale, static_cast<size_t>(ensemble->inputs) * sizeof(float)), 0);
  EXPECT_EQ(memcmp(mine.fill, its.fill, static_cast<size_t>(ensemble->inputs) * sizeof(float)), 0);
}

TEST_F(Ensemble, InAFileIsNoSourceOfWeights) {
  const Networks networks = MakeMany(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 2);
  ASSERT_EQ(descent_network_save(Join(networks).get(), Path("ensemble").c_str()), DESCENT_OK);
  EXPECT_EQ(descent_network_load_weights(networks[0].get(), Path("ensemble").c_str()), DESCENT_ERROR_MODEL);
  EXPECT_EQ(
      Plain(descent_last_error()),
      "ensemble: an ensemble of 2 networks: write one of them as a model (descent export --member) and load that");
}

}  // namespace
