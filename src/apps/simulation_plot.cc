// The picture of `ultraspeed simulate --svg`.
#include <fmt/format.h>

#include <algorithm>

#include "apps/simulation.h"
#include "apps/svg.h"

namespace ultraspeed::apps {
namespace {

// The steps of the widest width, of which pictures are.
std::vector<const SimulatedStep*> widest_steps(const SimulationRun& run) {
  uint32_t width = 0;
  for (const SimulatedStep& step : run.steps) width = std::max(width, step.options.width);
  std::vector<const SimulatedStep*> steps;
  for (const SimulatedStep& step : run.steps) {
    if (step.options.width == width) steps.push_back(&step);
  }
  return steps;
}

// A bar a device in each group of ranks.
BarChart rate_chart(const SimulationRun& run, const std::vector<const SimulatedStep*>& steps) {
  const auto& lengths = steps.front()->accepted_lengths;
  const double accepted = lengths[lengths.size() / 2];
  BarChart chart;
  chart.title =
      fmt::format("Tokens per second at {:.2f} tokens a step, by ranks (*: fits none)", accepted);
  for (const SimulatedDevice& device : run.devices) chart.series.push_back(device.device.name);
  chart.values.resize(run.devices.size());
  chart.ranges.resize(run.devices.size());
  for (const SimulatedStep* step : steps) {
    if (step->device == 0) {
      const bool fits = std::ranges::any_of(steps, [&](const SimulatedStep* other) {
        return other->options.num_ranks == step->options.num_ranks && run.fits(*other);
      });
      chart.groups.push_back(fmt::format("{}{}", step->options.num_ranks, fits ? "" : " *"));
    }
    const plan::Bar rate = step->simulation.tokens_per_second(accepted);
    chart.values[step->device].push_back(rate.mean);
    chart.ranges[step->device].emplace_back(rate.low, rate.high);
  }
  return chart;
}

// A bar a device for each part of its step of most ranks.
BarChart part_chart(const SimulationRun& run, const std::vector<const SimulatedStep*>& steps) {
  uint32_t ranks = 0;
  for (const SimulatedStep* step : steps) ranks = std::max(ranks, step->options.num_ranks);
  BarChart chart;
  chart.title = fmt::format("Milliseconds of a step of {} ranks", ranks);
  for (size_t i = 0; i < plan::kNumStepParts; ++i) {
    chart.groups.emplace_back(plan::step_part_name(static_cast<plan::StepPart>(i)));
  }
  for (const SimulatedStep* step : steps) {
    if (step->options.num_ranks != ranks) continue;
    chart.series.push_back(run.devices[step->device].device.name);
    std::vector<double> values;
    std::vector<std::pair<double, double>> ranges;
    for (const plan::Bar& part : step->simulation.parts) {
      values.push_back(part.mean / 1000);
      ranges.emplace_back(part.low / 1000, part.high / 1000);
    }
    chart.values.push_back(std::move(values));
    chart.ranges.push_back(std::move(ranges));
  }
  return chart;
}

}  // namespace

std::string simulation_svg(const SimulationRun& run) {
  constexpr double kMargin = 20, kWidth = 860, kHeight = 280;
  const std::vector<const SimulatedStep*> steps = widest_steps(run);
  Svg svg(kWidth + 2 * kMargin, 2 * kHeight + 3 * kMargin);
  draw_bars(rate_chart(run, steps), {kMargin, kMargin, kWidth, kHeight}, true, &svg);
  draw_bars(part_chart(run, steps), {kMargin, 2 * kMargin + kHeight, kWidth, kHeight}, true, &svg);
  return svg.str();
}

}  // namespace ultraspeed::apps
