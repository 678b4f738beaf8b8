// What decoding asks of the CUDA driver once it runs: of kernels that stay only whether they do.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cuda/driver_calls.h"
#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "engine/model_texts.h"

namespace ultraspeed {
namespace {

constexpr uint32_t kStepsBefore = 8, kSteps = 200;

struct Calls {
  uint64_t resident = 0;  // steps
  uint64_t launches = 0;
  uint64_t others = 0;  // than launches, and than queries whether kernels have ended
  std::string all;      // "3 cuGraphLaunch, "
};

// Of decode steps of a text of the bundled model, behind the first few.
Result<Calls> calls_of(std::unique_ptr<program::Executor> executor) {
  US_ASSIGN(test::DriverCalls counted, test::DriverCalls::count());
  US_ASSIGN(const auto config, model::ModelConfig::load(engine::kModel));
  US_ASSIGN(const auto checkpoint, model::Checkpoint::open(engine::kModel));
  engine::EngineOptions options;
  options.max_sessions = 1;
  US_ASSIGN(const auto engine,
            engine::Engine::open(config, checkpoint, std::move(executor),
                                 cpu::cpu_limits(test::kGpuWorkers), options, {}));
  engine::GenerationParams params;
  params.ignore_eos = true;
  US_TRY(engine->start(std::vector<int32_t>{1, 100, 200, 300}, params));
  std::vector<engine::StepEvent> events;
  while (engine->decode_times().num_steps < kStepsBefore) US_TRY(engine->step(&events));
  counted.restart();
  events.clear();
  for (uint32_t i = 0; i < kSteps; ++i) US_TRY(engine->step(&events));
  Calls calls;
  for (const engine::StepEvent& event : events) {
    US_CHECK(!event.finished, "a text ended within {} steps", kSteps);
    if (event.cycle && event.cycle->is_resident) ++calls.resident;
  }
  calls.launches = counted.launches();
  for (const auto& [name, count] : counted.by_name()) {
    if (name != "cuStreamQuery") calls.others += count;
    calls.all += fmt::format("{} {}, ", count, name);
  }
  calls.others -= calls.launches;
  return calls;
}

class SteadyState : public testing::TestWithParam<program::Activations> {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }
};

TEST_P(SteadyState, LaunchesNothing) {
  const auto calls = calls_of(cuda::make_persistent_executor({.activations = GetParam()}));
  ASSERT_TRUE(calls) << calls.error().message;
  EXPECT_EQ(calls->resident, kSteps);
  EXPECT_EQ(calls->launches, 0u) << calls->all;
  EXPECT_EQ(calls->others, 0u) << calls->all;
}

// So launches are seen.
TEST_P(SteadyState, OfGraphsIsALaunchAStep) {
  const auto calls = calls_of(cuda::make_graph_executor(GetParam()));
  ASSERT_TRUE(calls) << calls.error().message;
  EXPECT_EQ(calls->resident, 0u);
  EXPECT_GE(calls->launches, kSteps) << calls->all;
}

INSTANTIATE_TEST_SUITE_P(Modes, SteadyState,
                         testing::Values(program::Activations::kF32, program::Activations::kW4a8),
                         [](const auto& mode) {
                           return std::string(program::activations_name(mode.param));
                         });

}  // namespace
}  // namespace ultraspeed
