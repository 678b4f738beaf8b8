#include "apps/bench_kernels.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/config_file.h"
#include "apps/files.h"
#include "apps/kernel_run.h"
#include "apps/loaded_model.h"
#include "apps/terminal.h"
#include "model/weights.h"
#include "plan/devices.h"
#include "plan/plan.h"
#include "plan/report.h"

namespace ultraspeed::apps {
namespace {

struct Options {
  std::string config;
  uint32_t num_ranks = 8;
  uint32_t rank = 0;
  uint32_t width = 8;
  std::optional<uint32_t> rows, live_experts;
  std::vector<std::string> kinds;
  std::vector<uint32_t> positions = cuda::KernelBenchOptions().positions;
  std::vector<uint32_t> prefill_tokens = cuda::KernelBenchOptions().prefill_tokens;
  std::optional<std::string> json_file, svg_file;
};

#ifdef US_HAS_CUDA
Result<cuda::KernelBench> measure(const program::Program& program,
                                  const cuda::KernelBenchOptions& options) {
  return cuda::measure_kernels(program, options);
}
#else
Result<cuda::KernelBench> measure(const program::Program&, const cuda::KernelBenchOptions&) {
  return make_error(ErrorCode::kUnsupported,
                    "this program has no GPU code, as it was built without CUDA; install CUDA 13 "
                    "and build again");
}
#endif

// What of the flags does not fit the model.
Status check_options(const Options& options, const model::ModelConfig& config) {
  if (options.rank >= options.num_ranks) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--rank {}: there are ranks 0 to {}; see --ranks", options.rank,
                      options.num_ranks - 1);
  }
  if (options.rows.value_or(1) > options.width) {
    return make_error(ErrorCode::kInvalidArgument, "--rows {}: more than --width {}", *options.rows,
                      options.width);
  }
  const uint32_t most = std::min(config.num_experts, options.width * config.num_experts_per_token);
  if (options.live_experts.value_or(1) > most && options.live_experts) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--live-experts {}: {} columns of {} have at most {}", *options.live_experts,
                      options.width, config.file, most);
  }
  return {};
}

// As `plan` lowers it for any GPU: how work is cut does not change the shapes of weights.
Result<program::Program> plan_program(const Options& options, const model::ModelConfig& config) {
  US_ASSIGN(const plan::Device device, plan::find_device("h100"));
  const auto shape_of = [&config](const model::WeightSource& source) {
    return model::expected_shape(config, source);
  };
  plan::PlanOptions how;
  how.width = options.width;
  how.num_ranks = options.num_ranks;
  how.max_context = std::min(plan::kDefaultContext, config.max_position_embeddings);
  US_ASSIGN(plan::Plan plan, plan::make_plan(config, shape_of, device.limits, how));
  return std::move(plan.program);
}

Status bench_kernels(const Options& options) {
  US_ASSIGN(const ConfigFile file, read_config_file(options.config));
  const model::ModelConfig& config = file.config;
  US_TRY(check_options(options, config));
  KernelRun run;
  run.made_by = provenance();
  run.config = options.config;
  run.num_ranks = options.num_ranks;
  run.rank = options.rank;
  run.width = options.width;
  run.rows = options.rows.value_or(options.width);
  if (config.num_experts > 0) {
    const double expected =
        plan::expected_live_experts(config.num_experts, config.num_experts_per_token, run.rows);
    run.live_experts = options.live_experts.value_or(static_cast<uint32_t>(std::lround(expected)));
  }
  US_ASSIGN(const program::Program program, plan_program(options, config));
  PassingLine progress;
  cuda::KernelBenchOptions how;
  how.rank = run.rank;
  how.rows = run.rows;
  how.live_experts = run.live_experts;
  how.kinds = options.kinds;
  how.positions = options.positions;
  how.prefill_tokens = options.prefill_tokens;
  how.progress = [&progress](std::string_view text) { progress.show(text); };
  auto bench = measure(program, how);
  progress.clear();
  if (!bench) return tl::unexpected(std::move(bench).error());
  run.bench = std::move(*bench);
  if (options.svg_file) US_TRY(write_file(*options.svg_file, kernel_svg(run)));
  if (options.json_file)
    US_TRY(write_file(
        *options.json_file,
        kernel_json(run).dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
            "\n"));
  return write_all(STDOUT_FILENO, kernel_text(run));
}

}  // namespace

void add_bench_kernels_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App& command = *bench.add_subcommand(
      "kernels", "Compare the GPU's kernels with the speed of its memory, at a model's shapes");
  command.add_option("--config", options->config, "A config.json or its folder")
      ->required()
      ->type_name("PATH");
  add_ranks_option(command, &options->num_ranks);
  command.get_option("--ranks")->capture_default_str();
  command
      .add_option("--rank", options->rank,
                  "Whose shard; all have the same shapes, and other K-chunks")
      ->capture_default_str();
  command.add_option("--width", options->width, "Columns of a step: 8, 16, 32 or 64")
      ->check(CLI::IsMember({8U, 16U, 32U, 64U}))
      ->capture_default_str();
  command.add_option("--rows", options->rows, "Columns that carry tokens (default: all)")
      ->check(CLI::Range(1U, plan::kMaxWidth));
  command
      .add_option("--live-experts", options->live_experts,
                  "Experts that a step chooses (default: what random routing of the rows expects)")
      ->check(CLI::Range(1U, 1U << 16));
  const std::vector<std::string> kinds(std::begin(cuda::kKernelKinds),
                                       std::end(cuda::kKernelKinds));
  command
      .add_option("--kernels", options->kinds,
                  "Kinds of kernels: experts, dense, attention, prefill (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(kinds))
      ->type_name("KIND,...");
  command
      .add_option("--positions", options->positions,
                  "Of the sequences that full attention reads, to a step's last")
      ->delimiter(',')
      ->check(CLI::Range(plan::kMaxWidth, 1U << 19))
      ->capture_default_str()
      ->type_name("N,...");
  command
      .add_option("--prefill-tokens", options->prefill_tokens,
                  "Tokens of a step of the prefill kernels")
      ->delimiter(',')
      ->check(CLI::Range(1U, 2048U))
      ->capture_default_str()
      ->type_name("N,...");
  command.add_option("--json", options->json_file,
                     "Write every sample and figure into this file, too (docs/benchmarks.md)");
  command.add_option("--svg", options->svg_file,
                     "Draw the fractions of the ceiling into this file");
  command.callback([options, exit_code] {
    const Status status = bench_kernels(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
