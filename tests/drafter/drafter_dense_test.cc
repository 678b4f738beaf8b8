// The program's drafter, fed by a real target cycle after cycle, equals the dense one for both
// forms; a window that is off by one would show.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "base/check.h"
#include "drafter/dense_drafter.h"
#include "drafter/kept_taps.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/stage_executor.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

constexpr double kTolerance = 1e-4;  // relative to the largest value of a row
const std::vector<int32_t> kPrompt = {3,  141, 59, 26, 53, 58, 97, 93, 23,
                                      84, 62,  64, 33, 83, 27, 95, 2,  88};

DrafterOptions mimo_form() {
  return {};
}

DrafterOptions mixed_form() {
  DrafterOptions options;
  options.is_mimo = false;
  options.layer_types = {"sliding_attention", "full_attention", "sliding_attention"};
  options.sliding_window = 5;  // shorter than a block
  return options;
}

DrafterOptions bidirectional_form() {
  DrafterOptions options = mixed_form();
  options.is_causal = false;
  return options;
}

class Cycles {
 public:
  Cycles(const DrafterOptions& options, const std::function<void(model::DrafterConfig*)>& change)
      : options_(options) {
    GeneratorOptions target;
    target.intermediate_size = 512;
    auto generated = write_checkpoint(target_directory_.path(), target);
    auto drafter = write_drafter(drafter_directory_.path(), options);
    US_CHECK(generated.has_value() && drafter.has_value());
    target_ = std::move(*generated);
    drafter_ = std::move(*drafter);
    RunnerOptions runner;
    runner.width = 16;
    runner.max_context = 256;
    runner.drafter = drafter_directory_.path();
    runner.change_drafter = change;
    runner.make_executor = [this] {
      return make_stage_executor(
          [this](const std::string& stage, StageValues* values) { after_stage(stage, values); });
    };
    auto opened = ModelRunner::open(target_directory_.path(), runner);
    US_CHECK(opened.has_value(), "{}", opened.error().message);
    runner_.emplace(std::move(*opened));
  }

  // Prefills, then decodes: each cycle drafts a block and accepts another number of its rows.
  // Returns the largest relative difference of any block's hidden rows and logits.
  double run(uint32_t num_cycles) {
    prefill();
    const DenseDrafter dense(options_, drafter_, target_.at(model::TensorRole::kEmbedding).values,
                             target_.at(model::TensorRole::kLmHead).values);
    double largest = 0;
    int32_t anchor = kPrompt.back();
    for (uint32_t cycle = 0; cycle < num_cycles; ++cycle) {
      const uint32_t num_rows = cycle % 3 == 2 ? 5 : options_.block_size;
      const program::StepOutput output = step(runner_->draft_block(anchor, num_rows));
      const Rows context(taps_.begin(), taps_.begin() + runner_->length());
      const auto block = dense.draft(context, static_cast<uint32_t>(anchor), num_rows);
      largest = std::max(largest, difference(block));
      const std::vector<int32_t> tokens = dense.tokens(block, static_cast<uint32_t>(anchor));
      for (uint32_t row = 1; row < num_rows; ++row) {
        EXPECT_EQ(output.columns[row].drafted_id, tokens[row - 1]) << cycle;
        num_unlike_likeliest_ += tokens[row - 1] != argmax(block.logits[row]) ? 1 : 0;
      }
      anchor = accept(cycle % 4, output);
    }
    return largest;
  }

  // Of the drafted tokens.
  uint32_t num_unlike_likeliest() const { return num_unlike_likeliest_; }

 private:
  void prefill() {
    const auto count = static_cast<uint32_t>(kPrompt.size()) - 1;  // the last is the first anchor
    for (uint32_t begin = 0; begin < count; begin += 7) {
      std::vector<program::Column> columns;
      for (uint32_t i = begin; i < std::min(begin + 7, count); ++i) {
        columns.push_back({});
        columns.back().token_id = kPrompt[i];
        columns.back().position = i;
      }
      step(columns);
    }
    runner_->set_length(count);
  }

  // Runs the step again so that the target agrees with the first `count` drafts; returns the token
  // after them.
  int32_t accept(uint32_t count, const program::StepOutput& drafted) {
    auto columns =
        runner_->draft_block(columns_[0].token_id, static_cast<uint32_t>(drafted.columns.size()));
    for (uint32_t i = 0; i < count; ++i) {
      columns[i].sampling.forced_token_id = drafted.columns[i + 1].drafted_id;
    }
    const int32_t other = (drafted.columns[count + 1].drafted_id + 1) % 256;
    columns[count].sampling.forced_token_id = other;
    const program::StepOutput output = step(columns);
    EXPECT_EQ(output.columns[0].accepted, count);
    runner_->set_length(runner_->length() + count + 1);
    return other;
  }

  program::StepOutput step(const std::vector<program::Column>& columns) {
    columns_ = columns;
    auto output = runner_->step(columns);
    US_CHECK(output.has_value(), "{}", output.error().message);
    return std::move(*output);
  }

  void after_stage(const std::string& stage, StageValues* values) {
    keep_taps(options_, stage, values, columns_,
              [this](const program::Column&) -> Rows& { return taps_; });
    if (stage != "draft.lm_head") return;
    const auto rows =
        values->values(fmt::format("draft.layers.{}.ffn_residual", options_.num_layers - 1));
    const auto logits = values->values("draft.logits");
    hidden_.assign(rows.begin(), rows.end());
    logits_.assign(logits.begin(), logits.end());
  }

  double difference(const DenseDrafter::Block& block) const {
    double largest = 0;
    for (size_t row = 0; row < block.hidden.size(); ++row) {
      largest = std::max(largest, row_difference(block.hidden[row], &hidden_[row * 256]));
      // The anchor's row predicts nothing.
      if (row == 0) continue;
      largest = std::max(largest, row_difference(block.logits[row], &logits_[row * 256]));
    }
    return largest;
  }

  static double row_difference(const std::vector<double>& expected, const float* row) {
    double largest = 0, scale = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double error = std::abs(static_cast<double>(row[i]) - expected[i]);
      largest = std::isnan(error) ? INFINITY : std::max(largest, error);
      scale = std::max(scale, std::abs(expected[i]));
    }
    return largest / scale;
  }

  static int32_t argmax(const std::vector<double>& values) {
    return static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
  }

  const DrafterOptions options_;
  TemporaryDirectory target_directory_, drafter_directory_;
  GeneratedCheckpoint target_;
  GeneratedDrafter drafter_;
  std::optional<ModelRunner> runner_;
  std::vector<program::Column> columns_;
  Rows taps_;  // [position]
  std::vector<float> hidden_, logits_;
  uint32_t num_unlike_likeliest_ = 0;
};

TEST(DrafterDense, MimoFormEquals) {
  const double largest = Cycles(mimo_form(), nullptr).run(9);
  std::printf("largest relative difference, MiMo form: %.2g\n", largest);
  EXPECT_LT(largest, kTolerance);
}

TEST(DrafterDense, ZLabFormWithMixedLayersEquals) {
  const double largest = Cycles(mixed_form(), nullptr).run(9);
  std::printf("largest relative difference, z-lab form: %.2g\n", largest);
  EXPECT_LT(largest, kTolerance);
}

TEST(DrafterDense, ZLabFormWithoutCausalityEquals) {
  const double largest = Cycles(bidirectional_form(), nullptr).run(9);
  std::printf("largest relative difference, z-lab form without causality: %.2g\n", largest);
  EXPECT_LT(largest, kTolerance);
}

TEST(DrafterDense, SelectorsChooseTheSameTokens) {
  DrafterOptions options = mimo_form();
  options.selector_rank = 8;
  Cycles cycles(options, nullptr);
  EXPECT_LT(cycles.run(9), kTolerance);
  EXPECT_GT(cycles.num_unlike_likeliest(), 10u);
}

// --- The comparison notices ---

double changed(const DrafterOptions& options,
               const std::function<void(model::DrafterConfig*)>& change) {
  testing::TestPartResultArray ignored;  // other tokens than the dense drafter's are expected
  const testing::ScopedFakeTestPartResultReporter silence(
      testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &ignored);
  return Cycles(options, change).run(3);
}

TEST(DrafterDense, AWindowOffByOneShows) {
  for (const DrafterOptions& options : {mimo_form(), mixed_form(), bidirectional_form()}) {
    for (const int shift : {-1, 1}) {
      EXPECT_GT(changed(options,
                        [=](model::DrafterConfig* config) {
                          for (auto& layer : config->layers) {
                            if (layer.sliding_window == 0) continue;
                            layer.sliding_window += static_cast<uint32_t>(shift);
                          }
                        }),
                10 * kTolerance)
          << shift;
    }
  }
}

TEST(DrafterDense, TheOtherWindowEdgeShows) {
  EXPECT_GT(changed(mimo_form(), [](auto* config) { config->has_window_before_anchor = false; }),
            10 * kTolerance);
  EXPECT_GT(changed(mixed_form(), [](auto* config) { config->has_window_before_anchor = true; }),
            10 * kTolerance);
}

TEST(DrafterDense, TheTablesMaskRowShows) {
  EXPECT_GT(changed(mimo_form(), [](auto* config) { config->has_mask_embedding = false; }), 0.1);
}

TEST(DrafterDense, OtherCausalityShows) {
  for (const DrafterOptions& options : {mimo_form(), mixed_form()}) {
    EXPECT_GT(changed(options,
                      [](model::DrafterConfig* config) {
                        for (auto& layer : config->layers) layer.is_causal = !layer.is_causal;
                      }),
              10 * kTolerance);
  }
}

}  // namespace
}  // namespace ultraspeed::test
