// The table of filters.
#include "text/jinja_filters.h"

#include <algorithm>

#include "text/jinja_filters_table.h"

namespace ultraspeed::text::jinja {

namespace {

struct FilterEntry {
  std::string_view name;
  Result<Value> (*apply)(Heap&, const Value&, const Arguments&);
};

constexpr FilterEntry kFilters[] = {
    {"abs", filter_abs},
    {"capitalize", filter_capitalize},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"dictsort", filter_dictsort},
    {"first", filter_first},
    {"float", filter_float},
    {"indent", filter_indent},
    {"int", filter_int},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"lower", filter_lower},
    {"map", filter_map},
    {"max", filter_max},
    {"min", filter_min},
    {"reject", filter_reject},
    {"rejectattr", filter_rejectattr},
    {"replace", filter_replace},
    {"reverse", filter_reverse},
    {"round", filter_round},
    {"safe", filter_string},  // chat templates render without autoescape
    {"select", filter_select},
    {"selectattr", filter_selectattr},
    {"sort", filter_sort},
    {"string", filter_string},
    {"sum", filter_sum},
    {"title", filter_title},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"unique", filter_unique},
    {"upper", filter_upper},
};

const FilterEntry* find_filter(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                   [name](const FilterEntry& entry) { return entry.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace

bool is_known_filter(std::string_view name) {
  return find_filter(name) != nullptr;
}

Result<Value> apply_filter(Heap& heap, std::string_view name, const Value& input,
                           const Arguments& arguments) {
  const Heap::Depth depth(heap);
  if (!heap.spend_steps(1)) return Value::none();
  const FilterEntry* filter = find_filter(name);
  if (filter == nullptr) {
    return make_error(ErrorCode::kUnsupported, "the filter '{}' is not supported", name);
  }
  Result<Value> result = filter->apply(heap, input, arguments);
  if (!result) {
    return make_error(result.error().code, "filter '{}': {}", name, result.error().message);
  }
  return result;
}

}  // namespace ultraspeed::text::jinja
