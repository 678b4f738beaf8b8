#include "plan/device_times.h"

#include "base/check.h"

namespace ultraspeed::plan {
namespace {

using program::Opcode;

// Of the likeliest: the same step was 8.7 and 9.4 ms by registers of kernels that took equally long
// by themselves (docs/performance.md, version 16).
constexpr double kStageShare = 0.08;

// What a stage takes beyond its bytes at the ceiling. `bench step` of rank 0 of 8 of MiMo-V2.5-Pro,
// 8 columns, 60 live experts, on an H100 (docs/performance.md, "Measured again on an H100": us more
// than its bytes take, by stages); AttentionMerge as version 18 made it, Propose of version 11.
// Nominate and Follow were not measured there: as Propose and Accept.
NodeTimes<Estimate> h100_times() {
  NodeTimes<Estimate> times;
  const auto set = [&](Opcode opcode, double us) {
    times.of(opcode) = Estimate::around(us, kStageShare);
  };
  set(Opcode::kEmbed, 2.6);
  set(Opcode::kQkvProj, 6.4);
  set(Opcode::kAttention, 4.0);
  set(Opcode::kAttentionMerge, 11.7);
  set(Opcode::kOutProj, 3.8);
  set(Opcode::kReduce, 1.9);
  set(Opcode::kGateUp, 9.9);
  set(Opcode::kLinear, 7.9);
  set(Opcode::kRoute, 5.5);
  // Of the 16.5 us that were measured with 60 live experts, by a trace of version 18: 9.9 whatever
  // the experts, the rest as lower a rate.
  set(Opcode::kExpertGateUp, 9.9);
  times.mxfp4_share = {0.80, 0.83, 0.90};
  set(Opcode::kExpertDown, 4.1);
  set(Opcode::kSample, 18.1);
  set(Opcode::kNominate, 9.6);
  set(Opcode::kPropose, 9.6);
  set(Opcode::kAccept, 2.1);
  set(Opcode::kFollow, 2.1);
  times.bandwidth = {3.06e12, 3.13e12, 3.14e12};
  // 131,064 positions instead of 1,024 lengthen a step by 33 us a full layer; the kernel by itself
  // takes 18.
  times.kv_bandwidth = {1.2e12, 1.3e12, 2.3e12};
  times.in_step = {1.05, 1.066, 1.08};  // versions 7 and 13
  times.correction = {0.95, 1.0, 1.06};
  // NVLink 4: 450 GB/s each way by the data sheet, 371 to 377 measured by others between two H100s
  // (NVIDIA/nccl issue 1264). A hop was measured by nobody in this form: a flag on one GPU takes
  // 0.52 us, an all-reduce of 24 KB on 8 H100s as a graph node of its own 6.2 (microsoft/mscclpp).
  times.hop_us = {0.8, 1.5, 3.0};
  times.link_bandwidth = {300e9, 375e9, 450e9};
  times.late_us = {0, 0.5, 2.0};  // assumed
  // `--all-reduce-us` 1.5 and 3: what a graph, and kernels that stay, took longer (version 18).
  times.delay_share = {0.68, 0.85, 1.08};
  return times;
}

// Kernels by themselves take more beyond their bytes than on an H100, as what is not memory takes
// as long (docs/performance.md, "On an H200"): 1.6 us in experts' gate/up, 4.6 in down, 1.1 in qkv,
// 1.0 in o_proj; a router takes as long in all, where its bytes take 0.9 us less.
NodeTimes<Estimate> h200_times() {
  NodeTimes<Estimate> times = h100_times();
  const auto add = [&](Opcode opcode, double us) {
    Estimate& estimate = times.of(opcode);
    estimate = Estimate::around(estimate.likely + us, 1.5 * kStageShare);
  };
  add(Opcode::kQkvProj, 1.1);
  add(Opcode::kOutProj, 1.0);
  add(Opcode::kGateUp, 1.0);
  add(Opcode::kLinear, 0.9);
  add(Opcode::kExpertDown, 4.6);
  times.bandwidth = {4.40e12, 4.59e12, 4.71e12};
  times.mxfp4_share = {0.68, 0.73, 0.85};         // the 1.6 us, with 60 live experts
  times.kv_bandwidth = {1.5e12, 1.6e12, 2.3e12};  // 26 us a full layer
  return times;
}

// No measurement of this project's: an H200's figures, wider.
NodeTimes<Estimate> b200_times() {
  NodeTimes<Estimate> times = h200_times();
  for (Estimate& estimate : times.stage_us) estimate = estimate.times({0.6, 1.0, 1.4});
  // 8.0 TB/s by the data sheet, 7.67 by the clocks that drivers report, over 6.0 as others measured
  // a copy (newmind.ai).
  times.bandwidth = {6.0e12, 7.36e12, 7.67e12};
  times.mxfp4_share = {0.5, 0.65, 0.85};
  times.kv_bandwidth = {1.5e12, 2.0e12, 3.7e12};
  times.correction = {0.85, 1.0, 1.2};
  // NVLink 5: 900 GB/s each way by the data sheet, and of them the share that an H100 reaches.
  times.link_bandwidth = {600e9, 750e9, 900e9};
  return times;
}

}  // namespace

DeviceTimes device_times(std::string_view device) {
  const std::string ours = "this project's runs on one (docs/performance.md)";
  const std::string hop = "a hop assumed, not measured";
  const std::string nvlink = "NVLink 4: data sheet and others' copies between two H100s; " + hop;
  if (device == "h100") return {h100_times(), ours, nvlink};
  if (device == "h200") {
    return {h200_times(), ours + ": kernels and drain; stages in a step from an H100", nvlink};
  }
  US_CHECK(device == "b200", "device '{}'", device);
  return {b200_times(),
          "no run of this project's: memory by data sheet and others' copies, stages as on an H200",
          "NVLink 5: data sheet, of which an H100's share; " + hop};
}

NodeTimes<Estimate> alone(NodeTimes<Estimate> times) {
  times.delay_share = Estimate::exactly(0);
  return times;
}

}  // namespace ultraspeed::plan
