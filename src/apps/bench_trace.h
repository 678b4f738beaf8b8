// `ultraspeed bench trace`: what a decode step waits for, task by task.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

void add_bench_trace_command(CLI::App& bench, int* exit_code);

}  // namespace ultraspeed::apps
