// Load on a server: streamed requests, several at once on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/load_prompts.h"
#include "apps/load_stream.h"
#include "base/result.h"
#include "net/http_client.h"

namespace ultraspeed::apps {

struct LoadOptions {
  net::HttpUrl url;
  std::string api_key;  // empty: none is sent
  std::string model;
  Endpoint endpoint = Endpoint::kChat;
  uint32_t num_requests = 32;
  // Requests under way at most; 0: no bound. Without a rate the next one is sent when one ends.
  uint32_t concurrency = 1;
  double rate = 0;  // arrivals a second, a Poisson process; those that find no place wait. 0: none
  uint64_t seed = 0;  // of arrivals; request i samples with seed + i
  uint32_t max_tokens = 128;
  double temperature = 0;
  bool ignore_eos = false;
  net::ClientOptions client;
  // After each request, and ten times a second; may be empty.
  std::function<void(size_t num_done, uint64_t num_events)> progress = {};
};

struct LoadRun {
  double duration_s = 0;                // from the first request to the end of the last
  std::vector<RequestSample> requests;  // in the order in which they were sent
};

// [num_requests]: when requests arrive, in seconds after the first one. REQUIRES: a rate.
std::vector<double> arrival_times(const LoadOptions& options);

// The body of request `index`.
std::string request_body(const LoadOptions& options, const nlohmann::ordered_json& prompt,
                         uint32_t index);

struct ListedModel {
  std::string name;
  uint64_t max_context = 0;  // tokens; 0: the server does not say
};

// The first model that the server lists. Errors: those of HttpClient::create(); kIo, kInvalidData.
Result<ListedModel> first_model(const LoadOptions& options);

// Prompts take turns. What goes wrong with a request is in its sample. Errors: those of
// HttpClient::create(). REQUIRES: prompts; a concurrency or a rate.
Result<LoadRun> run_load(const LoadOptions& options,
                         const std::vector<nlohmann::ordered_json>& prompts);

}  // namespace ultraspeed::apps
