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
program::BufferId Lowering::route(program::NormRef norm_ref, uint32_t max_slots,
                                  uint32_t max_pairs) {
  program::LinearOperands router;
  router.norm = norm_ref;
  router.weight = weight(TensorRole::kRouter);
  router.input = hidden_.buffer;
  router.output = columns_buffer("router_logits", config_.num_experts);
  router.rows = config_.num_experts;
  router.total_rows = config_.num_experts;
  // Only ranks with columns of the experts need to know which are live.
  const uint32_t stride = rank_stride(TensorRole::kExpertDown);
  add_bands(&stage("router", router), router.rows, after(hidden_.stage, 0), SignalScope::kLocal,
            stride);
  const uint32_t router_stage = last_stage();

  program::RouteOperands op;
  op.bias = optional_weight(TensorRole::kRouterBias);
  op.scores = config_.has_softmax_router ? program::RouterScores::kSoftmax
                                         : program::RouterScores::kSigmoid;
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
  for (uint32_t rank = 0; rank < num_ranks_; rank += stride) {
    Tile tile;
    tile.rank = rank;
    tile.row_count = 1;
    tile.after[0] = after(router_stage, 0);
    routing.tiles.push_back(tile);
  }
  return op.route;
}

void Lowering::experts() {
  const uint32_t stride = rank_stride(TensorRole::kExpertDown);
  const uint32_t inner = config_.moe_intermediate_size / num_shares(TensorRole::kExpertDown);
  const uint32_t max_pairs = width() * config_.num_experts_per_token;
  const uint32_t max_slots = std::min(config_.num_experts, max_pairs);
  program::ExpertGateUpOperands up;
  up.norm = norm(TensorRole::kPostAttentionNorm);
  up.route = route(up.norm, max_slots, max_pairs);
  const uint32_t route_stage = last_stage();

  up.weight = weight(TensorRole::kExpertGateUp);
  up.bias = optional_weight(TensorRole::kExpertGateUpBias);
  up.clamp.limit = config_.swiglu_limit;
  up.hidden = hidden_.buffer;
  up.intermediate_size = inner;
  up.row_groups = expert_row_groups(inner, num_workers_);
  up.max_slots = max_slots;
  up.max_pairs = max_pairs;
  up.activation = buffer("expert_activation", max_slots * up.row_groups,
                         uint64_t{max_pairs} * inner, BufferDecl::Output::kNone);
  StageDraft& gate_up = stage("expert_gate_up", up);
  const uint32_t loops = std::min(num_workers_, max_slots * up.row_groups);
  for (uint32_t rank = 0; rank < num_ranks_; rank += stride) {
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
  down.weight = weight(TensorRole::kExpertDown);
  down.bias = optional_weight(TensorRole::kExpertDownBias);
  down.activation = up.activation;
  down.route = up.route;
  down.partials = columns_buffer("ffn_partials", program::kReductionChunks * config_.hidden_size);
  down.intermediate_size = inner;
  down.row_groups = up.row_groups;
  down.max_slots = max_slots;
  down.max_pairs = max_pairs;
  down.to_all = is_one_shot(stride) ? 1 : 0;
  partial_product(&stage("expert_down", down), after(route_stage, 0),
                  Dependency{route_stage + 1, 0, program::WaitKind::kSlot}, stride);
  reduce("ffn_residual", {down.partials}, stride);
}

}  // namespace ultraspeed::plan
