// Text's operations and the Unicode helpers, on utf8proc.
#include "text/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::text::jinja {

namespace {

bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

const utf8proc_uint8_t* as_utf8proc(std::string_view text, size_t at) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at;
}

}  // namespace

void Text::append(std::string_view bytes, bool from_input) {
  if (bytes.empty()) return;
  const size_t begin = bytes_.size();
  bytes_.append(bytes);
  if (!from_input) return;
  if (!input_ranges_.empty() && input_ranges_.back().end == begin) {
    input_ranges_.back().end = bytes_.size();
  } else {
    input_ranges_.push_back({begin, bytes_.size()});
  }
}

void Text::append(const Text& other, size_t begin, size_t end) {
  US_CHECK(&other != this && begin <= end && end <= other.size_bytes(), "[{}, {}) of {}", begin,
           end, other.size_bytes());
  const std::string_view all = other.bytes_;
  auto range = std::partition_point(other.input_ranges_.begin(), other.input_ranges_.end(),
                                    [begin](const ByteRange& r) { return r.end <= begin; });
  size_t at = begin;
  for (; range != other.input_ranges_.end() && range->begin < end; ++range) {
    const size_t input_begin = std::max(range->begin, begin);
    const size_t input_end = std::min(range->end, end);
    append(all.substr(at, input_begin - at), false);
    append(all.substr(input_begin, input_end - input_begin), true);
    at = input_end;
  }
  append(all.substr(at, end - at), false);
}

Text Text::slice(size_t begin, size_t end) const {
  Text out;
  out.append(*this, begin, end);
  return out;
}

size_t char_bytes(std::string_view text, size_t at) {
  size_t end = at + 1;
  while (end < text.size() && is_continuation(text[end])) ++end;
  return end - at;
}

char32_t char_at(std::string_view text, size_t at) {
  utf8proc_int32_t code_point = -1;
  utf8proc_iterate(as_utf8proc(text, at), static_cast<utf8proc_ssize_t>(text.size() - at),
                   &code_point);
  US_CHECK(code_point >= 0, "invalid UTF-8 at byte {}", at);
  return static_cast<char32_t>(code_point);
}

size_t count_chars(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

size_t byte_of_char(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    at += char_bytes(text, at);
    --index;
  }
  return at;
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_printable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

std::string to_upper(std::string_view text) {
  constexpr char32_t kSharpS = 0xDF;
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += char_bytes(text, at)) {
    const char32_t c = char_at(text, at);
    if (c == kSharpS) {
      out += "SS";
    } else {
      append_utf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
    }
  }
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += char_bytes(text, at)) {
    const auto c = static_cast<utf8proc_int32_t>(char_at(text, at));
    append_utf8(static_cast<char32_t>(utf8proc_tolower(c)), out);
  }
  return out;
}

bool is_cased_letter(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

size_t trailing_space_begin(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && is_continuation(text[begin])) --begin;
    if (!is_space(char_at(text, begin))) break;
    end = begin;
  }
  return end;
}

size_t leading_space_end(std::string_view text) {
  size_t at = 0;
  while (at < text.size() && is_space(char_at(text, at))) at += char_bytes(text, at);
  return at;
}

}  // namespace ultraspeed::text::jinja
