// Both forms of a plan report, of a small model.
#include "apps/plan_output.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ultraspeed::apps {
namespace {

plan::PlanReport small_report(const std::string& folder = "/models/tiny-mimo") {
  const auto config = model::ModelConfig::load(US_SOURCE_DIR + folder);
  EXPECT_TRUE(config.has_value()) << config.error().message;
  plan::ReportOptions options;
  options.num_ranks = 2;
  auto report = plan::make_report(*config, nullptr, *plan::find_device("h100"), options);
  EXPECT_TRUE(report.has_value()) << report.error().message;
  return *report;
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in\n" << text;
}

TEST(PlanOutput, TablesSayWhatTheyAreFor) {
  const std::string text = plan_tables(small_report());
  expect_contains(text, "2 x H100 SXM 80 GB: 132 SMs");
  expect_contains(text, "7 layers with 32 experts, 4 a token");
  expect_contains(text, "critical path 76 hops; layers x hops: 1 x 8 + 5 x 9 + 2 x 10");
  expect_contains(text, "  of 84.9: fits, leaves ");
  expect_contains(text, "1.3 us a hop");
  expect_contains(text, "No dflash/config.json");
  EXPECT_EQ(text.find("drafter   "), std::string::npos);  // rows of nothing are left out
  EXPECT_EQ(text.back(), '\n');
}

TEST(PlanOutput, TablesOfADenseModelDoNotSpeakOfExperts) {
  const plan::PlanReport report = small_report("/configs/llama-3.2-1b");
  const std::string text = plan_tables(report);
  expect_contains(text, "1.24 B parameters, 1.24 B active, 16 layers\n");
  expect_contains(text, "\n     all weights       cycle    all GPUs  floor, ms\n");
  EXPECT_EQ(text.find("expert"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(plan_json(report));
  ASSERT_EQ(json["predictions"].size(), plan::kUsPerHop.size());
}

TEST(PlanOutput, TablesOfExpertsWithBiases) {
  const std::string text = plan_tables(small_report("/configs/gpt-oss-20b"));
  expect_contains(text, "24 layers with 32 experts, 4 a token");
  expect_contains(text, "21.0 is the expectation");
}

TEST(PlanOutput, TablesSayWhatDoesNotFit) {
  plan::PlanReport report = small_report();
  report.device.limits.memory_bytes = report.memory.total() - 500'000'000;
  expect_contains(plan_tables(report), "of 1.5: DOES NOT FIT, lacks 0.5");
}

TEST(PlanOutput, TablesMarkAnUnmeasuredDevice) {
  plan::PlanReport report = small_report();
  report.device = *plan::find_device("b200");
  expect_contains(plan_tables(report), "streams 7.36 TB/s (not measured: 92 % of");
}

TEST(PlanOutput, JsonHasTheSameFigures) {
  const plan::PlanReport report = small_report();
  const auto json = nlohmann::json::parse(plan_json(report));
  EXPECT_EQ(json["model"]["layers"], 8);
  EXPECT_EQ(json["options"]["ranks"], 2);
  EXPECT_EQ(json["program"]["critical_path_hops"], report.program.critical_path_hops);
  EXPECT_EQ(json["program"]["dependencies"], report.program.num_waits);
  EXPECT_EQ(json["program"]["hops_per_layer"].size(), 8U);
  uint64_t weights = 0;
  for (const auto& [group, bytes] : json["memory_per_gpu"]["weights"].items()) {
    weights += bytes.get<uint64_t>();
  }
  EXPECT_EQ(weights, report.memory.weights);
  EXPECT_EQ(json["memory_per_gpu"]["total"], report.memory.total());
  EXPECT_TRUE(json["memory_per_gpu"]["fits"].get<bool>());
  uint64_t non_expert = 0;
  for (const auto& [group, bytes] : json["bytes_per_cycle_and_gpu"]["non_expert_groups"].items()) {
    non_expert += bytes.get<uint64_t>();
  }
  EXPECT_EQ(non_expert, report.cycle.non_expert);

  const auto& rows = json["predictions"];
  ASSERT_EQ(rows.size(), plan::live_expert_cases(report).size() * plan::kUsPerHop.size());
  for (const auto& row : rows) {
    const double seconds = plan::cycle_seconds(report, row["live_experts"], row["us_per_hop"]);
    EXPECT_DOUBLE_EQ(row["cycle_seconds"], seconds);
    ASSERT_EQ(row["speeds"].size(), 3U);
    EXPECT_DOUBLE_EQ(row["speeds"][1]["tokens_per_second"], 5.56 / seconds);
  }
}

}  // namespace
}  // namespace ultraspeed::apps
