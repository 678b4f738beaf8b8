// What the engine has the program draft, cycle after cycle, for packed, forked and penalised
// sessions, is what the dense drafter drafts for their texts; and no text changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cpu/executor.h"
#include "cpu/ops/sample.h"
#include "drafter/dense_drafter.h"
#include "drafter/kept_taps.h"
#include "engine/dense_sessions.h"
#include "engine/engine.h"
#include "model/drafter.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

struct Counts {
  uint32_t num_blocks = 0, num_accepted = 0;
};

// Runs a target with its drafter, keeps the taps of every sequence, and compares every drafted
// token with the dense drafter's. `forces`: each block runs a second time, with a target that is
// made to agree with another number of drafts.
class DenseChecker final : public program::Executor {
 public:
  DenseChecker(const DrafterOptions& options, const DenseDrafter& dense, bool forces,
               Counts* counts)
      : options_(options),
        dense_(dense),
        forces_(forces),
        counts_(counts),
        inner_(make_stage_executor([this](const std::string& stage, StageValues* values) {
          keep_taps(
              options_, stage, values, columns_,
              [this](const program::Column& column) -> Rows& { return taps_[column.sequence]; });
        })) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return inner_->load(std::move(programs), limits, read_weight);
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    columns_.assign(input.columns.begin(), input.columns.end());
    US_TRY(inner_->run(index, input, output));
    bool has_blocks = false;
    for (size_t begin = 0, end = 0; begin < columns_.size(); begin = end) {
      end = begin + 1;
      while (end < columns_.size() && columns_[end].sequence == columns_[begin].sequence) ++end;
      if (end - begin == 1 || !columns_[begin + 1].is_drafted) continue;
      check_block(begin, end, *output);
      force(begin, end, *output);
      has_blocks = true;
    }
    if (has_blocks && forces_) {
      US_TRY(inner_->run(index, {columns_, input.page_tables}, output));
    }
    for (const program::ColumnOutput& column : output->columns) {
      counts_->num_accepted += column.accepted;
    }
    return {};
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    taps_[copy.to_sequence] = taps_[copy.from_sequence];
    return inner_->copy_cache(copy);
  }

 private:
  // The rows before the anchor are those of accepted tokens: wrong ones have been overwritten.
  void check_block(size_t begin, size_t end, const program::StepOutput& output) {
    const program::Column& anchor = columns_[begin];
    const Rows& taps = taps_[anchor.sequence];
    const Rows context(taps.begin(), taps.begin() + anchor.position);
    const auto num_rows = static_cast<uint32_t>(end - begin);
    const auto block = dense_.draft(context, static_cast<uint32_t>(anchor.token_id), num_rows);
    for (size_t row = 1; row < num_rows; ++row) {
      const program::Column& before = columns_[begin + row - 1];
      EXPECT_EQ(output.columns[begin + row].drafted_id, draft_of(block.logits[row], before))
          << "sequence " << anchor.sequence << ", anchor " << anchor.position << ", row " << row;
    }
    ++counts_->num_blocks;
  }

  // The likeliest token, or the one that is drawn with the parameters of the column before.
  static int32_t draft_of(const std::vector<double>& row, const program::Column& before) {
    const std::vector<float> logits(row.begin(), row.end());
    if (before.sampling.draws_draft) {
      return static_cast<int32_t>(cpu::draw_draft(logits, before.position, before.sampling));
    }
    return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  }

  // Makes the target choose the first drafts of a block, and then another token.
  void force(size_t begin, size_t end, const program::StepOutput& output) {
    const size_t num_accepted = counts_->num_blocks % (end - begin);
    for (size_t i = begin; i + 1 < end && i <= begin + num_accepted; ++i) {
      const int32_t draft = output.columns[i + 1].drafted_id;
      columns_[i].sampling.forced_token_id =
          i < begin + num_accepted ? draft
                                   : (draft + 1) % static_cast<int32_t>(options_.vocab_size);
    }
  }

  const DrafterOptions& options_;
  const DenseDrafter& dense_;
  const bool forces_;
  Counts* counts_;
  std::unique_ptr<program::Executor> inner_;
  std::vector<program::Column> columns_;
  std::map<uint32_t, Rows> taps_;  // [sequence][position]
};

class DflashDense : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    options_.is_mimo = GetParam();
    options_.sliding_window = GetParam() ? 12 : 5;
    if (!GetParam()) {
      options_.layer_types = {"sliding_attention", "full_attention", "sliding_attention"};
    }
    GeneratorOptions target;
    target.intermediate_size = 512;
    auto checkpoint = write_checkpoint(target_directory_.path(), target);
    auto drafter = write_drafter(drafter_directory_.path(), options_);
    US_CHECK(checkpoint.has_value() && drafter.has_value());
    target_ = std::move(*checkpoint);
    weights_ = std::move(*drafter);
    dense_.emplace(options_, weights_, target_.at(model::TensorRole::kEmbedding).values,
                   target_.at(model::TensorRole::kLmHead).values);
    auto opened = model::Drafter::open(drafter_directory_.path());
    US_CHECK(opened.has_value(), "{}", opened.error().message);
    drafter_.emplace(std::move(*opened));
  }

  std::unique_ptr<engine::Engine> open(uint32_t block_size, bool is_drafting) {
    const auto config = model::ModelConfig::load(target_directory_.path());
    const auto checkpoint = model::Checkpoint::open(target_directory_.path());
    engine::EngineOptions options;
    options.max_context = 256;
    options.decode_width = 20;
    options.prefill_width = 7;
    options.block_size = block_size;
    std::unique_ptr<program::Executor> executor = cpu::make_cpu_executor({});
    if (is_drafting) {
      options.drafter.kind = engine::DrafterKind::kDflash;
      options.dflash = &*drafter_;
      executor = std::make_unique<DenseChecker>(options_, *dense_, forces_, &counts_);
    }
    auto engine = engine::Engine::open(*config, *checkpoint, std::move(executor),
                                       cpu::cpu_limits(1), options, {});
    US_CHECK(engine.has_value(), "{}", engine.error().message);
    return std::move(*engine);
  }

  static std::vector<Tokens> generate(engine::Engine& engine,
                                      engine::Acceptance acceptance = engine::Acceptance::kKeyed) {
    return test::generate(engine, std::vector<Tokens>{prompt_of(5), prompt_of(12), prompt_of(19)},
                          acceptance);
  }

  DrafterOptions options_;
  Counts counts_;
  bool forces_ = false;

 private:
  static Tokens prompt_of(uint32_t size) {
    Tokens prompt;
    for (uint32_t i = 0; i < size; ++i) {
      prompt.push_back(static_cast<int32_t>((size * 31 + i * 37) % 256));
    }
    return prompt;
  }

  TemporaryDirectory target_directory_, drafter_directory_;
  GeneratedCheckpoint target_;
  GeneratedDrafter weights_;
  std::optional<DenseDrafter> dense_;
  std::optional<model::Drafter> drafter_;
};

TEST_P(DflashDense, SessionsDraftWhatTheDenseDrafterDoes) {
  EXPECT_EQ(generate(*open(8, true)), generate(*open(1, false)));
  EXPECT_GT(counts_.num_blocks, 30u);
}

TEST_P(DflashDense, WhateverTheTargetAccepts) {
  forces_ = true;
  for (const uint32_t block_size : {4u, 8u}) {
    counts_ = {};
    for (const Tokens& text : generate(*open(block_size, true))) EXPECT_EQ(text.size(), 16u);
    EXPECT_GT(counts_.num_blocks, 10u);
    EXPECT_GT(counts_.num_accepted, counts_.num_blocks);
  }
}

class DflashDenseRejection : public DflashDense {};

// Those with a penalty alone are drafted for by the host.
TEST_P(DflashDenseRejection, DrawsFromWhatTheDenseDrafterSays) {
  const auto texts = generate(*open(8, true), engine::Acceptance::kRejection);
  for (const Tokens& text : texts) EXPECT_EQ(text.size(), 16u);
  EXPECT_NE(texts, generate(*open(1, false)));
  EXPECT_GT(counts_.num_blocks, 20u);
  EXPECT_GT(counts_.num_accepted, 0u);
}

INSTANTIATE_TEST_SUITE_P(Forms, DflashDense, testing::Values(true, false));
INSTANTIATE_TEST_SUITE_P(MimoForm, DflashDenseRejection, testing::Values(true));

}  // namespace
}  // namespace ultraspeed::test
