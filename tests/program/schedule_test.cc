// Results do not depend on who computes what when: random legal orders, threads, workers, widths
// and ranks all give the same bits.
#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "cpu/executor.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27};
constexpr size_t kWanted = 5;

// On 8 ranks every second one has heads, and of 64 columns of experts two ranks have 32 each.
struct Cut {
  uint32_t ranks, workers;
};
constexpr Cut kCuts[] = {{1, 1}, {1, 2},  {1, 5}, {1, 12}, {2, 1}, {2, 2},
                         {2, 5}, {2, 12}, {4, 1}, {4, 3},  {8, 1}, {8, 2}};

class ScheduleTest : public testing::Test {
 protected:
  void SetUp() override {
    GeneratorOptions generator;
    generator.intermediate_size = 512;  // a half of an FP8 block on 8 ranks
    generator.moe_intermediate_size = moe_intermediate_size();
    US_CHECK(write_checkpoint(directory_.path(), generator).has_value());
    expected_ = run({});
  }

  virtual uint32_t moe_intermediate_size() const { return 64; }

  std::vector<TopLogits> run(RunnerOptions options) {
    options.max_context = 1100;
    auto runner = ModelRunner::open(directory_.path(), options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return runner->feed(kPrompt, kWanted, 256).value();
  }

  void expect_same(const std::vector<TopLogits>& result, const std::string& what) {
    ASSERT_EQ(result.size(), expected_.size());
    for (size_t i = 0; i < result.size(); ++i) {
      EXPECT_EQ(result[i].ids, expected_[i].ids) << what;
      EXPECT_EQ(result[i].logits, expected_[i].logits) << what;
    }
  }

  TemporaryDirectory directory_;
  std::vector<TopLogits> expected_;
};

TEST_F(ScheduleTest, WidthsWorkersAndRanksGiveTheSameBits) {
  for (const Cut& cut : kCuts) {
    for (const uint32_t width : {1u, 3u, 8u, 64u}) {
      RunnerOptions options;
      options.num_ranks = cut.ranks;
      options.num_workers = cut.workers;
      options.width = width;
      expect_same(run(options),
                  fmt::format("{} ranks x {} workers, width {}", cut.ranks, cut.workers, width));
    }
  }
}

TEST_F(ScheduleTest, BothAllReducesGiveTheSameBits) {
  for (const Cut& cut : {Cut{1, 2}, Cut{2, 1}, Cut{2, 5}, Cut{4, 3}, Cut{8, 1}}) {
    for (const uint32_t width : {3u, 64u}) {
      RunnerOptions options;
      options.all_reduce = plan::AllReduce::kOneShot;
      options.num_ranks = cut.ranks;
      options.num_workers = cut.workers;
      options.width = width;
      const auto what =
          fmt::format("{} ranks x {} workers, width {}", cut.ranks, cut.workers, width);
      expect_same(run(options), what);
      for (uint64_t seed = 0; seed < 5; ++seed) {
        options.make_executor = [=] { return cpu::make_shuffled_executor(seed); };
        expect_same(run(options), what + ", shuffled");
      }
    }
  }
}

struct RoundedMode {
  program::Activations activations;
  program::KvCacheType kv_cache;
};

class RoundedModeTest : public ScheduleTest, public testing::WithParamInterface<RoundedMode> {
 protected:
  uint32_t moe_intermediate_size() const override { return 256; }  // whole blocks on all ranks
};

// Among the workers are those that cut kv heads in parts.
TEST_P(RoundedModeTest, GivesTheSameBitsForWidthsWorkersRanksAndOrders) {
  RunnerOptions options;
  options.make_executor = [] {
    return cpu::make_cpu_executor(
        {.activations = GetParam().activations, .kv_cache = GetParam().kv_cache});
  };
  const auto exact = expected_;
  expected_ = run(options);
  EXPECT_NE(expected_[0].logits, exact[0].logits);
  EXPECT_NEAR(expected_[0].logits[0], exact[0].logits[0], 0.1F * std::abs(exact[0].logits[0]));
  for (const Cut& cut : {Cut{1, 1}, Cut{1, 5}, Cut{2, 1}, Cut{2, 5}, Cut{4, 1}, Cut{8, 2}}) {
    for (const uint32_t width : {3u, 64u}) {
      options.num_ranks = cut.ranks;
      options.num_workers = cut.workers;
      options.width = width;
      const auto what =
          fmt::format("{} ranks x {} workers, width {}", cut.ranks, cut.workers, width);
      expect_same(run(options), what);
      RunnerOptions shuffled = options;
      shuffled.make_executor = [] {
        return cpu::make_shuffled_executor(3, GetParam().activations, GetParam().kv_cache);
      };
      expect_same(run(shuffled), what + ", shuffled");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Modes, RoundedModeTest,
    testing::Values(RoundedMode{program::Activations::kInt8, program::KvCacheType::kF32},
                    RoundedMode{program::Activations::kW4a16, program::KvCacheType::kBf16},
                    RoundedMode{program::Activations::kW4a8, program::KvCacheType::kFp8}));

class ShuffleTest : public ScheduleTest, public testing::WithParamInterface<Cut> {};

TEST_P(ShuffleTest, ThousandsOfRandomOrdersOverPoisonGiveTheSameBits) {
  RunnerOptions options;
  options.num_ranks = GetParam().ranks;
  options.num_workers = GetParam().workers;
  options.width = 8;
  options.max_context = 1100;
  options.make_executor = [] { return cpu::make_shuffled_executor(GetParam().workers); };
  auto runner = ModelRunner::open(directory_.path(), options);
  ASSERT_TRUE(runner) << runner.error().message;
  const int runs = scaled(250);  // of two steps each, every step in another order
  for (int i = 0; i < runs && !HasFailure(); ++i) {
    runner->reset();
    const auto result = runner->feed(kPrompt, kWanted, 256);
    ASSERT_TRUE(result) << result.error().message;
    expect_same(*result, fmt::format("run {}", i));
  }
  std::printf("%d random orders\n", 2 * runs);
}

// 5 workers split full attention and merge, and 24 are more than there are units of live experts.
INSTANTIATE_TEST_SUITE_P(Cuts, ShuffleTest,
                         testing::Values(Cut{1, 2}, Cut{1, 5}, Cut{2, 2}, Cut{2, 3}, Cut{1, 24},
                                         Cut{4, 2}, Cut{8, 1}));

TEST_F(ScheduleTest, ContextsOfSeveralChunksAgreeForAllSplits) {
  // Positions beyond one attention chunk (512), so that merges happen, with 1 and 6 splits.
  std::vector<int32_t> tokens;
  for (int i = 0; i < 1050; ++i) tokens.push_back((i * 37 + i / 7) % 256);
  std::vector<TopLogits> first;
  for (const uint32_t workers : {1u, 12u}) {
    RunnerOptions options;
    options.num_workers = workers;
    options.width = 64;
    options.max_context = 1100;
    auto runner = ModelRunner::open(directory_.path(), options);
    ASSERT_TRUE(runner);
    const auto result = runner->feed(tokens, 2, 256);
    ASSERT_TRUE(result);
    if (first.empty()) first = *result;
    EXPECT_EQ((*result)[1].logits, first[1].logits);
  }
}

TEST_F(ScheduleTest, AMissingSignalIsReportedNotWaitedForForEver) {
  RunnerOptions options;
  options.verify = false;
  options.make_executor = [] { return cpu::make_cpu_executor({.wait_deadline_ms = 200}); };
  options.change_program = [](program::Program* program) {
    for (program::Task& task : program->lists[0]) {
      if (program->stages[task.stage].name == "layers.1.router") task.signal = {};
    }
  };
  auto runner = ModelRunner::open(directory_.path(), options);
  ASSERT_TRUE(runner);
  const auto result = runner->feed(kPrompt, 1, 1);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInternal);
  EXPECT_NE(result.error().message.find("layers.1.route"), std::string::npos)
      << result.error().message;
  EXPECT_NE(result.error().message.find("needs 1, has 0"), std::string::npos)
      << result.error().message;
  // The fault stays: the counters are torn.
  EXPECT_FALSE(runner->feed(kPrompt, 1, 1));
}

}  // namespace
}  // namespace ultraspeed::test
