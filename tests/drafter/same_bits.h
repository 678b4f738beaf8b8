// Programs that draft, before a step or after it, give the same bits whoever computes what when.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cpu/executor.h"
#include "program/step.h"
#include "support/model_runner.h"
#include "support/scale.h"

namespace ultraspeed::test {

// What one step gives for a sequence.
struct Cycle {
  std::vector<int32_t> drafted, sampled, proposed;
  std::vector<float> logits;
  uint32_t accepted = 0;

  bool operator==(const Cycle&) const = default;
};

inline Cycle cycle_of(std::span<const program::ColumnOutput> columns) {
  Cycle cycle;
  for (const program::ColumnOutput& column : columns) {
    cycle.drafted.push_back(column.drafted_id);
    cycle.sampled.push_back(column.token_id);
    cycle.logits.push_back(column.logit);
  }
  cycle.accepted = columns[0].accepted;
  cycle.proposed = columns[0].proposed_ids;
  return cycle;
}

// open(RunnerOptions) gives a runner, decode(&runner) its cycles.
template <class Open, class Decode>
void expect_same_bits_for_every_cut(Open open, Decode decode) {
  ModelRunner first = open(RunnerOptions());
  const auto expected = decode(&first);
  ASSERT_TRUE(expected) << expected.error().message;
  constexpr std::pair<uint32_t, uint32_t> kCuts[] = {{1, 1}, {1, 5},  {1, 12}, {2, 1},
                                                     {2, 5}, {2, 12}, {4, 1},  {8, 2}};
  for (const auto& [ranks, workers] : kCuts) {
    for (const uint32_t width : {8u, 64u}) {
      RunnerOptions options;
      options.num_ranks = ranks;
      options.num_workers = workers;
      options.width = width;
      ModelRunner runner = open(options);
      const auto cycles = decode(&runner);
      ASSERT_TRUE(cycles) << cycles.error().message;
      EXPECT_TRUE(*cycles == *expected)
          << ranks << " ranks x " << workers << " workers, width " << width;
    }
  }
}

// Decodes `runs` times, scaled, for each of three cuts.
template <class Open, class Decode>
void expect_same_bits_in_random_orders(int runs, Open open, Decode decode) {
  ModelRunner first = open(RunnerOptions());
  const auto expected = decode(&first);
  ASSERT_TRUE(expected) << expected.error().message;
  for (const auto& [ranks, workers] : {std::pair(1u, 5u), std::pair(2u, 3u), std::pair(8u, 1u)}) {
    RunnerOptions options;
    options.num_ranks = ranks;
    options.num_workers = workers;
    options.make_executor = [seed = workers] { return cpu::make_shuffled_executor(seed); };
    ModelRunner runner = open(options);
    const int count = scaled(runs);
    for (int i = 0; i < count; ++i) {
      const auto cycles = decode(&runner);
      ASSERT_TRUE(cycles) << cycles.error().message;
      ASSERT_TRUE(*cycles == *expected) << ranks << " ranks, run " << i;
    }
  }
}

// Sequences that ran together give what each gave alone: together.columns are theirs, joined.
inline void expect_same_in_company(const program::StepOutput& together,
                                   const std::vector<Cycle>& alone) {
  std::span<const program::ColumnOutput> rest(together.columns);
  for (size_t sequence = 0; sequence < alone.size(); ++sequence) {
    const size_t count = alone[sequence].sampled.size();
    EXPECT_TRUE(cycle_of(rest.first(count)) == alone[sequence]) << sequence;
    rest = rest.subspan(count);
  }
}

}  // namespace ultraspeed::test
