// String methods: arguments as Python's str methods take them, work done by jinja_strings.
#include "text/jinja_methods_string.h"

#include "text/jinja_access.h"
#include "text/jinja_strings.h"

namespace ultraspeed::text::jinja {

namespace {

using Transform = Text (*)(Heap&, const Text&);

Result<Value> changed_self(Heap& heap, const Value& self, const Arguments& arguments,
                           Transform function) {
  US_TRY(BoundArguments::bind(arguments, {}));
  return heap.string(function(heap, self.text()));
}

Result<Value> strip_side(Heap& heap, const Value& self, const Arguments& arguments, Side side) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"chars"}));
  const Text* chars = nullptr;
  if (bound.has(0) && !bound.value(0).is_none()) {
    US_ASSIGN(chars, bound.text(0));
  }
  return heap.string(strip(heap, self.text(), chars, side));
}

// Whether self starts (or ends) with a string or one of a tuple of strings.
Result<Value> has_affix(Heap& heap, const Value& self, const Arguments& arguments, bool at_start) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"affix"}, 1));
  const Value& affix = bound.value(0);
  std::vector<Value> choices = {affix};
  if (affix.is(Type::kTuple)) {
    US_ASSIGN(choices, iterate(heap, affix));
  }
  for (const Value& choice : choices) {
    if (!choice.is_string()) {
      return make_error(ErrorCode::kInvalidArgument, "needs a string or a tuple of strings, not {}",
                        type_name(choice));
    }
    heap.spend_steps(choice.bytes().size() / 64);
    if (at_start ? self.bytes().starts_with(choice.bytes())
                 : self.bytes().ends_with(choice.bytes())) {
      return Value::boolean(true);
    }
  }
  return Value::boolean(false);
}

// The position in characters of the first or last occurrence, or -1.
Result<Integer> position_of(Heap& heap, const Value& self, const Arguments& arguments, bool first) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"sub"}, 1));
  US_ASSIGN(const Text* wanted, bound.text(0));
  const size_t found = first ? find_text(heap, self.bytes(), wanted->bytes())
                             : find_last_text(heap, self.bytes(), wanted->bytes());
  if (found == std::string_view::npos) return -1;
  return static_cast<Integer>(count_chars(self.bytes().substr(0, found)));
}

Result<Value> remove_affix(Heap& heap, const Value& self, const Arguments& arguments,
                           bool at_start) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"affix"}, 1));
  US_ASSIGN(const Text* affix, bound.text(0));
  const size_t size = self.bytes().size();
  if (at_start && self.bytes().starts_with(affix->bytes())) {
    return heap.string(self.text().slice(affix->size_bytes(), size));
  }
  if (!at_start && self.bytes().ends_with(affix->bytes())) {
    return heap.string(self.text().slice(0, size - affix->size_bytes()));
  }
  return self;
}

}  // namespace

Result<Value> string_capitalize(Heap& heap, const Value& self, const Arguments& arguments) {
  return changed_self(heap, self, arguments, capitalize);
}

Result<Value> string_lower(Heap& heap, const Value& self, const Arguments& arguments) {
  return changed_self(heap, self, arguments, lower);
}

Result<Value> string_title(Heap& heap, const Value& self, const Arguments& arguments) {
  return changed_self(heap, self, arguments, title);
}

Result<Value> string_upper(Heap& heap, const Value& self, const Arguments& arguments) {
  return changed_self(heap, self, arguments, upper);
}

Result<Value> string_strip(Heap& heap, const Value& self, const Arguments& arguments) {
  return strip_side(heap, self, arguments, Side::kBoth);
}

Result<Value> string_lstrip(Heap& heap, const Value& self, const Arguments& arguments) {
  return strip_side(heap, self, arguments, Side::kLeft);
}

Result<Value> string_rstrip(Heap& heap, const Value& self, const Arguments& arguments) {
  return strip_side(heap, self, arguments, Side::kRight);
}

Result<Value> string_startswith(Heap& heap, const Value& self, const Arguments& arguments) {
  return has_affix(heap, self, arguments, true);
}

Result<Value> string_endswith(Heap& heap, const Value& self, const Arguments& arguments) {
  return has_affix(heap, self, arguments, false);
}

Result<Value> string_removeprefix(Heap& heap, const Value& self, const Arguments& arguments) {
  return remove_affix(heap, self, arguments, true);
}

Result<Value> string_removesuffix(Heap& heap, const Value& self, const Arguments& arguments) {
  return remove_affix(heap, self, arguments, false);
}

Result<Value> string_find(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const Integer position, position_of(heap, self, arguments, true));
  return Value::integer(position);
}

Result<Value> string_rfind(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const Integer position, position_of(heap, self, arguments, false));
  return Value::integer(position);
}

Result<Value> string_index(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const Integer position, position_of(heap, self, arguments, true));
  if (position < 0) return make_error(ErrorCode::kInvalidArgument, "substring not found");
  return Value::integer(position);
}

Result<Value> string_count(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"sub"}, 1));
  US_ASSIGN(const Text* wanted, bound.text(0));
  const std::string_view bytes = self.bytes();
  if (wanted->empty()) return Value::integer(static_cast<Integer>(count_chars(bytes) + 1));
  Integer count = 0;
  for (size_t at = find_text(heap, bytes, wanted->bytes()); at != std::string_view::npos;
       at = find_text(heap, bytes, wanted->bytes(), at + wanted->size_bytes())) {
    ++count;
  }
  return Value::integer(count);
}

Result<Value> string_join(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"iterable"}, 1));
  US_ASSIGN(const std::vector<Value> values, iterate(heap, bound.value(0)));
  TextBuilder out(heap);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i].is_string()) {
      return make_error(ErrorCode::kInvalidArgument, "item {} is a {}, not a string", i,
                        type_name(values[i]));
    }
    if (i > 0) out.append(self.text());
    if (!out.append(values[i].text())) break;
  }
  return heap.string(out.take());
}

Result<Value> string_replace(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"old", "new", "count"}, 2));
  US_ASSIGN(const Text* old_text, bound.text(0));
  US_ASSIGN(const Text* new_text, bound.text(1));
  US_ASSIGN(const Integer count, bound.integer(2, -1));
  return heap.string(replace(heap, self.text(), *old_text, *new_text, count));
}

Result<Value> string_split(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"sep", "maxsplit"}));
  const Text* separator = nullptr;
  if (bound.has(0) && !bound.value(0).is_none()) {
    US_ASSIGN(separator, bound.text(0));
  }
  US_ASSIGN(const Integer max_splits, bound.integer(1, -1));
  US_ASSIGN(std::vector<Value> pieces, split(heap, self.text(), separator, max_splits));
  return heap.list(std::move(pieces));
}

Result<Value> string_rsplit(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"sep", "maxsplit"}, 1));
  US_ASSIGN(const Text* separator, bound.text(0));
  US_ASSIGN(const Integer max_splits, bound.integer(1, -1));
  US_ASSIGN(std::vector<Value> pieces, split_right(heap, self.text(), *separator, max_splits));
  return heap.list(std::move(pieces));
}

Result<Value> string_splitlines(Heap& heap, const Value& self, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  std::vector<Value> lines;
  for (Text& line : split_lines(heap, self.text())) lines.push_back(heap.string(std::move(line)));
  return heap.list(std::move(lines));
}

}  // namespace ultraspeed::text::jinja
