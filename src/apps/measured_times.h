// What files of `bench step`, `bench kernels` and `bench decode` say of a step's times, in place of
// the figures that plan/device_times.h has.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "plan/device_times.h"

namespace ultraspeed::apps {

struct MeasuredTimes {
  std::string label;   // of the file
  std::string gpu;     // its name; "": what was measured does not depend on it
  std::string device;  // of plan::devices()
  std::optional<plan::Estimate> bandwidth, in_step;
  std::array<std::optional<plan::Estimate>, program::kNumOpcodes> stage_us;
  std::vector<double> accepted_lengths;  // tokens a cycle, of every drafter and block
};

// Of one file's JSON, by its schema (docs/benchmarks.md). Errors: kInvalidData, naming `label` and
// the path, for other files and for runs of no known device; kUnsupported for steps with general
// loops or with a delay of other ranks, whose times are not those of reading.
Result<MeasuredTimes> read_measured_times(const nlohmann::ordered_json& json,
                                          const std::string& label);

// Puts the figures of `measured` in the place of those of `times`. REQUIRES: of the same device.
void use_measured(const MeasuredTimes& measured, plan::DeviceTimes* times);

}  // namespace ultraspeed::apps
