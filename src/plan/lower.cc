// Lowering: the stages of one step, embedding to accepted tokens, and their tiles. What a tile must
// wait for is said here, by stage; everything else is left to the passes (draft.h).
#include <algorithm>
#include <bit>
#include <utility>

#include "plan/draft.h"
#include "plan/lower_internal.h"
#include "plan/tiling.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::BufferDecl;
using program::BufferId;
using program::kNoLayer;
using program::SignalScope;

Lowering::Lowering(const model::ModelConfig& config, const ShapeLookup& shape_of,
                   const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft)
    : config_(config),
      shape_of_(shape_of),
      draft_(draft),
      num_ranks_(options.num_ranks),
      num_workers_(limits.num_workers),
      max_context_(options.max_context != 0 ? options.max_context
                                            : config.max_position_embeddings) {
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

Status Lowering::run() {
  US_TRY(check_shapes());
  US_TRY(embed());
  for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
    layer_ = static_cast<uint16_t>(layer);
    US_TRY(attention_block());
    US_TRY(config_.layers[layer].is_moe ? experts() : dense_ffn());
  }
  layer_ = kNoLayer;
  return head();
}

Status Lowering::check_shapes() const {
  const auto require = [&](bool holds, const std::string& what) -> Status {
    if (holds) return {};
    return make_error(ErrorCode::kUnsupported, "{}: cannot plan for {} rank(s): {}", config_.file,
                      num_ranks_, what);
  };
  // Sums over K are cut into 8 chunks whatever the ranks, so that ranks do not change results.
  const uint32_t chunks = program::kReductionChunks;
  US_TRY(require(config_.hidden_size % num_ranks_ == 0,
                 fmt::format("hidden_size {} is not a multiple", config_.hidden_size)));
  US_TRY(require(config_.vocab_size % num_ranks_ == 0,
                 fmt::format("vocab_size {} is not a multiple", config_.vocab_size)));
  for (uint32_t index = 0; index < config_.num_layers(); ++index) {
    const model::LayerConfig& layer = config_.layers[index];
    const uint32_t inner = layer.is_moe ? config_.moe_intermediate_size : config_.intermediate_size;
    US_TRY(require(layer.attention_output_size() % chunks == 0,
                   fmt::format("attention output size {} is not a multiple of {}",
                               layer.attention_output_size(), chunks)));
    US_TRY(require(inner % chunks == 0,
                   fmt::format("intermediate size {} is not a multiple of {}", inner, chunks)));
    US_TRY(require(layer.num_kv_heads % num_ranks_ == 0 && layer.num_q_heads % num_ranks_ == 0,
                   fmt::format("layer {} has {} query and {} KV heads; take a number of ranks that "
                               "divides both",
                               index, layer.num_q_heads, layer.num_kv_heads)));
  }
  return {};
}

// --- Declarations ---

std::string Lowering::name(const char* what) const {
  return layer_ == kNoLayer ? what : fmt::format("layers.{}.{}", layer_, what);
}

Result<program::WeightId> Lowering::weight(TensorRole role, const char* what, uint32_t count) {
  model::WeightSource source;
  source.role = role;
  source.layer = layer_ == kNoLayer ? 0 : layer_;
  source.num_shards = num_ranks_;
  US_ASSIGN(const model::WeightShape shape, shape_of_(source));
  program::WeightDecl decl;
  decl.name = name(what);
  decl.format = shape.format;
  decl.rows = shape.rows;
  decl.cols = shape.columns;
  decl.count = count;
  draft_->program.weights.push_back(std::move(decl));
  draft_->sources.push_back(source);
  return static_cast<program::WeightId>(draft_->program.weights.size() - 1);
}

Result<program::NormRef> Lowering::norm(TensorRole role, const char* what) {
  US_ASSIGN(const program::WeightId id, weight(role, what, 1));
  return program::NormRef{id, config_.rms_norm_eps};
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
  draft_->stages.push_back({{name(what), layer_, operands}, {}});
  return draft_->stages.back();
}

Dependency Lowering::after(uint32_t stage, uint32_t group) const {
  return {stage, group, program::WaitKind::kCounter};
}

// --- Tiles ---

void Lowering::add_bands(StageDraft* stage, uint32_t rows, Dependency after, SignalScope scope) {
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    uint32_t index = 0;
    for (const RowRange& range : bands(0, rows, num_workers_, 16)) {
      Tile tile;
      tile.rank = rank;
      tile.worker = index++ % num_workers_;
      tile.row_begin = range.begin;
      tile.row_count = range.count;
      tile.after[0] = after;
      tile.scope = scope;
      stage->tiles.push_back(tile);
    }
  }
}

// Products whose K is split over the ranks: every rank computes all rows of H, each row for its
// owner, who adds the ranks' partial sums. With one rank the adding tile follows on the same
// worker, so no one has to wait for it.
void Lowering::partial_product(StageDraft* product, Dependency first, Dependency second) {
  const uint32_t owned = config_.hidden_size / num_ranks_;
  const uint32_t workers_per_owner = std::max(1u, num_workers_ / num_ranks_);
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    uint32_t index = 0;
    for (uint32_t owner = 0; owner < num_ranks_; ++owner) {
      for (const RowRange& range : bands(owner * owned, owned, workers_per_owner, 16)) {
        Tile tile;
        tile.rank = rank;
        tile.worker = index++ % num_workers_;
        tile.row_begin = range.begin;
        tile.row_count = range.count;
        tile.after[0] = first;
        tile.after[1] = second;
        tile.scope = SignalScope::kOneRank;
        tile.target_rank = owner;
        product->tiles.push_back(tile);
      }
    }
  }
}

void Lowering::reduce(const char* what, BufferId partials) {
  const auto product = static_cast<uint32_t>(draft_->stages.size() - 1);
  program::ReduceOperands op;
  op.partials = partials;
  op.residual = hidden_;
  op.output = columns_buffer(what, config_.hidden_size);
  StageDraft& sum = stage(what, op);
  const uint32_t owned = config_.hidden_size / num_ranks_;
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    uint32_t index = 0;
    for (const RowRange& range : bands(rank * owned, owned, num_workers_, 16)) {
      Tile tile;
      tile.rank = rank;
      tile.worker = index++ % num_workers_;
      tile.row_begin = range.begin;
      tile.row_count = range.count;
      if (num_ranks_ > 1) tile.after[0] = after(product, 0);
      tile.scope = SignalScope::kAllRanks;
      sum.tiles.push_back(tile);
    }
  }
  hidden_ = op.output;
  hidden_stage_ = static_cast<uint32_t>(draft_->stages.size() - 1);
}

// --- Stages ---

Status Lowering::embed() {
  program::EmbedOperands op;
  US_ASSIGN(op.table, weight(TensorRole::kEmbedding, "embed_tokens", 1));
  op.hidden = columns_buffer("embedding", config_.hidden_size);
  StageDraft& embedding = stage("embed", op);
  const uint32_t owned = config_.hidden_size / num_ranks_;
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    Tile tile;
    tile.rank = rank;
    tile.row_begin = rank * owned;
    tile.row_count = owned;
    tile.scope = SignalScope::kAllRanks;
    embedding.tiles.push_back(tile);
  }
  hidden_ = op.hidden;
  hidden_stage_ = 0;
  return {};
}

Status Lowering::dense_ffn() {
  const uint32_t inner = config_.intermediate_size / num_ranks_;
  program::GateUpOperands up;
  US_ASSIGN(up.norm, norm(TensorRole::kPostAttentionNorm, "post_attention_norm"));
  US_ASSIGN(up.weight, weight(TensorRole::kDenseGateUp, "gate_up_proj", 1));
  up.hidden = hidden_;
  up.output = columns_buffer("ffn_activation", inner);
  up.intermediate_size = inner;
  add_bands(&stage("gate_up_proj", up), inner, after(hidden_stage_, 0), SignalScope::kLocal);
  const auto up_stage = static_cast<uint32_t>(draft_->stages.size() - 1);

  program::OutProjOperands down;
  US_ASSIGN(down.weight, weight(TensorRole::kDenseDown, "down_proj", 1));
  down.input = up.output;
  down.partials = columns_buffer("ffn_partials", program::kReductionChunks * config_.hidden_size);
  down.input_size = inner;
  partial_product(&stage("down_proj", down), after(up_stage, 0), {});
  reduce("ffn_residual", down.partials);
  return {};
}

Status Lowering::head() {
  program::LinearOperands logits;
  US_ASSIGN(logits.norm, norm(TensorRole::kFinalNorm, "final_norm"));
  US_ASSIGN(logits.weight, weight(TensorRole::kLmHead, "lm_head", 1));
  logits.input = hidden_;
  logits.output = columns_buffer("logits", config_.vocab_size);
  logits.rows = config_.vocab_size / num_ranks_;
  logits.total_rows = config_.vocab_size;
  logits.logits_only = 1;
  logits.gather_to_rank_0 = 1;
  // Target rank 0 is Tile's default.
  add_bands(&stage("lm_head", logits), logits.rows, after(hidden_stage_, 0), SignalScope::kOneRank);
  const auto logits_stage = static_cast<uint32_t>(draft_->stages.size() - 1);

  program::SampleOperands sample;
  sample.logits = logits.output;
  sample.sampled = buffer("sampled", width(), width(), BufferDecl::Output::kHost);
  sample.vocab_size = config_.vocab_size;
  StageDraft& sampling = stage("sample", sample);
  for (uint32_t column = 0; column < width(); ++column) {
    Tile tile;
    tile.worker = column % num_workers_;
    tile.row_begin = column;
    tile.row_count = 1;
    tile.after[0] = after(logits_stage, 0);
    sampling.tiles.push_back(tile);
  }

  program::AcceptOperands accept;
  accept.sampled = sample.sampled;
  accept.accepted = buffer("accepted", width(), width(), BufferDecl::Output::kHost);
  Tile tile;
  tile.row_count = width();
  tile.after[0] = after(logits_stage + 1, 0);
  stage("accept", accept).tiles.push_back(tile);
  return {};
}

Status lower(const model::ModelConfig& config, const ShapeLookup& shape_of,
             const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft) {
  return Lowering(config, shape_of, limits, options, draft).run();
}

}  // namespace ultraspeed::plan
