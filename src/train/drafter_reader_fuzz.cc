// libFuzzer entry: any bytes as a drafter's weights.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "train/drafter_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto tensors = ultraspeed::train::parse_drafter_weights("fuzz.safetensors", bytes);
  if (!tensors) return 0;
  for (const auto& tensor : *tensors) {
    uint64_t count = 1;
    for (const uint64_t dimension : tensor.shape) count *= dimension;
    US_CHECK(tensor.values.size() == count, "{} of {}", tensor.values.size(), count);
  }
  return 0;
}
