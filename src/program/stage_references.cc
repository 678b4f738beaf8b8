#include <initializer_list>

#include "program/access.h"

namespace ultraspeed::program {
namespace {

// One overload of visit() per opcode.
class ReferenceCollector {
 public:
  explicit ReferenceCollector(StageReferences* out) : out_(out) {}

  void visit(const EmbedOperands& op) {
    add({op.hidden}, {op.table, op.mask});
    add_optional(op.drafted);
    add_optional(op.tokens);
  }
  void visit(const QkvProjOperands& op) {
    add({op.hidden}, {op.norm.weight, op.weight, op.bias, op.q_norm.weight, op.k_norm.weight});
    if (op.num_q_heads != 0 || op.num_kv_heads == 0) add({op.query}, {});
    if (op.num_kv_heads != 0) add({op.cache_rows}, {});
    if (op.cache != kNoId) out_->caches.push_back(op.cache);
  }
  void visit(const AttentionOperands& op) {
    add({op.query, op.cache_rows, op.output}, {op.sink});
    out_->caches.push_back(op.cache);
  }
  void visit(const AttentionMergeOperands& op) { add({op.partials, op.output}, {op.sink}); }
  void visit(const OutProjOperands& op) { add({op.input, op.partials}, {op.weight}); }
  void visit(const ReduceOperands& op) { add({op.partials, op.residual, op.output}, {op.bias}); }
  void visit(const GateUpOperands& op) { add({op.hidden, op.output}, {op.norm.weight, op.weight}); }
  void visit(const LinearOperands& op) {
    add({op.input, op.output}, {op.norm.weight, op.second_norm.weight, op.weight});
    for (const BufferId input : op.more_inputs) add_optional(input);
    add_optional(op.accepted);
  }
  void visit(const RouteOperands& op) { add({op.logits, op.route}, {op.bias}); }
  void visit(const ExpertGateUpOperands& op) {
    add({op.hidden, op.route, op.activation}, {op.norm.weight, op.weight, op.bias});
  }
  void visit(const ExpertDownOperands& op) {
    add({op.activation, op.route, op.partials}, {op.weight, op.bias});
  }
  void visit(const SampleOperands& op) {
    add({op.logits}, {});
    for (const BufferId id :
         {op.sampled, op.draft_logits, op.drafted, op.peaks, op.piece_sums, op.shortlists}) {
      add_optional(id);
    }
  }
  void visit(const NominateOperands& op) {
    add({op.logits, op.nominees}, {});
    add_optional(op.accepted);
  }
  void visit(const ProposeOperands& op) {
    const SelectorRef& selector = op.selector;
    add({op.logits, op.drafted}, {selector.predecessors, selector.successors});
    add_optional(op.accepted);
    add_optional(selector.nominees);
    add_optional(op.nominees);
    add_optional(selector.rows);
  }
  void visit(const AcceptOperands& op) {
    add({op.sampled, op.accepted}, {});
    add_optional(op.drafted);
  }
  void visit(const FollowOperands& op) {
    add({op.sampled, op.accepted, op.tokens}, {});
    for (const BufferId proposed : op.proposed) add_optional(proposed);
  }

 private:
  void add(std::initializer_list<BufferId> buffers, std::initializer_list<WeightId> weights) {
    out_->buffers.insert(out_->buffers.end(), buffers);
    for (const WeightId weight : weights) {
      if (weight != kNoId) out_->weights.push_back(weight);
    }
  }

  void add_optional(BufferId buffer) {
    if (buffer != kNoId) out_->buffers.push_back(buffer);
  }

  StageReferences* out_;
};

}  // namespace

StageReferences stage_references(const Operands& operands) {
  StageReferences references;
  ReferenceCollector collector(&references);
  std::visit([&](const auto& op) { collector.visit(op); }, operands);
  return references;
}

}  // namespace ultraspeed::program
