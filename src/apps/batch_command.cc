#include "apps/batch_command.h"

#include <fmt/format.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "apps/batch_run.h"
#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/served_model.h"
#include "apps/terminal.h"
#include "server/server.h"

namespace ultraspeed::apps {
namespace {

struct BatchCommandOptions {
  std::string input, output;
  std::string url;  // empty: the model of `model`, in this process
  BatchOptions batch;
  ModelOptions model;
  uint32_t timeout_s = 3600;
};

// The requests of a file that have no answer yet.
struct Work {
  std::string contents;
  std::vector<BatchRequest> requests;
  size_t num_broken = 0;
  size_t num_done_before = 0;
  size_t num_refused_before = 0;  // of these
};

Result<Work> read_work(const std::string& input) {
  Work work;
  US_ASSIGN(work.contents, read_file(input));
  work.requests = parse_batch(work.contents, [&](size_t line, const std::string& fault) {
    ++work.num_broken;
    warn(fmt::format("{}:{}: {}; skipped", file_label(input), line, fault));
  });
  return work;
}

void leave_out_answered(const BatchOutput& output, Work* work) {
  work->num_done_before = std::erase_if(work->requests, [&](const BatchRequest& request) {
    const bool is_answered = output.has(request.custom_id);
    if (is_answered && !output.has_success(request.custom_id)) ++work->num_refused_before;
    return is_answered;
  });
}

Result<BatchFigures> run_with_progress(BatchOptions options, const Work& work,
                                       BatchOutput* output) {
  ProgressOptions how = loading_progress("Requests");
  how.format_amount = [](double count) { return fmt::format("{:.3g} requests", count); };
  Progress progress(std::move(how));
  options.progress = [&](size_t num_done) { progress.update(num_done, work.requests.size()); };
  US_ASSIGN(BatchFigures figures, run_batch(options, work.requests, output));
  progress.finish();
  return figures;
}

// A model and the server for it, for nobody but this process: it has a key that nobody knows.
struct OwnServer {
  std::unique_ptr<LoadedModel> model;  // the server has pointers into it
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<server::Server> server;
};

Result<OwnServer> start_own_server(const BatchCommandOptions& options, const std::string& key) {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("batch", std::make_shared<spdlog::sinks::null_sink_mt>()));
  OwnServer own;
  US_ASSIGN(LoadedModel model, LoadedModel::open(options.model));
  own.model = std::make_unique<LoadedModel>(std::move(model));
  US_ASSIGN(own.engine, own.model->open_engine(options.model, options.batch.concurrency));
  US_ASSIGN(const server::ServedModel served,
            make_served_model({}, options.model, *own.model, *own.engine));
  server::ServerOptions how;
  how.access.api_keys = {key};
  how.max_queue = options.batch.concurrency;
  US_ASSIGN(own.server, server::Server::start(served, how));
  return own;
}

std::string random_key() {
  std::random_device random;
  std::string key;
  for (int i = 0; i < 4; ++i) key += fmt::format("{:08x}", random());
  return key;
}

Status check_all_succeeded(const BatchFigures& figures, const Work& work) {
  const size_t num_refused = figures.num_refused + work.num_refused_before;
  if (num_refused + figures.num_lost + work.num_broken == 0) return {};
  std::string loss;
  if (figures.num_lost > 0) {
    loss = fmt::format("; {} without an answer ({}), for which the same command asks again",
                       figures.num_lost, figures.loss);
  }
  return make_error(ErrorCode::kIo, "{} lines are broken, {} requests were refused{}",
                    work.num_broken, num_refused, loss);
}

Status run_batch_command(BatchCommandOptions options) {
  options.batch.client.timeout = std::chrono::seconds(options.timeout_s);
  US_TRY(check_batch_files(options.input, options.output));
  US_ASSIGN(Work work, read_work(options.input));  // before there is an output
  US_ASSIGN(BatchOutput output, BatchOutput::open(options.output));
  leave_out_answered(output, &work);
  BatchFigures figures;
  if (!work.requests.empty()) {
    OwnServer own;
    std::string url = options.url;
    if (url.empty()) {
      options.batch.api_key = random_key();
      US_ASSIGN(own, start_own_server(options, options.batch.api_key));
      url = own.server->url();
    }
    US_ASSIGN(options.batch.url, net::parse_http_url(url));
    US_ASSIGN(figures, run_with_progress(options.batch, work, &output));
  }
  write_to_stderr(fmt::format("{}: {} answered, {} refused, {} there before\n", options.output,
                              figures.num_succeeded, figures.num_refused, work.num_done_before));
  return check_all_succeeded(figures, work);
}

}  // namespace

void add_batch_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<BatchCommandOptions>();
  CLI::App& command = *app.add_subcommand(
      "batch", "Answer the requests of a file, in the format of OpenAI's batches");
  command.add_option("IN", options->input, "JSON lines of requests (-: standard input)")
      ->required();
  command
      .add_option("OUT", options->output,
                  "JSON lines of answers, as they come; requests that have one there are skipped")
      ->required();
  const CLI::Validator some_url(
      [](const std::string& text) {
        const auto url = net::parse_http_url(text);
        return url ? std::string() : url.error().message;
      },
      "");
  command
      .add_option("--url", options->url,
                  "A server, http://HOST:PORT, with or without /v1 (default: the model, here)")
      ->check(some_url);
  command.add_option("--api-key", options->batch.api_key, "Sent to it as a bearer token")
      ->envname("ULTRASPEED_API_KEY");
  command.add_option("--concurrency", options->batch.concurrency, "Requests under way at most")
      ->check(CLI::Range(1U, 4096U))
      ->capture_default_str();
  command.add_option("--timeout", options->timeout_s, "Seconds of silence that end a request")
      ->check(CLI::Range(1U, 86400U))
      ->capture_default_str();
  add_model_options(command, &options->model);
  options->model.sessions_flag = "--concurrency";
  options->model.num_cached_prefixes = 16;
  add_speculation_options(command, &options->model.speculation);
  add_decode_width_option(command, &options->model.decode_width);
  command.callback([options, exit_code] {
    const Status status = run_batch_command(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
