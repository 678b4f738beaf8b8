// ultraspeed serve: the HTTP API, until a signal ends it.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_serve_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
