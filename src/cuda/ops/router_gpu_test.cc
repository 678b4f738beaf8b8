// The stages of a router against the same sums, and the same choices, made on the host: the
// normalised rows and the product with equal bits, the route table with equal experts and columns.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "cuda/device_memory.h"
#include "cuda/gpu.h"
#include "cuda/ops/f32_product.h"
#include "cuda/ops/round_rows.h"
#include "cuda/ops/stage.h"
#include "program/route_table.h"

namespace ultraspeed::cuda {
namespace {

using test::check;
using test::Device;
using test::kPoison;

constexpr float kEpsilon = 1e-5F;

std::vector<float> random_values(uint64_t count, float mean, float deviation, std::mt19937& from) {
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(from);
  return values;
}

// docs/numerics.md section 2.
float dot(const float* a, const float* b, uint32_t count) {
  float lanes[16] = {};
  for (uint32_t i = 0; i < count; ++i) lanes[i % 16] = std::fma(a[i], b[i], lanes[i % 16]);
  for (uint32_t width = 8; width > 0; width /= 2) {
    for (uint32_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

std::vector<float> normalised(const std::vector<float>& rows, const std::vector<float>& weight) {
  const auto size = static_cast<uint32_t>(weight.size());
  std::vector<float> result(rows.size());
  for (uint64_t begin = 0; begin < rows.size(); begin += size) {
    const float* row = &rows[begin];
    const float mean = dot(row, row, size) / static_cast<float>(size);
    const float factor = 1.0F / std::sqrt(mean + kEpsilon);
    for (uint32_t k = 0; k < size; ++k) result[begin + k] = weight[k] * (row[k] * factor);
  }
  return result;
}

void expect_equal(const std::vector<float>& seen, const std::vector<float>& expected,
                  const char* what) {
  ASSERT_EQ(seen.size(), expected.size());
  uint64_t different = 0;
  for (uint64_t i = 0; i < seen.size(); ++i) {
    if (std::bit_cast<uint32_t>(seen[i]) == std::bit_cast<uint32_t>(expected[i])) continue;
    if (different++ == 0)
      ADD_FAILURE() << what << " " << i << ": " << seen[i] << ", not " << expected[i];
  }
  EXPECT_EQ(different, 0u) << what;
}

struct ProductCase {
  uint32_t num_rows, k, width, num_columns;
};

void run_product(const ProductCase& c) {
  SCOPED_TRACE(testing::Message() << "[" << c.num_rows << ", " << c.k << "], " << c.num_columns
                                  << " columns of " << c.width);
  constexpr uint32_t kFirstRow = 2, kMoreRows = 5;
  std::mt19937 from(c.num_rows + c.k + c.width);
  const auto weights = random_values(uint64_t{c.num_rows} * c.k, 0, 0.02F, from);
  const auto rows = random_values(uint64_t{c.width} * c.k, 0, 3, from);
  const auto norm = random_values(c.k, 1, 0.1F, from);
  const uint32_t total_rows = c.num_rows + kMoreRows;
  Device<float> device_weights(weights), device_rows(rows), device_norm(norm);
  Device<float> normed(rows.size()), output(uint64_t{c.width} * total_rows);
  Device<uint32_t> num_columns(std::vector<uint32_t>{c.num_columns});
  check(launch_round_rows({.rows = device_rows.data(),
                           .num_rows = c.width,
                           .size = c.k,
                           .norm_weight = device_norm.data(),
                           .norm_epsilon = kEpsilon,
                           .output = normed.data()},
                          nullptr));
  check(launch_f32_product({.weights = device_weights.data(),
                            .num_rows = c.num_rows,
                            .k = c.k,
                            .rows = normed.data(),
                            .width = c.width,
                            .num_columns = num_columns.data(),
                            .output = output.data(),
                            .total_rows = total_rows,
                            .first_row = kFirstRow},
                           nullptr));
  const std::vector<float> inputs = normalised(rows, norm);
  expect_equal(normed.read(), inputs, "element");
  std::vector<float> expected(uint64_t{c.width} * total_rows, std::bit_cast<float>(kPoison));
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    for (uint32_t row = 0; row < c.num_rows; ++row) {
      expected[uint64_t{t} * total_rows + kFirstRow + row] =
          dot(&weights[uint64_t{row} * c.k], &inputs[uint64_t{t} * c.k], c.k);
    }
  }
  expect_equal(output.read(), expected, "sum");
}

// Widths of every tile, rows that fill no tile, fewer columns than the width, inputs larger and
// smaller than what is in flight.
TEST(Router, ProductsHaveTheBitsOfTheirOrder) {
  US_NEEDS_GPU();
  for (const ProductCase& c :
       {ProductCase{384, 6144, 8, 8}, ProductCase{384, 6144, 1, 1}, ProductCase{33, 512, 16, 13},
        ProductCase{7, 256, 20, 20}, ProductCase{129, 1024, 64, 61}, ProductCase{61, 768, 3, 2},
        ProductCase{50, 1536, 100, 97}, ProductCase{50, 7168, 130, 130},
        ProductCase{95, 2048, 256, 255}, ProductCase{32, 2880, 8, 8}, ProductCase{128, 2880, 1, 1},
        ProductCase{33, 64, 16, 9}, ProductCase{61, 320, 64, 60}, ProductCase{50, 2880, 100, 97},
        ProductCase{50, 448, 256, 250}}) {
    run_product(c);
  }
}

struct RouteCase {
  uint32_t num_experts, top_k, width, num_columns;
  bool has_bias = true;
  bool has_ties = false;  // logits of few values
  uint8_t norm_topk = 1;
  program::RouterScores scores = program::RouterScores::kSigmoid;
};
constexpr auto kSoftmax = program::RouterScores::kSoftmax;

// Of a column: what the weights are of, and what chooses.
struct Scores {
  Scores(const RouteCase& c, const float* logits, const std::vector<float>& bias)
      : scores(c.num_experts), choices(c.num_experts) {
    double sum = 0, most = -1e30;
    const auto of_softmax = [&](uint32_t e) {
      return double{logits[e] + (c.has_bias ? bias[e] : 0.0F)};
    };
    for (uint32_t e = 0; e < c.num_experts; ++e) most = std::max(most, of_softmax(e));
    for (uint32_t e = 0; e < c.num_experts; ++e) sum += std::exp(of_softmax(e) - most);
    for (uint32_t e = 0; e < c.num_experts; ++e) {
      if (c.scores == kSoftmax) {
        scores[e] = static_cast<float>(std::exp(of_softmax(e) - most) / sum);
        choices[e] = static_cast<float>(of_softmax(e));
        continue;
      }
      scores[e] = 1.0F / (1.0F + static_cast<float>(std::exp(-double{logits[e]})));
      choices[e] = scores[e] + (c.has_bias ? bias[e] : 0.0F);
    }
  }

  std::vector<float> scores, choices;
};

struct RouteSlot {
  uint32_t expert;
  std::vector<std::pair<uint32_t, float>> pairs;  // column, weight
};

// cpu/ops/route.cc's definition.
std::vector<RouteSlot> choose(const RouteCase& c, const std::vector<float>& logits,
                              const std::vector<float>& bias, float scaling) {
  std::vector<RouteSlot> experts(c.num_experts);
  for (uint32_t e = 0; e < c.num_experts; ++e) experts[e].expert = e;
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    const auto [scores, choices] = Scores(c, &logits[uint64_t{t} * c.num_experts], bias);
    std::vector<uint32_t> order(c.num_experts);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&of = choices](uint32_t a, uint32_t b) { return of[a] > of[b]; });
    order.resize(c.top_k);
    std::sort(order.begin(), order.end());
    float sum = 0;
    for (const uint32_t e : order) sum += scores[e];
    const float divisor = c.norm_topk != 0 ? sum + 1e-20F : 1.0F;
    for (const uint32_t e : order) {
      experts[e].pairs.emplace_back(t, scores[e] / divisor * scaling);
    }
  }
  std::erase_if(experts, [](const RouteSlot& slot) { return slot.pairs.empty(); });
  return experts;
}

// The stage of one rank.
class RouteRun {
 public:
  RouteRun(const RouteCase& c, const std::vector<float>& logits, const std::vector<float>& bias)
      : op_({.logits = 0,
             .route = 1,
             .bias = c.has_bias ? 0 : program::kNoId,
             .num_experts = c.num_experts,
             .top_k = c.top_k,
             .max_slots = std::min(c.num_experts, c.width * c.top_k),
             .max_pairs = c.width * c.top_k,
             .norm_topk = c.norm_topk,
             .scores = c.scores,
             .scaling = kScaling}),
        table_at_((logits.size() + 63) / 64 * 64),
        words_(program::RouteTable::words(op_.max_slots, op_.max_pairs)),
        arena_(table_at_ + words_),
        bias_(bias),
        weight_(std::vector<Weight>{bias_weight()}),
        offsets_(std::vector<uint64_t>{0, table_at_}),
        step_(std::vector<StepView>{{.num_columns = c.num_columns}}),
        tasks_(std::vector<RankTask>(1)) {
    check(
        cudaMemcpy(arena_.data(), logits.data(), logits.size() * sizeof(float), cudaMemcpyDefault));
    StageLaunch launch;
    launch.machine.ranks[0].arena = arena_.data();
    launch.machine.ranks[0].weights = weight_.data();
    launch.buffer_offsets = offsets_.data();
    launch.step = step_.data();
    launch.tasks = tasks_.data();
    launch.num_tasks = 1;
    EXPECT_EQ(stage_limit(op_, c.width), nullptr);
    check(launch_stage(op_, launch));
  }

  static constexpr float kScaling = 2.5F;

  void expect(const std::vector<RouteSlot>& slots) {
    std::vector<float> arena = arena_.read();
    const auto table = program::RouteTable::at(
        reinterpret_cast<uint32_t*>(arena.data()) + table_at_, op_.max_slots, op_.max_pairs);
    ASSERT_EQ(*table.num_slots, slots.size());
    uint32_t pair = 0;
    for (uint32_t slot = 0; slot < slots.size(); ++slot) {
      ASSERT_EQ(table.expert[slot], slots[slot].expert);
      ASSERT_EQ(table.pair_begin[slot], pair);
      for (const auto& [column, weight] : slots[slot].pairs) {
        ASSERT_EQ(table.pair_column[pair], column);
        ASSERT_NEAR(table.pair_weight[pair], weight, 4e-7 * kScaling);
        ++pair;
      }
    }
    ASSERT_EQ(table.pair_begin[slots.size()], pair);
  }

 private:
  Weight bias_weight() {
    Weight weight;
    weight.data = reinterpret_cast<const std::byte*>(bias_.data());
    weight.rows = 1;
    weight.cols = op_.num_experts;
    return weight;
  }

  program::RouteOperands op_;
  uint64_t table_at_, words_;
  Device<float> arena_, bias_;
  Device<Weight> weight_;
  Device<uint64_t> offsets_;
  Device<StepView> step_;
  Device<RankTask> tasks_;
};

TEST(Router, TablesAreThoseOfTheChoices) {
  US_NEEDS_GPU();
  for (const RouteCase& c : {RouteCase{384, 8, 8, 8},
                             RouteCase{384, 8, 1, 1},
                             RouteCase{384, 8, 8, 7, false, true},
                             RouteCase{384, 8, 16, 13},
                             RouteCase{384, 8, 64, 64},
                             RouteCase{384, 8, 64, 57, true, true},
                             RouteCase{384, 8, 256, 255},
                             RouteCase{384, 8, 512, 512, false, true},
                             RouteCase{33, 4, 8, 8},
                             RouteCase{7, 7, 64, 50, true, true},
                             RouteCase{1, 1, 4, 4},
                             RouteCase{129, 6, 24, 24, true, false, 0},
                             RouteCase{256, 32, 40, 40, true, true},
                             RouteCase{500, 8, 100, 100},
                             RouteCase{1025, 8, 256, 200},
                             RouteCase{2048, 8, 64, 64},
                             RouteCase{384, 8, 8, 0},
                             RouteCase{32, 4, 8, 8, true, false, 1, kSoftmax},
                             RouteCase{128, 8, 64, 61, false, false, 1, kSoftmax},
                             RouteCase{128, 8, 8, 3, true, true, 0, kSoftmax},
                             RouteCase{500, 32, 100, 97, true, true, 1, kSoftmax}}) {
    SCOPED_TRACE(testing::Message() << c.top_k << " of " << c.num_experts << " experts, "
                                    << c.num_columns << " columns of " << c.width);
    std::mt19937 from(c.num_experts + c.width);
    auto logits = random_values(uint64_t{c.width} * c.num_experts, 0, 2, from);
    if (c.has_ties) {
      for (float& logit : logits) logit = std::round(logit * 4) / 4;
    }
    auto bias = random_values(c.num_experts, 0, 0.05F, from);
    if (c.has_ties) std::ranges::fill(bias, 0.25F);
    RouteRun run(c, logits, bias);
    run.expect(choose(c, logits, bias, RouteRun::kScaling));
  }
}

TEST(Router, RefusesWhatItHasNoRoomFor) {
  EXPECT_EQ(stage_limit(program::RouteOperands{.num_experts = 2048, .top_k = 32}, 512), nullptr);
  EXPECT_STREQ(stage_limit(program::RouteOperands{.num_experts = 2049, .top_k = 8}, 8),
               "more than 2048 experts");
  EXPECT_STREQ(stage_limit(program::RouteOperands{.num_experts = 64, .top_k = 33}, 8),
               "more than 32 experts a column");
}

}  // namespace
}  // namespace ultraspeed::cuda
