// The parts of the server and what they share: connections (net/), the engine's threads, those that
// parse requests, the page's routes, and what is remembered of each client. server.cc has its life
// and the way of a request to its route, api_answers.cc what routes answer, api_generate.cc the way
// of a generation to the engine. Internal to server/.
#pragma once

#include <algorithm>
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
// What is remembered of a client, and of all clients, who share it equally.
constexpr size_t kResponseStoreBytes = 64 << 20, kResponseStoresBytes = 1 << 30;
constexpr size_t kEncodeMemoryBytes = 8 << 20, kEncodeMemoriesBytes = 128 << 20;
constexpr size_t kLargeBodyBytes = 512 << 10;  // read on a thread of their own
constexpr uint32_t kMinPreparing = 64;         // may always wait to be read, whatever --max-queue

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
  void leave_rotation() override { is_leaving_.store(true); }
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
                   size_t size_bytes, std::shared_ptr<net::ResponseWriter> writer);
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
  struct Reading {
    uint32_t num = 0;
    size_t bytes = 0;
  };
  // The thread that reads bodies of this size: who sends large ones waits for those alone.
  TaskPool& readers_of(size_t size_bytes) {
    return size_bytes < kLargeBodyBytes ? *parse_pool_ : *large_parse_pool_;
  }
  Reading& reading_of(size_t size_bytes) {
    return size_bytes < kLargeBodyBytes ? reading_ : reading_large_;
  }
  ApiStatus take_reading_place(size_t size_bytes);
  void leave_reading_place(size_t size_bytes);
  template <class Body, class Read, class Result>
  void prepare(const std::shared_ptr<Exchange>& exchange, Body body, size_t size_bytes, Read read,
               void (ApiServer::*take)(Result, const std::shared_ptr<Exchange>&));
  template <class Read, class Result>
  void prepare(const std::shared_ptr<Exchange>& exchange, std::string body, Read read,
               void (ApiServer::*take)(Result, const std::shared_ptr<Exchange>&)) {
    const size_t size_bytes = body.size();
    prepare(exchange, std::move(body), size_bytes, std::move(read), take);
  }
  Post post() {
    return [this](std::function<void()> function) { http_->post(std::move(function)); };
  }
  void generate(PreparedGeneration prepared, const std::shared_ptr<Exchange>& exchange);
  void respond_json(std::string json, const std::shared_ptr<Exchange>& exchange) {
    exchange->respond(json_response(200, std::move(json)));
  }
  KnownPrompts known_prompts(const Exchange& exchange) {
    const std::string& client = exchange.cache_domain;
    const auto [entry, is_new] =
        prompts_.try_emplace(client, *model_.tokenizer, kEncodeMemoryBytes);
    if (is_new) share_bytes(prompts_, kEncodeMemoryBytes, kEncodeMemoriesBytes);
    return {&entry->second, client, defaults_.max_token_bytes};
  }
  ClientGrammars grammars_of(const Exchange& exchange) {
    return {*grammars_, exchange.cache_domain};
  }
  // What this client has stored: no other one can read or continue it.
  ResponseStore& store_of(const Exchange& exchange) {
    const auto [entry, is_new] = responses_.try_emplace(exchange.cache_domain, kResponseStoreBytes);
    if (is_new) share_bytes(responses_, kResponseStoreBytes, kResponseStoresBytes);
    return entry->second;
  }
  template <class Memories>
  static void share_bytes(Memories& memories, size_t most_of_one, size_t of_all) {
    const size_t share = std::min(most_of_one, of_all / memories.size());
    if (share == most_of_one) return;
    for (auto& [client, memory] : memories) memory.set_max_bytes(share);
  }
  uint64_t max_output_tokens(const PreparedGeneration& prepared) const;
  bool count_unbilled(const access::Identity& identity, size_t num_tokens);
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
  // On the event-loop thread, like seeds_: requests that are being read or wait for it.
  Reading reading_, reading_large_;
  bool is_aborting_ = false;
  std::atomic<bool> is_leaving_ = false;   // and /health/ready says so
  std::atomic<bool> is_draining_ = false;  // new requests are refused
  std::atomic<bool> is_stopped_ = false;

  std::unique_ptr<net::HttpServer> http_;
  std::unique_ptr<EngineThread> engine_thread_;
  std::unique_ptr<EngineThread> standard_thread_;  // of the standard mode's own engine, if any
  std::unique_ptr<GrammarCache> grammars_;
  std::unique_ptr<TaskPool> parse_pool_, large_parse_pool_;
  std::unique_ptr<PageApi> page_;
};

// On the event loop: hands the body to a parsing thread, whose result comes back here. One whose
// client has left meanwhile is not read.
template <class Body, class Read, class Result>
void ApiServer::prepare(const std::shared_ptr<Exchange>& exchange, Body body, size_t size_bytes,
                        Read read,
                        void (ApiServer::*take)(Result, const std::shared_ptr<Exchange>&)) {
  if (const ApiStatus status = take_reading_place(size_bytes); !status) {
    return exchange->fail(status.error());
  }
  const auto is_left = std::make_shared<std::atomic<bool>>(false);
  exchange->on_close([is_left, weak = std::weak_ptr(exchange)](net::CloseReason reason) {
    is_left->store(true);
    if (const auto open = weak.lock()) open->log.end = net::close_reason_text(reason);
  });
  readers_of(size_bytes)
      .run([this, held = released_by(post(), exchange), body = std::move(body), size_bytes, is_left,
            read = std::move(read), take] {
        std::shared_ptr<ApiResult<Result>> prepared;
        if (!is_left->load()) prepared = std::make_shared<ApiResult<Result>>(read(body));
        http_->post([this, exchange = held, prepared, size_bytes, take] {
          leave_reading_place(size_bytes);
          if (prepared == nullptr) return;
          if (!*prepared) return exchange->fail(prepared->error());
          (this->*take)(std::move(**prepared), exchange);
        });
      });
}

}  // namespace ultraspeed::server
