// gpt-oss: MXFP4 experts, sliding and full layers in turn, sinks and biases everywhere, YaRN, a
// clamped SwiGLU, scores of the chosen experts alone.
#include "model/config_families.h"
#include "model/config_limits.h"

namespace ultraspeed::model {
namespace {

constexpr double kUsualSwigluLimit = 7;

Status read_gpt_oss_quantization(const JsonObject& json, ModelConfig& config) {
  US_ASSIGN(const auto section, json.optional_object("quantization_config"));
  if (!section) return json.missing("quantization_config");
  US_ASSIGN(const auto method, section->optional_string("quant_method"));
  if (!method) return section->missing("quant_method");
  if (*method != "mxfp4") return section->unsupported("quant_method", "only \"mxfp4\" is");
  config.quantization.has_mxfp4_experts = true;
  return check_mxfp4(json, config, "intermediate_size");
}

}  // namespace

Status read_gpt_oss(const JsonObject& json, ModelConfig& config) {
  US_TRY(check_flag(json, "attention_bias", true));
  US_TRY(check_silu(json));
  US_TRY(read_sizes(json, config));
  if (!json.has("layer_types")) return json.missing("layer_types");
  US_ASSIGN(config.layers, read_equal_layers(json, config));
  for (LayerConfig& layer : config.layers) layer.has_sink = layer.is_moe = true;
  US_ASSIGN(config.num_experts, json.uint("num_local_experts", 1, kMaxExperts));
  US_ASSIGN(config.num_experts_per_token, json.uint("num_experts_per_tok", 1, config.num_experts));
  config.moe_intermediate_size = config.intermediate_size;
  config.has_attention_biases = config.has_expert_biases = true;
  config.has_softmax_router = true;
  US_ASSIGN(const auto limit, json.optional_number("swiglu_limit", kMinPositive, kMaxScale));
  config.swiglu_limit = static_cast<float>(limit.value_or(kUsualSwigluLimit));
  config.expert_layout = ExpertLayout::kBlocks;
  config.names = {"self_attn.sinks", "mlp.router", "mlp.router.bias"};
  return read_gpt_oss_quantization(json, config);
}

}  // namespace ultraspeed::model
