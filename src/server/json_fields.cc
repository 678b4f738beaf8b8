#include "server/json_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace ultraspeed::server {
namespace {

tl::unexpected<ApiError> bad_json(std::string message) {
  ApiError error;
  error.message = std::move(message);
  error.code = "invalid_json";
  return tl::unexpected(std::move(error));
}

// Bounds that the parser does not have. Brackets and commas inside of strings do not count; whether
// they match is the parser's business.
class JsonScanner {
 public:
  ApiStatus scan(std::string_view text) {
    bool is_in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (is_in_string) {
        if (c == '\\') ++i;
        if (c == '"') is_in_string = false;
      } else if (c == '"') {
        is_in_string = true;
      } else if (const ApiStatus status = step(c); !status) {
        return status;
      }
    }
    return {};
  }

 private:
  ApiStatus step(char c) {
    if (c == '{' || c == '[') {
      if (++depth_ > kMaxJsonDepth) {
        return bad_json(fmt::format("The JSON is nested deeper than {} levels.", kMaxJsonDepth));
      }
      is_object_[depth_] = c == '{';
      commas_[depth_] = 0;
    } else if (c == '}' || c == ']') {
      if (depth_ > 0) --depth_;
    } else if (c == ',') {
      if (++commas_[depth_] >= kMaxJsonMembers && is_object_[depth_]) {
        return bad_json(fmt::format("A JSON object has more than {} members.", kMaxJsonMembers));
      }
      if (++all_commas_ >= kMaxJsonValues) {
        return bad_json(fmt::format("The JSON has more than {} values.", kMaxJsonValues));
      }
    }
    return {};
  }

  size_t depth_ = 0;
  size_t all_commas_ = 0;
  std::array<size_t, kMaxJsonDepth + 1> commas_{};
  std::array<bool, kMaxJsonDepth + 1> is_object_{};
};

}  // namespace

ApiResult<Json> parse_json(std::string_view text, std::string_view what) {
  US_TRY(JsonScanner().scan(text));
  // There the parser would take the text for ended.
  if (text.find('\0') != std::string_view::npos) return bad_json("The JSON has a zero byte.");
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& exception) {
    // what() is "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    std::string_view message = exception.what();
    const size_t bracket = message.find("] ");
    if (bracket != std::string_view::npos) message.remove_prefix(bracket + 2);
    return bad_json(fmt::format("{} is not valid JSON: {}.", what, message));
  }
}

ApiResult<Json> parse_json_object(std::string_view text) {
  US_ASSIGN(Json json, parse_json(text));
  if (!json.is_object()) {
    return bad_json(
        fmt::format("The request's body must be a JSON object, not {}.", type_name(json)));
  }
  return json;
}

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  US_CHECK(object.is_object(), "'{}' is {}", path_, type_name(object));
}

const Json* Fields::find(std::string_view name) const {
  const auto field = object_.find(name);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

std::string Fields::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

tl::unexpected<ApiError> Fields::wrong_type(std::string_view name,
                                            std::string_view expected) const {
  return invalid_field(path(name), fmt::format("'{}' must be {}, not {}.", path(name), expected,
                                               type_name(*find(name))));
}

ApiStatus Fields::read(std::string_view name, bool* out) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_boolean()) return wrong_type(name, "true or false");
  *out = field->get<bool>();
  return {};
}

ApiStatus Fields::read(std::string_view name, std::string* out) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_string()) return wrong_type(name, "a string");
  *out = field->get_ref<const std::string&>();
  return {};
}

ApiStatus Fields::read_integer(std::string_view name, int64_t min, int64_t max,
                               int64_t* out) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_number_integer()) return wrong_type(name, "an integer");
  const bool is_too_large = field->is_number_unsigned() &&
                            field->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
  const int64_t value = field->get<int64_t>();
  if (is_too_large || value < min || value > max) {
    return invalid_field(path(name), fmt::format("'{}' is {}; it must be between {} and {}.",
                                                 path(name), field->dump(), min, max));
  }
  *out = value;
  return {};
}

ApiStatus Fields::read_number(std::string_view name, double min, double max, float* out) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_number()) return wrong_type(name, "a number");
  const double value = field->get<double>();
  if (!(value >= min && value <= max)) {
    return invalid_field(path(name), fmt::format("'{}' is {}; it must be between {} and {}.",
                                                 path(name), field->dump(), min, max));
  }
  *out = static_cast<float>(value);
  return {};
}

ApiStatus Fields::read_object(std::string_view name, const Json** out) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_object()) return wrong_type(name, "an object");
  *out = field;
  return {};
}

ApiStatus Fields::read_array(std::string_view name, const Json** out) const {
  const Json* field = find(name);
  if (field == nullptr) return {};
  if (!field->is_array()) return wrong_type(name, "an array");
  *out = field;
  return {};
}

ApiStatus check_object(const Json& value, const std::string& path) {
  if (value.is_object()) return {};
  return invalid_field(path,
                       fmt::format("'{}' must be an object, not {}.", path, type_name(value)));
}

ApiStatus check_choice(const Fields& fields, std::string_view name,
                       std::span<const std::string_view> choices) {
  std::string value;
  US_TRY(fields.read(name, &value));
  if (fields.find(name) == nullptr) return {};
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return {};
  std::string list;
  for (const std::string_view choice : choices) {
    list += list.empty() ? "" : ", ";
    list += choice;
  }
  return invalid_field(fields.path(name), fmt::format("'{}' is '{}'; it must be one of {}.",
                                                      fields.path(name), value, list));
}

ApiStatus check_fields(const Json& object, std::initializer_list<std::string_view> names) {
  for (const auto& field : object.items()) {
    if (std::ranges::find(names, field.key()) == names.end()) {
      return invalid_field(field.key(), fmt::format("There is no field '{}' here.", field.key()));
    }
  }
  return {};
}

ApiResult<std::string> required_string(const Fields& fields, std::string_view name) {
  std::string text;
  US_TRY(fields.read(name, &text));
  if (fields.find(name) == nullptr) {
    return invalid_field(fields.path(name), fmt::format("'{}' is missing.", fields.path(name)));
  }
  return text;
}

std::string element_path(std::string_view array, size_t index) {
  return fmt::format("{}[{}]", array, index);
}

std::string_view type_name(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::number_float:
      return "a floating-point number";
    default:
      return "an integer";
  }
}

}  // namespace ultraspeed::server
