#include "apps/serve_command.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>

#include "apps/files.h"
#include "apps/flag_sources.h"
#include "apps/loaded_model.h"
#include "apps/served_model.h"
#include "apps/served_offer.h"
#include "apps/shell.h"
#include "apps/signals.h"
#include "apps/terminal.h"
#include "server/forced_answers.h"
#include "server/json_text.h"
#include "server/server.h"

namespace ultraspeed::apps {
namespace {

constexpr int kExitBySecondSignal = 130;  // as shells report an end by SIGINT

struct ServeOptions {
  ModelOptions model;
  server::ServerOptions server;
  std::string config_file;
  std::string api_key_file;
  std::string served_model_name;  // empty: the folder's name
  std::string standard_model;     // a folder: of the standard mode; empty: the same
  bool has_modes = false;         // also without accounts and a standard model of its own
  std::string force_text;         // a file of answers, for tests; empty: the model's own
  std::string test_clock;         // open_service()'s
  uint32_t max_sessions = 8;
  bool caches_prefixes = true;
  uint32_t num_cached_prefixes = 16;
  uint32_t drain_timeout_s = 30;
};

// A second signal ends the process at once.
void end_at_next_signal() {
  struct sigaction action = {};
  action.sa_handler = [](int) { _exit(kExitBySecondSignal); };
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
}

constexpr const char* kApiKeyVariable = "ULTRASPEED_API_KEY";
constexpr const char* kApiKeyFileVariable = "ULTRASPEED_API_KEY_FILE";

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

Status serve(ServeOptions options) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("ultraspeed"));
  US_TRY(check_needs_no_output(options.model.speculation));
  if (options.caches_prefixes) options.model.num_cached_prefixes = options.num_cached_prefixes;
  US_TRY(read_api_keys(&options));
  US_ASSIGN(const auto opened, open_service(options.config_file, options.test_clock));
  if (opened) US_TRY(apply_service(&options, *opened->service));
  US_TRY(server::Server::check(options.server));  // before a model loads for minutes
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_TRY(model.require_tokenizer());
  US_ASSIGN(const auto forced, read_forced_answers(options.force_text, model));
  US_TRY(model.speculation().check_decode_width(options.model.decode_width));
  US_ASSIGN(const auto engine, model.open_engine(options.model, options.max_sessions));
  US_ASSIGN(server::ServedModel served,
            make_served_model(options.served_model_name, options.model, model, *engine));
  if (forced) served.forced_answers = &*forced;
  std::unique_ptr<StandardModel> standard;
  if (!options.standard_model.empty()) {
    US_ASSIGN(standard, StandardModel::open(options.standard_model, options.model,
                                            options.max_sessions, model));
  }
  if (options.has_modes || standard) add_modes(model, standard.get(), &served);
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
  server->stop(options.drain_timeout_s * 1000);
  return {};
}

// Without a key the server is open, which nobody should get from a script's empty variable.
void add_access_options(CLI::App& app, ServeOptions* options) {
  const CLI::Validator some_text(
      [](const std::string& text) {
        return text.empty() ? "empty; leave it out to serve without a key" : "";
      },
      "");
  CLI::Option* key = app.add_option("--api-key", options->server.access.api_keys,
                                    "Clients must send it, or one of several (visible in the "
                                    "process list: prefer the environment or a file)")
                         ->check(some_text)
                         ->allow_extra_args(false)
                         ->envname(kApiKeyVariable);
  app.add_option("--api-key-file", options->api_key_file, "The same from a file, one a line")
      ->check(some_text)
      ->envname(kApiKeyFileVariable)
      ->excludes(key);
  app.add_flag("--insecure", options->server.access.is_insecure,
               "Without a key, let others than this machine in, and take any Host header")
      ->envname("ULTRASPEED_INSECURE");
  const CLI::Validator is_origin(
      [](const std::string& text) {
        return server::is_cors_origin(text)
                   ? std::string()
                   : fmt::format(
                         "'{}' is no origin; expected one like https://chat.example, "
                         "without a path, or *",
                         text);
      },
      "");
  app.add_option("--cors-origin", options->server.access.cors_origins,
                 "Pages that may call from a browser, such as https://chat.example; *: all")
      ->check(is_origin)
      ->allow_extra_args(false)
      ->envname("ULTRASPEED_CORS_ORIGIN");
}

void add_listen_options(CLI::App& app, net::HttpOptions* http) {
  http->port = 8000;
  CLI::Option* host = app.add_option("--host", http->host, "Address to listen on")
                          ->envname("ULTRASPEED_HOST")
                          ->capture_default_str();
  CLI::Option* port = app.add_option("--port", http->port, "0: any free port, which is printed")
                          ->envname("ULTRASPEED_PORT")
                          ->capture_default_str();
  CLI::Option* certificate =
      app.add_option("--ssl-certfile", http->certificate_file,
                     "Serve HTTPS with this certificate (PEM, the chain behind it)")
          ->envname("ULTRASPEED_SSL_CERTFILE");
  CLI::Option* key = app.add_option("--ssl-keyfile", http->key_file, "The certificate's key (PEM)")
                         ->envname("ULTRASPEED_SSL_KEYFILE");
  certificate->needs(key);
  key->needs(certificate);
  app.add_option("--unix-socket,--uds", http->unix_socket,
                 "Listen on this socket file, for its owner alone, instead of a port")
      ->envname("ULTRASPEED_UNIX_SOCKET")
      ->excludes(host)
      ->excludes(port)
      ->excludes(certificate);
}

// Which clients there are, and what each may have.
void add_client_options(CLI::App& app, server::AccessOptions* access) {
  const auto trust = [access](const std::vector<std::string>& proxies) {
    for (const std::string& proxy : proxies) {
      const auto range = net::AddressRange::parse(proxy);
      if (range) {
        access->trusted_proxies.push_back(*range);
      } else {
        access->trusts_socket_file = true;
      }
    }
  };
  const CLI::Validator is_proxy(
      [](const std::string& text) {
        const auto range = net::AddressRange::parse(text);
        return range || text == "unix" ? std::string() : range.error().message + ", or unix";
      },
      "");
  app.add_option_function<std::vector<std::string>>(
         "--trusted-proxy", trust,
         "Addresses or ranges of proxies whose X-Forwarded-For is believed; unix: who connects to "
         "the socket file")
      ->check(is_proxy)
      ->allow_extra_args(false)
      ->envname("ULTRASPEED_TRUSTED_PROXY");
  app.add_option("--max-concurrent-per-key", access->max_concurrent_per_key,
                 "Requests that a key, or without keys an address, may have under way; more get "
                 "status 429 (default: any)")
      ->check(CLI::Range(2, 1 << 20))
      ->envname("ULTRASPEED_MAX_CONCURRENT_PER_KEY");
}

void add_http_options(CLI::App& app, ServeOptions* options) {
  server::ServerOptions& server = options->server;
  add_listen_options(app, &server.http);
  add_access_options(app, options);
  add_client_options(app, &options->server.access);
  app.add_option("--served-model-name", options->served_model_name,
                 "What clients call the model (default: the folder's name)")
      ->envname("ULTRASPEED_SERVED_MODEL_NAME");
  app.add_option("--max-sessions,--max-num-seqs", options->max_sessions,
                 "Requests decoded at the same time")
      ->check(CLI::Range(1, 4096))
      ->envname("ULTRASPEED_MAX_SESSIONS")
      ->capture_default_str();
  app.add_option("--max-queue", server.max_queue, "Requests that may wait; more get status 429")
      ->envname("ULTRASPEED_MAX_QUEUE")
      ->capture_default_str();
  app.add_option("--force-text", options->force_text,
                 "Test-only: JSON lines of answers that the model is made to give")
      ->group("");  // docs/serving.md has it, --help does not
  app.add_option("--test-clock", options->test_clock,
                 "Test-only: a file with the seconds that the accounts' clock is ahead")
      ->group("");
  app.add_option("--standard-model", options->standard_model,
                 "A second checkpoint of the model, which the standard mode decodes one token a "
                 "step; the model itself is then called NAME-ultraspeed")
      ->envname("ULTRASPEED_STANDARD_MODEL");
  app.add_flag("--two-modes", options->has_modes,
               "Serve the model as NAME, one token a step, and as NAME-ultraspeed")
      ->envname("ULTRASPEED_TWO_MODES");
  app.add_option("--shutdown-timeout", options->drain_timeout_s,
                 "Seconds that answers under way get to end after a signal")
      ->check(CLI::Range(0, 3600))
      ->envname("ULTRASPEED_SHUTDOWN_TIMEOUT")
      ->capture_default_str();
}

void add_prefix_options(CLI::App& app, ServeOptions* options) {
  app.add_flag("--enable-prefix-caching,!--no-prefix-caching,!--no-enable-prefix-caching",
               options->caches_prefixes,
               "Whether prompts take over what earlier texts that begin alike have left in the KV "
               "caches (default: they do)")
      ->envname("ULTRASPEED_ENABLE_PREFIX_CACHING");
  app.add_option("--prefix-cache-slots", options->num_cached_prefixes,
                 "Texts of which that much is kept: each takes the memory of one more session's "
                 "sliding layers")
      ->check(CLI::Range(1, 4096))
      ->envname("ULTRASPEED_PREFIX_CACHE_SLOTS")
      ->capture_default_str();
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
  CLI::App& server = *command.add_option_group("Server", "How to serve");
  add_http_options(server, options.get());
  add_decode_width_option(server, &options->model.decode_width);
  add_prefix_options(server, options.get());
  command
      .add_option("--config", options->config_file,
                  "TOML file with flags by their names, such as port = 8080; the command line and "
                  "the environment win over it")
      ->configurable(false)
      ->envname("ULTRASPEED_CONFIG");
  name_variables(command);
  command.callback([options, exit_code, &command] {
    Status status;
    if (!options->config_file.empty()) status = apply_config_file(command, options->config_file);
    if (status) status = serve(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
