#include "support/drafter_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "support/random_tensors.h"
#include "support/torch_archive_writer.h"
#include "tensor/bf16.h"

namespace ultraspeed::test {
namespace {

using tensor::WeightFormat;

class DrafterGenerator {
 public:
  explicit DrafterGenerator(const DrafterOptions& options)
      : options_(options), random_(options.seed) {}

  GeneratedDrafter generate() {
    const uint32_t hidden = options_.hidden_size;
    matrix("fc", hidden, static_cast<uint32_t>(options_.target_layer_ids.size()) * hidden);
    norm("hidden_norm", hidden);
    norm("norm", hidden);
    for (uint32_t i = 0; i < options_.num_layers; ++i) layer(fmt::format("layers.{}.", i));
    if (options_.is_mimo) {
      std::vector<StoredTensor> elsewhere;
      result_.mask_embedding =
          random_.vector("mask", hidden, WeightFormat::kBf16, 0.0F, 0.5F, elsewhere).values;
    }
    if (options_.selector_rank != 0) selector();
    return std::move(result_);
  }

 private:
  void layer(const std::string& prefix) {
    const uint32_t hidden = options_.hidden_size;
    const uint32_t inner = options_.intermediate_size;
    const uint32_t q_rows = options_.num_q_heads * options_.head_dim;
    const uint32_t kv_rows = options_.num_kv_heads * options_.head_dim;
    norm(prefix + "input_layernorm", hidden);
    norm(prefix + "post_attention_layernorm", hidden);
    const std::string attention = prefix + "self_attn.";
    matrix(attention + "q_proj", q_rows, hidden);
    matrix(attention + "k_proj", kv_rows, hidden);
    matrix(attention + "v_proj", kv_rows, hidden);
    matrix(attention + "o_proj", hidden, q_rows);
    norm(attention + "q_norm", options_.head_dim);
    norm(attention + "k_norm", options_.head_dim);
    if (options_.is_mimo) vector(attention + "attention_sink_bias", options_.num_q_heads, 0.8F);
    matrix(prefix + "mlp.gate_proj", inner, hidden);
    matrix(prefix + "mlp.up_proj", inner, hidden);
    matrix(prefix + "mlp.down_proj", hidden, inner);
  }

  void matrix(const std::string& module, uint32_t rows, uint32_t columns) {
    DenseWeight& weight = result_.weights[module + ".weight"] =
        random_.matrix(module, rows, columns, WeightFormat::kBf16, 1, result_.tensors);
    const bool is_output = module.ends_with("o_proj") || module.ends_with("down_proj");
    if (!options_.is_silent || !is_output) return;
    std::ranges::fill(weight.values, 0.0F);
    std::ranges::fill(result_.tensors.back().bytes, std::byte(0));
  }
  // Behind all else, so that the rest is as without. The tables' rows are of length 1 or so.
  void selector() {
    constexpr float kLarger = 16;
    for (const char* name : {"predecessor_proj", "successor_proj", "hidden_proj"}) {
      const std::string module = std::string("selector.") + name;
      matrix(module, options_.selector_rank, options_.hidden_size);
      if (module.ends_with("hidden_proj")) continue;
      std::vector<std::byte>& bytes = result_.tensors.back().bytes;
      std::vector<float>& values = result_.weights.at(module + ".weight").values;
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] *= kLarger;
        const uint16_t code = tensor::bf16_from_float(values[i]);
        std::memcpy(&bytes[i * sizeof(code)], &code, sizeof(code));
      }
    }
  }
  void norm(const std::string& module, uint32_t size) { vector(module + ".weight", size, 1.0F); }
  void vector(const std::string& name, uint32_t size, float mean) {
    result_.weights[name] =
        random_.vector(name, size, WeightFormat::kBf16, mean, 0.2F, result_.tensors);
  }

  const DrafterOptions& options_;
  RandomTensors random_;
  GeneratedDrafter result_;
};

template <class Value>
std::string list_json(const std::vector<Value>& values, const char* quote) {
  std::string json;
  for (const Value& value : values) {
    json += fmt::format("{}{}{}{}", json.empty() ? "[" : ", ", quote, value, quote);
  }
  return json + "]";
}

}  // namespace

DrafterOptions tiny_mimo_drafter() {
  DrafterOptions options;
  options.hidden_size = 512;
  options.num_layers = 2;
  options.vocab_size = 12288;
  options.num_target_layers = 8;
  options.target_layer_ids = {0, 4, 7};
  return options;
}

std::string config_json(const DrafterOptions& options) {
  std::string json = fmt::format(
      R"({{"architectures": ["DFlashDraftModel"], "hidden_size": {}, "intermediate_size": {},
  "num_hidden_layers": {}, "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
  "vocab_size": {}, "block_size": {}, "num_target_layers": {}, "rope_theta": 10000,
  "rms_norm_eps": 1e-05, "sliding_window": {}, )",
      options.hidden_size, options.intermediate_size, options.num_layers, options.num_q_heads,
      options.num_kv_heads, options.head_dim, options.vocab_size, options.block_size,
      options.num_target_layers, options.sliding_window);
  if (!options.layer_types.empty()) {
    json += fmt::format(R"("layer_types": {}, )", list_json(options.layer_types, "\""));
  }
  if (options.is_causal) json += fmt::format(R"("is_causal": {}, )", *options.is_causal);
  if (options.is_mimo) json += R"("partial_rotary_factor": 0.5, )";
  json += fmt::format(R"("dflash_config": {{"target_layer_ids": {}, "mask_token_id": {})",
                      list_json(options.target_layer_ids, ""), options.mask_token_id);
  if (options.is_mimo) {
    json += fmt::format(
        R"(, "use_swa": true, "swa_window_size": {}, "backbone_rotary_base": 5000000,
    "attention_value_scale": 0.612, "attention_sink_bias": true)",
        options.sliding_window);
  }
  if (options.selector_rank != 0) {
    json += fmt::format(R"(, "selector": {{"form": "product", "rank": {}, "candidates": 16}})",
                        options.selector_rank);
  }
  return json + "}}\n";
}

Result<GeneratedDrafter> write_drafter(const std::string& directory,
                                       const DrafterOptions& options) {
  GeneratedDrafter drafter = DrafterGenerator(options).generate();
  US_TRY(write_file(directory + "/config.json", config_json(options)));
  US_TRY(write_checkpoint_files(directory, drafter.tensors, 1, {{"format", "pt"}}));
  if (!drafter.mask_embedding.empty()) {
    std::vector<uint16_t> codes;
    for (const float value : drafter.mask_embedding) {
      codes.push_back(tensor::bf16_from_float(value));
    }
    US_TRY(write_file(directory + "/mask_embedding.pt",
                      mask_embedding_file(options.mask_token_id, codes)));
  }
  return drafter;
}

}  // namespace ultraspeed::test
