// One generation from prompt ids to text: the engine's events joined with the detokenizer and the
// stop strings, and the clock.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/speculation.h"
#include "server/tool_syntax.h"
#include "text/tokenizer.h"

namespace ultraspeed::apps {

struct GenerationRequest {
  std::vector<int32_t> prompt;
  engine::GenerationParams params;
  std::vector<std::string> stop;  // needs a tokenizer
  // false: special tokens are left out of the text, but for those that structure an answer of this
  // syntax (server::answer_markers()).
  bool show_special = false;
  server::ToolSyntax syntax = server::ToolSyntax::kNone;
};

// What can be said of a request before the weights are loaded. Errors: kInvalidArgument, as from
// Engine::start(), and for stop strings.
Status check_request(const GenerationRequest& request, const text::Tokenizer* tokenizer,
                     uint32_t vocab_size, uint32_t max_context);

enum class GenerationEnd {
  kStop,         // a stop token or a stop string
  kLength,       // max_tokens, or the context is full
  kInterrupted,  // GenerationObserver::should_stop
};
std::string_view generation_end_name(GenerationEnd end);  // "stop", "length", "interrupted"

struct GenerationTimes {
  double prefill_ms = 0;  // to the first token
  double decode_ms = 0;   // from the first token to the last
};

struct GenerationResult {
  std::vector<engine::Token> tokens;  // the stop token included
  std::string text;                   // without the stop string; ids when there is no tokenizer
  GenerationEnd end = GenerationEnd::kLength;
  GenerationTimes times;
  engine::SpeculationStats speculation;  // of the decode steps

  double tokens_per_second() const;  // of decoding; 0 with fewer than two tokens
};

// Called while it runs; any may be empty.
struct GenerationObserver {
  std::function<Status(std::string_view text)> on_text;  // whole characters; an error ends it
  std::function<void(const GenerationResult& so_far)> on_step;
  std::function<bool()> should_stop;  // asked after every step
};

// `tokenizer` may be nullptr: the text is then the ids, separated by spaces. Errors: those of the
// engine, of the stop strings, of on_text.
Result<GenerationResult> generate(engine::Engine& engine, const text::Tokenizer* tokenizer,
                                  const GenerationRequest& request,
                                  const GenerationObserver& observer);

// "20 prompt tokens in 12 ms, 64 tokens in 0.81 s: 77.8 tokens per second, accepted length 2.31
// (stop)"; the length where tokens were drafted.
std::string describe_speed(const GenerationResult& result, size_t prompt_tokens);

}  // namespace ultraspeed::apps
