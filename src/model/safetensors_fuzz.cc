// libFuzzer entry: a safetensors header, over a data section whose size is in the first two bytes;
// every accepted tensor must lie inside it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (size < 2) return 0;
  const uint64_t data_bytes = data[0] | uint64_t{data[1]} << 8;
  const auto header = ultraspeed::model::SafetensorsHeader::parse("fuzz.safetensors",
                                                                  text.substr(2), 1000, data_bytes);
  if (!header) return 0;
  uint64_t total = 0;
  for (const auto& [name, info] : header->tensors) {
    US_CHECK(info.offset >= 1000 && info.offset - 1000 + info.bytes <= data_bytes, "{}", name);
    total += info.bytes;
  }
  US_CHECK(total == data_bytes, "{} of {} bytes", total, data_bytes);
  return 0;
}
