// What GET /metrics tells: vLLM's metrics by their names behind the prefix, so that dashboards can
// be carried over, and a few of our own. Numbers alone: no prompt, no key, no client. Used on the
// event-loop thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/generation_log.h"
#include "server/kv_events.h"
#include "server/prometheus.h"

namespace ultraspeed::server {

inline constexpr std::string_view kMetricsPrefix = "ultraspeed:";

// Of the engine's thread, as it was before its step at hand.
struct EngineLoad {
  uint32_t num_running = 0;
  uint32_t num_waiting = 0;
  engine::KvUsage kv;
  std::optional<KvEventCounts> kv_events = {};  // where its caches are told of
};

class Metrics {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  Metrics();

  // A step that gave a choice tokens. `before`: the log without them; `arrived`: the request;
  // `last_of_choice`: those before, the epoch if there were none.
  void count_tokens(const GenerationLog& before, TimePoint arrived, TimePoint now,
                    size_t num_tokens, TimePoint last_of_choice);
  void count_cycle(const engine::VerifyCycle& cycle);
  // A request's end; its log says whether there was a generation, and how it ended.
  void count_end(const GenerationLog& log, TimePoint arrived);
  void count_response(unsigned status);  // 0: the client was gone before it had one

  std::string text(std::string_view model, const EngineLoad& load) const;

 private:
  void append_requests(PrometheusText& text) const;
  void append_speculation(PrometheusText& text) const;
  void append_times(PrometheusText& text) const;

  uint64_t prompt_tokens_ = 0;
  uint64_t queried_tokens_ = 0;  // of prompts of requests that have ended
  uint64_t cached_tokens_ = 0;   // of those
  uint64_t generation_tokens_ = 0;
  uint64_t num_drafts_ = 0;
  uint64_t num_draft_tokens_ = 0;
  std::vector<uint64_t> accepted_;  // [position in a draft]
  std::array<uint64_t, kNumOutcomes> ends_{};
  std::map<unsigned, uint64_t> responses_;  // by status

  Histogram first_token_s_, inter_event_s_, inter_token_s_, token_s_, end_to_end_s_, queue_s_,
      prefill_s_, decode_s_, inference_s_;
  Histogram request_prompt_tokens_, request_generation_tokens_;
};

}  // namespace ultraspeed::server
