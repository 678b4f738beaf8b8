// Filters that compare or add up: sort, dictsort, min, max, unique, sum.
#include <algorithm>
#include <optional>
#include <unordered_set>

#include "text/jinja_access.h"
#include "text/jinja_filters_table.h"
#include "text/jinja_operators.h"
#include "text/jinja_strings.h"

namespace ultraspeed::text::jinja {

namespace {

struct Keyed {
  Value key;
  Value item;
};

Value fold_case(Heap& heap, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return heap.string(lower(heap, value.text()));
}

// The key of one item: itself, an attribute, or the list of several ("a,b").
Result<Value> sort_key(Heap& heap, const Value& item, const Value* attribute, bool case_sensitive) {
  if (attribute == nullptr) return fold_case(heap, item, case_sensitive);
  if (!attribute->is_string() || attribute->bytes().find(',') == std::string_view::npos) {
    US_ASSIGN(const Value value, follow_attribute(heap, item, *attribute));
    return fold_case(heap, value, case_sensitive);
  }
  std::vector<Value> keys;
  const Text comma(",", false);
  US_ASSIGN(const std::vector<Value> paths, split(heap, attribute->text(), &comma, -1));
  for (const Value& path : paths) {
    US_ASSIGN(const Value value, follow_attribute(heap, item, path));
    keys.push_back(fold_case(heap, value, case_sensitive));
  }
  return heap.list(std::move(keys));
}

Result<std::vector<Keyed>> with_keys(Heap& heap, const Value& input, const Value* attribute,
                                     bool case_sensitive) {
  US_ASSIGN(const std::vector<Value> items, iterate(heap, input));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    US_ASSIGN(const Value key, sort_key(heap, item, attribute, case_sensitive));
    keyed.push_back({key, item});
    if (!heap.spend_bytes(sizeof(Keyed))) break;
  }
  return keyed;
}

// A stable sort; the first failing comparison is the result.
Status sort_keyed(Heap& heap, std::vector<Keyed>& keyed, bool descending) {
  std::optional<Error> failure;
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    if (failure || heap.exhausted()) return false;
    const Result<bool> is_less = descending ? less(heap, b.key, a.key) : less(heap, a.key, b.key);
    if (!is_less) failure = is_less.error();
    return is_less.value_or(false);
  });
  if (failure) return tl::unexpected(*std::move(failure));
  return {};
}

Value list_of_items(Heap& heap, std::vector<Keyed> keyed) {
  std::vector<Value> items;
  for (const Keyed& entry : keyed) items.push_back(entry.item);
  return heap.list(std::move(items));
}

// The `attribute` argument, or null when it is absent or none.
const Value* attribute_argument(const BoundArguments& bound, size_t index) {
  return bound.has(index) && !bound.value(index).is_none() ? &bound.value(index) : nullptr;
}

Result<Value> extreme(Heap& heap, const Value& input, const Arguments& arguments, bool wants_max) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"case_sensitive", "attribute"}));
  US_ASSIGN(const std::vector<Keyed> keyed,
            with_keys(heap, input, attribute_argument(bound, 1), bound.truth(0, false)));
  if (keyed.empty()) return heap.undefined("No aggregated item, sequence was empty.");
  const Keyed* best = &keyed.front();
  for (const Keyed& entry : keyed) {
    US_ASSIGN(const bool better,
              wants_max ? less(heap, best->key, entry.key) : less(heap, entry.key, best->key));
    if (better) best = &entry;
  }
  return best->item;
}

}  // namespace

Result<Value> filter_sort(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"reverse", "case_sensitive", "attribute"}));
  US_ASSIGN(std::vector<Keyed> keyed,
            with_keys(heap, input, attribute_argument(bound, 2), bound.truth(1, false)));
  US_TRY(sort_keyed(heap, keyed, bound.truth(0, false)));
  return list_of_items(heap, std::move(keyed)).marked(input.from_input());
}

Result<Value> filter_dictsort(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"case_sensitive", "by", "reverse"}));
  bool by_key = true;
  if (bound.has(1)) {
    US_ASSIGN(const Text* by, bound.text(1));
    by_key = by->bytes() == "key";
    if (!by_key && by->bytes() != "value") {
      return make_error(ErrorCode::kInvalidArgument, "by must be \"key\" or \"value\"");
    }
  }
  if (!input.is(Type::kDict)) {
    return make_error(ErrorCode::kInvalidArgument, "needs a mapping, not {}", type_name(input));
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.dict().entries()) {
    const Value pair = heap.sequence(Type::kTuple, {key, value}).marked(input.from_input());
    keyed.push_back({fold_case(heap, by_key ? key : value, bound.truth(0, false)), pair});
    if (heap.exhausted()) break;
  }
  US_TRY(sort_keyed(heap, keyed, bound.truth(2, false)));
  return list_of_items(heap, std::move(keyed)).marked(input.from_input());
}

Result<Value> filter_max(Heap& heap, const Value& input, const Arguments& arguments) {
  return extreme(heap, input, arguments, true);
}

Result<Value> filter_min(Heap& heap, const Value& input, const Arguments& arguments) {
  return extreme(heap, input, arguments, false);
}

Result<Value> filter_unique(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"case_sensitive", "attribute"}));
  US_ASSIGN(const std::vector<Keyed> keyed,
            with_keys(heap, input, attribute_argument(bound, 1), bound.truth(0, false)));
  std::unordered_set<Value, ValueHash, KeyEqual> seen;
  std::vector<Value> out;
  for (const Keyed& entry : keyed) {
    if (!Dict::hashable(entry.key)) {
      return make_error(ErrorCode::kInvalidArgument, "unhashable type: '{}'", type_name(entry.key));
    }
    if (seen.insert(entry.key).second) out.push_back(entry.item);
  }
  return heap.sequence(Type::kIterator, std::move(out));
}

Result<Value> filter_sum(Heap& heap, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"attribute", "start"}));
  Value total = bound.has(1) ? bound.value(1) : Value::integer(0);
  if (total.is_string()) {
    return make_error(ErrorCode::kInvalidArgument, "strings cannot be summed: use join");
  }
  const Value* attribute = attribute_argument(bound, 0);
  US_ASSIGN(const std::vector<Value> items, iterate(heap, input));
  for (Value item : items) {
    if (attribute != nullptr) {
      US_ASSIGN(item, follow_attribute(heap, item, *attribute));
    }
    US_ASSIGN(total, arithmetic(heap, Operator::kAdd, total, item));
    if (heap.exhausted()) break;
  }
  return total;
}

}  // namespace ultraspeed::text::jinja
