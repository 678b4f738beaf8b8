// The parts of the server and what they share: connections (net/), the engine's threads, those that
// parse requests, the page's routes, and what is remembered of each client. server.cc has its life
// and the way of a request to its route, api_answers.cc what routes answer, api_generate.cc the way
// of a generation to the engine. Internal to server/.
#pragma once

#include <atomic>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "server/client_places.h"
#include "server/encode_memory.h"
#include "server/engine_thread.h"
#include "server/exchange.h"
#include "server/generation.h"
#include "server/grammar_cache.h"
#include "server/page_api.h"
#include "server/prepare.h"
#include "server/response_store.h"
#include "server/responses_socket.h"
#include "server/routes.h"
#include "server/server.h"
#include "server/task_pool.h"

namespace ultraspeed::server {

inline constexpr std::string_view kServerVersion = "0.1";

constexpr size_t kCallMemoryBytes = 64 << 20;
constexpr size_t kResponseStoreBytes = 64 << 20;
constexpr size_t kEncodeMemoryBytes = 8 << 20;

inline net::HttpResponse json_response(unsigned status, std::string body) {
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
  ApiStatus identify(const net::HttpRequest& request, std::optional<Route> route,
                     Exchange& exchange) const;
  void open_socket(net::HttpRequest request, const std::shared_ptr<Exchange>& exchange);
  void answer_turn(const net::HttpRequest& opening, ConnectionId connection, Json body,
                   std::shared_ptr<net::ResponseWriter> writer);
  void drain_sockets();
  net::HttpResponse health() const;
  net::HttpResponse readiness() const;
  net::HttpResponse metrics() const;
  std::string model_list(bool is_anthropic) const;
  void answer_model(std::string_view name, const std::shared_ptr<Exchange>& exchange) const;
  std::string model_json(std::string_view name, bool is_anthropic) const;
  PageFacts page_facts() const;
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
  uint64_t max_output_tokens(const PreparedGeneration& prepared) const;
  bool open_bill(const PreparedGeneration& prepared, Exchange& exchange, uint32_t* max_tokens);
  EngineThread& thread_of(const GenerationRequest& request) {
    const bool is_fast = request.tier == ServiceTier::kFast;
    return standard_thread_ == nullptr || is_fast ? *engine_thread_ : *standard_thread_;
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
  std::unique_ptr<EngineThread> standard_thread_;  // of the standard mode's own engine, if any
  std::unique_ptr<GrammarCache> grammars_;
  std::unique_ptr<TaskPool> parse_pool_;
  std::unique_ptr<PageApi> page_;
};

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

}  // namespace ultraspeed::server
