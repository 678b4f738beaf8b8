// Times of tokens as a host thread sees them: what `bench latency` measures.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/text_table.h"
#include "base/result.h"
#include "engine/engine.h"

namespace ultraspeed::apps {

// Of one length of prompts, in milliseconds. An event is a step that gave its session tokens; a gap
// goes from one event of the running stream to the next.
struct LatencySamples {
  uint32_t prompt_tokens = 0;
  std::vector<double> first_token_ms;         // [repeat], the prompt alone
  std::vector<double> beside_first_token_ms;  // [repeat], beside the running stream
  std::vector<double> alone_gaps_ms;          // of a stream without prompts
  std::vector<double> beside_gaps_ms;         // that end while a prompt waits for its first token
};

struct LatencyOptions {
  std::vector<uint32_t> prompt_tokens;
  uint32_t repeat = 5;
  uint32_t vocab_size = 1;  // prompts are random ids below it
  uint32_t alone_steps = 200;
  uint32_t block_size = 8;                           // tokens that a step gives a session, at most
  std::function<void(const std::string&)> progress;  // may be empty
  std::function<double()> now_ms;                    // empty: the host's clock
};

// Tokens that a session needs room for: the longest prompt and its first tokens, or the stream.
uint32_t latency_context(const LatencyOptions& options);

// Errors: those of the engine; kInvalidArgument for a session that ends while it is measured.
// REQUIRES: the engine has room for two sessions of latency_context() tokens.
Result<std::vector<LatencySamples>> measure_latency(engine::Engine& engine,
                                                    const LatencyOptions& options);

TextTable latency_table(const std::vector<LatencySamples>& samples);

}  // namespace ultraspeed::apps
