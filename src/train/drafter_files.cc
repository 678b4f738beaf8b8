#include "train/drafter_files.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kBlock = 128;        // rows and columns of an FP8 scale
constexpr size_t kHeaderAlignment = 8;  // of what follows a safetensors header

// The shortest text that reads as the same float.
std::string number_json(float value) {
  return fmt::format("{}", value);
}

template <class Value>
std::string list_json(const std::vector<Value>& values) {
  std::string json;
  for (const Value& value : values) json += fmt::format("{}{}", json.empty() ? "" : ", ", value);
  return "[" + json + "]";
}

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
    "selector": {{"form": "{}", "rank": {}, "candidates": {}}})",
                        tensor::selector_form_name(selector.form), selector.rank,
                        selector.num_candidates);
  }
  return json + "\n  }";
}

// A safetensors file being put together.
class WeightsFile {
 public:
  void add(const std::string& name, const char* dtype, const std::vector<uint64_t>& shape,
           std::string_view bytes) {
    header_ +=
        fmt::format(R"(, "{}": {{"dtype": "{}", "shape": {}, "data_offsets": [{}, {}]}})", name,
                    dtype, list_json(shape), data_.size(), data_.size() + bytes.size());
    data_ += bytes;
  }

  std::string finish() const {
    std::string header = header_ + "}";
    header.append((kHeaderAlignment - header.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
    std::string file;
    append(&file, uint64_t{header.size()});
    return file + header + data_;
  }

 private:
  std::string header_ = R"({"__metadata__": {"format": "pt"})", data_;
};

void add_bf16(const ExportedTensor& tensor, WeightsFile* file) {
  std::string bytes;
  for (const float value : tensor.values) append(&bytes, tensor::bf16_from_float(value));
  file->add(tensor.name, "BF16", tensor.shape, bytes);
}

void add_fp8(const ExportedTensor& tensor, WeightsFile* file) {
  const uint64_t rows = tensor.shape[0], columns = tensor.shape[1];
  const uint64_t row_blocks = (rows + kBlock - 1) / kBlock;
  const uint64_t column_blocks = (columns + kBlock - 1) / kBlock;
  std::vector<float> scales(row_blocks * column_blocks, 0.0F);
  for (uint64_t i = 0; i < tensor.values.size(); ++i) {
    float& scale = scales[i / columns / kBlock * column_blocks + i % columns / kBlock];
    scale = std::max(scale, std::abs(tensor.values[i]));
  }
  for (float& scale : scales) scale = tensor::e4m3_weight_scale(scale);
  std::string codes;
  for (uint64_t i = 0; i < tensor.values.size(); ++i) {
    const float scale = scales[i / columns / kBlock * column_blocks + i % columns / kBlock];
    append(&codes, tensor::e4m3_from_float(tensor.values[i] / scale));
  }
  file->add(tensor.name, "F8_E4M3", tensor.shape, codes);
  file->add(tensor.name + "_scale_inv", "F32", {row_blocks, column_blocks},
            {reinterpret_cast<const char*>(scales.data()), scales.size() * sizeof(float)});
}

Status write_file(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) return make_error(ErrorCode::kIo, "{}: cannot write", path);
  return {};
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

Status write_drafter_weights(const std::string& path, std::span<const ExportedTensor> tensors,
                             LinearFormat format) {
  WeightsFile file;
  for (const ExportedTensor& tensor : tensors) {
    uint64_t count = 1;
    for (const uint64_t size : tensor.shape) count *= size;
    US_CHECK(count == tensor.values.size(), "{} has {} values", tensor.name, tensor.values.size());
    if (!std::ranges::all_of(tensor.values, [](float value) { return std::isfinite(value); })) {
      return make_error(ErrorCode::kInvalidData, "{}: '{}' has a number that is not finite", path,
                        tensor.name);
    }
    const bool is_fp8 = format == LinearFormat::kFp8 && tensor.shape.size() == 2 &&
                        !tensor.name.starts_with("selector.");
    is_fp8 ? add_fp8(tensor, &file) : add_bf16(tensor, &file);
  }
  return write_file(path, file.finish());
}

Status write_drafter_folder(const std::string& directory, const model::DrafterConfig& config,
                            std::span<const ExportedTensor> tensors,
                            std::span<const float> mask_embedding, LinearFormat format) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return make_error(ErrorCode::kIo, "{}: cannot make the folder: {}", directory, error.message());
  }
  US_TRY(write_file(directory + "/config.json", drafter_config_json(config, format)));
  US_TRY(write_drafter_weights(directory + "/model.safetensors", tensors, format));
  return write_mask_embedding(directory + "/mask_embedding.pt", config.mask_token_id,
                              mask_embedding);
}

}  // namespace ultraspeed::train
