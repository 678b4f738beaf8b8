// `ultraspeed bench serve`: load on any OpenAI-compatible server.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand of `bench`; running it writes its exit code.
void add_bench_serve_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
