#include "train/drafter_net.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/check.h"
#include "train/fp8_rounding.h"

namespace ultraspeed::train {
namespace {

std::string layer_prefix(uint32_t layer) {
  return fmt::format("layers.{}.", layer);
}

// Query heads that share a kv head stand together as the rows of one product:
// [blocks, rows, q heads, d] -> [blocks, kv heads, group * rows, d].
torch::Tensor group_queries(const torch::Tensor& query, int64_t num_kv_heads) {
  const int64_t blocks = query.size(0), rows = query.size(1), d = query.size(3);
  const int64_t group = query.size(2) / num_kv_heads;
  return query.view({blocks, rows, num_kv_heads, group, d})
      .permute({0, 2, 3, 1, 4})
      .reshape({blocks, num_kv_heads, group * rows, d});
}

// The way back, heads joined: -> [blocks, rows, q heads * d].
torch::Tensor ungroup(const torch::Tensor& grouped, int64_t rows) {
  const int64_t blocks = grouped.size(0), num_kv_heads = grouped.size(1), d = grouped.size(3);
  const int64_t group = grouped.size(2) / rows;
  return grouped.view({blocks, num_kv_heads, group, rows, d})
      .permute({0, 3, 1, 2, 4})
      .reshape({blocks, rows, num_kv_heads * group * d});
}

// The rows of a context that a block sees.
struct Visible {
  bool is_shared = false;   // every block takes all rows; else [blocks, window] of its own
  torch::Tensor rows;       // i64 [blocks * window]
  torch::Tensor is_hidden;  // bool [blocks, 1, 1, window or all rows]
};

Visible visible_rows(const BlockBatch& batch, int64_t window) {
  const int64_t num_rows = batch.features.size(0);
  const auto options = batch.anchor_row.options();
  const auto begin = batch.sequence_begin.unsqueeze(1);
  const auto anchor = batch.anchor_row.unsqueeze(1);
  Visible visible;
  visible.is_shared = window == 0 || window >= num_rows;
  torch::Tensor rows = visible.is_shared ? torch::arange(num_rows, options).unsqueeze(0)
                                         : torch::arange(-window, 0, options).unsqueeze(0) + anchor;
  torch::Tensor is_hidden = (rows < begin).logical_or(rows >= anchor);
  if (window != 0) is_hidden = is_hidden.logical_or(rows < anchor - window);
  visible.is_hidden = is_hidden.unsqueeze(1).unsqueeze(1);
  if (!visible.is_shared) visible.rows = rows.clamp(0, num_rows - 1).flatten();
  return visible;
}

// [rows, kv heads, d] -> [blocks or 1, kv heads, visible rows, d]. In the master type: the blocks'
// gradients for a row are added up here.
torch::Tensor take(const torch::Tensor& context, const Visible& visible, int64_t blocks) {
  if (visible.is_shared) return context.permute({1, 0, 2}).unsqueeze(0);
  return context.index_select(0, visible.rows)
      .view({blocks, -1, context.size(1), context.size(2)})
      .permute({0, 2, 1, 3});
}

// matmul of [blocks, kv heads, r, x] with [blocks or 1, kv heads, x, y]. What blocks share is
// multiplied once, with all their rows.
torch::Tensor join_product(const torch::Tensor& left, const torch::Tensor& right) {
  if (right.size(0) == left.size(0)) return left.matmul(right);
  const int64_t blocks = left.size(0), heads = left.size(1), rows = left.size(2);
  const auto joined = left.transpose(0, 1).reshape({heads, blocks * rows, left.size(3)});
  return joined.matmul(right.squeeze(0)).view({heads, blocks, rows, -1}).transpose(0, 1);
}

}  // namespace

// What the layers of one forward pass have in common.
struct DrafterNet::Passage {
  const BlockBatch& batch;
  std::map<std::string, torch::Tensor> matrices;  // [columns, rows], in the compute type
  torch::Tensor context;                          // [rows, hidden_size]
  Rotation context_rotation, block_rotation;
};

Status check_trainable(const model::DrafterConfig& config) {
  for (const auto& layer : config.layers) {
    if (layer.is_causal) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: a layer is causal inside the block; only is_causal false is trained",
                        config.file);
    }
    if (layer.sliding_window != 0 && !config.has_window_before_anchor) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: a window of each row's own; only swa_window_size, the window before "
                        "the anchor, is trained",
                        config.file);
    }
  }
  return {};
}

DrafterNet::DrafterNet(const model::DrafterConfig& config, const NetOptions& options, uint64_t seed)
    : config_(config), options_(options), parameters_(options) {
  const auto status = check_trainable(config);
  US_CHECK(status.has_value(), "{}", status.error().message);
  const int64_t hidden = config.hidden_size;
  const auto taps = static_cast<int64_t>(config.target_layer_ids.size());
  parameters_.add("fc.weight", ParameterKind::kMatrix, torch::empty({hidden, taps * hidden}));
  parameters_.add("hidden_norm.weight", ParameterKind::kVector, torch::ones({hidden}));
  parameters_.add("norm.weight", ParameterKind::kVector, torch::ones({hidden}));
  for (uint32_t layer = 0; layer < config.num_layers; ++layer) add_layer(layer);
  if (config.has_mask_embedding) {
    parameters_.add("mask_embedding", ParameterKind::kVector, torch::zeros({hidden}));
  }
  if (config.selector.rank != 0) add_selector();
  for (size_t i = 0; i < parameters().size(); ++i) {
    const Parameter& parameter = parameters()[i];
    if (parameter.kind != ParameterKind::kMatrix) continue;
    double scale = 1 / std::sqrt(static_cast<double>(parameter.value.size(1)));
    const bool writes_residual =
        parameter.name.ends_with("o_proj.weight") || parameter.name.ends_with("down_proj.weight");
    if (writes_residual) scale /= std::sqrt(2.0 * config.num_layers);
    set(parameter.name, random_normal(parameter.value.sizes(), seed + i) * scale);
  }
  if (config.selector.rank == 0) return;
  const torch::Tensor& successor = at("selector.successor_proj.weight");
  set("selector.successor_proj.weight", torch::zeros_like(successor));
}

// With what successors are multiplied being 0, it begins as a drafter without selector.
void DrafterNet::add_selector() {
  const int64_t rank = config_.selector.rank, hidden = config_.hidden_size;
  for (const char* part : {"predecessor", "successor", "hidden"}) {
    parameters_.add(fmt::format("selector.{}_proj.weight", part), ParameterKind::kMatrix,
                    torch::empty({rank, hidden}));
  }
}

void DrafterNet::add_layer(uint32_t layer) {
  const int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
  const int64_t q_heads = config_.num_q_heads, kv_heads = config_.num_kv_heads;
  const int64_t d = config_.head_dim, v_d = config_.v_head_dim;
  const std::string prefix = layer_prefix(layer), attention = prefix + "self_attn.";
  const auto matrix = [this](const std::string& name, int64_t rows, int64_t columns) {
    parameters_.add(name + ".weight", ParameterKind::kMatrix, torch::empty({rows, columns}));
  };
  const auto ones = [this](const std::string& name, int64_t size) {
    parameters_.add(name + ".weight", ParameterKind::kVector, torch::ones({size}));
  };
  ones(prefix + "input_layernorm", hidden);
  ones(prefix + "post_attention_layernorm", hidden);
  matrix(attention + "q_proj", q_heads * d, hidden);
  matrix(attention + "k_proj", kv_heads * d, hidden);
  matrix(attention + "v_proj", kv_heads * v_d, hidden);
  matrix(attention + "o_proj", hidden, q_heads * v_d);
  ones(attention + "q_norm", d);
  ones(attention + "k_norm", d);
  if (config_.has_sink) {
    parameters_.add(attention + "attention_sink_bias", ParameterKind::kVector,
                    torch::zeros({q_heads}));
  }
  matrix(prefix + "mlp.gate_proj", inner, hidden);
  matrix(prefix + "mlp.up_proj", inner, hidden);
  matrix(prefix + "mlp.down_proj", hidden, inner);
}

// As its products take it. Once a pass: a block's and the context's keys come of the same matrix.
torch::Tensor DrafterNet::effective(const Parameter& matrix) const {
  const torch::Tensor weight = options_.rounds ? round_to_fp8(matrix.value) : matrix.value;
  return weight.to(options_.compute).t();
}

torch::Tensor DrafterNet::linear(const std::string& name, const torch::Tensor& x,
                                 const Passage& passage) const {
  const torch::Tensor& matrix = passage.matrices.at(name + ".weight");
  return torch::matmul(x.to(options_.compute), matrix).to(options_.master);
}

torch::Tensor DrafterNet::norm(const std::string& name, const torch::Tensor& x) const {
  return rms_norm(x, at(name + ".weight"), static_cast<double>(config_.rms_norm_eps));
}

Rotation DrafterNet::rotation(const torch::Tensor& positions) const {
  return make_rotation(positions, config_.rotary_dim, static_cast<double>(config_.rope_theta),
                       options_.master);
}

// The anchors' embeddings, then masks: [blocks, block_size, hidden_size].
torch::Tensor DrafterNet::block_rows(const BlockBatch& batch) const {
  const int64_t hidden = config_.hidden_size, masks = config_.block_size - 1;
  const torch::Tensor anchors = batch.anchors.to(options_.master).unsqueeze(1);
  const torch::Tensor mask =
      config_.has_mask_embedding ? at("mask_embedding") : batch.mask.to(options_.master);
  return torch::cat({anchors, mask.expand({batch.num_blocks(), masks, hidden})}, 1);
}

// Of any rows: context features as they are, a block's rows after the layer's norm.
DrafterNet::KeyValue DrafterNet::key_value(const std::string& attention, const torch::Tensor& x,
                                           const Rotation& rotation, const Passage& passage) const {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = config_.num_kv_heads;
  shape.push_back(-1);
  const torch::Tensor keys =
      norm(attention + "k_norm", linear(attention + "k_proj", x, passage).view(shape));
  const auto scale = static_cast<double>(config_.attention_value_scale);
  const torch::Tensor values = linear(attention + "v_proj", x, passage).view(shape) * scale;
  return {rotate(keys, rotation), values};
}

// Each row of a block over the context before its anchor and all of its own block.
torch::Tensor DrafterNet::attend(uint32_t layer, const torch::Tensor& x,
                                 const Passage& passage) const {
  const std::string attention = layer_prefix(layer) + "self_attn.";
  const int64_t blocks = x.size(0), rows = x.size(1), heads = config_.num_q_heads;
  const int64_t kv_heads = config_.num_kv_heads;
  torch::Tensor query = linear(attention + "q_proj", x, passage).view({blocks, rows, heads, -1});
  query = rotate(norm(attention + "q_norm", query), passage.block_rotation).to(options_.compute);
  query = group_queries(query, kv_heads);
  const KeyValue context = key_value(attention, passage.context, passage.context_rotation, passage);
  KeyValue block = key_value(attention, x, passage.block_rotation, passage);
  block = {block.keys.to(options_.compute), block.values.to(options_.compute)};

  const Visible visible = visible_rows(passage.batch, config_.layers[layer].sliding_window);
  const torch::Tensor context_keys = take(context.keys, visible, blocks).to(options_.compute);
  const torch::Tensor context_values = take(context.values, visible, blocks).to(options_.compute);
  const torch::Tensor context_scores =
      join_product(query, context_keys.transpose(-1, -2))
          .to(options_.master)
          .masked_fill(visible.is_hidden, -std::numeric_limits<double>::infinity());
  const torch::Tensor block_scores =
      query.matmul(block.keys.permute({0, 2, 3, 1})).to(options_.master);

  torch::Tensor scores = torch::cat({context_scores, block_scores}, -1) *
                         (1 / std::sqrt(static_cast<double>(config_.head_dim)));
  if (config_.has_sink) {
    const torch::Tensor sinks = at(attention + "attention_sink_bias")
                                    .view({1, kv_heads, -1, 1, 1})
                                    .expand({blocks, kv_heads, heads / kv_heads, rows, 1})
                                    .reshape({blocks, kv_heads, -1, 1});
    scores = torch::cat({scores, sinks}, -1);
  }
  const torch::Tensor shares = scores.softmax(-1).to(options_.compute);
  const int64_t seen = context_scores.size(-1);
  const torch::Tensor output =
      join_product(shares.narrow(-1, 0, seen), context_values) +
      shares.narrow(-1, seen, rows).matmul(block.values.permute({0, 2, 1, 3}));
  return linear(attention + "o_proj", ungroup(output, rows), passage);
}

torch::Tensor DrafterNet::feed_forward(const std::string& layer, const torch::Tensor& x,
                                       const Passage& passage) const {
  const torch::Tensor gate = torch::silu(linear(layer + "mlp.gate_proj", x, passage));
  const torch::Tensor up = linear(layer + "mlp.up_proj", x, passage);
  return linear(layer + "mlp.down_proj", gate * up, passage);
}

torch::Tensor DrafterNet::forward(const BlockBatch& batch) const {
  US_CHECK(batch.features.size(0) > 0, "a batch without features");
  const torch::Tensor anchor_position = batch.anchor_row - batch.sequence_begin;
  const torch::Tensor offsets =
      torch::arange(static_cast<int64_t>(config_.block_size), anchor_position.options());
  Passage passage = {batch,
                     {},
                     {},
                     rotation(batch.positions),
                     rotation(anchor_position.unsqueeze(1) + offsets.unsqueeze(0))};
  for (const Parameter& p : parameters()) {
    if (p.kind != ParameterKind::kMatrix || p.is_of_selector()) continue;
    passage.matrices[p.name] = effective(p);
  }
  passage.context = norm("hidden_norm", linear("fc", batch.features.to(options_.master), passage));
  torch::Tensor hidden = block_rows(batch);
  for (uint32_t layer = 0; layer < config_.num_layers; ++layer) {
    const std::string prefix = layer_prefix(layer);
    hidden = hidden + attend(layer, norm(prefix + "input_layernorm", hidden), passage);
    hidden =
        hidden + feed_forward(prefix, norm(prefix + "post_attention_layernorm", hidden), passage);
  }
  return norm("norm", hidden);
}

}  // namespace ultraspeed::train
