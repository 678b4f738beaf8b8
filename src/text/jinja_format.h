// Values as text: Python's str() and repr(), and json.dumps() as transformers' tojson filter calls
// it. Marks pass through: a string's characters keep theirs, and what a scalar or container from
// input prints is input.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

// repr() of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
std::string format_float(double value);

// str(value). Errors: values whose text is an address in Python (generators, functions).
Result<Text> to_text(Heap& heap, const Value& value);

struct JsonStyle {
  std::optional<std::string> indent;       // of one level; nothing: all on one line
  std::string_view item_separator = ", ";  // both outlive the call
  std::string_view key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};

// json.dumps(value). Errors: undefined values, functions and other values that JSON lacks, also as
// keys; keys of different types when they are to be sorted.
Result<Text> to_json(Heap& heap, const Value& value, const JsonStyle& style);

}  // namespace ultraspeed::text::jinja
