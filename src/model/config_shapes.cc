// Families of which the shapes are read, to be planned and timed: Llama (dense, BF16) and gpt-oss
// (MXFP4 experts, sliding and full layers in turn, sinks, biases). Keys that would change a shape
// or a stage are checked; those that only change arithmetic (RoPE scaling, clamps) are not looked
// at.
#include <algorithm>
#include <optional>

#include "model/config_families.h"
#include "model/config_limits.h"

namespace ultraspeed::model {
namespace {

Status check_flag(const JsonObject& json, std::string_view key, bool supported) {
  US_ASSIGN(const auto flag, json.optional_bool(key));
  if (flag.value_or(supported) == supported) return {};
  return json.unsupported(key, fmt::format("only {} is", supported));
}

Status check_silu(const JsonObject& json) {
  US_ASSIGN(const auto act, json.optional_string("hidden_act"));
  if (act.value_or("silu") == "silu") return {};
  return json.unsupported("hidden_act", "only \"silu\" is");
}

// rope_theta, which newer files have in rope_parameters. scaled: the family's way of scaling.
Result<float> read_theta(const JsonObject& json, std::string_view scaled) {
  US_TRY(check_rope_type(json, "rope_scaling", scaled));
  US_TRY(check_rope_type(json, "rope_parameters", scaled));
  US_ASSIGN(std::optional<double> theta,
            json.optional_number("rope_theta", kMinPositive, kMaxRopeTheta));
  US_ASSIGN(const auto parameters, json.optional_object("rope_parameters"));
  if (!theta && parameters) {
    US_ASSIGN(theta, parameters->optional_number("rope_theta", kMinPositive, kMaxRopeTheta));
  }
  if (!theta) return json.missing("rope_theta");
  return static_cast<float>(*theta);
}

// The heads of all layers: keys and values of one size, rotated whole.
Result<LayerConfig> read_heads(const JsonObject& json, const ModelConfig& config,
                               std::string_view rope_scaling) {
  LayerConfig layer;
  US_ASSIGN(layer.num_q_heads, json.uint("num_attention_heads", 1, kMaxHeads));
  US_ASSIGN(layer.num_kv_heads, json.uint("num_key_value_heads", 1, kMaxHeads));
  if (layer.num_q_heads % layer.num_kv_heads != 0) {
    return json.wrong("num_key_value_heads",
                      fmt::format("a divisor of the {} query heads", layer.num_q_heads));
  }
  US_ASSIGN(const auto head_dim, json.optional_uint("head_dim", 2, kMaxHeadDim));
  layer.head_dim = head_dim.value_or(config.hidden_size / layer.num_q_heads);
  if (layer.head_dim < 2 || layer.head_dim % 2 != 0 || layer.head_dim > kMaxHeadDim) {
    return json.wrong("head_dim", fmt::format("an even size of at most {}; without the key it is "
                                              "hidden_size / num_attention_heads = {}",
                                              kMaxHeadDim, layer.head_dim));
  }
  layer.v_head_dim = layer.rotary_dim = layer.head_dim;
  US_ASSIGN(layer.rope_theta, read_theta(json, rope_scaling));
  return layer;
}

Result<std::vector<LayerConfig>> read_gpt_oss_layers(const JsonObject& json,
                                                     const LayerConfig& heads) {
  US_ASSIGN(const uint32_t num_layers, json.uint("num_hidden_layers", 1, kMaxLayers));
  US_ASSIGN(const auto types, json.optional_strings("layer_types"));
  if (!types) return json.missing("layer_types");
  if (types->size() != num_layers) {
    return json.wrong("layer_types", fmt::format("{} entries, one a layer", num_layers));
  }
  US_ASSIGN(const uint32_t window, json.uint("sliding_window", 1, kMaxPositions));
  std::vector<LayerConfig> layers;
  for (const std::string& type : *types) {
    if (type != "sliding_attention" && type != "full_attention") {
      return json.wrong("layer_types",
                        "\"full_attention\" or \"sliding_attention\" for every layer");
    }
    layers.push_back(heads);
    layers.back().is_sliding = type == "sliding_attention";
    layers.back().sliding_window = layers.back().is_sliding ? window : 0;
    layers.back().has_sink = layers.back().is_moe = true;
  }
  return layers;
}

Status read_gpt_oss_quantization(const JsonObject& json, ModelConfig& config) {
  US_ASSIGN(const auto section, json.optional_object("quantization_config"));
  if (!section) return {};
  US_ASSIGN(const auto method, section->optional_string("quant_method"));
  if (!method) return section->missing("quant_method");
  if (*method != "mxfp4") return section->unsupported("quant_method", "only \"mxfp4\" is");
  config.quantization.has_mxfp4_experts = true;
  return {};
}

}  // namespace

Status read_llama(const JsonObject& json, ModelConfig& config) {
  config.exactness = Exactness::kShapeOnly;
  US_TRY(check_flag(json, "attention_bias", false));
  US_TRY(check_flag(json, "mlp_bias", false));
  US_TRY(check_silu(json));
  if (json.has("quantization_config")) {
    return json.unsupported("quantization_config", "none is: weights are BF16");
  }
  US_TRY(read_sizes(json, config));
  US_ASSIGN(const uint32_t num_layers, json.uint("num_hidden_layers", 1, kMaxLayers));
  US_ASSIGN(const LayerConfig layer, read_heads(json, config, "llama3"));
  config.layers.assign(num_layers, layer);
  return {};
}

Status read_gpt_oss(const JsonObject& json, ModelConfig& config) {
  config.exactness = Exactness::kShapeOnly;
  config.has_biases = true;
  US_TRY(check_flag(json, "attention_bias", true));
  US_TRY(check_silu(json));
  US_TRY(read_sizes(json, config));
  US_ASSIGN(const LayerConfig heads, read_heads(json, config, "yarn"));
  US_ASSIGN(config.layers, read_gpt_oss_layers(json, heads));
  US_ASSIGN(config.num_experts, json.uint("num_local_experts", 1, kMaxExperts));
  US_ASSIGN(config.num_experts_per_token, json.uint("num_experts_per_tok", 1, config.num_experts));
  config.moe_intermediate_size = config.intermediate_size;
  US_TRY(read_gpt_oss_quantization(json, config));
  return check_mxfp4(json, config, "intermediate_size");
}

}  // namespace ultraspeed::model
