// The attention block: qkv_proj (norm, rotation and KV append folded in), attention, o_proj,
// residual.
#include <algorithm>
#include <bit>
#include <cmath>

#include "plan/lower_internal.h"
#include "plan/tiling.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::AttentionOperands;
using program::BufferDecl;
using program::BufferId;
using program::QkvProjOperands;
using program::SignalScope;

// Tiles by KV head group, so that a group's attention waits for its own heads alone.
void Lowering::qkv_tiles(StageDraft* stage, const QkvProjOperands& op) {
  const uint32_t group_size = op.num_q_heads / op.num_kv_heads;
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    uint32_t index = 0;
    const auto add = [&](uint32_t head, uint32_t group) {
      for (uint32_t part = 0; part < op.head_parts; ++part) {
        Tile tile;
        tile.rank = rank;
        tile.worker = index++ % num_workers_;
        tile.row_begin = head;
        tile.row_count = 1;
        tile.part = part;
        tile.after[0] = after(hidden_stage_, 0);
        tile.group = group;
        stage->tiles.push_back(tile);
      }
    };
    for (uint32_t group = 0; group < op.num_kv_heads; ++group) {
      add(op.num_q_heads + group, group);
      add(op.num_q_heads + op.num_kv_heads + group, group);
      for (uint32_t i = 0; i < group_size; ++i) add(group * group_size + i, group);
    }
  }
}

Status Lowering::attention_block() {
  const model::LayerConfig& layer = config_.layers[layer_];
  program::CacheDecl cache;
  cache.num_kv_heads = layer.num_kv_heads / num_ranks_;
  cache.head_dim = layer.head_dim;
  cache.v_head_dim = layer.v_head_dim;
  // A fixed power of two that holds the window and the widest step, whatever this program's width.
  if (layer.is_sliding) cache.ring_positions = std::bit_ceil(layer.sliding_window + kMaxWidth);
  draft_->program.caches.push_back(cache);

  QkvProjOperands qkv;
  US_ASSIGN(qkv.norm, norm(TensorRole::kInputNorm, "input_norm"));
  US_ASSIGN(qkv.weight, weight(TensorRole::kQkvProj, "qkv_proj", 1));
  qkv.num_q_heads = layer.num_q_heads / num_ranks_;
  qkv.num_kv_heads = cache.num_kv_heads;
  qkv.head_dim = layer.head_dim;
  qkv.v_head_dim = layer.v_head_dim;
  qkv.rotary_dim = layer.rotary_dim;
  qkv.head_parts = head_parts(qkv.num_q_heads + 2 * qkv.num_kv_heads, layer.head_dim,
                              layer.v_head_dim, layer.rotary_dim, num_workers_);
  qkv.rope_theta = layer.rope_theta;
  qkv.value_scale = config_.attention_value_scale;
  qkv.hidden = hidden_;
  qkv.query = columns_buffer("query", qkv.num_q_heads * layer.head_dim);
  qkv.cache_rows = buffer("cache_rows", qkv.num_kv_heads * (layer.head_dim + layer.v_head_dim), 0,
                          BufferDecl::Output::kCache);
  qkv.cache = static_cast<program::CacheId>(draft_->program.caches.size() - 1);
  qkv_tiles(&stage("qkv_proj", qkv), qkv);

  program::WeightId sink = program::kNoId;
  if (layer.has_sink) {
    US_ASSIGN(sink, weight(TensorRole::kAttentionSink, "attention_sink", 1));
  }
  const uint32_t output_size = qkv.num_q_heads * layer.v_head_dim;
  const BufferId output = columns_buffer("attention_output", output_size);
  const uint32_t attention = attention_stages(qkv, output, sink);

  program::OutProjOperands out;
  US_ASSIGN(out.weight, weight(TensorRole::kOProj, "o_proj", 1));
  out.input = output;
  out.partials = columns_buffer("o_partials", program::kReductionChunks * config_.hidden_size);
  out.input_size = output_size;
  partial_product(&stage("o_proj", out), after(attention, 0), {});
  reduce("attention_residual", out.partials);
  return {};
}

AttentionOperands Lowering::attention_operands(const QkvProjOperands& qkv, BufferId output,
                                               program::WeightId sink) {
  const model::LayerConfig& layer = config_.layers[layer_];
  AttentionOperands op;
  op.query = qkv.query;
  op.cache_rows = qkv.cache_rows;
  op.cache = qkv.cache;
  op.sink = sink;
  op.num_q_heads = qkv.num_q_heads;
  op.num_kv_heads = qkv.num_kv_heads;
  op.head_dim = qkv.head_dim;
  op.v_head_dim = qkv.v_head_dim;
  op.window = layer.sliding_window;
  op.chunk_positions = kAttentionChunkPositions;
  op.max_chunks = (max_context_ + op.chunk_positions - 1) / op.chunk_positions;
  op.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(op.head_dim)));
  op.num_splits =
      layer.is_sliding ? 1 : attention_splits(op.num_kv_heads, num_workers_, op.max_chunks);
  op.output = output;
  if (op.num_splits > 1) {
    const uint64_t elements =
        uint64_t{width()} * op.num_q_heads * op.max_chunks * (op.v_head_dim + 2);
    op.output = buffer("attention_partials", op.num_q_heads * op.num_splits, elements,
                       BufferDecl::Output::kNone);
  }
  return op;
}

// Attention, and the merge of its splits if there are several. Returns the last stage's index.
uint32_t Lowering::attention_stages(const QkvProjOperands& qkv, BufferId output,
                                    program::WeightId sink) {
  const auto qkv_stage = static_cast<uint32_t>(draft_->stages.size() - 1);
  const AttentionOperands op = attention_operands(qkv, output, sink);
  const bool is_split = op.num_splits > 1;
  const uint32_t group_size = op.num_q_heads / op.num_kv_heads;
  const uint32_t heads_per_tile =
      is_split ? group_size
               : attention_heads_per_tile(op.num_q_heads, op.num_kv_heads, num_workers_);
  StageDraft& attention = stage("attention", op);
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    uint32_t index = 0;
    for (uint32_t head = 0; head < op.num_q_heads; head += heads_per_tile) {
      for (uint32_t split = 0; split < op.num_splits; ++split) {
        Tile tile;
        tile.rank = rank;
        tile.worker = index++ % num_workers_;
        tile.row_begin = head;
        tile.row_count = heads_per_tile;
        tile.part = split;
        tile.after[0] = after(qkv_stage, head / group_size);
        tile.group = is_split ? head / group_size : 0;
        attention.tiles.push_back(tile);
      }
    }
  }
  if (!is_split) return qkv_stage + 1;
  merge_stage(op, output);
  return qkv_stage + 2;
}

// One tile a head, after the splits of its group.
void Lowering::merge_stage(const AttentionOperands& op, BufferId output) {
  const auto attention_stage = static_cast<uint32_t>(draft_->stages.size() - 1);
  program::AttentionMergeOperands merge;
  merge.partials = op.output;
  merge.output = output;
  merge.sink = op.sink;
  merge.num_q_heads = op.num_q_heads;
  merge.v_head_dim = op.v_head_dim;
  merge.chunk_positions = op.chunk_positions;
  merge.max_chunks = op.max_chunks;
  merge.num_splits = op.num_splits;
  StageDraft& merging = stage("attention_merge", merge);
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
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
