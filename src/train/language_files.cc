#include "train/language_files.h"

#include <fmt/format.h>

#include <vector>

#include "base/check.h"
#include "tensor/mxfp4.h"
#include "train/weights_file.h"

namespace ultraspeed::train {
namespace {

constexpr float kEpsilon = 1e-5F;
constexpr float kValueScale = 0.707F;

tl::unexpected<Error> no_model(const char* what) {
  return make_error(ErrorCode::kInvalidArgument, "{}", what);
}

std::string pattern_json(const model::ModelConfig& config, bool model::LayerConfig::*member) {
  std::vector<int> pattern;
  for (const model::LayerConfig& layer : config.layers) pattern.push_back(layer.*member ? 1 : 0);
  return list_json(pattern);
}

// A number of which int(head_dim * number) is rotary_dim again.
std::string rotary_share_json(const model::LayerConfig& layer) {
  const double exact = static_cast<double>(layer.rotary_dim) / layer.head_dim;
  std::string json = fmt::format("{:.4f}", exact + 5e-4);
  if (layer.rotary_dim == layer.head_dim) json = "1.0";
  US_CHECK(static_cast<uint32_t>(std::stod(json) * layer.head_dim) == layer.rotary_dim,
           "{} of {} rotary dimensions", layer.rotary_dim, layer.head_dim);
  return json;
}

// The two kinds of layers; the other one's numbers where a model has one alone.
const model::LayerConfig& layer_of(const model::ModelConfig& config, bool is_sliding) {
  for (const model::LayerConfig& layer : config.layers) {
    if (layer.is_sliding == is_sliding) return layer;
  }
  return config.layers.front();
}

}  // namespace

Status check_shape(const LanguageShape& s) {
  if (s.vocab_size == 0 || s.hidden_size == 0 || s.num_layers == 0 || s.intermediate_size == 0 ||
      s.head_dim == 0 || s.v_head_dim == 0 || s.full_every == 0 || s.sliding_window == 0) {
    return no_model(
        "--vocab, --hidden, --layers, --inner, --head-dim, --v-head-dim, --full-every and "
        "--window are at least 1");
  }
  if (s.sliding_window > kMaxPositions) {
    return make_error(ErrorCode::kInvalidArgument, "--window is at most {}", kMaxPositions);
  }
  if (s.num_kv_heads == 0 || s.num_q_heads == 0 || s.num_q_heads % s.num_kv_heads != 0) {
    return no_model("--heads and --kv-heads are at least 1, and --kv-heads divides --heads");
  }
  if (s.rotary_dim == 0 || s.rotary_dim % 2 != 0 || s.rotary_dim > s.head_dim ||
      s.head_dim > 1024) {
    return no_model(
        "--rotary-dim is even, at least 2 and at most --head-dim, which is at most 1024");
  }
  if (s.num_experts_per_token == 0 || s.num_experts_per_token > s.num_experts) {
    return no_model("--top-k is at least 1 and at most --experts");
  }
  if (s.hidden_size % tensor::kMxBlockColumns != 0 || s.moe_intermediate_size == 0 ||
      s.moe_intermediate_size % tensor::kMxBlockColumns != 0) {
    return no_model("--hidden and --expert-inner are multiples of 32, for MXFP4");
  }
  if (s.num_dense_layers >= s.num_layers) return no_model("--dense-layers is less than --layers");
  if (!(s.rope_theta > 0) || !(s.sliding_rope_theta > 0)) {
    return no_model("--theta and --swa-theta are above 0");
  }
  if (s.eos_token_id >= s.vocab_size) return no_model("--eos is a token");
  return {};
}

model::ModelConfig language_config(const LanguageShape& shape) {
  model::ModelConfig config;
  config.file = "the model";
  config.model_type = "mimo_v2_flash";
  config.hidden_size = shape.hidden_size;
  config.intermediate_size = shape.intermediate_size;
  config.moe_intermediate_size = shape.moe_intermediate_size;
  config.num_experts = shape.num_experts;
  config.num_experts_per_token = shape.num_experts_per_token;
  config.rms_norm_eps = kEpsilon;
  config.vocab_size = shape.vocab_size;
  config.max_position_embeddings = kMaxPositions;
  config.attention_value_scale = kValueScale;
  config.qkv_chunks = shape.num_kv_heads;
  config.eos_token_ids = {shape.eos_token_id};
  for (uint32_t i = 0; i < shape.num_layers; ++i) {
    model::LayerConfig& layer = config.layers.emplace_back();
    layer.is_sliding = i % shape.full_every != 0;
    layer.num_q_heads = shape.num_q_heads;
    layer.num_kv_heads = shape.num_kv_heads;
    layer.head_dim = shape.head_dim;
    layer.v_head_dim = shape.v_head_dim;
    layer.rotary_dim = shape.rotary_dim;
    layer.rope.theta = layer.is_sliding ? shape.sliding_rope_theta : shape.rope_theta;
    layer.sliding_window = layer.is_sliding ? shape.sliding_window : 0;
    layer.has_sink = layer.is_sliding;
    layer.is_moe = i >= shape.num_dense_layers;
  }
  return config;
}

std::string language_config_json(const model::ModelConfig& config) {
  const model::LayerConfig &full = layer_of(config, false), &sliding = layer_of(config, true);
  std::string json = fmt::format(
      R"({{
  "architectures": ["MiMoV2FlashForCausalLM"],
  "model_type": "{}",
  "dtype": "bfloat16",
  "vocab_size": {},
  "hidden_size": {},
  "intermediate_size": {},
  "num_hidden_layers": {},
  "num_attention_heads": {},
  "num_key_value_heads": {},
  "head_dim": {},
  "v_head_dim": {},
  "hidden_act": "silu",
  "max_position_embeddings": {},
  "rms_norm_eps": {},
  "layernorm_epsilon": {},
  "tie_word_embeddings": false,
  "attention_bias": false,
  "attention_value_scale": {},
)",
      config.model_type, config.vocab_size, config.hidden_size, config.intermediate_size,
      config.num_layers(), full.num_q_heads, full.num_kv_heads, full.head_dim, full.v_head_dim,
      config.max_position_embeddings, number_json(config.rms_norm_eps),
      number_json(config.rms_norm_eps), number_json(config.attention_value_scale));
  json += fmt::format(
      R"(  "hybrid_layer_pattern": {},
  "moe_layer_freq": {},
  "sliding_window": {},
  "add_swa_attention_sink_bias": true,
  "add_full_attention_sink_bias": false,
  "swa_num_attention_heads": {},
  "swa_num_key_value_heads": {},
  "swa_head_dim": {},
  "swa_v_head_dim": {},
  "partial_rotary_factor": {},
  "rope_theta": {},
  "swa_rope_theta": {},
)",
      pattern_json(config, &model::LayerConfig::is_sliding),
      pattern_json(config, &model::LayerConfig::is_moe),
      sliding.is_sliding ? sliding.sliding_window : 1, sliding.num_q_heads, sliding.num_kv_heads,
      sliding.head_dim, sliding.v_head_dim, rotary_share_json(full), number_json(full.rope.theta),
      number_json(sliding.rope.theta));
  return json + fmt::format(
                    R"(  "n_routed_experts": {},
  "n_shared_experts": null,
  "num_experts_per_tok": {},
  "moe_intermediate_size": {},
  "scoring_func": "sigmoid",
  "topk_method": "noaux_tc",
  "n_group": 1,
  "topk_group": 1,
  "norm_topk_prob": true,
  "routed_scaling_factor": null,
  "bos_token_id": null,
  "eos_token_id": {}
}}
)",
                    config.num_experts, config.num_experts_per_token, config.moe_intermediate_size,
                    config.eos_token_ids.front());
}

}  // namespace ultraspeed::train
