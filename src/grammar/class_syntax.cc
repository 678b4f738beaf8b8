// Character by character; sets are exact, so that a complement never allows what it should not.
#include "grammar/class_syntax.h"

#include <algorithm>

#include "grammar/grammar_builder.h"
#include "grammar/limits.h"

namespace ultraspeed::grammar {
namespace {

const CodePoints& digits() {
  static const CodePoints kDigits = {{'0', '9'}};
  return kDigits;
}

const CodePoints& word_characters() {
  static const CodePoints kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  return kWord;
}

// ECMAScript's WhiteSpace and LineTerminator.
const CodePoints& white_space() {
  static const CodePoints kSpace = {
      {'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
      {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return kSpace;
}

bool is_digit(char32_t c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

std::optional<char32_t> hex_value(char32_t c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

// min_digits to max_digits hexadecimal digits.
Result<char32_t> parse_hex(TextCursor* cursor, size_t min_digits, size_t max_digits) {
  char32_t value = 0;
  size_t count = 0;
  for (; count < max_digits; ++count) {
    const std::optional<char32_t> digit = hex_value(cursor->peek());
    if (!digit) break;
    value = value * 16 + *digit;
    cursor->take();
  }
  if (count < min_digits) return cursor->error("expected a hexadecimal digit");
  return value;
}

// A code point after \x, \u or \U.
Result<char32_t> parse_code_point(TextCursor* cursor, size_t num_digits) {
  const size_t begin = cursor->offset();
  char32_t value = 0;
  if (num_digits < 8 && cursor->take_if('{')) {
    US_ASSIGN(value, parse_hex(cursor, 1, 6));
    if (!cursor->take_if('}')) return cursor->error("expected '}' after a code point");
  } else {
    US_ASSIGN(value, parse_hex(cursor, num_digits, num_digits));
  }
  if (value >= 0xD800 && value <= 0xDBFF && cursor->take_string("\\u")) {
    US_ASSIGN(const char32_t low, parse_hex(cursor, 4, 4));
    if (low < 0xDC00 || low > 0xDFFF) return cursor->error("expected a low surrogate");
    return 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
  }
  if (value > kMaxCodePoint || (value >= 0xD800 && value <= 0xDFFF)) {
    return cursor->error(ErrorCode::kInvalidArgument, begin, "no character has this code");
  }
  return value;
}

CodePoints one(char32_t c) {
  return {{c, c}};
}

std::optional<CodePoints> set_of(char32_t letter) {
  switch (letter) {
    case 'd':
      return digits();
    case 'D':
      return digits().complement();
    case 'w':
      return word_characters();
    case 'W':
      return word_characters().complement();
    case 's':
      return white_space();
    case 'S':
      return white_space().complement();
    default:
      return std::nullopt;
  }
}

std::optional<char32_t> control_of(char32_t letter) {
  switch (letter) {
    case 'n':
      return U'\n';
    case 'r':
      return U'\r';
    case 't':
      return U'\t';
    case 'f':
      return U'\f';
    case 'v':
      return U'\v';
    default:
      return std::nullopt;
  }
}

Result<CodePoints> refuse_escape(TextCursor* cursor, char32_t letter, size_t begin) {
  const auto unsupported = [&](std::string_view what) {
    return cursor->error(ErrorCode::kUnsupported, begin, what);
  };
  if (is_digit(letter) || letter == 'k') return unsupported("back references are not supported");
  if (letter == 'p' || letter == 'P') return unsupported("\\p{...} is not supported");
  if (letter == 'b' || letter == 'B') return unsupported("word boundaries are not supported");
  return cursor->error(ErrorCode::kInvalidArgument, begin, "unknown escape");
}

// A member of a class: a character, or a set, which is no end of a range.
Result<CodePoints> parse_member(TextCursor* cursor) {
  if (cursor->take_if('\\')) return parse_escape(cursor, true);
  if (cursor->is_at_end()) return cursor->error("expected ']' to end the class");
  return one(cursor->take());
}

bool is_one(const CodePoints& set) {
  return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].last;
}

// Decimal digits, if there are any; more than kMaxRepeat saturates.
std::optional<uint32_t> take_number(std::string_view* text) {
  size_t count = 0;
  uint32_t value = 0;
  for (; count < text->size() && is_digit(static_cast<unsigned char>((*text)[count])); ++count) {
    value = std::min(kMaxRepeat + 1, value * 10 + static_cast<uint32_t>((*text)[count] - '0'));
  }
  text->remove_prefix(count);
  return count == 0 ? std::nullopt : std::optional(value);
}

Result<std::optional<Quantifier>> parse_braces(TextCursor* cursor) {
  std::string_view text = cursor->rest();
  text.remove_prefix(1);
  const std::optional<uint32_t> min = take_number(&text);
  const bool has_comma = text.starts_with(',');
  if (has_comma) text.remove_prefix(1);
  const std::optional<uint32_t> max = has_comma ? take_number(&text) : min;
  if (!text.starts_with('}') || (!min && !max)) return std::nullopt;
  if (min.value_or(0) > kMaxRepeat || max.value_or(0) > kMaxRepeat) {
    return cursor->error(ErrorCode::kOutOfMemory, cursor->offset(),
                         fmt::format("more than {} repetitions", kMaxRepeat));
  }
  const Quantifier quantifier{min.value_or(0), max.value_or(kUnbounded)};
  if (quantifier.min > quantifier.max) return cursor->error("the maximum is below the minimum");
  cursor->skip(cursor->rest().size() - text.size() + 1);
  return quantifier;
}

}  // namespace

Result<CodePoints> parse_escape(TextCursor* cursor, bool is_set_allowed) {
  const size_t begin = cursor->offset();
  const char32_t c = cursor->take();
  if (c == TextCursor::kEnd) return cursor->error("expected a character after '\\'");
  if (is_set_allowed) {
    if (std::optional<CodePoints> set = set_of(c)) return *std::move(set);
  }
  if (const std::optional<char32_t> control = control_of(c)) return one(*control);
  if (c == 'x' || c == 'u' || c == 'U') {
    US_ASSIGN(const char32_t code_point, parse_code_point(cursor, c == 'x' ? 2 : c == 'u' ? 4 : 8));
    return one(code_point);
  }
  if (c == '0' && !is_digit(cursor->peek())) return one(0);
  if (is_digit(c) || is_letter(c)) return refuse_escape(cursor, c, begin);
  return one(c);
}

Result<CodePoints> parse_class(TextCursor* cursor) {
  const bool is_negated = cursor->take_if('^');
  CodePoints set;
  while (!cursor->take_if(']')) {
    US_ASSIGN(const CodePoints first, parse_member(cursor));
    const std::string_view rest = cursor->rest();
    if (!is_one(first) || !rest.starts_with('-') || rest.starts_with("-]")) {
      set.add(first);
      continue;
    }
    const size_t hyphen = cursor->offset();
    cursor->take();
    US_ASSIGN(const CodePoints last, parse_member(cursor));
    if (!is_one(last)) {
      return cursor->error(ErrorCode::kInvalidArgument, hyphen, "a range ends in a set");
    }
    if (last.ranges()[0].first < first.ranges()[0].first) {
      return cursor->error(ErrorCode::kInvalidArgument, hyphen, "a range ends before it begins");
    }
    set.add(first.ranges()[0].first, last.ranges()[0].first);
  }
  return is_negated ? set.complement() : set;
}

Result<std::optional<Quantifier>> parse_quantifier(TextCursor* cursor) {
  if (cursor->take_if('*')) return Quantifier{0, kUnbounded};
  if (cursor->take_if('+')) return Quantifier{1, kUnbounded};
  if (cursor->take_if('?')) return Quantifier{0, 1};
  if (cursor->peek() == '{') return parse_braces(cursor);
  return std::nullopt;
}

}  // namespace ultraspeed::grammar
