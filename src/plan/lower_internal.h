// The state of lowering; its methods are in lower.cc, lower_attention.cc and lower_experts.cc.
#pragma once

#include <cstdint>
#include <string>

#include "plan/draft.h"

namespace ultraspeed::plan {

class Lowering {
 public:
  Lowering(const model::ModelConfig& config, const ShapeLookup& shape_of,
           const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft);

  Status run();

 private:
  Status check_shapes() const;

  // One part of the step each; they append stages and leave hidden_ at the residual after it.
  Status embed();
  Status attention_block();
  Status dense_ffn();
  Status experts();
  Status route(program::NormRef norm, uint32_t max_slots, uint32_t max_pairs,
               program::BufferId* table);
  Status head();

  // Declarations. `what` is prefixed with the current layer's name.
  std::string name(const char* what) const;
  Result<program::WeightId> weight(model::TensorRole role, const char* what, uint32_t count);
  Result<program::NormRef> norm(model::TensorRole role, const char* what);
  program::BufferId buffer(const char* what, uint32_t extent, uint64_t elements,
                           program::BufferDecl::Output output);
  program::BufferId columns_buffer(const char* what, uint32_t extent);  // [width, extent]
  StageDraft& stage(const char* what, program::Operands operands);
  Dependency after(uint32_t stage, uint32_t group) const;

  // Tiles.
  void add_bands(StageDraft* stage, uint32_t rows, Dependency after, program::SignalScope scope);
  void partial_product(StageDraft* product, Dependency first, Dependency second);
  void reduce(const char* what, program::BufferId partials);
  void qkv_tiles(StageDraft* stage, const program::QkvProjOperands& op);
  program::AttentionOperands attention_operands(const program::QkvProjOperands& qkv,
                                                program::BufferId output, program::WeightId sink);
  void merge_stage(const program::AttentionOperands& op, program::BufferId output);
  uint32_t attention_stages(const program::QkvProjOperands& qkv, program::BufferId output,
                            program::WeightId sink);

  uint32_t width() const { return draft_->program.width; }

  const model::ModelConfig& config_;
  const ShapeLookup& shape_of_;
  Draft* draft_;
  uint32_t num_ranks_;
  uint32_t num_workers_;
  uint32_t max_context_;

  uint16_t layer_ = program::kNoLayer;
  program::BufferId hidden_ = program::kNoId;  // the residual stream so far
  uint32_t hidden_stage_ = 0;                  // the stage that writes it
};

}  // namespace ultraspeed::plan
