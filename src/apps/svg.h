// A few shapes of SVG 1.1, and bar charts made of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ultraspeed::apps {

class Svg {
 public:
  enum class Anchor { kStart, kMiddle, kEnd };

  Svg(double width, double height);

  void rect(double x, double y, double width, double height, std::string_view color);
  void line(double x1, double y1, double x2, double y2, std::string_view color);
  // The baseline starts, has its middle or ends at (x, y). Any text: markup in it is escaped.
  void text(double x, double y, std::string_view text, Anchor anchor = Anchor::kStart,
            double size = 12);

  std::string str() const;  // the whole document

 private:
  double width_, height_;
  std::string body_;
};

// Groups of bars from 0 up, a bar a series in each.
struct BarChart {
  std::string title;
  std::vector<std::string> groups;
  std::vector<std::string> series;
  std::vector<std::vector<double>> values;  // [series][group], at least 0
  // [series][group], (low, high): error bars of draw_bars(); empty: none.
  std::vector<std::vector<std::pair<double, double>>> ranges = {};
};

struct SvgArea {
  double x, y, width, height;
};

// Draws title, axis, bars with their values, the groups' names and, if asked, the series' names.
void draw_bars(const BarChart& chart, const SvgArea& area, bool with_legend, Svg* svg);

// The same lying down, with the series' names; groups one below the other. The axis reaches `least`
// at least.
void draw_horizontal_bars(const BarChart& chart, const SvgArea& area, double least, Svg* svg);

}  // namespace ultraspeed::apps
