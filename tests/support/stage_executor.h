// An executor that runs a program stage by stage, over NaN-poisoned memory, and shows its values to
// a hook between the stages: for tests that compare or replace what a step computes on its way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "program/executor.h"

namespace ultraspeed::test {

class StageValues {
 public:
  virtual ~StageValues() = default;
  // The whole buffer of this name on rank 0. CHECKs that there is one.
  virtual std::span<float> values(const std::string& buffer) = 0;
};

// Called after all tasks of a stage, with the stage's name.
using StageHook = std::function<void(const std::string& stage, StageValues* values)>;

std::unique_ptr<program::Executor> make_stage_executor(StageHook hook);

}  // namespace ultraspeed::test
