// libFuzzer entry: a mask_embedding.pt, the zip archive and the pickle in it; and the same bytes as
// a pickle alone, which a mutated archive seldom reaches.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "model/mask_embedding.h"
#include "model/tensor_pickle.h"
#include "tensor/bf16.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ultraspeed;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto mask = model::MaskEmbedding::parse("fuzz.pt", bytes);
  if (mask) {
    US_CHECK(!mask->values.empty() && mask->values.size() * sizeof(uint16_t) <= size);
    for (const uint16_t value : mask->values) {
      US_CHECK(std::isfinite(tensor::bf16_to_float(value)));
    }
  }
  const auto dict = model::read_tensor_pickle("fuzz.pkl", bytes);
  if (dict) US_CHECK(dict->size() <= size);
  return 0;
}
