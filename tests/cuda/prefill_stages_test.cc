// Prompts in w4a8 whose experts go through the prefill kernels, or, if they are FP8, through those
// of decoding: which programs take them, stages against the processor's, and logits and texts that
// no width or company changes.
#include "cuda/prefill_stages.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/differential_executor.h"
#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "cuda/planned.h"
#include "engine/model_texts.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

using program::Opcode;
using program::Program;
using tensor::WeightFormat;

constexpr cuda::MachineOptions kRankOf8{program::Activations::kW4a8, program::KvCacheType::kF32, 0};

bool takes_experts(const Program& program, const cuda::MachineOptions& options) {
  return has_prefill_stages(program, weight_forms({&program, 1}, options));
}

TEST(PrefillPrograms, AreWideAndOfOneRank) {
  const Program wide = plan_of("configs/mimo-v2.5-pro", 8, 256);
  const Program narrow = plan_of("configs/mimo-v2.5-pro", 8, 32);
  EXPECT_TRUE(takes_experts(wide, kRankOf8));
  EXPECT_TRUE(takes_experts(plan_of("configs/mimo-v2.5-pro", 8, 64), kRankOf8));
  EXPECT_FALSE(takes_experts(narrow, kRankOf8));
  cuda::MachineOptions options = kRankOf8;
  options.only_rank.reset();
  EXPECT_FALSE(takes_experts(wide, options)) << "eight ranks would have to push to each other";
  options = kRankOf8;
  options.activations = program::Activations::kW4a16;
  EXPECT_FALSE(takes_experts(wide, options));
  EXPECT_FALSE(takes_experts(plan_of("configs/mimo-v2.5-pro-fp8", 8, 256), kRankOf8));
  EXPECT_FALSE(takes_experts(plan_of("models/tiny-mimo", 1, 256), kRankOf8));
  // What a prompt's program should have is asked of the decode program.
  const auto width_of = [](const Program& program) {
    return prefill_width(program, weight_forms({&program, 1}, kRankOf8));
  };
  EXPECT_EQ(width_of(narrow), 256u);
  EXPECT_EQ(width_of(plan_of("models/tiny-mimo", 1, 8)), 64u);
}

// The memory that a rank is said to need has the kernels' scratch.
TEST(PrefillPrograms, CountTheirScratch) {
  const Program wide = plan_of("configs/mimo-v2.5-pro", 8, 256);
  cuda::ScratchFloats scratch = {};
  add_prefill_scratch(wide, weight_forms({&wide, 1}, kRankOf8), &scratch);
  // Codes and their scales, h of 2048 pairs at least, three sections of 384 rows of products.
  const uint64_t least = 256 * (6144 + 6144 / 32) + 2048 * 256 / 32 * 36 + 3 * 2048 * 384 * 4;
  EXPECT_GE(scratch[cuda::kExpertScratch] * 4, least);
  EXPECT_LE(scratch[cuda::kExpertScratch] * 4, least + (uint64_t{2} << 20));
  const program::CacheLimits limits;
  cuda::MachineOptions f32 = kRankOf8;
  f32.activations = program::Activations::kF32;
  EXPECT_GE(arena_bytes({&wide, 1}, limits, kRankOf8),
            arena_bytes({&wide, 1}, limits, f32) + scratch[cuda::kExpertScratch] * 4);
}

// A dense layer and one of experts that the kernels take: K-chunks of 256 columns.
GeneratorOptions prefill_checkpoint(WeightFormat experts) {
  GeneratorOptions options;
  options.expert_format = experts;
  options.hidden_size = 2048;
  options.moe_intermediate_size = 2048;
  options.num_experts = 6;
  options.num_experts_per_token = 2;
  options.sliding_layers = {0, 1};
  options.moe_layers = {0, 1};
  return options;
}

std::vector<int32_t> prompt_of(uint32_t size, uint32_t seed) {
  std::vector<int32_t> tokens;
  for (uint32_t i = 0; i < size; ++i) {
    tokens.push_back(static_cast<int32_t>((i * 37 + i / 7 + seed) % 256));
  }
  return tokens;
}

// How far experts may be from the processor's (docs/numerics.md section 8), and which width
// prompts take.
struct ExpertKind {
  WeightFormat format;
  double gate_up_bound, down_bound;
  uint32_t prompt_width;
};

class PrefillStagesTest : public testing::TestWithParam<ExpertKind> {
 protected:
  // A folder for each format, written when its first test asks.
  void SetUp() override {
    US_NEEDS_GPU();
    std::unique_ptr<TemporaryDirectory>& directory = directories_[GetParam().format];
    if (directory != nullptr) return;
    directory = std::make_unique<TemporaryDirectory>();
    const auto written = write_checkpoint(path(), prefill_checkpoint(GetParam().format));
    ASSERT_TRUE(written) << written.error().message;
  }
  static void TearDownTestSuite() { directories_.clear(); }

  static std::string path() { return directories_.at(GetParam().format)->path(); }
  static Result<ModelRunner> open(uint32_t width, uint32_t num_sequences = 1) {
    RunnerOptions options;
    options.num_workers = 132;
    options.width = width;
    options.num_sequences = num_sequences;
    options.make_executor = [] { return cuda::make_graph_executor(program::Activations::kW4a8); };
    return ModelRunner::open(path(), options);
  }

  static std::map<WeightFormat, std::unique_ptr<TemporaryDirectory>> directories_;
};

std::map<WeightFormat, std::unique_ptr<TemporaryDirectory>> PrefillStagesTest::directories_;

INSTANTIATE_TEST_SUITE_P(Formats, PrefillStagesTest,
                         testing::Values(ExpertKind{WeightFormat::kMxfp4, 1e-3, 1.0 / 16, 256},
                                         ExpertKind{WeightFormat::kFp8Block128, 3e-6, 1e-3, 64}),
                         [](const auto& kind) {
                           return std::string(kind.param.prompt_width == 64 ? "fp8" : "mxfp4");
                         });

// A full step and one of 32 of 128 columns. docs/numerics.md section 8 has the bounds; the harness
// poisons what stages write and looks for words that they do not own.
TEST_P(PrefillStagesTest, ComputeWhatTheProcessorDoes) {
  DifferenceReport report;
  RunnerOptions options;
  options.num_workers = 132;
  options.width = 128;
  options.make_executor = [&report] {
    return make_differential_executor(&report, program::Activations::kW4a8);
  };
  auto runner = ModelRunner::open(path(), options);
  ASSERT_TRUE(runner) << runner.error().message;
  const auto result = runner->feed(prompt_of(160, 3), 4, 7);
  ASSERT_TRUE(result) << result.error().message;
  for (const std::string& failure : report.failures) ADD_FAILURE() << failure;
  std::printf("%s", report.table().c_str());
  const auto of = [&report](Opcode opcode) {
    return report.by_opcode[static_cast<size_t>(opcode)];
  };
  EXPECT_EQ(of(Opcode::kExpertGateUp).num_paged, 2u);
  EXPECT_EQ(of(Opcode::kExpertDown).num_paged, 2u);
  EXPECT_LE(of(Opcode::kExpertGateUp).largest_relative, GetParam().gate_up_bound);
  EXPECT_LE(of(Opcode::kExpertDown).largest_relative, GetParam().down_bound);
}

// 32 columns are the decode kernels'.
TEST_P(PrefillStagesTest, LogitsDoNotDependOnTheWidth) {
  const auto prompt = prompt_of(300, 5);
  const auto logits_of = [&prompt](uint32_t width) -> Result<std::vector<TopLogits>> {
    US_ASSIGN(ModelRunner runner, open(width));
    return runner.feed(prompt, 60, 5);
  };
  const auto expected = logits_of(32);
  ASSERT_TRUE(expected) << expected.error().message;
  for (const uint32_t width : {8u, 16u, 64u, 72u, 256u, 512u}) {
    const auto seen = logits_of(width);
    ASSERT_TRUE(seen) << seen.error().message;
    ASSERT_EQ(seen->size(), 60u);
    for (size_t i = 0; i < seen->size(); ++i) {
      EXPECT_EQ((*seen)[i].ids, (*expected)[i].ids) << "width " << width << ", token " << i;
      EXPECT_EQ((*seen)[i].logits, (*expected)[i].logits) << "width " << width << ", token " << i;
    }
  }
}

// Columns of a sequence from its first token on, the last one with logits.
std::vector<program::Column> columns_of(const std::vector<int32_t>& tokens, uint32_t sequence) {
  std::vector<program::Column> columns(tokens.size());
  for (uint32_t i = 0; i < tokens.size(); ++i) {
    columns[i].token_id = tokens[i];
    columns[i].position = i;
    columns[i].sequence = sequence;
  }
  columns.back().wants_logits = true;
  columns.back().sampling.num_logprobs = 5;
  return columns;
}

TEST_P(PrefillStagesTest, LogitsDoNotDependOnTheCompany) {
  const std::vector<std::vector<int32_t>> prompts = {prompt_of(100, 5), prompt_of(1, 70),
                                                     prompt_of(130, 9)};
  auto runner = open(256, 3);
  ASSERT_TRUE(runner) << runner.error().message;
  std::vector<program::ColumnOutput> alone;
  for (const auto& prompt : prompts) {
    const auto output = runner->step(columns_of(prompt, 0));
    ASSERT_TRUE(output) << output.error().message;
    alone.push_back(output->columns.back());
  }
  std::vector<program::Column> together;
  for (uint32_t i = 0; i < prompts.size(); ++i) {
    const auto columns = columns_of(prompts[i], i);
    together.insert(together.end(), columns.begin(), columns.end());
  }
  const auto output = runner->step(together);
  ASSERT_TRUE(output) << output.error().message;
  size_t last = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    last += prompts[i].size();
    const program::ColumnOutput& seen = output->columns[last - 1];
    EXPECT_EQ(seen.token_id, alone[i].token_id) << i;
    EXPECT_EQ(seen.logit, alone[i].logit) << i;
    EXPECT_EQ(seen.logprob, alone[i].logprob) << i;
    EXPECT_EQ(seen.top_logprobs, alone[i].top_logprobs) << i;
  }
}

engine::Setup setup_of(const std::string& directory, uint32_t decode_width,
                       uint32_t prefill_width) {
  engine::Setup setup;
  setup.decode_width = decode_width;
  setup.prefill_width = prefill_width;
  setup.num_threads = 132;
  setup.directory = directory;
  setup.make_executor = [] { return cuda::make_graph_executor(program::Activations::kW4a8); };
  return setup;
}

TEST_P(PrefillStagesTest, TextsAreTheSame) {
  std::vector<engine::Request> requests;
  for (const uint32_t length : {9u, 150u, 400u}) {
    engine::Request& request = requests.emplace_back();
    request.prompt = prompt_of(length, length);
    request.params.max_tokens = 24;
    request.params.sampling.temperature = length == 150 ? 0.8F : 0.0F;
    request.params.sampling.seed = length;
  }
  const auto expected = reference_texts(&requests, setup_of(path(), 8, 32));
  for (const uint32_t prefill_width : {256u, 512u}) {
    check(setup_of(path(), 8, prefill_width), requests, expected, true);
  }
  for (const uint32_t width : {16u, 64u}) {
    check(setup_of(path(), width, 64), requests, expected, true);
  }
}

TEST_P(PrefillStagesTest, AreWhatPromptsTakeUnasked) {
  const auto engine = engine::open(setup_of(path(), 8, 0));
  ASSERT_TRUE(engine->start(prompt_of(300, 5), {}));
  std::vector<engine::StepEvent> events;
  ASSERT_TRUE(engine->step(&events));
  EXPECT_EQ(events.at(0).prompt_tokens_done, GetParam().prompt_width);
}

}  // namespace
}  // namespace ultraspeed::test
