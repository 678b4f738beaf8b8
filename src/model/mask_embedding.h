// mask_embedding.pt: the embedding of a MiMo drafter's mask rows, written by torch.save as a dict
// {mask_token_id: int, embedding: BF16 [hidden_size]}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::model {

struct MaskEmbedding {
  uint32_t mask_token_id = 0;
  std::vector<uint16_t> values;  // BF16, finite

  static Result<MaskEmbedding> parse(std::string_view file, std::span<const std::byte> archive);
  static Result<MaskEmbedding> load(const std::string& path);
};

}  // namespace ultraspeed::model
