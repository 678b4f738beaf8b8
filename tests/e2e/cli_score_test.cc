// ultraspeed score: the numbers, and texts longer than a window.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "e2e/cli.h"
#include "golden/golden_case.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;

std::string join(const std::vector<int32_t>& ids) {
  std::string list;
  for (const int32_t id : ids) list += (list.empty() ? "" : ",") + std::to_string(id);
  return list;
}

TEST(Score, AgreesWithTheLogprobsOfAGeneration) {
  const GoldenCase golden = tiny_mimo_cases()[4];
  const std::string count = "16";
  const json generated = run_cli_json({"run", "--prompt-ids", join(golden.prompt_ids), "--greedy",
                                       "--ignore-eos", "--max-tokens", count, "--logprobs", "1"});
  std::vector<int32_t> ids = golden.prompt_ids;
  ids.insert(ids.end(), golden.greedy_ids.begin(), golden.greedy_ids.begin() + 16);
  const json scored = run_cli_json({"score", "--prompt-ids", join(ids)});
  ASSERT_EQ(scored["nll"].size(), ids.size() - 1);
  for (size_t i = 0; i < 16; ++i) {
    const float nll = scored["nll"][golden.prompt_ids.size() - 1 + i];
    EXPECT_FLOAT_EQ(nll, -generated["logprobs"][i]["values"][0].get<float>()) << i;
  }
}

TEST(Score, MeanAndPerplexityAreThoseOfTheTokens) {
  const json scored = run_cli_json({"score", "--file", "-"}, "int main() {\n  return 0;\n}\n");
  const auto nll = scored["nll"].get<std::vector<double>>();
  const double mean =
      std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(nll.size());
  EXPECT_EQ(scored["ids"].size(), nll.size() + 1);
  EXPECT_EQ(scored["num_tokens"], nll.size() + 1);
  EXPECT_EQ(scored["num_scored"], nll.size());
  EXPECT_NEAR(scored["mean_nll"].get<double>(), mean, 1e-6);
  EXPECT_NEAR(scored["perplexity"].get<double>(), std::exp(mean), 1e-4);
  EXPECT_LT(mean, 4);  // the model knows such code: far better than chance, ln 12288 = 9.4
}

TEST(Score, WindowsOverlapAndScoreEveryTokenOnce) {
  std::string text;
  for (int i = 0; i < 12; ++i) text += "int value_" + std::to_string(i) + " = 0;\n";
  const json whole = run_cli_json({"score", "--file", "-"}, text);
  const json parts =
      run_cli_json({"score", "--file", "-", "--window", "32", "--stride", "12"}, text);
  ASSERT_EQ(parts["nll"].size(), whole["nll"].size());
  ASSERT_GT(whole["nll"].size(), 60u);
  for (size_t i = 0; i < 31; ++i) EXPECT_EQ(parts["nll"][i], whole["nll"][i]);
  EXPECT_NE(parts["nll"][31], whole["nll"][31]);  // less context from here on
}

TEST(Score, PrintsASummaryAndOnRequestTheTokens) {
  const Finished summary = run_cli({"score", "--file", "-"}, "int x;");
  EXPECT_EQ(summary.exit_code, 0);
  EXPECT_TRUE(summary.output.starts_with("tokens      ")) << summary.output;
  EXPECT_NE(summary.output.find("\nperplexity  "), std::string::npos);
  const Finished tokens = run_cli({"score", "--file", "-", "--tokens"}, "int x;\n");
  EXPECT_NE(tokens.output.find("\"int\"\n"), std::string::npos) << tokens.output;
  EXPECT_NE(tokens.output.find("\\n\"\n"), std::string::npos);
}

TEST(Score, OpensNoDrafter) {
  for (const char* variable :
       {"ULTRASPEED_DRAFTER=mtp", "ULTRASPEED_DRAFTER=dflash", "ULTRASPEED_DRAFTER=/nowhere/"}) {
    const Finished scored = run_cli({"score", "--prompt-ids", "740,741,742"}, "", {variable});
    EXPECT_EQ(scored.exit_code, 0) << variable << ": " << scored.errors;
  }
}

TEST(Score, RefusesWhatItCannotScore) {
  const auto message = [](const std::vector<std::string>& arguments, const std::string& input) {
    const Finished finished = run_cli(arguments, input);
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_EQ(finished.output, "");
    return finished.errors;
  };
  EXPECT_NE(message({"score", "--file", "-"}, "").find("at least 2"), std::string::npos);
  EXPECT_NE(message({"score", "--file", "-", "--window", "9000"}, "a b").find("--window 9000"),
            std::string::npos);
  EXPECT_NE(message({"score", "--file", "-", "--window", "1"}, "a b")
                .find("--window 1: expected at least 2 tokens"),
            std::string::npos);
  EXPECT_NE(
      message({"score", "--file", "-", "--window", "8", "--stride", "8"}, "a b").find("--stride 8"),
      std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::test
