// The persistent executor in w4a8: the graph executor's bits with every drafter and in any company,
// which steps are resident, and what a phase that nobody finishes does.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "cuda/resident/phase_runner.h"
#include "engine/company.h"
#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "support/mtp_generator.h"

namespace ultraspeed {
namespace {

using program::KvCacheType;

// Expects decode steps, those of the first program, to be resident.
class DecodesResident final : public program::Executor {
 public:
  explicit DecodesResident(KvCacheType kv_cache)
      : inner_(cuda::make_persistent_executor(
            {.activations = program::Activations::kW4a8, .kv_cache = kv_cache})) {}

  uint64_t weight_bytes(const program::Program& program) const override {
    return inner_->weight_bytes(program);
  }
  uint32_t prefill_width(const program::Program& program) const override {
    return inner_->prefill_width(program);
  }
  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return inner_->load(std::move(programs), limits, read_weight);
  }
  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    output->is_resident = false;
    const Status status = inner_->run(index, input, output);
    EXPECT_EQ(output->is_resident, index == 0);
    return status;
  }
  Status copy_cache(const program::CacheCopy& copy) override { return inner_->copy_cache(copy); }

 private:
  std::unique_ptr<program::Executor> inner_;
};

engine::Setup on(engine::Setup setup, KvCacheType kv_cache, bool is_persistent) {
  setup.num_threads = test::kGpuWorkers;
  setup.activations = program::Activations::kW4a8;
  setup.kv_cache = kv_cache;
  setup.make_executor = [=]() -> std::unique_ptr<program::Executor> {
    if (is_persistent) return std::make_unique<DecodesResident>(kv_cache);
    return cuda::make_graph_executor(program::Activations::kW4a8, kv_cache);
  };
  return setup;
}

class PhaseExecutor : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }
};

// Bit by bit, greedy and drawn.
TEST_F(PhaseExecutor, TextsAreTheGraphs) {
  auto requests = engine::make_requests({0, 4}, 40);
  for (const KvCacheType kv_cache : {KvCacheType::kF32, KvCacheType::kFp8}) {
    const auto expected = engine::reference_texts(&requests, on({}, kv_cache, false));
    for (const engine::DrafterKind kind :
         {engine::DrafterKind::kNone, engine::DrafterKind::kSuffix, engine::DrafterKind::kReplay}) {
      check(on({{kind, 5}, 8}, kv_cache, true), requests, expected,
            kind != engine::DrafterKind::kNone);
    }
  }
}

// With drafters that are part of the program.
TEST_F(PhaseExecutor, DraftedTextsAreTheGraphs) {
  const engine::TinyDrafter dflash(true), selecting(true, false, 32);
  const test::TinyMimoWithMtp mtp(3);
  auto requests = engine::make_requests({8}, 40);
  const auto expected = engine::reference_texts(&requests, on({}, KvCacheType::kBf16, false));
  check(on(dflash.setup(8, 8, test::kGpuWorkers), KvCacheType::kBf16, true), requests, expected,
        true);
  check(on(selecting.setup(8, 8, test::kGpuWorkers), KvCacheType::kBf16, true), requests, expected,
        true);
  check(on(engine::mtp_setup(mtp.path(), 8, test::kGpuWorkers), KvCacheType::kBf16, true), requests,
        expected, true);
}

// More columns than phases have.
TEST_F(PhaseExecutor, RefusesWhatWouldAllRunAsGraphs) {
  const auto config = model::ModelConfig::load(engine::kModel);
  const auto checkpoint = model::Checkpoint::open(engine::kModel);
  ASSERT_TRUE(config && checkpoint);
  engine::EngineOptions options;
  options.decode_width = 16;
  auto executor = cuda::make_persistent_executor({.activations = program::Activations::kW4a8});
  const auto engine = engine::Engine::open(*config, *checkpoint, std::move(executor),
                                           cpu::cpu_limits(test::kGpuWorkers), options, {});
  ASSERT_FALSE(engine);
  EXPECT_NE(engine.error().message.find("no program of at most 8 columns; the graph executor can"),
            std::string::npos)
      << engine.error().message;
}

// A phase whose units do nothing: rows of a step without columns.
cuda::Phase empty_phase(const cuda::StepView* step, uint32_t index, uint32_t arrivals,
                        const cuda::PhaseWait& wait) {
  cuda::Phase phase;
  phase.kind = cuda::PhaseKind::kStoreKv;
  phase.index = index;
  phase.num_units = phase.arrivals = arrivals;
  phase.wait = wait;
  cuda::KvRows rows;
  rows.step = step;
  std::memcpy(phase.payload, &rows, sizeof(rows));
  return phase;
}

// A phase waits for an arrival more than there is: the step fails in time, says what is missing,
// and the next one runs.
TEST_F(PhaseExecutor, LostArrivalsAreToldAndLeaveNothingBehind) {
  cuda::PhaseCtas ctas;
  ASSERT_EQ(cuda::count_phase_ctas({}, &ctas), cudaSuccess);
  const std::vector<cuda::StepView> views(1);
  const auto step = cuda::to_device(std::span(views), "a step");
  ASSERT_TRUE(step) << step.error().message;
  const auto* view = step->as<cuda::StepView>();
  const std::vector<cuda::Phase> good = {empty_phase(view, 0, 2, {1, 3, 1}),
                                         empty_phase(view, 1, 3, {0, 2, 0})};
  std::vector<cuda::Phase> damaged = good;
  damaged[1].wait.arrivals = 3;
  cuda::PhaseOptions options;
  options.deadline = std::chrono::milliseconds(200);
  auto runner =
      cuda::PhaseRunner::make({good, damaged}, ctas, {}, step->as<cuda::StepView>(), options);
  ASSERT_TRUE(runner) << runner.error().message;
  for (uint32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(runner->start());
    const Status ran = runner->run(0, 1 + i, {});
    ASSERT_TRUE(ran) << ran.error().message;
    const Status failed = runner->run(1, 1, {});
    ASSERT_FALSE(failed);
    EXPECT_NE(failed.error().message.find("for phase 0 of 2 (keys and values): it needs 3 "
                                          "arrivals, has 2"),
              std::string::npos)
        << failed.error().message;
  }
  ASSERT_TRUE(runner->start());
  EXPECT_TRUE(runner->run(0, 5, {}));
  EXPECT_TRUE(runner->stop());
}

// Thousands of steps in which sessions come and go; each text is what it is alone.
TEST_F(PhaseExecutor, TextsDoNotDependOnWhoComesAndGoes) {
  auto requests = engine::make_requests({0, 1, 2, 3, 4, 5}, 32);
  const auto expected = engine::reference_texts(&requests, on({}, KvCacheType::kFp8, false));
  const auto engine =
      engine::open(on({{engine::DrafterKind::kSuffix, 1}, 8}, KvCacheType::kFp8, true));
  engine::expect_texts_in_company(*engine, requests, expected, 3000);
}

}  // namespace
}  // namespace ultraspeed
