#include "apps/flag_sources.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <vector>

#include "access/config.h"
#include "apps/files.h"
#include "base/toml.h"

namespace ultraspeed::apps {
namespace {

struct Place {
  const std::string& file;
  toml::source_region region;
};

template <class... Args>
tl::unexpected<Error> error_at(const Place& place, fmt::format_string<Args...> text,
                               Args&&... args) {
  return make_error(ErrorCode::kInvalidArgument, "{}:{}: {}", place.file, place.region.begin.line,
                    fmt::format(text, std::forward<Args>(args)...));
}

// A value as the command line would have it.
Result<std::string> flag_value(const Place& place, std::string_view key, const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return *text;
  if (const auto number = node.value_exact<int64_t>()) return fmt::to_string(*number);
  if (const auto number = node.value_exact<double>()) return fmt::to_string(*number);
  if (const auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  return error_at(place, "'{}' must be a string, a number, true or false, or an array of those",
                  key);
}

Result<std::vector<std::string>> flag_values(const Place& place, std::string_view key,
                                             const toml::node& node) {
  std::vector<std::string> values;
  const toml::array* const array = node.as_array();
  if (array == nullptr) {
    US_ASSIGN(values.emplace_back(), flag_value(place, key, node));
    return values;
  }
  for (const toml::node& element : *array) {
    US_ASSIGN(values.emplace_back(), flag_value(place, key, element));
  }
  return values;
}

// A model folder on the command line may have no flag before it.
bool is_set(CLI::App& command, const CLI::Option& option, std::string_view key) {
  if (option.count() > 0) return true;
  const CLI::Option* const folder = command.get_option_no_throw("DIR");
  return key == "model" && folder != nullptr && folder->count() > 0;
}

Status apply(CLI::App& command, const Place& place, std::string_view key, const toml::node& node) {
  CLI::Option* const option = command.get_option_no_throw(fmt::format("--{}", key));
  if (option == nullptr || !option->get_configurable()) {
    return error_at(place, "'{}' is no flag of {}; see ultraspeed {} --help", key,
                    command.get_name(), command.get_name());
  }
  US_ASSIGN(const std::vector<std::string> values, flag_values(place, key, node));
  if (values.empty()) return error_at(place, "'{}' has no value", key);
  if (is_set(command, *option, key)) return {};
  try {
    const bool is_flag = option->get_expected_max() == 0;  // "--no-x" turns "--x" off
    for (const std::string& value : values) {
      option->add_result(is_flag ? option->get_flag_value(std::string(key), value) : value);
    }
    option->run_callback();
  } catch (const CLI::ParseError& error) {
    return error_at(place, "{}", error.what());
  }
  return {};
}

// What CLI11 checks of the command line alone.
Status check_company(CLI::App& command, const std::string& path) {
  std::string message;
  for_each_option(command, [&message](CLI::Option& option) {
    if (option.count() == 0) return;
    for (const CLI::Option* other : option.get_excludes()) {
      if (other->count() > 0) {
        message = fmt::format("{} excludes {}", option.get_name(), other->get_name());
      }
    }
    for (const CLI::Option* other : option.get_needs()) {
      if (other->count() == 0) {
        message = fmt::format("{} requires {}", option.get_name(), other->get_name());
      }
    }
  });
  if (message.empty()) return {};
  return make_error(ErrorCode::kInvalidArgument, "{}: with it, {}", path, message);
}

std::string variable_of(const std::string& flag) {
  std::string name = "ULTRASPEED_" + flag;
  for (char& c : name) {
    c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

}  // namespace

void for_each_option(CLI::App& command, const std::function<void(CLI::Option&)>& visit) {
  const bool is_group = command.get_name().empty();  // which has its command's --help once more
  for (CLI::Option* option : command.get_options()) {
    if (!is_group || option != command.get_help_ptr()) visit(*option);
  }
  for (CLI::App* group : command.get_subcommands({})) {
    if (group->get_name().empty()) for_each_option(*group, visit);
  }
}

void name_variables(CLI::App& command) {
  for_each_option(command, [](CLI::Option& option) {
    if (!option.get_configurable() || option.get_lnames().empty()) return;
    if (option.get_envname().empty()) option.envname(variable_of(option.get_lnames().front()));
    const bool is_flag = option.get_type_size() == 0;  // whose other names may say its contrary
    if (is_flag || std::getenv(option.get_envname().c_str()) != nullptr) return;
    for (const std::string& name : option.get_lnames()) {
      const char* value = std::getenv(variable_of(name).c_str());
      if (value == nullptr) continue;
      setenv(option.get_envname().c_str(), value, /*overwrite=*/0);  // CLI11 looks for one alone
      return;
    }
  });
}

Status apply_config_file(CLI::App& command, const std::string& path) {
  US_ASSIGN(const std::string text, read_file(path));
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return error_at({path, parsed.error().source()}, "{}", parsed.error().description());
  }
  for (const auto& [key, node] : parsed.table()) {
    if (node.is_table() && access::is_section(key.str())) continue;
    US_TRY(apply(command, {path, key.source()}, key.str(), node));
  }
  return check_company(command, path);
}

}  // namespace ultraspeed::apps
