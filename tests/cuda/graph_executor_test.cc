// The graph executor's texts: those of the goldens, and the same for every width and company.
#include <gtest/gtest.h>

#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "golden/golden_case.h"
#include "support/reference_checkpoint.h"

namespace ultraspeed::test {
namespace {

constexpr float kTolerance = 2e-4F;  // docs/numerics.md section 4

class GraphGolden : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  void expect_golden(const std::string& directory, const std::vector<GoldenCase>& cases,
                     uint32_t width) {
    RunnerOptions options;
    options.width = width;
    options.num_workers = 132;
    options.make_executor = [] { return cuda::make_graph_executor(); };
    auto runner = ModelRunner::open(directory, options);
    ASSERT_TRUE(runner) << runner.error().message;
    for (const GoldenCase& golden : cases) {
      const auto result = compare(&*runner, golden);
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(result->wrong_tokens, 0u) << golden.name;
      EXPECT_LT(result->largest_difference, kTolerance) << golden.name;
      std::printf("%s: largest logit difference %.2g, smallest gap %.2g\n", golden.name.c_str(),
                  static_cast<double>(result->largest_difference),
                  static_cast<double>(result->smallest_gap));
    }
  }
};

TEST_F(GraphGolden, TinyMimoEqualsTransformers) {
  expect_golden(US_SOURCE_DIR "/models/tiny-mimo", tiny_mimo_cases(), 64);
}

TEST_F(GraphGolden, FusedCheckpointsEqualTransformers) {
  for (const char* name : {"mimo_v2_fused_t2", "mimo_v2_fused_t2_swa4"}) {
    const auto directory = reference_checkpoint(name);
    ASSERT_TRUE(directory) << directory.error().message;
    expect_golden(*directory, reference_cases(*directory), 8);
  }
}

}  // namespace
}  // namespace ultraspeed::test
