// Typed, range-checked access to the JSON objects of configuration files, over simdjson. Every
// error names the file and the key, says what stands there and what was expected. Internal to
// model/.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/printable.h"
#include "base/result.h"

namespace ultraspeed::model {

// The bytes of a whole file of at most max_bytes. Errors: kNotFound, kIo, kInvalidData when larger.
Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes);

// A value as one line for a message, cut to a readable length.
std::string json_excerpt(const simdjson::dom::element& value);

// One object. A key whose value is null counts as absent. Numbers of type uint32_t must be written
// as integers; `number` takes either form. Valid while its JsonDocument lives.
class JsonObject {
 public:
  // Errors: kInvalidData when a key occurs twice.
  static Result<JsonObject> make(std::string_view file, std::string path,
                                 simdjson::dom::object object);

  bool has(std::string_view key) const { return find(key).has_value(); }

  Result<std::optional<uint32_t>> optional_uint(std::string_view key, uint32_t min,
                                                uint32_t max) const;
  Result<std::optional<double>> optional_number(std::string_view key, double min, double max) const;
  Result<std::optional<bool>> optional_bool(std::string_view key) const;
  Result<std::optional<std::string>> optional_string(std::string_view key) const;
  Result<std::optional<JsonObject>> optional_object(std::string_view key) const;
  Result<std::optional<std::vector<std::string>>> optional_strings(std::string_view key) const;
  // A list of integers in [min, max]; a single integer counts as a list of one.
  Result<std::optional<std::vector<uint32_t>>> optional_uints(std::string_view key, uint32_t min,
                                                              uint32_t max) const;

  // The same for keys that must be there.
  Result<uint32_t> uint(std::string_view key, uint32_t min, uint32_t max) const;
  Result<double> number(std::string_view key, double min, double max) const;

  // Errors about `key` of this object, as "FILE: key 'a.b' ...".
  tl::unexpected<Error> missing(std::string_view key) const;
  tl::unexpected<Error> wrong(std::string_view key, std::string_view expected) const;
  tl::unexpected<Error> unsupported(std::string_view key, std::string_view supported) const;

 private:
  JsonObject(std::string_view file, std::string path, simdjson::dom::object object)
      : file_(file), path_(std::move(path)), object_(object) {}

  std::optional<simdjson::dom::element> find(std::string_view key) const;
  std::string value_text(std::string_view key) const;

  std::string file_;
  std::string path_;  // "" or "outer."
  simdjson::dom::object object_;
};

enum class TrailingCommas { kReject, kAccept };

// A parsed file whose root is an object.
class JsonDocument {
 public:
  static Result<JsonDocument> parse(std::string_view file, std::string_view text,
                                    TrailingCommas trailing_commas = TrailingCommas::kReject);

  const JsonObject& root() const { return root_; }
  simdjson::dom::object object() const { return object_; }

 private:
  JsonDocument(std::unique_ptr<simdjson::dom::parser> parser, simdjson::dom::object object,
               JsonObject root)
      : parser_(std::move(parser)), object_(object), root_(std::move(root)) {}

  std::unique_ptr<simdjson::dom::parser> parser_;  // owns what the others point to
  simdjson::dom::object object_;
  JsonObject root_;
};

}  // namespace ultraspeed::model
