// Reads the source of a grammar or a regular expression character by character.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace ultraspeed::grammar {

class TextCursor {
 public:
  static constexpr char32_t kEnd = ~char32_t{0};

  // `name` stands for the text in errors. Errors: kInvalidArgument for malformed UTF-8,
  // kOutOfMemory for more than kMaxSourceBytes. The text must outlive the cursor.
  static Result<TextCursor> open(std::string_view text, std::string name);

  bool is_at_end() const { return offset_ == text_.size(); }
  size_t offset() const { return offset_; }
  // The next character; kEnd at the end.
  char32_t peek() const;
  char32_t take();
  bool take_if(char32_t c);
  // Takes the string if it comes next.
  bool take_string(std::string_view string);
  std::string_view rest() const { return text_.substr(offset_); }
  void skip(size_t num_bytes) { offset_ += num_bytes; }

  // "NAME, byte OFFSET: COMPLAINT" as an error.
  tl::unexpected<Error> error(ErrorCode code, size_t offset, std::string_view complaint) const;
  // The same at the current offset, as kInvalidArgument.
  tl::unexpected<Error> error(std::string_view complaint) const {
    return error(ErrorCode::kInvalidArgument, offset_, complaint);
  }

 private:
  TextCursor(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {}

  std::string_view text_;
  std::string name_;
  size_t offset_ = 0;
};

}  // namespace ultraspeed::grammar
