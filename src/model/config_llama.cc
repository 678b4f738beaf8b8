// Llama 3: dense layers, RoPE stretched by bands, mostly tied tables in the small ones.
#include "model/config_families.h"

namespace ultraspeed::model {

Status read_llama(const JsonObject& json, ModelConfig& config) {
  US_TRY(check_flag(json, "mlp_bias", false));
  US_TRY(check_silu(json));
  US_TRY(read_sizes(json, config));
  US_TRY(read_attention_bias(json, config));
  US_ASSIGN(config.quantization, read_quantization(json));
  US_ASSIGN(config.layers, read_equal_layers(json, config));
  return {};
}

}  // namespace ultraspeed::model
