// The methods of strings, dicts, lists and the loop variable.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

enum class MethodId : uint8_t {
  kCapitalize,
  kCount,
  kEndsWith,
  kFind,
  kIndex,
  kJoin,
  kLower,
  kLstrip,
  kRemovePrefix,
  kRemoveSuffix,
  kReplace,
  kRfind,
  kRsplit,
  kRstrip,
  kSplit,
  kSplitLines,
  kStartsWith,
  kStrip,
  kTitle,
  kUpper,
  kGet,
  kItems,
  kKeys,
  kValues,
  kAppend,
  kListCount,
  kListIndex,
  kLoopChanged,
  kLoopCycle,
};

// The method of this name, or nothing when Python has none. Errors (kUnsupported): a method that
// Python has and the subset lacks.
Result<std::optional<MethodId>> find_method(const Value& value, std::string_view name);

std::string_view method_name(MethodId id);

// Errors: wrong arguments, as sentences without the method's name or a position.
Result<Value> call_method(Heap& heap, const Method& method, const Arguments& arguments);

}  // namespace ultraspeed::text::jinja
