// Programs of published configurations, as `plan` lowers them for an H100.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "model/weights.h"
#include "plan/devices.h"
#include "plan/plan.h"

namespace ultraspeed::test {

// `folder`: in the repository.
inline program::Program plan_of(const std::string& folder, uint32_t num_ranks, uint32_t width) {
  const auto config = model::ModelConfig::load(std::string(US_SOURCE_DIR) + "/" + folder);
  EXPECT_TRUE(config) << config.error().message;
  const auto shape_of = [&config](const model::WeightSource& source) {
    return model::expected_shape(*config, source);
  };
  plan::PlanOptions options;
  options.num_ranks = num_ranks;
  options.width = width;
  options.max_context = 4096;
  auto plan = plan::make_plan(*config, shape_of, plan::find_device("h100")->limits, options);
  EXPECT_TRUE(plan) << plan.error().message;
  return std::move(plan->program);
}

}  // namespace ultraspeed::test
