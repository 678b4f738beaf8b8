#include "support/checkpoint_generator.h"

#include <fmt/format.h>

#include "base/check.h"
#include "support/random_tensors.h"

namespace ultraspeed::test {
namespace {

using model::QkvLayout;
using model::TensorRole;
using tensor::WeightFormat;

void append_rows(const DenseWeight& from, uint32_t begin, uint32_t count, DenseWeight& to) {
  const auto first = from.values.begin() + static_cast<ptrdiff_t>(begin) * from.columns;
  to.values.insert(to.values.end(), first, first + static_cast<ptrdiff_t>(count) * from.columns);
  to.rows += count;
  to.columns = from.columns;
}

DenseWeight stacked(const DenseWeight& top, const DenseWeight& bottom) {
  DenseWeight result = top;
  append_rows(bottom, 0, bottom.rows, result);
  return result;
}

// Makes all tensors of one checkpoint.
class Generator {
 public:
  explicit Generator(const GeneratorOptions& options)
      : options_(options), random_(options.seed, options.has_bf16_scales) {}

  GeneratedCheckpoint generate() {
    const auto num_layers = static_cast<uint32_t>(options_.sliding_layers.size());
    US_CHECK(options_.moe_layers.size() == num_layers);
    set(TensorRole::kEmbedding, 0,
        matrix("model.embed_tokens", options_.vocab_size, options_.hidden_size,
               options_.embedding_format));
    for (uint32_t layer = 0; layer < num_layers; ++layer) {
      const std::string prefix = fmt::format("model.layers.{}.", layer);
      set(TensorRole::kInputNorm, layer, norm(prefix + "input_layernorm.weight"));
      set(TensorRole::kPostAttentionNorm, layer, norm(prefix + "post_attention_layernorm.weight"));
      attention(prefix, layer);
      if (options_.moe_layers[layer] != 0) {
        experts(prefix + "mlp.", layer);
      } else {
        dense_ffn(prefix + "mlp.", layer);
      }
    }
    set(TensorRole::kFinalNorm, 0, norm("model.norm.weight"));
    set(TensorRole::kLmHead, 0,
        options_.tie_word_embeddings ? result_.at(TensorRole::kEmbedding)
                                     : matrix("lm_head", options_.vocab_size, options_.hidden_size,
                                              options_.embedding_format));
    return generate_mtp();
  }

  GeneratedCheckpoint generate_mtp() {
    for (uint32_t i = 0; i < options_.num_mtp_layers; ++i) mtp_layer(i);
    return std::move(result_);
  }

 private:
  void set(TensorRole role, uint32_t layer, DenseWeight dense, uint32_t expert = 0) {
    result_.weights[{role, layer, expert}] = std::move(dense);
  }

  DenseWeight matrix(const std::string& module, uint32_t rows, uint32_t columns,
                     WeightFormat format, uint32_t grid_chunks = 1) {
    return random_.matrix(module, rows, columns, format, grid_chunks, result_.tensors);
  }

  DenseWeight norm(const std::string& name) {
    return random_.vector(name, options_.hidden_size, WeightFormat::kBf16, 1.0F, 0.1F,
                          result_.tensors);
  }

  void attention(const std::string& prefix, uint32_t layer) {
    const bool is_sliding = options_.sliding_layers[layer] != 0;
    const uint32_t kv_heads = is_sliding ? options_.num_sliding_kv_heads : options_.num_kv_heads;
    set(TensorRole::kQkvProj, layer,
        options_.qkv_layout == QkvLayout::kFused ? fused_qkv(prefix, kv_heads)
                                                 : split_qkv(prefix, kv_heads));
    set(TensorRole::kOProj, layer,
        matrix(prefix + "self_attn.o_proj", options_.hidden_size,
               options_.num_q_heads * options_.v_head_dim, options_.output_projection_format));
    if (is_sliding) {
      set(TensorRole::kAttentionSink, layer,
          random_.vector(prefix + "self_attn.attention_sink_bias", options_.num_q_heads,
                         WeightFormat::kBf16, 0.8F, 0.2F, result_.tensors));
    }
  }

  DenseWeight split_qkv(const std::string& prefix, uint32_t kv_heads) {
    const uint32_t chunks = options_.restart_split_scale_grid ? options_.num_kv_heads : 1;
    const auto part = [&](const std::string& name, uint32_t rows) {
      return matrix(prefix + "self_attn." + name, rows, options_.hidden_size,
                    options_.linear_format, chunks);
    };
    const DenseWeight q = part("q_proj", options_.num_q_heads * options_.head_dim);
    const DenseWeight k = part("k_proj", kv_heads * options_.head_dim);
    return stacked(stacked(q, k), part("v_proj", kv_heads * options_.v_head_dim));
  }

  // Rank-major: chunk c holds the q, k and v rows of the heads that rank c computes.
  DenseWeight fused_qkv(const std::string& prefix, uint32_t kv_heads) {
    const uint32_t chunks = options_.num_kv_heads;
    const uint32_t q_rows = options_.num_q_heads / chunks * options_.head_dim;
    const uint32_t k_rows = kv_heads / chunks * options_.head_dim;
    const uint32_t v_rows = kv_heads / chunks * options_.v_head_dim;
    const uint32_t chunk_rows = q_rows + k_rows + v_rows;
    const DenseWeight stored = matrix(prefix + "self_attn.qkv_proj", chunks * chunk_rows,
                                      options_.hidden_size, options_.linear_format, chunks);
    DenseWeight q, k, v;
    for (uint32_t begin = 0; begin < stored.rows; begin += chunk_rows) {
      append_rows(stored, begin, q_rows, q);
      append_rows(stored, begin + q_rows, k_rows, k);
      append_rows(stored, begin + q_rows + k_rows, v_rows, v);
    }
    return stacked(stacked(q, k), v);
  }

  void dense_ffn(const std::string& prefix, uint32_t layer) {
    const DenseWeight gate = matrix(prefix + "gate_proj", options_.intermediate_size,
                                    options_.hidden_size, options_.linear_format);
    const DenseWeight up = matrix(prefix + "up_proj", options_.intermediate_size,
                                  options_.hidden_size, options_.linear_format);
    set(TensorRole::kDenseGateUp, layer, stacked(gate, up));
    set(TensorRole::kDenseDown, layer,
        matrix(prefix + "down_proj", options_.hidden_size, options_.intermediate_size,
               options_.linear_format));
  }

  void experts(const std::string& prefix, uint32_t layer) {
    set(TensorRole::kRouter, layer,
        matrix(prefix + "gate", options_.num_experts, options_.hidden_size,
               options_.router_format));
    set(TensorRole::kRouterBias, layer,
        random_.vector(prefix + "gate.e_score_correction_bias", options_.num_experts,
                       WeightFormat::kF32, 1.9F, 0.15F, result_.tensors));
    const WeightFormat format = options_.expert_format;
    const uint32_t inner = options_.moe_intermediate_size;
    for (uint32_t expert = 0; expert < options_.num_experts; ++expert) {
      const std::string name = fmt::format("{}experts.{}.", prefix, expert);
      const DenseWeight gate = matrix(name + "gate_proj", inner, options_.hidden_size, format);
      const DenseWeight up = matrix(name + "up_proj", inner, options_.hidden_size, format);
      set(TensorRole::kExpertGateUp, layer, stacked(gate, up), expert);
      set(TensorRole::kExpertDown, layer,
          matrix(name + "down_proj", options_.hidden_size, inner, format), expert);
    }
  }

  // A multi-token-prediction layer; its numbers are not part of the backbone.
  void mtp_layer(uint32_t index) {
    const std::string prefix = fmt::format("model.mtp.layers.{}.", index);
    const auto keep = [&](const std::string& name, DenseWeight dense) {
      result_.mtp[prefix + name] = std::move(dense);
    };
    const auto keep_matrix = [&](const std::string& name, uint32_t rows, uint32_t columns,
                                 WeightFormat format) {
      keep(name + ".weight", matrix(prefix + name, rows, columns, format));
    };
    for (const std::string name :
         {"enorm", "hnorm", "final_layernorm", "input_layernorm", "pre_mlp_layernorm"}) {
      keep(name + ".weight", norm(prefix + name + ".weight"));
    }
    const uint32_t hidden = options_.hidden_size;
    const uint32_t inner = options_.intermediate_size;
    keep_matrix("eh_proj", hidden, 2 * hidden, WeightFormat::kBf16);
    keep("self_attn.qkv_proj.weight", options_.qkv_layout == QkvLayout::kFused
                                          ? fused_qkv(prefix, options_.num_sliding_kv_heads)
                                          : split_qkv(prefix, options_.num_sliding_kv_heads));
    keep_matrix("self_attn.o_proj", hidden, options_.num_q_heads * options_.v_head_dim,
                options_.output_projection_format);
    const std::string sinks = "self_attn.attention_sink_bias";
    keep(sinks, random_.vector(prefix + sinks, options_.num_q_heads, WeightFormat::kBf16, 0.8F,
                               0.2F, result_.tensors));
    keep_matrix("mlp.gate_proj", inner, hidden, options_.linear_format);
    keep_matrix("mlp.up_proj", inner, hidden, options_.linear_format);
    keep_matrix("mlp.down_proj", hidden, inner, options_.linear_format);
  }

  const GeneratorOptions& options_;
  RandomTensors random_;
  GeneratedCheckpoint result_;
};

std::string list_json(const std::vector<uint32_t>& values) {
  std::string json;
  for (const uint32_t value : values) json += (json.empty() ? "" : ", ") + std::to_string(value);
  return "[" + json + "]";
}

std::string quantization_json(const GeneratorOptions& options) {
  const bool has_mxfp4 = options.expert_format == WeightFormat::kMxfp4;
  if (!has_mxfp4 && options.linear_format != WeightFormat::kFp8Block128) return "null";
  std::string ignored;
  if (options.output_projection_format != WeightFormat::kFp8Block128) {
    for (size_t layer = 0; layer < options.sliding_layers.size(); ++layer) {
      ignored +=
          fmt::format("{}\"model.layers.{}.self_attn.o_proj\"", layer == 0 ? "" : ", ", layer);
    }
  }
  return fmt::format(
      R"({{"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
    "weight_block_size": [128, 128], {}"ignored_layers": [{}]}})",
      has_mxfp4 ? R"("store_dtype": "mxfp4", "mxfp4_block_size": 32, )" : "", ignored);
}

}  // namespace

std::string config_json(const GeneratorOptions& options) {
  const bool is_fused = options.qkv_layout == QkvLayout::kFused;
  std::string json = fmt::format(
      R"({{
  "model_type": "{}", "vocab_size": {}, "hidden_size": {}, "intermediate_size": {},
  "moe_intermediate_size": {}, "num_hidden_layers": {}, "num_attention_heads": {},
  "num_key_value_heads": {}, "head_dim": {}, "v_head_dim": {}, "swa_num_attention_heads": {},
  "swa_num_key_value_heads": {}, "swa_head_dim": {}, "swa_v_head_dim": {},
)",
      is_fused ? "mimo_v2" : "mimo_v2_flash", options.vocab_size, options.hidden_size,
      options.intermediate_size, options.moe_intermediate_size, options.sliding_layers.size(),
      options.num_q_heads, options.num_kv_heads, options.head_dim, options.v_head_dim,
      options.num_q_heads, options.num_sliding_kv_heads, options.head_dim, options.v_head_dim);
  json += fmt::format(
      R"(  "hybrid_layer_pattern": {}, "moe_layer_freq": {}, "sliding_window": {},
  "n_routed_experts": {}, "num_experts_per_tok": {}, "max_position_embeddings": {},
  "tie_word_embeddings": {}, {}"quantization_config": {},
)",
      list_json(options.sliding_layers), list_json(options.moe_layers), options.sliding_window,
      options.num_experts, options.num_experts_per_token, options.max_position_embeddings,
      options.tie_word_embeddings,
      is_fused ? R"("attention_projection_layout": "fused_qkv", )" : "",
      quantization_json(options));
  json += R"(  "n_shared_experts": null, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
  "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": null,
  "hidden_act": "silu", "attention_bias": false, "attention_value_scale": 0.612,
  "add_swa_attention_sink_bias": true, "add_full_attention_sink_bias": false,
  "partial_rotary_factor": 0.334, "rope_theta": 10000000, "swa_rope_theta": 10000,
  "layernorm_epsilon": 1e-05, "eos_token_id": 2
}
)";
  return json;
}

GeneratedCheckpoint generate_checkpoint(const GeneratorOptions& options) {
  return Generator(options).generate();
}

GeneratorOptions tile_options() {
  GeneratorOptions options;
  options.num_q_heads = 16;
  options.num_kv_heads = 1;
  options.num_sliding_kv_heads = 2;
  options.head_dim = 192;
  options.v_head_dim = 128;
  options.sliding_window = 128;
  return options;
}

GeneratorOptions eight_rank_options() {
  GeneratorOptions options;
  options.intermediate_size = 1024;
  options.moe_intermediate_size = 256;
  options.num_q_heads = 16;
  options.num_kv_heads = 8;
  options.num_sliding_kv_heads = 8;
  return options;
}

GeneratedCheckpoint generate_mtp_layers(const GeneratorOptions& options) {
  return Generator(options).generate_mtp();
}

Status write_checkpoint(const std::string& directory, const GeneratorOptions& options,
                        const GeneratedCheckpoint& checkpoint) {
  US_TRY(write_file(directory + "/config.json", config_json(options)));
  US_TRY(write_file(directory + "/generation_config.json",
                    R"({"do_sample": true, "temperature": 0.6, "eos_token_id": [2, 0]})"));
  Metadata metadata = {{"format", "pt"}};
  if (options.expert_format == WeightFormat::kMxfp4) metadata["save_format"] = "mxfp4";
  if (options.qkv_layout == QkvLayout::kFused) {
    metadata["tp_size"] = std::to_string(options.num_kv_heads);
  }
  return write_checkpoint_files(directory, checkpoint.tensors, options.num_files, metadata);
}

Result<GeneratedCheckpoint> write_checkpoint(const std::string& directory,
                                             const GeneratorOptions& options) {
  GeneratedCheckpoint checkpoint = generate_checkpoint(options);
  US_TRY(write_checkpoint(directory, options, checkpoint));
  return checkpoint;
}

}  // namespace ultraspeed::test
