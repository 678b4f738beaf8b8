// Where a command's flags come from besides the command line: the environment, and a TOML file in
// which a flag has its own name (port = 8080). The command line wins over the environment, and that
// over the file.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ultraspeed::apps {

// Each option of the command and of its groups, in the order of the help text.
void for_each_option(CLI::App& command, const std::function<void(CLI::Option&)>& visit);

// Gives each flag that has none its environment variable: ULTRASPEED_ and its first long name.
void name_variables(CLI::App& command);

// Sets the flags that nothing else has set. REQUIRES: the command was parsed. Errors: those of
// read_file(); kInvalidArgument with file and line.
Status apply_config_file(CLI::App& command, const std::string& path);

}  // namespace ultraspeed::apps
