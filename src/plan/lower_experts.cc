// The mixture-of-experts block: router, route table, gate/up over live experts, down, residual.
#include <algorithm>

#include "plan/lower_internal.h"
#include "plan/tiling.h"
#include "program/route_table.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::BufferDecl;
using program::SignalScope;

// Router scores and the route table; two stages.
Status Lowering::route(program::NormRef norm_ref, uint32_t max_slots, uint32_t max_pairs,
                       program::BufferId* table) {
  program::LinearOperands router;
  router.norm = norm_ref;
  US_ASSIGN(router.weight, weight(TensorRole::kRouter, "router", 1));
  router.input = hidden_;
  router.output = columns_buffer("router_logits", config_.num_experts);
  router.rows = config_.num_experts;
  router.total_rows = config_.num_experts;
  add_bands(&stage("router", router), router.rows, after(hidden_stage_, 0), SignalScope::kLocal);
  const auto router_stage = static_cast<uint32_t>(draft_->stages.size() - 1);

  program::RouteOperands op;
  US_ASSIGN(op.bias, weight(TensorRole::kRouterBias, "router_bias", 1));
  op.logits = router.output;
  op.route = buffer("route_table", 1, program::RouteTable::words(max_slots, max_pairs),
                    BufferDecl::Output::kNone);
  op.num_experts = config_.num_experts;
  op.top_k = config_.num_experts_per_token;
  op.max_slots = max_slots;
  op.max_pairs = max_pairs;
  op.norm_topk = config_.norm_topk_prob ? 1 : 0;
  op.scaling = config_.routed_scaling_factor;
  StageDraft& routing = stage("route", op);
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    Tile tile;
    tile.rank = rank;
    tile.row_count = 1;
    tile.after[0] = after(router_stage, 0);
    routing.tiles.push_back(tile);
  }
  *table = op.route;
  return {};
}

Status Lowering::experts() {
  const uint32_t inner = config_.moe_intermediate_size / num_ranks_;
  const uint32_t max_pairs = width() * config_.num_experts_per_token;
  const uint32_t max_slots = std::min(config_.num_experts, max_pairs);
  program::ExpertGateUpOperands up;
  US_ASSIGN(up.norm, norm(TensorRole::kPostAttentionNorm, "post_attention_norm"));
  US_TRY(route(up.norm, max_slots, max_pairs, &up.route));
  const auto route_stage = static_cast<uint32_t>(draft_->stages.size() - 1);

  US_ASSIGN(up.weight, weight(TensorRole::kExpertGateUp, "expert_gate_up", config_.num_experts));
  up.hidden = hidden_;
  up.intermediate_size = inner;
  up.row_groups = expert_row_groups(inner, num_workers_);
  up.max_slots = max_slots;
  up.max_pairs = max_pairs;
  up.activation = buffer("expert_activation", max_slots * up.row_groups,
                         uint64_t{max_pairs} * inner, BufferDecl::Output::kNone);
  StageDraft& gate_up = stage("expert_gate_up", up);
  const uint32_t loops = std::min(num_workers_, max_slots * up.row_groups);
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    for (uint32_t worker = 0; worker < loops; ++worker) {
      Tile tile;
      tile.rank = rank;
      tile.worker = worker;
      tile.row_begin = worker;  // first unit
      tile.row_count = 1;
      tile.part = loops;  // stride
      tile.after[0] = after(route_stage, 0);
      gate_up.tiles.push_back(tile);
    }
  }

  program::ExpertDownOperands down;
  US_ASSIGN(down.weight, weight(TensorRole::kExpertDown, "expert_down", config_.num_experts));
  down.activation = up.activation;
  down.route = up.route;
  down.partials = columns_buffer("ffn_partials", program::kReductionChunks * config_.hidden_size);
  down.intermediate_size = inner;
  down.row_groups = up.row_groups;
  down.max_slots = max_slots;
  down.max_pairs = max_pairs;
  partial_product(&stage("expert_down", down), after(route_stage, 0),
                  Dependency{route_stage + 1, 0, program::WaitKind::kSlot});
  reduce("ffn_residual", down.partials);
  return {};
}

}  // namespace ultraspeed::plan
