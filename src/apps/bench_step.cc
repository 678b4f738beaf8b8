#include "apps/bench_step.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "apps/bench_shape.h"
#include "apps/files.h"
#include "apps/named_option.h"
#include "apps/option_values.h"
#include "apps/step_run.h"
#include "apps/terminal.h"
#include "program/arithmetic.h"

namespace ultraspeed::apps {
namespace {

constexpr std::array kGpuActivations = {program::Activations::kF32, program::Activations::kW4a16,
                                        program::Activations::kW4a8};

struct StepOptions {
  ShapeOptions shape;
  uint32_t positions = 1024;
  program::Activations activations = program::Activations::kW4a8;
  program::KvCacheType kv_cache = program::KvCacheType::kBf16;
  bool has_resident = false;
  bool has_own_routes = false;
  double all_reduce_us = 0;
  std::optional<std::string> json_file, svg_file, trace_file;
};

// The flags as a run that was not made yet.
Result<StepRun> run_of(const StepOptions& options, const PlannedShape& planned) {
  StepRun run;
  run.made_by = provenance();
  static_cast<BenchShape&>(run) = planned.shape;
  run.positions = options.positions;
  run.activations = options.activations;
  run.kv_cache = options.kv_cache;
  if (options.all_reduce_us != 0 && run.num_ranks == 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--all-reduce-us {}: with --ranks 1 there is nobody to wait for",
                      options.all_reduce_us);
  }
  run.all_reduce_ns = static_cast<uint32_t>(std::lround(1000 * options.all_reduce_us));
  return run;
}

Status bench_step(const StepOptions& options) {
  US_TRY(check_writable(options.svg_file));
  US_TRY(check_writable(options.json_file));
  US_TRY(check_writable(options.trace_file));
  US_ASSIGN(PlannedShape planned, plan_shape(options.shape));
  US_ASSIGN(StepRun run, run_of(options, planned));
  PassingLine progress;
  cuda::StepBenchOptions how;
  how.positions = run.positions;
  how.activations = run.activations;
  how.kv_cache = run.kv_cache;
  how.peer_delay_ns = run.all_reduce_ns;
  how.has_resident = options.has_resident;
  how.has_own_routes = options.has_own_routes;
  how.progress = [&progress](std::string_view text) { progress.show(text); };
  auto bench = measure_shape(std::move(planned), how);
  progress.clear();
  if (!bench) return tl::unexpected(std::move(bench).error());
  run.bench = std::move(*bench);
  if (options.svg_file) US_TRY(write_file(*options.svg_file, step_svg(run)));
  if (options.json_file) US_TRY(write_json_file(*options.json_file, step_json(run)));
  US_TRY(write_all(STDOUT_FILENO, step_text(run)));
  if (!run.bench.resident) return {};
  US_TRY(write_all(STDOUT_FILENO, resident_text(run)));
  if (!options.trace_file) return {};
  return write_file(*options.trace_file, resident_trace(*run.bench.resident));
}

}  // namespace

void add_bench_step_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<StepOptions>();
  CLI::App& command = *bench.add_subcommand(
      "step", "Measure a whole decode step of one rank on a GPU, at a model's shapes");
  add_shape_options(command, {8, 16, 32, 64, 128, 256, 512}, &options->shape);
  command.add_option("--positions", options->positions, "Tokens in the KV caches before the step")
      ->capture_default_str();
  add_named_option(command, "--activations",
                   "How inputs of matrix products are rounded (docs/numerics.md; default: w4a8)",
                   kGpuActivations, program::activations_name, &options->activations);
  add_named_option(command, "--kv-cache", "Keys and values: f32, bf16 or fp8 (default: bf16)",
                   program::kAllKvCacheTypes, program::kv_cache_type_name, &options->kv_cache);
  CLI::Option* resident = command.add_flag(
      "--resident", options->has_resident,
      "Run the step in kernels that stay, too, as far as they have its operations");
  command
      .add_option("--trace", options->trace_file,
                  "Write a step of those into this file, for ui.perfetto.dev")
      ->needs(resident);
  command
      .add_option("--all-reduce-us", options->all_reduce_us,
                  "Have what other ranks send arrive so long after what this one sends, at each "
                  "of a layer's two sums, in all that is measured")
      ->check(real_range(0.0, 1000.0))
      ->capture_default_str();
  add_drafter_flag(command, &options->shape);
  command.add_flag(
      "--own-routes", options->has_own_routes,
      "Experts are those that the step's own routers choose, and all of each layer are "
      "in memory, which takes all that the rank's weights take");
  command.add_option("--json", options->json_file,
                     "Write every sample and figure into this file, too (docs/benchmarks.md)");
  command.add_option("--svg", options->svg_file, "Draw the operations' times into this file");
  command.callback([options, exit_code] {
    const Status status = bench_step(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
