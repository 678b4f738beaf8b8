// Decodes a list of prompts with one engine and counts: what `bench decode` measures.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/speculation.h"
#include "text/tokenizer.h"

namespace ultraspeed::apps {

struct BenchPrompt {
  std::string name;
  std::vector<int32_t> ids;
  std::vector<std::string> stop;  // needs a tokenizer
  std::string family = {};        // what it is a prompt of; "": nobody said
};

struct DecodeOptions {
  uint32_t streams = 1;  // sessions that decode at once
  engine::GenerationParams params;
  std::vector<std::vector<int32_t>> known_texts;  // [prompt], for replay; empty: unknown
  std::function<void(size_t num_done, size_t num_sessions)> progress;  // may be empty

  // Whether a prompt has one text, whoever drafts in whatever company: not under rejection.
  bool is_text_determined() const {
    return params.sampling.temperature == 0 ||
           params.sampling.acceptance == engine::Acceptance::kKeyed;
  }
};

// What a rate is made of: tokens of verify cycles, and the seconds of their steps.
struct DecodeRate {
  uint64_t num_tokens = 0;
  double seconds = 0;

  void add(uint64_t tokens, double more_seconds) {
    num_tokens += tokens;
    seconds += more_seconds;
  }
  double tokens_per_second() const;  // 0 without tokens
};

// One pass over all prompts. Steps in which fewer than all streams decode, at the begin and the end
// and while a prompt is prefilled, count for texts and speculation, not for times and rates.
struct DecodePass {
  std::vector<std::vector<int32_t>> texts;  // [prompt]; a stop string's last token included
  engine::SpeculationStats speculation;     // tokens after a stop string are left out
  std::vector<engine::SpeculationStats> prompt_speculation;  // [prompt]: the same of each
  engine::DecodeTimes times;
  DecodeRate rate;
  std::vector<DecodeRate> prompt_rates;  // [prompt], with one stream; else empty
};

// Every prompt is decoded once, or as often as twice the streams need; when a session ends, the
// next takes its place. Errors: those of the engine and of stop strings; kInternal when two
// sessions of one prompt differ though its text is determined; kInvalidArgument when all streams
// never decode together.
// REQUIRES: prompts and streams are not 0, and the engine has room for all streams.
Result<DecodePass> decode_prompts(engine::Engine& engine, const text::Tokenizer* tokenizer,
                                  std::span<const BenchPrompt> prompts,
                                  const DecodeOptions& options);

// Errors: kInternal for the first text that differs; the sentence names prompt, token and drafters.
Status check_same_texts(std::span<const BenchPrompt> prompts, const DecodePass& expected,
                        const std::string& expected_drafter, const DecodePass& other,
                        const std::string& other_drafter);

}  // namespace ultraspeed::apps
