// How long a step takes on N GPUs of one node: the bytes of its stages (step_work.h) at measured
// rates, what every kind of stage takes beyond them, and what links between GPUs add. Each of these
// is a range; times come with the error bars that the ranges give. docs/scaling.md explains the
// model and compares it with what was measured.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "plan/step_work.h"

namespace ultraspeed::plan {

// The least, the likeliest and the most of a quantity.
struct Estimate {
  double least = 0, likely = 0, most = 0;

  static Estimate exactly(double value) { return {value, value, value}; }
  // +- a share of it.
  static Estimate around(double value, double share) {
    return {value * (1 - share), value, value * (1 + share)};
  }
  Estimate times(const Estimate& other) const {
    return {least * other.least, likely * other.likely, most * other.most};
  }
  // Below which a share of the triangular distribution of these three lies.
  double quantile(double share) const;
};

// What a step's time is made of. Value: Estimate, or double for one case of it.
//
//   stage = stage_us[opcode] + weights / (share * bandwidth) + kv / kv_bandwidth
//   links = delay_share * (crossings * hop_us + link bytes / link_bandwidth + sums * late_us)
//   step  = correction * (in_step * sum of stages + links)
template <class Value>
struct NodeTimes {
  Value bandwidth = {};     // bytes per second of streamed weights
  Value kv_bandwidth = {};  // of keys and values, by attention
  Value mxfp4_share = {};   // of `bandwidth`, by gate/up of MXFP4 experts
  std::array<Value, program::kNumOpcodes> stage_us = {};  // what a stage takes beyond its bytes
  Value in_step = {};         // a step to the sum of its stages, each timed by itself
  Value correction = {};      // measured steps to those of this model
  Value hop_us = {};          // from a rank's store and signal to another that sees both
  Value link_bandwidth = {};  // bytes per second of a GPU, in each direction
  Value late_us = {};         // at a sum, the slowest rank behind the others
  Value delay_share = {};     // of what other ranks' data are late, what a step is longer

  Value& of(program::Opcode opcode) { return stage_us[static_cast<size_t>(opcode)]; }
  const Value& of(program::Opcode opcode) const { return stage_us[static_cast<size_t>(opcode)]; }

  // The same with `function` of every value, always in the same order.
  template <class Function>
  auto map(Function function) const {
    NodeTimes<std::invoke_result_t<Function, const Value&>> mapped;
    mapped.bandwidth = function(bandwidth);
    mapped.kv_bandwidth = function(kv_bandwidth);
    mapped.mxfp4_share = function(mxfp4_share);
    for (size_t i = 0; i < stage_us.size(); ++i) mapped.stage_us[i] = function(stage_us[i]);
    mapped.in_step = function(in_step);
    mapped.correction = function(correction);
    mapped.hop_us = function(hop_us);
    mapped.link_bandwidth = function(link_bandwidth);
    mapped.late_us = function(late_us);
    mapped.delay_share = function(delay_share);
    return mapped;
  }
};

// Bytes alone, which nothing can beat.
NodeTimes<double> floor_times(double bandwidth);
// All quantities at their likeliest.
NodeTimes<double> likely_times(const NodeTimes<Estimate>& times);

// [StepPart], microseconds.
using StepParts = std::array<double, kNumStepParts>;
double sum_us(const StepParts& parts);
StepParts step_parts(const StepWork& work, double live_experts, const NodeTimes<double>& times);

struct Bar {
  double low = 0, mean = 0, high = 0;  // low and high: 5 and 95 of 100 cases
};

struct Simulation {
  std::array<Bar, kNumStepParts> parts;  // their means add up to the step's
  Bar step_us;
  double floor_us = 0;  // the bytes at the likeliest bandwidth

  // Of so many tokens a step; the least is that of the longest step.
  Bar tokens_per_second(double tokens) const {
    return {1e6 * tokens / step_us.high, 1e6 * tokens / step_us.mean, 1e6 * tokens / step_us.low};
  }
};

inline constexpr uint32_t kSimulatedCases = 2000;

// Draws every quantity of `times` anew for each case, by Philox with a fixed seed: the same figures
// everywhere.
Simulation simulate(const StepWork& work, double live_experts, const NodeTimes<Estimate>& times);

}  // namespace ultraspeed::plan
