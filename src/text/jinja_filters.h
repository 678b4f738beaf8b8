// The filters of the subset, as jinja2/filters.py 3.1 defines them; tojson as transformers does
// (utils/chat_template_utils.py): no HTML escapes, ensure_ascii off.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

bool is_known_filter(std::string_view name);

// input | name(arguments). Errors: sentences that begin with the filter's name, without a position;
// map() may name an unknown filter.
Result<Value> apply_filter(Heap& heap, std::string_view name, const Value& input,
                           const Arguments& arguments);

}  // namespace ultraspeed::text::jinja
