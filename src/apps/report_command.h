// `ultraspeed report`: packs bench runs so that others can check them, and checks such archives.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; running it writes its exit code: 3 for a figure that does not follow.
void add_report_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
