// `ultraspeed bench ablation`: what MXFP4 experts, speculation and kernels that stay are worth,
// each and together, at a model's shapes.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand of `bench`; running it writes its exit code.
void add_bench_ablation_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
