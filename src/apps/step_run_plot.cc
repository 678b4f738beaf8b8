// The picture of `bench step --svg`.
#include <fmt/format.h>

#include "apps/step_run.h"
#include "apps/svg.h"

namespace ultraspeed::apps {

std::string step_svg(const StepRun& run) {
  constexpr double kMargin = 20;
  constexpr double kWidth = 960;
  constexpr double kRowHeight = 46;
  const StepFigures figures = step_figures(run);
  BarChart chart{.title = "Microseconds in a step",
                 .groups = {},
                 .series = {"its bytes at the ceiling", "measured"},
                 .values = {{}, {}}};
  const auto add = [&chart](const std::string& name, const Reading& reading) {
    chart.groups.push_back(name);
    chart.values[0].push_back(reading.us * reading.of_ceiling);
    chart.values[1].push_back(reading.us);
  };
  add("step", figures.reading);
  for (const OpFigures& op : figures.ops) {
    add(std::string(program::opcode_name(op.opcode)), op.reading);
  }
  const double height = 60 + kRowHeight * static_cast<double>(chart.groups.size());
  Svg svg(kWidth, height + 5 * kMargin);
  svg.text(kMargin, kMargin + 2, describe_gpu(run.bench.gpu));
  svg.text(kMargin, 2 * kMargin, describe_step(run));
  svg.text(kMargin, 3 * kMargin - 2, verdict(run.bench));
  draw_horizontal_bars(chart, {kMargin, 3.5 * kMargin, kWidth - 2 * kMargin, height}, 1, &svg);
  return svg.str();
}

}  // namespace ultraspeed::apps
