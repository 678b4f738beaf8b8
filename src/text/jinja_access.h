// Reaching into values: attributes, items, slices, iteration and length, as jinja2's sandboxed
// environment resolves them. What is missing gives an undefined value, as in Jinja. Errors are
// sentences without a position; the evaluator adds it.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

// value.name: Python's attribute (a method) first, then the item of that name.
Result<Value> get_attribute(Heap& heap, const Value& value, std::string_view name);

// value[key]: the item first, then, for a string key, the attribute.
Result<Value> get_item(Heap& heap, const Value& value, const Value& key);

struct SliceBounds {
  std::optional<Integer> begin;
  std::optional<Integer> end;
  std::optional<Integer> step;
};

// value[begin:end:step] of strings, lists, tuples and ranges. Errors: other types, a step of 0.
Result<Value> get_slice(Heap& heap, const Value& value, const SliceBounds& bounds);

// The elements that iterating over the value gives, copied: characters of a string, keys of a dict.
// Consumes generators. Errors: types that are not iterable.
Result<std::vector<Value>> iterate(Heap& heap, const Value& value);
bool is_iterable(const Value& value);

// len(value). Errors: types without a length.
Result<size_t> length_of(const Value& value);

}  // namespace ultraspeed::text::jinja
