// `ultraspeed simulate`: what a node of several GPUs would take for a step, before there is one.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/simulation.h"
#include "model/config.h"

namespace ultraspeed::apps {

struct SimulateOptions {
  std::string config;
  std::vector<std::string> devices = {"h100", "h200", "b200"};
  std::vector<uint32_t> ranks = {1, 2, 4, 8};
  std::vector<uint32_t> widths = {1, 8};
  std::vector<double> accepted_lengths;  // none: those measured, or published
  std::optional<double> live_experts;
  plan::StepOptions step;
  std::vector<std::string> measured_files;
  std::vector<double> hop_us, link_gb_s, late_us;  // one value, or least, likeliest, most
};

// Errors: of the configuration, of planning, of files; kInvalidArgument for flags that do not fit
// the model or each other.
Result<SimulationRun> make_simulation(const SimulateOptions& options);

// Adds the subcommand; running it sets *exit_code, which must outlive `app`.
void add_simulate_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
