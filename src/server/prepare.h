// From a request's body to what the engine needs: parse, render the chat template, tokenize, check
// the length, compile the grammar. Thread-safe; runs on the parsing threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/generation_request.h"
#include "server/grammar_cache.h"
#include "server/server.h"
#include "text/text_stream.h"

namespace ultraspeed::server {

struct PreparedGeneration {
  GenerationRequest request;
  std::shared_ptr<const engine::TokenConstraint> constraint;  // nullptr: none
  text::StopStrings stop;
  std::vector<int32_t> prompt;
  bool is_chat = false;
  bool starts_in_reasoning = false;  // chat: the prompt ends with "<think>"
  std::string echo;                  // completion: the prompt's text, if it is to be shown
};

// What requests to this model default to.
RequestDefaults request_defaults(const ServedModel& model);

ApiResult<PreparedGeneration> prepare_chat(const ServedModel& model,
                                           const RequestDefaults& defaults, GrammarCache& grammars,
                                           std::string_view body);
ApiResult<PreparedGeneration> prepare_completion(const ServedModel& model,
                                                 const RequestDefaults& defaults,
                                                 GrammarCache& grammars, std::string_view body);

}  // namespace ultraspeed::server
