// The state of lowering; its methods are in lower.cc and lower_*.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "plan/draft.h"

namespace ultraspeed::plan {

class Lowering {
 public:
  Lowering(const model::ModelConfig& config, const ShapeLookup& shape_of,
           const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft);

  Status run();

 private:
  // A value and the stage that makes it.
  struct Residual {
    program::BufferId buffer = program::kNoId;
    uint32_t stage = 0;
  };

  // What a residual is the sum of, besides the one before it.
  struct Sum {
    program::BufferId partials = program::kNoId;
    program::WeightId bias = program::kNoId;
  };

  // What attention works on: the stages that make it, by KV head group.
  struct AttentionInput {
    program::QkvProjOperands heads;  // counts and sizes; the buffers of q, k and v
    std::vector<uint32_t> stages;    // one or two
  };

  // What a drafter, or an MTP head, proposes, and what it is chosen by.
  struct Proposed {
    program::BufferId logits = program::kNoId;
    program::BufferId tokens = program::kNoId;
  };

  // What the target chose and how much of the drafts it agreed with.
  struct Verified {
    program::BufferId sampled = program::kNoId;
    program::BufferId accepted = program::kNoId;
  };

  Status check_shapes(const model::ModelConfig& stack) const;

  // Weights and caches of a stack, the same for all programs of a model (lower_weights.cc).
  Status declare(const model::ModelConfig& stack);
  Status declare_weight(const model::WeightSource& source, const std::string& name, uint32_t count);
  void declare_cache(const model::LayerConfig& layer, uint32_t rank_stride);

  // One part of the step each; they append stages and leave hidden_ at the residual after it.
  void embed(const char* what, program::EmbedOperands op, const std::vector<Dependency>& after);
  void verify_part();
  void attention_block();
  void dense_ffn();
  void experts();
  void capture();  // the residual, for the host
  program::BufferId route(program::NormRef norm, uint32_t max_slots, uint32_t max_pairs);

  // The output head, and the choice of tokens (lower_head.cc).
  void head();
  program::BufferId output_head(program::LinearOperands op);
  void choose_from_shares(program::SampleOperands choice);
  void accept(program::BufferId sampled);

  // The drafter's parts (lower_draft.cc).
  void draft_part();
  void draft_attention_block();
  program::BufferId selector_rows(const program::NormRef& norm);
  program::BufferId draft_logits(const program::NormRef& norm, program::BufferId accepted);
  Proposed propose(program::BufferId logits, program::BufferId accepted, uint32_t head);
  Proposed select(program::BufferId logits, program::BufferId rows);
  program::BufferId nominate(program::BufferId logits, program::BufferId accepted, uint32_t count);
  void extend_context();

  // The MTP heads (lower_mtp.cc).
  void heads_part();
  void follow_tokens(program::FollowOperands* op);
  void join_with(const Residual& target);

  // Declarations. `what` is prefixed with the part's name and the current layer's.
  std::string name(const char* what) const;
  program::WeightId weight(model::TensorRole role) const;  // of the current stack and layer
  program::WeightId optional_weight(model::TensorRole role) const;  // kNoId where there is none
  program::WeightId target_weight(model::TensorRole role) const;    // of the target, outside layers
  program::NormRef norm(model::TensorRole role) const;
  program::CacheId cache() const;                      // of the current layer
  uint32_t rank_stride(model::TensorRole role) const;  // of weight(role)
  uint32_t num_shares(model::TensorRole role) const { return num_ranks_ / rank_stride(role); }
  program::BufferId buffer(const char* what, uint32_t extent, uint64_t elements,
                           program::BufferDecl::Output output);
  program::BufferId columns_buffer(const char* what, uint32_t extent);  // [width, extent]
  StageDraft& stage(const char* what, program::Operands operands);
  uint32_t last_stage() const { return static_cast<uint32_t>(draft_->stages.size() - 1); }
  Dependency after(uint32_t stage, uint32_t group) const;
  const model::LayerConfig& layer() const { return stack_->layers[layer_]; }

  // Tiles (lower_tiles.cc), on every rank_stride-th rank.
  void add_bands(StageDraft* stage, uint32_t rows, Dependency after, program::SignalScope scope,
                 uint32_t rank_stride = 1);
  void add_columns(StageDraft* stage, Dependency after, program::SignalScope scope,
                   uint32_t rank = 0);
  void add_columns_of_ranks(StageDraft* stage, Dependency after, program::SignalScope scope);
  void partial_product(StageDraft* product, Dependency first, Dependency second,
                       uint32_t rank_stride);
  void reduce(const char* what, const Sum& sum, uint32_t rank_stride);
  bool is_one_shot(uint32_t rank_stride) const;
  void qkv_tiles(StageDraft* stage, const program::QkvProjOperands& op, uint32_t num_groups,
                 Dependency after);

  // Attention (lower_attention.cc).
  program::QkvProjOperands head_sizes() const;
  program::BufferId appended_rows(const program::QkvProjOperands& op);
  program::AttentionOperands attention_operands(const AttentionInput& input,
                                                program::BufferId output);
  void merge_stage(const program::AttentionOperands& op, program::BufferId output);
  void attention_stages(const AttentionInput& input, program::BufferId output);
  void attend(const AttentionInput& input);  // attention, o_proj, residual

  uint32_t width() const { return draft_->program.width; }

  const model::ModelConfig& config_;
  const model::DrafterConfig* drafter_;
  const model::ModelConfig drafter_stack_;  // without layers if there is no drafter
  const model::ModelConfig* mtp_;           // nullptr: no MTP heads
  const ShapeLookup& shape_of_;
  Draft* draft_;
  uint32_t num_ranks_;
  AllReduce all_reduce_;
  bool keeps_logit_shares_;
  uint32_t num_workers_;
  uint32_t max_context_;
  bool is_drafting_;
  const std::vector<uint32_t>& captured_layers_;
  bool captures_expert_inputs_;

  std::map<std::tuple<model::Stack, model::TensorRole, uint32_t>, program::WeightId> weights_;

  const model::ModelConfig* stack_;  // whose layers are lowered
  std::string part_;                 // "", or a prefix of names: "draft.", "context.", "mtp."
  uint16_t layer_ = program::kNoLayer;
  Residual hidden_;             // the residual stream so far
  Proposed drafted_;            // by the drafter
  std::vector<Residual> taps_;  // [DrafterConfig::target_layer_ids]
  Verified verified_;
};

}  // namespace ultraspeed::plan
