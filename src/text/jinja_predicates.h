// What stands after `is`: Jinja's tests, as jinja2/tests.py 3.1 defines them.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

bool is_known_predicate(std::string_view name);

// input is name(arguments). Errors: sentences that begin with the test's name, without a position;
// select() may name an unknown test.
Result<bool> apply_predicate(Heap& heap, std::string_view name, const Value& input,
                             const Arguments& arguments);

}  // namespace ultraspeed::text::jinja
