#include "apps/doctor_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/doctor.h"
#include "apps/generation.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "apps/samples.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr int kExitUnhealthy = 3;

struct DoctorOptions {
  ModelOptions model;
  PromptOptions prompt;
  uint32_t max_tokens = 64;
  bool json = false;
};

// The prompt that was given, or all samples.
Result<std::vector<Prompt>> make_prompts(const PromptOptions& options, const LoadedModel& model) {
  std::vector<Prompt> prompts;
  const bool is_given = options.prompt || options.prompt_file || options.prompt_ids ||
                        options.user || options.messages_file || options.sample;
  if (is_given) {
    US_ASSIGN(prompts.emplace_back(), make_prompt(options, model));
    return prompts;
  }
  for (const Sample& sample : samples()) {
    PromptOptions one = options;
    one.sample = std::string(sample.name);
    US_ASSIGN(prompts.emplace_back(), make_prompt(one, model));
  }
  return prompts;
}

// Greedy answers to the prompts, drafted with one reading of the drafter.
Result<engine::SpeculationStats> measure(const DoctorOptions& options, const LoadedModel& model,
                                         const Speculation& speculation,
                                         const std::vector<Prompt>& prompts) {
  US_ASSIGN(const auto engine, model.open_engine(options.model, 1, speculation));
  engine::SpeculationStats stats;
  for (const Prompt& prompt : prompts) {
    GenerationRequest request;
    request.prompt = prompt.ids;
    request.params.max_tokens = options.max_tokens;
    request.params.sampling.temperature = 0;
    request.params.stop_ids = model.stop_ids();
    US_ASSIGN(const GenerationResult result, generate(*engine, model.tokenizer(), request, {}));
    stats.add(result.speculation);
  }
  return stats;
}

ordered_json trial_json(const Trial& trial) {
  return {{"convention", trial.name},
          {"cycles", trial.stats.num_cycles()},
          {"accepted_length", trial.stats.accepted_length()},
          {"per_position", trial.stats.acceptance()}};
}

std::string trial_line(const Trial& trial) {
  return fmt::format("{:>6.2f}  {}\n", trial.stats.accepted_length(), trial.name);
}

std::string report(const LoadedModel& model, const Trial& as_is, const std::vector<Trial>& others,
                   const Diagnosis& diagnosis) {
  const model::DrafterConfig& drafter = model.speculation().dflash()->config();
  std::string text =
      fmt::format("drafter        {}\n", drafter.file) + convention_table(drafter, model.config());
  text += fmt::format("chat template  {}\n", model.chat_template() != nullptr ? "yes" : "none");
  text += fmt::format("\naccepted length {:.2f} over {} cycles\nper position   ",
                      as_is.stats.accepted_length(), as_is.stats.num_cycles());
  for (const double share : as_is.stats.acceptance()) text += fmt::format(" {:.2f}", share);
  text += "\n";
  if (!others.empty()) text += "\naccepted lengths with other conventions:\n";
  for (const Trial& other : others) text += trial_line(other);
  return text + "\n" + diagnosis.sentence + "\n";
}

std::string report_json(const LoadedModel& model, const Trial& as_is,
                        const std::vector<Trial>& others, const Diagnosis& diagnosis) {
  ordered_json tried = ordered_json::array();
  for (const Trial& other : others) tried.push_back(trial_json(other));
  const ordered_json json = {
      {"drafter", model.speculation().dflash()->config().file},
      {"has_chat_template", model.chat_template() != nullptr},
      {"as_is", trial_json(as_is)},
      {"others", std::move(tried)},
      {"is_healthy", diagnosis.is_healthy},
      {"better", diagnosis.better ? ordered_json(*diagnosis.better) : ordered_json(nullptr)},
      {"diagnosis", diagnosis.sentence}};
  return json.dump() + "\n";
}

// Only a network in a folder of its own has conventions to try.
Status check_drafter(const DoctorOptions& options) {
  const std::optional<DrafterChoice>& drafter = options.model.speculation.drafter;
  if (!drafter || drafter->options.kind == engine::DrafterKind::kDflash) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--drafter {}: has no files of its own to examine; expected dflash (the folder "
                    "dflash/ of the model) or the folder of a DFlash drafter",
                    drafter_name(*drafter));
}

Result<bool> examine(const DoctorOptions& options) {
  US_TRY(check_drafter(options));
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  const Speculation& speculation = model.speculation();
  if (speculation.dflash() == nullptr) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no drafter in its folder dflash/; name one with --drafter DIR",
                      model.directory());
  }
  US_ASSIGN(const std::vector<Prompt> prompts, make_prompts(options.prompt, model));
  Trial as_is{"as it is", {}};
  US_ASSIGN(as_is.stats, measure(options, model, speculation, prompts));
  std::vector<Trial> others;
  if (as_is.stats.accepted_length() < kHealthyAcceptedLength) {
    for (const Convention& other :
         other_conventions(speculation.dflash()->config(), model.config())) {
      US_ASSIGN(const Speculation changed, speculation.with(other.change));
      US_ASSIGN(auto stats, measure(options, model, changed, prompts));
      others.push_back({other.name, std::move(stats)});
    }
  }
  const Diagnosis diagnosis = diagnose(as_is, others);
  US_TRY(write_all(STDOUT_FILENO, options.json ? report_json(model, as_is, others, diagnosis)
                                               : report(model, as_is, others, diagnosis)));
  return diagnosis.is_healthy;
}

}  // namespace

void add_doctor_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<DoctorOptions>();
  CLI::App& command = *app.add_subcommand(
      "doctor", "Say why a DFlash drafter's tokens are not accepted; exit code 3 if they are not");
  add_prompt_options(command, &options->prompt);
  add_model_options(command, &options->model);
  add_speculation_options(command, &options->model.speculation);
  command.add_option("-n,--max-tokens", options->max_tokens, "Tokens of each answer")
      ->check(CLI::Range(2U, 1U << 20))
      ->capture_default_str();
  command.add_flag("--json", options->json, "Print one JSON object");
  command.callback([options, exit_code] {
    const auto is_healthy = examine(*options);
    *exit_code = !is_healthy ? report_error(is_healthy.error()) : *is_healthy ? 0 : kExitUnhealthy;
  });
}

}  // namespace ultraspeed::apps
