// Programs that keep residuals for the host: refused requests, the proof, and memory of their own.
#include <gtest/gtest.h>

#include <set>

#include "cpu/executor.h"
#include "model/config.h"
#include "model/weights.h"
#include "plan/plan.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"

namespace ultraspeed::test {
namespace {

using program::BufferDecl;
using program::Program;

Result<plan::Plan> plan_captured(const std::vector<uint32_t>& layers, uint32_t ranks = 1) {
  const auto config = model::ModelConfig::parse("config.json", config_json(eight_rank_options()));
  if (!config) return tl::unexpected(config.error());
  plan::PlanOptions options;
  options.num_ranks = ranks;
  options.width = 64;
  options.max_context = 512;
  options.captured_layers = layers;
  return plan::make_plan(
      *config, [&](const auto& source) { return model::expected_shape(*config, source); },
      cpu::cpu_limits(3), options);
}

TEST(CapturedLayers, AreAscendingAndOfTheModel) {
  const uint32_t num_layers =
      model::ModelConfig::parse("config.json", config_json(eight_rank_options()))->num_layers();
  for (const std::vector<uint32_t>& layers :
       {std::vector<uint32_t>{num_layers}, {0, num_layers}, {1, 0}, {1, 1}}) {
    const auto plan = plan_captured(layers);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(plan.error().message,
              fmt::format("captured layer {}: expected ascending numbers below {}, the layers of "
                          "config.json",
                          layers.back(), num_layers));
  }
}

TEST(CapturedLayers, AreProvenAndShareNoMemory) {
  for (const uint32_t ranks : {1u, 2u, 8u}) {
    const auto plan = plan_captured({0, 2}, ranks);
    ASSERT_TRUE(plan) << plan.error().message;
    const Program& program = plan->program;
    const auto report = program::verify(program);
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(program.captured.size(), 3u);  // and the last layer's
    const std::set<program::BufferId> captured(program.captured.begin(), program.captured.end());
    EXPECT_EQ(captured.size(), 3u);
    for (const program::BufferId id : captured) {
      const BufferDecl& kept = program.buffers[id];
      EXPECT_EQ(kept.output, BufferDecl::Output::kHost);
      EXPECT_GE(kept.size_bytes, uint64_t{program.width} * program.hidden_size * sizeof(float));
      for (size_t other = 0; other < program.buffers.size(); ++other) {
        const BufferDecl& buffer = program.buffers[other];
        if (other == id || buffer.size_bytes == 0) continue;
        const bool overlaps = buffer.offset_bytes < kept.offset_bytes + kept.size_bytes &&
                              kept.offset_bytes < buffer.offset_bytes + buffer.size_bytes;
        // Before it is written its memory may have been another's.
        EXPECT_TRUE(!overlaps || other < id) << buffer.name << " lies over " << kept.name;
      }
    }
  }
}

// Before each layer of experts, and no other.
TEST(CapturedExpertInputs, AreProvenAndInOrder) {
  const auto config = model::ModelConfig::parse("config.json", config_json(eight_rank_options()));
  ASSERT_TRUE(config);
  plan::PlanOptions options;
  options.num_ranks = 2;
  options.max_context = 512;
  options.captures_expert_inputs = true;
  const auto plan = plan::make_plan(
      *config, [&](const auto& source) { return model::expected_shape(*config, source); },
      cpu::cpu_limits(3), options);
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_TRUE(program::verify(plan->program));
  std::vector<program::BufferId> read_by_experts;
  for (const program::Stage& stage : plan->program.stages) {
    const auto* experts = std::get_if<program::ExpertGateUpOperands>(&stage.operands);
    if (experts != nullptr) read_by_experts.push_back(experts->hidden);
  }
  EXPECT_FALSE(read_by_experts.empty());
  EXPECT_EQ(plan->program.captured, read_by_experts);
  for (const program::BufferId id : read_by_experts) {
    EXPECT_EQ(plan->program.buffers[id].output, BufferDecl::Output::kHost);
  }
}

TEST(CapturedLayers, TheProofSeesOneThatIsOverwritten) {
  Program program = plan_captured({0}).value().program;
  const program::BufferId kept = program.captured[0];
  BufferDecl* later = nullptr;
  for (size_t id = kept + 1; id < program.buffers.size(); ++id) {
    BufferDecl& buffer = program.buffers[id];
    if (buffer.size_bytes != 0 && buffer.size_bytes <= program.buffers[kept].size_bytes) {
      later = &buffer;
    }
  }
  ASSERT_NE(later, nullptr);
  later->offset_bytes = program.buffers[kept].offset_bytes;
  EXPECT_FALSE(program::verify(program));
}

TEST(CapturedLayers, TheLastLayerIsCapturedOnceMoreWhereItIsATap) {
  const auto plan = plan_captured({0, 1, 2, 3});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto& captured = plan->program.captured;
  ASSERT_EQ(captured.size(), 5u);
  EXPECT_EQ(captured[3], captured[4]);
}

}  // namespace
}  // namespace ultraspeed::test
