// Reading a request's JSON: bounded parsing, and typed fields whose errors name the field. A field
// that is null counts as absent, as OpenAI's clients expect.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "server/api_error.h"

namespace ultraspeed::server {

using Json = nlohmann::ordered_json;  // templates print objects in the order they were sent

inline constexpr size_t kMaxJsonDepth = 64;
// An object's members are searched one by one, so their number is bounded.
inline constexpr size_t kMaxJsonMembers = 1024;
inline constexpr size_t kMaxJsonValues = 2 << 20;

// Errors: 400; the message says `what` is wrong, and gives line and column of a syntax error.
ApiResult<Json> parse_json(std::string_view text, std::string_view what = "The request's body");
// The same, for an object.
ApiResult<Json> parse_json_object(std::string_view text);

// The fields of one JSON object. The read functions leave *out alone if the field is absent.
class Fields {
 public:
  // `path` is the object's place in the request, empty for the request itself. REQUIRES: is_object.
  explicit Fields(const Json& object, std::string path = {});

  const Json* find(std::string_view name) const;  // nullptr: absent or null
  std::string path(std::string_view name) const;  // the name to report in errors

  ApiStatus read(std::string_view name, bool* out) const;
  ApiStatus read(std::string_view name, std::string* out) const;
  ApiStatus read_integer(std::string_view name, int64_t min, int64_t max, int64_t* out) const;
  ApiStatus read_number(std::string_view name, double min, double max, float* out) const;
  // *out points to the field, which is an object or an array.
  ApiStatus read_object(std::string_view name, const Json** out) const;
  ApiStatus read_array(std::string_view name, const Json** out) const;

 private:
  tl::unexpected<ApiError> wrong_type(std::string_view name, std::string_view expected) const;

  const Json& object_;
  std::string path_;
};

// 400 unless the value at that path is an object.
ApiStatus check_object(const Json& value, const std::string& path);
// 400 for a field that is none of these: of requests that would mean something else without it.
ApiStatus check_fields(const Json& object, std::initializer_list<std::string_view> names);
// A string that is one of these, where the field is there.
ApiStatus check_choice(const Fields& fields, std::string_view name,
                       std::span<const std::string_view> choices);
// A string that must be there; it may be empty.
ApiResult<std::string> required_string(const Fields& fields, std::string_view name);

std::string element_path(std::string_view array, size_t index);  // "messages[3]"
// "a string", "an object", ...
std::string_view type_name(const Json& json);

}  // namespace ultraspeed::server
