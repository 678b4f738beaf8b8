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

}  // namespace
}  // namespace ultraspeed::test
