// ultraspeed train-drafter: capture, what a drafter is trained on, and run, the training.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_train_drafter_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
