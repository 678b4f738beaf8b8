// ultraspeed completions and ultraspeed man: what shells and man(1) want to know of the commands,
// written from the commands themselves.
#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// REQUIRES: shell is "bash", "zsh" or "fish".
std::string completion_script(CLI::App& app, std::string_view shell);
std::string man_page(CLI::App& app);

// Adds both subcommands; when one is chosen, parsing runs it and sets *exit_code.
void add_completions_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
