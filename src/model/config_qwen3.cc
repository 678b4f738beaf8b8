// Qwen3, dense and of experts: heads of q and k are normalised; experts are chosen by a softmax.
#include <algorithm>

#include "model/config_families.h"
#include "model/config_limits.h"

namespace ultraspeed::model {
namespace {

// Which layers have experts: every decoder_sparse_step-th but those of mlp_only_layers.
Status read_qwen3_experts(const JsonObject& json, ModelConfig& config) {
  const std::string_view count_key = json.has("num_experts") ? "num_experts" : "num_local_experts";
  US_ASSIGN(config.num_experts, json.uint(count_key, 1, kMaxExperts));
  US_ASSIGN(config.num_experts_per_token, json.uint("num_experts_per_tok", 1, config.num_experts));
  US_ASSIGN(config.moe_intermediate_size,
            json.uint("moe_intermediate_size", 1, kMaxIntermediateSize));
  config.has_router_bias = false;
  config.has_softmax_router = true;
  US_ASSIGN(const auto norm, json.optional_bool("norm_topk_prob"));
  config.norm_topk_prob = norm.value_or(false);
  US_ASSIGN(const auto step, json.optional_uint("decoder_sparse_step", 1, kMaxLayers));
  US_ASSIGN(const auto dense, json.optional_uints("mlp_only_layers", 0, config.num_layers() - 1));
  for (uint32_t i = 0; i < config.num_layers(); ++i) {
    const bool is_listed = dense && std::ranges::find(*dense, i) != dense->end();
    config.layers[i].is_moe = !is_listed && (i + 1) % step.value_or(1) == 0;
  }
  return {};
}

}  // namespace

Status read_qwen3(const JsonObject& json, ModelConfig& config) {
  US_TRY(check_silu(json));
  US_TRY(read_sizes(json, config));
  US_TRY(read_attention_bias(json, config));
  US_ASSIGN(config.quantization, read_quantization(json));
  US_ASSIGN(config.layers, read_equal_layers(json, config));
  for (LayerConfig& layer : config.layers) layer.has_qk_norm = true;
  if (!json.has("layer_types")) US_TRY(check_flag(json, "use_sliding_window", false));
  if (config.model_type == "qwen3_moe") US_TRY(read_qwen3_experts(json, config));
  return check_mxfp4(json, config, "moe_intermediate_size");
}

}  // namespace ultraspeed::model
