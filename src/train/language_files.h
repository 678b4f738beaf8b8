// A language model of the MiMo-V2 family that is trained here: its shape, and the config.json that
// the engine reads.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "model/config.h"

namespace ultraspeed::train {

inline constexpr uint32_t kMaxPositions = 8192;  // of a text

struct LanguageShape {
  uint32_t vocab_size = 0;  // 0: that of the token file
  uint32_t hidden_size = 256;
  uint32_t num_layers = 6;
  uint32_t num_dense_layers = 1;  // the first ones; the others have experts
  uint32_t intermediate_size = 768;
  uint32_t num_experts = 32;
  uint32_t num_experts_per_token = 4;
  uint32_t moe_intermediate_size = 128;
  uint32_t num_q_heads = 4;
  uint32_t num_kv_heads = 2;
  uint32_t head_dim = 96;
  uint32_t v_head_dim = 64;
  uint32_t rotary_dim = 32;
  uint32_t sliding_window = 128;
  uint32_t full_every = 3;  // layers 0, 3, 6, ... see everything; the others a window, with sinks
  float rope_theta = 5e6F;
  float sliding_rope_theta = 1e4F;
  uint32_t eos_token_id = 0;
};

// Errors: kInvalidArgument for what is no model, naming the flags; MXFP4 must be able to hold the
// experts.
Status check_shape(const LanguageShape& shape);

// REQUIRES: check_shape.
model::ModelConfig language_config(const LanguageShape& shape);

// Of a BF16 checkpoint. REQUIRES: of language_config.
std::string language_config_json(const model::ModelConfig& config);

}  // namespace ultraspeed::train
