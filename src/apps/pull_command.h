// `ultraspeed pull`: a model from a Hugging Face hub into the local cache.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

void add_pull_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
