// The types of values that a schema is about, and how large it may be.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grammar/json_text.h"

namespace ultraspeed::grammar {

// Errors: kOutOfMemory for a schema that is nested too deep or too long.
Status check_schema_size(const Json& schema);

// Counted without recursion; nullopt if nested deeper than a schema may be.
std::optional<size_t> count_values(const Json& json);

bool is_of_type(const Json& value, std::string_view type);

// The types that a value may have; all if there is no "type" and no keyword of one type. Errors:
// kInvalidArgument for one that does not exist, with the schema's path. REQUIRES: check_keywords().
Result<std::vector<std::string>> schema_types(const Json& schema, const std::string& path);

}  // namespace ultraspeed::grammar
