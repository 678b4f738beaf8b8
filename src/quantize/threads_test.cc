// What the threads of a run share, for a sanitizer that looks for races.
#include <gtest/gtest.h>

#include <filesystem>

#include "quantize/quantize_fixture.h"
#include "quantize/quantizer.h"

namespace ultraspeed::quantize {
namespace {

TEST(QuantizeThreads, ShareNothingUnordered) {
  const test::TemporaryDirectory folder;
  const std::string source = folder.path() + "/source";
  std::filesystem::create_directory(source);
  ASSERT_TRUE(test::write_checkpoint(source, bf16_options(model::QkvLayout::kSplit)));
  QuantizeOptions options = small_run(source, 4);
  options.memory_bytes *= 2;
  const auto result = quantize(options, OutputFolder(folder.path() + "/target"));
  EXPECT_TRUE(result) << result.error().message;
}

}  // namespace
}  // namespace ultraspeed::quantize
