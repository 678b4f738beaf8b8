// The picture of `bench kernels --svg`.
#include <fmt/format.h>

#include "apps/kernel_run.h"
#include "apps/svg.h"

namespace ultraspeed::apps {

std::string kernel_svg(const KernelRun& run) {
  constexpr double kMargin = 20;
  constexpr double kWidth = 960;
  constexpr double kRowHeight = 46;
  BarChart chart{.title = "Per cent of the ceiling, a drain of 8 GB",
                 .groups = {},
                 .series = {"drain of the same bytes", "kernel"},
                 .values = {{}, {}}};
  for (const cuda::KernelSamples& kernel : run.bench.kernels) {
    const bool is_measured = kernel.refusal.empty();
    const KernelFigures figures = is_measured ? kernel_figures(kernel, run.bench) : KernelFigures();
    chart.groups.push_back(kernel.name + (is_measured ? "" : ": not measured"));
    chart.values[1].push_back(100 * figures.of_ceiling);
    chart.values[0].push_back(is_measured ? 100 * figures.of_ceiling / figures.of_drain : 0);
  }
  const double height = 60 + kRowHeight * static_cast<double>(chart.groups.size());
  Svg svg(kWidth, height + 5 * kMargin);
  svg.text(kMargin, kMargin + 2, describe_gpu(run.bench.gpu));
  svg.text(kMargin, 2 * kMargin, describe_shape(run));
  svg.text(kMargin, 3 * kMargin - 2, verdict(run.bench));
  draw_horizontal_bars(chart, {kMargin, 3.5 * kMargin, kWidth - 2 * kMargin, height}, 100, &svg);
  return svg.str();
}

}  // namespace ultraspeed::apps
