#include "quantize/family.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/mapped_file.h"
#include "model/config.h"
#include "model/tensor_names.h"
#include "model/weights.h"

namespace ultraspeed::quantize {
namespace {

using nlohmann::ordered_json;

constexpr uint64_t kMaxConfigBytes = 16'000'000;
constexpr int kMaxConfigDepth = 64;
constexpr uint64_t kMaxCount = 100'000;  // of layers, of experts

std::string config_path(const model::Checkpoint& checkpoint) {
  return checkpoint.directory() + "/config.json";
}

Result<std::string> read_config(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (file.size_bytes() > kMaxConfigBytes) {
    return make_error(ErrorCode::kInvalidData, "{}: {} bytes; expected at most {}", path,
                      file.size_bytes(), kMaxConfigBytes);
  }
  std::string text(file.size_bytes(), '\0');
  US_TRY(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<ordered_json> parse_config(const std::string& path, const std::string& text) {
  bool is_too_deep = false;
  const auto watch_depth = [&](int depth, ordered_json::parse_event_t, ordered_json&) {
    is_too_deep |= depth > kMaxConfigDepth;
    return !is_too_deep;
  };
  auto json = ordered_json::parse(text, watch_depth, false);
  if (!is_too_deep && json.is_object()) return json;
  return make_error(ErrorCode::kInvalidData,
                    "{}: not a JSON object, or nested more than {} deep; expected a model's "
                    "configuration",
                    path, kMaxConfigDepth);
}

// The engine's own reading covers the rest of the file, the checkpoint and its quantisation.
Status read_mimo(const model::Checkpoint& checkpoint, Family* family) {
  US_ASSIGN(const auto config,
            model::ModelConfig::parse(config_path(checkpoint), family->config_text));
  US_TRY(model::WeightLoader(checkpoint, config).check_complete());
  family->qkv_grid = {checkpoint.tp_size().value_or(config.qkv_chunks),
                      config.qkv_layout == model::QkvLayout::kFused};
  family->keeps_output_projections = true;
  return {};
}

Status check_quantization(const std::string& path, const ordered_json& config) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || found->is_null()) return {};
  const auto block = ordered_json::array({128, 128});
  if (found->is_object() && found->value("quant_method", ordered_json()) == "fp8" &&
      found->value("weight_block_size", ordered_json()) == block) {
    return {};
  }
  return make_error(ErrorCode::kUnsupported,
                    "{}: key 'quantization_config' is {}; expected none, or quant_method \"fp8\" "
                    "with weight_block_size [128, 128]: quantise the original instead",
                    path, found->dump().substr(0, 200));
}

Result<uint64_t> read_count(const std::string& path, const ordered_json& config, const char* key) {
  const auto found = config.find(key);
  if (found != config.end() && found->is_number_unsigned()) {
    const auto count = found->get<uint64_t>();
    if (count >= 1 && count <= kMaxCount) return count;
  }
  return make_error(ErrorCode::kInvalidData, "{}: key '{}' is {}; expected 1 to {}", path, key,
                    found == config.end() ? "missing" : found->dump().substr(0, 200), kMaxCount);
}

// Fails for the first weight that is not there.
class Presence {
 public:
  explicit Presence(const model::Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  bool has(const std::string& module) const {
    return checkpoint_.find(module + std::string(model::kWeightSuffix)).has_value();
  }

  Status require(const std::string& module) const {
    if (has(module)) return {};
    return make_error(
        ErrorCode::kNotFound,
        "{}: no tensor '{}{}'; expected it by config.json: is the checkpoint complete?",
        checkpoint_.directory(), module, model::kWeightSuffix);
  }

  template <class NameOf>
  Status require_all(NameOf name_of, std::initializer_list<std::string_view> names) const {
    for (const std::string_view name : names) US_TRY(require(name_of(name)));
    return {};
  }

 private:
  const model::Checkpoint& checkpoint_;
};

Status require_layer(const Presence& presence, uint32_t layer, uint64_t num_experts) {
  const auto in_layer = [&](std::string_view name) { return model::layer_name(layer, name); };
  US_TRY(presence.require_all(
      in_layer, {model::kInputNormModule, model::kPostAttentionNormModule, model::kQModule,
                 model::kKModule, model::kVModule, model::kOModule}));
  // mlp_only_layers and decoder_sparse_step say which layers have experts; the router shows it.
  if (num_experts == 0 || !presence.has(in_layer(model::kRouterModule))) {
    return presence.require_all(
        in_layer, {model::kDenseGateModule, model::kDenseUpModule, model::kDenseDownModule});
  }
  for (uint32_t expert = 0; expert < num_experts; ++expert) {
    const auto in_expert = [&](std::string_view name) {
      return model::expert_name(layer, expert, name);
    };
    US_TRY(presence.require_all(
        in_expert, {model::kExpertGateModule, model::kExpertUpModule, model::kExpertDownModule}));
  }
  return {};
}

// Llama, Qwen3 and Qwen3-MoE, whose layers have the same names.
Status read_llama_like(const model::Checkpoint& checkpoint, const ordered_json& config,
                       const std::string& model_type) {
  const std::string path = config_path(checkpoint);
  US_TRY(check_quantization(path, config));
  US_ASSIGN(const uint64_t num_layers, read_count(path, config, "num_hidden_layers"));
  uint64_t num_experts = 0;
  if (model_type == "qwen3_moe") {
    // Published files say num_experts, newer ones of transformers num_local_experts.
    const char* key = config.contains("num_experts") ? "num_experts" : "num_local_experts";
    US_ASSIGN(num_experts, read_count(path, config, key));
  }
  const Presence presence(checkpoint);
  US_TRY(presence.require(std::string(model::kEmbeddingModule)));
  US_TRY(presence.require(std::string(model::kFinalNormModule)));
  const auto tied = config.find("tie_word_embeddings");
  if (tied == config.end() || *tied != true) {
    US_TRY(presence.require(std::string(model::kLmHeadModule)));
  }
  for (uint32_t layer = 0; layer < num_layers; ++layer) {
    US_TRY(require_layer(presence, layer, num_experts));
  }
  return {};
}

}  // namespace

Result<Family> read_family(const model::Checkpoint& checkpoint) {
  const std::string path = config_path(checkpoint);
  Family family;
  US_ASSIGN(family.config_text, read_config(path));
  US_ASSIGN(const ordered_json config, parse_config(path, family.config_text));
  const auto type = config.find("model_type");
  if (type != config.end() && type->is_string()) family.model_type = type->get<std::string>();
  if (family.model_type == "mimo_v2" || family.model_type == "mimo_v2_flash") {
    US_TRY(read_mimo(checkpoint, &family));
    return family;
  }
  if (family.model_type == "llama" || family.model_type == "qwen3" ||
      family.model_type == "qwen3_moe") {
    US_TRY(read_llama_like(checkpoint, config, family.model_type));
    return family;
  }
  if (family.model_type == "gpt_oss") {
    return make_error(
        ErrorCode::kUnsupported,
        "{}: key 'model_type' is \"gpt_oss\", whose published checkpoints hold MXFP4 "
        "experts already, in a layout of their own: there is nothing to quantise; BF16 "
        "ones are not supported",
        path);
  }
  return make_error(ErrorCode::kUnsupported,
                    "{}: key 'model_type' is {}; expected \"mimo_v2\", \"mimo_v2_flash\", "
                    "\"qwen3_moe\", \"qwen3\" or \"llama\"",
                    path, type == config.end() ? "missing" : type->dump().substr(0, 200));
}

Result<std::string> quantized_config(const Family& family, const QuantizedForm& form) {
  US_ASSIGN(ordered_json config, parse_config("config.json", family.config_text));
  ordered_json quantization = {{"quant_method", "fp8"},
                               {"fmt", "e4m3"},
                               {"activation_scheme", "dynamic"},
                               {"weight_block_size", {128, 128}}};
  if (form.has_mxfp4_experts) {
    quantization["store_dtype"] = "mxfp4";
    quantization["mxfp4_block_size"] = 32;
  }
  quantization["ignored_layers"] = form.ignored_layers;
  config["quantization_config"] = std::move(quantization);
  const auto replace = ordered_json::error_handler_t::replace;
  return config.dump(2, ' ', false, replace) + "\n";
}

}  // namespace ultraspeed::quantize
