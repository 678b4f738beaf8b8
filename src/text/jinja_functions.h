// The global functions of chat templates: Jinja's range, namespace and dict, and transformers'
// raise_exception and strftime_now.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

enum class FunctionId : uint8_t { kDict, kNamespace, kRaiseException, kRange, kStrftimeNow };

std::optional<FunctionId> find_function(std::string_view name);
std::string_view function_name(FunctionId id);

// Calls a global function; `now` is what strftime_now formats, in local time. raise_exception
// always gives an error, with the template's message. Errors carry no position.
Result<Value> call_function(Heap& heap, FunctionId id, const Arguments& arguments, std::time_t now);

}  // namespace ultraspeed::text::jinja
