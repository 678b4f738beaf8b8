// The methods of strings, one function each; `self` is a string.
#pragma once

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

Result<Value> string_capitalize(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_count(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_endswith(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_find(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_index(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_join(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_lower(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_lstrip(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_removeprefix(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_removesuffix(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_replace(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_rfind(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_rsplit(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_rstrip(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_split(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_splitlines(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_startswith(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_strip(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_title(Heap& heap, const Value& self, const Arguments& arguments);
Result<Value> string_upper(Heap& heap, const Value& self, const Arguments& arguments);

}  // namespace ultraspeed::text::jinja
