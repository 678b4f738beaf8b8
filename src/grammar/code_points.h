// Sets of Unicode characters, and the byte sequences that UTF-8 spells them with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::grammar {

inline constexpr char32_t kMaxCodePoint = 0x10FFFF;

// A set of Unicode scalar values: surrogates never belong to it.
class CodePoints {
 public:
  // Inclusive.
  struct Range {
    char32_t first;
    char32_t last;
    bool operator==(const Range&) const = default;
  };

  CodePoints() = default;
  CodePoints(std::initializer_list<Range> ranges);
  static CodePoints all();

  // REQUIRES: first <= last <= kMaxCodePoint.
  void add(char32_t first, char32_t last);
  void add(const CodePoints& other);

  CodePoints complement() const;
  CodePoints without(const CodePoints& other) const;
  bool contains(char32_t code_point) const;
  // Ascending, neither overlapping nor adjacent (but for the gap of the surrogates).
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

// The UTF-8 sequences of one to four bytes in given inclusive ranges.
struct ByteSequence {
  struct Range {
    uint8_t first;
    uint8_t last;
  };
  std::array<Range, 4> ranges;
  uint8_t size = 0;
};

// Sequences that together match each character of the set and nothing else.
std::vector<ByteSequence> utf8_sequences(const CodePoints& set);

// What a text begins with; num_bytes is 0 where that is no whole, well-formed character.
struct Character {
  char32_t code_point = 0;
  size_t num_bytes = 0;
};
Character first_character(std::string_view text);

// Appends the UTF-8 bytes of a scalar value.
void append_utf8(char32_t code_point, std::string* out);

}  // namespace ultraspeed::grammar
