#include "apps/quantize_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "apps/calibration.h"
#include "apps/executor_choice.h"
#include "apps/model_argument.h"
#include "apps/named_option.h"
#include "apps/option_values.h"
#include "apps/terminal.h"
#include "apps/text_table.h"
#include "base/progress.h"
#include "quantize/quantizer.h"

namespace ultraspeed::apps {
namespace {

using quantize::Form;
using quantize::KindSummary;

struct QuantizeCommandOptions {
  quantize::QuantizeOptions run;
  std::string target;
  std::optional<std::string> calibration_text;
  uint64_t calibration_tokens = 262'144;
  double damping = 0.01;
};

std::string error_percent(double fraction) {
  return fmt::format("{:.3f} %", 100 * fraction);
}

std::string kinds_table(const std::vector<KindSummary>& kinds) {
  TextTable table{.head = {"tensors", "form", "number", "before", "after", "error", "worst error",
                           "blocks that clip"},
                  .num_names = 2,
                  .rows = {}};
  for (const KindSummary& kind : kinds) {
    const auto size = [](uint64_t bytes) { return format_bytes(static_cast<double>(bytes)); };
    std::vector<std::string> row = {
        std::string(tensor_kind_name(kind.kind)), std::string(form_name(kind.form)),
        std::to_string(kind.num_tensors), size(kind.source_bytes), size(kind.output_bytes)};
    if (kind.form == Form::kCopy) {
      row.insert(row.end(), {"-", "-", "-"});
    } else {
      const auto clipped = static_cast<double>(kind.num_clipped);
      row.push_back(error_percent(kind.relative_error));
      row.push_back(error_percent(kind.worst_error));
      row.push_back(error_percent(clipped / static_cast<double>(kind.num_blocks)));
    }
    table.rows.push_back(std::move(row));
  }
  return plain_table(table);
}

Status run_quantize(QuantizeCommandOptions options) {
  US_ASSIGN(options.run.source, find_folder(options.run.source));
  if (options.calibration_text) {
    US_ASSIGN(options.run.calibration,
              prepare_calibration({.source = options.run.source,
                                   .text = *options.calibration_text,
                                   .max_tokens = options.calibration_tokens,
                                   .damping = options.damping,
                                   .num_threads = options.run.num_threads}));
    warn(short_text_warning(options.run.calibration->shape));
  }
  Result<quantize::QuantizeResult> result;
  {
    std::optional<Progress> progress;  // begins after calibration's own
    options.run.progress = [&progress](uint64_t done, uint64_t total) {
      if (!progress) progress.emplace(loading_progress("Quantizing"));
      progress->update(done, total);
    };
    result = quantize::quantize(options.run, OutputFolder(options.target));
    if (result && progress) progress->finish();
  }
  if (!result) return tl::unexpected(std::move(result).error());
  std::string text = kinds_table(result->kinds);
  text +=
      fmt::format("\n{}: {} files of weights, each read again", options.target, result->num_files);
  if (result->num_resumed_files > 0) {
    text += fmt::format("; {} were there from an interrupted run", result->num_resumed_files);
  }
  text += fmt::format("\nErrors of each tensor: {}/{}\n", options.target, quantize::kReportName);
  if (!result->not_copied.empty()) {
    text += "Not copied:";
    for (const std::string& name : result->not_copied) text += " " + name;
    text += "\n";
  }
  return write_all(STDOUT_FILENO, text);
}

void add_form_options(CLI::App& command, quantize::LinearOptions* linears) {
  using quantize::linear_form_name;
  add_named_option(command, "--linears",
                   "q, k, v and dense feed-forward layers: fp8 or keep (default: fp8)",
                   quantize::kLinearForms, linear_form_name, &linears->linears);
  add_named_option(command, "--output-projections",
                   "o_proj: published, fp8 or keep (default: published; MiMo keeps them, others "
                   "follow --linears)",
                   quantize::kOutputProjectionForms, linear_form_name,
                   &linears->output_projections);
  add_named_option(command, "--embedding", "fp8 or keep (default: keep)", quantize::kLinearForms,
                   linear_form_name, &linears->embedding);
  add_named_option(command, "--head", "fp8 or keep (default: keep)", quantize::kLinearForms,
                   linear_form_name, &linears->head);
}

void add_calibration_options(CLI::App& command, QuantizeCommandOptions* options) {
  CLI::Option* text = command.add_option(
      "--calibrate", options->calibration_text,
      "Round experts by what they read in this text, with GPTQ: the source reads it first, on the "
      "processor (-: standard input; default: no calibration)");
  command
      .add_option("--calibrate-tokens", options->calibration_tokens,
                  "Tokens of the text to read at most (default: 262144)")
      ->check(CLI::Range(kMinCalibrationTokens, uint64_t{1} << 32))
      ->needs(text);
  command
      .add_option("--damping", options->damping,
                  "Of calibration: how much of their mean square is added to all inputs' squares "
                  "(default: 0.01)")
      ->check(real_range(quantize::kMinDamping, quantize::kMaxDamping))
      ->needs(text);
}

}  // namespace

void add_quantize_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<QuantizeCommandOptions>();
  options->run.num_threads = default_threads();
  CLI::App& command = *app.add_subcommand(
      "quantize", "BF16 or FP8 checkpoint to MXFP4 experts and FP8 linear layers");
  command
      .add_option("source", options->run.source, "The checkpoint folder, or ORG/NAME of the cache")
      ->required();
  command
      .add_option("target", options->target, "The new folder; an interrupted run continues there")
      ->required();
  add_named_option(command, "--scale-rule",
                   "Of MXFP4 blocks: even, rceil, floor or search (default: even; "
                   "docs/quantize.md)",
                   quantize::kAllScaleRules, quantize::scale_rule_name, &options->run.scale_rule);
  add_form_options(command, &options->run.linears);
  add_calibration_options(command, options.get());
  command
      .add_option("--memory", options->run.memory_bytes,
                  "Limit of what is converted at a time, as 4GB or 512MiB (default: 4GB)")
      ->transform(size_value());
  command
      .add_option("--shard-bytes", options->run.shard_bytes,
                  "Size of a file of weights (default: 5GB)")
      ->transform(size_value());
  command.add_option("--threads", options->run.num_threads, "Default: one per processor")
      ->check(CLI::Range(1U, 1024U));
  command.callback([options, exit_code] {
    const Status status = run_quantize(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
