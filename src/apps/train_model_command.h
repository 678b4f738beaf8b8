// ultraspeed train-model: tokens, what a language model is trained on, and pretrain and qat, the
// training.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_train_model_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
