// What the keywords of a schema are, and several schemas as one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "grammar/json_text.h"

namespace ultraspeed::grammar {

// The member, or nullptr.
const Json* find_member(const Json& object, std::string_view key);

// A pointer's reference token: '/' and '~' escaped.
std::string pointer_token(std::string_view key);

// Errors: kUnsupported for keywords that would have to be ignored, kInvalidArgument for a value of
// a wrong type. `path` is the schema's JSON pointer. REQUIRES: an object.
Status check_keywords(const Json& schema, const std::string& path);

// Whether the schema has a keyword that restricts values, besides the given ones.
bool restricts_besides(const Json& schema, std::initializer_list<std::string_view> keywords);

// Whether the schema has one of these.
bool restricts_by(const Json& schema, std::initializer_list<std::string_view> keywords);

// A count such as minItems. Errors: kInvalidArgument if it is no count, kOutOfMemory beyond
// kMaxRepeat.
Result<std::optional<uint32_t>> count_member(const Json& schema, const std::string& key,
                                             const std::string& path);

// Adds the keywords of `other` to *schema, so that it holds what satisfies both. Errors:
// kUnsupported where one schema cannot say it.
Status merge_schema(const Json& other, const std::string& path, Json* schema);

// The schema that "#..." points to. Errors: kInvalidArgument, kUnsupported.
Result<const Json*> resolve_reference(const Json& root, const std::string& reference,
                                      const std::string& path);

}  // namespace ultraspeed::grammar
