// UTF-8 as this module sees it: every string that reaches the tokenizer is made valid first, and
// every string that leaves the detokenizer is valid. Malformed bytes become U+FFFD by the Unicode
// Standard's rule (3.9, "substitution of maximal subparts"), which is what Rust's from_utf8_lossy,
// Python's errors="replace" and browsers do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// A half-open range of byte offsets.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

// One piece of a byte string: a whole character, or a malformed piece (a maximal subpart of an
// ill-formed sequence), or the beginning of a character that the end of the string cuts off.
enum class Utf8Kind { kCharacter, kMalformed, kCutOff };

struct Utf8Piece {
  Utf8Kind kind = Utf8Kind::kCharacter;
  size_t size_bytes = 0;
  char32_t code_point = 0;  // of a kCharacter
};

// The first piece of `bytes`. REQUIRES: bytes is not empty.
Utf8Piece first_utf8_piece(std::string_view bytes);

bool is_valid_utf8(std::string_view bytes);

// Appends a code point. REQUIRES: a Unicode scalar value (at most 0x10FFFF, no surrogate).
void append_utf8(char32_t code_point, std::string& out);

// A stretch of a text that a rewriting step replaced; outside of edits the bytes are unchanged.
struct TextEdit {
  ByteRange source;
  ByteRange target;
};

// A rewritten text, with its edits in ascending order.
struct RewrittenText {
  std::string text;
  std::vector<TextEdit> edits;
};

// Replaces each malformed or cut-off piece by U+FFFD.
RewrittenText replace_malformed(std::string_view bytes);

// The same ranges (ascending, disjoint, not empty) in the rewritten text. A range that touches an
// edit covers all of its replacement.
std::vector<ByteRange> map_ranges(const std::vector<ByteRange>& ranges,
                                  const std::vector<TextEdit>& edits);

}  // namespace ultraspeed::text
