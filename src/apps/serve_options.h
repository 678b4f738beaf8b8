// What `serve` is told, and its flags, beside those of models and speculation.
#pragma once

#include <cstdint>
#include <string>

#include "apps/loaded_model.h"
#include "server/kv_events.h"
#include "server/server.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

inline constexpr const char* kApiKeyVariable = "ULTRASPEED_API_KEY";
inline constexpr const char* kApiKeyFileVariable = "ULTRASPEED_API_KEY_FILE";

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
  server::KvEventOptions kv_events;  // without an endpoint: none
  uint32_t drain_delay_s = 0;
  uint32_t drain_timeout_s = 30;
};

void add_serve_flags(CLI::App& command, ServeOptions* options);

}  // namespace ultraspeed::apps
