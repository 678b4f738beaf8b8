#include "train/drafter_files.h"

#include <string>

#include "base/check.h"
#include "train/output_files.h"

namespace ultraspeed::train {
namespace {

std::string layers_json(const model::DrafterConfig& config) {
  std::vector<std::string> types;
  for (const auto& layer : config.layers) {
    types.push_back(layer.sliding_window != 0 ? "\"sliding_attention\"" : "\"full_attention\"");
  }
  return list_json(types);
}

std::string dflash_json(const model::DrafterConfig& config) {
  std::string json = fmt::format(
      R"({{
    "target_layer_ids": {},
    "mask_token_id": {},
    "block_size": {},
    "attention_value_scale": {},
    "attention_sink_bias": {})",
      list_json(config.target_layer_ids), config.mask_token_id, config.block_size,
      number_json(config.attention_value_scale), config.has_sink);
  if (config.sliding_window != 0) {
    json += fmt::format(R"(,
    "use_swa": true,
    "swa_window_size": {})",
                        config.sliding_window);
  }
  const model::DrafterConfig::Selector& selector = config.selector;
  if (selector.rank != 0) {
    json += fmt::format(R"(,
    "selector": {{"form": "product", "rank": {}, "candidates": {}}})",
                        selector.rank, selector.num_candidates);
  }
  return json + "\n  }";
}

}  // namespace

std::string drafter_config_json(const model::DrafterConfig& config, LinearFormat format) {
  const float rotary_share =
      static_cast<float>(config.rotary_dim) / static_cast<float>(config.head_dim);
  US_CHECK(static_cast<uint32_t>(static_cast<double>(config.head_dim) *
                                 std::stod(number_json(rotary_share))) == config.rotary_dim,
           "{} of {} rotary dimensions", config.rotary_dim, config.head_dim);
  std::string json = fmt::format(
      R"({{
  "architectures": ["DFlashDraftModel"],
  "model_type": "qwen3",
  "hidden_size": {},
  "intermediate_size": {},
  "num_hidden_layers": {},
  "num_attention_heads": {},
  "num_key_value_heads": {},
  "head_dim": {},
  "v_head_dim": {},
  "partial_rotary_factor": {},
  "rope_theta": {},
  "rms_norm_eps": {},
  "hidden_act": "silu",
  "attention_bias": false,
  "is_causal": false,
  "layer_types": {},
  "vocab_size": {},
  "block_size": {},
  "num_target_layers": {},
  "tie_word_embeddings": false,
  "dtype": "bfloat16",
)",
      config.hidden_size, config.intermediate_size, config.num_layers, config.num_q_heads,
      config.num_kv_heads, config.head_dim, config.v_head_dim, number_json(rotary_share),
      number_json(config.rope_theta), number_json(config.rms_norm_eps), layers_json(config),
      config.vocab_size, config.block_size, config.num_target_layers);
  if (config.sliding_window != 0) {
    json += fmt::format("  \"sliding_window\": {},\n", config.sliding_window);
  }
  if (format == LinearFormat::kFp8) {
    json +=
        "  \"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", "
        "\"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]},\n";
  }
  return json + fmt::format("  \"dflash_config\": {}\n}}\n", dflash_json(config));
}

Result<std::string> drafter_weights(const std::string& path,
                                    std::span<const ExportedTensor> tensors, LinearFormat format) {
  WeightsFile file;
  for (const ExportedTensor& tensor : tensors) {
    US_TRY(check_exportable(path, tensor));
    const bool is_fp8 = format == LinearFormat::kFp8 && tensor.shape.size() == 2 &&
                        !tensor.name.starts_with("selector.");
    is_fp8 ? file.add_fp8(tensor) : file.add_bf16(tensor);
  }
  return file.finish();
}

Status write_drafter_folder(const std::string& directory, const model::DrafterConfig& config,
                            std::span<const ExportedTensor> tensors,
                            std::span<const float> mask_embedding, LinearFormat format) {
  constexpr std::string_view kWeights = "model.safetensors", kMask = "mask_embedding.pt";
  US_ASSIGN(FolderWriter folder, FolderWriter::create(directory));
  US_ASSIGN(const std::string weights, drafter_weights(folder.path(kWeights), tensors, format));
  US_ASSIGN(const std::string mask,
            mask_embedding_file(folder.path(kMask), config.mask_token_id, mask_embedding));
  US_TRY(folder.write("config.json", drafter_config_json(config, format)));
  US_TRY(folder.write(kWeights, weights));
  US_TRY(folder.write(kMask, mask));
  return folder.finish();
}

}  // namespace ultraspeed::train
