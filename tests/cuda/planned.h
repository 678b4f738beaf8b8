// Programs of published configurations, as `plan` lowers them for an H100.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "model/weights.h"
#include "plan/devices.h"
#include "plan/plan.h"

namespace ultraspeed::test {

// `folder`: in the repository. has_drafter: a cycle with the drafter of its dflash/.
inline program::Program plan_of(const std::string& folder, uint32_t num_ranks, uint32_t width,
                                bool has_drafter = false) {
  const std::string path = std::string(US_SOURCE_DIR) + "/" + folder;
  const auto config = model::ModelConfig::load(path);
  EXPECT_TRUE(config) << config.error().message;
  std::optional<model::DrafterConfig> drafter;
  if (has_drafter) drafter = std::move(model::DrafterConfig::load(path + "/dflash")).value();
  const model::ModelConfig stack = drafter ? drafter->stack() : *config;
  const auto shape_of = [&](const model::WeightSource& source) {
    return model::expected_shape(source.stack == model::Stack::kDflash ? stack : *config, source);
  };
  plan::PlanOptions options;
  options.drafter = drafter ? &*drafter : nullptr;
  options.is_drafting = has_drafter;
  options.num_ranks = num_ranks;
  options.width = width;
  options.max_context = 4096;
  auto plan = plan::make_plan(*config, shape_of, plan::find_device("h100")->limits, options);
  EXPECT_TRUE(plan) << plan.error().message;
  return std::move(plan->program);
}

}  // namespace ultraspeed::test
