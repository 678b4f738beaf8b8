// What is known of a step's times on each device without a measurement file: figures of this
// project's own runs, of vendors and of others, each with where it comes from.
#pragma once

#include <string>
#include <string_view>

#include "plan/timing.h"

namespace ultraspeed::plan {

struct DeviceTimes {
  NodeTimes<Estimate> times;
  std::string gpu_source, link_source;
};

// REQUIRES: `device` is a name of devices().
DeviceTimes device_times(std::string_view device);

// Of one rank that waits for no other, as `bench step` measures it.
NodeTimes<Estimate> alone(NodeTimes<Estimate> times);

}  // namespace ultraspeed::plan
