// Tells the tokens of an answer's think block, its markers included, from those behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "text/tokenizer.h"

namespace ultraspeed::server {

class ThinkBlock {
 public:
  // starts_inside: the prompt ended with "<think>". REQUIRES: the tokenizer outlives it.
  ThinkBlock(const text::Tokenizer& tokenizer, bool starts_inside)
      : tokenizer_(tokenizer),
        open_(tokenizer.find_token("<think>")),
        close_(tokenizer.find_token("</think>")),
        state_(starts_inside ? State::kInside : State::kBefore) {}

  // Whether the answer's next token belongs to it.
  bool take(int32_t id) {
    if (state_ == State::kBefore && id == open_) state_ = State::kInside;
    if (state_ == State::kBefore && !is_blank(id)) state_ = State::kBehind;
    if (state_ != State::kInside) return false;
    ++num_tokens_;
    if (id == close_) state_ = State::kBehind;
    return true;
  }
  // Something else has begun. Where the markers are several tokens, this alone shows it.
  void end() { state_ = State::kBehind; }
  size_t num_tokens() const { return num_tokens_; }

 private:
  enum class State { kBefore, kInside, kBehind };
  bool is_blank(int32_t id) const {
    return tokenizer_.token_bytes(id).find_first_not_of(" \t\r\n") == std::string_view::npos;
  }

  const text::Tokenizer& tokenizer_;
  const std::optional<int32_t> open_;
  const std::optional<int32_t> close_;
  State state_;
  size_t num_tokens_ = 0;
};

}  // namespace ultraspeed::server
