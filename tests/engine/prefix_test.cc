// Prefixes and preemption on the CPU executor: a text, with the logprobs of its tokens, is the one
// of an engine that computes every prompt from its begin, bit by bit.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine/conversations.h"
#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "support/checkpoint_generator.h"
#include "support/mtp_generator.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {
namespace {

constexpr ConversationLimits kLimits = {2048, 256};

// A small model of random weights, whose rings hold 1016 positions before the window if it has any.
class SmallModel {
 public:
  explicit SmallModel(const std::vector<uint32_t>& sliding_layers) {
    test::GeneratorOptions options;
    options.sliding_layers = sliding_layers;
    options.num_mtp_layers = 2;
    const auto written = test::write_checkpoint(directory_.path(), options);
    EXPECT_TRUE(written) << written.error().message;
  }

  std::unique_ptr<Engine> open(EngineOptions options) const {
    const auto config = model::ModelConfig::load(directory_.path());
    const auto checkpoint = model::Checkpoint::open(directory_.path());
    options.max_context = kLimits.max_context;
    auto engine = Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}), cpu::cpu_limits(1),
                               options, {});
    EXPECT_TRUE(engine) << engine.error().message;
    return std::move(engine).value();
  }

 private:
  test::TemporaryDirectory directory_;
};

void run_conversations(const SmallModel& model, DrafterKind drafter, uint32_t prefill_width) {
  SCOPED_TRACE(static_cast<int>(drafter));
  EngineOptions options;
  const auto reference = model.open(options);
  options.drafter.kind = drafter;
  options.block_size = drafter == DrafterKind::kMtp ? 3 : 4;
  options.prefill_width = prefill_width;
  options.max_sessions = 4;
  options.num_cached_prefixes = 3;
  options.num_kv_pages = kLimits.max_context / 64 + 8;
  const auto engine = model.open(options);
  Conversations conversations(*engine, kLimits);
  conversations.run(test::scaled(160));
  conversations.expect_texts_of(*reference);
  EXPECT_GT(conversations.num_taken_over(), test::at_least(3u));
}

TEST(Prefixes, ChangeNoTextOfAModelWithRings) {
  const SmallModel model({0, 1, 1, 0});
  run_conversations(model, DrafterKind::kSuffix, 200);
  run_conversations(model, DrafterKind::kMtp, 40);
}

TEST(Prefixes, ChangeNoTextOfAModelWithoutRings) {
  const SmallModel model({0, 0, 0, 0});
  run_conversations(model, DrafterKind::kSuffix, 0);
}

std::vector<Setup> drafting_setups(const TinyDrafter& dflash, const test::TinyMimoWithMtp& mtp) {
  std::vector<Setup> setups = {{}, {{DrafterKind::kSuffix, 1}, 16, 2}, bundled_setup(8, 1)};
  setups.push_back(dflash.setup(4, 8, 1));
  setups.push_back({{DrafterKind::kMtp, 1}, 8, 1, 3});
  setups.back().directory = mtp.path();
  for (Setup& setup : setups) setup.num_cached_prefixes = 4;
  return setups;
}

// Turns of one conversation and of one that parts from it, with everything that drafts.
TEST(Prefixes, ChangeNoTextOfTheBundledModel) {
  const auto cases = test::tiny_mimo_cases();
  const test::TinyMimoWithMtp mtp(2);
  const TinyDrafter dflash(false);  // a sliding and a full layer
  const auto reference = open({});
  std::vector<Text> expected;
  for (const auto& setup : drafting_setups(dflash, mtp)) {
    SCOPED_TRACE(setup_name(setup));
    const auto engine = open(setup);
    Request request;
    request.prompt = cases[10].prompt_ids;
    request.params.max_tokens = 12;
    request.params.sampling.temperature = 0.9F;
    request.params.sampling.seed = 5;
    SpeculationStats stats;
    for (size_t turn = 0; turn < 3; ++turn) {
      if (expected.size() == turn) {
        expected.push_back(generate(*reference, {request}, &stats).front());
      }
      EXPECT_EQ(generate(*engine, {request}, &stats).front(), expected[turn]);
      const auto& answer = expected[turn].tokens;
      request.prompt.insert(request.prompt.end(), answer.begin(), answer.end());
      if (turn == 1) request.prompt.resize(cases[10].prompt_ids.size() - 5);
      const auto& next = cases[turn].prompt_ids;
      request.prompt.insert(request.prompt.end(), next.begin(), next.end());
    }
  }
}

// The logprobs of a prompt's tokens are those of score(), also where the caches hold its begin, and
// asking for them changes no text.
TEST(PromptLogprobs, AreThoseOfScoring) {
  const SmallModel model({0, 1, 1, 0});
  for (const DrafterKind kind : {DrafterKind::kNone, DrafterKind::kMtp}) {
    EngineOptions options;
    options.drafter.kind = kind;
    options.block_size = kind == DrafterKind::kMtp ? 3 : 8;
    options.num_cached_prefixes = 3;
    const auto engine = model.open(options);
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < 150; ++i) prompt.push_back((i * 37 + i / 11) % 256);
    const auto scores = engine->score(prompt, {});
    ASSERT_TRUE(scores) << scores.error().message;
    std::vector<std::vector<int32_t>> outputs(2);
    for (const bool tells_prompt : {false, true}) {
      GenerationParams params;
      params.max_tokens = 6;
      params.ignore_eos = true;
      params.sampling.temperature = 0;
      if (tells_prompt) params.num_prompt_logprobs = 2;
      ASSERT_TRUE(engine->start(prompt, params));
      std::vector<Token> told;
      std::vector<StepEvent> events;
      while (!engine->idle()) ASSERT_TRUE(engine->step(&events));
      for (const StepEvent& event : events) {
        told.insert(told.end(), event.prompt_tokens.begin(), event.prompt_tokens.end());
        if (event.token) outputs[tells_prompt ? 1 : 0].push_back(event.token->id);
      }
      ASSERT_EQ(told.size(), tells_prompt ? prompt.size() : 0);
      for (size_t i = 0; i < told.size(); ++i) {
        EXPECT_EQ(told[i].id, prompt[i]);
        EXPECT_EQ(told[i].logprob, i == 0 ? 0.0F : (*scores)[i - 1]);
        EXPECT_EQ(told[i].top_logprobs.size(), i == 0 ? 0u : 2u);
      }
    }
    EXPECT_EQ(outputs[0], outputs[1]);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
