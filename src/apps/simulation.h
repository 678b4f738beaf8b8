// A run of `ultraspeed simulate`: how long a step takes on N GPUs of a node, as far as the model of
// plan/timing.h knows, as tables, JSON and a picture.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/text_table.h"
#include "plan/device_times.h"

namespace ultraspeed::apps {

struct SimulatedDevice {
  plan::Device device;
  plan::DeviceTimes times;
};

struct SimulatedStep {
  size_t device = 0;  // of SimulationRun::devices
  plan::StepOptions options;
  bool has_drafter = false;
  double live_experts = 0;
  uint64_t memory_bytes = 0;             // of a GPU
  std::vector<double> accepted_lengths;  // tokens of a step: 1 without a drafter
  plan::Simulation simulation;
};

struct SimulationRun {
  std::string config;
  std::vector<SimulatedDevice> devices;
  std::vector<SimulatedStep> steps;  // by device, then width, then ranks

  bool fits(const SimulatedStep& step) const {
    return step.memory_bytes <= devices[step.device].device.limits.memory_bytes;
  }
};

// Milliseconds by part, and tokens per second.
TextTable part_table(const SimulationRun& run);
TextTable rate_table(const SimulationRun& run);

// All of it for a terminal; ends with a newline.
std::string simulation_text(const SimulationRun& run);
nlohmann::ordered_json simulation_json(const SimulationRun& run);
// Tokens per second of the widest steps by ranks, with error bars, and where their time goes.
std::string simulation_svg(const SimulationRun& run);

}  // namespace ultraspeed::apps
