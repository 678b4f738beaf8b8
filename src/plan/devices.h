// The GPUs that a program can be planned for without having one: what the planner must know
// (DeviceLimits) and how fast their memory streams. docs/decode_bound.md section 2 gives the
// sources.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "program/executor.h"

namespace ultraspeed::plan {

struct Device {
  std::string name;  // as --device takes it
  // limits.memory_bytes: what CUDA reports as total. limits.memory_bandwidth: the data sheet's.
  program::DeviceLimits limits;
  // Bytes per second of a persistent kernel that streams weights through shared memory and drops
  // them: the ceiling of any decode step. 0: not measured.
  double drain_bandwidth = 0;

  bool is_measured() const { return drain_bandwidth > 0; }
  // The measured ceiling, or kAssumedStreamingShare of the data sheet's bandwidth.
  double streaming_bandwidth() const;
};

// Of the nominal bandwidth, for devices without a measurement; 0.93 and 0.96 on the measured two.
inline constexpr double kAssumedStreamingShare = 0.92;

const std::vector<Device>& devices();

// Errors: kInvalidArgument, naming the devices there are. Case does not matter.
Result<Device> find_device(std::string_view name);

}  // namespace ultraspeed::plan
