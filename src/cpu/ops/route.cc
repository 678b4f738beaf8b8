// Route: each column's top_k experts, and from them the table of live experts.
#include "cpu/ops/route.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {

using program::RouteOperands;

namespace {

void sigmoid_scores(uint32_t num_experts, const float* logits, float* scores) {
  for (uint32_t e = 0; e < num_experts; ++e) scores[e] = sigmoid(logits[e]);
}

void softmax_scores(uint32_t num_experts, const float* logits, const float* bias, float* scores) {
  for (uint32_t e = 0; e < num_experts; ++e) {
    scores[e] = logits[e] + (bias == nullptr ? 0.0F : bias[e]);
  }
  const float largest = *std::max_element(scores, scores + num_experts);
  double sum = 0;
  for (uint32_t e = 0; e < num_experts; ++e) {
    scores[e] = std::exp(scores[e] - largest);
    sum += double{scores[e]};
  }
  for (uint32_t e = 0; e < num_experts; ++e) scores[e] /= static_cast<float>(sum);
}

}  // namespace

void route_column(const RouteOperands& op, const float* logits, const float* bias,
                  std::vector<uint32_t>* order, float* weights) {
  std::vector<uint32_t>& experts = *order;
  const bool is_softmax = op.scores == program::RouterScores::kSoftmax;
  is_softmax ? softmax_scores(op.num_experts, logits, bias, weights)
             : sigmoid_scores(op.num_experts, logits, weights);
  experts.resize(op.num_experts);
  std::iota(experts.begin(), experts.end(), 0u);
  const float* choice_bias = is_softmax ? nullptr : bias;
  const auto choice = [&](uint32_t e) {
    return weights[e] + (choice_bias == nullptr ? 0.0F : choice_bias[e]);
  };
  std::partial_sort(experts.begin(), experts.begin() + op.top_k, experts.end(),
                    [&](uint32_t a, uint32_t b) {
                      const float score_a = choice(a);
                      const float score_b = choice(b);
                      return score_a != score_b ? score_a > score_b : a < b;
                    });
  experts.resize(op.top_k);
  std::sort(experts.begin(), experts.end());
  float sum = 0;
  for (const uint32_t e : experts) sum += weights[e];
  const float divisor = op.norm_topk != 0 ? sum + 1e-20F : 1.0F;
  for (uint32_t e = 0, next = 0; e < op.num_experts; ++e) {
    const bool selected = next < op.top_k && experts[next] == e;
    if (selected) ++next;
    weights[e] = selected ? weights[e] / divisor * op.scaling : -1.0F;
  }
}

Status run_op(const OpContext& context, const RouteOperands& op, uint32_t) {
  const uint32_t columns = context.num_columns();
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  const float* logits = context.buffer(op.logits);
  const float* bias = context.vector(op.bias);
  float* weights = context.scratch->floats(kResults, uint64_t{columns} * op.num_experts);
  thread_local std::vector<uint32_t> order;
  for (uint32_t t = 0; t < columns; ++t) {
    const uint64_t row = uint64_t{t} * op.num_experts;
    route_column(op, logits + row, bias, &order, weights + row);
  }
  uint32_t slots = 0;
  uint32_t pairs = 0;
  for (uint32_t e = 0; e < op.num_experts; ++e) {
    table.pair_begin[slots] = pairs;
    for (uint32_t t = 0; t < columns; ++t) {
      const float weight = weights[uint64_t{t} * op.num_experts + e];
      if (weight < 0) continue;
      table.pair_column[pairs] = t;
      table.pair_weight[pairs++] = weight;
    }
    if (pairs > table.pair_begin[slots]) table.expert[slots++] = e;
  }
  table.pair_begin[slots] = pairs;
  *table.num_slots = slots;
  return {};
}

}  // namespace ultraspeed::cpu
