// Attention to caches of tiles, and what writes them, against the CPU's: widths, long contexts,
// sequences of one step, ranks, MTP heads, draft blocks.
#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "cuda/differential_fixture.h"

namespace ultraspeed::test {
namespace {

// On the model of tile_options().
class TilesTest : public DifferentialTest,
                  public testing::WithParamInterface<program::KvCacheType> {
 protected:
  void SetUp() override {
    DifferentialTest::SetUp();
    kv_cache_ = GetParam();
    if (!IsSkipped()) US_CHECK(write_checkpoint(model_.path(), tile_options()).has_value());
  }
  // Every attention and every QkvProj of the target had tiles.
  void expect_tiles() const {
    const auto stages = [&](Opcode opcode) {
      return report_.by_opcode[static_cast<size_t>(opcode)].num_stages;
    };
    EXPECT_GT(report_.caches.num_tile_stages, 0u);
    EXPECT_GE(report_.caches.num_tile_stages,
              stages(Opcode::kQkvProj) + stages(Opcode::kAttention));
  }
  static std::vector<int32_t> tokens_of(uint32_t count) {
    std::vector<int32_t> tokens;
    for (uint32_t i = 0; i < count; ++i) {
      tokens.push_back(static_cast<int32_t>((i * 37 + i / 7) % 256));
    }
    return tokens;
  }

  const TemporaryDirectory model_;
};

INSTANTIATE_TEST_SUITE_P(Types, TilesTest,
                         testing::Values(program::KvCacheType::kBf16, program::KvCacheType::kFp8),
                         [](const auto& type) {
                           return std::string(program::kv_cache_type_name(type.param));
                         });

// One split and several; steps of one group of 64 columns, and of two.
TEST_P(TilesTest, Widths) {
  for (const uint32_t width : {8u, 16u, 64u, 128u}) {
    RunnerOptions options;
    options.width = width;
    options.num_workers = width == 16 ? 1 : 132;
    ModelRunner runner = open(model_.path(), options);
    ASSERT_TRUE(runner.feed(tokens_of(width + width / 2 + 3), 4, 7)) << width;
  }
  expect_tiles();
}

// Several chunks, and rings that wrap.
TEST_P(TilesTest, LongContexts) {
  RunnerOptions options;
  options.width = 64;
  options.num_workers = 132;
  options.max_context = 1300;
  ModelRunner runner = open(model_.path(), options);
  ASSERT_TRUE(runner.feed(tokens_of(1150), 2, 3));
  expect_tiles();
}

// Sequences of different lengths in one step.
TEST_P(TilesTest, PackedSequences) {
  RunnerOptions options;
  options.width = 64;
  options.num_workers = 132;
  options.num_sequences = 4;
  ModelRunner runner = open(model_.path(), options);
  std::array<uint32_t, 4> lengths = {};
  for (const std::array<uint32_t, 4>& counts :
       {std::array<uint32_t, 4>{60, 1, 0, 3}, {40, 20, 4, 0}, {8, 8, 8, 8}, {1, 1, 1, 1}}) {
    std::vector<program::Column> columns;
    for (const uint32_t sequence : {2u, 0u, 3u, 1u}) {
      for (uint32_t i = 0; i < counts[sequence]; ++i) {
        program::Column& column = columns.emplace_back();
        column.token_id = static_cast<int32_t>((sequence * 50 + lengths[sequence] * 7) % 256);
        column.position = lengths[sequence]++;
        column.sequence = sequence;
        column.wants_logits = i + 1 == counts[sequence];
      }
    }
    const auto output = runner.step(columns);
    ASSERT_TRUE(output) << output.error().message;
  }
  expect_tiles();
}

// Blocks of two sequences in one step, of drafters in MiMo's form, whose blocks see all of
// themselves, and in others': causal, with windows short and long, with all positions.
TEST_P(TilesTest, DraftBlocks) {
  std::vector<DrafterOptions> forms(4);
  forms[1].sliding_window = 200;
  forms[2].is_mimo = false;
  forms[2].layer_types = {"sliding_attention", "full_attention", "full_attention"};
  forms[3] = forms[2];
  forms[3].is_causal = false;
  uint64_t least = 0;
  for (const DrafterOptions& form : forms) {
    const TemporaryDirectory drafter;
    US_CHECK(write_drafter(drafter.path(), form).has_value());
    RunnerOptions options;
    options.drafter = drafter.path();
    options.width = 32;
    options.num_sequences = 2;
    options.max_context = 1100;
    ModelRunner runner = open(model_.path(), options);
    std::array<uint32_t, 2> lengths = {};
    // Contexts, longer than the first form's window, then blocks.
    for (const std::array<uint32_t, 2>& counts :
         {std::array<uint32_t, 2>{27, 5}, {8, 3}, {2, 8}, {8, 8}}) {
      const bool drafts = lengths[0] > 0;
      std::vector<program::Column> columns;
      for (uint32_t sequence = 0; sequence < 2; ++sequence) {
        for (uint32_t i = 0; i < counts[sequence]; ++i) {
          program::Column& column = columns.emplace_back();
          column.token_id = static_cast<int32_t>((sequence * 50 + lengths[sequence] * 7 + i) % 256);
          column.is_drafted = drafts && i > 0;
          column.position = lengths[sequence] + i;
          column.sequence = sequence;
          column.wants_logits = drafts;
        }
        lengths[sequence] += drafts ? 1 : counts[sequence];
      }
      const auto output = runner.step(columns);
      ASSERT_TRUE(output) << output.error().message;
    }
    least += 4 * (4 + 3 + 4 + 3);  // steps; attention, and rows for the caches, of both stacks
  }
  EXPECT_GE(report_.caches.num_tile_stages, least);
}

// Ranks have a kv head each; MTP heads have rings of their own.
TEST_P(TilesTest, RanksHeadsAndDrafters) {
  GeneratorOptions generator = tile_options();
  generator.num_mtp_layers = 2;
  RunnerOptions options;
  options.has_mtp = true;
  run(generator, options);
  expect_tiles();
  generator = tile_options();
  generator.intermediate_size = 512;
  generator.num_q_heads = 32;
  generator.num_kv_heads = 2;
  options = {};
  options.num_ranks = 2;
  run(generator, options);
  const TemporaryDirectory drafter;
  US_CHECK(write_drafter(drafter.path(), {}).has_value());
  options = {};
  options.drafter = drafter.path();
  options.width = 16;
  ModelRunner drafting = open(model_.path(), options);
  ASSERT_TRUE(drafting.feed(std::span(kPrompt).first(kPrompt.size() - 1), 0, 0));
  const auto output = drafting.step(drafting.draft_block(kPrompt.back(), 8));
  ASSERT_TRUE(output) << output.error().message;
}

}  // namespace
}  // namespace ultraspeed::test
