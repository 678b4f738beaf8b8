#include "server/metrics.h"

#include <fmt/format.h>

namespace ultraspeed::server {
namespace {

// From 0.1 ms: a token of a fast model takes less than the first bucket of other servers.
constexpr double kSecondBounds[] = {.0001, .0002, .0003, .0005, .00075, .001, .0015, .002,
                                    .003,  .005,  .01,   .02,   .05,    .1,   .25,   .5,
                                    1,     2.5,   5,     10,    30,     60,   120,   300};
constexpr double kTokenBounds[] = {1,     2,      5,      10,     20,   50,    100,
                                   200,   500,    1000,   2000,   5000, 10000, 20000,
                                   50000, 100000, 200000, 500000, 1e6};

constexpr unsigned kClientClosedRequest = 499;  // as nginx has it; no client sees it

constexpr std::string_view finished_reason(Outcome outcome) {
  switch (outcome) {
    case Outcome::kStop:
      return "stop";
    case Outcome::kLength:
      return "length";
    case Outcome::kDeadline:
      return "deadline";
    case Outcome::kAborted:
      return "abort";
    case Outcome::kFailed:
    case Outcome::kNone:
      break;
  }
  return "error";
}

double seconds(Metrics::TimePoint begin, Metrics::TimePoint end) {
  return GenerationLog::seconds(end - begin);
}

}  // namespace

Metrics::Metrics()
    : first_token_s_(kSecondBounds),
      inter_event_s_(kSecondBounds),
      inter_token_s_(kSecondBounds),
      token_s_(kSecondBounds),
      end_to_end_s_(kSecondBounds),
      queue_s_(kSecondBounds),
      prefill_s_(kSecondBounds),
      decode_s_(kSecondBounds),
      inference_s_(kSecondBounds),
      request_prompt_tokens_(kTokenBounds),
      request_generation_tokens_(kTokenBounds) {}

void Metrics::count_tokens(const GenerationLog& before, TimePoint arrived, TimePoint now,
                           size_t num_tokens, TimePoint last_of_choice) {
  generation_tokens_ += num_tokens;
  if (before.first_token == TimePoint()) {
    prompt_tokens_ += before.prompt_tokens;
    first_token_s_.observe(seconds(arrived, now));
  }
  if (num_tokens == 0 || last_of_choice == TimePoint()) return;
  const double gap_s = seconds(last_of_choice, now);
  inter_event_s_.observe(gap_s);
  inter_token_s_.observe(gap_s / static_cast<double>(num_tokens), num_tokens);
}

void Metrics::count_cycle(const engine::VerifyCycle& cycle) {
  if (cycle.num_drafts == 0) return;
  ++num_drafts_;
  num_draft_tokens_ += cycle.num_drafts;
  if (accepted_.size() < cycle.num_drafts) accepted_.resize(cycle.num_drafts);
  for (uint32_t i = 0; i < cycle.num_accepted; ++i) ++accepted_[i];
}

void Metrics::count_end(const GenerationLog& log, TimePoint arrived) {
  if (log.outcome == Outcome::kNone) return;
  ++ends_[static_cast<size_t>(log.outcome)];
  if (log.completion_tokens > 0) {
    queried_tokens_ += log.prompt_tokens;
    cached_tokens_ += log.cached_tokens;
  }
  const bool has_succeeded = log.outcome == Outcome::kStop || log.outcome == Outcome::kLength ||
                             log.outcome == Outcome::kDeadline;
  if (!has_succeeded || log.completion_tokens == 0) return;
  end_to_end_s_.observe(seconds(arrived, log.last_token));
  queue_s_.observe(seconds(arrived, log.started));
  prefill_s_.observe(log.prefill_s());
  decode_s_.observe(log.decode_s());
  inference_s_.observe(log.prefill_s() + log.decode_s());
  request_prompt_tokens_.observe(static_cast<double>(log.prompt_tokens));
  request_generation_tokens_.observe(static_cast<double>(log.completion_tokens));
  const size_t num_tokens = log.completion_tokens - log.judge_tokens;
  if (num_tokens <= log.num_choices) return;
  token_s_.observe(log.decode_s() * static_cast<double>(log.num_choices) /
                   static_cast<double>(num_tokens - log.num_choices));
}

void Metrics::count_response(unsigned status) {
  ++responses_[status == 0 ? kClientClosedRequest : status];
}

std::string Metrics::text(std::string_view model, const EngineLoad& load) const {
  PrometheusText text(std::string(kMetricsPrefix), {"model_name", model});
  text.gauge("num_requests_running", "Requests that the engine works on.", load.num_running);
  text.gauge("num_requests_waiting", "Requests in the queue.", load.num_waiting);
  const double num_pages = load.kv.num_pages;
  text.gauge("kv_cache_usage_perc", "Share of the KV pages in use, 0 to 1.",
             num_pages == 0 ? 0 : load.kv.num_used / num_pages);
  text.family("cache_config_info", "gauge", "The KV cache: positions of a page, and pages.");
  const std::string page_positions = fmt::to_string(load.kv.page_positions);
  const std::string pages = fmt::to_string(load.kv.num_pages);
  text.sample("cache_config_info",
              std::array{Label{"block_size", page_positions}, Label{"num_gpu_blocks", pages}}, 1);
  text.counter("num_preemptions_total",
               "Requests whose KV pages others took, and which were computed again.",
               load.kv.num_preemptions);
  if (load.kv_events) {
    text.counter("kv_event_batches_total", "Batches of KV events told to subscribers.",
                 load.kv_events->num_published);
    text.counter("kv_event_batches_dropped_total",
                 "Batches that found no room; their sequence numbers are missing.",
                 load.kv_events->num_dropped);
  }
  append_requests(text);
  append_speculation(text);
  append_times(text);
  return text.take();
}

void Metrics::append_requests(PrometheusText& text) const {
  text.counter("prompt_tokens_total", "Tokens of prompts that gave a token.", prompt_tokens_);
  text.counter("prefix_cache_queries_total", "Tokens of prompts of requests that have ended.",
               queried_tokens_);
  text.counter("prefix_cache_hits_total", "Those of them that the caches held already.",
               cached_tokens_);
  text.counter("generation_tokens_total", "Tokens generated.", generation_tokens_);
  text.family("request_success_total", "counter", "Generations that ended, by how.");
  for (const Outcome outcome : {Outcome::kStop, Outcome::kLength, Outcome::kDeadline,
                                Outcome::kAborted, Outcome::kFailed}) {
    text.sample("request_success_total",
                std::array{Label{"finished_reason", finished_reason(outcome)}},
                static_cast<double>(ends_[static_cast<size_t>(outcome)]));
  }
  text.family("http_responses_total", "counter",
              "Answers by status; 499: the client was gone before.");
  for (const auto& [status, count] : responses_) {
    const std::string code = fmt::to_string(status);
    text.sample("http_responses_total", std::array{Label{"status", code}},
                static_cast<double>(count));
  }
  text.histogram("request_prompt_tokens", "Tokens of a request's prompt.", request_prompt_tokens_);
  text.histogram("request_generation_tokens", "Tokens of a request's output.",
                 request_generation_tokens_);
}

void Metrics::append_speculation(PrometheusText& text) const {
  uint64_t num_accepted = 0;
  for (const uint64_t count : accepted_) num_accepted += count;
  text.counter("spec_decode_num_drafts_total", "Decode steps of a request with drafts.",
               num_drafts_);
  text.counter("spec_decode_num_draft_tokens_total", "Tokens drafted.", num_draft_tokens_);
  text.counter("spec_decode_num_accepted_tokens_total",
               "Drafts accepted; by the steps with drafts, plus 1: the accepted length.",
               num_accepted);
  text.family("spec_decode_num_accepted_tokens_per_pos_total", "counter",
              "Drafts accepted, by their position in the draft.");
  for (size_t i = 0; i < accepted_.size(); ++i) {
    const std::string position = fmt::to_string(i);
    text.sample("spec_decode_num_accepted_tokens_per_pos_total",
                std::array{Label{"position", position}}, static_cast<double>(accepted_[i]));
  }
}

void Metrics::append_times(PrometheusText& text) const {
  text.histogram("time_to_first_token_seconds", "From a request's arrival to its first token.",
                 first_token_s_);
  text.histogram("inter_event_latency_seconds",
                 "Between two steps that gave a request tokens, which are an event each.",
                 inter_event_s_);
  text.histogram("inter_token_latency_seconds",
                 "The same by the tokens of the second step, once for each of them.",
                 inter_token_s_);
  text.histogram("request_time_per_output_token_seconds",
                 "Of a request: first to last token, by the tokens behind the first.", token_s_);
  text.histogram("e2e_request_latency_seconds", "From a request's arrival to its last token.",
                 end_to_end_s_);
  text.histogram("request_queue_time_seconds",
                 "From a request's arrival to when the engine took it.", queue_s_);
  text.histogram("request_prefill_time_seconds", "From there to the first token.", prefill_s_);
  text.histogram("request_decode_time_seconds", "From there to the last token.", decode_s_);
  text.histogram("request_inference_time_seconds", "Prefill and decode.", inference_s_);
}

}  // namespace ultraspeed::server
