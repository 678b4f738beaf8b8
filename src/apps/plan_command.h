// `ultraspeed plan`: what a model would cost on GPUs, from its config.json alone.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; running it sets *exit_code, which must outlive `app`.
void add_plan_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
