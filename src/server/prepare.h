// From a request's body to what the engine needs: parse, render the chat template, tokenize, check
// the length, compile the grammar. Thread-safe; runs on the parsing threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/call_memory.h"
#include "server/chat_parser.h"
#include "server/chat_request.h"
#include "server/encode_memory.h"
#include "server/generation_request.h"
#include "server/grammar_cache.h"
#include "server/grammar_constraint.h"
#include "server/response_store.h"
#include "server/responses_request.h"
#include "server/server.h"
#include "text/text_stream.h"

namespace ultraspeed::server {

enum class Api { kCompletions, kChat, kMessages, kResponses };

struct PreparedGeneration {
  Api api = Api::kCompletions;
  GenerationRequest request;
  std::shared_ptr<const engine::TokenConstraint> constraint;  // nullptr: none
  text::StopStrings stop;
  std::vector<std::vector<int32_t>> prompts;  // one; Completions: at least one
  ChatParser::Options parser;                 // but for Completions; of the model and the request
  std::vector<std::string> echoes;  // Completions: the prompts' texts, if they are to be shown
  text::ChatRequest chat;           // of Selection::kJudge, which goes on with it
  ResponsesSettings responses;      // Responses
};

// What requests to this model default to.
RequestDefaults request_defaults(const ServedModel& model);

// The prompts of one client that its others may begin like; nothing: all text is tokenized.
struct KnownPrompts {
  EncodeMemory* memory = nullptr;
  std::string client = {};  // Exchange::cache_domain
  // RequestDefaults::max_token_bytes: what cannot fit is refused at once; 0: it is not.
  size_t max_token_bytes = 0;
};

struct ChatPrompt {
  std::vector<int32_t> ids;
  Thinking thinking = Thinking::kMay;
};
// Takes the request's messages and tools, which may be long.
ApiResult<ChatPrompt> make_chat_prompt(const ServedModel& model, ChatRequest* request,
                                       CallMemory& calls, const KnownPrompts& known = {});

// REQUIRES: api is kChat or kMessages.
ApiResult<PreparedGeneration> prepare_chat(const ServedModel& model,
                                           const RequestDefaults& defaults,
                                           const ClientGrammars& grammars, CallMemory& calls,
                                           const KnownPrompts& known, Api api,
                                           std::string_view body);
// The model is asked, behind the chat that they answer, which of the texts is best; its answer is
// one of "1" to "N". REQUIRES: at least two texts.
ApiResult<PreparedGeneration> prepare_judgement(const ServedModel& model,
                                                const RequestDefaults& defaults,
                                                const ClientGrammars& grammars, CallMemory& calls,
                                                text::ChatRequest chat, std::string_view question,
                                                const std::vector<std::string>& texts);
ApiResult<PreparedGeneration> prepare_responses(const ServedModel& model,
                                                const RequestDefaults& defaults,
                                                const ClientGrammars& grammars, CallMemory& calls,
                                                const KnownPrompts& known, ResponseStore& store,
                                                ConnectionId connection, const Json& body);
ApiResult<PreparedGeneration> prepare_completion(const ServedModel& model,
                                                 const RequestDefaults& defaults,
                                                 const ClientGrammars& grammars,
                                                 std::string_view body);

}  // namespace ultraspeed::server
