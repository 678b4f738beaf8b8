// ultraspeed connect: the configuration with which a coding agent uses a server.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_connect_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
