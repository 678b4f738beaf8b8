#include "apps/bench_kernels.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench_shape.h"
#include "apps/files.h"
#include "apps/kernel_run.h"
#include "apps/terminal.h"
#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

struct KernelsOptions {
  ShapeOptions shape;
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
  return no_gpu_code();
}
#endif

Status bench_kernels(const KernelsOptions& options) {
  US_TRY(check_writable(options.svg_file));
  US_TRY(check_writable(options.json_file));
  US_ASSIGN(const PlannedShape planned, plan_shape(options.shape));
  KernelRun run;
  run.made_by = provenance();
  static_cast<BenchShape&>(run) = planned.shape;
  PassingLine progress;
  cuda::KernelBenchOptions how;
  how.rank = run.rank;
  how.rows = run.rows;
  how.live_experts = run.live_experts;
  how.kinds = options.kinds;
  how.positions = options.positions;
  how.prefill_tokens = options.prefill_tokens;
  how.progress = [&progress](std::string_view text) { progress.show(text); };
  auto bench = measure(planned.program, how);
  progress.clear();
  if (!bench) return tl::unexpected(std::move(bench).error());
  run.bench = std::move(*bench);
  if (options.svg_file) US_TRY(write_file(*options.svg_file, kernel_svg(run)));
  if (options.json_file) US_TRY(write_json_file(*options.json_file, kernel_json(run)));
  return write_all(STDOUT_FILENO, kernel_text(run));
}

}  // namespace

void add_bench_kernels_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<KernelsOptions>();
  CLI::App& command = *bench.add_subcommand(
      "kernels", "Compare the GPU's kernels with the speed of its memory, at a model's shapes");
  add_shape_options(command, {8, 16, 32, 64}, &options->shape);
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
