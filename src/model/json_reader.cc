#include "model/json_reader.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <unordered_set>

#include "base/mapped_file.h"

namespace ultraspeed::model {
namespace {

constexpr size_t kExcerptLength = 60;

// Blanks every comma that stands directly before a closing bracket, outside of strings.
std::string without_trailing_commas(std::string_view text) {
  std::string result(text);
  bool in_string = false;
  std::optional<size_t> comma;  // the last significant character, if it is a comma
  for (size_t i = 0; i < result.size(); ++i) {
    const char c = result[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    if ((c == '}' || c == ']') && comma.has_value()) result[*comma] = ' ';
    comma = c == ',' ? std::optional(i) : std::nullopt;
    in_string = c == '"';
  }
  return result;
}

}  // namespace

Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (file.size_bytes() > max_bytes) {
    return make_error(ErrorCode::kInvalidData, "{}: {} bytes; expected at most {}", path,
                      file.size_bytes(), max_bytes);
  }
  std::string text(file.size_bytes(), '\0');
  US_TRY(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::string json_excerpt(const simdjson::dom::element& value) {
  std::string text = simdjson::minify(value);
  if (text.size() > kExcerptLength) text = text.substr(0, kExcerptLength) + "...";
  return text;
}

Result<JsonObject> JsonObject::make(std::string_view file, std::string path,
                                    simdjson::dom::object object) {
  std::unordered_set<std::string_view> keys;
  for (const auto field : object) {
    if (!keys.insert(field.key).second) {
      return make_error(ErrorCode::kInvalidData, "{}: key '{}{}' occurs twice; expected it once",
                        file, path, printable(field.key));
    }
  }
  return JsonObject(file, std::move(path), object);
}

std::optional<simdjson::dom::element> JsonObject::find(std::string_view key) const {
  simdjson::dom::element value;
  if (object_.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return value;
}

std::string JsonObject::value_text(std::string_view key) const {
  const auto value = find(key);
  return value.has_value() ? json_excerpt(*value) : "null";
}

tl::unexpected<Error> JsonObject::missing(std::string_view key) const {
  return make_error(ErrorCode::kInvalidData, "{}: key '{}{}' is missing", file_, path_, key);
}

tl::unexpected<Error> JsonObject::wrong(std::string_view key, std::string_view expected) const {
  return make_error(ErrorCode::kInvalidData, "{}: key '{}{}' is {}; expected {}", file_, path_, key,
                    value_text(key), expected);
}

tl::unexpected<Error> JsonObject::unsupported(std::string_view key,
                                              std::string_view supported) const {
  return make_error(ErrorCode::kUnsupported, "{}: key '{}{}' is {}, which is not supported; {}",
                    file_, path_, key, value_text(key), supported);
}

Result<std::optional<uint32_t>> JsonObject::optional_uint(std::string_view key, uint32_t min,
                                                          uint32_t max) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  uint64_t number = 0;
  if (value->get(number) != simdjson::SUCCESS || number < min || number > max) {
    return wrong(key, fmt::format("an integer in [{}, {}]", min, max));
  }
  return static_cast<uint32_t>(number);
}

Result<std::optional<double>> JsonObject::optional_number(std::string_view key, double min,
                                                          double max) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  double number = 0;
  if (value->get(number) != simdjson::SUCCESS || !(number >= min) || !(number <= max)) {
    return wrong(key, fmt::format("a number in [{}, {}]", min, max));
  }
  return number;
}

Result<std::optional<bool>> JsonObject::optional_bool(std::string_view key) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  bool flag = false;
  if (value->get(flag) != simdjson::SUCCESS) return wrong(key, "true or false");
  return flag;
}

Result<std::optional<std::string>> JsonObject::optional_string(std::string_view key) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  std::string_view text;
  if (value->get(text) != simdjson::SUCCESS) return wrong(key, "a string");
  return std::string(text);
}

Result<std::optional<JsonObject>> JsonObject::optional_object(std::string_view key) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  simdjson::dom::object object;
  if (value->get(object) != simdjson::SUCCESS) return wrong(key, "an object");
  US_ASSIGN(JsonObject result, make(file_, fmt::format("{}{}.", path_, key), object));
  return result;
}

Result<std::optional<std::vector<std::string>>> JsonObject::optional_strings(
    std::string_view key) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  simdjson::dom::array array;
  if (value->get(array) != simdjson::SUCCESS) return wrong(key, "a list of strings");
  std::vector<std::string> result;
  for (const auto item : array) {
    std::string_view text;
    if (item.get(text) != simdjson::SUCCESS) return wrong(key, "a list of strings");
    result.emplace_back(text);
  }
  return result;
}

Result<std::optional<std::vector<uint32_t>>> JsonObject::optional_uints(std::string_view key,
                                                                        uint32_t min,
                                                                        uint32_t max) const {
  const auto value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_array()) {
    US_ASSIGN(const auto single, optional_uint(key, min, max));
    return std::vector<uint32_t>{*single};
  }
  const std::string expected = fmt::format("a list of integers in [{}, {}]", min, max);
  simdjson::dom::array array;
  if (value->get(array) != simdjson::SUCCESS) return wrong(key, expected);
  std::vector<uint32_t> result;
  for (const auto item : array) {
    uint64_t number = 0;
    if (item.get(number) != simdjson::SUCCESS || number < min || number > max) {
      return make_error(ErrorCode::kInvalidData, "{}: item {} of key '{}{}' is {}; expected {}",
                        file_, result.size(), path_, key, json_excerpt(item), expected);
    }
    result.push_back(static_cast<uint32_t>(number));
  }
  return result;
}

Result<uint32_t> JsonObject::uint(std::string_view key, uint32_t min, uint32_t max) const {
  US_ASSIGN(const auto value, optional_uint(key, min, max));
  if (!value) return missing(key);
  return *value;
}

Result<double> JsonObject::number(std::string_view key, double min, double max) const {
  US_ASSIGN(const auto value, optional_number(key, min, max));
  if (!value) return missing(key);
  return *value;
}

Result<JsonDocument> JsonDocument::parse(std::string_view file, std::string_view text,
                                         TrailingCommas trailing_commas) {
  auto parser = std::make_unique<simdjson::dom::parser>();
  const simdjson::padded_string padded(trailing_commas == TrailingCommas::kAccept
                                           ? without_trailing_commas(text)
                                           : std::string(text));
  simdjson::dom::element element;
  if (const auto error = parser->parse(padded).get(element); error != simdjson::SUCCESS) {
    return make_error(ErrorCode::kInvalidData, "{}: not valid JSON: {}", file,
                      simdjson::error_message(error));
  }
  simdjson::dom::object object;
  if (element.get(object) != simdjson::SUCCESS) {
    return make_error(ErrorCode::kInvalidData, "{}: the JSON is {}; expected an object", file,
                      json_excerpt(element));
  }
  US_ASSIGN(JsonObject root, JsonObject::make(file, "", object));
  return JsonDocument(std::move(parser), object, std::move(root));
}

}  // namespace ultraspeed::model
