#include "apps/trainer_process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

int start_trainer(const TrainerProgram& trainer, std::vector<std::string> arguments) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  std::string program = (here / trainer.name).string();
  if (!std::filesystem::is_regular_file(program, error)) {
    return report_error(
        {ErrorCode::kNotFound,
         fmt::format("no {}; it is built where LibTorch is: install libtorch-dev (Debian) or "
                     "PyTorch 2 and configure with -DULTRASPEED_TORCH=ON, or build src/train/gpu "
                     "alone (docs/training.md, section 8)",
                     program)});
  }
  arguments.insert(arguments.begin(), trainer.words.begin(), trainer.words.end());
  std::vector<char*> words = {program.data()};
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  execv(program.c_str(), words.data());
  return report_error({ErrorCode::kIo, fmt::format("{}: cannot be started: {}", program,
                                                   std::generic_category().message(errno))});
}

}  // namespace

void add_trainer_command(CLI::App& parent, const std::string& name, const std::string& purpose,
                         const TrainerProgram& program, int* exit_code) {
  CLI::App& command = *parent.add_subcommand(name, purpose);
  command.set_help_flag();  // all that follows is the trainer's
  command.prefix_command();
  command.callback(
      [&command, program, exit_code] { *exit_code = start_trainer(program, command.remaining()); });
}

}  // namespace ultraspeed::apps
