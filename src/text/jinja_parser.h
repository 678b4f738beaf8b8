// Parses a template's source into a syntax tree. The grammar is jinja2's (jinja2/parser.py 3.1) cut
// down to what chat templates use; everything else is an error that names the construct.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja_ast.h"

namespace ultraspeed::text::jinja {

// REQUIRES: source is normalised (jinja_lexer.h) valid UTF-8. Errors: kInvalidData for a malformed
// template, kUnsupported for well-formed Jinja outside of the subset; both with line and column.
Result<Tree> parse(std::string_view source);

}  // namespace ultraspeed::text::jinja
