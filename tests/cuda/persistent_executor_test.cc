// The persistent executor: goldens, the graph executor's bits, the order in which tasks wait for
// each other, and what a signal that is lost does.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cpu/executor.h"
#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "engine/company.h"
#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "golden/expect_golden.h"
#include "golden/golden_texts.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/mtp_generator.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"

namespace ultraspeed {
namespace {

class Persistent : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  static void expect_goldens(const std::string& directory,
                             const std::vector<test::GoldenCase>& cases, uint32_t width) {
    test::RunnerOptions options;
    options.width = width;
    options.num_workers = test::kGpuWorkers;
    options.make_executor = [] { return cuda::make_persistent_executor(); };
    auto runner = test::ModelRunner::open(directory, options);
    ASSERT_TRUE(runner) << runner.error().message;
    for (const test::GoldenCase& golden : cases) expect_golden(&*runner, golden);
  }

  static engine::Setup on(engine::Setup setup, bool is_persistent) {
    setup.num_threads = test::kGpuWorkers;
    setup.make_executor = [is_persistent] {
      return is_persistent ? cuda::make_persistent_executor() : cuda::make_graph_executor();
    };
    return setup;
  }
};

TEST_F(Persistent, TinyMimoEqualsTransformers) {
  expect_goldens(US_SOURCE_DIR "/models/tiny-mimo", test::tiny_mimo_cases(), 64);
}

TEST_F(Persistent, AFusedCheckpointEqualsTransformers) {
  const auto directory = test::reference_folder("mimo_v2_fused_t2_swa4");
  ASSERT_TRUE(directory) << directory.error().message;
  expect_goldens(*directory, test::reference_cases(*directory), 8);
}

TEST_F(Persistent, FamiliesEqualTransformers) {
  for (const char* family : test::kFamilyFolders) {
    const auto directory = test::reference_folder(family);
    ASSERT_TRUE(directory) << directory.error().message;
    expect_goldens(*directory, test::reference_cases(*directory), 16);
    for (const bool is_persistent : {false, true}) {
      const engine::Setup setup = on({}, is_persistent);
      test::expect_engine_texts(*directory, setup.make_executor,
                                cpu::cpu_limits(test::kGpuWorkers));
    }
  }
}

// Bit by bit, greedy and drawn, with every drafter, width and company.
TEST_F(Persistent, TextsAreTheGraphs) {
  auto requests = engine::make_requests({0, 4, 8}, 40);
  const auto expected = engine::reference_texts(&requests, on({}, false));
  const engine::TinyDrafter dflash(true), selecting(true, false, 12);
  const test::TinyMimoWithMtp mtp(3);
  for (const uint32_t width : {8u, 16u, 32u}) {
    for (const engine::DrafterOptions& drafter : engine::all_drafters()) {
      check(on({drafter, width}, true), requests, expected, width == 8);
    }
    check(on(dflash.setup(8, width, test::kGpuWorkers), true), requests, expected, width == 8);
    check(on(selecting.setup(8, width, test::kGpuWorkers), true), requests, expected, width == 8);
    check(on(engine::mtp_setup(mtp.path(), width, test::kGpuWorkers), true), requests, expected,
          width == 8);
  }
}

// The kernel of one leaves when another has a step, is loaded or destroyed.
TEST_F(Persistent, ExecutorsTakeTurns) {
  auto requests = engine::make_requests({1}, 12);
  const auto expected = engine::reference_texts(&requests, on({}, false));
  engine::SpeculationStats stats;
  const auto text_of = [&](engine::Engine& engine) {
    return generate(engine, {requests[0]}, &stats).front();
  };
  const auto first = engine::open(on({}, true));
  EXPECT_EQ(text_of(*first), expected[0]);
  auto graph = engine::open(on({}, false));
  auto second = engine::open(on({}, true));
  for (uint32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(text_of(*second), expected[0]);
    EXPECT_EQ(text_of(*graph), expected[0]);
    EXPECT_EQ(text_of(*first), expected[0]);
  }
  graph.reset();
  EXPECT_EQ(text_of(*first), expected[0]);
  second.reset();
  EXPECT_EQ(text_of(*first), expected[0]);
}

// Thousands of steps in which sessions come and go; each text is what it is alone.
TEST_F(Persistent, TextsDoNotDependOnWhoComesAndGoes) {
  auto requests = engine::make_requests({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 32);
  const auto expected = engine::reference_texts(&requests, on({}, false));
  const auto engine = engine::open(on({{engine::DrafterKind::kSuffix, 1}, 32}, true));
  engine::expect_texts_in_company(*engine, requests, expected, 3000);
}

// A fork copies rings: the kernel stops for it and is started again.
TEST_F(Persistent, ForksGoOnAlike) {
  auto requests = engine::make_requests({1}, 24);
  const auto expected = engine::reference_texts(&requests, on({}, false));
  const auto engine = engine::open(on({{engine::DrafterKind::kSuffix, 1}, 16}, true));
  std::map<engine::SessionId, engine::Text> texts;
  const engine::SessionId first = engine->start(requests[0].prompt, requests[0].params).value();
  run_prompt(*engine, requests[0].prompt.size(), &texts);
  const auto fork = engine->fork(first, requests[0].params.sampling.seed);
  ASSERT_TRUE(fork) << fork.error().message;
  engine::SpeculationStats stats;
  run(*engine, &texts, &stats);
  EXPECT_EQ(texts[first], expected[0]);
  EXPECT_EQ(texts[*fork], expected[0]);
}

// Runs the program it was given, or a copy in which a task keeps its signal to itself.
class LosesSignals final : public program::Executor {
 public:
  explicit LosesSignals(const bool* loses) : loses_(loses) {
    inner_ = cuda::make_persistent_executor({.wait_deadline_ms = 200});
  }

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    program::Program damaged = programs[0];
    bool is_damaged = false;
    for (auto& list : damaged.lists) {
      for (program::Task& task : list) {
        if (is_damaged || task.opcode != program::Opcode::kQkvProj) continue;
        is_damaged = task.signal.kind == program::SignalKind::kCounter;
        task.signal.kind = program::SignalKind::kNone;
      }
    }
    EXPECT_TRUE(is_damaged);
    programs.push_back(std::move(damaged));
    return inner_->load(std::move(programs), limits, read_weight);
  }
  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    return inner_->run(*loses_ ? 1 : index, input, output);
  }
  Status copy_cache(const program::CacheCopy& copy) override { return inner_->copy_cache(copy); }

 private:
  const bool* loses_;
  std::unique_ptr<program::Executor> inner_;
};

TEST_F(Persistent, LostSignalsAreToldAndLeaveNothingBehind) {
  const test::TemporaryDirectory directory;
  ASSERT_TRUE(test::write_checkpoint(directory.path(), {}));
  bool loses = false;
  test::RunnerOptions options;
  options.num_workers = test::kGpuWorkers;
  options.make_executor = [&] { return std::make_unique<LosesSignals>(&loses); };
  auto runner = test::ModelRunner::open(directory.path(), options);
  ASSERT_TRUE(runner) << runner.error().message;
  const std::vector<int32_t> prompt = {3, 14, 15, 9, 2, 6};
  const auto expected = runner->feed(prompt, 1, 4);
  ASSERT_TRUE(expected) << expected.error().message;
  for (uint32_t i = 0; i < 3; ++i) {
    loses = true;
    runner->reset();
    const auto failed = runner->feed(prompt, 1, 4);
    ASSERT_FALSE(failed);
    const std::string& message = failed.error().message;
    EXPECT_NE(message.find("stuck: rank 0 worker"), std::string::npos) << message;
    EXPECT_NE(message.find(", Attention)"), std::string::npos) << message;
    EXPECT_NE(message.find("waited 200 ms for counter"), std::string::npos) << message;
    loses = false;
    runner->reset();
    const auto again = runner->feed(prompt, 1, 4);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->front().ids, expected->front().ids);
    EXPECT_EQ(again->front().logits, expected->front().logits);
  }
}

TEST_F(Persistent, RefusesMoreWorkersThanRunAtOnce) {
  const test::TemporaryDirectory directory;
  ASSERT_TRUE(test::write_checkpoint(directory.path(), {}));
  test::RunnerOptions options;
  options.num_workers = 500;
  options.make_executor = [] { return cuda::make_persistent_executor(); };
  const auto runner = test::ModelRunner::open(directory.path(), options);
  ASSERT_FALSE(runner);
  EXPECT_NE(runner.error().message.find("has 500 workers; the GPU runs"), std::string::npos)
      << runner.error().message;
}

}  // namespace
}  // namespace ultraspeed
