#include "apps/pull_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/folder_check.h"
#include "apps/hub_settings.h"
#include "apps/terminal.h"
#include "hub/pull.h"
#include "model/config.h"

namespace ultraspeed::apps {
namespace {

struct PullCommandOptions {
  std::string model, revision;
  hub::FileChoice files;
  bool is_forced = false;
};

Result<hub::ModelReference> reference_of(const PullCommandOptions& options) {
  std::string text = options.model;
  if (!options.revision.empty()) {
    if (text.find('@') != std::string::npos) {
      return make_error(ErrorCode::kInvalidArgument, "--revision {}: {} names another already",
                        options.revision, text);
    }
    text += "@" + options.revision;
  }
  if (auto reference = hub::parse_reference(text)) return *std::move(reference);
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' names no model of a hub; expected ORG/NAME or ORG/NAME@REVISION, such as "
                    "Qwen/Qwen3-8B",
                    text);
}

// A bar of all bytes with the file that is coming; the sentences of retries go between.
class Display {
 public:
  explicit Display(const hub::ModelReference& model) : model_(model.id) {}

  void update(uint64_t done, uint64_t total, std::string_view file) {
    file_ = file;
    if (!progress_) {
      ProgressOptions options = loading_progress("Downloading " + model_);
      options.note = [this] { return file_.empty() ? "" : ", " + file_; };
      progress_.emplace(std::move(options));
    }
    progress_->update(done, total);
  }
  void say(std::string_view sentence) const {
    const Terminal terminal = describe_terminal(STDERR_FILENO);
    write_to_stderr(fmt::format("{}{}\n", terminal.has_escapes ? "\r\033[K" : "", sentence));
  }
  void finish() {
    file_.clear();
    if (progress_) progress_->finish();
  }

 private:
  const std::string model_;
  std::string file_;
  std::optional<Progress> progress_;
};

// Some gigabytes before a command would say it.
Status check_snapshot(const std::string& snapshot, const Display& display) {
  const Status status = check_quantization(snapshot);
  if (!status) {
    return make_error(status.error().code,
                      "{}; its weights were not downloaded (--include '*' takes all files)",
                      status.error().message);
  }
  const auto config = model::ModelConfig::load(snapshot);
  if (config || model::DrafterConfig::load(snapshot)) return {};
  display.say(config.error().message + "; downloading it for other programs");
  return {};
}

Status run_pull(const PullCommandOptions& options) {
  hub::PullOptions pull;
  US_ASSIGN(pull.model, reference_of(options));
  US_ASSIGN(pull.client, hub_client_options());
  pull.cache_folder = hub_cache_folder();
  pull.files = options.files;
  pull.is_forced = options.is_forced;
  Display display(pull.model);
  pull.client.report = [&display](std::string_view sentence) { display.say(sentence); };
  pull.progress = [&display](uint64_t done, uint64_t total, std::string_view file) {
    display.update(done, total, file);
  };
  // Who names files wants them for something else.
  if (options.files.include.empty()) {
    pull.check = [&display](const std::string& snapshot) {
      return check_snapshot(snapshot, display);
    };
  }
  US_ASSIGN(const hub::Pulled pulled, hub::pull(pull));
  display.finish();
  const std::string_view news = pulled.fetched_bytes == 0 ? "all there already" : "complete";
  display.say(fmt::format("{}: {}, {} files of {} at commit {}; ultraspeed run --model {}",
                          pull.model.text(), news, pulled.num_files,
                          format_bytes(static_cast<double>(pulled.bytes)),
                          pulled.commit.substr(0, 12), pull.model.text()));
  return write_all(STDOUT_FILENO, pulled.snapshot + "\n");
}

}  // namespace

void add_pull_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<PullCommandOptions>();
  CLI::App& command = *app.add_subcommand(
      "pull", "Download a model of a Hugging Face hub into the local cache; prints its folder");
  command.add_option("MODEL", options->model, "ORG/NAME, or ORG/NAME@REVISION")->required();
  command.add_option("--revision", options->revision,
                     "Branch, tag or commit, as behind the '@' (default: main)");
  command
      .add_option("--include", options->files.include,
                  "Only files like this pattern, as '*.md'; again for more (default: what an "
                  "engine needs: *.json, *.safetensors, *.jinja, *.txt, and dflash/)")
      ->allow_extra_args(false);
  command.add_option("--exclude", options->files.exclude, "No files like this pattern")
      ->allow_extra_args(false);
  command.add_flag("--force", options->is_forced, "Download what is there, too");
  command.footer(
      "HF_ENDPOINT names another hub, HF_TOKEN a token for what is not for all; HF_HUB_CACHE or "
      "HF_HOME where the cache is. What is interrupted goes on with the same command.");
  command.callback([options, exit_code] {
    const Status status = run_pull(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
