// The shapes of weights.h: from the configuration alone, without a checkpoint.
#include <array>

#include "base/check.h"
#include "model/tensor_names.h"
#include "model/weights.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;

// Unsplit dimensions, and what num_shards has to divide.
struct Dimensions {
  uint32_t rows = 0;
  uint32_t columns = 0;
  enum class Split { kNone, kRows, kColumns, kHeads } split = Split::kNone;
  uint32_t units = 0;  // of the split axis: a shard takes an equal count; of kHeads: q heads
};

using Split = Dimensions::Split;

Dimensions rows_split(uint32_t rows, uint32_t columns, uint32_t units) {
  return {rows, columns, Split::kRows, units};
}

Dimensions columns_split(uint32_t rows, uint32_t columns) {
  return {rows, columns, Split::kColumns, columns};
}

// Of what drafters and MTP layers alone have.
Dimensions drafting_dimensions(const ModelConfig& config, const WeightSource& source) {
  const uint32_t hidden = config.hidden_size;
  const LayerConfig& layer = config.layers[source.layer];
  switch (source.role) {
    case TensorRole::kQProj:
      return rows_split(layer.q_rows(), hidden, layer.num_q_heads);
    case TensorRole::kKvProj:
      return {layer.k_rows() + layer.v_rows(), hidden, Split::kHeads, 0};
    case TensorRole::kFeatureProj:
      return rows_split(hidden, config.num_taps * hidden, hidden);
    case TensorRole::kFeatureNorm:
      return {1, hidden};
    case TensorRole::kMaskEmbedding:
      return columns_split(1, hidden);
    case TensorRole::kPredecessorProj:
    case TensorRole::kSuccessorProj:
    case TensorRole::kSelectorProj:
      return {config.selector_rank, hidden};
    case TensorRole::kPredecessorCodes:
    case TensorRole::kSuccessorCodes:
      return {config.vocab_size, config.selector_rank};
    case TensorRole::kMtpProj:
      return rows_split(hidden, 2 * hidden, hidden);
    case TensorRole::kMtpEmbeddingNorm:
    case TensorRole::kMtpHiddenNorm:
    case TensorRole::kMtpFinalNorm:
      return {1, hidden};
    default:
      break;
  }
  US_CHECK(false, "role {}", static_cast<int>(source.role));
  return {};
}

Dimensions dimensions(const ModelConfig& config, const WeightSource& source) {
  const uint32_t hidden = config.hidden_size;
  const LayerConfig& layer = config.layers[source.layer];
  switch (source.role) {
    case TensorRole::kEmbedding:
      return columns_split(config.vocab_size, hidden);
    case TensorRole::kLmHead:
      return rows_split(config.vocab_size, hidden, config.vocab_size);
    case TensorRole::kFinalNorm:
    case TensorRole::kInputNorm:
    case TensorRole::kPostAttentionNorm:
      return {1, hidden};
    case TensorRole::kQkvProj:
      return {layer.qkv_rows(), hidden, Split::kHeads, layer.num_q_heads};
    case TensorRole::kAttentionSink:
      return columns_split(1, layer.num_q_heads);
    case TensorRole::kOProj:
      return {hidden, layer.attention_output_size(), Split::kColumns, layer.num_q_heads};
    case TensorRole::kDenseGateUp:
      return rows_split(2 * config.intermediate_size, hidden, config.intermediate_size);
    case TensorRole::kDenseDown:
      return columns_split(hidden, config.intermediate_size);
    case TensorRole::kRouter:
      return {config.num_experts, hidden};
    case TensorRole::kRouterBias:
      return {1, config.num_experts};
    case TensorRole::kExpertGateUp:
      return rows_split(2 * config.moe_intermediate_size, hidden, config.moe_intermediate_size);
    case TensorRole::kExpertDown:
      return columns_split(hidden, config.moe_intermediate_size);
    case TensorRole::kQkvBias:
      return {layer.qkv_rows(), 1, Split::kHeads, layer.num_q_heads};
    case TensorRole::kExpertGateUpBias:
      return rows_split(2 * config.moe_intermediate_size, 1, config.moe_intermediate_size);
    case TensorRole::kOBias:
    case TensorRole::kExpertDownBias:
      return {hidden, 1};
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
      return {1, layer.head_dim};
    default:
      return drafting_dimensions(config, source);
  }
}

// Drafters have neither the target's tables nor one qkv matrix, MTP layers no tables.
bool has_role(Stack stack, TensorRole role) {
  const bool is_table = role == TensorRole::kEmbedding || role == TensorRole::kLmHead;
  const bool is_drafters = role >= TensorRole::kQProj && role <= TensorRole::kSuccessorCodes;
  const bool is_mtps = role >= TensorRole::kMtpEmbeddingNorm;
  switch (stack) {
    case Stack::kTarget:
      return !is_drafters && !is_mtps;
    case Stack::kDflash:
      return !is_table && role != TensorRole::kQkvProj && !is_mtps;
    case Stack::kMtp:
      return !is_table && role != TensorRole::kFinalNorm && !is_drafters;
  }
  return false;
}

void check_source(const ModelConfig& config, const WeightSource& source) {
  US_CHECK(source.num_shards > 0 && source.shard < source.num_shards, "shard {} of {}",
           source.shard, source.num_shards);
  US_CHECK(source.stack == config.stack, "{} is of another stack", config.file);
  US_CHECK(has_role(config.stack, source.role), "{} has no {}", config.file,
           tensor_role_name(source.role));
  US_CHECK(source.layer < config.num_layers(), "layer {} of {}", source.layer, config.num_layers());
  const LayerConfig& layer = config.layers[source.layer];
  const TensorRole role = source.role;
  const bool is_moe_role =
      is_expert_role(role) || role == TensorRole::kRouter || role == TensorRole::kRouterBias;
  const bool is_bias = role >= TensorRole::kQkvBias && role <= TensorRole::kExpertDownBias;
  const bool is_head_norm = role == TensorRole::kQNorm || role == TensorRole::kKNorm;
  const bool is_dense_role = role == TensorRole::kDenseGateUp || role == TensorRole::kDenseDown;
  US_CHECK(!is_moe_role || layer.is_moe, "layer {} is dense", source.layer);
  US_CHECK(!is_dense_role || !layer.is_moe, "layer {} has experts", source.layer);
  US_CHECK(role != TensorRole::kAttentionSink || layer.has_sink, "layer {} has no sinks",
           source.layer);
  const bool is_expert_bias = is_bias && is_expert_role(role);
  US_CHECK(!is_bias || (is_expert_bias ? config.has_expert_biases : config.has_attention_biases),
           "{} has no {}", config.file, tensor_role_name(role));
  US_CHECK(role != TensorRole::kRouterBias || config.has_router_bias, "{} has no router bias",
           config.file);
  US_CHECK(!is_head_norm || layer.has_qk_norm, "layer {} normalises no heads", source.layer);
  US_CHECK(!is_expert_role(role) || source.expert < config.num_experts, "expert {} of {}",
           source.expert, config.num_experts);
}

tl::unexpected<Error> cannot_split(const ModelConfig& config, const WeightSource& source,
                                   const std::string& reason) {
  return make_error(ErrorCode::kUnsupported, "{}: {} of layer {} cannot be split over {} ranks: {}",
                    config.file, tensor_role_name(source.role), source.layer, source.num_shards,
                    reason);
}

// Whether equal slices of so many columns hold whole scale blocks, or, of FP8, each a part of one
// block and so the one scale that covers it.
bool keeps_scales(WeightFormat format, uint32_t columns) {
  switch (format) {
    case WeightFormat::kMxfp4:
      return columns % tensor::kMxBlockColumns == 0;
    case WeightFormat::kFp8Block128:
      return columns % tensor::kFp8BlockColumns == 0 ||
             (columns > 0 && tensor::kFp8BlockColumns % columns == 0);
    default:
      return true;
  }
}

// Each column needs its scale, and the packed scales have to be aligned.
Status check_format(const ModelConfig& config, const WeightSource& source, WeightFormat format,
                    const WeightShape& shape) {
  if (format == WeightFormat::kMxfp4 && !keeps_scales(format, shape.columns)) {
    return cannot_split(config, source,
                        fmt::format("a rank would have {} columns; expected a multiple of the {} "
                                    "columns of an MXFP4 scale",
                                    shape.columns, tensor::kMxBlockColumns));
  }
  if (format != WeightFormat::kFp8Block128) return {};
  const bool is_cut = dimensions(config, source).columns != shape.columns;
  if (is_cut && !keeps_scales(format, shape.columns)) {
    return cannot_split(config, source,
                        fmt::format("a rank would have {} columns; expected a multiple, or a part, "
                                    "of the {} columns of an FP8 scale",
                                    shape.columns, tensor::kFp8BlockColumns));
  }
  if (uint64_t{shape.rows} * shape.columns % sizeof(float) != 0) {
    return cannot_split(config, source,
                        fmt::format("{} x {} FP8 elements are not a multiple of {}, so the scales "
                                    "behind them would not be aligned",
                                    shape.rows, shape.columns, sizeof(float)));
  }
  return {};
}

}  // namespace

bool is_expert_role(TensorRole role) {
  switch (role) {
    case TensorRole::kExpertGateUp:
    case TensorRole::kExpertDown:
    case TensorRole::kExpertGateUpBias:
    case TensorRole::kExpertDownBias:
      return true;
    default:
      return false;
  }
}

std::string_view tensor_role_name(TensorRole role) {
  constexpr std::array<std::string_view, 34> kNames = {"embedding",
                                                       "lm_head",
                                                       "final norm",
                                                       "input norm",
                                                       "post-attention norm",
                                                       "qkv projection",
                                                       "attention sink",
                                                       "output projection",
                                                       "dense gate/up",
                                                       "dense down",
                                                       "router",
                                                       "router bias",
                                                       "expert gate/up",
                                                       "expert down",
                                                       "qkv bias",
                                                       "output bias",
                                                       "expert gate/up bias",
                                                       "expert down bias",
                                                       "query norm",
                                                       "key norm",
                                                       "query projection",
                                                       "key/value projection",
                                                       "feature projection",
                                                       "feature norm",
                                                       "mask embedding",
                                                       "predecessor projection",
                                                       "successor projection",
                                                       "selector projection",
                                                       "predecessor codes",
                                                       "successor codes",
                                                       "MTP embedding norm",
                                                       "MTP hidden norm",
                                                       "MTP projection",
                                                       "MTP final norm"};
  return kNames.at(static_cast<size_t>(role));
}

Result<WeightShape> weight_shape(const ModelConfig& config, const WeightSource& source,
                                 WeightFormat format) {
  check_source(config, source);
  const Dimensions whole = dimensions(config, source);
  const uint32_t n = source.num_shards;
  WeightShape shape = {format, whole.rows, whole.columns, 0};
  if (whole.units % n != 0) {
    return cannot_split(config, source,
                        fmt::format("expected the number of ranks to divide {}", whole.units));
  }
  if (whole.split == Split::kHeads) {
    const LayerConfig& layer = config.layers[source.layer];
    if (layer.num_kv_heads % n != 0 && n % layer.num_kv_heads != 0) {
      return cannot_split(config, source,
                          fmt::format("expected the number of ranks to divide {} kv heads, or to "
                                      "be a multiple of them",
                                      layer.num_kv_heads));
    }
    shape.rows = whole.units / n * layer.head_dim +
                 layer.shard_kv_heads(0, n).count * (layer.head_dim + layer.v_head_dim);
  }
  if (whole.split == Split::kRows) shape.rows /= n;
  if (whole.split == Split::kColumns) shape.columns /= n;
  US_TRY(check_format(config, source, format, shape));
  shape.bytes = tensor::packed_bytes(format, shape.rows, shape.columns);
  return shape;
}

WeightFormat expected_format(const ModelConfig& config, TensorRole role, uint32_t layer) {
  const QuantizationConfig& quantization = config.quantization;
  const auto linear = [&](std::string_view name) {
    const std::string module =
        config.stack == Stack::kMtp ? mtp_layer_name(layer, name) : layer_name(layer, name);
    return quantization.has_fp8_linears && !quantization.is_ignored(module)
               ? WeightFormat::kFp8Block128
               : WeightFormat::kBf16;
  };
  switch (role) {
    case TensorRole::kEmbedding:
    case TensorRole::kLmHead:
    case TensorRole::kQProj:
    case TensorRole::kKvProj:
    case TensorRole::kFeatureProj:
    case TensorRole::kMaskEmbedding:
    case TensorRole::kPredecessorProj:
    case TensorRole::kSuccessorProj:
    case TensorRole::kMtpProj:
      return WeightFormat::kBf16;
    case TensorRole::kQkvProj:
      return linear(config.qkv_layout == QkvLayout::kFused ? kQkvModule : kQModule);
    case TensorRole::kOProj:
      return linear(kOModule);
    case TensorRole::kDenseGateUp:
      return linear(kDenseGateModule);
    case TensorRole::kDenseDown:
      return linear(kDenseDownModule);
    case TensorRole::kExpertGateUp:
    case TensorRole::kExpertDown:
      if (quantization.has_mxfp4_experts) return WeightFormat::kMxfp4;
      return linear("mlp.experts");
    default:
      return WeightFormat::kF32;
  }
}

Result<WeightShape> expected_shape(const ModelConfig& config, const WeightSource& source) {
  return weight_shape(config, source, expected_format(config, source.role, source.layer));
}

namespace {

class SourceList {
 public:
  SourceList(const ModelConfig& config, uint32_t shard, uint32_t num_shards)
      : config_(config), like_{TensorRole::kEmbedding, 0, 0, shard, num_shards, config.stack} {}

  std::vector<WeightSource> target() {
    add(TensorRole::kEmbedding);
    for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
      add(TensorRole::kInputNorm, layer);
      add(TensorRole::kQkvProj, layer);
      if (config_.has_attention_biases) add(TensorRole::kQkvBias, layer);
      if (config_.layers[layer].has_qk_norm) {
        add(TensorRole::kQNorm, layer);
        add(TensorRole::kKNorm, layer);
      }
      attention_output(layer);
      if (config_.has_attention_biases) add(TensorRole::kOBias, layer);
      add(TensorRole::kPostAttentionNorm, layer);
      config_.layers[layer].is_moe ? experts(layer) : dense(layer);
    }
    add(TensorRole::kFinalNorm);
    add(TensorRole::kLmHead);
    return std::move(sources_);
  }

  std::vector<WeightSource> drafter() {
    add(TensorRole::kFeatureProj);
    add(TensorRole::kFeatureNorm);
    for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
      add(TensorRole::kKNorm, layer);
      add(TensorRole::kKvProj, layer);
    }
    for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
      add(TensorRole::kInputNorm, layer);
      add(TensorRole::kQNorm, layer);
      add(TensorRole::kQProj, layer);
      attention_output(layer);
      add(TensorRole::kPostAttentionNorm, layer);
      dense(layer);
    }
    add(TensorRole::kFinalNorm);
    if (config_.selector_rank != 0) add(TensorRole::kSelectorProj);
    return std::move(sources_);
  }

  std::vector<WeightSource> mtp() {
    for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
      add(TensorRole::kMtpEmbeddingNorm, layer);
      add(TensorRole::kMtpHiddenNorm, layer);
      add(TensorRole::kMtpProj, layer);
      add(TensorRole::kInputNorm, layer);
      add(TensorRole::kQkvProj, layer);
      attention_output(layer);
      add(TensorRole::kPostAttentionNorm, layer);
      dense(layer);
      add(TensorRole::kMtpFinalNorm, layer);
    }
    return std::move(sources_);
  }

 private:
  void add(TensorRole role, uint32_t layer = 0, uint32_t expert = 0) {
    WeightSource& source = sources_.emplace_back(like_);
    source.role = role;
    source.layer = layer;
    source.expert = expert;
  }
  void attention_output(uint32_t layer) {
    if (config_.layers[layer].has_sink) add(TensorRole::kAttentionSink, layer);
    add(TensorRole::kOProj, layer);
  }
  void dense(uint32_t layer) {
    add(TensorRole::kDenseGateUp, layer);
    add(TensorRole::kDenseDown, layer);
  }
  void experts(uint32_t layer) {
    add(TensorRole::kRouter, layer);
    if (config_.has_router_bias) add(TensorRole::kRouterBias, layer);
    for (uint32_t expert = 0; expert < config_.num_experts; ++expert) {
      add(TensorRole::kExpertGateUp, layer, expert);
      if (config_.has_expert_biases) add(TensorRole::kExpertGateUpBias, layer, expert);
      add(TensorRole::kExpertDown, layer, expert);
      if (config_.has_expert_biases) add(TensorRole::kExpertDownBias, layer, expert);
    }
  }

  const ModelConfig& config_;
  const WeightSource like_;
  std::vector<WeightSource> sources_;
};

}  // namespace

std::vector<WeightSource> all_weights(const ModelConfig& config, uint32_t shard,
                                      uint32_t num_shards) {
  SourceList list(config, shard, num_shards);
  switch (config.stack) {
    case Stack::kTarget:
      return list.target();
    case Stack::kDflash:
      return list.drafter();
    case Stack::kMtp:
      return list.mtp();
  }
  US_CHECK(false, "stack {}", static_cast<int>(config.stack));
  return {};
}

}  // namespace ultraspeed::model
