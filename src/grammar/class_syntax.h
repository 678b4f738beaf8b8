// What grammars and regular expressions write alike: escapes, character classes, quantifiers.
#pragma once

#include <optional>

#include "base/result.h"
#include "grammar/code_points.h"
#include "grammar/text_cursor.h"

namespace ultraspeed::grammar {

// The characters after '\\': one for \n \r \t \f \v \0 \xHH \x{H..} \uHHHH (a surrogate pair, too)
// \u{H..} \UHHHHHHHH and escaped punctuation; the sets of ECMAScript for \d \D \w \W \s \S if
// is_set_allowed. Errors: kUnsupported for back references, properties and assertions,
// kInvalidArgument for others.
Result<CodePoints> parse_escape(TextCursor* cursor, bool is_set_allowed);

// A class after '[', with the ']'.
Result<CodePoints> parse_class(TextCursor* cursor);

struct Quantifier {
  uint32_t min;
  uint32_t max;  // kUnbounded: no end
};

// * + ? {m} {m,} {m,n} {,n}, if one comes next; a brace that begins none of these is left alone.
// Errors: kInvalidArgument for a maximum below the minimum, kOutOfMemory beyond kMaxRepeat.
Result<std::optional<Quantifier>> parse_quantifier(TextCursor* cursor);

}  // namespace ultraspeed::grammar
