// ultraspeed score: how well a model predicts a text, token by token.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// Adds the subcommand; when it is the one chosen, parsing runs it and sets *exit_code.
void add_score_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
