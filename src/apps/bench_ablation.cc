#include "apps/bench_ablation.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/ablation_run.h"
#include "apps/bench_shape.h"
#include "apps/files.h"
#include "apps/gpu_figures.h"
#include "apps/option_values.h"
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

// The weights of experts that each layer has.
std::vector<program::WeightDecl> expert_weights(const program::Program& program) {
  std::vector<program::WeightDecl> experts;
  for (const program::WeightDecl& weight : program.weights) {
    if (weight.count > 1) experts.push_back(weight);
  }
  return experts;
}

// Those of one of the two files, which says of them what its flag does.
Result<std::vector<program::WeightDecl>> read_experts(const CommandOptions& options,
                                                      Experts experts) {
  const ShapeOptions shape = shape_of(options, experts, true);
  US_ASSIGN(const PlannedShape planned, plan_shape(shape));
  US_TRY(check_positions(planned, options.positions));
  std::vector<program::WeightDecl> weights = expert_weights(planned.program);
  const bool is_fp8 = experts == Experts::kFp8;
  const auto wanted = is_fp8 ? tensor::WeightFormat::kFp8Block128 : tensor::WeightFormat::kMxfp4;
  const auto is_wanted = [&](const auto& weight) { return weight.format == wanted; };
  if (!weights.empty() && std::ranges::all_of(weights, is_wanted)) return weights;
  return make_error(ErrorCode::kInvalidArgument, "{} {}: expected a model with experts in {}",
                    is_fp8 ? "--fp8-config" : "--config", shape.config,
                    tensor::weight_format_name(wanted));
}

// Both files are the same model but for the format of its experts.
Status check_models(const CommandOptions& options) {
  US_ASSIGN(const auto fp8, read_experts(options, Experts::kFp8));
  US_ASSIGN(const auto mxfp4, read_experts(options, Experts::kMxfp4));
  const auto is_alike = [](const auto& a, const auto& b) {
    return a.rows == b.rows && a.cols == b.cols && a.count == b.count;
  };
  if (std::ranges::equal(fp8, mxfp4, is_alike)) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--fp8-config {}: not the model of --config {}: its experts have other shapes",
                    options.fp8_config, options.shape.config);
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
  if (bench->resident->different_floats > 0) {
    return make_error(ErrorCode::kInternal,
                      "{}: kernels that stay left other bits than a graph in {} numbers",
                      describe_shape(shape), bench->resident->different_floats);
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
  US_TRY(check_models(options));
  AblationRun run;
  run.made_by = provenance();
  run.accepted_length = options.accepted_length;
  for (const Experts experts : {Experts::kFp8, Experts::kMxfp4}) {
    for (const bool is_speculative : {false, true}) {
      US_TRY(measure(options, experts, is_speculative, &run));
    }
  }
  if (options.svg_file) US_TRY(write_file(*options.svg_file, ablation_svg(run)));
  if (options.json_file) US_TRY(write_json_file(*options.json_file, ablation_json(run)));
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
      ->check(real_range(1.0, 8.0))
      ->capture_default_str();
  command.add_option("--json", options->json_file, "Write every sample and figure into this file");
  command.add_option("--svg", options->svg_file, "Draw the tokens a second into this file");
  command.callback([options, exit_code] {
    const Status status = bench_ablation(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
