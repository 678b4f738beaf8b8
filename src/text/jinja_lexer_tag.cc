// Tokens inside tags.
#include "text/jinja_lexer_tag.h"

#include <array>

#include "text/jinja_text.h"

namespace ultraspeed::text::jinja {

namespace {

bool is_digit(char c, int base = 10) {
  const char last = static_cast<char>('0' + (base < 10 ? base : 10) - 1);
  if (c >= '0' && c <= last) return true;
  return base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
}

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

int digit_value(char c) {
  if (c <= '9') return c - '0';
  return (c | 0x20) - 'a' + 10;
}

// \x, \u, \U and octal escapes: the digits at `at`, between min_count and max_count of them.
struct Digits {
  char32_t value = 0;
  size_t count = 0;
};

Digits read_digits(std::string_view text, size_t at, size_t max_count, int base) {
  Digits digits;
  while (digits.count < max_count && at + digits.count < text.size() &&
         is_digit(text[at + digits.count], base)) {
    digits.value = digits.value * static_cast<char32_t>(base) +
                   static_cast<char32_t>(digit_value(text[at + digits.count]));
    ++digits.count;
  }
  return digits;
}

// The character that \c stands for, or 0.
char simple_escape(char c) {
  constexpr std::string_view kNames = "\\'\"abfnrtv";
  constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
  const size_t index = kNames.find(c);
  return index == std::string_view::npos ? '\0' : kValues[index];
}

// Appends the character of a numeric escape `\xHH`, `\uHHHH` or `\UHHHHHHHH`; returns its size.
Result<size_t> unescape_hexadecimal(std::string_view inside, size_t at, std::string& out) {
  const char kind = inside[at + 1];
  const size_t want = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
  const Digits digits = read_digits(inside, at + 2, want, 16);
  if (digits.count != want) {
    return make_error(ErrorCode::kInvalidData, "the escape \\{} needs {} hexadecimal digits", kind,
                      want);
  }
  if (digits.value > 0x10FFFF || (digits.value >= 0xD800 && digits.value < 0xE000)) {
    return make_error(ErrorCode::kInvalidData, "the escape \\{}{} is not a character", kind,
                      inside.substr(at + 2, want));
  }
  append_utf8(digits.value, out);
  return 2 + want;
}

}  // namespace

Result<std::string> unescape(std::string_view inside) {
  std::string out;
  for (size_t at = 0; at < inside.size();) {
    if (inside[at] != '\\') {
      out += inside[at++];
      continue;
    }
    const char kind = inside[at + 1];  // the lexer never ends a string after a backslash
    if (kind == 'x' || kind == 'u' || kind == 'U') {
      US_ASSIGN(const size_t size, unescape_hexadecimal(inside, at, out));
      at += size;
    } else if (is_digit(kind, 8)) {
      const Digits digits = read_digits(inside, at + 1, 3, 8);
      append_utf8(digits.value, out);
      at += 1 + digits.count;
    } else if (kind == 'N') {
      return make_error(ErrorCode::kInvalidData, "character names (\\N) are not supported");
    } else {
      if (const char value = simple_escape(kind)) {
        out += value;
      } else if (kind != '\n') {  // an unknown escape stays, an escaped newline goes
        out.append({'\\', kind});
      }
      at += 2;
    }
  }
  return out;
}

void TagLexer::add(TokenKind kind, size_t end) {
  std::string text(source_.substr(at_, end - at_));
  if (kind == TokenKind::kInteger || kind == TokenKind::kFloat) std::erase(text, '_');
  tokens_.push_back({kind, at_, std::move(text)});
  at_ = end;
}

Status TagLexer::read_token() {
  const char c = source_[at_];
  if (read_number()) return {};
  if (is_name_char(c)) {
    size_t end = at_;
    while (end < source_.size() && is_name_char(source_[end])) ++end;
    add(TokenKind::kName, end);
    return {};
  }
  if (c == '\'' || c == '"') return read_string();
  return read_operator();
}

// The end of a run of digits that single underscores may separate, or `at` when there is none.
size_t TagLexer::digits_end(size_t at, int base) const {
  size_t end = at;
  while (end < source_.size()) {
    if (is_digit(source_[end], base)) {
      ++end;
    } else if (source_[end] == '_' && end > at && end + 1 < source_.size() &&
               is_digit(source_[end + 1], base)) {
      end += 2;
    } else {
      break;
    }
  }
  return end;
}

// 0b1, 0o7, 0xF, with an underscore allowed after the prefix; at_ when there is none.
size_t TagLexer::based_integer_end() const {
  if (source_[at_] != '0' || at_ + 1 >= source_.size()) return at_;
  const char prefix = static_cast<char>(source_[at_ + 1] | 0x20);
  const int base = prefix == 'b' ? 2 : prefix == 'o' ? 8 : prefix == 'x' ? 16 : 0;
  if (base == 0) return at_;
  const size_t begin = at_ + 2;
  const size_t digits = begin + (begin < source_.size() && source_[begin] == '_' ? 1 : 0);
  const size_t end = digits_end(digits, base);
  return end == digits ? at_ : end;
}

// A number without leading zeros, or zeros alone.
size_t TagLexer::decimal_integer_end() const {
  const size_t end = digits_end(at_, 10);
  if (source_[at_] != '0') return end;
  const size_t other = source_.substr(at_, end - at_).find_first_not_of("0_");
  return other == std::string_view::npos ? end : at_ + other;
}

// Digits with a fraction, an exponent or both; at_ when that is not what stands here. A number
// after a dot is an index (x.0.1), never a float.
size_t TagLexer::float_end() const {
  if (at_ > 0 && source_[at_ - 1] == '.') return at_;
  const size_t whole = digits_end(at_, 10);
  size_t end = whole;
  if (end < source_.size() && source_[end] == '.') {
    const size_t fraction = digits_end(end + 1, 10);
    if (fraction > end + 1) end = fraction;
  }
  if (end < source_.size() && (source_[end] | 0x20) == 'e') {
    size_t exponent = end + 1;
    if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) {
      ++exponent;
    }
    const size_t exponent_end = digits_end(exponent, 10);
    if (exponent_end > exponent) end = exponent_end;
  }
  return end == whole ? at_ : end;
}

bool TagLexer::read_number() {
  if (!is_digit(source_[at_])) return false;
  if (const size_t end = float_end(); end != at_) {
    add(TokenKind::kFloat, end);
  } else if (const size_t based = based_integer_end(); based != at_) {
    add(TokenKind::kInteger, based);
  } else {
    add(TokenKind::kInteger, decimal_integer_end());
  }
  return true;
}

Status TagLexer::read_string() {
  const char quote = source_[at_];
  size_t end = at_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) {
    return tl::unexpected(error(at_, fmt::format("the string is not closed by {}", quote)));
  }
  auto value = unescape(source_.substr(at_ + 1, end - at_ - 1));
  if (!value) return tl::unexpected(error(at_, value.error().message));
  tokens_.push_back({TokenKind::kString, at_, *std::move(value)});
  at_ = end + 1;
  return {};
}

Status TagLexer::read_operator() {
  static constexpr std::array<std::string_view, 26> kOperators = {
      "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[",
      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
  const std::string_view rest = source_.substr(at_);
  for (const std::string_view op : kOperators) {
    if (!rest.starts_with(op)) continue;
    if (op == "(") open_brackets_ += ')';
    if (op == "[") open_brackets_ += ']';
    if (op == "{") open_brackets_ += '}';
    if (op == ")" || op == "]" || op == "}") {
      if (open_brackets_.empty() || open_brackets_.back() != op[0]) {
        return tl::unexpected(error(
            at_, open_brackets_.empty()
                     ? fmt::format("unexpected '{}'", op)
                     : fmt::format("unexpected '{}', expected '{}'", op, open_brackets_.back())));
      }
      open_brackets_.pop_back();
    }
    add(TokenKind::kOperator, at_ + op.size());
    return {};
  }
  return tl::unexpected(error(
      at_, fmt::format("unexpected character '{}'", rest.substr(0, char_bytes(source_, at_)))));
}

}  // namespace ultraspeed::text::jinja
