// Attention, its splits and the KV cache against softmax in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

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

}  // namespace
}  // namespace ultraspeed::cpu
