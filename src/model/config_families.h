// The families of config.json, each read into a ModelConfig that has its file and model_type, and
// what they share. Internal to model/.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/json_reader.h"

namespace ultraspeed::model {

// Errors: kInvalidData, kUnsupported, naming the key.
Status read_mimo(const JsonObject& json, ModelConfig& config);     // config_mimo.cc
Status read_llama(const JsonObject& json, ModelConfig& config);    // config_llama.cc
Status read_qwen3(const JsonObject& json, ModelConfig& config);    // config_qwen3.cc
Status read_gpt_oss(const JsonObject& json, ModelConfig& config);  // config_gpt_oss.cc

// The sizes that all families name alike.
Status read_sizes(const JsonObject& json, ModelConfig& config);

// MXFP4 experts, if the model has any, have whole scale blocks. inner_key: where their
// moe_intermediate_size stands.
Status check_mxfp4(const JsonObject& json, const ModelConfig& config, std::string_view inner_key);

// FP8 in blocks of 128 x 128, with or without MXFP4 experts; without the key nothing.
Result<QuantizationConfig> read_quantization(const JsonObject& json);

// transformers' usual keys (config_layers.cc): num_hidden_layers equal layers whose keys and values
// have one size and are rotated whole, some of them sliding where layer_types says so.
Result<std::vector<LayerConfig>> read_equal_layers(const JsonObject& json,
                                                   const ModelConfig& config);
// Whether such a key has the only value that is supported, or is absent.
Status check_flag(const JsonObject& json, std::string_view key, bool supported);
Status check_silu(const JsonObject& json);

// Biases of q_proj, k_proj, v_proj and o_proj: key attention_bias.
Status read_attention_bias(const JsonObject& json, ModelConfig& config);

}  // namespace ultraspeed::model
