// Attention, its splits and the KV cache against softmax in double precision; and columns that
// share loads against each alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <span>

#include "cpu/ops/op_harness.h"

namespace ultraspeed::cpu {
namespace {

constexpr uint32_t kHeads = 4, kKvHeads = 2, kHeadDim = 8, kValueDim = 6;

struct Case {
  const char* name;
  uint32_t window;  // 0: full
  bool has_sink;
  uint32_t num_splits;
  uint32_t position;
};

class AttentionTest : public testing::TestWithParam<Case> {
 protected:
  float draw() { return normal_(random_); }
  std::vector<float> draws(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = draw();
    return values;
  }

  std::mt19937 random_{7};
  std::normal_distribution<float> normal_;
};

// Compares `result` [kHeads, kValueDim] with a softmax in double precision over all keys.
void expect_softmax(const std::vector<float>& query, const std::vector<float>& sinks,
                    const std::vector<std::vector<float>>& keys,
                    const std::vector<std::vector<float>>& values, const float* result) {
  for (uint32_t head = 0; head < kHeads; ++head) {
    const uint32_t kv = head / (kHeads / kKvHeads);
    double sum = sinks.empty() ? 0 : std::exp(static_cast<double>(sinks[head]));
    std::vector<double> expected(kValueDim, 0);
    for (size_t i = 0; i < keys.size(); ++i) {
      double score = 0;
      for (uint32_t d = 0; d < kHeadDim; ++d) {
        score += static_cast<double>(query[head * kHeadDim + d]) *
                 static_cast<double>(keys[i][kv * kHeadDim + d]);
      }
      const double p = std::exp(0.5 * score);
      sum += p;
      for (uint32_t d = 0; d < kValueDim; ++d) {
        expected[d] += p * static_cast<double>(values[i][kv * kValueDim + d]);
      }
    }
    for (uint32_t d = 0; d < kValueDim; ++d) {
      EXPECT_NEAR(static_cast<double>(result[head * kValueDim + d]), expected[d] / sum, 2e-6)
          << "head " << head << " dimension " << d;
    }
  }
}

TEST_P(AttentionTest, EqualsSoftmaxInDouble) {
  const Case& c = GetParam();
  OpHarness harness(1, 16);
  program::AttentionOperands op;
  op.num_q_heads = kHeads;
  op.num_kv_heads = kKvHeads;
  op.head_dim = kHeadDim;
  op.v_head_dim = kValueDim;
  op.window = c.window;
  op.chunk_positions = 512;
  op.max_chunks = 4;
  op.num_splits = c.num_splits;
  op.scale = 0.5F;
  const std::vector<float> query = draws(kHeads * kHeadDim);
  const std::vector<float> sinks = draws(kHeads);
  op.query = harness.buffer(query);
  op.cache_rows = harness.buffer({0});
  const auto result = harness.buffer(std::vector<float>(kHeads * kValueDim, NAN));
  op.output = result;
  if (c.num_splits > 1) {
    const size_t partials = size_t{kHeads} * op.max_chunks * (kValueDim + 2);
    op.output = harness.buffer(std::vector<float>(partials, NAN));
  }
  if (c.has_sink) op.sink = harness.weight(1, kHeads, sinks);
  // Sequence 1 of a ring of 1024 positions, or pages.
  op.cache = harness.cache({kKvHeads, kHeadDim, kValueDim, c.window == 0 ? 0u : 1024u});
  harness.column(0, c.position, 1);
  harness.load();

  const uint32_t first = c.window == 0 || c.position < c.window ? 0 : c.position - c.window + 1;
  Cache& cache = harness.machine().rank(0).caches[0];
  std::vector<std::vector<float>> keys, values;
  for (uint32_t position = first; position <= c.position; ++position) {
    keys.push_back(draws(kKvHeads * kHeadDim));
    values.push_back(draws(kKvHeads * kValueDim));
    const size_t row = c.window == 0 ? position : 1024 + position % 1024;
    std::copy(keys.back().begin(), keys.back().end(), &cache.keys[row * kKvHeads * kHeadDim]);
    std::copy(values.back().begin(), values.back().end(),
              &cache.values[row * kKvHeads * kValueDim]);
  }
  // Everything else in the cache is NaN: one position too many would show.

  for (uint32_t split = 0; split < c.num_splits; ++split) {
    ASSERT_TRUE(harness.run(op, 0, kHeads, split));
  }
  if (c.num_splits > 1) {
    program::AttentionMergeOperands merge;
    merge.partials = op.output;
    merge.output = result;
    merge.sink = op.sink;
    merge.num_q_heads = kHeads;
    merge.v_head_dim = kValueDim;
    merge.chunk_positions = op.chunk_positions;
    merge.max_chunks = op.max_chunks;
    ASSERT_TRUE(harness.run(merge, 0, kHeads));
  }
  expect_softmax(query, c.has_sink ? sinks : std::vector<float>(), keys, values,
                 harness.values(result));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionTest,
    testing::Values(Case{"FirstToken", 0, false, 1, 0}, Case{"Full", 0, false, 1, 700},
                    Case{"FullWithSink", 0, true, 1, 1300}, Case{"FullSplit", 0, true, 3, 1300},
                    Case{"SplitsWithoutWork", 0, true, 4, 40},
                    Case{"WindowNotFull", 128, true, 1, 100}, Case{"WindowFull", 128, true, 1, 127},
                    Case{"WindowOverAChunkBorder", 128, true, 1, 520},
                    Case{"WindowRoundTheRing", 128, false, 1, 1030}),
    [](const auto& test) { return test.param.name; });

// What columns that share loads give: the bits of each alone, whatever lies where they do not look.

struct BlockCase {
  const char* name;
  uint32_t window;  // 0: full
  uint32_t num_splits;
  uint32_t first_position;
};

class AttentionBlockTest : public testing::TestWithParam<BlockCase> {
 protected:
  static constexpr uint32_t kColumns = 11;  // more than share loads
  static constexpr uint32_t kRing = 256;

  // The output of columns `columns` of a text, in a step of these alone; positions beyond
  // `last_written` are NaN in the caches.
  static std::vector<float> run(const std::vector<uint32_t>& columns, uint32_t last_written) {
    const BlockCase& c = GetParam();
    OpHarness harness(static_cast<uint32_t>(columns.size()), 16);
    program::AttentionOperands op;
    op.num_q_heads = kHeads;
    op.num_kv_heads = kKvHeads;
    op.head_dim = 16;
    op.v_head_dim = kValueDim;
    op.window = c.window;
    op.chunk_positions = 512;
    op.max_chunks = 3;
    op.num_splits = c.num_splits;
    op.scale = 0.5F;
    std::vector<float> query;
    for (const uint32_t column : columns) {
      const std::vector<float> of_column = random(column, kHeads * op.head_dim);
      query.insert(query.end(), of_column.begin(), of_column.end());
      harness.column(0, c.first_position + column, 1);
    }
    op.query = harness.buffer(query);
    op.cache_rows = harness.buffer({0});
    const size_t size =
        c.num_splits == 1 ? kHeads * kValueDim : size_t{kHeads} * op.max_chunks * (kValueDim + 2);
    // What no column sees stays as it is.
    op.output = harness.buffer(std::vector<float>(columns.size() * size, -1));
    op.cache = harness.cache({kKvHeads, op.head_dim, kValueDim, c.window == 0 ? 0u : kRing});
    harness.load();
    Cache& cache = harness.machine().rank(0).caches[0];
    const uint32_t kept = last_written < kRing ? last_written : kRing - 2 * kColumns;
    const uint32_t first = last_written - kept;
    for (uint32_t position = c.window == 0 ? 0 : first; position <= last_written; ++position) {
      const size_t row = c.window == 0 ? position : kRing + position % kRing;
      std::ranges::copy(random(1000 + position, kKvHeads * op.head_dim),
                        &cache.keys[row * kKvHeads * op.head_dim]);
      std::ranges::copy(random(9000 + position, kKvHeads * kValueDim),
                        &cache.values[row * kKvHeads * kValueDim]);
    }
    for (uint32_t split = 0; split < c.num_splits; ++split) {
      EXPECT_TRUE(harness.run(op, 0, kHeads, split));
    }
    const float* output = harness.values(op.output);
    return {output, output + columns.size() * size};
  }

  static std::vector<float> random(uint32_t seed, size_t count) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }
};

TEST_P(AttentionBlockTest, GivesEachColumnItsOwnBits) {
  const uint32_t first = GetParam().first_position;
  std::vector<float> alone;
  for (uint32_t column = 0; column < kColumns; ++column) {
    const std::vector<float> one = run({column}, first + column);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  const size_t size = alone.size() / kColumns;
  EXPECT_TRUE(std::ranges::none_of(alone, [](float x) { return std::isnan(x); }));
  EXPECT_EQ(run({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, first + 10), alone);
  // Columns that are no neighbours share nothing.
  std::vector<float> some = run({0, 2, 3}, first + 10);
  const auto column_of = [&](uint32_t column) { return std::span(alone).subspan(column * size); };
  EXPECT_TRUE(std::ranges::equal(std::span(some).first(size), column_of(0).first(size)));
  EXPECT_TRUE(std::ranges::equal(std::span(some).subspan(size), column_of(2).first(2 * size)));
  // The last five see NaN, as they would alone; the six before them do not.
  const std::vector<float> spoilt = run({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, first + 5);
  EXPECT_TRUE(std::ranges::equal(std::span(spoilt).first(6 * size), column_of(0).first(6 * size)));
  EXPECT_TRUE(std::isnan(spoilt[6 * size + size - 1]) || GetParam().num_splits > 1);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionBlockTest,
    testing::Values(
        BlockCase{"FirstTokens", 0, 1, 0}, BlockCase{"Full", 0, 1, 300},
        BlockCase{"FullOverAChunkBorder", 0, 1, 507}, BlockCase{"FullSplit", 0, 3, 1019},
        BlockCase{"WindowNotFull", 128, 1, 3}, BlockCase{"WindowFull", 128, 1, 300},
        BlockCase{"WindowGrowsFull", 128, 1, 124}, BlockCase{"WindowOverAChunkBorder", 128, 1, 508},
        BlockCase{"WindowLeavesAChunk", 128, 1, 634}, BlockCase{"WindowSplit", 128, 2, 634},
        BlockCase{"WindowRoundTheRing", 128, 1, 252},
        BlockCase{"WindowOfFewerThanColumns", 3, 1, 509}, BlockCase{"WindowOfOne", 1, 1, 509}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace ultraspeed::cpu
