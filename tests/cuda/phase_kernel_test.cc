// The resident kernels of tiles (cuda/resident/phase_kernel.h) leave in all buffers of a step the
// bits that the graph executor's kernels leave there.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "cuda/bench/step_bench.h"
#include "cuda/gpu.h"
#include "cuda/planned.h"

namespace ultraspeed::test {
namespace {

cuda::StepBenchOptions resident_options() {
  cuda::StepBenchOptions options;
  options.live_experts = 24;
  options.positions = 300;
  options.kv_cache = program::KvCacheType::kFp8;
  options.has_resident = true;
  return options;
}

void expect_same_bits(const cuda::StepBenchOptions& options) {
  const auto bench = measure_step(plan_of("configs/mimo-v2.5-pro", 8, 8), options);
  ASSERT_TRUE(bench) << bench.error().message;
  ASSERT_TRUE(bench->resident);
  EXPECT_EQ(bench->resident->different_floats, 0u);
  EXPECT_GT(bench->resident->num_phases, 69u * 9);
  EXPECT_EQ(bench->resident->left_out, std::set<std::string>());
  EXPECT_GT(bench->resident->resident_us.front(), 1000);
  const auto& rows = bench->resident->rows;
  const auto experts = std::ranges::find(rows, "expert gate/up", &cuda::PhaseRow::name);
  ASSERT_NE(experts, rows.end());
  EXPECT_EQ(experts->count, 69u);
  EXPECT_GT(experts->span_us, experts->hand_off_us);
}

TEST(PhaseKernel, LeavesTheGraphsBits) {
  US_NEEDS_GPU();
  expect_same_bits(resident_options());
}

// An odd number of live experts, columns that are not there, another rank's weights, bf16 tiles.
TEST(PhaseKernel, LeavesThemWithFewerColumnsAndSlots) {
  US_NEEDS_GPU();
  cuda::StepBenchOptions options = resident_options();
  options.rank = 5;
  options.rows = 3;
  options.live_experts = 23;
  options.kv_cache = program::KvCacheType::kBf16;
  expect_same_bits(options);
}

// With what a drafter adds: heads with norms, joined and long rows, attention of a block.
TEST(PhaseKernel, LeavesThemInACycle) {
  US_NEEDS_GPU();
  for (const auto type : {program::KvCacheType::kFp8, program::KvCacheType::kBf16}) {
    cuda::StepBenchOptions options = resident_options();
    options.kv_cache = type;
    options.positions = 1500;
    options.has_stages = false;
    const auto bench = measure_step(plan_of("configs/mimo-v2.5-pro", 8, 8, true), options);
    ASSERT_TRUE(bench) << bench.error().message;
    EXPECT_FALSE(bench->draft_us.empty());
    ASSERT_TRUE(bench->resident);
    EXPECT_EQ(bench->resident->different_floats, 0u);
    EXPECT_EQ(bench->resident->left_out, std::set<std::string>());
    for (const char* name : {"heads", "joined rows", "long rows"}) {
      const auto& rows = bench->resident->rows;
      EXPECT_NE(std::ranges::find(rows, name, &cuda::PhaseRow::name), rows.end()) << name;
    }
  }
}

// Experts whose CTAs do not share K, dense products of fewer pages than CTAs that share it, which
// so run ahead, with each of them busy.
TEST(PhaseKernel, LeavesThemWhereCtasHaveNoPages) {
  US_NEEDS_GPU();
  cuda::StepBenchOptions options = resident_options();
  options.live_experts = 21;
  options.kv_cache = program::KvCacheType::kBf16;
  const auto bench = measure_step(plan_of("models/tiny-mimo", 1, 8), options);
  ASSERT_TRUE(bench) << bench.error().message;
  ASSERT_TRUE(bench->resident);
  EXPECT_EQ(bench->resident->different_floats, 0u);
}

// Biases of projections, a router of softmax scores, and rows with a norm of another size than
// whole batches; beside experts that have no phases.
TEST(PhaseKernel, LeavesThemInAnotherFamily) {
  US_NEEDS_GPU();
  for (const uint32_t rows : {8u, 1u}) {
    cuda::StepBenchOptions options = resident_options();
    options.live_experts = rows == 8 ? 21 : 4;
    options.rows = rows;
    options.has_stages = false;
    const auto bench = measure_step(plan_of("configs/gpt-oss-20b", 1, 8), options);
    ASSERT_TRUE(bench) << bench.error().message;
    ASSERT_TRUE(bench->resident);
    EXPECT_EQ(bench->resident->left_out,
              std::set<std::string>{"experts whose columns pairs of CTAs share"});
    EXPECT_EQ(bench->resident->different_floats, 0u);
  }
}

// Experts as before, rows of steps that have fewer, and the routes of the step itself.
TEST(PhaseKernel, LeavesThemWithASmallModel) {
  US_NEEDS_GPU();
  cuda::StepBenchOptions options = resident_options();
  options.live_experts = 9;
  options.has_own_routes = true;
  options.rows = 3;
  const auto bench = measure_step(plan_of("models/tiny-mimo", 1, 8), options);
  ASSERT_TRUE(bench) << bench.error().message;
  ASSERT_TRUE(bench->resident);
  EXPECT_EQ(bench->resident->left_out, std::set<std::string>());
  EXPECT_EQ(bench->resident->different_floats, 0u);
  ASSERT_EQ(bench->live.size(), 7u);
  for (const uint32_t live : bench->live) {
    EXPECT_GE(live, 4u);  // that a row chooses
    EXPECT_LE(live, 3u * 4);
  }
}

}  // namespace
}  // namespace ultraspeed::test
