// Every operation on the GPU against the CPU's, from the same activations: formats of weights,
// ranks, tiles, widths, long contexts, both forms of drafter, MTP heads, sampling parameters.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "cuda/differential_fixture.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/model_runner.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

class RoundedTest : public DifferentialTest,
                    public testing::WithParamInterface<program::Activations> {
 protected:
  void SetUp() override {
    DifferentialTest::SetUp();
    activations_ = GetParam();
  }
};

INSTANTIATE_TEST_SUITE_P(Modes, RoundedTest,
                         testing::Values(program::Activations::kW4a16, program::Activations::kW4a8),
                         [](const auto& mode) {
                           return std::string(program::activations_name(mode.param));
                         });

// Steps of one and of two groups of 64 columns.
TEST_P(RoundedTest, BundledModel) {
  for (const uint32_t width : {8u, 64u, 128u}) {
    RunnerOptions options;
    options.width = width;
    options.num_workers = 132;
    ModelRunner runner = open(US_SOURCE_DIR "/models/tiny-mimo", options);
    std::vector<int32_t> tokens = kPrompt;
    while (tokens.size() < width * 3 / 4) tokens.push_back(tokens.back() * 7 % 1000 + 20);
    ASSERT_TRUE(runner.feed(tokens, 4, 20)) << width;
  }
}

TEST_P(RoundedTest, FormatsOfWeights) {
  run_formats();
}

TEST_P(RoundedTest, Families) {
  run_families();
}

// What other families have, in the kernels of pages and of any shape: a router of softmax scores,
// biases of sums, a clamp.
TEST_P(RoundedTest, ChangedArithmetic) {
  run_changed(US_SOURCE_DIR "/models/tiny-mimo");
}

// Experts that are filled up, in K-chunks of more than a page.
TEST_P(RoundedTest, FilledUpExperts) {
  const TemporaryDirectory directory;
  GeneratorOptions generator;
  generator.hidden_size = 2624;
  generator.moe_intermediate_size = 2112;
  generator.num_experts = 5;
  generator.num_experts_per_token = 2;
  generator.sliding_layers = generator.moe_layers = {1};
  US_CHECK(write_checkpoint(directory.path(), generator).has_value());
  run_changed(directory.path());
}

// The same of FP8 experts: K-chunks that share pages, some of which have none, and of two pages.
TEST_P(RoundedTest, FilledUpFp8Experts) {
  for (const uint32_t intermediate : {768u, 2560u}) {
    GeneratorOptions generator;
    generator.expert_format = WeightFormat::kFp8Block128;
    generator.hidden_size = 1024;
    generator.moe_intermediate_size = intermediate;
    generator.sliding_layers = generator.moe_layers = {0, 1};
    run(generator, {});
  }
}

TEST_P(RoundedTest, DraftersAndHeads) {
  kv_cache_ = program::KvCacheType::kBf16;
  GeneratorOptions generator;
  generator.num_mtp_layers = 3;
  RunnerOptions options;
  options.has_mtp = true;
  run(generator, options);
  run_draft_block();
  run_draft_block(32);
}

TEST_F(DifferentialTest, Families) {
  run_families();
}

TEST_F(DifferentialTest, ChangedArithmetic) {
  run_changed(US_SOURCE_DIR "/models/tiny-mimo");
}

// 2 and 4 kv heads, rings that wrap, the rows of draft blocks.
TEST_F(DifferentialTest, KvCacheTypes) {
  for (const program::KvCacheType type :
       {program::KvCacheType::kBf16, program::KvCacheType::kFp8}) {
    kv_cache_ = type;
    RunnerOptions options;
    options.width = 64;
    options.num_workers = 132;
    ModelRunner runner = open(US_SOURCE_DIR "/models/tiny-mimo", options);
    ASSERT_TRUE(runner.feed(kPrompt, 4, 20));
    run_draft_block();
  }
}

// In f32 nothing is tiled.
TEST_F(DifferentialTest, ExactCachesKeepRows) {
  run(tile_options(), {});
  EXPECT_EQ(report_.caches.num_tile_stages, 0u);
}

TEST_F(DifferentialTest, BundledModel) {
  for (const uint32_t width : {1u, 8u, 64u}) {
    RunnerOptions options;
    options.width = width;
    options.num_workers = 132;
    ModelRunner runner = open(US_SOURCE_DIR "/models/tiny-mimo", options);
    ASSERT_TRUE(runner.feed(kPrompt, 4, 20)) << width;
  }
}

TEST_F(DifferentialTest, FormatsOfWeights) {
  run_formats();
}

TEST_F(DifferentialTest, RanksAndTiles) {
  GeneratorOptions generator;
  generator.intermediate_size = 512;  // splits over two ranks
  for (const uint32_t ranks : {1u, 2u}) {
    for (const uint32_t workers : {1u, 5u, 132u}) {
      RunnerOptions options;
      options.num_ranks = ranks;
      options.num_workers = workers;
      run(generator, options);
    }
  }
}

// Several attention chunks, with one split and with several.
TEST_F(DifferentialTest, LongContexts) {
  const TemporaryDirectory directory;
  US_CHECK(write_checkpoint(directory.path(), {}).has_value());
  std::vector<int32_t> tokens;
  for (int i = 0; i < 1050; ++i) tokens.push_back((i * 37 + i / 7) % 256);
  for (const uint32_t workers : {1u, 12u}) {
    RunnerOptions options;
    options.num_workers = workers;
    options.width = 256;
    options.max_context = 1100;
    ModelRunner runner = open(directory.path(), options);
    ASSERT_TRUE(runner.feed(tokens, 2, 3));
  }
}

TEST_F(DifferentialTest, DraftersOfBothForms) {
  const TemporaryDirectory target;
  US_CHECK(write_checkpoint(target.path(), {}).has_value());
  for (const bool is_mimo : {true, false}) {
    DrafterOptions drafter;
    drafter.is_mimo = is_mimo;
    if (!is_mimo) drafter.layer_types = {"sliding_attention", "full_attention", "full_attention"};
    const TemporaryDirectory directory;
    US_CHECK(write_drafter(directory.path(), drafter).has_value());
    RunnerOptions options;
    options.max_context = 1100;
    options.drafter = directory.path();
    options.width = 16;
    ModelRunner runner = open(target.path(), options);
    ASSERT_TRUE(runner.feed(std::span(kPrompt).first(kPrompt.size() - 1), 0, 0));
    for (int cycle = 0; cycle < 3; ++cycle) {
      const auto output = runner.step(runner.draft_block(kPrompt.back(), 8));
      ASSERT_TRUE(output) << output.error().message;
      runner.set_length(runner.length() + output->columns[0].accepted + 1);
    }
  }
}

// Ranks that quads of numbers divide, and not; blocks of several sequences that are longer than the
// columns scored at a time; and nominees of 12288 tokens, some of them drawn.
TEST_F(DifferentialTest, Selectors) {
  for (const uint32_t rank : {6u, 32u, 128u}) {
    const TemporaryDirectory directory;
    DrafterOptions drafter = tiny_mimo_drafter();
    drafter.selector_rank = rank;
    US_CHECK(write_drafter(directory.path(), drafter).has_value());
    RunnerOptions options;
    options.drafter = directory.path();
    options.width = 32;
    options.num_sequences = 3;
    ModelRunner runner = open(US_SOURCE_DIR "/models/tiny-mimo", options);
    for (int32_t cycle = 0; cycle < 3; ++cycle) {
      std::vector<program::Column> columns;
      for (uint32_t sequence = 0; sequence < 3; ++sequence) {
        const uint32_t num_rows = sequence == 1 ? 1 : 12 - 3 * sequence;
        for (program::Column& column : runner.draft_block(100 * cycle + 7, num_rows)) {
          column.sequence = sequence;
          column.sampling.seed = 1000 + columns.size();
          column.sampling.temperature = cycle == 0 ? 0.0F : 3.0F;
          column.sampling.draws_draft = cycle == 2 && columns.size() % 3 == 0;
          columns.push_back(column);
        }
      }
      const auto output = runner.step(columns);
      ASSERT_TRUE(output) << output.error().message;
      runner.set_length(runner.length() + 1);
    }
  }
}

// Drafts that are drawn, each with parameters of its own, of the bundled model: at high
// temperatures p and q are near each other and most are accepted, at low ones most are not.
TEST_F(DifferentialTest, DrawnDrafts) {
  const TemporaryDirectory directory;
  US_CHECK(write_drafter(directory.path(), tiny_mimo_drafter()).has_value());
  RunnerOptions options;
  options.drafter = directory.path();
  ModelRunner runner = open(US_SOURCE_DIR "/models/tiny-mimo", options);
  ASSERT_TRUE(runner.feed(kPrompt, 0, 0));
  const std::vector<program::LogitAdjustment> adjustments = {{5, 1.3F, 0}, {300, 1, 4}};
  const std::vector<uint64_t> mask(program::token_mask_words(12288), 0x7777777777777777u);
  uint32_t num_accepted = 0, num_drafts = 0;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    std::vector<program::Column> columns = runner.draft_block(static_cast<int32_t>(seed), 8);
    for (uint32_t t = 0; t < 8; ++t) {
      program::ColumnSampling& sampling = columns[t].sampling;
      const auto turn = static_cast<uint32_t>(seed + t);
      sampling.seed = 1000 * seed + t;
      sampling.draws_draft = turn % 7 != 6;
      sampling.temperature = std::array{0.8F, 40.0F, 4.0F, 100.0F, 0.0F}[turn % 5];
      if (turn % 3 == 1) sampling.top_k = 1 + 29 * turn;
      if (turn % 4 == 2) sampling.top_p = 0.6F + 0.05F * static_cast<float>(t);
      if (turn % 6 == 3) sampling.min_p = 0.03F;
      if (turn % 8 == 5) sampling.adjustments = adjustments;
      if (turn % 9 == 4) sampling.allowed = mask;
      if (turn % 11 == 7) sampling.proposed_token_id = 77;
      if (turn % 13 == 8) sampling.forced_token_id = 78;
    }
    const auto output = runner.step(columns);
    ASSERT_TRUE(output) << output.error().message;
    for (uint32_t t = 0; t < 7; ++t) {
      num_accepted += output->columns[t].token_id == output->columns[t + 1].drafted_id ? 1 : 0;
      ++num_drafts;
    }
  }
  EXPECT_GT(num_accepted, num_drafts / 10);
  EXPECT_LT(num_accepted, num_drafts / 2);
}

TEST_F(DifferentialTest, MtpHeads) {
  const TemporaryDirectory directory;
  ModelRunner runner = open_with_heads(directory);
  ASSERT_TRUE(runner.feed(kPrompt, 3, 2));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(runner.feed(kPrompt, 2, 2));
}

// Proposals that heads draw, and the next step verifies by what they were drawn from: with the same
// parameters, so four cycles of each.
TEST_F(DifferentialTest, DrawnProposals) {
  const TemporaryDirectory directory;
  ModelRunner runner = open_with_heads(directory);
  ASSERT_TRUE(runner.feed(kPrompt, 1, 0));
  int32_t anchor = 9;
  program::ColumnOutput before;
  uint32_t num_accepted = 0;
  for (uint64_t cycle = 0; cycle < 12; ++cycle) {
    const uint64_t filter = cycle / 4;
    if (cycle % 4 == 0) before = {};
    std::vector<program::Column> columns(1 + before.proposed_ids.size());
    for (uint32_t t = 0; t < columns.size(); ++t) {
      columns[t].token_id = t == 0 ? anchor : before.proposed_ids[t - 1];
      columns[t].position = runner.length() + t;
      columns[t].wants_logits = true;
      program::ColumnSampling& sampling = columns[t].sampling;
      sampling.temperature = 15;
      sampling.top_k = filter == 1 ? 100u : 0u;
      sampling.top_p = filter == 2 ? 0.8F : 1.0F;
      sampling.seed = 5;
      sampling.draws_draft = true;
      if (t + 1 == columns.size()) continue;
      sampling.proposed_token_id = before.proposed_ids[t];
      sampling.proposed_logits = before.proposed_logits[t];
    }
    auto output = runner.step(columns);
    ASSERT_TRUE(output) << output.error().message;
    before = std::move(output->columns[0]);
    ASSERT_EQ(before.proposed_logits.size(), 3u);
    num_accepted += before.accepted;
    anchor = before.accepted == 0 ? before.token_id : output->columns[before.accepted].token_id;
    runner.set_length(runner.length() + before.accepted + 1);
  }
  EXPECT_GT(num_accepted, 3u);
}

// Columns of one step, each with parameters of its own.
TEST_F(DifferentialTest, SamplingParameters) {
  RunnerOptions options;
  options.width = 32;
  ModelRunner runner = open(US_SOURCE_DIR "/models/tiny-mimo", options);
  ASSERT_TRUE(runner.feed(kPrompt, 0, 0));
  constexpr size_t kVocab = 12288;
  const std::vector<program::LogitAdjustment> adjustments = {
      {5, 1.3F, 0}, {17, 1, 4.5F}, {300, 2, -1}, {12287, 1, 3}};
  std::vector<uint64_t> mask(program::token_mask_words(kVocab), 0x5555555555555555u);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    std::vector<program::Column> columns(24);
    for (uint32_t t = 0; t < columns.size(); ++t) {
      program::Column& column = columns[t];
      column.token_id = static_cast<int32_t>(17 * t + seed);
      column.position = runner.length() + t;
      column.wants_logits = t % 7 != 6;
      program::ColumnSampling& sampling = column.sampling;
      sampling.seed = 1000 * seed + t;
      sampling.temperature = std::array{0.0F, 0.7F, 1.0F, 2.5F}[t % 4];
      if (t % 3 == 1) sampling.top_k = 1 + 13 * (t + static_cast<uint32_t>(seed));
      if (t % 5 >= 2) sampling.top_p = 0.6F + 0.08F * static_cast<float>(t % 5);
      if (t % 6 == 3) sampling.min_p = 0.05F;
      if (t % 8 == 5) sampling.proposed_token_id = static_cast<int32_t>(100 + t);
      if (t == 11) sampling.forced_token_id = 77;
      if (t % 4 == 2) sampling.adjustments = adjustments;
      if (t % 9 == 4) sampling.allowed = mask;
      sampling.num_logprobs = t % 3 == 0 ? 20 : 0;
    }
    const auto output = runner.step(columns);
    ASSERT_TRUE(output) << output.error().message;
  }
}

}  // namespace
}  // namespace ultraspeed::test
