// ultraspeed plan on the true shape, as a user calls it. The numbers are tested in src/plan.
#include <gtest/gtest.h>

#include <chrono>

#include "e2e/cli.h"

namespace ultraspeed::test {
namespace {

TEST(Plan, TheTrueModelOnEightRanksInTenSeconds) {
  const auto begin = std::chrono::steady_clock::now();
  const Finished finished = run_cli({"plan", "--config", US_SOURCE_DIR "/configs/mimo-v2.5-pro",
                                     "--device", "h200", "--ranks", "8"});
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  for (const char* word : {"tokens", "4.29", "5.56", "6.3"}) {
    EXPECT_NE(finished.output.find(word), std::string::npos) << word;
  }
  EXPECT_LT(elapsed, std::chrono::seconds(10));
}

// Experts are spoken of where there are any.
TEST(Plan, OtherFamilies) {
  const auto output_of = [](const char* name, const char* ranks) {
    const Finished finished =
        run_cli({"plan", "--config", std::string(US_SOURCE_DIR "/configs/") + name, "--device",
                 "h100", "--ranks", ranks});
    EXPECT_EQ(finished.exit_code, 0) << finished.errors;
    return finished.output;
  };
  EXPECT_NE(output_of("gpt-oss-20b", "2").find("live experts"), std::string::npos);
  EXPECT_EQ(output_of("llama-3.2-1b", "1").find("expert"), std::string::npos);
  const Finished inspected = run_cli({"inspect", US_SOURCE_DIR "/configs/llama-3.2-1b"});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.errors;
  EXPECT_NE(inspected.output.find("128256, tied embeddings"), std::string::npos);
}

TEST(Simulate, PrintsTablesAndTakesAMeasuredFile) {
  const Finished finished = run_cli({"simulate", "--config", US_SOURCE_DIR "/models/tiny-mimo",
                                     "--devices", "h100", "--ranks", "2,8", "--measured",
                                     US_SOURCE_DIR "/tests/data/bench_kernels_h100.json"});
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  for (const char* part : {"Tokens per second", "(NVIDIA H100 80GB HBM3)", "all-reduce two-shot"}) {
    EXPECT_NE(finished.output.find(part), std::string::npos) << finished.output;
  }
  EXPECT_EQ(run_cli({"simulate", "--config", "x", "--widths", "9"}).exit_code, 2);
}

}  // namespace
}  // namespace ultraspeed::test
