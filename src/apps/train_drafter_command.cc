#include "apps/train_drafter_command.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/feature_capture.h"
#include "apps/option_values.h"
#include "apps/terminal.h"
#include "apps/trainer_process.h"

namespace ultraspeed::apps {
namespace {

constexpr uint32_t kMaxStreams = 1024, kMaxTokens = 1 << 18;
constexpr uint64_t kMaxPrompts = uint64_t{1} << 40;

void add_text_options(CLI::App& command, CaptureOptions* options) {
  command.add_option("--max-tokens", options->max_tokens, "Of an answer (default: 256)")
      ->check(CLI::Range(1U, kMaxTokens));
  command
      .add_option("--max-length", options->max_length,
                  "Of a text, prompt and answer; longer prompts are left out (default: 1024)")
      ->check(CLI::Range(2U, kMaxTokens));
  command
      .add_option("--temperature", options->temperature, "0: greedy (default), or sampled answers")
      ->check(real_range(0.0F, 100.0F));
  command.add_option("--seed", options->seed,
                     "Of sampled answers, with each prompt's place (default: 0)");
  command.add_option("--streams", options->streams, "Answers written at once (default: 32)")
      ->check(CLI::Range(1U, kMaxStreams));
  command.add_option("--skip", options->skip, "Prompts to leave out at the beginning");
  command.add_option("--limit", options->limit, "Prompts to take after those (default: all)")
      ->check(CLI::Range(uint64_t{1}, kMaxPrompts));
}

void add_capture_command(CLI::App& parent, int* exit_code) {
  const auto options = std::make_shared<CaptureOptions>();
  CLI::App& command = *parent.add_subcommand(
      "capture", "Answers prompts and writes what the model computed for the texts");
  command
      .add_option("--prompts", options->prompts,
                  "What to answer: JSON lines, as of bench decode (-: standard input)")
      ->required();
  command
      .add_option("--out", options->output,
                  "The folder: shards NAME.features, target.tables and capture.json")
      ->required();
  command
      .add_option("--layers", options->layers,
                  "Whose residuals are kept, ascending (default: the second, the last but two, and "
                  "evenly between them one, or three in models of more than 8 layers: 1, 3, 5 of "
                  "8)")
      ->delimiter(',')
      ->allow_extra_args(false);  // what follows may be DIR
  add_text_options(command, options.get());
  command.add_option("--shard-bytes", options->shard_bytes, "Size of a shard (default: 256MB)")
      ->transform(size_value());
  add_model_options(command, &options->model);
  options->model.sessions_flag = "--streams";
  // The target writes alone.
  options->model.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
  command.callback([options, exit_code] {
    const Status status = capture_features(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace

void add_train_drafter_command(CLI::App& app, int* exit_code) {
  CLI::App& command =
      *app.add_subcommand("train-drafter", "Makes a DFlash drafter for a model: capture, then run");
  command.require_subcommand(1);
  add_capture_command(command, exit_code);
  add_trainer_command(command, "run", "Trains on such folders; --help lists the trainer's flags",
                      {"train_drafter", {}}, exit_code);
}

}  // namespace ultraspeed::apps
