// `ultraspeed bench step`: how long a whole decode step of one rank takes, and what of it.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand of `bench`; running it writes its exit code.
void add_bench_step_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
