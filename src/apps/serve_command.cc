#include "apps/serve_command.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>

#include "apps/files.h"
#include "apps/flag_sources.h"
#include "apps/loaded_model.h"
#include "apps/serve_options.h"
#include "apps/served_model.h"
#include "apps/served_offer.h"
#include "apps/shell.h"
#include "apps/signals.h"
#include "apps/terminal.h"
#include "server/forced_answers.h"
#include "server/json_text.h"
#include "server/kv_events.h"
#include "server/server.h"

namespace ultraspeed::apps {
namespace {

constexpr int kExitBySecondSignal = 130;  // as shells report an end by SIGINT

// A second signal ends the process at once.
void end_at_next_signal() {
  struct sigaction action = {};
  action.sa_handler = [](int) { _exit(kExitBySecondSignal); };
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
}

// A variable that is empty counts as none in CLI11. Somebody meant to set it, and not to have a
// server without a key.
Status check_no_variable_is_empty() {
  for (const char* name : {kApiKeyVariable, kApiKeyFileVariable}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value != '\0') continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{} is empty; give it a value, or unset it to serve without a key", name);
  }
  return {};
}

// A line each, so that editors may end the file with a newline.
Status read_api_keys(ServeOptions* options) {
  std::vector<std::string>& keys = options->server.access.api_keys;
  if (options->api_key_file.empty()) {
    return keys.empty() ? check_no_variable_is_empty() : Status();
  }
  US_ASSIGN(const std::string text, read_file(options->api_key_file));
  constexpr const char* kSpace = " \t\r\n";
  for (size_t begin = 0; (begin = text.find_first_not_of(kSpace, begin)) != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(kSpace, begin), text.size());
    keys.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  if (!keys.empty()) return {};
  return make_error(ErrorCode::kInvalidArgument, "{}: empty; expected API keys, one a line",
                    options->api_key_file);
}

Result<std::optional<server::ForcedAnswers>> read_forced_answers(const std::string& path,
                                                                 const LoadedModel& model) {
  if (path.empty()) return std::nullopt;
  US_ASSIGN(const std::string lines, read_file(path));
  US_ASSIGN(const text::Tokenizer* tokenizer, model.require_tokenizer());
  const std::vector<int32_t> stop_ids = model.stop_ids();
  if (stop_ids.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the model names no stop token, which has to end a forced text",
                      model.directory());
  }
  return server::ForcedAnswers::parse(lines, file_label(path), *tokenizer, stop_ids.front());
}

// A first request, for a shell. A key is not printed.
std::string curl_line(const server::ServedModel& served, const ServeOptions& options,
                      const std::string& url) {
  std::string body = R"({"model":)";
  server::append_json_string(body, served.name);
  const bool is_chat = served.chat_template != nullptr;
  body += is_chat ? R"(,"messages":[{"role":"user","content":"What is 2 + 2?"}]})"
                  : R"(,"prompt":"Once upon a time","max_tokens":64})";
  const char* key = options.server.access.api_keys.empty()
                        ? ""
                        : " -H \"Authorization: Bearer $ULTRASPEED_API_KEY\"";
  const std::string& socket = options.server.http.unix_socket;
  const std::string where =
      socket.empty() ? url : fmt::format("--unix-socket {} http://localhost", shell_quoted(socket));
  return fmt::format("curl {}/v1/{}{} -H 'Content-Type: application/json' -d {}", where,
                     is_chat ? "chat/completions" : "completions", key, shell_quoted(body));
}

// Of this process, as Linux counts it; 0: not known.
uint64_t resident_bytes() {
  uint64_t total_pages = 0, resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;
  return resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// A socket each, and what else is open. Fewer, with a warning, where the system allows no more.
void allow_connections(uint32_t* max_connections) {
  constexpr rlim_t kOtherFiles = 256;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t needed = *max_connections + kOtherFiles;
  if (limit.rlim_cur >= needed) return;
  if (limit.rlim_max < needed) {
    *max_connections =
        static_cast<uint32_t>(std::max<rlim_t>(limit.rlim_max, 2 * kOtherFiles) - kOtherFiles);
    write_to_stderr(fmt::format(
        "warning: --max-connections is {}, since this process may have {} open files (ulimit -n)\n",
        *max_connections, limit.rlim_max));
  }
  limit.rlim_cur = std::min(needed, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

Status apply_service(ServeOptions* options, access::Service& service) {
  if (!options->server.access.api_keys.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: with its [access] section keys are those of accounts; leave out "
                      "--api-key and --api-key-file",
                      options->config_file);
  }
  options->server.service = &service;
  options->server.access.has_accounts = true;
  options->has_modes = true;
  return {};
}

// `standard`: nullptr: both modes have one engine.
void add_modes(const LoadedModel& model, const StandardModel* standard,
               server::ServedModel* served) {
  served->fast_name = served->name + "-ultraspeed";
  served->weights = served->standard_weights = weights_text(model);
  if (standard == nullptr) return;
  served->standard_engine = &standard->engine();
  served->standard_weights = standard->weights();
}

// nullptr: nobody is to be told. A router can use only what all clients may take over.
Result<std::unique_ptr<server::KvEventPublisher>> open_kv_events(const ServeOptions& options) {
  if (options.kv_events.endpoint.empty()) return nullptr;
  if (!options.caches_prefixes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--kv-events tells what the prefix cache holds, and --no-prefix-caching has "
                      "none; leave one of them out");
  }
  const bool has_clients =
      options.server.service != nullptr || !options.server.access.api_keys.empty();
  if (has_clients && !options.server.shares_prefixes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--kv-events would show each client's prompts to routers that cannot tell "
                      "whose they are; give --shared-prefix-cache, too, or serve without keys");
  }
  return server::KvEventPublisher::open(options.kv_events);
}

Status serve(ServeOptions options) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("ultraspeed"));
  US_TRY(check_needs_no_output(options.model.speculation));
  if (options.caches_prefixes) options.model.num_cached_prefixes = options.num_cached_prefixes;
  US_TRY(read_api_keys(&options));
  US_ASSIGN(const auto opened, open_service(options.config_file, options.test_clock));
  if (opened) US_TRY(apply_service(&options, *opened->service));
  allow_connections(&options.server.http.max_connections);
  US_TRY(server::Server::check(options.server));  // before a model loads for minutes
  US_ASSIGN(const auto kv_events, open_kv_events(options));
  options.server.kv_events = kv_events.get();
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_TRY(model.require_tokenizer());
  US_ASSIGN(const auto forced, read_forced_answers(options.force_text, model));
  US_TRY(model.speculation().check_decode_width(options.model.decode_width));
  US_ASSIGN(const auto engine, model.open_engine(options.model, options.max_sessions));
  if (kv_events) engine->observe_caches(kv_events.get());
  US_ASSIGN(server::ServedModel served,
            make_served_model(options.served_model_name, options.model, model, *engine));
  if (forced) served.forced_answers = &*forced;
  std::unique_ptr<StandardModel> standard;
  if (!options.standard_model.empty()) {
    US_ASSIGN(standard, StandardModel::open(options.standard_model, options.model,
                                            options.max_sessions, model));
  }
  if (options.has_modes || standard) {
    add_modes(model, standard.get(), &served);
    if (model.speculation().drafter().kind == engine::DrafterKind::kNone) {
      write_to_stderr(
          "warning: without a drafter the fast mode is no faster than the standard one\n");
    }
  }
  US_ASSIGN(const auto server, server::Server::start(served, options.server));
  const bool has_tls = !options.server.http.certificate_file.empty();
  US_ASSIGN(const auto signals, CaughtSignals::catch_signals({SIGINT, SIGTERM, SIGHUP}));
  write_to_stderr(fmt::format(
      "Serving {}, {} sessions of {} tokens, {} columns a decode step, on {}, {}, {} of weights, "
      "{} resident\nlistening on {}\ntry: {}\n",
      served.name, options.max_sessions, engine->max_context(), engine->programs().front().width,
      engine->device(), mode_text(model.modes(options.model, *engine)),
      format_bytes(static_cast<double>(model.checkpoint().contents().backbone.bytes)),
      format_bytes(static_cast<double>(resident_bytes())), server->url(),
      curl_line(served, options, server->url())));
  while (signals.wait() == SIGHUP) {
    if (!has_tls) {
      write_to_stderr("SIGHUP: without a TLS certificate there is nothing to read again\n");
      continue;
    }
    const Status status = server->reload_certificate();
    write_to_stderr(status ? "read the TLS certificate again\n"
                           : fmt::format("kept the TLS certificate: {}\n", status.error().message));
  }
  end_at_next_signal();
  write_to_stderr(fmt::format("draining for at most {} s; a second signal ends it now\n",
                              options.drain_timeout_s));
  server->leave_rotation();
  std::this_thread::sleep_for(std::chrono::seconds(options.drain_delay_s));
  server->stop(options.drain_timeout_s * 1000);
  return {};
}

}  // namespace

void add_serve_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<ServeOptions>();
  CLI::App& command = *app.add_subcommand("serve", "Serve the OpenAI API over HTTP");
  add_model_options(command, &options->model);
  options->model.sessions_flag = "--max-sessions";
  options->model.may_exceed_positions = true;
  add_speculation_options(command, &options->model.speculation);
  add_acceptance_option(command, &options->model.speculation);
  add_serve_flags(command, options.get());
  name_variables(command);
  command.callback([options, exit_code, &command] {
    Status status;
    if (!options->config_file.empty()) status = apply_config_file(command, options->config_file);
    if (status) status = serve(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
