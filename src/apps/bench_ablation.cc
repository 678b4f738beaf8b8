#include "apps/bench_ablation.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/ablation_run.h"
#include "apps/bench_shape.h"
#include "apps/files.h"
#include "apps/gpu_figures.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct CommandOptions {
  ShapeOptions shape;
  std::string fp8_config;
  uint32_t positions = 1024;
  double accepted_length = 5.56;
  std::optional<std::string> json_file, svg_file;
};

// One of the steps as flags of `bench step`. A single row is not drafted.
ShapeOptions shape_of(const CommandOptions& options, Experts experts, bool is_speculative) {
  ShapeOptions shape = options.shape;
  shape.drafter_of = shape.config;
  if (experts == Experts::kFp8) shape.config = options.fp8_config;
  if (is_speculative) return shape;
  shape.rows = 1;
  shape.live_experts.reset();
  shape.has_drafter = false;
  return shape;
}

Status measure(const CommandOptions& options, Experts experts, bool is_speculative,
               AblationRun* run) {
  US_ASSIGN(PlannedShape planned, plan_shape(shape_of(options, experts, is_speculative)));
  const BenchShape shape = planned.shape;
  PassingLine progress;
  cuda::StepBenchOptions how;
  how.positions = options.positions;
  how.kv_cache = program::KvCacheType::kFp8;
  how.has_resident = experts == Experts::kMxfp4;
  how.has_stages = false;
  how.progress = [&](std::string_view text) {
    progress.show(fmt::format("{}: {}", describe_shape(shape), text));
  };
  auto bench = measure_shape(std::move(planned), how);
  progress.clear();
  if (!bench) return tl::unexpected(std::move(bench).error());
  run->gpu = describe_gpu(bench->gpu);
  if (is_speculative && experts == Experts::kMxfp4) {
    run->shape =
        fmt::format("{}{}, after {} positions", describe_shape(shape),
                    options.shape.has_drafter ? ", drafted by DFlash" : "", options.positions);
  }
  run->steps.push_back({experts, shape.rows, false, std::move(bench->step_us)});
  if (!bench->resident) return {};
  for (const std::string& why : bench->resident->left_out) {
    return make_error(ErrorCode::kUnsupported, "{}: kernels that stay have no phase for it: {}",
                      describe_shape(shape), why);
  }
  run->steps.push_back({experts, shape.rows, true, std::move(bench->resident->resident_us)});
  return {};
}

Status bench_ablation(const CommandOptions& options) {
  US_TRY(check_writable(options.svg_file));
  US_TRY(check_writable(options.json_file));
  const uint32_t rows = options.shape.rows.value_or(options.shape.width);
  if (rows < 2 || options.accepted_length > rows) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--accepted {}: a cycle of {} rows gives 1 to {} tokens",
                      options.accepted_length, rows, rows);
  }
  AblationRun run;
  run.accepted_length = options.accepted_length;
  for (const Experts experts : {Experts::kFp8, Experts::kMxfp4}) {
    for (const bool is_speculative : {false, true}) {
      US_TRY(measure(options, experts, is_speculative, &run));
    }
  }
  if (options.svg_file) US_TRY(write_file(*options.svg_file, ablation_svg(run)));
  if (options.json_file) US_TRY(write_file(*options.json_file, ablation_json(run)));
  return write_all(STDOUT_FILENO, ablation_text(run));
}

}  // namespace

void add_bench_ablation_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<CommandOptions>();
  CLI::App& command = *bench.add_subcommand(
      "ablation", "What MXFP4 experts, speculation and kernels that stay are worth on a GPU");
  add_shape_options(command, {8}, &options->shape);
  command
      .add_option("--fp8-config", options->fp8_config,
                  "The same model with FP8 experts: its config.json or folder")
      ->required()
      ->type_name("PATH");
  add_drafter_flag(command, &options->shape);
  command.add_option("--positions", options->positions, "Tokens in the KV caches before the step")
      ->capture_default_str();
  command
      .add_option("--accepted", options->accepted_length,
                  "Tokens that a cycle of several rows gives, the target's own included")
      ->check(CLI::Range(1.0, 8.0))
      ->capture_default_str();
  command.add_option("--json", options->json_file, "Write every sample and figure into this file");
  command.add_option("--svg", options->svg_file, "Draw the tokens a second into this file");
  command.callback([options, exit_code] {
    const Status status = bench_ablation(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
