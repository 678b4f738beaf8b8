// The model of timing.h against steps that were measured on one GPU (docs/performance.md). The
// figures of every row are the defaults of the device; docs/scaling.md has this table.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "plan/device_times.h"
#include "plan/devices.h"

namespace ultraspeed::plan {
namespace {

struct MeasuredStep {
  std::string name, config, device;
  uint32_t num_ranks, width;
  double live_experts;
  uint32_t positions;
  KvFormat kv_format;
  model::DenseDtype dense_dtype;
  bool has_drafter;
  double delay_us;     // that other ranks' shares of a sum are late
  double measured_us;  // median, as a CUDA graph
  double tolerance;    // of the prediction, a share of what was measured
};

constexpr auto kBf16 = KvFormat::kBf16;
constexpr auto kFp8 = KvFormat::kFp8;
constexpr auto kStored = model::DenseDtype::kCheckpoint;
constexpr auto kRounded = model::DenseDtype::kFp8;

std::vector<MeasuredStep> measured_steps() {
  const std::string pro = "configs/mimo-v2.5-pro", tiny = "models/tiny-mimo";
  const std::string llama = "configs/llama-3.2-1b";
  return {
      {"as_stored", pro, "h100", 8, 8, 60, 1024, kBf16, kStored, false, 0, 9091, 0.03},
      {"fp8", pro, "h100", 8, 8, 60, 1024, kFp8, kRounded, false, 0, 8763, 0.03},
      {"own_routes", pro, "h100", 8, 8, 58.6, 1024, kFp8, kRounded, false, 0, 8670, 0.03},
      {"late_1_5_us", pro, "h100", 8, 8, 58.6, 1024, kFp8, kRounded, false, 1.5, 8825, 0.03},
      {"late_3_us", pro, "h100", 8, 8, 58.6, 1024, kFp8, kRounded, false, 3, 8955, 0.03},
      {"long_context", pro, "h100", 8, 8, 60, 131064, kFp8, kRounded, false, 0, 9078, 0.03},
      {"cycle", pro, "h100", 8, 8, 60, 1024, kFp8, kRounded, true, 0, 9486, 0.04},
      {"one_row", pro, "h100", 8, 1, 8, 1024, kFp8, kRounded, false, 0, 5049, 0.03},
      {"one_row_fp8_experts", pro + "-fp8", "h100", 8, 1, 8, 1024, kFp8, kRounded, false, 0, 4952,
       0.13},
      {"cycle_fp8_experts", pro + "-fp8", "h100", 8, 8, 60, 1024, kFp8, kRounded, true, 0, 11663,
       0.05},
      {"own_routes", pro, "h200", 8, 8, 58.6, 1024, kFp8, kRounded, false, 0, 7996, 0.03},
      {"late_3_us", pro, "h200", 8, 8, 58.6, 1024, kFp8, kRounded, false, 3, 8355, 0.03},
      {"cycle", pro, "h200", 8, 8, 60, 1024, kFp8, kRounded, true, 0, 8791, 0.06},
      {"long_cycle", pro, "h200", 8, 8, 60, 131064, kFp8, kRounded, true, 0, 9052, 0.06},
      {"llama", llama, "h100", 1, 1, 0, 1024, kBf16, kStored, false, 0, 1602, 0.03},
      {"llama", llama, "h200", 1, 1, 0, 1024, kBf16, kStored, false, 0, 1412, 0.03},
      // Rows of 512 take less beyond their bytes than those of 6144, of which the figures are.
      {"bundled", tiny, "h100", 1, 1, 4, 512, kBf16, kStored, false, 0, 300, 0.4},
  };
}

class MeasuredSteps : public ::testing::TestWithParam<MeasuredStep> {};

TEST_P(MeasuredSteps, ArePredicted) {
  const MeasuredStep& step = GetParam();
  const std::string folder = std::string(US_SOURCE_DIR) + "/" + step.config;
  const auto config = model::ModelConfig::load(folder);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  std::optional<model::DrafterConfig> drafter;
  if (step.has_drafter) {
    drafter = *model::DrafterConfig::load(US_SOURCE_DIR "/configs/mimo-v2.5-pro/dflash");
  }
  StepOptions options;
  options.num_ranks = step.num_ranks;
  options.width = step.width;
  options.context = step.positions;
  options.kv_format = step.kv_format;
  options.dense_dtype = step.dense_dtype;
  const auto work =
      plan_step(*config, drafter ? &*drafter : nullptr, *find_device(step.device), options);
  ASSERT_TRUE(work.has_value()) << work.error().message;
  NodeTimes<double> times = likely_times(device_times(step.device).times);
  times.hop_us = step.delay_us / 2;  // a sum has two hops
  times.link_bandwidth = 1e18;
  times.late_us = 0;
  if (step.delay_us == 0) times.delay_share = 0;
  const double predicted = sum_us(step_parts(*work, step.live_experts, times));
  const double ratio = predicted / step.measured_us;
  EXPECT_NEAR(ratio, 1, step.tolerance) << predicted << " us predicted";
}

INSTANTIATE_TEST_SUITE_P(OfDocs, MeasuredSteps, ::testing::ValuesIn(measured_steps()),
                         [](const auto& of) { return of.param.device + "_" + of.param.name; });

}  // namespace
}  // namespace ultraspeed::plan
