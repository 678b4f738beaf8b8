// The target's two tables that a drafter shares and training leaves as they are: token embeddings
// and output head, dequantised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace ultraspeed::train {

struct FrozenTables {
  uint32_t vocab_size = 0;
  uint32_t hidden_size = 0;
  std::string model;             // as FeatureShape's
  std::vector<float> embedding;  // [vocab_size, hidden_size]
  std::vector<float> head;       // [vocab_size, hidden_size]

  Status write(const std::string& path) const;
  // Errors: kInvalidData for what is cut off, damaged or not finite.
  static Result<FrozenTables> read(const std::string& path);
};

}  // namespace ultraspeed::train
