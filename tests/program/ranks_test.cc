// Ranks that are late change nothing, and ranks that stop or die are named in time.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "base/check.h"
#include "cpu/executor.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

using Clock = std::chrono::steady_clock;

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 53, 58, 97, 93};

class RanksTest : public testing::Test {
 protected:
  void SetUp() override {
    GeneratorOptions generator;
    generator.intermediate_size = 512;
    US_CHECK(write_checkpoint(directory_.path(), generator).has_value());
  }

  ModelRunner open(uint32_t ranks, uint32_t workers, const cpu::CpuOptions& cpu) const {
    RunnerOptions options;
    options.num_ranks = ranks;
    options.num_workers = workers;
    options.logits = plan::LogitsPlace::kShares;
    options.max_context = 64;
    options.make_executor = [cpu] { return cpu::make_cpu_executor(cpu); };
    auto runner = ModelRunner::open(directory_.path(), options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return std::move(*runner);
  }

  // One step of the runner, and how long it took.
  static Error fault_of(ModelRunner* runner, Clock::duration* took) {
    const Clock::time_point begin = Clock::now();
    const auto result = runner->feed(kPrompt, 1, 4);
    *took = Clock::now() - begin;
    EXPECT_FALSE(result.has_value());
    return result ? Error{} : result.error();
  }

  static void expect_names(const Error& error, std::initializer_list<const char*> parts) {
    EXPECT_EQ(error.code, ErrorCode::kInternal);
    for (const char* part : parts) {
      EXPECT_NE(error.message.find(part), std::string::npos) << part << ": " << error.message;
    }
  }

  TemporaryDirectory directory_;
};

// tiny-mimo on 8 ranks: experts on every second one, kv heads on several.
TEST(RanksLoad, SlicesAlone) {
  std::map<std::pair<model::TensorRole, uint32_t>, std::vector<uint32_t>> shards;  // by role, layer
  std::map<std::pair<model::TensorRole, uint32_t>, size_t> bytes;
  std::mutex mutex;  // of both: several threads load
  RunnerOptions options;
  options.num_workers = 1;
  options.max_context = 64;
  options.damage = [&](const model::WeightSource& source, std::span<std::byte> packed) {
    if (source.expert != 0) return;
    const std::lock_guard lock(mutex);
    shards[{source.role, source.layer}].push_back(source.shard);
    bytes[{source.role, source.layer}] += packed.size();
  };
  const auto load = [&](uint32_t ranks) {
    shards.clear();
    bytes.clear();
    options.num_ranks = ranks;
    const auto runner = ModelRunner::open(US_SOURCE_DIR "/models/tiny-mimo", options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    for (auto& [matrix, of_matrix] : shards) std::ranges::sort(of_matrix);
  };
  using model::TensorRole;
  load(1);
  const auto whole = bytes;
  load(8);
  const std::vector<uint32_t> four = {0, 1, 2, 3}, eight = {0, 1, 2, 3, 4, 5, 6, 7};
  for (const TensorRole role : {TensorRole::kExpertGateUp, TensorRole::kExpertDown}) {
    EXPECT_EQ((shards[{role, 1}]), four);
    EXPECT_EQ((bytes[{role, 1}]), (whole.at({role, 1})));
  }
  EXPECT_EQ((shards[{TensorRole::kDenseDown, 0}]), four);
  EXPECT_EQ((bytes[{TensorRole::kDenseDown, 0}]), (whole.at({TensorRole::kDenseDown, 0})));
  EXPECT_EQ((shards[{TensorRole::kQkvProj, 0}]), eight);
  EXPECT_EQ((shards[{TensorRole::kLmHead, 0}]), eight);
  EXPECT_EQ((bytes[{TensorRole::kLmHead, 0}]), (whole.at({TensorRole::kLmHead, 0})));
  // o_proj: halves of blocks of 128 columns have a scale each. 512 rows.
  const auto o_proj = std::pair(TensorRole::kOProj, 0u);
  EXPECT_EQ(bytes[o_proj], whole.at(o_proj) + 512 * 4 * sizeof(float));
}

// One task in 64 is late by up to 20 us, one in 2048 by a millisecond, each worker's by its own
// numbers.
bool delay(uint32_t rank, uint32_t worker, size_t) {
  thread_local std::minstd_rand random(1 + rank * 100 + worker);
  const uint32_t draw = static_cast<uint32_t>(random());
  if (draw % 2048 == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  } else if (draw % 64 == 0) {
    const auto end = Clock::now() + std::chrono::nanoseconds(draw % 20'000);
    while (Clock::now() < end) {
    }
  }
  return true;
}

struct Cut {
  uint32_t ranks, workers;
};

class LateRanksTest : public RanksTest, public testing::WithParamInterface<Cut> {};

TEST_P(LateRanksTest, GiveTheSameBits) {
  ModelRunner alone = open(1, 1, {});
  // Of all tokens logits go to rank 0, of 30 stay where they are.
  std::map<uint32_t, std::vector<TopLogits>> expected;
  for (const uint32_t count : {256u, 30u}) {
    alone.reset();
    const auto result = alone.feed(kPrompt, 8, count);
    ASSERT_TRUE(result) << result.error().message;
    expected[count] = *result;
  }
  ModelRunner runner = open(GetParam().ranks, GetParam().workers, {.before_task = delay});
  const int cycles = scaled(40);
  for (int i = 0; i < cycles && !HasFailure(); ++i) {
    runner.reset();
    const uint32_t count = i % 2 == 0 ? 30 : 256;
    const auto result = runner.feed(kPrompt, 8, count);
    ASSERT_TRUE(result) << result.error().message;
    for (size_t row = 0; row < result->size(); ++row) {
      ASSERT_EQ((*result)[row].ids, expected[count][row].ids) << "cycle " << i;
      ASSERT_EQ((*result)[row].logits, expected[count][row].logits) << "cycle " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, LateRanksTest, testing::Values(Cut{2, 2}, Cut{4, 1}, Cut{8, 1}),
                         [](const auto& cut) {
                           return "Ranks" + std::to_string(cut.param.ranks) + "x" +
                                  std::to_string(cut.param.workers);
                         });

TEST_F(RanksTest, ADeadRankIsNamedWithinTwoSeconds) {
  for (const uint32_t dead : {1u, 3u}) {
    ModelRunner runner = open(4, 1, {.before_task = [=](uint32_t rank, uint32_t, size_t task) {
                                return rank != dead || task < 9;
                              }});
    Clock::duration took;
    const std::string name = "rank " + std::to_string(dead) + " worker 0 task 9";
    expect_names(fault_of(&runner, &took), {"counter", "needs", "has", name.c_str(), "not go on"});
    EXPECT_LT(took, std::chrono::seconds(2));
    // The fault stays, and is told at once.
    expect_names(fault_of(&runner, &took), {name.c_str()});
    EXPECT_LT(took, std::chrono::milliseconds(100));
  }
}

TEST_F(RanksTest, AStoppedRankIsNamedWithinTwoSecondsWhileItIsStopped) {
  std::latch released(1);
  ModelRunner runner = open(2, 2, {.before_task = [&](uint32_t rank, uint32_t worker, size_t task) {
                              if (rank == 1 && worker == 1 && task == 5) released.wait();
                              return true;
                            }});
  Clock::duration took;
  expect_names(fault_of(&runner, &took), {"counter", "rank 1 worker 1 task 5", "not go on"});
  EXPECT_LT(took, std::chrono::seconds(2));
  released.count_down();
}

// A worker that computes for longer than all may be silent is none that has stopped.
TEST_F(RanksTest, ALongTaskIsNoFault) {
  cpu::CpuOptions options;
  options.silence_deadline_ms = 300;
  options.before_task = [](uint32_t rank, uint32_t, size_t task) {
    const auto end = Clock::now() + std::chrono::milliseconds(rank == 1 && task == 3 ? 700 : 0);
    while (Clock::now() < end) {
    }
    return true;
  };
  ModelRunner runner = open(2, 1, options);
  const auto result = runner.feed(kPrompt, 1, 4);
  EXPECT_TRUE(result) << result.error().message;
}

TEST_F(RanksTest, AWaitIsNoLongerThanItsDeadline) {
  cpu::CpuOptions options;
  options.wait_deadline_ms = 100;
  options.before_task = [](uint32_t rank, uint32_t, size_t task) {
    const auto end = Clock::now() + std::chrono::milliseconds(rank == 1 && task == 3 ? 400 : 0);
    while (Clock::now() < end) {
    }
    return true;
  };
  ModelRunner runner = open(2, 1, options);
  Clock::duration took;
  expect_names(fault_of(&runner, &took), {"rank 1 worker 0 task 3"});
}

}  // namespace
}  // namespace ultraspeed::test
