// The HTTP API of one served model, compatible with OpenAI's (GET /v1/models and
// /v1/models/{id}, POST /v1/completions, /v1/chat/completions and /v1/responses with its stored
// responses), with Anthropic's (POST /v1/messages and /v1/messages/count_tokens) and with vLLM's
// POST /tokenize and /detokenize; GET /health, /health/ready, /metrics and /version.
//
// Threads: the event loop (all connections and all answers), the engine's thread, and a few that
// parse and tokenize requests. docs/serving.md describes the API.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "access/service.h"
#include "base/result.h"
#include "engine/engine.h"
#include "net/http_server.h"
#include "server/access_rules.h"
#include "server/kv_events.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

class ForcedAnswers;

// REQUIRES: what the pointers name outlives the server; nothing else uses the engine.
struct ServedModel {
  std::string name;  // what requests call it
  engine::Engine* engine = nullptr;
  const text::Tokenizer* tokenizer = nullptr;
  const text::ChatTemplate* chat_template = nullptr;  // nullptr: no chat
  engine::GenerationParams defaults;                  // for what a request leaves out
  const ForcedAnswers* forced_answers = nullptr;      // test-only; nullptr: the model's own

  // Not empty: there are two modes. `name` decodes a token a step, on its own engine if it has one;
  // this name, and what asks for the fast tier, with all that the engine can.
  std::string fast_name = {};
  engine::Engine* standard_engine = nullptr;
  std::string weights = {}, standard_weights = {};  // what they are, for people
};

struct ServerOptions {
  net::HttpOptions http;
  AccessOptions access;
  uint32_t max_queue = 64;         // requests that may wait for room in the engine; more get 429
  uint32_t num_parse_threads = 1;  // beside one for large requests
  bool shares_prefixes = false;    // clients take over each other's prompts from the engine's cache
  // Accounts, prices and the ledger; nullptr: none, and whoever `access` lets in may do everything.
  // Outlives the server.
  access::Service* service = nullptr;
  // Who tells others what the engine's caches hold, for /metrics; nullptr: nobody. Outlives the
  // server.
  const KvEventPublisher* kv_events = nullptr;
};

class Server {
 public:
  // Whether start() can listen as it is told. Errors: those of net::HttpServer::listen(), and of
  // check_binding().
  static Status check(const ServerOptions& options);
  // Listens and answers until stop(). Errors: those of check().
  static Result<std::unique_ptr<Server>> start(const ServedModel& model,
                                               const ServerOptions& options);
  virtual ~Server() = default;  // stop(0)

  virtual std::string url() const = 0;  // "http://127.0.0.1:8000", "unix:/run/server.sock"
  virtual uint16_t port() const = 0;

  // Reads the TLS certificate and its key again, for connections to come. Any thread. Errors:
  // kInvalidArgument; those that were read before stay.
  virtual Status reload_certificate() = 0;

  // From now on /health/ready says 503, so that a balancer sends nobody any more; all is answered
  // as before. Any thread.
  virtual void leave_rotation() = 0;

  // Answers new requests with 503, lets those under way end for `drain_timeout_ms`, ends the rest
  // with an error, and closes. Any thread but the server's own.
  virtual void stop(uint32_t drain_timeout_ms) = 0;
};

}  // namespace ultraspeed::server
