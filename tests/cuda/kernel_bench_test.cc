// What `bench kernels` finds in planned programs, on any machine; and on a GPU that it measures it.
#include "cuda/bench/kernel_bench.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/bench/kernel_group.h"
#include "cuda/gpu.h"
#include "cuda/middle.h"
#include "cuda/planned.h"

namespace ultraspeed::test {
namespace {

using cuda::KernelBenchOptions;
using cuda::KernelGroups;

KernelBenchOptions live(uint32_t experts, uint32_t rows = 8) {
  KernelBenchOptions options;
  options.kinds = {"experts"};
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

// 4 bytes a scale of 128 weights.
TEST(KernelGroups, HaveTheShapesOfFp8ExpertsToo) {
  const auto groups = find_kernel_groups(plan_of("configs/mimo-v2.5-pro-fp8", 8, 8), live(60));
  ASSERT_EQ(groups.size(), 1u);
  const cuda::KernelGroup& experts = *groups.front();
  EXPECT_EQ(experts.refusal, "");
  ASSERT_EQ(experts.kernels.size(), 3u);
  EXPECT_EQ(experts.kernels[0].shape, "60 live of 512 x 6144");
  EXPECT_EQ(experts.kernels[0].bytes, 60u * 512 * 6144 / 128 * 132);
  EXPECT_EQ(experts.kernels[1].bytes, 60u * 6144 * 256 / 128 * 132);
  EXPECT_EQ(experts.num_sets, cuda::sets_to_rotate(experts.kernels[1].bytes));
  EXPECT_GT(experts.memory_bytes, experts.num_sets * experts.kernels[2].bytes);
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
  program::Program bf16 = plan_of("configs/mimo-v2.5-pro-fp8", 8, 8);
  for (program::WeightDecl& weight : bf16.weights) {
    if (weight.count > 1) weight.format = tensor::WeightFormat::kBf16;
  }
  EXPECT_EQ(refusal(find_kernel_groups(bf16, live(60))),
            "the weights are BF16; the kernels take MXFP4 and FP8");
  EXPECT_EQ(refusal(find_kernel_groups(plan_of("configs/mimo-v2.5-pro", 8, 4), live(20, 4))),
            "the kernels have widths of 8, 16, 32 and 64 columns; these are 4 columns, 6144 and "
            "256, in chunks of 256");
  program::Program program = plan_of("configs/mimo-v2.5-pro", 4, 8);
  program.num_ranks = 3;
  EXPECT_EQ(refusal(find_kernel_groups(program, live(20))),
            "the kernels take K-chunks that are equally long; these are 8 columns, 6144 and 512, "
            "in chunks of 192")
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

KernelBenchOptions kind(const std::string& name) {
  KernelBenchOptions options;
  options.kinds = {name};
  options.prefill_tokens = {256};
  return options;
}

// "name | shape | bytes" of the first kernels.
std::vector<std::string> listing(const KernelGroups& groups) {
  std::vector<std::string> lines;
  for (const auto& group : groups) {
    EXPECT_EQ(group->refusal, "");
    const cuda::BenchKernel& kernel = group->kernels.front();
    lines.push_back(fmt::format("{} | {} | {}", kernel.name, kernel.shape, kernel.bytes));
  }
  return lines;
}

TEST(KernelGroups, FindEachDenseShapeOnce) {
  const auto program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto groups = find_kernel_groups(program, kind("dense"));
  // 16.5 KiB for 64 x 256 in FP8 (53 tiles of 24 pages in qkv), 16 KiB for 64 x 128 in BF16.
  EXPECT_EQ(
      listing(groups),
      (std::vector<std::string>{
          "qkv_proj | 3392 x 6144 FP8 | 21491712", "o_proj | 6144 x 2048 BF16 | 25165824",
          "gate_up_proj | 4096 x 6144 FP8 | 25952256", "down_proj | 6144 x 2048 FP8 | 12976128",
          "router | 384 x 6144 BF16, F32 in the program | 4718592",
          "lm_head | 19072 x 6144 BF16 | 234356736"}));
  for (const auto& group : groups) {
    ASSERT_EQ(group->kernels.size(), 2u);
    EXPECT_EQ(group->kernels[1].name, group->kernels[0].name + ", operand");
    EXPECT_EQ(group->kernels[1].bytes, group->kernels[0].bytes);
    EXPECT_EQ(group->num_sets, cuda::sets_to_rotate(group->kernels[0].bytes));
    EXPECT_GT(group->memory_bytes, group->num_sets * group->kernels[0].bytes);
  }
}

TEST(KernelGroups, FindAttentionOfEachKind) {
  const auto program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto groups = find_kernel_groups(program, kind("attention"));
  EXPECT_EQ(listing(groups),
            (std::vector<std::string>{
                "attention, chunks of 256 | 16 q, 1 kv heads, 131072 positions, FP8 | 41943040",
                "attention, chunks of 256 | 16 q, 1 kv heads, 131072 positions, BF16 | 83886080",
                "attention, window of 128 | 16 q, 1 kv heads, 135 positions, FP8 | 61440",
                "attention, window of 128 | 16 q, 1 kv heads, 135 positions, BF16 | 122880"}));
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[0]->kernels.size(), 3u);
  EXPECT_EQ(groups[0]->kernels[2].name, "attention, chunks of 1024");
  EXPECT_EQ(groups[2]->kernels.size(), 2u);
  EXPECT_EQ(groups[2]->kernels[1].name, "attention, window of 128, early");
  EXPECT_EQ(groups[2]->num_sets, 5120u);
  KernelBenchOptions fewer = kind("attention");
  fewer.positions = {1025, 64};  // 17 tiles
  const auto short_ones = find_kernel_groups(program, fewer);
  ASSERT_EQ(short_ones.size(), 6u);
  EXPECT_EQ(short_ones[0]->kernels[0].bytes, 17u * 20480);
  EXPECT_EQ(short_ones[2]->kernels[0].bytes, 20480u);
}

TEST(KernelGroups, CountWhatPrefillReadsAndMultiplies) {
  const auto program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto groups = find_kernel_groups(program, kind("prefill"));
  ASSERT_EQ(groups.size(), 2u);  // experts chosen alike, and some of them often
  constexpr uint64_t kGateUpBytes = uint64_t{512} * 6144 / 32 * 17;  // of an expert
  for (const auto& group : groups) {
    EXPECT_EQ(group->refusal, "");
    ASSERT_EQ(group->kernels.size(), 4u);
    const auto& kernels = group->kernels;
    EXPECT_EQ(kernels[0].flop, uint64_t{4} * 256 * 6144 * 256 * 8);  // 8 experts a token
    EXPECT_EQ(kernels[1].flop, kernels[0].flop / 2);
    EXPECT_EQ(kernels[2].flop, kernels[0].flop + kernels[1].flop);
    EXPECT_EQ(kernels[3].flop, kernels[2].flop);
    EXPECT_EQ(kernels[2].bytes, kernels[0].bytes + kernels[1].bytes);
    EXPECT_EQ(kernels[0].bytes % kGateUpBytes, 0u);
    const uint64_t live = kernels[0].bytes / kGateUpBytes;
    EXPECT_GT(live, 300u);
    EXPECT_LE(live, 384u);
    EXPECT_TRUE(kernels[1].shape.starts_with("256 tokens, ")) << kernels[1].shape;
    EXPECT_TRUE(kernels[1].shape.ends_with(fmt::format("{} live of 6144 x 256", live)));
  }
  EXPECT_TRUE(groups[1]->kernels[0].shape.starts_with("256 tokens, skewed, "));
  EXPECT_LT(groups[1]->kernels[0].bytes, groups[0]->kernels[0].bytes);
}

TEST(KernelGroups, SayWhatDenseAttentionAndPrefillCannotTake) {
  const auto refusal_of = [](const program::Program& program, const std::string& name) {
    const auto groups = find_kernel_groups(program, kind(name));
    EXPECT_FALSE(groups.empty()) << name;
    if (groups.empty()) return std::string();
    EXPECT_EQ(groups.front()->memory_bytes == 0, !groups.front()->refusal.empty());
    return groups.front()->refusal;
  };
  const auto tiny = plan_of("models/tiny-mimo", 1, 8);
  EXPECT_EQ(refusal_of(tiny, "dense"), "");
  program::Program odd = tiny;
  for (program::WeightDecl& weight : odd.weights) weight.cols += 2;
  EXPECT_NE(refusal_of(odd, "dense").find("514"), std::string::npos);
  EXPECT_EQ(refusal_of(tiny, "attention"), "");
  for (program::Stage& stage : odd.stages) {
    if (auto* op = std::get_if<program::AttentionOperands>(&stage.operands)) op->head_dim = 256;
  }
  EXPECT_EQ(refusal_of(odd, "attention"),
            "the kernels take heads of a multiple of 8 of at most 192 and 128 dimensions, at most "
            "64 query heads a KV head; these have 256 and 64, and are 8 and 2");
  EXPECT_EQ(refusal_of(tiny, "prefill"),
            "the kernels take a multiple of 2048 columns, and K-chunks of 256; these are 512, in "
            "chunks of 16");
  EXPECT_EQ(refusal_of(plan_of("configs/mimo-v2.5-pro", 8, 4), "dense"),
            "the kernels have widths of 8, 16, 32 and 64 columns; these are 4");
  EXPECT_EQ(refusal_of(plan_of("configs/mimo-v2.5-pro-fp8", 8, 8), "prefill"),
            "the weights are FP8 (e4m3, 128 columns a scale); the kernels take MXFP4");
}

TEST(KernelGroups, FindAllKindsUnlessSomeAreNamed) {
  const auto program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  size_t sum = 0;
  for (const std::string_view name : cuda::kKernelKinds) {
    const auto groups = find_kernel_groups(program, kind(std::string(name)));
    EXPECT_FALSE(groups.empty()) << name;
    sum += groups.size();
  }
  KernelBenchOptions all = kind("");
  all.kinds.clear();
  EXPECT_EQ(find_kernel_groups(program, all).size(), sum);
  all.kinds = {"prefill", "experts"};
  EXPECT_EQ(find_kernel_groups(program, all).size(), 3u);
}

TEST(KernelGroups, FindNothingInAnEmptyProgram) {
  program::Program program;
  program.width = 8;
  EXPECT_TRUE(find_kernel_groups(program, KernelBenchOptions()).empty());
}

// Nothing reads faster than the ceiling, and no drain takes longer than its kernel, but for noise
// where both wait for memory alone.
void expect_plausible(const cuda::KernelBench& bench) {
  const double ceiling = static_cast<double>(bench.ceiling_bytes) / middle(bench.ceiling_us);
  for (const cuda::KernelSamples& kernel : bench.kernels) {
    SCOPED_TRACE(kernel.name + ", " + kernel.shape);
    ASSERT_EQ(kernel.refusal, "");
    ASSERT_EQ(kernel.us.size(), 31u);
    ASSERT_EQ(kernel.drain_us.size(), 31u);
    EXPECT_LT(static_cast<double>(kernel.bytes) / middle(kernel.us), 1.02 * ceiling);
    EXPECT_LT(*std::ranges::min_element(kernel.drain_us), 1.03 * middle(kernel.us));
  }
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
  EXPECT_FALSE(bench->peak) << "experts of a decode step are bound by bytes";
  ASSERT_EQ(bench->kernels.size(), 3u);
  expect_plausible(*bench);
  std::vector<double> medians;
  for (const cuda::KernelSamples& kernel : bench->kernels) {
    EXPECT_EQ(kernel.num_nodes % 16, 0u) << kernel.data;
    medians.push_back(middle(kernel.us));
  }
  EXPECT_NEAR(medians[2], medians[0] + medians[1], 0.2 * medians[2]);
  EXPECT_GT(progress.size(), 93u);
  EXPECT_EQ(progress[0], "making 8 GB of synthetic weights");
}

TEST(KernelBench, MeasuresFp8Experts) {
  US_NEEDS_GPU();
  const auto bench = measure_kernels(plan_of("configs/mimo-v2.5-pro-fp8", 8, 8), live(24, 5));
  ASSERT_TRUE(bench) << bench.error().message;
  ASSERT_EQ(bench->kernels.size(), 3u);
  expect_plausible(*bench);
}

TEST(KernelBench, MeasuresDenseAttentionAndPrefill) {
  US_NEEDS_GPU();
  KernelBenchOptions options;
  options.kinds = {"dense", "attention", "prefill"};
  options.rank = 7;
  options.rows = 5;
  options.positions = {8192};
  options.prefill_tokens = {256};
  const auto bench = measure_kernels(plan_of("configs/mimo-v2.5-pro", 8, 8), options);
  ASSERT_TRUE(bench) << bench.error().message;
  ASSERT_EQ(bench->kernels.size(), 6u * 2 + 2 * 3 + 2 * 2 + 2 * 4);
  expect_plausible(*bench);
  ASSERT_TRUE(bench->peak);
  if (!bench->peak->refusal.empty()) return;  // without the library
  EXPECT_EQ(bench->peak->flop, uint64_t{2} << 39);
  EXPECT_EQ(bench->peak->us.size(), 31u);
}

}  // namespace
}  // namespace ultraspeed::test
