// The adjustment list against counting from scratch.
#include "engine/penalties.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace ultraspeed::engine {
namespace {

using program::LogitAdjustment;

// Every adjustment that differs from none, counted anew.
std::map<int32_t, std::pair<float, float>> counted(const SamplingParams& params,
                                                   const std::vector<int32_t>& prompt,
                                                   const std::vector<int32_t>& output) {
  std::map<int32_t, std::pair<float, float>> result;
  const auto at = [&](int32_t id) -> auto& {
    return result.try_emplace(id, 1.0F, 0.0F).first->second;
  };
  for (const auto& [id, bias] : params.logit_bias) at(id).second = bias;
  for (const int32_t id : prompt) at(id).first = params.repetition_penalty;
  std::map<int32_t, int> counts;
  for (const int32_t id : output) ++counts[id];
  for (const auto& [id, count] : counts) {
    at(id).first = params.repetition_penalty;
    at(id).second = at(id).second - params.presence_penalty -
                    params.frequency_penalty * static_cast<float>(count);
  }
  std::erase_if(result, [](const auto& entry) { return entry.second == std::pair(1.0F, 0.0F); });
  return result;
}

std::map<int32_t, std::pair<float, float>> listed(std::span<const LogitAdjustment> adjustments) {
  std::map<int32_t, std::pair<float, float>> result;
  int32_t before = -1;
  for (const auto& adjustment : adjustments) {
    EXPECT_GT(adjustment.token_id, before) << "not sorted";
    before = adjustment.token_id;
    if (adjustment.repetition == 1 && adjustment.bias == 0) continue;
    result[adjustment.token_id] = {adjustment.repetition, adjustment.bias};
  }
  return result;
}

TEST(Penalties, AreEmptyWithoutParameters) {
  Penalties penalties({}, std::vector<int32_t>{1, 2, 3});
  penalties.count_output(4);
  EXPECT_TRUE(penalties.adjustments().empty());
}

TEST(Penalties, EqualCountingFromScratch) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    SamplingParams params;
    if (random() % 2 != 0) params.repetition_penalty = 1.25F;
    if (random() % 2 != 0) params.presence_penalty = 0.5F;
    if (random() % 2 != 0) params.frequency_penalty = -0.75F;
    if (random() % 2 != 0) params.logit_bias = {{9, 1.5F}, {2, -100.0F}, {30, 3.0F}};
    std::vector<int32_t> prompt(random() % 20);
    for (int32_t& id : prompt) id = static_cast<int32_t>(random() % 25);
    Penalties penalties(params, prompt);
    std::vector<int32_t> output;
    for (int step = 0; step < 30; ++step) {
      ASSERT_EQ(listed(penalties.adjustments()), counted(params, prompt, output));
      output.push_back(static_cast<int32_t>(random() % 25));
      penalties.count_output(output.back());
    }
  }
}

TEST(Penalties, PresenceAndFrequencyIgnoreThePrompt) {
  SamplingParams params;
  params.presence_penalty = 1;
  params.frequency_penalty = 0.5F;
  Penalties penalties(params, std::vector<int32_t>{7, 7});
  EXPECT_TRUE(penalties.adjustments().empty());
  penalties.count_output(7);
  penalties.count_output(7);
  ASSERT_EQ(penalties.adjustments().size(), 1u);
  EXPECT_EQ(penalties.adjustments()[0].bias, -2);
  EXPECT_EQ(penalties.adjustments()[0].repetition, 1);
}

}  // namespace
}  // namespace ultraspeed::engine
