// libFuzzer entry: generation_config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = ultraspeed::model::GenerationConfig::parse("fuzz.json", text);
  if (config) US_CHECK(config->top_p > 0 && config->top_p <= 1 && config->temperature >= 0);
  return 0;
}
