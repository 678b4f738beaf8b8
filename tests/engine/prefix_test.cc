// Prefixes and preemption on the CPU executor: a text, with the logprobs of its tokens, is the one
// of an engine that computes every prompt from its begin, bit by bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "support/checkpoint_generator.h"
#include "support/mtp_generator.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {
namespace {

constexpr uint32_t kMaxContext = 2048;
constexpr uint32_t kVocabSize = 256;

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
    options.max_context = kMaxContext;
    auto engine = Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}), cpu::cpu_limits(1),
                               options, {});
    EXPECT_TRUE(engine) << engine.error().message;
    return std::move(engine).value();
  }

 private:
  test::TemporaryDirectory directory_;
};

// Conversations that go on, part, come together and are broken off.
class Conversations {
 public:
  explicit Conversations(Engine& engine) : engine_(engine) {}

  void run(int num_operations) {
    for (int i = 0; i < num_operations; ++i) {
      const uint32_t choice = below(20);
      if (choice < 2 && active_.size() < 4) {
        start();
      } else if (choice == 2 && below(3) == 0) {
        cancel();
      } else {
        step();
      }
    }
    while (!engine_.idle()) step();
  }

  // What engine, one text at a time, gives for all of them.
  void expect_texts_of(Engine& engine) const {
    SpeculationStats stats;
    for (const auto& [id, request] : requests_) {
      const Text whole = generate(engine, {request}, &stats).front();
      const auto found = texts_.find(id);
      const Text text = found == texts_.end() ? Text() : found->second;
      if (!cancelled_.contains(id)) {
        EXPECT_EQ(text, whole);
        continue;
      }
      ASSERT_LE(text.tokens.size(), whole.tokens.size());
      EXPECT_TRUE(std::equal(text.tokens.begin(), text.tokens.end(), whole.tokens.begin()));
      EXPECT_TRUE(std::equal(text.logprobs.begin(), text.logprobs.end(), whole.logprobs.begin()));
    }
  }

  size_t num_taken_over() const { return took_over_.size(); }

 private:
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

  void start() {
    Request request;
    if (!requests_.empty() && below(4) != 0) {
      const auto& [id, earlier] =
          *std::next(requests_.begin(), below(static_cast<uint32_t>(requests_.size())));
      request.prompt = earlier.prompt;
      const auto& output = texts_[id].tokens;
      if (below(2) == 0) request.prompt.insert(request.prompt.end(), output.begin(), output.end());
      if (below(4) == 0) request.prompt.resize(1 + below(400));
    }
    const uint32_t num_new = below(4) == 0 ? 1200 : 60;
    for (uint32_t i = 1 + below(num_new); i > 0; --i) {
      request.prompt.push_back(static_cast<int32_t>(below(kVocabSize)));
    }
    if (request.prompt.size() > kMaxContext - 100) request.prompt.resize(kMaxContext - 100);
    request.params.max_tokens = 1 + below(40);
    request.params.ignore_eos = true;
    request.params.sampling.temperature = below(2) == 0 ? 0.0F : 1.0F;
    request.params.sampling.seed = random_();
    if (below(3) == 0) request.params.sampling.repetition_penalty = 1.25F;
    const auto id = engine_.start(request.prompt, request.params);
    if (!id) return;  // no pages
    requests_.emplace(*id, std::move(request));
    active_.push_back(*id);
  }

  void cancel() {
    if (active_.empty()) return;
    const size_t index = below(static_cast<uint32_t>(active_.size()));
    engine_.cancel(active_[index]);
    cancelled_.insert(active_[index]);
    active_.erase(active_.begin() + static_cast<ptrdiff_t>(index));
  }

  void step() {
    std::vector<StepEvent> events;
    const Status status = engine_.step(&events);
    ASSERT_TRUE(status) << status.error().message;
    for (const StepEvent& event : events) {
      if (event.prompt_tokens_cached > 0) took_over_.insert(event.session);
      if (event.token) {
        texts_[event.session].tokens.push_back(event.token->id);
        texts_[event.session].logprobs.push_back(event.token->logprob);
      }
      if (event.finished) std::erase(active_, event.session);
    }
  }

  Engine& engine_;
  std::mt19937_64 random_{3};
  std::map<SessionId, Request> requests_;
  std::map<SessionId, Text> texts_;
  std::vector<SessionId> active_;
  std::set<SessionId> cancelled_;
  std::set<SessionId> took_over_;
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
  options.num_kv_pages = kMaxContext / 64 + 8;
  const auto engine = model.open(options);
  Conversations conversations(*engine);
  conversations.run(test::scaled(160));
  conversations.expect_texts_of(*reference);
  EXPECT_GT(conversations.num_taken_over(), test::at_least(4u));
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
