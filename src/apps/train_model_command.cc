#include "apps/train_model_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/terminal.h"
#include "apps/trainer_process.h"
#include "base/progress.h"
#include "train/token_file.h"

namespace ultraspeed::apps {
namespace {

struct TokensOptions {
  ModelOptions model;
  std::vector<std::string> files;
  std::string list;  // "": none
  std::string output;
};

Result<std::vector<std::string>> all_files(const TokensOptions& options) {
  std::vector<std::string> files = options.files;
  if (!options.list.empty()) {
    US_ASSIGN(const std::string text, read_file(options.list));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) files.push_back(line);
    }
  }
  if (!files.empty()) return files;
  return make_error(ErrorCode::kInvalidArgument, "no texts: give --file TEXT... or --list FILE");
}

Status write_tokens(const TokensOptions& options) {
  US_ASSIGN(const std::vector<std::string> files, all_files(options));
  US_TRY(check_writable(options.output));
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_ASSIGN(const text::Tokenizer* tokenizer, model.require_tokenizer());
  const std::vector<int32_t> ends = model.stop_ids();
  if (ends.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: names no eos_token_id, which is to end each text", model.directory());
  }
  train::TokenFile tokens;
  tokens.vocab_size = model.config().vocab_size;
  {
    const PassingLine line;
    for (const std::string& file : files) {
      US_ASSIGN(const std::string text, read_file(file));
      US_ASSIGN(const auto ids, tokenizer->encode(text, {.parse_special = false}));
      tokens.add_text(ids, ends.front());
      if (tokens.num_texts % 64 == 0) {
        line.show(fmt::format("Reading text {} of {}", tokens.num_texts, files.size()));
      }
    }
  }
  US_TRY(tokens.write(options.output));
  return write_all(STDOUT_FILENO, fmt::format("{}: {} texts, {} tokens\n", options.output,
                                              tokens.num_texts, tokens.ids.size()));
}

void add_tokens_command(CLI::App& parent, int* exit_code) {
  const auto options = std::make_shared<TokensOptions>();
  CLI::App& command =
      *parent.add_subcommand("tokens", "Texts to token ids in one file, by a model's tokenizer");
  command.add_option("-m,--model", options->model.directory,
                     "Model folder with the tokenizer (default: the bundled models/tiny-mimo)");
  command.add_option("-f,--file", options->files, "Texts; each is followed by the end of text");
  command.add_option("--list", options->list,
                     "A file that names more of them, one a line (-: standard input)");
  command.add_option("--out", options->output, "The file of tokens")->required();
  options->model.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
  command.callback([options, exit_code] {
    const Status status = write_tokens(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace

void add_train_model_command(CLI::App& app, int* exit_code) {
  CLI::App& command = *app.add_subcommand(
      "train-model", "Trains a mixture-of-experts model: tokens, then pretrain, then qat");
  command.require_subcommand(1);
  add_tokens_command(command, exit_code);
  add_trainer_command(command, "pretrain", "From random weights; --help lists the trainer's flags",
                      {"train_model", {"pretrain"}}, exit_code);
  add_trainer_command(command, "qat",
                      "With experts rounded to MXFP4, after the model that it is to be like; "
                      "--help lists the trainer's flags",
                      {"train_model", {"qat"}}, exit_code);
}

}  // namespace ultraspeed::apps
