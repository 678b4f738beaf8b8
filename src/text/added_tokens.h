// Added tokens ("<|im_end|>", "<think>"): strings that are found in a text before anything else
// looks at it and become one token each, as the reference library's AddedVocabulary does.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/utf8.h"

namespace ultraspeed::text {

// An entry of tokenizer.json's "added_tokens".
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;      // skipped by a decoding that skips special tokens
  bool normalized = false;   // looked for in the normalized text
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space behind it
  bool single_word = false;  // not recognised inside of a word
};

// A piece of a text: an added token, or the text between two of them.
struct AddedTokenPiece {
  static constexpr int32_t kText = -1;
  ByteRange range;
  int32_t id = kText;
};

// Finds a set of added tokens. Immutable.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  // REQUIRES: contents are different and not empty.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Cuts a text into added tokens and the rest: from left to right, at each place the longest token
  // that keeps out of the plain ranges, which also end what lstrip and rstrip swallow. REQUIRES:
  // text is valid UTF-8, the ranges are ascending and disjoint.
  std::vector<AddedTokenPiece> split(std::string_view text,
                                     std::span<const ByteRange> plain_ranges) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // by content
  std::array<bool, 256> is_first_byte_{};
};

}  // namespace ultraspeed::text
