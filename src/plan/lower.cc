// Lowering: the stages of one step, embedding to accepted tokens, and their tiles. What a tile must
// wait for is said here, by stage; everything else is left to the passes (draft.h).
#include <algorithm>
#include <utility>

#include "plan/draft.h"
#include "plan/lower_internal.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::BufferDecl;
using program::BufferId;
using program::kNoLayer;
using program::SignalScope;

Lowering::Lowering(const model::ModelConfig& config, const ShapeLookup& shape_of,
                   const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft)
    : config_(config),
      drafter_(options.drafter),
      drafter_stack_(drafter_ != nullptr ? drafter_->stack() : model::ModelConfig{}),
      mtp_(options.mtp),
      shape_of_(shape_of),
      draft_(draft),
      num_ranks_(options.num_ranks),
      all_reduce_(options.all_reduce),
      keeps_logit_shares_(options.logits == LogitsPlace::kShares && options.num_ranks > 1),
      num_workers_(limits.num_workers),
      max_context_(options.max_context != 0 ? options.max_context : config.max_position_embeddings),
      is_drafting_(options.is_drafting),
      captured_layers_(options.captured_layers),
      captures_expert_inputs_(options.captures_expert_inputs),
      stack_(&config) {
  program::Program& program = draft->program;
  program.name = options.name;
  program.width = options.width;
  program.num_ranks = num_ranks_;
  program.num_workers = num_workers_;
  program.hidden_size = config.hidden_size;
  program.kv_page_positions = kKvPagePositions;
  program.weight_page_bytes = limits.weight_page_bytes;
  program.ring_pages = limits.ring_pages;
}

// A cycle: draft, verify, accept; and what the next draft goes on from: the verified columns'
// features, or the tokens that MTP heads propose.
Status Lowering::run() {
  US_TRY(check_shapes(config_));
  US_TRY(declare(config_));
  if (drafter_ != nullptr) {
    US_TRY(check_drafter(config_, *drafter_));
    US_TRY(check_shapes(drafter_stack_));
    US_TRY(declare(drafter_stack_));
  }
  if (mtp_ != nullptr) {
    US_TRY(check_mtp(*mtp_));
    US_TRY(check_shapes(*mtp_));
    US_TRY(declare(*mtp_));
  }
  if (is_drafting_) draft_part();
  verify_part();
  if (drafter_ != nullptr) extend_context();
  if (mtp_ != nullptr) heads_part();
  return {};
}

void Lowering::verify_part() {
  program::EmbedOperands op;
  op.table = target_weight(TensorRole::kEmbedding);
  op.drafted = drafted_.tokens;
  std::vector<Dependency> drafted;
  if (is_drafting_) drafted.push_back(after(last_stage(), 0));
  embed("embed", op, drafted);
  for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
    layer_ = static_cast<uint16_t>(layer);
    attention_block();
    const bool is_moe = config_.layers[layer].is_moe;
    if (is_moe && captures_expert_inputs_) capture();
    is_moe ? experts() : dense_ffn();
    if (std::ranges::find(captured_layers_, layer) != captured_layers_.end()) capture();
    if (drafter_ == nullptr) continue;
    // A tap is the residual after its layer; of the last layer, before the final norm.
    for (const uint32_t tapped : drafter_->target_layer_ids) {
      if (tapped == layer) taps_.push_back(hidden_);
    }
  }
  layer_ = kNoLayer;
  if (!captured_layers_.empty()) capture();
  head();
}

void Lowering::capture() {
  program::Program& program = draft_->program;
  program.buffers[hidden_.buffer].output = BufferDecl::Output::kHost;
  program.captured.push_back(hidden_.buffer);
}

Status Lowering::check_shapes(const model::ModelConfig& stack) const {
  const auto require = [&](bool holds, const std::string& what) -> Status {
    if (holds) return {};
    return make_error(ErrorCode::kUnsupported, "{}: cannot plan for {} rank(s): {}", stack.file,
                      num_ranks_, what);
  };
  // Sums over K are cut into 8 chunks whatever the ranks, so that ranks do not change results.
  const uint32_t chunks = program::kReductionChunks;
  US_TRY(require(stack.hidden_size % num_ranks_ == 0,
                 fmt::format("hidden_size {} is not a multiple", stack.hidden_size)));
  US_TRY(require(stack.stack != model::Stack::kTarget || stack.vocab_size % num_ranks_ == 0,
                 fmt::format("vocab_size {} is not a multiple", stack.vocab_size)));
  for (const model::LayerConfig& layer : stack.layers) {
    const uint32_t inner = layer.is_moe ? stack.moe_intermediate_size : stack.intermediate_size;
    US_TRY(require(layer.attention_output_size() % chunks == 0,
                   fmt::format("attention output size {} is not a multiple of {}",
                               layer.attention_output_size(), chunks)));
    US_TRY(require(inner % chunks == 0,
                   fmt::format("intermediate size {} is not a multiple of {}", inner, chunks)));
  }
  return {};
}

// --- Declarations ---

std::string Lowering::name(const char* what) const {
  return part_ + (layer_ == kNoLayer ? what : fmt::format("layers.{}.{}", layer_, what));
}

BufferId Lowering::buffer(const char* what, uint32_t extent, uint64_t elements,
                          BufferDecl::Output output) {
  draft_->program.buffers.push_back({name(what), extent, elements * 4, 0, output});
  return static_cast<BufferId>(draft_->program.buffers.size() - 1);
}

BufferId Lowering::columns_buffer(const char* what, uint32_t extent) {
  return buffer(what, extent, uint64_t{width()} * extent, BufferDecl::Output::kNone);
}

StageDraft& Lowering::stage(const char* what, program::Operands operands) {
  const bool is_drafters = stack_ == &drafter_stack_;
  const uint16_t layer = stack_ == &config_ ? layer_ : kNoLayer;
  draft_->stages.push_back({{name(what), layer, operands, is_drafters}, {}});
  return draft_->stages.back();
}

Dependency Lowering::after(uint32_t stage, uint32_t group) const {
  return {stage, group, program::WaitKind::kCounter};
}

// --- Stages ---

void Lowering::embed(const char* what, program::EmbedOperands op,
                     const std::vector<Dependency>& after) {
  op.hidden = columns_buffer("embedding", config_.hidden_size);
  StageDraft& embedding = stage(what, op);
  const uint32_t owned = config_.hidden_size / num_ranks_;
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    Tile tile;
    tile.rank = rank;
    tile.row_begin = rank * owned;
    tile.row_count = owned;
    if (!after.empty()) tile.after[0] = after[0];
    tile.scope = SignalScope::kAllRanks;
    embedding.tiles.push_back(tile);
  }
  hidden_ = {op.hidden, last_stage()};
}

void Lowering::dense_ffn() {
  const uint32_t stride = rank_stride(TensorRole::kDenseDown);
  const uint32_t inner = stack_->intermediate_size / num_shares(TensorRole::kDenseDown);
  program::GateUpOperands up;
  up.norm = norm(TensorRole::kPostAttentionNorm);
  up.weight = weight(TensorRole::kDenseGateUp);
  up.hidden = hidden_.buffer;
  up.output = columns_buffer("ffn_activation", inner);
  up.intermediate_size = inner;
  add_bands(&stage("gate_up_proj", up), inner, after(hidden_.stage, 0), SignalScope::kLocal,
            stride);
  const uint32_t up_stage = last_stage();

  program::OutProjOperands down;
  down.weight = weight(TensorRole::kDenseDown);
  down.input = up.output;
  down.partials = columns_buffer("ffn_partials", program::kReductionChunks * config_.hidden_size);
  down.input_size = inner;
  down.to_all = is_one_shot(stride) ? 1 : 0;
  partial_product(&stage("down_proj", down), after(up_stage, 0), {}, stride);
  reduce("ffn_residual", {down.partials}, stride);
}

Status lower(const model::ModelConfig& config, const ShapeLookup& shape_of,
             const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft) {
  return Lowering(config, shape_of, limits, options, draft).run();
}

}  // namespace ultraspeed::plan
