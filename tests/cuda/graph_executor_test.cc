// The graph executor's texts: those of the goldens, and the same for every width and company.
#include <gtest/gtest.h>

#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "golden/expect_golden.h"
#include "support/checkpoint_generator.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"

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

TEST_F(GraphGolden, AFusedCheckpointEqualsTransformers) {
  const auto directory = reference_folder("mimo_v2_fused_t2_swa4");
  ASSERT_TRUE(directory) << directory.error().message;
  expect_all(*directory, reference_cases(*directory), 8);
}

TEST_F(GraphGolden, FamiliesEqualTransformers) {
  for (const char* family : kFamilyFolders) {
    const auto directory = reference_folder(family);
    ASSERT_TRUE(directory) << directory.error().message;
    expect_all(*directory, reference_cases(*directory), 16);
  }
}

// Attention to tiles takes the positions of a sequence's columns from the first one's.
TEST(GraphExecutor, ColumnsOverTilesHaveNoGaps) {
  US_NEEDS_GPU();
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), tile_options()));
  for (const auto type : {program::KvCacheType::kF32, program::KvCacheType::kBf16}) {
    RunnerOptions options;
    options.make_executor = [type] {
      return cuda::make_graph_executor(program::Activations::kF32, type);
    };
    auto runner = ModelRunner::open(directory.path(), options);
    ASSERT_TRUE(runner) << runner.error().message;
    std::vector<program::Column> columns(3);
    columns[1].position = 1;
    columns[2].position = 3;
    const auto output = runner->step(columns);
    EXPECT_EQ(output.has_value(), type == program::KvCacheType::kF32);
    if (output) continue;
    EXPECT_EQ(output.error().message,
              "column 2 is at position 3 after 1; expected no gap with a KV cache of tiles");
  }
}

}  // namespace
}  // namespace ultraspeed::test
