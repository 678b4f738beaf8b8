#include "apps/plan_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/config_file.h"
#include "apps/loaded_model.h"
#include "apps/plan_output.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct PlanCommandOptions {
  std::string config;
  std::string device = "h200";
  std::string kv_dtype = "bf16";
  std::string dense_dtype = "checkpoint";
  plan::ReportOptions report;
  bool json = false;
};

Status plan_model(PlanCommandOptions options) {
  options.report.kv_format =
      options.kv_dtype == "fp8" ? plan::KvFormat::kFp8 : plan::KvFormat::kBf16;
  options.report.dense_format =
      options.dense_dtype == "fp8" ? plan::DenseFormat::kFp8 : plan::DenseFormat::kCheckpoint;
  US_ASSIGN(const plan::Device device, plan::find_device(options.device));
  US_ASSIGN(const ConfigFile models, read_config_file(options.config));
  const model::DrafterConfig* drafter = models.drafter ? &*models.drafter : nullptr;
  US_ASSIGN(const plan::PlanReport report,
            plan::make_report(models.config, drafter, device, options.report));
  return write_all(STDOUT_FILENO, options.json ? plan_json(report) + "\n" : plan_tables(report));
}

}  // namespace

void add_plan_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<PlanCommandOptions>();
  CLI::App& command = *app.add_subcommand(
      "plan", "What a model would cost on GPUs, from its config.json alone: memory, bytes, speed");
  command.add_option("--config", options->config, "A config.json or its folder")
      ->required()
      ->type_name("PATH");
  add_ranks_option(command, &options->report.num_ranks);
  command.get_option("--ranks")->capture_default_str();
  command.add_option("--device", options->device, "h100, h200 or b200")->capture_default_str();
  command.add_option("--width", options->report.width, "Tokens verified in one step, 1 to 512")
      ->capture_default_str();
  command
      .add_option("--context", options->report.context,
                  "Tokens in the KV cache (default: 131072, or the model's if less)")
      ->check(CLI::PositiveNumber);
  command.add_option("--kv-dtype", options->kv_dtype, "Keys and values on the GPU")
      ->check(CLI::IsMember({"bf16", "fp8"}))
      ->capture_default_str();
  command
      .add_option("--dense-dtype", options->dense_dtype,
                  "o_proj, lm_head and router: as stored, or re-quantised (changes bytes only)")
      ->check(CLI::IsMember({"checkpoint", "fp8"}))
      ->capture_default_str();
  command.add_flag("--json", options->json, "Print one JSON object");
  command.callback([options, exit_code] {
    const Status status = plan_model(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
