// ultraspeed quantize: makes a checkpoint with MXFP4 experts and FP8 linear layers.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_quantize_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
