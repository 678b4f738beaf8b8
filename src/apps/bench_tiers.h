// ultraspeed bench tiers: how much faster the fast mode of a model is than the standard one.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

void add_bench_tiers_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
