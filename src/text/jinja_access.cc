// Attributes, items, slices and iteration.
#include "text/jinja_access.h"

#include <algorithm>

#include "text/jinja_format.h"
#include "text/jinja_loop.h"
#include "text/jinja_methods.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

Value missing(Heap& heap, const Value& value, std::string_view name) {
  return heap.undefined(
      value.is_none() ? fmt::format("'None' has no attribute '{}'", name)
                      : fmt::format("'{} object' has no attribute '{}'", type_name(value), name));
}

// Position `index` of `count` elements, negative ones from the end.
std::optional<size_t> element_index(Integer index, size_t count) {
  const auto signed_count = static_cast<Integer>(count);
  if (index < 0) index += signed_count;
  if (index < 0 || index >= signed_count) return std::nullopt;
  return static_cast<size_t>(index);
}

// A character of a string; counts from the front, or from the back for a negative index.
std::optional<Value> character(Heap& heap, const Text& text, Integer index) {
  const std::string_view bytes = text.bytes();
  heap.spend_steps(bytes.size() / 64);
  const std::optional<size_t> place = element_index(index, count_chars(bytes));
  if (!place) return std::nullopt;
  const size_t begin = byte_of_char(bytes, *place);
  return heap.string(text.slice(begin, begin + char_bytes(bytes, begin)));
}

// The item alone, without falling back to attributes.
std::optional<Value> find_item(Heap& heap, const Value& value, const Value& key) {
  if (value.is(Type::kDict)) {
    if (!Dict::hashable(key)) return std::nullopt;
    const Value* found = value.dict().find(key);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (!key.is_integral()) return std::nullopt;
  if (value.is_string()) return character(heap, value.text(), key.as_integer());
  if (!value.is(Type::kList) && !value.is(Type::kTuple) && !value.is(Type::kRange)) {
    return std::nullopt;
  }
  const std::vector<Value>& values = value.items().values;
  const std::optional<size_t> index = element_index(key.as_integer(), values.size());
  return index ? std::optional<Value>(values[*index]) : std::nullopt;
}

// The attribute alone: methods, namespace variables, the loop's fields.
Result<std::optional<Value>> find_attribute(Heap& heap, const Value& value, std::string_view name) {
  if (value.is(Type::kNamespace)) {
    const Value* found = value.dict().find(name);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (value.is(Type::kLoop)) return loop_attribute(heap, value, name);
  US_ASSIGN(const std::optional<MethodId> method, find_method(value, name));
  if (!method) return std::nullopt;
  return heap.method(value, *method);
}

// Python's slice.indices(): the elements' places, in order.
Result<std::vector<size_t>> slice_places(Heap& heap, const SliceBounds& bounds, size_t count) {
  const Integer step = bounds.step.value_or(1);
  if (step == 0) return make_error(ErrorCode::kInvalidArgument, "slice step cannot be zero");
  const auto size = static_cast<Integer>(count);
  const Integer lowest = step < 0 ? -1 : 0;
  const Integer highest = step < 0 ? size - 1 : size;
  const auto clamp = [&](const std::optional<Integer>& bound, Integer absent) {
    if (!bound) return absent;
    const Integer index = *bound < 0 ? std::max(*bound, -size - 1) + size : *bound;
    return std::clamp(index, lowest, std::max(lowest, highest));
  };
  const Integer begin = clamp(bounds.begin, step < 0 ? highest : lowest);
  const Integer end = clamp(bounds.end, step < 0 ? lowest : highest);
  std::vector<size_t> places;
  if (!heap.spend_bytes(count * sizeof(size_t))) return places;
  const Integer stride = std::clamp(step, -size - 1, size + 1);
  for (Integer i = begin; step < 0 ? i > end : i < end; i += stride) {
    places.push_back(static_cast<size_t>(i));
  }
  return places;
}

Result<Value> slice_text(Heap& heap, const Text& text, const SliceBounds& bounds) {
  const std::string_view bytes = text.bytes();
  std::vector<size_t> begins;
  if (!heap.spend_bytes(bytes.size() * sizeof(size_t))) return Value::none();
  for (size_t at = 0; at < bytes.size(); at += char_bytes(bytes, at)) begins.push_back(at);
  const size_t count = begins.size();
  begins.push_back(bytes.size());
  US_ASSIGN(const std::vector<size_t> places, slice_places(heap, bounds, count));
  Text out;
  if (bounds.step.value_or(1) == 1) {
    if (!places.empty()) out.append(text, begins[places.front()], begins[places.back() + 1]);
  } else {
    for (const size_t place : places) out.append(text, begins[place], begins[place + 1]);
  }
  return heap.string(std::move(out));
}

}  // namespace

Result<Value> get_attribute(Heap& heap, const Value& value, std::string_view name) {
  if (value.is_undefined()) return undefined_error(value);
  US_ASSIGN(const std::optional<Value> attribute, find_attribute(heap, value, name));
  if (attribute) return *attribute;
  if (value.is(Type::kDict)) {
    if (const Value* found = value.dict().find(name)) return *found;
  }
  return missing(heap, value, name);
}

Result<Value> get_item(Heap& heap, const Value& value, const Value& key) {
  if (value.is_undefined()) return undefined_error(value);
  if (const std::optional<Value> item = find_item(heap, value, key)) return *item;
  if (key.is_string()) {
    US_ASSIGN(const std::optional<Value> attribute, find_attribute(heap, value, key.bytes()));
    return attribute ? *attribute : missing(heap, value, key.bytes());
  }
  US_ASSIGN(const Text name, to_text(heap, key));
  return heap.undefined(
      fmt::format("'{} object' has no element {}", type_name(value), name.bytes()));
}

Result<Value> get_slice(Heap& heap, const Value& value, const SliceBounds& bounds) {
  if (value.is_undefined()) return undefined_error(value);
  if (value.is_string()) return slice_text(heap, value.text(), bounds);
  if (!value.is(Type::kList) && !value.is(Type::kTuple) && !value.is(Type::kRange)) {
    return make_error(ErrorCode::kInvalidArgument, "'{}' object cannot be sliced",
                      type_name(value));
  }
  const std::vector<Value>& values = value.items().values;
  US_ASSIGN(const std::vector<size_t> places, slice_places(heap, bounds, values.size()));
  std::vector<Value> slice;
  slice.reserve(places.size());
  for (const size_t place : places) slice.push_back(values[place]);
  return heap.sequence(value.type(), std::move(slice)).marked(value.from_input());
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() ||
         value.is(Type::kDict) || value.is(Type::kLoop);
}

Result<std::vector<Value>> iterate(Heap& heap, const Value& value) {
  std::vector<Value> out;
  if (value.is_string()) {
    const Text& text = value.text();
    for (size_t at = 0; at < text.size_bytes() && !heap.exhausted();) {
      const size_t end = at + char_bytes(text.bytes(), at);
      if (!heap.spend_bytes(sizeof(Value)) || !heap.spend_steps(1)) break;
      out.push_back(heap.string(text.slice(at, end)));
      at = end;
    }
  } else if (value.is(Type::kDict)) {
    if (!heap.spend_bytes(value.dict().size() * sizeof(Value))) return out;
    for (const auto& [key, element] : value.dict().entries()) out.push_back(key);
  } else if (value.is_sequence()) {
    Sequence& sequence = value.items();
    if (value.is(Type::kIterator) && std::exchange(sequence.consumed, true)) return out;
    if (!heap.spend_bytes(sequence.values.size() * sizeof(Value))) return out;
    out = sequence.values;
  } else if (!value.is_undefined()) {
    return make_error(ErrorCode::kInvalidArgument, "'{}' object is not iterable", type_name(value));
  }
  return out;
}

Result<size_t> length_of(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      return count_chars(value.bytes());
    case Type::kDict:
      return value.dict().size();
    case Type::kList:
    case Type::kTuple:
    case Type::kRange:
    case Type::kView:
      return value.items().values.size();
    case Type::kLoop:
      return value.loop().count;
    default:
      return make_error(ErrorCode::kInvalidArgument, "object of type '{}' has no len()",
                        type_name(value));
  }
}

}  // namespace ultraspeed::text::jinja
