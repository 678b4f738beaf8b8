// Tells the tokens of an answer's reasoning, its markers included, from those behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "server/tool_syntax.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

class ThinkBlock {
 public:
  // starts_inside: the prompt ended with "<think>". REQUIRES: the tokenizer outlives it.
  ThinkBlock(const text::Tokenizer& tokenizer, bool starts_inside, ToolSyntax syntax)
      : tokenizer_(tokenizer),
        is_harmony_(syntax == ToolSyntax::kHarmony),
        open_(tokenizer.find_token(is_harmony_ ? kHarmonyMessage : "<think>")),
        close_(tokenizer.find_token(is_harmony_ ? kHarmonyEnd : "</think>")),
        state_(starts_inside ? State::kInside : State::kBefore) {}

  // Whether the answer's next token belongs to it or, in the harmony format, to a header.
  bool take(int32_t id) {
    if (is_harmony_) return take_in_channel(id);
    if (state_ == State::kBefore && id == open_) state_ = State::kInside;
    if (state_ == State::kBefore && !is_blank(id)) state_ = State::kBehind;
    if (state_ != State::kInside) return false;
    ++num_tokens_;
    if (id == close_) state_ = State::kBehind;
    return true;
  }
  // Something else has begun. Where the markers are several tokens, this alone shows it.
  void end() {
    if (!is_harmony_) state_ = State::kBehind;
  }
  size_t num_tokens() const { return num_tokens_; }

 private:
  enum class State { kBefore, kInside, kBehind };
  bool is_blank(int32_t id) const {
    return tokenizer_.token_bytes(id).find_first_not_of(" \t\r\n") == std::string_view::npos;
  }

  // Headers are counted with the messages that they belong to.
  bool take_in_channel(int32_t id) {
    if (state_ == State::kBefore) {
      ++num_header_tokens_;
      is_analysis_ |= tokenizer_.token_bytes(id) == "analysis";
      if (id != open_) return true;
      if (is_analysis_) num_tokens_ += num_header_tokens_;
      state_ = is_analysis_ ? State::kInside : State::kBehind;
      return true;
    }
    const bool is_inside = state_ == State::kInside;
    if (is_inside) ++num_tokens_;
    if (id != close_) return is_inside;
    state_ = State::kBefore;
    num_header_tokens_ = 0;
    is_analysis_ = false;
    return true;
  }

  const text::Tokenizer& tokenizer_;
  const bool is_harmony_;
  const std::optional<int32_t> open_;
  const std::optional<int32_t> close_;
  State state_;  // kHarmony: kBefore in a header, kBehind in a message that is no reasoning
  size_t num_tokens_ = 0;
  size_t num_header_tokens_ = 0;
  bool is_analysis_ = false;
};

}  // namespace ultraspeed::server
