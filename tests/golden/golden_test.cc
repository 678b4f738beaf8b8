// The model's text and logits equal those of transformers, and the comparison would notice if they
// did not.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/check.h"
#include "cpu/executor.h"
#include "engine/engine.h"
#include "golden/expect_golden.h"
#include "model/checkpoint.h"
#include "support/reference_folder.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::test {
namespace {

const char kTinyMimo[] = US_SOURCE_DIR "/models/tiny-mimo";

TEST(Golden, TinyMimoEqualsTransformers) {
  RunnerOptions options;
  options.width = 64;
  auto runner = ModelRunner::open(kTinyMimo, options);
  ASSERT_TRUE(runner) << runner.error().message;
  for (const GoldenCase& golden : tiny_mimo_cases()) expect_golden(&*runner, golden);
}

// The cases' greedy texts from one engine, free-running, all in company: prefill chunks and packed
// decode steps take turns.
std::map<std::string, std::vector<int32_t>> engine_texts(const std::vector<GoldenCase>& cases,
                                                         program::Activations activations,
                                                         uint32_t num_ranks = 1,
                                                         plan::AllReduce all_reduce = {}) {
  const auto config = model::ModelConfig::load(kTinyMimo);
  const auto checkpoint = model::Checkpoint::open(kTinyMimo);
  US_CHECK(config && checkpoint);
  engine::EngineOptions options;
  options.max_context = 2048;
  options.num_ranks = num_ranks;
  options.all_reduce = all_reduce;
  auto engine = engine::Engine::open(*config, *checkpoint,
                                     cpu::make_cpu_executor({.activations = activations}),
                                     cpu::cpu_limits(num_ranks == 1 ? 2 : 1), options, nullptr);
  US_CHECK(engine.has_value(), "{}", engine.error().message);
  std::map<engine::SessionId, std::string> running;
  std::map<std::string, std::vector<int32_t>> texts;
  size_t next = 0;
  while (next < cases.size() || !running.empty()) {
    while (next < cases.size() && running.size() < options.max_sessions) {
      engine::GenerationParams params;
      params.sampling.temperature = 0;
      params.max_tokens = static_cast<uint32_t>(cases[next].greedy_ids.size());
      params.ignore_eos = true;
      const auto id = (*engine)->start(cases[next].prompt_ids, params);
      US_CHECK(id.has_value(), "{}", id.error().message);
      running[*id] = cases[next++].name;
    }
    std::vector<engine::StepEvent> events;
    US_CHECK((*engine)->step(&events).has_value());
    for (const engine::StepEvent& event : events) {
      if (event.token) texts[running[event.session]].push_back(event.token->id);
      if (event.finished) running.erase(event.session);
    }
  }
  return texts;
}

// On 8 ranks neighbours share KV heads, and every second one has columns of experts.
TEST(Golden, TheEngineWritesTheGoldenTextsOnEveryNumberOfRanks) {
  const std::vector<GoldenCase> cases = tiny_mimo_cases();
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    const auto all_reduce = ranks == 4 ? plan::AllReduce::kOneShot : plan::AllReduce::kTwoShot;
    const auto texts = engine_texts(cases, program::Activations::kF32, ranks, all_reduce);
    ASSERT_EQ(texts.size(), cases.size());
    for (const GoldenCase& golden : cases) {
      EXPECT_EQ(texts.at(golden.name), golden.greedy_ids) << golden.name << ", " << ranks;
    }
  }
}

// The golden ids up to the first step whose two largest logits differ by less than int8 can tell
// (docs/numerics.md section 6): one text of the twelve has such a step.
TEST(Golden, Int8TextsAreGoldenUpToANearTie) {
  constexpr float kNearTie = 0.005F;
  const std::vector<GoldenCase> cases = tiny_mimo_cases();
  const auto texts = engine_texts(cases, program::Activations::kInt8);
  size_t num_near_ties = 0;
  for (const GoldenCase& golden : cases) {
    const auto tie = std::find_if(golden.top.begin(), golden.top.end(), [](const TopLogits& top) {
      return top.logits[0] - top.logits[1] < kNearTie;
    });
    num_near_ties += tie != golden.top.end() ? 1 : 0;
    const auto length = tie - golden.top.begin();
    const std::vector<int32_t>& text = texts.at(golden.name);
    EXPECT_EQ(std::vector(text.begin(), text.begin() + length),
              std::vector(golden.greedy_ids.begin(), golden.greedy_ids.begin() + length))
        << golden.name;
  }
  EXPECT_EQ(num_near_ties, 1u);
}

TEST(FusedReference, EqualsTransformers) {
  const auto directory = reference_folder("mimo_v2_fused_t2_swa4");
  ASSERT_TRUE(directory) << directory.error().message;
  RunnerOptions options;
  options.width = 16;
  auto runner = ModelRunner::open(*directory, options);
  ASSERT_TRUE(runner) << runner.error().message;
  for (const GoldenCase& golden : reference_cases(*directory)) expect_golden(&*runner, golden);
}

// --- The comparison notices small damage ---

using model::TensorRole;
using model::WeightSource;
using Damage = std::function<void(const WeightSource&, std::span<std::byte>)>;

float damaged_difference(const std::string& directory, const GoldenCase& golden,
                         const Damage& damage) {
  RunnerOptions options;
  options.width = 64;
  options.damage = damage;
  auto runner = ModelRunner::open(directory, options);
  US_CHECK(runner.has_value());
  return compare(&*runner, golden).value().largest_difference;
}

// Applies `damage` to one expert's down projection in one layer.
Damage to_expert(uint32_t layer, uint32_t expert,
                 const std::function<void(std::span<std::byte>)>& damage) {
  return [=](const WeightSource& source, std::span<std::byte> packed) {
    const bool is_it =
        source.role == TensorRole::kExpertDown && source.layer == layer && source.expert == expert;
    if (is_it) damage(packed);
  };
}

struct DamagedModel {
  const char* name;  // a reference checkpoint, or "" for tiny-mimo
  uint32_t hidden_size, moe_intermediate_size;
  uint32_t layer, expert;  // one that the case uses
  uint64_t o_proj_row_bytes;
};

class GoldenDamage : public testing::TestWithParam<DamagedModel> {
 protected:
  void SetUp() override {
    const std::string name = GetParam().name;
    directory_ = name.empty() ? kTinyMimo : reference_folder(name).value();
    golden_ = name.empty() ? tiny_mimo_cases()[4] : reference_cases(directory_)[0];
  }
  std::string directory_;
  GoldenCase golden_;
};

TEST_P(GoldenDamage, OneFlippedNibbleShows) {
  const auto flip = [](std::span<std::byte> packed) { packed[100] ^= std::byte{0x80}; };
  const Damage damage = to_expert(GetParam().layer, GetParam().expert, flip);
  EXPECT_GT(damaged_difference(directory_, golden_, damage), kGoldenTolerance);
}

TEST_P(GoldenDamage, OneScaleOffByOneShows) {
  const uint64_t scales = tensor::code_bytes(tensor::WeightFormat::kMxfp4, GetParam().hidden_size,
                                             GetParam().moe_intermediate_size);
  const auto shift = [=](std::span<std::byte> packed) {
    packed[scales] = static_cast<std::byte>(static_cast<uint8_t>(packed[scales]) + 1);
  };
  const Damage damage = to_expert(GetParam().layer, GetParam().expert, shift);
  EXPECT_GT(damaged_difference(directory_, golden_, damage), kGoldenTolerance);
}

TEST_P(GoldenDamage, OneSwappedRowShows) {
  const auto row = static_cast<std::ptrdiff_t>(GetParam().o_proj_row_bytes);
  const Damage damage = [=](const WeightSource& source, std::span<std::byte> packed) {
    if (source.role != TensorRole::kOProj || source.layer != 2) return;
    std::swap_ranges(packed.begin(), packed.begin() + row, packed.begin() + row);
  };
  EXPECT_GT(damaged_difference(directory_, golden_, damage), kGoldenTolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenDamage,
                         testing::Values(DamagedModel{"", 512, 128, 3, 5, 512},
                                         DamagedModel{"mimo_v2_fused_t2_swa4", 256, 64, 2, 1,
                                                      512}));

}  // namespace
}  // namespace ultraspeed::test
