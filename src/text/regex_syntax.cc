// One pass over the pattern; each construct is copied, rewritten or refused.
#include "text/regex_syntax.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "text/utf8.h"

namespace ultraspeed::text {
namespace {

// Unicode property White_Space (PropList.txt) and its complement, as class members.
constexpr std::string_view kWhiteSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f})"
    R"(\x{3000})";
constexpr std::string_view kNotWhiteSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// Oniguruma's word characters (its table CR_Word): letters, marks, digits, letter numbers,
// connectors, the alphabetic symbols, and the superscripts and fractions of Latin-1.
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169})"
    R"(\x{1f170}-\x{1f189}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

constexpr std::array<std::string_view, 38> kGeneralCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "L&", "M",  "Mn", "Mc", "Me", "N",  "Nd",
    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc",
    "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cs", "Co", "Cn"};

constexpr std::array<std::string_view, 7> kGroupOpenings = {"?:",  "?=",  "?!", "?>",
                                                            "?<=", "?<!", "?i:"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_hex(char c) {
  return std::isxdigit(static_cast<unsigned char>(c)) != 0;
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> translate() {
    while (!at_end()) US_TRY(translate_one());
    return std::move(out_);
  }

 private:
  bool at_end() const { return offset_ == pattern_.size(); }
  char peek(size_t ahead = 0) const {
    return offset_ + ahead < pattern_.size() ? pattern_[offset_ + ahead] : '\0';
  }
  std::string_view rest() const { return pattern_.substr(offset_); }
  tl::unexpected<Error> refuse(std::string_view construct, size_t offset) const {
    return make_error(ErrorCode::kUnsupported,
                      "the regular expression construct {} at byte {} is not supported", construct,
                      offset);
  }

  // A construct outside of a character class.
  Status translate_one() {
    const char c = peek();
    if (c == '\\') return translate_escape();
    if (c == '[') return translate_class();
    if (c == '(') return translate_group();
    if (c == '{') return translate_interval();
    ++offset_;
    if (c == '^' || c == '$') {  // Ruby's anchors are those of lines
      out_ += c == '^' ? "(?m:^)" : "(?m:$)";
    } else {
      if (c == ']' || c == '}') out_ += '\\';
      out_ += c;
    }
    return {};
  }

  Status translate_group() {
    const size_t begin = offset_++;
    if (peek() == '*') return refuse("'(*...)'", begin);
    if (peek() != '?') {
      out_ += "(?:";
      return {};
    }
    for (const std::string_view opening : kGroupOpenings) {
      if (!rest().starts_with(opening)) continue;
      out_ += '(';
      out_ += opening;
      offset_ += opening.size();
      return {};
    }
    return refuse("'(?' other than (?: (?= (?! (?> (?<= (?<! (?i:", begin);
  }

  // {n}, {n,} and {n,m}; anything else is a literal brace.
  Status translate_interval() {
    size_t end = offset_ + 1;
    const auto skip_digits = [&] {
      const size_t begin = end;
      while (end < pattern_.size() && is_digit(pattern_[end])) ++end;
      return end > begin;
    };
    const bool has_min = skip_digits();
    const bool has_comma = end < pattern_.size() && pattern_[end] == ',';
    if (has_comma) ++end;
    const bool has_max = has_comma && skip_digits();
    if ((!has_min && !has_max) || end >= pattern_.size() || pattern_[end] != '}') {
      out_ += "\\{";
      ++offset_;
      return {};
    }
    if (!has_min) return refuse("'{,n}'", offset_);
    ++end;
    if (end < pattern_.size() && (pattern_[end] == '+' || pattern_[end] == '?')) {
      return refuse("of a quantifier after '{n,m}'", end);
    }
    out_ += pattern_.substr(offset_, end - offset_);
    offset_ = end;
    return {};
  }

  Status translate_escape() {
    switch (peek(1)) {
      case 's':
        return replace(2, "[", kWhiteSpace);
      case 'S':
        return replace(2, "[^", kWhiteSpace);
      case 'w':
        return replace(2, "[", kWord);
      case 'W':
        return replace(2, "[^", kWord);
      case 'd':
      case 'D':
      case 'A':
      case 'z':
        return copy(2);
      case 'p':
      case 'P':
        return translate_property();
      default:
        return translate_character_escape();
    }
  }

  Status copy(size_t size_bytes) {
    out_ += pattern_.substr(offset_, size_bytes);
    offset_ += size_bytes;
    return {};
  }

  Status replace(size_t size_bytes, std::string_view opening, std::string_view members) {
    offset_ += size_bytes;
    out_ += opening;
    out_ += members;
    out_ += ']';
    return {};
  }

  // \p{Name}, \P{Name}, \p{^Name}: a general category, or a script.
  Status translate_property() {
    const size_t begin = offset_;
    const size_t close = pattern_.find('}', offset_);
    if (peek(2) != '{' || close == std::string_view::npos) return refuse("'\\p' without {}", begin);
    std::string_view name = pattern_.substr(offset_ + 3, close - offset_ - 3);
    bool is_negated = peek(1) == 'P';
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    const bool is_category = std::find(kGeneralCategories.begin(), kGeneralCategories.end(),
                                       name) != kGeneralCategories.end();
    if (!is_category && (name.size() < 3 || !std::all_of(name.begin(), name.end(), is_letter))) {
      return refuse(fmt::format("'\\p{{{}}}'", name), begin);
    }
    // A bare script name means script extensions to PCRE2, the script itself to Oniguruma.
    out_ += fmt::format("\\{}{{{}{}}}", is_negated ? 'P' : 'p', is_category ? "" : "sc:", name);
    offset_ = close + 1;
    return {};
  }

  // An escape that stands for one character.
  Status translate_character_escape() {
    const size_t begin = offset_;
    const char c = peek(1);
    if (offset_ + 1 >= pattern_.size()) return refuse("'\\' at the end", begin);
    if (c == 'n' || c == 'r' || c == 't' || c == 'f' || c == 'a' || c == 'e') return copy(2);
    if (c == 'v') {  // a class to PCRE2
      out_ += "\\x{b}";
      offset_ += 2;
      return {};
    }
    if (c == 'x' || c == 'u') return translate_code_point();
    if (is_letter(c) || is_digit(c)) return refuse(fmt::format("'\\{}'", c), begin);
    if (static_cast<unsigned char>(c) < 0x80) return copy(2);
    ++offset_;  // an escaped character beyond ASCII stands for itself
    return copy(first_utf8_piece(rest()).size_bytes);
  }

  // \x{H...}, \xHH (below 80, above it is a byte to Oniguruma) and \uHHHH.
  Status translate_code_point() {
    const size_t begin = offset_;
    const bool is_braced = peek(1) == 'x' && peek(2) == '{';
    const size_t digits_begin = offset_ + (is_braced ? 3 : 2);
    const size_t max_digits = is_braced ? 6 : peek(1) == 'x' ? 2 : 4;
    size_t end = digits_begin;
    while (end < pattern_.size() && end - digits_begin < max_digits && is_hex(pattern_[end])) ++end;
    const std::string_view digits = pattern_.substr(digits_begin, end - digits_begin);
    const bool is_closed = !is_braced || (end < pattern_.size() && pattern_[end] == '}');
    const bool is_complete = is_braced ? !digits.empty() : digits.size() == max_digits;
    const bool is_byte = peek(1) == 'x' && !is_braced && !digits.empty() && digits[0] > '7';
    if (!is_closed || !is_complete || is_byte) return refuse("of this '\\x' or '\\u'", begin);
    out_ += fmt::format("\\x{{{}}}", digits);
    offset_ = end + (is_braced ? 1 : 0);
    return {};
  }

  Status translate_class() {
    const size_t begin = offset_++;
    out_ += '[';
    if (peek() == '^') US_TRY(copy(1));
    if (peek() == ']') return refuse("'[]'", begin);
    while (peek() != ']') {
      if (at_end()) return refuse("'[' without ']'", begin);
      US_TRY(translate_class_member());
    }
    return copy(1);
  }

  Status translate_class_member() {
    const char c = peek();
    if (c == '[') return refuse("'[' inside of a character class", offset_);
    if (c == '&' && peek(1) == '&') return refuse("'&&' inside of a character class", offset_);
    if (c != '\\') return copy(1);
    return translate_class_escape();
  }

  Status translate_class_escape() {
    const size_t begin = offset_;
    const char c = peek(1);
    if (std::string_view("sSwdDpP").find(c) == std::string_view::npos) {
      return translate_character_escape();
    }
    // A set cannot be the end of a range: the hyphen before or after it is a literal.
    if (out_.back() == '-' && !out_.ends_with("\\-") && !out_.ends_with("[-")) {
      return refuse("'-' before a set inside of a character class", begin);
    }
    if (c == 'p' || c == 'P') {
      US_TRY(translate_property());
    } else if (c == 'd' || c == 'D') {
      US_TRY(copy(2));
    } else {
      out_ += c == 's' ? kWhiteSpace : c == 'S' ? kNotWhiteSpace : kWord;
      offset_ += 2;
    }
    if (peek() == '-') {
      out_ += '\\';
      US_TRY(copy(1));
    }
    return {};
  }

  std::string_view pattern_;
  size_t offset_ = 0;
  std::string out_;
};

}  // namespace

Result<std::string> translate_oniguruma(std::string_view pattern) {
  return Translator(pattern).translate();
}

}  // namespace ultraspeed::text
