// Engine::open on generated checkpoints and the CPU executor: what it refuses, that weights are
// counted, and that a session's text does not depend on widths, ranks, workers or company.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/executor.h"
#include "engine/engine.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

struct Text {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;

  bool operator==(const Text&) const = default;
};

class EngineOpen : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new test::TemporaryDirectory;
    test::GeneratorOptions options;
    options.intermediate_size = 256;  // two ranks take 128 columns each, those of one FP8 scale
    options.num_mtp_layers = 2;
    const auto written = test::write_checkpoint(directory_->path(), options);
    ASSERT_TRUE(written) << written.error().message;
  }
  static void TearDownTestSuite() { delete std::exchange(directory_, nullptr); }

  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options,
                                              program::DeviceLimits limits = cpu::cpu_limits(2),
                                              const LoadProgress& progress = {}) {
    US_ASSIGN(const auto config, model::ModelConfig::load(directory_->path()));
    US_ASSIGN(const auto checkpoint, model::Checkpoint::open(directory_->path()));
    return Engine::open(config, checkpoint, cpu::make_cpu_executor({}), limits, options, progress);
  }

  static std::string refusal(const EngineOptions& options, ErrorCode code,
                             program::DeviceLimits limits = cpu::cpu_limits(2)) {
    const auto engine = open(options, std::move(limits));
    if (engine) return "";
    EXPECT_EQ(engine.error().code, code) << engine.error().message;
    return engine.error().message;
  }

  static EngineOptions small() {
    EngineOptions options;
    options.max_context = 256;
    options.max_sessions = 4;
    return options;
  }

  static EngineOptions with_mtp() {
    EngineOptions options = small();
    options.drafter.kind = DrafterKind::kMtp;
    options.block_size = 3;
    return options;
  }

  static test::TemporaryDirectory* directory_;
};

test::TemporaryDirectory* EngineOpen::directory_ = nullptr;

std::vector<int32_t> prompt_of(size_t size, int32_t first) {
  std::vector<int32_t> prompt;
  for (size_t i = 0; i < size; ++i) prompt.push_back((first + 37 * static_cast<int32_t>(i)) % 256);
  return prompt;
}

// The texts of sessions that start together, of 20 tokens each, sampled with everything on.
std::vector<Text> generate(Engine& engine, const Prompts& prompts) {
  GenerationParams params;
  params.max_tokens = 20;
  params.sampling.temperature = 0.9F;
  params.sampling.top_k = 100;
  params.sampling.top_p = 0.95F;
  params.sampling.min_p = 0.01F;
  params.sampling.repetition_penalty = 1.1F;
  params.sampling.frequency_penalty = 0.25F;
  params.sampling.seed = 42;
  std::map<SessionId, size_t> index_of;
  for (const auto& prompt : prompts) {
    const auto id = engine.start(prompt, params);
    EXPECT_TRUE(id) << id.error().message;
    if (id) index_of.emplace(*id, index_of.size());
  }
  std::vector<Text> texts(prompts.size());
  std::vector<StepEvent> events;
  while (!engine.idle()) {
    events.clear();
    const Status status = engine.step(&events);
    EXPECT_TRUE(status) << status.error().message;
    for (const StepEvent& event : events) {
      if (!event.token) continue;
      texts[index_of[event.session]].tokens.push_back(event.token->id);
      texts[index_of[event.session]].logprobs.push_back(event.token->logprob);
    }
  }
  return texts;
}

TEST_F(EngineOpen, CountsTheWeightsAsTheyLoad) {
  std::vector<uint64_t> done;
  uint64_t total = 0;
  const auto engine =
      open(small(), cpu::cpu_limits(2), [&](uint64_t bytes_done, uint64_t bytes_total) {
        done.push_back(bytes_done);
        total = bytes_total;
      });
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_GT(done.size(), 10u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), total);
  EXPECT_EQ((*engine)->max_context(), 256u);
  ASSERT_EQ((*engine)->programs().size(), 2u);
  EXPECT_EQ((*engine)->programs()[0].width, 8u);
  EXPECT_EQ((*engine)->programs()[1].width, 64u);
}

// Of the two MTP layers, too: weights, and caches against the device's memory.
TEST_F(EngineOpen, CountsWhatMtpLayersNeed) {
  const auto total_of = [](const EngineOptions& options) {
    uint64_t total = 0;
    EXPECT_TRUE(open(options, cpu::cpu_limits(2),
                     [&](uint64_t, uint64_t bytes_total) { total = bytes_total; }));
    return total;
  };
  const uint64_t eh_proj_bytes = uint64_t{256} * 512 * 2;
  EXPECT_GT(total_of(with_mtp()), total_of(small()) + 2 * eh_proj_bytes);
  program::DeviceLimits limits = cpu::cpu_limits(2);
  limits.memory_bytes = 1 << 20;
  EXPECT_NE(refusal(with_mtp(), ErrorCode::kOutOfMemory, limits),
            refusal(small(), ErrorCode::kOutOfMemory, limits));
}

TEST_F(EngineOpen, RefusesMtpOptionsThatDoNotFit) {
  EngineOptions options = with_mtp();
  options.block_size = 4;
  EXPECT_EQ(refusal(options, ErrorCode::kInvalidArgument),
            "block_size is 4, expected 1 to 3: 2 MTP layers propose a token each");
  const test::TemporaryDirectory without;
  ASSERT_TRUE(test::write_checkpoint(without.path(), {}));
  const auto config = model::ModelConfig::load(without.path());
  const auto checkpoint = model::Checkpoint::open(without.path());
  const auto engine = Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}),
                                   cpu::cpu_limits(2), with_mtp(), {});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(engine.error().message,
            without.path() +
                ": no MTP layers; expected tensors model.mtp.layers.K.*, or another drafter");
}

TEST_F(EngineOpen, RefusesOptionsThatDoNotFit) {
  EngineOptions options = small();
  options.max_context = 2049;
  EXPECT_NE(
      refusal(options, ErrorCode::kInvalidArgument).find("max_context is 2049, expected 2 to 2048"),
      std::string::npos);
  options = small();
  options.num_ranks = 3;
  EXPECT_NE(refusal(options, ErrorCode::kInvalidArgument).find("3 ranks"), std::string::npos);
  options = small();
  options.decode_width = 0;
  EXPECT_NE(refusal(options, ErrorCode::kInvalidArgument).find("width 0"), std::string::npos);
  options = small();
  options.num_kv_pages = 3;  // 192 of 256 positions
  EXPECT_NE(refusal(options, ErrorCode::kInvalidArgument).find("num_kv_pages is 3"),
            std::string::npos);
  program::DeviceLimits limits = cpu::cpu_limits(2);
  limits.memory_bytes = 1 << 20;
  EXPECT_NE(refusal(small(), ErrorCode::kOutOfMemory, limits).find("has 1 MiB"), std::string::npos);
}

TEST_F(EngineOpen, RefusesACheckpointThatLacksWeights) {
  auto config = model::ModelConfig::load(directory_->path());
  const auto checkpoint = model::Checkpoint::open(directory_->path());
  ASSERT_TRUE(config && checkpoint);
  config->layers.push_back(config->layers.back());
  const auto engine = Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}),
                                   cpu::cpu_limits(2), small(), {});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kNotFound);
  EXPECT_NE(engine.error().message.find("layers.4."), std::string::npos) << engine.error().message;
}

// A quarter of o_proj's columns would be a part of the blocks that FP8 is made of: half goes to two
// of four ranks.
TEST_F(EngineOpen, RanksRoundTheSameBlocks) {
  std::vector<Text> texts;
  for (const uint32_t num_ranks : {1u, 4u}) {
    EngineOptions options = small();
    options.num_ranks = num_ranks;
    options.dense_dtype = model::DenseDtype::kFp8;
    const auto engine = open(options, cpu::cpu_limits(1));
    ASSERT_TRUE(engine) << engine.error().message;
    texts.push_back(generate(**engine, {prompt_of(13, 5)}).front());
  }
  EXPECT_EQ(texts[0], texts[1]);
}

TEST_F(EngineOpen, TextsDoNotDependOnWidthsRanksWorkersOrCompany) {
  const Prompts prompts = {prompt_of(1, 5), prompt_of(70, 9), prompt_of(13, 100)};
  std::vector<Text> alone;
  EngineOptions one = small();
  one.max_sessions = 1;
  one.decode_width = 1;
  one.prefill_width = 5;
  const auto single = open(one, cpu::cpu_limits(1));
  ASSERT_TRUE(single) << single.error().message;
  for (const auto& prompt : prompts) alone.push_back(generate(**single, {prompt}).front());
  EXPECT_EQ(alone[0].tokens.size(), 20u);
  EXPECT_NE(alone[0], alone[1]);

  for (const uint32_t num_ranks : {1u, 2u, 4u, 8u}) {
    for (const uint32_t decode_width : {2u, 8u}) {
      EngineOptions options = small();
      options.num_ranks = num_ranks;
      options.decode_width = decode_width;
      const auto engine = open(options, cpu::cpu_limits(num_ranks > 2 ? 1 : 3));
      ASSERT_TRUE(engine) << engine.error().message;
      EXPECT_EQ(generate(**engine, prompts), alone)
          << num_ranks << " ranks, decode width " << decode_width;
    }
    EngineOptions options = with_mtp();
    options.num_ranks = num_ranks;
    options.prefill_width = 9;
    const auto engine = open(options, cpu::cpu_limits(3));
    ASSERT_TRUE(engine) << engine.error().message;
    EXPECT_EQ(generate(**engine, prompts), alone) << num_ranks << " ranks with MTP";
  }
}

// The CPU's, but asks for prompts of 100 tokens a step, and for memory that it does not take.
class WideExecutor final : public program::Executor {
 public:
  explicit WideExecutor(uint64_t wide_bytes) : wide_bytes_(wide_bytes) {}

  uint32_t prefill_width(const program::Program&) const override { return 100; }
  uint64_t activation_bytes(std::span<const program::Program> programs,
                            const program::CacheLimits&) const override {
    return programs.back().width > 64 ? wide_bytes_ : 0;
  }
  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return cpu_->load(std::move(programs), limits, read_weight);
  }
  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    return cpu_->run(index, input, output);
  }
  Status copy_cache(const program::CacheCopy& copy) override { return cpu_->copy_cache(copy); }

 private:
  uint64_t wide_bytes_;
  std::unique_ptr<program::Executor> cpu_ = cpu::make_cpu_executor({});
};

TEST_F(EngineOpen, PromptsTakeTheStepsThatSuitTheExecutor) {
  const auto config = model::ModelConfig::load(directory_->path());
  const auto checkpoint = model::Checkpoint::open(directory_->path());
  ASSERT_TRUE(config && checkpoint);
  const auto first_step = [&](uint64_t wide_bytes, uint32_t asked_width) -> std::string {
    program::DeviceLimits limits = cpu::cpu_limits(1);
    limits.memory_bytes = uint64_t{1} << 30;
    EngineOptions options = small();
    options.prefill_width = asked_width;
    const auto engine = Engine::open(
        *config, *checkpoint, std::make_unique<WideExecutor>(wide_bytes), limits, options, {});
    if (!engine) return std::string(engine.error().code == ErrorCode::kOutOfMemory ? "memory" : "");
    EXPECT_TRUE((*engine)->start(prompt_of(120, 5), {}));
    std::vector<StepEvent> events;
    EXPECT_TRUE((*engine)->step(&events));
    return std::to_string(events.at(0).prompt_tokens_done);
  };
  constexpr uint64_t kMuch = uint64_t{2} << 30;
  EXPECT_EQ(first_step(0, 0), "100");
  EXPECT_EQ(first_step(kMuch, 0), "64");
  EXPECT_EQ(first_step(0, 70), "70");
  EXPECT_EQ(first_step(kMuch, 70), "memory");
}

TEST_F(EngineOpen, ScoresEqualTheLogprobsOfGeneration) {
  for (const EngineOptions& options : {small(), with_mtp()}) {
    const auto engine = open(options);
    ASSERT_TRUE(engine) << engine.error().message;
    std::vector<int32_t> tokens = prompt_of(10, 3);
    const Text text = generate(**engine, {tokens}).front();
    tokens.insert(tokens.end(), text.tokens.begin(), text.tokens.end());
    const auto scores = (*engine)->score(tokens, {});
    ASSERT_TRUE(scores) << scores.error().message;
    ASSERT_EQ(scores->size(), 29u);
    EXPECT_EQ(std::vector(scores->begin() + 9, scores->end()), text.logprobs);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
