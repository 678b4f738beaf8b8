// The text is valid UTF-8 from the beginning, so that reading it cannot fail.
#include "grammar/text_cursor.h"

#include "grammar/code_points.h"
#include "grammar/limits.h"

namespace ultraspeed::grammar {

Result<TextCursor> TextCursor::open(std::string_view text, std::string name) {
  TextCursor cursor(text, std::move(name));
  if (text.size() > kMaxSourceBytes) {
    return cursor.error(ErrorCode::kOutOfMemory, kMaxSourceBytes,
                        fmt::format("{} bytes; at most {} are read", text.size(), kMaxSourceBytes));
  }
  for (size_t offset = 0; offset < text.size();) {
    const size_t num_bytes = first_character(text.substr(offset)).num_bytes;
    if (num_bytes == 0) {
      return cursor.error(ErrorCode::kInvalidArgument, offset, "malformed UTF-8");
    }
    offset += num_bytes;
  }
  return cursor;
}

char32_t TextCursor::peek() const {
  if (is_at_end()) return kEnd;
  return first_character(rest()).code_point;
}

char32_t TextCursor::take() {
  if (is_at_end()) return kEnd;
  const Character character = first_character(rest());
  offset_ += character.num_bytes;
  return character.code_point;
}

bool TextCursor::take_if(char32_t c) {
  if (peek() != c) return false;
  take();
  return true;
}

bool TextCursor::take_string(std::string_view string) {
  if (!rest().starts_with(string)) return false;
  skip(string.size());
  return true;
}

tl::unexpected<Error> TextCursor::error(ErrorCode code, size_t offset,
                                        std::string_view complaint) const {
  return make_error(code, "{}, byte {}: {}", name_, offset, complaint);
}

}  // namespace ultraspeed::grammar
