#include "apps/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace ultraspeed::apps {
namespace {

constexpr std::string_view kInk = "#222222";
constexpr std::string_view kGrid = "#dddddd";
// Okabe and Ito's colours, which differ for colour-blind eyes, too.
constexpr std::array<std::string_view, 7> kColors = {"#999999", "#0072b2", "#e69f00", "#009e73",
                                                     "#cc79a7", "#d55e00", "#56b4e9"};
constexpr double kTitleHeight = 26;
constexpr double kNamesHeight = 22;
constexpr double kAxisWidth = 52;

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

// 1, 2 or 5 times a power of ten, so that about four steps reach `most`.
double axis_step(double most) {
  const double rough = most / 4;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

double largest_value(const BarChart& chart) {
  double most = 0;
  for (const auto& of_series : chart.values) {
    for (const double value : of_series) most = std::max(most, value);
  }
  return most > 0 ? most : 1;
}

std::string_view color_of(size_t series) {
  return kColors[series % kColors.size()];
}

std::string short_number(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

}  // namespace

Svg::Svg(double width, double height) : width_(width), height_(height) {
  rect(0, 0, width, height, "#ffffff");
}

void Svg::rect(double x, double y, double width, double height, std::string_view color) {
  body_ += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y,
      width, height, color);
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view color) {
  body_ +=
      fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n",
                  x1, y1, x2, y2, color);
}

void Svg::text(double x, double y, std::string_view text, Anchor anchor, double size) {
  constexpr std::array<std::string_view, 3> kNames = {"start", "middle", "end"};
  body_ += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:.0f}\" text-anchor=\"{}\" fill=\"{}\">{}"
      "</text>\n",
      x, y, size, kNames[static_cast<size_t>(anchor)], kInk, escaped(text));
}

std::string Svg::str() const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\">\n{2}</svg>\n",
      width_, height_, body_);
}

void draw_bars(const BarChart& chart, const SvgArea& area, bool with_legend, Svg* svg) {
  svg->text(area.x, area.y + 15, chart.title, Svg::Anchor::kStart, 14);
  if (with_legend) {
    double x = area.x + area.width;
    for (size_t i = chart.series.size(); i-- > 0;) {
      x -= 30 + 7.0 * static_cast<double>(chart.series[i].size());
      svg->rect(x, area.y + 5, 11, 11, color_of(i));
      svg->text(x + 16, area.y + 15, chart.series[i]);
    }
  }
  const double left = area.x + kAxisWidth;
  const double bottom = area.y + area.height - kNamesHeight;
  const double step = axis_step(largest_value(chart));
  const auto num_steps = static_cast<int>(largest_value(chart) / step) + 1;
  const double scale = (bottom - area.y - kTitleHeight) / (step * num_steps);
  for (int i = 0; i <= num_steps; ++i) {
    const double value = step * i;
    const double y = bottom - scale * value;
    svg->line(left, y, area.x + area.width, y, value == 0 ? kInk : kGrid);
    svg->text(left - 6, y + 4, short_number(value), Svg::Anchor::kEnd, 11);
  }
  const double group_width =
      (area.x + area.width - left) / static_cast<double>(chart.groups.size());
  const double bar_width =
      std::min(0.8 * group_width / static_cast<double>(chart.series.size()), 48.0);
  for (size_t group = 0; group < chart.groups.size(); ++group) {
    const double middle = left + group_width * (static_cast<double>(group) + 0.5);
    svg->text(middle, bottom + 16, chart.groups[group], Svg::Anchor::kMiddle, 11);
    double x = middle - bar_width * static_cast<double>(chart.series.size()) / 2;
    for (size_t i = 0; i < chart.series.size(); ++i, x += bar_width) {
      const double value = chart.values[i][group];
      svg->rect(x, bottom - scale * value, bar_width - 1, scale * value, color_of(i));
      if (bar_width < 18) continue;  // too narrow for a number
      svg->text(x + bar_width / 2, bottom - scale * value - 3, short_number(value),
                Svg::Anchor::kMiddle, 10);
    }
  }
}

}  // namespace ultraspeed::apps
