// Damage to the true-size program (70 layers, 8 ranks of 132 workers) is found by verify() alone.
#include <gtest/gtest.h>

#include "model/config.h"
#include "model/weights.h"
#include "plan/plan.h"
#include "program/mutation.h"
#include "program/verify.h"
#include "support/scale.h"

namespace ultraspeed::test {
namespace {

program::Program plan_1t() {
  const auto config = model::ModelConfig::load(US_SOURCE_DIR "/configs/mimo-v2.5-pro");
  program::DeviceLimits limits;
  limits.num_workers = 132;
  limits.weight_page_bytes = 17'408;
  limits.ring_pages = 12;
  plan::PlanOptions options;
  options.num_ranks = 8;
  options.max_context = 131'072;
  return plan::make_plan(
             *config, [&](const auto& source) { return model::expected_shape(*config, source); },
             limits, options)
      ->program;
}

TEST(Mutation1T, ATaskDeletedInLayer43OfRank5IsFound) {
  const program::Program original = plan_1t();
  ASSERT_TRUE(program::verify(original));
  // Once for each stage of the layer.
  int deleted = 0;
  for (uint32_t stage = 0; stage < original.stages.size(); ++stage) {
    if (original.stages[stage].layer != 43) continue;
    program::Program program = original;
    for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
      auto& list = program.lists[5 * program.num_workers + worker];
      const auto task =
          std::find_if(list.begin(), list.end(), [&](const auto& t) { return t.stage == stage; });
      if (task == list.end()) continue;
      list.erase(task);
      break;
    }
    const auto result = program::verify(program);
    EXPECT_FALSE(result) << original.stages[stage].name;
    ++deleted;
  }
  EXPECT_EQ(deleted, 9);  // qkv_proj to ffn_residual of a sliding mixture-of-experts layer
}

TEST(Mutation1T, RandomDamageIsFoundOrEquivalent) {
  const program::Program original = plan_1t();
  std::mt19937_64 random(43);
  int rejected = 0;
  int equivalent = 0;
  const int wanted = scaled(40);
  while (rejected + equivalent < wanted) {
    program::Program program = original;
    const auto what = mutate(&program, &random);
    if (!what) continue;
    if (!program::verify(program)) {
      ++rejected;
    } else {
      EXPECT_TRUE(same_work(original, program)) << what->place;
      ++equivalent;
    }
  }
  std::printf("1T: %d mutated programs: %d rejected, %d proven equivalent\n", wanted, rejected,
              equivalent);
  EXPECT_GT(rejected, wanted / 2);
}

}  // namespace
}  // namespace ultraspeed::test
