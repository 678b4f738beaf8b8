// The picture of `bench decode --svg`.
#include <fmt/format.h>

#include <algorithm>

#include "apps/bench_result.h"
#include "apps/svg.h"

namespace ultraspeed::apps {
namespace {

constexpr double kMargin = 20;
constexpr double kPanelHeight = 230;
constexpr double kMinWidth = 720;
constexpr double kGroupWidth = 130;

std::string group_name(const BenchResult& result) {
  return fmt::format("{} stream{}, block {}", result.streams, result.streams == 1 ? "" : "s",
                     result.block);
}

// A chart with a group for every (streams, block) and a series for every drafter.
template <class Value>
BarChart chart_of(const BenchReport& report, std::string title, Value value) {
  BarChart chart{.title = std::move(title), .groups = {}, .series = {}, .values = {}};
  for (const BenchResult& result : report.results) {
    const std::string group = group_name(result);
    if (std::ranges::find(chart.groups, group) == chart.groups.end()) chart.groups.push_back(group);
    auto series = std::ranges::find(chart.series, result.drafter);
    if (series == chart.series.end()) {
      chart.series.push_back(result.drafter);
      chart.values.emplace_back();
      series = chart.series.end() - 1;
    }
    chart.values[static_cast<size_t>(series - chart.series.begin())].push_back(value(result));
  }
  return chart;
}

// The shares of the cycles by their tokens, of the last streams and block.
BarChart histogram(const BenchReport& report) {
  const BenchResult& last = report.results.back();
  BarChart chart{.title = "Per cent of cycles by tokens, " + group_name(last),
                 .groups = {},
                 .series = {},
                 .values = {}};
  for (uint32_t tokens = 1; tokens <= last.block; ++tokens) {
    chart.groups.push_back(fmt::format("{}", tokens));
  }
  for (const BenchResult& result : report.results) {
    if (group_name(result) != group_name(last)) continue;
    chart.series.push_back(result.drafter);
    auto& values = chart.values.emplace_back(last.block, 0);
    const std::vector<double> shares = result.speculation().length_shares();
    for (size_t i = 0; i < shares.size(); ++i) values[i] = 100 * shares[i];
  }
  return chart;
}

}  // namespace

std::string bench_svg(const BenchReport& report) {
  const BarChart speed = chart_of(report, "Tokens per second, all streams",
                                  [](const BenchResult& r) { return r.tokens_per_second(); });
  const BarChart length =
      chart_of(report, "Accepted length (tokens a cycle)",
               [](const BenchResult& r) { return r.speculation().accepted_length(); });
  const double width =
      std::max(kMinWidth, kGroupWidth * static_cast<double>(speed.groups.size())) + 2 * kMargin;
  Svg svg(width, 3 * (kPanelHeight + kMargin) + 2 * kMargin);
  svg.text(kMargin, kMargin + 2,
           fmt::format("{}, {} prompts, greedy, on {}", report.model, report.prompts.size(),
                       bench_device(report)));
  double y = 2 * kMargin;
  for (const BarChart& chart : {speed, length, histogram(report)}) {
    draw_bars(chart, {kMargin, y, width - 2 * kMargin, kPanelHeight}, true, &svg);
    y += kPanelHeight + kMargin;
  }
  return svg.str();
}

}  // namespace ultraspeed::apps
