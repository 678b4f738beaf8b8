// The attention block: qkv_proj (norm, rotation and KV append folded in), attention, o_proj,
// residual.
#include <cmath>

#include "plan/lower_internal.h"
#include "plan/tiling.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::AttentionOperands;
using program::BufferDecl;
using program::BufferId;
using program::QkvProjOperands;

// Counts and sizes of the current layer's heads on a rank that has some; no weight, no buffers.
QkvProjOperands Lowering::head_sizes() const {
  const uint32_t shares = num_shares(TensorRole::kOProj);
  QkvProjOperands op;
  op.num_q_heads = layer().num_q_heads / shares;
  op.num_kv_heads = layer().shard_kv_heads(0, shares).count;
  op.head_dim = layer().head_dim;
  op.v_head_dim = layer().v_head_dim;
  op.rotary_dim = layer().rotary_dim;
  // A head that is normalised is computed whole.
  if (!layer().has_qk_norm) {
    op.head_parts = head_parts(op.num_q_heads + 2 * op.num_kv_heads, op.head_dim, op.v_head_dim,
                               op.rotary_dim, num_workers_);
  }
  op.rope = layer().rope;
  op.value_scale = stack_->attention_value_scale;
  return op;
}

BufferId Lowering::appended_rows(const QkvProjOperands& op) {
  const BufferId id = buffer("cache_rows", op.num_kv_heads * (op.head_dim + op.v_head_dim), 0,
                             BufferDecl::Output::kCache);
  draft_->program.buffers[id].rank_stride = rank_stride(TensorRole::kOProj);
  return id;
}

void Lowering::attention_block() {
  QkvProjOperands qkv = head_sizes();
  qkv.norm = norm(TensorRole::kInputNorm);
  qkv.weight = weight(TensorRole::kQkvProj);
  qkv.bias = optional_weight(TensorRole::kQkvBias);
  if (layer().has_qk_norm) {
    qkv.q_norm = norm(TensorRole::kQNorm);
    qkv.k_norm = norm(TensorRole::kKNorm);
  }
  qkv.hidden = hidden_.buffer;
  qkv.query = columns_buffer("query", qkv.num_q_heads * qkv.head_dim);
  qkv.cache_rows = appended_rows(qkv);
  qkv.cache = cache();
  qkv_tiles(&stage("qkv_proj", qkv), qkv, qkv.num_kv_heads, after(hidden_.stage, 0));
  attend({qkv, {last_stage()}});
}

void Lowering::attend(const AttentionInput& input) {
  const uint32_t output_size = input.heads.num_q_heads * layer().v_head_dim;
  const BufferId output = columns_buffer("attention_output", output_size);
  attention_stages(input, output);

  program::OutProjOperands out;
  out.weight = weight(TensorRole::kOProj);
  out.input = output;
  out.partials = columns_buffer("o_partials", program::kReductionChunks * config_.hidden_size);
  out.input_size = output_size;
  const uint32_t stride = rank_stride(TensorRole::kOProj);
  out.to_all = is_one_shot(stride) ? 1 : 0;
  const Dependency attended = after(last_stage(), 0);
  partial_product(&stage("o_proj", out), attended, {}, stride);
  reduce("attention_residual", {out.partials, optional_weight(TensorRole::kOBias)}, stride);
}

AttentionOperands Lowering::attention_operands(const AttentionInput& input, BufferId output) {
  const QkvProjOperands& qkv = input.heads;
  AttentionOperands op;
  op.query = qkv.query;
  op.cache_rows = qkv.cache_rows;
  op.cache = cache();
  if (layer().has_sink) op.sink = weight(TensorRole::kAttentionSink);
  op.num_q_heads = qkv.num_q_heads;
  op.num_kv_heads = qkv.num_kv_heads;
  op.head_dim = qkv.head_dim;
  op.v_head_dim = qkv.v_head_dim;
  op.window = layer().sliding_window;
  op.chunk_positions = kAttentionChunkPositions;
  op.max_chunks = (max_context_ + op.chunk_positions - 1) / op.chunk_positions;
  op.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(op.head_dim)));
  op.num_splits =
      layer().is_sliding ? 1 : attention_splits(op.num_kv_heads, num_workers_, op.max_chunks);
  if (stack_->stack == model::Stack::kDflash) {
    op.is_draft_block = 1;
    op.is_causal = drafter_->layers[layer_].is_causal ? 1 : 0;
    op.is_window_before_step = drafter_->has_window_before_anchor ? 1 : 0;
  }
  op.output = output;
  if (op.num_splits > 1) {
    const uint64_t elements =
        uint64_t{width()} * op.num_q_heads * op.max_chunks * (op.v_head_dim + 2);
    op.output = buffer("attention_partials", op.num_q_heads * op.num_splits, elements,
                       BufferDecl::Output::kNone);
  }
  return op;
}

// Attention, and the merge of its splits if there are several.
void Lowering::attention_stages(const AttentionInput& input, BufferId output) {
  const AttentionOperands op = attention_operands(input, output);
  const bool is_split = op.num_splits > 1;
  const uint32_t group_size = op.num_q_heads / op.num_kv_heads;
  const uint32_t heads_per_tile =
      is_split ? group_size
               : attention_heads_per_tile(op.num_q_heads, op.num_kv_heads, num_workers_);
  StageDraft& attention = stage("attention", op);
  for (uint32_t rank = 0; rank < num_ranks_; rank += rank_stride(TensorRole::kOProj)) {
    uint32_t index = 0;
    for (uint32_t head = 0; head < op.num_q_heads; head += heads_per_tile) {
      for (uint32_t split = 0; split < op.num_splits; ++split) {
        Tile tile;
        tile.rank = rank;
        tile.worker = index++ % num_workers_;
        tile.row_begin = head;
        tile.row_count = heads_per_tile;
        tile.part = split;
        for (size_t i = 0; i < input.stages.size(); ++i) {
          tile.after[i] = after(input.stages[i], head / group_size);
        }
        tile.group = is_split ? head / group_size : 0;
        attention.tiles.push_back(tile);
      }
    }
  }
  if (is_split) merge_stage(op, output);
}

// One tile a head, after the splits of its group.
void Lowering::merge_stage(const AttentionOperands& op, BufferId output) {
  const uint32_t attention_stage = last_stage();
  program::AttentionMergeOperands merge;
  merge.partials = op.output;
  merge.output = output;
  merge.sink = op.sink;
  merge.num_q_heads = op.num_q_heads;
  merge.v_head_dim = op.v_head_dim;
  merge.chunk_positions = op.chunk_positions;
  merge.max_chunks = op.max_chunks;
  merge.num_splits = op.num_splits;
  merge.is_causal = op.is_causal;
  StageDraft& merging = stage("attention_merge", merge);
  for (uint32_t rank = 0; rank < num_ranks_; rank += rank_stride(TensorRole::kOProj)) {
    for (uint32_t head = 0; head < op.num_q_heads; ++head) {
      Tile tile;
      tile.rank = rank;
      tile.worker = head % num_workers_;
      tile.row_begin = head;
      tile.row_count = 1;
      tile.after[0] = after(attention_stage, head / (op.num_q_heads / op.num_kv_heads));
      merging.tiles.push_back(tile);
    }
  }
}

}  // namespace ultraspeed::plan
