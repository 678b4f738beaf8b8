#include "train/expert_layer.h"

#include <torch/csrc/autograd/custom_function.h>

namespace ultraspeed::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A pair is a token and one of its experts, numbered token by token; a slot is a row of an expert's
// input, numbered expert by expert, as many of each.
struct Places {
  int64_t capacity = 0;        // slots of an expert
  torch::Tensor load;          // i64 [experts]
  torch::Tensor slot_of_pair;  // i64 [pairs]
  torch::Tensor pair_of_slot;  // i64 [slots]; -1: empty
};

Places find_places(const torch::Tensor& experts, int64_t num_experts) {
  const torch::Tensor expert_of_pair = experts.flatten();
  const int64_t pairs = expert_of_pair.size(0);
  const auto options = expert_of_pair.options();
  const torch::Tensor all_pairs = torch::arange(pairs, options);
  Places places;
  places.load = (expert_of_pair.unsqueeze(1) == torch::arange(num_experts, options)).sum(0);
  places.capacity = places.load.max().item<int64_t>();
  // Keys are unique, so that every sort gives the same order.
  const torch::Tensor order = std::get<0>((expert_of_pair * pairs + all_pairs).sort()) % pairs;
  const torch::Tensor sorted_expert = expert_of_pair.index_select(0, order);
  const torch::Tensor begin = places.load.cumsum(0) - places.load;
  const torch::Tensor slot =
      sorted_expert * places.capacity + all_pairs - begin.index_select(0, sorted_expert);
  places.slot_of_pair = torch::empty_like(all_pairs).scatter_(0, order, slot);
  places.pair_of_slot =
      torch::full({num_experts * places.capacity}, -1, options).scatter_(0, slot, order);
  return places;
}

// [tokens, hidden] -> [slots, hidden]; empty slots get some token.
struct Dispatch : torch::autograd::Function<Dispatch> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& slot_of_pair, const torch::Tensor& pair_of_slot,
                               int64_t top_k) {
    context->save_for_backward({slot_of_pair});
    context->saved_data["top_k"] = top_k;
    const torch::Tensor token = pair_of_slot.clamp_min(0).div(top_k, "trunc");
    return x.index_select(0, token);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const torch::Tensor slot_of_pair = context->get_saved_variables()[0];
    const int64_t top_k = context->saved_data["top_k"].toInt();
    const torch::Tensor of_pairs = gradients[0].index_select(0, slot_of_pair);
    return {of_pairs.view({-1, top_k, of_pairs.size(1)}).sum(1), {}, {}, {}};
  }
};

// [slots, hidden] -> [pairs, hidden]
struct Collect : torch::autograd::Function<Collect> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& y,
                               const torch::Tensor& slot_of_pair,
                               const torch::Tensor& pair_of_slot) {
    context->save_for_backward({pair_of_slot});
    return y.index_select(0, slot_of_pair);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const torch::Tensor pair_of_slot = context->get_saved_variables()[0];
    const torch::Tensor of_slots = gradients[0].index_select(0, pair_of_slot.clamp_min(0));
    return {of_slots.masked_fill((pair_of_slot < 0).unsqueeze(1), 0), {}, {}};
  }
};

}  // namespace

Routing route(const torch::Tensor& logits, const torch::Tensor& bias, int64_t top_k) {
  constexpr double kSmallestSum = 1e-20;  // the family's
  const torch::Tensor scores = logits.sigmoid();
  const torch::Tensor experts = std::get<1>((scores.detach() + bias).topk(top_k, -1));
  const torch::Tensor chosen = scores.gather(-1, experts);
  return {experts, chosen / (chosen.sum(-1, true) + kSmallestSum)};
}

ExpertOutput apply_experts(const torch::Tensor& x, const Routing& routing,
                           const ExpertWeights& weights) {
  const int64_t num_experts = weights.gate.size(0), top_k = routing.experts.size(1);
  const torch::Dtype compute = weights.gate.scalar_type();
  const torch::Dtype master = routing.weights.scalar_type();
  const Places places = find_places(routing.experts, num_experts);
  const torch::Tensor inputs =
      Dispatch::apply(x.to(compute), places.slot_of_pair, places.pair_of_slot, top_k)
          .view({num_experts, places.capacity, -1});
  const torch::Tensor gate = inputs.bmm(weights.gate.transpose(1, 2)).to(master);
  const torch::Tensor up = inputs.bmm(weights.up.transpose(1, 2)).to(master);
  const torch::Tensor inner = (torch::silu(gate) * up).to(compute);
  const torch::Tensor slots = inner.bmm(weights.down.transpose(1, 2)).flatten(0, 1);
  const torch::Tensor pairs = Collect::apply(slots, places.slot_of_pair, places.pair_of_slot);
  const torch::Tensor of_token = pairs.view({x.size(0), top_k, -1}).to(master);
  return {(of_token * routing.weights.unsqueeze(-1)).sum(1), places.load};
}

}  // namespace ultraspeed::train
