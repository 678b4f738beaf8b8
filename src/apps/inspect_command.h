// ultraspeed inspect: what a model folder holds, and the program that a model becomes.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_inspect_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
