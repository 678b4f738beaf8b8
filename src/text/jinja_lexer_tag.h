// The part of the lexer that reads what stands inside {{ }} and {% %}: names, numbers, strings with
// Python's escapes, operators and their balance.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_lexer.h"

namespace ultraspeed::text::jinja {

class TagLexer {
 public:
  TagLexer(std::string_view source, size_t at, std::vector<Token>& tokens)
      : source_(source), at_(at), tokens_(tokens) {}

  size_t at() const { return at_; }
  void move_to(size_t at) { at_ = at; }
  bool is_balanced() const { return open_brackets_.empty(); }

  // Appends the token at at() and moves behind it. REQUIRES: at() is no white space and not the
  // end.
  Status read_token();

 private:
  Error error(size_t offset, std::string_view message) const {
    return template_error(source_, offset, message);
  }
  void add(TokenKind kind, size_t end);
  bool read_number();
  size_t digits_end(size_t at, int base) const;
  size_t based_integer_end() const;
  size_t decimal_integer_end() const;
  size_t float_end() const;
  Status read_string();
  Status read_operator();

  std::string_view source_;
  size_t at_;
  std::vector<Token>& tokens_;
  std::string open_brackets_;
};

// The value of a string literal's inside, by Python's rules for str literals; \N{...} and lone
// surrogates are errors. The error is a sentence without a position.
Result<std::string> unescape(std::string_view inside);

}  // namespace ultraspeed::text::jinja
