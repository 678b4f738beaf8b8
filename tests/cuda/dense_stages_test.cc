// Stages whose weights have dense pages against the CPU's in w4a8, from the same activations: a
// generated checkpoint of shapes that the kernels take. Which stages those are is tested, too.
#include <gtest/gtest.h>

#include <variant>

#include "base/check.h"
#include "cuda/differential_executor.h"
#include "cuda/gpu.h"
#include "cuda/paged_checkpoint.h"
#include "cuda/tile_caches.h"
#include "support/drafter_generator.h"
#include "support/model_runner.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

using program::KvCacheType;
using program::Opcode;
using tensor::WeightFormat;

// docs/numerics.md section 8: sums on tensor cores. Rounded caches are compared apart.
double bound_with_pages(Opcode opcode, WeightFormat format) {
  const bool has_fp8_experts = format == WeightFormat::kFp8Block128;
  switch (opcode) {
    case Opcode::kQkvProj:
    case Opcode::kOutProj:
    case Opcode::kLinear:
      return 1e-6;
    case Opcode::kGateUp:
      return 3e-6;
    case Opcode::kExpertGateUp:
      return has_fp8_experts ? 3e-6 : 1e-3;
    case Opcode::kExpertDown:
      return has_fp8_experts ? 1e-3 : 1.0 / 16;
    case Opcode::kRoute:
      return 4e-7;
    case Opcode::kAttention:
    case Opcode::kAttentionMerge:
      return 2e-6;
    default:
      return 0;
  }
}

class DenseStagesTest : public testing::TestWithParam<WeightFormat> {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  void TearDown() override {
    if (IsSkipped()) return;
    for (const std::string& failure : report_.failures) ADD_FAILURE() << failure;
    for (uint32_t i = 0; i < program::kNumOpcodes; ++i) {
      const auto opcode = static_cast<Opcode>(i);
      const bool is_attention = opcode == Opcode::kAttention || opcode == Opcode::kAttentionMerge;
      const double bound = is_attention && report_.caches.num_tile_stages != 0
                               ? tile_attention_bound(kv_cache_)
                               : bound_with_pages(opcode, GetParam());
      EXPECT_LE(report_.by_opcode[i].largest_relative, bound) << program::kOpcodeNames[i];
    }
    const CacheDifference& caches = report_.caches;
    EXPECT_LE(caches.worst_of_bound, 1);
    // Keys and values on the border of two codes.
    EXPECT_LE(static_cast<double>(caches.num_other_codes),
              1e-3 * static_cast<double>(caches.num_codes));
    if (caches.num_codes != 0) {
      std::printf("%lu stages with tiles; %lu of %lu codes differ; attention %.3f of its bound\n",
                  caches.num_tile_stages, caches.num_other_codes, caches.num_codes,
                  caches.worst_of_bound);
    }
    std::printf("%s", report_.table().c_str());
  }

  ModelRunner open(const std::string& directory, RunnerOptions options) {
    options.num_workers = 132;
    options.make_executor = [this] {
      return make_differential_executor(&report_, program::Activations::kW4a8, kv_cache_);
    };
    auto runner = ModelRunner::open(directory, options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return std::move(*runner);
  }

  // Every stage of this opcode had pages, but for so many.
  void expect_paged(Opcode opcode, uint64_t num_canonical) const {
    const Difference& of = report_.by_opcode[static_cast<size_t>(opcode)];
    const auto name = program::kOpcodeNames[static_cast<size_t>(opcode)];
    EXPECT_GT(of.num_paged, 0u) << name;
    EXPECT_EQ(of.num_stages - of.num_paged, num_canonical) << name;
  }

  static std::vector<int32_t> prompt(uint32_t size) {
    std::vector<int32_t> tokens;
    for (uint32_t i = 0; i < size; ++i) tokens.push_back(static_cast<int32_t>((i * 37 + 11) % 509));
    return tokens;
  }

  DifferenceReport report_;
  KvCacheType kv_cache_ = KvCacheType::kF32;
};

INSTANTIATE_TEST_SUITE_P(Formats, DenseStagesTest,
                         testing::Values(WeightFormat::kFp8Block128, WeightFormat::kBf16),
                         [](const auto& format) {
                           return std::string(format.param == WeightFormat::kBf16 ? "bf16" : "fp8");
                         });

// A step that fills the width, and one that fills half of it: of 136 columns also one whose last
// groups of 64 are empty.
TEST_P(DenseStagesTest, Widths) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), paged_checkpoint(GetParam())));
  uint64_t num_routers = 0;
  for (const uint32_t width : {8u, 16u, 64u, 136u}) {
    RunnerOptions options;
    options.width = width;
    ModelRunner runner = open(directory.path(), options);
    const auto result = runner.feed(prompt(width * 3 / 2), 4, 7);
    ASSERT_TRUE(result) << result.error().message;
    num_routers += 2 * 2;  // steps, layers
  }
  expect_paged(Opcode::kQkvProj, 0);
  expect_paged(Opcode::kOutProj, 0);
  expect_paged(Opcode::kGateUp, 0);
  expect_paged(Opcode::kLinear, num_routers);
  expect_paged(Opcode::kExpertGateUp, 0);
  expect_paged(Opcode::kExpertDown, 0);
}

TEST_P(DenseStagesTest, KvCacheOfBf16) {
  kv_cache_ = KvCacheType::kBf16;
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), paged_checkpoint(GetParam())));
  ModelRunner runner = open(directory.path(), {});
  ASSERT_TRUE(runner.feed(prompt(20), 1, 1));
  expect_paged(Opcode::kQkvProj, 0);
}

TEST_P(DenseStagesTest, KvCacheOfFp8) {
  kv_cache_ = KvCacheType::kFp8;
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), paged_checkpoint(GetParam())));
  ModelRunner runner = open(directory.path(), {});
  ASSERT_TRUE(runner.feed(prompt(20), 1, 1));
  expect_paged(Opcode::kQkvProj, 0);
}

// QkvProj's rows go to tiles.
TEST_P(DenseStagesTest, CachesOfTiles) {
  GeneratorOptions generator = paged_checkpoint(GetParam());
  generator.head_dim = 192;
  generator.sliding_window = 128;
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), generator));
  for (const KvCacheType type : {KvCacheType::kBf16, KvCacheType::kFp8}) {
    kv_cache_ = type;
    const uint64_t before = report_.caches.num_tile_stages;
    RunnerOptions options;
    options.width = 64;
    ModelRunner runner = open(directory.path(), options);
    ASSERT_TRUE(runner.feed(prompt(70), 1, 1));
    EXPECT_EQ(report_.caches.num_tile_stages - before, 2u * 2 * 3);  // steps; QkvProj, Attention
  }
  expect_paged(Opcode::kQkvProj, 0);
}

// The heads' Linear is of accepted columns alone; their eh_proj has two inputs.
TEST_P(DenseStagesTest, MtpHeads) {
  GeneratorOptions generator = paged_checkpoint(GetParam());
  generator.num_mtp_layers = 2;
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), generator));
  RunnerOptions options;
  options.has_mtp = true;
  ModelRunner runner = open(directory.path(), options);
  ASSERT_TRUE(runner.feed(prompt(12), 3, 2));
  expect_paged(Opcode::kQkvProj, 0);
  expect_paged(Opcode::kOutProj, 0);
  expect_paged(Opcode::kLinear, 2 * (2 + 2));  // steps; routers and eh_proj
}

// Chunks of o_proj and down that are filled up to pages, of down in FP8 from within a block on;
// hidden sizes of fewer pages than a cluster has CTAs.
TEST_P(DenseStagesTest, SmallShapes) {
  GeneratorOptions generator;
  generator.linear_format = generator.output_projection_format = GetParam();
  generator.embedding_format = GetParam();
  if (GetParam() == WeightFormat::kFp8Block128) generator.expert_format = GetParam();
  generator.hidden_size = 512;
  generator.intermediate_size = 1536;
  generator.vocab_size = 512;
  generator.num_q_heads = 8;
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), generator));
  for (const uint32_t width : {8u, 64u}) {
    RunnerOptions options;
    options.width = width;
    ModelRunner runner = open(directory.path(), options);
    const auto result = runner.feed(prompt(width * 3 / 2), 4, 7);
    ASSERT_TRUE(result) << result.error().message;
  }
  expect_paged(Opcode::kQkvProj, 0);
  expect_paged(Opcode::kOutProj, 0);
  expect_paged(Opcode::kGateUp, 0);
  expect_paged(Opcode::kLinear, 2 * 2 * 3);  // widths, steps, routers
}

// A drafter's heads without norms of their own: q alone, k and v without a cache. Its fc has three
// inputs.
TEST_P(DenseStagesTest, DraftBlocks) {
  const TemporaryDirectory target, drafter;
  ASSERT_TRUE(write_checkpoint(target.path(), paged_checkpoint(GetParam())));
  DrafterOptions drafter_options;
  drafter_options.hidden_size = 1024;
  drafter_options.intermediate_size = 4096;
  drafter_options.vocab_size = 512;
  drafter_options.num_target_layers = 3;
  drafter_options.target_layer_ids = {0, 1, 2};
  ASSERT_TRUE(write_drafter(drafter.path(), drafter_options));
  RunnerOptions options;
  options.drafter = drafter.path();
  options.width = 16;
  ModelRunner runner = open(target.path(), options);
  ASSERT_TRUE(runner.feed(prompt(14), 0, 0));
  const auto output = runner.step(runner.draft_block(3, 8));
  ASSERT_TRUE(output) << output.error().message;
  expect_paged(Opcode::kQkvProj, 0);
  expect_paged(Opcode::kGateUp, 0);
  expect_paged(Opcode::kOutProj, 0);
  expect_paged(Opcode::kLinear, 2 * 2);  // steps, routers
}

}  // namespace
}  // namespace ultraspeed::test
