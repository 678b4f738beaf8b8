#include "apps/train_drafter_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "apps/feature_capture.h"
#include "apps/terminal.h"

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
      ->check(CLI::Range(0.0F, 100.0F));
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
                  "Whose residuals are kept, ascending (default: first, last, and evenly between "
                  "them one, or three in models of more than 8 layers)")
      ->delimiter(',')
      ->allow_extra_args(false);  // what follows may be DIR
  add_text_options(command, options.get());
  command.add_option("--shard-bytes", options->shard_bytes, "Size of a shard (default: 256MB)")
      ->transform(CLI::AsSizeValue(true));  // kB is 1000 B, KiB 1024 B
  add_model_options(command, &options->model);
  options->model.sessions_flag = "--streams";
  // The target writes alone.
  options->model.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
  command.callback([options, exit_code] {
    const Status status = capture_features(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

// The trainer is a program of its own beside this one: LibTorch's libraries take half a second to
// load, which no other command should wait for.
int start_trainer(std::vector<std::string> arguments) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  std::string program = (here / "train_drafter").string();
  if (!std::filesystem::is_regular_file(program, error)) {
    return report_error(
        {ErrorCode::kNotFound,
         fmt::format(
             "train-drafter run: no {}; it is built where LibTorch is: install libtorch-dev "
             "(Debian) or PyTorch 2 and configure with -DULTRASPEED_TORCH=ON, or build "
             "src/train/gpu alone (docs/training.md, section 8)",
             program)});
  }
  std::vector<char*> words = {program.data()};
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  execv(program.c_str(), words.data());
  return report_error({ErrorCode::kIo, fmt::format("{}: cannot be started: {}", program,
                                                   std::generic_category().message(errno))});
}

void add_training_command(CLI::App& parent, int* exit_code) {
  CLI::App& command =
      *parent.add_subcommand("run", "Trains on such folders; --help lists the trainer's flags");
  command.set_help_flag();  // all that follows is the trainer's
  command.prefix_command();
  command.callback([&command, exit_code] { *exit_code = start_trainer(command.remaining()); });
}

}  // namespace

void add_train_drafter_command(CLI::App& app, int* exit_code) {
  CLI::App& command =
      *app.add_subcommand("train-drafter", "Makes a DFlash drafter for a model: capture, then run");
  command.require_subcommand(1);
  add_capture_command(command, exit_code);
  add_training_command(command, exit_code);
}

}  // namespace ultraspeed::apps
