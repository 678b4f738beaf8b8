// ultraspeed doctor: what is wrong with a target and its DFlash drafter.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_doctor_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
