// Routes, authorisation, and the order in which the parts start and stop.
#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/api_server.h"
#include "server/offer.h"
#include "server/page_files.h"
#include "server/release.h"

namespace ultraspeed::server {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kFlushTimeoutMs = 1000;   // for answers that are complete but not yet sent
constexpr milliseconds kAbortTimeout{5000};  // for one engine step

class KeptResponse final : public net::ResponseWriter {
 public:
  void send(net::HttpResponse given) override { response = std::move(given); }
  void start_stream(net::StreamHead) override {}
  void write(std::string) override {}
  void finish() override {}
  void when_sent(std::function<void()>) override {}
  void upgrade(std::shared_ptr<net::WebSocketHandler>, std::vector<net::Header>) override {}
  void on_close(std::function<void(net::CloseReason)>) override {}

  net::HttpResponse response;
};

}  // namespace

Status ApiServer::open() {
  US_ASSIGN(auto http, net::HttpServer::listen(options_.http, *this));
  US_TRY(check_binding(options_.access, options_.http.host, http->address()));
  http_ = std::move(http);
  engine_thread_ = std::make_unique<EngineThread>(*model_.engine, options_.max_queue, post());
  if (model_.standard_engine != nullptr) {
    standard_thread_ =
        std::make_unique<EngineThread>(*model_.standard_engine, options_.max_queue, post());
  }
  grammars_ = std::make_unique<GrammarCache>(*model_.tokenizer, defaults_.params.stop_ids,
                                             defaults_.tool_syntax);
  parse_pool_ = std::make_unique<TaskPool>(options_.num_parse_threads);
  large_parse_pool_ = std::make_unique<TaskPool>(1);
  page_ = std::make_unique<PageApi>(options_.service, page_facts(), post());
  http_->start();
  return {};
}

std::string ApiServer::url() const {
  const net::HttpOptions& http = options_.http;
  if (!http.unix_socket.empty()) return "unix:" + http.unix_socket;
  const bool is_ipv6 = http_->address().find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", http.certificate_file.empty() ? "http" : "https",
                     is_ipv6 ? "[" : "", http_->address(), is_ipv6 ? "]" : "", port());
}

void ApiServer::stop(uint32_t drain_timeout_ms) {
  if (is_stopped_.exchange(true) || http_ == nullptr) return;
  is_draining_.store(true);
  http_->post([this] { drain_sockets(); });
  if (!in_flight_->wait_until_none(milliseconds(drain_timeout_ms))) {
    http_->post([this] {
      is_aborting_ = true;
      const Error error{ErrorCode::kCancelled, "the server is shutting down"};
      engine_thread_->fail_all(error);
      if (standard_thread_ != nullptr) standard_thread_->fail_all(error);
    });
    in_flight_->wait_until_none(kAbortTimeout);
  }
  page_->stop();
  parse_pool_->stop();
  large_parse_pool_->stop();
  engine_thread_->stop();
  if (standard_thread_ != nullptr) standard_thread_->stop();
  http_->stop(kFlushTimeoutMs);
}

void ApiServer::handle(net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
  const auto exchange =
      std::make_shared<Exchange>(request, accepted_request_id(request.header("X-Request-Id")),
                                 std::move(writer), in_flight_, metrics_);
  const std::optional<Route> route = find_route(request.path());
  const ApiStatus access = access_.check(request, needs_key(route));
  exchange->set_client(access_.client_address(request));
  exchange->add_headers(access_.cors_headers(request));
  if (!access) return exchange->fail(access.error());
  if (AccessRules::is_preflight(request)) {
    return exchange->respond(AccessRules::preflight_response(request));
  }
  if (route == Route::kPage) {
    return page_->answer(request, access_.client_address(request), access_.is_behind_tls(request),
                         exchange);
  }
  if (const ApiStatus status = identify(request, route, *exchange); !status) {
    return exchange->fail(status.error());
  }
  const bool is_there = route && (*route != Route::kPageChat || options_.service != nullptr);
  if (!is_there) return exchange->fail(unknown_route(request));
  if (*route == Route::kResponses && request.wants_web_socket) {
    return open_socket(std::move(request), exchange);
  }
  if (!is_allowed(*route, request.method)) {
    return exchange->fail(method_not_allowed(request.method, std::string(allowed_methods(*route))));
  }
  if (*route == Route::kPageFile) return exchange->respond(page_file_response(request));
  if (const auto encoding = request.header("Content-Encoding"); !is_plain(encoding)) {
    return exchange->fail(unsupported_encoding(encoding));
  }
  if (reads_prompt(*route) && !take_place(request, *exchange)) return;
  answer(*route, std::move(request), exchange);
}

// Who asks, if they may, and whose prompts and responses are theirs. A request counts before it is
// read, whatever becomes of it.
ApiStatus ApiServer::identify(const net::HttpRequest& request, std::optional<Route> route,
                              Exchange& exchange) const {
  // No salt has a line break before its end.
  if (!options_.access.api_keys.empty()) exchange.cache_domain = access_.client(request) + '\n';
  if (options_.service == nullptr || !route) return {};  // no route says nothing of anybody
  US_ASSIGN(exchange.identity, admit(*options_.service, request, class_of(*route)));
  if (*route != Route::kPageChat) exchange.api_key = presented_key(request);
  exchange.cache_domain = fmt::format("account {}\n", exchange.identity.account.id);
  if (!reads_prompt(*route)) return {};
  const auto counted = options_.service->count_request(exchange.identity);
  if (!counted) return tl::unexpected(from_refusal(counted.error()));
  return {};
}

// Of those who wait to be read, by number and by bytes.
ApiStatus ApiServer::take_reading_place(size_t size_bytes) {
  if (is_draining_.load()) return tl::unexpected(draining());
  const uint32_t max_preparing = std::max(options_.max_queue, kMinPreparing);
  Reading& reading = reading_of(size_bytes);
  const bool is_full =
      reading.num >= max_preparing ||
      (reading.num > 0 && reading.bytes + size_bytes > options_.http.max_unread_bytes);
  if (is_full) {
    return tl::unexpected(from_error(
        Error{ErrorCode::kOutOfMemory, "Too many requests wait to be read; try again later."}));
  }
  ++reading.num;
  reading.bytes += size_bytes;
  return {};
}

void ApiServer::leave_reading_place(size_t size_bytes) {
  Reading& reading = reading_of(size_bytes);
  --reading.num;
  reading.bytes -= size_bytes;
}

// One of the client's places, if those are limited; false: it has none left, and was told. The
// answer's head says how many more requests may come, else how many may wait.
bool ApiServer::take_place(const net::HttpRequest& request, Exchange& exchange) {
  const uint32_t max_queue = options_.max_queue;
  const uint32_t max_per_client = options_.access.max_concurrent_per_key;
  if (max_per_client == 0) {
    const uint32_t num_waiting = std::min(engine_thread_->load().num_waiting, max_queue);
    exchange.add_headers(
        rate_limit_headers(exchange.is_anthropic(), max_queue, max_queue - num_waiting));
    return true;
  }
  const std::string client = access_.client(request);
  std::shared_ptr<const void> place = places_.take(client);
  exchange.add_headers(
      rate_limit_headers(exchange.is_anthropic(), max_per_client, places_.num_free(client)));
  if (place == nullptr) {
    exchange.fail(too_many_at_once(max_per_client));
    return false;
  }
  exchange.hold(std::move(place));
  return true;
}

// Of what the connection found wrong: an exchange like others, whose answer is kept for it.
net::HttpResponse ApiServer::error_response(const net::HttpRequest& request, unsigned status,
                                            std::string_view message) {
  const auto kept = std::make_shared<KeptResponse>();
  Exchange exchange(request, accepted_request_id(request.header("X-Request-Id")), kept, in_flight_,
                    metrics_);
  exchange.set_client(access_.client_address(request));
  exchange.add_headers(access_.cors_headers(request));
  exchange.fail(from_status(status, message));
  return std::move(kept->response);
}

// Each of its requests is an exchange as if it had come by HTTP with the same head.
void ApiServer::open_socket(net::HttpRequest request, const std::shared_ptr<Exchange>& exchange) {
  if (is_draining_.load()) return exchange->fail(draining());
  const ConnectionId connection = ++last_connection_;
  ResponseStore& store = store_of(*exchange);
  request.method = "WebSocket";  // in the log
  ResponsesSocket::Host host;
  host.parse = [this](std::string text, ResponsesSocket::TakeJson take) {
    TaskPool& readers = readers_of(text.size());
    readers.run([this, text = std::move(text), take = std::move(take)] {
      auto json = std::make_shared<ApiResult<Json>>(parse_json_object(text));
      http_->post([take, json] { take(std::move(*json)); });
    });
  };
  host.answer = [this, request = std::move(request), connection](
                    Json body, size_t size_bytes, std::shared_ptr<net::ResponseWriter> writer) {
    answer_turn(request, connection, std::move(body), size_bytes, std::move(writer));
  };
  host.close = [this, connection, &store](std::vector<Json> waiting) {
    store.forget(connection);
    sockets_.erase(connection);
    large_parse_pool_->run([waiting = std::move(waiting)] {});  // which may take long to destroy
  };
  const auto socket = std::make_shared<ResponsesSocket>(std::move(host), waiting_bytes_);
  sockets_.emplace(connection, socket);
  exchange->upgrade(socket);
}

void ApiServer::answer_turn(const net::HttpRequest& opening, ConnectionId connection, Json body,
                            size_t size_bytes, std::shared_ptr<net::ResponseWriter> writer) {
  const auto exchange =
      std::make_shared<Exchange>(opening, std::string(), std::move(writer), in_flight_, metrics_);
  exchange->set_client(access_.client_address(opening));
  if (const ApiStatus status = identify(opening, Route::kResponses, *exchange); !status) {
    return exchange->fail(status.error());
  }
  if (!take_place(opening, *exchange)) return;
  prepare(
      exchange, std::move(body), size_bytes,
      [this, known = known_prompts(*exchange), grammars = grammars_of(*exchange),
       store = &store_of(*exchange), connection](const Json& json) {
        return prepare_responses(model_, defaults_, grammars, calls_, known, *store, connection,
                                 json);
      },
      &ApiServer::generate);
}

void ApiServer::drain_sockets() {
  for (const auto& [connection, socket] : sockets_) {
    if (const auto open = socket.lock()) open->drain();
  }
}

Status Server::check(const ServerOptions& options) {
  US_ASSIGN(const std::string address, net::HttpServer::check_address(options.http));
  return check_binding(options.access, options.http.host, address);
}

Result<std::unique_ptr<Server>> Server::start(const ServedModel& model,
                                              const ServerOptions& options) {
  auto server = std::make_unique<ApiServer>(model, options);
  US_TRY(server->open());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace ultraspeed::server
