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
constexpr double kValueWidth = 34;  // a number after a lying bar

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

double largest_value(const BarChart& chart, double least = 0) {
  double most = least;
  for (const auto& of_series : chart.values) {
    for (const double value : of_series) most = std::max(most, value);
  }
  for (const auto& of_series : chart.ranges) {
    for (const auto& [low, high] : of_series) most = std::max(most, high);
  }
  return most > 0 ? most : 1;
}

std::string_view color_of(size_t series) {
  return kColors[series % kColors.size()];
}

std::string short_number(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

void draw_title(const BarChart& chart, const SvgArea& area, bool with_legend, Svg* svg) {
  svg->text(area.x, area.y + 15, chart.title, Svg::Anchor::kStart, 14);
  if (!with_legend) return;
  double x = area.x + area.width;
  for (size_t i = chart.series.size(); i-- > 0;) {
    x -= 30 + 7.0 * static_cast<double>(chart.series[i].size());
    svg->rect(x, area.y + 5, 11, 11, color_of(i));
    svg->text(x + 16, area.y + 15, chart.series[i]);
  }
}

// Values from 0 to `most` or more at equal distances; with room beyond it, where asked.
struct Axis {
  Axis(double most, double length, bool has_room)
      : step(axis_step(most)),
        num_steps(static_cast<int>(has_room ? most / step + 1 : std::ceil(most / step))),
        scale(length / (step * num_steps)) {}

  double step;
  int num_steps;
  double scale;  // length of 1
};

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
  draw_title(chart, area, with_legend, svg);
  const double left = area.x + kAxisWidth;
  const double bottom = area.y + area.height - kNamesHeight;
  const Axis axis(largest_value(chart), bottom - area.y - kTitleHeight, true);
  for (int i = 0; i <= axis.num_steps; ++i) {
    const double value = axis.step * i;
    const double y = bottom - axis.scale * value;
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
      const double height = axis.scale * value;
      svg->rect(x, bottom - height, bar_width - 1, height, color_of(i));
      double top = bottom - height;
      if (!chart.ranges.empty()) {
        const auto [low, high] = chart.ranges[i][group];
        top = bottom - axis.scale * high;
        svg->line(x + bar_width / 2, bottom - axis.scale * low, x + bar_width / 2, top, kInk);
      }
      if (bar_width < 18) continue;  // too narrow for a number
      svg->text(x + bar_width / 2, top - 3, short_number(value), Svg::Anchor::kMiddle, 10);
    }
  }
}

void draw_horizontal_bars(const BarChart& chart, const SvgArea& area, double least, Svg* svg) {
  draw_title(chart, area, true, svg);
  size_t longest = 0;
  for (const std::string& group : chart.groups) longest = std::max(longest, group.size());
  const double left = area.x + 12 + 7.0 * static_cast<double>(longest);
  const double top = area.y + kTitleHeight;
  const double bottom = area.y + area.height - kNamesHeight;
  const Axis axis(largest_value(chart, least), area.x + area.width - left - kValueWidth, false);
  for (int i = 0; i <= axis.num_steps; ++i) {
    const double value = axis.step * i;
    const double x = left + axis.scale * value;
    svg->line(x, top, x, bottom, value == 0 ? kInk : kGrid);
    svg->text(x, bottom + 16, short_number(value), Svg::Anchor::kMiddle, 11);
  }
  const double group_height = (bottom - top) / static_cast<double>(chart.groups.size());
  const double bar_height = 0.8 * group_height / static_cast<double>(chart.series.size());
  for (size_t group = 0; group < chart.groups.size(); ++group) {
    const double middle = top + group_height * (static_cast<double>(group) + 0.5);
    svg->text(left - 6, middle + 4, chart.groups[group], Svg::Anchor::kEnd);
    double y = middle - bar_height * static_cast<double>(chart.series.size()) / 2;
    for (size_t i = 0; i < chart.series.size(); ++i, y += bar_height) {
      const double width = axis.scale * chart.values[i][group];
      svg->rect(left, y, width, bar_height - 1, color_of(i));
      svg->text(left + width + 4, y + bar_height / 2 + 4, short_number(chart.values[i][group]),
                Svg::Anchor::kStart, 11);
    }
  }
}

}  // namespace ultraspeed::apps
