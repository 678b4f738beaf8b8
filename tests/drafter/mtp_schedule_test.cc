// Programs with MTP heads: the same bits whoever computes what when; steps of several sequences;
// what planner, loader and executor refuse.
#include <gtest/gtest.h>

#include <span>

#include "base/check.h"
#include "cpu/executor.h"
#include "drafter/same_bits.h"
#include "plan/plan.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27};
constexpr uint32_t kNumHeads = 3;

class MtpScheduleTest : public testing::Test {
 protected:
  void SetUp() override {
    GeneratorOptions options;
    options.intermediate_size = 512;  // splits over two ranks
    options.num_mtp_layers = kNumHeads;
    US_CHECK(write_checkpoint(model_.path(), options).has_value());
  }

  ModelRunner open(RunnerOptions options) {
    options.has_mtp = true;
    auto runner = ModelRunner::open(model_.path(), options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return std::move(*runner);
  }

  // Columns [begin, end) of a prompt, whose last token wants logits.
  static std::vector<program::Column> columns_of(std::span<const int32_t> tokens, uint32_t begin,
                                                 uint32_t end, uint32_t sequence = 0) {
    std::vector<program::Column> columns(end - begin);
    for (uint32_t i = begin; i < end; ++i) {
      columns[i - begin].token_id = tokens[i];
      columns[i - begin].position = i;
      columns[i - begin].sequence = sequence;
    }
    columns.back().wants_logits = end == tokens.size();
    columns.back().next_tokens = tokens.subspan(end);
    return columns;
  }

  // An anchor and what was proposed to follow it, at a sequence's end.
  static std::vector<program::Column> block_of(int32_t anchor, std::span<const int32_t> proposed,
                                               uint32_t position, uint32_t sequence = 0) {
    std::vector<program::Column> columns(1 + proposed.size());
    for (uint32_t i = 0; i < columns.size(); ++i) {
      columns[i].token_id = i == 0 ? anchor : proposed[i - 1];
      columns[i].position = position + i;
      columns[i].sequence = sequence;
      columns[i].wants_logits = true;
    }
    return columns;
  }

  // A prompt in chunks of 6, then cycles whose target agrees with 0, 1, 2, ... drafts.
  static Result<std::vector<Cycle>> decode(ModelRunner* runner, uint32_t num_cycles) {
    Cycle last;
    for (uint32_t begin = 0; begin < kPrompt.size(); begin += 6) {
      const auto end = std::min<uint32_t>(begin + 6, static_cast<uint32_t>(kPrompt.size()));
      US_ASSIGN(const auto output, runner->step(columns_of(kPrompt, begin, end)));
      last = cycle_of(std::span(output.columns).last(1));
    }
    std::vector<Cycle> cycles = {last};
    auto length = static_cast<uint32_t>(kPrompt.size());
    for (uint32_t i = 0; i < num_cycles; ++i) {
      auto columns = block_of(last.sampled[last.accepted], last.proposed, length);
      for (uint32_t at = 0; at < i % (kNumHeads + 1); ++at) {
        columns[at].sampling.forced_token_id = columns[at + 1].token_id;
      }
      US_ASSIGN(const auto output, runner->step(columns));
      last = cycle_of(output.columns);
      cycles.push_back(last);
      length += last.accepted + 1;
    }
    return cycles;
  }

  const TemporaryDirectory model_;
};

TEST_F(MtpScheduleTest, WidthsWorkersAndRanksGiveTheSameBits) {
  expect_same_bits_for_every_cut([&](const RunnerOptions& options) { return open(options); },
                                 [](ModelRunner* runner) {
                                   auto cycles = decode(runner, 5);
                                   if (cycles) {
                                     EXPECT_EQ(cycles->back().proposed.size(), kNumHeads);
                                   }
                                   return cycles;
                                 });
}

TEST_F(MtpScheduleTest, RandomOrdersOverPoisonGiveTheSameBits) {
  expect_same_bits_in_random_orders(
      12, [&](const RunnerOptions& options) { return open(options); },
      [](ModelRunner* runner) { return decode(runner, 3); });  // six steps
}

TEST_F(MtpScheduleTest, TheHeadsTakeAPartOfTheTime) {
  ModelRunner runner = open({});
  const auto output = runner.step(columns_of(kPrompt, 0, 6));
  ASSERT_TRUE(output) << output.error().message;
  EXPECT_GT(output->draft_s, 0);
}

// A prompt's chunk, a block, and a single column in one step.
TEST_F(MtpScheduleTest, SequencesInCompanyProposeAsAlone) {
  RunnerOptions options;
  options.num_sequences = 3;
  options.width = 16;
  ModelRunner runner = open(options);
  const std::span<const int32_t> prompt(kPrompt);
  const std::vector<int32_t> drafts = {9, 8, 7};
  std::vector<std::vector<program::Column>> steps = {
      columns_of(prompt, 4, 9, 0), block_of(5, drafts, 6, 1), block_of(6, {}, 3, 2)};
  std::vector<Cycle> alone;
  std::vector<program::Column> company;
  for (uint32_t sequence = 0; sequence < 3; ++sequence) {
    const uint32_t length = steps[sequence][0].position;
    ASSERT_TRUE(runner.step(columns_of(prompt, 0, length, sequence)));
    const auto output = runner.step(steps[sequence]);
    ASSERT_TRUE(output) << output.error().message;
    alone.push_back(cycle_of(output->columns));
    company.insert(company.end(), steps[sequence].begin(), steps[sequence].end());
  }
  EXPECT_EQ(alone[0].proposed.size(), 0u);
  EXPECT_EQ(alone[1].proposed.size(), kNumHeads);
  const auto together = runner.step(company);
  ASSERT_TRUE(together) << together.error().message;
  expect_same_in_company(*together, alone);
}

TEST_F(MtpScheduleTest, RefusesColumnsWithoutTheTokensAfterThem) {
  ModelRunner runner = open({});
  const auto error = [&](const std::vector<program::Column>& columns) {
    const auto output = runner.step(columns);
    EXPECT_FALSE(output);
    return output ? "" : output.error().message;
  };
  auto columns = columns_of(kPrompt, 0, 6);
  columns.back().next_tokens = std::span(kPrompt).first(2);
  EXPECT_EQ(error(columns),
            "column 5 ends sequence 0 without logits; expected the 3 tokens after it for as many "
            "MTP heads, not 2");
  columns = columns_of(kPrompt, 0, 6);
  columns[5].position = 6;
  EXPECT_EQ(error(columns), "column 5 is at position 6 after 4; expected no gap before MTP heads");
}

// --- Planning ---

struct Planned {
  model::ModelConfig target, heads;

  Planned() {
    target = model::ModelConfig::parse("config.json", config_json(eight_rank_options())).value();
    heads = target.mtp_stack(kNumHeads).value();
  }

  Result<plan::Plan> plan(plan::PlanOptions options, uint32_t workers) const {
    options.mtp = &heads;
    options.max_context = 4096;
    const auto shape_of = [&](const model::WeightSource& source) {
      return model::expected_shape(source.stack == heads.stack ? heads : target, source);
    };
    return plan::make_plan(target, shape_of, cpu::cpu_limits(workers), options);
  }
};

TEST(MtpPlan, VerifiesInManyShapes) {
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    for (const uint32_t workers : {1u, 3u, 16u, 132u}) {
      plan::PlanOptions options;
      options.num_ranks = ranks;
      const auto plan = Planned().plan(options, workers);
      ASSERT_TRUE(plan) << plan.error().message;
      const auto report = program::verify(plan->program);
      EXPECT_TRUE(report) << report.error().message;
    }
  }
}

TEST(MtpPlan, ProgramsShareWeightsBlocksAndCaches) {
  const Planned planned;
  const auto decode = planned.plan({}, 5);
  const auto prefill = planned.plan({.width = 64}, 5);
  ASSERT_TRUE(decode && prefill);
  EXPECT_EQ(decode->sources, prefill->sources);
  EXPECT_EQ(decode->program.caches.size(), 4u + kNumHeads);
  EXPECT_EQ(decode->program.num_mtp_heads(), kNumHeads);
  EXPECT_FALSE(decode->program.is_drafting());
  EXPECT_EQ(decode->program.num_weight_blocks, prefill->program.num_weight_blocks);
  for (size_t id = 0; id < decode->program.weights.size(); ++id) {
    const program::WeightDecl& a = decode->program.weights[id];
    EXPECT_EQ(a.first_block, prefill->program.weights[id].first_block) << a.name;
  }
}

TEST(MtpPlan, NamesWhatDoesNotFit) {
  Planned many;
  many.heads = many.target.mtp_stack(9).value();
  const auto plan = many.plan({}, 2);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().message, "config.json: 9 MTP layers, at most 8 are supported");

  GeneratorOptions full;
  full.sliding_layers = {0, 0, 0, 0};
  const auto stack = model::ModelConfig::parse("config.json", config_json(full))->mtp_stack(1);
  ASSERT_FALSE(stack);
  EXPECT_EQ(stack.error().message,
            "config.json: no sliding layers, whose heads and window MTP layers have");
}

}  // namespace
}  // namespace ultraspeed::test
