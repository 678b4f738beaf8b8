// What a model answers to a list of prompts, many sessions at once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "apps/bench_decode.h"
#include "base/result.h"
#include "engine/engine.h"
#include "text/tokenizer.h"

namespace ultraspeed::apps {

struct AnswerOptions {
  uint32_t streams = 1;     // sessions at once
  uint32_t max_tokens = 0;  // of an answer
  uint32_t max_length = 0;  // of prompt and answer
  float temperature = 0;
  std::span<const uint64_t> seeds;  // [prompts], of their noise
  std::vector<int32_t> stop_ids;
  std::function<void(uint64_t num_tokens, bool is_done)> progress;  // of one prompt; may be empty
};

// Of each prompt. A stop token, and the last one of a stop string, is part of the answer. An answer
// does not depend on the streams or on the other prompts. Errors: those of the engine and of stop
// strings. REQUIRES: every prompt has fewer than max_length tokens; a tokenizer where there are
// stop strings; an idle engine with room for `streams` sessions of max_length.
Result<std::vector<std::vector<int32_t>>> write_answers(engine::Engine& engine,
                                                        const text::Tokenizer* tokenizer,
                                                        std::span<const BenchPrompt> prompts,
                                                        const AnswerOptions& options);

}  // namespace ultraspeed::apps
