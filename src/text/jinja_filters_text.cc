// Filters whose result is a string. They take any input and work on its text.
#include <limits>

#include "text/jinja_access.h"
#include "text/jinja_filters_table.h"
#include "text/jinja_format.h"
#include "text/jinja_operators.h"
#include "text/jinja_strings.h"

namespace ultraspeed::text::jinja {

namespace {

Result<Value> transform(Heap& heap, const Value& input, const Arguments& arguments,
                        Text (*function)(Heap&, const Text&)) {
  US_TRY(BoundArguments::bind(arguments, {}));
  US_ASSIGN(const Text text, to_text(heap, input));
  return heap.string(function(heap, text));
}

// `width` spaces, or the string itself. Errors: more spaces than the heap may hold.
Result<Text> indentation_of(Heap& heap, const Value& width) {
  if (width.is_string()) return width.text();
  if (!width.is_integral()) {
    return make_error(ErrorCode::kInvalidArgument, "needs an integer or a string, not {}",
                      type_name(width));
  }
  US_ASSIGN(const Value spaces,
            arithmetic(heap, Operator::kMultiply, heap.string(" ", false), width));
  return spaces.text();
}

}  // namespace

Result<Value> filter_capitalize(Heap& heap, const Value& input, const Arguments& arguments) {
  return transform(heap, input, arguments, capitalize);
}

Result<Value> filter_lower(Heap& heap, const Value& input, const Arguments& arguments) {
  return transform(heap, input, arguments, lower);
}

Result<Value> filter_title(Heap& heap, const Value& input, const Arguments& arguments) {
  return transform(heap, input, arguments, title_words);
}

Result<Value> filter_upper(Heap& heap, const Value& input, const Arguments& arguments) {
  return transform(heap, input, arguments, upper);
}

Result<Value> filter_string(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  if (input.is_string()) return input;
  US_ASSIGN(Text text, to_text(heap, input));
  return heap.string(std::move(text));
}

Result<Value> filter_trim(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"chars"}));
  const Text* chars = nullptr;
  if (bound.has(0) && !bound.value(0).is_none()) {
    US_ASSIGN(chars, bound.text(0));
  }
  US_ASSIGN(const Text text, to_text(heap, input));
  return heap.string(strip(heap, text, chars, Side::kBoth));
}

Result<Value> filter_replace(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"old", "new", "count"}, 2));
  US_ASSIGN(const Text text, to_text(heap, input));
  US_ASSIGN(const Text old_text, to_text(heap, bound.value(0)));
  US_ASSIGN(const Text new_text, to_text(heap, bound.value(1)));
  const bool all = !bound.has(2) || bound.value(2).is_none();
  US_ASSIGN(const Integer count, all ? Result<Integer>(-1) : bound.integer(2, -1));
  return heap.string(replace(heap, text, old_text, new_text, count));
}

Result<Value> filter_join(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"d", "attribute"}));
  Text separator;
  if (bound.has(0)) {
    US_ASSIGN(separator, to_text(heap, bound.value(0)));
  }
  US_ASSIGN(const std::vector<Value> values, iterate(heap, input));
  TextBuilder out(heap);
  for (size_t i = 0; i < values.size(); ++i) {
    Value value = values[i];
    if (bound.has(1) && !bound.value(1).is_none()) {
      US_ASSIGN(value, follow_attribute(heap, value, bound.value(1)));
    }
    US_ASSIGN(const Text text, to_text(heap, value));
    if (i > 0) out.append(separator);
    if (!out.append(text)) break;
  }
  return heap.string(out.take());
}

Result<Value> filter_indent(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"width", "first", "blank"}));
  if (!input.is_string()) {
    return make_error(ErrorCode::kInvalidArgument, "needs a string, not {}", type_name(input));
  }
  US_ASSIGN(const Text indentation,
            indentation_of(heap, bound.has(0) ? bound.value(0) : Value::integer(4)));
  Text text = input.text();
  text.append("\n", false);  // so that a final newline makes a last, empty line
  const std::vector<Text> lines = split_lines(heap, text);
  TextBuilder out(heap);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", false);
    const bool indents =
        i == 0 ? bound.truth(1, false) : bound.truth(2, false) || !lines[i].empty();
    if (indents) out.append(indentation);
    if (!out.append(lines[i])) break;
  }
  return heap.string(out.take());
}

Result<Value> filter_tojson(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = bound.truth(0, false);
  style.sort_keys = bound.truth(3, false);
  if (bound.has(1) && !bound.value(1).is_none()) {
    US_ASSIGN(const Text indentation, indentation_of(heap, bound.value(1)));
    style.indent = indentation.bytes();
    style.item_separator = ",";
  }
  if (bound.has(2) && !bound.value(2).is_none()) {
    US_ASSIGN(const std::vector<Value> pair, iterate(heap, bound.value(2)));
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "separators must be two strings: (between items, after keys)");
    }
    style.item_separator = pair[0].bytes();
    style.key_separator = pair[1].bytes();
  }
  US_ASSIGN(Text json, to_json(heap, input, style));
  return heap.string(std::move(json));
}

}  // namespace ultraspeed::text::jinja
