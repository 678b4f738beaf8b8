// The text is valid UTF-8 from the beginning, so that reading it cannot fail.
#include "grammar/text_cursor.h"

#include <utf8proc.h>

#include "grammar/limits.h"

namespace ultraspeed::grammar {
namespace {

struct Character {
  utf8proc_int32_t code_point;
  utf8proc_ssize_t num_bytes;  // negative: malformed
};

Character first_character(std::string_view text) {
  Character character{};
  character.num_bytes =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &character.code_point);
  return character;
}

}  // namespace

Result<TextCursor> TextCursor::open(std::string_view text, std::string name) {
  TextCursor cursor(text, std::move(name));
  if (text.size() > kMaxSourceBytes) {
    return cursor.error(ErrorCode::kOutOfMemory, kMaxSourceBytes,
                        fmt::format("{} bytes; at most {} are read", text.size(), kMaxSourceBytes));
  }
  for (size_t offset = 0; offset < text.size();) {
    const utf8proc_ssize_t num_bytes = first_character(text.substr(offset)).num_bytes;
    if (num_bytes <= 0) {
      return cursor.error(ErrorCode::kInvalidArgument, offset, "malformed UTF-8");
    }
    offset += static_cast<size_t>(num_bytes);
  }
  return cursor;
}

char32_t TextCursor::peek() const {
  if (is_at_end()) return kEnd;
  return static_cast<char32_t>(first_character(rest()).code_point);
}

char32_t TextCursor::take() {
  if (is_at_end()) return kEnd;
  const Character character = first_character(rest());
  offset_ += static_cast<size_t>(character.num_bytes);
  return static_cast<char32_t>(character.code_point);
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
