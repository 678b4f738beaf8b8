// What the engine's MTP heads propose, step after step, for prompts in chunks, for packed, forked
// and penalised sessions, and after drafts of which some were wrong, is what the dense heads do;
// and no text changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cpu/executor.h"
#include "drafter/mtp_checker.h"
#include "engine/dense_sessions.h"
#include "engine/engine.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

constexpr uint32_t kNumHeads = 3;
constexpr double kTolerance = 1e-4;  // relative to the largest logit

GeneratorOptions model_options(model::QkvLayout layout) {
  GeneratorOptions options;
  options.qkv_layout = layout;
  options.num_mtp_layers = kNumHeads;
  return options;
}

Tokens prompt_of(uint32_t size) {
  Tokens prompt;
  for (uint32_t i = 0; i < size; ++i) {
    prompt.push_back(static_cast<int32_t>((size * 31 + i * 37 + i / 7) % 256));
  }
  return prompt;
}

// A random checkpoint, and engines that run it with and without its MTP layers.
class MtpModel {
 public:
  explicit MtpModel(model::QkvLayout layout) : options_(model_options(layout)) {
    auto written = write_checkpoint(directory_.path(), options_);
    US_CHECK(written.has_value());
    weights_ = std::move(*written);
  }

  GeneratedCheckpoint& weights() { return weights_; }
  const MtpChecker::Counts& counts() const { return counts_; }

  std::unique_ptr<engine::Engine> open(const MtpCheckerOptions& checker, uint32_t prefill_width) {
    counts_ = {};
    engine::EngineOptions options;
    options.drafter.kind = engine::DrafterKind::kMtp;
    options.block_size = kNumHeads + 1;
    options.prefill_width = prefill_width;
    return open(std::make_unique<MtpChecker>(checker, options_, dense_, &counts_), options);
  }

  std::unique_ptr<engine::Engine> open_without() {
    engine::EngineOptions options;
    options.prefill_width = 7;
    return open(cpu::make_cpu_executor({}), options);
  }

 private:
  std::unique_ptr<engine::Engine> open(std::unique_ptr<program::Executor> executor,
                                       engine::EngineOptions options) {
    const auto config = model::ModelConfig::load(directory_.path());
    const auto checkpoint = model::Checkpoint::open(directory_.path());
    options.max_context = 1200;
    options.decode_width = 11;  // fewer than three blocks and a fork's
    auto engine = engine::Engine::open(*config, *checkpoint, std::move(executor),
                                       cpu::cpu_limits(1), options, {});
    US_CHECK(engine.has_value(), "{}", engine.error().message);
    return std::move(*engine);
  }

  const GeneratorOptions options_;
  const TemporaryDirectory directory_;
  GeneratedCheckpoint weights_;
  const DenseMtp dense_{options_, weights_};
  MtpChecker::Counts counts_;
};

// The window of 8 moves over all of them.
std::vector<Tokens> generate(engine::Engine& engine,
                             engine::Acceptance acceptance = engine::Acceptance::kKeyed) {
  return test::generate(engine, std::vector<Tokens>{prompt_of(5), prompt_of(15), prompt_of(25)},
                        acceptance);
}

class MtpDense : public testing::TestWithParam<model::QkvLayout> {
 protected:
  MtpModel model_{GetParam()};
};

TEST_P(MtpDense, SessionsProposeWhatTheDenseHeadsDo) {
  EXPECT_EQ(generate(*model_.open({}, 7)), generate(*model_.open_without()));
  EXPECT_GT(model_.counts().num_proposals, 3 * 40u);
  EXPECT_EQ(model_.counts().num_different, 0u);
  EXPECT_LT(model_.counts().largest_error, kTolerance);
}

TEST_P(MtpDense, WhateverTheTargetAccepts) {
  for (const Tokens& text : generate(*model_.open({.forces = true}, 9))) {
    EXPECT_EQ(text.size(), 16u);
  }
  EXPECT_GT(model_.counts().num_blocks, 12u);
  EXPECT_GT(model_.counts().num_accepted, model_.counts().num_blocks);
  EXPECT_GT(model_.counts().num_partial, 4u);
  EXPECT_EQ(model_.counts().num_different, 0u);
  EXPECT_LT(model_.counts().largest_error, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, MtpDense,
                         testing::Values(model::QkvLayout::kSplit, model::QkvLayout::kFused));

TEST(MtpDenseRejection, DrawsFromWhatTheDenseHeadsSay) {
  MtpModel model(model::QkvLayout::kSplit);
  const auto texts = generate(*model.open({}, 7), engine::Acceptance::kRejection);
  EXPECT_NE(texts, generate(*model.open_without()));
  EXPECT_GT(model.counts().num_proposals, 3 * 25u);
  EXPECT_EQ(model.counts().num_different, 0u);
  EXPECT_GT(model.counts().num_accepted, 0u);
  EXPECT_LT(model.counts().largest_error, kTolerance);
}

// A prompt's last chunk is never shorter than the heads look ahead, whatever the widths; the rings
// have 1024 positions.
TEST(MtpDensePrompt, ChunksOfAnyLengthAndRingsThatWrap) {
  MtpModel model(model::QkvLayout::kSplit);
  for (const uint32_t width : {3u, 4u, 8u, 64u}) {
    const auto engine = model.open({.forces = true}, width);
    engine::GenerationParams params = params_of(0);
    params.max_tokens = 8;
    for (uint32_t size = 1; size < 14; ++size) {
      EXPECT_TRUE(engine->start(prompt_of(width == 64 ? 1020 + size : size), params));
      std::vector<engine::StepEvent> events;
      while (!engine->idle()) ASSERT_TRUE(engine->step(&events));
      if (width == 64) break;
    }
    EXPECT_EQ(model.counts().num_different, 0u) << width;
    EXPECT_LT(model.counts().largest_error, kTolerance) << width;
  }
}

// --- The comparison notices ---

class MtpNotices : public testing::Test {
 protected:
  void expect_noticed(const MtpCheckerOptions& options) {
    generate(*model_.open(options, 7));
    EXPECT_GT(model_.counts().num_different, model_.counts().num_proposals / 4);
    EXPECT_GT(model_.counts().largest_error, 100 * kTolerance);
  }
  MtpModel model_{model::QkvLayout::kSplit};
};

TEST_F(MtpNotices, SwappedHalvesOfTheProjection) {
  for (auto& [name, weight] : model_.weights().mtp) {
    if (!name.ends_with("eh_proj.weight")) continue;
    for (uint32_t row = 0; row < weight.rows; ++row) {
      const auto begin = weight.values.begin() + ptrdiff_t{row} * weight.columns;
      std::rotate(begin, begin + weight.columns / 2, begin + weight.columns);
    }
  }
  expect_noticed({.forces = true});
}

TEST_F(MtpNotices, TokensOfTheWrongPosition) {
  expect_noticed({.forces = true, .token_shift = 1});
}

TEST_F(MtpNotices, TheNormalisedResidual) {
  const std::vector<float>& norm = model_.weights().at(model::TensorRole::kFinalNorm).values;
  generate(*model_.open({.damage =
                             [&](DenseMtp::Row* row) {
                               for (size_t i = 0; i < row->hidden.size(); ++i) {
                                 row->hidden[i] *= static_cast<double>(norm[i]);
                               }
                             }},
                        7));
  EXPECT_GT(model_.counts().largest_error, 100 * kTolerance);
}

TEST_F(MtpNotices, OtherSinks) {
  for (auto& [name, weight] : model_.weights().mtp) {
    if (!name.ends_with("attention_sink_bias")) continue;
    for (float& sink : weight.values) sink = 0;
  }
  generate(*model_.open({}, 7));
  EXPECT_GT(model_.counts().largest_error, 10 * kTolerance);
}

}  // namespace
}  // namespace ultraspeed::test
