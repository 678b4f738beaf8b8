#include "apps/doctor.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ultraspeed::apps {
namespace {

model::DrafterConfig drafter_config() {
  model::DrafterConfig drafter;
  drafter.num_target_layers = 8;
  drafter.target_layer_ids = {1, 4, 6};
  drafter.mask_token_id = 9;
  drafter.has_mask_embedding = true;
  drafter.sliding_window = 64;
  drafter.has_window_before_anchor = true;
  drafter.layers.assign(2, {64, false});
  drafter.rope_theta = 10000;
  return drafter;
}

model::ModelConfig target_config() {
  model::ModelConfig target;
  target.vocab_size = 100;
  target.layers.resize(8);
  for (auto& layer : target.layers) layer.rope.theta = 10000;
  target.layers[3].rope.theta = 5e6F;
  return target;
}

std::vector<std::string> names_of(const std::vector<Convention>& conventions) {
  std::vector<std::string> names;
  names.reserve(conventions.size());
  for (const Convention& convention : conventions) names.push_back(convention.name);
  return names;
}

Trial trial(const std::string& name, uint32_t num_accepted) {
  Trial result{name, {}};
  result.stats.add({.num_drafts = 7, .num_accepted = num_accepted, .num_tokens = num_accepted + 1});
  return result;
}

TEST(Doctor, TriesWhatDiffers) {
  const model::DrafterConfig drafter = drafter_config();
  const auto conventions = other_conventions(drafter, target_config());
  EXPECT_EQ(
      names_of(conventions),
      (std::vector<std::string>{
          "masks from row 9 of the target's table instead of mask_embedding.pt",
          "taps after layers 0, 3, 5 instead of 1, 4, 6",
          "taps after layers 2, 5, 7 instead of 1, 4, 6",
          "RoPE base 5000000 of the target instead of 10000",
          "rows that see only rows before them in the block", "the window of each row (z-lab)"}));
  std::vector<model::DrafterConfig> changed;
  changed.reserve(conventions.size());
  for (const Convention& convention : conventions) {
    convention.change(&changed.emplace_back(drafter));
  }
  EXPECT_FALSE(changed[0].has_mask_embedding);
  EXPECT_EQ(changed[1].target_layer_ids, (std::vector<uint32_t>{0, 3, 5}));
  EXPECT_EQ(changed[2].target_layer_ids, (std::vector<uint32_t>{2, 5, 7}));
  EXPECT_EQ(changed[3].rope_theta, 5e6F);
  EXPECT_TRUE(changed[4].layers[1].is_causal);
  EXPECT_FALSE(changed[5].has_window_before_anchor);
}

TEST(Doctor, TriesNothingImpossible) {
  model::DrafterConfig drafter = drafter_config();
  drafter.has_mask_embedding = false;
  drafter.target_layer_ids = {0, 7};
  drafter.sliding_window = 0;
  drafter.layers.assign(2, {0, true});
  model::ModelConfig target = target_config();
  target.layers[3].rope.theta = 10000;
  EXPECT_EQ(names_of(other_conventions(drafter, target)),
            (std::vector<std::string>{"rows that look ahead in the block"}));
}

TEST(Doctor, TheTableShowsConventions) {
  model::DrafterConfig drafter = drafter_config();
  const std::string table = convention_table(drafter, target_config());
  EXPECT_NE(table.find("after layers 1, 4, 6 of 8\n"), std::string::npos) << table;
  EXPECT_NE(table.find("token 9, from mask_embedding.pt\n"), std::string::npos);
  EXPECT_NE(table.find("base 10000; the target's: 10000, 5000000\n"), std::string::npos);
  EXPECT_NE(table.find("64 positions, before the anchor (MiMo)\n"), std::string::npos);
  drafter.rope_theta = 7;
  drafter.has_mask_embedding = false;
  const std::string other = convention_table(drafter, target_config());
  EXPECT_NE(other.find("5000000 (differs)\n"), std::string::npos) << other;
  EXPECT_NE(other.find("from row 9 of the target's table (no mask_embedding.pt)\n"),
            std::string::npos);
}

TEST(Doctor, Diagnoses) {
  EXPECT_TRUE(diagnose(trial("as it is", 1), {}).is_healthy);
  const Diagnosis none = diagnose(trial("as it is", 0), {trial("a", 0)});
  EXPECT_FALSE(none.is_healthy);
  EXPECT_FALSE(none.better);
  EXPECT_TRUE(none.sentence.starts_with("few drafts are accepted"));
  const Diagnosis found =
      diagnose(trial("as it is", 0), {trial("a", 1), trial("b", 5), trial("c", 4)});
  EXPECT_FALSE(found.is_healthy);
  EXPECT_EQ(found.better, "b");
  EXPECT_EQ(found.sentence,
            "the drafter fits with b: accepted length 6.00 instead of 1.00; correct its files");
}

}  // namespace
}  // namespace ultraspeed::apps
