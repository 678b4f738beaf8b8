// ultraspeed batch: many requests from a file, their answers into another one.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_batch_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
