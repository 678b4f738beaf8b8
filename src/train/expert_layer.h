// The computation of a layer's experts in tensors. Tokens are put in the order of their experts,
// each expert's filled up to those of the busiest, so that all experts are three products; no token
// is dropped. Moving tokens is a gather in both directions, forward and backward, so that no sum
// depends on the order of atomic additions.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>

namespace ultraspeed::train {

struct Routing {
  torch::Tensor experts;  // i64 [tokens, top_k]
  torch::Tensor weights;  // [tokens, top_k], which add up to 1
};

// Sigmoid scores of `logits` [tokens, experts]; `bias` [experts] counts in the choice alone.
Routing route(const torch::Tensor& logits, const torch::Tensor& bias, int64_t top_k);

struct ExpertWeights {
  torch::Tensor gate, up;  // [experts, inner, hidden]
  torch::Tensor down;      // [experts, hidden, inner]
};

struct ExpertOutput {
  torch::Tensor output;  // [tokens, hidden], in the type of `routing.weights`
  torch::Tensor load;    // i64 [experts]: tokens of each
};

// x: [tokens, hidden]. Products are in the type of the expert weights, the rest in that of the
// routing weights.
ExpertOutput apply_experts(const torch::Tensor& x, const Routing& routing,
                           const ExpertWeights& weights);

}  // namespace ultraspeed::train
