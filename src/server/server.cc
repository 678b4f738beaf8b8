// Routes, authorisation, and the order in which the parts start and stop.
#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <map>
#include <random>
#include <utility>

#include "server/answer.h"
#include "server/client_places.h"
#include "server/engine_thread.h"
#include "server/exchange.h"
#include "server/generation.h"
#include "server/grammar_cache.h"
#include "server/json_text.h"
#include "server/kept_response.h"
#include "server/make_answer.h"
#include "server/page_files.h"
#include "server/prepare.h"
#include "server/release.h"
#include "server/response_routes.h"
#include "server/responses_socket.h"
#include "server/routes.h"
#include "server/task_pool.h"
#include "server/token_requests.h"

namespace ultraspeed::server {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kServerVersion = "0.1";
constexpr uint32_t kFlushTimeoutMs = 1000;   // for answers that are complete but not yet sent
constexpr milliseconds kAbortTimeout{5000};  // for one engine step

constexpr size_t kCallMemoryBytes = 64 << 20;
constexpr size_t kResponseStoreBytes = 64 << 20;
constexpr size_t kEncodeMemoryBytes = 8 << 20;

net::HttpResponse json_response(unsigned status, std::string body) {
  return {status, {{"Content-Type", "application/json"}}, std::move(body)};
}

class ApiServer final : public Server, public net::HttpHandler {
 public:
  ApiServer(const ServedModel& model, const ServerOptions& options)
      : model_(model),
        options_(options),
        access_(options.access, options.http.host),
        defaults_(request_defaults(model)),
        start_time_s_(std::time(nullptr)),
        in_flight_(std::make_shared<InFlight>()) {}
  ~ApiServer() override { stop(0); }

  Status open();
  std::string url() const override;
  uint16_t port() const override { return http_->port(); }
  Status reload_certificate() override { return http_->reload_certificate(); }
  void stop(uint32_t drain_timeout_ms) override;

  void handle(net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) override;
  net::HttpResponse error_response(const net::HttpRequest& request, unsigned status,
                                   std::string_view message) override;

 private:
  bool take_place(const net::HttpRequest& request, Exchange& exchange);
  void answer(Route route, net::HttpRequest request, const std::shared_ptr<Exchange>& exchange);
  std::string cache_domain(const net::HttpRequest& request) const {
    // No salt has a line break before its end.
    return options_.access.api_keys.empty() ? "" : access_.client(request) + '\n';
  }
  void open_socket(net::HttpRequest request, const std::shared_ptr<Exchange>& exchange);
  void answer_turn(const net::HttpRequest& opening, ConnectionId connection, Json body,
                   std::shared_ptr<net::ResponseWriter> writer);
  void drain_sockets();
  net::HttpResponse health() const;
  net::HttpResponse metrics() const;
  net::HttpResponse model_list() const;
  net::HttpResponse model_by_name(std::string_view name) const;
  std::string model_json() const;
  void stored_response(Route route, const net::HttpRequest& request,
                       const std::shared_ptr<Exchange>& exchange);
  template <class Body, class Read, class Result>
  void prepare(const std::shared_ptr<Exchange>& exchange, Body body, Read read,
               void (ApiServer::*take)(Result, const std::shared_ptr<Exchange>&));
  Post post() {
    return [this](std::function<void()> function) { http_->post(std::move(function)); };
  }
  void generate(PreparedGeneration prepared, const std::shared_ptr<Exchange>& exchange);
  void respond_json(std::string json, const std::shared_ptr<Exchange>& exchange) {
    exchange->respond(json_response(200, std::move(json)));
  }
  KnownPrompts known_prompts(const Exchange& exchange) {
    const std::string& client = exchange.cache_domain;
    const auto entry = prompts_.try_emplace(client, *model_.tokenizer, kEncodeMemoryBytes).first;
    return {&entry->second, client, defaults_.max_token_bytes};
  }
  // What this client has stored: no other one can read or continue it.
  ResponseStore& store_of(const Exchange& exchange) {
    return responses_.try_emplace(exchange.cache_domain, kResponseStoreBytes).first->second;
  }
  void ask_judge(const text::ChatRequest& chat, const std::string& question,
                 std::shared_ptr<Generation> asking, const std::vector<std::string>& texts);

  const ServedModel model_;
  const ServerOptions options_;
  const AccessRules access_;
  ClientPlaces places_{options_.access.max_concurrent_per_key};
  const RequestDefaults defaults_;
  const std::time_t start_time_s_;
  const std::shared_ptr<InFlight> in_flight_;
  const std::shared_ptr<Metrics> metrics_ = std::make_shared<Metrics>();
  CallMemory calls_{kCallMemoryBytes};
  // Of clients, by Exchange::cache_domain; the event loop's.
  std::map<std::string, ResponseStore> responses_;
  std::map<std::string, EncodeMemory> prompts_;
  std::map<ConnectionId, std::weak_ptr<ResponsesSocket>> sockets_;  // the event loop's
  const std::shared_ptr<ResponsesSocket::WaitingBytes> waiting_bytes_ =
      std::make_shared<ResponsesSocket::WaitingBytes>(
          ResponsesSocket::WaitingBytes{options_.http.max_body_bytes});
  ConnectionId last_connection_ = kNoConnection;
  std::mt19937_64 seeds_{std::random_device{}()};
  uint32_t num_preparing_ = 0;
  bool is_aborting_ = false;  // with num_preparing_ and seeds_ used on the event-loop thread
  std::atomic<bool> is_draining_ = false;
  std::atomic<bool> is_stopped_ = false;

  std::unique_ptr<net::HttpServer> http_;
  std::unique_ptr<EngineThread> engine_thread_;
  std::unique_ptr<GrammarCache> grammars_;
  std::unique_ptr<TaskPool> parse_pool_;
};

Status ApiServer::open() {
  US_ASSIGN(auto http, net::HttpServer::listen(options_.http, *this));
  US_TRY(check_binding(options_.access, options_.http.host, http->address()));
  http_ = std::move(http);
  engine_thread_ = std::make_unique<EngineThread>(*model_.engine, options_.max_queue, post());
  grammars_ = std::make_unique<GrammarCache>(*model_.tokenizer, defaults_.params.stop_ids);
  parse_pool_ = std::make_unique<TaskPool>(options_.num_parse_threads);
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
      engine_thread_->fail_all(Error{ErrorCode::kCancelled, "the server is shutting down"});
    });
    in_flight_->wait_until_none(kAbortTimeout);
  }
  parse_pool_->stop();
  engine_thread_->stop();
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
  exchange->cache_domain = cache_domain(request);
  if (!route) return exchange->fail(unknown_route(request));
  if (*route == Route::kResponses && request.wants_web_socket) {
    return open_socket(std::move(request), exchange);
  }
  if (!is_allowed(*route, request.method)) {
    return exchange->fail(method_not_allowed(request.method, std::string(allowed_methods(*route))));
  }
  if (const auto encoding = request.header("Content-Encoding"); !is_plain(encoding)) {
    return exchange->fail(unsupported_encoding(encoding));
  }
  if (generates(*route) && !take_place(request, *exchange)) return;
  answer(*route, std::move(request), exchange);
}

// One of the client's places, if those are limited; false: it has none left, and was told. The
// answer's head says how many more requests may come, else how many may wait.
bool ApiServer::take_place(const net::HttpRequest& request, Exchange& exchange) {
  const uint32_t max_queue = options_.max_queue;
  const uint32_t max_per_client = options_.access.max_concurrent_per_key;
  if (max_per_client == 0) {
    const uint32_t num_waiting = std::min(engine_thread_->load().num_waiting, max_queue);
    exchange.add_headers(
        rate_limit_headers(exchange.is_messages(), max_queue, max_queue - num_waiting));
    return true;
  }
  const std::string client = access_.client(request);
  std::shared_ptr<const void> place = places_.take(client);
  exchange.add_headers(
      rate_limit_headers(exchange.is_messages(), max_per_client, places_.num_free(client)));
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

void ApiServer::answer(Route route, net::HttpRequest request,
                       const std::shared_ptr<Exchange>& exchange) {
  switch (route) {
    case Route::kHealth:
      return exchange->respond(health());
    case Route::kMetrics:
      return exchange->respond(metrics());
    case Route::kReady:
      return exchange->respond(is_draining_.load() ? json_response(503, R"({"status":"draining"})")
                                                   : health());
    case Route::kPage:
      return exchange->respond(page_response(request));
    case Route::kVersion:
      return respond_json(fmt::format(R"({{"version":"{}"}})", kServerVersion), exchange);
    case Route::kModels:
      return exchange->respond(model_list());
    case Route::kModel:
      return exchange->respond(model_by_name(request.path().substr(kModelsPath.size() + 1)));
    case Route::kCompletions:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) {
            return prepare_completion(model_, defaults_, *grammars_, body);
          },
          &ApiServer::generate);
    case Route::kChatCompletions:
    case Route::kMessages:
      return prepare(
          exchange, std::move(request.body),
          [this, known = known_prompts(*exchange),
           api = route == Route::kMessages ? Api::kMessages : Api::kChat](const std::string& body) {
            return prepare_chat(model_, defaults_, *grammars_, calls_, known, api, body);
          },
          &ApiServer::generate);
    case Route::kResponses:
      return prepare(
          exchange, std::move(request.body),
          [this, known = known_prompts(*exchange),
           store = &store_of(*exchange)](const std::string& body) -> ApiResult<PreparedGeneration> {
            US_ASSIGN(const Json json, parse_json_object(body));
            return prepare_responses(model_, defaults_, *grammars_, calls_, known, *store,
                                     kNoConnection, json);
          },
          &ApiServer::generate);
    case Route::kResponse:
    case Route::kInputItems:
      return stored_response(route, request, exchange);
    case Route::kInputTokens:
      return prepare(
          exchange, std::move(request.body),
          [this, store = &store_of(*exchange)](const std::string& body) {
            return count_input_tokens(model_, defaults_, calls_, *store, body);
          },
          &ApiServer::respond_json);
    case Route::kCountTokens:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) { return count_tokens(model_, defaults_, calls_, body); },
          &ApiServer::respond_json);
    case Route::kTokenize:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) { return tokenize(model_, defaults_, calls_, body); },
          &ApiServer::respond_json);
    case Route::kDetokenize:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) { return detokenize(model_, defaults_, body); },
          &ApiServer::respond_json);
  }
}

// Each of its requests is an exchange as if it had come by HTTP with the same head.
void ApiServer::open_socket(net::HttpRequest request, const std::shared_ptr<Exchange>& exchange) {
  if (is_draining_.load()) return exchange->fail(draining());
  const ConnectionId connection = ++last_connection_;
  ResponseStore& store = store_of(*exchange);
  request.method = "WebSocket";  // in the log
  ResponsesSocket::Host host;
  host.parse = [this](std::string text, ResponsesSocket::TakeJson take) {
    parse_pool_->run([this, text = std::move(text), take = std::move(take)] {
      auto json = std::make_shared<ApiResult<Json>>(parse_json_object(text));
      http_->post([take, json] { take(std::move(*json)); });
    });
  };
  host.answer = [this, request = std::move(request), connection](
                    Json body, std::shared_ptr<net::ResponseWriter> writer) {
    answer_turn(request, connection, std::move(body), std::move(writer));
  };
  host.close = [this, connection, &store](std::vector<Json> waiting) {
    store.forget(connection);
    sockets_.erase(connection);
    parse_pool_->run([waiting = std::move(waiting)] {});  // which may take long to destroy
  };
  const auto socket = std::make_shared<ResponsesSocket>(std::move(host), waiting_bytes_);
  sockets_.emplace(connection, socket);
  exchange->upgrade(socket);
}

void ApiServer::answer_turn(const net::HttpRequest& opening, ConnectionId connection, Json body,
                            std::shared_ptr<net::ResponseWriter> writer) {
  const auto exchange =
      std::make_shared<Exchange>(opening, std::string(), std::move(writer), in_flight_, metrics_);
  exchange->set_client(access_.client_address(opening));
  exchange->cache_domain = cache_domain(opening);
  if (!take_place(opening, *exchange)) return;
  prepare(
      exchange, std::move(body),
      [this, known = known_prompts(*exchange), store = &store_of(*exchange),
       connection](const Json& json) {
        return prepare_responses(model_, defaults_, *grammars_, calls_, known, *store, connection,
                                 json);
      },
      &ApiServer::generate);
}

void ApiServer::drain_sockets() {
  for (const auto& [connection, socket] : sockets_) {
    if (const auto open = socket.lock()) open->drain();
  }
}

net::HttpResponse ApiServer::health() const {
  if (!engine_thread_->is_healthy()) return json_response(503, R"({"status":"engine fault"})");
  return json_response(200, R"({"status":"ok"})");
}

net::HttpResponse ApiServer::metrics() const {
  return {200,
          {{"Content-Type", std::string(kPrometheusContentType)}},
          metrics_->text(model_.name, engine_thread_->load())};
}

std::string ApiServer::model_json() const {
  std::string out = R"({"id":)";
  append_json_string(out, model_.name);
  fmt::format_to(std::back_inserter(out),
                 R"(,"object":"model","created":{},"owned_by":"ultraspeed","max_model_len":{}}})",
                 start_time_s_, model_.engine->max_context());
  return out;
}

net::HttpResponse ApiServer::model_list() const {
  return json_response(200, R"({"object":"list","data":[)" + model_json() + "]}");
}

net::HttpResponse ApiServer::model_by_name(std::string_view name) const {
  if (name != model_.name) return server::error_response(model_not_found(name));
  return json_response(200, model_json());
}

void ApiServer::stored_response(Route route, const net::HttpRequest& request,
                                const std::shared_ptr<Exchange>& exchange) {
  std::string id = request.path().substr(kResponsesPath.size() + 1);
  if (route == Route::kInputItems) id.resize(id.size() - kInputItemsPath.size());
  ResponseStore& store = store_of(*exchange);
  auto body = route == Route::kInputItems  ? list_input_items(store, id, request.target)
              : request.method == "DELETE" ? delete_response(store, id)
                                           : read_response(store, id, request.target);
  if (!body) return exchange->fail(body.error());
  respond_json(*std::move(body), exchange);
}

// On the event loop: hands the body to a parsing thread, whose result comes back here.
template <class Body, class Read, class Result>
void ApiServer::prepare(const std::shared_ptr<Exchange>& exchange, Body body, Read read,
                        void (ApiServer::*take)(Result, const std::shared_ptr<Exchange>&)) {
  if (is_draining_.load()) return exchange->fail(draining());
  if (num_preparing_ > options_.max_queue) {
    return exchange->fail(from_error(
        Error{ErrorCode::kOutOfMemory, "Too many requests wait to be read; try again later."}));
  }
  ++num_preparing_;
  parse_pool_->run(
      [this, held = released_by(post(), exchange), body = std::move(body), read, take] {
        auto prepared = std::make_shared<ApiResult<Result>>(read(body));
        http_->post([this, exchange = held, prepared, take] {
          --num_preparing_;
          if (!*prepared) return exchange->fail(prepared->error());
          (this->*take)(std::move(**prepared), exchange);
        });
      });
}

void ApiServer::generate(PreparedGeneration prepared, const std::shared_ptr<Exchange>& exchange) {
  if (is_aborting_) return exchange->fail(draining());
  const GenerationRequest& request = prepared.request;
  auto answer = make_answer(prepared, model_, fmt::format("ultraspeed-{}", kServerVersion),
                            {.calls = &calls_, .responses = &store_of(*exchange)});
  const std::vector<OutputText> outputs(
      prepared.prompts.size() * request.choices.num_candidates,
      OutputText(*model_.tokenizer, std::move(prepared.stop),
                 {.skip_special = request.skip_special_tokens,
                  .keep_markers = prepared.api != Api::kCompletions}));
  const auto generation =
      std::make_shared<Generation>(exchange, std::move(answer), outputs, request.choices,
                                   request.stream, *engine_thread_, *model_.tokenizer);
  if (request.choices.selection == Selection::kJudge) {
    generation->set_judge(
        [this, chat = std::move(prepared.chat), question = request.choices.judge_prompt](
            std::shared_ptr<Generation> asking, const std::vector<std::string>& texts) {
          ask_judge(chat, question, std::move(asking), texts);
        });
  }
  const uint64_t seed = request.has_seed ? request.params.sampling.seed : seeds_();
  std::shared_ptr<JobBudget> budget;
  if (request.budget) budget = std::make_shared<JobBudget>(JobBudget{*request.budget, {}});
  std::vector<Job> jobs;
  for (std::vector<int32_t>& prompt : prepared.prompts) {
    Job& job = jobs.emplace_back();
    job.prompt = std::move(prompt);
    job.params = request.params;
    job.params.sampling.seed = seed;
    job.params.cache_domain = exchange->cache_domain + request.params.cache_domain;
    job.constraint = prepared.constraint;
    job.tier = static_cast<int>(request.tier);
    job.priority = request.priority;
    job.group = std::make_shared<JobGroup>();
    job.group->budget = budget;
    if (request.deadline) job.group->deadline = exchange->arrival() + *request.deadline;
  }
  generation->start(std::move(jobs));
}

void ApiServer::ask_judge(const text::ChatRequest& chat, const std::string& question,
                          std::shared_ptr<Generation> asking,
                          const std::vector<std::string>& texts) {
  parse_pool_->run([this, chat, question, held = released_by(post(), std::move(asking)), texts] {
    auto prepared = std::make_shared<ApiResult<PreparedGeneration>>(
        prepare_judgement(model_, defaults_, *grammars_, calls_, chat, question, texts));
    http_->post([asking = held, prepared] {
      if (!*prepared) return asking->judged(std::nullopt);
      Job job = asking->judge_job();
      job.prompt = std::move((*prepared)->prompts.front());
      std::string domain = std::move(job.params.cache_domain);
      job.params = std::move((*prepared)->request.params);
      job.params.cache_domain = std::move(domain);
      job.constraint = std::move((*prepared)->constraint);
      asking->judge_with(std::move(job));
    });
  });
}

}  // namespace

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
