// Every filter's function; jinja_filters.cc holds the table. `input` stands before the bar.
#pragma once

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

// jinja_filters_text.cc
Result<Value> filter_capitalize(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_indent(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_join(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_lower(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_replace(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_string(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_title(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_tojson(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_trim(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_upper(Heap& heap, const Value& input, const Arguments& arguments);

// jinja_filters_number.cc
Result<Value> filter_abs(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_float(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_int(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_round(Heap& heap, const Value& input, const Arguments& arguments);

// jinja_filters_sequence.cc
Result<Value> filter_default(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_first(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_items(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_last(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_length(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_list(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_map(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_reject(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_rejectattr(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_reverse(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_select(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_selectattr(Heap& heap, const Value& input, const Arguments& arguments);

// jinja_filters_order.cc
Result<Value> filter_dictsort(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_max(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_min(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_sort(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_sum(Heap& heap, const Value& input, const Arguments& arguments);
Result<Value> filter_unique(Heap& heap, const Value& input, const Arguments& arguments);

// The `attribute` argument of map, join, sort, ...: "a.b.0" or an index, followed step by step.
Result<Value> follow_attribute(Heap& heap, const Value& item, const Value& path);

}  // namespace ultraspeed::text::jinja
