#include "model/weight_layout.h"

#include <algorithm>

#include "base/check.h"
#include "model/tensor_names.h"

namespace ultraspeed::model {
namespace {

StoredPart whole_part(std::string module, uint32_t rows, uint32_t columns) {
  StoredPart part;
  part.module = std::move(module);
  part.weight_name = part.module + std::string(kWeightSuffix);
  part.shape = {rows, columns};
  part.rows = rows;
  part.columns = columns;
  part.row_ranges = {{0, rows}};
  return part;
}

StoredPart vector_part(std::string module, uint32_t size) {
  StoredPart part = whole_part(std::move(module), 1, size);
  part.shape = {size};
  return part;
}

// A vector whose tensor name has no ".weight".
StoredPart parameter_part(std::string name, uint32_t columns) {
  StoredPart part = vector_part(name, columns);
  part.weight_name = std::move(name);
  return part;
}

// The bias of a module, a number for each of its rows.
StoredPart bias_part(const std::string& module, uint32_t rows) {
  StoredPart part = whole_part(module, rows, 1);
  part.weight_name = module + std::string(kBiasSuffix);
  part.shape = {rows};
  return part;
}

std::string name_in_layer(const WeightSource& source, std::string_view name) {
  switch (source.stack) {
    case Stack::kTarget:
      return layer_name(source.layer, name);
    case Stack::kDflash:
      return drafter_layer_name(source.layer, name);
    case Stack::kMtp:
      return mtp_layer_name(source.layer, name);
  }
  US_CHECK(false, "stack {}", static_cast<int>(source.stack));
  return "";
}

// The rows of a tensor that has those of all experts, `rows` each, in turn.
StoredPart of_all_experts(const ModelConfig& config, const WeightSource& source,
                          std::string_view name, uint32_t rows, uint32_t columns) {
  const std::string module = layer_name(source.layer, name);
  StoredPart part = whole_part(module, config.num_experts * rows, columns);
  part.row_ranges = {{source.expert * rows, rows}};
  part.weight_name = module + std::string(kBlocksSuffix);
  part.block_scale_name = module + std::string(kBlockScalesSuffix);
  part.shape = {config.num_experts, rows, columns};
  return part;
}

StoredPart bias_of_all_experts(const ModelConfig& config, const WeightSource& source,
                               std::string_view name, uint32_t rows) {
  StoredPart part = of_all_experts(config, source, name, rows, 1);
  part.weight_name = part.module + std::string(kStackedBiasSuffix);
  part.block_scale_name.clear();
  part.shape = {config.num_experts, rows};
  return part;
}

// Of one expert's rows that are gate and up rows in turn, the shard's gate rows, then its up rows.
WeightLayout gate_then_up(const StoredPart& part, const WeightSource& source) {
  const RowRange all = part.row_ranges.front();
  const uint32_t count = all.count / 2 / source.num_shards;
  const uint32_t first = all.begin + 2 * source.shard * count;
  WeightLayout layout = {{part}, 0, part.columns};
  layout.parts.front().row_ranges = {{first, count, 2}, {first + 1, count, 2}};
  return layout;
}

StoredPart row_shard(StoredPart part, const WeightSource& source) {
  const uint32_t count = part.rows / source.num_shards;
  part.row_ranges = {{source.shard * count, count}};
  return part;
}

WeightLayout whole_columns(std::vector<StoredPart> parts) {
  const uint32_t columns = parts.front().columns;
  return {std::move(parts), 0, columns};
}

WeightLayout column_shard(StoredPart part, const WeightSource& source) {
  const uint32_t columns = part.columns / source.num_shards;
  WeightLayout layout = {{}, source.shard * columns, columns};
  layout.parts.push_back(std::move(part));
  return layout;
}

// Appends the rows of heads [head_begin, head_end), each head_rows high, of one section (q, k or v)
// of a fused qkv: chunk c holds heads [c * n, (c + 1) * n) at row section_begin of the chunk.
struct FusedSection {
  uint32_t heads_per_chunk;
  uint32_t head_rows;
  uint32_t section_begin;
};
void append_heads(const FusedSection& section, uint32_t chunk_rows, uint32_t head_begin,
                  uint32_t head_end, std::vector<RowRange>& ranges) {
  for (uint32_t head = head_begin; head < head_end;) {
    const uint32_t chunk = head / section.heads_per_chunk;
    const uint32_t chunk_end = (chunk + 1) * section.heads_per_chunk;
    const uint32_t count = std::min(head_end, chunk_end) - head;
    const uint32_t begin = chunk * chunk_rows + section.section_begin +
                           head % section.heads_per_chunk * section.head_rows;
    ranges.push_back({begin, count * section.head_rows});
    head += count;
  }
}

Result<WeightLayout> fused_qkv(const ModelConfig& config, const WeightSource& source,
                               uint32_t chunks) {
  const LayerConfig& layer = config.layers[source.layer];
  if (layer.num_q_heads % chunks != 0 || layer.num_kv_heads % chunks != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: layer {} has {} query and {} kv heads; expected multiples of the {} "
                      "chunks that the checkpoint's tp_size gives to a fused qkv",
                      config.file, source.layer, layer.num_q_heads, layer.num_kv_heads, chunks);
  }
  StoredPart part =
      whole_part(name_in_layer(source, kQkvModule), layer.qkv_rows(), config.hidden_size);
  part.scale_grid = ScaleGrid::kRestarting;
  part.grid_chunks = chunks;
  part.row_ranges.clear();
  const uint32_t chunk_rows = layer.qkv_rows() / chunks;
  const uint32_t q_heads = layer.num_q_heads / chunks;
  const uint32_t kv_heads = layer.num_kv_heads / chunks;
  const FusedSection q = {q_heads, layer.head_dim, 0};
  const FusedSection k = {kv_heads, layer.head_dim, q_heads * layer.head_dim};
  const FusedSection v = {kv_heads, layer.v_head_dim, (q_heads + kv_heads) * layer.head_dim};
  const uint32_t shard_q = layer.num_q_heads / source.num_shards;
  const auto [kv_begin, kv_count] = layer.shard_kv_heads(source.shard, source.num_shards);
  const uint32_t q_begin = source.shard * shard_q;
  append_heads(q, chunk_rows, q_begin, q_begin + shard_q, part.row_ranges);
  append_heads(k, chunk_rows, kv_begin, kv_begin + kv_count, part.row_ranges);
  append_heads(v, chunk_rows, kv_begin, kv_begin + kv_count, part.row_ranges);
  return whole_columns({std::move(part)});
}

// Those of q, k and v that are asked for, or their biases, stored as tensors of their own.
WeightLayout split_heads(const ModelConfig& config, const WeightSource& source, uint32_t chunks,
                         const std::vector<std::string_view>& modules) {
  const LayerConfig& layer = config.layers[source.layer];
  std::vector<StoredPart> parts;
  for (const std::string_view module : modules) {
    const uint32_t rows = module == kQModule   ? layer.q_rows()
                          : module == kKModule ? layer.k_rows()
                                               : layer.v_rows();
    const std::string name = name_in_layer(source, module);
    StoredPart part = source.role == TensorRole::kQkvBias
                          ? bias_part(name, rows)
                          : whole_part(name, rows, config.hidden_size);
    if (module == kQModule) {
      part = row_shard(std::move(part), source);
    } else {
      const auto heads = layer.shard_kv_heads(source.shard, source.num_shards);
      const uint32_t head_rows = rows / layer.num_kv_heads;
      part.row_ranges = {{heads.begin * head_rows, heads.count * head_rows}};
    }
    if (chunks > 1 && rows % chunks == 0) {
      part.scale_grid = ScaleGrid::kEither;
      part.grid_chunks = chunks;
    }
    parts.push_back(std::move(part));
  }
  return whole_columns(std::move(parts));
}

WeightLayout gate_up(std::string gate, std::string up, uint32_t rows, const ModelConfig& config,
                     const WeightSource& source) {
  return whole_columns({row_shard(whole_part(std::move(gate), rows, config.hidden_size), source),
                        row_shard(whole_part(std::move(up), rows, config.hidden_size), source)});
}

WeightLayout vector_layout(std::string module, uint32_t size) {
  return whole_columns({vector_part(std::move(module), size)});
}

WeightLayout selector_layout(std::string_view module, const ModelConfig& config) {
  return whole_columns({whole_part(std::string(module), config.selector_rank, config.hidden_size)});
}

// The experts of a layer in tensors of all.
WeightLayout stacked_experts(const ModelConfig& config, const WeightSource& source) {
  const uint32_t hidden = config.hidden_size, inner = config.moe_intermediate_size;
  switch (source.role) {
    case TensorRole::kExpertGateUp:
      return gate_then_up(of_all_experts(config, source, kStackedGateUpModule, 2 * inner, hidden),
                          source);
    case TensorRole::kExpertGateUpBias:
      return gate_then_up(bias_of_all_experts(config, source, kStackedGateUpModule, 2 * inner),
                          source);
    case TensorRole::kExpertDownBias:
      return whole_columns({bias_of_all_experts(config, source, kStackedDownModule, hidden)});
    default:
      return column_shard(of_all_experts(config, source, kStackedDownModule, hidden, inner),
                          source);
  }
}

// What drafters and MTP layers alone have.
Result<WeightLayout> drafting_layout(const ModelConfig& config, const WeightSource& source,
                                     uint32_t qkv_chunks) {
  const uint32_t hidden = config.hidden_size;
  const auto in_layer = [&](std::string_view name) { return name_in_layer(source, name); };
  switch (source.role) {
    case TensorRole::kQProj:
      return split_heads(config, source, qkv_chunks, {kQModule});
    case TensorRole::kKvProj:
      return split_heads(config, source, qkv_chunks, {kKModule, kVModule});
    case TensorRole::kFeatureProj:
      return whole_columns({row_shard(
          whole_part(std::string(kFeatureModule), hidden, config.num_taps * hidden), source)});
    case TensorRole::kFeatureNorm:
      return vector_layout(std::string(kFeatureNormModule), hidden);
    case TensorRole::kPredecessorProj:
      return selector_layout(kPredecessorModule, config);
    case TensorRole::kSuccessorProj:
      return selector_layout(kSuccessorModule, config);
    case TensorRole::kSelectorProj:
      return selector_layout(kSelectorModule, config);
    case TensorRole::kMtpEmbeddingNorm:
      return vector_layout(in_layer(kMtpEmbeddingNormModule), hidden);
    case TensorRole::kMtpHiddenNorm:
      return vector_layout(in_layer(kMtpHiddenNormModule), hidden);
    case TensorRole::kMtpProj:
      return whole_columns(
          {row_shard(whole_part(in_layer(kMtpProjModule), hidden, 2 * hidden), source)});
    case TensorRole::kMtpFinalNorm:
      return vector_layout(in_layer(kMtpFinalNormModule), hidden);
    default:  // a mask embedding and codes are no tensors of a checkpoint
      break;
  }
  US_CHECK(false, "role {}", static_cast<int>(source.role));
  return WeightLayout{};
}

}  // namespace

bool is_f32_role(TensorRole role) {
  switch (role) {
    case TensorRole::kRouter:
    case TensorRole::kSelectorProj:
    case TensorRole::kQkvBias:
    case TensorRole::kOBias:
    case TensorRole::kExpertGateUpBias:
    case TensorRole::kExpertDownBias:
    case TensorRole::kFinalNorm:
    case TensorRole::kInputNorm:
    case TensorRole::kPostAttentionNorm:
    case TensorRole::kAttentionSink:
    case TensorRole::kRouterBias:
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
    case TensorRole::kFeatureNorm:
    case TensorRole::kMtpEmbeddingNorm:
    case TensorRole::kMtpHiddenNorm:
    case TensorRole::kMtpFinalNorm:
      return true;
    default:
      return false;
  }
}

Result<WeightLayout> weight_layout(const ModelConfig& config, const WeightSource& source,
                                   uint32_t qkv_chunks) {
  const uint32_t hidden = config.hidden_size;
  const LayerConfig& layer = config.layers[source.layer];
  const auto in_layer = [&](std::string_view name) { return name_in_layer(source, name); };
  if (is_expert_role(source.role) && config.expert_layout == ExpertLayout::kBlocks) {
    return stacked_experts(config, source);
  }
  const auto in_expert = [&](std::string_view name) {
    return expert_name(source.layer, source.expert, name);
  };
  switch (source.role) {
    case TensorRole::kEmbedding:
      return column_shard(whole_part(std::string(kEmbeddingModule), config.vocab_size, hidden),
                          source);
    case TensorRole::kLmHead: {
      const std::string_view module = config.tie_word_embeddings ? kEmbeddingModule : kLmHeadModule;
      return whole_columns(
          {row_shard(whole_part(std::string(module), config.vocab_size, hidden), source)});
    }
    case TensorRole::kFinalNorm:
      return vector_layout(
          std::string(config.stack == Stack::kDflash ? kDrafterFinalNormModule : kFinalNormModule),
          hidden);
    case TensorRole::kInputNorm:
      return vector_layout(in_layer(kInputNormModule), hidden);
    case TensorRole::kPostAttentionNorm:
      return vector_layout(in_layer(source.stack == Stack::kMtp ? kMtpPostAttentionNormModule
                                                                : kPostAttentionNormModule),
                           hidden);
    case TensorRole::kQkvProj:
      if (config.qkv_layout == QkvLayout::kFused) return fused_qkv(config, source, qkv_chunks);
      return split_heads(config, source, qkv_chunks, {kQModule, kKModule, kVModule});
    case TensorRole::kQkvBias:
      return split_heads(config, source, 1, {kQModule, kKModule, kVModule});
    case TensorRole::kOBias:
      return whole_columns({bias_part(in_layer(kOModule), hidden)});
    case TensorRole::kQNorm:
      return vector_layout(in_layer(kQNormModule), layer.head_dim);
    case TensorRole::kKNorm:
      return vector_layout(in_layer(kKNormModule), layer.head_dim);
    case TensorRole::kAttentionSink:
      return column_shard(parameter_part(in_layer(config.names.sink), layer.num_q_heads), source);
    case TensorRole::kOProj:
      return column_shard(whole_part(in_layer(kOModule), hidden, layer.attention_output_size()),
                          source);
    case TensorRole::kDenseGateUp:
      return gate_up(in_layer(kDenseGateModule), in_layer(kDenseUpModule), config.intermediate_size,
                     config, source);
    case TensorRole::kDenseDown:
      return column_shard(whole_part(in_layer(kDenseDownModule), hidden, config.intermediate_size),
                          source);
    case TensorRole::kRouter:
      return whole_columns({whole_part(in_layer(config.names.router), config.num_experts, hidden)});
    case TensorRole::kRouterBias:
      return whole_columns(
          {parameter_part(in_layer(config.names.router_bias), config.num_experts)});
    case TensorRole::kExpertGateUp:
      return gate_up(in_expert(kExpertGateModule), in_expert(kExpertUpModule),
                     config.moe_intermediate_size, config, source);
    case TensorRole::kExpertDown:
      return column_shard(
          whole_part(in_expert(kExpertDownModule), hidden, config.moe_intermediate_size), source);
    default:
      return drafting_layout(config, source, qkv_chunks);
  }
}

}  // namespace ultraspeed::model
