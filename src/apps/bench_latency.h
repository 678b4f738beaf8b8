// `ultraspeed bench latency`: how long a prompt takes to its first token, and what it does to a
// stream that decodes meanwhile.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand of `bench`; running it writes its exit code.
void add_bench_latency_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
