// The MiMo-V2 family: V2-Flash, V2.5, V2.5-Pro, V2.6. Both the published key names and those of
// transformers' MiMoV2FlashConfig are read.
#include <algorithm>
#include <array>
#include <optional>

#include "model/config_families.h"
#include "model/config_limits.h"

namespace ultraspeed::model {
namespace {

constexpr std::string_view kFullAttention = "full_attention";
constexpr std::string_view kSlidingAttention = "sliding_attention";

// Keys whose other values change the arithmetic in ways that the engine does not implement.
Status check_supported(const JsonObject& json) {
  US_ASSIGN(const auto attention_bias, json.optional_bool("attention_bias"));
  if (attention_bias.value_or(false)) {
    return json.unsupported("attention_bias", "set false: projections have no bias");
  }
  struct Choice {
    std::string_view key, supported;
  };
  constexpr std::array<Choice, 3> kChoices = {
      Choice{"hidden_act", "silu"}, {"scoring_func", "sigmoid"}, {"topk_method", "noaux_tc"}};
  for (const auto& [key, supported] : kChoices) {
    US_ASSIGN(const auto value, json.optional_string(key));
    if (value.has_value() && *value != supported) {
      return json.unsupported(key, fmt::format("only \"{}\" is", supported));
    }
  }
  for (const std::string_view key : {"n_group", "topk_group"}) {
    US_ASSIGN(const auto groups, json.optional_uint(key, 0, kMaxExperts));
    if (groups.value_or(1) != 1) return json.unsupported(key, "only 1 is: experts have no groups");
  }
  US_ASSIGN(const auto shared_experts, json.optional_uint("n_shared_experts", 0, kMaxExperts));
  if (shared_experts.value_or(0) != 0) {
    return json.unsupported("n_shared_experts", "only null or 0 is: all experts are routed");
  }
  return check_rope_type(json, "rope_scaling");
}

// The value of a key that may also stand in rope_parameters.KIND (transformers' place for it).
Result<std::optional<double>> rope_number(const JsonObject& json, std::string_view kind,
                                          std::string_view key, std::string_view nested_key,
                                          double max) {
  US_ASSIGN(std::optional<double> value, json.optional_number(key, kMinPositive, max));
  US_ASSIGN(const auto parameters, json.optional_object("rope_parameters"));
  if (!parameters) return value;
  US_TRY(check_rope_type(*parameters, kind));
  US_ASSIGN(const auto nested, parameters->optional_object(kind));
  if (!nested) return value;
  US_ASSIGN(const auto nested_value, nested->optional_number(nested_key, kMinPositive, max));
  if (!nested_value) return value;
  if (value.has_value() && *value != *nested_value) {
    return json.wrong(
        key, fmt::format("{}, as rope_parameters.{}.{} says", *nested_value, kind, nested_key));
  }
  return nested_value;
}

// The head geometry of one kind of layer: keys are prefixed with "swa_" for sliding layers and fall
// back to the full layers' values.
Result<LayerConfig> read_attention(const JsonObject& json, const LayerConfig* fallback) {
  const bool is_sliding = fallback != nullptr;
  LayerConfig layer;
  layer.is_sliding = is_sliding;
  const auto read = [&](std::string_view key, uint32_t max,
                        uint32_t fallback_value) -> Result<uint32_t> {
    if (!is_sliding) return json.uint(key, 1, max);
    US_ASSIGN(const auto value, json.optional_uint(fmt::format("swa_{}", key), 1, max));
    return value.value_or(fallback_value);
  };
  const LayerConfig other = is_sliding ? *fallback : LayerConfig{};
  US_ASSIGN(layer.num_q_heads, read("num_attention_heads", kMaxHeads, other.num_q_heads));
  US_ASSIGN(layer.num_kv_heads, read("num_key_value_heads", kMaxHeads, other.num_kv_heads));
  US_ASSIGN(layer.head_dim, read("head_dim", kMaxHeadDim, other.head_dim));
  US_ASSIGN(layer.v_head_dim, read("v_head_dim", kMaxHeadDim, other.v_head_dim));
  const std::string prefix = is_sliding ? "swa_" : "";
  if (layer.num_q_heads % layer.num_kv_heads != 0) {
    return json.wrong(prefix + "num_key_value_heads",
                      fmt::format("a divisor of the {} query heads", layer.num_q_heads));
  }
  const std::string_view kind = is_sliding ? kSlidingAttention : kFullAttention;
  US_ASSIGN(const auto theta,
            rope_number(json, kind, prefix + "rope_theta", "rope_theta", kMaxRopeTheta));
  if (!theta) return json.missing(prefix + "rope_theta");
  layer.rope.theta = static_cast<float>(*theta);
  US_ASSIGN(const auto factor,
            rope_number(json, kind, "partial_rotary_factor", "partial_rotary_factor", 1.0));
  if (!factor) return json.missing("partial_rotary_factor");
  layer.rotary_dim = static_cast<uint32_t>(layer.head_dim * *factor);
  if (layer.rotary_dim == 0 || layer.rotary_dim % 2 != 0) {
    return json.wrong("partial_rotary_factor",
                      fmt::format("one that gives an even number of rotary dimensions: {} of {}",
                                  layer.rotary_dim, layer.head_dim));
  }
  US_ASSIGN(const auto has_sink, json.optional_bool(is_sliding ? "add_swa_attention_sink_bias"
                                                               : "add_full_attention_sink_bias"));
  layer.has_sink = has_sink.value_or(is_sliding);
  return layer;
}

// One flag a layer, from a list of 0 and 1 (published) or of names (transformers).
Result<std::vector<bool>> read_pattern(const JsonObject& json, std::string_view number_key,
                                       std::string_view name_key, std::string_view false_name,
                                       std::string_view true_name) {
  US_ASSIGN(const auto numbers, json.optional_uints(number_key, 0, 1));
  US_ASSIGN(const auto names, json.optional_strings(name_key));
  if (!numbers && !names) return json.missing(number_key);
  std::vector<bool> flags;
  if (numbers) flags.assign(numbers->begin(), numbers->end());
  if (!names) return flags;
  std::vector<bool> named;
  for (const std::string& name : *names) {
    if (name != false_name && name != true_name) {
      return json.wrong(name_key, fmt::format("\"{}\" or \"{}\" for every layer (layer {} is "
                                              "\"{}\")",
                                              false_name, true_name, named.size(), name));
    }
    named.push_back(name == true_name);
  }
  if (numbers && named != flags) {
    return json.wrong(name_key, fmt::format("the same layers as key '{}'", number_key));
  }
  return named;
}

Result<uint32_t> read_sliding_window(const JsonObject& json) {
  US_ASSIGN(const auto window, json.optional_uint("sliding_window", 1, kMaxPositions));
  US_ASSIGN(const auto window_size, json.optional_uint("sliding_window_size", 1, kMaxPositions));
  if (!window && !window_size) return json.missing("sliding_window");
  if (window && window_size && *window != *window_size) {
    return json.wrong("sliding_window_size", fmt::format("{}, as key 'sliding_window'", *window));
  }
  return window ? *window : *window_size;
}

Result<std::vector<LayerConfig>> read_layers(const JsonObject& json) {
  US_ASSIGN(const uint32_t num_layers, json.uint("num_hidden_layers", 1, kMaxLayers));
  US_ASSIGN(const auto sliding, read_pattern(json, "hybrid_layer_pattern", "layer_types",
                                             kFullAttention, kSlidingAttention));
  US_ASSIGN(const auto moe,
            read_pattern(json, "moe_layer_freq", "mlp_layer_types", "dense", "sparse"));
  const std::string expected = fmt::format("{} entries, one a layer", num_layers);
  if (sliding.size() != num_layers) {
    return json.wrong(json.has("hybrid_layer_pattern") ? "hybrid_layer_pattern" : "layer_types",
                      expected);
  }
  if (moe.size() != num_layers) {
    return json.wrong(json.has("moe_layer_freq") ? "moe_layer_freq" : "mlp_layer_types", expected);
  }
  US_ASSIGN(const LayerConfig full_layer, read_attention(json, nullptr));
  LayerConfig sliding_layer;
  if (std::find(sliding.begin(), sliding.end(), true) != sliding.end()) {
    US_ASSIGN(sliding_layer, read_attention(json, &full_layer));
    US_ASSIGN(sliding_layer.sliding_window, read_sliding_window(json));
  }
  std::vector<LayerConfig> layers;
  for (uint32_t i = 0; i < num_layers; ++i) {
    layers.push_back(sliding[i] ? sliding_layer : full_layer);
    layers.back().is_moe = moe[i];
  }
  return layers;
}

Status read_experts(const JsonObject& json, ModelConfig& config) {
  const auto is_moe = [](const LayerConfig& layer) { return layer.is_moe; };
  if (std::none_of(config.layers.begin(), config.layers.end(), is_moe)) return {};
  const std::string_view count_key =
      json.has("n_routed_experts") ? "n_routed_experts" : "num_local_experts";
  if (!json.has(count_key)) return json.missing("n_routed_experts");
  US_ASSIGN(config.num_experts, json.uint(count_key, 1, kMaxExperts));
  US_ASSIGN(config.num_experts_per_token, json.uint("num_experts_per_tok", 1, config.num_experts));
  US_ASSIGN(config.moe_intermediate_size,
            json.uint("moe_intermediate_size", 1, kMaxIntermediateSize));
  US_ASSIGN(const auto norm, json.optional_bool("norm_topk_prob"));
  config.norm_topk_prob = norm.value_or(true);
  US_ASSIGN(const auto scaling,
            json.optional_number("routed_scaling_factor", kMinPositive, kMaxScale));
  config.routed_scaling_factor = static_cast<float>(scaling.value_or(1.0));
  return check_mxfp4(json, config, "moe_intermediate_size");
}

// T of a fused qkv is the number of kv heads of the full layers: docs/weights_format.md section 2.
Status read_qkv_layout(const JsonObject& json, ModelConfig& config) {
  US_ASSIGN(config.qkv_chunks, json.uint("num_key_value_heads", 1, kMaxHeads));
  US_ASSIGN(const auto layout, json.optional_string("attention_projection_layout"));
  if (!layout || *layout == "split_qkv") return {};
  if (*layout != "fused_qkv") {
    return json.unsupported("attention_projection_layout",
                            "only \"fused_qkv\", \"split_qkv\" or none is");
  }
  config.qkv_layout = QkvLayout::kFused;
  for (const LayerConfig& layer : config.layers) {
    if (layer.num_q_heads % config.qkv_chunks != 0 || layer.num_kv_heads % config.qkv_chunks != 0) {
      return json.unsupported(
          "attention_projection_layout",
          fmt::format("the {} query and {} kv heads of a layer do not divide "
                      "into num_key_value_heads = {} chunks",
                      layer.num_q_heads, layer.num_kv_heads, config.qkv_chunks));
    }
  }
  return {};
}

}  // namespace

Status read_mimo(const JsonObject& json, ModelConfig& config) {
  US_TRY(check_supported(json));
  US_TRY(read_sizes(json, config));
  US_ASSIGN(config.layers, read_layers(json));
  US_ASSIGN(config.quantization, read_quantization(json));
  US_TRY(read_experts(json, config));
  return read_qkv_layout(json, config);
}

}  // namespace ultraspeed::model
