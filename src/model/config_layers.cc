// The layers of models that follow transformers' usual keys, and their rotary embedding.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "model/config_families.h"
#include "model/config_limits.h"

namespace ultraspeed::model {
namespace {

using tensor::Rope;

constexpr double kMaxRopeFactor = 1e6;

Result<std::string> rope_type(const JsonObject& section) {
  for (const std::string_view key : {"rope_type", "type"}) {
    US_ASSIGN(const auto type, section.optional_string(key));
    if (!type) continue;
    if (*type == "default" || *type == "llama3" || *type == "yarn") return *type;
    return section.unsupported(key, "only \"default\", \"llama3\" and \"yarn\" are");
  }
  return std::string("default");
}

Status read_llama3(const JsonObject& section, Rope& rope) {
  rope.scaling = Rope::Scaling::kLlama3;
  US_ASSIGN(const double slow, section.number("low_freq_factor", kMinPositive, kMaxRopeFactor));
  US_ASSIGN(const double fast, section.number("high_freq_factor", kMinPositive, kMaxRopeFactor));
  if (!(slow < fast)) return section.wrong("high_freq_factor", "more than low_freq_factor");
  US_ASSIGN(const uint32_t positions,
            section.uint("original_max_position_embeddings", 1, kMaxPositions));
  rope.ramp_slow = static_cast<float>(slow);
  rope.ramp_fast = static_cast<float>(fast);
  rope.original_positions = static_cast<float>(positions);
  return {};
}

// transformers' _compute_yarn_parameters: the ramp lies between the pairs that turn beta_fast and
// beta_slow times within the original context.
Status read_yarn(const JsonObject& section, uint32_t rotary_dim, Rope& rope) {
  rope.scaling = Rope::Scaling::kYarn;
  US_ASSIGN(const uint32_t positions,
            section.uint("original_max_position_embeddings", 1, kMaxPositions));
  US_ASSIGN(const auto beta_fast, section.optional_number("beta_fast", kMinPositive, 1e6));
  US_ASSIGN(const auto beta_slow, section.optional_number("beta_slow", kMinPositive, 1e6));
  US_ASSIGN(const auto truncate, section.optional_bool("truncate"));
  for (const std::string_view key : {"mscale", "mscale_all_dim"}) {
    if (section.has(key)) return section.unsupported(key, "none is");
  }
  const auto pair_that_turns = [&](double turns) {
    return rotary_dim * std::log(positions / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(static_cast<double>(rope.theta)));
  };
  double fast = pair_that_turns(beta_fast.value_or(32));
  double slow = pair_that_turns(beta_slow.value_or(1));
  if (truncate.value_or(true)) {
    fast = std::floor(fast);
    slow = std::ceil(slow);
  }
  fast = std::max(fast, 0.0);
  slow = std::min(slow, rotary_dim - 1.0);
  if (fast == slow) slow += 0.001;
  rope.ramp_fast = static_cast<float>(fast);
  rope.ramp_slow = static_cast<float>(slow);
  US_ASSIGN(const auto factor, section.optional_number("attention_factor", kMinPositive, 1e3));
  const double usual = rope.factor > 1 ? 0.1 * std::log(static_cast<double>(rope.factor)) + 1 : 1;
  rope.attention_factor = static_cast<float>(factor.value_or(usual));
  return {};
}

Result<Rope> read_rope(const JsonObject& json, uint32_t rotary_dim) {
  // Newer files have rope_parameters for the scaling, too, older ones rope_scaling.
  US_ASSIGN(const auto parameters, json.optional_object("rope_parameters"));
  US_ASSIGN(const auto scaling, json.optional_object("rope_scaling"));
  const auto& section = parameters ? parameters : scaling;
  Rope rope;
  US_ASSIGN(rope.theta, read_rope_theta(json));
  if (!section) return rope;
  US_ASSIGN(const std::string type, rope_type(*section));
  if (type == "default") return rope;
  if (rope.theta <= 1) return json.wrong("rope_theta", "more than 1, for its scaling");
  US_ASSIGN(const double factor, section->number("factor", kMinPositive, kMaxRopeFactor));
  rope.factor = static_cast<float>(factor);
  US_TRY(type == "llama3" ? read_llama3(*section, rope) : read_yarn(*section, rotary_dim, rope));
  return rope;
}

Result<LayerConfig> read_heads(const JsonObject& json, const ModelConfig& config) {
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
  US_ASSIGN(layer.rope, read_rope(json, layer.rotary_dim));
  return layer;
}

}  // namespace

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

Status read_attention_bias(const JsonObject& json, ModelConfig& config) {
  US_ASSIGN(const auto has_bias, json.optional_bool("attention_bias"));
  config.has_attention_biases = has_bias.value_or(false);
  return {};
}

Result<std::vector<LayerConfig>> read_equal_layers(const JsonObject& json,
                                                   const ModelConfig& config) {
  US_ASSIGN(const uint32_t num_layers, json.uint("num_hidden_layers", 1, kMaxLayers));
  US_ASSIGN(const LayerConfig heads, read_heads(json, config));
  std::vector<LayerConfig> layers(num_layers, heads);
  US_ASSIGN(const auto types, json.optional_strings("layer_types"));
  if (!types) return layers;
  if (types->size() != num_layers) {
    return json.wrong("layer_types", fmt::format("{} entries, one a layer", num_layers));
  }
  for (uint32_t i = 0; i < num_layers; ++i) {
    const std::string& type = (*types)[i];
    if (type != "sliding_attention" && type != "full_attention") {
      return json.wrong("layer_types",
                        "\"full_attention\" or \"sliding_attention\" for every layer");
    }
    layers[i].is_sliding = type == "sliding_attention";
    if (!layers[i].is_sliding) continue;
    US_ASSIGN(layers[i].sliding_window, json.uint("sliding_window", 1, kMaxPositions));
  }
  return layers;
}

}  // namespace ultraspeed::model
