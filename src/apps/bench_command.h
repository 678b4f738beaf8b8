// `ultraspeed bench decode`: how fast each drafter makes decoding.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; running it writes its exit code.
void add_bench_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
