// Tokens of a Jinja template, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks on,
// as transformers configures it: a newline after a block or comment goes, blanks before one on its
// line go, `-` strips all white space on its side and `+` keeps it. Source: jinja2/lexer.py 3.1.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::text::jinja {

enum class TokenKind : uint8_t {
  kData,        // text: template text to print, white space control applied
  kPrintBegin,  // {{
  kPrintEnd,    // }}
  kBlockBegin,  // {%
  kBlockEnd,    // %}
  kName,        // text
  kString,      // text: the unescaped value
  kInteger,     // text: the literal without underscores
  kFloat,       // text: the literal without underscores
  kOperator,    // text
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  size_t offset = 0;  // in the normalised source
  std::string text;
};

// The source as the lexer reads it: \r\n and \r become \n, one newline at the end goes.
std::string normalize_source(std::string_view source);

// "line L, column C" of a byte offset, both from 1, the column in characters.
std::string describe_position(std::string_view source, size_t offset);

// An error about the template's text: "chat template, line 3, column 7: MESSAGE".
Error template_error(std::string_view source, size_t offset, std::string_view message);

// The tokens of a normalised source, ending in kEnd. Errors (kInvalidData): unclosed tags, comments
// and strings, unbalanced brackets, characters that start no token, bad string escapes.
Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace ultraspeed::text::jinja
