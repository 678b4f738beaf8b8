// Reads fields of JSON objects that others wrote, with errors that name file, path and what was
// expected.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::apps {

class JsonObject {
 public:
  // `value` outlives it; `path` is where it lies in the file `label`: "kernels[2]", "" for the top.
  // Errors here and below: kInvalidData.
  static Result<JsonObject> of(const nlohmann::ordered_json& value, std::string label,
                               std::string path = "");

  bool has(std::string_view key) const { return value_->contains(key); }
  Result<std::string> text(std::string_view key) const;  // without control characters
  Result<bool> flag(std::string_view key) const;
  Result<uint64_t> number(std::string_view key) const;  // below 2^53
  Result<uint32_t> small_number(std::string_view key) const;
  // Measured times or rates: at least one, each from 0.001 to 10^12.
  Result<std::vector<double>> samples(std::string_view key) const;
  Result<std::vector<uint64_t>> counts(std::string_view key) const;
  Result<std::vector<std::string>> texts(std::string_view key) const;
  Result<JsonObject> object(std::string_view key) const;
  Result<std::vector<JsonObject>> objects(std::string_view key) const;

  std::string path_of(std::string_view key) const;
  // kInvalidData: "LABEL: PATH: what".
  tl::unexpected<Error> error(std::string_view key, std::string_view what) const;

 private:
  JsonObject(const nlohmann::ordered_json& value, std::string label, std::string path)
      : value_(&value), label_(std::move(label)), path_(std::move(path)) {}

  // The value if it is of the type.
  Result<const nlohmann::ordered_json*> find(std::string_view key,
                                             nlohmann::ordered_json::value_t type,
                                             std::string_view expected) const;

  const nlohmann::ordered_json* value_;
  std::string label_, path_;
};

// One of the names of `choices`.
template <class Choices, class NameOf>
auto read_choice(const JsonObject& json, std::string_view key, const Choices& choices,
                 NameOf name_of) -> Result<std::decay_t<decltype(choices[0])>> {
  US_ASSIGN(const std::string name, json.text(key));
  std::string names;
  for (const auto choice : choices) {
    if (name_of(choice) == name) return choice;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name_of(choice));
  }
  return json.error(key, fmt::format("expected one of {}, found '{}'", names, name));
}

}  // namespace ultraspeed::apps
