/* Which configurations of a training are taken for the same. */
#include "training.h"

extern "C" {
#include "checkpoint/configuration.h"
}

namespace {

const Rows rows = make_rows(20, 4, 1, 3, 1);

class Recorded : public testing::Test {
 protected:
  Recorded() { EXPECT_EQ(create(&is_), DESCENT_OK) << descent_last_error(); }
  ~Recorded() override { configuration_clear(&is_); }

  descent_status create(struct configuration *configuration) {
    return configuration_create(network_.get(), "cpu", nullptr, data_.get(), nullptr, nullptr, &options_,
                                configuration);
  }
  /* Compares these options with what was recorded without a name. */
  descent_status compare_without(const char *name) {
    struct configuration was {};
    const descent_train_options now = options_;
    options_ = descent_train_options_default();
    EXPECT_EQ(create(&was), DESCENT_OK);
    options_ = now;
    EXPECT_TRUE(cJSON_HasObjectItem(was.values, name)) << name;
    cJSON_DeleteItemFromObjectCaseSensitive(was.values, name);
    configuration_clear(&is_);
    EXPECT_EQ(create(&is_), DESCENT_OK);
    const descent_status status = configuration_compare("step", &is_, was.values, nullptr);
    configuration_clear(&was);
    return status;
  }

  descent_train_options options_ = descent_train_options_default();
  Network network_ = make_network({4, 5, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  Dataset data_ = rows.dataset();
  struct configuration is_ {};
};

TEST_F(Recorded, ByAnEarlierVersionMeansWhatThatHad) {
  for (const char *name : {"loss", "fusion", "micro_batches", "shuffle_seed", "trust_coefficient", "warmup_epochs"})
    EXPECT_EQ(compare_without(name), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(compare_without("seed"), DESCENT_ERROR_ARGUMENT); /* which every version recorded */
  options_.shuffle_seed = 5;
  EXPECT_EQ(compare_without("shuffle_seed"), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("shuffle_seed was 0 and is 5; to resume anyway"), std::string::npos)
      << descent_last_error();
}

}  // namespace
