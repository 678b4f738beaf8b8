// The weights and caches that a program declares: those of the whole model in a fixed order,
// whether its stages use them or not.
#include <array>
#include <bit>
#include <utility>

#include "base/check.h"
#include "plan/lower_internal.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::kNoLayer;

namespace {

// In the order of TensorRole.
constexpr std::array kWeightNames = {
    "embed_tokens",
    "lm_head",
    "final_norm",
    "input_norm",
    "post_attention_norm",
    "qkv_proj",
    "attention_sink",
    "o_proj",
    "gate_up_proj",
    "down_proj",
    "router",
    "router_bias",
    "expert_gate_up",
    "expert_down",
    "qkv_bias",
    "o_bias",
    "expert_gate_up_bias",
    "expert_down_bias",
    "q_norm",
    "k_norm",
    "q_proj",
    "kv_proj",
    "fc",
    "feature_norm",
    "mask_embedding",
    "predecessor_proj",
    "successor_proj",
    "selector_proj",
    "predecessor_codes",
    "successor_codes",
    "embedding_norm",
    "hidden_norm",
    "eh_proj",
    "final_norm",
};

const char* weight_name(TensorRole role) {
  return kWeightNames.at(static_cast<size_t>(role));
}

bool is_in_layer(TensorRole role) {
  switch (role) {
    case TensorRole::kEmbedding:
    case TensorRole::kLmHead:
    case TensorRole::kFinalNorm:
    case TensorRole::kFeatureProj:
    case TensorRole::kFeatureNorm:
    case TensorRole::kMaskEmbedding:
    case TensorRole::kPredecessorProj:
    case TensorRole::kSuccessorProj:
    case TensorRole::kSelectorProj:
    case TensorRole::kPredecessorCodes:
    case TensorRole::kSuccessorCodes:
      return false;
    default:
      return true;
  }
}

const char* prefix_of(model::Stack stack) {
  switch (stack) {
    case model::Stack::kTarget:
      return "";
    case model::Stack::kDflash:
      return "draft.";
    case model::Stack::kMtp:
      return "mtp.";
  }
  US_CHECK(false, "stack {}", static_cast<int>(stack));
  return "";
}

// Ranks that have a share of each role of a layer: of its attention and of its FFN, for which the
// matrix whose columns are split decides (Lowering::declare()).
struct LayerStrides {
  uint32_t attention = 1, ffn = 1;

  uint32_t of(TensorRole role) const {
    switch (role) {
      case TensorRole::kQkvProj:
      case TensorRole::kQkvBias:
      case TensorRole::kQProj:
      case TensorRole::kKvProj:
      case TensorRole::kAttentionSink:
      case TensorRole::kOProj:
        return attention;
      case TensorRole::kDenseGateUp:
      case TensorRole::kDenseDown:
      case TensorRole::kExpertGateUp:
      case TensorRole::kExpertGateUpBias:
      case TensorRole::kExpertDown:
        return ffn;
      default:
        return 1;
    }
  }
};

// Equal shares of whole heads, and of columns that the loader can split, for as many ranks as there
// can be.
LayerStrides layer_strides(const model::ModelConfig& stack, uint32_t index, uint32_t num_ranks,
                           const ShapeLookup& shape_of) {
  const model::LayerConfig& layer = stack.layers[index];
  const auto splits = [&](TensorRole role, uint32_t shares) {
    return shape_of({role, index, 0, 0, shares, stack.stack}).has_value();
  };
  LayerStrides strides;
  for (uint32_t shares = num_ranks; shares > 1; shares /= 2, strides.attention *= 2) {
    if (layer.has_head_shards(shares) && splits(TensorRole::kOProj, shares)) break;
  }
  const TensorRole down = layer.is_moe ? TensorRole::kExpertDown : TensorRole::kDenseDown;
  for (uint32_t shares = num_ranks; shares > 1; shares /= 2, strides.ffn *= 2) {
    if (splits(down, shares)) break;
  }
  return strides;
}

}  // namespace

// In the order of reading, so that a packed weight arena is read forwards; of a drafter, what every
// program uses before what drafting alone uses, so that blocks have the same numbers in all.
Status Lowering::declare(const model::ModelConfig& stack) {
  const bool is_drafter = stack.stack == model::Stack::kDflash;
  std::vector<LayerStrides> strides;
  for (uint32_t layer = 0; layer < stack.num_layers(); ++layer) {
    strides.push_back(layer_strides(stack, layer, num_ranks_, shape_of_));
  }
  std::vector<model::WeightSource> sources = model::all_weights(stack, 0, num_ranks_);
  if (is_drafter && drafter_->has_mask_embedding) {
    sources.push_back({TensorRole::kMaskEmbedding, 0, 0, 0, num_ranks_, stack.stack});
  }
  if (is_drafter && drafter_->selector.rank != 0) {
    for (const TensorRole role : {TensorRole::kPredecessorCodes, TensorRole::kSuccessorCodes}) {
      sources.push_back({role, 0, 0, 0, num_ranks_, stack.stack});
    }
  }
  for (model::WeightSource& source : sources) {
    if (source.expert != 0) continue;  // declared with the first
    source.num_shards = num_ranks_ / strides[source.layer].of(source.role);
    std::string name = prefix_of(stack.stack);
    if (is_in_layer(source.role)) name += fmt::format("layers.{}.", source.layer);
    name += weight_name(source.role);
    US_TRY(
        declare_weight(source, name, model::is_expert_role(source.role) ? stack.num_experts : 1));
  }
  for (uint32_t layer = 0; layer < stack.num_layers(); ++layer) {
    declare_cache(stack.layers[layer], strides[layer].attention);
  }
  return {};
}

Status Lowering::declare_weight(const model::WeightSource& source, const std::string& name,
                                uint32_t count) {
  US_ASSIGN(const model::WeightShape shape, shape_of_(source));
  program::WeightDecl decl;
  decl.name = name;
  decl.format = shape.format;
  decl.rows = shape.rows;
  decl.cols = shape.columns;
  decl.count = count;
  decl.rank_stride = num_ranks_ / source.num_shards;
  weights_[{source.stack, source.role, source.layer}] =
      static_cast<program::WeightId>(draft_->program.weights.size());
  draft_->program.weights.push_back(std::move(decl));
  draft_->sources.push_back(source);
  return {};
}

void Lowering::declare_cache(const model::LayerConfig& layer, uint32_t rank_stride) {
  program::CacheDecl cache;
  cache.num_kv_heads = layer.shard_kv_heads(0, num_ranks_ / rank_stride).count;
  cache.rank_stride = rank_stride;
  cache.head_dim = layer.head_dim;
  cache.v_head_dim = layer.v_head_dim;
  // A fixed power of two that holds the window and the widest step, whatever this program's width.
  if (layer.is_sliding) cache.ring_positions = std::bit_ceil(layer.sliding_window + kMaxWidth);
  draft_->program.caches.push_back(cache);
}

program::WeightId Lowering::weight(TensorRole role) const {
  return weights_.at({stack_->stack, role, is_in_layer(role) ? layer_ : 0u});
}

program::WeightId Lowering::optional_weight(TensorRole role) const {
  const auto found = weights_.find({stack_->stack, role, is_in_layer(role) ? layer_ : 0u});
  return found == weights_.end() ? program::kNoId : found->second;
}

program::WeightId Lowering::target_weight(TensorRole role) const {
  return weights_.at({model::Stack::kTarget, role, 0u});
}

uint32_t Lowering::rank_stride(TensorRole role) const {
  return draft_->program.weights[weight(role)].rank_stride;
}

program::NormRef Lowering::norm(TensorRole role) const {
  return {weight(role), stack_->rms_norm_eps};
}

// The target's caches come first.
program::CacheId Lowering::cache() const {
  return layer_ + (stack_ == &config_ ? 0 : config_.num_layers());
}

}  // namespace ultraspeed::plan
