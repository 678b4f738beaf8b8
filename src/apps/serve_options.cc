#include "apps/serve_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "net/address.h"
#include "server/access_rules.h"

namespace ultraspeed::apps {
namespace {

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
  app.add_option("--max-connections", http->max_connections,
                 "Open at the same time; for one more, that which has waited longest for a request "
                 "is closed")
      ->check(CLI::Range(1, 1'000'000))
      ->envname("ULTRASPEED_MAX_CONNECTIONS")
      ->capture_default_str();
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
  app.add_option("--drain-delay", options->drain_delay_s,
                 "Seconds after a signal in which /health/ready says 503 and requests are answered "
                 "as before, for balancers to notice")
      ->check(CLI::Range(0, 3600))
      ->envname("ULTRASPEED_DRAIN_DELAY")
      ->capture_default_str();
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
  app.add_flag("--shared-prefix-cache", options->server.shares_prefixes,
               "Keys and accounts take over each other's prompts, too. Who measures times can then "
               "find out what others have sent")
      ->envname("ULTRASPEED_SHARED_PREFIX_CACHE");
}

// As vLLM's --kv-events-config has them.
void add_kv_event_options(CLI::App& app, server::KvEventOptions* options) {
  CLI::Option* events =
      app.add_option("--kv-events", options->endpoint,
                     "Tell routers on this ZeroMQ endpoint, such as tcp://*:5557, what the KV "
                     "caches hold, in vLLM's format. It shows prompts to whoever connects")
          ->envname("ULTRASPEED_KV_EVENTS");
  app.add_option("--kv-events-replay", options->replay_endpoint,
                 "An endpoint on which subscribers ask for batches that they have missed")
      ->envname("ULTRASPEED_KV_EVENTS_REPLAY")
      ->needs(events);
  app.add_option("--kv-events-topic", options->topic,
                 "The batches' topic; llm-d's router reads kv@POD@MODEL (default: empty)")
      ->envname("ULTRASPEED_KV_EVENTS_TOPIC")
      ->needs(events);
}

}  // namespace

void add_serve_flags(CLI::App& command, ServeOptions* options) {
  CLI::App& server = *command.add_option_group("Server", "How to serve");
  add_http_options(server, options);
  add_decode_width_option(server, &options->model.decode_width);
  add_prefix_options(server, options);
  add_kv_event_options(server, &options->kv_events);
  command
      .add_option("--config", options->config_file,
                  "TOML file with flags by their names, such as port = 8080; the command line and "
                  "the environment win over it")
      ->configurable(false)
      ->envname("ULTRASPEED_CONFIG");
}

}  // namespace ultraspeed::apps
