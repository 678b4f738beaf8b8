// What follows from the samples of `bench ablation`.
#include "apps/ablation_run.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ultraspeed::apps {
namespace {

AblationRun sample_run() {
  AblationRun run;
  run.gpu = "a GPU";
  run.shape = "a shape";
  run.accepted_length = 5;
  run.steps = {{Experts::kFp8, 1, false, {5000, 4000, 3000}}, {Experts::kFp8, 8, false, {12500}},
               {Experts::kMxfp4, 1, false, {3200}},           {Experts::kMxfp4, 1, true, {2500}},
               {Experts::kMxfp4, 8, false, {10000}},          {Experts::kMxfp4, 8, true, {8000}}};
  return run;
}

TEST(Ablation, AddsTheThreeAndLeavesEachOut) {
  const auto figures = ablation_figures(sample_run());
  ASSERT_EQ(figures.size(), 7u);
  const std::vector<double> steps = {4000, 3200, 10000, 8000, 12500, 2500, 10000};
  const std::vector<double> rates = {250, 312.5, 500, 625, 400, 400, 500};
  for (size_t i = 0; i < figures.size(); ++i) {
    EXPECT_DOUBLE_EQ(figures[i].step_us, steps[i]) << figures[i].name;
    EXPECT_DOUBLE_EQ(figures[i].tokens_per_second, rates[i]) << figures[i].name;
    EXPECT_DOUBLE_EQ(figures[i].speedup, rates[i] / 250) << figures[i].name;
  }
}

TEST(Ablation, TextJsonAndPictureHaveAllRows) {
  const AblationRun run = sample_run();
  const std::string text = ablation_text(run);
  const auto json = ablation_json(run);
  const std::string svg = ablation_svg(run);
  EXPECT_EQ(json["steps"][0]["us"], (std::vector<double>{5000, 4000, 3000}));
  EXPECT_EQ(json["accepted_length"], 5);
  for (const AblationFigure& figure : ablation_figures(run)) {
    EXPECT_NE(text.find(figure.name), std::string::npos) << figure.name;
    EXPECT_NE(svg.find(figure.name), std::string::npos) << figure.name;
  }
  EXPECT_EQ(json["figures"][3]["tokens_per_second"], 625);
  EXPECT_NE(text.find("2.50"), std::string::npos) << text;
}

}  // namespace
}  // namespace ultraspeed::apps
