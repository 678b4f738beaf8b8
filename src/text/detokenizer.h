// Token ids to text, one id at a time, in whole characters.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace ultraspeed::text {

// What push() returned so far and finish() make up Tokenizer::decode() of the ids, whatever they
// are; at most three bytes wait for the rest of their character. Linear time. REQUIRES: the
// tokenizer outlives it.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that is complete with this id: valid UTF-8, often empty.
  std::string push(int32_t id);

  // The rest: U+FFFD if the ids ended inside of a character. The next push begins a new text.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;  // the begin of a character
};

}  // namespace ultraspeed::text
