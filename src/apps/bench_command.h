// `ultraspeed bench`: how fast each drafter makes decoding (decode), and what bench_kernels.h adds.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; running it writes its exit code.
void add_bench_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
