// The graph executor's texts: those of the goldens, and the same for every width and company.
#include <gtest/gtest.h>

#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "golden/expect_golden.h"
#include "support/reference_checkpoint.h"

namespace ultraspeed::test {
namespace {

class GraphGolden : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  static void expect_all(const std::string& directory, const std::vector<GoldenCase>& cases,
                         uint32_t width) {
    RunnerOptions options;
    options.width = width;
    options.num_workers = 132;
    options.make_executor = [] { return cuda::make_graph_executor(); };
    auto runner = ModelRunner::open(directory, options);
    ASSERT_TRUE(runner) << runner.error().message;
    for (const GoldenCase& golden : cases) expect_golden(&*runner, golden);
  }
};

TEST_F(GraphGolden, TinyMimoEqualsTransformers) {
  expect_all(US_SOURCE_DIR "/models/tiny-mimo", tiny_mimo_cases(), 64);
}

TEST_F(GraphGolden, FusedCheckpointsEqualTransformers) {
  for (const char* name : {"mimo_v2_fused_t2", "mimo_v2_fused_t2_swa4"}) {
    const auto directory = reference_checkpoint(name);
    ASSERT_TRUE(directory) << directory.error().message;
    expect_all(*directory, reference_cases(*directory), 8);
  }
}

}  // namespace
}  // namespace ultraspeed::test
