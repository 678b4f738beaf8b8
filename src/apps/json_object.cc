#include "apps/json_object.h"

#include <algorithm>
#include <limits>

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;
using Type = ordered_json::value_t;

constexpr uint64_t kMaxNumber = uint64_t{1} << 53;  // beyond it doubles are not exact

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
  });
}

bool is_sample(const ordered_json& value) {
  return value.is_number() && value.get<double>() >= 0.001 && value.get<double>() <= 1e12;
}

}  // namespace

Result<JsonObject> JsonObject::of(const ordered_json& value, std::string label, std::string path) {
  if (value.is_object()) return JsonObject(value, std::move(label), std::move(path));
  return make_error(ErrorCode::kInvalidData, "{}: {}expected an object, found {}", label,
                    path.empty() ? "" : path + ": ", value.type_name());
}

std::string JsonObject::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

tl::unexpected<Error> JsonObject::error(std::string_view key, std::string_view what) const {
  return make_error(ErrorCode::kInvalidData, "{}: {}: {}", label_, path_of(key), what);
}

Result<const ordered_json*> JsonObject::find(std::string_view key, Type type,
                                             std::string_view expected) const {
  const auto found = value_->find(key);
  if (found == value_->end()) {
    return make_error(ErrorCode::kInvalidData, "{}: no '{}'; expected {}", label_, path_of(key),
                      expected);
  }
  if (found->type() == type) return &*found;
  return error(key, fmt::format("expected {}, found {}", expected, found->type_name()));
}

Result<std::string> JsonObject::text(std::string_view key) const {
  US_ASSIGN(const ordered_json* value, find(key, Type::string, "a string"));
  auto text = value->get<std::string>();
  if (!has_control_character(text)) return text;
  return error(key, "has control characters");
}

Result<bool> JsonObject::flag(std::string_view key) const {
  US_ASSIGN(const ordered_json* value, find(key, Type::boolean, "true or false"));
  return value->get<bool>();
}

Result<uint64_t> JsonObject::number(std::string_view key) const {
  US_ASSIGN(const ordered_json* value, find(key, Type::number_unsigned, "a whole number from 0"));
  const auto number = value->get<uint64_t>();
  if (number < kMaxNumber) return number;
  return error(key, fmt::format("{} is too large", number));
}

Result<uint32_t> JsonObject::small_number(std::string_view key) const {
  US_ASSIGN(const uint64_t value, number(key));
  if (value <= std::numeric_limits<uint32_t>::max()) return static_cast<uint32_t>(value);
  return error(key, fmt::format("{} is too large", value));
}

Result<std::vector<double>> JsonObject::samples(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of numbers from 0.001 to 10^12";
  US_ASSIGN(const ordered_json* value, find(key, Type::array, kExpected));
  if (value->empty() || !std::ranges::all_of(*value, is_sample)) {
    return error(key, fmt::format("expected {}", kExpected));
  }
  return value->get<std::vector<double>>();
}

Result<std::vector<uint64_t>> JsonObject::counts(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of whole numbers below 2^53";
  US_ASSIGN(const ordered_json* value, find(key, Type::array, kExpected));
  const auto is_count = [](const ordered_json& item) {
    return item.is_number_unsigned() && item.get<uint64_t>() < kMaxNumber;
  };
  if (std::ranges::all_of(*value, is_count)) return value->get<std::vector<uint64_t>>();
  return error(key, fmt::format("expected {}", kExpected));
}

Result<std::vector<std::string>> JsonObject::texts(std::string_view key) const {
  US_ASSIGN(const ordered_json* value, find(key, Type::array, "an array of strings"));
  std::vector<std::string> texts;
  for (const ordered_json& item : *value) {
    if (!item.is_string() || has_control_character(item.get_ref<const std::string&>())) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: {}[{}]: expected a string without control characters", label_,
                        path_of(key), texts.size());
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

Result<JsonObject> JsonObject::object(std::string_view key) const {
  US_ASSIGN(const ordered_json* value, find(key, Type::object, "an object"));
  return JsonObject(*value, label_, path_of(key));
}

Result<std::vector<JsonObject>> JsonObject::objects(std::string_view key) const {
  US_ASSIGN(const ordered_json* value, find(key, Type::array, "an array of objects"));
  std::vector<JsonObject> objects;
  for (const ordered_json& item : *value) {
    US_ASSIGN(auto object,
              JsonObject::of(item, label_, fmt::format("{}[{}]", path_of(key), objects.size())));
    objects.push_back(std::move(object));
  }
  return objects;
}

}  // namespace ultraspeed::apps
