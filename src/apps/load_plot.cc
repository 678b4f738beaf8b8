// The picture of `bench serve --plot`.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "apps/bench_result.h"
#include "apps/load_report.h"
#include "apps/svg.h"

namespace ultraspeed::apps {
namespace {

constexpr double kLoadMargin = 20;
constexpr double kLoadWidth = 760;
constexpr double kLoadPanelHeight = 230;

struct LoadSeries {
  const char* name;
  const std::vector<double>& values;
};

BarChart percentiles(std::string title, const std::vector<LoadSeries>& series) {
  constexpr std::array<std::pair<const char*, double>, 4> kShares = {
      {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}}};
  BarChart chart{.title = std::move(title), .groups = {}, .series = {}, .values = {}};
  for (const auto& [name, share] : kShares) chart.groups.push_back(name);
  for (const auto& [name, values] : series) {
    chart.series.push_back(name);
    auto& bars = chart.values.emplace_back();
    for (const auto& [unused, share] : kShares) {
      bars.push_back(values.empty() ? 0 : quantile(values, share));
    }
  }
  return chart;
}

// Shares of the times between events, by powers of two.
BarChart gap_histogram(const std::vector<double>& values) {
  BarChart chart{.title = "Per cent of the times between events, by ms from 0 up",
                 .groups = {},
                 .series = {"between events"},
                 .values = {{}}};
  double low = 0;
  for (double high = 0.125; high <= 512; high *= 2) {
    const auto count = std::ranges::count_if(
        values, [&](double value) { return value >= low && (value < high || high == 512); });
    chart.groups.push_back(
        fmt::format("{}{:.3g}", high == 512 ? ">" : "<", high == 512 ? low : high));
    chart.values[0].push_back(values.empty() ? 0
                                             : 100.0 * static_cast<double>(count) /
                                                   static_cast<double>(values.size()));
    low = high;
  }
  return chart;
}

}  // namespace

std::string load_svg(const LoadReport& report) {
  const LoadFigures& figures = report.figures;
  const std::array<BarChart, 4> charts = {
      percentiles("Time to first token, ms", {{"first token", figures.first_token_ms}}),
      percentiles(
          "Time per output token and between events, ms",
          {{"per token", figures.ms_per_token}, {"between events", figures.inter_event_ms}}),
      percentiles("End to end, ms", {{"end to end", figures.end_to_end_ms}}),
      gap_histogram(figures.inter_event_ms)};
  Svg svg(kLoadWidth + 2 * kLoadMargin,
          charts.size() * (kLoadPanelHeight + kLoadMargin) + 2 * kLoadMargin);
  svg.text(kLoadMargin, kLoadMargin + 2,
           fmt::format("{}: {} of {} requests, {} tokens, {:.1f} tokens/s", report.options.model,
                       figures.num_succeeded, report.run.requests.size(), figures.tokens,
                       figures.tokens_per_second));
  double y = 2 * kLoadMargin;
  for (const BarChart& chart : charts) {
    draw_bars(chart, {kLoadMargin, y, kLoadWidth, kLoadPanelHeight}, true, &svg);
    y += kLoadPanelHeight + kLoadMargin;
  }
  return svg.str();
}

}  // namespace ultraspeed::apps
