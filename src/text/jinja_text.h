// Text with provenance: UTF-8 bytes plus the byte ranges that came from input data (messages,
// tools, request arguments) as opposed to the template's own source. The tokenizer uses the ranges
// to treat special-token strings inside input as plain text. Invariants: bytes() is valid UTF-8,
// ranges are sorted, disjoint, not adjacent, not empty, and start and end at character borders.
// Below it: the few Unicode facts that the Jinja subset takes from Python's str.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/utf8.h"

namespace ultraspeed::text::jinja {

class Text {
 public:
  Text() = default;
  Text(std::string_view bytes, bool from_input) { append(bytes, from_input); }

  const std::string& bytes() const { return bytes_; }
  const std::vector<ByteRange>& input_ranges() const { return input_ranges_; }
  size_t size_bytes() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool has_input() const { return !input_ranges_.empty(); }

  void append(std::string_view bytes, bool from_input);
  void append(const Text& other) { append(other, 0, other.size_bytes()); }
  // Appends other's bytes [begin, end) with their marks. REQUIRES: character borders.
  void append(const Text& other, size_t begin, size_t end);
  Text slice(size_t begin, size_t end) const;

  // Calls visit(run, from_input) for each maximal run of bytes of one origin, in order.
  template <class Visit>
  void for_each_run(Visit visit) const {
    size_t at = 0;
    const std::string_view all = bytes_;
    for (const ByteRange& range : input_ranges_) {
      if (at < range.begin) visit(all.substr(at, range.begin - at), false);
      visit(all.substr(range.begin, range.end - range.begin), true);
      at = range.end;
    }
    if (at < all.size()) visit(all.substr(at), false);
  }

 private:
  std::string bytes_;
  std::vector<ByteRange> input_ranges_;
};

// Length in bytes of the character at text[at]. REQUIRES: valid UTF-8, at < size, a character
// border.
size_t char_bytes(std::string_view text, size_t at);
// The code point at text[at]; same requirements.
char32_t char_at(std::string_view text, size_t at);
// Number of code points, which is Python's len().
size_t count_chars(std::string_view text);
// Byte offset of code point number `index`, or text.size() when there are fewer.
size_t byte_of_char(std::string_view text, size_t index);

// str.isspace() for one code point.
bool is_space(char32_t code_point);
// str.splitlines()'s separators; "\r\n" counts as one and is handled by the caller.
bool is_line_break(char32_t code_point);
// str.isprintable() for one code point, which decides what repr() escapes.
bool is_printable(char32_t code_point);
// Simple (one to one) case mapping of Unicode, plus ß -> SS in upper case.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
bool is_cased_letter(char32_t code_point);

// Start of the run of white space at the end of text / end of the run at its beginning, in bytes.
size_t trailing_space_begin(std::string_view text);
size_t leading_space_end(std::string_view text);

}  // namespace ultraspeed::text::jinja
