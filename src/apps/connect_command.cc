#include "apps/connect_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "apps/client_config.h"
#include "apps/load_run.h"
#include "apps/named_option.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

constexpr std::chrono::seconds kModelsTimeout{10};

struct ConnectOptions {
  AgentClient client = AgentClient::kOpencode;
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string model;  // empty: the first that the server lists
};

std::string without_version(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  if (url.ends_with("/v1")) url.resize(url.size() - 3);
  return url;
}

Result<ServedEndpoint> find_endpoint(const ConnectOptions& options) {
  ServedEndpoint endpoint;
  endpoint.url = without_version(options.url);
  endpoint.needs_key = !options.api_key.empty();
  endpoint.model = options.model;
  if (!endpoint.model.empty()) return endpoint;
  LoadOptions request;
  US_ASSIGN(request.url, net::parse_http_url(endpoint.url));
  request.api_key = options.api_key;
  request.client.timeout = kModelsTimeout;
  auto listed = first_model(request);
  if (!listed) {
    Error error = listed.error();
    error.message += "; start the server, or name its model with --model";
    return tl::unexpected(error);
  }
  endpoint.model = listed->name;
  endpoint.max_context = listed->max_context;
  return endpoint;
}

Status connect(const ConnectOptions& options) {
  US_ASSIGN(const ServedEndpoint endpoint, find_endpoint(options));
  write_to_stderr(fmt::format("For {}{}:\n", client_config_place(options.client),
                              endpoint.needs_key ? ", with the key in ULTRASPEED_API_KEY" : ""));
  return write_all(STDOUT_FILENO, client_config(options.client, endpoint));
}

}  // namespace

void add_connect_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<ConnectOptions>();
  CLI::App& command =
      *app.add_subcommand("connect", "Print a coding agent's configuration for a server");
  add_named_option(command, "CLIENT", "opencode, codex, qwen-code or claude", kAllAgentClients,
                   agent_client_name, &options->client)
      ->required();
  command.add_option("--url", options->url, "The server")
      ->envname("ULTRASPEED_URL")
      ->capture_default_str();
  command
      .add_option("--api-key", options->api_key,
                  "The server's, if it has one; the configuration names the variable")
      ->envname("ULTRASPEED_API_KEY");
  command.add_option("--model", options->model, "Its name (default: asked of the server)");
  command.callback([options, exit_code] {
    const Status status = connect(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
