// The model of timing.h: what it says of bytes and links against closed forms, and what error bars
// promise.
#include "plan/timing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "plan/device_times.h"
#include "program/logit_shards.h"

namespace ultraspeed::plan {
namespace {

model::ModelConfig bundled_config() {
  return *model::ModelConfig::load(std::string(US_SOURCE_DIR) + "/models/tiny-mimo");
}

StepWork work_of(uint32_t ranks, AllReduce all_reduce = AllReduce::kTwoShot) {
  StepOptions options;
  options.num_ranks = ranks;
  options.context = 4096;
  options.all_reduce = all_reduce;
  auto work = plan_step(bundled_config(), nullptr, *find_device("h200"), options);
  EXPECT_TRUE(work.has_value()) << work.error().message;
  return *work;
}

double time_of(const StepWork& work, const NodeTimes<double>& times, double live = 20) {
  return sum_us(step_parts(work, live, times));
}

// The same bytes as the report's, which report_test.cc checks against closed forms.
TEST(StepWork, ReadsWhatTheReportCounts) {
  for (const uint32_t ranks : {1U, 2U, 4U, 8U}) {
    ReportOptions options;
    options.num_ranks = ranks;
    options.context = 4096;
    const auto report = make_report(bundled_config(), nullptr, *find_device("h200"), options);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    const StepWork work = work_of(ranks);
    for (const double live : {4.0, 20.0}) {
      EXPECT_DOUBLE_EQ(work.bytes_at(live), report->cycle.at(live)) << ranks;
    }
    EXPECT_EQ(work.memory_bytes, report->memory.total());
    EXPECT_EQ(work.max_live_experts, report->max_live_experts);
    EXPECT_DOUBLE_EQ(work.expected_live_experts, report->expected_live_experts);
    EXPECT_NEAR(time_of(work, floor_times(4.6e12)), 1e6 * cycle_seconds(*report, 20, 0), 1e-6);
  }
}

// In two shots a rank's chunks go to their rows' owners and sums to all; in one, chunks to all.
TEST(StepWork, SumsSendWhatRanksMdSays) {
  const double columns = 8, hidden = bundled_config().hidden_size;
  for (const double ranks : {2.0, 4.0}) {
    const double chunks = 4 * columns * (8 / ranks) * hidden;  // bytes of a rank's
    const double sums = 4 * columns * hidden / ranks;
    for (const AllReduce all_reduce : kAllAllReduces) {
      const bool one_shot = all_reduce == AllReduce::kOneShot;
      uint32_t num_products = 0;
      for (const StageWork& stage : work_of(static_cast<uint32_t>(ranks), all_reduce).stages) {
        if (stage.is_sum()) {
          ++num_products;
          EXPECT_TRUE(stage.crosses_ranks);
          EXPECT_DOUBLE_EQ(stage.link, chunks * (ranks - 1) / (one_shot ? 1 : ranks));
        } else if (stage.opcode == program::Opcode::kReduce) {
          EXPECT_DOUBLE_EQ(stage.link, one_shot ? 0 : sums * (ranks - 1));
          EXPECT_EQ(stage.crosses_ranks, !one_shot);
        }
      }
      EXPECT_EQ(num_products, 16U);  // 8 layers
    }
  }
}

// Bytes over the links of the head and of the choice of tokens, and those at most besides.
struct ChoiceLinks {
  double always = 0, on_demand = 0;
};

ChoiceLinks choice_links(const std::string& folder, uint32_t ranks, LogitsPlace logits) {
  StepOptions options;
  options.num_ranks = ranks;
  options.context = 4096;
  options.logits = logits;
  const auto config = *model::ModelConfig::load(std::string(US_SOURCE_DIR) + folder);
  const auto work = plan_step(config, nullptr, *find_device("h200"), options);
  EXPECT_TRUE(work.has_value()) << work.error().message;
  ChoiceLinks links;
  for (const StageWork& stage : work->stages) {
    if (stage.part != StepPart::kEnds || stage.opcode == program::Opcode::kEmbed) continue;
    links.always += stage.link;
    links.on_demand += stage.on_demand_link;
  }
  return links;
}

// Of logits on rank 0 all but its own share crosses to it. Of shares, peaks cross to all ranks,
// sums and shortlists to rank 0, and the rest of a piece that another rank has begun to that one.
TEST(StepWork, ChoicesSendWhatRanksMdSays) {
  constexpr double kColumns = 8, kPiece = program::kLogitPiece;
  const double words = bundled_config().vocab_size;
  for (const uint32_t ranks : {2U, 4U, 8U}) {
    const double others = ranks - 1;
    const ChoiceLinks whole = choice_links("/models/tiny-mimo", ranks, LogitsPlace::kRankZero);
    EXPECT_DOUBLE_EQ(whole.always, 4 * kColumns * words / ranks * others);
    EXPECT_EQ(whole.on_demand, 0);
    const ChoiceLinks shares = choice_links("/models/tiny-mimo", ranks, LogitsPlace::kShares);
    // 12,288 ids are 12 pieces: on 8 ranks every second share begins in the middle of one, and
    // rank 0 gets half of a piece; of fewer ranks whole pieces are on one.
    const double rest = ranks == 8 ? kPiece / 2 : 0;
    const double sums = ranks == 8 ? 12 - 2 : 12.0 / ranks * others;
    EXPECT_DOUBLE_EQ(shares.always,
                     kColumns * (others * sizeof(program::LogitPeaks) + 4 * rest + 4 * sums +
                                 others * sizeof(program::LogitShortlist)));
    EXPECT_DOUBLE_EQ(shares.on_demand, whole.always - 4 * kColumns * rest);
  }
}

// The 1T model on 8 ranks: docs/ranks.md, section 3.
TEST(StepWork, SharesSendAFortiethOfTheLogits) {
  const std::string folder = "/configs/mimo-v2.5-pro";
  const ChoiceLinks whole = choice_links(folder, 8, LogitsPlace::kRankZero);
  const ChoiceLinks shares = choice_links(folder, 8, LogitsPlace::kShares);
  EXPECT_NEAR(whole.always / 1e6, 4.27, 0.01);
  EXPECT_NEAR(shares.always / 1e3, 107, 1);
  EXPECT_NEAR(shares.on_demand / 1e6, 4.26, 0.01);
}

// What ranks nominate of a drafter's logits: an id and a logit a column and rank.
TEST(StepWork, DraftsFromSharesSendNominees) {
  const std::string folder = std::string(US_SOURCE_DIR) + "/configs/mimo-v2.5-pro";
  const auto config = *model::ModelConfig::load(folder);
  const auto drafter = *model::DrafterConfig::load(folder + "/dflash");
  StepOptions options;
  options.context = 4096;
  options.logits = LogitsPlace::kShares;
  const auto work = plan_step(config, &drafter, *find_device("h200"), options);
  ASSERT_TRUE(work.has_value()) << work.error().message;
  const auto nominating = std::ranges::find(work->stages, program::Opcode::kNominate,
                                            [](const StageWork& stage) { return stage.opcode; });
  ASSERT_NE(nominating, work->stages.end());
  EXPECT_EQ(nominating->link, 7 * 8 * 8);
  EXPECT_DOUBLE_EQ(nominating->on_demand_link, 4 * 8 * config.vocab_size / 8.0 * 7);
}

TEST(StepWork, OneRankCrossesNothing) {
  for (const StageWork& stage : work_of(1).stages) {
    EXPECT_FALSE(stage.crosses_ranks);
    EXPECT_EQ(stage.link, 0);
  }
}

TEST(StepWork, HasADraftersPartWithADrafter) {
  const std::string folder = std::string(US_SOURCE_DIR) + "/configs/mimo-v2.5-pro";
  const auto config = *model::ModelConfig::load(folder);
  const auto drafter = *model::DrafterConfig::load(folder + "/dflash");
  StepOptions options;
  options.context = 32768;
  const auto with = plan_step(config, &drafter, *find_device("h200"), options);
  const auto without = plan_step(config, nullptr, *find_device("h200"), options);
  ASSERT_TRUE(with.has_value() && without.has_value());
  // docs/decode_bound.md, section 3: the drafter, its context, and the head once more.
  EXPECT_NEAR((with->bytes_at(60) - without->bytes_at(60)) / 1e9, 0.695 + 0.234, 0.02);
  const NodeTimes<double> times = likely_times(device_times("h200").times);
  const auto drafts = static_cast<size_t>(StepPart::kDrafter);
  EXPECT_GT(step_parts(*with, 60, times)[drafts], 200);
  EXPECT_EQ(step_parts(*without, 60, times)[drafts], 0);
}

TEST(StepTime, GrowsWithEveryCostAndFallsWithEveryRate) {
  const StepWork work = work_of(4);
  const NodeTimes<double> times = likely_times(device_times("h100").times);
  const double base = time_of(work, times);
  const auto changed = [&](auto change) {
    NodeTimes<double> other = times;
    change(&other);
    return time_of(work, other);
  };
  using Times = NodeTimes<double>;
  for (double Times::*rate :
       {&Times::bandwidth, &Times::kv_bandwidth, &Times::mxfp4_share, &Times::link_bandwidth}) {
    EXPECT_LT(changed([rate](Times* other) { other->*rate *= 1.1; }), base);
    EXPECT_GT(changed([rate](Times* other) { other->*rate *= 0.9; }), base);
  }
  for (double Times::*cost : {&Times::hop_us, &Times::late_us, &Times::delay_share, &Times::in_step,
                              &Times::correction}) {
    EXPECT_GT(changed([cost](Times* other) { other->*cost *= 1.1; }), base);
  }
  for (const program::Opcode opcode : {program::Opcode::kQkvProj, program::Opcode::kSample}) {
    EXPECT_GT(changed([opcode](Times* other) { other->of(opcode) += 1; }), base);
  }
  EXPECT_GT(time_of(work, times, 21), base);
}

// Two hops for each of two sums in 8 layers; besides, the embedding to all and logits to rank 0.
TEST(StepTime, ChargesEveryHop) {
  const StepWork work = work_of(2);
  NodeTimes<double> times = floor_times(4.6e12);
  times.link_bandwidth = 1e30;
  times.delay_share = 1;
  const double base = time_of(work, times);
  times.hop_us = 1;
  EXPECT_NEAR(time_of(work, times) - base, 2 * 2 * 8 + 2, 1e-9);
  times.hop_us = 0;
  times.late_us = 1;
  EXPECT_NEAR(time_of(work, times) - base, 2 * 8, 1e-9);
}

TEST(StepTime, WithoutDelaysRanksAreAlone) {
  const StepWork work = work_of(8);
  NodeTimes<double> times = likely_times(device_times("h100").times);
  times.hop_us = times.late_us = 0;
  times.link_bandwidth = 1e30;
  const double base = time_of(work, times);
  EXPECT_NEAR(base, time_of(work, likely_times(alone(device_times("h100").times))), 1e-9);
}

TEST(Estimate, QuantilesAreThoseOfATriangle) {
  const Estimate estimate{1, 2, 5};
  EXPECT_DOUBLE_EQ(estimate.quantile(0), 1);
  EXPECT_DOUBLE_EQ(estimate.quantile(0.25), 2);  // the share of the rising side
  EXPECT_DOUBLE_EQ(estimate.quantile(1), 5);
  EXPECT_NEAR(estimate.quantile(0.625), 5 - std::sqrt(0.375 * 12), 1e-12);
  EXPECT_EQ(Estimate::exactly(3).quantile(0.7), 3);
  EXPECT_DOUBLE_EQ((Estimate{0, 0, 1}.quantile(0.5)), 1 - std::sqrt(0.5));
}

TEST(Simulation, BarsHoldTheLikeliestCase) {
  for (const Device& device : devices()) {
    const NodeTimes<Estimate> times = device_times(device.name).times;
    for (const uint32_t ranks : {1U, 8U}) {
      const StepWork work = work_of(ranks);
      const Simulation simulation = simulate(work, 20, times);
      const double likely = time_of(work, likely_times(times));
      EXPECT_LT(simulation.step_us.low, likely) << device.name << ranks;
      EXPECT_GT(simulation.step_us.high, likely) << device.name << ranks;
      EXPECT_LT(simulation.floor_us, simulation.step_us.low);
      double parts = 0;
      for (const Bar& part : simulation.parts) {
        EXPECT_LE(part.low, part.mean);
        EXPECT_LE(part.mean, part.high);
        parts += part.mean;
      }
      EXPECT_NEAR(parts, simulation.step_us.mean, 1e-9 * parts);
      const Bar rate = simulation.tokens_per_second(4);
      EXPECT_LT(rate.low, rate.mean);
      EXPECT_LT(rate.mean, rate.high);
      EXPECT_DOUBLE_EQ(rate.mean * simulation.step_us.mean, 4e6);
    }
  }
}

TEST(Simulation, WithoutRangesIsOneCase) {
  const StepWork work = work_of(4);
  const NodeTimes<double> likely = likely_times(device_times("h200").times);
  const Simulation simulation =
      simulate(work, 20, likely.map([](const double& value) { return Estimate::exactly(value); }));
  const double us = time_of(work, likely);
  EXPECT_DOUBLE_EQ(simulation.step_us.low, us);
  EXPECT_NEAR(simulation.step_us.mean, us, 1e-9 * us);
  EXPECT_DOUBLE_EQ(simulation.step_us.high, us);
}

TEST(Simulation, IsTheSameEveryTime) {
  const StepWork work = work_of(2);
  const NodeTimes<Estimate> times = device_times("b200").times;
  EXPECT_EQ(simulate(work, 20, times).step_us.high, simulate(work, 20, times).step_us.high);
}

// A device that was not measured has wider bars.
TEST(Simulation, KnowsLessOfAB200) {
  const StepWork work = work_of(8);
  const auto relative_width = [&](const char* device) {
    const Bar us = simulate(work, 20, device_times(device).times).step_us;
    return (us.high - us.low) / us.mean;
  };
  EXPECT_GT(relative_width("b200"), 1.5 * relative_width("h200"));
}

}  // namespace
}  // namespace ultraspeed::plan
