// Reports of other families than MiMo-V2: every byte against the published
// parameter counts, on all numbers of ranks that the shapes allow.
#include <gtest/gtest.h>

#include "plan/report.h"
#include "plan/report_formulas_test.h"
#include "support/published_config.h"

namespace ultraspeed::plan {
namespace {

using ultraspeed::test::load_published;

Result<PlanReport> report_of(const model::ModelConfig& config, uint32_t ranks, uint32_t width) {
  ReportOptions options;
  options.num_ranks = ranks;
  options.width = width;
  options.context = 4096;
  return make_report(config, nullptr, *find_device("h100"), options);
}

void expect_near(uint64_t bytes, uint64_t expected, double relative) {
  EXPECT_NEAR(static_cast<double>(bytes), static_cast<double>(expected),
              relative * static_cast<double>(expected));
}

TEST(ShapeReport, LlamaReadsItsParametersOnce) {
  const model::ModelConfig config = load_published("llama-3.2-1b");
  const uint64_t parameters = 1'235'814'400;
  const uint64_t table = uint64_t{128256} * 2048;
  for (const uint32_t ranks : {1U, 2U, 4U, 8U}) {
    const auto report = report_of(config, ranks, 8);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    EXPECT_FALSE(report->has_experts());
    EXPECT_EQ(report->group(WeightGroup::kExperts).stored, 0U);
    EXPECT_EQ(report->group(WeightGroup::kRouter).stored, 0U);
    EXPECT_EQ(report->cycle.per_live_expert, 0U);
    // Norms are F32 and whole on every rank, and 8 rows of the table are gathered.
    const uint64_t norms = uint64_t{33} * 2048;
    const uint64_t gathered = test::bf16(uint64_t{8} * 2048);
    const uint64_t matrices = test::bf16(parameters - norms);
    EXPECT_EQ(report->cycle.non_expert * ranks, matrices + ranks * test::f32(norms) + gathered);
    // The tied table is kept twice: whole rows for the head, and for the embedding columns.
    EXPECT_EQ(report->memory.weights * ranks,
              matrices + test::bf16(table) + ranks * test::f32(norms));
  }
}

TEST(ShapeReport, GptOssReadsItsParametersOnce) {
  const model::ModelConfig config = load_published("gpt-oss-20b");
  const uint64_t hidden = 2880, layers = 24;
  const uint64_t expert = 3 * hidden * hidden;
  for (const uint32_t ranks : {1U, 2U}) {
    for (const uint32_t width : {1U, 8U}) {
      const auto report = report_of(config, ranks, width);
      ASSERT_TRUE(report.has_value()) << report.error().message;
      EXPECT_EQ(report->num_expert_layers, layers);
      const auto read = [&](WeightGroup group) { return report->group(group).read * ranks; };
      // Biases are F32; those of hidden rows are whole on every rank.
      EXPECT_EQ(read(WeightGroup::kQkv), layers * (test::bf16(hidden * 5120) + test::f32(5120)));
      EXPECT_EQ(read(WeightGroup::kOProj),
                layers * (test::bf16(hidden * 4096) + ranks * test::f32(hidden)));
      const uint64_t expert_biases = test::f32(2 * hidden) + ranks * test::f32(hidden);
      EXPECT_EQ(read(WeightGroup::kExperts), layers * (test::mxfp4(expert) + expert_biases));
      EXPECT_EQ(read(WeightGroup::kHead), test::bf16(hidden * 201088));
      EXPECT_EQ(read(WeightGroup::kDense), 0U);
      const uint64_t routers = layers * test::f32((hidden + 1) * 32);
      EXPECT_EQ(read(WeightGroup::kRouter), ranks * routers);
      EXPECT_EQ(report->group(WeightGroup::kExperts).stored * ranks,
                layers * 32 * (test::mxfp4(expert) + expert_biases));
    }
  }
}

// By the published parameters: what is stored of 20.91 B, and what one token reads of 3.61 B.
TEST(ShapeReport, GptOssHasTheBytesOfItsModelCard) {
  const model::ModelConfig config = load_published("gpt-oss-20b");
  const auto report = report_of(config, 1, 1);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->parameters.total, 20'914'757'184U);
  const uint64_t in_experts = uint64_t{24} * 3 * 2880 * 2880;
  const uint64_t others = report->parameters.total - 32 * in_experts;
  expect_near(report->memory.weights, test::bf16(others) + test::mxfp4(32 * in_experts), 0.002);
  EXPECT_EQ(report->expected_live_experts, 4);
  const uint64_t table = uint64_t{201088} * 2880;
  const uint64_t active = report->parameters.active - table;
  expect_near(active, 3'608'307'264, 1e-4);
  expect_near(static_cast<uint64_t>(report->step_weight_bytes()),
              test::bf16(active - 4 * in_experts) + test::mxfp4(4 * in_experts), 0.002);
}

// 12 layers see 128 + 7 positions, 12 all, of 8 heads of 64 + 64 elements.
TEST(ShapeReport, GptOssReadsItsKeysAndValues) {
  const auto report = report_of(load_published("gpt-oss-20b"), 1, 8);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->cycle.kv, uint64_t{12} * 8 * 128 * 2 * (4096 + 135));
}

// Experts have 2880 columns: a quarter would be 22.5 blocks of MXFP4, so two of four ranks have
// half.
TEST(ShapeReport, RanksShareWholeScaleBlocks) {
  const model::ModelConfig config = load_published("gpt-oss-20b");
  const auto two = report_of(config, 2, 8), four = report_of(config, 4, 8);
  ASSERT_TRUE(two.has_value() && four.has_value()) << four.error().message;
  EXPECT_EQ(four->group(WeightGroup::kExperts).stored, two->group(WeightGroup::kExperts).stored);
  const uint64_t bias = uint64_t{24} * test::f32(2880);  // whole on each
  EXPECT_EQ((four->group(WeightGroup::kOProj).stored - bias) * 2,
            two->group(WeightGroup::kOProj).stored - bias);
}

}  // namespace
}  // namespace ultraspeed::plan
