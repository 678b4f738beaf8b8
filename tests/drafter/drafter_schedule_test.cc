// Programs with a drafter: the same bits whoever computes what when, for both forms; steps of
// several sequences; what planner and executor refuse.
#include <gtest/gtest.h>

#include <chrono>
#include <span>

#include "base/check.h"
#include "cpu/executor.h"
#include "drafter/same_bits.h"
#include "model/drafter.h"
#include "plan/plan.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/model_runner.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27};
constexpr uint32_t kRows = 8;

enum class Form { kMimo, kZLab, kSelecting };

DrafterOptions drafter_options(Form form) {
  DrafterOptions options;
  options.is_mimo = form != Form::kZLab;
  if (form == Form::kSelecting) options.selector_rank = 12;
  if (!options.is_mimo) {
    options.layer_types = {"sliding_attention", "full_attention", "full_attention"};
  }
  return options;
}

class DrafterScheduleTest : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    GeneratorOptions target;
    target.intermediate_size = 512;  // splits over two ranks
    US_CHECK(write_checkpoint(target_.path(), target).has_value());
    US_CHECK(write_drafter(drafter_.path(), drafter_options(GetParam())).has_value());
  }

  ModelRunner open(RunnerOptions options) {
    options.max_context = 1100;
    options.drafter = drafter_.path();
    auto runner = ModelRunner::open(target_.path(), options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return std::move(*runner);
  }

  static Result<std::vector<Cycle>> decode(ModelRunner* runner, std::span<const int32_t> prompt,
                                           uint32_t num_cycles) {
    runner->reset();
    US_TRY(runner->feed(prompt.first(prompt.size() - 1), 0, 0));
    std::vector<Cycle> cycles;
    int32_t anchor = prompt.back();
    for (uint32_t i = 0; i < num_cycles; ++i) {
      US_ASSIGN(const program::StepOutput output, runner->step(runner->draft_block(anchor, kRows)));
      cycles.push_back(cycle_of(output.columns));
      anchor = output.columns[cycles.back().accepted].token_id;
      runner->set_length(runner->length() + cycles.back().accepted + 1);
    }
    return cycles;
  }

  TemporaryDirectory target_, drafter_;
};

TEST_P(DrafterScheduleTest, WidthsWorkersAndRanksGiveTheSameBits) {
  expect_same_bits_for_every_cut([&](const RunnerOptions& options) { return open(options); },
                                 [](ModelRunner* runner) { return decode(runner, kPrompt, 3); });
}

TEST_P(DrafterScheduleTest, TheDraftPartTakesAPartOfTheTime) {
  RunnerOptions options;
  options.num_workers = 2;
  ModelRunner runner = open(options);
  ASSERT_TRUE(runner.feed(std::span(kPrompt).first(kPrompt.size() - 1), 0, 0));
  const auto begin = std::chrono::steady_clock::now();
  const auto output = runner.step(runner.draft_block(kPrompt.back(), kRows));
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(output) << output.error().message;
  EXPECT_GT(output->draft_s, 0);
  EXPECT_LT(output->draft_s, whole.count());
}

TEST_P(DrafterScheduleTest, RandomOrdersOverPoisonGiveTheSameBits) {
  expect_same_bits_in_random_orders(
      25, [&](const RunnerOptions& options) { return open(options); },
      [](ModelRunner* runner) { return decode(runner, kPrompt, 2); });  // four steps
}

// The block lies on both sides of an attention chunk's border at 512.
TEST_P(DrafterScheduleTest, BlocksAcrossAChunkAgreeForAllSplits) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 509; ++i) tokens.push_back((i * 37 + i / 7) % 256);
  std::optional<std::vector<Cycle>> expected;
  for (const uint32_t workers : {1u, 12u}) {
    RunnerOptions options;
    options.num_workers = workers;
    options.width = 64;
    ModelRunner runner = open(options);
    const auto cycles = decode(&runner, tokens, 2);
    ASSERT_TRUE(cycles) << cycles.error().message;
    if (!expected) expected = *cycles;
    EXPECT_TRUE(*cycles == *expected) << workers;
  }
}

TEST_P(DrafterScheduleTest, TheTextIsTheTargetsOwn) {
  ModelRunner runner = open({});
  const auto cycles = decode(&runner, kPrompt, 6);
  ASSERT_TRUE(cycles) << cycles.error().message;
  std::vector<int32_t> text;
  for (const Cycle& cycle : *cycles) {
    for (uint32_t i = 0; i <= cycle.accepted; ++i) text.push_back(cycle.sampled[i]);
  }
  auto alone = ModelRunner::open(target_.path(), {});
  ASSERT_TRUE(alone);
  const auto steps = teacher_forced(&*alone, kPrompt, text, 1);
  ASSERT_TRUE(steps) << steps.error().message;
  for (size_t i = 0; i < text.size(); ++i) EXPECT_EQ((*steps)[i].ids[0], text[i]) << i;
}

// Three sequences in one step: a block, a single column, a shorter block.
TEST_P(DrafterScheduleTest, SequencesInCompanyDraftAsAlone) {
  RunnerOptions options;
  options.num_sequences = 3;
  options.width = 16;
  ModelRunner runner = open(options);
  const uint32_t num_rows[] = {kRows, 1, 5};
  std::vector<program::Column> company;
  std::vector<Cycle> alone;
  for (uint32_t sequence = 0; sequence < 3; ++sequence) {
    const uint32_t length = 4 + 3 * sequence;
    std::vector<program::Column> prompt(length);
    for (uint32_t i = 0; i < length; ++i) {
      prompt[i].token_id = kPrompt[i + sequence];
      prompt[i].position = i;
      prompt[i].sequence = sequence;
    }
    ASSERT_TRUE(runner.step(prompt));
    runner.set_length(length);
    std::vector<program::Column> block = runner.draft_block(kPrompt[length], num_rows[sequence]);
    for (program::Column& column : block) column.sequence = sequence;
    const auto output = runner.step(block);
    ASSERT_TRUE(output) << output.error().message;
    alone.push_back(cycle_of(output->columns));
    company.insert(company.end(), block.begin(), block.end());
  }
  const auto together = runner.step(company);
  ASSERT_TRUE(together) << together.error().message;
  expect_same_in_company(*together, alone);
}

INSTANTIATE_TEST_SUITE_P(Forms, DrafterScheduleTest,
                         testing::Values(Form::kMimo, Form::kZLab, Form::kSelecting),
                         [](const auto& test) {
                           return test.param == Form::kMimo   ? "Mimo"
                                  : test.param == Form::kZLab ? "ZLab"
                                                              : "Selecting";
                         });

using DrafterStepTest = DrafterScheduleTest;

TEST_P(DrafterStepTest, RefusesColumnsThatAreNoBlock) {
  ModelRunner runner = open({});
  ASSERT_TRUE(runner.feed(kPrompt, 0, 0));
  const auto error = [&](const std::vector<program::Column>& columns) {
    const auto output = runner.step(columns);
    EXPECT_FALSE(output);
    return output ? "" : output.error().message;
  };
  auto columns = runner.draft_block(5, 3);
  columns[2].position += 1;
  EXPECT_EQ(error(columns),
            "column 2 is at position 18 after 16; expected no gap in a draft block");
  columns = runner.draft_block(5, 3);
  columns.erase(columns.begin());
  EXPECT_EQ(error(columns), "column 0 is drafted, expected a column of sequence 0 before it");
  auto without = ModelRunner::open(target_.path(), {});
  ASSERT_TRUE(without);
  const auto output = without->step(runner.draft_block(5, 3));
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().message, "column 1 is drafted, but program 'decode' has no draft part");
}

INSTANTIATE_TEST_SUITE_P(Forms, DrafterStepTest, testing::Values(Form::kMimo));

// --- Planning ---

struct Planned {
  model::ModelConfig target;
  model::DrafterConfig drafter;

  Planned() {
    target = model::ModelConfig::parse("config.json", config_json(eight_rank_options())).value();
    DrafterOptions options;
    options.num_kv_heads = 8;
    options.intermediate_size = 1024;
    drafter = model::DrafterConfig::parse("drafter.json", config_json(options)).value();
    drafter.has_mask_embedding = true;
  }

  Result<plan::Plan> plan(plan::PlanOptions options, uint32_t workers) const {
    options.drafter = &drafter;
    options.max_context = 4096;
    const model::ModelConfig stack = drafter.stack();
    const auto shape_of = [&](const model::WeightSource& source) {
      return model::expected_shape(source.stack == stack.stack ? stack : target, source);
    };
    return plan::make_plan(target, shape_of, cpu::cpu_limits(workers), options);
  }

  void expect_error(ErrorCode code, const std::string& part,
                    const plan::PlanOptions& options = {}) const {
    const auto result = plan(options, 2);
    ASSERT_FALSE(result) << part;
    EXPECT_EQ(result.error().code, code);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  }
};

TEST(DrafterPlan, VerifiesInManyShapes) {
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    for (const uint32_t workers : {1u, 3u, 16u, 132u}) {
      for (const uint32_t selector_rank : {0u, 64u}) {
        plan::PlanOptions options;
        options.num_ranks = ranks;
        options.is_drafting = ranks != 4;
        if (workers == 3) options.all_reduce = plan::AllReduce::kOneShot;
        Planned planned;
        planned.drafter.selector.rank = selector_rank;
        const auto plan = planned.plan(options, workers);
        ASSERT_TRUE(plan) << plan.error().message;
        const auto report = program::verify(plan->program);
        EXPECT_TRUE(report) << report.error().message;
      }
    }
  }
}

TEST(DrafterPlan, ProgramsShareWeightsBlocksAndCaches) {
  const Planned planned;
  plan::PlanOptions options;
  options.is_drafting = true;
  const auto decode = planned.plan(options, 5);
  options.is_drafting = false;
  options.width = 64;
  const auto prefill = planned.plan(options, 5);
  ASSERT_TRUE(decode && prefill);
  EXPECT_EQ(decode->sources, prefill->sources);
  EXPECT_EQ(decode->program.caches.size(), 7u);
  EXPECT_EQ(prefill->program.caches.size(), 7u);
  EXPECT_TRUE(decode->program.is_drafting());
  EXPECT_FALSE(prefill->program.is_drafting());
  uint32_t shared = 0, drafting = 0;
  for (size_t id = 0; id < decode->program.weights.size(); ++id) {
    const program::WeightDecl& a = decode->program.weights[id];
    const program::WeightDecl& b = prefill->program.weights[id];
    EXPECT_EQ(a.name, b.name);
    if (b.blocks_per_matrix == 0) {
      drafting += a.blocks_per_matrix > 0 ? 1 : 0;
      continue;
    }
    ++shared;
    EXPECT_EQ(a.first_block, b.first_block) << a.name;
    EXPECT_EQ(a.blocks_per_matrix, b.blocks_per_matrix) << a.name;
  }
  EXPECT_GT(shared, 20u);
  EXPECT_EQ(drafting, 3 * 4u);  // q, o, gate/up and down of three layers
}

TEST(DrafterPlan, TwoStagesMayShareBlocksOnlyForTheSameTile) {
  plan::PlanOptions options;
  options.is_drafting = true;
  program::Program program = Planned().plan(options, 2)->program;
  const auto task_of = [&](const std::string& stage) -> program::Task& {
    for (program::Task& task : program.lists[0]) {
      if (program.stages[task.stage].name == stage) return task;
    }
    throw std::runtime_error(stage);
  };
  program::Task& head = task_of("lm_head");
  ASSERT_EQ(head.first_block, task_of("draft.lm_head").first_block);
  ASSERT_TRUE(program::verify(program));
  head.row_begin += 16;
  const auto report = program::verify(program);
  ASSERT_FALSE(report);
  EXPECT_NE(
      report.error().message.find("tiles of 'draft.lm_head' and 'lm_head' share weight block"),
      std::string::npos)
      << report.error().message;
}

TEST(DrafterPlan, NamesWhatDoesNotFit) {
  plan::PlanOptions drafting;
  drafting.is_drafting = true;
  Planned other;
  other.drafter.hidden_size = 512;
  other.expect_error(ErrorCode::kUnsupported,
                     "drafts for a model of 4 layers with hidden_size 512");
  Planned vocabulary;
  vocabulary.drafter.vocab_size = 257;
  vocabulary.expect_error(ErrorCode::kUnsupported, "has a vocabulary of 257 tokens");
  Planned selector;
  selector.drafter.vocab_size = 255;
  selector.drafter.selector.rank = 4;
  selector.expect_error(ErrorCode::kUnsupported, "its selector is for 255 tokens");
  Planned taps;
  taps.drafter.target_layer_ids.assign(9, 0);
  taps.expect_error(ErrorCode::kUnsupported, "taps 9 layers of the target, at most 8");
  Planned mask;
  mask.drafter.mask_token_id = 256;
  mask.drafter.has_mask_embedding = false;
  mask.expect_error(ErrorCode::kUnsupported, "mask_token_id 256 is outside the 256 rows");

  drafting.drafter = nullptr;
  const Planned without;
  const auto plan = plan::make_plan(
      without.target,
      [&](const auto& source) { return model::expected_shape(without.target, source); },
      cpu::cpu_limits(2), drafting);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().message, "a program cannot draft without a drafter");
}

}  // namespace
}  // namespace ultraspeed::test
