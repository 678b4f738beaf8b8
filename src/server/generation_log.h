// What is known of one generation: for the log line, the answer's timings and the metrics.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "engine/speculation.h"
#include "server/answer.h"

namespace ultraspeed::server {

// kNone: no generation, or not yet.
enum class Outcome { kNone, kStop, kLength, kDeadline, kAborted, kFailed };
inline constexpr size_t kNumOutcomes = 6;

// Times are those at which the event loop learnt of it; the epoch where it did not happen.
struct GenerationLog {
  using TimePoint = std::chrono::steady_clock::time_point;

  size_t prompt_tokens = 0;
  size_t completion_tokens = 0;
  size_t judge_tokens = 0;  // of completion_tokens
  size_t num_choices = 0;   // that have tokens
  // Of completion_tokens without the judge's: whose bytes were handed over; held back are those
  // that may become a stop string or a call.
  size_t shown_tokens = 0;
  size_t cached_tokens = 0;  // Usage::cached_tokens
  TimePoint started;         // the engine took it
  TimePoint first_token;
  TimePoint last_token;
  engine::SpeculationStats speculation;
  Outcome outcome = Outcome::kNone;
  std::string end = "-";  // "stop", "length", or why it was given up

  // A request that found the queue full, or that the engine refused, has not.
  bool has_started() const { return started != TimePoint(); }
  double prefill_s() const { return seconds(first_token - started); }
  double decode_s() const { return seconds(last_token - first_token); }  // behind the first token

  // nullopt: it gave no token.
  std::optional<Timings> timings() const;
  Usage usage() const { return {prompt_tokens, completion_tokens, timings(), cached_tokens}; }

  static double seconds(std::chrono::steady_clock::duration duration) {
    return std::chrono::duration<double>(duration).count();
  }
};

}  // namespace ultraspeed::server
