#include "apps/simulate_command.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/config_file.h"
#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/measured_times.h"
#include "apps/named_option.h"
#include "apps/option_values.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

// What the figures of plan/device_times.h were measured at.
constexpr uint32_t kMaxSimulatedWidth = 8;

// One value, or least, likeliest and most. Errors: two values, or in another order.
Result<plan::Estimate> estimate_of(const char* flag, const std::vector<double>& values) {
  if (values.size() == 1) return plan::Estimate::exactly(values[0]);
  if (values.size() == 3 && std::ranges::is_sorted(values)) {
    return plan::Estimate{values[0], values[1], values[2]};
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: expected one number, or the least, the likeliest and the most", flag);
}

Status use_flags(const SimulateOptions& options, plan::NodeTimes<plan::Estimate>* times) {
  if (!options.hop_us.empty()) {
    US_ASSIGN(times->hop_us, estimate_of("--hop-us", options.hop_us));
  }
  if (!options.late_us.empty()) {
    US_ASSIGN(times->late_us, estimate_of("--late-us", options.late_us));
  }
  if (!options.link_gb_s.empty()) {
    US_ASSIGN(const plan::Estimate rate, estimate_of("--link-gb-s", options.link_gb_s));
    times->link_bandwidth = rate.times(plan::Estimate::exactly(1e9));
  }
  return {};
}

// Puts the measured files in place; of `bench decode`, accepted lengths into *lengths.
Status use_files(const SimulateOptions& options, SimulationRun* run, std::vector<double>* lengths) {
  for (const std::string& file : options.measured_files) {
    US_ASSIGN(const nlohmann::ordered_json json, read_json_file(file));
    US_ASSIGN(const MeasuredTimes measured, read_measured_times(json, file_label(file)));
    lengths->insert(lengths->end(), measured.accepted_lengths.begin(),
                    measured.accepted_lengths.end());
    if (measured.gpu.empty()) continue;
    const auto device = std::ranges::find(run->devices, measured.device,
                                          [](const SimulatedDevice& of) { return of.device.name; });
    if (device == run->devices.end()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--measured {}: measured on an {}, which --devices does not name", file,
                        measured.device);
    }
    use_measured(measured, &device->times);
  }
  return {};
}

Result<std::vector<double>> lengths_of(const SimulateOptions& options, std::vector<double> measured,
                                       uint32_t width) {
  std::vector<double> lengths = options.accepted_lengths;
  if (lengths.empty()) lengths = std::move(measured);
  if (lengths.empty()) lengths = {plan::kAcceptedLengths.begin(), plan::kAcceptedLengths.end()};
  std::erase_if(lengths, [width](double length) { return length > width; });
  if (!lengths.empty()) return lengths;
  return make_error(
      ErrorCode::kInvalidArgument,
      "--widths {}: a step of so many columns is accepted for no more tokens; expected "
      "an accepted length of at most that",
      width);
}

double live_experts_of(const SimulateOptions& options, const plan::StepWork& work) {
  const double live = options.live_experts.value_or(work.expected_live_experts);
  return std::min<double>(live, work.max_live_experts);
}

}  // namespace

Result<SimulationRun> make_simulation(const SimulateOptions& options) {
  US_ASSIGN(const ConfigFile models, read_config_file(options.config));
  SimulationRun run;
  run.config = models.config.file;
  for (const std::string& name : options.devices) {
    US_ASSIGN(plan::Device device, plan::find_device(name));
    plan::DeviceTimes times = plan::device_times(device.name);
    run.devices.push_back({std::move(device), std::move(times)});
  }
  std::vector<double> measured_lengths;
  US_TRY(use_files(options, &run, &measured_lengths));
  for (size_t i = 0; i < run.devices.size(); ++i) {
    SimulatedDevice& device = run.devices[i];
    US_TRY(use_flags(options, &device.times.times));
    for (const uint32_t width : options.widths) {
      SimulatedStep step;
      step.device = i;
      step.has_drafter = models.drafter && width > 1 && width <= models.drafter->block_size;
      step.accepted_lengths = {1.0};
      if (width > 1) {
        US_ASSIGN(step.accepted_lengths, lengths_of(options, measured_lengths, width));
      }
      for (const uint32_t ranks : options.ranks) {
        plan::StepOptions how = options.step;
        how.num_ranks = ranks;
        how.width = width;
        US_ASSIGN(const plan::StepWork work,
                  plan::plan_step(models.config, step.has_drafter ? &*models.drafter : nullptr,
                                  device.device, how));
        step.options = work.options;
        step.live_experts = live_experts_of(options, work);
        step.memory_bytes = work.memory_bytes;
        step.simulation = plan::simulate(work, step.live_experts, device.times.times);
        run.steps.push_back(step);
      }
    }
  }
  return run;
}

namespace {

struct SimulateFlags {
  SimulateOptions options;
  std::string kv_dtype = "bf16";
  bool json = false;
  std::optional<std::string> svg_file;
};

Status simulate_model(const SimulateFlags& flags) {
  US_TRY(check_writable(flags.svg_file));
  SimulateOptions options = flags.options;
  if (flags.kv_dtype == "fp8") options.step.kv_format = plan::KvFormat::kFp8;
  US_ASSIGN(const SimulationRun run, make_simulation(options));
  if (flags.svg_file) US_TRY(write_file(*flags.svg_file, simulation_svg(run)));
  const std::string text =
      flags.json ? simulation_json(run).dump(2, ' ', false,
                                             nlohmann::ordered_json::error_handler_t::replace) +
                       "\n"
                 : simulation_text(run);
  return write_all(STDOUT_FILENO, text);
}

void add_time_options(CLI::App& command, SimulateOptions* options) {
  command.add_option(
      "--measured", options->measured_files,
      "JSON of 'bench step', 'kernels' or 'decode' in place of the built-in figures");
  const auto add = [&command](const char* flag, const char* help, double least,
                              std::vector<double>* values) {
    command.add_option(flag, *values, help)
        ->delimiter(',')
        ->check(real_range(least, 1e6))
        ->type_name("N | LEAST,LIKELY,MOST");
  };
  add("--hop-us", "Microseconds from a rank to another", 0, &options->hop_us);
  add("--link-gb-s", "10^9 bytes a second of a GPU's links, in each direction", 0.001,
      &options->link_gb_s);
  add("--late-us", "Microseconds that sums wait for the slowest rank", 0, &options->late_us);
}

}  // namespace

void add_simulate_command(CLI::App& app, int* exit_code) {
  const auto flags = std::make_shared<SimulateFlags>();
  SimulateOptions& options = flags->options;
  CLI::App& command = *app.add_subcommand(
      "simulate", "How long a step would take on GPUs of one node, from measurements of one");
  command.add_option("--config", options.config, "A config.json or its folder")
      ->required()
      ->type_name("PATH");
  command.add_option("--devices", options.devices, "Of h100, h200 and b200 (default: all)")
      ->delimiter(',');
  command.add_option("--ranks", options.ranks, "Numbers of GPUs (default: 1,2,4,8)")
      ->delimiter(',')
      ->check(CLI::IsMember({1, 2, 4, 8}));
  command.add_option("--widths", options.widths, "Columns of a step, 1 to 8 (default: 1,8)")
      ->delimiter(',')
      ->check(CLI::Range(1U, kMaxSimulatedWidth));
  command
      .add_option("--accepted", options.accepted_lengths,
                  "Tokens that a step of several columns is accepted for (default: those of "
                  "--measured, or 4.29,5.56,6.30)")
      ->delimiter(',')
      ->check(real_range(1.0, double{kMaxSimulatedWidth}));
  command
      .add_option("--live-experts", options.live_experts,
                  "Experts of a layer that a step chooses (default: what random routing expects)")
      ->check(real_range(1.0, 65536.0));
  command
      .add_option("--context", options.step.context,
                  "Tokens in the KV cache (default: 131072, or the model's if less)")
      ->check(CLI::PositiveNumber);
  command.add_option("--kv-dtype", flags->kv_dtype, "Keys and values on the GPU")
      ->check(CLI::IsMember({"bf16", "fp8"}))
      ->capture_default_str();
  add_dense_dtype_option(command, &options.step.dense_dtype);
  add_named_option(command, "--all-reduce", "As of 'run' (default: two-shot)", plan::kAllAllReduces,
                   plan::all_reduce_name, &options.step.all_reduce);
  add_time_options(command, &options);
  command.add_flag("--json", flags->json, "Print one JSON object");
  command.add_option("--svg", flags->svg_file, "Write a picture into this file");
  command.callback([flags, exit_code] {
    const Status status = simulate_model(*flags);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
