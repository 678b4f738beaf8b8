// libFuzzer entry: config.json; what is accepted must have consistent sizes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/weights.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = ultraspeed::model::ModelConfig::parse("fuzz.json", text);
  if (!config) return 0;
  US_CHECK(!config->layers.empty());
  for (const auto& layer : config->layers) {
    US_CHECK(layer.num_q_heads % layer.num_kv_heads == 0);
    US_CHECK(layer.rotary_dim % 2 == 0 && layer.rotary_dim <= layer.head_dim);
    US_CHECK(layer.is_sliding == (layer.sliding_window > 0));
  }
  const auto count = ultraspeed::model::count_parameters(*config);
  US_CHECK(count.active <= count.total);
  // The shapes of the first matrices must come out, or their error, for any number of ranks.
  using ultraspeed::model::TensorRole;
  for (const uint32_t num_shards : {1U, 2U, 8U, 1000U}) {
    for (const TensorRole role :
         {TensorRole::kEmbedding, TensorRole::kQkvProj, TensorRole::kOProj}) {
      const auto shape =
          ultraspeed::model::expected_shape(*config, {role, 0, 0, num_shards - 1, num_shards});
      US_CHECK(!shape.has_value() || shape->bytes > 0);
    }
  }
  return 0;
}
