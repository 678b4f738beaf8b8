// Files that users name on the command line.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::apps {

// The whole file; "-" is standard input. Errors: kNotFound, kIo, kInvalidArgument (over 1 GB).
Result<std::string> read_file(const std::string& path);

// "standard input" for "-".
std::string file_label(const std::string& path);

// Errors: those of read_file(); kInvalidArgument for text that is not JSON (with line and column)
// or is nested more than 64 deep.
Result<nlohmann::ordered_json> read_json_file(const std::string& path);
Result<nlohmann::ordered_json> parse_json(std::string_view text, const std::string& label);

// Whether write_file() can be expected to work, for commands that write after long work. Changes no
// file. nullopt: nothing is to be written. Errors: kIo.
Status check_writable(const std::optional<std::string>& file);

// Replaces the file.
Status write_file(const std::string& path, std::string_view contents);
// The same, indented; bytes that are no UTF-8 are replaced.
Status write_json_file(const std::string& path, const nlohmann::ordered_json& json);

}  // namespace ultraspeed::apps
