#include "plan/timing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/philox.h"

namespace ultraspeed::plan {
namespace {

constexpr uint64_t kSimulationSeed = 0x5ca1ab1e;

double& at(StepParts* parts, StepPart part) {
  return (*parts)[static_cast<size_t>(part)];
}

// REQUIRES: values are not empty. Sorts them.
Bar bar_of(std::vector<double>* values) {
  std::ranges::sort(*values);
  const auto last = static_cast<double>(values->size() - 1);
  const auto value_at = [&](double share) {
    return (*values)[static_cast<size_t>(std::lround(share * last))];
  };
  const double sum = std::accumulate(values->begin(), values->end(), 0.0);
  return {value_at(0.05), sum / static_cast<double>(values->size()), value_at(0.95)};
}

}  // namespace

double Estimate::quantile(double share) const {
  const double width = most - least;
  if (width <= 0) return likely;
  const double rising = (likely - least) / width;
  if (share < rising) return least + std::sqrt(share * width * (likely - least));
  return most - std::sqrt((1 - share) * width * (most - likely));
}

NodeTimes<double> floor_times(double bandwidth) {
  NodeTimes<double> times;
  times.bandwidth = times.kv_bandwidth = bandwidth;
  times.mxfp4_share = times.in_step = times.correction = 1;
  times.link_bandwidth = 1;  // and nothing of a delay is seen
  return times;
}

NodeTimes<double> likely_times(const NodeTimes<Estimate>& times) {
  return times.map([](const Estimate& estimate) { return estimate.likely; });
}

double sum_us(const StepParts& parts) {
  return std::accumulate(parts.begin(), parts.end(), 0.0);
}

StepParts step_parts(const StepWork& work, double live_experts, const NodeTimes<double>& times) {
  StepParts parts = {};
  for (const StageWork& stage : work.stages) {
    const double weights = stage.weights + live_experts * stage.per_live_expert;
    const double share = stage.is_mxfp4_gate_up ? times.mxfp4_share : 1;
    const double reading =
        1e6 * times.in_step * (weights / (share * times.bandwidth) + stage.kv / times.kv_bandwidth);
    at(&parts, stage.part) += reading * times.correction;
    const bool is_weights = stage.part == StepPart::kWeights;
    at(&parts, is_weights ? StepPart::kHandOffs : stage.part) +=
        times.of(stage.opcode) * times.in_step * times.correction;
    if (!stage.crosses_ranks) continue;
    const double delay = times.hop_us + 1e6 * stage.link / times.link_bandwidth +
                         (stage.is_sum() ? times.late_us : 0);
    at(&parts, is_weights ? StepPart::kAllReduce : stage.part) +=
        times.delay_share * delay * times.correction;
  }
  return parts;
}

Simulation simulate(const StepWork& work, double live_experts, const NodeTimes<Estimate>& times) {
  std::array<std::vector<double>, kNumStepParts> parts;
  std::vector<double> steps;
  for (uint32_t i = 0; i < kSimulatedCases; ++i) {
    uint32_t index = 0;  // of the quantity
    const NodeTimes<double> drawn = times.map([&](const Estimate& estimate) {
      return estimate.quantile(random_uniform(kSimulationSeed, i, index++));
    });
    const StepParts of_case = step_parts(work, live_experts, drawn);
    for (size_t part = 0; part < kNumStepParts; ++part) parts[part].push_back(of_case[part]);
    steps.push_back(sum_us(of_case));
  }
  Simulation simulation;
  for (size_t part = 0; part < kNumStepParts; ++part) {
    simulation.parts[part] = bar_of(&parts[part]);
  }
  simulation.step_us = bar_of(&steps);
  simulation.floor_us = sum_us(step_parts(work, live_experts, floor_times(times.bandwidth.likely)));
  return simulation;
}

}  // namespace ultraspeed::plan
