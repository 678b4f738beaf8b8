// Answers that are written beforehand, for tests of clients (ultraspeed serve --force-text): the
// engine computes and samples as ever, and a constraint leaves it no choice.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

// Immutable; may be asked on any thread.
class ForcedAnswers {
 public:
  // JSON objects line by line (empty lines are skipped): {"text": the answer, in which strings such
  // as "<think>" are tokens, "when": part of the prompts that it answers; absent: of all}.
  // Errors: kInvalidArgument, with `label` and the line. REQUIRES: the tokenizer outlives it, and
  // `stop_id` is one of the model's stop tokens.
  static Result<ForcedAnswers> parse(std::string_view lines, const std::string& label,
                                     const text::Tokenizer& tokenizer, int32_t stop_id);

  // Forces the first answer for this prompt, and the stop token behind it; nullptr: there is none.
  // It depends on the prompt alone, so that clients may ask at once and again.
  std::shared_ptr<const engine::TokenConstraint> find(std::span<const int32_t> prompt) const;

 private:
  struct Entry {
    std::string when;
    std::shared_ptr<const std::vector<int32_t>> tokens;  // with the stop token
  };
  explicit ForcedAnswers(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  const text::Tokenizer* tokenizer_;
  std::vector<Entry> entries_;
};

}  // namespace ultraspeed::server
