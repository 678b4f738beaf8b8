// Texts as token ids, which a language model is trained on: one behind the other in one file, each
// followed by the model's end of text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace ultraspeed::train {

struct TokenFile {
  uint32_t vocab_size = 0;
  uint32_t num_texts = 0;
  std::vector<int32_t> ids;  // each below vocab_size

  // `end`: the id that follows the text. REQUIRES: ids of the vocabulary.
  void add_text(std::span<const int32_t> text, int32_t end);

  Status write(const std::string& path) const;
  // Errors: kInvalidData for what is cut off, damaged or no token.
  static Result<TokenFile> read(const std::string& path);
  // `name` stands for the file in messages.
  static Result<TokenFile> parse(const std::string& name, std::span<const std::byte> bytes);
};

}  // namespace ultraspeed::train
