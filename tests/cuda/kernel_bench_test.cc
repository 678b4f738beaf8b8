// What `bench kernels` finds in planned programs, on any machine; and on a GPU that it measures it.
#include "cuda/bench/kernel_bench.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/bench/kernel_group.h"
#include "cuda/gpu.h"
#include "model/weights.h"
#include "plan/devices.h"
#include "plan/plan.h"

namespace ultraspeed::test {
namespace {

using cuda::KernelBenchOptions;
using cuda::KernelGroups;

program::Program plan_of(const std::string& folder, uint32_t num_ranks, uint32_t width) {
  const auto config = model::ModelConfig::load(std::string(US_SOURCE_DIR) + "/" + folder);
  EXPECT_TRUE(config) << config.error().message;
  const auto shape_of = [&config](const model::WeightSource& source) {
    return model::expected_shape(*config, source);
  };
  plan::PlanOptions options;
  options.num_ranks = num_ranks;
  options.width = width;
  options.max_context = 4096;
  auto plan = plan::make_plan(*config, shape_of, plan::find_device("h100")->limits, options);
  EXPECT_TRUE(plan) << plan.error().message;
  return std::move(plan->program);
}

KernelBenchOptions live(uint32_t experts, uint32_t rows = 8) {
  KernelBenchOptions options;
  options.live_experts = experts;
  options.rows = rows;
  return options;
}

TEST(KernelGroups, HaveTheShapesOfTheShard) {
  const auto groups = find_kernel_groups(plan_of("configs/mimo-v2.5-pro", 8, 8), live(60));
  ASSERT_EQ(groups.size(), 1u);  // all layers of experts are alike
  const cuda::KernelGroup& experts = *groups.front();
  EXPECT_EQ(experts.refusal, "");
  ASSERT_EQ(experts.kernels.size(), 3u);
  EXPECT_EQ(experts.kernels[0].name, "expert gate/up");
  EXPECT_EQ(experts.kernels[0].shape, "60 live of 512 x 6144");
  // 17 bytes for 32 weights.
  EXPECT_EQ(experts.kernels[0].bytes, 60u * 512 * 6144 / 32 * 17);
  EXPECT_EQ(experts.kernels[1].shape, "60 live of 6144 x 256");
  EXPECT_EQ(experts.kernels[1].bytes, 60u * 6144 * 256 / 32 * 17);
  EXPECT_EQ(experts.kernels[2].bytes, experts.kernels[0].bytes + experts.kernels[1].bytes);
  // 50.1 MB a set: seven sets are six caches of 52.4 MB and more.
  EXPECT_EQ(experts.num_sets, 7u);
  EXPECT_EQ(experts.data, "420 experts in 7 sets");
  EXPECT_GT(experts.memory_bytes, 7 * experts.kernels[2].bytes);
  EXPECT_LT(experts.memory_bytes, 7 * experts.kernels[2].bytes + (16u << 20));
}

TEST(KernelGroups, RotateMoreSetsTheLessTheyRead) {
  const auto program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto one = find_kernel_groups(program, live(1, 1));
  EXPECT_EQ(one.front()->num_sets, 377u);
  const auto whole = find_kernel_groups(plan_of("configs/mimo-v2.5-pro", 1, 8), live(60));
  EXPECT_EQ(whole.front()->num_sets, 2u);
  EXPECT_EQ(whole.front()->kernels[0].shape, "60 live of 4096 x 6144");
  EXPECT_EQ(cuda::sets_to_rotate(uint64_t{300} << 20), 2u);
  EXPECT_EQ(cuda::sets_to_rotate((uint64_t{100} << 20) - 1), 4u);
}

std::string refusal(const KernelGroups& groups) {
  EXPECT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups.front()->memory_bytes, 0u);
  EXPECT_EQ(groups.front()->kernels.size(), 3u);
  return groups.front()->refusal;
}

TEST(KernelGroups, SayWhatTheyCannotTake) {
  EXPECT_EQ(refusal(find_kernel_groups(plan_of("configs/mimo-v2.5-pro-fp8", 8, 8), live(60))),
            "the weights are FP8 (e4m3, 128 columns a scale); the kernels take MXFP4");
  EXPECT_EQ(refusal(find_kernel_groups(plan_of("configs/mimo-v2.5-pro", 8, 4), live(20, 4))),
            "the kernels have widths of 8, 16, 32 and 64 columns; these are 4 columns, 6144 and "
            "256, in chunks of 256");
  program::Program program = plan_of("configs/mimo-v2.5-pro", 4, 8);
  program.num_ranks = 3;
  EXPECT_EQ(refusal(find_kernel_groups(program, live(20))),
            "the kernels take K-chunks of at most 256 columns, a multiple or a divisor of 32; "
            "these are 8 columns, 6144 and 512, in chunks of 192")
      << "512 columns are not whole chunks";
}

// Filled up, down is the larger of the two.
TEST(KernelGroups, RotateByTheSmallerMatrix) {
  const auto groups = find_kernel_groups(plan_of("models/tiny-mimo", 1, 8), live(20));
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups.front()->refusal, "");
  const auto& kernels = groups.front()->kernels;
  EXPECT_LT(kernels[0].bytes, kernels[1].bytes);
  EXPECT_EQ(groups.front()->num_sets, cuda::sets_to_rotate(kernels[0].bytes));
}

TEST(KernelGroups, FindNothingInAProgramWithoutExperts) {
  program::Program program;
  program.width = 8;
  EXPECT_TRUE(find_kernel_groups(program, live(1)).empty());
}

TEST(KernelBench, MeasuresKernelsAndDrains) {
  US_NEEDS_GPU();
  std::vector<std::string> progress;
  KernelBenchOptions options = live(24);
  options.rank = 3;
  options.progress = [&](std::string_view text) { progress.emplace_back(text); };
  const auto bench = measure_kernels(plan_of("configs/mimo-v2.5-pro", 8, 8), options);
  ASSERT_TRUE(bench) << bench.error().message;
  EXPECT_NE(bench->gpu.name, "");
  EXPECT_GE(bench->gpu.num_multiprocessors, 78u);
  EXPECT_GT(bench->ceiling_bytes, uint64_t{8'500'000'000});
  ASSERT_EQ(bench->ceiling_us.size(), 15u);
  EXPECT_GT(bench->ceiling_us[7], 1000);
  ASSERT_EQ(bench->kernels.size(), 3u);
  std::vector<double> medians;
  for (const cuda::KernelSamples& kernel : bench->kernels) {
    ASSERT_EQ(kernel.us.size(), 31u);
    ASSERT_EQ(kernel.drain_us.size(), 31u);
    EXPECT_EQ(kernel.num_nodes % 16, 0u) << kernel.data;
    std::vector<double> sorted = kernel.us;
    std::ranges::sort(sorted);
    medians.push_back(sorted[15]);
    // Nothing reads faster than the ceiling.
    const double ceiling = static_cast<double>(bench->ceiling_bytes) / bench->ceiling_us[7];
    EXPECT_LT(static_cast<double>(kernel.bytes) / sorted[15], 1.02 * ceiling) << kernel.name;
    EXPECT_LT(*std::ranges::min_element(kernel.drain_us), sorted[15]) << kernel.name;
  }
  EXPECT_NEAR(medians[2], medians[0] + medians[1], 0.2 * medians[2]);
  EXPECT_GT(progress.size(), 93u);
  EXPECT_EQ(progress[0], "making 8 GB of synthetic weights");
}

}  // namespace
}  // namespace ultraspeed::test
