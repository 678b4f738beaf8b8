// config.json of a DFlash drafter: a small Qwen3-shaped stack plus a dflash_config section.
#include <algorithm>

#include "model/config.h"
#include "model/config_limits.h"
#include "model/json_reader.h"

namespace ultraspeed::model {
namespace {

Status check_architecture(const JsonObject& json) {
  US_ASSIGN(const auto names, json.optional_strings("architectures"));
  if (!names) return json.missing("architectures");
  if (*names != std::vector<std::string>{"DFlashDraftModel"}) {
    return json.unsupported("architectures", "only [\"DFlashDraftModel\"] is");
  }
  US_ASSIGN(const auto activation, json.optional_string("hidden_act"));
  if (activation.value_or("silu") != "silu") {
    return json.unsupported("hidden_act", "only \"silu\" is");
  }
  US_ASSIGN(const auto bias, json.optional_bool("attention_bias"));
  if (bias.value_or(false)) return json.unsupported("attention_bias", "only false is");
  US_TRY(check_rope_type(json, "rope_scaling"));
  return check_rope_type(json, "rope_parameters");
}

Status read_attention(const JsonObject& json, DrafterConfig& config) {
  US_ASSIGN(config.num_q_heads, json.uint("num_attention_heads", 1, kMaxHeads));
  US_ASSIGN(config.num_kv_heads, json.uint("num_key_value_heads", 1, kMaxHeads));
  if (config.num_q_heads % config.num_kv_heads != 0) {
    return json.wrong("num_key_value_heads",
                      fmt::format("a divisor of the {} query heads", config.num_q_heads));
  }
  US_ASSIGN(config.head_dim, json.uint("head_dim", 1, kMaxHeadDim));
  US_ASSIGN(const auto v_head_dim, json.optional_uint("v_head_dim", 1, kMaxHeadDim));
  config.v_head_dim = v_head_dim.value_or(config.head_dim);
  US_ASSIGN(const auto factor, json.optional_number("partial_rotary_factor", kMinPositive, 1.0));
  config.rotary_dim = static_cast<uint32_t>(config.head_dim * factor.value_or(1.0));
  if (config.rotary_dim == 0 || config.rotary_dim % 2 != 0) {
    return json.wrong("partial_rotary_factor",
                      fmt::format("one that gives an even number of rotary dimensions: {} of {}",
                                  config.rotary_dim, config.head_dim));
  }
  US_ASSIGN(config.rope_theta, read_rope_theta(json));
  return {};
}

Status read_selector(const JsonObject& section, DrafterConfig::Selector& selector) {
  US_ASSIGN(const auto json, section.optional_object("selector"));
  if (!json) return {};
  US_ASSIGN(selector.rank, json->uint("rank", 1, kMaxSelectorRank));
  US_ASSIGN(selector.num_candidates, json->uint("candidates", 2, kMaxSelectorCandidates));
  US_ASSIGN(const auto form, json->optional_string("form"));
  if (!form) return json->missing("form");
  if (*form != "product") return json->unsupported("form", "only \"product\" is");
  return {};
}

Status read_dflash(const JsonObject& json, DrafterConfig& config) {
  US_ASSIGN(const auto section, json.optional_object("dflash_config"));
  if (!section) return json.missing("dflash_config");
  US_ASSIGN(const auto outer_block, json.optional_uint("block_size", 2, 1024));
  US_ASSIGN(const auto inner_block, section->optional_uint("block_size", 2, 1024));
  if (!outer_block && !inner_block) return json.missing("block_size");
  if (outer_block && inner_block && *outer_block != *inner_block) {
    return section->wrong("block_size", fmt::format("{}, as the outer key", *outer_block));
  }
  config.block_size = outer_block ? *outer_block : *inner_block;
  US_ASSIGN(config.mask_token_id, section->uint("mask_token_id", 0, kMaxVocabSize - 1));
  US_ASSIGN(config.num_target_layers, json.uint("num_target_layers", 1, kMaxLayers));
  US_ASSIGN(auto targets,
            section->optional_uints("target_layer_ids", 0, config.num_target_layers - 1));
  if (!targets) return section->missing("target_layer_ids");
  if (targets->empty() || std::adjacent_find(targets->begin(), targets->end(),
                                             std::greater_equal<>()) != targets->end()) {
    return section->wrong("target_layer_ids", "ascending layer numbers, at least one");
  }
  config.target_layer_ids = std::move(*targets);
  US_ASSIGN(const auto value_scale,
            section->optional_number("attention_value_scale", kMinPositive, kMaxScale));
  config.attention_value_scale = static_cast<float>(value_scale.value_or(1.0));
  US_ASSIGN(const auto has_sink, section->optional_bool("attention_sink_bias"));
  config.has_sink = has_sink.value_or(false);
  return read_selector(*section, config.selector);
}

// The windows of layers whose layer_types are `types`; without types all layers are alike.
Status read_windows(const JsonObject& json, const JsonObject& section,
                    const std::optional<std::vector<std::string>>& types, DrafterConfig& config) {
  US_ASSIGN(const auto outer_switch, json.optional_bool("use_sliding_window"));
  US_ASSIGN(const auto inner_switch, section.optional_bool("use_swa"));
  US_ASSIGN(const auto inner_window, section.optional_uint("swa_window_size", 1, kMaxPositions));
  US_ASSIGN(const auto outer_window, json.optional_uint("sliding_window", 1, kMaxPositions));
  config.layers.resize(config.num_layers);
  if (!inner_switch.value_or(outer_switch.value_or(true))) return {};
  config.has_window_before_anchor = inner_window.has_value();
  const uint32_t window = inner_window ? *inner_window : outer_window.value_or(0);
  for (uint32_t i = 0; i < config.num_layers; ++i) {
    const bool is_sliding = !types || (*types)[i] == "sliding_attention";
    if (is_sliding && types && window == 0) return json.missing("sliding_window");
    config.layers[i].sliding_window = is_sliding ? window : 0;
    config.sliding_window = std::max(config.sliding_window, config.layers[i].sliding_window);
  }
  return {};
}

Status read_masks(const JsonObject& json, DrafterConfig& config) {
  US_ASSIGN(const auto section, json.optional_object("dflash_config"));
  if (!section) return json.missing("dflash_config");
  US_ASSIGN(const auto types, json.optional_strings("layer_types"));
  if (types) {
    const bool are_known = std::all_of(types->begin(), types->end(), [](const auto& type) {
      return type == "sliding_attention" || type == "full_attention";
    });
    if (!are_known || types->size() != config.num_layers) {
      return json.wrong("layer_types", fmt::format("\"sliding_attention\" or \"full_attention\" "
                                                   "for each of the {} layers",
                                                   config.num_layers));
    }
  }
  US_TRY(read_windows(json, *section, types, config));
  US_ASSIGN(const auto outer, json.optional_bool("is_causal"));
  US_ASSIGN(const auto inner, section->optional_bool("causal"));
  for (uint32_t i = 0; i < config.num_layers; ++i) {
    const bool default_causal = types && (*types)[i] == "sliding_attention";
    config.layers[i].is_causal = outer.value_or(inner.value_or(default_causal));
  }
  return {};
}

}  // namespace

Result<DrafterConfig> DrafterConfig::parse(std::string_view file, std::string_view text) {
  US_ASSIGN(const JsonDocument document, JsonDocument::parse(file, text, TrailingCommas::kAccept));
  const JsonObject& json = document.root();
  DrafterConfig config;
  config.file = file;
  US_TRY(check_architecture(json));
  US_ASSIGN(config.hidden_size, json.uint("hidden_size", 1, kMaxHiddenSize));
  US_ASSIGN(config.intermediate_size, json.uint("intermediate_size", 1, kMaxIntermediateSize));
  US_ASSIGN(config.num_layers, json.uint("num_hidden_layers", 1, kMaxLayers));
  US_ASSIGN(config.vocab_size, json.uint("vocab_size", 1, kMaxVocabSize));
  US_ASSIGN(config.rms_norm_eps, read_rms_norm_eps(json));
  US_TRY(read_attention(json, config));
  US_TRY(read_dflash(json, config));
  US_TRY(read_masks(json, config));
  return config;
}

Result<DrafterConfig> DrafterConfig::load(const std::string& directory) {
  const std::string path = directory + "/config.json";
  US_ASSIGN(const std::string text, read_text_file(path, kMaxConfigBytes));
  return parse(path, text);
}

ModelConfig DrafterConfig::stack() const {
  ModelConfig stack;
  stack.file = file;
  stack.stack = Stack::kDflash;
  stack.hidden_size = hidden_size;
  stack.intermediate_size = intermediate_size;
  stack.rms_norm_eps = rms_norm_eps;
  stack.vocab_size = vocab_size;
  stack.attention_value_scale = attention_value_scale;
  stack.num_taps = static_cast<uint32_t>(target_layer_ids.size());
  stack.selector_rank = selector.rank;
  for (const Layer& drafter_layer : layers) {
    LayerConfig layer;
    layer.num_q_heads = num_q_heads;
    layer.num_kv_heads = num_kv_heads;
    layer.head_dim = head_dim;
    layer.v_head_dim = v_head_dim;
    layer.rotary_dim = rotary_dim;
    layer.rope.theta = rope_theta;
    layer.is_sliding = drafter_layer.sliding_window != 0;
    layer.sliding_window = drafter_layer.sliding_window;
    layer.has_sink = has_sink;
    layer.has_qk_norm = true;
    stack.layers.push_back(layer);
  }
  return stack;
}

uint64_t count_parameters(const DrafterConfig& config) {
  const uint64_t hidden = config.hidden_size;
  const uint64_t q_rows = uint64_t{config.num_q_heads} * config.head_dim;
  const uint64_t kv_rows =
      uint64_t{config.num_kv_heads} * (uint64_t{config.head_dim} + config.v_head_dim);
  const uint64_t output_size = uint64_t{config.num_q_heads} * config.v_head_dim;
  uint64_t layer =
      hidden * (q_rows + kv_rows + output_size) + 3 * hidden * config.intermediate_size;
  layer += 2 * hidden + 2 * config.head_dim;  // layer norms; q_norm and k_norm
  if (config.has_sink) layer += config.num_q_heads;
  const uint64_t feature_projection = hidden * hidden * config.target_layer_ids.size();
  const uint64_t selector = 3 * hidden * config.selector.rank;
  return feature_projection + 2 * hidden + layer * config.num_layers + selector;
}

}  // namespace ultraspeed::model
