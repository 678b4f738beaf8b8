// What tests of operations on the GPU against the CPU's have in common: the bounds of what they may
// differ in, and models that are run by both (differential_executor.h).
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cuda/differential_executor.h"
#include "cuda/gpu.h"
#include "cuda/tile_caches.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/model_runner.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {

using program::Opcode;
using tensor::WeightFormat;

inline const std::vector<int32_t> kPrompt = {3,  141, 59, 26, 53, 58, 97, 93,
                                             23, 84,  62, 64, 33, 83, 27};

// docs/numerics.md sections 7 and 8: equal sums; exp, sin and cos within an ulp or two. In w4a8
// tensor cores sum dense products and experts in an order of their own; where h is on the border of
// two codes, an eighth apart at most, Down has the other one (of 16 in a K-chunk of the bundled
// model).
inline double bound_of(Opcode opcode, program::Activations activations) {
  if (activations == program::Activations::kW4a8) {
    if (opcode == Opcode::kQkvProj || opcode == Opcode::kOutProj || opcode == Opcode::kLinear) {
      return 1e-6;
    }
    if (opcode == Opcode::kGateUp) return 3e-6;
    if (opcode == Opcode::kExpertGateUp) return 1e-3;
    if (opcode == Opcode::kExpertDown) return 1.0 / 16;
  }
  switch (opcode) {
    case Opcode::kQkvProj:
    case Opcode::kGateUp:
    case Opcode::kExpertGateUp:
    case Opcode::kRoute:
      return 4e-7;
    case Opcode::kAttention:
    case Opcode::kAttentionMerge:
      return 2e-6;
    default:
      return 0;
  }
}

class DifferentialTest : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  void TearDown() override {
    if (IsSkipped()) return;
    for (const std::string& failure : report_.failures) ADD_FAILURE() << failure;
    const CacheDifference& caches = report_.caches;
    for (uint32_t i = 0; i < program::kNumOpcodes; ++i) {
      const auto opcode = static_cast<Opcode>(i);
      const bool is_attention = opcode == Opcode::kAttention || opcode == Opcode::kAttentionMerge;
      const double bound = is_attention && caches.num_tile_stages != 0
                               ? tile_attention_bound(kv_cache_)
                               : bound_of(opcode, activations_);
      EXPECT_LE(report_.by_opcode[i].largest_relative, bound) << program::kOpcodeNames[i];
    }
    EXPECT_LE(caches.worst_of_bound, 1);
    // Rotated by angles that differ in their last bit, one in a million is on the border of codes.
    EXPECT_LE(static_cast<double>(caches.num_other_codes),
              1e-4 * static_cast<double>(caches.num_codes));
    std::printf("%s", report_.table().c_str());
    if (caches.num_codes == 0) return;
    std::printf(
        "caches: %lu stages with tiles; %lu of %lu codes differ; attention %.3f of its bound\n",
        caches.num_tile_stages, caches.num_other_codes, caches.num_codes, caches.worst_of_bound);
  }

  ModelRunner open(const std::string& directory, RunnerOptions options) {
    options.make_executor = [this] {
      return make_differential_executor(&report_, activations_, kv_cache_);
    };
    auto runner = ModelRunner::open(directory, options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return std::move(*runner);
  }

  // A checkpoint with three MTP heads, written to `directory`.
  ModelRunner open_with_heads(const TemporaryDirectory& directory) {
    GeneratorOptions generator;
    generator.num_mtp_layers = 3;
    US_CHECK(write_checkpoint(directory.path(), generator).has_value());
    RunnerOptions options;
    options.has_mtp = true;
    return open(directory.path(), options);
  }

  void run(const GeneratorOptions& generator, const RunnerOptions& options) {
    const TemporaryDirectory directory;
    US_CHECK(write_checkpoint(directory.path(), generator).has_value());
    ModelRunner runner = open(directory.path(), options);
    const auto result = runner.feed(kPrompt, 5, 7);
    ASSERT_TRUE(result) << result.error().message;
  }

  // All weights, and the experts, in each format.
  void run_formats() {
    for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBf16,
                                      WeightFormat::kFp8Block128, WeightFormat::kMxfp4}) {
      GeneratorOptions generator;
      if (format != WeightFormat::kMxfp4) {
        generator.linear_format = format;
        generator.output_projection_format = format;
        generator.embedding_format = format;
      }
      generator.expert_format = format;
      run(generator, {});
    }
  }

  void run_families() {
    for (const char* family : kFamilyFolders) {
      const auto directory = reference_folder(family);
      ASSERT_TRUE(directory) << directory.error().message;
      ModelRunner runner = open(*directory, {});
      ASSERT_TRUE(runner.feed(kPrompt, 5, 30)) << family;
    }
  }

  // A model with parts of that arithmetic: sums get a norm's weight as a bias.
  void run_changed(const std::string& directory) {
    RunnerOptions options;
    options.verify = false;  // the bias is declared as a norm's
    options.change_program = [](program::Program* program) {
      program::WeightId bias = program::kNoId;
      for (program::Stage& stage : program->stages) {
        if (auto* qkv = std::get_if<program::QkvProjOperands>(&stage.operands)) {
          bias = qkv->norm.weight;
        } else if (auto* reduce = std::get_if<program::ReduceOperands>(&stage.operands)) {
          reduce->bias = bias;
        } else if (auto* route = std::get_if<program::RouteOperands>(&stage.operands)) {
          route->scores = program::RouterScores::kSoftmax;
        } else if (auto* experts = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) {
          experts->clamp.limit = 0.05F;
        }
      }
    };
    ModelRunner runner = open(directory, options);
    ASSERT_TRUE(runner.feed(kPrompt, 4, 6));
  }

  // A block of a drafter's, with a selector or without.
  void run_draft_block(uint32_t selector_rank = 0) {
    const TemporaryDirectory target, drafter;
    US_CHECK(write_checkpoint(target.path(), {}).has_value());
    DrafterOptions of_drafter;
    of_drafter.selector_rank = selector_rank;
    US_CHECK(write_drafter(drafter.path(), of_drafter).has_value());
    RunnerOptions options;
    options.drafter = drafter.path();
    options.width = 16;
    ModelRunner drafting = open(target.path(), options);
    ASSERT_TRUE(drafting.feed(std::span(kPrompt).first(kPrompt.size() - 1), 0, 0));
    const auto output = drafting.step(drafting.draft_block(kPrompt.back(), 8));
    ASSERT_TRUE(output) << output.error().message;
  }

  DifferenceReport report_;
  program::Activations activations_ = program::Activations::kF32;
  program::KvCacheType kv_cache_ = program::KvCacheType::kF32;
};

}  // namespace ultraspeed::test
