// `ultraspeed bench kernels`: how near the GPU's kernels come to the speed of its memory.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand of `bench`; running it writes its exit code.
void add_bench_kernels_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
