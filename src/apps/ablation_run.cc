#include "apps/ablation_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/bench_result.h"
#include "apps/svg.h"
#include "base/check.h"

namespace ultraspeed::apps {
namespace {

double median_us(const AblationRun& run, Experts experts, bool is_speculative, bool is_resident) {
  const auto found = std::ranges::find_if(run.steps, [&](const AblationStep& step) {
    return step.experts == experts && (step.rows > 1) == is_speculative &&
           step.is_resident == is_resident;
  });
  US_CHECK(found != run.steps.end());
  return median(found->us);
}

}  // namespace

std::vector<AblationFigure> ablation_figures(const AblationRun& run) {
  struct Row {
    const char* name;
    Experts experts;
    bool is_speculative, is_resident;
  };
  constexpr Row kRows[] = {
      {"FP8 experts, a token a step, graph", Experts::kFp8, false, false},
      {"+ MXFP4 experts", Experts::kMxfp4, false, false},
      {"+ speculation", Experts::kMxfp4, true, false},
      {"+ kernels that stay: all three", Experts::kMxfp4, true, true},
      {"all but MXFP4 (FP8 experts run as a graph)", Experts::kFp8, true, false},
      {"all but speculation", Experts::kMxfp4, false, true},
      {"all but kernels that stay", Experts::kMxfp4, true, false},
  };
  std::vector<AblationFigure> figures;
  for (const Row& row : kRows) {
    AblationFigure figure;
    figure.name = row.name;
    figure.step_us = median_us(run, row.experts, row.is_speculative, row.is_resident);
    figure.tokens_per_second =
        1e6 * (row.is_speculative ? run.accepted_length : 1) / figure.step_us;
    figure.speedup =
        figures.empty() ? 1 : figure.tokens_per_second / figures.front().tokens_per_second;
    figures.push_back(std::move(figure));
  }
  return figures;
}

std::string ablation_text(const AblationRun& run) {
  TextTable table;
  table.head = {"", "us a step", "tokens/s", "x the first"};
  for (const AblationFigure& figure : ablation_figures(run)) {
    table.rows.push_back({figure.name, fmt::format("{:.0f}", figure.step_us),
                          fmt::format("{:.0f}", figure.tokens_per_second),
                          fmt::format("{:.2f}", figure.speedup)});
  }
  return fmt::format("{}\n{}\nspeculation: {} tokens a cycle\n\n{}", run.gpu, run.shape,
                     run.accepted_length, plain_table(table));
}

nlohmann::ordered_json ablation_json(const AblationRun& run) {
  using nlohmann::ordered_json;
  ordered_json json = {{"schema", kAblationRunSchema},
                       {"version", run.made_by.version},
                       {"commit", run.made_by.commit},
                       {"command", run.made_by.command},
                       {"gpu", run.gpu},
                       {"shape", run.shape},
                       {"accepted_length", run.accepted_length},
                       {"steps", ordered_json::array()},
                       {"figures", ordered_json::array()}};
  for (const AblationStep& step : run.steps) {
    json["steps"].push_back({{"experts", step.experts == Experts::kFp8 ? "fp8" : "mxfp4"},
                             {"rows", step.rows},
                             {"resident", step.is_resident},
                             {"us", step.us}});
  }
  for (const AblationFigure& figure : ablation_figures(run)) {
    json["figures"].push_back({{"name", figure.name},
                               {"step_us", figure.step_us},
                               {"tokens_per_second", figure.tokens_per_second},
                               {"speedup", figure.speedup}});
  }
  return json;
}

std::string ablation_svg(const AblationRun& run) {
  constexpr double kMargin = 20;
  constexpr double kWidth = 960;
  constexpr double kRowHeight = 40;
  BarChart chart{
      .title = "Tokens per second", .groups = {}, .series = {"from medians"}, .values = {{}}};
  for (const AblationFigure& figure : ablation_figures(run)) {
    chart.groups.push_back(figure.name);
    chart.values[0].push_back(figure.tokens_per_second);
  }
  const double height = 60 + kRowHeight * static_cast<double>(chart.groups.size());
  Svg svg(kWidth, height + 5 * kMargin);
  svg.text(kMargin, kMargin + 2, run.gpu);
  svg.text(kMargin, 2 * kMargin, run.shape);
  svg.text(kMargin, 3 * kMargin - 2,
           fmt::format("speculation: {} tokens a cycle", run.accepted_length));
  draw_horizontal_bars(chart, {kMargin, 3.5 * kMargin, kWidth - 2 * kMargin, height}, 1, &svg);
  return svg.str();
}

}  // namespace ultraspeed::apps
