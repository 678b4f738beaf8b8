// Filters over sequences and mappings that keep their order.
#include <algorithm>

#include "text/jinja_access.h"
#include "text/jinja_filters.h"
#include "text/jinja_filters_table.h"
#include "text/jinja_operators.h"
#include "text/jinja_predicates.h"
#include "text/jinja_strings.h"

namespace ultraspeed::text::jinja {

namespace {

bool is_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// The arguments from `first` on, for the filter or test that map and select pass them to.
Arguments arguments_from(const Arguments& arguments, size_t first) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(first),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

Result<std::string_view> name_argument(const Value& value, std::string_view what) {
  if (value.is_string()) return value.bytes();
  return make_error(ErrorCode::kInvalidArgument, "the name of a {} must be a string, not {}", what,
                    type_name(value));
}

// map(attribute=..., default=...).
Result<Value> map_attribute(Heap& heap, const std::vector<Value>& items,
                            const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"attribute", "default"}, 1));
  std::vector<Value> out;
  for (const Value& item : items) {
    US_ASSIGN(Value value, follow_attribute(heap, item, bound.value(0)));
    if (value.is_undefined() && bound.has(1) && !bound.value(1).is_none()) value = bound.value(1);
    out.push_back(value);
  }
  return heap.sequence(Type::kIterator, std::move(out));
}

// select, reject, selectattr, rejectattr: keeps the items whose test gives `wanted`.
Result<Value> keep(Heap& heap, const Value& input, const Arguments& arguments, bool by_attribute,
                   bool wanted) {
  std::vector<Value> out;
  if (!is_true(input)) return heap.sequence(Type::kIterator, std::move(out));
  const size_t test_index = by_attribute ? 1 : 0;
  if (arguments.positional.size() < test_index) {
    return make_error(ErrorCode::kInvalidArgument, "needs the name of an attribute");
  }
  const bool has_test = arguments.positional.size() > test_index;
  const Arguments rest = arguments_from(arguments, test_index + (has_test ? 1 : 0));
  US_ASSIGN(const std::vector<Value> items, iterate(heap, input));
  for (const Value& item : items) {
    Value subject = item;
    if (by_attribute) {
      US_ASSIGN(subject, follow_attribute(heap, item, arguments.positional[0]));
    }
    bool passes = is_true(subject);
    if (has_test) {
      US_ASSIGN(const std::string_view name,
                name_argument(arguments.positional[test_index], "test"));
      US_ASSIGN(passes, apply_predicate(heap, name, subject, rest));
    }
    if (passes == wanted) out.push_back(item);
    if (!heap.spend_steps(1)) break;
  }
  return heap.sequence(Type::kIterator, std::move(out));
}

}  // namespace

Result<Value> follow_attribute(Heap& heap, const Value& item, const Value& path) {
  if (path.is_integral()) return get_item(heap, item, path);
  US_ASSIGN(std::string_view rest, name_argument(path, "attribute"));
  Value value = item;
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const Value key = is_digits(part) && part.size() < 18
                          ? Value::integer(std::stoll(std::string(part)))
                          : heap.string(part, false);
    US_ASSIGN(value, get_item(heap, value, key));
    if (dot == std::string_view::npos || heap.exhausted()) return value;
    rest.remove_prefix(dot + 1);
  }
}

Result<Value> filter_default(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"default_value", "boolean"}));
  if (!input.is_undefined() && (is_true(input) || !bound.truth(1, false))) return input;
  return bound.has(0) ? bound.value(0) : heap.string("", false);
}

Result<Value> filter_length(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  if (input.is_string()) heap.spend_steps(input.bytes().size() / 64);
  US_ASSIGN(const size_t length, length_of(input));
  return Value::integer(static_cast<Integer>(length));
}

Result<Value> filter_first(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  if (input.is_string() && !input.text().empty()) {
    return heap.string(input.text().slice(0, char_bytes(input.bytes(), 0)));
  }
  US_ASSIGN(const std::vector<Value> items, iterate(heap, input));
  return items.empty() ? heap.undefined("No first item, sequence was empty.") : items.front();
}

Result<Value> filter_last(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  if (input.is(Type::kIterator)) {
    return make_error(ErrorCode::kInvalidArgument, "'generator' object is not reversible");
  }
  if (input.is_undefined()) return undefined_error(input);
  US_ASSIGN(const std::vector<Value> items, iterate(heap, input));
  return items.empty() ? heap.undefined("No last item, sequence was empty.") : items.back();
}

Result<Value> filter_list(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  US_ASSIGN(std::vector<Value> items, iterate(heap, input));
  return heap.list(std::move(items)).marked(input.from_input());
}

Result<Value> filter_items(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  std::vector<Value> out;
  if (input.is(Type::kDict)) {
    for (const auto& [key, value] : input.dict().entries()) {
      out.push_back(heap.sequence(Type::kTuple, {key, value}).marked(input.from_input()));
      if (heap.exhausted()) break;
    }
  } else if (!input.is_undefined()) {
    return make_error(ErrorCode::kInvalidArgument, "needs a mapping, got a {}", type_name(input));
  }
  return heap.sequence(Type::kIterator, std::move(out));
}

Result<Value> filter_reverse(Heap& heap, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  if (input.is_string()) return heap.string(reverse(heap, input.text()));
  US_ASSIGN(std::vector<Value> items, iterate(heap, input));
  std::reverse(items.begin(), items.end());
  const bool makes_list = input.is(Type::kIterator) || input.is_undefined();
  return heap.sequence(makes_list ? Type::kList : Type::kIterator, std::move(items));
}

Result<Value> filter_map(Heap& heap, const Value& input, const Arguments& arguments) {
  std::vector<Value> out;
  if (!is_true(input)) return heap.sequence(Type::kIterator, std::move(out));
  US_ASSIGN(const std::vector<Value> items, iterate(heap, input));
  const bool has_attribute =
      std::any_of(arguments.named.begin(), arguments.named.end(),
                  [](const auto& argument) { return argument.first == "attribute"; });
  if (arguments.positional.empty() && has_attribute) return map_attribute(heap, items, arguments);
  if (arguments.positional.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "needs the name of a filter");
  }
  US_ASSIGN(const std::string_view name, name_argument(arguments.positional[0], "filter"));
  const Arguments rest = arguments_from(arguments, 1);
  for (const Value& item : items) {
    US_ASSIGN(const Value value, apply_filter(heap, name, item, rest));
    out.push_back(value);
    if (heap.exhausted()) break;
  }
  return heap.sequence(Type::kIterator, std::move(out));
}

Result<Value> filter_select(Heap& heap, const Value& input, const Arguments& arguments) {
  return keep(heap, input, arguments, false, true);
}

Result<Value> filter_reject(Heap& heap, const Value& input, const Arguments& arguments) {
  return keep(heap, input, arguments, false, false);
}

Result<Value> filter_selectattr(Heap& heap, const Value& input, const Arguments& arguments) {
  return keep(heap, input, arguments, true, true);
}

Result<Value> filter_rejectattr(Heap& heap, const Value& input, const Arguments& arguments) {
  return keep(heap, input, arguments, true, false);
}

}  // namespace ultraspeed::text::jinja
