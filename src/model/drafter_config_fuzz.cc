// libFuzzer entry: a drafter's config.json, trailing commas included.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = ultraspeed::model::DrafterConfig::parse("fuzz.json", text);
  if (!config) return 0;
  US_CHECK(config->num_q_heads % config->num_kv_heads == 0 && config->rotary_dim % 2 == 0);
  US_CHECK(config->target_layer_ids.back() < config->num_target_layers);
  US_CHECK(count_parameters(*config) > 0);
  return 0;
}
