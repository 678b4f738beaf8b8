#include "model/config.h"

#include <algorithm>
#include <array>
#include <optional>

#include "model/config_families.h"
#include "model/config_limits.h"
#include "model/json_reader.h"

namespace ultraspeed::model {
namespace {

struct Family {
  std::string_view model_type;
  Status (*read)(const JsonObject& json, ModelConfig& config);
};
constexpr std::array kFamilies = {
    Family{"mimo_v2", read_mimo},    Family{"mimo_v2_flash", read_mimo},
    Family{"llama", read_llama},     Family{"qwen3", read_qwen3},
    Family{"qwen3_moe", read_qwen3}, Family{"gpt_oss", read_gpt_oss},
};

}  // namespace

Result<QuantizationConfig> read_quantization(const JsonObject& json) {
  QuantizationConfig result;
  US_ASSIGN(const auto section, json.optional_object("quantization_config"));
  if (!section) return result;
  US_ASSIGN(const auto method, section->optional_string("quant_method"));
  if (!method) return section->missing("quant_method");
  if (*method != "fp8") return section->unsupported("quant_method", "only \"fp8\" is");
  US_ASSIGN(const auto fmt_name, section->optional_string("fmt"));
  if (fmt_name.value_or("e4m3") != "e4m3") return section->unsupported("fmt", "only \"e4m3\" is");
  US_ASSIGN(const auto block, section->optional_uints("weight_block_size", 1, 1U << 20));
  if (!block) return section->missing("weight_block_size");
  if (*block != std::vector<uint32_t>{128, 128}) {
    return section->unsupported("weight_block_size", "only [128, 128] is");
  }
  result.has_fp8_linears = true;
  US_ASSIGN(const auto store_dtype, section->optional_string("store_dtype"));
  if (store_dtype.has_value()) {
    if (*store_dtype != "mxfp4") return section->unsupported("store_dtype", "only \"mxfp4\" is");
    result.has_mxfp4_experts = true;
  }
  US_ASSIGN(const auto mx_block, section->optional_uint("mxfp4_block_size", 1, 1U << 20));
  if (mx_block.value_or(32) != 32) return section->unsupported("mxfp4_block_size", "only 32 is");
  for (const std::string_view key : {"ignored_layers", "modules_to_not_convert"}) {
    US_ASSIGN(auto names, section->optional_strings(key));
    if (names) std::move(names->begin(), names->end(), std::back_inserter(result.ignored_layers));
  }
  std::sort(result.ignored_layers.begin(), result.ignored_layers.end());
  return result;
}

Status read_sizes(const JsonObject& json, ModelConfig& config) {
  US_ASSIGN(config.hidden_size, json.uint("hidden_size", 1, kMaxHiddenSize));
  US_ASSIGN(config.intermediate_size, json.uint("intermediate_size", 1, kMaxIntermediateSize));
  US_ASSIGN(config.vocab_size, json.uint("vocab_size", 1, kMaxVocabSize));
  US_ASSIGN(config.max_position_embeddings, json.uint("max_position_embeddings", 1, kMaxPositions));
  US_ASSIGN(config.rms_norm_eps, read_rms_norm_eps(json));
  US_ASSIGN(const auto value_scale,
            json.optional_number("attention_value_scale", kMinPositive, kMaxScale));
  config.attention_value_scale = static_cast<float>(value_scale.value_or(1.0));
  US_ASSIGN(const auto tied, json.optional_bool("tie_word_embeddings"));
  config.tie_word_embeddings = tied.value_or(false);
  US_ASSIGN(const auto mtp, json.optional_uint("num_nextn_predict_layers", 0, kMaxLayers));
  config.num_mtp_layers = mtp.value_or(0);
  US_ASSIGN(auto eos, json.optional_uints("eos_token_id", 0, config.vocab_size - 1));
  if (eos) config.eos_token_ids = std::move(*eos);
  return {};
}

Status check_mxfp4(const JsonObject& json, const ModelConfig& config, std::string_view inner_key) {
  if (!config.quantization.has_mxfp4_experts) return {};
  for (const auto& [key, size] : {std::pair(std::string_view("hidden_size"), config.hidden_size),
                                  std::pair(inner_key, config.moe_intermediate_size)}) {
    if (size % 32 != 0) return json.unsupported(key, "MXFP4 experts need a multiple of 32");
  }
  return {};
}

bool QuantizationConfig::is_ignored(std::string_view module) const {
  return std::binary_search(ignored_layers.begin(), ignored_layers.end(), module);
}

Result<ModelConfig> ModelConfig::parse(std::string_view file, std::string_view json_text) {
  US_ASSIGN(const JsonDocument document, JsonDocument::parse(file, json_text));
  const JsonObject& json = document.root();
  ModelConfig config;
  config.file = file;
  US_ASSIGN(auto model_type, json.optional_string("model_type"));
  if (!model_type) return json.missing("model_type");
  config.model_type = std::move(*model_type);
  if (json.has("dflash_config")) {
    return json.unsupported("dflash_config",
                            "only a target's file is, which has none; a drafter "
                            "goes to --drafter");
  }
  for (const Family& family : kFamilies) {
    if (config.model_type != family.model_type) continue;
    US_TRY(family.read(json, config));
    return config;
  }
  std::string known;
  for (const Family& family : kFamilies) {
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", family.model_type);
  }
  return json.unsupported("model_type", fmt::format("these are: {}", known));
}

Result<ModelConfig> ModelConfig::load(const std::string& directory) {
  const std::string path = directory + "/config.json";
  US_ASSIGN(const std::string text, read_text_file(path, kMaxConfigBytes));
  return parse(path, text);
}

Result<ModelConfig> ModelConfig::mtp_stack(uint32_t num_heads) const {
  const auto sliding = std::find_if(layers.begin(), layers.end(),
                                    [](const LayerConfig& layer) { return layer.is_sliding; });
  if (sliding == layers.end()) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: no sliding layers, whose heads and window MTP layers have", file);
  }
  ModelConfig heads = *this;
  heads.stack = Stack::kMtp;
  heads.layers.assign(num_heads, *sliding);
  for (LayerConfig& layer : heads.layers) layer.is_moe = false;
  return heads;
}

namespace {

// Biases of projections and of so many experts in each layer of experts.
uint64_t count_biases(const ModelConfig& config, uint64_t experts_a_layer) {
  const uint64_t hidden = config.hidden_size;
  uint64_t count = 0;
  for (const LayerConfig& layer : config.layers) {
    if (config.has_attention_biases) count += layer.qkv_rows() + hidden;
    if (config.has_expert_biases && layer.is_moe) {
      count += experts_a_layer * (2 * config.moe_intermediate_size + hidden);
    }
  }
  return count;
}

}  // namespace

ParameterCount count_parameters(const ModelConfig& config) {
  const uint64_t hidden = config.hidden_size;
  ParameterCount count;
  uint64_t shared = (config.tie_word_embeddings ? 1 : 2) * config.vocab_size * hidden + hidden;
  for (const LayerConfig& layer : config.layers) {
    shared += hidden * (layer.qkv_rows() + layer.attention_output_size()) + 2 * hidden;
    if (layer.has_sink) shared += layer.num_q_heads;
    if (layer.has_qk_norm) shared += 2 * layer.head_dim;
    if (!layer.is_moe) {
      shared += 3 * hidden * config.intermediate_size;
      continue;
    }
    const uint64_t expert = 3 * hidden * config.moe_intermediate_size;
    shared += (hidden + (config.has_router_bias ? 1 : 0)) * config.num_experts;
    count.total += expert * config.num_experts;
    count.active += expert * config.num_experts_per_token;
  }
  count.total += shared + count_biases(config, config.num_experts);
  count.active += shared + count_biases(config, config.num_experts_per_token);
  return count;
}

}  // namespace ultraspeed::model
